"""Wire resistance in the loop: what the arrays of a tile apply once their lines are resistive."""

from __future__ import annotations

from collections.abc import Sequence

from hwsim.arrays import Array
from hwsim.devices.crossbar.device import Arrays
from hwsim.devices.crossbar.grid import EffectiveMatrix, Wires
from hwsim.tile import Tile

STATE = "wires/"  # begins the names of what an EffectiveMatrix keeps in a tile's state


def effective_states(
    device: Arrays, tile: Tile, name: str, columns: Sequence[Array], offset: Array | None
) -> list[list[Array]]:
    """What cells of states `columns`, each [..., k, n], apply forwards and backwards: two lists of [..., k, n].

    The cells of a weight are neighbours, so that a row's line passes all of them; the `offset` column [..., k, arrays]
    of every array is its last, and last in the lists too, broadcast to [..., k, n]. The matrix is cut into arrays of
    rows x columns weights, each a network of its own, kept under `name`: solved at first, followed later. In states,
    counted from the one that conducts nothing, as float32.
    """
    assert device.wires is not None
    xp, shape = device.xp, columns[0].shape
    (k, n), count = shape[-2:], len(columns)
    flat = [_siemens(device, part).reshape(-1, k, n) for part in columns]
    extra = None if offset is None else _siemens(device, offset).reshape(len(flat[0]), k, -1)
    found = [[xp.empty_like(flat[0]) for _ in range(count + (extra is not None))] for _ in range(2)]
    for i in range(len(flat[0])):
        for top in range(0, k, device.rows):
            for across, left in enumerate(range(0, n, device.columns)):
                rows, place = slice(top, top + device.rows), slice(left, left + device.columns)
                g = xp.stack([part[i, rows, place] for part in flat], axis=-1)
                width = g.shape[1]
                g = g.reshape(len(g), -1)
                if extra is not None:
                    g = xp.concatenate([g, extra[i, rows, across : across + 1]], axis=1)
                for way, effective in enumerate(_both_ways(device, tile, f"{STATE}{name}{i}.{top}.{left}/", g)):
                    split = effective[:, : width * count].reshape(-1, width, count)
                    for each in range(count):
                        found[way][each][i, rows, place] = split[..., each]
                    if extra is not None:
                        found[way][count][i, rows, place] = effective[:, -1:]
    return [[part.reshape(shape) for part in way] for way in found]


def _siemens(device: Arrays, states: Array) -> Array:
    return device.model.conductance(device.xp, states.astype(device.xp.float64))


def _both_ways(device: Arrays, tile: Tile, name: str, g: Array) -> list[Array]:
    """The effective matrices of one array, forwards and backwards, in states as float32."""
    assert device.wires is not None
    low, high = device.model.window_siemens()
    forward = _followed(device, tile, name + "forward/", g, device.wires)
    backward = forward
    if device.driver_ohm != device.sense_ohm:
        backward = _followed(device, tile, name + "backward/", g, device.wires.reversed())
    return [(part * (device.model.span / (high - low))).astype(device.xp.float32) for part in (forward, backward)]


def _followed(device: Arrays, tile: Tile, name: str, g: Array, wires: Wires) -> Array:
    """The effective matrix [m, n] [S] of one array, whose EffectiveMatrix lives in the tile's state under `name`."""
    state = tile.state
    if name + "solves" in state:
        known = {key: state[name + key] for key in EffectiveMatrix.KEPT}
        matrix = EffectiveMatrix.restored(wires, device.wire_tolerance, known, xp=device.xp)
        matrix.update(g)
    else:
        rng = tile.rng(name + "probes")
        matrix = EffectiveMatrix(g, wires, tolerance=device.wire_tolerance, rng=rng, xp=device.xp)
    state.update({name + key: value for key, value in matrix.state.items()})
    return matrix.effective


def forget(tile: Tile) -> None:
    """Drop what was solved, so that the next call solves anew: after programming, and after time has passed."""
    for name in [name for name in tile.state if name.startswith(STATE)]:
        del tile.state[name]

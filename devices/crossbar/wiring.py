"""Wire resistance in the loop: what the arrays of a tile apply once their lines are resistive."""

from __future__ import annotations

from typing import Any

from hwsim.arrays import Array
from hwsim.devices.crossbar.device import Arrays
from hwsim.devices.crossbar.grid import EffectiveMatrix, Wires
from hwsim.tile import Tile

STATE = "wires/"  # begins the names of what an EffectiveMatrix keeps in a tile's state


def effective_states(device: Arrays, tile: Tile, prefix: str, states: Array) -> tuple[Array, Array]:
    """What plane `prefix` of cells, `states` [..., k, n], applies forwards and backwards, both as [..., k, n].

    In states, counted from the one that conducts nothing, as float32. The plane is cut into arrays of rows x columns,
    each a network of its own. The first call of a plane solves them; later ones follow its cells.
    """
    assert device.wires is not None
    xp, cell = device.xp, device.model
    low, high = cell.window_siemens()
    per_siemens = cell.span / (high - low)
    g = cell.conductance(xp, states.astype(xp.float64))
    k, n = g.shape[-2:]
    stacked = g.reshape(-1, k, n)
    both = [xp.empty_like(stacked) for _ in range(2)]
    for i, matrix in enumerate(stacked):
        for top in range(0, k, device.rows):
            for left in range(0, n, device.columns):
                place = i, slice(top, top + device.rows), slice(left, left + device.columns)
                name = f"{STATE}{prefix}{i}.{top}.{left}/"
                both[0][place] = _followed(device, tile, name + "forward/", matrix[place[1:]], device.wires)
                both[1][place] = both[0][place]
                if device.driver_ohm != device.sense_ohm:
                    back = device.wires.reversed()
                    both[1][place] = _followed(device, tile, name + "backward/", matrix[place[1:]], back)
    forward, backward = ((part * per_siemens).astype(xp.float32).reshape(g.shape) for part in both)
    return forward, backward


def _followed(device: Arrays, tile: Tile, name: str, g: Array, wires: Wires) -> Array:
    """The effective matrix [m, n] [S] of one array, whose EffectiveMatrix lives in the tile's state under `name`."""
    known = {key[len(name) :]: value for key, value in tile.state.items() if key.startswith(name)}
    if known:
        matrix = EffectiveMatrix.restored(wires, device.wire_tolerance, known, xp=device.xp)
        matrix.update(g)
    else:
        matrix = EffectiveMatrix(g, wires, tolerance=device.wire_tolerance, rng=_rng(tile, name), xp=device.xp)
    tile.state.update({name + key: value for key, value in matrix.state.items()})
    return matrix.effective


def forget(tile: Tile) -> None:
    """Drop what was solved, so that the next call solves anew: after programming, and after time has passed."""
    for name in [name for name in tile.state if name.startswith(STATE)]:
        del tile.state[name]


def _rng(tile: Tile, name: str) -> Any:
    return tile.rng(name + "probes")

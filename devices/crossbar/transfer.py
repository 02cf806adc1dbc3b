"""Tiki-Taka and its heirs: gradients go to a fast array, whose columns are read and moved onto the slow one.

Pulses of asymmetric cells pull them to where a pulse up and a pulse down move them equally: their symmetry point. The
fast array's weights are counted from there, so that this pull is a decay of the fast weights, not an error of the slow
ones, which get few pulses (Gokmen and Haensch, Front. Neurosci. 14:103, 2020). "ttv2" adds what is read up in digital
and pulses a slow cell once for every threshold that is passed (Gokmen, Front. Artif. Intell. 4:699148, 2021); "c-ttv2"
needs no measured symmetry point: it flips the signs of a line now and then, so that what is constant, which a wrong
reference is, averages out (Rasch et al., Nat. Commun. 15:7133, 2024).

A transfer takes one row of weights, every `transfer_every` samples. Its input line fires in every slot, so that the
cells of a row share no random train, and independent binomial counts are exact.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hwsim.arrays import Array
from hwsim.devices.crossbar import converters
from hwsim.devices.crossbar.activity import Counts
from hwsim.devices.crossbar.cells import Cell, PerDevice, Silent
from hwsim.devices.crossbar.weights import Pulsed, Weights
from hwsim.tile import Tile

FAST = "fast/"
HALVINGS = 40  # of the window, to find a symmetry point: far below float32
SAME = 1e-6  # of a step: pulses up and down that differ by less are equal
AT_BOUND = 0.01  # of the window: nearer to a bound, it is the bound that holds


def prepare(device: Counts, tile: Tile) -> None:
    """Fabricate the fast array, at its symmetry points, which its weights are counted from."""
    xp, weights = device.xp, Weights(device, tile, FAST)
    weights.fabricate()
    for plane, _ in weights.planes():
        plane.program(xp.full(tile.shape, device.rest, xp.float32), 0)
        if device.algorithm != "c-ttv2":
            plane.set(symmetry_point(xp, device.model, plane.per_device, device.rest).astype(xp.float32))
            plane.rewrite(xp.ones(tile.shape, dtype=bool))
    tile.state[FAST + "zero"] = _persistent(weights).copy()
    tile.state[FAST + "samples"] = 0
    if device.algorithm != "tiki-taka":
        tile.state[FAST + "buffer"] = xp.zeros(tile.shape, dtype=xp.float32)
    if device.algorithm == "c-ttv2":
        tile.state[FAST + "sign"] = xp.ones((*tile.shape[:-2], tile.k), dtype=xp.float32)


def _persistent(weights: Weights) -> Array:
    """The weights of an array, write noise left out."""
    (first, _), *others = weights.planes()
    if weights.device.encoding == "offset":
        return first.g - weights.columns_of(weights.offset_plane().seen)
    return first.g - others[0][0].g if others else first.g - first.g.dtype.type(weights.rest())


def symmetry_point(xp: Any, cell: Cell, per_device: PerDevice, rest: float) -> Array:
    """The state at which a mean pulse up and a mean pulse down of each device cancel.

    The middle of such states, where there are many; `rest`, where pulses only cancel at a bound, which holds them.
    """
    bounds = [per_device[name].astype(xp.float64) for name in ("w_min", "w_max")]
    silent, up, edges = Silent(xp), xp.ones(bounds[0].shape, dtype=bool), []
    for sign in (1, -1):  # the lowest state from which the mean does not rise; the highest that it does not fall from
        low, high = bounds
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            net = sum(cell.pulse(xp, middle, per_device, way, silent) - middle for way in (up, ~up))
            below = net > SAME * cell.resolution if sign > 0 else net >= -SAME * cell.resolution
            low, high = xp.where(below, middle, low), xp.where(below, high, middle)
        edges.append((low + high) / 2)
    found, margin = (edges[0] + edges[1]) / 2, AT_BOUND * (bounds[1] - bounds[0])
    inside = (found > bounds[0] + margin) & (found < bounds[1] - margin)
    return xp.where(inside, found, rest)


def update(device: Counts, tile: Tile, x: Array, d: Array, rate: float) -> Pulsed:
    """Train the fast array with x'd, then transfer as many rows as its samples are worth."""
    state, m = tile.state, x.shape[-2]
    if device.algorithm == "c-ttv2":
        x = x * state[FAST + "sign"][..., None, :]
    moved = Weights(device, tile, FAST).train(x, d, rate * device.fast_rate, tile.rng("trains"))
    Weights(device, tile, FAST).relax()
    before = state[FAST + "samples"]
    state[FAST + "samples"] = before + m
    first, last = before // device.transfer_every, (before + m) // device.transfer_every
    while first < last:
        start = first % tile.k
        rows = slice(start, min(tile.k, start + last - first))
        moved = moved.plus(_transferred(device, tile, rows))
        first += rows.stop - rows.start
    return moved


def _transferred(device: Counts, tile: Tile, rows: slice) -> Pulsed:
    """Read some rows of the fast array one by one, and move the slow array's."""
    xp, state, rng = device.xp, tile.state, tile.rng("transfer")
    fast, slow = Weights(device, tile, FAST).at(rows), Weights(device, tile).at(rows)
    seen = fast.slice_value(0) - state[FAST + "zero"][..., rows, :]
    flat = seen.reshape(-1, *seen.shape[-2:])
    count = flat.shape[1]
    one = xp.ones((count, 1), dtype=xp.float32)  # each read drives one input line fully: a vector of its own
    variance = fast.variance(0)
    noises = [None] * len(flat) if variance is None else variance.reshape(flat.shape)
    found = xp.stack([_read_rows(device, rng, one, row, noise) for row, noise in zip(flat, noises, strict=True)])
    moved = found.reshape(seen.shape) * xp.float32(device.transfer_rate / device.mean_step)  # in pulses
    if device.algorithm == "c-ttv2":
        moved = moved * state[FAST + "sign"][..., rows, None]
        flips = rng.random(state[FAST + "sign"][..., rows].shape, dtype=xp.float32) < device.chop_probability
        state[FAST + "sign"][..., rows] *= xp.where(flips, xp.float32(-1), xp.float32(1))
    if device.algorithm == "tiki-taka":
        longest = device.desired_bl
        size = rng.binomial(longest, xp.minimum(xp.abs(moved) / longest, 1)).astype(xp.int32)
    else:
        longest, buffer = 1, state[FAST + "buffer"][..., rows, :]
        buffer += moved
        size = (xp.abs(buffer) >= device.transfer_threshold).astype(xp.int32)
        moved = buffer.copy()
        buffer -= xp.sign(buffer) * size * xp.float32(device.transfer_threshold)
    done = slow.pulse(xp.where(moved > 0, size, 0), xp.where(moved < 0, size, 0), rng)
    slots = count * longest
    fired, height = slots * tile.stack, min(tile.k, device.rows)
    halves = xp.maximum(fired * tile.n * device.pair + done * (height - 2), 0)
    return Pulsed(
        done, halves, fired * device.row_line(tile.n) + done * device.rows, slots, gates=fired * tile.n * device.pair
    )


def _read_rows(device: Counts, rng: Any, one: Array, rows: Array, variance: Array | None) -> Array:
    """Rows [count, n] of a matrix, each read by itself at full input."""
    noise = None if variance is None else partial(device.xp.multiply, variance)
    return converters.read(device.xp, one, partial(device.xp.multiply, rows), device.periphery, rng, variance=noise)

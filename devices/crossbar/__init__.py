"""Memristive crossbars: weights as conductances, products by Ohm's and Kirchhoff's laws."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from hwsim.arrays import Array
from hwsim.devices.crossbar import converters, pulses
from hwsim.devices.crossbar.cells import Cell, PerDevice
from hwsim.devices.crossbar.counter import draw_key
from hwsim.devices.crossbar.device import Arrays
from hwsim.devices.crossbar.moves import AffineCells, Cells, ExponentialCells
from hwsim.devices.crossbar.steps import NEARLY_ALL, ConstantStep, ExpStep, LinearStep, SoftBoundsReference
from hwsim.tile import Tile

OWN = "cell."  # begins the names of per-device parameters in a tile's state


class Crossbar(Arrays):
    """Pulsed memory cells: reads through DAC and ADC both ways, rank-m updates by stochastic pulse trains.

    w = scale g: the state g of a cell is signed, its conductance less that of a reference which never changes (the
    state of weight 0). Inputs and errors are scaled to their largest value, vector by vector and array by array;
    partial sums are added in digital. Costs: device.py. What is not modelled: readme.md.
    """

    def write(self, tile: Tile, w: Array) -> None:
        """Fabricate cells, choose the scale, and program the states w / scale."""
        xp, cell, state = self.xp, self.model, tile.state
        largest = float(xp.abs(w).max())
        fitted = largest / (self.weight_fill * self.window) if largest > 0 else 1.0
        state["scale"] = self.weight_scale or fitted
        own = cell.populate(xp, tile.rng("fabrication"), tile.shape)
        state.update({OWN + name: values.astype(xp.float32) for name, values in own.items()})
        state["pulses"] = xp.zeros(tile.shape, dtype=xp.uint32)
        target = (w / state["scale"]).astype(xp.float32)
        state["g"] = cell.program(xp, target, own, tile.rng("program")).astype(xp.float32)
        if cell.write_noise_std:
            state["seen"] = self._apparent(tile, own, tile.rng("write"))

    def read(self, tile: Tile) -> Array:
        """The states that products see, times the scale."""
        return seen(tile) * self.xp.float32(tile.state["scale"])

    def forward(self, tile: Tile, x: Array) -> Array:
        """Rows are cut into arrays; those side by side see the same inputs, and are read as one."""
        return self._read_blocks(tile, x, seen(tile), self.rows, "forward")

    def backward(self, tile: Tile, dy: Array) -> Array:
        """The transposed read, without bound management."""
        return self._read_blocks(tile, dy, seen(tile).swapaxes(-1, -2), self.columns, "backward")

    def _read_blocks(self, tile: Tile, x: Array, g: Array, size: int, stream: str) -> Array:
        xp, rng, (*leading, k, n) = self.xp, tile.rng(stream), g.shape
        stack, m = math.prod(leading), x.shape[-2]
        y = xp.zeros((stack, m, n), dtype=xp.float32)
        for out, v, states in zip(y, x.reshape(stack, m, k), g.reshape(stack, k, n), strict=True):
            for start in range(0, k, size):
                inputs = xp.ascontiguousarray(v[:, start : start + size])
                out += converters.read(
                    xp,
                    inputs,
                    partial(times, states[start : start + size]),
                    self.periphery,
                    rng,
                    backward=stream == "backward",
                )
        y *= xp.float32(tile.state["scale"])
        return y.reshape(*leading, m, n)

    def update(self, tile: Tile, step: Array) -> None:
        """Program and verify: the pulses that a typical cell needs, read back, and again for what is missing.

        Targets are dithered by half a pulse's step either way, so that steps of less than one are right on average.
        """
        xp, cell, rng = self.xp, self.model, tile.rng("update")
        own, total, slots = per_device(tile), 0, 0
        target = seen(tile) + step / xp.float32(tile.state["scale"])
        if not cell.pulsed:
            nominal = xp.clip(target, cell.w_min, cell.w_max).astype(xp.float32)
            tile.state["g"] = cell.program(xp, nominal, own, rng).astype(xp.float32)
            self._rewrite(tile, xp.ones(tile.shape, dtype=bool))
            return
        target = target + (rng.random(tile.shape, dtype=xp.float32) - xp.float32(0.5)) * xp.float32(self.mean_step)
        for _ in range(self.verify_rounds):
            missing = target - seen(tile)
            count = xp.minimum(xp.rint(abs(missing) / xp.float32(self.mean_step)), pulses.MOST_SLOTS).astype(xp.int32)
            self._apply(tile, xp.where(missing > 0, count, 0), xp.where(missing < 0, count, 0), rng)
            total, slots = total + count.sum(), slots + self._row_slots(count)
        self._relax(tile)
        tile.record(pulse=total, half_selected=total * (min(tile.k, self.rows) - 1), slot=slots)

    def _row_slots(self, count: Array) -> Array:
        """Slots for pulses [..., k, n]: row after row of an array, all arrays at once."""
        per_row = count.max(axis=-1).reshape(-1, count.shape[-2]).max(axis=0)
        spare = -len(per_row) % self.rows
        return self.xp.pad(per_row, (0, spare)).reshape(-1, self.rows).max(axis=0).sum()

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        """Coincidences of pulse trains, in states: g += scale / (weight of state 1) x'dy."""
        xp, state, rng = self.xp, tile.state, tile.rng("trains")
        before = state["pulses"].copy() if "seen" in state else None
        m, stack, rate = x.shape[-2], tile.stack, abs(scale) / state["scale"]
        errors = (dy if scale <= 0 else -dy).reshape(stack, m, tile.n)
        states, counts = (state[name].reshape(-1, tile.k, tile.n) for name in ("g", "pulses"))
        found, slots, total, half = [], [0], 0, 0.0
        for i, (values, error) in enumerate(zip(x.reshape(stack, m, tile.k), errors, strict=True)):
            trains = pulses.train_parameters(xp, values, error, rate, self.mean_step, self.trains)
            family = kernel_cells(self.model, per_device(tile, i))
            if family is not None:
                up, down = pulses.update(xp, states[i], trains, family, rng, pulses=counts[i])
                done = up + down
            else:
                found.append(pulses.coincidences(xp, trains, rng))
                done = found[-1][0].sum() + found[-1][1].sum()
            length = xp.asarray(trains.slots.astype(np.float32))
            lines = length @ trains.p_x.sum(axis=1) * tile.n + length @ trains.p_d.sum(axis=1) * tile.k
            slots.append(int(trains.slots.sum()))
            total, half = total + done, half + xp.maximum(lines - 2 * done, 0)
        if found:
            ups, downs = (xp.stack(parts).reshape(tile.shape) for parts in zip(*found, strict=True))
            self._apply(tile, ups, downs, rng)
        elif before is not None:
            self._rewrite(tile, state["pulses"] != before)
        self._relax(tile)
        tile.record(pulse=total, half_selected=half, slot=max(slots))

    def _apply(self, tile: Tile, ups: Array, downs: Array, rng: Any) -> None:
        """Pulse all cells, by the cell's own closed form; all pulses are counted, worn cells obey none."""
        xp, state, own = self.xp, tile.state, per_device(tile)
        obeyed = self.model.affordable(xp, own, state["pulses"], ups, downs)
        state["g"] = self.model.pulses(xp, state["g"], own, *obeyed, rng).astype(xp.float32)
        state["pulses"] += (ups + downs).astype(xp.uint32)
        self._rewrite(tile, ups + downs > 0)

    def _rewrite(self, tile: Tile, touched: Array) -> None:
        """Draw the write noise of `touched` cells anew."""
        if "seen" in tile.state:
            drawn = self._apparent(tile, per_device(tile), tile.rng("write"))
            tile.state["seen"] = self.xp.where(touched, drawn, tile.state["seen"])

    def _apparent(self, tile: Tile, own: PerDevice, rng: Any) -> Array:
        """The cells' own `apparent`; where that is the common one, the same by the quick noise of the converters."""
        xp, cell, g = self.xp, self.model, tile.state["g"]
        if type(cell).apparent is not Cell.apparent:
            return cell.apparent(xp, g, own, rng)
        drawn = g.reshape(-1, tile.n).copy()
        variance = xp.float32((cell.write_noise_std * cell.resolution) ** 2)
        moves = (own["w_max"] > own["w_min"]).reshape(drawn.shape)
        converters.add_noise(xp, drawn, moves * variance, draw_key(rng))
        return drawn.reshape(g.shape)

    def _relax(self, tile: Tile) -> None:
        """Decay and diffusion of one update."""
        if self.model.lifetime is not None or self.model.diffusion:
            before = tile.state["g"]
            now = self.model.relax(self.xp, before, per_device(tile), tile.rng("relax")).astype(self.xp.float32)
            if "seen" in tile.state:
                tile.state["seen"] = tile.state["seen"] + (now - before)
            tile.state["g"] = now


def times(states: Array, line: Array) -> Array:
    """What an array does: line [m, k] @ states [k, n]."""
    return line @ states


def seen(tile: Tile) -> Array:
    """The states that products see: with write noise, where the cells have it."""
    return tile.state.get("seen", tile.state["g"])


def per_device(tile: Tile, matrix: int | None = None) -> PerDevice:
    """The parameters of all cells, or of matrix number `matrix` of a stack."""
    own = {name.removeprefix(OWN): values for name, values in tile.state.items() if name.startswith(OWN)}
    if matrix is None:
        return own
    return {name: values.reshape(-1, tile.k, tile.n)[matrix] for name, values in own.items()}


def kernel_cells(cell: Cell, own: PerDevice) -> Cells | None:
    """The family by which the fast update of pulses.py knows these cells; None: it does not."""
    if cell.endurance is not None or cell.stuck_probability or cell.dead_probability:
        return None
    low, high = own["w_min"], own["w_max"]
    if type(cell) is ExpStep and cell.mult_noise:
        curve = cell.A_up, cell.A_down, cell.gamma_up, cell.gamma_down, cell.a, cell.b
        noise = cell.dw_min_std, cell.std_add, cell.std_slope
        return ExponentialCells(own["scale_up"], own["scale_down"], low, high, *curve, *noise)
    if type(cell) not in (ConstantStep, LinearStep, SoftBoundsReference):
        return None
    if isinstance(cell, SoftBoundsReference) and (
        cell.reference or vars(cell)["reference_d2d"] or cell.subtract_symmetry_point
    ):
        return None
    assert isinstance(cell, ConstantStep)
    up, down = own["step_up"], own["step_down"]
    # A device whose bound lies within a step of 0 goes there at once: a slope above 1 would run away in a closed form.
    slope_up, slope_down = (own[f"slope_{way}"].clip(None, NEARLY_ALL) for way in ("up", "down"))
    slopes = slope_up / up, -slope_down / down
    return AffineCells(up, slopes[0], down, slopes[1], low, high, cell.dw_min_std, cell.mult_noise)

"""Memristive crossbars: weights as conductances, products by Ohm's and Kirchhoff's laws."""

from __future__ import annotations

from typing import Any

from hwsim.arrays import Array
from hwsim.devices.crossbar import pulses, reads, transfer, wiring
from hwsim.devices.crossbar.cells import Cell
from hwsim.devices.crossbar.cost import Costs
from hwsim.devices.crossbar.device import WITH_FAST_ARRAY
from hwsim.devices.crossbar.planes import Plane
from hwsim.devices.crossbar.weights import Pulsed, Weights
from hwsim.errors import DeviceError
from hwsim.tile import Tile

MATRIX = "matrix/"  # begins the names of what products multiply by, where that is not the cells' states themselves


PROGRAMMED = "programmed/"  # begins the names of the states that drift starts from


class Crossbar(Costs):
    """Memory cells in arrays: reads through DAC and ADC both ways, rank-m updates by pulses.

    A tile's weights are `scale` times those of its cells in states (weights.py). Inputs and errors are scaled to their
    largest value, vector by vector and array by array; partial sums are added in digital. What products multiply by
    (wires, pairs, digits, offset columns) is worked out once after every move. What is not modelled: readme.md.
    """

    # -- programming -------------------------------------------------------------------------------------

    def write(self, tile: Tile, w: Array) -> None:
        """Fabricate cells, choose the scale, and program the states w / scale."""
        xp, state = self.xp, tile.state
        largest = float(xp.abs(w).max())
        fitted = largest / (self.weight_fill * self.window) if largest > 0 else 1.0
        state["scale"] = self.weight_scale or fitted
        state["compensation"] = 1.0
        weights = Weights(self, tile)
        weights.fabricate()
        self._program(weights, w / state["scale"])
        if self.algorithm in WITH_FAST_ARRAY:
            transfer.prepare(self, tile)
        elif self.algorithm == "mixed":
            state["accumulated"] = xp.zeros(tile.shape, dtype=xp.float32)
        self._settle(tile)
        if self.compensation == "global":
            state["programmed_mean"] = float(xp.abs(self._value(tile)).mean())

    def _program(self, weights: Weights, value: Array) -> None:
        tile, limit = weights.tile, self.window * (1 + 1e-6)
        largest = float(self.xp.abs(value).max())
        if largest > limit:
            scale = tile.state["scale"]
            raise DeviceError(
                f"{tile.name}: weights of {largest * scale:g} do not fit cells that hold {self.window * scale:g} at "
                f"weight_scale={scale:g}; raise it, or leave it out"
            )
        wiring.forget(tile)
        value = value.astype(self.xp.float32)
        weights.program(value)
        if not self.model.pulsed or self.slice_bits:
            tile.state["target"] = value

    def read(self, tile: Tile) -> Array:
        """The weights as products see them, wires included, without converters and read noise."""
        return self._value(tile) * self.xp.float32(tile.state["scale"] * tile.state["compensation"])

    def _value(self, tile: Tile) -> Array:
        matrices = self._matrices(tile, "forward")
        parts = [part * 2 ** (digit * self.slice_bits) for digit, part in enumerate(matrices)]
        return parts[0] if len(parts) == 1 else sum(parts)

    # -- products ----------------------------------------------------------------------------------------

    def forward(self, tile: Tile, x: Array) -> Array:
        """Rows are cut into arrays; those side by side see the same inputs, and are read as one."""
        return self._read(tile, x, "forward", self._matrices(tile, "forward"))

    def backward(self, tile: Tile, dy: Array) -> Array:
        """The transposed read, without bound management."""
        matrices = [matrix.swapaxes(-1, -2) for matrix in self._matrices(tile, "backward")]
        return self._read(tile, dy, "backward", matrices)

    def _read(self, tile: Tile, x: Array, direction: str, matrices: list[Array]) -> Array:
        variances = [self._variance(tile, digit, direction) for digit in range(self.weight_slices)]
        scale = tile.state["scale"] * tile.state["compensation"]
        siemens = tile.state[f"siemens/{direction}"]
        backward = direction == "backward"
        y, driven = reads.read(self, tile.rng(direction), x, matrices, variances, siemens, backward=backward)
        length = self.column_line(tile.k) * self.pair if backward else self.row_line(tile.n)
        typical = self.mean_square_input.nominal * self.conductance.nominal
        tile.record(cell=driven.siemens / typical, line=driven.lines * (length * self.weight_slices))
        y *= self.xp.float32(scale)
        return y

    def _matrices(self, tile: Tile, direction: str) -> list[Array]:
        """What each slice multiplies by [..., k, n], in states."""
        if self._plain:
            return [Weights(self, tile).slice_value(0)]
        two_ways = self.wires is not None and self.driver_ohm != self.sense_ohm
        name = direction if two_ways else "forward"
        return [tile.state[f"{MATRIX}{name}/{digit}"] for digit in range(self.weight_slices)]

    def _variance(self, tile: Tile, digit: int, direction: str) -> Array | None:
        found = tile.state.get(f"variance/{digit}")
        return found if found is None or direction == "forward" else found.swapaxes(-1, -2)

    @property
    def _plain(self) -> bool:
        """Whether products multiply by the states of one plane of cells as they are."""
        one = self.encoding == "reference" and self.weight_slices == 1 and self.rest == 0 and not self.slice_bits
        return one and self.wires is None

    def _settle(self, tile: Tile) -> None:
        """Work out what products multiply by, the variance of reads, and the conductance on every line [S]."""
        xp, weights, state = self.xp, Weights(self, tile), tile.state
        if not self._plain:
            for digit in range(self.weight_slices):
                matrices = self._applied(weights, digit)
                for name, matrix in zip(("forward", "backward"), matrices, strict=False):
                    state[f"{MATRIX}{name}/{digit}"] = xp.ascontiguousarray(matrix)
        if self.read_noise != "none" and type(self.model).read_std is not Cell.read_std:
            age_s = float(state.get("age_s", 0.0))
            for digit in range(self.weight_slices):
                variance: Any = 0
                for plane, _ in weights.planes(digit):
                    std: Any = self.model.read_std(xp, plane.seen, plane.per_device, age_s)
                    variance = variance + std * std
                state[f"variance/{digit}"] = variance.astype(xp.float32)
        totals = [self._line_siemens(weights, axis) for axis in (-1, -2)]
        state["siemens/forward"], state["siemens/backward"] = totals

    def _line_siemens(self, weights: Weights, axis: int) -> Array:
        """The conductance on every word line [.., k] (axis -1) or bit line [.., n] (axis -2), references included."""
        low, high = self.model.window_siemens()
        slope, tile = (high - low) / self.model.span, weights.tile
        ones = self.xp.ones(tile.shape[axis], dtype=self.xp.float32)  # sums by BLAS are quicker than `sum`
        total = sum(plane.g @ ones if axis == -1 else ones @ plane.g for plane in weights.all_planes())
        cells = tile.shape[axis] * self.pair * self.weight_slices
        if not self.paired:  # one line of cells at rest in every array, and as many slices
            arrays = -(-tile.n // self.columns) if axis == -1 else -(-tile.k // self.rows)
            total = total + arrays * sum(weights.rest(digit) for digit in range(self.weight_slices))
            cells += arrays * self.weight_slices
        return total * slope + cells * (low - self.model.w_min * slope)

    def _applied(self, weights: Weights, digit: int) -> list[Array]:
        """What one slice multiplies by, forwards, and backwards where that differs, in states."""
        if self.wires is None:
            return [weights.slice_value(digit)]
        tile, planes = weights.tile, list(weights.planes(digit))
        seen = [(plane.prefix, plane.seen, sign) for plane, sign in planes]
        if not self.paired:  # the reference, or the offset column beside every column, sits on the same wires
            like = planes[0][0].seen
            offset = self.encoding == "offset"
            rest = weights.columns_of(weights.offset_plane(digit).seen) if offset else self.xp.full_like(
                like, weights.rest(digit)
            )  # fmt: skip
            seen.append((f"{weights.prefix}reference{digit}/", rest, -1))
        both = [wiring.effective_states(self, tile, prefix, states) for prefix, states, _ in seen]
        ways = [sum(sign * part[way] for part, (_, _, sign) in zip(both, seen, strict=True)) for way in (0, 1)]
        return ways if self.driver_ohm != self.sense_ohm else ways[:1]

    # -- moving ------------------------------------------------------------------------------------------

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        """Coincidences of pulse trains, in states: value += scale / (weight of state 1) x'dy."""
        rate = abs(scale) / (tile.state["scale"] * tile.state["compensation"])
        d = dy if scale <= 0 else -dy
        if self.algorithm in WITH_FAST_ARRAY:
            moved = transfer.update(self, tile, x, d, rate)
        else:
            moved = Weights(self, tile).train(x, d, rate, tile.rng("trains"))
        self._after(tile, moved)

    def update(self, tile: Tile, step: Array) -> None:
        """Verified programming; by accumulated pulses, blindly, with mixed precision."""
        value = step / self.xp.float32(tile.state["scale"] * tile.state["compensation"])
        if self.algorithm == "mixed":
            self._after(tile, self._accumulate(tile, value))
        elif self.model.pulsed and not self.slice_bits:
            self._after(tile, self._verify(tile, value))
        else:  # programmed anew, to what is kept in digital
            target = self.xp.clip(tile.state["target"] + value, -self.window, self.window)
            self._program(Weights(self, tile), target)
            self._after(tile, None)

    def _after(self, tile: Tile, moved: Pulsed | None) -> None:
        """Everything that follows a move: relaxation, refresh, what products multiply by, and what was spent."""
        weights = Weights(self, tile)
        weights.relax()
        for name in ("age_s", *(name for name in tile.state if name.startswith(PROGRAMMED))):
            tile.state.pop(name, None)  # drift counts from the last move
        if moved is not None:
            refreshing = self.encoding == "one-sided" and self.algorithm not in WITH_FAST_ARRAY
            tile.record(**(moved.plus(weights.refresh()) if refreshing else moved).counts())
        self._settle(tile)

    def _verify(self, tile: Tile, value: Array) -> Pulsed:
        """Program and verify: the pulses that a typical cell needs, read back, and again for what is missing.

        Targets are dithered by half a pulse's step either way, so that steps of less than one are right on average.
        """
        xp, weights, rng, total = self.xp, Weights(self, tile), tile.rng("update"), Pulsed()
        step = xp.float32(self.mean_step)
        target = weights.value() + value + (rng.random(tile.shape, dtype=xp.float32) - xp.float32(0.5)) * step
        for _ in range(self.verify_rounds):
            total = total.plus(self._pulse_towards(weights, xp.rint((target - weights.value()) / step), rng))
        return total

    def _accumulate(self, tile: Tile, value: Array) -> Pulsed:
        """Mixed precision: steps add up in digital until they are worth a pulse, which is given without reading back.

        Source: Nandakumar et al., Front. Neurosci. 14:406 (2020).
        """
        xp, accumulated = self.xp, tile.state["accumulated"]
        accumulated += value
        worth = xp.trunc(accumulated / xp.float32(self.mean_step))
        accumulated -= worth * xp.float32(self.mean_step)
        return self._pulse_towards(Weights(self, tile), worth, tile.rng("update"))

    def _pulse_towards(self, weights: Weights, wanted: Array, rng: Any) -> Pulsed:
        """Pulse each weight `wanted` times (whole numbers), up where that is above 0."""
        xp = self.xp
        count = xp.minimum(xp.abs(wanted), pulses.MOST_SLOTS).astype(xp.int32)
        return weights.pulse_by_rows(xp.where(wanted > 0, count, 0), xp.where(wanted < 0, count, 0), rng)

    def wear(self, tile: Tile) -> dict[str, float]:
        """Pulses of the mean and of the most pulsed cell; what share of its endurance the most worn one has had."""
        planes = self._all_planes(tile)
        spent = [plane.pulses for plane in planes]
        found = {"pulses_mean": sum(float(p.mean()) for p in spent) / len(spent)}
        found["pulses_most"] = max(float(p.max()) for p in spent)
        if self.model.endurance is not None:
            shares = [(plane.pulses / plane.per_device["endurance"]).max() for plane in planes]
            found["endurance_used"] = max(float(share) for share in shares)
        return found

    # -- time --------------------------------------------------------------------------------------------

    def drift(self, tile: Tile, time_s: float) -> None:
        """The cells `time_s` [s] after they were last programmed or moved; compensated where the device does that.

        Compensation reads all weights back: their mean magnitude when programmed, over that of now, goes onto all
        outputs (Joshi et al., Nat. Commun. 11:2473, 2020).
        """
        state = tile.state
        for plane in self._all_planes(tile):
            kept = PROGRAMMED + plane.prefix
            if kept not in state:
                state[kept] = plane.seen.copy()
            rng = tile.rng(plane.prefix + "drift")
            plane.set(self.model.drift(self.xp, state[kept], plane.per_device, time_s, rng).astype(self.xp.float32))
        state["age_s"] = float(time_s)
        wiring.forget(tile)
        self._settle(tile)
        if self.compensation == "global":
            state["compensation"] = 1.0
            now = float(self.xp.abs(tile.read()).mean()) / state["scale"]
            if not now > 0:
                raise DeviceError(f"{tile.name}: nothing is left of its weights after {time_s:g} s to be compensated")
            state["compensation"] = state["programmed_mean"] / now

    def _all_planes(self, tile: Tile) -> list[Plane]:
        weights = Weights(self, tile)
        offsets = range(self.weight_slices) if self.encoding == "offset" else ()
        return [*weights.all_planes(), *(weights.offset_plane(digit) for digit in offsets)]

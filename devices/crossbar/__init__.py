"""Memristive crossbars: weights as conductances, products by Ohm's and Kirchhoff's laws."""

from __future__ import annotations

from typing import Any

from hwsim.arrays import Array
from hwsim.devices.crossbar import pulses, reads, transfer, wiring
from hwsim.devices.crossbar.cost import Costs
from hwsim.devices.crossbar.device import WITH_FAST_ARRAY
from hwsim.devices.crossbar.planes import Plane
from hwsim.devices.crossbar.weights import Pulsed, Weights, Written
from hwsim.errors import DeviceError
from hwsim.tile import Tile

MATRIX = "matrix/"  # begins the names of what products multiply by, where that is not the cells' states themselves


CALIBRATION_VECTORS = 64
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
        weights = Weights(self, tile)
        weights.fabricate()
        tile.record(pulse=self._program(weights, w / state["scale"]).pulses)
        if self.algorithm in WITH_FAST_ARRAY:
            transfer.prepare(self, tile)
        elif self.algorithm == "mixed":
            state["accumulated"] = xp.zeros(tile.shape, dtype=xp.float32)
        self._settle(tile)
        if self.output_percentile:
            self._set_ranges(tile)

    def _program(self, weights: Weights, value: Array) -> Written:
        """Program the weights [states]. Raises DeviceError for what does not fit the cells."""
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
        written = weights.program(value)
        tile.state["compensation"] = 1.0
        if self.programmed:
            tile.state["target"] = value
        return written

    def _set_ranges(self, tile: Tile) -> None:
        """The ADC's range each way, by the outputs of vectors of normal values."""
        for direction, inputs in (("forward", tile.k), ("backward", tile.n)):
            rng = tile.rng("calibration")
            x = rng.standard_normal((*tile.shape[:-2], CALIBRATION_VECTORS, inputs), dtype=self.xp.float32)
            found = reads.range_of(self, x, self._inputs_first(tile, direction), backward=direction == "backward")
            if found is not None:
                tile.state[f"output_bound/{direction}"] = found

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
        return self._read(tile, x, "forward")

    def backward(self, tile: Tile, dy: Array) -> Array:
        """The transposed read, without bound management; offsets, if any, are taken off in digital."""
        return self._read(tile, dy, "backward")

    def _read(self, tile: Tile, x: Array, direction: str) -> Array:
        state, backward, slices = tile.state, direction == "backward", range(self.weight_slices)
        variances = [state.get(f"variance/{digit}") for digit in slices]
        if backward:
            variances = [None if found is None else found.swapaxes(-1, -2) for found in variances]
        offsets = () if backward else [state.get(f"offset_variance/{digit}") for digit in slices]
        bound = state.get(f"output_bound/{direction}")
        y, driven = reads.read(
            self,
            tile.rng(direction),
            x,
            self._inputs_first(tile, direction),
            variances,
            state[f"siemens/{direction}"],
            offsets=offsets,
            backward=backward,
            periphery=self.periphery if bound is None else self.ranged(bound),
        )
        length = self.column_line(tile.k) * self.pair if backward else self.row_line(tile.n)
        typical = self.mean_square_input.nominal * self.conductance.nominal
        tile.record(cell=driven.siemens / typical, line=driven.lines * (length * self.weight_slices))
        y *= self.xp.float32(state["scale"] * state["compensation"])
        return y

    def _inputs_first(self, tile: Tile, direction: str) -> list[Array]:
        """What each slice multiplies an input of this direction by [..., inputs, outputs], in states."""
        matrices = self._matrices(tile, direction)
        return matrices if direction == "forward" else [matrix.swapaxes(-1, -2) for matrix in matrices]

    def _matrices(self, tile: Tile, direction: str) -> list[Array]:
        """What each slice multiplies by [..., k, n], in states."""
        if self._plain:
            return [Weights(self, tile).slice_value(0)]
        name = direction if self._two_ways else "forward"
        return [tile.state[f"{MATRIX}{name}/{digit}"] for digit in range(self.weight_slices)]

    @property
    def _plain(self) -> bool:
        """Whether products multiply by the states of one plane of cells as they are."""
        one = self.encoding == "reference" and self.weight_slices == 1 and self.rest == 0 and not self.slice_bits
        return one and self.wires is None

    @property
    def _two_ways(self) -> bool:
        """Whether the transposed read is not the transpose."""
        return self.encoding == "offset" or (self.wires is not None and self.driver_ohm != self.sense_ohm)

    def _settle(self, tile: Tile) -> None:
        """Work out what products multiply by, the variance of reads, and the conductance on every line [S]."""
        xp, weights, state = self.xp, Weights(self, tile), tile.state
        age_s = float(state.get("age_s", 0.0))
        for digit in range(self.weight_slices):
            if not self._plain:
                ways = self._through_wires(weights, digit) if self.wires is not None else self._applied(weights, digit)
                for name, matrix in zip(("forward", "backward"), ways, strict=False):
                    state[f"{MATRIX}{name}/{digit}"] = xp.ascontiguousarray(matrix)
            variance = weights.variance(digit, age_s)
            if variance is not None:
                state[f"variance/{digit}"] = variance
                if self.encoding == "offset":
                    state[f"offset_variance/{digit}"] = weights.plane_variance(weights.offset_plane(digit), age_s)
        totals = [self._line_siemens(weights, axis) for axis in (-1, -2)]
        state["siemens/forward"], state["siemens/backward"] = totals

    def _line_siemens(self, weights: Weights, axis: int) -> Array:
        """The conductance on every word line [.., k] (axis -1) or bit line [.., n] (axis -2), references included."""
        low, high = self.model.window_siemens()
        slope, tile, slices = (high - low) / self.model.span, weights.tile, range(self.weight_slices)
        ones = self.xp.ones(tile.shape[axis], dtype=self.xp.float32)  # sums by BLAS are quicker than `sum`
        total = sum(plane.g @ ones if axis == -1 else ones @ plane.g for plane in weights.all_planes())
        cells = tile.shape[axis] * self.pair * len(slices)
        if self.encoding == "reference":
            total = total + tile.shape[axis] * sum(weights.rest(digit) for digit in slices)
        elif self.encoding == "offset" and axis == -1:
            columns = [weights.offset_plane(digit).g for digit in slices]
            total = total + sum(column.sum(axis=-1) for column in columns)
            cells += columns[0].shape[-1] * len(slices)
        return total * slope + cells * (low - self.model.w_min * slope)

    def _applied(self, weights: Weights, digit: int) -> list[Array]:
        """What one slice multiplies by, forwards, and backwards where that differs, in states."""
        ways = [weights.slice_value(digit)]
        return [*ways, weights.slice_value(digit, nominal=True)] if self._two_ways else ways

    def _through_wires(self, weights: Weights, digit: int) -> list[Array]:
        """The same where lines are resistive."""
        planes, rest = list(weights.planes(digit)), weights.rest(digit)
        columns, signs, offset = [plane.seen for plane, _ in planes], [sign for _, sign in planes], None
        if self.encoding == "reference":
            columns, signs = [*columns, self.xp.full_like(columns[0], rest)], [*signs, -1]
        elif self.encoding == "offset":
            offset = weights.offset_plane(digit).seen
        name = f"{weights.prefix}{digit}/"
        forward, backward = wiring.effective_states(self, weights.tile, name, columns, offset)
        ahead = sum(sign * part for sign, part in zip([*signs, -1], forward, strict=False))
        if self.encoding == "offset":
            return [ahead, backward[0] - self.xp.float32(rest - self.model.dark)]
        back = sum(sign * part for sign, part in zip(signs, backward, strict=True))
        return [ahead, back] if self._two_ways else [ahead]

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
        xp, state = self.xp, tile.state
        if self.programmed:  # written anew, to what is kept in digital
            target = xp.clip(state["target"] + step / xp.float32(state["scale"]), -self.window, self.window)
            written = self._program(Weights(self, tile), target)
            tile.record(**self.rewritten(tile.stack, tile.k, tile.n, written.cells, written.rows))
            self._after(tile, None)
            return
        value = step / xp.float32(state["scale"] * state["compensation"])
        self._after(tile, self._accumulate(tile, value) if self.algorithm == "mixed" else self._verify(tile, value))

    def _after(self, tile: Tile, moved: Pulsed | None) -> None:
        """Everything that follows a move: relaxation, refresh, what products multiply by, and what was spent."""
        weights = Weights(self, tile)
        weights.relax()
        for name in ("age_s", *(name for name in tile.state if name.startswith(PROGRAMMED))):
            tile.state.pop(name, None)  # drift counts from the last move
        if moved is not None:
            if self.encoding == "one-sided":
                refreshed = weights.refresh()
                tile.record(**self.refresh_reads(refreshed.resets / 2))
                moved = moved.plus(refreshed)
            tile.record(**moved.counts())
        self._settle(tile)

    def _verify(self, tile: Tile, value: Array) -> Pulsed:
        """Program and verify: the pulses that a typical cell needs, read back, and again for what is missing.

        Targets are dithered by half a pulse's step either way, so that steps of less than one are right on average.
        """
        xp, weights, rng, total = self.xp, Weights(self, tile), tile.rng("update"), Pulsed()
        step = xp.float32(self.mean_step)
        target = weights.value() + value + (rng.random(tile.shape, dtype=xp.float32) - xp.float32(0.5)) * step
        rounds = 0
        while rounds < self.verify_rounds:
            wanted = xp.rint((target - weights.value()) / step)
            if not bool(wanted.any()):
                break
            total, rounds = total.plus(self._pulse_towards(weights, wanted, rng)), rounds + 1
        # Read before every round and, where it takes all of them, after the last.
        tile.record(**self.read_back(tile.stack, tile.k, tile.n, rounds + 1))
        tile.state["verify_rounds"] = tile.state.get("verify_rounds", 0) + rounds
        tile.state["verified_moves"] = tile.state.get("verified_moves", 0) + 1
        return total

    def _accumulate(self, tile: Tile, value: Array) -> Pulsed:
        """Mixed precision: steps add up in digital until they are worth a pulse, which is given without reading back.

        Source: Nandakumar et al., Front. Neurosci. 14:406 (2020).
        """
        xp, accumulated = self.xp, tile.state["accumulated"]
        accumulated += value
        worth = xp.clip(xp.trunc(accumulated / xp.float32(self.mean_step)), -pulses.MOST_SLOTS, pulses.MOST_SLOTS)
        accumulated -= worth * xp.float32(self.mean_step)
        return self._pulse_towards(Weights(self, tile), worth, tile.rng("update"))

    def _pulse_towards(self, weights: Weights, wanted: Array, rng: Any) -> Pulsed:
        """Pulse each weight `wanted` times (whole numbers), up where that is above 0."""
        xp = self.xp
        count = xp.minimum(xp.abs(wanted), pulses.MOST_SLOTS).astype(xp.int32)
        return weights.pulse_by_rows(xp.where(wanted > 0, count, 0), xp.where(wanted < 0, count, 0), rng)

    def wear(self, tile: Tile) -> dict[str, float]:
        """Pulses of the mean and of the most pulsed cell, fast array included; the share of endurance that is used."""
        planes = [plane for weights in self._sets(tile) for plane in weights.all_planes()]
        spent = [plane.pulses for plane in planes]
        found = {"pulses_mean": sum(float(p.mean()) for p in spent) / len(spent)}
        found["pulses_most"] = max(float(p.max()) for p in spent)
        if "verified_moves" in tile.state:
            found["verify_rounds_mean"] = tile.state["verify_rounds"] / tile.state["verified_moves"]
        if self.model.endurance is not None:
            shares = [(plane.pulses / plane.per_device["endurance"]).max() for plane in planes]
            found["endurance_used"] = max(float(share) for share in shares)
        return found

    def _sets(self, tile: Tile) -> list[Weights]:
        """The weights that products see, and those of the fast array."""
        fast = [Weights(self, tile, transfer.FAST)] if self.algorithm in WITH_FAST_ARRAY else []
        return [Weights(self, tile), *fast]

    # -- time --------------------------------------------------------------------------------------------

    def drift(self, tile: Tile, time_s: float) -> None:
        """The cells `time_s` [s] after they were last programmed or moved; compensated where the device does that.

        Compensation reads all weights back, then and now: the ratio of their mean magnitudes goes onto all outputs
        (Joshi et al., Nat. Commun. 11:2473, 2020).
        """
        state, compensated = tile.state, self.compensation == "global"
        planes = [plane for weights in self._sets(tile) for plane in self._all_planes(weights)]
        if PROGRAMMED + planes[0].prefix not in state:
            for plane in planes:
                state[PROGRAMMED + plane.prefix] = plane.g.copy()
            if compensated:
                state[PROGRAMMED + "mean"] = float(self.xp.abs(tile.read()).mean())
        for plane in planes:
            kept, rng = state[PROGRAMMED + plane.prefix], tile.rng(plane.prefix + "drift")
            plane.set(self.model.drift(self.xp, kept, plane.per_device, time_s, rng).astype(self.xp.float32))
        state["age_s"] = float(time_s)
        wiring.forget(tile)
        self._settle(tile)
        if compensated:
            before, now = state[PROGRAMMED + "mean"], float(self.xp.abs(tile.read()).mean())
            if before > 0 and not now > 0:
                raise DeviceError(f"{tile.name}: nothing is left of its weights after {time_s:g} s to be compensated")
            state["compensation"] *= before / now if before > 0 else 1.0

    def _all_planes(self, weights: Weights) -> list[Plane]:
        offsets = range(self.weight_slices) if self.encoding == "offset" else ()
        return [*weights.all_planes(), *(weights.offset_plane(digit) for digit in offsets)]

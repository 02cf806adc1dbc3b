"""Optics: products by interference, nonlinearity by saturable absorption, errors sent back as light."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hwsim.arrays import Array
from hwsim.devices.optical import chips, detection, neurons, phases
from hwsim.devices.optical.cost import Costs
from hwsim.errors import ConfigError, DeviceError
from hwsim.tile import Activation, Tile


class Optical(Costs):
    """Matrices that light passes forwards and backwards, read by detectors; saturable absorbers as neurons.

    What products multiply by is worked out once after every move, fixed errors included (chips.py); every vector that
    is sent is converted and read with noise of its own (detection.py). What is not modelled: readme.md.
    """

    # -- programming -------------------------------------------------------------------------------------

    def write(self, tile: Tile, w: Array) -> None:
        """Fabricate units, and tell them w."""
        tile.state["target"] = self.xp.array(w, dtype=self.policy.dtype(self.xp))
        chips.fabricate(self, tile)
        self._require_scale(tile)
        self._program(tile, saturate=False)

    def _require_scale(self, tile: Tile) -> None:
        """Refuse weights that no passive optics holds at the scale that was asked for, with a DeviceError."""
        largest = float(self.xp.abs(tile.state["target"]).max())
        if self.optics != "mesh" and self.weight_scale is not None and largest > self.weight_scale:
            raise DeviceError(
                f"{tile.name}: weight_scale={self.weight_scale:g}: nothing passive holds a weight of {largest:g} at "
                f"this scale; choose {largest:g} or more, or leave it out"
            )

    def _program(self, tile: Tile, *, saturate: bool) -> None:
        try:
            chips.program(self, tile, saturate=saturate)
        except ConfigError as error:
            raise DeviceError(f"{tile.name}, parameter weight_scale: {error}") from None
        self._record_phases(tile)

    def _record_phases(self, tile: Tile) -> None:
        if self.optics == "mesh":
            tile.record(shifter=chips.shifter_turns(self, tile))

    def read(self, tile: Tile) -> Array:
        """The weights as products see them, without converters and noise."""
        return tile.state["w"].copy()

    def wear(self, tile: Tile) -> Mapping[str, float]:
        """The scale of the weights, the actual power of phase shifters [W], and photons per multiply-accumulate."""
        launched, detected = self.photons_per_mac(min(tile.k, self.inputs), min(tile.n, self.outputs))
        found = {
            "largest_scale": float(tile.state["scales"].max()),
            "photons_launched_per_mac": launched,
            "photons_detected_per_mac": detected,
        }
        if self.optics == "mesh":
            turns = float(chips.shifter_turns(self, tile))
            found["mean_phase_over_pi"] = turns / (tile.stack * self.shifters(tile.k, tile.n))
            found["holding_power_w"] = turns * self.shifter_pi_power_w.nominal
        if "clipped" in tile.state:
            found["clipped_share"] = float(tile.state["clipped"]) / max(float(tile.state["converted"]), 1.0)
        return found

    # -- products ----------------------------------------------------------------------------------------

    def forward(self, tile: Tile, x: Array) -> Array:
        """Vectors cut to the inputs of units; partial sums are added in digital."""
        return self._through(tile, x, "forward")

    def backward(self, tile: Tile, dy: Array) -> Array:
        """The same light the other way: the transpose, with converters and noise of its own."""
        return self._through(tile, dy, "backward")

    def _through(self, tile: Tile, values: Array, way: str) -> Array:
        xp, state = self.xp, tile.state
        if self.exact_reading and self.level != "mesh":
            return values @ (state["w"] if way == "forward" else state["w"].swapaxes(-1, -2))
        rows = chips.parts(self, tile)[0 if way == "forward" else 1]
        rng, total, crest = tile.rng(way), None, 0.0
        for number, part in enumerate(rows):
            sent = xp.ascontiguousarray(values[..., part])
            if self.detection == "intensity":
                found = self._counted(tile, sent, part, way, rng)
                crest = crest + detection.crest(self.xp, sent, self.detection)
            else:
                product = self._product(tile, way, number, part)
                result = detection.read(self, sent, product, state[f"sigma/{way}"][..., number, :], rng)
                found = result.values
                self._count_clipped(tile, result)
                crest = crest + result.crest
            total = found if total is None else total + found
        if not self.exact_reading:
            tile.record(crest=crest)
        return total

    def _count_clipped(self, tile: Tile, result: detection.Read) -> None:
        if self.adc_crest:
            tile.state["clipped"] = tile.state.get("clipped", 0.0) + result.clipped
            tile.state["converted"] = tile.state.get("converted", 0.0) + result.total

    def _weights(self, tile: Tile, way: str, part: slice) -> Array:
        """The weights [..., inputs, outputs] that one cut of vectors meets."""
        w = tile.state["w"]
        return w[..., part, :] if way == "forward" else w[..., part].swapaxes(-1, -2)

    def _product(self, tile: Tile, way: str, number: int, part: slice) -> Callable[[Array], Array]:
        """What one cut of vectors passes: effective weights, or light through every MZI."""
        if self.level != "mesh":
            weights = self._weights(tile, way, part)
            return lambda light: light @ weights
        return lambda light: self._meshes(tile, way, number, light)

    def _meshes(self, tile: Tile, way: str, number: int, light: Array) -> Array:
        """Fields [..., m, k] through all meshes that they reach, [..., m, n]."""
        axis = -2 if way == "forward" else -1
        outputs = tile.n if way == "forward" else tile.k
        found = self.xp.empty((*light.shape[:-1], outputs), light.dtype)
        for unit in chips.units(self, tile):
            if unit.place[axis] != number:
                continue
            chip, place = chips.mesh_unit(self, tile, unit), unit.place[:-2]
            out = unit.columns if way == "forward" else unit.rows
            found[(*place, slice(None), out)] = chips.passed(self, chip, light[place].T, way).real.T
        return found

    def _counted(self, tile: Tile, values: Array, part: slice, way: str, rng: Any) -> Array:
        """Products of intensities; stacked matrices one after the other."""
        weights = self._weights(tile, way, part)
        if not values.size:
            return values @ weights
        if weights.ndim == 2:
            return detection.counted(self, values, weights, rng)
        flat = zip(values.reshape(-1, *values.shape[-2:]), weights.reshape(-1, *weights.shape[-2:]), strict=True)
        found = [detection.counted(self, each, matrix, rng) for each, matrix in flat]
        return self.xp.stack(found).reshape(*values.shape[:-1], weights.shape[-1])

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        """x'dy with both as light, charge adding up over the batch."""
        if self.exact_reading or x.shape[-2] == 0:
            return super().gradient(tile, x, dy)
        xp = self.xp
        errors = detection.quantised(xp, dy, xp.abs(dy).max(axis=-2, keepdims=True), self.dac_bits)
        spread = detection.meeting_sigma(self, detection.norms(xp, errors, -2), x.shape[-2])
        turned = xp.ascontiguousarray(x.swapaxes(-1, -2))
        found = detection.read(self, turned, lambda light: light @ errors, spread, tile.rng("gradient"), "arms")
        tile.record(crest=found.crest)
        return found.values

    # -- moving ------------------------------------------------------------------------------------------

    def update(self, tile: Tile, step: Array) -> None:
        """What was asked for moves in electronics, and is programmed anew; at a given scale weights saturate."""
        tile.state["target"] = chips.within_scale(self, tile.state["target"] + step)
        self._program(tile, saturate=True)

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        """Phases and attenuations move along gradients that light measures in place."""
        phases.move(self, tile, x, dy, scale)
        self._record_phases(tile)

    # -- neurons -----------------------------------------------------------------------------------------

    def start_activation(self, activation: Activation, n: int) -> None:
        """Absorbers keep nothing."""

    def activate(self, activation: Activation, x: Array) -> tuple[Array, Any]:
        """What leaves the absorbers."""
        activation.record(saturation=(x * x).sum())
        return neurons.activate(self, x, activation.rng("forward")), x.copy()

    def activate_backward(self, activation: Activation, saved: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Errors as a weak beam brings them back, or by the derivative."""
        if self.absorber_backward == "probe":
            activation.record(saturation=(saved * saved).sum())
        return neurons.activate_backward(self, saved, dy, activation.rng("backward")), {}

"""Optics: products by interference, nonlinearity by saturable absorption, errors sent back as light."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hwsim.arrays import Array
from hwsim.devices.optical import chips, detection, elements, neurons, phases, svd, units
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
        tile.state["target"] = self.xp.array(w, dtype=self.policy.dtype(self.xp), order="C")
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
        if "crest/forward" in tile.state:
            found["mean_crest_of_weights"] = float(tile.state["crest/forward"].mean())
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
            return xp.ascontiguousarray(values) @ self._weights(tile, way)
        rows = units.parts(self, tile)[0 if way == "forward" else 1]
        rng, total, crest = tile.rng(way), None, 0.0
        for number, part in enumerate(rows):
            product = self._product(tile, way, number, part, rng)
            spread, other = state[f"sigma/{way}"][..., number, :], state.get(f"crest/{way}")
            result = detection.read(self, values[..., part], product, spread, rng, other=other)
            self._count_clipped(tile, result)
            total = result.values if total is None else total + result.values
            crest = crest + result.crest
        if not self.exact_reading:
            tile.record(crest=crest)
        return total

    def _count_clipped(self, tile: Tile, result: detection.Read) -> None:
        if self.adc_crest:
            tile.state["clipped"] = tile.state.get("clipped", 0.0) + result.clipped
            tile.state["converted"] = tile.state.get("converted", 0.0) + result.total

    def _weights(self, tile: Tile, way: str) -> Array:
        """The weights [..., inputs, outputs] that vectors meet on one way."""
        if way == "forward":
            return tile.state["w"]
        return tile.state.get("w/backward", tile.state["w"]).swapaxes(-1, -2)

    def _product(self, tile: Tile, way: str, number: int, part: slice, rng: Any) -> Callable[[Array], Array]:
        """What one cut of vectors passes: effective weights, light through every MZI, or weights behind counters."""
        if self.level == "mesh":
            return lambda light: self._meshes(tile, way, number, light)
        weights = self._weights(tile, way)[..., part, :]
        if self.detection == "intensity":
            return lambda light: detection.counted(self, light, weights, rng)
        return lambda light: light @ weights

    def _meshes(self, tile: Tile, way: str, number: int, light: Array) -> Array:
        """Fields [..., m, k] through all meshes that they reach, [..., m, n]."""
        axis = -2 if way == "forward" else -1
        outputs = tile.n if way == "forward" else tile.k
        through = svd.forward if way == "forward" else svd.backward
        found = self.xp.empty((*light.shape[:-1], outputs), light.dtype)
        for unit in units.units(self, tile):
            if unit.place[axis] != number:
                continue
            chip, place = chips.mesh_unit(self, tile, unit), unit.place[:-2]
            out = unit.columns if way == "forward" else unit.rows
            found[(*place, slice(None), out)] = through(self.xp, chip, light[place].T).real.T
        return found

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        """x'dy with both as light, charge adding up over the batch."""
        if self.exact_reading or x.shape[-2] == 0:
            return super().gradient(tile, x, dy)
        found = detection.meeting(self, x, dy, tile.rng("gradient"))
        tile.record(crest=found.crest)
        return found.values

    # -- moving ------------------------------------------------------------------------------------------

    def update(self, tile: Tile, step: Array) -> None:
        """What was asked for moves in electronics, and is programmed anew; at a given scale weights saturate."""
        tile.state["target"] = elements.within_scale(self, tile.state["target"] + step)
        self._program(tile, saturate=True)

    def require_moves(self, *, in_place: bool) -> None:
        """Light measures what phases move by in every step: to train them so, nothing else may move."""
        if self.trained == "phases" and not in_place:
            raise DeviceError(
                "optical: trained=phases: phases follow what light measures in place, which only plain SGD without "
                "momentum leaves alone; take the optimizer sgd, or trained=weights"
            )

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        """Phases and attenuations move along gradients that light measures in place."""
        phases.move(self, tile, x, dy, scale)
        self._record_phases(tile)

    # -- neurons -----------------------------------------------------------------------------------------

    def start_activation(self, activation: Activation, n: int) -> None:
        """Absorbers keep nothing."""

    def activate(self, activation: Activation, x: Array) -> tuple[Array, Any]:
        """What leaves the absorbers."""
        activation.record(saturation=neurons.intensity(self, x).sum())
        return neurons.activate(self, x, activation.rng("forward")), x.copy()

    def activate_backward(self, activation: Activation, saved: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Errors as a weak beam brings them back, or by the derivative."""
        if self.absorber_backward == "probe":
            activation.record(saturation=neurons.intensity(self, saved).sum())
        return neurons.activate_backward(self, saved, dy, activation.rng("backward")), {}

"""What optics costs: what one unit of each component takes, and how many units are installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from hwsim import library
from hwsim.cost import Certainty, Component, Quantity, Role, weaker
from hwsim.devices.optical.activity import Counts, extinction_penalty
from hwsim.ledger import TileShape

INSTALLED = ("laser", "oscillator", "dac", "adc", "detector", "amplifier", "shifter", "panel")  # as tiles need them


class Photons(NamedTuple):
    """Photons of the signal per multiply-accumulate."""

    launched: float
    detected: float


class Costs(Counts):
    """The cost of light, converters, what holds weights, and digital parts beside them.

    Lasers burn from the first operation to the last: they take milliseconds to settle. Their power is set by the link
    budget: photons to be detected, over the efficiency of detectors and all losses on the way.
    """

    excluded = (
        "temperature control of chips, lasers and cells",
        "control, clocks and distribution of the light to units",
        "finding the fixed errors of a chip (calibration)",
        "stray light, and power that modulators take at rest",
        "holding power at the actual detuning of rings: theirs is at the mean_phase expected",
        "the actual crest of vectors: lasers burn at the crest expected",
        "throughput of buffers",
        "area of lasers, modulators, detectors, lenses and cells",
    )

    def photons_per_mac(self, k: int, n: int) -> Photons:
        """Launched and detected, in a unit of k inputs and n outputs."""
        return Photons(self.detected_photons * self.launched_over_detected(k, n), self.detected_photons)

    # -- components --------------------------------------------------------------------------------------

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """One photon a symbol, conversion, detector, shifter, wait, digital operation: actions as in activity.py."""
        return {**self._light(), **self._converters(), **self._holding(), **self._digital(), **self._neuron_parts()}

    def _light(self) -> dict[str, Component]:
        """Lasers by photons detected per symbol (losses that do not depend on shapes included), and modulators."""
        sent = library.times(self._modulated(), ratio(self.path_loss_db), "optical/loss")
        needed = library.times(sent, inverse(self.detector_efficiency), "optical/link")
        photon_w = self.photon_j * self.symbol_rate_hz
        laser = library.times(needed, inverse(self.wall_plug), "optical/laser").scaled(photon_w, "x photons a symbol")
        local = library.times(inverse(self.detector_efficiency), inverse(self.wall_plug), "optical/laser")
        symbol = exactly(1 / self.symbol_rate_hz, "symbol_rate_hz, a choice")
        return {
            "laser": Component(Role.LIGHT, static_power_w=laser),
            "oscillator": Component(Role.LIGHT, static_power_w=local.scaled(photon_w, "x photons a symbol")),
            "modulator": Component(Role.LIGHT, self.modulator_j_per_bit),
            "symbol": Component(Role.LIGHT, time_s=symbol),
            "crest": Component(Role.LIGHT),
            "flight": Component(Role.LIGHT, time_s=self.flight_s, serial=True),
        }

    def _modulated(self) -> Quantity:
        """Laser power over that of a vector behind the modulators: their loss, extinction, and the vector's crest."""
        penalty = library.times(derived(self.extinction_db, extinction_penalty), self.crest, "optical/crest")
        return library.times(ratio(self.modulator_loss_db), penalty, "optical/modulated")

    def _converters(self) -> dict[str, Component]:
        return {
            "dac": Component(Role.CONVERTER, self.dac_energy_j, area_mm2=self.dac_area_mm2),
            "adc": Component(Role.CONVERTER, self.adc_energy_j, area_mm2=self.adc_area_mm2),
            "tap": Component(Role.CONVERTER, self.adc_energy_j),
            "detector": Component(Role.CONVERTER, static_power_w=self.detector_power_w),
            "amplifier": Component(
                Role.CONVERTER, static_power_w=self.amplifier_power_w, area_mm2=self.amplifier_area_mm2
            ),
        }

    def _holding(self) -> dict[str, Component]:
        """What holds weights, and what it takes to change them."""
        held = library.times(self.shifter_pi_power_w, self.mean_phase, "optical/hold")
        flop = library.mac("fp32", self.node_nm).scaled(0.5, "one flop is half a MAC")
        return {
            "shifter": Component(Role.LIGHT, static_power_w=held, area_mm2=self.shifter_area_mm2, holds=True),
            "panel": Component(Role.LIGHT, static_power_w=self.panel_power_w, area_mm2=self.panel_area_mm2),
            "driver": Component(Role.PROGRAMMING, self.driver_energy_j),
            "settle": Component(Role.PROGRAMMING, time_s=self.settle_s, serial=True),
            "flop": Component(Role.PROGRAMMING, flop, self.flop_s, serial=True, node_nm=self.node_nm),
        }

    def _digital(self) -> dict[str, Component]:
        node, memory = self.node_nm, library.sram(self.buffer_kb, self.node_nm)
        on_chip = Role.ON_CHIP_MEMORY
        return {
            "mac": Component(energy_j=library.mac("fp16", node), node_nm=node),
            "add": Component(energy_j=library.operation("add", "int32", node), node_nm=node),
            "buffer_read": Component(on_chip, memory.read, 0.0, memory.leakage, area_mm2=memory.area, node_nm=node),
            "buffer_write": Component(on_chip, memory.write, node_nm=node),
        }

    def _neuron_parts(self) -> dict[str, Component]:
        """The pump at saturation and the probe, through modulators and path, and the time of a symbol.

        Where in the path the absorbers stand is not said: its whole loss is taken before them, and behind them too.
        """
        if not self.optical_depth:
            return {name: Component(Role.LIGHT) for name in ("saturation", "absorber", "probe")}
        path = ratio(self.path_loss_db)
        sent = library.times(library.times(self._modulated(), path, ""), inverse(self.wall_plug), "optical/sent")
        power = library.times(self.saturation_w_per_mm2, self.beam_area_mm2, "optical/saturation")
        power = library.times(power, sent, power.key)
        probe = library.times(library.times(path, inverse(self.detector_efficiency), ""), sent, "optical/probe")
        period = derived(self.lifetime_s, lambda lifetime_s: max(self._memory_s(lifetime_s), 1 / self.symbol_rate_hz))
        return {
            "saturation": Component(Role.LIGHT, library.times(power, period, power.key)),
            "absorber": Component(Role.LIGHT, time_s=period),
            "probe": Component(Role.LIGHT, probe.scaled(self.probe_photons * self.photon_j, "x probe_photons")),
        }

    def _memory_s(self, lifetime_s: float) -> float:
        """How long absorbers of that lifetime need to forget."""
        settings = dataclasses.replace(self.absorber, lifetime_s=lifetime_s)
        return 1 / settings.highest_symbol_rate_hz(self.remembered)

    # -- what is installed -------------------------------------------------------------------------------

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        """Light, modulators, detectors and converters on both sides of every unit; one homodyne unit for all."""
        found = dict.fromkeys(self.components, 1.0)
        found |= dict.fromkeys(INSTALLED, 0.0)
        if not self.reprogrammed or self.gradient_by == "homodyne":
            ends = self.lanes + self.outputs
            pairs = self.lanes * self.outputs
            for name, count in {
                "laser": pairs * self.detected_photons,
                "dac": ends,
                "adc": pairs,
                "amplifier": pairs,
                "detector": 2 * pairs,
            }.items():
                found[name] += count
        for stack, k, n in tiles:
            if k == 0:
                for name, count in {"dac": 1, "adc": 1, "amplifier": 1, "detector": 2,
                                    "oscillator": self.oscillator_photons}.items():  # fmt: skip
                    found[name] += n * count
            elif self.reprogrammed:
                for name, count in self._around(k, n).items():
                    found[name] += stack * count
        return found

    def _around(self, k: int, n: int) -> dict[str, float]:
        """What stands around the units of one matrix."""
        found = {"shifter": float(self.shifters(k, n)), "laser": 0.0, "oscillator": 0.0}
        taps = self.elements(k, n) if self.trained == "phases" else 0
        found |= {"detector": float(taps), "amplifier": float(taps)}
        for count, inputs, outputs in self.blocks(k, n):
            ends = count * (inputs + outputs)
            found["laser"] += count * self.entering_electrons(inputs, outputs)
            found["detector"] += ends * (1 if self.detection == "intensity" else 2)
            if self.detection == "oscillator":
                found["oscillator"] += ends * self.oscillator_photons
            for name in ("dac", "adc", "amplifier"):
                found[name] = found.get(name, 0.0) + ends
            found["panel"] = found.get("panel", 0.0) + (count if self.optics == "slm" else 0)
        return found


def ratio(loss_db: Quantity) -> Quantity:
    """Power in over power out."""
    return derived(loss_db, lambda value: 10 ** (value / 10))


def inverse(quantity: Quantity) -> Quantity:
    """1 / quantity."""
    return derived(quantity, lambda value: 1 / value)


def derived(quantity: Quantity, function: Callable[[float], float]) -> Quantity:
    """A monotone function of a quantity, of the same key."""
    low, high = sorted((function(quantity.low), function(quantity.high)))
    certainty = weaker(quantity.certainty, Certainty.DERIVED)
    return dataclasses.replace(quantity, low=low, nominal=function(quantity.nominal), high=high, certainty=certainty)


def exactly(value: float, source: str) -> Quantity:
    """A value without spread."""
    return Quantity(value, value, value, source, Certainty.ASSUMED, "optical/choice")

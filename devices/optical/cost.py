"""What optics costs: what one unit of each component takes, and how many units are installed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from hwsim import library
from hwsim.cost import EVERY_KIND, Certainty, Component, Kind, Quantity, Role, weaker
from hwsim.devices.optical import conversion
from hwsim.devices.optical.activity import VALUE_BITS, Counts, extinction_penalty
from hwsim.devices.optical.detection import FIELDS
from hwsim.devices.optical.receiver import CHARGE_C
from hwsim.ledger import TileShape
from hwsim.precision import Policy, policy

# Installed as tiles need them.
INSTALLED = (
    "laser", "oscillator", "saturation", "probe", "dac", "adc", "detector", "photocurrent", "amplifier", "shifter",
    "panel",
)  # fmt: skip


class Photons(NamedTuple):
    """Photons of the signal per multiply-accumulate."""

    launched: float
    detected: float


@dataclasses.dataclass(frozen=True)
class Light(Policy):
    """Formats of the simulation, with what converters round and the light of a product, in the words of `in_light`."""

    in_light: str = ""

    def describe(self) -> str:
        """One line for under a table."""
        return f"{self.in_light}; simulated in {self.name}"


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
        "holding power at the actual detuning of rings: most of it makes good for fabrication, whatever the weight",
        "the actual crest of vectors, and intensity in absorbers: lasers burn at those expected",
        "throughput of buffers",
        "area of lasers, modulators, detectors, lenses and cells",
    )

    def photons_per_mac(self, k: int, n: int) -> Photons:
        """Launched and detected, in a unit of k inputs and n outputs."""
        return Photons(self.detected_photons * self.launched_over_detected(k, n), self.detected_photons)

    @cached_property
    def policy(self) -> Policy:
        """Nothing rounds but converters; with the photons of a whole unit, launched and detected."""
        plain, (launched, detected) = policy(self.precision), self.photons_per_mac(self.inputs, self.outputs)
        bits = ((self.dac_bits, "sent"), (self.weight_bits, "held"), (self.adc_bits, "read"))
        rounded = ", ".join(f"{count} bits {what}" if count else f"{what} exactly" for count, what in bits)
        photons = f"photons per multiply-accumulate: {launched:.3g} launched, {detected:.3g} detected"
        if self.optics != "homodyne":
            photons += f", in a unit of {self.inputs} x {self.outputs}"
        return Light(plain.name, plain.values, plain.gradients, plain.output, in_light=f"{rounded}; {photons}")

    # -- components --------------------------------------------------------------------------------------

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """One photon a symbol, conversion, detector, shifter, wait, digital operation: actions as in activity.py."""
        return {**self._light(), **self._converters(), **self._holding(), **self._digital(), **self._neuron_parts()}

    def _light(self) -> dict[str, Component]:
        """Lasers by photons detected per symbol (losses that do not depend on shapes included), and modulators."""
        sent = library.times(self._modulated(self.crest), ratio(self.path_loss_db), "optical/loss")
        needed = library.times(sent, inverse(self.detector_efficiency), "optical/link")
        photon_w = self.photon_j * self.symbol_rate_hz
        laser = library.times(needed, inverse(self.wall_plug), "optical/laser").scaled(photon_w, "x photons a symbol")
        local = library.times(ratio(self.path_loss_db), inverse(self.detector_efficiency), "optical/local")
        local = library.times(local, inverse(self.wall_plug), "optical/laser")
        symbol = exactly(1 / self.symbol_rate_hz, "symbol_rate_hz, a choice")
        return {
            "laser": Component(Role.LIGHT, static_power_w=laser),
            "oscillator": Component(Role.LIGHT, static_power_w=local.scaled(photon_w, "x photons a symbol")),
            "modulator": Component(Role.LIGHT, self.modulator_j_per_bit),
            "symbol": Component(Role.LIGHT, time_s=symbol, of_tile=self.lit_by_tile),
            "crest": Component(Role.LIGHT),
            "flight": Component(Role.LIGHT, time_s=self.flight_s, serial=True, of_tile=self.lit_by_tile),
        }

    @property
    def lit_by_tile(self) -> frozenset[Kind]:
        """Products in optics that each matrix has of its own; others take turns on the one homodyne unit."""
        return EVERY_KIND - {Kind.GRADIENT} if self.reprogrammed else frozenset()

    def _modulated(self, crest: Quantity) -> Quantity:
        """Laser power over that of a vector behind the modulators: their loss, extinction, and the vector's crest."""
        penalty = library.times(derived(self.extinction_db, extinction_penalty), crest, "optical/crest")
        return library.times(ratio(self.modulator_loss_db), penalty, "optical/modulated")

    def _converters(self) -> dict[str, Component]:
        """Photocurrent is drawn from the bias; a detector takes besides what it takes in the dark."""
        adc = conversion.adc_energy(self.adc_energy_j, self.adc_bits, self.symbol_rate_hz, self.node_nm)
        tap = conversion.adc_energy(self.adc_energy_j, self.meter_bits, self.symbol_rate_hz, self.node_nm)
        dac = conversion.dac_energy(self.dac_energy_j, self.dac_bits)
        per_electron = self.detector_bias_v.scaled(CHARGE_C * self.symbol_rate_hz, "x one electron a symbol")
        return {
            "dac": Component(Role.CONVERTER, dac, area_mm2=self.dac_area_mm2),
            "adc": Component(Role.CONVERTER, adc, area_mm2=self.adc_area_mm2),
            "tap": Component(Role.CONVERTER, tap),
            "detector": Component(Role.CONVERTER, static_power_w=self.detector_power_w),
            "photocurrent": Component(Role.CONVERTER, static_power_w=per_electron),
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
            "settle": Component(Role.PROGRAMMING, time_s=self.settle_s, serial=True, of_tile=EVERY_KIND),
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
        """The lasers of one absorber's pump and probe, through modulators and path, and the time of a symbol.

        Where in the path the absorbers stand is not said: its whole loss is taken before them, and behind them too.
        A probe of a given ratio to the pump is that much of its light.
        """
        if not self.optical_depth:
            return {name: Component(Role.LIGHT) for name in ("saturation", "absorber", "probe")}
        path = ratio(self.path_loss_db)
        modulated = self._modulated(self.neuron_crest)
        sent = library.times(library.times(modulated, path, ""), inverse(self.wall_plug), "optical/sent")
        power = library.times(self.saturation_w_per_mm2, self.beam_area_mm2, "optical/saturation")
        power = library.times(power, sent, power.key)
        pump = library.times(power, self.mean_intensity, power.key)
        if self.probe_ratio:
            probe = pump.scaled(self.probe_ratio**self.absorber.order, "x probe_ratio")
        else:
            detected_w = self.probe_photons * self.photon_j / self.absorber_period_s
            probe = library.times(library.times(path, inverse(self.detector_efficiency), ""), sent, "optical/probe")
            probe = probe.scaled(detected_w, "x probe_photons")
        period = derived(self.lifetime_s, lambda lifetime_s: max(self._memory_s(lifetime_s), 1 / self.symbol_rate_hz))
        return {
            "saturation": Component(Role.LIGHT, static_power_w=pump),
            "absorber": Component(Role.LIGHT, time_s=period),
            "probe": Component(Role.LIGHT, static_power_w=probe),
        }

    @property
    def neuron_crest(self) -> Quantity:
        """That of values of one encoding from that of the other: k max|x| / sum|x| is sqrt(pi / 2 k max x^2 / |x|^2).

        Derived for normal values, whose mean magnitude is sqrt(2 / pi) of their RMS.
        """
        by_fields = self.detection in FIELDS
        if by_fields == (self.encoding == "amplitude"):
            return self.crest
        if by_fields:
            return derived(self.crest, lambda crest: math.sqrt(math.pi / 2 * crest))
        return derived(self.crest, lambda crest: 2 / math.pi * crest**2)

    def _memory_s(self, lifetime_s: float) -> float:
        """How long absorbers of that lifetime need to forget."""
        settings = dataclasses.replace(self.absorber, lifetime_s=lifetime_s)
        return 1 / settings.highest_symbol_rate_hz(self.remembered)

    # -- what is installed -------------------------------------------------------------------------------

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        """Light, modulators, detectors and converters on both sides of every unit; one homodyne unit for all.

        The absorbers are those of the device, `neurons`, which all layers take turns on.
        """
        found = dict.fromkeys(self.components, 1.0) | {"absorber": float(self.neurons)}
        found |= dict.fromkeys(INSTALLED, 0.0)
        if not self.reprogrammed or self.gradient_by == "homodyne":
            add(found, self._meetings())
        if any(k == 0 for _, k, _ in tiles):
            add(found, self._around_neuron(), self.neurons)
        for stack, k, n in tiles:
            if k and self.reprogrammed:
                add(found, self._around(k, n), stack)
        found["buffer_read"] = 1.0 + self.banks(tiles)
        return found

    def banks(self, tiles: Sequence[TileShape]) -> int:
        """Of static RAM, for the weights that electronics keeps; one more holds vectors on their way."""
        weights = sum(stack * k * n for stack, k, n in tiles)
        return math.ceil(VALUE_BITS * weights / (8 * 1024 * self.buffer_kb))

    def _meetings(self) -> dict[str, float]:
        """The one unit on which two beams meet."""
        ends, pairs = self.lanes + self.outputs, self.lanes * self.outputs
        light = pairs * self.detected_photons
        return {"laser": light, "photocurrent": light, "dac": ends, "adc": pairs, "amplifier": pairs,
                "detector": 2 * pairs}  # fmt: skip

    def _around_neuron(self) -> dict[str, float]:
        """What emits and reads one neuron: fields beside an oscillator, intensities by one detector."""
        field = self.encoding == "amplitude"
        oscillator = self.oscillator_photons if field else 0.0
        return {"dac": 1, "adc": 1, "amplifier": 1, "detector": 2 if field else 1, "oscillator": oscillator,
                "photocurrent": oscillator, "saturation": 1, "probe": 1 if self.probed else 0}  # fmt: skip

    def _around(self, k: int, n: int) -> dict[str, float]:
        """What stands around the units of one matrix, and between their meshes where these are trained in place."""
        taps = float(self.elements(k, n) if self.trained == "phases" else 0)
        found = {"shifter": float(self.shifters(k, n)), "detector": taps, "amplifier": taps}
        for count, inputs, outputs in self.blocks(k, n):
            ends = inputs + outputs + (outputs + min(inputs, outputs) if self.trained == "phases" else 0)
            oscillator = ends * self.oscillator_photons if self.detection == "oscillator" else 0.0
            metered = self.metered_electrons(inputs, outputs) if self.trained == "phases" else 0.0
            unit = {
                "laser": self.banks_of_weights * max(self.entering_electrons(inputs, outputs), metered),
                "photocurrent": inputs * outputs * self.detected_photons + oscillator,
                "oscillator": oscillator,
                "detector": ends * (1 if self.detection == "intensity" else 2),
                "panel": 1 if self.optics == "slm" else 0,
                **dict.fromkeys(("dac", "adc", "amplifier"), ends),
            }
            add(found, unit, count)
        return found


def add(sums: dict[str, float], more: Mapping[str, float], times: float = 1) -> None:
    """So many times `more` on top of `sums`."""
    for name, count in more.items():
        sums[name] = sums.get(name, 0.0) + times * count


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

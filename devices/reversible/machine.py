"""The parameters of a reversible machine: its arithmetic, its garbage, and the technology that it is made in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cached_property
from typing import Any, Self

from hwsim.cost import Certainty, Quantity
from hwsim.device import Device
from hwsim.devices.reversible.counts import MOST_TABLE_BITS
from hwsim.devices.reversible.energy import CLOCKINGS
from hwsim.devices.reversible.energy_presets import LAWS, LOADED, PRESETS, Technology, technology
from hwsim.devices.reversible.mac import FEWEST_BITS, WIRED_SCHEMES
from hwsim.errors import ConfigError, DeviceError
from hwsim.parameters import parameter

SCHEMES = ("ctrl", "naf", "mask", "product")
GARBAGE = ("bennett", "discard")
MODES = ("closed", "gates")
CHECKED = ("none", "programmed", "products")
MOST_REGISTER_BITS = 24  # float32 holds every integer of so many bits, sign included, so that registers read back whole
RENAMED = {"activity": "switching_activity"}  # a preset's value whose name is a method of every device

PHYSICS = {RENAMED.get(f.name, f.name): f.name for law in LAWS.values() for f in fields(law)} | {"load": "load"}

RESYNTHESIS = Quantity(
    50, 400, 2000, "a guess: 2 configuration bits a digit of 8-bit weights, each on the gates of a 24-bit adder",
    Certainty.ASSUMED, "reversible/resynthesis_nodes",
)  # fmt: skip


class Machine(Device):
    """Integer multiply-accumulate units side by side, in one of five technologies.

    `garbage` says what becomes of what a product leaves behind. "discard": it is erased. "bennett": results are copied
    out, and the product is run backwards, a forward's at its release. What is given and has no effect is refused.
    """

    name = "reversible"
    presets_path = PRESETS
    default_preset = "adiabatic_cmos"

    scheme: str = parameter("ctrl", doc="netlist of a multiply-accumulate; naf wires weights in", choices=SCHEMES)
    bits: int = parameter(8, unit="bit", doc="of an operand", low=FEWEST_BITS, high=MOST_TABLE_BITS)
    accumulator_bits: int | None = parameter(None, unit="bit", doc="none: as each product needs", low=4, high=63)
    register_bits: int = parameter(MOST_REGISTER_BITS, unit="bit", doc="of a weight", low=8, high=MOST_REGISTER_BITS)
    headroom_bits: int = parameter(6, unit="bit", doc="by which weights can outgrow those programmed", low=0, high=16)
    in_flight: int = parameter(4096, doc="multiply-accumulates at once: units, or places in pipelines", low=1)
    garbage: str = parameter("bennett", doc="what becomes of intermediate results", choices=GARBAGE)
    mode: str = parameter("closed", doc="values by closed form, or by running every gate", choices=MODES)
    checked: str = parameter("programmed", doc="what is compared with gates: samples, or products", choices=CHECKED)
    resynthesis_nodes: Quantity = parameter(RESYNTHESIS, doc="erased where a wired-in weight changes", low=0)

    law: str = parameter(doc="formula of energy", choices=tuple(LAWS))
    clocking: str | None = parameter(None, doc="how levels are clocked", choices=CLOCKINGS)
    shape: str | None = parameter(None, doc="of the ramps: linear or sinusoidal")
    ramp_s: float | None = parameter(None, unit="s", doc="rise of a rail")
    hold_ramps: float | None = parameter(None, doc="ramps that a rail holds for")
    node_nm: float | None = parameter(None, unit="nm", doc="technology node")
    resistance_ohm: Quantity | None = parameter(None, unit="Ohm", doc="through which a node is charged")
    capacitance_f: Quantity | None = parameter(None, unit="F", doc="of a node")
    load: Quantity | None = parameter(None, doc="times capacitance and leakage of a node: a wire's gates", low=0)
    voltage_v: Quantity | None = parameter(None, unit="V", doc="supply, or top of a ramp")
    leakage_siemens: Quantity | None = parameter(None, unit="S", doc="of a node that is held")
    threshold_v: Quantity | None = parameter(None, unit="V", doc="of a transistor")
    floor_share: Quantity | None = parameter(None, doc="of C Vt^2 / 2 lost per cycle of a node")
    quality: Quantity | None = parameter(None, doc="Q of the clock, without the logic's own RC")
    clock_load: Quantity | None = parameter(None, doc="capacitance that the rails swing, over that of the logic")
    nodes_per_inverter: Quantity | None = parameter(None, doc="charged and discharged")
    nodes_per_cnot: Quantity | None = parameter(None, doc="charged and discharged")
    nodes_per_toffoli: Quantity | None = parameter(None, doc="charged and discharged")
    retractile_ramps_per_level: Quantity | None = parameter(None, doc="of a netlist in place")
    pipelined_ramps_per_level: Quantity | None = parameter(None, doc="of a pipeline")
    erasure_share: Quantity | None = parameter(None, doc="heat of an erased bit over C V^2")
    temperature_k: Quantity | None = parameter(None, unit="K", doc="of the chip")
    cooler_factor: Quantity | None = parameter(None, doc="energy of the cooler over heat")
    node_area_mm2: Quantity | None = parameter(None, unit="mm2", doc="of a node")
    switching_activity: Quantity | None = parameter(None, doc="charges of a node per run, switched conventionally")
    delay_s: Quantity | None = parameter(None, unit="s", doc="of a level, switched conventionally")
    frequency_hz: float | None = parameter(None, unit="Hz", doc="of the clock of parametrons")
    reference_hz: float | None = parameter(None, unit="Hz", doc="at which junction_j was found")
    highest_hz: float | None = parameter(None, unit="Hz", doc="up to where energy is proportional to frequency")
    phases_per_period: float | None = parameter(None, doc="of the clock of parametrons")
    junction_j: Quantity | None = parameter(None, unit="J", doc="of a junction and period at reference_hz, cold")
    junctions_per_inverter: Quantity | None = parameter(None, doc="switched")
    junctions_per_cnot: Quantity | None = parameter(None, doc="switched")
    junctions_per_toffoli: Quantity | None = parameter(None, doc="switched")
    junctions_per_buffer: Quantity | None = parameter(None, doc="of one wire in one phase")
    phases_per_level: Quantity | None = parameter(None, doc="that a gate of parametrons takes")
    erase_j: Quantity | None = parameter(None, unit="J", doc="of an erased bit, cold")
    junction_area_mm2: Quantity | None = parameter(None, unit="mm2", doc="of a junction")

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """The technologies of reversible.toml."""
        found = super().presets()
        return {name: {RENAMED.get(k, k): v for k, v in values.items()} for name, values in found.items()}

    @classmethod
    def create(cls, preset: str | None, parameters: Mapping[str, Any], text: str = "") -> Self:
        """A device from a preset and overriding parameters. Raises DeviceError where one of these has no effect."""
        made = super().create(preset, parameters, text)
        for name in parameters:
            if (reader := made.reader_of(name)) is not None:
                raise DeviceError(f"reversible: {name}={parameters[name]} has no effect here; it is read with {reader}")
        return made

    def reader_of(self, name: str) -> str | None:
        """What would have to be chosen for a parameter to be read; None where it is read."""
        if name in PHYSICS and PHYSICS[name] not in taken_by(self.law):
            laws = [law for law in LAWS if PHYSICS[name] in taken_by(law)]
            return f"law {' or '.join(laws)}, not {self.law}"
        if name == "resynthesis_nodes" and self.scheme not in WIRED_SCHEMES:
            return f"scheme naf, not {self.scheme}"
        if name.endswith("_ramps_per_level") and self.clocking not in (None, clocking := name.split("_")[0]):
            return f"clocking {clocking}, not {self.clocking}"
        if name == "threshold_v" and not (self.floor_share and self.floor_share.nominal):
            return "a floor_share above 0"
        if name == "quality" and not (self.clock_load and self.clock_load.nominal):
            return "a clock_load above 0"
        return None

    def check(self) -> None:
        """Refuse parameters that do not fit together."""
        if self.register_bits < self.bits:
            raise DeviceError(
                f"reversible: register_bits={self.register_bits} is narrower than bits={self.bits}: products take "
                "their operand from the register of a weight"
            )
        if self.headroom_bits > self.register_bits - 2:
            raise DeviceError(
                f"reversible: headroom_bits={self.headroom_bits} leaves no bit of register_bits={self.register_bits}"
            )
        if self.accumulator_bits is not None and self.accumulator_bits < 2 * self.bits:
            raise DeviceError(
                f"reversible: accumulator_bits={self.accumulator_bits}: one product of bits={self.bits} takes "
                f"{2 * self.bits}, a sum of k products log2(k) more; none: as many as each product needs"
            )
        try:
            _ = self.technology
        except ConfigError as error:
            raise DeviceError(f"reversible: {error}") from None

    @cached_property
    def physics(self) -> Mapping[str, Any]:
        """The values that the formulas of energy take, by their names there, those that are given."""
        values = {name: getattr(self, parameter) for parameter, name in PHYSICS.items()} | {"law": self.law}
        return {name: value for name, value in values.items() if value is not None}

    @cached_property
    def technology(self) -> Technology:
        """What gates, wires and time cost, at nominal values."""
        return technology(self.physics)

    def accumulator(self, terms: int) -> int:
        """Wires A of the accumulator of a sum of `terms` products: 2 bits + ceil(log2 terms), or as given.

        It starts at -2^(bits - 1) times the sum of the weights, and each product with x + 2^(bits - 1) brings it nearer
        to the result: partial sums are at most 2^(2 bits - 2) terms, and so at most 2^(A - 2). Arithmetic modulo 2^A
        never wraps. Raises DeviceError where the one given is narrower.
        """
        needed = 2 * self.bits + max(terms - 1, 0).bit_length()
        if self.accumulator_bits is None:
            return needed
        if self.accumulator_bits < needed:
            raise DeviceError(
                f"reversible: accumulator_bits={self.accumulator_bits} for sums of {terms} products of "
                f"{self.bits} by {self.bits} bits: they need {needed}"
            )
        return self.accumulator_bits


def taken_by(law: str) -> set[str]:
    """The values that a law takes, by their names in its formulas; the node tells its converters."""
    names = {field.name for field in fields(LAWS[law])} | {"node_nm"}
    return names | {"load"} if names & set(LOADED) else names

"""What a reversible netlist costs in adiabatic quantum flux parametrons (aqfp): a law of its own, without R C ramps.

A junction pair's potential is changed slowly by an alternating current, and damping turns a share of its energy into
heat that grows in proportion to the frequency, with no minimum at the slow end (Takeuchi et al., read as an abstract).
Only erased bits have a bound, and a cooler moves all of it from 4.2 K. Every gate is clocked, so that a wire passes one
buffer in each phase, as in a pipeline: gates x junctions, and wires x phases x junctions of a buffer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwsim.cost import Value
from hwsim.devices.reversible import adiabatic
from hwsim.devices.reversible.energy import Bill, Schedule, check_numbers, configuration_j, with_cooler
from hwsim.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Josephson:
    """Parametron logic at one frequency."""

    frequency_hz: Value
    highest_hz: float  # up to where the law is known to hold
    reference_hz: float  # at which `junction_j` was found
    junction_j: Value  # heat of one junction in one period, cold
    junctions_per_inverter: Value
    junctions_per_cnot: Value
    junctions_per_toffoli: Value
    junctions_per_buffer: Value  # of one wire in one phase
    phases_per_level: Value  # that a gate takes
    phases_per_period: float
    erase_j: Value  # heat of one erased bit, cold; never below Landauer's bound
    temperature_k: Value
    cooler_factor: Value  # energy of the cooler / heat
    junction_area_mm2: Value

    def __post_init__(self) -> None:
        free = {"junctions_per_inverter", "erase_j", "cooler_factor"}
        values = vars(self)
        positive = {name: value for name, value in values.items() if name not in free}
        check_numbers("josephson", positive, {name: values[name] for name in free})
        if np.any(np.asarray(self.frequency_hz) > self.highest_hz):
            raise ConfigError(
                f"frequency_hz={self.frequency_hz}: energy in proportion to frequency is known up to "
                f"{self.highest_hz:g} Hz"
            )

    @property
    def switch_j(self) -> Value:
        """Heat of one junction in one period at this frequency, cold [J]."""
        return self.junction_j * self.frequency_hz / self.reference_hz

    @property
    def erased_bit_j(self) -> Value:
        """Heat of one erased bit, cold [J]."""
        return adiabatic.erasure_j(self.temperature_k, self.erase_j)

    @property
    def held_bit_w(self) -> Value:
        """Power of a wire that only keeps its bit, in a ring of one buffer a phase, with its cooling [W]."""
        junctions = self.junctions_per_buffer * self.phases_per_period
        return junctions * self.switch_j * self.frequency_hz * (1 + self.cooler_factor)

    def bill(self, schedule: Schedule) -> Bill:
        """One run of a schedule; a result every period."""
        gates = (
            schedule.inverters * self.junctions_per_inverter
            + schedule.cnots * self.junctions_per_cnot
            + schedule.toffolis * self.junctions_per_toffoli
        )
        phases = schedule.depth * self.phases_per_level
        latency_s = phases / (self.phases_per_period * self.frequency_hz)
        buffers = schedule.wires * phases * self.junctions_per_buffer
        parts = {
            "switching": gates * self.switch_j,
            "buffers": buffers * self.switch_j,
            "erasure": schedule.erased_bits * self.erased_bit_j,
            "configuration": configuration_j(schedule, self.held_bit_w, self.cooler_factor, latency_s),
        }
        return Bill(
            with_cooler(parts, self.cooler_factor),
            latency_s=latency_s,
            interval_s=1 / self.frequency_hz,
            nodes=gates + buffers,
            area_mm2=(gates + buffers) * self.junction_area_mm2,
            rails=self.phases_per_period,
        )


def fastest_paying_hz(schedule: Schedule, technology: Josephson, reference_j: Value) -> Value:
    """The frequency below which a schedule takes less than `reference_j`, up to `highest_hz` [Hz]; 0 if none does."""
    bill = technology.bill(schedule)
    fixed_j = bill.parts["erasure"] * (1 + technology.cooler_factor)
    per_hz = (bill.energy_j - fixed_j) / technology.frequency_hz
    return np.clip((reference_j - fixed_j) / per_hz, 0.0, technology.highest_hz)[()]

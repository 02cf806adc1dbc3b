"""What a reversible netlist costs in a technology: energy by cause, time, area.

    retractile   each level has a rail of its own, and works in place: copy the target, clear it by its copy, charge it
                 anew by copy and controls, clear the copy. Every wire holds its value, and leaks, for the whole
                 schedule, wires x depth x ramps of a level; one result at a time
    pipelined    2LAL, S2LAL: at every ramp every wire is copied to a fresh node and the old one cleared, so that
                 wires x depth x ramps of a level nodes are charged beside those of the gates; one result per period

A rail rises, holds for `hold_ramps` ramps, falls, and rests as long as it held. Logic is dual rail: one of a node's two
rails is charged whatever the data, and a NOT swaps them. A cascade that is not in place, and holds the nodes of all
gates until it retracts them in reverse order, leaks for many times longer: it is not modelled. Values may be arrays of
draws, the nominal first, as `hwsim.cost.Quantity.draws` gives them; a ramp time may be an array where the rest are
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hwsim.cost import Value, nominal
from hwsim.devices.reversible import adiabatic
from hwsim.errors import ConfigError

CLOCKINGS = ("retractile", "pipelined")


class Schedule(NamedTuple):
    """A scheduled netlist, as far as its energy depends on it; Fredkin and Peres gates as CNOTs and Toffolis."""

    inverters: float
    cnots: float
    toffolis: float
    wires: float
    depth: float  # levels
    erased_bits: float = 0.0
    configured_nodes: float = 0.0  # that hold what is in the wiring, for as long as a run takes


@dataclass(frozen=True)
class Bill:
    """What one run of a schedule takes."""

    parts: Mapping[str, Value]  # energy by cause [J]
    latency_s: Value  # from the first input to the last output cleared
    interval_s: Value  # between two results of one unit
    nodes: Value  # charged and discharged; of aqfp, junctions switched
    area_mm2: Value  # of one unit
    rails: float  # phases of the clock

    @property
    def energy_j(self) -> Value:
        """All parts together [J]."""
        return sum(self.parts.values(), start=0.0)


def with_cooler(parts: Mapping[str, Value], cooler_factor: Value) -> dict[str, Value]:
    """`parts` of a cold chip, and what the cooler takes to move their heat."""
    return {**parts, "cooler": cooler_factor * sum(parts.values(), start=0.0)}


def check_numbers(owner: str, positive: Mapping[str, Value], others: Mapping[str, Value]) -> None:
    """Raise ConfigError unless all values are finite, the first above 0, the others not below."""
    for name, value in {**positive, **others}.items():
        least = "above 0" if name in positive else "of 0 or more"
        if (
            not np.all(np.isfinite(value))
            or not np.all(np.asarray(value) >= 0)
            or (name in positive and not np.all(np.asarray(value) > 0))
        ):
            raise ConfigError(f"{owner}: {name}={value}: needs a finite number {least}")


def configuration_j(schedule: Schedule, held_bit_w: Value, cooler_factor: Value, latency_s: Value) -> Value:
    """Cold heat of what configures a netlist, held for one run of it, where the next run follows at once [J]."""
    return schedule.configured_nodes * held_bit_w / (1 + cooler_factor) * latency_s


@dataclass(frozen=True, kw_only=True)
class Cmos:
    """What adiabatic and conventional circuits of one CMOS process have in common."""

    node_nm: float
    capacitance_f: Value  # of one node, its wire included
    voltage_v: Value
    leakage_siemens: Value  # of one node that is held
    nodes_per_inverter: Value
    nodes_per_cnot: Value
    nodes_per_toffoli: Value
    erasure_share: Value  # heat of resetting a node / C V^2; never below Landauer's bound
    temperature_k: Value
    cooler_factor: Value  # energy of the cooler / heat
    node_area_mm2: Value

    def __post_init__(self) -> None:
        gates = ("nodes_per_inverter", "nodes_per_cnot", "nodes_per_toffoli")
        positive = ("node_nm", "capacitance_f", "voltage_v", "temperature_k", "node_area_mm2")
        self._check(positive, ("leakage_siemens", "erasure_share", "cooler_factor", *gates))

    def _check(self, positive: tuple[str, ...], others: tuple[str, ...] = ()) -> None:
        named = ({name: getattr(self, name) for name in names} for names in (positive, others))
        check_numbers(type(self).__name__.lower(), *named)

    @property
    def swing_j(self) -> Value:
        """C V^2: what a conventional circuit turns into heat when a node is charged and discharged [J]."""
        return self.capacitance_f * self.voltage_v**2

    @property
    def erased_bit_j(self) -> Value:
        """Heat of one erased bit [J]."""
        return adiabatic.erasure_j(self.temperature_k, self.erasure_share * self.swing_j)

    def gate_nodes(self, schedule: Schedule) -> Value:
        """Nodes that the gates of a schedule charge and discharge."""
        return (
            schedule.inverters * self.nodes_per_inverter
            + schedule.cnots * self.nodes_per_cnot
            + schedule.toffolis * self.nodes_per_toffoli
        )


@dataclass(frozen=True, kw_only=True)
class Adiabatic(Cmos):
    """CMOS whose nodes are charged by ramps, and discharged into the rails that charged them."""

    clocking: str
    shape: str  # of the ramps: see adiabatic.WAVEFORMS
    ramp_s: Value
    hold_ramps: float
    resistance_ohm: Value
    threshold_v: Value
    floor_share: Value  # of C Vt^2 / 2 per cycle: 0 fully adiabatic, 1 to 2 where one polarity discharges
    quality: Value  # Q of the resonators and rails, without the logic's own R C
    clock_load: Value  # capacitance that the rails swing / that of the logic: 1 and their own wiring
    retractile_ramps_per_level: Value
    pipelined_ramps_per_level: Value

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clocking not in CLOCKINGS:
            raise ConfigError(f"no clocking {self.clocking!r}; known: {', '.join(CLOCKINGS)}")
        adiabatic.waveform(self.shape)
        positive = ("ramp_s", "hold_ramps", "quality", "retractile_ramps_per_level", "pipelined_ramps_per_level")
        self._check(positive, ("resistance_ohm", "threshold_v", "floor_share", "clock_load"))
        least_s = self.settling_ramps * float(np.min(self.ramp_s))
        adiabatic.check_settled(least_s, nominal(self.resistance_ohm), nominal(self.capacitance_f))

    @property
    def settling_ramps(self) -> float:
        """Ramps in which a node has to settle: its hold, or the next level's ramp, which follows without one."""
        return min(1.0, self.hold_ramps)

    @property
    def settles(self) -> Value:
        """Whether a node settles; of draws, for each."""
        needed_s = adiabatic.SETTLED * np.asarray(self.resistance_ohm) * np.asarray(self.capacitance_f)
        return self.settling_ramps * np.asarray(self.ramp_s) >= needed_s * (1 - 1e-12)

    @property
    def shortest_ramp_s(self) -> float:
        """The shortest ramp in which a node settles, at nominal values [s]; 0 without resistance."""
        rc_s = nominal(self.resistance_ohm) * nominal(self.capacitance_f)
        return adiabatic.SETTLED * rc_s / self.settling_ramps

    @property
    def period_s(self) -> Value:
        """One rail's rise, hold, fall and rest [s]."""
        return 2 * (1 + self.hold_ramps) * self.ramp_s

    @property
    def node_j(self) -> dict[str, Value]:
        """Heat of one node that is charged, held and discharged once, by cause [J]."""
        held_s = adiabatic.trapezoid_s(self.ramp_s, self.hold_ramps, self.shape)
        ramp = adiabatic.ramp_j(self.resistance_ohm, self.capacitance_f, self.voltage_v, self.ramp_s, self.shape)
        floor = adiabatic.threshold_floor_j(self.capacitance_f, self.threshold_v)
        return {
            "switching": 2 * ramp,
            "leakage_active": adiabatic.leakage_j(self.leakage_siemens, self.voltage_v, held_s),
            "threshold_floor": self.floor_share * floor,
            "clock": adiabatic.clock_loss_j(self.clock_load * self.capacitance_f, self.voltage_v, self.quality),
        }

    @property
    def held_bit_w(self) -> Value:
        """Power of a wire that only keeps its bit, as a weight does, with its cooling [W].

        It leaks where it is held, and is copied once in a period through nodes of all phases where it is pipelined.
        """
        if self.clocking == "retractile":
            power = self.leakage_siemens * self.voltage_v**2
        else:
            power = sum(self.node_j.values()) * 2 * (1 + self.hold_ramps) / self.period_s
        return power * (1 + self.cooler_factor)

    def ramps(self, schedule: Schedule) -> Value:
        """Ramps that all levels of a schedule take, one after the other."""
        retractile = self.clocking == "retractile"
        return schedule.depth * (self.retractile_ramps_per_level if retractile else self.pipelined_ramps_per_level)

    def run_ramps(self, schedule: Schedule) -> Value:
        """Ramps from the first input to the last output cleared."""
        return self.ramps(schedule) + self.hold_ramps + 1

    def nodes(self, schedule: Schedule) -> Value:
        """Nodes that a schedule charges and discharges, those that only copy a wire included."""
        copies = schedule.wires * self.ramps(schedule) if self.clocking == "pipelined" else 0.0
        return self.gate_nodes(schedule) + copies

    def idle_ramps(self, schedule: Schedule) -> Value:
        """Wires held x ramps that they are held for, outside the nodes that are being charged."""
        return schedule.wires * self.ramps(schedule) if self.clocking == "retractile" else 0.0

    def bill(self, schedule: Schedule) -> Bill:
        """One run of a schedule."""
        nodes = self.nodes(schedule)
        parts = {cause: nodes * joules for cause, joules in self.node_j.items()}
        idle_s = self.idle_ramps(schedule) * self.ramp_s
        parts["leakage_idle"] = adiabatic.leakage_j(self.leakage_siemens, self.voltage_v, idle_s)
        parts["erasure"] = schedule.erased_bits * self.erased_bit_j
        latency_s = self.run_ramps(schedule) * self.ramp_s
        parts["configuration"] = configuration_j(schedule, self.held_bit_w, self.cooler_factor, latency_s)
        retractile = self.clocking == "retractile"
        return Bill(
            with_cooler(parts, self.cooler_factor),
            latency_s=latency_s,
            interval_s=latency_s if retractile else self.period_s,
            nodes=nodes,
            area_mm2=(nodes + schedule.wires) * self.node_area_mm2,
            rails=schedule.depth if retractile else 2 * (1 + self.hold_ramps),
        )


@dataclass(frozen=True, kw_only=True)
class Conventional(Cmos):
    """The same netlist in CMOS that is switched abruptly: every node of every gate is powered all the time."""

    activity: Value  # charges and discharges of a node per run
    delay_s: Value  # of one level

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(("activity", "delay_s"))

    @property
    def held_bit_w(self) -> Value:
        """Power of a wire that only keeps its bit, with its cooling [W]."""
        return self.leakage_siemens * self.voltage_v**2 * (1 + self.cooler_factor)

    def bill(self, schedule: Schedule) -> Bill:
        """One run of a schedule."""
        nodes, latency_s = self.gate_nodes(schedule), schedule.depth * self.delay_s
        leaking_s = (nodes + schedule.wires) * latency_s
        parts = {
            "switching": nodes * self.activity * self.swing_j,
            "leakage_idle": adiabatic.leakage_j(self.leakage_siemens, self.voltage_v, leaking_s),
            "erasure": schedule.erased_bits * self.erased_bit_j,
            "configuration": configuration_j(schedule, self.held_bit_w, self.cooler_factor, latency_s),
        }
        area_mm2 = (nodes + schedule.wires) * self.node_area_mm2
        return Bill(with_cooler(parts, self.cooler_factor), latency_s, latency_s, nodes, area_mm2, rails=1)

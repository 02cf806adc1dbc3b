"""How slowly to ramp, and whether it pays: the best ramp time, where a reference is undercut, and the Q that it takes.

The headline reference is an ordinary irreversible multiply-accumulate of as many bits at the same node. The same
reversible netlist switched conventionally is a weaker rival, ten times dearer than the ordinary one at 8 bits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hwsim import library
from hwsim.cost import Quantity, Value
from hwsim.devices.reversible import adiabatic
from hwsim.devices.reversible.energy import Adiabatic, Bill, Schedule
from hwsim.errors import ConfigError

SEARCH = 100.0  # the best ramp is sought up to so many times what the law of slow ramps says


class Span(NamedTuple):
    """The ramp times between which a reference is undercut [s]."""

    fastest_s: float  # the shortest that settles, where it pays already
    slowest_s: float  # beyond, leakage has eaten the gain; inf without leakage


class Verdict(NamedTuple):
    """A schedule against a reference, at the best ramp time."""

    energy_j: float
    reference_j: float
    pays: Span | None  # None: at no ramp time
    least_quality: float  # Q of the clock below which it does not pay; inf: at no Q

    @property
    def gain(self) -> float:
        """How many times less energy than the reference."""
        return self.reference_j / self.energy_j


def ordinary_mac(bits: int, node_nm: float) -> Quantity:
    """An ordinary integer multiply-accumulate of `bits` bits at a node, without operand fetch and control [J].

    Raises ConfigError for bits other than 8, 16 and 32, and nodes without a scaling law.
    """
    return library.mac(f"int{bits}", node_nm)


def curve(schedule: Schedule, technology: Adiabatic, ramps_s: npt.ArrayLike) -> Bill:
    """The bill at each of `ramps_s`: every part that depends on the ramp time is an array like it.

    Raises ConfigError for ramps whose hold does not let a node settle.
    """
    return replace(technology, ramp_s=np.asarray(ramps_s, dtype=float)).bill(schedule)


def slow_optimum_s(schedule: Schedule, technology: Adiabatic) -> Value:
    """The ramp time of least energy by the law of slow ramps, in closed form [s]; good where it is far above R C.

    Raises ConfigError where nothing leaks: slower is always better.
    """
    if not np.all(np.asarray(technology.leakage_siemens) > 0):
        raise ConfigError("no best ramp time without leakage: slower is always better; choose ramp_s")
    nodes = technology.nodes(schedule)
    held_ramps = adiabatic.trapezoid_s(1.0, technology.hold_ramps, technology.shape)
    configured = schedule.configured_nodes * technology.run_ramps(schedule)
    if technology.clocking == "pipelined":  # what is held is copied on and on
        nodes, configured = nodes + configured, 0.0
    leaking_ramps = nodes * held_ramps + technology.idle_ramps(schedule) + configured
    return adiabatic.optimum_s(
        technology.resistance_ohm,
        technology.capacitance_f,
        technology.leakage_siemens,
        nodes,
        leaking_ramps,
        technology.shape,
    )


def at_optimum(schedule: Schedule, technology: Adiabatic) -> Adiabatic:
    """`technology`, of nominal values, with the ramp time of least energy, by the exact law.

    Raises ConfigError where nothing leaks.
    """
    from scipy.optimize import minimize_scalar  # imported where it is used: `import hwsim` stays light

    shortest_s, slow_s = technology.shortest_ramp_s, float(slow_optimum_s(schedule, technology))
    if not shortest_s > 0:
        raise ConfigError("no best ramp time without resistance: shorter is always better; choose ramp_s")

    def energy(logarithm: float) -> float:
        return float(replace(technology, ramp_s=math.exp(logarithm)).bill(schedule).energy_j)

    bounds = (math.log(shortest_s), math.log(SEARCH * max(shortest_s, slow_s)))
    found = minimize_scalar(energy, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    best = min((bounds[0], float(found.x)), key=energy)  # the search stays inside its bounds
    return replace(technology, ramp_s=math.exp(best))


def span(schedule: Schedule, best: Adiabatic, reference_j: float) -> Span | None:
    """Between which ramp times a schedule takes less than `reference_j`; `best` is what `at_optimum` gives."""
    from scipy.optimize import brentq

    bill = best.bill(schedule)
    if not bill.energy_j < reference_j:
        return None

    def excess(logarithm: float) -> float:
        return float(replace(best, ramp_s=math.exp(logarithm)).bill(schedule).energy_j) / reference_j - 1

    shortest, middle = math.log(best.shortest_ramp_s), math.log(best.ramp_s)
    fastest = shortest if excess(shortest) < 0 else brentq(excess, shortest, middle)
    leakage_j = (bill.parts["leakage_active"] + bill.parts["leakage_idle"]) * (1 + best.cooler_factor)
    # Leakage is proportional to the ramp time: here it alone takes all of the reference.
    slowest = brentq(excess, middle, middle + math.log(reference_j / leakage_j))
    return Span(math.exp(fastest), math.exp(slowest))


def least_quality(schedule: Schedule, technology: Adiabatic, reference_j: Value) -> Value:
    """The Q of the clock above which a schedule takes less than `reference_j`; inf where it does at no Q."""
    bill = technology.bill(schedule)
    clock_j = bill.parts["clock"] * (1 + technology.cooler_factor)
    room_j = np.asarray(reference_j - (bill.energy_j - clock_j))
    needed = technology.quality * clock_j / np.where(room_j > 0, room_j, 1.0)
    return np.where(room_j > 0, needed, math.inf)[()]


def against(schedule: Schedule, technology: Adiabatic, reference_j: float) -> Verdict:
    """A schedule against a reference: `ordinary_mac`, or the bill of the technology "cmos_reference"."""
    best = at_optimum(schedule, technology)
    energy_j = float(best.bill(schedule).energy_j)
    quality = float(least_quality(schedule, best, reference_j))
    return Verdict(energy_j, reference_j, span(schedule, best, reference_j), quality)

"""Energy of a multiply-accumulate against the ramp time and against the clock's Q, beside what it has to beat."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hwsim.cost import nominal
from hwsim.devices.reversible.cost import CONVERTER_NM
from hwsim.devices.reversible.device import Reversible
from hwsim.devices.reversible.energy import Adiabatic, Schedule
from hwsim.devices.reversible.energy_optimum import Verdict, against, at_optimum, curve, ordinary_mac
from hwsim.devices.reversible.energy_presets import named
from hwsim.errors import ConfigError, DeviceError

Numbers = npt.NDArray[np.float64]
STYLE = "hwsim.report.hwsim"  # the style file of all figures, as matplotlib calls one within a package
POINTS = 200
SLOWEST = 30.0  # ramps of so many times the best one are drawn
QUALITIES = np.logspace(0, 4, 41)
ORDINARY, SAME_NETLIST = "ordinary multiply-accumulate", "same netlist switched conventionally"
CAUSES = {
    "switching": "switching", "clock": "clock", "leakage_active": "leakage of nodes in use",
    "leakage_idle": "leakage of wires that wait", "configuration": "leakage of a wired-in weight's configuration",
    "threshold_floor": "threshold drops", "cooler": "cooler",
}  # fmt: skip


class Ramps(NamedTuple):
    """One multiply-accumulate of a device, at its best ramp time, around it, and against its rivals."""

    device: str
    bits: int
    best_s: float
    energy_j: float
    ramps_s: Numbers
    parts_j: Mapping[str, Numbers]  # by cause, at each of ramps_s
    best_by_quality_j: Numbers  # at each of QUALITIES, each at its own best ramp time
    verdicts: Mapping[str, Verdict]  # by rival
    least_use: Mapping[str, float]  # by rival: share of the time that a wired-in netlist must be in use; 0 without such


def ramps(device: Reversible) -> Ramps:
    """The energy of a typical multiply-accumulate (256 terms) of a device with ramps.

    Rivals: an ordinary multiply-accumulate of as many bits at the same node, where the library knows one, and the same
    netlist in the preset cmos_reference. A wired-in weight's configuration leaks for as long as the netlist runs, as if
    it always did; `least_use` says how much less still pays, at that ramp time. Raises DeviceError for a device without
    ramps, or without a best ramp time.
    """
    machine = device.technology
    if not isinstance(machine, Adiabatic):
        raise DeviceError(f"{device.spec}: law {device.law} has no ramps; take a preset of law adiabatic")
    schedule = judged(device)
    try:
        best = at_optimum(schedule, machine)
    except ConfigError as error:
        raise DeviceError(f"{device.spec}: {error}") from None
    seconds = np.geomspace(best.shortest_ramp_s, SLOWEST * best.ramp_s, POINTS)
    bill = curve(schedule, machine, seconds)
    parts = {cause: np.broadcast_to(joules, seconds.shape) for cause, joules in bill.parts.items()}
    by_quality = [at_optimum(schedule, replace(machine, quality=q)).bill(schedule).energy_j for q in QUALITIES]
    verdicts = {name: against(schedule, machine, joules) for name, joules in rivals(device, schedule).items()}
    energy_j = float(best.bill(schedule).energy_j)
    uses = {name: least_use(schedule, best, verdict.reference_j) for name, verdict in verdicts.items()}
    return Ramps(
        device.spec, device.bits, float(best.ramp_s), energy_j, seconds, parts, np.array(by_quality), verdicts, uses
    )


def judged(device: Reversible) -> Schedule:
    """A typical multiply-accumulate (256 terms), with what configures its netlist."""
    return device.typical._replace(configured_nodes=device.configured_nodes)


def least_use(schedule: Schedule, best: Adiabatic, reference_j: float) -> float:
    """The share of the time in use from which a wired-in netlist takes less than `reference_j`; inf where at none."""
    bill = best.bill(schedule)
    configuration_j = float(bill.parts["configuration"]) * (1 + nominal(best.cooler_factor))
    room_j = reference_j - (float(bill.energy_j) - configuration_j)
    return configuration_j / room_j if room_j > 0 else math.inf


def rivals(device: Reversible, schedule: Schedule) -> dict[str, float]:
    """Joules of one multiply-accumulate of what a reversible one has to beat; at 28 nm where it has no node."""
    found = {SAME_NETLIST: float(named("cmos_reference").bill(schedule).energy_j)}
    try:
        return {ORDINARY: ordinary_mac(device.bits, device.node_nm or CONVERTER_NM).nominal, **found}
    except ConfigError:
        return found


def report(found: Ramps) -> str:
    """The best ramp time, and against each rival what is gained, between which ramp times, and from which Q on."""
    lines = [
        f"{found.device}: a multiply-accumulate of {found.bits} bits takes {found.energy_j * 1e15:.3g} fJ at its best "
        f"ramp time, {found.best_s * 1e9:.3g} ns"
    ]
    for name, verdict in found.verdicts.items():
        times = f"{verdict.gain:.3g} times less" if verdict.gain >= 1 else f"{1 / verdict.gain:.3g} times more"
        used = f", if its netlist is in use {found.least_use[name]:.0%} of the time or more (at this ramp time)"
        when = _when(verdict) + (used if verdict.pays and found.least_use[name] else "")
        lines.append(f"  {name}, {verdict.reference_j * 1e15:.3g} fJ: {times}; {when}")
    return "\n".join(lines)


def _when(verdict: Verdict) -> str:
    quality = verdict.least_quality
    needed = "at no Q" if math.isinf(quality) else f"from Q = {quality:.3g} on"
    if verdict.pays is None:
        return f"pays at no ramp time with this clock; at this ramp time {needed}"
    fastest, slowest = (f"{seconds * 1e9:.3g} ns" for seconds in verdict.pays)
    return f"pays from {fastest} to {slowest}, and {needed}"


def drawn(found: Ramps, kind: str) -> bytes:
    """The figure as an image of this kind, such as "png"."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _against_ramps(left, found)
        _against_quality(right, found)
        figure.suptitle(f"{found.device}: one multiply-accumulate (simulated)", x=0.01, ha="left", fontsize=11)
        image = io.BytesIO()
        figure.savefig(image, format=kind)
    return image.getvalue()


def _against_ramps(axes: Any, found: Ramps) -> None:
    total = sum(found.parts_j.values())
    axes.loglog(found.ramps_s * 1e9, total * 1e15, color="black", label="total")
    for cause, joules in found.parts_j.items():
        if np.any(joules):
            axes.loglog(found.ramps_s * 1e9, joules * 1e15, linewidth=1, label=CAUSES.get(cause, cause))
    axes.plot(found.best_s * 1e9, found.energy_j * 1e15, "o", color="black")
    _levels(axes, found)
    axes.set(xlabel="ramp time [ns]", ylabel="energy [fJ]", title="against the ramp time")
    axes.legend()


def _against_quality(axes: Any, found: Ramps) -> None:
    axes.loglog(QUALITIES, found.best_by_quality_j * 1e15, color="black", label="at the best ramp time")
    _levels(axes, found)
    axes.set(xlabel="Q of the clock", ylabel="energy [fJ]", title="against the Q of the clock")
    axes.legend()


def _levels(axes: Any, found: Ramps) -> None:
    for (name, verdict), dashes in zip(found.verdicts.items(), ("--", ":"), strict=False):
        axes.axhline(verdict.reference_j * 1e15, linestyle=dashes, color="0.3", label=name)

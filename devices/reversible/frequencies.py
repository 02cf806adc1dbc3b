"""Energy of a multiply-accumulate of parametrons against the frequency of their clock, beside what it has to beat."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hwsim.devices.reversible.device import Reversible
from hwsim.devices.reversible.ramps import STYLE, judged, rivals
from hwsim.devices.reversible.superconducting import Josephson, fastest_paying_hz
from hwsim.errors import DeviceError

DECADES = 3  # of frequencies that are drawn, up to the highest


class Frequencies(NamedTuple):
    """One multiply-accumulate of a device of parametrons, at its frequency, and below which it pays."""

    device: str
    bits: int
    frequency_hz: float
    highest_hz: float
    energy_j: float  # with the cooler
    fixed_j: float  # of it, what does not fall with the frequency
    rivals_j: Mapping[str, float]
    paying_hz: Mapping[str, float]  # by rival; 0 where it pays at no frequency


def frequencies(device: Reversible) -> Frequencies:
    """The energy of a typical multiply-accumulate (256 terms), and the frequencies below which it beats its rivals.

    Raises DeviceError for a device that is not of parametrons.
    """
    machine = device.technology
    if not isinstance(machine, Josephson):
        raise DeviceError(f"{device.spec}: law {device.law} has no frequency to choose; take a preset of law josephson")
    schedule = judged(device)
    bill, found = machine.bill(schedule), rivals(device, schedule)
    fixed_j = float(bill.parts["erasure"] * (1 + machine.cooler_factor))
    paying = {name: float(fastest_paying_hz(schedule, machine, joules)) for name, joules in found.items()}
    return Frequencies(
        device.spec, device.bits, float(machine.frequency_hz), machine.highest_hz, float(bill.energy_j), fixed_j, found,
        paying,
    )  # fmt: skip


def report(found: Frequencies) -> str:
    """What it takes, and against each rival what is gained, and below which frequency it pays."""
    lines = [
        f"{found.device}: a multiply-accumulate of {found.bits} bits takes {found.energy_j * 1e15:.3g} fJ at "
        f"{found.frequency_hz / 1e9:.3g} GHz, with its cooler, without links to room temperature; slower takes less"
    ]
    for name, joules in found.rivals_j.items():
        gain, paying_hz = joules / found.energy_j, found.paying_hz[name]
        times = f"{gain:.3g} times less" if gain >= 1 else f"{1 / gain:.3g} times more"
        if paying_hz >= found.highest_hz:
            when = f"pays at every frequency up to {found.highest_hz / 1e9:.3g} GHz, as far as the law is known"
        else:
            when = f"pays below {paying_hz / 1e9:.3g} GHz" if paying_hz else "pays at no frequency"
        lines.append(f"  {name}, {joules * 1e15:.3g} fJ: {times}; {when}")
    return "\n".join(lines)


def drawn(found: Frequencies, kind: str) -> bytes:
    """The figure as an image of this kind, such as "png"."""
    import matplotlib.style
    from matplotlib.figure import Figure

    hz = np.geomspace(found.highest_hz / 10**DECADES, found.highest_hz, 100)
    energies_j = found.fixed_j + (found.energy_j - found.fixed_j) * hz / found.frequency_hz
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(6, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.loglog(hz / 1e9, energies_j * 1e15, color="black", label="with its cooler")
        axes.plot(found.frequency_hz / 1e9, found.energy_j * 1e15, "o", color="black")
        for (name, joules), dashes in zip(found.rivals_j.items(), ("--", ":"), strict=False):
            axes.axhline(joules * 1e15, linestyle=dashes, color="0.3", label=name)
        axes.set(xlabel="frequency of the clock [GHz]", ylabel="energy [fJ]")
        axes.legend()
        figure.suptitle(f"{found.device}: one multiply-accumulate (simulated)", x=0.01, ha="left", fontsize=11)
        image = io.BytesIO()
        figure.savefig(image, format=kind)
    return image.getvalue()

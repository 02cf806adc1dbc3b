"""Schedules of a step: serial and scheduled time side by side, a Gantt chart, and what is busy for how long."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwsim.errors import ConfigError
from hwsim.report import table
from hwsim.report.figure import STYLE, require_drawable, save
from hwsim.report.units import PREFIXES, engineering, percent, share_of

PHASES = {"forward": "C0", "backward": "C1", "update": "C2"}
SHADES = (1.0, 0.6)  # opacity of micro-batches, by turns; weights move after all of them
ROW_INCHES, PANEL_INCHES = 0.24, 1.1  # height of a machine, and of what stands around a panel
LABEL_LENGTH = 34
WAITS_SHOWN = 8  # pairs of machines a device, in the text; JSON and chart have all
WAITING, HANDED = "0.85", "0.35"  # greys of a machine that waits, and of the line to the one that it waits for

NOTE = (
    "A machine does one operation at a time: a whole device, or each of its tiles where every tile has cores, "
    "converters or light of its own. One step is cut into 1, 2, 4, ... micro-batches, whatever is quickest; weights "
    "move once, after all of them, and the next step begins after that: steps do not overlap. 'whole serial' is the "
    "whole batch, one operation after the other, and 'cut serial' its micro-batches so; 'quicker' is whole serial over "
    "scheduled. From the first energy to the second is what cutting changes, and to the third what the schedule does. "
    "Everything that is powered idles until the end of the step in either case. What there is one of for all tiles, or "
    "what they are told to share, is held from the beginning of an operation to its end, and serial times are those of "
    "the same hardware. What is live at a time, the activations of all micro-batches under way, is not checked against "
    "on-chip memory (SRAM). Micro-batches are costed as operations of their own: what then fits in on-chip memory "
    "saves energy too, and gradients that add up take some. At nominal values. Counts that depend on values are those "
    "of the runs where there are any, in smaller parts by their ratio to the expected ones, and else the expected "
    "ones. So 'whole serial' is the time of a step in the table of the comparison; but where the batch does not divide "
    "the training split, that is the mean over all steps, of which the last of an epoch is smaller, and this a full "
    "step; and what hardware is told to share by --share, the table does not."
)


def text(data: Mapping[str, Any]) -> str:
    """Serial and scheduled time and energy of devices by name, as aligned text with its note.

    What is serial comes twice, of the whole batch and of its micro-batches: what cutting changes is no schedule's.
    """
    columns = ["device", "whole serial", "cut serial", "scheduled", "quicker", "micro-batches"]
    columns += ["whole serial energy", "cut serial energy", "scheduled energy", "idle of it", "busiest"]
    lines = []
    for name, entry in data.items():
        serial_s, makespan_s = entry["whole_serial_s"], entry["makespan_s"]
        if not makespan_s:
            lines.append([name, *["-"] * (len(columns) - 1)])
            continue
        idle = [
            percent(idle_share(entry[key], entry[total]))
            for key, total in (("whole_serial_energy_j", "whole_serial_j"), ("energy_j", "scheduled_j"))
        ]
        busiest = max(entry["utilisation"], key=lambda label: entry["utilisation"][label])
        lines.append(
            [
                name,
                engineering(serial_s, "s"),
                engineering(entry["serial_s"], "s"),
                engineering(makespan_s, "s"),
                f"{serial_s / makespan_s:.2f}x",
                str(entry["micro_batches"]),
                engineering(entry["whole_serial_j"], "J"),
                engineering(entry["cut_serial_j"], "J"),
                engineering(entry["scheduled_j"], "J"),
                " -> ".join(idle),
                f"{busiest} {percent(entry['utilisation'][busiest])}",
            ]
        )
    head = "Serial and scheduled time of one training step, cut into micro-batches (device joules)"
    blocks = [head, table.grid(columns, lines), *sharing(data), table.wrapped(NOTE)]
    return "\n\n".join(blocks)


def sharing(data: Mapping[str, Any]) -> list[str]:
    """What tiles share and how much of it is lent, and who waits for whom, as text; nothing where nothing is shared."""
    lent, waiting = [], []
    for name, entry in data.items():
        for label, units in entry["pools"].items():
            count = "-" if units is None else f"{units:.4g}"
            lent.append([name, last_word(label), count, percent(entry["utilisation"][label])])
        waited = waited_s(entry)
        for (machine, pool, lender), seconds in sorted(waited.items(), key=lambda item: -item[1])[:WAITS_SHOWN]:
            share = percent(seconds / entry["makespan_s"])
            waiting.append([name, *map(last_word, (machine, pool, lender)), engineering(seconds, "s"), share])
    blocks = []
    if lent:
        blocks += ["What tiles share", table.grid(["device", "component", "units", "lent"], lent)]
    if waiting:
        columns = ["device", "waits", "for", "until given back by", "time", "of the step"]
        blocks += [
            f"Who waits for whom (the {WAITS_SHOWN} longest of each device; the sum over all waits of a pair)",
            table.grid(columns, waiting),
        ]
    return blocks


def last_word(label: str) -> str:
    """The tile of a machine, or the component of a pool: what tells it from others of its device."""
    return label.rpartition(" ")[2]


def waited_s(entry: Mapping[str, Any]) -> dict[tuple[str, str, str], float]:
    """How long a machine has waited [s], by its label, the pool's, and that of the machine which gave back."""
    machines, pools = entry["machines"], list(entry["pools"])
    found: dict[tuple[str, str, str], list[float]] = {}
    for machine, pool, begin_s, end_s, lender in entry["waits"]:
        found.setdefault((machines[machine], pools[pool], machines[lender]), []).append(end_s - begin_s)
    return {pair: math.fsum(times) for pair, times in found.items()}


def written(data: Mapping[str, Any], beside: Path) -> str:
    """The text of schedules by name, their chart being drawn next to another figure; says where, if anything is."""
    if not any(entry["makespan_s"] for entry in data.values()):
        return text(data)
    path = chart_path(beside)
    draw(data, path)
    return f"{text(data)}\nChart of the schedules: {path}"


def chart_path(beside: Path) -> Path:
    """Where the chart goes that is drawn next to another figure."""
    return beside.with_stem(f"{beside.stem}-schedule")


def idle_share(energy_j: Mapping[str, float], total_j: float) -> float:
    """The share of joules, by device and part, that is idle power."""
    return share_of(energy_j, [key for key in energy_j if key.endswith("/idle")], total_j)


def draw(data: Mapping[str, Any], path: str | Path) -> None:
    """Write Gantt chart and utilisation of schedules by name to an image file, its kind being the file's ending.

    Each is what `Schedule.as_dict` says. Raises ConfigError for an unknown kind, or where nothing takes time.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    path = require_drawable(path)
    shown = {name: entry for name, entry in data.items() if entry["makespan_s"]}
    if not shown:
        raise ConfigError(f"{path}: nothing to draw, no operation takes time; schedule a device that has a cost")
    with matplotlib.style.context(STYLE):
        heights = [PANEL_INCHES + ROW_INCHES * len(entry["utilisation"]) for entry in shown.values()]
        figure = Figure(figsize=(11.5, 0.6 + sum(heights)), layout="constrained")
        grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(3, 1), height_ratios=heights)
        for (left, right), (name, entry) in zip(grid, shown.items(), strict=True):
            chart(left, name, entry)
            utilisation(right, entry)
        marks: list[Any] = [matplotlib.patches.Patch(color=colour, label=phase) for phase, colour in PHASES.items()]
        if any(entry["pools"] for entry in shown.values()):
            marks.append(matplotlib.patches.Patch(color="C4", label="lent, of what is shared"))
        if any(entry["waits"] for entry in shown.values()):
            marks.append(matplotlib.patches.Patch(color=WAITING, label="waits for what is shared"))
            line = matplotlib.lines.Line2D([], [], color=HANDED, linewidth=0.8, marker="o", markersize=3)
            line.set_label("handed over (to the dot)")
            marks.append(line)
        figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
        figure.suptitle("One training step, scheduled (simulated)", x=0.01, ha="left", fontsize=11)
        save(figure, path)


def chart(axes: Any, name: str, entry: Mapping[str, Any]) -> None:
    """When each machine works, by phase; micro-batches take turns in shade."""
    makespan_s, machines = entry["makespan_s"], entry["machines"]
    factor, unit = time_unit(makespan_s)
    for place in range(len(machines)):
        bars = [bar for bar in entry["bars"] if bar[0] == place]
        spans = [(start_s * factor, (finish_s - start_s) * factor) for *_, start_s, finish_s in bars]
        colours = [colour(phase, part) for _, phase, part, *_ in bars]
        # With an edge of their own, what is shorter than a pixel is still seen.
        axes.broken_barh(spans, (place - 0.4, 0.8), facecolors=colours, edgecolors=colours, linewidth=0.3)
    waits(axes, entry, factor)
    lent(axes, entry, factor)
    units = {label: "" if count is None else f" ({count:.4g})" for label, count in entry["pools"].items()}
    rows = [f"{shortened(last_word(label))}{units.get(label, '')}" for label in (*machines, *units)]
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(entry["utilisation"]) - 0.4, -0.6)  # as beside, where pools stand below
    axes.set_xlim(0, makespan_s * factor)
    axes.set_xlabel(f"time [{unit}]")
    axes.grid(axis="y", visible=False)
    times = [engineering(entry[key], "s") for key in ("makespan_s", "serial_s")]
    axes.set_title(f"{name}: {times[0]} (its operations one after the other: {times[1]})")


def waits(axes: Any, entry: Mapping[str, Any], factor: float) -> None:
    """Machines that wait for what is shared, and a line to each from the machine that it was handed over by."""
    found = entry["waits"]
    for machine, _, begin_s, end_s, _ in found:
        axes.broken_barh([(begin_s * factor, (end_s - begin_s) * factor)], (machine - 0.2, 0.4), color=WAITING)
    times = [wait[3] * factor for wait in found]
    axes.vlines(times, [wait[4] for wait in found], [wait[0] for wait in found], color=HANDED, linewidth=0.6)
    axes.plot(times, [wait[0] for wait in found], "o", color=HANDED, markersize=2)


def lent(axes: Any, entry: Mapping[str, Any], factor: float) -> None:
    """The share of each pool that is lent over time, from the foot of its row (nothing) to its head (all)."""
    for place in range(len(entry["pools"])):
        changes: dict[float, float] = {0.0: 0.0, entry["makespan_s"]: 0.0}
        for pool, _, start_s, finish_s, share in entry["loans"]:
            if pool == place:
                changes[start_s] = changes.get(start_s, 0.0) + share
                changes[finish_s] = changes.get(finish_s, 0.0) - share
        times = sorted(changes)
        foot = len(entry["machines"]) + place + 0.4
        heads = [foot - 0.8 * level for level in itertools.accumulate(changes[time] for time in times)]
        axes.fill_between([time * factor for time in times], heads, foot, step="post", color="C4", linewidth=0)


def colour(phase: str, micro_batch: int) -> tuple[str, float]:
    """Colour and opacity of a bar."""
    return PHASES[phase], 1.0 if phase == "update" else SHADES[micro_batch % len(SHADES)]


def utilisation(axes: Any, entry: Mapping[str, Any]) -> None:
    """The share of the time that each machine works, and each pool is lent."""
    shares = {label: 100 * share for label, share in entry["utilisation"].items()}
    axes.barh(range(len(shares)), list(shares.values()), height=0.7, color="C4")
    for place, share in enumerate(shares.values()):
        axes.text(102, place, percent(share / 100), va="center", fontsize=7.5)
    axes.set_yticks([])
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0, 125)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("busy [%]")
    axes.grid(axis="y", visible=False)
    axes.set_title("utilisation")


def time_unit(time_s: float) -> tuple[float, str]:
    """A factor and a unit that make `time_s` a number from 1 to 1000."""
    exponent = min(max(3 * math.floor(math.log10(time_s) / 3), min(PREFIXES)), 0)
    return 10.0**-exponent, f"{PREFIXES[exponent]}s"


def shortened(label: str) -> str:
    """The end of a label, which tells machines of one device apart."""
    return label if len(label) <= LABEL_LENGTH else f"…{label[1 - LABEL_LENGTH :]}"

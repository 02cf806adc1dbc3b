"""The comparison as a figure: accuracy against energy, and where the energy of a step goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from hwsim.errors import ConfigError
from hwsim.files import refusal, replacing
from hwsim.report import table
from hwsim.report.units import engineering

STYLE = Path(__file__).with_name("hwsim.mplstyle")
PART_COLOURS = {"static": "#bbbbbb", "launch": "#888888", "idle": "#dddddd"}
PART_NAMES = {"static": "static power", "launch": "static power during launch", "idle": "idle power"}
# Lines may lie on each other, such as those of one card at several precisions: each later one is thinner, with its
# own marker and dashes, so that those below show through.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", "-", (0, (5, 2)), (0, (3, 2)), (0, (1, 2)))
WIDTHS = (3.2, 2.6, 2.0, 1.4, 1.0)
MARKS = 20  # at most about so many on a line
LABEL_LENGTH = 24


def draw(data: Mapping[str, Any], path: str | Path) -> None:
    """Write the figure to an image file, its kind being the file's ending. Raises ConfigError for an unknown one."""
    import matplotlib.style
    from matplotlib.figure import Figure

    path = require_drawable(path)
    with matplotlib.style.context(STYLE):
        bars = table.costed(data)
        fig = Figure(figsize=(11.5, max(4.8, 2.2 + 0.42 * max(len(bars), len(data["summary"])))), layout="constrained")
        left, right = fig.subplots(1, 2)
        curves(left, data)
        bills(right, bars)
        fig.suptitle(f"{table.title(data)} (simulated)", x=0.01, ha="left", fontsize=11)
        save(fig, path)


def save(drawn: Any, path: Path) -> None:
    """Write a figure, all or nothing. Raises ConfigError where it cannot be drawn or written."""
    try:
        with replacing(path) as file:
            drawn.savefig(file, format=path.suffix[1:].lower())
    except OSError as error:
        raise ConfigError(refusal(path, error)) from None
    except Exception as error:  # each kind of image has a writer of its own, which may lack what it needs
        raise ConfigError(f"{path} cannot be drawn: {error}") from None


def require_drawable(path: str | Path) -> Path:
    """`path`, if its ending names a kind of image that can be drawn. Raises ConfigError otherwise."""
    from matplotlib.backend_bases import FigureCanvasBase

    path, known = Path(path), FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise ConfigError(f"{path} cannot be drawn: its ending must be one of {', '.join(sorted(known))}")
    return path


def curves(axes: Any, data: Mapping[str, Any]) -> None:
    """Validation accuracy against device joules so far: a line a device (mean of seeds), a band from least to most.

    What costs nothing is a level line at what it ends with, and what diverged is named.
    """
    looks = zip(cycle(MARKERS), cycle(DASHES), cycle(WIDTHS), strict=False)
    costly = False
    for entry in data["summary"]:
        epochs = list(zip(*entry["history"], strict=False))  # by epoch: one [energy, time, accuracy] per seed
        if not epochs:
            axes.plot([], [], " ", label=f"{entry['device']} (diverged)")
            continue
        accuracies = [[100 * seed[2] for seed in seeds] for seeds in epochs]
        means = [math.fsum(each) / len(each) for each in accuracies]
        if not entry["has_cost"]:
            label = f"{entry['device']} (no cost; {means[-1]:.1f}%)"
            axes.axhline(means[-1], color="#000000", lw=1.2, ls=(0, (1, 1)), label=label)
            continue
        costly = True
        marker, dashes, width = next(looks)
        energy = [math.fsum(seed[0] for seed in seeds) / len(seeds) for seeds in epochs]
        (line,) = axes.plot(
            energy, means, marker=marker, ms=2.5 + width, ls=dashes, lw=width, mfc="white", label=entry["device"],
            markevery=max(1, len(energy) // MARKS),
        )  # fmt: skip
        lowest, highest = ([bound(each) for each in accuracies] for bound in (min, max))
        axes.fill_between(energy, lowest, highest, color=line.get_color(), alpha=0.1, lw=0)
    target = 100 * data["target_validation_accuracy"]
    axes.axhline(target, color="#aa0000", lw=0.9, ls="--", label=f"target ({target:.1f}%)")
    if costly:
        axes.set_xscale("log")
    else:
        axes.set_xticks([])
    axes.set_xlabel("device energy so far [J]")
    axes.set_ylabel("validation accuracy [%]")
    axes.set_title("What each reaches, for how many joules")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.14), ncols=2)


def bills(axes: Any, bars: list[tuple[str, Mapping[str, Any]]]) -> None:
    """Shares of a step's joules by role and part, one bar per device, with the total beside it."""
    axes.set_title("Where a step's joules go (total and time beside)")
    if not bars:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no device here has a cost", ha="center", va="center", transform=axes.transAxes)
        return
    roles = list(dict.fromkeys(role for _, entry in bars for role in entry["energy_by_role_j"]))
    roles.sort(key=lambda role: (role in PART_COLOURS, role))
    places = range(len(bars))
    starts = [0.0] * len(bars)
    for role in roles:
        shares = [
            100 * entry["energy_by_role_j"].get(role, 0.0) / entry["energy_per_step_j"]["nominal"] for _, entry in bars
        ]
        if max(shares) < 0.05:
            continue
        axes.barh(
            places, shares, left=starts, height=0.62, label=PART_NAMES.get(role, role), color=PART_COLOURS.get(role)
        )
        starts = [start + share for start, share in zip(starts, shares, strict=True)]
    for place, (_, entry) in enumerate(bars):
        total = engineering(entry["energy_per_step_j"]["nominal"], "J")
        axes.text(101, place, f"{total}\n{engineering(entry['time_per_step_s'], 's')}", va="center", fontsize=7.5)
    axes.set_yticks(places, [broken(name) for name, _ in bars])
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 20))
    axes.invert_yaxis()
    axes.set_xlabel("share of the energy of one training step [%]")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.14), ncols=3)


def broken(name: str) -> str:
    """A long device name on two lines, broken before what it is qualified by, or at the joint nearest its middle."""
    if len(name) <= LABEL_LENGTH:
        return name
    joints = [place for place in range(1, len(name)) if name[place] in ":/"]
    place = name.find(" (")
    if place < 0:
        place = min(joints, key=lambda each: abs(each - len(name) / 2), default=LABEL_LENGTH)
    return f"{name[:place]}\n{name[place:].strip()}"

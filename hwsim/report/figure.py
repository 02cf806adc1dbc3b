"""The comparison as a figure: accuracy against energy, and where the energy of a step goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwsim.errors import ConfigError
from hwsim.report.units import engineering

STYLE = Path(__file__).with_name("hwsim.mplstyle")
PART_COLOURS = {"static": "#bbbbbb", "launch": "#888888", "idle": "#dddddd"}


def draw(data: Mapping[str, Any], path: str | Path) -> None:
    """Write the figure to an image file, its kind being the file's ending. Raises ConfigError for an unknown one."""
    import matplotlib
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(STYLE):
        entries = [entry for entry in data["summary"] if entry["has_cost"]]
        fig = Figure(figsize=(11, 4.6), layout="constrained")
        left, right = fig.subplots(1, 2, gridspec_kw={"width_ratios": [1, 1.15]})
        curves(left, entries, data)
        bills(right, entries)
        settings = data["settings"]
        fig.suptitle(
            f"{data['model']} on {data['data']['name']}: {settings['epochs']} epochs, batch {settings['batch']}, "
            f"{settings['seeds']} seeds (simulated)",
            x=0.01, ha="left", fontsize=9,
        )  # fmt: skip
        try:
            fig.savefig(path)
        except ValueError as error:
            raise ConfigError(f"{path} cannot be drawn: {error}") from None


def curves(axes: Any, entries: list[dict[str, Any]], data: Mapping[str, Any]) -> None:
    """Validation accuracy against device joules so far: a line a device (mean of seeds), a band from least to most."""
    for entry in entries:
        epochs = list(zip(*entry["history"], strict=True))  # by epoch: one [energy, time, accuracy] per seed
        energy = [sum(seed[0] for seed in seeds) / len(seeds) for seeds in epochs]
        accuracies = [[100 * seed[2] for seed in seeds] for seeds in epochs]
        (line,) = axes.plot(energy, [sum(a) / len(a) for a in accuracies], marker="o", ms=3, label=entry["device"])
        axes.fill_between(
            energy, [min(a) for a in accuracies], [max(a) for a in accuracies], color=line.get_color(), alpha=0.15, lw=0
        )
    axes.axhline(100 * data["target_validation_accuracy"], color="#444444", lw=0.8, ls="--")
    axes.annotate(
        "target", (0.01, 100 * data["target_validation_accuracy"]), xycoords=("axes fraction", "data"),
        va="bottom", fontsize=7, color="#444444",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("device energy so far [J]")
    axes.set_ylabel("validation accuracy [%]")
    axes.set_title("What each reaches, for how many joules")
    axes.legend(loc="lower right")


def bills(axes: Any, entries: list[dict[str, Any]]) -> None:
    """Shares of a step's joules by role and part, one bar per device, with the total beside it."""
    roles = list(dict.fromkeys(role for entry in entries for role in entry["energy_by_role_j"]))
    roles.sort(key=lambda role: (role in PART_COLOURS, role))
    names = [entry["device"] for entry in entries]
    starts = [0.0] * len(entries)
    for role in roles:
        shares = [
            100 * entry["energy_by_role_j"].get(role, 0.0) / entry["energy_per_step_j"]["nominal"] for entry in entries
        ]
        if max(shares, default=0.0) < 0.05:
            continue
        label = {"static": "static power", "launch": "static power during launch"}.get(role, role)
        axes.barh(names, shares, left=starts, height=0.62, label=label, color=PART_COLOURS.get(role))
        starts = [start + share for start, share in zip(starts, shares, strict=True)]
    for place, entry in enumerate(entries):
        total = engineering(entry["energy_per_step_j"]["nominal"], "J")
        time = engineering(entry["time_per_step_s"], "s")
        axes.text(101, place, f"{total}\n{time}", va="center", fontsize=7.5)
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 20))
    axes.invert_yaxis()
    axes.set_xlabel("share of the energy of one training step [%]")
    axes.set_title("Where a step's joules go (total and time beside)")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.16), ncols=max(1, math.ceil(len(roles) / 2)))

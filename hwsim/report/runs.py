"""Trained runs as text: a line a seed, one for all, the bill of a step, and accuracy as a deployment ages."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hwsim.cost import STEP_PHASES, Part
from hwsim.report.notes import grouped
from hwsim.report.table import SHOWN_SHARE, Table, grid, short, wrapped
from hwsim.report.units import accuracy, engineering, interval, measure, percent, plural

MOST_ROWS = 8  # of the table of joules; all others are one row
MOST_BOUNDS = 4  # of the line of seconds


def heading(title: str, device: str, classes: int, share: float | None, test_images: int) -> str:
    """What is trained, and what its accuracies are."""
    return f"{title} by {device} (test split: {measure(classes, share, test_images)})"


def run_text(row: Mapping[str, Any]) -> str:
    """One trained seed in a line."""
    parts = [f"seed {row['seed']}: test accuracy {100 * row['test_accuracy']:.1f}%"]
    for key, what in (
        ("exact_arithmetic_accuracy", "exact arithmetic"),
        ("last_layer_only_accuracy", "last layer only"),
    ):
        if key in row:
            parts.append(f"{what} {'diverged' if row[key] is None else f'{100 * row[key]:.1f}%'}")
    cost = "no cost" if not row["energy_per_step_j"]["nominal"] else interval(row["energy_per_step_j"], "J") + " a step"
    time = f", {engineering(row['time_per_step_s'], 's')} a step" if row["time_per_step_s"] else ""
    return ", ".join(parts) + f"; {row['steps']} steps in {plural(row['epochs'], 'epoch')}, {cost}{time}"


def seeds_text(rows: Sequence[Mapping[str, Any]], until: float | None) -> str:
    """All seeds in a line."""
    tests = [100 * row["test_accuracy"] for row in rows]
    text = f"{len(rows)} seeds: test accuracy {statistics.mean(tests):.1f} ± {statistics.stdev(tests):.1f}%"
    if until is None:
        return text
    solved = [row["epochs"] for row in rows if row["validation_accuracy"] >= until]
    text += f"; {len(solved)} of {len(rows)} reached {100 * until:g}%"
    return text + (f", after {statistics.median(solved):g} epochs (median)" if solved else "")


def bill_text(bill: Mapping[str, Any], device: str) -> str:
    """What a step on `device` cost and of what that consists, and what use has left; empty where there is neither."""
    blocks = []
    if bill["energy_per_step_j"]["nominal"]:
        hosts = ", ".join(label for label in bill["excluded"] if label != device)
        helped = f"; host: {hosts}" if hosts else ""
        blocks += [
            f"What a training step of seed {bill['seed']} costs (device joules, mean of all steps{helped})",
            grid(["phase", "component", "energy/step", "share"], list(energy_lines(bill, device))),
            "\n".join(map(wrapped, cost_lines(bill, device))),
        ]
    if bill["wear"]:
        blocks += [f"What use has left on the tiles of seed {bill['seed']}", grid(*wear_table(bill["wear"]))]
    return "\n\n".join(blocks)


def energy_lines(bill: Mapping[str, Any], device: str) -> Iterator[list[str]]:
    """The largest shares of a step's joules, all others, and the total with its 90% interval."""
    total_j = bill["energy_per_step_j"]["nominal"]
    parts = bill["energy_by_part"]

    def line(phase: str, what: str, joules: float) -> list[str]:
        return [phase, what, engineering(joules, "J"), percent(joules / total_j)]

    shown = shown_of([part["energy_j"] for part in parts], MOST_ROWS)
    for part in parts[:shown]:
        why = "" if part["part"] == Part.DYNAMIC else f" ({part['part']})"
        yield line(part["phase"], short(f"{part['device']}.{part['component']}", device) + why, part["energy_j"])
    if rest := parts[shown:]:
        yield line("others", f"{len(rest)} more", math.fsum(part["energy_j"] for part in rest))
    yield ["total", "", interval(bill["energy_per_step_j"], "J"), percent(1.0)]


def cost_lines(bill: Mapping[str, Any], device: str) -> list[str]:
    """Joules by phase, seconds by what bounds them, area, and what is left out, a line each."""
    phases: dict[str, float] = dict.fromkeys(STEP_PHASES, 0.0)
    for part in bill["energy_by_part"]:
        phases[part["phase"]] += part["energy_j"] / bill["energy_per_step_j"]["nominal"]
    left_out = {label: "; ".join(parts) or "it does not say" for label, parts in bill["excluded"].items()}
    return [
        "Joules by phase: " + ", ".join(f"{phase} {percent(share)}" for phase, share in phases.items()),
        f"Time/step: {engineering(bill['time_per_step_s'], 's')}" + waits_text(bill, device),
        "Area: " + ", ".join(f"{label} {area_text(areas)}" for label, areas in bill["area_mm2"].items()),
        *(garbage_text(label, found) for label, found in bill["garbage"].items()),
        *(f"Left out of {labels}: {parts}" for parts, labels in grouped(left_out)),
    ]


def garbage_text(label: str, found: Mapping[str, float]) -> str:
    """What a device that may uncompute instead of erasing held at most, and what a step erases there."""
    erased = f", for {engineering(found['erasure_j'], 'J')}" if found["erasure_j"] else ""
    return (
        f"Garbage of {label}: {found['peak_bits']:,} bits held at most; a step erases {found['erased_bits']:,.0f} bits"
        f"{erased}, in {found['passes']:.3g} passes over a matrix (mean; see: hwsim garbage)"
    )


def waits_text(bill: Mapping[str, Any], device: str) -> str:
    """What the time of a step is spent waiting for, and all others; empty where it takes none."""
    bounds = bill["time_by_bound"]
    shown = shown_of([bound["time_s"] for bound in bounds], MOST_BOUNDS)
    waits = [(short(f"{bound['device']}.{bound['bound_by']}", device), bound["time_s"]) for bound in bounds[:shown]]
    if rest := bounds[shown:]:
        waits.append((f"{len(rest)} others", math.fsum(bound["time_s"] for bound in rest)))
    named = [
        f"{name} {engineering(time_s, 's')} ({percent(time_s / bill['time_per_step_s'])})" for name, time_s in waits
    ]
    return f", spent waiting for {', '.join(named)}" if named else ""


def shown_of(values: Sequence[float], most: int) -> int:
    """How many of the values, largest first, are shown by name: up to `most` large shares, or all but for one."""
    large = sum(value >= SHOWN_SHARE * math.fsum(values) for value in values)
    shown = min(large, most)
    return len(values) if len(values) == shown + 1 else shown


def area_text(areas: Mapping[str, float | None]) -> str:
    """The area of what is installed [mm2], as far as it is known."""
    known = [area for area in areas.values() if area is not None]
    if not known:
        return "unknown"
    if len(known) == len(areas):
        return f"{math.fsum(known):.3g} mm2"
    return f"at least {math.fsum(known):.3g} mm2 (unknown for {len(areas) - len(known)} of {len(areas)} components)"


def wear_table(wear: Mapping[str, Mapping[str, float]]) -> Table:
    """Numbers by layer."""
    columns = list(dict.fromkeys(what for found in wear.values() for what in found))
    lines = [
        [layer, *(f"{found[what]:.4g}" if what in found else "-" for what in columns)] for layer, found in wear.items()
    ]
    return ["layer", *columns], lines


def deployment_text(found: Mapping[str, Any]) -> str:
    """The accuracy at each age, beside its control."""
    programmings = len({row["seed"] for row in found["programmings"]})
    title = (
        f"Weights of seed {found['trained_seed']} programmed on {found['device']}, and their age since (test accuracy "
        f"in percent, mean ± deviation over {plural(programmings, 'programming')}, and of the same weights in exact "
        "arithmetic)"
    )
    lines = [[row["age"], accuracy(row["accuracy"]), f"{100 * row['exact_accuracy']:.1f}"] for row in found["by_age"]]
    return wrapped(title, "") + "\n\n" + grid(["age", "accuracy", "exact"], lines)

"""Trained runs as text: a line a seed, and one for all."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hwsim.report.units import engineering, interval, measure, plural


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

"""Numbers as people read them: engineering prefixes, percentages, ranges."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

CLOSE_ENOUGH = 0.4  # where targets are values: a row is right where every output is nearer than this to its target
PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}


def engineering(value: float, unit: str, digits: int = 3) -> str:
    """A value with a prefix: 1.5e-5, "J" -> "15 uJ"; three significant digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    exponent = min(max(3 * math.floor(math.log10(abs(value)) / 3), -15), 15)
    scaled = float(f"{value / 10.0**exponent:.{digits}g}")
    if abs(scaled) >= 1000 and exponent < 15:
        scaled, exponent = scaled / 1000, exponent + 3
    return f"{scaled:.{digits}g} {PREFIXES[exponent]}{unit}"


def interval(values: Mapping[str, float], unit: str) -> str:
    """Nominal with its 90% interval: "15 uJ (12-20)", all in the nominal's prefix."""
    text = engineering(values["nominal"], unit)
    if values["low"] == values["high"]:
        return text
    factor = float(text.split()[0]) / values["nominal"] if values["nominal"] else 1.0
    low, high = (three_digits(values[bound] * factor) for bound in ("low", "high"))
    if low == high == text.split()[0]:  # a range too narrow to see
        return text
    return f"{text} ({low}-{high})"


def three_digits(value: float) -> str:
    """Three significant digits, and all digits of whole numbers above."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def percent(share: float) -> str:
    """A share of one as a percentage; one digit below ten, and no zero for what is not."""
    if math.isnan(share):
        return "-"
    value = 100 * share
    if 0 < value < 0.05:
        return "<0.1%"
    return "0%" if value == 0 else f"{value:.1f}%" if value < 9.95 else f"{value:.0f}%"


def accuracy(entry: Mapping[str, float | None]) -> str:
    """Mean and standard deviation in percent: "95.9 ± 0.4"; "diverged" where there is no mean."""
    mean, deviation = entry["mean"], entry["deviation"]
    if mean is None:
        return "diverged"
    return f"{100 * mean:.1f}" if deviation is None else f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def plural(count: int, what: str) -> str:
    """A count and its noun."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def measure(classes: int, share: float | None, samples: int) -> str:
    """What an accuracy is: a share of rows that are right, beside what always answering one class would reach."""
    if not classes:
        return f"share of rows within {CLOSE_ENOUGH:g} of the target, in percent, {plural(samples, 'sample')}"
    often = "" if share is None else f", most frequent class {100 * share:.1f}%"
    return f"accuracy in percent, {plural(samples, 'sample')}{often}"


def share_of(parts: Mapping[str, float], names: Any, total: float) -> float:
    """What the named parts make of the total; 0 where there is none."""
    return math.fsum(parts.get(name, 0.0) for name in names) / total if total else 0.0


def title_of(model: str) -> str:
    """A model's text as a title: its name and its sizes: "Mlp(widths=(64, 32, 10), bias=True)" -> "Mlp 64-32-10"."""
    name, _, rest = model.strip("<>").partition("(")
    sizes = re.search(r"[(\[](\d+(?:, \d+)+)[)\]]", "(" + rest)
    words = name.strip().removeprefix("function ")
    return f"{words} {sizes[1].replace(', ', '-')}" if sizes else words[:60]

"""What stands under every comparison: warnings, number formats, the boundary, what is left out, and the rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwsim.report.units import percent

CERTAINTIES = {
    "measured": "by a run on hardware",
    "read": "in the source that is named, or in a file that quotes it",
    "derived": "arithmetic on other values, or the output of a tool",
    "recalled": "well-known literature that was not opened",
    "assumed": "a guess",
}
CERTAINTY_NOTE = "How values are known: " + "; ".join(f"{name}: {words}" for name, words in CERTAINTIES.items()) + "."
RULES = (
    "'exact' is the same training in exact arithmetic, 'last layer' the same with only the last layer trained, at the "
    "best rate for that.",
    "'host share' is the share of a step's joules at the wall plug that the boundary's host processor takes, the "
    "computer that feeds every row alike; 'of it by helper device' is the share of device joules of the device "
    "that does what this one cannot.",
    "The columns measured to assumed say how much of the joules rests on values that are known so (the weaker of "
    "power and time).",
    CERTAINTY_NOTE,
    "'x best' is by paired draws of all component values: a ratio within 5% of 1, or whose 90% interval spans it, "
    "is not separated; a rank is a range where rows cannot be told apart.",
    "'at 7 nm' scales only digital dynamic energy, with the band of the scaling laws alone.",
    "'bound by' is what the time is spent waiting for most, with its share of the time.",
    "'launch' is static power while a serial part (kernel launch, pipeline fill, settling) holds everything up; "
    "'static' is the rest of it, 'idle' that of a device while another works.",
    "Everything is simulated; nothing here was measured on hardware.",
)


def notes(data: Mapping[str, Any]) -> list[str]:
    """One line each."""
    summary = data["summary"]
    costed = [entry for entry in summary if entry["has_cost"]]
    lines = warnings(data)
    lines.append(
        "Wall plug = PUE / supply efficiency x (device + host power x time + input data), the same for every row: "
        + ", ".join(
            f"{name} {value['low']:g}-{value['nominal']:g}-{value['high']:g} ({value['certainty']})"
            for name, value in data["boundary"].items()
        )
        + "."
    )
    lines += [
        f"Host of {entry['device']}: {entry['host']}, the helper device that does what it cannot; its components are "
        "listed as host.NAME."
        for entry in costed
        if entry["host_energy_j"]
    ]
    lines += [f"Number formats of {names}: {policy}." for policy, names in grouped(data["policies"])]
    left_out = {entry["device"]: "; ".join(data["excluded"][entry["device"]]) or "it does not say" for entry in costed}
    lines += [f"Left out of {names}: {parts}." for parts, names in grouped(left_out)]
    if data["filled"]:
        lines.append(
            f"Only {data['filled'][0]['device']}, the first GPU of the list, has a row at the batch that fills it: "
            "it shows what launches cost a GPU on so small a task, for which one card is enough; it is not ranked."
        )
    unknown = [entry["device"] for entry in costed if entry["area_mm2"] is None]
    if unknown:
        lines.append(f"Area unknown, so no ranking per mm2: {', '.join(unknown)}.")
    setup = [(entry["device"], entry["programming_amortised_share"]) for entry in costed]
    lines += listed("First programming is charged; its share of the device joules of the whole run", setup)
    rates = [f"{entry['device']} {chosen(entry['learning_rate'])}" for entry in summary]
    lines.append(
        "Same network, initial values, split, mini-batches and rule; the learning rate is chosen per device on the "
        f"validation split among {', '.join(f'{rate:g}' for rate in data['settings']['learning_rates'])} (first seed): "
        f"{', '.join(rates)}."
    )
    return [*lines, *RULES]


def grouped(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """Equal texts once, each with the names that it is for, joined."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    return [(text, ", ".join(each)) for text, each in names.items()]


def listed(what: str, shares: list[tuple[str, float | None]]) -> list[str]:
    """A line of shares by device, where there is any."""
    known = [f"{name} {percent(share)}" for name, share in shares if share is not None]
    return [f"{what}: {', '.join(known)}."] if known else []


def chosen(rate: float | None) -> str:
    """A learning rate, where one did not diverge."""
    return "none" if rate is None else f"{rate:g}"


def warnings(data: Mapping[str, Any]) -> list[str]:
    """Where a result proves less than it seems to."""
    lines, summary, settings = [], data["summary"], data["settings"]
    easy = [entry["device"] for entry in summary if entry["last_layer_only_seeds_reaching_target"]]
    if easy:
        lines.append(
            f"WARNING: with only the last layer trained, {', '.join(easy)} also reach the target: it does not show "
            "that anything was learned in depth. A harder task or a higher --target separates better."
        )
    if data["layers"] == 1:
        lines.append("WARNING: the network has one layer, so there is no control with only the last layer trained.")
    for entry in summary:
        if entry["seeds_diverged"] == settings["seeds"]:
            lines.append(
                f"WARNING: {entry['device']} diverged at every learning rate tried; it has no accuracy, and its step "
                "is costed from shapes. Lower --learning-rates may help."
            )
            continue
        rates = [rate for rate, value in entry["trials"].items() if value is None]
        if rates:
            lines.append(f"WARNING: {entry['device']} diverged at learning rate {', '.join(rates)}.")
        if entry["seeds_diverged"]:
            lines.append(
                f"WARNING: {entry['device']} diverged for {entry['seeds_diverged']} of {settings['seeds']} seeds; its "
                "accuracy is the mean of the others."
            )
    if len(settings["learning_rates"]) > 1:
        edges = [min(settings["learning_rates"]), max(settings["learning_rates"])]
        at_edge = [entry["device"] for entry in summary if entry["learning_rate"] in edges]
        if at_edge:
            lines.append(
                f"Note: {', '.join(at_edge)} did best at the lowest or highest learning rate tried; --learning-rates "
                "beyond it may serve them better."
            )
    if settings["seeds"] == 1:
        lines.append("WARNING: one seed has no spread; differences between accuracies are not separated.")
    return lines

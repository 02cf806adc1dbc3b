"""The comparison as text: what each substrate reaches, what a step costs, and under which rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hwsim.report.units import accuracy, engineering, interval, percent, share_of

STEP_PARTS = ("forward", "backward", "update")
CERTAINTIES = ("measured", "read", "derived", "recalled", "assumed")


def text(data: Mapping[str, Any]) -> str:
    """The whole comparison as plain text."""
    blocks = [
        heading(data),
        grid(*reached(data)),
        "What one training step costs (device joules, mean of all steps, with 90% intervals)",
        grid(*steps(data)),
        "Where the joules of a step go",
        grid(*shares(data)),
        *([filled(data)] if data["filled"] else []),
        notes(data),
    ]
    return "\n\n".join(blocks) + "\n"


def heading(data: Mapping[str, Any]) -> str:
    """Model, data and settings, and what the first table shows."""
    settings, images = data["settings"], data["data"]["test_images"]
    return (
        f"{data['model']} on {data['data']['name']}, {settings['epochs']} epochs, batch {settings['batch']}, "
        f"{settings['optimizer']}, {settings['seeds']} seed{'s' if settings['seeds'] > 1 else ''}\n\n"
        f"What each reaches (test accuracy in percent on {images} images, mean ± deviation over seeds),\n"
        f"and the energy at the wall plug until {100 * data['target_validation_accuracy']:.1f}% validation accuracy"
    )


def reached(data: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and lines of the first table."""
    columns = ["device", "accuracy", "exact", "last layer", "wall plug to target", "device to target", "rank", "x best"]
    lines = []
    for entry in data["summary"]:
        lines.append(
            [
                entry["device"],
                accuracy(entry["test_accuracy"]),
                accuracy(entry["exact_arithmetic_accuracy"]),
                accuracy(entry["last_layer_only_accuracy"]),
                *(target_text(entry, key, data) for key in ("energy_to_target_j", "device_energy_to_target_j")),
                "-" if entry["rank"] is None else str(entry["rank"]),
                ratio_text(entry["ratio_to_best"]),
            ]
        )
    return columns, lines


def target_text(entry: Mapping[str, Any], key: str, data: Mapping[str, Any]) -> str:
    """Joules to the target, or why there are none."""
    if entry["seeds_reaching_target"] < data["settings"]["seeds"]:
        return f"not reached ({entry['seeds_reaching_target']} of {data['settings']['seeds']} seeds)"
    return interval(entry[key], "J") if entry["has_cost"] else "has no cost"


def ratio_text(ratio: Mapping[str, Any] | None) -> str:
    """The ratio to the best row, where the two can be told apart."""
    if ratio is None:
        return "-"
    return f"{ratio['nominal']:.3g}" if ratio["separated"] or ratio["nominal"] == 1 else "not separated"


def steps(data: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and lines of the second table."""
    columns = ["device", "energy/step", "at 7 nm", "time/step", "wall plug/step", "bound by", "fwd/bwd/upd", "area"]
    lines = []
    for entry in costed(data):
        total = entry["energy_per_step_j"]["nominal"]
        phases = [share_of(entry["energy_by_phase_j"], [phase], total) for phase in STEP_PARTS]
        lines.append(
            [
                entry["device"],
                interval(entry["energy_per_step_j"], "J"),
                interval(entry["energy_per_step_at_common_node_j"], "J"),
                engineering(entry["time_per_step_s"], "s"),
                engineering(entry["wall_plug_per_step_j"], "J"),
                f"{entry['bound_by']} {percent(bound_share(entry))}",
                "/".join(f"{100 * phase:.0f}" for phase in phases),
                "unknown" if entry["area_mm2"] is None else f"{entry['area_mm2']:.3g} mm2",
            ]
        )
    return columns, lines


def shares(data: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and lines of the third table; only roles that somebody uses have a column."""
    entries = costed(data)
    roles = sorted({role for entry in entries for role, joules in entry["energy_by_role_j"].items() if joules > 0})
    roles.sort(key=lambda role: (role in ("static", "launch", "idle"), role))
    lines = []
    for entry in entries:
        total = entry["energy_per_step_j"]["nominal"]
        lines.append(
            [
                entry["device"],
                *(percent(share_of(entry["energy_by_role_j"], [role], total)) for role in roles),
                percent(entry["host_energy_j"] / total),
                *(percent(share_of(entry["evidence_j"], [name], total)) for name in CERTAINTIES),
                engineering(entry["macs_per_j"], "MAC/J"),
            ]
        )
    return ["device", *roles, "of it by host", *CERTAINTIES, "useful work"], lines


def costed(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of devices that have a cost."""
    return [entry for entry in data["summary"] if entry["has_cost"]]


def bound_share(entry: Mapping[str, Any]) -> float:
    """The share of the time that is spent waiting for what bounds it most."""
    times = entry["time_by_bound_s"]
    total = math.fsum(times.values())
    return times[entry["bound_by"]] / total if total else math.nan


def filled(data: Mapping[str, Any]) -> str:
    """One card at the batch that fills it."""
    lines = []
    for entry in data["filled"]:
        toy = next(each for each in data["summary"] if each["device"] == entry["device"])
        toy_sample = toy["energy_per_step_j"]["nominal"] / data["settings"]["batch"]
        launch = share_of(toy["energy_by_part_j"], ["launch"], toy["energy_per_step_j"]["nominal"])
        lines.append(
            f"{entry['device']} at this size: {percent(launch)} of its joules are static power while kernels launch. "
            f"Filled (batch {entry['batch']:,}, launches {percent(entry['launch_share_of_time'])} of the time; costed "
            f"from shapes, not trained): {engineering(entry['energy_per_step_j']['nominal'], 'J')} and "
            f"{engineering(entry['time_per_step_s'], 's')} a step, bound by {entry['bound_by']}; "
            f"{engineering(entry['energy_per_sample_j'], 'J')} a sample against {engineering(toy_sample, 'J')} "
            f"at batch {data['settings']['batch']}."
        )
    return "\n".join(lines)


def notes(data: Mapping[str, Any]) -> str:
    """Warnings, number formats, boundary, what is left out, and the rules."""
    lines = warnings(data)
    boundary = data["boundary"]
    lines.append(
        "Wall plug = PUE / supply efficiency x (device + host power x time + input data): "
        + ", ".join(
            f"{name} {value['low']:g}-{value['nominal']:g}-{value['high']:g} ({value['certainty']})"
            for name, value in boundary.items()
        )
        + "; the same for every row."
    )
    lines += [f"Number formats of {name}: {policy}." for name, policy in data["policies"].items()]
    lines += [f"Left out of {name}: {'; '.join(parts)}." for name, parts in data["excluded"].items() if parts]
    unknown = [entry["device"] for entry in data["summary"] if entry["area_mm2"] is None and entry["has_cost"]]
    if unknown:
        lines.append(f"Area unknown, so no ranking per mm2: {', '.join(unknown)}.")
    rates = [f"{entry['device']} {entry['learning_rate']:g}" for entry in data["summary"]]
    lines.append(f"Learning rates chosen: {', '.join(rates)}.")
    setup = [
        f"{entry['device']} {percent(entry['programming_amortised_share'])}"
        for entry in data["summary"]
        if entry["has_cost"]
    ]
    lines.append(f"First programming is charged; its share of the device joules of the whole run: {', '.join(setup)}.")
    lines.append(
        "Same network, initial values, split, mini-batches and rule; the learning rate is chosen per device on the "
        f"validation split among {', '.join(f'{rate:g}' for rate in data['settings']['learning_rates'])} (first seed). "
        "'exact' is the same training in exact arithmetic, 'last layer' the same with only the last layer trained. "
        "The columns measured to assumed say how much of the joules rests on values that are known so (the weaker of "
        "power and time). 'x best' is by paired draws: where the 90% interval spans 1, rows are not separated; a rank "
        "counts the rows that are better with their whole interval. 'at 7 nm' scales only digital dynamic energy, with "
        "the band of the scaling laws. 'launch' is static power while a serial part (kernel launch, pipeline fill, "
        "settling) holds everything up. Everything is simulated; nothing here was measured on hardware."
    )
    return "\n".join(lines)


def warnings(data: Mapping[str, Any]) -> list[str]:
    """Where a result proves less than it seems to."""
    lines = []
    easy = [entry["device"] for entry in data["summary"] if entry["last_layer_only_reaches_target"]]
    if easy:
        lines.append(
            f"WARNING: with only the last layer trained, {', '.join(easy)} also reach the target: it does not show "
            "that anything was learned in depth. A harder task or a higher --target separates better."
        )
    diverged = {
        entry["device"]: [rate for rate, value in entry["trials"].items() if math.isnan(value)]
        for entry in data["summary"]
    }
    lines += [f"WARNING: {name} diverged at learning rate {', '.join(r)}." for name, r in diverged.items() if r]
    if data["settings"]["seeds"] == 1:
        lines.append("WARNING: one seed has no spread; differences between accuracies are not separated.")
    return lines


def grid(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Aligned columns with a rule under their names."""
    widths = [max(len(line[i]) for line in [columns, *lines]) for i in range(len(columns))]
    rows = [columns, ["-" * width for width in widths], *lines]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )

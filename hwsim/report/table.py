"""The comparison as text: what each substrate reaches, what a step costs, and why."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from hwsim.report.notes import CERTAINTIES, notes
from hwsim.report.units import accuracy, engineering, interval, measure, percent, plural, share_of, title_of

STEP_PARTS = ("forward", "backward", "update")
WIDTH = 110  # of running text
SHOWN_SHARE = 0.01  # components below are left out of the text; the JSON has all

Table = tuple[list[str], list[list[str]]]  # columns, lines


def text(data: Mapping[str, Any]) -> str:
    """The whole comparison as plain text."""
    blocks = [title(data), wrapped(what_is_shown(data), ""), grid(*reached(data))]
    if costed(data):
        blocks += [
            "What one training step costs (device joules, mean of all steps, with 90% intervals)",
            grid(*steps(data)),
            "Where the joules of a step go, and on what they rest",
            grid(*shares(data)),
            "By component, from 1% of a step's joules",
            "\n".join(f"{name}: {parts}" for name, parts in components(data)),
            "Throughput, at equal batch but for a filled card",
            grid(*throughput(data)),
        ]
    blocks += [wrapped(line, "") for line in filled(data)]
    return "\n\n".join([*blocks, "\n".join(wrapped(line) for line in notes(data))]) + "\n"


def wrapped(line: str, indent: str = "  ") -> str:
    """Running text in lines that fit, the first of which stands out."""
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def title(data: Mapping[str, Any]) -> str:
    """Model, data and settings in a line."""
    settings = data["settings"]
    return (
        f"{title_of(data['model'])} on {data['data']['name']}: {plural(settings['epochs'], 'epoch')}, "
        f"batch {settings['batch']}, {settings['optimizer']}, {plural(settings['seeds'], 'seed')}"
    )


def what_is_shown(data: Mapping[str, Any]) -> str:
    """What the first table shows."""
    given, exact, source = data["settings"]["target"] is not None, data["exact_validation_accuracy"], data["data"]
    origin = (
        "as given by --target"
        if given
        else f"2 points below what exact arithmetic reaches on the validation split, {100 * exact:.1f}%"
    )
    what = measure(source["classes"], source["most_frequent_class_share"], source["test_images"])
    return (
        f"What each reaches on the test split ({what}; mean ± deviation over seeds), "
        f"and the energy at the wall plug until the target of {100 * data['target_validation_accuracy']:.1f}% on the "
        f"validation split ({origin}). Rank and 'x best' are by the wall-plug column."
    )


def reached(data: Mapping[str, Any]) -> Table:
    """Accuracy with its controls, and joules to the target."""
    columns = ["device", "accuracy", "exact", "last layer", "wall plug to target", "host share", "device to target"]
    lines = []
    for entry in data["summary"]:
        control = entry["last_layer_only_accuracy"]
        lines.append(
            [
                entry["device"],
                accuracy(entry["test_accuracy"]),
                accuracy(entry["exact_arithmetic_accuracy"]),
                "-" if control is None else accuracy(control),
                target_text(entry, "energy_to_target_j", data),
                "-" if entry["wall_plug_host_share"] is None else percent(entry["wall_plug_host_share"]),
                target_text(entry, "device_energy_to_target_j", data),
                rank_text(entry["rank"]),
                ratio_text(entry["ratio_to_best"]),
            ]
        )
    return [*columns, "rank", "x best"], lines


def target_text(entry: Mapping[str, Any], key: str, data: Mapping[str, Any]) -> str:
    """Joules to the target, or why there are none."""
    seeds = data["settings"]["seeds"]
    if entry["seeds_diverged"] == seeds:
        return "diverged"
    if entry["seeds_reaching_target"] < seeds:
        return f"not reached ({entry['seeds_reaching_target']} of {plural(seeds, 'seed')})"
    return interval(entry[key], "J") if entry["has_cost"] else "has no cost"


def rank_text(rank: Mapping[str, int] | None) -> str:
    """A rank, or the range of those that cannot be told apart."""
    if rank is None:
        return "-"
    return str(rank["first"]) if rank["first"] == rank["last"] else f"{rank['first']}-{rank['last']}"


def ratio_text(ratio: Mapping[str, Any] | None) -> str:
    """The ratio to the best row, where the two can be told apart."""
    if ratio is None:
        return "-"
    if ratio["best"]:
        return "1"
    return f"{ratio['nominal']:.3g}" if ratio["separated"] else "not separated"


def steps(data: Mapping[str, Any]) -> Table:
    """Joules and seconds of a step."""
    columns = ["device", "energy/step", "at 7 nm", "time/step", "wall plug/step", "bound by", "fwd/bwd/upd", "area"]
    lines = []
    for name, entry in costed(data):
        total = entry["energy_per_step_j"]["nominal"]
        phases = [share_of(entry["energy_by_phase_j"], [phase], total) for phase in STEP_PARTS]
        lines.append(
            [
                name,
                interval(entry["energy_per_step_j"], "J"),
                interval(entry["energy_per_step_at_common_node_j"], "J"),
                engineering(entry["time_per_step_s"], "s"),
                engineering(entry["wall_plug_per_step_j"], "J"),
                f"{entry['bound_by']} {percent(bound_share(entry))}" if entry["bound_by"] else "-",
                "/".join(f"{100 * phase:.0f}" for phase in phases),
                "unknown" if entry["area_mm2"] is None else f"{entry['area_mm2']:.3g} mm2",
            ]
        )
    return columns, lines


def shares(data: Mapping[str, Any]) -> Table:
    """Shares of a step's joules by role and by certainty; only roles that somebody uses have a column."""
    entries = costed(data)
    roles = sorted({role for _, entry in entries for role, joules in entry["energy_by_role_j"].items() if joules > 0})
    roles.sort(key=lambda role: (role in ("static", "launch", "idle"), role))
    lines = []
    for name, entry in entries:
        total = entry["energy_per_step_j"]["nominal"]
        lines.append(
            [
                name,
                *(percent(share_of(entry["energy_by_role_j"], [role], total)) for role in roles),
                percent(entry["host_energy_j"] / total),
                *(percent(entry["evidence_shares"].get(certainty, 0.0)) for certainty in CERTAINTIES),
            ]
        )
    return ["device", *roles, "of it by helper device", *CERTAINTIES], lines


def components(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """By device: its larger components with their shares of a step's joules, largest first."""
    found, kinds = [], {entry["device"]: entry["kind"] for entry in data["summary"]}
    for name, entry in costed(data):
        total = entry["energy_per_step_j"]["nominal"]
        parts = sorted(entry["energy_by_component_j"].items(), key=lambda item: -item[1])
        shown = [
            f"{short(part, kinds[entry['device']])} {percent(j / total)}"
            for part, j in parts
            if j >= SHOWN_SHARE * total
        ]
        found.append((name, ", ".join(shown)))
    return found


def short(part: str, own: str) -> str:
    """A component without its device, or as the host's: "spin.array" of a spin -> "array", others "host.array"."""
    device, _, name = part.rpartition(".")
    return name if device == own else f"host.{name}"


def throughput(data: Mapping[str, Any]) -> Table:
    """Samples per second and per joule, useful multiply-accumulates per joule, and energy times delay of a step."""
    columns = ["device", "batch", "samples/s", "samples/J", "useful work", "energy x delay"]
    lines = []
    for name, entry in costed(data):
        quick = entry["samples_per_s"]
        lines.append(
            [
                name,
                f"{entry.get('batch', data['settings']['batch']):,}",
                "-" if quick is None else engineering(quick, "/s"),
                engineering(entry["samples_per_j"], "/J"),
                engineering(entry["macs_per_j"], "MAC/J"),
                engineering(entry["energy_delay_js"], "J s"),
            ]
        )
    return columns, lines


def costed(data: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and entries of devices that have a cost, the filled card last."""
    entries = [(entry["device"], entry) for entry in data["summary"] if entry["has_cost"]]
    return entries + [(f"{entry['device']} (batch {entry['batch']:,})", entry) for entry in data["filled"]]


def bound_share(entry: Mapping[str, Any]) -> float:
    """The share of the time that is spent waiting for what bounds it most."""
    times = entry["time_by_bound_s"]
    total = math.fsum(times.values())
    return float(times[entry["bound_by"]] / total) if total else math.nan


def filled(data: Mapping[str, Any]) -> list[str]:
    """One card at the batch that fills it, against the same card at this size."""
    lines = []
    for entry in data["filled"]:
        toy = next(each for each in data["summary"] if each["device"] == entry["device"])
        batch, toy_joules = data["settings"]["batch"], toy["energy_per_step_j"]["nominal"]
        launch = share_of(toy["energy_by_part_j"], ["launch"], toy_joules)
        rate = toy["samples_per_s"] / entry["samples_per_s"]
        lines.append(
            f"{entry['device']} at batch {batch}: {percent(launch)} of its joules are static power while kernels "
            f"launch, and it does {percent(rate)} of the work per second that it does at batch {entry['batch']:,}, "
            f"which {'fills' if entry['filled'] else 'does not even fill'} it (launches "
            f"{percent(entry['launch_share_of_time'])} of the time; costed from shapes, not trained): "
            f"{engineering(entry['energy_per_sample_j'], 'J')} a sample there, "
            f"{engineering(toy_joules / batch, 'J')} here."
        )
    return lines


def grid(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Aligned columns with a rule under their names."""
    widths = [max(len(line[i]) for line in [columns, *lines]) for i in range(len(columns))]
    rows = [columns, ["-" * width for width in widths], *lines]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )

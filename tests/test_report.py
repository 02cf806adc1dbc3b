"""Reports: numbers as people read them, tables, notes, figures and the one-file page."""

import base64
import copy
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import hwsim
from hwsim import data, models
from hwsim.bill import RESOLUTION
from hwsim.errors import ConfigError
from hwsim.report import figure, html, notes, runs, table, units
from hwsim.report.comparison import Comparison


@pytest.fixture(scope="module")
def found() -> Comparison:
    """A small comparison of devices with and without a cost."""
    devices = ["ideal", "digital:int8", "gpu:h100", "gpu:h100:precision=bf16"]
    return hwsim.compare(
        models.mlp([64, 8, 10]), data.load("digits"), devices, epochs=2, seeds=2, learning_rates=(0.3, 0.5), target=0.5
    )


def changed(found: Comparison, place: int, **values: Any) -> dict[str, Any]:
    """The same comparison with one entry changed."""
    result = copy.deepcopy(found.data)
    result["summary"][place].update(values)
    return result


# -- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "J", "0 J"),
        (1.0, "J", "1 J"),
        (1.5e-5, "J", "15 uJ"),
        (2.3456e-9, "s", "2.35 ns"),
        (999.4, "J", "999 J"),
        (999.6, "J", "1 kJ"),  # three digits round up to the next prefix
        (1e-18, "J", "0.001 fJ"),
        (4.2e17, "J", "420 PJ"),
        (-3e-3, "J", "-3 mJ"),
        (math.inf, "J", "inf J"),
    ],
)
def test_engineering(value: float, unit: str, text: str) -> None:
    assert units.engineering(value, unit) == text


@pytest.mark.parametrize(
    ("low", "nominal", "high", "text"),
    [
        (12e-6, 15e-6, 20e-6, "15 uJ (12-20)"),
        (0.9e-3, 1e-3, 12.345e-3, "1 mJ (0.9-12.3)"),
        (1e-6, 1e-6, 1e-6, "1 uJ"),
        (0.9999e-6, 1e-6, 1.0001e-6, "1 uJ"),  # narrower than three digits show
        (1e-3, 1.0, 12345.0, "1 J (0.001-12345)"),
        (0.0, 0.0, 0.0, "0 J"),
    ],
)
def test_intervals_share_the_prefix_of_the_nominal(low: float, nominal: float, high: float, text: str) -> None:
    assert units.interval({"low": low, "nominal": nominal, "high": high}, "J") == text


def test_percentages_show_no_zero_for_what_is_not() -> None:
    shown = [units.percent(share) for share in (0.0, 1e-6, 0.0005, 0.05, 0.0994, 0.0996, 0.5, 1.0, math.nan)]
    assert shown == ["0%", "<0.1%", "0.1%", "5.0%", "9.9%", "10%", "50%", "100%", "-"]


def test_accuracy_with_and_without_a_spread() -> None:
    assert units.accuracy({"mean": 0.9587, "deviation": 0.0041}) == "95.9 ± 0.4"
    assert units.accuracy({"mean": 0.9587, "deviation": None}) == "95.9"
    assert units.accuracy({"mean": None, "deviation": None}) == "diverged"


@pytest.mark.parametrize(
    ("model", "title"),
    [
        (repr(models.mlp([64, 32, 10])), "Mlp 64-32-10"),
        (repr(models.xor()), "Mlp 2-2-1"),
        ("<function two_layers>", "two_layers"),
        ("Lenet()", "Lenet"),
        ("<my.module.Net object>", "my.module.Net object"),
    ],
)
def test_titles(model: str, title: str) -> None:
    assert units.title_of(model) == title


# -- tables ------------------------------------------------------------------------------------------------


def test_every_device_is_in_every_table_it_belongs_to(found: Comparison) -> None:
    costly = ["digital:int8", "gpu:h100", "gpu:h100:precision=bf16"]
    batch = found.data["filled"][0]["batch"]
    with_card = [*costly, f"gpu:h100 (batch {batch:,})"]
    assert [line[0] for line in table.reached(found.data)[1]] == ["ideal", *costly]
    for part in (table.steps, table.shares, table.throughput):
        columns, lines = part(found.data)
        assert [line[0] for line in lines] == with_card
        assert {len(line) for line in lines} == {len(columns)}
    assert [name for name, _ in table.components(found.data)] == with_card


def test_shares_of_components_are_shown_from_one_percent(found: Comparison) -> None:
    for (_, entry), (_, text) in zip(table.costed(found.data), table.components(found.data), strict=True):
        total = entry["energy_per_step_j"]["nominal"]
        large = {name: j / total for name, j in entry["energy_by_component_j"].items() if j / total >= 0.01}
        assert text.count("%") == len(large) > 0
        for name, share in large.items():
            assert f"{name.partition('.')[2]} {units.percent(share)}" in text


def test_the_phases_of_a_step_add_up(found: Comparison) -> None:
    columns, lines = table.steps(found.data)
    for line in lines:
        assert 99 <= sum(int(part) for part in line[columns.index("fwd/bwd/upd")].split("/")) <= 101


def test_the_text_says_what_the_rules_ask_for(found: Comparison) -> None:
    text = str(found)
    words_of_it = " ".join(text.split())  # wherever lines are broken
    for words in (
        "Mlp 64-8-10 on digits: 2 epochs, batch 32, sgd, 2 seeds",
        "accuracy in percent, 360 samples, most frequent class 11.9%",
        "until the target of 50.0% on the validation split (as given by --target)",
        "Rank and 'x best' are by the wall-plug column.",
        "has no cost",
        "bound by",
        "of it by helper device measured read derived recalled assumed",
        "How values are known: measured: ",
        "J s",
        "Wall plug = PUE / supply efficiency",
        "host_power_w 25-65-150 (read)",
        "host share",
        "Number formats of ideal, gpu:h100: fp32",
        "Number formats of gpu:h100:precision=bf16: bf16",
        "Left out of gpu:h100, gpu:h100:precision=bf16: ",
        "Only gpu:h100, the first GPU of the list, has a row at the batch that fills it: ",
        "Left out of digital:int8: ",
        "Area unknown, so no ranking per mm2: digital:int8.",
        "First programming is charged",
        "chosen per device on the validation split among 0.3, 0.5",
        "at batch 32: ",
        "which fills it",
        "Everything is simulated",
    ):
        assert words in words_of_it, words
    assert max(map(len, text.split("\n\n")[-1].splitlines())) <= table.WIDTH
    assert "nan" not in text.lower()
    assert all(line == line.rstrip() for line in text.splitlines())


def test_what_cannot_be_told_apart_is_not_ranked(found: Comparison) -> None:
    ratio = {"low": 0.9, "nominal": 1.4, "high": 2.0, "separated": False, "best": False}
    line = table.reached(changed(found, 1, ratio_to_best=ratio, rank={"first": 1, "last": 3}))[1][1]
    assert line[-2:] == ["1-3", "not separated"]
    line = table.reached(changed(found, 1, ratio_to_best={**ratio, "separated": True}, rank={"first": 2, "last": 2}))[
        1
    ][1]
    assert line[-2:] == ["2", "1.4"]
    line = table.reached(changed(found, 1, ratio_to_best={**ratio, "best": True}, rank={"first": 1, "last": 1}))[1][1]
    assert line[-2:] == ["1", "1"]


def test_where_the_target_comes_from(found: Comparison) -> None:
    by_exact = copy.deepcopy(found.data)
    by_exact["settings"]["target"], by_exact["exact_validation_accuracy"] = None, 0.52
    assert "(2 points below what exact arithmetic reaches on the validation split, 52.0%)" in table.what_is_shown(
        by_exact
    )


def test_what_an_accuracy_of_values_is(found: Comparison) -> None:
    values = copy.deepcopy(found.data)
    values["data"] |= {"classes": 0, "most_frequent_class_share": None}
    assert "(share of rows within 0.4 of the target, in percent, 360 samples;" in table.what_is_shown(values)


def test_the_host_s_share_stands_beside_the_wall_plug(found: Comparison) -> None:
    columns, lines = table.reached(found.data)
    place = columns.index("host share")
    assert columns[place - 1] == "wall plug to target"
    shares = [entry["wall_plug_host_share"] for entry in found.summary]
    assert [line[place] for line in lines] == ["-", *(units.percent(share) for share in shares[1:])]


def test_the_notes_name_the_resolution_of_ratios(found: Comparison) -> None:
    assert any(f"within {100 * (RESOLUTION - 1):.0f}% of 1" in line for line in notes.notes(found.data))


def test_targets_in_words(found: Comparison) -> None:
    column = table.reached(found.data)[0].index("wall plug to target")
    assert table.reached(changed(found, 1, seeds_reaching_target=1))[1][1][column] == "not reached (1 of 2 seeds)"
    assert table.reached(changed(found, 1, seeds_diverged=2, seeds_reaching_target=0))[1][1][column] == "diverged"


def test_warnings(found: Comparison) -> None:
    assert not [line for line in notes.warnings(found.data) if line.startswith("WARNING")]
    cases = {
        "also reach the target": changed(found, 2, last_layer_only_seeds_reaching_target=1),
        "gpu:h100 diverged at every learning rate": changed(found, 2, seeds_diverged=2),
        "gpu:h100 diverged for 1 of 2 seeds": changed(found, 2, seeds_diverged=1),
        "gpu:h100 diverged at learning rate 0.5": changed(found, 2, trials={"0.3": 0.5, "0.5": None}),
    }
    for words, case in cases.items():
        (line,) = [line for line in notes.warnings(case) if line.startswith("WARNING")]
        assert words in line


def test_columns_are_aligned() -> None:
    text = table.grid(["a", "long name"], [["longer", "1"], ["b", "22"]])
    assert text.splitlines() == ["a       long name", "------  ---------", "longer  1", "b       22"]


# -- trained runs ------------------------------------------------------------------------------------------


def bill_of(joules: list[float], seconds: list[float]) -> dict[str, Any]:
    """A bill of parts of a chip and its host in turn; the first part is forward, all others update."""
    owners = ["chip:small", "digital:fp32"]
    energy = [
        {
            "phase": "update" if i else "forward", "device": owners[i % 2], "component": f"part{i}",
            "part": "idle" if i == 2 else "dynamic", "energy_j": j,
        }
        for i, j in enumerate(joules)
    ]  # fmt: skip
    bounds = [{"device": owners[i % 2], "bound_by": f"part{i}", "time_s": s} for i, s in enumerate(seconds)]
    total = math.fsum(joules)
    return {
        "seed": 4,
        "energy_per_step_j": {"low": total / 2, "nominal": total, "high": 3 * total},
        "energy_by_part": energy,
        "time_per_step_s": math.fsum(seconds),
        "time_by_bound": bounds,
        "area_mm2": {"chip:small": {"part0": 0.5, "part2": 0.25, "part4": None}, "digital:fp32": {"part1": None}},
        "garbage": {"chip:small": {"peak_bits": 5000, "erased_bits": 1200.0, "erasure_j": 3e-12, "passes": 3.5}},
        "excluded": {"chip:small": ["wires", "clocks"], "digital:fp32": []},
        "wear": {},
    }


def test_the_bill_shows_large_shares_and_the_sum_of_all_others() -> None:
    # 100 nJ: 30, 20, 15, 10, 7, 5, 4, 3 by name, and 2 + 2 + 1.5 + 0.5 = 6 of all others; 100 us: 60, 25, 10, 3, 1, 1.
    joules = [j * 1e-9 for j in (30, 20, 15, 10, 7, 5, 4, 3, 2, 2, 1.5, 0.5)]
    bill = bill_of(joules, [s * 1e-6 for s in (60, 25, 10, 3, 1, 1)])
    title, rows, lines = runs.bill_text(bill, "chip:small").split("\n\n")
    assert title == "What a training step of seed 4 costs (device joules, mean of all steps; host: digital:fp32)"
    shown = [line.split("  ") for line in rows.splitlines()[2:]]
    shown = [[cell.strip() for cell in line if cell.strip()] for line in shown]
    assert shown == [
        ["forward", "part0", "30 nJ", "30%"],
        ["update", "host.part1", "20 nJ", "20%"],
        ["update", "part2 (idle)", "15 nJ", "15%"],
        ["update", "host.part3", "10 nJ", "10%"],
        ["update", "part4", "7 nJ", "7.0%"],
        ["update", "host.part5", "5 nJ", "5.0%"],
        ["update", "part6", "4 nJ", "4.0%"],
        ["update", "host.part7", "3 nJ", "3.0%"],
        ["others", "4 more", "6 nJ", "6.0%"],
        ["total", "100 nJ (50-300)", "100%"],
    ]
    assert sum(float(line[-1].rstrip("%")) for line in shown[:-1]) == 100
    assert lines.splitlines() == [
        "Joules by phase: forward 30%, backward 0%, update 70%",
        "Time/step: 100 us, spent waiting for part0 60 us (60%), host.part1 25 us (25%), part2 10 us (10%), host.part3",
        "  3 us (3.0%), 2 others 2 us (2.0%)",
        "Area: chip:small at least 0.75 mm2 (unknown for 1 of 3 components), digital:fp32 unknown",
        "Garbage of chip:small: 5,000 bits held at most; a step erases 1,200 bits, for 3 pJ, in 3.5 passes over a",
        "  matrix (mean; see: hwsim garbage)",
        "Left out of chip:small: wires; clocks",
        "Left out of digital:fp32: it does not say",
    ]


def test_small_shares_are_among_the_others_and_one_alone_is_named() -> None:
    def names(*joules: float) -> list[str]:
        text = runs.bill_text(bill_of(list(joules), []), "chip:small").split("\n\n")[1]
        return [" ".join(line.split()) for line in text.splitlines()[2:]]

    # 0.5 + 0.4 of 100 are no rows of their own; a single 0.5 is.
    assert names(60, 39.1, 0.5, 0.4)[2:] == ["others 2 more 900 mJ 0.9%", "total 100 J (50-300) 100%"]
    assert names(60, 39.5, 0.5)[2:] == ["update part2 (idle) 500 mJ 0.5%", "total 100 J (50-300) 100%"]


def test_a_bill_of_nothing_is_no_text_and_wear_stands_alone() -> None:
    free = bill_of([], [])
    assert runs.bill_text(free, "chip:small") == ""
    free["wear"] = {"fc1": {"pulses_mean": 1234.5678}, "fc2": {"pulses_mean": 2.0, "endurance_used": 1.5e-4}}
    title, rows = runs.bill_text(free, "chip:small").split("\n\n")
    assert title == "What use has left on the tiles of seed 4"
    assert [line.split() for line in rows.splitlines() if "---" not in line] == [
        ["layer", "pulses_mean", "endurance_used"],
        ["fc1", "1235", "-"],
        ["fc2", "2", "0.00015"],
    ]


def test_areas_say_what_is_unknown() -> None:
    assert runs.area_text({"a": 0.5, "b": 0.75}) == "1.25 mm2"
    assert runs.area_text({"a": None, "b": 0.75}) == "at least 0.75 mm2 (unknown for 1 of 2 components)"
    assert runs.area_text({"a": None}) == runs.area_text({}) == "unknown"


def test_a_deployment_as_a_table() -> None:
    found = {
        "device": "chip:small",
        "trained_seed": 4,
        "by_age": [
            {"age": "1s", "accuracy": {"mean": 0.9, "deviation": 0.01}, "exact_accuracy": 0.953},
            {"age": "30d", "accuracy": {"mean": 0.8125, "deviation": 0.0}, "exact_accuracy": 0.953},
        ],
        "programmings": [{"seed": seed} for seed in (0, 1, 2, 0, 1, 2)],
    }
    title, rows = runs.deployment_text(found).split("\n\n")
    assert title.startswith("Weights of seed 4 programmed on chip:small, and their age since")
    assert "over 3 programmings" in title
    assert rows.splitlines()[2:] == ["1s   90.0 ± 1.0  95.3", "30d  81.2 ± 0.0  95.3"]


# -- figures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_figures_are_of_the_kind_that_their_ending_says(
    found: Comparison, tmp_path: Path, ending: str, start: bytes
) -> None:
    path = tmp_path / f"figure.{ending}"
    found.to_figure(path)
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["figure", "figure.abc", "figure.png.gz"])
def test_an_unknown_ending_is_refused(found: Comparison, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"ending must be one of .*png"):
        found.to_figure(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def svg_of(content: dict[str, Any], path: Path) -> str:
    """The figure as text, with its labels as they are written."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.draw(content, path)
    return path.read_text()


def test_the_figure_names_every_device_and_its_bill(found: Comparison, tmp_path: Path) -> None:
    text = svg_of(found.data, tmp_path / "a.svg")
    for words in ("digital:int8", "gpu:h100", "ideal (no cost; ", "target (50.0%)", "Mlp 64-8-10 on digits", "core"):
        assert words in text, words
    for _, entry in table.costed(found.data):
        assert units.engineering(entry["energy_per_step_j"]["nominal"], "J") in text
        assert units.engineering(entry["time_per_step_s"], "s") in text


def test_overlapping_lines_differ_by_more_than_colour(found: Comparison) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    figure.curves(axes, found.data)
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) > 2 or line.get_marker() != "None"]
    looks = {(line.get_marker(), line.get_linewidth()) for line in lines}
    assert len(lines) == len(looks) == 3  # the costly ones; a level line stands for what costs nothing


@pytest.mark.parametrize("count", [1, 10])
def test_one_to_ten_devices_can_be_drawn(found: Comparison, tmp_path: Path, count: int) -> None:
    many = copy.deepcopy(found.data)
    entry = many["summary"][1]
    many["summary"] = [
        {**copy.deepcopy(entry), "device": f"a-long-device-name-{i}:with=parameters"} for i in range(count)
    ]
    many["filled"] = []
    text = svg_of(many, tmp_path / "a.svg")
    assert all(f"a-long-device-name-{i}:with=parameters" in text for i in range(count))


def test_nothing_that_costs_and_nothing_that_trained_can_be_drawn(found: Comparison, tmp_path: Path) -> None:
    free = {**found.data, "summary": found.data["summary"][:1], "filled": []}
    assert "no device here has a cost" in svg_of(free, tmp_path / "a.svg")
    diverged = changed(found, 1, history=[], seeds_diverged=2)
    assert "digital:int8 (diverged)" in svg_of(diverged, tmp_path / "b.svg")


def test_long_names_are_broken_where_they_have_a_joint() -> None:
    assert figure.broken("gpu:h100") == "gpu:h100"
    assert figure.broken("gpu:h100 (batch 1,048,576)") == "gpu:h100\n(batch 1,048,576)"
    assert figure.broken("gpu:h100:precision=bf16:seed=3") == "gpu:h100\n:precision=bf16:seed=3"
    assert figure.broken("a" * 30) == "a" * 24 + "\n" + "a" * 6


# -- the page ----------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Collects text, images and open tags."""

    VOID = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(str(dict(attributes)["src"]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.cells.append(text)


def test_the_page_holds_everything_in_one_file(found: Comparison, tmp_path: Path) -> None:
    found.to_html(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    for part in (table.reached, table.steps, table.shares, table.throughput):
        columns, lines = part(found.data)
        for cell in [*columns, *(cell for line in lines for cell in line)]:
            assert cell in reader.cells, cell
    for line in notes.notes(found.data):
        assert line in reader.cells
    (image,) = reader.images
    assert base64.b64decode(image.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert "http" not in page.replace("http://www.w3.org", "")  # needs nothing from elsewhere


def test_names_are_escaped(found: Comparison) -> None:
    evil = changed(found, 1, device="<script>alert(1)</script>")
    evil["model"] = "<b>Mlp</b>"
    evil["filled"], evil["excluded"] = [], {entry["device"]: ["<i>all</i>"] for entry in evil["summary"]}
    page = html.page(evil)
    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page

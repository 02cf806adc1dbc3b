"""The component library: values against hand arithmetic, the scaling laws, and what a malformed file is answered."""

import math
from itertools import pairwise
from pathlib import Path

import pytest

from hwsim import library
from hwsim.cost import CERTAINTY_ORDER, Certainty, Quantity, Role
from hwsim.errors import ConfigError

FORMATS = ("int8", "int16", "int32", "fp8", "bf16", "fp16", "tf32", "fp32", "fp64")
NODES = (5, 6, 7, 10, 14, 16, 20, 22, 27.9, 28, 32, 40, 45, 65, 90, 130)


def written(folder: Path, text: str) -> Path:
    path = folder / "values.toml"
    path.write_text(text, encoding="utf-8")
    return path


VALUE = 'low = 1\nnominal = 2\nhigh = 3\nsource = "a paper"\ncertainty = "read"\n'


# -- reading TOML


def test_a_table_with_a_nominal_becomes_a_quantity_in_si(tmp_path: Path) -> None:
    path = written(tmp_path, f'kept = 3\nlist = [1, 2]\n[a.b]\n{VALUE}unit = "pJ"\nnote = "range assumed"\n')
    values = library.read_values(path)
    quantity = values["a"]["b"]
    assert (quantity.low, quantity.nominal, quantity.high) == pytest.approx((1e-12, 2e-12, 3e-12))
    assert quantity.key == "values/a.b"
    assert quantity.source == "a paper; range assumed"
    assert quantity.certainty is Certainty.READ
    assert values["kept"] == 3
    assert values["list"] == [1, 2]


def test_an_exact_value_has_no_range(tmp_path: Path) -> None:
    path = written(
        tmp_path, '[a]\nnominal = 4\nexact = true\nunit = "ns"\nsource = "definition"\ncertainty = "derived"\n'
    )
    quantity = library.read_values(path)["a"]
    assert quantity.low == quantity.nominal == quantity.high == pytest.approx(4e-9)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("", 1),
        ("pJ", 1e-12),
        ("fJ", 1e-15),
        ("aJ", 1e-18),
        ("pJ/bit", 1e-12),
        ("pJ/bit/mm", 1e-12),
        ("ns", 1e-9),
        ("ps", 1e-12),
        ("W", 1),
        ("mW", 1e-3),
        ("uW", 1e-6),
        ("GB/s", 1e9),
        ("TB/s", 1e12),
        ("TFLOP/s", 1e12),
        ("GHz", 1e9),
        ("mm", 1e-3),
        ("um2", 1e-6),
        ("mm2", 1),
        ("kOhm", 1e3),
        ("uS", 1e-6),
        ("%", 1e-2),
        ("dB", 1),
    ],
)
def test_units_are_converted(tmp_path: Path, unit: str, factor: float) -> None:
    quantity = library.read_values(written(tmp_path, f'[a]\n{VALUE}unit = "{unit}"\n'))["a"]
    assert (quantity.low, quantity.nominal, quantity.high) == pytest.approx((factor, 2 * factor, 3 * factor))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a\n", "not valid TOML"),
        ('[a]\nnominal = 2\nsource = "s"\ncertainty = "read"\n', "needs numbers low, nominal and high"),
        ('[a]\nlow = 1\nnominal = 2\nsource = "s"\ncertainty = "read"\n', "needs numbers low, nominal and high"),
        ('[a]\nlow = 1\nhigh = 2\nsource = "s"\ncertainty = "read"\n', "needs numbers low, nominal and high"),
        ('[a]\nlow = 1\nnominal = "2"\nhigh = 3\nsource = "s"\ncertainty = "read"\n', "needs numbers"),
        ('[a]\nlow = 1\nnominal = true\nhigh = 3\nsource = "s"\ncertainty = "read"\n', "needs numbers"),
        ('[a]\nlow = 1\nnominal = nan\nhigh = 3\nsource = "s"\ncertainty = "read"\n', "finite"),
        ('[a]\nlow = 3\nnominal = 2\nhigh = 4\nsource = "s"\ncertainty = "read"\n', "low <= nominal <= high"),
        ('[a]\nlow = 0\nnominal = 2\nhigh = 4\nsource = "s"\ncertainty = "read"\n', "low > 0"),
        ('[a]\nexact = true\nlow = 1\nnominal = 2\nsource = "s"\ncertainty = "read"\n', "exact = true"),
        ('[a]\nlow = 1\nnominal = 2\nhigh = 3\ncertainty = "read"\n', "needs a source"),
        ('[a]\nlow = 1\nnominal = 2\nhigh = 3\nsource = " "\ncertainty = "read"\n', "needs a source"),
        ('[a]\nlow = 1\nnominal = 2\nhigh = 3\nsource = "s"\n', "certainty is None"),
        ('[a]\nlow = 1\nnominal = 2\nhigh = 3\nsource = "s"\ncertainty = "sure"\n', "certainty is 'sure'"),
        (f'[a]\n{VALUE}unit = "furlong"\n', "unknown unit 'furlong'"),
        (f'[a]\n{VALUE}unit = "pj"\n', "unknown unit 'pj'"),
        (f"[a]\n{VALUE}nominl = 3\n", "unknown nominl"),
    ],
)
def test_a_malformed_file_is_refused_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        library.read_values(path)
    message = str(caught.value)
    assert says in message
    assert str(path) in message
    assert "not valid TOML" in says or ": a:" in message, "the entry is named"
    assert "\n" not in message


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        library.read_values(tmp_path / "none.toml")


# -- presets

PRESETS = """
[old]
doc = "the first card"
lanes = 4
sizes = [1, 2]
tdp_w = { low = 1, nominal = 2, high = 3, unit = "W", source = "s", certainty = "read" }
peak.fp16 = { low = 4, nominal = 5, high = 6, unit = "TFLOP/s", source = "s", certainty = "read" }

[new]
doc = "the second card"
base = "old"
lanes = 8
peak.int8 = { low = 7, nominal = 8, high = 9, unit = "TFLOP/s", source = "s", certainty = "read" }
"""


def test_presets_inherit_values_and_keys(tmp_path: Path) -> None:
    presets = library.presets(written(tmp_path, PRESETS))
    assert list(presets) == ["old", "new"]
    new = presets["new"]
    assert new["doc"] == "the second card"
    assert (new["lanes"], new["sizes"]) == (8, [1, 2])
    assert new["tdp_w"].key == "values/old.tdp_w", "an inherited value varies together with its base's"
    assert sorted(new["peak"]) == ["fp16", "int8"]
    assert new["peak"]["int8"].nominal == 8e12
    assert "base" not in new
    assert sorted(presets["old"]["peak"]) == ["fp16"], "the base is not touched by its heir"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a]\nlanes = 1\n", "preset a needs doc"),
        ('[a]\ndoc = "d"\nbase = "b"\n', "no preset 'b' to inherit from; known: a"),
        ('[a]\ndoc = "d"\nbase = "b"\n[b]\ndoc = "d"\nbase = "a"\n', "circle: a -> b -> a"),
        ('[a]\ndoc = "d"\nbase = "a"\n', "circle: a -> a"),
        ("lanes = 1\n", "lanes is not a preset"),
        (f"[a]\n{VALUE}", "a is not a preset"),
    ],
)
def test_malformed_presets_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        library.presets(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


# -- the library's values


def test_every_entry_has_source_certainty_range_and_unit() -> None:
    entries = library.entries()
    assert len({entry.name for entry in entries}) == len(entries) > 80
    for entry in entries:
        quantity = entry.quantity
        assert quantity.source, entry.name
        assert quantity.certainty in CERTAINTY_ORDER, entry.name
        assert 0 < quantity.low < quantity.nominal < quantity.high, entry.name
        assert entry.unit in ("J", "J/bit", "J/bit/mm", "W", "F", "mm2"), entry.name
        assert quantity.nominal < 1e-10 or entry.unit in ("W", "mm2"), f"{entry.name} is in SI"
        assert isinstance(entry.role, Role)
        assert entry.role is not Role.CORE or entry.node_nm, f"{entry.name} needs a node"


@pytest.mark.parametrize(
    "name",
    [
        "multiply.int8.at_45nm",
        "multiply.int8.at_7nm",
        "add.fp16.at_45nm",
        "mac.int8.at_28nm",
        "dram.gddr6",
        "dram.ddr4",
    ],
)
def test_recalled_stays_recalled(name: str) -> None:
    assert library.entry(name).quantity.certainty is Certainty.RECALLED


def test_what_is_read_stays_read_and_what_is_guessed_says_so() -> None:
    assert library.mac("fp32", 45).certainty is Certainty.READ  # 3.7 + 0.9, both in PMC8934428
    assert library.mac("fp32", 28).certainty is Certainty.DERIVED
    assert library.mac("fp32", 7).certainty is Certainty.RECALLED
    assert library.mac("fp32", 5).certainty is Certainty.ASSUMED  # extrapolated below 7 nm
    for number_format in ("fp8", "tf32", "fp64"):
        for node in NODES:
            assert library.mac(number_format, node).certainty is Certainty.ASSUMED


@pytest.mark.parametrize(
    ("number_format", "node", "picojoule"),
    [
        ("int8", 45, 0.2 + 0.1),  # Horowitz 2014: multiply int8, add int32
        ("fp16", 45, 1.1 + 0.9),
        ("fp32", 45, 3.7 + 0.9),
        ("int8", 7, 0.07 + 0.03),  # Jouppi 2021
        ("bf16", 7, 0.21 + 0.38),
        ("fp16", 7, 0.34 + 0.38),
        ("fp32", 7, 1.31 + 0.38),
        ("int8", 28, 0.3 * 0.5132),  # 0.154: Stillmaker-Baas from 45 nm
        ("fp16", 28, 2.0 * 0.5132),
        ("fp32", 28, 4.6 * 0.5132),
        ("int16", 45, math.sqrt(0.2 * 3.1) + 0.1),
        ("int8", 14, math.sqrt(0.3 * 0.5132 * 0.1)),  # 14 nm: halfway from 28 to 7 nm in logarithms
        ("int8", 5, 0.1 * 0.1519 / 0.1817),
        ("int8", 65, 0.3 * 1.4314),
    ],
)
def test_multiply_accumulate_by_hand(number_format: str, node: float, picojoule: float) -> None:
    assert library.mac(number_format, node).nominal == pytest.approx(1e-12 * picojoule, rel=1e-3)


def test_an_int8_mac_at_28_nm_is_what_the_literature_says() -> None:
    value = library.mac("int8", 28)
    assert value.low < 0.12e-12 < 0.15e-12 < value.high
    assert value.nominal == pytest.approx(0.154e-12, rel=0.01)


@pytest.mark.parametrize("number_format", ["int8", "fp16", "fp32"])
@pytest.mark.parametrize("node", [16, 10, 7])
def test_the_band_of_a_mac_holds_both_scaling_laws(number_format: str, node: float) -> None:
    at_45nm = library.mac(number_format, 45).nominal
    stillmaker_baas = {16: 0.1735, 10: 0.1178, 7: 0.0943}[node]
    jouppi = 0.35 ** (math.log(45 / node) / math.log(45 / 7))
    value = library.mac(number_format, node)
    assert value.low < at_45nm * stillmaker_baas < value.high
    assert value.low < at_45nm * jouppi < value.high


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_mac_grows_with_its_node_and_its_parts_add_up(number_format: str) -> None:
    values = [library.mac(number_format, node) for node in NODES]
    for smaller, larger in pairwise(values):
        assert smaller.nominal < larger.nominal
        assert smaller.low < larger.low * 1.001
    for node in (45, 7):
        parts = library.operation("multiply", number_format, node).nominal
        parts += library.operation("add", library.ACCUMULATOR[number_format], node).nominal
        assert library.mac(number_format, node).nominal == pytest.approx(parts)
    assert {value.key for value in values} == {f"components/mac.{number_format}"}


def test_an_energy_between_nodes_has_no_jumps() -> None:
    for border in (28.0, 7.0):
        below, above = library.mac("int8", border * (1 - 1e-9)), library.mac("int8", border)
        for field in ("low", "nominal"):
            assert getattr(below, field) == pytest.approx(getattr(above, field), rel=1e-6)


def test_the_8_bit_floats_are_priced_alike() -> None:
    assert library.mac("fp8_e4m3", 16) == library.mac("fp8_e5m2", 16) == library.mac("fp8", 16)


# -- node scaling


def test_equal_nodes_scale_by_exactly_one() -> None:
    for node in NODES:
        factor = library.node_scale(node, node)
        assert (factor.low, factor.nominal, factor.high) == (1.0, 1.0, 1.0)
        assert library.times(library.mac("int8", 45), factor, "k").nominal == library.mac("int8", 45).nominal


def test_the_band_of_45_to_7_nm_holds_both_laws() -> None:
    factor = library.node_scale(45, 7)
    assert factor.low < 0.094 < factor.nominal < 0.35 < factor.high
    assert factor.nominal == pytest.approx(math.sqrt(0.0943 * 0.35), rel=1e-3)
    assert factor.high == pytest.approx(1.48 / 3.1, rel=1e-3)  # int32 multiply, which scaled least


def energy_factor(a: float, b: float, c: float, voltage: float) -> float:
    return a * voltage**2 + b * voltage + c  # Stillmaker and Baas 2017, equation for energy


LOW_POWER = {  # their coefficients as read in nodeScale
    65: (3.755, -4.398, 1.975),
    45: (1.103, -0.362, 0.2767),
    32: (0.9559, -0.7823, 0.471),
    16: (0.2139, -0.1187, 0.05639),
    7: (0.09365, -0.03409, 0.02043),
}


@pytest.mark.parametrize("node", [65, 32, 16, 7])
def test_the_steep_law_is_stillmaker_and_baas(node: float) -> None:
    expected = energy_factor(*LOW_POWER[node], 0.8) / energy_factor(*LOW_POWER[45], 0.8)
    assert library.node_scale(45, node).low == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("node", "factor"), [(28, 0.5132), (32, 0.6593)])
def test_down_to_28_nm_the_nominal_is_stillmaker_and_baas(node: float, factor: float) -> None:
    assert library.node_scale(45, node).nominal == pytest.approx(factor)


def test_scaling_there_and_back_is_one_at_the_nominal_and_ordered() -> None:
    for a in NODES:
        for b in NODES:
            there, back = library.node_scale(a, b), library.node_scale(b, a)
            assert there.nominal * back.nominal == pytest.approx(1)
            assert 0 < there.low <= there.nominal <= there.high
            assert there.nominal <= 1 if b <= a else there.nominal > 1


@pytest.mark.parametrize("node", [4.9, 131, 180, 0, -7, math.nan])
def test_nodes_without_data_are_refused(node: float) -> None:
    with pytest.raises(ConfigError, match="known from 5 to 130 nm"):
        library.node_scale(45, node)
    with pytest.raises(ConfigError, match="known from 5 to 130 nm"):
        library.mac("int8", node)


def test_extrapolation_is_marked() -> None:
    assert library.node_scale(7, 5).certainty is Certainty.ASSUMED
    assert "extrapolated" in library.node_scale(7, 5).source
    assert library.node_scale(45, 28).certainty is Certainty.DERIVED
    assert library.node_scale(45, 7).certainty is Certainty.RECALLED


def test_independent_ranges_add_as_squares_of_logarithms() -> None:
    a, b = Quantity(1, 2, 4, certainty=Certainty.READ), Quantity(1, 3, 9, certainty=Certainty.RECALLED)
    value = library.times(a, b, "both")
    spread = math.exp(math.hypot(math.log(2), math.log(3)))
    assert (value.low, value.nominal, value.high) == pytest.approx((6 / spread, 6, 6 * spread))
    assert value.certainty is Certainty.RECALLED
    assert value.key == "both"
    assert library.times(a, Quantity(0, 0, 0), "k").high == 0


# -- memories

CACTI = {  # node: rows of (KB, read pJ/bit, write pJ/bit, leakage mW); CACTI, LSTP cells, by hwcomponents-cacti 1.0.40
    45: [
        (1, 0.02609, 0.05456, 3.539e-05),
        (4, 0.0529, 0.1008, 0.0001404),
        (16, 0.1814, 0.1671, 0.0004692),
        (64, 0.4042, 0.307, 0.00167),
        (256, 0.6987, 0.6015, 0.006681),
        (1024, 0.9838, 0.9581, 0.02493),
        (4096, 2.038, 1.845, 0.09651),
    ],
    32: [
        (1, 0.01399, 0.02961, 6.584e-05),
        (4, 0.04153, 0.04746, 0.0002387),
        (16, 0.1023, 0.08986, 0.0008012),
        (64, 0.2011, 0.1683, 0.00289),
        (256, 0.4191, 0.3332, 0.01066),
        (1024, 0.5493, 0.526, 0.04183),
        (4096, 1.139, 1.014, 0.1615),
    ],
    22: [
        (1, 0.00594, 0.01226, 0.0002688),
        (4, 0.0183, 0.01947, 0.0008924),
        (16, 0.04131, 0.03562, 0.002872),
        (64, 0.08859, 0.06918, 0.00977),
        (256, 0.1853, 0.1379, 0.03537),
        (1024, 0.2474, 0.2268, 0.1374),
        (4096, 0.5205, 0.4999, 0.5495),
    ],
}


@pytest.mark.parametrize(
    ("node", "row"), [(node, row) for node, rows in CACTI.items() for row in rows], ids=lambda value: str(value)
)
def test_the_sram_law_predicts_the_table_within_its_stated_error(node: int, row: tuple[float, ...]) -> None:
    kilobytes, read, write, leakage = row
    memory = library.sram(kilobytes, node)
    assert 1 / 1.45 < memory.read.nominal / (1e-12 * read) < 1.45
    assert 1 / 1.17 < memory.write.nominal / (1e-12 * write) < 1.17
    assert 1 / 1.20 < memory.leakage.nominal / (1e-3 * leakage) < 1.20
    assert memory.read.low * 0.99 < 1e-12 * read < memory.read.high * 1.01, "the range holds every row"
    assert memory.write.low * 0.99 < 1e-12 * write < memory.write.high * 1.01
    assert memory.read.certainty is Certainty.DERIVED


AREA = {  # node: um2 of 1, 4, 16, 64, 256, 1024 and 4096 KB in the same runs
    45: (3599.3, 13502.9, 50742.0, 209046.0, 872093.0, 3676350.0, 13623000.0),
    32: (1820.86, 7453.57, 25664.8, 124417.0, 478266.0, 1859850.0, 6891810.0),
    22: (857.542, 3509.25, 15073.6, 58601.4, 225290.0, 878057.0, 3448230.0),
}


@pytest.mark.parametrize("node", AREA)
def test_the_area_of_an_sram_is_that_of_the_table(node: int) -> None:
    for kilobytes, square_micron in zip((1, 4, 16, 64, 256, 1024, 4096), AREA[node], strict=True):
        area = library.sram(kilobytes, node).area
        assert 1 / 1.14 < area.nominal / (1e-6 * square_micron) < 1.14
        assert area.low * 0.99 < 1e-6 * square_micron < area.high * 1.01, "the range holds every row"
    beyond = library.sram(1, 7).area.nominal / library.sram(1, 22).area.nominal
    assert beyond == pytest.approx(library.area_scale(22, 7).nominal)  # not the law of energies


def test_an_sram_by_hand() -> None:
    memory = library.sram(64, 45)  # 0.0329 pJ x 64^0.517 = 0.0329 x 8.586 = 0.2825 pJ/bit
    assert memory.read.nominal == pytest.approx(0.2825e-12, rel=1e-3)
    assert memory.write.nominal == pytest.approx(0.0518e-12 * 6.056, rel=1e-3)  # 64^0.433 = 6.056
    assert memory.leakage.nominal == pytest.approx(37.4e-9 * 48.23, rel=1e-3)  # 64^0.932 = 48.23
    small = library.sram(64, 7)  # 22 nm: 0.00833 x 8.586 = 0.0715 pJ/bit, x node_scale(22, 7)
    assert small.read.nominal == pytest.approx(0.0715e-12 * library.node_scale(22, 7).nominal, rel=1e-3)


def test_published_srams_lie_within_the_band() -> None:
    for kilobytes, at_45nm, at_7nm in [(8, 10, 7.5), (32, 20, 8.5), (1024, 100, 14)]:  # pJ for 64 bits
        assert library.sram(kilobytes, 45).read.high >= at_45nm * 1e-12 / 64 * 0.999
        assert library.sram(kilobytes, 7).read.high >= at_7nm * 1e-12 / 64 * 0.999


def test_an_sram_outside_the_table_is_marked_or_refused() -> None:
    assert library.sram(0.5, 45).read.certainty is Certainty.ASSUMED
    assert library.sram(8192, 45).write.certainty is Certainty.ASSUMED
    assert library.sram(64, 130).read.nominal > library.sram(64, 45).read.nominal
    for size in (0, -1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="needs a positive size"):
            library.sram(size, 45)
    with pytest.raises(ConfigError, match="known from 5 to 130 nm"):
        library.sram(64, 3)


def test_an_sram_grows_with_size_and_node() -> None:
    sizes = [library.sram(size, 28) for size in (1, 10, 100, 1000)]
    nodes = [library.sram(64, node) for node in (7, 16, 22, 28, 32, 40, 45, 65)]
    for memories in (sizes, nodes):
        for smaller, larger in pairwise(memories):
            assert smaller.read.nominal < larger.read.nominal
            assert smaller.write.nominal < larger.write.nominal


@pytest.mark.parametrize(
    ("kind", "low", "nominal", "high"),
    [
        ("hbm2", 3.9, math.sqrt(3.9 * 7.0), 8),
        ("hbm3", 4, math.sqrt(3.9 * 7.0), 8),
        ("gddr5", 10, 14, 20),
        ("gddr6", 350 / 64, math.sqrt(350 * 480) / 64, 480 / 64),
        ("ddr4", 15, 1300 / 64, 2600 / 64),
        ("lpddr4", 5, 8, 640 / 32),
        ("lpddr5", 4, 6, 16_000 / 64 / 8),
    ],
)
def test_dram(kind: str, low: float, nominal: float, high: float) -> None:
    value = library.dram(kind)
    assert [v * 1e12 for v in (value.low, value.nominal, value.high)] == pytest.approx([low, nominal, high], rel=0.02)


def test_links() -> None:
    assert library.link("router").nominal == pytest.approx(20.74e-12 / 256, rel=1e-2)  # 20.74 pJ for 256 bits
    assert library.link("hypertransport").nominal == pytest.approx(10.4 / (4 * 6.4e9 * 8), rel=1e-3)
    assert library.link("wire").high == pytest.approx(80e-15)
    assert library.link("infiniband").certainty is Certainty.RECALLED


def test_functional_units_scale_from_the_node_of_their_source() -> None:
    assert library.special("sigmoid", 32).nominal == pytest.approx(0.26e-12)
    factor = library.node_scale(32, 16).nominal
    assert library.special("sigmoid", 16).nominal == pytest.approx(0.26e-12 * factor)
    assert library.special("shift_add", 32).nominal == pytest.approx(0.2e-3 / 9.6e9, rel=0.01)  # 0.2 mW at 9.6 GS/s


def test_areas_scale_by_stillmaker_and_baas_within_the_square_of_the_node() -> None:
    """Their ratios from 45 nm: 0.377 at 28, 0.19 at 16, 0.042 at 5 nm; the square: 0.387, 0.126, 0.0123."""
    for node, published, square in ((28, 0.377, 0.387), (16, 0.19, 0.1264), (5, 0.042, 0.01235)):
        factor = library.area_scale(45, node)
        assert factor.nominal == pytest.approx(published, rel=1e-3)
        assert [factor.low, factor.high] == pytest.approx(sorted([published, square]), rel=1e-2)
    assert library.area_scale(65, 130).nominal == pytest.approx(4, rel=1e-3)
    assert library.area_scale(28, 28).low == library.area_scale(28, 28).high == 1
    with pytest.raises(ConfigError, match="known from 5 to 130 nm"):
        library.area_scale(45, 3)


def test_areas_of_units() -> None:
    assert library.area("shift_add", 32).nominal == pytest.approx(240e-6 / 4)  # ISAAC, Table I
    assert library.area("neuron", 130).nominal == pytest.approx(325_120e-6 / 256, rel=1e-3)  # NeuRRAM
    assert library.area("line_driver", 130).nominal == pytest.approx(243_840e-6 / 512, rel=1e-3)
    assert library.area("alu", 45).nominal == pytest.approx(4032e-6 / library.area_scale(45, 32).nominal)


@pytest.mark.parametrize(
    ("name", "milliwatt", "actions_per_ns"),
    [
        ("converter.adc_8b", 16, 8 * 1.28),  # ISAAC, Table I: power of a unit over its rate
        ("converter.dac_1b", 4, 1024 / 100),
        ("converter.sample_hold", 0.01, 1024 / 100),
    ],
)
def test_converters_take_the_power_that_their_source_gives(name: str, milliwatt: float, actions_per_ns: float) -> None:
    assert library.entry(name).quantity.nominal == pytest.approx(1e-12 * milliwatt / actions_per_ns, rel=0.01)


# -- survey converter


@pytest.mark.parametrize(
    ("bits", "rate", "node", "picojoule", "square_micron"),
    [(8, 1e8, 32, 1.7137, 3938.9), (8, 1e9, 7, 0.098405, 561.42), (4, 1e9, 65, 3.5007, 14948)],
)
def test_the_survey_converter_is_the_one_that_was_executed(
    bits: int, rate: float, node: float, picojoule: float, square_micron: float
) -> None:
    converter = library.adc(bits, rate, node)
    total = converter.energy.nominal + converter.static_power.nominal / rate
    assert total == pytest.approx(1e-12 * picojoule, rel=2e-3)  # the reference printed four digits of its constants
    assert converter.area.nominal == pytest.approx(1e-6 * square_micron, rel=2e-3)
    assert converter.energy.high / converter.energy.nominal == pytest.approx(3.5)
    assert converter.energy.key == converter.static_power.key, "shares of one total vary together"


# -- unknown names


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: library.mac("int7", 28), "no multiply-accumulate in 'int7'; known: bf16"),
        (lambda: library.operation("divide", "int8", 28), "no operation 'divide'; known: add, multiply"),
        (lambda: library.operation("add", "fp8", 28), "no energy to add in 'fp8'; known: bf16"),
        (lambda: library.special("tanh", 28), "no functional unit 'tanh'; known: comparator"),
        (lambda: library.dram("hbm9"), "no dynamic RAM 'hbm9'; known: ddr4"),
        (lambda: library.link("pigeon"), "no link 'pigeon'; known: bus"),
        (lambda: library.area("moon", 28), "no area of 'moon'; known: adc_8b"),
        (lambda: library.entry("mac"), "no component value 'mac'; known: add.bf16.at_45nm"),
        (lambda: library.adc(3, 1e9, 32), "4 bits at least"),
    ],
)
def test_unknown_names_are_answered_with_what_is_known(ask: object, says: str) -> None:
    assert callable(ask)
    with pytest.raises(ConfigError) as caught:
        ask()
    assert says in str(caught.value)

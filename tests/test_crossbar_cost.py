"""What crossbars cost: published chips from the counts that cost a layer, and every operation by hand.

Published numbers: ISAAC (Shafiee et al., ISCA 2016, Table I), NeuRRAM (Wan et al., Nature 608, 504, 2022, digitised by
CiMLoop), HERMES (Le Gallo et al., Nature Electronics 2023, abstract).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from crossbar_cells import EXACT, crossbar, plain

from hwsim import library
from hwsim.cost import CERTAINTY_ORDER, Certainty, Component, Kind, Product, Use, op_cost
from hwsim.devices.crossbar.activity import merged
from hwsim.devices.crossbar.cost import Costs
from hwsim.devices.crossbar.device import ALGORITHMS, ENCODINGS, WITH_FAST_ARRAY
from hwsim.errors import DeviceError
from hwsim.ledger import Ledger, TileShape
from hwsim.testing.cost import BATCHES

ADDED = ("driver", "dac_back", "sample_hold_back", "adc_back", "multiply", "comparator")  # beside what was built
WHOLE = ("chip",)


class Costed(Costs):
    """The cost alone, without physics."""


def costed(preset: str | None = None, /, **parameters: Any) -> Costed:
    return Costed.create(preset, parameters)


def actions(device: Costed, kind: Kind, m: int, k: int, n: int, stack: int = 1, x_values: int = 0) -> dict[str, float]:
    uses = device.activity(Product(kind, m, k, n, stack, x_values))
    assert uses is not None
    return {name: use.actions for name, use in uses.items()}


def picojoule(device: Costed, counts: dict[str, float]) -> dict[str, float]:
    return {name: 1e12 * count * device.components[name].quantity("energy_j").nominal for name, count in counts.items()}


def charged(device: Costed, op: Product) -> Ledger:
    """One operation on a tile that it fills."""
    ledger = Ledger()
    ledger.tiles[device, "w"] = TileShape(op.stack, op.k, op.n)
    ledger.charge(device, op)
    return ledger


def by_component(ledger: Ledger) -> dict[str, float]:
    return {group[0]: joules for group, joules in ledger.energy(("component",)).items()}


def recorded(ledger: Ledger, kind: Kind) -> dict[str, float]:
    """What a run noted of operations of one kind."""
    (counts,) = (c for cell, c in ledger.actual.items() if isinstance(cell.op, Product) and cell.op.kind is kind)
    return {name: float(count) for name, count in counts.items()}


# -- ISAAC -------------------------------------------------------------------------------------------------
# A tile: 12 x 8 = 96 arrays of 128 x 128. 1536 x 128 weights are 12 blocks of 128 x 128, in 8 slices each: 96 arrays.
# What is static: eDRAM, bus, router, registers, pooling and links, of which the paper gives the average power of a busy
# tile and no energy per access; and the ADCs' leakage (0.2 of 2 mW, by PUMA). Everything else is counted: conversions,
# cells, inputs, samples, shifts. The converters of the second side, write drivers, and the scaling of values were not
# built, and are left out here.


def isaac(tiles: int) -> tuple[Costed, Product]:
    """The chip, and 100 vectors through a layer that fills `tiles` of its tiles."""
    device, op = costed("isaac"), Product(Kind.FORWARD, 100, 1536, 128 * tiles)
    assert device.arrays(op.k, op.n) == 96 * tiles
    return device, op


def power_w(tiles: int, without: tuple[str, ...]) -> float:
    device, op = isaac(tiles)
    ledger = charged(device, op)
    assert ledger.time_s == pytest.approx(100 * 16 * 100e-9, rel=1e-3)  # 16 bits of 100 ns a vector, by the ADCs' rate
    return sum(j for name, j in by_component(ledger).items() if name not in without) / ledger.time_s


def area_mm2(tiles: int, without: tuple[str, ...]) -> float:
    device, op = isaac(tiles)
    units = device.installed([TileShape(1, op.k, op.n)])
    known = {name: part.quantity("area_mm2").nominal for name, part in device.components.items()}
    return sum(count * known[name] for name, count in units.items() if name not in without)


@pytest.mark.parametrize(
    ("tiles", "without", "watts", "square_mm"),
    [
        (1, (*ADDED, *WHOLE, "tile"), 0.289, 0.157),  # 12 in-situ multiply-accumulate units
        (1, (*ADDED, *WHOLE), 0.330, 0.372),  # a tile
        (168, ADDED, 65.8, 85.4),  # the chip
    ],
    ids=["12 units", "tile", "chip"],
)
def test_isaac(tiles: int, without: tuple[str, ...], watts: float, square_mm: float) -> None:
    assert power_w(tiles, without) == pytest.approx(watts, rel=0.02)
    assert area_mm2(tiles, without) == pytest.approx(square_mm, rel=0.02)


def test_isaac_part_by_part() -> None:
    """Table I, a unit of 8 arrays: ADC 16, DAC 4, cells 2.4, S+A 0.2, S+H 0.01, registers 1.47 mW."""
    device, op = isaac(1)
    ledger = charged(device, op)
    milliwatt = {name: 1e3 * joules / ledger.time_s / 12 for name, joules in by_component(ledger).items()}
    assert milliwatt["adc"] == pytest.approx(16, rel=0.02)
    assert milliwatt["dac"] == pytest.approx(4, rel=0.02)
    assert milliwatt["cell"] == pytest.approx(2.4, rel=0.02)  # its offset column too: + 1 / 128
    assert milliwatt["shift_add"] == pytest.approx(0.2, rel=0.1)  # 10.24, not 9.6, billion a second
    assert milliwatt["sample_hold"] == pytest.approx(0.01, rel=0.02)
    assert milliwatt["array"] == pytest.approx(1.47, rel=0.02)
    assert 12 * milliwatt["tile"] == pytest.approx(40.85, rel=0.02)


def test_what_training_adds_to_isaac_is_assumed() -> None:
    device = costed("isaac")
    for name in ("driver", "dac_back", "sample_hold_back", "adc_back"):
        assert device.components[name].quantity("area_mm2").certainty is Certainty.ASSUMED, name
    assert device.components["adc_back"].quantity("energy_j").certainty is Certainty.ASSUMED
    assert device.components["adc"].quantity("energy_j").certainty is Certainty.READ


# -- NeuRRAM -----------------------------------------------------------------------------------------------
# Input bits 1 to 6 with output bits 3 to 8; energy per operation, two of which a multiply-accumulate has. Fitted at 3
# input and 5 output bits: the energies of gates, inputs and neurons. Everything else is predicted: digits = input bits
# less the sign, each 2^t samplings of 0.3 us, bits of 0.3 us, and a pause of 0.3 us.

OPERATIONS = 2 * 256 * 128
TOPS = [2.12230988, 1.793083771, 1.165400233, 0.7438677864, 0.4515642, 0.260797508]
TOPS_PER_WATT = [43.07875866, 40.33412834, 23.09069279, 15.95409517, 11.32999012, 9.12235241]
GATES_FJ = [8.99015248, 8.270951256, 15.46307324, 21.75617998]
NEURONS_FJ = [10.6186848, 12.38674172, 20.11826462, 29.1084171]
INPUTS_FJ = [3.446220545, 3.955661604, 7.73153662, 11.50740478]


def neurram(input_bits: int) -> tuple[dict[str, float], float]:
    """Energy per operation of the core's three parts [fJ], and the time of a vector [s]."""
    digits = max(1, input_bits - 1)
    device = costed("neurram", input_slices=digits, adc_bits=input_bits + 2, dac_bits=2 if digits == 1 else 1)
    ledger = charged(device, Product(Kind.FORWARD, 1, 256, 128))
    spent = by_component(ledger)
    inputs = spent["dac"] + spent["cell"] + spent["line"]  # drivers, and what they drive
    parts = {"gates": spent["gate"], "neurons": spent["adc"], "inputs": inputs}
    return {name: 1e15 * joules / OPERATIONS for name, joules in parts.items()}, ledger.time_s


@pytest.mark.parametrize("input_bits", range(1, 7))
def test_neurram_totals(input_bits: int) -> None:
    """Found / published: TOPS/W 1.01, 0.96, 1.00 (fitted), 1.03, 1.11, 1.11; TOPS 0.97 to 1.01."""
    parts, time_s = neurram(input_bits)
    fitted = 1e-3 if input_bits == 3 else 0.2
    assert 1e3 / sum(parts.values()) == pytest.approx(TOPS_PER_WATT[input_bits - 1], rel=fitted)
    assert 48 * OPERATIONS / time_s / 1e12 == pytest.approx(TOPS[input_bits - 1], rel=0.05)


@pytest.mark.parametrize("input_bits", range(1, 5))
def test_neurram_parts(input_bits: int) -> None:
    """Found / published, 1, 2 and 4 bits: gates 0.86, 0.93, 1.07; neurons 1.08, 1.16, 0.89; inputs 1.10, 0.96, 1.04."""
    parts, _ = neurram(input_bits)
    fitted = 1e-3 if input_bits == 3 else 0.2
    assert parts["gates"] == pytest.approx(GATES_FJ[input_bits - 1], rel=fitted)
    assert parts["neurons"] == pytest.approx(NEURONS_FJ[input_bits - 1], rel=fitted)
    assert parts["inputs"] == pytest.approx(INPUTS_FJ[input_bits - 1], rel=fitted)


# -- HERMES ------------------------------------------------------------------------------------------------


def test_hermes_as_it_comes() -> None:
    """Nothing is fitted: 62 TOPS by the read time, and far more TOPS/W than 9.76: outside the band of 3.5.

    The chip takes 13.4 nJ a vector and core, this preset's components 1.0 nJ: the survey's regression extrapolates to
    0.36 pJ a conversion at 14 nm, where the survey's own silicon has a median of 22 pJ (256 of them: 5.7 nJ), and
    control, clocks and the digital units of each core are in no model.
    """
    device = costed("hermes-chip")
    ledger = charged(device, Product(Kind.FORWARD, 100, 256, 256))
    joules = sum(j for name, j in by_component(ledger).items() if not name.endswith("_back") and "accum" not in name)
    operations = 100 * 2 * 256 * 256
    assert 64 * operations / ledger.time_s / 1e12 == pytest.approx(63.1, rel=0.02)
    ratio = operations / joules / 1e12 / 9.76
    assert 10 < ratio < 17  # 13.2: out of the band, and said so in the readme


# -- reads by hand -----------------------------------------------------------------------------------------


def test_a_forward_read_by_hand() -> None:
    """2 vectors through 300 x 20 weights: two arrays of 256 x 256, one below the other."""
    device = costed("reram-es")
    counts = actions(device, Kind.FORWARD, 2, 300, 20)
    assert counts == {
        "cell": 2 * 300 * (20 + 20),  # 20 columns and as many of references: 24,000
        "gate": 2 * 300 * (20 + 20),
        "line": 2 * 300 * 512 * 0.12,  # lines pass 256 cells and their references; mean square 0.12
        "dac": 2 * 300,
        "sample_hold": 2 * 20 * 2,
        "adc": 2 * 20 * 2,  # 20 columns in each of two arrays: 80
        "settle": 2,
        "fill": 1,
        "shift_add": 0,
        "add": 2 * 20,  # two partial sums
        "multiply": 2 * 20 * 2,
        "comparator": 2 * 300,
        "register": 16 * (2 * 300 + 80),
        "bus": 16 * (2 * 300 + 80),
        "router": 16 * 2 * 20,
        "buffer_read": 16 * 2 * 300,
        "buffer_write": 16 * 2 * 20,
    }
    found = picojoule(device, counts)
    # G at state 0, half way from 3 to 50 uS: 26.5 uS; 0.2^2 V^2 x 26.5 uS x 10 ns = 10.6 fJ; x 0.12 = 1.272 fJ
    assert found["cell"] == pytest.approx(24_000 * 1.272e-3)  # 30.5 pJ
    # a cell of 50 F^2 at 28 nm: 0.198 um x 0.2 fF/um = 0.0396 fF; x 0.2^2 V^2 = 1.584 aJ
    assert found["line"] == pytest.approx(36_864 * 1.584e-6, rel=1e-3)  # 0.06 pJ
    assert found["dac"] == pytest.approx(600 * 0.291)  # 175 pJ
    assert found["adc"] == pytest.approx(80 * 1.454, rel=1e-3)  # 9 bits, 100 MHz, 28 nm: 0.8 x 1.818 pJ: 116 pJ
    # 30 + 0 + 175 + 116 + 40 x .0513 + 80 x .5645 + 600 x .01747 + 9600 x .04164 + 640 x .05013 + 80 x .00097 = 811 pJ;
    # 10,880 register bits of .009 pJ x node_scale(40, 28) = .00548 pJ: 60 pJ; on the bus .054 x .778 = .042 pJ: 457 pJ;
    # 640 bits of .081 x .778 = .063 pJ on a router: 40 pJ
    scale = 0.5132 / 0.6593
    assert found["bus"] == pytest.approx(10_880 * 0.054 * scale, rel=1e-3)
    assert found["router"] == pytest.approx(640 * 0.081 * scale, rel=1e-3)
    assert sum(found.values()) == pytest.approx(811 + 60 + 457 + 40, rel=5e-3)
    # samples are held: 10 ns until the first is there, then 8 of 20 columns share a converter of 10 ns: 2 x 8 x 10 ns
    assert charged(device, Product(Kind.FORWARD, 2, 300, 20)).time_s == pytest.approx(170e-9)


def test_a_backward_read_by_hand() -> None:
    """2 errors through the same two arrays: both see all 20, and each gives its own rows."""
    counts = actions(costed("reram-es"), Kind.BACKWARD, 2, 300, 20)
    assert counts["cell"] == counts["gate"] == 2 * 20 * (300 + 300)  # a reference beside every cell
    assert counts["dac_back"] == 2 * 20 * 2 * 2  # the references' columns are driven too, against the cells'
    assert counts["adc_back"] == counts["sample_hold_back"] == counts["multiply"] == 2 * 300
    assert counts["add"] == 0
    assert counts["line"] == pytest.approx(2 * 20 * 2 * 2 * 256 * 0.12)
    assert counts["register"] == 16 * (2 * 20 * 2 + 600)
    assert "adc" not in counts
    # 10 ns, then 8 of 256 rows share a converter of 10 ns
    assert charged(costed("reram-es"), Product(Kind.BACKWARD, 2, 300, 20)).time_s == pytest.approx(170e-9)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_by_hand(encoding: str) -> None:
    """300 x 20 weights: two cells on a row's line, two column lines, one conversion; or one cell, and an offset column.

    The transposed read leaves the offset column alone: what weight 0 adds is the sum of 20 errors, off 300 results.
    """
    device = costed("idealized", encoding=encoding)
    pair = encoding != "offset"
    there, back = (actions(device, kind, 2, 300, 20) for kind in (Kind.FORWARD, Kind.BACKWARD))
    assert there["cell"] == 2 * 300 * (40 if pair else 21)
    assert there["gate"] == back["gate"] == 2 * 300 * (40 if pair else 20)
    assert there["adc"] == 2 * 20 * 2
    assert there["add"] == 2 * 20
    assert there["dac"] == 2 * 300
    assert there["line"] == pytest.approx(2 * 300 * (512 if pair else 256) * 0.12)
    assert back["cell"] == 2 * 20 * (600 if pair else 300)
    assert back["add"] == (0 if pair else 2 * (20 + 300))
    assert back["dac_back"] == 2 * 20 * 2 * (2 if pair else 1)
    assert back["adc_back"] == 2 * 300
    assert back["line"] == pytest.approx(2 * 20 * 2 * (2 if pair else 1) * 256 * 0.12)
    # G of weight 0: idealized, 1 to 10 uS: the middle, 5.5 uS; one-sided, largest weight 0.6 of the window: one cell
    # rests at 1 uS, the other is at 1 + 0.3 x 9 = 3.7 uS in the mean: 2.35 uS
    microsiemens = 2.35 if encoding == "one-sided" else 5.5
    assert device.conductance.nominal == pytest.approx(microsiemens * 1e-6)
    energy = device.components["cell"].quantity("energy_j").nominal
    assert energy == pytest.approx(0.04 * microsiemens * 1e-6 * 10e-9 * 0.12)
    installed = device.installed([TileShape(1, 300, 20)])
    assert installed["cell"] == 2 * 256 * (512 if pair else 256)
    assert installed["dac_back"] == 2 * (512 if pair else 256)
    assert installed["adc"] == installed["adc_back"] == 2 * 32


def test_slices_by_hand() -> None:
    """A vector through 130 x 3 weights of ISAAC: 2 blocks x 8 slices = 16 arrays, 16 digits one after the other."""
    device = costed("isaac")
    there, back = (actions(device, kind, 1, 130, 3) for kind in (Kind.FORWARD, Kind.BACKWARD))
    assert device.arrays(130, 3) == 16
    assert there["cell"] == 130 * (3 + 1) * 8 * 16  # an offset column in every array
    assert there["dac"] == 130 * 8 * 16
    assert there["adc"] == there["sample_hold"] == there["shift_add"] == 3 * 2 * 8 * 16
    assert there["multiply"] == 3 * 2
    assert there["add"] == 3
    assert back["cell"] == 3 * 130 * 8 * 16  # and none of them is read backwards
    assert back["add"] == 3 + 130  # once a vector, not for every digit
    assert back["dac_back"] == 3 * 2 * 8 * 16
    assert back["adc_back"] == back["shift_add"] == 130 * 8 * 16
    # reads of 4.58 ns: 16 of them, and the first's samples; 3 conversions of 0.78 ns are hidden behind each
    assert charged(device, Product(Kind.FORWARD, 1, 130, 3)).time_s == pytest.approx(17 * 4.58e-9)


def test_offsets_are_taken_off_once_however_many_arrays() -> None:
    """2 vectors of 3 matrices of 300 x 400, 2 x 2 arrays each: partial sums are added first, both ways."""
    there, back = (actions(costed(encoding="offset"), kind, 2, 300, 400, 3) for kind in (Kind.FORWARD, Kind.BACKWARD))
    assert there["add"] == 3 * 2 * 400
    assert there["cell"] == 3 * 2 * 300 * (400 + 2)  # an offset column in both arrays that a row passes
    assert back["add"] == 3 * 2 * (300 + 400 + 300)  # partial sums, the sum of errors, the differences
    assert back["cell"] == 3 * 2 * 400 * 300


def test_integrated_digits_by_hand() -> None:
    """A vector through 256 x 128 pairs of NeuRRAM: 3 digits in 1 + 2 + 4 samplings, and one conversion of 6 bits."""
    device = costed("neurram")
    counts = actions(device, Kind.FORWARD, 1, 256, 128)
    assert counts["cell"] == 256 * 256 * 7
    assert counts["gate"] == 256 * 256 * 3
    assert counts["dac"] == 256 * 3
    assert counts["adc"] == 128 * (3 + 6)  # steps of its 128 neurons
    assert counts["shift_add"] == 0
    # neurons sample: nothing is held for them, and 7 currents of 0.2 ns come first; 7 samplings, 6 bits and a pause
    found = charged(device, Product(Kind.FORWARD, 1, 256, 128)).time_s
    assert found == pytest.approx(7 * 0.2e-9 + (7 + 6 + 1) * 0.3e-6, rel=1e-6)


def test_one_digit_is_the_same_in_both_codings() -> None:
    for kind in (Kind.FORWARD, Kind.BACKWARD, Kind.UPDATE):
        op = Product(kind, 3, 70, 30)
        assert costed(input_coding="serial").activity(op) == costed(input_coding="integrated").activity(op)


def test_without_sample_and_hold_reads_wait_for_conversions() -> None:
    """5 reads of 10 ns, each before its 8 conversions of 10 ns."""
    op = Product(Kind.FORWARD, 5, 64, 32)
    assert charged(costed(sample_hold_energy_j=0), op).time_s == pytest.approx(5 * 90e-9)
    assert charged(costed(), op).time_s == pytest.approx(10e-9 + 5 * 80e-9)


# -- moves by hand -----------------------------------------------------------------------------------------
# 300 x 20 weights again: two arrays. Trains: 4 samples x 10 slots, lines fire in a tenth: 40 x 0.1 x 300 = 1200 firings
# of rows, 80 of columns; 40 x 6000 x 0.01 = 2400 coincidences.

TRAINS = {"mean_slots": 10, "line_activity": 0.1}


def test_trains_by_hand() -> None:
    device = costed("reram-es", **TRAINS)
    counts = actions(device, Kind.UPDATE_OUTER, 4, 300, 20)
    assert counts == pytest.approx(
        {
            "pulse": 2400,
            "gate": 1200 * 40,  # of the row's cells, and of their references
            "half_selected": 1200 * 40 + 80 * 300 - 2 * 2400,  # 67,200: only the cells' columns fire
            "pulse_line": 1200 * 512 + 80 * 512,  # a row's line in one array, a column's in both
            "slot": 40,
            "comparator": 4 * 320,
            "buffer_read": 16 * 4 * 320,
            "dram": 0,  # 20 kbit fit into 2 x 8 KB
        }
    )
    found = picojoule(device, counts)
    assert found["pulse"] == pytest.approx(2400 * 4.058, rel=1e-3)  # 1.75^2 V^2 x 26.5 uS x 50 ns = 4.058 pJ: 9.74 nJ
    assert found["half_selected"] == pytest.approx(67_200 * 1.0145, rel=1e-3)  # a quarter each: 68.2 nJ
    assert found["pulse_line"] == pytest.approx(655_360 * 0.0396e-3 * 0.875**2, rel=1e-3)  # 19.9 pJ
    op = Product(Kind.UPDATE_OUTER, 4, 300, 20)
    assert charged(device, op).time_s == pytest.approx(40 * 2 * 50e-9)  # pulses up and down take turns


def test_behind_selectors_only_pulsed_cells_take_current() -> None:
    """1.75^2 V^2 on whole lines of 0.0396 fF a cell, where without transistors each has half the voltage."""
    bare, selected = (costed("reram-es", selector=name).components for name in ("none", "transistor"))
    assert selected["half_selected"].quantity("energy_j").nominal == 0
    assert selected["pulse"] == bare["pulse"]
    line_j = selected["pulse_line"].quantity("energy_j").nominal
    assert line_j == pytest.approx(1.75**2 * 0.0396e-15, rel=1e-3)
    assert line_j == pytest.approx(4 * bare["pulse_line"].quantity("energy_j").nominal)


def test_gates_switch_for_pulses() -> None:
    """1200 firings of rows of 20 cells and 20 references, 1 fJ a selector: 48 pJ; without transistors nothing."""
    op = Product(Kind.UPDATE_OUTER, 4, 300, 20)
    selected = costed("reram-es", selector="transistor", gate_energy_j=1e-15, **TRAINS)
    assert by_component(charged(selected, op))["gate"] == pytest.approx(48e-12)
    assert by_component(charged(costed("reram-es", **TRAINS), op)).get("gate", 0.0) == 0


def test_gates_of_a_verified_run() -> None:
    """10 exact pulses on 8 rows of 6 cells and 6 references, 80 x 12 = 960; a read before and one after, 2 x 96."""
    ledger, device = Ledger(), plain(algorithm="verified")
    tile = device.program(np.zeros((8, 6), np.float32), name="w", ledger=ledger)
    tile.update(np.full((8, 6), 0.01, np.float32))
    counts = recorded(ledger, Kind.UPDATE)
    assert counts["pulse"] == 480
    assert counts["half_selected"] == 960 + 480 * 8 - 2 * 480
    assert counts["cell_full"] == 2 * 96
    assert counts["gate"] == 960 + 2 * 96


def test_trains_in_other_encodings_by_hand() -> None:
    offset = actions(costed("idealized", encoding="offset", **TRAINS), Kind.UPDATE_OUTER, 4, 300, 20)
    assert offset["pulse"] == pytest.approx(2400)
    assert offset["gate"] == pytest.approx(1200 * 20)
    assert offset["half_selected"] == pytest.approx(1200 * 20 + 80 * 300 - 2 * 2400)
    assert offset["pulse_line"] == pytest.approx(1200 * 256 + 80 * 512)

    differential = actions(costed("idealized", encoding="differential", **TRAINS), Kind.UPDATE_OUTER, 4, 300, 20)
    assert differential["pulse"] == pytest.approx(2 * 2400)
    # a row's line has 40 cells of 300 x 20 pairs on it, and both columns of a pair fire: 160
    assert differential["gate"] == pytest.approx(1200 * 40)
    assert differential["half_selected"] == pytest.approx(1200 * 40 + 160 * 300 - 2 * 4800)
    assert differential["pulse_line"] == pytest.approx(1200 * 512 + 160 * 512)
    assert "reset" not in differential

    one_sided = actions(costed("idealized", encoding="one-sided", **TRAINS), Kind.UPDATE_OUTER, 4, 300, 20)
    # steps of 0.0002 in a window of 2: 7500 pulses to three quarters of it: 2400 / 7500 = 0.32 pairs are refreshed.
    # Their differences are 0.6 x 2 / 2 = 0.6 in the mean: 3000 pulses each
    assert one_sided["reset"] == pytest.approx(2 * 0.32, rel=1e-3)
    assert one_sided["pulse"] == pytest.approx(2400 + 0.32 * 3000, rel=1e-3)
    assert one_sided["gate"] == pytest.approx(1200 * 40 + 960 * 40, rel=1e-3)
    # 0.32 x 3000 = 960 slots with 40 + 256 cells on a row's line and a column's, less twice the pulses
    refreshed = 960 * (40 + 256) - 2 * 960
    assert one_sided["half_selected"] == pytest.approx(1200 * 40 + 160 * 300 - 2 * 2400 + refreshed, rel=1e-3)
    assert one_sided["pulse_line"] == pytest.approx(1200 * 512 + 160 * 512 + 960 * (512 + 256), rel=1e-3)
    assert one_sided["slot"] == pytest.approx(40 + 0.16 * 3001, rel=1e-3)  # two arrays refresh side by side
    assert one_sided["adc"] == pytest.approx(0.32, rel=1e-3)
    assert one_sided["cell_full"] == pytest.approx(0.64, rel=1e-3)


@pytest.mark.parametrize("algorithm", WITH_FAST_ARRAY)
def test_transfers_by_hand(algorithm: str) -> None:
    """4 samples, a row of the fast array read and moved every 2: two rows of 20, 0.2 pulses a weight: 8."""
    device = costed("reram-es", algorithm=algorithm, transfer_every=2, transfer_pulses=0.2, **TRAINS)
    counts = actions(device, Kind.UPDATE_OUTER, 4, 300, 20)
    slots = 2 * 31 if algorithm == "tiki-taka" else 2  # a row's line fires in all of them
    assert counts["pulse"] == pytest.approx(2400 + 8)
    assert counts["gate"] == pytest.approx(48_000 + slots * 40 + 2 * 40)  # trains, transfers, and what they read
    assert counts["half_selected"] == pytest.approx(67_200 + slots * 40 + 8 * 256 - 2 * 8)
    assert counts["pulse_line"] == pytest.approx(655_360 + slots * 512 + 8 * 256)
    assert counts["slot"] == pytest.approx(40 + slots)
    assert counts["cell_full"] == pytest.approx(2 * 40)
    assert counts["adc"] == pytest.approx(40)
    assert counts["dac"] == counts["settle"] == pytest.approx(2)
    sums = 0 if algorithm == "tiki-taka" else 40
    assert counts["accumulator_read"] == counts["accumulator_write"] == pytest.approx(16 * sums)
    assert counts["add"] == pytest.approx(sums)
    # trains and transfer 2 x 50 ns a slot, the first read's 10 ns; then 2 x 8 conversions of 10 ns, overlapped
    time_s = charged(device, Product(Kind.UPDATE_OUTER, 4, 300, 20)).time_s
    assert time_s == pytest.approx((40 + slots) * 100e-9 + 10e-9 + 160e-9)
    plain = costed("reram-es").installed([TileShape(1, 300, 20)])
    assert device.installed([TileShape(1, 300, 20)])["adc"] == 2 * plain["adc"]


def test_mixed_precision_by_hand() -> None:
    """6000 sums of 32 bits read, added to, written; one pulse a weight, seven on a row's busiest; no reading back."""
    device = costed("idealized", algorithm="mixed", pulses_per_round=1.0)
    assert device.activity(Product(Kind.UPDATE_OUTER, 4, 300, 20)) is None
    counts = actions(device, Kind.UPDATE, 4, 300, 20)
    assert counts == pytest.approx(
        {
            "accumulator_read": 32 * 6000,
            "accumulator_write": 32 * 6000,
            "add": 6000,
            "dram": 16 * 6000,  # the step, from the host
            "pulse": 6000,
            "gate": 300 * 7 * 40,
            "half_selected": 300 * 7 * 40 + 6000 * 256 - 2 * 6000,
            "pulse_line": 300 * 7 * 512 + 6000 * 256,
            "slot": 7 * 256,
        }
    )
    # 256 x 256 sums of 32 bits: 256 KB an array, 0.419 pJ/bit at 32 nm by CACTI, within the fit's x 1.44 (28 nm: less)
    memory = library.sram(256, 28)
    assert device.components["accumulator_read"].quantity("energy_j") == memory.read
    assert device.installed([TileShape(1, 300, 20)])["accumulator_read"] == 2
    assert costed("idealized").installed([TileShape(1, 300, 20)])["accumulator_read"] == 0


def test_verified_moves_by_hand() -> None:
    """A read, then 5 rounds of 1.1 pulses a weight and a read; the busiest of a row gets 7 times that."""
    device = costed("reram-es")
    counts = actions(device, Kind.UPDATE, 4, 300, 20)
    assert counts["cell_full"] == 6 * 300 * 40
    assert counts["gate"] == pytest.approx(6 * 300 * 40 + 300 * 38.5 * 40)
    assert counts["adc"] == 6 * 6000
    assert counts["dac"] == 6 * 300
    assert counts["settle"] == 6 * 256  # rows of both arrays at once
    assert counts["pulse"] == pytest.approx(5.5 * 6000)
    assert counts["half_selected"] == pytest.approx(300 * 38.5 * 40 + 33_000 * 256 - 2 * 33_000)
    assert counts["slot"] == pytest.approx(38.5 * 256)
    assert counts["dram"] == 16 * 6000
    # 256 rows x 6 reads x 8 conversions of 10 ns, 38.5 x 256 slots of 100 ns, and 10 ns until the first sample
    time_s = charged(device, Product(Kind.UPDATE, 4, 300, 20)).time_s
    assert time_s == pytest.approx(256 * 6 * 80e-9 + 38.5 * 256 * 100e-9 + 10e-9)


def test_programming_and_reading_by_hand() -> None:
    """Weights spread up to 0.6 of a window of 1, steps of 0.0002: 3000 pulses for the largest, 1500 in the mean."""
    device = costed("idealized")
    counts = actions(device, Kind.PROGRAM, 0, 300, 20)
    assert counts["pulse"] == pytest.approx(1500 * 6000)
    assert counts["slot"] == pytest.approx(3000 * 256)
    assert counts["adc"] == 5 * 6000
    assert actions(device, Kind.READ, 0, 300, 20)["adc"] == 6000


# Cells written whole, 8.5 pulses each; a row of 300 waits for its slowest, 3 x 8.5 = 25.5: 7650 firings of rows.
@pytest.mark.parametrize(
    ("encoding", "on_a_row", "pulses", "line"),
    [
        ("reference", 40, 8.5 * 6000, 512),  # references are left alone
        ("offset", 20, 8.5 * 6000, 256),
        ("one-sided", 40, 8.5 * 12_000, 512),  # both cells of a pair
        ("differential", 40, 8.5 * 12_000, 512),
    ],
)
def test_cells_written_whole_by_hand(encoding: str, on_a_row: int, pulses: float, line: int) -> None:
    device = costed("idealized", cell="reram-wan", encoding=encoding, algorithm="verified")
    counts = actions(device, Kind.PROGRAM, 0, 300, 20)
    assert counts["pulse"] == pytest.approx(pulses)
    assert counts["slot"] == pytest.approx(25.5 * 256)  # rows of both arrays at once
    # Every firing of a row is followed by a read of it, in which cells that are done are not converted.
    assert counts["cell_full"] == pytest.approx(7650 * (21 if encoding == "offset" else 40))
    assert counts["adc"] == pytest.approx(8.5 * 6000)
    assert counts["settle"] == pytest.approx(25.5 * 256)
    assert counts["gate"] == pytest.approx(2 * 7650 * on_a_row)  # reads, pulses
    assert counts["half_selected"] == pytest.approx(7650 * on_a_row + pulses * 256 - 2 * pulses)
    assert counts["pulse_line"] == pytest.approx(7650 * line + pulses * 256)


def test_moves_of_cells_written_whole_by_hand() -> None:
    """6000 weights of 16 bits and as many steps from dynamic RAM, sums back to it; then all cells as at first."""
    device = costed("idealized", cell="reram-wan", algorithm="verified", dram="hbm2")
    first, moved = (actions(device, kind, 0, 300, 20) for kind in (Kind.PROGRAM, Kind.UPDATE))
    assert moved == pytest.approx({**first, "dram": 3 * 16 * 6000, "add": 6000})
    assert moved["adc"] == pytest.approx(8.5 * 6000)  # every pulse is read back
    assert picojoule(device, moved)["dram"] == pytest.approx(288_000 * 5.2)


@pytest.mark.parametrize(("preset", "k", "n", "cells"), [("isaac", 130, 3, 8 * 390), ("idealized", 300, 20, 2 * 6000)])
def test_cells_of_digits_are_written_whole(preset: str, k: int, n: int, cells: int) -> None:
    """ISAAC's 8 slices; 2 of cells that pulses could move, but not to digits. Weights in dynamic RAM have no slices."""
    digits = {} if preset == "isaac" else {"encoding": "offset", "weight_slices": 2, "slice_bits": 2}
    counts = actions(costed(preset, program_pulses=4.0, **digits), Kind.UPDATE, 0, k, n)
    assert counts["pulse"] == counts["adc"] == 4 * cells
    assert counts["slot"] == 3 * 4 * (128 if preset == "isaac" else 256)
    assert counts["dram"] == 48 * k * n
    assert counts["add"] == k * n


def test_runs_record_the_share_that_was_rewritten() -> None:
    """12 weights of two digits in base 4, at first all 20: + 1 is 21, one cell of 24; - 1 is 13, two; 0 is none."""
    device = crossbar(
        "idealized", encoding="offset", weight_slices=2, slice_bits=2, algorithm="verified", weight_scale=1.0, **EXACT
    )
    ledger, found = Ledger(), []
    tile = device.program(np.zeros((4, 3), np.float32), name="w", ledger=ledger)
    for units, where in ((1, (1, 2)), (-1, (0, 0)), (0, (3, 1))):
        step = np.zeros((4, 3), np.float32)
        step[where] = units * device.digit
        tile.update(step)
        found.append(recorded(ledger, Kind.UPDATE)["pulse"])
    assert found == pytest.approx([8.5, 3 * 8.5, 3 * 8.5])
    assert recorded(ledger, Kind.UPDATE)["adc"] == pytest.approx(3 * 8.5)
    totals = {name: count for (_, name), count in ledger.counts().items()}
    assert totals["dram"] == 3 * 48 * 12  # what is kept is moved all the same
    assert totals["add"] == 3 * 12


def test_analogue_cells_without_pulses_are_all_rewritten() -> None:
    """4 x 3 pairs of which both cells get 8.5 pulses, even for no step."""
    ledger, device = Ledger(), crossbar("neurram")
    tile = device.program(np.eye(4, 3, dtype=np.float32), name="w", ledger=ledger)
    tile.update(np.zeros((4, 3), np.float32))
    for kind in (Kind.PROGRAM, Kind.UPDATE):
        assert recorded(ledger, kind)["pulse"] == pytest.approx(24 * 8.5)


def test_what_buffers_cannot_hold_goes_off_chip_and_back() -> None:
    """256 x 256 weights: 8 KB = 65,536 bits hold 8 samples of 512 values of 16 bits; of 20, 12 are written and read."""
    found = {m: actions(costed(), Kind.UPDATE_OUTER, m, 256, 256)["dram"] for m in (8, 20)}
    assert found == {8: 0, 20: 2 * 12 * 512 * 16}
    for kind, picojoules in (("hbm2", 5.2), ("lpddr4", 8.0), ("none", 0.0)):
        energy = costed(dram=kind).components["dram"].quantity("energy_j").nominal
        assert energy == pytest.approx(picojoules * 1e-12)


def test_what_im2col_repeats_goes_off_chip_once() -> None:
    """Of 20 x 256 inputs 256 are distinct; with 20 x 256 errors, less what the buffer holds, written and read."""
    seen = actions(costed(), Kind.UPDATE_OUTER, 20, 256, 256, x_values=256)["dram"]
    assert seen == 2 * (16 * (256 + 20 * 256) - 65_536)


# -- what every preset and combination keeps -----------------------------------------------------------------


def combinations() -> list[tuple[str, str]]:
    return [
        (encoding, algorithm)
        for encoding, algorithm in itertools.product(ENCODINGS, ALGORITHMS)
        if not (encoding == "one-sided" and algorithm in WITH_FAST_ARRAY)
    ]


@pytest.mark.parametrize("preset", Costed.presets())
def test_every_value_says_where_it_comes_from(preset: str) -> None:
    for name, part in costed(preset).components.items():
        for what in ("energy_j", "time_s", "static_power_w", "area_mm2"):
            quantity = part.quantity(what)
            assert quantity.source, (preset, name, what)
            assert quantity.certainty in CERTAINTY_ORDER


def sane(device: Costed, op: Product) -> None:
    for name, use in (device.activity(op) or {}).items():
        assert name in device.components
        assert math.isfinite(use.actions), (op, name)
        assert use.actions >= 0, (op, name)
        assert use.units > 0, (op, name)


@pytest.mark.parametrize("preset", Costed.presets())
def test_presets_are_sane_and_monotone(preset: str) -> None:
    device = costed(preset)
    for kind in Kind:
        for m, k, n in ((1, 1, 1), (64, 700, 300), (0, 4, 3)):
            sane(device, Product(kind, m, k, n, 3))
    rates = charged(device, Product(Kind.FORWARD, 1, 700, 300)).rates(device)
    for kind in (Kind.FORWARD, Kind.BACKWARD):
        times = [op_cost(device.activity(Product(kind, m, 700, 300)) or {}, rates).time_s for m in BATCHES]
        assert all(b >= a for a, b in itertools.pairwise(times))


@pytest.mark.parametrize(("encoding", "algorithm"), combinations())
def test_all_combinations_are_sane(encoding: str, algorithm: str) -> None:
    device = costed("idealized", encoding=encoding, algorithm=algorithm)
    for kind in Kind:
        for m, k, n in ((1, 1, 1), (64, 700, 300), (0, 4, 3)):
            sane(device, Product(kind, m, k, n, 2))
    answers = device.activity(Product(Kind.UPDATE_OUTER, 1, 2, 3)) is not None
    assert answers == device.trains_in_place == (algorithm not in ("mixed", "verified"))


def test_what_shares_its_factors_draws_together() -> None:
    parts, draws = costed().components, 1000

    def drawn(name: str, what: str = "energy_j") -> Any:
        return parts[name].quantity(what).draws(draws, f"crossbar/{name}/{what}", 0)

    np.testing.assert_allclose(drawn("half_selected") / drawn("pulse"), 0.25)
    for a, b in (("cell", "cell_full"), ("adc", "adc_back"), ("line", "pulse_line")):
        assert np.corrcoef(np.log(drawn(a)), np.log(drawn(b)))[0, 1] > 0.999
    assert np.corrcoef(np.log(drawn("adc")), np.log(drawn("adc", "static_power_w")))[0, 1] > 0.999
    assert abs(np.corrcoef(np.log(drawn("cell")), np.log(drawn("dac")))[0, 1]) < 5 / draws**0.5  # 5 sigma, n = 1000


def test_one_after_the_other() -> None:
    """10 actions on 2 units and 30 on 5 take 5 + 6 = 11 actions' time: 40 on 40 / 11 units."""
    both = merged({"adc": Use(10, 2)}, {"adc": Use(30, 5), "dac": Use(0, 3)})
    assert both["adc"].actions == 40
    assert both["adc"].units == pytest.approx(40 / 11)
    assert both["dac"].actions == 0


def test_area_of_an_array_by_hand() -> None:
    """256 x 512 cells of 50 F^2 at 28 nm: 131,072 x 50 x 0.000784 um2 = 5138 um2; 768 DACs of 438 um2: 0.336 mm2."""
    device = costed("reram-es")
    units = device.installed([TileShape(1, 256, 256)])

    def square_mm(name: str) -> float:
        part: Component = device.components[name]
        return units[name] * part.quantity("area_mm2").nominal

    assert square_mm("cell") == pytest.approx(5138e-6, rel=1e-3)
    assert square_mm("dac") + square_mm("dac_back") == pytest.approx(0.336, rel=2e-3)  # 256 rows, 2 x 256 columns
    assert square_mm("adc") == pytest.approx(32 * library.adc(9, 1e8, 28).area.nominal)
    assert square_mm("buffer_read") == pytest.approx(8**0.997 * 1370e-6, rel=0.05)  # CACTI: 1819 at 32, 892 at 22 nm
    assert units["multiply"] == 4  # 32 converters of 100 MHz give 3.2 billion results a second, to units of 1 GHz


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"adc_kind": "given"}, "adc_kind=given needs adc_energy_j"),
        ({"adc_kind": "neuron", "adc_bits": 0, "adc_energy_j": 1e-12, "adc_effective_bits": 6}, "bit by bit"),
        ({"adc_bits": 3}, "4 bits at least"),
        ({"dram": "hbm9"}, "no dynamic RAM 'hbm9'"),
    ],
)
def test_what_has_no_price_is_refused(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        costed(**parameters)

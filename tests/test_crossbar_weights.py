"""Signed weights out of cells: encodings, digits of weights and inputs, read noise, refresh, mixed precision, drift."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from crossbar_cells import EXACT, crossbar, plain
from numpy.testing import assert_allclose, assert_array_equal

from hwsim.cost import Kind
from hwsim.devices.crossbar import Crossbar
from hwsim.errors import ConfigError, DeviceError
from hwsim.ledger import Ledger

ENCODINGS = ("reference", "offset", "one-sided", "differential")


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relative(found: Any, exact: Any) -> float:
    return float(np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()))


# -- encodings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("cell", ["Plain", "Climbing"])
@pytest.mark.parametrize("stack", [(), (2,)])
def test_every_encoding_is_a_product(encoding: str, cell: str, stack: tuple[int, ...]) -> None:
    device = plain(cell, encoding=encoding, rows=16, columns=8)
    w, x, dy = normal(*stack, 40, 30), normal(*stack, 7, 40, seed=1), normal(*stack, 7, 30, seed=2)
    tile = device.program(w, name="w")
    assert_allclose(tile.read(), w, atol=1e-5)
    assert_allclose(tile.forward(x), x @ w, atol=1e-4)
    assert_allclose(tile.backward(dy), dy @ w.swapaxes(-1, -2), atol=1e-4)


@pytest.mark.parametrize(
    ("encoding", "cells"),
    [("one-sided", (0.5, 0.0, 0.0, 0.25)), ("differential", (0.75, 0.25, 0.375, 0.625))],
)
def test_cells_of_a_pair(encoding: str, cells: tuple[float, ...]) -> None:
    """Weights 0.5 and -0.25 in a window from 0 to 1: magnitude and nothing, or 0.5 +- half of it."""
    tile = plain("Climbing", encoding=encoding, weight_scale=1.0).program(np.float32([[0.5, -0.25]]), name="w")
    found = [tile.state[f"{side}/g"][0, column] for column in (0, 1) for side in ("plus", "minus")]
    assert_allclose(found, cells)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_mean_pulsed_move_is_the_gradient(encoding: str) -> None:
    """Over n = 300 tiles the mean of w += scale x'dy is that within 5 standard errors in each of 12 cells."""
    cell = "Climbing" if encoding == "one-sided" else "Plain"
    device = plain(cell, encoding=encoding, weight_scale=1.0)
    w, x, dy = 0.2 * np.clip(normal(4, 3), -1, 1), normal(3, 4, seed=1), normal(3, 3, seed=2)
    moves = []
    for i in range(300):
        tile = device.program(w, name=f"{i}")
        tile.update_outer(x, dy, -0.01)
        moves.append(tile.read() - w)
    mean, error = np.mean(moves, axis=0), np.std(moves, axis=0, ddof=1) / 300**0.5
    wanted = -0.01 * x.T @ dy
    assert (abs(mean - wanted) < 5 * error + 1e-6).all()
    assert abs(wanted).max() > 20 * error.max()  # so that a wrong sign or factor would show


def test_pairs_share_pulses_between_their_cells() -> None:
    """One-sided: a pulse goes to one cell; differential: one to each, so half as many are worth the same."""
    counts = {}
    for encoding, cell in (("one-sided", "Climbing"), ("differential", "Plain")):
        ledger = Ledger()
        tile = plain(cell, encoding=encoding).program(0.2 * normal(30, 20), name="w", ledger=ledger)
        tile.update_outer(normal(4, 30, seed=1), normal(4, 20, seed=2), -0.01)
        counts[encoding] = tile.state["plus/pulses"], tile.state["minus/pulses"]
        recorded = sum(float(c["pulse"]) for c in ledger.actual.values() if "pulse" in c)
        assert recorded == sum(int(part.sum()) for part in counts[encoding]) > 100
    assert not (counts["one-sided"][0] * counts["one-sided"][1]).all()
    assert_array_equal(*counts["differential"])


def test_offset_errors_are_common_to_a_row_of_an_array() -> None:
    """The offset column's programming error (sigma 0.02) is subtracted from all columns of its array, no others."""
    device = plain("Noisy", encoding="offset", columns=10, weight_scale=1.0, read_noise="none")
    tile = device.program(np.zeros((400, 20), np.float32), name="w")
    error = tile.read()
    left, right = error[:, :10].mean(axis=1), error[:, 10:].mean(axis=1)
    # Variance of a mean over ten cells: .02^2 (1 + 1/10); n = 400, 5 sigma of a standard deviation: 5 / sqrt(800)
    expected = 0.02 * math.sqrt(1.1)
    assert left.std() == pytest.approx(expected, rel=5 / math.sqrt(800))
    assert abs(np.corrcoef(left, right)[0, 1]) < 5 / math.sqrt(400)  # arrays have offset columns of their own


def test_one_sided_pairs_are_refreshed_when_a_cell_is_nearly_full() -> None:
    device = plain("Climbing", encoding="one-sided", weight_scale=1.0, refresh_at=0.75)
    ledger = Ledger()
    tile = device.program(np.zeros((1, 1), np.float32), name="w", ledger=ledger)
    for _ in range(4):  # 400 pulses up and 300 down by turns: the difference grows, the cells fill
        tile.update(np.float32([[0.4]]))
        tile.update(np.float32([[-0.3]]))
    assert_allclose(tile.read(), 0.4, atol=3e-3)  # eight moves, each dithered by half a pulse of .001
    assert max(tile.state["plus/g"].max(), tile.state["minus/g"].max()) <= 0.75
    recorded = sum(float(c["pulse"]) for c in ledger.actual.values() if "pulse" in c)
    assert recorded > 4 * 700  # moves, resets and climbs


# -- digits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "slices", "bits"), [("offset", 4, 2), ("reference", 2, 4), ("one-sided", 4, 2)])
def test_digits_of_weights(encoding: str, slices: int, bits: int) -> None:
    """Equal to rounding: to 2^8 levels of either sign together, or of each where pairs hold magnitudes."""
    device = plain(encoding=encoding, weight_slices=slices, slice_bits=bits, rows=16, columns=32, weight_fill=1.0)
    w, x = normal(40, 12), normal(7, 40, seed=1)
    tile = device.program(w, name="w")
    most = 2**8 - 1 if encoding == "one-sided" else 2**7 - 1
    rounded = np.rint(w / abs(w).max() * most) * (abs(w).max() / most)
    assert_allclose(tile.read(), rounded, atol=1e-5)
    assert_allclose(tile.forward(x), x @ rounded, atol=1e-4)
    assert_allclose(tile.backward(x @ rounded), (x @ rounded) @ rounded.T, atol=2e-2)


@pytest.mark.parametrize(("coding", "bits", "slices"), [("serial", 2, 4), ("integrated", 1, 8)])
def test_digits_of_inputs(coding: str, bits: int, slices: int) -> None:
    """Four reads of two bits, or eight of one, equal inputs rounded to 2^8 - 1 levels of either sign."""
    device = plain(dac_bits=bits, input_slices=slices, input_coding=coding)
    w, x = normal(40, 12), normal(7, 40, seed=1)
    step = abs(x).max(axis=1, keepdims=True) / 255
    found = device.program(w, name="w").forward(x)
    assert_allclose(found, np.rint(x / step) * step @ w, atol=2e-4)


def test_converters_see_digits() -> None:
    """Serial digits are converted one by one: noise of 0.1 a conversion adds up with the digits' squared weights."""
    noisy = {"output_noise": 0.1, "dac_bits": 1, "input_slices": 4, "weight_scale": 1.0}
    tiles = {
        coding: plain(input_coding=coding, **noisy).program(np.zeros((8, 500), np.float32), name="w")
        for coding in ("serial", "integrated")
    }
    x = np.ones((40, 8), np.float32)
    serial, integrated = (tiles[coding].forward(x).std() for coding in ("serial", "integrated"))
    # serial: 0.1 sqrt(1 + 4 + 16 + 64) / 15; n = 20,000 values: 5 sigma of a standard deviation is 5 / 200
    assert serial == pytest.approx(0.1 * math.sqrt(85) / 15, rel=0.025)
    assert integrated == pytest.approx(0.1, rel=0.025)


# -- read noise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vector", "resampled"])
def test_read_noise_of_vectors(kind: str) -> None:
    """Cells of sigma 0.05: outputs of sigma 0.05 |x|, independent from vector to vector (n = 400 x 30, 5 sigma)."""
    tile = plain("Noisy", read_noise=kind, weight_scale=1.0).program(np.zeros((20, 30), np.float32), name="w")
    x = np.tile(normal(1, 20) / 3, (400, 1))
    largest = abs(x).max()
    noise = (tile.forward(x) - x @ tile.read()) / (0.05 * np.linalg.norm(x[0]))
    assert largest > 0
    assert noise.std() == pytest.approx(1, rel=5 / math.sqrt(2 * noise.size))
    assert abs(noise.mean(axis=0)).max() < 5 / math.sqrt(400)


def test_read_noise_of_a_batch() -> None:
    """1/f noise is slow: all vectors of one read see the same cells, the next read sees others."""
    tile = plain("Noisy", read_noise="batch", weight_scale=1.0).program(np.zeros((20, 300), np.float32), name="w")
    x = np.tile(normal(1, 20), (3, 1))
    first, second = (tile.forward(x) - x @ tile.read() for _ in range(2))
    assert_allclose(first[0], first[2], atol=1e-6)
    assert first.std() == pytest.approx(0.05 * np.linalg.norm(x[0]), rel=5 / math.sqrt(600))
    assert abs(np.corrcoef(first[0], second[0])[0, 1]) < 5 / math.sqrt(300)


def test_read_noise_of_an_offset_column_is_shared() -> None:
    """Cells and offset column of sigma 0.05: outputs of sigma 0.05 |x| sqrt(2), half of it common (n = 4,000)."""
    tile = plain("Noisy", encoding="offset", columns=10, weight_scale=1.0).program(
        np.zeros((20, 10), np.float32), name="w"
    )
    x = np.tile(normal(1, 20), (4000, 1))
    noise = (tile.forward(x) - x @ tile.read()) / (0.05 * np.linalg.norm(x[0]))
    assert noise.std() == pytest.approx(math.sqrt(2), rel=0.05)
    correlation = np.corrcoef(noise[:, 0], noise[:, 9])[0, 1]
    assert correlation == pytest.approx(0.5, abs=5 * 0.75 / math.sqrt(4000))  # sigma of r: (1 - r^2) / sqrt(n)


def test_no_read_noise() -> None:
    tile = plain("Noisy", read_noise="none").program(normal(20, 30), name="w")
    x = normal(5, 20)
    assert_allclose(tile.forward(x), x @ tile.read(), atol=1e-4)


# -- ranges and verification ---------------------------------------------------------------------------------


def test_ranges_are_set_by_outputs_of_normal_inputs() -> None:
    """Six bits on a range that held them all: errors of step / sqrt(12), few clipped; 50 times as wide, all is lost."""
    w, x = normal(200, 50), normal(40, 200, seed=1)
    largest = abs(x / abs(x).max(axis=1, keepdims=True) @ (w / (abs(w).max() / 0.6))).max()
    wide = {"adc_bits": 6, "output_bound": 50 * largest}
    tile = plain(**wide, output_percentile=100.0).program(w, name="w")
    error = (tile.forward(x) - x @ w) / (abs(x).max(axis=1, keepdims=True) * tile.state["scale"])
    bound = tile.state["output_bound/forward"]
    assert bound == pytest.approx(largest, rel=0.3)  # the largest of 3,200 values and of 2,000 others
    assert error.std() == pytest.approx(2 * bound / (2**6 - 2) / math.sqrt(12), rel=0.1)  # n = 2,000 values
    assert relative(plain(**wide).program(w, name="w").forward(x), x @ w) > 0.5


def test_verification_ends_when_nothing_is_missing() -> None:
    """Exact cells are there after one round: one read before, one after; five are charged where shapes alone tell."""
    ledger, device = Ledger(), plain(verify_rounds=5)
    tile = device.program(np.zeros((8, 6), np.float32), name="w", ledger=ledger)
    tile.update(np.full((8, 6), 0.01, np.float32))
    op, counts = next((cell.op, counts) for cell, counts in ledger.actual.items() if cell.op.kind is Kind.UPDATE)
    assert counts["cell_full"] == 2 * 8 * 6 * 2  # cells and their references
    assert device.wear(tile)["verify_rounds_mean"] == 1
    assert device.uses(op)["cell_full"].actions == 6 * 8 * 6 * 2


# -- mixed precision ---------------------------------------------------------------------------------------


def test_mixed_precision_gives_whole_pulses_and_keeps_the_rest() -> None:
    """Ten steps of 0.35 pulses: three pulses, and half a pulse still in digital."""
    device = plain(algorithm="mixed", weight_scale=1.0)
    tile = device.program(np.zeros((3, 4), np.float32), name="w")
    for _ in range(10):
        tile.update(np.full((3, 4), 0.00035, np.float32))
    assert_allclose(tile.read(), 0.003, atol=1e-6)
    assert_allclose(tile.state["accumulated"], 0.0005, atol=1e-6)
    assert not tile.updates_in_place


# -- time --------------------------------------------------------------------------------------------------


def test_drift_and_its_compensation() -> None:
    """(1 + t)^-0.1 after an hour is 0.441; one factor undoes what all cells have in common."""
    w, x = normal(30, 20), normal(5, 30, seed=1)
    for compensation, kept in (("none", 3601**-0.1), ("global", 1.0)):
        tile = plain("Fading", encoding="one-sided", compensation=compensation).program(w, name="w")
        for time_s in (10.0, 3600.0, 1.0, 3600.0):
            tile.drift(time_s)
        assert_allclose(tile.read(), kept * w, rtol=1e-4, atol=1e-5)
        assert_allclose(tile.forward(x), kept * x @ w, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("preset", list(Crossbar.presets()))
def test_no_time_is_no_drift(preset: str) -> None:
    """Persistent states, write noise and scale are all as they were."""
    tile = crossbar(preset).program(0.3 * normal(20, 12), name="w")
    before = tile.read()
    tile.drift(0.0)
    tile.drift(0.0)
    assert_allclose(tile.read(), before, rtol=1e-5, atol=1e-6 * abs(before).max())


def test_compensation_is_of_time_and_not_of_training() -> None:
    """Moves after programming change the weights' mean, and must stay; programming anew starts from 1."""
    tile = plain("Climbing", encoding="one-sided", compensation="global").program(0.2 * normal(20, 12), name="w")
    tile.update(np.full((20, 12), 0.3, np.float32))
    before = tile.read()
    tile.drift(0.0)
    assert_allclose(tile.read(), before, atol=1e-6)
    fading = plain("Fading", encoding="one-sided", algorithm="verified", compensation="global")
    tile = fading.program(normal(20, 12), name="w")
    tile.drift(3600.0)
    assert tile.state["compensation"] == pytest.approx(3601**0.1, rel=1e-3)
    tile.update(np.zeros((20, 12), np.float32))
    assert_allclose(tile.read(), normal(20, 12), atol=1e-5)


def test_nothing_to_compensate() -> None:
    tile = plain("Fading", encoding="one-sided", compensation="global").program(np.zeros((4, 3), np.float32), name="w")
    tile.drift(100.0)
    assert not tile.read().any()


def test_compensation_of_nothing_is_refused() -> None:
    tile = plain("Vanishing", encoding="one-sided", compensation="global").program(normal(4, 3), name="w")
    with pytest.raises(DeviceError, match="nothing is left of its weights after 100 s"):
        tile.drift(100.0)


def test_compensation_reads_are_charged() -> None:
    ledger = Ledger()
    device = plain("Fading", encoding="one-sided", compensation="global")
    tile = device.program(normal(30, 20), name="w", ledger=ledger)
    before = ledger.energy_j
    tile.drift(10.0)
    assert ledger.energy_j > before


def test_a_move_ends_drift() -> None:
    tile = plain("Fading", encoding="one-sided", algorithm="verified").program(normal(30, 20), name="w")
    tile.drift(100.0)
    faded = tile.read()
    tile.update(np.zeros((30, 20), np.float32))  # programs anew what was asked for
    assert relative(tile.read(), faded) > 0.3
    assert not [name for name in tile.state if name.startswith("programmed/")]


@pytest.mark.parametrize("time_s", [-1.0, math.nan, math.inf])
def test_times_that_there_are_not(time_s: float) -> None:
    tile = crossbar("idealized").program(normal(3, 2), name="w")
    with pytest.raises((ConfigError, DeviceError), match="finite time"):
        tile.drift(time_s)


def test_a_checkpoint_in_the_middle_of_drift() -> None:
    device = plain("Noisy", encoding="differential", rows=16)
    tile = device.program(normal(30, 20), name="w")
    tile.drift(50.0)
    other = device.program(np.ones((30, 20), np.float32), name="w", ledger=Ledger())
    other.load(tile.save())
    for each in (tile, other):
        each.drift(500.0)
    assert_array_equal(tile.forward(normal(2, 30)), other.forward(normal(2, 30)))


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"weight_slices": 2}, "slice_bits"),
        ({"encoding": "differential", "slice_bits": 2}, "holds no digits"),
        ({"slice_bits": 2, "algorithm": "mixed"}, "analogue cells"),
        ({"encoding": "one-sided", "cell": "pcm", "algorithm": "tiki-taka"}, "both ways"),
        ({"input_slices": 2, "dac_bits": 0}, "dac_bits"),
        ({"input_slices": 2, "dac_bits": 2, "input_coding": "integrated"}, "dac_bits=1"),
        ({"word_line_ohm": -1.0}, "word_line_ohm=-1"),
        ({"word_line_ohm": math.nan}, "word_line_ohm=nan"),
        ({"encoding": "nope"}, "one of reference"),
        ({"cell": "reram-wan", "encoding": "one-sided", "algorithm": "mixed"}, "only programmed"),
        ({"dac_bits": 8, "input_slices": 4}, "32 bits of inputs"),
        ({"weight_slices": 5, "slice_bits": 8}, "40 bits of weights"),
        ({"refresh_at": 0.0}, "refresh_at=0"),
    ],
)
def test_what_does_not_fit_is_refused(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        crossbar("idealized", **parameters)


def test_weights_beyond_the_window_are_refused_before_anything_is_programmed() -> None:
    with pytest.raises(DeviceError, match="raise it"):
        crossbar("ecram", weight_scale=1.0, **EXACT).program(2 * np.ones((3, 2), np.float32), name="w")

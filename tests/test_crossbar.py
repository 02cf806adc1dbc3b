"""The crossbar: conformance of its presets, exact limits, mean moves, energies by hand, training, and endurance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crossbar_cells import EXACT, crossbar
from numpy.testing import assert_allclose, assert_array_equal

import hwsim
from hwsim import models
from hwsim.cost import Kind
from hwsim.devices.crossbar import Crossbar
from hwsim.errors import DeviceError
from hwsim.ledger import Ledger
from hwsim.testing import check_device
from hwsim.testing.bench import train

PULSED = (
    "reram-es",
    "capacitor",
    "ecram",
    "idealized",
    "gokmen-vlasov",
    "reram-sb",
    "reram-array-om",
    "reram-array-hfo2",
)
PRESETS = (*PULSED, "ecram-mo", "pcm", "hermes", "reram-wan", "sonos", "isaac", "neurram", "hermes-chip")

CELLS = '''
from hwsim.devices.crossbar.cells import Cell
from hwsim.devices.crossbar.steps import ConstantStep


class Plain(ConstantStep):
    """Constant steps, and no two cells or pulses that differ."""

    dw_min = 0.001
    dw_min_d2d = 0.0
    dw_min_std = 0.0
    up_down_d2d = 0.0
    w_min = -1.0
    w_max = 1.0
    w_min_d2d = 0.0
    w_max_d2d = 0.0
    g_min_siemens = 1e-6
    g_max_siemens = 1e-5


class Mortal(Plain):
    """Stops after ten pulses."""

    endurance = 10.0


class Fixed(Cell):
    """Programmed, never pulsed."""

    g_min_siemens = 1e-6
    g_max_siemens = 1e-5
'''


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("cells") / "plain.py"
    path.write_text(CELLS)
    return path


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- promises --------------------------------------------------------------------------------------------


def test_presets_are_those_tested() -> None:
    assert set(Crossbar.presets()) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_conformance(preset: str) -> None:
    report = check_device(lambda: crossbar(preset))
    # A claim holds for numbers alone: a NaN compares as no error.
    for result in report.results:
        assert result.measured is None or np.isfinite(result.measured), result.name


def test_small_arrays_conform(file: Path) -> None:
    """Matrices cut into many arrays; exact but for pulses of 0.001, and for trains."""
    claims = {"claim_forward": 1e-6, "claim_backward": 1e-6, "claim_update": 0.1, "claim_update_outer": 1.0}
    make = {"cell": f"{file}:Plain", "rows": 16, "columns": 8, "claim_bias": 0.02, **EXACT, **claims}
    check_device(lambda: crossbar("idealized", **make))


def test_cells_that_are_only_programmed_conform(file: Path) -> None:
    make = {"cell": f"{file}:Fixed", "claim_update": 1e-4, "claim_bias": 0.02}
    check_device(lambda: crossbar("idealized", **make))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"adc_bits": 0}, "adc_effective_bits"),
        ({"adc_bits": 3}, "4 bits at least"),
        ({"adc_bits": 1, "adc_effective_bits": 6}, "2 bits or more"),
        ({"cell": "nope"}, "no cell 'nope'"),
        ({"rows": 0}, "rows=0"),
        ({"desired_bl": 0}, "desired_bl=0"),
    ],
)
def test_what_does_not_fit_is_refused(parameters: Mapping[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        crossbar(**parameters)


# -- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [(), (3,)])
def test_without_noise_and_rounding_it_is_a_product(file: Path, stack: tuple[int, ...]) -> None:
    device = crossbar("idealized", cell=f"{file}:Plain", rows=16, columns=8, **EXACT)
    w, x, dy = normal(*stack, 50, 30), normal(*stack, 7, 50, seed=1), normal(*stack, 7, 30, seed=2)
    tile = device.program(w, name="w")
    assert tile.state["scale"] == pytest.approx(abs(w).max() / 0.6)
    assert_allclose(tile.read(), w, rtol=1e-6, atol=1e-7)
    assert_allclose(tile.forward(x), x @ w, atol=1e-5 * 50**0.5)  # float32 sums of 50 terms of size 1
    assert_allclose(tile.backward(dy), dy @ w.swapaxes(-1, -2), atol=1e-5 * 50**0.5)


def test_mean_pulsed_move_is_the_gradient(file: Path) -> None:
    """Over n = 400 tiles the mean of w += scale x'dy is that within 5 standard errors in each of 20 cells."""
    device = crossbar("idealized", cell=f"{file}:Plain", weight_scale=1.0)
    w, x, dy = 0.3 * np.clip(normal(4, 5), -1, 1), normal(3, 4, seed=1), normal(3, 5, seed=2)
    for scale in (-0.004, 0.004):
        moves = []
        for i in range(400):
            tile = device.program(w, name=f"{scale}/{i}")
            tile.update_outer(x, dy, scale)
            moves.append(tile.read() - w)
        mean, error = np.mean(moves, axis=0), np.std(moves, axis=0, ddof=1) / 400**0.5
        wanted = scale * x.T @ dy
        assert (abs(mean - wanted) < 5 * error + 1e-6).all()
        assert abs(wanted).max() > 50 * error.max()  # so that a wrong sign or factor would show


def test_mean_verified_move_is_the_step(file: Path) -> None:
    """Steps of 0.3 pulses: dither makes them right on average, n = 1600 cells of one pulse or none, 5 sigma."""
    device = crossbar("idealized", cell=f"{file}:Plain", weight_scale=1.0)
    tile = device.program(np.zeros((40, 40), np.float32), name="w")
    tile.update(np.full((40, 40), 0.0003, np.float32))
    moved = tile.read()
    assert set(np.unique(np.rint(moved / 0.001))) == {0, 1}
    sigma = 0.001 * (0.3 * 0.7 / 1600) ** 0.5
    assert abs(moved.mean() - 0.0003) < 5 * sigma


def test_same_scale_after_a_checkpoint() -> None:
    device, w = crossbar(seed=3), normal(6, 4)
    tile = device.program(w, name="w")
    other = device.program(5 * w, name="w", ledger=Ledger())
    other.load(tile.save())
    for each in (tile, other):
        each.update_outer(normal(3, 6), normal(3, 4), -0.1)
    assert_array_equal(tile.read(), other.read())
    assert_array_equal(tile.forward(normal(2, 6)), other.forward(normal(2, 6)))


# -- cost --------------------------------------------------------------------------------------------------


def test_a_run_asks_for_what_its_shapes_do() -> None:
    device = crossbar("ecram", rows=4, columns=3)
    run, traced = (train(device, predict=5, shape_only=alone).ledger for alone in (False, True))
    assert run.calls == traced.calls
    assert run.total_j(actual=False) == traced.total_j(actual=False)


def test_every_value_says_where_it_comes_from() -> None:
    for preset in PRESETS:
        for name, component in crossbar(preset).components.items():
            for what in ("energy_j", "time_s", "static_power_w"):
                assert component.quantity(what).source, (preset, name, what)


def test_actual_energy_of_a_read_is_that_of_its_inputs_and_cells(file: Path) -> None:
    """V^2 G t of the very inputs and conductances, however small the inputs were before they were scaled."""
    device = crossbar("idealized", cell=f"{file}:Plain", weight_scale=1.0, **EXACT)
    x, w = np.float32([[1, -0.5], [0, 0.25]]) * np.float32(1e-30), np.float32([[0.5, -1.0, 0.0], [0.2, 0.4, 1.0]])
    ledger = Ledger()
    device.program(w, name="w", ledger=ledger).forward(x)
    counts = next(counts for cell, counts in ledger.actual.items() if cell.op.kind is Kind.FORWARD)
    # Inputs at full scale: (1, -.5) and (0, 1), squares summed: 1 and 1.25. Conductances 1 uS at -1 to 10 uS at 1, with
    # a reference of 5.5 uS beside every cell: (7.75 + 1 + 5.5) + 16.5 = 30.75 and (6.4 + 7.3 + 10) + 16.5 = 40.2 uS
    energy_j = float(counts["cell"]) * device.components["cell"].quantity("energy_j").nominal
    volts, seconds = device.read_voltage_v.nominal, device.read_time_s.nominal
    assert energy_j == pytest.approx(volts**2 * seconds * (1 * 30.75e-6 + 1.25 * 40.2e-6), rel=1e-5, abs=0)
    lines = float(counts["line"])
    assert lines == pytest.approx((1 + 1.25) * 512, rel=1e-5)  # both lines pass 256 cells and references


# -- pulses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["reram-es", "Plain", "Mortal"])
def test_pulses_on_the_tile_are_those_charged(file: Path, cell: str) -> None:
    device = crossbar("idealized", cell=cell if cell == "reram-es" else f"{file}:{cell}")
    ledger = Ledger()
    tile = device.program(0.2 * normal(2, 6, 4), name="w", ledger=ledger)
    tile.update_outer(normal(2, 3, 6), normal(2, 3, 4), -0.01)
    tile.update(0.01 * normal(2, 6, 4))
    recorded = sum(int(counts["pulse"]) for counts in ledger.actual.values())
    assert recorded == int(tile.state["pulses"].sum()) > 100


def test_worn_cells_stop(file: Path) -> None:
    device = crossbar("idealized", cell=f"{file}:Mortal", weight_scale=1.0)
    tile = device.program(np.zeros((5, 4), np.float32), name="w")
    for _ in range(3):
        tile.update(np.full((5, 4), 0.008, np.float32))
    assert_allclose(tile.read(), 0.01, atol=1e-6)  # ten pulses of 0.001, not 24
    assert (tile.state["pulses"] > 10).all()  # all that were sent are counted


def test_writing_wears_cells_too(file: Path) -> None:
    """Cells that stop after 30 pulses, written whole by 10 each: programming and two updates, and then no more."""
    path = f"{file}:Fixed+endurance=30"
    device = crossbar("idealized", cell=path, weight_scale=1.0, program_pulses=10, algorithm="verified")
    ledger = Ledger()
    tile = device.program(np.zeros((5, 4), np.float32), name="w", ledger=ledger)
    for _ in range(4):
        tile.update(np.full((5, 4), 0.1, np.float32))
    assert_allclose(tile.read(), 0.2, atol=1e-6)
    assert (tile.state["pulses"] == 50).all()
    assert sum(float(counts["pulse"]) for counts in ledger.actual.values()) == 50 * 20
    assert device.wear(tile)["endurance_used"] == pytest.approx(50 / 30)


def test_only_digits_that_change_are_written(file: Path) -> None:
    device = crossbar("idealized", cell=f"{file}:Fixed", encoding="offset", weight_slices=4, slice_bits=2,
                      algorithm="verified", **EXACT)  # fmt: skip
    tile = device.program(0.5 * normal(20, 10), name="w")
    before = [tile.state[f"slice{digit}/pulses"].copy() for digit in range(4)]
    lowest = tile.state["scale"] * device.digit
    tile.update(np.full((20, 10), 0.9 * lowest, np.float32))
    changed = [float((tile.state[f"slice{digit}/pulses"] > spent).mean()) for digit, spent in enumerate(before)]
    assert changed[0] > 0.6 > 0.4 > changed[1] > changed[3]  # a carry out of a digit of base 4 is one in four


def test_write_noise_is_drawn_where_pulses_fell() -> None:
    device = crossbar("reram-es")
    tile = device.program(0.2 * normal(30, 20), name="w")
    before, x, spent = tile.read(), normal(1, 30), tile.state["pulses"].copy()
    x[0, :15] = 0
    tile.update_outer(x, normal(1, 20), -0.001)
    touched = tile.state["pulses"] > spent
    assert not touched[:15].any()
    assert touched[15:].any()
    assert_array_equal(tile.read() != before, touched)


def test_a_device_whose_window_is_narrower_than_a_step_stays_finite() -> None:
    device = crossbar(cell="reram-sb")
    tile = device.program(0.2 * normal(200, 200), name="w")
    for _ in range(3):
        tile.update_outer(normal(20, 200), normal(20, 200), -0.1)
    assert np.isfinite(tile.read()).all()


# -- training ----------------------------------------------------------------------------------------------


def digits(preset: str, **settings: Any) -> float:
    data, net = hwsim.data.load("digits"), models.mlp([64, 32, 10])
    accuracy = hwsim.fit(net, data, crossbar(preset), epochs=10, **settings).test_accuracy
    assert accuracy is not None
    return accuracy


def test_digits_are_learnt_beyond_the_last_layer() -> None:
    """ecram over five seeds: 0.959 +- 0.013, the control 0.799 +- 0.049 (standard deviations); exact: 0.965."""
    everything, last_layer = (digits("ecram", learning_rate=0.4, batch=16, frozen=names) for names in ((), ("fc1",)))
    assert everything > 0.92
    assert everything > last_layer + 0.05


def test_digits_on_cells_with_much_write_noise() -> None:
    """reram-es over sixteen seeds: 0.768 +- 0.067 (standard deviation); chance is 0.10."""
    assert digits("reram-es", learning_rate=0.1, batch=8) > 0.5

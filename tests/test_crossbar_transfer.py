"""Tiki-Taka and its heirs: symmetry points, what transfers move, and how much of the gap they close."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from crossbar_cells import plain
from numpy.testing import assert_allclose

from hwsim.devices.crossbar import cells
from hwsim.devices.crossbar.transfer import symmetry_point
from hwsim.ledger import Ledger


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_symmetry_point_of_soft_bounds() -> None:
    """(su - sd) / (su / b_max - sd / b_min): where the two linear steps are equal."""
    cell = cells.cell("reram-sb", w_max_d2d=0.1, w_min_d2d=0.1)
    own = cell.populate(np, np.random.default_rng(0), (50, 40))
    up, down, low, high = (own[name].astype(float) for name in ("step_up", "step_down", "w_min", "w_max"))
    slopes = own["slope_up"].astype(float), own["slope_down"].astype(float)
    assert_allclose(slopes[0], up / high, rtol=1e-5)
    expected = (up - down) / (up / high - down / low)
    assert_allclose(symmetry_point(np, cell, own, 0.0), expected, atol=1e-6)


def regression(cell: str, algorithm: str, seed: int, **parameters: Any) -> float:
    """RMS error of the weights of a noisy linear regression, 6,000 samples one by one."""
    rng = np.random.default_rng(seed)
    w = rng.uniform(-0.3, 0.3, (10, 6)).astype(np.float32)
    device = plain(cell, algorithm=algorithm, weight_scale=1.0, seed=seed, **parameters)
    tile = device.program(np.zeros_like(w), name="w")
    for _ in range(6000):
        x = rng.uniform(-1, 1, (1, 10)).astype(np.float32)
        y = x @ w + 0.3 * rng.standard_normal((1, 6), dtype=np.float32)
        tile.update_outer(x, tile.forward(x) - y, -0.05)
    return float(np.sqrt(((tile.read() - w) ** 2).mean()))


def test_tiki_taka_closes_the_gap_to_ideal_cells() -> None:
    """Soft bounds pull weights to their symmetry point, the more the noisier gradients are; Tiki-Taka does not mind."""
    parameters = {"transfer_rate": 0.02}
    plain_sgd, taken, ideal = (
        np.mean([regression(cell, algorithm, seed, **more) for seed in range(2)])
        for cell, algorithm, more in (("Soft", "sgd", {}), ("Soft", "tiki-taka", parameters), ("Wide", "sgd", {}))
    )
    assert plain_sgd > 1.4 * ideal
    assert plain_sgd - taken > 0.8 * (plain_sgd - ideal)


@pytest.mark.parametrize("algorithm", ["ttv2", "c-ttv2"])
def test_heirs_are_better_than_plain(algorithm: str) -> None:
    better = regression("Soft", algorithm, 0, transfer_rate=0.02)
    assert better < 0.6 * regression("Soft", "sgd", 0)


def test_a_transfer_moves_what_is_read() -> None:
    """Gradients of one direction fill the fast array; n = 40 transfers of each row move the slow one the same way."""
    device = plain("Wide", algorithm="tiki-taka", weight_scale=1.0, transfer_every=1, transfer_rate=0.1)
    tile = device.program(np.zeros((3, 4), np.float32), name="w")
    x, d = np.ones((1, 3), np.float32), np.float32([[1, -1, 0.5, 0]])
    expected = np.zeros((3, 4))
    for sample in range(120):
        tile.update_outer(x, d, -0.004)  # two pulses of 0.002 where |x d| = 1
        expected[sample % 3] += 0.1 * tile.state["fast/g"][sample % 3]
    moved = tile.read()
    # each transfer is a binomial number of pulses of 0.002 with mean `expected / 0.002`: variance at most the mean's
    sigma = np.sqrt(0.002 * abs(expected))
    assert (abs(moved - expected) <= 5 * sigma).all()
    assert (np.sign(moved[:, :3]) == [-1, 1, -1]).all()


def test_ttv2_gives_one_pulse_for_every_threshold() -> None:
    """What is read adds up in digital: pulses given and what is left are all that was read."""
    device = plain("Wide", algorithm="ttv2", weight_scale=1.0, transfer_every=1, transfer_rate=0.1)
    tile = device.program(np.zeros((3, 4), np.float32), name="w")
    x, d, read = np.ones((1, 3), np.float32), np.float32([[1, -1, 0.5, 0]]), np.zeros((3, 4))
    for sample in range(60):
        tile.update_outer(x, d, -0.001)
        read[sample % 3] += 0.1 * tile.state["fast/g"][sample % 3] / 0.002
    assert_allclose(tile.read() / 0.002 + tile.state["fast/buffer"], read, atol=2e-3)


def test_choppers_flip_inputs_and_what_is_read_alike() -> None:
    """With exact cells and a chopper that always flips, the slow array moves as without one."""
    moved = []
    for probability in (0.0, 1.0):
        device = plain("Wide", algorithm="c-ttv2", weight_scale=1.0, transfer_rate=0.5, chop_probability=probability)
        tile = device.program(np.zeros((2, 4), np.float32), name="w")
        for _ in range(200):
            tile.update_outer(np.ones((2, 2), np.float32), np.float32([[1, -1, 0.5, 0]] * 2), -0.002)
        moved.append(tile.read())
        assert set(np.unique(tile.state["fast/sign"])) <= {-1.0, 1.0}
    assert (np.sign(moved[0][:, :2]) == np.sign(moved[1][:, :2])).all()


@pytest.mark.parametrize("algorithm", ["tiki-taka", "ttv2"])
@pytest.mark.parametrize("encoding", ["reference", "offset", "differential"])
def test_no_gradient_moves_nothing(algorithm: str, encoding: str) -> None:
    """Fast weights are counted from where they start, offset columns and their errors included."""
    device = plain("Soft", encoding=encoding, algorithm=algorithm)
    tile = device.program(0.1 * normal(6, 5), name="w")
    before = tile.read()
    for _ in range(3):
        tile.update_outer(np.zeros((20, 6), np.float32), np.zeros((20, 5), np.float32), -0.1)
    assert_allclose(tile.read(), before, atol=1e-6)


def test_wear_is_that_of_the_fast_array_too() -> None:
    device = plain("Soft", algorithm="tiki-taka")
    tile = device.program(0.1 * normal(6, 5), name="w")
    for i in range(5):
        tile.update_outer(normal(20, 6, seed=i), normal(20, 5, seed=i), -0.1)
    assert device.wear(tile)["pulses_most"] == tile.state["fast/pulses"].max() > tile.state["pulses"].max()


def test_rows_wrap_around_and_no_sample_is_lost() -> None:
    """64 samples a batch, a transfer every third: 5 batches are 320 samples, 106 transfers, over 7 rows."""
    device, ledger = plain("Wide", algorithm="tiki-taka", transfer_every=3), Ledger()
    tile = device.program(0.1 * normal(7, 5), name="w", ledger=ledger)
    for i in range(5):
        tile.update_outer(normal(64, 7, seed=i), normal(64, 5, seed=i), -0.001)
    assert tile.state["fast/samples"] == 320

"""Hardware-aware training: what is noisy, what is exact, what it costs, and what it is good for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import hwsim
from hwsim import models
from hwsim.devices.crossbar.aware import Aware
from hwsim.errors import DeviceError
from hwsim.testing import check_device
from hwsim.testing.bench import train


def aware(preset: str | None = None, /, **parameters: Any) -> Aware:
    return Aware.create(preset, parameters)


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("preset", list(Aware.presets()))
def test_conformance(preset: str) -> None:
    check_device(lambda: aware(preset))


def test_forward_is_noisy_and_all_else_exact() -> None:
    """Noise of one mini-batch is one draw: all its vectors see the same weights, but for read noise and converters."""
    tile = aware("reram-wan").program(normal(30, 20), name="w")
    x, dy = normal(5, 30, seed=1), normal(5, 20, seed=2)
    w = tile.read()
    assert_array_equal(w, normal(30, 20))
    assert_allclose(tile.backward(dy), dy @ w.T, rtol=1e-5, atol=1e-5)
    assert_allclose(tile.gradient(x, dy), x.T @ dy, rtol=1e-5, atol=1e-5)
    assert abs(tile.forward(x) - x @ w).max() > 0.1
    before = tile.state["noisy"].copy()
    tile.forward(x)
    assert_array_equal(tile.state["noisy"], before)
    tile.update(np.zeros((30, 20), np.float32))
    assert (tile.state["noisy"] != before).any()


def test_programming_error_has_the_chips_size() -> None:
    """Phase change, u = 0.6 at most: sigma .26348 + 1.9650 u - 1.1731 u^2 uS of 25, and .26348 at rest."""
    device = aware("pcm")
    tile = device.program(np.ones((100, 100), np.float32), name="w")
    fill, span = device.hardware.weight_fill, device.hardware.model.span
    sigma_us = math.hypot(0.26348 + 1.9650 * fill - 1.1731 * fill**2, 0.26348)
    error = tile.state["noisy"] / span - fill
    assert error.std() == pytest.approx(sigma_us / 25, rel=5 / math.sqrt(20_000))
    assert abs(error.mean()) < 5 * sigma_us / 25 / 100
    exact = aware("pcm", noise_factor=0.0).program(np.ones((3, 2), np.float32), name="w")
    assert_allclose(exact.state["noisy"], fill * span, rtol=1e-6)


def test_weights_are_clipped_to_their_spread() -> None:
    tile = aware("pcm", clip_sigma=2.0).program(normal(50, 40), name="w")
    tile.update(np.zeros((50, 40), np.float32))
    assert abs(tile.read()).max() == pytest.approx(2.0 * np.sqrt((normal(50, 40) ** 2).mean()), rel=1e-5)


def test_it_costs_what_its_machine_costs() -> None:
    for on in ("digital", "gpu:h100"):
        own, machine = (train(device, shape_only=True).ledger for device in (aware(on=on), hwsim.device(on)))
        ours, theirs = (
            {kind: joules for (kind,), joules in ledger.energy(["component"]).items()} for ledger in (own, machine)
        )
        assert set(ours) <= set(theirs)
        assert own.macs() == machine.macs()
        assert ours["mac" if on == "digital" else next(iter(ours))] > 0


def test_training_with_noise_helps_after_a_year() -> None:
    """Digits, six programmings of each of two networks: .926 +- .008 after hardware-aware training, .888 +- .020 else.

    Means over six programmings; the difference is held to a fifth of what was measured.
    """
    data, net = hwsim.data.load("digits"), models.mlp([64, 32, 10])
    settings = {"epochs": 10, "learning_rate": 0.2, "batch": 16}
    found = {}
    for training in ("ideal", "aware:pcm"):
        run = hwsim.fit(net, data, training, **settings)
        rows = hwsim.ageing(run, data, "crossbar:pcm", ages_s=(365 * 86400.0,), seeds=6)
        found[training] = float(np.mean([row.accuracy for row in rows]))
    assert found["aware:pcm"] > found["ideal"] + 0.007


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"chip": "isaac"}, "digits"),
        ({"chip": "nope"}, "nope"),
        ({"on": "nope"}, "no device 'nope'"),
        ({"noise_factor": -1}, "noise_factor"),
    ],
)
def test_what_does_not_fit_is_refused(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        _ = aware(**parameters).components

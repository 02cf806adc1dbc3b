"""On a real card, through CuPy: python -m pytest -m gpu. Without a card every test here is skipped, and says why."""

import math
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim
from hwsim import arrays, losses, models, registry
from hwsim.arrays import to_host
from hwsim.devices.gpu.card import FIRST_CAPABILITY
from hwsim.errors import ConfigError, DeviceError
from hwsim.learning.backprop import backprop
from hwsim.nn import Network
from hwsim.optim import optimizer

pytestmark = pytest.mark.gpu

LABELS = np.array([0, 1, 2, 1, 0, 2, 1, 0])
X = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
EXACT = (
    "ideal",
    "digital:fp32",
    "digital:bf16",
    "digital:fp8",
    "cpu",
    "gpu:h100:precision=fp32",
    "reversible:adiabatic_cmos",
)
SHAPES = [((), 64, 256, 128), ((), 37, 301, 65), ((2, 3), 40, 128, 24), ((), 1, 4096, 256)]  # stack, m, k, n
READS = ("get", "item", "tolist", "__float__", "__int__", "__bool__")  # of arrays: the processor waits
SEEDS = 8


@pytest.fixture(autouse=True, scope="module")
def cupy() -> Any:
    """CuPy, where it has a card."""
    try:
        return arrays.namespace("cupy")
    except ConfigError as error:
        pytest.skip(str(error))


def on_card(device: str, **parameters: Any) -> Any:
    """The device with arrays on the card; skips what this card has no units for."""
    try:
        return hwsim.device(device, array="cupy", **parameters)
    except DeviceError as error:
        pytest.skip(str(error))


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def noisy() -> list[str]:
    """Every preset of every device that draws noise."""
    names = {name: registry.device_class(name).presets() for name in ("crossbar", "aware", "optical")}
    return [f"{name}:{preset}" for name, found in names.items() for preset in found]


# -- products ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", sorted(FIRST_CAPABILITY))
@pytest.mark.parametrize(("stack", "m", "k", "n"), SHAPES)
def test_products_keep_the_rounding_bound_of_their_precision(
    precision: str, stack: Any, m: int, k: int, n: int
) -> None:
    """Against float64: the RMS error is within the contract, a bound that holds for normal operands."""
    device = on_card("gpu:h100", precision=precision)
    w, x, dy = (normal(*stack, *shape, seed=i) for i, shape in enumerate([(k, n), (m, k), (m, n)]))
    tile = device.program(w, name="w")
    w, x, dy = (each.astype(np.float64) for each in (w, x, dy))
    given_x, given_dy = device.asarray(x), device.asarray(dy)
    for found, exact, bound in (
        (tile.forward(given_x), x @ w, device.contract.forward),
        (tile.backward(given_dy), dy @ w.swapaxes(-1, -2), device.contract.backward),
        (tile.gradient(given_x, given_dy), x.swapaxes(-1, -2) @ dy, device.contract.gradient),
    ):
        error = to_host(found) - exact
        assert math.sqrt((error**2).mean() / (exact**2).mean()) <= bound


@pytest.mark.parametrize("precision", sorted(set(FIRST_CAPABILITY) - {"int8"}))  # which draws, from another generator
@pytest.mark.parametrize(("stack", "m", "k", "n"), SHAPES)
def test_a_card_multiplies_what_is_emulated(precision: str, stack: Any, m: int, k: int, n: int) -> None:
    """Operands are rounded alike, so that sums differ by their order, and here and there by a rounding of the result.

    The tensor cores of Hopper keep fewer bits than float32 between the terms of fp8: 2^-13 of the largest is allowed.
    """
    there = on_card("gpu:h100", precision=precision)
    here = hwsim.device("gpu:h100", precision=precision)
    w, x = normal(*stack, k, n), normal(*stack, m, k, seed=1)
    found, expected = (
        to_host(device.program(w, name="w").forward(device.asarray(x))).astype(np.float64) for device in (there, here)
    )
    bound = here.policy.output.epsilon + (2.0**-13 if precision == "fp8" else 2.0**-23 * math.sqrt(k))
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


# -- training ------------------------------------------------------------------------------------------------


def trained(device: Any, steps: int = 5, seed: int = 1) -> list[float]:
    """The losses of a tiny network."""
    net, mover = Network(models.mlp([6, 5, 3]), device, seed=seed), optimizer("sgd", 0.05)
    return [float(to_host(backprop(net, X, LABELS, losses.cross_entropy, mover))) for _ in range(steps)]


@pytest.mark.parametrize("device", EXACT)
def test_devices_without_noise_train_to_the_losses_of_numpy(device: str) -> None:
    """Within 1e-4: what a sum in another order moves, and at times a value on the other side of a tie (bf16: 2^-9)."""
    tolerance = 1e-2 if device.endswith(("bf16", "fp8")) else 1e-4
    assert trained(on_card(device)) == pytest.approx(trained(hwsim.device(device)), rel=tolerance)


@pytest.mark.parametrize("precision", sorted(FIRST_CAPABILITY))
def test_the_gpu_trains_in_each_precision_to_the_losses_of_its_emulation(precision: str) -> None:
    device = f"gpu:h100:precision={precision}"
    assert trained(on_card(device)) == pytest.approx(trained(hwsim.device(device)), rel=5e-2)


@pytest.mark.parametrize("device", noisy())
def test_noisy_devices_train_to_the_losses_of_numpy_on_average(device: str) -> None:
    """Generators of libraries differ: the last losses of 8 seeds on each, means within 5 sigma of the difference."""
    found = [
        np.array([trained(make(seed), steps=3)[-1] for seed in range(SEEDS)])
        for make in (lambda seed: on_card(device, seed=seed), lambda seed: hwsim.device(device, seed=seed))
    ]
    sigma = math.sqrt(sum(each.var(ddof=1) / SEEDS for each in found))
    assert np.isfinite(found[0]).all()
    assert abs(found[0].mean() - found[1].mean()) <= 5 * sigma + 1e-6


# -- waiting -------------------------------------------------------------------------------------------------


@contextmanager
def waits(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """The files of hwsim in which values of arrays are read, and how often."""
    found: Counter[str] = Counter()

    def noting(read: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            frame: Any = sys._getframe(1)
            while frame.f_back is not None and "hwsim" not in frame.f_globals.get("__name__", ""):
                frame = frame.f_back
            found[Path(frame.f_code.co_filename).name] += 1
            return read(*arguments, **keywords)

        return call

    with monkeypatch.context() as patched:
        for name in READS:
            patched.setattr(cupy.ndarray, name, noting(getattr(cupy.ndarray, name)))
        yield found


@pytest.mark.parametrize(
    "device", ["ideal", "digital:int8", "cpu", *(f"gpu:h100:precision={p}" for p in FIRST_CAPABILITY)]
)
def test_a_training_step_waits_for_no_value(device: str, cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net, mover = Network(models.mlp([6, 5, 3]), on_card(device), seed=1), optimizer("adam", 0.05)
    backprop(net, X, LABELS, losses.cross_entropy, mover)
    with waits(cupy, monkeypatch) as found:
        value = backprop(net, X, LABELS, losses.cross_entropy, mover)
    assert not found, found
    with waits(cupy, monkeypatch) as found:
        float(value)
    assert sum(found.values()) >= 1  # this test would see one


# -- checkpoints ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "device", ["gpu:h100:precision=bf16", "gpu:h100:precision=fp8", "crossbar:ecram", "optical:homodyne"]
)
def test_training_that_goes_on_from_a_checkpoint_ends_with_the_same_bits(device: str, tmp_path: Path) -> None:
    data, model = hwsim.data.load("xor"), models.xor()
    whole = hwsim.fit(model, data, on_card(device), epochs=4, batch=4, learning_rate=0.1)
    hwsim.fit(model, data, on_card(device), epochs=2, batch=4, learning_rate=0.1, checkpoint=tmp_path / "a.npz")
    resumed = hwsim.fit(
        model, data, on_card(device), epochs=4, batch=4, learning_rate=0.1, checkpoint=tmp_path / "a.npz", resume=True
    )
    saved, expected = resumed.network.save(), whole.network.save()
    assert [epoch.loss for epoch in resumed.epochs] == [epoch.loss for epoch in whole.epochs]
    assert set(saved) == set(expected)
    assert all(np.array_equal(saved[name], expected[name]) for name in expected)

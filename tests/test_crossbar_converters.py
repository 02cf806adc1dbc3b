"""Converters: levels by hand, exact limits, noise at 5 sigma, equal numbers on every path, slices that recombine."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hwsim import arrays
from hwsim.devices.crossbar import converters, pulses
from hwsim.devices.crossbar.converters import Converter, Periphery, convert, read
from hwsim.errors import ConfigError, ShapeError

Host = np.ndarray[Any, Any]
AIHWKIT = Periphery(Converter(1, 2 / 126), Converter(12, 24 / 510, 0.06), bound_management="iterative")


def normal(*shape: int, seed: int = 0) -> Host:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def both_paths(monkeypatch: pytest.MonkeyPatch, work: Any) -> tuple[Any, Any]:
    """What `work` returns with Numba, and without."""
    fast = work()
    with monkeypatch.context() as patch:
        patch.setattr(pulses, "numba_kernels", lambda: None)
        return fast, work()


def test_levels_by_hand() -> None:
    """3 bits: 7 levels -1, -2/3 .. 1. Halves go to the even multiple of the step."""
    three = Converter.of_bits(3, 1.0)
    assert three.step == pytest.approx(1 / 3)
    v = np.array([[0, 0.16, 0.17, 0.34, 0.9, 1.0, 1.1, -3, -0.4]], np.float32)
    found, over = convert(np, v, three, 0)
    assert_allclose(found, [[0, 0, 1 / 3, 1 / 3, 1, 1, 1, -1, -1 / 3]], atol=1e-6)
    assert over.tolist() == [1]  # 1.1 is nearest to 1; only -3 was clipped
    assert_array_equal(convert(np, np.array([[0.5, 1.5, 2.5]], np.float32), Converter(9, 1), 0)[0], [[0, 2, 2]])
    assert Converter.of_bits(7, 1).step == pytest.approx(2 / 126)
    assert Converter.of_bits(8, 1).step == pytest.approx(2 / 254)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_number_of_levels(bits: int) -> None:
    v = np.linspace(-1.2, 1.2, 4001, dtype=np.float32)[None]
    found, _ = convert(np, v, Converter.of_bits(bits, 1.0), 0)
    assert len(np.unique(np.rint(found * (2**bits - 2) / 2))) == 2**bits - 1
    inside = np.abs(v) <= 1
    assert np.abs(found - v)[inside].max() <= 1 / (2**bits - 2) + 1e-6


def test_infinite_bits_are_floats() -> None:
    x, w = normal(9, 20), normal(20, 7, seed=1)
    exact = Periphery(Converter.of_bits(math.inf, math.inf), Converter(), "none")
    assert_array_equal(read(np, x, lambda q: q @ w, exact, np.random.default_rng(0)), x @ w)
    for scaled in (Periphery(), Periphery(noise_management="constant", scale=3.0)):
        assert_allclose(read(np, x, lambda q: q @ w, scaled, np.random.default_rng(0)), x @ w, rtol=2e-5, atol=2e-5)
    fine = Periphery(Converter.of_bits(22, 1), Converter.of_bits(22, 40))
    assert_allclose(read(np, x, lambda q: q @ w, fine, np.random.default_rng(0)), x @ w, atol=1e-4)


def test_abs_max_uses_the_whole_range() -> None:
    """Noise management: small vectors lose no more than large ones, zeros give zeros, tiny ones no infinity."""
    x = np.array([[1, 0.25], [1e-3, 2.5e-4], [0, 0], [1e-42, 0]], np.float32)
    assert_allclose(converters.scales(np, x, Periphery()), [1, 1e-3, 1, 1])
    y = read(np, x, lambda q: q @ np.eye(2, dtype=np.float32), AIHWKIT_EXACT_ADC, np.random.default_rng(0))
    assert_allclose(y[:2], [[1, 16 / 63], [1e-3, 16e-3 / 63]], rtol=1e-5)  # .25 is 15.75 steps of 1/63: to 16
    assert_array_equal(y[2:], np.zeros((2, 2)))


AIHWKIT_EXACT_ADC = dataclasses.replace(AIHWKIT, adc=Converter())


def test_bound_management_reads_again() -> None:
    """y = 4 and 1 on a range of 1.5: halved twice, the first is read in full; the second keeps its first reading."""
    x, w = np.array([[1, 1], [1, 0]], np.float32), np.array([[2], [2]], np.float32) * np.float32(0.5)
    w[0, 0], w[1, 0] = 1, 3
    calls: list[int] = []

    def multiply(line: Host) -> Host:
        calls.append(len(line))
        return line @ w

    once = Periphery(adc=Converter(1.5))
    managed = dataclasses.replace(once, bound_management="iterative")
    rng = np.random.default_rng(0)
    assert_allclose(read(np, x, multiply, once, rng), [[1.5], [1]])
    calls.clear()
    assert_allclose(read(np, x, multiply, managed, rng), [[4], [1]])
    assert calls == [2, 1, 1]
    assert_allclose(read(np, x, multiply, managed, rng, backward=True), [[1.5], [1]])
    stubborn = dataclasses.replace(managed, most_halvings=1)
    assert_allclose(read(np, x, multiply, stubborn, rng), [[3], [1]])  # clipped at 1.5, half the input


def test_output_noise() -> None:
    """sigma .06 in units of the line, times the vector's scale 2: n = 200,000, 5 sigma."""
    x, w = np.full((200, 1), 2, np.float32), np.zeros((1, 1000), np.float32)
    noisy = Periphery(adc=Converter(noise=0.06))
    y = read(np, x, lambda q: q @ w, noisy, np.random.default_rng(1)).astype(np.float64)
    assert abs(y.mean()) < 5 * 0.12 / math.sqrt(y.size)
    assert abs(y.var() / 0.12**2 - 1) < 5 * math.sqrt(2 / y.size)
    again = read(np, x, lambda q: q @ w, noisy, np.random.default_rng(1))
    assert_array_equal(again, y.astype(np.float32))
    assert np.abs(again - read(np, x, lambda q: q @ w, noisy, np.random.default_rng(2))).max() > 0.1


def test_input_noise() -> None:
    """sigma .1 before the DAC, through weights of 1 on 100 lines: sigma_y = 1. n = 20,000."""
    x, w = np.full((20_000, 100), 0.5, np.float32), np.ones((100, 1), np.float32)
    y = read(np, x, lambda q: q @ w, Periphery(Converter(noise=0.1), noise_management="none"), np.random.default_rng(3))
    assert abs(y.mean() - 50) < 5 / math.sqrt(20_000)
    assert abs(y.var() - 1) < 5 * math.sqrt(2 / 20_000)


def test_read_variance_is_resampling() -> None:
    """One more product against every cell drawn anew per vector: variances of 4,000 reads each, 5 sigma."""
    x = np.repeat(normal(1, 12, seed=4), 4000, axis=0)
    w, sigma = normal(12, 5, seed=5), np.abs(normal(12, 5, seed=6)) * np.float32(0.1)
    literal = converters.read_resampled(np, x, w, sigma, np.random.default_rng(7))
    fast = read(
        np, x, lambda q: q @ w, Periphery(noise_management="none"), np.random.default_rng(8),
        variance=lambda q: converters.read_variance(q, sigma**2),
    )  # fmt: skip
    variance = (x[0] ** 2) @ sigma**2
    for y in (literal, fast):
        assert (np.abs(y.mean(0) - x[0] @ w) < 5 * np.sqrt(variance / 4000)).all()
        assert (np.abs(y.var(0) / variance - 1) < 5 * math.sqrt(2 / 4000)).all()
        between = np.corrcoef(y.T)[np.triu_indices(5, 1)]
        assert np.abs(between).max() < 5 / math.sqrt(4000)


def test_numba_and_numpy_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to the last bits of float32, with noise, on both sides of a rounding only where it is a tie."""
    x, w = normal(33, 70), normal(70, 41, seed=1) / 4
    periphery = dataclasses.replace(AIHWKIT, adc=Converter(2.0, 0, 0.06))

    def work() -> Any:
        variance = np.full((70, 41), 1e-3, np.float32)
        return read(
            np, x, lambda q: q @ w, periphery, np.random.default_rng(3),
            variance=lambda q: converters.read_variance(q, variance),
        )  # fmt: skip

    fast, slow = both_paths(monkeypatch, work)
    assert_allclose(fast, slow, atol=2e-5)
    for converter in (Converter(1, 0.01), Converter(1, 0.01, 0.2), Converter(0.5), Converter()):
        (a, over_a), (b, over_b) = both_paths(monkeypatch, lambda c=converter: convert(np, x.copy(), c, 5))
        assert np.mean(np.abs(a - b) > 1e-5) < 1e-3
        assert_allclose(a, b, atol=converter.step + 1e-5)
        assert np.abs(over_a - over_b).max() <= 1
    gains = np.arange(1, 34, dtype=np.float32)
    (a, _), (b, _) = both_paths(
        monkeypatch, lambda: convert(np, x.copy(), Converter(30), 5, before=gains, after=1 / gains)
    )
    assert_allclose(a, b, rtol=1e-6)
    kept = x.copy()
    convert(np, x, AIHWKIT.adc, 5)
    assert_array_equal(x, kept)


def test_strict_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(arrays.LIBRARIES, "strict_array", "strict_array")
    xp = arrays.namespace("strict_array")
    x, w, sigma = normal(6, 8), normal(8, 5, seed=1), np.full((8, 5), 0.01, np.float32)
    managed = dataclasses.replace(AIHWKIT, adc=Converter(1.0, 0, 0.06))
    monkeypatch.setattr(converters, "draw_key", lambda rng: 77)
    found = []
    for library in (np, xp):
        line, cells, spread = (library.asarray(a) for a in (x, w, sigma))
        found.append(
            read(library, line, lambda q, c=cells: q @ c, managed, None,
                 variance=lambda q, s=spread: converters.read_variance(q, s))
        )  # fmt: skip
        converters.read_resampled(library, line, cells, spread, None)
        assert converters.calibrated_bound(library, line, 100) == pytest.approx(np.abs(x).max())
        whole = library.asarray(np.arange(6))
        parts = converters.digits(library, whole, 2, 2)
        assert bool((recombine(library, parts, 2) == whole).all())
    assert_allclose(found[1].get(), found[0], atol=2e-5)


def test_calibration() -> None:
    values = np.concatenate([np.linspace(-1, 1, 1001), [50.0]])
    assert converters.calibrated_bound(np, values, 99.9) == pytest.approx(1.0, abs=0.01)
    assert converters.calibrated_bound(np, values, 100) == 50
    for bad in (0, -1, 101, math.nan):
        with pytest.raises(ConfigError, match="percentile"):
            converters.calibrated_bound(np, values, bad)
    with pytest.raises(ConfigError, match="calibration"):
        converters.calibrated_bound(np, np.zeros(5))


def recombine(xp: Any, parts: Any, bits: int) -> Any:
    """Shift and add: what `digits` splits, before or after a product with each slice."""
    weights = xp.asarray(np.array([2 ** (bits * i) for i in range(len(parts))]))
    return (parts * weights.reshape((-1,) + (1,) * (parts.ndim - 1))).sum(axis=0)


@pytest.mark.parametrize(("bits", "count"), [(1, 8), (2, 4), (4, 2), (8, 1), (3, 3)])
@pytest.mark.parametrize("signed", [False, True])
def test_slices_recombine(bits: int, count: int, signed: bool) -> None:
    """Every value of the range; and a product slice by slice is the product, exactly."""
    size = 1 << (bits * count)
    values = np.arange(size) - (size // 2 if signed else 0)
    parts = converters.digits(np, values, bits, count, signed)
    assert_array_equal(recombine(np, parts, bits), values)
    rest = parts[:-1] if signed else parts
    assert rest.size == 0 or (rest.min() == 0 and rest.max() == 2**bits - 1)
    rng = np.random.default_rng(0)
    x, w = rng.choice(values, (5, 9)), rng.choice(values, (9, 4))
    inputs, cells = (converters.digits(np, a, bits, count, signed) for a in (x, w))
    partial = np.array([recombine(np, inputs @ cell, bits) for cell in cells])
    assert_array_equal(recombine(np, partial, bits), x @ w)


def test_digits_by_hand() -> None:
    assert converters.digits(np, np.array([27]), 2, 3).ravel().tolist() == [3, 2, 1]  # 3 + 2*4 + 1*16
    assert converters.digits(np, np.array([-3]), 2, 2, signed=True).ravel().tolist() == [1, -1]  # 1 - 4
    for values in ([16], [-1], [0.5]):
        with pytest.raises(ShapeError, match="whole numbers from 0 to 15"):
            converters.digits(np, np.array(values), 2, 2)
    for bits, count in ((0, 2), (-1, 2), (2, 0), (8, 8)):
        with pytest.raises(ConfigError, match="bits"):
            converters.digits(np, np.array([1]), bits, count)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Converter.of_bits(-3, 1),
        lambda: Converter.of_bits(1, 1),
        lambda: Converter.of_bits(math.nan, 1),
        lambda: Converter(0),
        lambda: Converter(math.nan),
        lambda: Converter(1, -0.1),
        lambda: Converter(1, math.nan),
        lambda: Converter(1, 0, -1),
        lambda: Converter(1, 0, math.inf),
        lambda: Periphery(noise_management="max"),  # type: ignore[arg-type]
        lambda: Periphery(bound_management="twice"),  # type: ignore[arg-type]
        lambda: Periphery(scale=math.nan),
        lambda: Periphery(scale=0),
        lambda: Periphery(most_halvings=-1),
    ],
)
def test_bad_settings(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()

"""Noise and converters of results: kernels against array functions, moments, independence, memory layouts.

Run time: about 4 s.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hwsim.devices.optical import Optical, converting

Host = np.ndarray[Any, Any]
PLAIN = {"weight_bits": 0, "dac_bits": 0, "adc_bits": 0, "drift_sigma": 0, "weight_sigma": 0, "weight_crosstalk": 0}
PARAMETERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mzi", {}),
    ("mzi", {"level": "mesh"}),
    ("mzi", {"trained": "phases"}),
    ("mzi", {"gradient_by": "homodyne"}),
    ("mzi", {"dac_bits": 0, "adc_bits": 0, "shot_noise": False}),
    ("homodyne", {}),
    ("homodyne", {"level": "photon"}),
    ("homodyne", {"precision": "fp64"}),
    ("microring", {}),
    ("slm", {"level": "photon", "detection": "intensity"}),
)


def values(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def views(a: Host) -> list[Host]:
    """The same values row by row, column by column, and with gaps between them."""
    gaps = np.zeros((*a.shape[:-2], 2 * a.shape[-2], 3 * a.shape[-1]), a.dtype)
    gaps[..., ::2, ::3] = a
    return [a, np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2), gaps[..., ::2, ::3]]


# -- layouts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [(), (2,)])
@pytest.mark.parametrize(("preset", "parameters"), PARAMETERS, ids=str)
def test_results_do_not_depend_on_memory(preset: str, parameters: dict[str, Any], stack: tuple[int, ...]) -> None:
    """Products, updates and what is recorded: the same bits for each layout of weights, inputs, errors and steps."""
    device = Optical.create(preset, parameters)
    shapes = (67, 70), (33, 67), (33, 70), (67, 70)
    operands, found = [values(*stack, *shape, seed=i) for i, shape in enumerate(shapes)], []
    for layout in range(3):
        weights, inputs, errors, change = (views(a)[layout] for a in operands)
        tile = device.program(weights, name="layout")
        results = [tile.forward(inputs), tile.backward(errors), tile.gradient(inputs, errors)]
        if parameters.get("trained") == "phases":
            tile.update_outer(inputs, errors, -1e-3)
        tile.update(change)
        results += [tile.read(), tile.forward(inputs)]
        found.append([*results, list(tile.ledger.counts().values())])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert_array_equal(a, b)


# -- kernels and array functions ---------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0, 4, 12])
@pytest.mark.parametrize("fields", [True, False])
def test_vectors_are_sent_alike(fields: bool, bits: int) -> None:
    """float32 by kernels, float64 by array functions: light to 1e-6 but where rounding is a tie, sizes and crests."""
    x = values(40, 33)
    x[3] = 0
    fast, slow = (converting.send(np, x.astype(kind), bits, fields) for kind in (np.float32, np.float64))
    assert_allclose(fast.size, slow.size, rtol=1e-6)
    size = np.sqrt((x.astype(float) ** 2).sum(axis=1)) if fields else np.abs(x.astype(float)).sum(axis=1)
    assert_allclose(fast.size[:, 0], size, rtol=1e-6)
    assert_allclose(fast.crest, slow.crest, rtol=1e-6)
    assert (np.abs(fast.light - slow.light) < 1e-6).mean() > 0.99
    assert np.abs(fast.light - slow.light).max() < (2 / (2**bits - 2) if bits else 1e-6)


def test_columns_are_sent_alike() -> None:
    """Each column to 3 bits by hand: (3, -1) to (3, -1), levels of 1; (0, 0) dark; (.5, .1) to (.5, .5 / 3 x 1)."""
    columns = np.array([[3, 0, 0.5], [-1, 0, 0.1]])
    for kind in (np.float32, np.float64):
        light, norm, crest = converting.send_columns(np, columns.astype(kind), 3)
        assert_allclose(crest, [2 * 9 / 10, 0, 2 / (1 + 1 / 9)], rtol=1e-6)  # largest squared over the mean of squares
        assert_allclose(light, [[3, 0, 0.5], [-1, 0, 0.5 / 3]], rtol=1e-6)
        assert_allclose(norm, [math.sqrt(10), 0, math.sqrt(0.25 + 0.25 / 9)], rtol=1e-6)
    for factor in (1e-25, 1e25):  # no float32 holds their squares
        light, norm, _ = converting.send_columns(np, (columns * factor).astype(np.float32), 3)
        assert_allclose(norm / factor, [math.sqrt(10), 0, math.sqrt(0.25 + 0.25 / 9)], rtol=1e-6)
        assert_allclose(light / factor, [[3, 0, 0.5], [-1, 0, 0.5 / 3]], rtol=1e-6)


@pytest.mark.parametrize("crest", [0.0, 1.5])
def test_results_are_received_alike(crest: float) -> None:
    found, size = values(50, 21), np.abs(values(50, 1, seed=1))
    fast = converting.receive(np, found.copy(), size, 6, crest, None)
    slow = converting.receive(np, found.astype(np.float64), size.astype(np.float64), 6, crest, None)
    assert float(fast.clipped) == float(slow.clipped)
    assert (float(fast.clipped) > 0) == (crest > 0)
    assert (np.abs(fast.values - slow.values) < 1e-5).mean() > 0.99  # ties aside


# -- noise -------------------------------------------------------------------------------------------------


def noise(times: int, m: int, n: int, photons: float = 1.0) -> Host:
    """Standard deviations [times, m, n] of readings of one product, by the law |x| |w_j| / sqrt(k photons)."""
    k = 5
    device = Optical.create("homodyne", {**PLAIN, "detected_photons": photons, "integrator_electrons": 0,
                                         "dark_current_a": 0, "rin_db_per_hz": -1000})  # fmt: skip
    w, x = values(k, n), values(m, k, seed=1)
    tile = device.program(w, name="noise")
    sigma = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=0) / math.sqrt(k * photons)
    return np.stack([(tile.forward(x) - x @ w) / sigma for _ in range(times)])


def correlated(a: Host, b: Host) -> float:
    """Correlation of two samples of unit variance, in its standard deviations 1 / sqrt(number)."""
    return float(abs((a * b).mean()) * math.sqrt(a.size))


def test_moments_of_readings() -> None:
    """Moments 1 to 4 of 400,000: 0, 1, 0, 3 within 5 sigma (1, sqrt 2, sqrt 15, sqrt 96 over sqrt n)."""
    z = noise(100, 80, 50)
    for power, (mean, sigma) in enumerate(((0, 1), (1, 2**0.5), (0, 15**0.5), (3, 96**0.5)), 1):
        assert abs((z**power).mean() - mean) < 5 * sigma / math.sqrt(z.size)


def test_tails_of_readings() -> None:
    """|z| > 3: p = .0027 of 400,000, 5 sigma of a binomial."""
    z, p = noise(100, 80, 50), math.erfc(3 / math.sqrt(2))
    assert abs((np.abs(z) > 3).mean() - p) < 5 * math.sqrt(p * (1 - p) / z.size)


def test_calls_rows_and_columns_are_independent() -> None:
    """Neighbours at distances 1, 2 and half the length along each axis, values and squares: 5 sigma of 1 / sqrt n."""
    z = noise(60, 48, 40)
    squares = (z**2 - 1) / math.sqrt(2)
    for axis in range(3):
        for distance in (1, 2, z.shape[axis] // 2):
            ahead, behind = (np.arange(z.shape[axis] - distance) + start for start in (distance, 0))
            for sample in (z, squares):
                assert correlated(sample.take(ahead, axis), sample.take(behind, axis)) < 5
    assert correlated(z, z.transpose(0, 2, 1).reshape(z.shape)) < 5


def test_directions_and_tiles_have_noise_of_their_own() -> None:
    """Forward, backward, gradient, another tile's forward and evaluation: correlations of 1,600 readings, 5 sigma."""
    settings = {**PLAIN, "detected_photons": 1.0}
    device = Optical.create("homodyne", settings)
    quiet = Optical.create("homodyne", {**settings, "shot_noise": False})
    w, x, dy = values(40, 40), values(40, 40, seed=1), values(40, 40, seed=2)
    tiles, still = [device.program(w, name=name) for name in ("one", "two")], quiet.program(w, name="still")
    found = [tile.forward(x) - still.forward(x) for tile in tiles]
    found += [tiles[0].backward(dy) - still.backward(dy), tiles[0].gradient(x, dy) - still.gradient(x, dy)]
    found = [(a - a.mean()) / a.std() for a in found]
    for i, a in enumerate(found):
        for b in found[:i]:
            assert correlated(a, b) < 5


def test_order_of_a_batch_does_not_follow_noise() -> None:
    """The same vectors in reverse: other noise for each, not the same noise moved along with them."""
    device = Optical.create("homodyne", {**PLAIN, "detected_photons": 1.0})
    w, x = values(30, 20), values(64, 30, seed=1)
    sigma = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=0) / math.sqrt(30)
    ways = [device.program(w, name="order").forward(batch) for batch in (x, np.ascontiguousarray(x[::-1]))]
    first, second = (ways[0] - x @ w) / sigma, (ways[1][::-1] - x @ w) / sigma
    assert correlated(first, second) < 5 * max(1.0, float((first**2).mean()))


# -- vectors with a crest --------------------------------------------------------------------------------------

BILLED = 5.0  # crest
QUIET = {**PLAIN, "splitter_sigma": 0, "phase_sigma": 0, "mzi_loss_db": 0, "heat_crosstalk": 0, "crest": BILLED}


def peaks(m: int, k: int, seed: int) -> tuple[Any, Any]:
    """Vectors of fields whose largest value is a share of all power from 2 / k up, and how dim each is sent."""
    x = values(m, k, seed=seed)
    x[:, 0] = np.linspace(0.5, 20, m)
    return x, np.maximum(1, k * (x**2).max(axis=1) / (x**2).sum(axis=1) / BILLED)


def assert_law(found: Host, expected: Host, sigma: Host) -> None:
    """Squares of [times, m, n] against sigma^2, row by row and in all: 5 sigma = 5 sqrt(2 / number)."""
    z = ((found - expected) / sigma) ** 2
    assert abs(z.mean() - 1) < 5 * math.sqrt(2 / z.size)
    rows = z.mean(axis=(0, 2))
    assert np.abs(rows - 1).max() < 5 * math.sqrt(2 / (z.size / rows.size))


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize("level", ["gemm", "photon"])
@pytest.mark.parametrize("preset", ["mzi", "slm"])
def test_dim_fields_beside_an_oscillator(preset: str, level: str, precision: str) -> None:
    """A d times dimmer field is 1 / sqrt d of it, beside the same noise: sigma^2 = d |x|^2 s^2 f^2 / (4 k o n) (mesh).

    Free space: d |x|^2 w^2 f^2 / (4 n). Its own shot noise adds F y^2 / (4 e), and knows no d. Amplifier by hand:
    f^2 = 1 + 1000 / e.
    """
    k, n, photons, oscillator = 24, 7, 3.0, 2000.0
    device = Optical.create(preset, {
        **QUIET, "level": level, "precision": precision, "detected_photons": photons, "oscillator_photons": oscillator,
        "dark_current_a": 0, "rin_db_per_hz": -1000, "symbol_rate_hz": 1e9, "optical_depth": 0,
        "amplifier_a_per_root_hz": math.sqrt(2 * 1000 * 1e9) * 1.602176634e-19,
    })  # fmt: skip
    w, (x, dim) = values(k, n), peaks(10, k, 1)
    assert dim.min() == 1
    assert dim.max() > 4
    tile = device.program(w, name="dim")
    found = np.stack([tile.forward(x) for _ in range(400)])
    size = np.linalg.norm(w, 2) / math.sqrt(k * n) if preset == "mzi" else np.abs(w).max()
    read = dim[:, None] * (x**2).sum(axis=1)[:, None] * size**2 * 1.5 / (4 * photons)
    assert_law(found, x @ w, np.sqrt(read + (x @ w) ** 2 / (4 * oscillator)))


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize("level", ["gemm", "photon"])
def test_dim_intensities_on_a_balanced_pair(level: str, precision: str) -> None:
    """e / d electrons, and results counted in d times as much of them: sigma^2 = (sum|x| w / e)^2 (e d + d^2 V).

    e = k p = 24 x 50 electrons, V = 2 x 1000 of the amplifiers of two rails. d by hand: k max|x| / sum|x| over 5.
    """
    k, n, photons = 24, 7, 50.0
    device = Optical.create("microring", {
        **PLAIN, "level": level, "precision": precision, "detected_photons": photons, "dark_current_a": 0,
        "rin_db_per_hz": -1000, "crest": BILLED, "amplifier_a_per_root_hz": math.sqrt(2 * 1000 * 1e9) * 1.602176634e-19,
    })  # fmt: skip
    w, (x, _) = values(k, n), peaks(10, k, 1)
    size = np.abs(x).sum(axis=1)[:, None]
    dim = np.maximum(1, k * np.abs(x).max(axis=1)[:, None] / size / BILLED)
    assert dim.max() > 1.5
    tile = device.program(w, name="dim")
    found = np.stack([tile.forward(x) for _ in range(400)])
    one = size * np.abs(w).max() / (k * photons)
    assert_law(found, x @ w, one * np.sqrt(k * photons * dim + dim**2 * 2000))


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize("level", ["gemm", "photon"])
def test_dim_arms_of_homodyne_detection(level: str, precision: str) -> None:
    """Arms of e / (2 d) and e / (2 d') electrons: their sum is counted, and results are sqrt(d d') fainter in it.

    sigma^2 = (|x| |w_j| / e)^2 d d' (e (1 / d + 1 / d') / 2 + V), e = k p = 24 x 16, V = 20^2 of the integrator; all
    three products, with crests of both operands.
    """
    photons = 16.0
    device = Optical.create("homodyne", {
        **PLAIN, "level": level, "precision": precision, "detected_photons": photons, "dark_current_a": 0,
        "rin_db_per_hz": -1000, "integrator_electrons": 20.0, "crest": BILLED,
    })  # fmt: skip
    (x, _), w, (dy, _) = peaks(24, 24, 1), peaks(24, 24, 2)[0].T.copy(), peaks(24, 24, 3)
    tile = device.program(w, name="arms")
    for a, b, product in (
        (x, w, lambda: tile.forward(x)),
        (dy, w.T, lambda: tile.backward(dy)),
        (x.T, dy, lambda: tile.gradient(x, dy)),
    ):
        electrons = 24 * photons
        dims = [np.maximum(1, 24 * (s**2).max(axis=1) / (s**2).sum(axis=1) / BILLED) for s in (a, b.T)]
        assert min(dims[0].max(), dims[1].max()) > 1.1
        assert max(dims[0].max(), dims[1].max()) > 1.5
        first, other = dims[0][:, None], dims[1]
        one = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=0) / electrons
        variance = first * other * (electrons * (1 / first + 1 / other) / 2 + 400)
        found = np.stack([product() for _ in range(200)])
        assert_law(found, a @ b, one * np.sqrt(variance))


def test_dim_intensities_are_counted() -> None:
    """Vectors whose largest value takes d times the laser that is billed: 1 / d of the counts, sigma sqrt d larger."""
    k, n, photons = 24, 7, 50.0
    device = Optical.create("slm", {
        **PLAIN, "level": "photon", "detection": "intensity", "detected_photons": photons, "dark_current_a": 0,
        "amplifier_a_per_root_hz": 0, "rin_db_per_hz": -1000, "crest": BILLED, "optical_depth": 0,
    })  # fmt: skip
    w, (x, _) = values(k, n), peaks(10, k, 1)
    size = np.abs(x).sum(axis=1)[:, None]
    dim = np.maximum(1, k * np.abs(x).max(axis=1)[:, None] / size / BILLED)
    tile = device.program(w, name="counted")
    found = np.stack([tile.forward(x) for _ in range(400)])
    one = size * np.ptp(w) / (k * photons) * dim
    assert_law(found, x @ w, one * np.sqrt(np.abs(x) @ (w - w.min()) / one))

"""The optical device: conformance, exact limits, noise laws at 5 sigma, seeds, scales, neurons, and training in place.

Run time: about 20 s.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import hwsim
from hwsim import arrays, models
from hwsim.arrays import to_host
from hwsim.cost import Elementwise, Kind, Product
from hwsim.devices.optical import Optical, chips, svd
from hwsim.devices.optical.options import reader_of
from hwsim.errors import DeviceError
from hwsim.nn import Network
from hwsim.random_kernels import mix as kernel_mix
from hwsim.random_kernels import normal as kernel_normal
from hwsim.testing import Outcome, check_device, run
from hwsim.testing.bench import Bench
from hwsim.tile import Tile

PRESETS = ("mzi", "nitride", "slm", "homodyne", "microring")
NO_ERRORS = {
    "splitter_sigma": 0,
    "phase_sigma": 0,
    "mzi_loss_db": 0,
    "heat_crosstalk": 0,
    "drift_sigma": 0,
    "weight_sigma": 0,
    "weight_crosstalk": 0,
    "weight_bits": 0,
}
NO_CONVERTERS = {"dac_bits": 0, "adc_bits": 0}
NO_NOISE = {"shot_noise": False}
CLAIMS = {f"claim_{name}": 0 for name in ("forward", "backward", "gradient", "update", "bias")}
EXACT: dict[str, Any] = {**NO_ERRORS, **NO_CONVERTERS, **NO_NOISE, **CLAIMS}
WHITE = {
    **NO_ERRORS,
    **NO_CONVERTERS,
    "amplifier_a_per_root_hz": 0,
    "rin_db_per_hz": -1000,
    "integrator_electrons": 0,
    "dark_current_a": 0,
}
LEVELS = [
    *((preset, {}) for preset in PRESETS),
    ("mzi", {"level": "mesh"}),
    ("mzi", {"level": "photon"}),
    ("mzi", {"trained": "phases"}),
    ("mzi", {"gradient_by": "homodyne", "detected_photons": 200.0, "claim_gradient": 0.18}),
    ("nitride", {"level": "mesh"}),
    ("nitride", {"level": "photon"}),
    ("nitride", {"probe_ratio": 0.5, "claim_backward": 0.3}),
    ("slm", {"level": "photon"}),
    ("slm", {"encoding": "intensity"}),
    ("slm", {"level": "photon", "detection": "intensity", "claim_forward": 0.19}),
    ("microring", {"level": "photon", "detection": "intensity", "claim_forward": 0.5, "claim_backward": 0.48}),
    ("homodyne", {"level": "photon"}),
    ("microring", {"level": "photon"}),
]


def optical(preset: str, **parameters: Any) -> Optical:
    """Of what several kinds of optics are quieted by, each takes what it reads."""
    known = Optical.create(preset, {})
    unread = {(name, value) for name, value in {**EXACT, **WHITE}.items() if reader_of(known, name)}
    return Optical.create(preset, {name: value for name, value in parameters.items() if (name, value) not in unread})


def values(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def relative(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(to_host(found) - wanted) / np.linalg.norm(wanted))


def weights(net: Network) -> dict[str, Any]:
    return {name: item.read() for name, item in net.placed.items() if isinstance(item, Tile)}


def within(found: Any, variance: Any, sigmas: float = 5) -> None:
    """Chi-square: the mean of found^2 / variance is 1 within sqrt(2 / n), at 5 sigma; and so is their mean 0."""
    z = np.asarray(found, np.float64) / np.sqrt(variance)
    assert abs((z**2).mean() - 1) < sigmas * math.sqrt(2 / z.size)
    assert abs(z.mean()) < sigmas / math.sqrt(z.size)


# -- promises ------------------------------------------------------------------------------------------------


def test_presets_are_those_tested() -> None:
    assert set(Optical.presets()) == set(PRESETS)


@pytest.mark.parametrize(("preset", "parameters"), LEVELS, ids=lambda value: str(value))
def test_conformance(preset: str, parameters: dict[str, Any]) -> None:
    report = check_device(lambda: optical(preset, **parameters))
    for result in report.results:  # a claim holds for numbers alone: a NaN compares as no error
        assert result.measured is None or np.isfinite(result.measured), result.name


def test_own_derivative_is_exact_where_it_is_asked_for() -> None:
    """The kit's central differences, with a claim of 0 for products: 0.02 is left for the curvature."""
    check_device(lambda: optical("slm", absorber_backward="exact", **EXACT))


@pytest.mark.parametrize("preset", ["mzi", "slm", "homodyne", "microring"])
def test_exact_parameters_conform(preset: str) -> None:
    """Noise, converters and errors off: deterministic, and no error claimed."""
    report = check_device(lambda: optical(preset, **{**EXACT, "optical_depth": 0}))
    assert report["deterministic"].outcome == "passed"


# -- exact limits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_without_errors_gemm_is_numpy_bit_for_bit(preset: str) -> None:
    device = optical(preset, **EXACT)
    w, x, dy, step = values(70, 40), values(9, 70, seed=1), values(9, 40, seed=2), values(70, 40, seed=3)
    tile = device.program(w, name="exact")
    for moved in (w, w + step):
        assert_array_equal(tile.forward(x), x @ moved)
        assert_array_equal(tile.backward(dy), dy @ moved.T)
        assert_array_equal(tile.gradient(x, dy), x.T @ dy)
        assert_array_equal(tile.read(), moved)
        tile.update(step)


@pytest.mark.parametrize("kind", ["clements", "reck"])
def test_light_through_all_mzis_is_the_product(kind: str) -> None:
    """Level mesh, double precision, cut into 4 units: 1e-10; and backward is the transpose to 1e-12."""
    exact = {**EXACT, "precision": "fp64", "level": "mesh", "inputs": 12, "outputs": 8, "mesh_kind": kind}
    w, x, dy = (values(*shape, seed=i, dtype=np.float64) for i, shape in enumerate(((20, 13), (6, 20), (6, 13))))
    tile = optical("mzi", **exact).program(w, name="mesh")
    assert np.abs(tile.forward(x) - x @ w).max() < 1e-10
    assert np.abs(tile.backward(dy) - dy @ w.T).max() < 1e-10
    faulty = optical("mzi", **{**exact, "splitter_sigma": 0.05, "mzi_loss_sigma_db": 0.1, "mzi_loss_db": 0.3})
    tile = faulty.program(w, name="faulty")
    y, dx = tile.forward(x), tile.backward(dy)
    assert abs((y * dy).sum() - (x * dx).sum()) < 1e-12 * np.linalg.norm(y) * np.linalg.norm(dy)


@pytest.mark.parametrize("kind", ["clements", "reck"])
@pytest.mark.parametrize(
    "errors",
    [{"heat_crosstalk": 0.001}, {"heat_crosstalk": 0.001, "calibrated": False}, {**NO_ERRORS, "mzi_loss_db": 0.2}],
)
def test_effective_weights_are_those_of_the_mesh(kind: str, errors: dict[str, Any]) -> None:
    """Levels gemm and mesh of one chip with all its errors, or with loss alone, which bends a Reck mesh: 1e-10."""
    even = kind == "clements" and "splitter_sigma" in errors  # loss that is the same on all paths is made good for
    errors = {**NO_CONVERTERS, **NO_NOISE, "precision": "fp64", "mesh_kind": kind, **errors}
    w, x = values(14, 9, dtype=np.float64), values(4, 14, seed=1, dtype=np.float64)
    gemm, mesh = (optical("mzi", **errors, level=level).program(w, name="chip") for level in ("gemm", "mesh"))
    assert np.abs(gemm.forward(x) - mesh.forward(x)).max() < 1e-10
    assert (relative(gemm.forward(x), x @ w) < 1e-10) if even else (1e-3 < relative(gemm.forward(x), x @ w) < 1)


def test_level_mesh_by_kernels_and_by_arrays() -> None:
    """Single precision runs through the column kernels, double through the array functions: 1e-5, both ways."""
    errors = {**NO_CONVERTERS, **NO_NOISE, "level": "mesh", "drift_sigma": 0}
    w, x, dy = values(14, 9), values(4, 14, seed=1), values(4, 9, seed=2)
    single, double = (optical("mzi", **errors, precision=name).program(w, name="chip") for name in ("fp32", "fp64"))
    assert relative(single.forward(x), double.forward(x.astype(np.float64))) < 1e-5
    assert relative(single.backward(dy), double.backward(dy.astype(np.float64))) < 1e-5


def test_errors_are_rounded_before_they_meet() -> None:
    """2 bits, x = (1, 1), dy = (1, .4): the levels are -1, 0, 1, so that .4 goes out as 0; 1 + 0 in place of 1.4."""
    tile = optical("homodyne", **{**EXACT, "dac_bits": 2}).program(np.ones((1, 1), np.float32), name="errors")
    assert_allclose(tile.gradient(np.ones((2, 1), np.float32), np.array([[1], [0.4]], np.float32)), [[1]], rtol=1e-6)


def test_weights_do_not_wind_up() -> None:
    """20 steps of .1 from .5 end at a scale of 1; one step of -.1 leads to .9 at once."""
    for preset, start in (("slm", np.full((2, 2), 0.5)), ("mzi", 0.5 * np.eye(2))):
        tile = optical(preset, **{**EXACT, "weight_scale": 1.0}).program(start.astype(np.float32), name="winds")
        step = (0.2 * start).astype(np.float32)
        for _ in range(20):
            tile.update(step)
        assert_allclose(tile.read(), 2 * start, atol=1e-6)
        tile.update(-step)
        assert_allclose(tile.read(), 1.8 * start, atol=1e-6)


def test_attenuators_trained_in_place_are_rounded() -> None:
    """2 bits of weights, 3 with a sign: what acts is a multiple of 1 / 3, and what is remembered is not."""
    tile = optical("mzi", trained="phases", weight_bits=2).program(values(6, 6), name="rounded")
    tile.update_outer(values(8, 6, seed=1), values(8, 6, seed=2), -1e-3)
    acting = chips.mesh_unit(tile.device, tile, next(chips.units(tile.device, tile))).attenuation  # type: ignore[arg-type]
    assert_allclose(3 * acting, np.rint(3 * acting), atol=1e-6)
    assert np.abs(3 * tile.state["0/attenuation"] - np.rint(3 * tile.state["0/attenuation"])).max() > 1e-3


def test_splitter_errors_go_where_nobody_reads() -> None:
    """Around real matrices they turn fields, to first order, into the quadrature that is not read.

    B(pi/4 + a) = B (cos a + i a X): i times what is real. So twice the error of splitters is twice that of the complex
    weights, as the law of one mesh has it, and four times that of the real part. 16 modes, 20 chips; slopes within 0.2.
    """
    w, errors = values(16, 16), []
    for sigma in (0.01, 0.02):
        device = optical("mzi", **{**EXACT, "precision": "fp64", "splitter_sigma": sigma}, calibrated=False)
        tiles = [device.program(w, name=f"chip{i}") for i in range(20)]
        units = [next(chips.units(device, tile)) for tile in tiles]
        fields = [svd.effective_weights(np, chips.mesh_unit(device, *pair)) for pair in zip(tiles, units, strict=True)]
        errors.append([np.mean([relative(part, w) for part in parts]) for parts in (fields, [f.real for f in fields])])
    assert_allclose(np.log2(np.array(errors[1]) / errors[0]), [1, 2], atol=0.2)
    assert_allclose(errors[0][0], math.sqrt(2) * math.sqrt(2 * 15) * 0.01, rtol=0.5)  # two meshes


def test_calibration_takes_errors_away() -> None:
    """Splitters of 0.02 rad, fixed phases of 0.1 rad, 16 modes: known, they leave less than a third (20 chips)."""
    w, errors = values(16, 16), []
    for calibrated in (False, True):
        device = optical("mzi", **{**EXACT, "splitter_sigma": 0.02, "phase_sigma": 0.1}, calibrated=calibrated)
        errors.append(np.mean([relative(device.program(w, name=f"chip{i}").read(), w) for i in range(20)]))
    assert errors[1] < errors[0] / 3


def test_reads_through_stacks_match_single_matrices() -> None:
    """The kernels' rounding (matrices) and NumPy's (stacks) are the same but where rounding is a tie."""
    device = optical("homodyne", shot_noise=False)
    w, x = values(30, 20), values(8, 30, seed=1)
    single = device.program(w, name="single").forward(x)
    stacked = device.program(w[None], name="stacked").forward(x[None])[0]
    assert (np.abs(single - stacked) < 1e-4 * np.abs(single).max()).mean() > 0.95
    assert relative(stacked, single) < 0.01


def test_converters_round_to_their_levels() -> None:
    """3 bits: results are -3..3 thirds of the largest; by hand x = (1, -2), weights the identity: 1/2 -> 2/3 of 2."""
    device = optical("homodyne", **{**EXACT, "adc_bits": 3})
    tile = device.program(np.eye(2, dtype=np.float32), name="identity")
    assert_allclose(tile.forward(np.array([[1, -2]], np.float32)), [[4 / 3, -2]], rtol=1e-6)
    clipping = optical("homodyne", **{**EXACT, "adc_bits": 12, "adc_crest": 1.0})
    tile = clipping.program(np.eye(2, dtype=np.float32), name="clips")
    # (1, -2) scaled to size 1 is (.447, -.894), RMS .707: -2 is clipped to -.707 * sqrt(5) = -1.581
    assert_allclose(tile.forward(np.array([[1, -2]], np.float32)), [[1, -math.sqrt(2.5)]], rtol=1e-3)
    assert clipping.wear(tile)["clipped_share"] == 0.5


# -- noise ---------------------------------------------------------------------------------------------------


def law(preset: str, a: Any, w: Any, photons: float) -> Any:
    """Variance of results, written out: a [m, k] through w [k, n], one unit, shot noise alone."""
    k, n = w.shape
    norm, total = (a**2).sum(axis=1, keepdims=True), np.abs(a).sum(axis=1, keepdims=True)
    if preset == "mzi":
        return norm * np.linalg.svd(w)[1][0] ** 2 / (4 * k * n * photons) + np.zeros((1, n))
    if preset == "slm":
        return norm * np.abs(w).max() ** 2 / (4 * photons) + np.zeros((1, n))
    if preset == "homodyne":
        return norm * (w**2).sum(axis=0) / (k * photons)
    return total**2 * np.abs(w).max() ** 2 / (k * photons) + np.zeros((1, n))


@pytest.mark.parametrize("preset", ["mzi", "slm", "homodyne", "microring"])
@pytest.mark.parametrize("level", ["gemm", "photon"])
def test_shot_noise_keeps_its_law_both_ways(preset: str, level: str) -> None:
    """Chi-square over 200 x 20 and 200 x 24 results, 5 sigma."""
    strong = {"oscillator_photons": 1e8} if preset in ("mzi", "slm") else {}
    device = optical(preset, **WHITE, **strong, level=level, detected_photons=50.0)
    w, x, dy = values(24, 20), values(200, 24, seed=1), values(200, 20, seed=2)
    tile = device.program(w, name="noisy")
    within(tile.forward(x) - x @ w, law(preset, x, w, 50))
    within(tile.backward(dy) - dy @ w.T, law(preset, dy, w.T, 50))


def test_gradients_of_two_beams_keep_the_law() -> None:
    """sigma^2 = |x_k|^2 |dy_n|^2 / (m photons), 60 x 50 results of 32 vectors."""
    tile = optical("homodyne", **WHITE, detected_photons=20.0).program(values(60, 50), name="gradient")
    x, dy = values(32, 60, seed=1), values(32, 50, seed=2)
    variance = (x**2).sum(axis=0)[:, None] * (dy**2).sum(axis=0) / (32 * 20)
    within(tile.gradient(x, dy) - x.T @ dy, variance)


def test_units_add_their_noise() -> None:
    """40 inputs on units of 16: results sum three units' noise, of 16, 16 and 8 inputs."""
    device = optical("slm", **WHITE, inputs=16, outputs=64, detected_photons=50.0)
    w, x = values(40, 12), values(400, 40, seed=1)
    parts = [slice(0, 16), slice(16, 32), slice(32, 40)]
    variance = sum(law("slm", x[:, part], w[part], 50) for part in parts)
    within(device.program(w, name="units").forward(x) - x @ w, variance)


def test_receivers_add_their_noise() -> None:
    """f^2: integrator of 30 electrons on 24 * 50 detected: 1 + 900 / 1200 = 1.75 times shot noise."""
    device = optical("homodyne", **{**WHITE, "integrator_electrons": 30}, detected_photons=50.0)
    w, x = values(24, 20), values(200, 24, seed=1)
    within(device.program(w, name="noisy").forward(x) - x @ w, 1.75 * law("homodyne", x, w, 50))


def test_bright_signals_add_their_own_noise() -> None:
    """A result y beside e = 500 electrons adds y^2 / (4 e) to its variance, by counts and by the normal law.

    w = 1, x = 1 and 1,000 photons detected: 1 / 4000 of the oscillator and as normal, 1 / 2000 of the light itself.
    20,000 readings, 5 sigma; and where the signal equals the oscillator, one detector is dark, and no count below 0.
    """
    settings = {**WHITE, "detected_photons": 1000.0, "oscillator_photons": 500.0}
    for level in ("gemm", "photon"):
        for stack in ((), (1,)):
            tile = optical("slm", **settings, level=level).program(np.ones((*stack, 1, 1), np.float32), name="bright")
            y = tile.forward(np.ones((*stack, 20_000, 1), np.float32))
            within(y - 1, np.full_like(y, 1 / 4000 + 1 / 2000))
    equal = optical("slm", **{**settings, "oscillator_photons": 1000.0}, level="photon")
    y = equal.program(np.ones((1, 1), np.float32), name="equal").forward(
        np.linspace(0.5, 2, 64, dtype=np.float32)[:, None]
    )
    assert np.isfinite(y).all()


def test_rails_are_read_twice() -> None:
    """Rings: an amplifier of 1,000 electrons^2 in each of two symbols, on 24 * 50 detected: f^2 = 1 + 2000 / 1200."""
    charge = 1.602176634e-19
    device = optical("microring", **{**WHITE, "amplifier_a_per_root_hz": math.sqrt(2 * charge**2 * 1e9 * 1000)},
                     detected_photons=50.0)  # fmt: skip
    w, x = values(24, 20), values(200, 24, seed=1)
    within(device.program(w, name="rails").forward(x) - x @ w, (1 + 2000 / 1200) * law("microring", x, w, 50))


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_extremes_are_scaled_before_they_are_squared(factor: float) -> None:
    """Values whose squares no float32 holds: the products of values of size 1, to rounding, kernels and NumPy."""
    w, x = values(6, 5), values(4, 6, seed=1)
    for preset in ("mzi", "homodyne", "microring"):
        device = optical(preset, **{**EXACT, "dac_bits": 12})
        tile = device.program(w, name="extreme")
        assert_allclose(
            tile.forward(x * np.float32(factor)) / np.float32(factor), tile.forward(x), rtol=1e-4, atol=1e-4
        )
        stacked = device.program(w[None], name="stacked")
        large = stacked.forward((x * np.float32(factor))[None])
        assert_allclose(large / np.float32(factor), stacked.forward(x[None]), rtol=1e-4, atol=1e-4)


def test_intensities_are_counted() -> None:
    """Wang's encoding: the mean of 4,000 readings is the product, within 5 sigma of their own spread."""
    device = optical("slm", **WHITE, level="photon", detection="intensity", detected_photons=30.0)
    w, x = values(16, 6), np.repeat(values(1, 16, seed=1), 4000, axis=0)
    y = device.program(w, name="counted").forward(x)
    off = y.mean(axis=0) - (x @ w)[0]
    assert (np.abs(off) < 5 * y.std(axis=0) / math.sqrt(4000)).all()
    # Poisson: sigma^2 = (span / bright) x the mean of both rails, bright = photons k / sum of |x|, by hand:
    span = float(np.ptp(w))
    variance = (span * np.abs(x[:1]).sum() / (30 * 16)) * (np.abs(x[:1]) @ (w - w.min()))[0]
    assert_allclose(y.var(axis=0) / variance, 1, atol=5 * math.sqrt(2 / 4000))


def test_kernel_draws_standard_normals() -> None:
    """Moments 1 to 4 of 400,000 draws: 0, 1, 0, 3 within 5 sigma (1, sqrt 2, sqrt 15, sqrt 96 over sqrt n)."""
    z = np.array([kernel_normal(np.uint64(kernel_mix(np.uint64(17 + i)))) for i in range(400_000)], np.float64)
    for power, (mean, sigma) in enumerate(((0, 1), (1, 2**0.5), (0, 15**0.5), (3, 96**0.5)), 1):
        assert abs((z**power).mean() - mean) < 5 * sigma / math.sqrt(z.size)


def test_dark_vectors_and_empty_batches() -> None:
    tile = optical("slm").program(values(5, 4), name="dark")
    assert not tile.forward(np.zeros((3, 5), np.float32)).any()
    assert tile.forward(np.zeros((0, 5), np.float32)).shape == (0, 4)


def test_dark_current_is_in_every_preset() -> None:
    """25 nA for a nanosecond are 156 electrons, of either of two diodes, for each of 64 symbols that two beams meet in.

    Beside 64 x 200 of light and 13^2 of the integrator: f^2 = 1 + (2 * 156.04 * 64 + 169) / 12,800 = 2.574.
    """
    assert all(optical(preset).dark_current_a > 0 for preset in PRESETS)
    device = optical("homodyne", **{**NO_ERRORS, **NO_CONVERTERS}, crest=1000.0)  # no vector is dimmed for its crest
    w, x = values(64, 30), values(200, 64, seed=1)
    within(device.program(w, name="dark").forward(x) - x @ w, 2.574 * law("homodyne", x, w, 200))


def test_rings_have_a_bank_for_either_way() -> None:
    """Rings pass light one way, and errors meet the transpose in another bank; liquid crystal is the same both ways.

    Two sets of errors .05 apart, independent: their difference has sqrt(2) times the spread, 30 x 20 weights, 5 sigma.
    """
    still = {**EXACT, "weight_sigma": 0.05}
    for preset, spread in (("microring", 0.05 * math.sqrt(2)), ("slm", 0.0)):
        tile = optical(preset, **still).program(w := values(30, 20), name="banks")
        there, back = tile.forward(np.eye(30, dtype=np.float32)), tile.backward(np.eye(20, dtype=np.float32)).T
        off = (there - back) / np.abs(w).max()
        assert abs(off.std() - spread) <= 5 * spread / math.sqrt(2 * off.size)


# -- streams -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["mzi", "microring"])
def test_chip_drift_and_shot_have_seeds_of_their_own(preset: str) -> None:
    w, x = values(12, 10), values(5, 12, seed=1)

    def results(**seeds: int) -> tuple[Any, Any, Any]:
        fixed_errors = {"splitter_sigma": 0.1, "calibrated": False} if preset == "mzi" else {"weight_sigma": 0.1}
        device = optical(preset, **seeds, **fixed_errors, drift_sigma=0.02)
        tile = device.program(w, name="seeded")
        fixed, y = tile.read(), tile.forward(x)
        tile.update(0 * w)
        return fixed, y, tile.read() - fixed

    base = results(seed=1, chip_seed=7, drift_seed=8)
    shot = results(seed=2, chip_seed=7, drift_seed=8)
    drift = results(seed=1, chip_seed=7, drift_seed=9)
    chip = results(seed=1, chip_seed=6, drift_seed=8)
    assert_array_equal(base[0], shot[0])
    assert_array_equal(base[2], shot[2])
    assert (base[1] != shot[1]).any()
    assert (base[2] != drift[2]).any()
    assert relative(drift[0], base[0]) < relative(chip[0], base[0])


def test_drift_comes_with_updates_alone() -> None:
    tile = optical("mzi").program(values(8, 8), name="drift")
    before = tile.read()
    tile.forward(values(3, 8))
    assert_array_equal(tile.read(), before)
    tile.update(np.zeros((8, 8), np.float32))
    assert (tile.read() != before).any()


# -- scales and refusals -------------------------------------------------------------------------------------


def test_weights_beyond_a_given_scale() -> None:
    """Refused when programmed; when moved, the largest singular value, or weight, stays at the scale."""
    w = 2 * np.eye(3, dtype=np.float32)
    for preset, word in (("mzi", "no passive chip"), ("microring", "nothing passive")):
        with pytest.raises(DeviceError, match=word):
            optical(preset, weight_scale=1.5).program(w, name="large")
        tile = optical(preset, **{**EXACT, "weight_scale": 3.0}).program(w, name="moved")
        tile.update(2 * np.eye(3, dtype=np.float32))
        assert_allclose(tile.read(), 3 * np.eye(3), atol=1e-5)
        assert tile.device.wear(tile)["largest_scale"] == 3.0


def test_scales_are_reported() -> None:
    """The largest singular value of (3, 4; 0, 0) is 5; the largest weight is 4."""
    w = np.array([[3, 4], [0, 0]], np.float32)
    for preset, scale in (("mzi", 5), ("slm", 4)):
        tile = optical(preset).program(w, name="scale")
        assert_allclose(tile.device.wear(tile)["largest_scale"], scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("preset", "parameters", "words"),
    [
        ("slm", {"optical_depth": -1}, "optical_depth=-1"),
        ("slm", {"detected_photons": -1}, "detected_photons=-1"),
        ("slm", {"level": "mesh"}, "has no MZIs"),
        ("mzi", {"detection": "balanced"}, "is read by detection=oscillator"),
        ("slm", {"detection": "intensity"}, "take level=photon"),
        ("slm", {"trained": "phases"}, "needs optics=mesh"),
        ("mzi", {"adc_bits": 1}, "2 bits or more"),
        ("mzi", {"optical_depth": 5}, "need lifetime_s"),
        ("slm", {"internal_loss_depth": 1}, "profile='distributed'"),
        ("slm", {"encoding": "phase"}, "amplitude, intensity"),
        ("nitride", {"probe_photons": 1e4}, "take probe_photons=7"),
        ("mzi", {"optics": "prism"}, "mesh, slm, homodyne, microring"),
    ],
)
def test_impossible_parameters_are_refused(preset: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=words.replace("[", r"\[")):
        optical(preset, **parameters)


def test_one_wavelength_and_no_vapour_on_silicon() -> None:
    """Rubidium's D2 line is 780 nm, which silicon absorbs: absorbers only in presets of that wavelength."""
    for preset in PRESETS:
        device = optical(preset)
        assert bool(device.optical_depth) == (device.wavelength_m == 7.8e-7)
        assert (device.uses(Elementwise("device", 5, 0, 0, 0)) is None) == (device.optical_depth == 0)


# -- neurons -------------------------------------------------------------------------------------------------


def test_neurons_are_lumped_absorbers() -> None:
    """x exp(-5 / (1 + x^2)): at x = 1 exp(-2.5), at 3 3 exp(-0.5); slopes of the probe the same over x."""
    device = optical("slm", shot_noise=False, probe_gain=1.0)
    neurons = device.activation(3, name="neurons")
    x = np.array([[0, 1, -3]], np.float32)
    y, saved = neurons.forward(x)
    assert_allclose(y, [[0, math.exp(-2.5), -3 * math.exp(-0.5)]], rtol=1e-6)
    dx, _ = neurons.backward(saved, np.ones_like(x))
    assert_allclose(dx, [[math.exp(-5), math.exp(-2.5), math.exp(-0.5)]], rtol=1e-6)


def test_probe_gain_is_that_nearest_to_the_slope() -> None:
    """The least-squares gain, by hand: sum exact probe / sum probe^2 over the pumps."""
    device = optical("slm", shot_noise=False)
    neurons = device.activation(7, name="neurons")
    x = values(50, 7)
    probe = np.exp(-5 / (1 + x.astype(float) ** 2))
    exact = probe * (1 + 10 * x.astype(float) ** 2 / (1 + x.astype(float) ** 2) ** 2)
    dx, _ = neurons.backward(neurons.forward(x)[1], np.ones_like(x))
    assert_allclose(dx, probe * (exact * probe).sum() / (probe**2).sum(), rtol=1e-4)


def test_neurons_are_as_noisy_as_their_light() -> None:
    """y: f^2 / (4 N) + y^2 / (4 e); dx: RMS dy the same of the probe. 300 x 40 values, 5 sigma.

    e = 2e4 electrons of the oscillator; the amplifier's (1.98e-17)^2 / 1,900 Hz / (2 q^2) = 4 electrons^2 are nothing
    beside them, 1e4 of dark current in either diode (q * 1e4 * 1,900 Hz) double f^2. N: 0.7 of the photons at
    saturation, behind 6 dB.
    """
    device = optical("slm", probe_gain=1.0, probe_photons=400.0, dark_current_a=1.602176634e-19 * 1e4 * 1900)
    x = values(300, 40)
    quiet = optical("slm", probe_gain=1.0, shot_noise=False).activation(40, name="quiet")
    noisy = device.activation(40, name="noisy")
    y, saved = noisy.forward(x)
    still, quiet_saved = quiet.forward(x)
    # 1.67 mW/cm2 on 7850 um2 for 526 us (1.9 kHz) at 780 nm: 1.31e-7 W * 5.26e-4 s / 2.547e-19 J = 2.71e8 photons
    assert_allclose(device.saturation_photons, 2.71e8, rtol=0.01)
    light = still.astype(np.float64) ** 2 / (4 * 2e4)
    within(y - still, 2 / (4 * 0.7 * 10**-0.6 * device.saturation_photons) + light)
    dy = 3 * values(300, 40, seed=1)
    off = noisy.backward(saved, dy)[0] - quiet.backward(quiet_saved, dy)[0]
    light = quiet.backward(quiet_saved, dy)[0].astype(np.float64) ** 2 / (4 * 2e4)
    within(off, 2 * (dy**2).mean() / 4 / 400 + light)


def test_neurons_of_intensities_keep_signs_in_electronics() -> None:
    """sign(x) |x| exp(-10 / (1 + |x|)): at 1 e^-5, at -3 -3 e^-2.5; exact slopes e^-D (1 + 10 |x| / (1 + |x|)^2).

    At 1 the factor is 3.5, at 3 2.875; a probe sees e^-D; the derivative is also that of central differences.
    """
    x = np.array([[0.0, 1.0, -3.0]])
    quiet = {"shot_noise": False, "encoding": "intensity", "precision": "fp64"}
    exact, probe = optical("slm", **quiet, absorber_backward="exact"), optical("slm", **quiet, probe_gain=1.0)
    neurons = exact.activation(3, name="neurons")
    y, saved = neurons.forward(x)
    assert_allclose(y, [[0, math.exp(-5), -3 * math.exp(-2.5)]])
    dy = np.array([[1.0, -1.0, 2.0]])
    dx = neurons.backward(saved, dy)[0]
    assert_allclose(dx, [[math.exp(-10), -3.5 * math.exp(-5), 2 * 2.875 * math.exp(-2.5)]])
    passed = probe.activation(3, name="neurons")
    assert_allclose(passed.backward(passed.forward(x)[1], dy)[0], [[math.exp(-10), -math.exp(-5), 2 * math.exp(-2.5)]])
    h = 1e-5
    moved = neurons.forward(x + h)[0] - neurons.forward(x - h)[0]
    assert_allclose(moved / (2 * h) * dy, dx, rtol=1e-6, atol=1e-8)  # curvature jumps at 0


def test_derivatives_of_intensities_survive_crosstalk() -> None:
    """Central differences of sum(dy y), 12 values, light leaking to neighbours, 1e-6."""
    device = optical("slm", shot_noise=False, encoding="intensity", absorber_backward="exact", absorber_crosstalk=0.1,
                     precision="fp64", profile="distributed")  # fmt: skip
    neurons = device.activation(12, name="neurons")
    x, dy = 2 * values(1, 12, dtype=np.float64), values(1, 12, seed=1, dtype=np.float64)
    dx = neurons.backward(neurons.forward(x)[1], dy)[0]
    ends = [(neurons.forward(x + sign * 1e-5 * np.eye(12))[0] * dy).sum(axis=1) for sign in (1, -1)]
    assert_allclose((ends[0] - ends[1]) / 2e-5, dx[0], rtol=1e-6)


def test_intensities_are_as_noisy_as_their_counts() -> None:
    """y: |y| / N of shot noise; dx, for errors of mean size m: m |dx| / photons. 300 x 40 values, 5 sigma.

    Dark current of 2e4 electrons in 526 us adds 2e4 / N^2, and m^2 2e4 / photons^2; RIN of one detector is not
    rejected: 1e-8 a Hz, 950 Hz, 9.5e-6 y^2.
    """
    settings = {"encoding": "intensity", "probe_gain": 1.0, "probe_photons": 2e3, "beam_area_mm2": 0.00785e-3}
    noise = {"rin_db_per_hz": -80.0, "dark_current_a": 1.602176634e-19 * 2e4 * 1900, "amplifier_a_per_root_hz": 0.0}
    device = optical("slm", **settings, **noise)
    x, dy = values(300, 40), 3 * values(300, 40, seed=1)
    quiet = optical("slm", **settings, shot_noise=False).activation(40, name="quiet")
    noisy = device.activation(40, name="noisy")
    y, saved = noisy.forward(x)
    still, quiet_saved = quiet.forward(x)
    electrons = 2.71e5 * 0.7 * 10**-0.6  # a thousandth of the beam of the preset
    assert_allclose(device.saturation_photons, 2.71e5, rtol=0.01)
    electrons *= device.saturation_photons / 2.71e5
    light = np.abs(still.astype(np.float64))
    within(y - still, light / electrons + 2e4 / electrons**2 + 9.5e-6 * light**2)
    clear = quiet.backward(quiet_saved, dy)[0]
    light, mean = np.abs(clear.astype(np.float64)), float(np.abs(dy).mean())
    within(noisy.backward(saved, dy)[0] - clear, mean * light / 2e3 + mean**2 * 2e4 / 4e6 + 9.5e-6 * light**2)


@pytest.mark.parametrize("encoding", ["amplitude", "intensity"])
def test_a_probe_of_a_given_ratio_has_so_many_photons(encoding: str) -> None:
    """Half of the pump: fields .25 of its light, .25 mean(x^2) N electrons for an RMS error; intensities .5 of its RMS.

    Oscillator (1e6 electrons) and f^2 = 1: variance RMS^2 / (4 electrons); one detector: mean(dy) dx / electrons, for
    an error of mean size. No error sent back through a dark pump. 300 x 40 values, 5 sigma.
    """
    noise = {"amplifier_a_per_root_hz": 0.0, "dark_current_a": 0.0}
    strong = {"oscillator_photons": 1e6} if encoding == "amplitude" else {}
    settings = {"encoding": encoding, "probe_gain": 1.0, "probe_ratio": 0.5, "beam_area_mm2": 0.00785e-3, **strong}
    device, quiet = optical("slm", **settings, **noise), optical("slm", **settings, shot_noise=False)
    x, dy = values(300, 40), 3 * values(300, 40, seed=1)
    neurons, still = (each.activation(40, name="neurons") for each in (device, quiet))
    clear = still.backward(still.forward(x)[1], dy)[0].astype(np.float64)
    off = neurons.backward(neurons.forward(x)[1], dy)[0] - clear
    at_saturation = device.saturation_photons * 0.7 * 10**-0.6
    if encoding == "amplitude":
        electrons = 0.25 * (x.astype(np.float64) ** 2).mean() * at_saturation
        within(off, (dy**2).mean() / (4 * electrons) + clear**2 / (4 * 1e6))
    else:
        size = np.abs(dy).mean()
        electrons = 0.5 * math.sqrt((x.astype(np.float64) ** 2).mean()) * at_saturation * size / np.sqrt((dy**2).mean())
        within(off, size * np.abs(clear) / electrons)
    dark = neurons.forward(0 * x)[1]
    assert not neurons.backward(dark, dy)[0].any()


def test_layers_may_have_gains_of_their_own() -> None:
    """A device for each layer, alike but for the gain, one step of plain SGD: what is in front of it moves 3 times as
    far, what is behind as ever. Two devices cost what one does, but for absorbers and a bank of memory of their own.
    """
    devices = [optical("slm", **EXACT, probe_gain=gain) for gain in (1.0, 3.0)]
    model = models.mlp([6, 5, 4, 3], activation="device")
    dataset = hwsim.data.from_arrays(values(30, 6), values(30, 3, seed=1), name="one batch")
    moves, joules = [], []
    for first, second in ((0, 0), (1, 0), (0, 1)):
        placed = {"*": devices[0], "fc1": devices[first], "fc2": devices[second]}
        start = weights(Network(model, placed))
        run = hwsim.fit(model, dataset, placed, epochs=1, batch=len(dataset.x_train), learning_rate=0.1)
        end = weights(run.network)
        moves.append([end[f"fc{i}/w"] - start[f"fc{i}/w"] for i in (1, 2, 3)])
        joules.append(run.ledger.energy_j)
    plain, at_first, at_second = moves
    for moved, gains in ((at_first, (3, 1, 1)), (at_second, (3, 3, 1))):
        for found, once, gain in zip(moved, plain, gains, strict=True):
            assert_allclose(found, gain * once, atol=1e-6)
    assert np.abs(plain[0]).max() > 1e-4
    assert_allclose(joules, joules[0], rtol=1e-3)


def test_symbols_wait_for_the_absorbers() -> None:
    """26.2 ns * ln(1 / .02) = 102.5 ns, 9.8 MHz, where inputs could come at 1 GHz; micromirrors need 526 us."""
    assert_allclose(1 / optical("nitride").absorber_period_s, 9.76e6, rtol=0.01)
    assert_allclose(optical("slm").absorber_period_s, 1 / 1900)


# -- training ------------------------------------------------------------------------------------------------


def test_phases_fall_along_their_gradient() -> None:
    """Without noise a small move changes L = <dy, x w> by -scale |dL/dphase|^2, which finite moves measure alone.

    Twice the step, twice the change: to 2%; and L falls, by more than 0.
    """
    exact = {**EXACT, "precision": "fp64", "trained": "phases", "tap_fraction": 1e-6}
    w, x, dy = (values(*shape, seed=i, dtype=np.float64) for i, shape in enumerate(((6, 4), (5, 6), (5, 4))))

    def change(scale: float) -> float:
        tile = optical("mzi", **exact).program(w, name="phases")
        before = float((tile.forward(x) * dy).sum())
        tile.update_outer(x, dy, -scale)
        return float((tile.forward(x) * dy).sum()) - before

    small, large = change(1e-6), change(2e-6)
    assert small < -1e-6
    assert_allclose(large / small, 2, rtol=0.02)
    # The same slope by hand: every phase of the chip moved alone by central differences.
    device = optical("mzi", **exact)
    tile = device.program(w, name="differences")
    total, h = 0.0, 1e-5
    for key in ("0/first/phases", "0/first/output", "0/second/phases", "0/second/output", "0/attenuation"):
        flat = tile.state[key].reshape(-1)
        for i in range(flat.size):
            ends, kept = [], flat[i]
            if key == "0/attenuation" and kept + h > 1:
                continue  # full transmission cannot rise; its gradient is counted below
            for sign in (1, -1):
                flat[i] = (kept + sign * h) % (2 * math.pi) if "attenuation" not in key else kept + sign * h
                chips.settle(device, tile)
                ends.append(float((tile.state["w"] * (x.T @ dy)).sum()))
            flat[i] = kept
            total += ((ends[0] - ends[1]) / (2 * h)) ** 2
    chips.settle(device, tile)
    top = (
        float(np.sum(np.linalg.svd(w.T)[0][:, :1] @ np.linalg.svd(w.T)[2][:1] * (x.T @ dy).T)) * np.linalg.svd(w)[1][0]
    )
    total += max(top, 0.0) ** 2  # the largest attenuation may fall, if L falls with it
    assert_allclose(-small / 1e-6, total, rtol=0.01)


def test_training_by_phases_learns() -> None:
    """Digits, 1 epoch, phases moved by light alone: above 60% (chance 12%)."""
    device = optical("mzi", trained="phases")
    run = hwsim.fit(models.mlp([64, 10]), hwsim.data.load("digits"), device, epochs=1, learning_rate=1.0)
    assert run.test_accuracy > 0.6
    kinds = {cell[3].kind for cell in run.ledger.calls if isinstance(cell[3], Product)}
    assert Kind.UPDATE_OUTER in kinds
    assert Kind.UPDATE not in kinds


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_phases_follow_plain_sgd_alone(optimizer: str) -> None:
    """Others would move weights, by a decomposition, beside meters that nobody reads."""
    with pytest.raises(DeviceError, match=r"trained=phases.* plain SGD"):
        hwsim.fit(models.mlp([64, 10]), hwsim.data.load("digits"), optical("mzi", trained="phases"), epochs=1,
                  optimizer=optimizer)  # fmt: skip


def test_training_through_absorbers_learns() -> None:
    """Digits with optical layers and neurons both ways: well above the 12% of chance."""
    model = models.mlp([64, 24, 10], activation="device")
    run = hwsim.fit(model, hwsim.data.load("digits"), optical("nitride"), epochs=3, learning_rate=0.3)
    assert run.test_accuracy > 0.6


# -- array libraries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("preset", ["mzi", "slm", "homodyne", "microring"])
def test_other_array_libraries(preset: str, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library as strict as CuPy: the same results where nothing is random, and no mixing of arrays anywhere."""
    monkeypatch.setitem(arrays.LIBRARIES, "strict", "strict_array")
    bench = Bench(lambda: optical(preset, **(EXACT if exact else {})), (1, 2))
    result = run("array_libraries", bench)
    assert result.outcome is Outcome.PASSED, result.message


@pytest.mark.parametrize("encoding", ["amplitude", "intensity"])
def test_neurons_on_another_library(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(arrays.LIBRARIES, "strict", "strict_array")
    found = {}
    for library in ("numpy", "strict"):
        device = optical("slm", shot_noise=False, array=library, encoding=encoding)
        neurons = device.activation(5, name="neurons")
        y, saved = neurons.forward(device.asarray(values(4, 5)))
        found[library] = to_host(y), to_host(neurons.backward(saved, device.asarray(values(4, 5, seed=1)))[0])
    assert_allclose(found["strict"], found["numpy"], rtol=1e-6)

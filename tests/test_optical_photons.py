"""Counted products and receivers: noise laws by chi-square at 5 sigma, arithmetic by hand, converters by levels.

Run time: about 2 s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import strict_array
from numpy.testing import assert_allclose, assert_array_equal

from hwsim.devices.optical import Optical
from hwsim.devices.optical.converting import convert
from hwsim.devices.optical.photons import intensity_product
from hwsim.devices.optical.receiver import CHARGE_C, Receiver, count, photon_energy_j
from hwsim.errors import ConfigError

Host = np.ndarray[Any, Any]
IDEAL = Receiver(1e-9)
NOISY = Receiver(
    1e-9, excess_factor=1.5, dark_current_a=1e-8, load_ohm=5e6, amplifier_a_per_root_hz=1e-13, rin_db_per_hz=-100,
    common_mode_rejection_db=20,
)  # fmt: skip
COUNTING = {
    "level": "photon", "weight_bits": 0, "dac_bits": 0, "adc_bits": 0, "integrator_electrons": 0, "dark_current_a": 0,
}  # fmt: skip


def operands(m: int = 7, k: int = 20, n: int = 5, seed: int = 0) -> tuple[Host, Host]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, k)), rng.standard_normal((k, n))


def assert_chi_square(deviations: Host, message: str) -> None:
    """Sum of squares of standard deviations against its mean, their number, at 5 sigma = 5 sqrt(2 / number)."""
    assert abs((deviations**2).mean() - 1) < 5 * math.sqrt(2 / deviations.size), message
    assert abs(deviations.mean()) < 5 / math.sqrt(deviations.size), message


def repeated(product: Callable[..., Any], times: int, **keywords: Any) -> Host:
    rng = np.random.default_rng(1)
    found = [product(rng=rng, **keywords) for _ in range(times)]
    return np.stack([getattr(one, "values", one) for one in found])


# -- photons -----------------------------------------------------------------------------------------------


def test_photon_energies() -> None:
    """1550 nm: 1.2816e-19 J. 50 zJ are .39 of it. 2.5e-19 J over .66 photons, as published: light of 524 nm."""
    assert photon_energy_j(1550e-9) == pytest.approx(1.2816e-19, rel=1e-4)
    assert 50e-21 / photon_energy_j(1550e-9) == pytest.approx(0.39, abs=0.002)
    assert photon_energy_j(524.4e-9) == pytest.approx(2.5e-19 / 0.66, rel=1e-3)


# -- intensities -------------------------------------------------------------------------------------------


def test_intensity_product_by_hand() -> None:
    """a = (1, 2, 1), b = (-1, 0, 3): light (.5, 1, .5), transmission (0, .25, 1), sum 2, light @ transmission .75.

    p = 1000 per multiplication of 3: n_max = 3000 / 2, mean count 1125. The product is 2; one count is
    2 * 4 / 1500 of it, so that sigma = sqrt(1125) * 8 / 1500 = .179. 4,000 shots.
    """
    a, b = np.array([[1.0, 2, 1]]), np.array([[-1.0], [0], [3]])
    rng = np.random.default_rng(0)
    values = np.array([intensity_product(np, a, b, 1000.0, rng, IDEAL).item() for _ in range(4000)])
    sigma = math.sqrt(1125) * 8 / 1500
    assert_chi_square((values - 2) / sigma, "intensities")
    steps = (values + 4) * 1500 / 8  # minus lowest * sum(a) = -4: whole photons
    assert_allclose(steps, np.rint(steps), atol=1e-9)


def test_intensity_law() -> None:
    """Per output sigma = sqrt(mean count) K_x K_w / n_max, written out with loops. 300 shots of 4 x 3 outputs."""
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0, 3, (4, 30)), rng.standard_normal((30, 3))
    budget = 5.0
    found = repeated(intensity_product, 300, xp=np, a=a, b=b, photons=budget, receiver=IDEAL)
    for i in range(4):
        for j in range(3):
            x, w = a[i] / a[i].max(), (b[:, j] - b.min()) / (b.max() - b.min())
            brightest = budget * 30 / x.sum()
            sigma = math.sqrt(brightest * (x @ w)) * a[i].max() * (b.max() - b.min()) / brightest
            assert_chi_square((found[:, i, j] - a[i] @ b[:, j]) / sigma, f"output {i}, {j}")


def test_many_photons_are_exact() -> None:
    a, b = operands()
    rng = np.random.default_rng(0)
    assert_allclose(intensity_product(np, np.abs(a), b, 1e14, rng, IDEAL), np.abs(a) @ b, atol=1e-5)
    tile = Optical.create("homodyne", {**COUNTING, "precision": "fp64", "detected_photons": 1e14}).program(b, name="b")
    assert_allclose(tile.forward(a), a @ b, atol=1e-5)


def test_a_dark_rail_is_as_dark_as_its_vector() -> None:
    """x of one sign: the rail of the other adds the dark's noise alone, and all noise follows x down to 1e-4 and 1e-9.

    900 electrons^2 of the amplifier (30 rms) on either rail: sigma^2 = (counts + 2 x 900) (sum|x| span / (k p))^2,
    p = 100 and k = 8; 4,000 readings of each of 3 outputs. A vector of zeros gives zeros.
    """
    receiver = Receiver(1e-9, amplifier_a_per_root_hz=math.sqrt(2 * 900 * 1e9) * CHARGE_C)
    assert receiver.electronic_variance == pytest.approx(900)
    x, w = np.abs(np.random.default_rng(2).standard_normal((1, 8))), operands(1, 8, 3)[1]
    for sign, scale in ((1, 1.0), (-1, 1e-4), (1, 1e-9)):
        a = sign * scale * x
        found = intensity_product(np, np.repeat(a, 4000, axis=0), w, 100.0, np.random.default_rng(4), receiver)
        one = np.abs(a).sum() * np.ptp(w) / 800
        counts = np.abs(a) @ (w - w.min()) / one
        assert_chi_square((found - a @ w) / (one * np.sqrt(counts + 2 * 900)), f"{sign * scale}")
    assert not intensity_product(np, 0 * x, w, 100.0, np.random.default_rng(4), receiver).any()


def test_both_rails_have_the_brightness_of_the_vector() -> None:
    """(3, -1) by (1, 1) and (0, 1): full transmission everywhere, or of one. 40 photons x 2, 3 of 4 parts to one rail.

    Counts of 60 and 20 make (60 - 20) / 80 x 4 = 2, sigma = sqrt(80) / 20; the second output counts 20 alone.
    """
    a, b = np.array([[3.0, -1]]), np.array([[1.0, 0], [1, 1]])
    found = intensity_product(np, np.repeat(a, 4000, axis=0), b, 40.0, np.random.default_rng(1), IDEAL)
    assert_chi_square((found - [2, -1]) / (np.sqrt([80, 20]) / 20), "rails")


def test_dark_rows() -> None:
    """Rows and columns of zeros are dark: they give 0 whatever is counted; equal weights need no light."""
    rng = np.random.default_rng(0)
    a, b = np.zeros((2, 4)), operands(2, 4, 3)[1]
    assert_array_equal(intensity_product(np, a, b, 3.0, rng, IDEAL), np.zeros((2, 3)))
    assert_array_equal(intensity_product(np, a + 1, np.full((4, 3), 2.0), 3.0, rng, IDEAL), np.full((2, 3), 8.0))
    b[:, 1] = 0
    tile = Optical.create("homodyne", {**COUNTING, "detected_photons": 3.0}).program(b, name="dark")
    assert_array_equal(tile.forward(np.ones((2, 4), np.float32))[:, 1], [0, 0])
    assert_array_equal(tile.forward(a.astype(np.float32)), np.zeros((2, 3)))


def test_intensities_without_noise_pass_converters_alone() -> None:
    """3 bits of a result's 4 levels below full scale: x = (1, -2) by the identity, as fields are: 4 / 3 and -2.

    1.1 of 2 is .55, of 3 levels 1.65: rounded to 2, two thirds of 2.
    """
    settings = {"level": "photon", "detection": "intensity", "shot_noise": False, "weight_bits": 0, "dac_bits": 0,
                "weight_crosstalk": 0, "weight_sigma": 0, "drift_sigma": 0, "adc_bits": 3}  # fmt: skip
    tile = Optical.create("slm", settings).program(np.eye(2, dtype=np.float32), name="still")
    for _ in range(2):
        assert_allclose(tile.forward(np.array([[1.1, -2]], np.float32)), [[4 / 3, -2]], rtol=1e-6)


# -- homodyne ----------------------------------------------------------------------------------------------


def homodyne_sigma(a: Host, b: Host, photons: float) -> Host:
    """|a_i| |b_j| / sqrt(k photons), element by element."""
    sizes = np.array([[math.sqrt((row @ row) * (column @ column)) for column in b.T] for row in a])
    return sizes / math.sqrt(a.shape[1] * photons)


def test_law_from_single_fields() -> None:
    """Fields alpha_k, beta_k on a beam splitter, every term detected by itself: the reference without the closed form.

    10 terms, 50 photons in each on average, both arms alike: 20,000 shots. Variance and mean as the law says.
    """
    a, b = operands(1, 10, 1, seed=4)
    alpha = a[0] / np.linalg.norm(a) * math.sqrt(10 * 50 / 2)
    beta = b[:, 0] / np.linalg.norm(b) * math.sqrt(10 * 50 / 2)
    assert (alpha**2).sum() + (beta**2).sum() == pytest.approx(10 * 50)
    rng = np.random.default_rng(5)
    counts = [rng.poisson((alpha + sign * beta) ** 2 / 2, (20_000, 10)).sum(axis=1) for sign in (1, -1)]
    values = (counts[0] - counts[1]) * np.linalg.norm(a) * np.linalg.norm(b) / 500
    assert_chi_square((values - (a @ b).item()) / homodyne_sigma(a, b, 50), "fields")


@pytest.mark.parametrize("level", ["gemm", "photon"])
def test_all_three_products_obey_the_law(level: str) -> None:
    """Forward x w, backward dy w^T, gradient x^T dy at 16 photons per MAC: 200 shots, all outputs."""
    x, w = (part.astype(np.float32) for part in operands(6, 24, 5))
    dy = np.random.default_rng(9).standard_normal((6, 5), dtype=np.float32)
    device = Optical.create("homodyne", {**COUNTING, "level": level, "detected_photons": 16.0})
    tile = device.program(w, name="law")
    for name, a, b, product in (
        ("forward", x, w, lambda: tile.forward(x)),
        ("backward", dy, w.T, lambda: tile.backward(dy)),
        ("gradient", x.T, dy, lambda: tile.gradient(x, dy)),
    ):
        found = np.stack([product() for _ in range(200)])
        assert_chi_square((found - a @ b) / homodyne_sigma(a, b, 16), name)


def test_few_photons_are_no_normal_noise() -> None:
    """One photon in all: readings are whole numbers of counts, where the normal law knows any value."""
    tile = Optical.create("homodyne", {**COUNTING, "detected_photons": 1.0}).program(
        np.ones((1, 1), np.float32), name="few"
    )
    values = tile.forward(np.ones((500, 1), np.float32))
    assert_allclose(values, np.rint(values), atol=1e-5)
    assert (values >= 0).all()  # equal fields: the dim port stays dark
    assert len(np.unique(np.rint(values))) > 2


def test_homodyne_counts_with_an_integrator() -> None:
    """30 electrons of noise beside 24 * 16 counted: the variance grows by 1 + 900 / 384. 200 shots."""
    x, w = (part.astype(np.float32) for part in operands(6, 24, 5))
    device = Optical.create("homodyne", {**COUNTING, "detected_photons": 16.0, "integrator_electrons": 30.0,
                                         "dark_current_a": 0, "rin_db_per_hz": -1000})  # fmt: skip
    tile = device.program(w, name="integrator")
    found = np.stack([tile.forward(x) for _ in range(200)])
    assert_chi_square((found - x @ w) / (math.sqrt(1 + 900 / 384) * homodyne_sigma(x, w, 16)), "integrator")


@pytest.mark.parametrize("level", ["gemm", "photon"])
def test_dark_current_is_that_of_two_diodes(level: str) -> None:
    """I T / q of 100 electrons a symbol and diode, 24 symbols: 4,800 beside 384 counted. 300 shots of 6 x 5."""
    x, w = (part.astype(np.float32) for part in operands(6, 24, 5))
    dark = {"dark_current_a": 100 * CHARGE_C * 1e9, "detected_photons": 16.0, "crest": 24.0}
    tile = Optical.create("homodyne", {**COUNTING, **dark, "level": level}).program(w, name="dark")
    found = np.stack([tile.forward(x) for _ in range(300)])
    assert_chi_square((found - x @ w) / (math.sqrt(1 + 4800 / 384) * homodyne_sigma(x, w, 16)), "dark")


# -- receivers ---------------------------------------------------------------------------------------------


def test_receiver_by_hand() -> None:
    """1 ns, so B = .5 GHz. Dark 1 nA: 1e-9 * 1e-9 / 1.602e-19 = 6.2415. Load 50 ohm at 300 K:
    2 * 1.380649e-23 * 300 * 1e-9 / (2.567e-38 * 50) = 6.4541e6. Amplifier 10 pA / rtHz: 1e-22 * 1e-9 / (2 * 2.567e-38)
    = 1.9478e6. RIN -155 dB/Hz, 30 dB rejected: .5e9 * 10^-18.5 = 1.5811e-10 of the square. Shot: F n.
    """
    assert Receiver(1e-9, dark_current_a=1e-9).electronic_variance == pytest.approx(6.2415, rel=1e-4)
    assert Receiver(1e-9, dark_current_a=1e-9, diodes=2).electronic_variance == pytest.approx(2 * 6.2415, rel=1e-4)
    assert Receiver(1e-9, load_ohm=50).electronic_variance == pytest.approx(6.4541e6, rel=1e-4)
    assert Receiver(1e-9, amplifier_a_per_root_hz=1e-11).electronic_variance == pytest.approx(1.9478e6, rel=1e-4)
    laser = Receiver(1e-9, rin_db_per_hz=-155, common_mode_rejection_db=30)
    assert laser.variance(1e6) == pytest.approx(1e6 + 1.5811e-10 * 1e12, rel=1e-6)
    assert Receiver(1e-9, excess_factor=4).variance(100.0) == 400
    assert IDEAL.variance(100.0) == 100


@pytest.mark.parametrize("receiver", [IDEAL, NOISY])
def test_counts_have_the_variance_that_is_said(receiver: Receiver) -> None:
    """Mean 300 electrons, 100,000 samples: mean and variance at 5 sigma."""
    found = count(np, np.full(100_000, 300.0), receiver, np.random.default_rng(0))
    assert_chi_square((found - 300) / math.sqrt(receiver.variance(300.0)), "counts")


def test_intensities_through_a_receiver() -> None:
    """Test of the intensity law by hand, with the receiver's variance in the place of counts, and the dark rail's."""
    a, b = np.array([[1.0, 2, 1]]), np.array([[-1.0], [0], [3]])
    found = repeated(intensity_product, 4000, xp=np, a=a, b=b, photons=1000.0, receiver=NOISY)
    assert_chi_square((found - 2) / (math.sqrt(NOISY.variance(1125) + NOISY.variance(0)) * 8 / 1500), "receiver")


# -- converters --------------------------------------------------------------------------------------------


def test_levels_by_hand() -> None:
    """3 bits: 7 levels, -1, -2/3 .. 1 of the full scale 6."""
    values = np.array([[6.0, -6, 0, 1, 2.9, -3.1]])
    found = convert(np, values, 3, 0)
    assert int(found.clipped) == 0
    assert_allclose(found.values, [[6, -6, 0, 0, 2, -4]], atol=1e-12)
    assert_array_equal(convert(np, values, 0, 0).values, values)
    assert_array_equal(convert(np, np.zeros((2, 2)), 8, 0).values, np.zeros((2, 2)))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_number_of_levels(bits: int) -> None:
    assert len(np.unique(convert(np, np.linspace(-1, 1, 5001)[None], bits, 0).values)) == 2**bits - 1


def test_range_follows_the_rms() -> None:
    """RMS of (1, 1, 1, 7) is sqrt 13; twice that is 7.21 and clips nothing, once clips the 7 to it."""
    values = np.array([[1.0, 1, 1, 7]])
    once = convert(np, values, 0, 1)
    assert int(once.clipped) == 1
    assert_allclose(once.values, [[1, 1, 1, math.sqrt(13)]])
    twice = convert(np, values, 0, 2)
    assert int(twice.clipped) == 0
    assert_array_equal(twice.values, values)


def test_each_matrix_has_its_own_range() -> None:
    """2 bits, levels -1, 0, 1 of the largest: (4, 1) gives (4, 0); (1, .9) beside it (1, 1)."""
    found = convert(np, np.array([[[4.0, 1]], [[1, 0.9]]]), 2, 0)
    assert_array_equal(found.values, [[[4, 0]], [[1, 1]]])


def test_clipped_share_of_normal_values() -> None:
    """Crest 2: a normal value lies beyond 2 sigma with p = .0455. n = 100,000: 5 sigma of a binomial, .0033."""
    values = np.random.default_rng(0).standard_normal((1, 100_000))
    share = int(convert(np, values, 8, 2).clipped) / values.size
    p = math.erfc(math.sqrt(2))
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / values.size) + 0.001  # the RMS itself is a draw


def test_quantisation_noise() -> None:
    """Uniform values: step^2 / 12, step = 2 / 254 of the full scale at 8 bits. n = 100,000; variance of the square
    of a uniform error is 4 / 5 of its mean squared: 5 sqrt(.8 / n) = .014.
    """
    values = np.random.default_rng(0).uniform(-1, 1, (1, 100_000))
    step = 2 * np.abs(values).max() / 254
    assert ((convert(np, values, 8, 0).values - values) ** 2).mean() == pytest.approx(step**2 / 12, rel=0.015)


def test_dtypes_stay() -> None:
    a, b = (part.astype(np.float32) for part in operands())
    rng = np.random.default_rng(0)
    assert convert(np, a, 8, 3).values.dtype == np.float32
    assert intensity_product(np, np.abs(a), b, 10.0, rng, IDEAL).dtype == np.float32


# -- the rest ----------------------------------------------------------------------------------------------


def test_other_array_libraries() -> None:
    a, b = operands(4, 12, 3)
    rng = strict_array.random.Generator(strict_array.Philox4x3210(seed=1))
    loaded = Receiver(1e-9, load_ohm=5e6)
    noisy = intensity_product(strict_array, strict_array.asarray(abs(a)), strict_array.asarray(b), 1e12, rng, loaded)
    assert_allclose(noisy.get(), abs(a) @ b, atol=1e-4)
    converted = convert(strict_array, strict_array.asarray(a), 6, 2.0)
    assert_allclose(converted.values.get(), convert(np, a, 6, 2.0).values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"integration_s": 0}, "integration_s=0: needs a number above 0"),
        ({"excess_factor": 0.5}, "excess_factor=0.5: needs a finite number, 1 or more"),
        ({"dark_current_a": -1}, "dark_current_a=-1"),
        ({"rin_db_per_hz": math.nan}, "need numbers in dB"),
        ({"load_ohm": 0}, "load_ohm=0"),
    ],
)
def test_bad_receivers(values: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Receiver(**{"integration_s": 1e-9, **values})

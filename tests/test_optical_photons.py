"""Counted products and receivers: noise laws by chi-square at 5 sigma, arithmetic by hand, converters by levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import strict_array
from numpy.testing import assert_allclose, assert_array_equal

from hwsim.devices.optical import photons
from hwsim.devices.optical.photons import homodyne_counts, homodyne_product, homodyne_sigma, intensity_product
from hwsim.devices.optical.receiver import Receiver, convert, count, photon_energy_j
from hwsim.errors import ConfigError, ShapeError

Host = np.ndarray[Any, Any]
IDEAL = Receiver(1e-9)
NOISY = Receiver(
    1e-9, excess_factor=1.5, dark_current_a=1e-8, load_ohm=5e6, amplifier_a_per_root_hz=1e-13, rin_db_per_hz=-100,
    common_mode_rejection_db=20,
)  # fmt: skip


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
    2 * 4 / 1500 of it, so that sigma = sqrt(1125) * 8 / 1500 = .179. Detected: 375 per multiplication. 4,000 shots.
    """
    a, b = np.array([[1.0, 2, 1]]), np.array([[-1.0], [0], [3]])
    rng = np.random.default_rng(0)
    shots = [intensity_product(np, a, b, 1000.0, rng) for _ in range(4000)]
    values = np.array([shot.values.item() for shot in shots])
    sigma = math.sqrt(1125) * 8 / 1500
    assert_chi_square((values - 2) / sigma, "intensities")
    detected = np.mean([float(shot.detected) for shot in shots])
    assert abs(detected - 375) < 5 * math.sqrt(1125 / 4000) / 3
    steps = (values + 4) * 1500 / 8  # minus lowest * sum(a) = -4: whole photons
    assert_allclose(steps, np.rint(steps), atol=1e-9)


@pytest.mark.parametrize("efficiency", [1.0, 0.4])
def test_intensity_law(efficiency: float) -> None:
    """Per output sigma = sqrt(mean count) K_x K_w / (eta n_max), written out with loops. 300 shots of 4 x 3 outputs."""
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0, 3, (4, 30)), rng.standard_normal((30, 3))
    budget = 5.0
    found = repeated(intensity_product, 300, xp=np, a=a, b=b, photons=budget, efficiency=efficiency)
    for i in range(4):
        for j in range(3):
            x, w = a[i] / a[i].max(), (b[:, j] - b.min()) / (b.max() - b.min())
            brightest = budget * 30 / x.sum()
            mean = efficiency * brightest * (x @ w)
            sigma = math.sqrt(mean) * a[i].max() * (b.max() - b.min()) / (efficiency * brightest)
            assert_chi_square((found[:, i, j] - a[i] @ b[:, j]) / sigma, f"output {i}, {j}")


def test_many_photons_are_exact() -> None:
    a, b = operands()
    rng = np.random.default_rng(0)
    assert_allclose(intensity_product(np, np.abs(a), b, 1e14, rng).values, np.abs(a) @ b, atol=1e-5)
    assert_allclose(homodyne_product(np, a, b, 1e16, rng), a @ b, atol=1e-5)
    assert_allclose(homodyne_counts(np, a, b, 1e14, rng).values, a @ b, atol=1e-5)


def test_dark_rows() -> None:
    """Rows and columns of zeros are dark: they give 0 (intensities), or 0 whatever is counted (homodyne)."""
    rng = np.random.default_rng(0)
    a, b = np.zeros((2, 4)), operands(2, 4, 3)[1]
    assert_array_equal(intensity_product(np, a, b, 3.0, rng).values, np.zeros((2, 3)))
    assert_array_equal(intensity_product(np, a + 1, np.full((4, 3), 2.0), 3.0, rng).values, np.full((2, 3), 8.0))
    assert_array_equal(homodyne_counts(np, a, b, 3.0, rng).values, np.zeros((2, 3)))
    assert_array_equal(homodyne_product(np, a, b, 3.0, rng), np.zeros((2, 3)))


# -- homodyne ----------------------------------------------------------------------------------------------


def test_sigma_by_hand() -> None:
    """|a| = 5, |b| = 2, k = 4, 10 photons, eta .5: 5 * 2 / sqrt(4 * 5) = sqrt 5. Ratio 4: times sqrt(6.25 / 4)."""
    a, b = np.array([[3.0, 4, 0, 0]]), np.ones((4, 1))
    assert_allclose(homodyne_sigma(np, a, b, 10, efficiency=0.5), math.sqrt(5))
    assert_allclose(homodyne_sigma(np, a, b, 10, efficiency=0.5, power_ratio=4), math.sqrt(5 * 6.25 / 4))
    assert_allclose(homodyne_sigma(np, a, b, 10, power_ratio=0.25), homodyne_sigma(np, a, b, 10, power_ratio=4))


@pytest.mark.parametrize("ratio", [1.0, 3.0])
@pytest.mark.parametrize("product", [homodyne_product, homodyne_counts])
def test_all_three_products_obey_the_law(product: Callable[..., Any], ratio: float) -> None:
    """Forward x w, backward dy w^T, gradient x^T dy at 20 photons per MAC, eta .8: 200 shots, each output by itself."""
    x, w = operands(6, 24, 5)
    dy = np.random.default_rng(9).standard_normal((6, 5))
    for name, a, b in (("forward", x, w), ("backward", dy, w.T), ("gradient", x.T, dy)):
        found = repeated(product, 200, xp=np, a=a, b=b, photons=20.0, efficiency=0.8, power_ratio=ratio)
        sigma = np.empty_like(a @ b)
        for i in range(sigma.shape[0]):
            for j in range(sigma.shape[1]):
                variance = (a[i] @ a[i]) * (b[:, j] @ b[:, j]) / (a.shape[1] * 0.8 * 20)
                sigma[i, j] = math.sqrt(variance * (ratio + 2 + 1 / ratio) / 4)
        assert_chi_square((found - a @ b) / sigma, name)


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
    sigma = homodyne_sigma(np, a, b, 50).item()
    assert_chi_square((values - (a @ b).item()) / sigma, "fields")


def test_detected_photons() -> None:
    """20 photons, eta .8: 16 detected per multiplication. 100 shots of 30 outputs of 24 terms."""
    x, w = operands(6, 24, 5)
    rng = np.random.default_rng(1)
    found = np.mean([float(homodyne_counts(np, x, w, 20.0, rng, efficiency=0.8).detected) for _ in range(100)])
    assert abs(found - 16) < 5 * math.sqrt(16 / (100 * 30 * 24))


def test_few_photons_are_no_normal_noise() -> None:
    """One photon in all: readings are whole numbers of counts, where the normal law knows any value."""
    a, b = np.ones((1, 1)), np.ones((1, 1))
    rng = np.random.default_rng(0)
    values = np.array([homodyne_counts(np, a, b, 1.0, rng).values.item() for _ in range(500)])
    assert_array_equal(values, np.rint(values))
    assert (values >= 0).all()  # equal fields: the dim port stays dark


@pytest.mark.parametrize("product", [homodyne_product, homodyne_counts])
def test_homodyne_through_a_receiver(product: Callable[..., Any]) -> None:
    """Variance in electrons, 24 terms of 16: F n + all else by Receiver.variance, over n for shot noise. 200 shots."""
    x, w = operands(6, 24, 5)
    found = repeated(product, 200, xp=np, a=x, b=w, photons=20.0, efficiency=0.8, receiver=NOISY)
    electrons = 24 * 16
    grows = math.sqrt(NOISY.variance(electrons) / electrons)
    assert 1.5 < grows < 1.7  # every source adds a share
    assert_chi_square((found - x @ w) / (grows * homodyne_sigma(np, x, w, 20.0, efficiency=0.8)), "receiver")


# -- receivers ---------------------------------------------------------------------------------------------


def test_receiver_by_hand() -> None:
    """1 ns, so B = .5 GHz. Dark 1 nA: 1e-9 * 1e-9 / 1.602e-19 = 6.2415. Load 50 ohm at 300 K:
    2 * 1.380649e-23 * 300 * 1e-9 / (2.567e-38 * 50) = 6.4541e6. Amplifier 10 pA / rtHz: 1e-22 * 1e-9 / (2 * 2.567e-38)
    = 1.9478e6. RIN -155 dB/Hz, 30 dB rejected: .5e9 * 10^-18.5 = 1.5811e-10 of the square. Shot: F n.
    """
    assert Receiver(1e-9, dark_current_a=1e-9).electronic_variance == pytest.approx(6.2415, rel=1e-4)
    assert Receiver(1e-9, load_ohm=50).electronic_variance == pytest.approx(6.4541e6, rel=1e-4)
    assert Receiver(1e-9, amplifier_a_per_root_hz=1e-11).electronic_variance == pytest.approx(1.9478e6, rel=1e-4)
    laser = Receiver(1e-9, rin_db_per_hz=-155, common_mode_rejection_db=30)
    assert laser.variance(1e6) == pytest.approx(1e6 + 1.5811e-10 * 1e12, rel=1e-6)
    assert Receiver(1e-9, excess_factor=4).variance(100.0) == 400
    assert IDEAL.variance(100.0) == 100


@pytest.mark.parametrize("receiver", [None, IDEAL, NOISY])
def test_counts_have_the_variance_that_is_said(receiver: Receiver | None) -> None:
    """Mean 300 electrons, 100,000 samples: mean and variance at 5 sigma."""
    found = count(np, np.full(100_000, 300.0), receiver, np.random.default_rng(0))
    variance = 300.0 if receiver is None else receiver.variance(300.0)
    assert_chi_square((found - 300) / math.sqrt(variance), "counts")


def test_intensities_through_a_receiver() -> None:
    """Test of the intensity law by hand, with the receiver's variance in the place of the mean count."""
    a, b = np.array([[1.0, 2, 1]]), np.array([[-1.0], [0], [3]])
    found = repeated(intensity_product, 4000, xp=np, a=a, b=b, photons=1000.0, receiver=NOISY)
    assert_chi_square((found - 2) / (math.sqrt(NOISY.variance(1125)) * 8 / 1500), "receiver")


# -- converters --------------------------------------------------------------------------------------------


def test_levels_by_hand() -> None:
    """3 bits: 7 levels, -1, -2/3 .. 1 of the full scale 6."""
    values = np.array([[6.0, -6, 0, 1, 2.9, -3.1]])
    found = convert(np, values, 3)
    assert float(found.full_scale) == 6
    assert int(found.clipped) == 0
    assert_allclose(found.values, [[6, -6, 0, 0, 2, -4]])
    assert_array_equal(convert(np, values, math.inf).values, values)
    assert_array_equal(convert(np, np.zeros((2, 2)), 8).values, np.zeros((2, 2)))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_number_of_levels(bits: int) -> None:
    assert len(np.unique(convert(np, np.linspace(-1, 1, 5001), bits).values)) == 2**bits - 1


def test_range_follows_the_rms() -> None:
    """RMS of (1, 1, 1, 7) is sqrt 13; twice that is 7.21 and clips nothing, once clips the 7 to it."""
    values = np.array([1.0, 1, 1, 7])
    once = convert(np, values, math.inf, crest=1)
    assert int(once.clipped) == 1
    assert_allclose(once.values, [1, 1, 1, math.sqrt(13)])
    assert float(convert(np, values, math.inf, crest=2).full_scale) == 7
    assert int(convert(np, values, math.inf, crest=2).clipped) == 0


def test_clipped_share_of_normal_values() -> None:
    """Crest 2: a normal value lies beyond 2 sigma with p = .0455. n = 100,000: 5 sigma of a binomial, .0033."""
    values = np.random.default_rng(0).standard_normal(100_000)
    share = int(convert(np, values, 8, crest=2).clipped) / values.size
    p = math.erfc(math.sqrt(2))
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / values.size) + 0.001  # the RMS itself is a draw


def test_quantisation_noise() -> None:
    """Uniform values: step^2 / 12, step = 2 / 254 of the full scale at 8 bits. n = 100,000; variance of the square
    of a uniform error is 4 / 5 of its mean squared: 5 sqrt(.8 / n) = .014.
    """
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)
    found = convert(np, values, 8)
    step = 2 * float(found.full_scale) / 254
    assert ((found.values - values) ** 2).mean() == pytest.approx(step**2 / 12, rel=0.015)


def test_dtypes_stay() -> None:
    a, b = (part.astype(np.float32) for part in operands())
    rng = np.random.default_rng(0)
    assert convert(np, a, 8, 3).values.dtype == np.float32
    assert homodyne_product(np, a, b, 10.0, rng).dtype == np.float32
    assert homodyne_product(np, a, b, 10.0, rng, receiver=NOISY).dtype == np.float32
    assert homodyne_counts(np, a, b, 10.0, rng).values.dtype == np.float32
    assert intensity_product(np, np.abs(a), b, 10.0, rng).values.dtype == np.float32


# -- the rest ----------------------------------------------------------------------------------------------


def test_other_array_libraries() -> None:
    """The same law on another library's arrays: 100 shots, chi-square."""
    a, b = operands(4, 12, 3)
    card = strict_array.asarray(a), strict_array.asarray(b)
    rng = strict_array.random.Generator(strict_array.Philox4x3210(seed=1))
    sigma = homodyne_sigma(np, a, b, 30.0)
    assert_allclose(homodyne_sigma(strict_array, *card, 30.0).get(), sigma)
    for product in (homodyne_product, homodyne_counts):
        shots = [product(strict_array, *card, 30.0, rng) for _ in range(100)]  # type: ignore[operator]
        found = np.stack([getattr(shot, "values", shot).get() for shot in shots])
        assert_chi_square((found - a @ b) / sigma, product.__name__)
    loaded = Receiver(1e-9, load_ohm=5e6)
    noisy = intensity_product(strict_array, strict_array.asarray(abs(a)), card[1], 1e12, rng, receiver=loaded)
    assert_allclose(noisy.values.get(), abs(a) @ b, atol=1e-4)
    converted = convert(strict_array, card[0], 6, 2.0)
    assert_allclose(converted.values.get(), convert(np, a, 6, 2.0).values)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"photons": 0}, "photons=0: a product needs a finite number of photons above 0"),
        ({"photons": -2.0}, "photons=-2.0"),
        ({"photons": math.nan}, "photons=nan"),
        ({"photons": 1.0, "efficiency": 1.2}, "efficiency=1.2: needs a share"),
        ({"photons": 1.0, "power_ratio": 0}, "power_ratio=0: needs a finite number above 0"),
    ],
)
def test_bad_light(arguments: dict[str, float], said: str) -> None:
    a, b = operands()
    rng = np.random.default_rng(0)
    for product in (homodyne_product, homodyne_counts):
        with pytest.raises(ConfigError, match=said):
            product(np, a, b, rng=rng, **arguments)  # type: ignore[operator]


def test_bad_values() -> None:
    a, b = operands()
    with pytest.raises(ShapeError, match="signed values need homodyne"):
        photons.intensity_product(np, a, b, 1.0, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="bits=1: a converter needs 2 bits"):
        convert(np, a, 1)
    with pytest.raises(ConfigError, match="crest=0"):
        convert(np, a, 8, 0)


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

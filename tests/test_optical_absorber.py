"""Saturable absorbers: formulas by hand, the differential equations they solve, and what each beam sees."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import strict_array
from numpy.testing import assert_allclose
from scipy.integrate import quad, solve_bvp, solve_ivp
from scipy.optimize import brentq

from hwsim.devices.optical import absorber as optics
from hwsim.devices.optical.absorber import Absorber, backward_exact, backward_probe, slope_cosine, transmit
from hwsim.errors import ConfigError, ShapeError

Host = np.ndarray[Any, Any]
FIELDS = np.array([[-7.0, -1.3, -0.02, 0.0, 1e-4, 0.4, 1.0, 2.5, 6.0, 40.0]])
LUMPED, DISTRIBUTED = Absorber(10), Absorber(10, "distributed")

VARIANTS = [
    LUMPED,
    DISTRIBUTED,
    Absorber(30, "distributed"),
    Absorber(10, encoding="intensity"),
    Absorber(4, "distributed", "intensity", internal_loss_depth=0.3),
    Absorber(10, "distributed", internal_loss_depth=1.5, output_loss_depth=0.2),
    Absorber(10, crosstalk=0.1, output_loss_depth=0.5),
    Absorber(3, "distributed", crosstalk=0.05),
]


def inputs(absorber: Absorber) -> Host:
    return FIELDS if absorber.encoding == "amplitude" else np.abs(FIELDS)


def along(absorber: Absorber, entering: Host, places: Host) -> Host:
    """Intensities [values, places] in a distributed absorber, z from 0 to 1: Runge-Kutta of order 8 for ln I."""
    alpha, beta = absorber.optical_depth, absorber.internal_loss_depth
    found = solve_ivp(
        lambda _, u: -(alpha / (1 + np.exp(u)) + beta), (0, 1), np.log(entering.clip(1e-200)),
        rtol=1e-12, atol=1e-12, method="DOP853", t_eval=places,
    )  # fmt: skip
    return np.exp(found.y)


def mean_along(absorber: Absorber, entering: Host, met: Callable[[Host], Host]) -> Host:
    """The mean over z of met(I(z)), by Gauss's rule."""
    place, weight = np.polynomial.legendre.leggauss(200)
    return met(along(absorber, entering, (place + 1) / 2)) @ weight / 2


# -- forward -----------------------------------------------------------------------------------------------


def test_lumped_by_hand() -> None:
    """E = 3 at depth 10: t = e^(-5 / 10), E t = 1.8196, slope t (1 + 10 * 9 / 100) = 1.9 t. The published form."""
    x, ones, t = np.array([[3.0]]), np.ones((1, 1)), math.exp(-0.5)
    assert_allclose(transmit(np, LUMPED, x), 3 * t)
    assert_allclose(backward_exact(np, LUMPED, x, ones), 1.9 * t)
    assert_allclose(backward_probe(np, LUMPED, x, ones), t)
    intensity = Absorber(10, encoding="intensity")  # I = 3: e^(-10 / 4), slope factor 1 + 10 * 3 / 16
    assert_allclose(transmit(np, intensity, x), 3 * math.exp(-2.5))
    assert_allclose(backward_exact(np, intensity, x, ones), math.exp(-2.5) * (1 + 30 / 16))
    assert_allclose(backward_probe(np, intensity, x, ones), math.exp(-2.5))
    lossy = Absorber(10, output_loss_depth=0.4)
    assert_allclose(transmit(np, lossy, x), 3 * t * math.exp(-0.2))


def test_tabulated_outputs() -> None:
    """(depth, E): lumped and distributed outputs, from an independent computation, to three digits."""
    for depth, field, lumped, distributed in ((10, 3, 1.82, 1.05), (30, 5, 2.81, 0.38), (5, 1, 0.287, 0.134)):
        for profile, found in (("lumped", lumped), ("distributed", distributed)):
            y = transmit(np, Absorber(depth, profile), np.array([[float(field)]]))  # type: ignore[arg-type]
            assert y.item() == pytest.approx(found, abs=0.006 if found > 0.3 else 6e-4)


@pytest.mark.parametrize(("depth", "peak", "at"), [(10, 1.16, 3.5), (30, 1.19, 5.67)])
def test_slope_overshoots_one(depth: float, peak: float, at: float) -> None:
    """The largest slope of the lumped absorber and where it lies, tabulated; at I = 1 it is 1 + depth / 4 secants."""
    x = np.linspace(0, 20, 20_001)[None]
    slope = backward_exact(np, Absorber(depth), x, np.ones_like(x))[0]
    assert slope.max() == pytest.approx(peak, abs=0.006)
    assert x[0, slope.argmax()] == pytest.approx(at, abs=0.04)
    one = np.ones((1, 1))
    ratio = backward_exact(np, Absorber(depth), one, one) / backward_probe(np, Absorber(depth), one, one)
    assert_allclose(ratio, 1 + depth / 4)


@pytest.mark.parametrize("depth", [0.1, 1, 10, 30, 300])
@pytest.mark.parametrize("loss", [0.0, 1e-6, 0.5, 5.0])
def test_distributed_solves_its_equation(depth: float, loss: float) -> None:
    absorber = Absorber(depth, "distributed", internal_loss_depth=loss)
    leaving = along(absorber, FIELDS[0] ** 2, np.ones(1))[:, 0]
    assert np.abs(transmit(np, absorber, FIELDS) - np.sign(FIELDS) * np.sqrt(leaving)).max() < 1e-7
    intensity = dataclasses.replace(absorber, encoding="intensity")
    assert np.abs(transmit(np, intensity, FIELDS**2) - leaving).max() < 1e-7


def test_limits() -> None:
    """No depth: nothing happens. Internal loss alone: Beer's law. Dark: e^-depth of the power. Deep: zero, no NaN."""
    assert_allclose(transmit(np, Absorber(0, "distributed"), FIELDS), FIELDS, rtol=1e-12)
    assert_allclose(transmit(np, Absorber(0, "distributed", internal_loss_depth=2), FIELDS), FIELDS / math.e, rtol=1e-9)
    for absorber in (LUMPED, DISTRIBUTED, Absorber(8, "distributed", internal_loss_depth=2)):
        assert_allclose(transmit(np, absorber, np.array([[1e-9]])), 1e-9 * math.exp(-5), rtol=1e-6)
        assert transmit(np, absorber, np.zeros((1, 1))).item() == 0
        assert_allclose(optics.exact_slope(np, absorber, np.zeros((1, 1))), math.exp(-5), rtol=1e-9)
    assert_allclose(transmit(np, Absorber(1e4, "distributed"), FIELDS), 0, atol=1e-100)


def test_single_precision_stays() -> None:
    for absorber in VARIANTS:
        x = inputs(absorber).astype(np.float32)
        for y, exact in (
            (transmit(np, absorber, x), transmit(np, absorber, x.astype(float))),
            (backward_exact(np, absorber, x, x), backward_exact(np, absorber, x.astype(float), x.astype(float))),
            (backward_probe(np, absorber, x, x), backward_probe(np, absorber, x.astype(float), x.astype(float))),
        ):
            assert y.dtype == np.float32
            assert_allclose(y, exact, rtol=3e-5, atol=1e-6)


# -- backward ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absorber", VARIANTS)
def test_exact_backward_is_the_derivative(absorber: Absorber) -> None:
    """Central differences of sum(dy transmit(x)), value after value."""
    x = inputs(absorber) + (0.01 if absorber.encoding == "intensity" else 0)
    dy = np.random.default_rng(0).standard_normal(x.shape)
    h = 1e-5
    found = backward_exact(np, absorber, x, dy)
    for i in range(x.size):
        bump = np.zeros_like(x)
        bump[0, i] = h
        difference = ((transmit(np, absorber, x + bump) - transmit(np, absorber, x - bump)) * dy).sum() / (2 * h)
        assert found[0, i] == pytest.approx(difference, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("absorber", [a for a in VARIANTS if a.profile == "distributed" and not a.crosstalk])
def test_weak_probe_sees_the_secant(absorber: Absorber) -> None:
    """A weak beam loses alpha / (1 + I(z)) + beta at every z, I(z) by Runge-Kutta: it arrives as y / x."""
    x = inputs(absorber)
    lost = mean_along(absorber, x[0] ** absorber.order, lambda i: absorber.optical_depth / (1 + i))
    lost += absorber.internal_loss_depth + absorber.output_loss_depth
    found = backward_probe(np, absorber, x, np.ones_like(x))
    assert_allclose(found[0], np.exp(-lost / absorber.order), rtol=1e-7)
    lit = x != 0
    assert_allclose(found[lit], transmit(np, absorber, x)[lit] / x[lit], rtol=1e-12)


def standing_wave(pump: float, probe: float) -> float:
    """1 / (1 + I) as a coherent probe meets it: the polarisation at one place, averaged over a wavelength."""
    phase = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    field = pump * np.exp(1j * phase) + probe * np.exp(-1j * phase)
    return float((field / (1 + np.abs(field) ** 2) * np.exp(1j * phase)).mean().real / probe)


@pytest.mark.parametrize("field", [0.1, 0.8, 2.0, 5.0])
def test_grating_squares_the_saturation(field: float) -> None:
    """Thin and lumped, depth 1e-3: the probe's loss is depth / 2 times the standing wave's average, 1 / (1 + I)^2."""
    met = standing_wave(field, 1e-5)
    assert met == pytest.approx(1 / (1 + field**2) ** 2, rel=1e-6)
    thin = Absorber(1e-3, grating=1)
    found = backward_probe(np, thin, np.array([[field]]), np.ones((1, 1))).item()
    assert found == pytest.approx(math.exp(-0.5e-3 * met), rel=1e-12)
    half = backward_probe(np, Absorber(1e-3, grating=0.5), np.array([[field]]), np.ones((1, 1))).item()
    assert half == pytest.approx(math.exp(-0.25e-3 * (met + 1 / (1 + field**2))), rel=1e-12)


@pytest.mark.parametrize("loss", [0.0, 0.7])
def test_grating_along_a_distributed_absorber(loss: float) -> None:
    """The integral over I(z) by Runge-Kutta; in intensity encoding the probe then sees the exact derivative."""
    absorber = Absorber(12, "distributed", internal_loss_depth=loss, grating=1)
    ones = np.ones_like(FIELDS)
    once, twice = (mean_along(absorber, FIELDS[0] ** 2, lambda i, p=p: (1 + i) ** -p) for p in (1, 2))  # type: ignore[misc]
    for grating in (0.3, 1.0):
        seen = np.exp(-(12 * ((1 - grating) * once + grating * twice) + loss) / 2)
        found = backward_probe(np, dataclasses.replace(absorber, grating=grating), FIELDS, ones)[0]
        assert_allclose(found, seen, rtol=1e-7)
    coherent = dataclasses.replace(absorber, encoding="intensity")
    x = FIELDS**2
    assert_allclose(backward_probe(np, coherent, x, ones), backward_exact(np, coherent, x, ones), rtol=1e-9)


@pytest.mark.parametrize(("pump", "probe"), [(2.0, 1.0), (3.0, 3.0), (0.5, 2.0)])
def test_strong_probe_solves_both_beams(pump: float, probe: float) -> None:
    """dA/dz = -h A, dB/dz = h B, h = depth / 2 / (1 + A^2 + B^2), A(0) = pump, B(1) = probe: as a boundary problem."""
    z = np.linspace(0, 1, 200)

    def slopes(_: Host, beams: Host) -> Host:
        h = 3 / (1 + (beams**2).sum(axis=0))
        return np.stack([-h * beams[0], h * beams[1]])

    def ends(left: Host, right: Host) -> Host:
        return np.array([left[0] - pump, right[1] - probe])

    solved = solve_bvp(
        slopes, ends, z, np.stack([pump * np.exp(-z), probe * np.exp(z - 1)]), tol=1e-10, max_nodes=10**5
    )
    assert solved.success
    seen = solved.y[1, 0] / probe
    absorber = Absorber(6, "distributed", probe_ratio=probe / pump)
    found = backward_probe(np, absorber, np.array([[pump]]), np.ones((1, 1)))
    assert found.item() == pytest.approx(seen, rel=1e-7)
    lumped = backward_probe(np, Absorber(6, probe_ratio=probe / pump), np.array([[pump]]), np.full((1, 1), -2.0))
    assert lumped.item() == pytest.approx(-2 * math.exp(-3 / (1 + pump**2 + probe**2)))


def test_weak_limit_of_a_strong_probe() -> None:
    x, dy = np.random.default_rng(1).standard_normal((2, 5, 8))
    weak = backward_probe(np, Absorber(10, "distributed", probe_ratio=1e-6), x, dy)
    assert_allclose(weak, backward_probe(np, DISTRIBUTED, x, dy), rtol=1e-9)
    strong = backward_probe(np, Absorber(10, "distributed", probe_ratio=1), x, dy)
    assert (np.abs(strong) >= np.abs(weak)).all()
    assert not backward_probe(np, Absorber(10, probe_ratio=1), x, 0 * dy).any()


def test_crosstalk_by_hand() -> None:
    """c = .1: neighbours give a tenth each, .8 stays; the ends lose a tenth. The backward mixing is the transpose."""
    absorber = Absorber(0, crosstalk=0.1)
    assert_allclose(transmit(np, absorber, np.array([[1.0, 2, 3]])), [[1.0, 2.0, 2.6]])
    mixing = transmit(np, absorber, np.eye(5))
    assert_allclose(backward_exact(np, absorber, np.ones((5, 5)), np.eye(5)), mixing.T)
    assert_allclose(backward_probe(np, absorber, np.ones((5, 5)), np.eye(5)), mixing.T)


# -- agreement of probe and gradient -----------------------------------------------------------------------

# Rows: depth; columns: sigma .5, 1, 2, 4. From an independent computation; entries that it gives as a range or rounded
# are held to .002.
TABULATED = {10: (0.992, 0.984, 0.969, 0.965), 30: (0.993, 0.976, 0.960, 0.951)}
SIGMAS = (0.5, 1, 2, 4)


def test_lumped_cosines() -> None:
    for depth, row in TABULATED.items():
        assert_allclose([slope_cosine(Absorber(depth), sigma) for sigma in SIGMAS], row, atol=0.002)
    found = {depth: [slope_cosine(Absorber(depth), sigma) for sigma in SIGMAS] for depth in (1, 4, 10, 30)}
    assert 0.9965 <= min(found[1]) <= max(found[1]) <= 0.9985
    assert 0.9795 <= min(found[4]) <= max(found[4]) <= 0.9925
    assert min(map(min, found.values())) >= 0.949


def test_distributed_cosines() -> None:
    assert slope_cosine(Absorber(10, "distributed"), 2) == pytest.approx(0.900, abs=0.002)
    assert slope_cosine(Absorber(30, "distributed"), 4) == pytest.approx(0.776, abs=0.0025)
    for depth in (1, 4, 10, 30):
        for sigma in SIGMAS:
            assert slope_cosine(Absorber(depth, "distributed"), sigma) < slope_cosine(Absorber(depth), sigma)


def output_by_root(depth: float, field: float) -> float:
    """E_out of a distributed absorber by bracketing ln y, without the Wright function."""
    target = field**2 + 2 * math.log(field) - depth
    return math.exp(brentq(lambda u: math.exp(u) + u - target, -depth - 60, 10, xtol=1e-13) / 2)


@pytest.mark.parametrize(("depth", "sigma"), [(4, 0.5), (10, 2), (30, 4)])
def test_cosines_by_adaptive_quadrature(depth: float, sigma: float) -> None:
    def exact(field: float) -> float:
        out = output_by_root(depth, field)
        return out / field * (1 + field**2) / (1 + out**2)

    def secant(field: float) -> float:
        return output_by_root(depth, field) / field

    def mean(f: Callable[[float], float], g: Callable[[float], float]) -> float:
        value, _ = quad(lambda e: f(e) * g(e) * math.exp(-0.5 * (e / sigma) ** 2), 1e-9, 9 * sigma, limit=200)
        return float(value)

    cosine = mean(exact, secant) / math.sqrt(mean(exact, exact) * mean(secant, secant))
    assert slope_cosine(Absorber(depth, "distributed"), sigma) == pytest.approx(cosine, abs=1e-6)


def test_best_gain_is_least_squares() -> None:
    pump = 2 * np.random.default_rng(2).standard_normal((40, 30))
    for absorber in (LUMPED, DISTRIBUTED):
        slopes = [f(np, absorber, pump).ravel() for f in (optics.probe_slope, optics.exact_slope)]
        expected = np.linalg.lstsq(slopes[0][:, None], slopes[1], rcond=None)[0]
        assert_allclose(optics.best_gain(np, absorber, pump), expected[0])


# -- the rest ----------------------------------------------------------------------------------------------


def test_lifetime_bounds_the_symbol_rate() -> None:
    """Rubidium, 26.2 ns: 2 % of a symbol is left after 26.2 ns * ln 50 = 102.5 ns: 9.757 MHz."""
    rubidium = Absorber(10, lifetime_s=26.2e-9)
    assert rubidium.highest_symbol_rate_hz(0.02) == pytest.approx(9.757e6, rel=1e-4)
    assert math.isinf(LUMPED.highest_symbol_rate_hz(0.02))
    with pytest.raises(ConfigError, match="remembered=1"):
        rubidium.highest_symbol_rate_hz(1)


def test_wright_omega_of_other_libraries() -> None:
    z = np.concatenate([np.linspace(-60, 90, 3001), [-700, 1e4, 1.0]])
    found = optics.wright_omega(strict_array, strict_array.asarray(z)).get()
    assert_allclose(found, optics.wright_omega(np, z), rtol=1e-13)
    assert np.abs(found + np.log(found) - z).max() < 1e-11


@pytest.mark.parametrize("absorber", [*VARIANTS, Absorber(10, grating=0.5), Absorber(5, probe_ratio=0.3)])
def test_other_array_libraries(absorber: Absorber) -> None:
    x = inputs(absorber)
    dy = np.random.default_rng(3).standard_normal(x.shape)
    card = strict_array.asarray(x), strict_array.asarray(dy)
    assert_allclose(transmit(strict_array, absorber, card[0]).get(), transmit(np, absorber, x), rtol=1e-12)
    for backward in (backward_exact, backward_probe):
        found = backward(strict_array, absorber, *card).get()
        assert_allclose(found, backward(np, absorber, x, dy), rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"optical_depth": -1}, "optical_depth=-1: needs a finite number, 0 or more"),
        ({"optical_depth": math.nan}, "optical_depth=nan"),
        ({"profile": "thick"}, "profile='thick'; known: lumped, distributed"),
        ({"encoding": "phase"}, "encoding='phase'; known: amplitude, intensity"),
        ({"grating": 1.5}, "grating=1.5: needs a number from 0 to 1"),
        ({"crosstalk": 0.6}, "crosstalk=0.6: needs a number from 0 to 0.5"),
        ({"internal_loss_depth": 1}, "needs profile='distributed'"),
        ({"probe_ratio": 0.1, "grating": 0.5}, "there is no model of a strong probe_ratio"),
    ],
)
def test_bad_parameters(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        Absorber(**{"optical_depth": 10, **values})


def test_bad_values() -> None:
    with pytest.raises(ShapeError, match="an intensity is below 0"):
        transmit(np, Absorber(10, encoding="intensity"), np.array([[-1.0]]))
    with pytest.raises(ConfigError, match="did not converge"):
        transmit(np, Absorber(10, "distributed", internal_loss_depth=1), np.array([[math.nan]]))

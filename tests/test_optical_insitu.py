"""Gradients of phases by power readings: finite differences, what loss does to them, and noise at 5 sigma."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import strict_array
from numpy.testing import assert_allclose
from optical_reference import fabricate, field_gradient, gradient_error
from scipy.stats import unitary_group

from hwsim.devices.optical import svd
from hwsim.devices.optical.decomposition import Kind, Layout, Shifters, decompose
from hwsim.devices.optical.imperfections import Imperfections, realised
from hwsim.devices.optical.insitu import Monitor, measured_chip_gradient, measured_gradient, resent
from hwsim.devices.optical.mesh import Mesh, ideal_mesh, matrix, propagate, trace, trace_back
from hwsim.errors import ConfigError

Host = np.ndarray[Any, Any]
CLEAR = Monitor()


def chip(n: int, imperfections: Imperfections, kind: Kind = "clements", seed: int = 0) -> Mesh:
    layout, phases = decompose(unitary_group.rvs(n, random_state=seed), kind)
    return realised(np, fabricate(np, layout, imperfections, np.random.default_rng(seed)), phases)


def batch(n: int, m: int, seed: int = 0) -> tuple[Host, Host]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, m)), 0.01 * rng.standard_normal((n, m))


def differences(mesh: Mesh, x: Host, g: Host) -> Shifters:
    """Central differences of Re sum g (U x), phase after phase."""
    h, parts = 1e-5, []
    for name, part in mesh.phases._asdict().items():
        slopes = np.empty(part.size)
        for i in range(part.size):
            ends = []
            for sign in (1, -1):
                moved = part.copy()
                moved[i] += sign * h
                ends.append((g * propagate(np, mesh.with_phases(mesh.phases._replace(**{name: moved})), x)).sum().real)
            slopes[i] = (ends[0] - ends[1]) / (2 * h)
        parts.append(slopes)
    return Shifters(*parts)


def largest(found: Shifters, expected: Shifters) -> float:
    """Largest difference, relative to the largest value expected."""
    off = max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True))
    return float(off / max(np.abs(part).max() for part in expected))


# -- exactness ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clements", "reck"])
@pytest.mark.parametrize("splitter_sigma", [0.0, 0.1])
def test_lossless_mesh_measures_the_gradient(kind: Kind, splitter_sigma: float) -> None:
    """Power readings against finite differences, 1e-7; splitter and phase errors do not matter."""
    mesh = chip(7, Imperfections(splitter_sigma=splitter_sigma, phase_sigma=splitter_sigma), kind)
    x, g = batch(7, 5)
    expected = differences(mesh, x, g)
    assert largest(measured_gradient(np, mesh, x, g, CLEAR, np.random.default_rng(0)), expected) < 1e-7
    assert largest(field_gradient(mesh, x, g), expected) < 1e-7
    two = measured_gradient(np, mesh, x, g, CLEAR, np.random.default_rng(0), readings=2)
    assert largest(two, expected) < 1e-7


def test_two_readings_keep_the_direction_under_loss() -> None:
    """16 modes, 0.2 dB per MZI, loss unknown: r falls from 1 to 10^(-.2 * 2 * 15 / 20) = .50 along the mesh.

    Two readings weigh each shifter by its r: a cosine of .9 at least (for weights spread evenly from .5 to 1 it is
    mean r / RMS r = .75 / .764 = .98). Three leave (r^2 - 1) |b|^2, whose size does not know the gradient.
    """
    mesh = chip(16, Imperfections(loss_db=0.2))
    x, g = batch(16, 20)
    exact = field_gradient(mesh, x, g)
    cosines = {}
    for readings in (2, 3):
        found = measured_gradient(np, mesh, x, g, CLEAR, np.random.default_rng(0), readings=readings)
        cosines[readings] = gradient_error(found, exact)[1]
    assert cosines[2] > 0.95
    assert cosines[3] < cosines[2] - 0.1
    known = resent(np, mesh.layout, mesh.bypass)
    found = measured_gradient(np, mesh, x, g, CLEAR, np.random.default_rng(0), known, 2)
    assert gradient_error(found, exact)[0] < 1e-9


def test_one_shifter_by_hand() -> None:
    """One mode, one output phase p: y = e^{ip} x, L = Re(g y), dL/dp = -g x sin p = -3 * 2 * sin(.5)."""
    layout = Layout("clements", 1)
    mesh = ideal_mesh(np, layout, Shifters(np.zeros(0), np.zeros(0), np.array([0.5])))
    found = measured_gradient(np, mesh, np.array([[2.0]]), np.array([[3.0]]), CLEAR, np.random.default_rng(0))
    assert_allclose(found.output, [-6 * math.sin(0.5)])


def test_fields_give_the_gradient_of_a_lossy_mesh() -> None:
    """-Im(f b) needs no time reversal: right with loss that differs from MZI to MZI."""
    mesh = chip(6, Imperfections(splitter_sigma=0.05, loss_db=0.5, loss_sigma_db=0.3))
    x, g = batch(6, 4)
    assert largest(field_gradient(mesh, x, g), differences(mesh, x, g)) < 1e-7


def test_scale_of_errors_is_divided_out() -> None:
    mesh = chip(5, Imperfections())
    x, g = batch(5, 3)
    rng = np.random.default_rng(0)
    small, large = (measured_gradient(np, mesh, x, scale * g, CLEAR, rng) for scale in (1e-6, 1e6))
    for a, b in zip(small, large, strict=True):
        assert_allclose(a * 1e12, b, rtol=1e-6, atol=1e-3 * np.abs(b).max())
    dark = measured_gradient(np, mesh, x, 0 * g, CLEAR, rng)
    assert all(np.abs(part).max() < 1e-12 for part in dark)


# -- loss --------------------------------------------------------------------------------------------------


def test_resent_light() -> None:
    """3 modes: 3 columns of one MZI, .9 of the field each: .9^0, .9^2, .9^4, and .9^6 at the outputs.

    As the fields have it: conj(U^T g) sent in again is r times the conjugate of what came by on the way back.
    """
    r = resent(np, Layout("clements", 3), 0.9)
    assert_allclose(r.theta, [1, 0.81, 0.9**4])
    assert_allclose(r.phi, r.theta)
    assert_allclose(r.output, np.full(3, 0.9**6))
    mesh = chip(5, Imperfections(splitter_sigma=0.1, loss_db=1))
    returned, backward = trace_back(np, mesh, batch(5, 2)[0])
    again = trace(np, mesh, returned.conj())[1]
    for b, s, share in zip(backward, again, resent(np, mesh.layout, 10**-0.05), strict=True):
        assert_allclose(s, share[:, None] * b.conj(), atol=1e-12)


def test_uniform_loss_is_calibrated_away() -> None:
    """Known loss of .2 dB per MZI and taps of 1 %: exact. Taken for lossless: the cosine falls below .6 at 16 modes."""
    settings = Imperfections(splitter_sigma=0.02, loss_db=0.2, tap_fraction=0.01)
    mesh = chip(16, settings)
    x, g = batch(16, 8)
    expected, rng = field_gradient(mesh, x, g), np.random.default_rng(0)
    known = resent(np, mesh.layout, settings.column_amplitude)
    assert gradient_error(measured_gradient(np, mesh, x, g, CLEAR, rng, known), expected)[0] < 1e-9
    error, cosine = gradient_error(measured_gradient(np, mesh, x, g, CLEAR, rng), expected)
    assert error > 1
    assert cosine < 0.6


def test_bias_grows_with_loss() -> None:
    """Mean over 5 chips of 8 modes: without calibration the error rises with loss; with it, with the loss's spread."""
    x, g = batch(8, 8)
    rng = np.random.default_rng(0)

    def error(loss_db: float, spread_db: float, calibrated: bool) -> float:
        settings = Imperfections(loss_db=loss_db, loss_sigma_db=spread_db)
        found = []
        for seed in range(5):
            mesh = chip(8, settings, seed=seed)
            known = resent(np, mesh.layout, settings.column_amplitude) if calibrated else None
            measured = measured_gradient(np, mesh, x, g, CLEAR, rng, known)
            found.append(gradient_error(measured, field_gradient(mesh, x, g))[0])
        return float(np.mean(found))

    raw = [error(loss, 0, False) for loss in (0, 0.05, 0.1, 0.2)]
    assert raw[0] < 1e-12
    assert raw == sorted(raw)
    assert raw[3] / raw[2] == pytest.approx(2, rel=0.3)  # first order in the loss
    spread = [error(0.3, sigma, True) for sigma in (0, 0.05, 0.1)]
    assert spread[0] < 1e-12
    assert spread[2] / spread[1] == pytest.approx(2, rel=0.3)
    assert spread[2] < raw[3] / 3


def test_error_measures_by_hand() -> None:
    """(3, 4) against (3, 0): |difference| 4 over 3; cosine 9 / 15."""
    measured = Shifters(np.array([3.0]), np.array([4.0]), np.zeros(1))
    error, cosine = gradient_error(measured, Shifters(np.array([3.0]), np.zeros(1), np.zeros(1)))
    assert error == pytest.approx(4 / 3)
    assert cosine == pytest.approx(0.6)


# -- meters ------------------------------------------------------------------------------------------------


def test_tap_noise_has_the_size_that_is_said() -> None:
    """Three readings per shifter, each off by noise launched / tap; their sum is halved, and divided by the gain.

    sigma = sqrt 3 / 2 * .002 / .02 * launched sqrt(sum over vectors of gain^-2); 400 repeats of 20 + 5 values, 5 sigma.
    """
    mesh, (x, g) = chip(5, Imperfections()), batch(5, 4)
    expected = np.concatenate(list(field_gradient(mesh, x, g)))
    rng, monitor = np.random.default_rng(0), Monitor(tap_fraction=0.02, noise=0.002)
    found = np.stack([np.concatenate(list(measured_gradient(np, mesh, x, g, monitor, rng))) for _ in range(400)])
    launched = (x**2).sum(axis=0).mean()
    inverse_gains = (g**2).sum(axis=0) / (x**2).sum(axis=0)
    sigma = math.sqrt(3) / 2 * 0.1 * launched * math.sqrt(inverse_gains.sum())
    z = (found - expected) / sigma
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    assert abs((z**2).mean() - 1) < 5 * math.sqrt(2 / z.size)


def test_bits_of_the_meter() -> None:
    """Each bit halves the error: 4 bits more, 16 times less, within 30 %; 8 bits stay within 5 % of the gradient."""
    mesh, (x, g) = chip(16, Imperfections()), batch(16, 64)
    expected, rng = field_gradient(mesh, x, g), np.random.default_rng(0)
    errors = [
        gradient_error(measured_gradient(np, mesh, x, g, Monitor(bits=bits), rng), expected)[0] for bits in (8, 12)
    ]
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.3)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("readings", [2, 3])
def test_noisy_meters_of_eight_bits_have_no_bias(readings: Literal[2, 3], kind: Any) -> None:
    """Readings whose noise is larger than most powers: the mean of 1,000 gradients is the gradient, by kernels too.

    Dark readings are as often below 0 as above. Each shifter's z of the mean is below 5; of all 56 + 8 the mean square
    is 1 within 5 sqrt(2 / 64) = 0.88, which a bias of one standard deviation of a reading breaks 1,000-fold.
    """
    mesh, (x, g) = chip(8, Imperfections()), batch(8, 4)
    exact = np.concatenate(list(field_gradient(mesh, x, g)))
    rng, monitor = np.random.default_rng(1), Monitor(tap_fraction=0.1, noise=0.03, bits=8)
    moved = x.astype(kind), g.astype(kind)
    found = np.stack([
        np.concatenate(list(measured_gradient(np, mesh, *moved, monitor, rng, None, readings))) for _ in range(1000)
    ])  # fmt: skip
    z = (found.mean(axis=0) - exact) / (found.std(axis=0, ddof=1) / math.sqrt(1000))
    assert np.abs(z).max() < 5
    assert (z**2).mean() < 1 + 5 * math.sqrt(2 / z.size)


def test_reck_meshes_have_no_calibration_by_column() -> None:
    """16 modes, 0.2 dB an MZI: taken by column, the known loss left a gradient wrong by 1.9 of its size."""
    with pytest.raises(ConfigError, match="take two readings, or a Clements mesh"):
        resent(np, Layout("reck", 16), 10**-0.01)
    assert_allclose(resent(np, Layout("reck", 4), 1.0).theta, np.ones(6))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tap_fraction": 0}, "tap_fraction=0"),
        ({"noise": -1}, "noise=-1"),
        ({"field_noise": math.inf}, "field_noise=inf"),
        ({"bits": 1}, "bits=1: a meter needs"),
    ],
)
def test_bad_monitors(values: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Monitor(**values)


# -- a chip of two meshes ----------------------------------------------------------------------------------


def ideal_chip(w: Host, scale: float) -> svd.SvdMesh:
    factors = svd.factorise(np, w, scale=scale)
    first, second = (ideal_mesh(np, *part) for part in (factors.first, factors.second))
    return svd.SvdMesh(first, factors.attenuation, second, factors.scale)


def whole(shape: tuple[int, int]) -> tuple[svd.SvdMesh, Host, Host]:
    rng = np.random.default_rng(0)
    w = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    made = ideal_chip(w, 12)
    return made, rng.standard_normal((shape[0], 6)), rng.standard_normal((shape[1], 6))


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (6, 3)])
def test_both_meshes_and_attenuators(shape: tuple[int, int]) -> None:
    """Every phase and attenuation against finite differences of Re sum g (w^T x)."""
    made, x, g = whole(shape)
    found = measured_chip_gradient(np, made, x, g, CLEAR, np.random.default_rng(0))
    inner = made.attenuation[:, None] * (matrix(np, made.first) @ x)[: len(made.attenuation)]
    entering = np.zeros((shape[1], 6), complex)
    entering[: len(inner)] = inner
    assert largest(found.second, differences(made.second, entering, made.scale * g)) < 1e-7
    returned = made.scale * (matrix(np, made.second).T @ g)[: len(made.attenuation)]
    behind = np.zeros((shape[0], 6), complex)
    behind[: len(inner)] = made.attenuation[:, None] * returned
    assert largest(found.first, differences(made.first, x, behind)) < 1e-7
    h, slopes = 1e-6, []
    for i in range(len(made.attenuation)):
        ends = []
        for sign in (1, -1):
            moved = made.attenuation.copy()
            moved[i] += sign * h
            changed = svd.SvdMesh(made.first, moved, made.second, made.scale)
            ends.append((g * svd.forward(np, changed, x)).sum().real)
        slopes.append((ends[0] - ends[1]) / (2 * h))
    assert_allclose(found.attenuation, slopes, rtol=1e-7, atol=1e-7)


def test_through_the_attenuators_it_would_be_wrong() -> None:
    """The same three readings in the second mesh, with the error sent back through the whole chip: no gradient."""
    made, x, g = whole((5, 5))
    error = made.scale * g
    right = measured_chip_gradient(np, made, x, g, CLEAR, np.random.default_rng(0)).second

    def inside(light: Host) -> Any:
        return svd.between(np, made, propagate(np, made.first, light), 5)

    returned = svd.backward(np, made, g)
    both = trace(np, made.second, inside(x - 1j * returned.conj()))[1]
    forward, backward = trace(np, made.second, inside(x))[1], trace_back(np, made.second, error)[1]
    powers = [[np.abs(field) ** 2 for field in fields] for fields in (both, forward, backward)]
    naive = Shifters(*((s - f - b).sum(axis=1) / 2 for s, f, b in zip(*powers, strict=True)))
    assert gradient_error(naive, right)[0] > 0.5


def test_other_array_libraries() -> None:
    mesh, (x, g) = chip(4, Imperfections(splitter_sigma=0.1)), batch(4, 3)
    parts = (strict_array.asarray(part) for part in (mesh.splitter_in, mesh.splitter_out, mesh.transmission))
    phases = Shifters(*(strict_array.asarray(part) for part in mesh.phases))
    card = Mesh(mesh.layout, phases, *parts)
    rng = strict_array.random.Generator(strict_array.Philox4x3210(seed=1))
    moved = strict_array.asarray(x), strict_array.asarray(g)
    found = measured_gradient(strict_array, card, *moved, CLEAR, rng)
    for a, b in zip(found, field_gradient(mesh, x, g), strict=True):
        assert_allclose(a.get(), b, atol=1e-12)
    assert measured_gradient(strict_array, card, *moved, Monitor(bits=8), rng).theta.shape == (6,)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("readings", [2, 3])
def test_fields_are_read_with_the_noise_that_is_said(readings: Literal[2, 3], kind: Any) -> None:
    """One mode behind one phase p, x = g = 1, either quadrature of the returned field e^(ip) off by 0.1: e in all.

    What is sent again arrives as i conj(1 + e^(-ip) e); f = e^(ip) with and without it differ by -4 (sin p + Im e), and
    the gradient is a quarter: -sin p, off by 0.1. Three readings: |f - i conj(1 + u)|^2 - 2 over 2, u = e^(-ip) e, or
    -sin p - Im(f u) + Re u + |u|^2 / 2: off by 0.1 sqrt(2 - 2 sin p), and 0.01 more in the mean. 2,000 readings,
    5 sigma of mean and variance, and 0.1 for |u|^2 (variance 0.01^2: 0.014). Two readings in single precision: kernels.
    """
    mesh, p = ideal_mesh(np, *decompose(np.array([[np.exp(0.7j)]]))), 0.7
    one, rng = np.ones((1, 1), kind), np.random.default_rng(0)
    noisy = [measured_gradient(np, mesh, one, one, Monitor(field_noise=0.1), rng, None, readings) for _ in range(2000)]
    sigma, bias = (0.1, 0.0) if readings == 2 else (0.1 * math.sqrt(2 - 2 * math.sin(p)), 0.01)
    off = (np.array([found.output[0] for found in noisy], np.float64) + math.sin(p) - bias) / sigma
    assert abs(off.mean()) < 5 / math.sqrt(2000)
    assert abs(off.var() - 1) < 5 * math.sqrt(2 / 2000) + (0.1 if readings == 3 else 0)


def test_errors_of_any_size_are_read_equally_well() -> None:
    """Two modes that pass everything, a vector in each, and errors of 1 and 1,000, each sent with the power of its x.

    An attenuator's slope is Re(v g), v = 1 + e and g = size (1 + e'), either quadrature of e and e' off by 1e-5: its
    deviation is 1e-5 sqrt 2 size (the other vector brings the square of 1e-5). 1,000 readings, 5 sigma.
    """
    unit, sizes = ideal_mesh(np, *decompose(np.eye(2))), np.array([1.0, 1000.0])
    made, rng = svd.SvdMesh(unit, np.ones(2), unit, 1.0), np.random.default_rng(2)
    found = np.stack([
        measured_chip_gradient(np, made, np.eye(2), np.diag(sizes), Monitor(field_noise=1e-5), rng).attenuation
        for _ in range(1000)
    ])  # fmt: skip
    z = (found / sizes - 1) / (1e-5 * math.sqrt(2))
    assert (np.abs(z.mean(axis=0)) < 5 / math.sqrt(1000)).all()
    assert (np.abs(z.var(axis=0) - 1) < 5 * math.sqrt(2 / 1000)).all()

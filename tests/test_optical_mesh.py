"""Meshes: decompositions rebuilt MZI by MZI, reciprocity, error laws, correction, and any matrix by two meshes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import strict_array
from numpy.testing import assert_allclose, assert_array_equal
from optical_reference import fabricate
from scipy.stats import ortho_group, unitary_group

from hwsim.devices.optical import decomposition, svd
from hwsim.devices.optical.decomposition import TURN, Kind, Layout, Shifters, decompose, wrapped
from hwsim.devices.optical.imperfections import (
    Fabrication,
    Imperfections,
    corrected,
    heat,
    quantised,
    realised,
    unheated,
)
from hwsim.devices.optical.mesh import Mesh, ideal_mesh, matrix, propagate, propagate_back, trace, trace_back
from hwsim.errors import ConfigError, ShapeError

Host = np.ndarray[Any, Any]
KINDS: tuple[Kind, ...] = ("clements", "reck")
FAULTY = Imperfections(splitter_sigma=0.05, phase_sigma=0.1, phase_bits=6, loss_db=0.2, loss_sigma_db=0.1,
                       heat_crosstalk=0.03, tap_fraction=0.01)  # fmt: skip


def haar(n: int, seed: int = 0) -> Host:
    """A random unitary [n, n] by Haar's measure."""
    return np.asarray(unitary_group.rvs(n, random_state=seed)) if n > 1 else np.array([[np.exp(1j * seed)]])


def light(n: int, m: int, seed: int = 0) -> Host:
    parts = np.random.default_rng(seed).standard_normal((2, n, m))
    return np.asarray(parts[0] + 1j * parts[1])


def random_phases(layout: Layout, seed: int) -> Shifters:
    rng = np.random.default_rng(seed)
    return Shifters(*(rng.uniform(0, TURN, size) for size in (layout.mzis, layout.mzis, layout.n)))


def faulty(n: int, kind: Kind, seed: int = 0, imperfections: Imperfections = FAULTY) -> Mesh:
    layout = Layout(kind, n)
    chip = fabricate(np, layout, imperfections, np.random.default_rng(seed))
    return realised(np, chip, random_phases(layout, seed))


def ideal_chip(xp: Any, factors: svd.Factors) -> svd.SvdMesh:
    first, second = (ideal_mesh(xp, *part) for part in (factors.first, factors.second))
    return svd.SvdMesh(first, factors.attenuation, second, factors.scale)


def one_by_one(mesh: Mesh) -> Host:
    """The reference: each MZI as an n x n matrix, multiplied in the order of the columns."""

    def splitter(error: float) -> Host:
        c, s = math.cos(math.pi / 4 + error), math.sin(math.pi / 4 + error)
        return np.array([[c, 1j * s], [1j * s, c]])

    n, number = mesh.layout.n, 0
    whole = np.eye(n, dtype=complex)
    for first, count in mesh.layout.columns:
        lossy = np.diag(np.full(n, mesh.bypass, dtype=complex))
        whole, column = lossy @ whole, np.eye(n, dtype=complex)
        for top in range(first, first + 2 * count, 2):
            theta, phi, _ = (part[number % part.size] for part in mesh.phases)
            mzi = splitter(mesh.splitter_out[number]) @ np.diag([np.exp(1j * theta), 1])
            mzi = mzi @ splitter(mesh.splitter_in[number]) @ np.diag([np.exp(1j * phi), 1])
            column[top : top + 2, top : top + 2] = mesh.transmission[number] * mzi / mesh.bypass
            number += 1
        whole = column @ whole
    return np.diag(np.exp(1j * mesh.phases.output)) @ whole


# -- layouts and decomposition -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 64])
def test_counts(kind: Kind, n: int) -> None:
    """n (n - 1) / 2 MZIs in n or 2 n - 3 columns, n^2 phase shifters; no mode is used twice in a column."""
    layout = Layout(kind, n)
    assert layout.mzis == n * (n - 1) // 2
    assert sum((len(layout.mode_of), len(layout.column_of), n)) == n * n
    assert len(layout.columns) == {1: 0, 2: 1}.get(n, n if kind == "clements" else 2 * n - 3)
    for first, count in layout.columns:
        assert first >= 0
        assert count >= 1
        assert first + 2 * count <= n


def test_shifters_of_a_published_size() -> None:
    """64 x 64 by singular values: 2 * 64^2 + 64 = 8256 shifters and attenuators."""
    factors = svd.factorise(np, np.random.default_rng(0).standard_normal((64, 64)))
    parts = (*factors.first[1], *factors.second[1], factors.attenuation)
    assert sum(part.size for part in parts) == 8256


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 13, 32])
def test_decomposition_rebuilds_the_matrix(kind: Kind, n: int) -> None:
    for seed in range(3):
        u = haar(n, seed)
        layout, phases = decompose(u, kind)
        mesh = ideal_mesh(np, layout, phases)
        assert np.abs(one_by_one(mesh) - u).max() < 1e-12
        assert np.abs(matrix(np, mesh) - u).max() < 1e-12
        for part in phases:
            assert ((part >= 0) & (part < TURN)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_special_matrices(kind: Kind) -> None:
    """Zeros where the algorithm divides: identity, reversal, a cycle, signs, Fourier, a real orthogonal matrix."""
    n = 6
    fourier = np.fft.fft(np.eye(n)) / math.sqrt(n)
    signs = np.diag([1.0, -1, 1j, -1j, 1, -1])
    for u in (
        np.eye(n),
        np.eye(n)[::-1],
        np.roll(np.eye(n), 1, axis=0),
        signs,
        fourier,
        ortho_group.rvs(n, random_state=1),
    ):
        assert np.abs(matrix(np, ideal_mesh(np, *decompose(u, kind))) - u).max() < 1e-12


def test_decomposition_refuses() -> None:
    with pytest.raises(ConfigError, match=r"not unitary: .* two meshes and attenuators"):
        decompose(2 * np.eye(3))
    with pytest.raises(ConfigError, match="not unitary"):
        decompose(np.full((3, 3), np.nan))
    with pytest.raises(ShapeError, match=r"got shape \(2, 3\)"):
        decompose(np.ones((2, 3)))
    with pytest.raises(ConfigError, match="no mesh layout 'square'; known: clements, reck"):
        Layout("square", 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="n=0"):
        Layout("reck", 0)


def test_wrapped() -> None:
    """-1e-17 wraps to a whole turn in floating point, which is 0."""
    assert_allclose(wrapped(np, np.array([-0.5, 7.0, -1e-17, TURN, 0])), [TURN - 0.5, 7 - TURN, 0, 0, 0])


# -- propagation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_faulty_mesh_is_its_parts(kind: Kind, n: int) -> None:
    mesh = faulty(n, kind, seed=n)
    assert_allclose(matrix(np, mesh), one_by_one(mesh), atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_reciprocity(kind: Kind) -> None:
    """Backwards the same chip is the transpose, errors and losses and all; and the traced fields end alike."""
    mesh, forth, back = faulty(17, kind), light(17, 9), light(17, 9, seed=1)
    whole = one_by_one(mesh)
    assert np.abs(propagate(np, mesh, forth) - whole @ forth).max() < 1e-12
    assert np.abs(propagate_back(np, mesh, back) - whole.T @ back).max() < 1e-12
    out, fields = trace(np, mesh, forth)
    returned, arriving = trace_back(np, mesh, back)
    assert np.abs(out - whole @ forth).max() < 1e-12
    assert np.abs(returned - whole.T @ back).max() < 1e-12
    assert_array_equal(fields.output, out)
    assert_array_equal(arriving.output, back)


def test_inputs_are_left_alone() -> None:
    mesh, fields = faulty(6, "clements"), light(6, 4)
    before = fields.copy()
    for run in (propagate, propagate_back, trace, trace_back):
        run(np, mesh, fields)
    assert_array_equal(fields, before)


def test_single_precision() -> None:
    mesh, fields = faulty(24, "clements"), light(24, 5)
    for run in (propagate, propagate_back):
        found = run(np, mesh, fields.astype(np.complex64))
        assert found.dtype == np.complex64
        assert_allclose(found, run(np, mesh, fields), atol=2e-5)
    real = fields.real.astype(np.float32)
    assert propagate(np, mesh, real).dtype == np.complex64
    assert trace(np, mesh, real)[1].theta.dtype == np.complex64


def test_losses() -> None:
    """Rectangle: t^n over all. Triangle: light of the last mode passes fewer MZIs than that of the first."""
    n, t = 8, 10 ** (-0.3 / 20)
    lossy = Imperfections(loss_db=0.3)
    assert_allclose(
        matrix(np, faulty(n, "clements", 3, lossy)),
        t**n * matrix(np, faulty(n, "clements", 3, Imperfections())), atol=1e-13,
    )  # fmt: skip
    power = (np.abs(matrix(np, faulty(n, "reck", 3, lossy))) ** 2).sum(axis=0)
    assert power.min() >= t ** (2 * (2 * n - 3)) - 1e-12
    assert power.max() - power.min() > 0.05
    tapped = faulty(n, "clements", 3, Imperfections(tap_fraction=0.02))
    assert_allclose((np.abs(matrix(np, tapped)) ** 2).sum(axis=0), 0.98 ** (2 * n))


def test_shapes_are_checked() -> None:
    mesh = faulty(4, "clements")
    with pytest.raises(ShapeError, match=r"shape \(3, 2\); this mesh takes \[4, m\], modes first"):
        propagate(np, mesh, np.ones((3, 2)))
    with pytest.raises(ShapeError, match=r"have \(6, 6, 3\) values; a clements mesh of 4 modes has \(6, 6, 4\)"):
        ideal_mesh(np, mesh.layout, Shifters(np.zeros(6), np.zeros(6), np.zeros(3)))
    with pytest.raises(ConfigError, match="NaN or infinite"):
        ideal_mesh(np, mesh.layout, Shifters(np.zeros(6), np.full(6, np.inf), np.zeros(4)))


# -- errors ------------------------------------------------------------------------------------------------


def rms_error(n: int, imperfections: Imperfections, draws: int = 100) -> float:
    """RMS over `draws` chips of |dU|_F / sqrt n, each at its own random phases."""
    total, layout = 0.0, Layout("clements", n)
    for seed in range(draws):
        phases = random_phases(layout, 1000 * n + seed)
        chip = fabricate(np, layout, imperfections, np.random.default_rng(seed))
        off = matrix(np, realised(np, chip, phases)) - matrix(np, ideal_mesh(np, layout, phases))
        total += (np.abs(off) ** 2).sum() / n
    return math.sqrt(total / draws)


@pytest.mark.parametrize("n", [8, 16, 32, 64])
def test_error_laws(n: int) -> None:
    """First order, within 15 %: splitters sqrt(2 (n - 1)) sigma, phases sqrt(n) sigma, bits as phases. 100 chips."""
    assert rms_error(n, Imperfections(splitter_sigma=0.005)) == pytest.approx(math.sqrt(2 * (n - 1)) * 0.005, rel=0.15)
    assert rms_error(n, Imperfections(phase_sigma=0.005)) == pytest.approx(math.sqrt(n) * 0.005, rel=0.15)
    law = math.sqrt(n) * TURN / (2**8 * math.sqrt(12))
    assert rms_error(n, Imperfections(phase_bits=8)) == pytest.approx(law, rel=0.15)


def test_quantised_by_hand() -> None:
    """2 bits: 0, pi / 2, pi, 3 pi / 2; a phase near the whole turn is nearest to 0."""
    phases = np.array([0.1, 0.8, 3.0, 5.4, 5.6])
    assert_allclose(quantised(np, phases, 2), np.array([0, 1, 2, 3, 0]) * math.pi / 2)
    assert quantised(np, phases, math.inf) is phases


def test_heat_by_hand() -> None:
    """4 modes: columns of 2, 1, 2, 1 MZIs. Along a row phi, theta, phi, theta, ..; rows are pairs of modes.

    Only MZI 0 (column 0, row 0) is warm: theta 1, phi 2. It gives .1 of theta to its own phi and to phi of the MZI
    behind it in the row (number 2), and .1 to theta of the MZI below (number 1); of phi likewise to theta and below.
    """
    layout = Layout("clements", 4)
    assert layout.columns == ((0, 2), (1, 1), (0, 2), (1, 1))
    theta, phi = np.zeros((2, 6))
    theta[0], phi[0] = 1.0, 2.0
    warm = heat(np, layout, Shifters(theta, phi, np.ones(4)), 0.1)
    assert_allclose(warm.theta, [1.2, 0.1, 0, 0, 0, 0])
    assert_allclose(warm.phi, [2.1, 0.2, 0.1, 0, 0, 0])
    assert_allclose(warm.output, np.ones(4))


def test_heat_goes_both_ways() -> None:
    """What shifter i gives to shifter j, j gives to i; no shifter has more than four neighbours, some have four."""
    layout = Layout("clements", 8)
    mzis = layout.mzis
    coupling = np.empty((2 * mzis, 2 * mzis))
    for i, impulse in enumerate(np.eye(2 * mzis)):
        warm = heat(np, layout, Shifters(impulse[:mzis], impulse[mzis:], np.zeros(8)), 0.1)
        coupling[i] = np.concatenate([warm.theta, warm.phi])
    assert_allclose(coupling, coupling.T)
    assert_allclose(np.diagonal(coupling), 1)
    assert ((coupling - np.eye(2 * mzis)).sum(axis=0) / 0.1).max() == pytest.approx(4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.001, 0.01, 0.05])
def test_known_heat_is_left_out_of_the_commands(kind: Kind, share: float) -> None:
    """K command = wanted but for whole turns, K from impulses and solved here by LAPACK; commands within a turn.

    Phases within 4 x 4 share^2 of a turn from an end may have no command: those drawn lie outside that.
    """
    layout, gap = Layout(kind, 10), TURN * 16 * share**2
    draws = np.random.default_rng(5).uniform(gap, TURN - gap, 2 * layout.mzis)
    wanted = Shifters(*np.split(draws, 2), np.arange(10.0) / 2)
    found = unheated(np, layout, wanted, share)
    assert all(((part >= 0) & (part < TURN)).all() for part in found)
    warm = heat(np, layout, found, share)
    for a, b in zip(warm, wanted, strict=True):
        assert np.abs(np.exp(1j * a) - np.exp(1j * b)).max() < 1e-9
    mzis = layout.mzis
    columns = [heat(np, layout, Shifters(e[:mzis], e[mzis:], wanted.output), share)[:2] for e in np.eye(2 * mzis)]
    coupling = np.array([np.concatenate(each) for each in columns]).T
    command = np.concatenate(found[:2])
    turns = np.rint((coupling @ command - draws) / TURN)
    assert_allclose(command, np.linalg.solve(coupling, draws + turns * TURN), atol=1e-9)
    assert turns.any()  # some would have had to be cooled


def test_calibration_with_heat_is_exact_within_reach() -> None:
    """Splitters, offsets and 1% of heat, all known, no rounding: the matrix that was asked for, to 1e-9."""
    layout = Layout("clements", 9)
    turns = np.random.default_rng(2).uniform(0.6, math.pi - 0.6, layout.mzis)
    ideal = random_phases(layout, 1)._replace(theta=turns)
    settings = Imperfections(splitter_sigma=0.03, phase_sigma=0.5, heat_crosstalk=0.01)
    chip = fabricate(np, layout, settings, np.random.default_rng(3))
    target = matrix(np, ideal_mesh(np, layout, ideal))
    assert np.abs(matrix(np, realised(np, chip, corrected(np, chip, ideal))) - target).max() < 1e-9


def test_draws_do_not_depend_on_settings() -> None:
    layout = Layout("clements", 5)

    def chip(**settings: float) -> Fabrication:
        return fabricate(np, layout, Imperfections(**settings), np.random.default_rng(7))

    assert_array_equal(chip(phase_sigma=0.1).offsets.phi, chip(phase_sigma=0.1, splitter_sigma=0.2).offsets.phi)
    assert_array_equal(
        chip(splitter_sigma=0.1).blank.splitter_in, chip(splitter_sigma=0.1, loss_db=1).blank.splitter_in
    )
    assert not chip(loss_db=1).offsets.phi.any()


@pytest.mark.parametrize("kind", KINDS)
def test_correction_is_exact_within_reach(kind: Kind) -> None:
    """Splittings from sin^2 .3 to cos^2 .3 are within the reach of splitters off by .1 at most; offsets of any size."""
    layout = Layout(kind, 9)
    ideal = random_phases(layout, 1)
    turns = np.random.default_rng(2).uniform(0.6, math.pi - 0.6, layout.mzis)
    ideal = ideal._replace(theta=np.where(np.arange(layout.mzis) % 2, turns, TURN - turns))
    chip = fabricate(np, layout, Imperfections(splitter_sigma=0.03, phase_sigma=2), np.random.default_rng(3))
    assert max(np.abs(chip.blank.splitter_in).max(), np.abs(chip.blank.splitter_out).max()) < 0.1
    target = matrix(np, ideal_mesh(np, layout, ideal))
    assert np.abs(matrix(np, realised(np, chip, ideal)) - target).max() > 0.5
    assert np.abs(matrix(np, realised(np, chip, corrected(np, chip, ideal))) - target).max() < 1e-12


def test_correction_keeps_bars_and_crosses() -> None:
    """Offsets alone: theta of 0 (cross) and pi (bar), where an element has no phase, are set exactly."""
    layout = Layout("clements", 6)
    ideal = random_phases(layout, 4)._replace(theta=np.where(np.arange(layout.mzis) % 3, 0.0, math.pi))
    chip = fabricate(np, layout, Imperfections(phase_sigma=1), np.random.default_rng(5))
    found = matrix(np, realised(np, chip, corrected(np, chip, ideal)))
    assert np.abs(found - matrix(np, ideal_mesh(np, layout, ideal))).max() < 1e-7  # arccos near its ends


def test_correction_squares_the_error() -> None:
    """Haar matrices of 32 modes, many of their MZIs near cross: corrected error ~ sigma^2, exponent 1.7 to 2.3.

    RMS over 30 chips at sigma .02 and .04: log2 of the ratio is 2 in the law, 1 without correction.
    """
    squares = np.zeros((2, 2))
    for seed in range(30):
        u = haar(32, seed)
        layout, ideal = decompose(u)
        for i, sigma in enumerate((0.02, 0.04)):
            chip = fabricate(np, layout, Imperfections(splitter_sigma=sigma), np.random.default_rng(100 + seed))
            for j, phases in enumerate((ideal, corrected(np, chip, ideal))):
                squares[j, i] += (np.abs(matrix(np, realised(np, chip, phases)) - u) ** 2).sum()
    exponents = np.log2(squares[:, 1] / squares[:, 0]) / 2
    assert 0.9 < exponents[0] < 1.1
    assert 1.7 < exponents[1] < 2.3
    assert squares[1, 0] < squares[0, 0] / 50


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"splitter_sigma": -0.1}, "splitter_sigma=-0.1: needs a finite number, 0 or more"),
        ({"loss_db": math.nan}, "loss_db=nan"),
        ({"phase_bits": 0.5}, "phase_bits=0.5: a phase driver needs 1 bit or more"),
        ({"tap_fraction": 1}, "tap_fraction=1: needs a share of the power, 0 or more and below 1"),
    ],
)
def test_bad_imperfections(values: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Imperfections(**values)


def test_bad_commands() -> None:
    layout = Layout("clements", 4)
    chip = fabricate(np, layout, Imperfections(), np.random.default_rng(0))
    good = random_phases(layout, 0)
    for phase in (-0.1, TURN, math.nan):
        with pytest.raises(ConfigError, match="outside 0 to 2 pi"):
            realised(np, chip, good._replace(output=np.full(4, phase)))
    with pytest.raises(ShapeError, match=r"have \(6, 5, 4\) values; this chip has 6 MZIs twice, and 4 outputs"):
        realised(np, chip, good._replace(phi=np.zeros(5)))


# -- any matrix --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (1, 4), (4, 1), (1, 1)])
def test_chip_equals_the_product(kind: Kind, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    w, x, dy = rng.standard_normal(shape), rng.standard_normal((7, shape[0])), rng.standard_normal((7, shape[1]))
    factors = svd.factorise(np, w, kind)
    chip = ideal_chip(np, factors)
    assert factors.attenuation.max() <= 1 + 1e-12
    assert np.abs(svd.forward(np, chip, x.T).T - x @ w).max() < 1e-10
    assert np.abs(svd.backward(np, chip, dy.T).T - dy @ w.T).max() < 1e-10
    assert np.abs(svd.effective_weights(np, chip) - w).max() < 1e-10


def test_faulty_chip_is_reciprocal() -> None:
    w = np.random.default_rng(0).standard_normal((6, 9))
    factors = svd.factorise(np, w)
    meshes = []
    for seed, (layout, phases) in enumerate((factors.first, factors.second)):
        chip = fabricate(np, layout, FAULTY, np.random.default_rng(seed))
        meshes.append(realised(np, chip, phases))
    whole = svd.SvdMesh(meshes[0], factors.attenuation, meshes[1], factors.scale)
    effective = svd.effective_weights(np, whole)
    x, dy = light(6, 3), light(9, 3)
    assert np.abs(svd.forward(np, whole, x) - effective.T @ x).max() < 1e-12
    assert np.abs(svd.backward(np, whole, dy) - effective @ dy).max() < 1e-12
    assert np.abs(effective - w).max() > 0.1


def test_degenerate_matrices() -> None:
    for w in (np.zeros((3, 4)), np.ones((4, 4)), 2 * np.eye(3)):
        assert np.abs(svd.effective_weights(np, ideal_chip(np, svd.factorise(np, w))) - w).max() < 1e-12


def test_scale_is_explicit() -> None:
    w = np.diag([3.0, 1.0])
    assert svd.factorise(np, w).scale == pytest.approx(3)
    factors = svd.factorise(np, w, scale=6)
    assert_allclose(factors.attenuation, [0.5, 1 / 6])
    assert_allclose(svd.effective_weights(np, ideal_chip(np, factors)), w, atol=1e-14)
    with pytest.raises(ConfigError, match=r"scale=2: no passive chip .* singular value 3 .* choose 3 or more"):
        svd.factorise(np, w, scale=2)
    with pytest.raises(ShapeError, match="one finite matrix"):
        svd.factorise(np, np.array([[np.nan]]))


# -- other array libraries ---------------------------------------------------------------------------------


def carried(shifters: Shifters) -> Shifters:
    return Shifters(*(strict_array.asarray(part) for part in shifters))


def test_other_array_libraries() -> None:
    """Everything but the decomposition runs on another library's arrays, with the same numbers."""
    host = faulty(7, "clements", imperfections=Imperfections(splitter_sigma=0.1, loss_db=0.1))
    card = Mesh(
        host.layout, carried(host.phases),
        *(strict_array.asarray(part) for part in (host.splitter_in, host.splitter_out, host.transmission)), host.bypass,
    )  # fmt: skip
    fields = light(7, 3)
    moved = strict_array.asarray(fields)
    for run in (propagate, propagate_back):
        assert_allclose(run(strict_array, card, moved).get(), run(np, host, fields))
    for walk in (trace, trace_back):
        for found, expected in zip(walk(strict_array, card, moved)[1], walk(np, host, fields)[1], strict=True):
            assert_allclose(found.get(), expected)
    phases = random_phases(host.layout, 0)
    rng = strict_array.random.Generator(strict_array.Philox4x3210(seed=1))
    chip = fabricate(strict_array, host.layout, FAULTY, rng)
    mesh = realised(strict_array, chip, corrected(strict_array, chip, carried(phases)))
    assert matrix(strict_array, mesh).shape == (7, 7)
    w = np.random.default_rng(0).standard_normal((3, 5))
    ideal = ideal_chip(strict_array, svd.factorise(strict_array, strict_array.asarray(w)))
    assert_allclose(svd.effective_weights(strict_array, ideal).get(), w, atol=1e-12)
    x = strict_array.asarray(np.ones((3, 2)))
    assert_allclose(svd.forward(strict_array, ideal, x).get(), w.T @ np.ones((3, 2)), atol=1e-12)


def test_tolerance_lets_single_precision_pass() -> None:
    """Rounding 16 modes to float32 leaves |U U^H - 1| near 1e-7, below the tolerance of 1e-6."""
    u = haar(16).astype(np.complex64)
    off = np.abs(u @ u.conj().T - np.eye(16)).max()
    assert 1e-9 < off < decomposition.UNITARY_TOLERANCE
    assert np.abs(matrix(np, ideal_mesh(np, *decompose(u))) - u).max() < 1e-5

"""The wire network of a crossbar against Kirchhoff's laws written out, ngspice, published currents and closed forms."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.devices.crossbar import netlist
from hwsim.devices.crossbar.grid import (
    EffectiveMatrix,
    Wires,
    effective_conductance,
    effective_conductance_transposed,
)
from hwsim.errors import ConfigError, ShapeError

CURRENTS = json.loads((Path(__file__).parent / "data" / "crossbar_currents.json").read_text())
KEPT = 1e-9  # relative to the largest entry: what the matrix promises


def cells(m, n, seed=0, low=1e-6, high=1e-4):
    return np.random.default_rng(seed).uniform(low, high, (m, n))


def difference(a, b):
    return float(np.abs(np.asarray(a) - b).max() / np.abs(b).max())


def kirchhoff(g, wires):
    """Nodal analysis of the whole network, all resistances above zero: inputs [m], then 2 m n nodes; outputs at 0 V.

    Returns the admittance matrix between the terminals, [m + n, m + n] [S], by eliminating the inner nodes.
    """
    m, n = g.shape
    size = 2 * m * n + m + n
    y = np.zeros((size, size))
    at_word = np.arange(m * n).reshape(m, n)
    at_bit = at_word + m * n
    at_in = 2 * m * n + np.arange(m)
    at_out = 2 * m * n + m + np.arange(n)

    def join(a, b, siemens):
        y[a, a] += siemens
        y[b, b] += siemens
        y[a, b] -= siemens
        y[b, a] -= siemens

    order_n = list(range(n)) if wires.drive_side == "left" else list(range(n))[::-1]
    order_m = list(range(m))[::-1] if wires.sense_side == "bottom" else list(range(m))
    for i in range(m):
        join(at_in[i], at_word[i, order_n[0]], 1 / (wires.word_line_ohm + wires.driver_ohm))
        for a, b in itertools.pairwise(order_n):
            join(at_word[i, a], at_word[i, b], 1 / wires.word_line_ohm)
    for j in range(n):
        join(at_out[j], at_bit[order_m[0], j], 1 / (wires.bit_line_ohm + wires.sense_ohm))
        for a, b in itertools.pairwise(order_m):
            join(at_bit[a, j], at_bit[b, j], 1 / wires.bit_line_ohm)
    for i in range(m):
        for j in range(n):
            join(at_word[i, j], at_bit[i, j], g[i, j])
    inner, outer = slice(0, 2 * m * n), slice(2 * m * n, None)
    return y[outer, outer] - y[outer, inner] @ np.linalg.solve(y[inner, inner], y[inner, outer])


ohms = st.floats(-2, 3).map(lambda power: 10.0**power)
sides = {"drive_side": st.sampled_from(["left", "right"]), "sense_side": st.sampled_from(["bottom", "top"])}
any_wires = st.builds(Wires, ohms, ohms, st.one_of(st.just(0.0), ohms), st.one_of(st.just(0.0), ohms), **sides)


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 12), n=st.integers(1, 12), seed=st.integers(0, 2**20), wires=any_wires)
def test_it_is_the_network_of_kirchhoffs_laws(m, n, seed, wires):
    g = cells(m, n, seed)
    terminals = kirchhoff(g, wires)
    assert difference(effective_conductance(g, wires), -terminals[:m, m:]) < KEPT


@pytest.mark.parametrize("shape", [(16, 16), (16, 5), (5, 16)])
@pytest.mark.parametrize("drive_side", ["left", "right"])
@pytest.mark.parametrize("sense_side", ["bottom", "top"])
def test_every_side_and_shape_with_gaps(shape, drive_side, sense_side):
    wires = Wires(3.0, 7.0, 200.0, 50.0, drive_side, sense_side)
    g = cells(*shape, seed=5)
    g[np.random.default_rng(6).random(shape) < 0.3] = 0.0
    g[:, 0] = 0.0  # a dead column: its output carries only what the others send back, which is nothing
    effective = effective_conductance(g, wires)
    assert difference(effective, -kirchhoff(g, wires)[: shape[0], shape[0] :]) < 1e-12
    assert np.abs(effective[:, 0]).max() < 1e-18


@pytest.mark.parametrize("case", CURRENTS["cases"], ids=["8x8", "16x16"])
def test_published_currents(case):
    wires = Wires(case["word_line_ohm"], case["bit_line_ohm"])
    g, v, i = (np.array(case[key]) for key in ("g_siemens", "v_volt", "i_ampere"))
    assert difference(v @ effective_conductance(g, wires), i) < 1e-13
    assert difference(v @ g, i) > 1e-3  # the wires do matter here


@pytest.mark.skipif(not netlist.installed(), reason="ngspice is not installed (apt-get install ngspice)")
@pytest.mark.parametrize(
    ("shape", "wires"),
    [
        ((8, 8), Wires(1.0, 1.0)),
        ((32, 32), Wires(2.0, 1.0, 200.0, 50.0, "right", "top")),
        ((8, 5), Wires(0.0, 1.0, 0.0, 50.0)),
        ((5, 8), Wires(1.0, 0.0, 100.0, 0.0)),
    ],
)
def test_ngspice_agrees(shape, wires):
    g = cells(*shape, seed=2)
    v = np.random.default_rng(3).uniform(-0.3, 0.3, shape[0])
    assert difference(v @ effective_conductance(g, wires), netlist.spice_currents(g, v, wires)) < 1e-11


def test_netlist_says_what_is_wrong():
    with pytest.raises(ShapeError, match=r"need \(3,\)"):
        netlist.netlist(cells(3, 2), np.zeros(2), Wires())
    with pytest.raises(ShapeError, match="at most 64"):
        netlist.netlist(cells(65, 2), np.zeros(65), Wires())


def test_netlist_without_ngspice(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="apt-get install ngspice"):
        netlist.spice_currents(cells(2, 2), np.ones(2), Wires())


def test_no_resistance_is_the_cells_themselves():
    g = cells(7, 4)
    effective = effective_conductance(g, Wires())
    np.testing.assert_array_equal(effective, g)
    assert not np.shares_memory(effective, g)


def test_one_cell_is_a_series_circuit():
    wires = Wires(3.0, 5.0, 200.0, 50.0)
    expected = 1 / (1 / 1e-4 + 3 + 5 + 200 + 50)  # 1 / 10258 ohm
    assert effective_conductance([[1e-4]], wires)[0, 0] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_only_drivers_resist(shape):
    g = cells(*shape)
    expected = g / (1 + 200 * g.sum(axis=1, keepdims=True))  # outputs at 0 V: each row is one divider
    assert difference(effective_conductance(g, Wires(driver_ohm=200.0)), expected) < 1e-14


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_only_senses_resist(shape):
    g = cells(*shape)
    expected = g / (1 + 50 * g.sum(axis=0))  # inputs are ideal: each column is one divider
    assert difference(effective_conductance(g, Wires(sense_ohm=50.0)), expected) < 1e-14


@pytest.mark.parametrize("k", [1, 2, 40])
def test_a_single_line_of_equal_cells_is_a_ladder(k):
    """Equal cells g on one line of segments r, far end open: the voltage at cell a is cosh((k - a - 1/2) h) / ...

    2 cosh h = 2 + r g; the boundary before the first cell is at 1 V, and the open end mirrors the line at k - 1/2.
    """
    g, r = 1e-4, 30.0
    h = np.arccosh(1 + r * g / 2)
    a = np.arange(k)
    voltage = np.cosh((k - 0.5 - a) * h) / np.cosh((k + 0.5) * h)
    row = effective_conductance(np.full((1, k), g), Wires(word_line_ohm=r))
    assert difference(row[0], g * voltage) < 1e-13
    column = effective_conductance(np.full((k, 1), g), Wires(bit_line_ohm=r))
    assert difference(column[::-1, 0], g * voltage) < 1e-13  # by reciprocity, from the sensed end


@pytest.mark.parametrize("zero", ["word_line_ohm", "bit_line_ohm", "driver_ohm", "sense_ohm"])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_zero_is_the_limit(zero, shape):
    wires = Wires(**{"word_line_ohm": 2.0, "bit_line_ohm": 3.0, "driver_ohm": 200.0, "sense_ohm": 50.0, zero: 0.0})
    g = cells(*shape)
    exact = effective_conductance(g, wires)
    for ohm in (1e-5, 1e-9, 1e-14, 1e-300):  # the error is first order in the resistance: n^2 r g, at most 1e-2 r
        assert difference(effective_conductance(g, replace(wires, **{zero: ohm})), exact) < 1e-2 * ohm + 1e-12


def test_strong_driver_beside_fine_wire_keeps_its_digits():
    g = cells(12, 12)
    for ohm in (0.19, 0.21):  # either side of driver = 1000 segments, where the formula changes
        wires = Wires(ohm, ohm, 200.0, 200.0)
        assert difference(effective_conductance(g, wires), -kirchhoff(g, wires)[:12, 12:]) < 1e-11


def test_very_resistive_wires_neither_overflow_nor_warn():
    """At 1e5 ohm and 1e-2 S a bit line's inner voltages fall 1000-fold a cell: 1e-1800 over its 600 cells."""
    for shape in ((4, 600), (600, 4)):
        effective = effective_conductance(np.full(shape, 1e-2), Wires(1e5, 1e5))
        assert np.isfinite(effective).all()
        assert (effective >= 0).all()
        assert effective[0, -1] < 1e-90  # the cell farthest from both terminals
        assert effective[-1, 0] == effective.max()  # and the nearest


def test_current_is_conserved_and_passive():
    """What the drivers put in with all inputs at 1 V comes out of the outputs."""
    g, wires = cells(10, 7), Wires(2.0, 3.0, 100.0, 50.0)
    terminals = kirchhoff(g, wires)
    entered = terminals[:10, :10].sum()
    assert effective_conductance(g, wires).sum() == pytest.approx(entered, rel=1e-11)
    assert (effective_conductance(g, wires).sum(axis=0) < g.sum(axis=0)).all()


def test_transposed_read_with_fixed_terminals_is_the_transpose():
    """Bit lines driven through their own 50 ohm, word lines sensed through their own 200: reciprocity."""
    g, wires = cells(9, 6, seed=4), Wires(2.0, 3.0, 200.0, 50.0)
    driven_from_below = -kirchhoff(g, wires)[9:, :9]  # [n, m]: currents into word terminals per volt on bit terminals
    assert difference(effective_conductance(g, wires).T, driven_from_below) < 1e-11


@pytest.mark.parametrize("drive_side", ["left", "right"])
@pytest.mark.parametrize("sense_side", ["bottom", "top"])
def test_transposed_read_where_circuits_change_places(drive_side, sense_side):
    g, wires = cells(9, 6, seed=4), Wires(2.0, 3.0, 200.0, 50.0, drive_side, sense_side)
    exchanged = replace(wires, driver_ohm=50.0, sense_ohm=200.0)  # the senses now sit on the word lines
    expected = -kirchhoff(g, exchanged)[9:, :9]
    assert difference(effective_conductance_transposed(g, wires), expected) < 1e-11


def test_unequal_driver_and_sense_differ_by_five_percent():
    g, wires = cells(32, 32), Wires(1.0, 1.0, 200.0, 50.0)
    forward, transposed = effective_conductance(g, wires), effective_conductance_transposed(g, wires)
    apart = np.linalg.norm(transposed - forward.T) / np.linalg.norm(forward)
    assert 0.01 < apart < 0.15


@pytest.mark.parametrize("name", ["word_line_ohm", "bit_line_ohm", "driver_ohm", "sense_ohm"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "1", None])
def test_bad_resistance(name, value):
    with pytest.raises(ConfigError, match=f"{name} is .*zero or more"):
        Wires(**{name: value})


def test_bad_side_and_bad_cells():
    with pytest.raises(ConfigError, match="allowed: left or right"):
        Wires(drive_side="top")
    with pytest.raises(ConfigError, match="allowed: bottom or top"):
        Wires(sense_side="left")
    with pytest.raises(ShapeError, match="a matrix"):
        effective_conductance(np.ones(3), Wires())
    for bad in (-1e-6, np.nan, np.inf):
        with pytest.raises(ConfigError, match="siemens"):
            effective_conductance([[1e-6, bad]], Wires())


class Generic:
    """NumPy by another name: takes the path that CuPy takes."""

    def __getattr__(self, name):
        return getattr(np, name)


@pytest.mark.parametrize("shape", [(8, 11), (11, 8)])
def test_other_array_libraries_take_the_same_path(shape):
    g, wires = cells(*shape), Wires(2.0, 3.0, 2500.0, 50.0)
    assert difference(effective_conductance(g, wires, xp=Generic()), effective_conductance(g, wires)) < 1e-12


def test_importing_the_grid_does_not_import_scipy():
    code = "import sys, hwsim.devices.crossbar.grid; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------ the matrix in training


def moves(kind, m, n, rng):
    """One step of training [S]: noise, outer products, a common drift, or all in turn."""
    noise = 1e-3 * rng.standard_normal((m, n))
    outer = 1e-3 * np.outer(rng.standard_normal(m), rng.standard_normal(n))
    drift = np.full((m, n), 5e-4)
    return 5e-5 * {"noise": noise, "outer": outer, "drift": drift, "all": noise + outer + drift}[kind]


@pytest.mark.parametrize("kind", ["noise", "outer", "drift", "all"])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-4])
@pytest.mark.parametrize(
    "wires",
    [Wires(3.0, 3.0), Wires(1.0, 2.0, 200.0, 50.0, "right", "top"), Wires(0.0, 3.0, 200.0, 0.0, "left", "top")],
)
def test_training_stays_within_the_tolerance(kind, tolerance, wires):
    m, n, steps = 24, 32, 40
    rng = np.random.default_rng(7)
    g = cells(m, n, seed=8)
    matrix = EffectiveMatrix(g, wires, tolerance=tolerance, rng=rng)
    np.testing.assert_array_equal(matrix.effective, effective_conductance(g, wires))
    for _ in range(steps):
        g = np.clip(g + moves(kind, m, n, rng), 1e-6, 1e-4)
        exact = effective_conductance(g, wires)
        error = np.linalg.norm(matrix.update(g) - exact) / np.linalg.norm(exact)
        assert error <= tolerance
    assert matrix.state["solves"] < steps  # it is worth its keep
    assert matrix.state["checks"] >= 1


def test_the_estimate_measures_the_error():
    """With many probes the estimate is the Frobenius error: here 60, and 5 sigma of 1 / sqrt(2 * 60) are 46%."""
    g, wires = cells(40, 30), Wires(3.0, 3.0, 100.0, 20.0)
    matrix = EffectiveMatrix(g, wires, tolerance=1.0, rng=np.random.default_rng(1), probes=60)
    moved = np.clip(g + 1e-5, 0, 1e-4)
    exact = effective_conductance(moved, wires)
    error = np.linalg.norm(matrix.update(moved) - exact) / np.linalg.norm(exact)
    assert matrix.state["solves"] == 1
    assert error > 1e-4
    assert matrix.error == pytest.approx(error, rel=0.46)


def test_a_jump_is_solved_exactly():
    g, wires = cells(12, 15), Wires(30.0, 30.0)
    matrix = EffectiveMatrix(g, wires, tolerance=1e-6, rng=np.random.default_rng(1))
    jumped = cells(12, 15, seed=99)
    np.testing.assert_array_equal(matrix.update(jumped), effective_conductance(jumped, wires))
    assert (matrix.error, matrix.state["solves"]) == (0.0, 2)


def test_unchanged_cells_cost_no_solve():
    g = cells(12, 15)
    matrix = EffectiveMatrix(g, Wires(3.0, 3.0), tolerance=1e-6, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(matrix.update(g), effective_conductance(g, Wires(3.0, 3.0)))
    assert matrix.state["solves"] == 1


def test_state_continues_bit_for_bit():
    g, wires, rng = cells(12, 15), Wires(3.0, 3.0, 50.0), np.random.default_rng(3)
    first = EffectiveMatrix(g, wires, tolerance=1e-3, rng=np.random.default_rng(1))
    g = g + moves("all", 12, 15, rng) * (g > 1e-5)
    first.update(g)
    second = EffectiveMatrix(cells(12, 15, seed=50), wires, tolerance=1e-3, rng=np.random.default_rng(2))
    second.state = {name: np.copy(value) if np.ndim(value) else value for name, value in first.state.items()}
    for _ in range(10):
        g = np.clip(g + moves("all", 12, 15, rng), 1e-6, 1e-4)
        np.testing.assert_array_equal(first.update(g), second.update(g))
    assert first.state["solves"] == second.state["solves"]


def test_bad_tolerance_probes_and_shape():
    for tolerance in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="tolerance is"):
            EffectiveMatrix(cells(2, 2), Wires(), tolerance=tolerance, rng=np.random.default_rng(1))
    with pytest.raises(ConfigError, match="at least one"):
        EffectiveMatrix(cells(2, 2), Wires(), tolerance=0.1, rng=np.random.default_rng(1), probes=0)
    matrix = EffectiveMatrix(cells(2, 3), Wires(), tolerance=0.1, rng=np.random.default_rng(1))
    with pytest.raises(ShapeError, match="this crossbar has"):
        matrix.update(cells(3, 2))

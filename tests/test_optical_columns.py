"""Fast columns against the array functions: light both ways, and the readings of all power meters, in single precision.

Run time: about 1 s.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from optical_reference import fabricate

from hwsim.devices.optical import columns
from hwsim.devices.optical.decomposition import TURN, Kind, Layout, Shifters
from hwsim.devices.optical.imperfections import Imperfections, realised
from hwsim.devices.optical.insitu import Monitor, measured_gradient
from hwsim.devices.optical.mesh import Mesh, ideal_mesh, matrix, trace
from hwsim.errors import ShapeError

Host = np.ndarray[Any, Any]
FAULTY = Imperfections(splitter_sigma=0.05, phase_sigma=0.1, loss_db=0.1, loss_sigma_db=0.05)


def mesh_of(n: int, kind: Kind, imperfections: Imperfections = FAULTY) -> Mesh:
    layout, rng = Layout(kind, n), np.random.default_rng(n)
    phases = Shifters(*(rng.uniform(0, TURN, size) for size in (layout.mzis, layout.mzis, n)))
    return realised(np, fabricate(np, layout, imperfections, rng), phases)


def powers(mesh: Mesh, light: Host) -> Host:
    """|field|^2 behind every shifter, in double precision: theta, phi and output after each other."""
    return np.concatenate([np.abs(part) ** 2 for part in trace(np, mesh, light)[1]])


def fields(n: int, m: int, seed: int = 0) -> Host:
    parts = np.random.default_rng(seed).standard_normal((2, n, m))
    return np.asarray(parts[0] + 1j * parts[1])


@pytest.mark.parametrize("kind", ["clements", "reck"])
@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_columns_are_the_mesh(kind: Kind, n: int) -> None:
    """Fields and powers to 1e-5: float32 through up to 21 columns."""
    mesh, x, g = mesh_of(n, kind), fields(n, 9), fields(n, 9, seed=1)
    packed, whole = columns.pack(mesh), matrix(np, mesh)
    leaving = columns.propagate(packed, x)
    assert leaving.dtype == np.complex64
    assert_allclose(leaving, whole @ x, atol=1e-5)
    assert_allclose(columns.propagate_back(packed, g), whole.T @ g, atol=1e-5)
    weights = np.random.default_rng(2).uniform(0.5, 2, 9)
    found = columns.compared(packed, (x, g), columns.Meters(0, 0), weights, np.random.default_rng(0))
    expected = (powers(mesh, x) - powers(mesh, g)) @ weights
    assert_allclose(np.concatenate(found), expected, atol=1e-5 * np.abs(expected).max())


def test_real_inputs_and_a_large_mesh() -> None:
    """64 modes, float32 in: reciprocity x^T (U^T g) = g^T (U x) holds to single precision."""
    packed, rng = columns.pack(mesh_of(64, "clements")), np.random.default_rng(1)
    x, g = rng.standard_normal((2, 64, 5)).astype(np.float32)
    leaving, returned = columns.propagate(packed, x), columns.propagate_back(packed, g)
    scale = np.linalg.norm(x, axis=0) * np.linalg.norm(g, axis=0)
    assert_allclose((x * returned).sum(axis=0) / scale, (g * leaving).sum(axis=0) / scale, atol=1e-5)


def test_readings_are_as_noisy_as_is_said() -> None:
    """Each sum of 8 vectors and two lights is off by sigma sqrt(2 sum of weights^2): 500 repeats of 25 sums, 5 sigma.

    And no reading's noise is another's: neighbours among shifters, and calls, at 5 sigma of 1 / sqrt(number).
    """
    mesh, x, g = mesh_of(5, "clements"), fields(5, 8), fields(5, 8, seed=1)
    packed, weights, rng = columns.pack(mesh), np.arange(1.0, 9), np.random.default_rng(0)
    clean = np.concatenate(columns.compared(packed, (x, g), columns.Meters(0, 0), weights, rng))
    meters = columns.Meters(0.5, 0)
    found = np.stack([np.concatenate(columns.compared(packed, (x, g), meters, weights, rng)) for _ in range(500)])
    z = (found - clean) / (0.5 * math.sqrt(2 * (weights**2).sum()))
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    assert abs((z**2).mean() - 1) < 5 * math.sqrt(2 / z.size)
    for a, b in ((z[1:], z[:-1]), (z[:, 1:], z[:, :-1]), (z[:, :10], z[:, 10:20])):
        assert abs((a * b).mean()) < 5 / math.sqrt(a.size)


def test_bits_round_by_the_largest_of_each_meter() -> None:
    """3 levels either side of 0, one mode, powers 9, 4, .01 against dark: 9, 3 and 0 times the weights 1, 10, 100."""
    layout = Layout("clements", 1)
    packed = columns.pack(ideal_mesh(np, layout, Shifters(np.zeros(0), np.zeros(0), np.array([0.3]))))
    x, weights = np.array([[3.0, 2, 0.1]]), np.array([1.0, 10, 100])
    found = columns.compared(packed, (x, 0 * x), columns.Meters(0, 3), weights, np.random.default_rng(0))
    assert_allclose(found.output, [9 + 30], rtol=1e-6)


@pytest.mark.parametrize("bits", [math.inf, 8])
def test_gradients_by_kernels_and_by_arrays(bits: float) -> None:
    """Two readings of a lossy mesh, float32 and double: 1e-4 of the largest; 2% where 8 bits may round another way."""
    mesh = mesh_of(12, "clements")
    rng = np.random.default_rng(3)
    x, g = rng.standard_normal((12, 20)), 0.01 * rng.standard_normal((12, 20))
    monitor = Monitor(bits=bits)
    single, double = (
        measured_gradient(np, mesh, x.astype(kind), g.astype(kind), monitor, rng, readings=2)
        for kind in (np.float32, np.float64)
    )
    assert (single.theta != double.theta).any()  # two ways of computing
    largest = max(np.abs(part).max() for part in double)
    for a, b in zip(single, double, strict=True):
        assert_allclose(a, b, atol=(1e-4 if bits > 8 else 0.02) * largest)


def test_columns_refuse() -> None:
    with pytest.raises(ShapeError, match=r"takes \[3, m\], modes first"):
        columns.propagate(columns.pack(mesh_of(3, "clements")), np.ones((4, 2)))

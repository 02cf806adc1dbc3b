"""Fast columns against the array functions: products, errors sent back and all gradients, in single precision."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hwsim.devices.optical import columns
from hwsim.devices.optical.decomposition import TURN, Kind, Layout, Shifters
from hwsim.devices.optical.imperfections import Imperfections, fabricate, realised
from hwsim.devices.optical.mesh import Mesh, matrix, propagate
from hwsim.errors import ConfigError, ShapeError

Host = np.ndarray[Any, Any]
FAULTY = Imperfections(splitter_sigma=0.05, phase_sigma=0.1, loss_db=0.1, loss_sigma_db=0.05)


def mesh_of(n: int, kind: Kind, imperfections: Imperfections = FAULTY) -> Mesh:
    layout, rng = Layout(kind, n), np.random.default_rng(n)
    phases = Shifters(*(rng.uniform(0, TURN, size) for size in (layout.mzis, layout.mzis, n)))
    return realised(np, fabricate(np, layout, imperfections, rng), phases)


def differences(mesh: Mesh, x: Host, g: Host) -> Shifters:
    """Central differences of Re sum g (U x) in double precision, phase after phase."""
    h, parts = 1e-5, []
    for name, part in mesh.phases._asdict().items():
        slopes = np.empty(part.size)
        for i in range(part.size):
            ends = []
            for sign in (1, -1):
                moved = part.copy()
                moved[i] += sign * h
                changed = mesh.with_phases(mesh.phases._replace(**{name: moved}))
                ends.append((g * propagate(np, changed, x)).sum().real)
            slopes[i] = (ends[0] - ends[1]) / (2 * h)
        parts.append(slopes)
    return Shifters(*parts)


@pytest.mark.parametrize("kind", ["clements", "reck"])
@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_columns_are_the_mesh(kind: Kind, n: int) -> None:
    """Fields to 1e-5, gradients to 1e-4 of the largest: float32 through up to 21 columns that are then undone."""
    mesh, rng = mesh_of(n, kind), np.random.default_rng(0)
    x = rng.standard_normal((n, 9)) + 1j * rng.standard_normal((n, 9))
    g = rng.standard_normal((n, 9)) + 1j * rng.standard_normal((n, 9))
    packed, whole = columns.pack(mesh), matrix(np, mesh)
    leaving = columns.propagate(packed, x)
    assert leaving.dtype == np.complex64
    assert_allclose(leaving, whole @ x, atol=1e-5)
    assert_allclose(columns.propagate_back(packed, g), whole.T @ g, atol=1e-5)
    returned, gradient = columns.backpropagate(packed, leaving, g)
    assert_allclose(returned, whole.T @ g, atol=1e-5)
    expected = differences(mesh, x, g)
    largest = max(np.abs(part).max() for part in expected if part.size)
    for found, slopes in zip(gradient, expected, strict=True):
        assert_allclose(found, slopes, atol=1e-4 * largest)


def test_real_inputs_and_a_large_mesh() -> None:
    """64 modes, float32 in: reciprocity x^T (U^T g) = g^T (U x) holds to single precision."""
    packed, rng = columns.pack(mesh_of(64, "clements")), np.random.default_rng(1)
    x, g = rng.standard_normal((2, 64, 5)).astype(np.float32)
    leaving = columns.propagate(packed, x)
    returned, _ = columns.backpropagate(packed, leaving, g)
    scale = np.linalg.norm(x, axis=0) * np.linalg.norm(g, axis=0)
    assert_allclose((x * returned).sum(axis=0) / scale, (g * leaving).sum(axis=0) / scale, atol=1e-5)
    assert_allclose(returned, columns.propagate_back(packed, g), atol=1e-5)


def test_columns_refuse() -> None:
    mesh = mesh_of(3, "clements")
    packed = columns.pack(mesh)
    with pytest.raises(ShapeError, match=r"takes \[3, m\], modes first"):
        columns.propagate(packed, np.ones((4, 2)))
    with pytest.raises(ShapeError, match=r"shape \(3, 2\) and the errors \(3, 1\)"):
        columns.backpropagate(packed, np.ones((3, 2)), np.ones((3, 1)))
    with pytest.raises(ConfigError, match="passes no light"):
        columns.pack(dataclasses.replace(mesh, transmission=0 * mesh.transmission))

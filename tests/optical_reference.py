"""What tests of meshes measure by: chips from one generator, gradients from fields that no meter sees, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.devices.optical.decomposition import Layout, Shifters
from hwsim.devices.optical.imperfections import Fabrication, Imperfections, fabricated, standard_draws
from hwsim.devices.optical.mesh import Mesh, trace, trace_back

Host = np.ndarray[Any, Any]


def fabricate(xp: Any, layout: Layout, imperfections: Imperfections, rng: Any) -> Fabrication:
    """A chip whose errors are drawn from `rng`."""
    return fabricated(xp, layout, imperfections, *standard_draws(layout, rng))


def field_gradient(mesh: Mesh, x: Host, g: Host) -> Shifters:
    """dL/dphase [mzis], [mzis], [n] of Re sum g (U x), over a batch: -Im(f b) of the fields at each shifter."""
    forward, backward = trace(np, mesh, x)[1], trace_back(np, mesh, g)[1]
    return Shifters(*(-(f * b).imag.sum(axis=1) for f, b in zip(forward, backward, strict=True)))


def gradient_error(measured: Shifters, exact: Shifters) -> tuple[float, float]:
    """How wrong a gradient is over all shifters of a mesh: |difference| / |exact|, and their cosine."""
    found, wanted = (np.concatenate(list(part)) for part in (measured, exact))
    size, length = np.linalg.norm(wanted), np.linalg.norm(found)
    return float(np.linalg.norm(found - wanted) / size), float(found @ wanted / (size * length))

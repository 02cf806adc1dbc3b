"""A mesh on the processor, fast: forwards, backwards and all gradients of phases in one pass each.

The fields inside are not kept: on the way back every MZI is undone, which its fields before and behind allow (no MZI
is without transmission), while the error passes it in the same direction. So all work stays in the second-level
cache. Single precision: at 256 modes gradients agree with mesh.py to 3e-5 of the largest.
"""

from __future__ import annotations

import importlib
import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from hwsim.devices.optical.decomposition import Layout, Shifters
from hwsim.devices.optical.mesh import Mesh
from hwsim.errors import ConfigError, ShapeError

Host = np.ndarray[Any, Any]


class Packed(NamedTuple):
    """A mesh as the kernels read it; made once for each set of phases."""

    layout: Layout
    columns: Host  # [columns, 2]: first mode and count of MZIs
    cells: Host  # [mzis, 8] float32: T, real and imaginary
    parts: Host  # [mzis, 10] float32: cosines and sines of splitters, theta and phi; transmission and its inverse
    output: Host  # [n, 2] float32: cosines and sines
    bypass: Any


def pack(mesh: Mesh) -> Packed:
    """A mesh of NumPy arrays, for the functions below. Raises ConfigError where an MZI lets no light through."""
    if not ((mesh.transmission > 0).all() and mesh.bypass > 0):
        raise ConfigError("an MZI or a bypass passes no light, and cannot be undone; use trace in mesh.py")
    angles = (math.pi / 4 + mesh.splitter_in, math.pi / 4 + mesh.splitter_out, mesh.phases.theta, mesh.phases.phi)
    parts = np.empty((10, mesh.layout.mzis), np.float32)
    for i, angle in enumerate(angles):
        parts[2 * i], parts[2 * i + 1] = _waves(angle)
    parts[8], parts[9] = mesh.transmission, 1 / mesh.transmission
    return Packed(
        mesh.layout,
        np.array(mesh.layout.columns, np.int64).reshape(-1, 2),
        np.ascontiguousarray(_cells(parts).T),
        np.ascontiguousarray(parts.T),
        np.stack(_waves(mesh.phases.output), axis=1),
        np.float32(mesh.bypass),
    )


def propagate(packed: Packed, fields: Host) -> Host:
    """U f: complex64 [n, m] for fields [n, m]."""
    re, im = _split(packed, fields)
    _kernels().forward(packed.columns, packed.cells, packed.output, packed.bypass, re, im)
    return _joined(re, im)


def propagate_back(packed: Packed, fields: Host) -> Host:
    """U^T f: complex64 [n, m] for fields [n, m] that enter at the outputs."""
    re, im = _split(packed, fields)
    transposed = packed.cells[:, [0, 1, 4, 5, 2, 3, 6, 7]]
    _kernels().returning(packed.columns, transposed, packed.output, packed.bypass, re, im)
    return _joined(re, im)


def backpropagate(packed: Packed, leaving: Host, g: Host) -> tuple[Host, Shifters]:
    """U^T g [n, m] complex64, and dL/dphase of every shifter, float32, summed over the batch.

    `leaving` [n, m] is what `propagate` gave; dL = Re sum g dY.
    """
    fr, fi = _split(packed, leaving)
    gr, gi = _split(packed, g)
    if gr.shape != fr.shape:
        raise ShapeError(f"the fields have shape {fr.shape} and the errors {gr.shape}; they need the same")
    theta, phi = np.empty((2, packed.layout.mzis), np.float32)
    ends = np.empty(packed.layout.n, np.float32)
    _kernels().backward(
        packed.columns, packed.parts, packed.output, packed.bypass, fr, fi, gr, gi, theta, phi, ends
    )  # fmt: skip
    return _joined(gr, gi), Shifters(theta, phi, ends)


def _waves(angle: Host) -> tuple[Host, Host]:
    """Cosine and sine, float32."""
    single = angle.astype(np.float32)
    return np.cos(single), np.sin(single)


def _cells(parts: Host) -> Host:
    """T of every MZI [8, mzis], real and imaginary, written out from splitters, shifters and transmission."""
    ca, sa, cb, sb, ct, st, cp, sp, t, _ = parts
    upper, lower, first, last = t * cb * ca, t * sb * sa, t * sb * ca, t * cb * sa
    cells = np.empty((8, parts.shape[1]), np.float32)
    re, im = upper * ct - lower, upper * st
    cells[0], cells[1] = cp * re - sp * im, cp * im + sp * re
    cells[2], cells[3] = -last * st, last * ct + first
    re, im = -first * st, first * ct + last
    cells[4], cells[5] = cp * re - sp * im, cp * im + sp * re
    cells[6], cells[7] = upper - lower * ct, -lower * st
    return cells


def _split(packed: Packed, fields: Host) -> tuple[Host, Host]:
    """Real and imaginary part as new float32 arrays. Raises ShapeError where the fields do not fit."""
    if fields.ndim != 2 or fields.shape[0] != packed.layout.n:
        raise ShapeError(f"fields have shape {fields.shape}; this mesh takes [{packed.layout.n}, m], modes first")
    re = np.array(fields.real, np.float32, order="C")
    return re, np.array(fields.imag, np.float32, order="C") if fields.dtype.kind == "c" else np.zeros_like(re)


def _joined(re: Host, im: Host) -> Host:
    """One complex64 array."""
    joined = np.empty(re.shape, np.complex64)
    joined.real, joined.imag = re, im
    return joined


@cache
def _kernels() -> Any:
    """The module of Numba kernels, imported on first use."""
    return importlib.import_module("hwsim.devices.optical.kernels")

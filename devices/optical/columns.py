"""A mesh on the processor, fast: forwards, backwards, and the readings of all its power meters in one pass each.

The fields inside are not kept: what meters read is summed over the batch on the way. So all work stays in the
second-level cache. Single precision.
"""

from __future__ import annotations

import importlib
import math
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from hwsim.devices.optical.decomposition import Layout, Shifters
from hwsim.devices.optical.mesh import Mesh
from hwsim.errors import ShapeError

Host = np.ndarray[Any, Any]


class Packed(NamedTuple):
    """A mesh as the kernels read it; made once for each set of phases."""

    layout: Layout
    columns: Host  # [columns, 2]: first mode and count of MZIs
    cells: Host  # [mzis, 8] float32: T, real and imaginary
    parts: Host  # [mzis, 4] float32: cosine and sine of the first splitter, and of phi
    output: Host  # [n, 2] float32: cosines and sines
    bypass: Any


@lru_cache(maxsize=64)  # a mesh is packed once for all lights that pass it
def pack(mesh: Mesh) -> Packed:
    """A mesh of NumPy arrays, for the functions below."""
    angles = (math.pi / 4 + mesh.splitter_in, mesh.phases.phi, math.pi / 4 + mesh.splitter_out, mesh.phases.theta)
    cosines, sines = _waves(np.array(angles))
    parts = np.stack([cosines[0], sines[0], cosines[1], sines[1]], axis=1)
    return Packed(
        mesh.layout,
        np.array(mesh.layout.columns, np.int64).reshape(-1, 2),
        _cells(cosines, sines, mesh.transmission.astype(np.float32)),
        parts,
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


class Meters(NamedTuple):
    """Power meters: `sigma` of a reading, and the `levels` of their ADCs to either side of 0; 0: exact."""

    sigma: float
    levels: float


EXACT = Meters(0.0, 0.0)


def compared(packed: Packed, lights: tuple[Host, Host], meters: Meters, weights: Host, rng: Any) -> Shifters:
    """At every shifter the power that the first light [n, m] is read to have, less the second's, times `weights` [m].

    Float32, summed over the batch. The ADC of a meter has its largest reading of a light as its range. The noise of
    each reading is a number of its own in a stream whose key comes from the generator.
    """
    fields = [_split(packed, light) for light in lights]
    re, im = (np.stack(part) for part in zip(*fields, strict=True))
    theta, phi = np.empty((2, packed.layout.mzis), np.float32)
    ends = np.empty(packed.layout.n, np.float32)
    mesh = packed.columns, packed.cells, packed.parts, packed.bypass, re, im
    found, single = (theta, phi, ends), weights.astype(np.float32)
    if meters == EXACT:
        _kernels().powers(*mesh, single, *found)
    else:
        noise = np.float32(meters.sigma), np.uint64(rng.bit_generator.random_raw()), np.float32(meters.levels)
        _kernels().meters(*mesh, *noise, single, *found)
    return Shifters(*found)


def _waves(angle: Host) -> tuple[Host, Host]:
    """Cosine and sine, float32."""
    single = angle.astype(np.float32)
    return np.cos(single), np.sin(single)


def _cells(cosines: Host, sines: Host, t: Host) -> Host:
    """T of every MZI [mzis, 8], real and imaginary, from the waves of splitter, phi, splitter, theta; t transmitted."""
    (ca, cp, cb, ct), (sa, sp, sb, st) = cosines, sines
    upper, lower, first, last = t * cb * ca, t * sb * sa, t * sb * ca, t * cb * sa
    cells = np.empty((8, t.size), np.float32)
    re, im = upper * ct - lower, upper * st
    cells[0], cells[1] = cp * re - sp * im, cp * im + sp * re
    cells[2], cells[3] = -last * st, last * ct + first
    re, im = -first * st, first * ct + last
    cells[4], cells[5] = cp * re - sp * im, cp * im + sp * re
    cells[6], cells[7] = upper - lower * ct, -lower * st
    return np.ascontiguousarray(cells.T)


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

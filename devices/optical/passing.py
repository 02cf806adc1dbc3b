"""Light through one mesh, forwards and backwards: by column kernels where they are, else by array functions."""

from __future__ import annotations

import numpy as np

from hwsim.arrays import Array, Namespace
from hwsim.devices.optical import columns, mesh
from hwsim.devices.optical.mesh import Mesh


def by_kernels(xp: Namespace, fields: Array) -> bool:
    """Whether these fields pass by the column kernels: single precision, on the processor."""
    return xp is np and fields.dtype in (np.float32, np.complex64)


def forward(xp: Namespace, through: Mesh, fields: Array) -> Array:
    """U f, complex [n, m] for fields [n, m]."""
    if by_kernels(xp, fields):
        return columns.propagate(columns.pack(through), fields)
    return mesh.propagate(xp, through, fields)


def backward(xp: Namespace, through: Mesh, fields: Array) -> Array:
    """U^T f, complex [n, m] for fields [n, m] that enter at the outputs."""
    if by_kernels(xp, fields):
        return columns.propagate_back(columns.pack(through), fields)
    return mesh.propagate_back(xp, through, fields)

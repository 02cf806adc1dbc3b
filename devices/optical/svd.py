"""Any matrix on a chip: two meshes with attenuators between them.

w^T = scale U diag(s) V with U and V unitary (singular value decomposition). Attenuators are passive, so s <= 1 and
the scale, the largest singular value or more, is applied to the readings in electronics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hwsim.arrays import Array, Namespace, to_host
from hwsim.devices.optical import passing
from hwsim.devices.optical.decomposition import Kind, Layout, Shifters, decompose
from hwsim.devices.optical.mesh import Mesh
from hwsim.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class Factors:
    """What a matrix asks of a chip: the layouts and phases of both meshes, attenuations [min(k, n)] and the scale."""

    first: tuple[Layout, Shifters]  # of k modes
    attenuation: Array  # amplitude transmissions, 0 to 1
    second: tuple[Layout, Shifters]  # of n modes
    scale: float


@dataclass(frozen=True)
class SvdMesh:
    """The chip: what a vector of k values passes on its way to n values."""

    first: Mesh
    attenuation: Array
    second: Mesh
    scale: float


def factorise(
    xp: Namespace, w: Array, kind: Kind = "clements", scale: float | None = None, *, saturate: bool = False
) -> Factors:
    """Phases and attenuations for w [k, n]; scale None: the largest singular value (1 for a matrix of zeros).

    `saturate`: attenuators that would have to amplify pass all light instead. Otherwise raises ConfigError for those,
    and ShapeError where w is no finite matrix.
    """
    host = np.asarray(to_host(w), dtype=np.float64 if to_host(w).dtype.kind != "c" else np.complex128)
    if host.ndim != 2 or not np.isfinite(host).all():
        raise ShapeError(f"a chip holds one finite matrix [k, n]; got shape {host.shape} or values that are not finite")
    u, s, v = np.linalg.svd(host.T)
    largest = float(s[0])
    chosen = scale if scale is not None else (largest or 1.0)
    if not (chosen >= largest or saturate) or chosen <= 0:
        raise ConfigError(
            f"scale={chosen:g}: no passive chip holds a matrix with the singular value {largest:g} at this scale; "
            f"choose {largest:g} or more, or None"
        )
    (first, first_phases), (second, second_phases) = decompose(v, kind), decompose(u, kind)
    return Factors(
        (first, Shifters(*(xp.asarray(part) for part in first_phases))),
        xp.asarray(np.minimum(s / chosen, 1.0)),
        (second, Shifters(*(xp.asarray(part) for part in second_phases))),
        chosen,
    )


def between(xp: Namespace, chip: SvdMesh, fields: Array, modes: int) -> Array:
    """Attenuated fields [n, m] or [k, m] as they enter a mesh of `modes` modes; the other modes are dark."""
    lit = len(chip.attenuation)
    passed = xp.zeros((modes, fields.shape[1]), fields.dtype)
    passed[:lit] = chip.attenuation.astype(fields.real.dtype)[:, None] * fields[:lit]
    return passed


def forward(xp: Namespace, chip: SvdMesh, fields: Array) -> Array:
    """w^T f: fields [k, m] to [n, m], complex, scale included."""
    inner = between(xp, chip, passing.forward(xp, chip.first, fields), chip.second.layout.n)
    return chip.scale * passing.forward(xp, chip.second, inner)


def backward(xp: Namespace, chip: SvdMesh, fields: Array) -> Array:
    """w f: fields [n, m] through the chip from behind, to [k, m]; the transpose of `forward`."""
    inner = between(xp, chip, passing.backward(xp, chip.second, fields), chip.first.layout.n)
    return chip.scale * passing.backward(xp, chip.first, inner)


def effective_weights(xp: Namespace, chip: SvdMesh, dtype: Any = "complex128") -> Array:
    """The matrix [k, n] complex that the chip multiplies with, in the precision of `dtype`."""
    first, second = (
        passing.forward(xp, mesh, xp.eye(mesh.layout.n, dtype=dtype)) for mesh in (chip.first, chip.second)
    )
    lit = len(chip.attenuation)
    return ((second[:, :lit] * (chip.scale * chip.attenuation).astype(second.real.dtype)) @ first[:lit]).T

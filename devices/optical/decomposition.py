"""Unitary matrices as meshes of Mach-Zehnder interferometers (MZI): which mesh, and which phases.

One MZI acts on two neighbouring modes, the upper first:

    T = B diag(e^{i theta}, 1) B diag(e^{i phi}, 1),   B = [[1, i], [i, 1]] / sqrt 2
      = i e^{i theta / 2} [[e^{i phi} s, c], [e^{i phi} c, -s]],   s = sin(theta / 2), c = cos(theta / 2)

A mesh is columns of MZIs side by side, then one phase per output mode: U = D T_last ... T_1.

Source: Reck et al., PRL 73, 58 (1994); Clements et al., Optica 3, 1460 (2016). The nulling conditions and the way
left factors pass the diagonal are derived here for this T.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from hwsim.arrays import Array, Namespace
from hwsim.errors import ConfigError, ShapeError

Host = np.ndarray[Any, Any]
Kind = Literal["clements", "reck"]

UNITARY_TOLERANCE = 1e-6  # largest element of |U U^H - 1|: float32 matrices pass, others do not
TURN = 2 * math.pi


class Shifters(NamedTuple):
    """One value or vector per phase shifter of a mesh: inside each MZI, before each MZI, behind each output mode."""

    theta: Array  # [mzis, ...]
    phi: Array  # [mzis, ...]
    output: Array  # [n, ...]


@dataclass(frozen=True)
class Layout:
    """Where the n (n - 1) / 2 MZIs of a mesh of n modes stand.

    clements: n columns, even and odd pairs by turns. reck: a triangle of 2 n - 3 columns. MZIs are numbered column
    by column, from the upper modes down. Raises ConfigError for an unknown kind or less than 1 mode.
    """

    kind: Kind
    n: int

    def __post_init__(self) -> None:
        if self.kind not in ("clements", "reck"):
            raise ConfigError(f"no mesh layout {self.kind!r}; known: clements, reck")
        if self.n < 1:
            raise ConfigError(f"n={self.n}: a mesh needs 1 mode or more")

    @cached_property
    def columns(self) -> tuple[tuple[int, int], ...]:
        """The upper mode of each column's first MZI, and how many MZIs follow at every second mode."""
        n = self.n
        if self.kind == "clements":
            return tuple((c % 2, (n - c % 2) // 2) for c in range(n if n > 1 else 0) if n - c % 2 > 1)
        # MZI i of the chain that ends with row r stands in column 2 (n - 1 - r) + i, i < r.
        return tuple((c % 2, min(c, 2 * n - 4 - c) // 2 + 1) for c in range(2 * n - 3 if n > 1 else 0))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The number of each column's first MZI, and the number of all MZIs."""
        return tuple(np.cumsum([0] + [count for _, count in self.columns]).tolist())

    @property
    def mzis(self) -> int:
        """How many MZIs: n (n - 1) / 2."""
        return self.starts[-1]

    @cached_property
    def column_of(self) -> Host:
        """The column of each MZI [mzis]."""
        return np.repeat(np.arange(len(self.columns)), [count for _, count in self.columns])

    @cached_property
    def mode_of(self) -> Host:
        """The upper mode of each MZI [mzis]."""
        modes = [first + 2 * np.arange(count) for first, count in self.columns]
        return np.concatenate(modes) if modes else np.zeros(0, np.int64)


@cache
def layout_of(kind: Kind, n: int) -> Layout:
    """The layout, made once: its columns are looked up at every programming."""
    return Layout(kind, n)


def wrapped(xp: Namespace, phases: Array) -> Array:
    """Phases brought into [0, 2 pi) by whole turns; a phase that rounds to a whole turn is 0."""
    within = xp.mod(phases, TURN)
    return xp.where(within >= TURN, 0 * within, within)


def decompose(u: Host, kind: Kind = "clements") -> tuple[Layout, Shifters]:
    """The mesh and the phases [rad, 0 to 2 pi] whose matrix is u [n, n], to rounding.

    Raises ShapeError where u is not square, and ConfigError where it is not unitary.
    """
    work = np.array(u, dtype=np.complex128, order="C")
    if work.ndim != 2 or work.shape[0] != work.shape[1]:
        raise ShapeError(f"a mesh needs a square matrix [n, n]; got shape {work.shape}")
    layout = layout_of(kind, len(work))
    off = np.abs(work @ work.conj().T - np.eye(layout.n)).max()
    if not off <= UNITARY_TOLERANCE:
        raise ConfigError(
            f"the matrix is not unitary: |U U^H - 1| reaches {off:.3g}, allowed {UNITARY_TOLERANCE:g}; "
            "a general matrix needs two meshes and attenuators"
        )
    modes, angles = _clements(work) if kind == "clements" else _reck(work)
    phases = np.empty_like(angles)
    if layout.mzis:
        firsts = np.array([first for first, _ in layout.columns])
        phases[:, _kernels().numbers(modes, firsts, np.array(layout.starts), layout.n)] = angles
    theta, phi = phases
    output = np.angle(np.diagonal(work))
    return layout, Shifters(*(wrapped(np, part) for part in (theta, phi, output)))


Steps = tuple[Host, Host]  # upper modes [mzis]; theta and phi [2, mzis]; in the order that light meets them


def _reck(work: Host) -> Steps:
    """Null each row from its left end by MZIs at the input; `work` becomes diagonal."""
    count = len(work) * (len(work) - 1) // 2
    modes, angles = np.empty(count, np.int64), np.empty((2, count))
    if count:
        _kernels().reck(work, modes, angles[0], angles[1])
    return modes, angles


def _clements(work: Host) -> Steps:
    """Null the lower triangle by diagonals, from the input and the output by turns; `work` becomes diagonal."""
    count = len(work) * (len(work) - 1) // 2
    modes, angles = np.empty(count, np.int64), np.empty((2, count))
    if count:
        _kernels().clements(work, modes, angles[0], angles[1])
    return modes, angles


@cache
def _kernels() -> Any:
    """The module of Numba kernels, imported on first use."""
    return importlib.import_module("hwsim.devices.optical.nulling")

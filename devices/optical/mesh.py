"""Light through a mesh of Mach-Zehnder interferometers, forwards and backwards.

Fields are complex arrays [n, m]: modes first, the m vectors of a batch side by side. Forwards a mesh gives U f; light
that enters at the outputs meets the same parts in reverse order and leaves the inputs as U^T f: the transpose, not
the conjugate transpose (reciprocity). With B(x) = [[cos x, i sin x], [i sin x, cos x]] one MZI is

    T = t B(pi/4 + b) diag(e^{i theta}, 1) B(pi/4 + a) diag(e^{i phi}, 1),

a and b the angle errors of its two splitters, t its amplitude transmission. The loop is over columns, which light
passes one after another; all MZIs of a column, and all vectors, are one product.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from hwsim.arrays import Array, Namespace
from hwsim.devices.optical.decomposition import Layout, Shifters
from hwsim.errors import ConfigError, ShapeError


@dataclass(frozen=True, eq=False)
class Mesh:
    """A mesh as it is: phases [rad], splitter errors [rad] and amplitude transmissions of its MZIs [mzis].

    `bypass` is the amplitude transmission of a mode that passes a column beside the MZIs.
    """

    layout: Layout
    phases: Shifters
    splitter_in: Array  # a
    splitter_out: Array  # b
    transmission: Array  # t
    bypass: float = 1.0

    def with_phases(self, phases: Shifters) -> Mesh:
        """This mesh at other phases."""
        return dataclasses.replace(self, phases=phases)


def ideal_mesh(xp: Namespace, layout: Layout, phases: Shifters) -> Mesh:
    """A mesh without loss whose splitters are exact.

    Raises ShapeError where the phases do not fit the layout, and ConfigError where they are not finite.
    """
    expected = (layout.mzis, layout.mzis, layout.n)
    found = tuple(part.size for part in phases)
    if found != expected:
        raise ShapeError(
            f"phases (theta, phi, output) have {found} values; a {layout.kind} mesh of {layout.n} modes has {expected}"
        )
    if not all(bool(xp.isfinite(part).all()) for part in phases):
        raise ConfigError("a phase is NaN or infinite; phases are radians, wrapped into 0 to 2 pi")
    zeros = xp.zeros(layout.mzis)
    return Mesh(layout, phases, zeros, zeros, xp.ones(layout.mzis))


def halves(xp: Namespace, mesh: Mesh) -> tuple[Array, Array]:
    """The MZIs up to the inner arms, and from there on: B_a diag(e^{i phi}, 1), t B_b diag(e^{i theta}, 1).

    Both [mzis, 2, 2] complex; the product of the second and the first is T.
    """
    theta, phi, _ = mesh.phases
    first = _splitters(xp, mesh.splitter_in)
    second = _splitters(xp, mesh.splitter_out) * mesh.transmission[:, None, None]
    first[:, :, 0] *= xp.exp(1j * phi)[:, None]
    second[:, :, 0] *= xp.exp(1j * theta)[:, None]
    return first, second


def transfer(xp: Namespace, mesh: Mesh) -> Array:
    """T of every MZI, [mzis, 2, 2] complex."""
    first, second = halves(xp, mesh)
    return second @ first


def propagate(xp: Namespace, mesh: Mesh, fields: Array) -> Array:
    """U f: what leaves the outputs when `fields` [n, m] enter the inputs, [n, m] complex."""
    light, cells = _entering(xp, mesh, fields), _as(fields, transfer(xp, mesh))
    for column, (first, count) in enumerate(mesh.layout.columns):
        cell = cells[mesh.layout.starts[column] : mesh.layout.starts[column + 1]]
        _through(light, cell, first, count, mesh.bypass)
    light *= _as(fields, xp.exp(1j * mesh.phases.output))[:, None]
    return light


def propagate_back(xp: Namespace, mesh: Mesh, fields: Array) -> Array:
    """U^T f: what leaves the inputs when `fields` [n, m] enter the outputs, [n, m] complex."""
    light, cells = _entering(xp, mesh, fields), _as(fields, transfer(xp, mesh)).swapaxes(1, 2)
    light *= _as(fields, xp.exp(1j * mesh.phases.output))[:, None]
    for column, (first, count) in reversed(list(enumerate(mesh.layout.columns))):
        cell = cells[mesh.layout.starts[column] : mesh.layout.starts[column + 1]]
        _through(light, cell, first, count, mesh.bypass)
    return light


def matrix(xp: Namespace, mesh: Mesh) -> Array:
    """U [n, n]: what the mesh does to unit vectors."""
    return propagate(xp, mesh, xp.eye(mesh.layout.n, dtype=xp.complex128))


def trace(xp: Namespace, mesh: Mesh, fields: Array) -> tuple[Array, Shifters]:
    """U f [n, m], and on the way the field right behind every phase shifter, [mzis, m] and [n, m]."""
    light, m = _entering(xp, mesh, fields), fields.shape[1]
    first_half, second_half = (_as(fields, half) for half in halves(xp, mesh))
    theta, phi, output = (_as(fields, xp.exp(1j * part)) for part in mesh.phases)
    inside, before = (xp.empty((mesh.layout.mzis, m), light.dtype) for _ in range(2))
    for column, (first, count) in enumerate(mesh.layout.columns):
        own = slice(mesh.layout.starts[column], mesh.layout.starts[column + 1])
        pairs = light[first : first + 2 * count].reshape(count, 2, m)
        before[own] = phi[own, None] * pairs[:, 0]
        inner = first_half[own] @ pairs
        inside[own] = theta[own, None] * inner[:, 0]
        light[first : first + 2 * count] = (second_half[own] @ inner).reshape(2 * count, m)
        _beside(light, first, count, mesh.bypass)
    light *= output[:, None]
    return light, Shifters(inside, before, light)


def trace_back(xp: Namespace, mesh: Mesh, fields: Array) -> tuple[Array, Shifters]:
    """U^T f [n, m], and on the way the field that reaches every phase shifter from behind, [mzis, m] and [n, m]."""
    arriving, m = _entering(xp, mesh, fields), fields.shape[1]
    splitters_in = _as(fields, _splitters(xp, mesh.splitter_in))
    splitters_out = _as(fields, _splitters(xp, mesh.splitter_out) * mesh.transmission[:, None, None])
    theta, phi, output = (_as(fields, xp.exp(1j * part)) for part in mesh.phases)
    light = arriving * output[:, None]
    inside, before = (xp.empty((mesh.layout.mzis, m), light.dtype) for _ in range(2))
    for column, (first, count) in reversed(list(enumerate(mesh.layout.columns))):
        own = slice(mesh.layout.starts[column], mesh.layout.starts[column + 1])
        pairs = light[first : first + 2 * count].reshape(count, 2, m)
        inner = splitters_out[own] @ pairs  # a splitter is its own transpose
        inside[own] = inner[:, 0]
        inner[:, 0] *= theta[own, None]
        outer = splitters_in[own] @ inner
        before[own] = outer[:, 0]
        outer[:, 0] *= phi[own, None]
        light[first : first + 2 * count] = outer.reshape(2 * count, m)
        _beside(light, first, count, mesh.bypass)
    return light, Shifters(inside, before, arriving)


def _entering(xp: Namespace, mesh: Mesh, fields: Array) -> Array:
    """A complex copy of `fields`, complex64 for float32 and complex64. Raises ShapeError where it is not [n, m]."""
    if fields.ndim != 2 or fields.shape[0] != mesh.layout.n:
        raise ShapeError(f"fields have shape {tuple(fields.shape)}; this mesh takes [{mesh.layout.n}, m], modes first")
    single = fields.dtype in (xp.float32, xp.complex64)
    return xp.array(fields, dtype=xp.complex64 if single else xp.complex128, order="C")


def _as(fields: Array, values: Array) -> Array:
    """Complex `values` in the precision that goes with `fields`."""
    return values.astype("complex64") if fields.dtype in ("float32", "complex64") else values


def _splitters(xp: Namespace, errors: Array) -> Array:
    """B(pi/4 + error) [mzis, 2, 2] complex."""
    cells = xp.empty((errors.size, 2, 2), xp.complex128)
    cells[:, 0, 0] = cells[:, 1, 1] = xp.cos(math.pi / 4 + errors)
    cells[:, 0, 1] = cells[:, 1, 0] = 1j * xp.sin(math.pi / 4 + errors)
    return cells


def _through(light: Array, cells: Array, first: int, count: int, bypass: float) -> None:
    """One column: `cells` [count, 2, 2] act on pairs of modes from `first` on, in place."""
    pairs = light[first : first + 2 * count].reshape(count, 2, -1)
    light[first : first + 2 * count] = (cells @ pairs).reshape(2 * count, -1)
    _beside(light, first, count, bypass)


def _beside(light: Array, first: int, count: int, bypass: float) -> None:
    """The modes that pass a column beside its MZIs, in place."""
    if bypass != 1.0:
        light[:first] *= bypass
        light[first + 2 * count :] *= bypass


def amplitude(loss_db: Any) -> Any:
    """Amplitude transmission of a loss in dB of power."""
    return 10.0 ** (-loss_db / 20)

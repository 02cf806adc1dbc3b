"""Converters on both sides of the light: vectors scaled and rounded on their way in, results on their way out.

Array functions for any library and any stack of matrices; float32 matrices on the processor take the kernels of
noisy.py, which do the same in fewer passes, with another order of sums and other draws of the same noise.
"""

from __future__ import annotations

import importlib
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from hwsim.arrays import Array, Namespace


class Sent(NamedTuple):
    """Vectors of size 1, rounded [..., m, k]; their sizes [..., m, 1]; their crests [..., m], and the sum of these."""

    light: Array
    size: Array
    crest: Array
    crests: Array | float


class Noise(NamedTuple):
    """Normal noise of results of vectors of size 1: sigma^2 = spread^2 v + (own y)^2 for a result y.

    Light that is d times dimmer than billed, d = crest / `billed` or 1, makes v = shot d + electronics d^2 + the rest;
    beside another arm, d' of its own, v = shot (d + d') / 2 + electronics d d', and `own` is 0.
    """

    spread: Array  # [..., n], at the light that is billed
    own: float
    crest: Array  # [..., m]
    other: Array | None  # crest of the other arm [..., n]
    billed: float
    shot: float
    electronics: float
    rng: Any


class Received(NamedTuple):
    """Results [..., m, n], and how many of them the ADC clipped."""

    values: Array
    clipped: Array | float


# -- vectors ---------------------------------------------------------------------------------------------------


def send(xp: Namespace, values: Array, bits: int, fields: bool) -> Sent:
    """Vectors [..., m, k] as they leave DACs of `bits` and a laser that gives each the same power.

    A vector's size is its norm where values are `fields`, else the sum of its intensities.
    """
    values = xp.ascontiguousarray(values)  # or the order of sums would depend on where values lie
    if fast(xp, values):
        rows = len(values)
        light, size, crest = np.empty_like(values), np.empty((rows, 1), np.float32), np.empty(rows, np.float32)
        total = _kernels().send(values, light, size, crest, levels(bits), fields)
        return Sent(light, size, crest, total)
    size = sizes(xp, values, fields)
    scaled = values / _or_one(xp, size)
    largest = xp.abs(scaled).max(axis=-1, keepdims=True)
    crest = crests(xp, values, fields)
    return Sent(quantised(xp, scaled, largest, bits), size, crest, crest.sum())


class Columns(NamedTuple):
    """Columns of a matrix as they are sent [..., m, n], their norms [..., n], and their crests [..., n]."""

    light: Array
    norm: Array
    crest: Array


def send_columns(xp: Namespace, values: Array, bits: int) -> Columns:
    """Columns of `values` [..., m, n] each rounded to `bits` of its largest value."""
    values = xp.ascontiguousarray(values)
    if fast(xp, values):
        columns = values.shape[1]
        light, norm, crest = np.empty_like(values), np.empty(columns, np.float32), np.empty(columns, np.float32)
        _kernels().send_columns(values, light, norm, crest, levels(bits))
        return Columns(light, norm, crest)
    light = quantised(xp, values, xp.abs(values).max(axis=-2, keepdims=True), bits)
    return Columns(light, norms(xp, light, -2), crests(xp, light.swapaxes(-1, -2), True))


def sizes(xp: Namespace, values: Array, fields: bool) -> Array:
    """What vectors [..., m, k] are scaled by [..., m, 1]: their norm, or the sum of intensities."""
    if fields:
        return norms(xp, values, -1)[..., None]
    return xp.abs(values).sum(axis=-1, keepdims=True)


def crests(xp: Namespace, values: Array, fields: bool) -> Array:
    """For vectors [..., m, k] the laser power that the largest value needs, over that of the vector, [..., m]."""
    share = xp.abs(values).max(axis=-1) / _or_one(xp, sizes(xp, values, fields)[..., 0])
    return values.shape[-1] * (share**2 if fields else share)


def norms(xp: Namespace, values: Array, axis: int) -> Array:
    """Euclidean norms along an axis; values whose squares no float holds are no exception."""
    largest = xp.abs(values).max(axis=axis, keepdims=True)
    relative = values / _or_one(xp, largest)
    return largest.squeeze(axis) * xp.sqrt((relative * relative).sum(axis=axis))


# -- results ---------------------------------------------------------------------------------------------------


def receive(xp: Namespace, found: Array, size: Array, bits: int, crest: float, noise: Noise | None) -> Received:
    """Results [..., m, n] of vectors of size 1 through `noise` and ADCs, times the vectors' `size`; may reuse `found`.

    All converters of a matrix share one full scale: its largest result, or with `crest` above 0 so many times the RMS,
    where that is less.
    """
    if fast(xp, found):
        found = np.ascontiguousarray(found)
        clipped = _kernels().receive(found, size, *_disturbing(noise), levels(bits), np.float32(crest))
        return Received(found, float(clipped))
    if noise:
        found = found + _drawn(xp, found, noise)
    converted = convert(xp, found, bits, crest)
    return Received(converted.values * size, converted.clipped)


def convert(xp: Namespace, values: Array, bits: int, crest: float) -> Received:
    """Matrices [..., m, n] through ADCs of 2^bits - 1 levels from -full scale to full scale, zero among them."""
    full = xp.abs(values).max(axis=(-2, -1), keepdims=True)
    if crest:
        relative = values / _or_one(xp, full)
        full = full * xp.minimum(1, crest * xp.sqrt((relative**2).mean(axis=(-2, -1), keepdims=True)))
    return Received(quantised(xp, xp.clip(values, -full, full), full, bits), (xp.abs(values) > full).sum())


def quantised(xp: Namespace, values: Array, full: Array, bits: int) -> Array:
    """Values rounded to 2^bits - 1 levels from -full to full; 0 bits: as they are."""
    if bits == 0:
        return values
    step = _or_one(xp, full) * values.dtype.type(2 / (2.0**bits - 2))
    return xp.rint(values / step) * step


def dimming(xp: Namespace, crest: Array, billed: float) -> Array:
    """How much less light than billed vectors get, at their crests: 1 where they need no more."""
    return xp.maximum(crest.dtype.type(1), crest * crest.dtype.type(1 / billed))


def _drawn(xp: Namespace, found: Array, noise: Noise) -> Array:
    """Noise on results [..., m, n]."""
    spread = noise.spread[..., None, :].astype(found.dtype)
    lit = xp.maximum(spread, np.finfo(found.dtype).tiny)  # where nothing is noisy, nothing is lit
    own, kind = found * (found.dtype.type(noise.own) / lit), found.dtype.type
    dim, shot = dimming(xp, noise.crest, noise.billed)[..., None], kind(noise.shot)
    electronics = kind(noise.electronics)
    if noise.other is None:
        grown = shot * dim + electronics * dim * dim + kind(1 - noise.shot - noise.electronics)
    else:
        other = dimming(xp, noise.other, noise.billed)[..., None, :]
        grown = shot / 2 * (dim + other) + electronics * dim * other
    return spread * xp.sqrt(grown + own * own) * noise.rng.standard_normal(found.shape, dtype=found.dtype)


def _or_one(xp: Namespace, values: Array) -> Array:
    """Values, and 1 where they are 0: what is dark needs no scale."""
    return xp.where(values > 0, values, xp.ones_like(values))


# -- kernels ---------------------------------------------------------------------------------------------------

NOWHERE = np.empty(0, np.float32)  # the spread of no noise, the crests of no arm
STILL = (NOWHERE, np.float32(0), NOWHERE, NOWHERE, *3 * (np.float32(0),), np.uint64(0))


def fast(xp: Namespace, values: Array) -> bool:
    """Whether the kernels take these values."""
    return xp is np and values.ndim == 2 and values.dtype == np.float32


@cache
def levels(bits: int) -> Any:
    """Steps from 0 to full scale, float32; 0: no rounding."""
    return np.float32(2.0 ** (bits - 1) - 1 if bits else 0)


def _disturbing(noise: Noise | None) -> tuple[Any, ...]:
    """Noise as the kernel takes it."""
    if noise is None:
        return STILL
    other = NOWHERE if noise.other is None else noise.other
    own, *parts = _singles(noise.own, 1 / noise.billed, noise.shot, noise.electronics)
    return (noise.spread, own, noise.crest, other, *parts, _key(noise.rng))


@lru_cache(maxsize=256)  # devices do not change, and each product asks anew
def _singles(*values: float) -> list[Any]:
    """Float32 numbers."""
    return [np.float32(value) for value in values]


def _key(rng: Any) -> Any:
    """The stream of one matrix's noise: 63 bits from the generator."""
    return np.uint64(rng.bit_generator.random_raw() >> 1)


@cache
def _kernels() -> Any:
    """The module of Numba kernels, imported on first use."""
    return importlib.import_module("hwsim.devices.optical.noisy")

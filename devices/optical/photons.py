"""Products of matrices from counted photons, by intensities: |a| is the light, weights are transmissions.

Weights are shifted and scaled to transmissions from 0 to 1, and one pixel counts the photons of an output: the mean
count of a [m, k] @ b [k, n] is n_max (light @ transmission), where n_max = k photons / sum of the light. Positive
values are sent first and negative ones then, all at the brightness of the whole vector: a rail that is dark adds what
the receiver reads in the dark, which follows the vector's size as all noise does.

Source: Wang et al., Nature Communications 13, 123 (2022); read in its published notebook.
"""

from __future__ import annotations

from typing import Any

from hwsim.arrays import Array, Namespace
from hwsim.devices.optical.receiver import Receiver, count


def intensity_product(xp: Namespace, a: Array, b: Array, photons: Array | float, rng: Any, receiver: Receiver) -> Array:
    """a [m, k] @ b [k, n] by counting; `photons` (one, or [m, 1]) per multiplication at unit transmission.

    The part of b's lowest value is added in electronics, without noise. Vectors of zeros send nothing, and give 0.
    """
    lowest = b.min()
    span = _or_one(xp, b.max() - lowest)
    transmission, electrons = (b - lowest) / span, photons * a.shape[1]
    size = xp.abs(a).sum(axis=1, keepdims=True)
    rails = [xp.maximum(sign * a, 0) / _or_one(xp, size) for sign in (1, -1)]
    counts = [count(xp, electrons * (rail @ transmission), receiver, rng) for rail in rails]
    values = (counts[0] - counts[1]) * (size * span / electrons) + lowest * a.sum(axis=1, keepdims=True)
    return values.astype(a.dtype)


def _or_one(xp: Namespace, values: Array) -> Array:
    """Values, and 1 where they are 0: what is dark needs no scale."""
    return xp.where(values > 0, values, xp.ones_like(values))

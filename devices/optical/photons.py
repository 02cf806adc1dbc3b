"""Products of matrices from counted photons, and the noise that no detector avoids.

Two encodings of a [m, k] @ b [k, n]:

- *Intensities* (Wang et al., Nature Communications 13, 123 (2022); read in its published notebook): a >= 0 is the
  light, b shifted and scaled to transmissions from 0 to 1; one pixel counts the photons of an output.
- *Homodyne* (Hamerly et al., PRX 9, 021032 (2019)): signed fields alpha and beta meet on a beam splitter; the
  difference of two detectors is 2 Re(alpha beta*), summed over k. With n photons per multiplication in both arms
  together and efficiency eta the standard deviation of an output is (derived)

      sigma = |a_i| |b_j| / sqrt(k eta n) sqrt((r + 2 + 1 / r) / 4),

  r the power ratio of the arms: 1 is best. Each vector is scaled to its mean power, so that n holds for each output.

Forward x w, backward dy w^T and gradient x^T dy differ in their operands alone: the same functions give all three.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hwsim.arrays import Array, Namespace
from hwsim.devices.optical.receiver import Receiver, count
from hwsim.errors import ConfigError, ShapeError


class Counted(NamedTuple):
    """A product read from photon counts, and the mean photons detected per multiplication (a 0-d array)."""

    values: Array  # [m, n]
    detected: Array


def intensity_product(
    xp: Namespace,
    a: Array,
    b: Array,
    photons: float,
    rng: Any,
    *,
    efficiency: float = 1.0,
    receiver: Receiver | None = None,
) -> Counted:
    """a [m, k] @ b [k, n] with a >= 0 by counting; `photons` per multiplication at unit transmission, launched.

    The part of b's lowest value is added in electronics, without noise. Raises ShapeError where a < 0, and
    ConfigError for photons or efficiencies out of range.
    """
    _check(photons, efficiency)
    if not bool((a >= 0).all()):
        raise ShapeError("an intensity is below 0 or NaN; this encoding takes a >= 0, signed values need homodyne")
    lowest = b.min()
    span = _or_one(xp, b.max() - lowest)
    peak = _or_one(xp, a.max(axis=1, keepdims=True))
    light, transmission = a / peak, (b - lowest) / span
    brightness = photons * a.shape[1] / _or_one(xp, light.sum(axis=1, keepdims=True))
    found = count(xp, (efficiency * brightness) * (light @ transmission), receiver, rng)
    values = found * (peak * span / (efficiency * brightness)) + lowest * a.sum(axis=1, keepdims=True)
    return Counted(values.astype(a.dtype), found.mean() / a.shape[1])


def homodyne_sigma(
    xp: Namespace, a: Array, b: Array, photons: float, *, efficiency: float = 1.0, power_ratio: float = 1.0
) -> Array:
    """Standard deviation [m, n] of shot noise in a [m, k] @ b [k, n] at `photons` per multiplication."""
    _check(photons, efficiency, power_ratio)
    imbalance = (power_ratio + 2 + 1 / power_ratio) / 4
    rows, columns = _norms(xp, a, 1), _norms(xp, b, 0)
    return rows * (columns * math.sqrt(imbalance / (a.shape[1] * efficiency * photons)))


def homodyne_product(
    xp: Namespace,
    a: Array,
    b: Array,
    photons: float,
    rng: Any,
    *,
    efficiency: float = 1.0,
    power_ratio: float = 1.0,
    receiver: Receiver | None = None,
) -> Array:
    """a [m, k] @ b [k, n] with the noise of homodyne detection as one normal number per output: for many photons.

    `receiver` stands for the pair of detectors and their one amplifier.
    """
    sigma = homodyne_sigma(xp, a, b, photons, efficiency=efficiency, power_ratio=power_ratio)
    if receiver is not None:
        electrons = a.shape[1] * efficiency * photons
        sigma = sigma * math.sqrt(receiver.variance(electrons) / electrons)
    return a @ b + sigma * rng.standard_normal(sigma.shape, dtype=sigma.dtype)


def homodyne_counts(
    xp: Namespace,
    a: Array,
    b: Array,
    photons: float,
    rng: Any,
    *,
    efficiency: float = 1.0,
    power_ratio: float = 1.0,
    receiver: Receiver | None = None,
) -> Counted:
    """a [m, k] @ b [k, n] from two Poisson counts per output: right for any number of photons.

    `receiver` stands for the pair of detectors and their one amplifier.
    """
    _check(photons, efficiency, power_ratio)
    electrons = a.shape[1] * efficiency * photons
    contrast = 2 * math.sqrt(power_ratio) / (1 + power_ratio)
    norms = _norms(xp, a, 1) * _norms(xp, b, 0)
    cosine = xp.clip((a @ b) / _or_one(xp, norms), -1, 1)
    bright, dim = ((electrons / 2) * (1 + sign * contrast * cosine) for sign in (1, -1))
    counts = [count(xp, part, None, rng) for part in (bright, dim)]
    difference = counts[0] - counts[1]
    if receiver is not None:
        other = math.sqrt(receiver.variance(electrons) - electrons)
        difference = difference + other * rng.standard_normal(difference.shape)
    values = difference * (norms / (electrons * contrast))
    return Counted(values.astype(a.dtype), (counts[0] + counts[1]).mean() / a.shape[1])


def _norms(xp: Namespace, values: Array, axis: int) -> Array:
    """Euclidean norms along an axis, which stays."""
    return xp.sqrt((values * values).sum(axis=axis, keepdims=True))


def _or_one(xp: Namespace, values: Array) -> Array:
    """Values, and 1 where they are 0: what is dark needs no scale."""
    return xp.where(values > 0, values, xp.ones_like(values))


def _check(photons: float, efficiency: float, power_ratio: float = 1.0) -> None:
    """Raises ConfigError where no light, or no such detector, could be meant."""
    if not (math.isfinite(photons) and photons > 0):
        raise ConfigError(f"photons={photons}: a product needs a finite number of photons above 0 per multiplication")
    if not 0 < efficiency <= 1:
        raise ConfigError(f"efficiency={efficiency}: needs a share of the photons above 0 and up to 1")
    if not (math.isfinite(power_ratio) and power_ratio > 0):
        raise ConfigError(f"power_ratio={power_ratio}: needs a finite number above 0; 1: equal power in both arms")

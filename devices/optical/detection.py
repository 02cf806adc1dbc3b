"""From vectors to results: converters, the product, and the noise of light that is read.

Every vector is scaled to the power that the laser gives, sent, multiplied, read, and scaled back. A detector's noise in
results is then a number for each output, times the vector's size (derived; n photons detected per multiplication of
k x o values, f^2 all noise of the receiver over shot noise):

    oscillator  a field y e with noise 1/2 (that of the vacuum). A mesh keeps all light of a vector, so that its
                k o n photons give sigma = |x| s / sqrt(k o n) f / 2, s its largest singular value; free space gives
                every output its share, and sums over k by a lens: sigma = |x| w / sqrt(n) f / 2, w the largest weight
    arms        charge from k n photons: sigma = |x| |w_j| / sqrt(k n) f
    balanced    k n photons, shared by a pair of detectors: sigma = sum|x| w / sqrt(k n) f

Beside a local oscillator of e electrons the signal's own shot noise adds (F y^2) / (4 e) to the variance of a result y.
Noise is drawn for each direction, operation and sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hwsim.arrays import Array, Namespace
from hwsim.devices.optical import converting
from hwsim.devices.optical.device import Optics
from hwsim.devices.optical.photons import intensity_product

FIELDS = ("oscillator", "arms")  # a value is a field there, and the power of a vector the sum of squares
VACUUM = 0.5  # standard deviation of one quadrature of a field in units of one photon's


class Read(NamedTuple):
    """Results [..., m, n], how many of them the ADC clipped, how many there were, and the sum of vectors' crests."""

    values: Array
    clipped: Array | float
    total: int
    crest: Array | float


def noise_factor(device: Optics, inner: int, by: str) -> float:
    """f: all noise of a receiver over shot noise, for results that add `inner` products up."""
    electrons = sample_electrons(device, inner, by)
    return math.sqrt(device.variance(electrons, by, inner) / electrons)


def sample_electrons(device: Optics, inner: int, by: str) -> float:
    """What one sample of detection `by` detects, of the signal or of the local oscillator beside it."""
    return device.oscillator_photons if by == "oscillator" else inner * device.detected_photons


def sigma(device: Optics, full: Array, inner: int, outer: int) -> Array:
    """Noise of results for vectors of size 1, for units of `inner` inputs and `outer` outputs.

    `full`: the largest singular value (mesh) or weight; with two arms, the norm of the weights of each output.
    """
    factor = noise_factor(device, inner, device.detection)
    if device.detection == "oscillator":
        values = inner * outer if device.optics == "mesh" else 1
        return full * (VACUUM * factor / math.sqrt(values * device.detected_photons))
    return full * (factor / math.sqrt(inner * device.detected_photons))


def read(
    device: Optics, values: Array, product: Callable[[Array], Array], spread: Array, rng: Any, by: str = ""
) -> Read:
    """`values` [..., m, k] through DAC, `product` (to [..., m, n]), detectors and ADC.

    `spread` [..., n] is the noise of results for vectors of size 1; `by`: the detection, if not the device's own.
    """
    by = by or device.detection
    xp = device.xp
    if device.exact_reading or not values.size:
        return Read(product(values), 0.0, 0, 0.0)
    if converting.fast(xp, values):
        return Read(*converting.through(device, values, product, spread, rng, by))
    size = sizes(xp, values, by)
    scaled = values / xp.where(size > 0, size, xp.ones_like(size))
    light = quantised(xp, scaled, xp.abs(scaled).max(axis=-1, keepdims=True), device.dac_bits)
    found = product(light)
    if device.shot_noise:
        found = detected(device, found, spread[..., None, :].astype(found.dtype), values.shape[-1], rng, by)
    full = xp.abs(found).max(axis=(-2, -1), keepdims=True)
    if device.adc_crest:
        relative = found / xp.where(full > 0, full, xp.ones_like(full))
        full = full * xp.minimum(1, device.adc_crest * xp.sqrt((relative**2).mean(axis=(-2, -1), keepdims=True)))
    clipped = (xp.abs(found) > full).sum()
    found = quantised(xp, xp.clip(found, -full, full), full, device.adc_bits)
    return Read(found * size, clipped, found.size, crest(xp, values, by))


def detected(device: Optics, found: Array, spread: Array, inner: int, rng: Any, by: str) -> Array:
    """Exact results [..., m, n] of vectors of size 1 as detectors read them: normal noise, or counts."""
    xp = device.xp
    if device.level != "photon":
        relative = found * own_noise(device, spread, by)
        return found + spread * xp.sqrt(1 + relative * relative) * rng.standard_normal(found.shape, dtype=found.dtype)
    electrons = sample_electrons(device, inner, by)
    lit = spread > 0
    one = xp.where(lit, spread, xp.ones_like(spread)).astype(xp.float64)
    one = one / noise_factor(device, inner, by)  # a result, over the shot noise in it
    field = found / one
    other = device.variance(electrons, by, inner) - electrons
    if by == "oscillator":
        field = field * VACUUM
        arms = [(math.sqrt(electrons) + sign * field) ** 2 / 2 for sign in (1, -1)]
        other, per = other + (device.excess_factor - 1) * field**2, 2 * math.sqrt(electrons) * VACUUM
    else:
        half = xp.clip(field * math.sqrt(electrons), -electrons, electrons) / 2
        arms, per = [electrons / 2 + half, electrons / 2 - half], math.sqrt(electrons)
    counted = rng.poisson(arms[0]) - rng.poisson(arms[1])
    noisy = counted + other**0.5 * rng.standard_normal(found.shape)
    return xp.where(lit, noisy * (one / per), 0).astype(found.dtype)


def own_noise(device: Optics, spread: Array, by: str) -> Array:
    """The noise of the signal's own light beside a local oscillator, over `spread` and over the result."""
    if by != "oscillator":
        return 0 * spread
    own = math.sqrt(device.excess_factor / device.oscillator_photons) / 2
    return own / device.xp.maximum(spread, np.finfo(spread.dtype).tiny)  # where nothing is noisy, nothing is lit


def counted(device: Optics, values: Array, weights: Array, rng: Any) -> Array:
    """values [m, k] @ weights [k, n] by intensities (Wang et al. 2022): positive values first, negative ones then.

    `detected_photons` are those of a multiplication by the largest weight.
    """
    xp, receiver = device.xp, device.receiver
    parts = [
        intensity_product(xp, rail, weights, device.detected_photons, rng, receiver=receiver).values
        for rail in (xp.maximum(values, 0), xp.maximum(-values, 0))
    ]
    return parts[0] - parts[1]


def sizes(xp: Namespace, values: Array, by: str) -> Array:
    """What vectors [..., m, k] are scaled by [..., m, 1]: their norm, or the sum of intensities."""
    if by in FIELDS:
        return norms(xp, values, -1)[..., None]
    return xp.abs(values).sum(axis=-1, keepdims=True)


def crest(xp: Namespace, values: Array, by: str) -> Array:
    """The sum over vectors [..., m, k] of the laser power that the largest value needs, over that of the vector."""
    largest, size = xp.abs(values).max(axis=-1, keepdims=True), sizes(xp, values, by)
    share = largest / xp.where(size > 0, size, xp.ones_like(size))
    return values.shape[-1] * (share**2 if by in FIELDS else share).sum()


def quantised(xp: Namespace, values: Array, full: Array, bits: int) -> Array:
    """Values rounded to 2^bits - 1 levels from -full to full; 0 bits: as they are."""
    if bits == 0:
        return values
    step = xp.where(full > 0, full, xp.ones_like(full)) * values.dtype.type(2 / (2.0**bits - 2))
    return xp.rint(values / step) * step


def norms(xp: Namespace, weights: Array, axis: int) -> Array:
    """Euclidean norms along an axis; values whose squares no float holds are no exception."""
    largest = xp.abs(weights).max(axis=axis, keepdims=True)
    relative = weights / xp.where(largest > 0, largest, xp.ones_like(largest))
    return largest.squeeze(axis) * xp.sqrt((relative * relative).sum(axis=axis))


def meeting_sigma(device: Optics, norm: Array, inner: int) -> Array:
    """Noise of results of two beams on detectors that add charge up over `inner` pairs, for vectors of size 1."""
    return norm * (noise_factor(device, inner, "arms") / math.sqrt(inner * device.detected_photons))

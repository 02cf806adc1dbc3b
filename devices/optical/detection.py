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

Modulators only attenuate, and the laser is that of the crest that is billed: a vector whose largest value needs d times
that power, d > 1, is sent with 1 / d of the light. In results the variance then grows (derived; p, l and q the parts of
shot noise, laser and electronics in it, d' that of the other arm):

    oscillator  d                               its own shot noise is the variance, and the field is weaker
    balanced    p d + l + q d^2
    arms        p (d + d') / 2 + q d d'         the laser's part, l (d + d')^2 / (4 d d'), is not more: taken into p
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from hwsim.arrays import Array
from hwsim.devices.optical import converting
from hwsim.devices.optical.device import Optics
from hwsim.devices.optical.photons import intensity_product

FIELDS = ("oscillator", "arms")  # a value is a field there, and the power of a vector the sum of squares
VACUUM = 0.5  # standard deviation of one quadrature of a field in units of one photon's


class Shares(NamedTuple):
    """What shot noise, the laser and electronics have in a variance."""

    shot: float
    laser: float
    electronics: float


class Read(NamedTuple):
    """Results [..., m, n], how many of them the ADC clipped, how many there were, and the sum of vectors' crests."""

    values: Array
    clipped: Array | float
    total: int
    crest: Array | float


@lru_cache(maxsize=256)  # devices do not change, and each product asks anew
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


@lru_cache(maxsize=256)
def shares(device: Optics, inner: int, by: str) -> Shares:
    """The parts of a receiver's variance, for results that add `inner` products up."""
    electrons = sample_electrons(device, inner, by)
    whole, electronics = (device.variance(light, by, inner) for light in (electrons, 0.0))
    shot = device.excess_factor * electrons
    return Shares(shot / whole, (whole - electronics - shot) / whole, electronics / whole)


def read(
    device: Optics,
    values: Array,
    product: Callable[[Array], Array],
    spread: Array,
    rng: Any,
    by: str = "",
    other: Array | None = None,
) -> Read:
    """`values` [..., m, k] through DAC, `product` (to [..., m, n]), detectors and ADC.

    `spread` [..., n] is the noise of results for vectors of size 1; `by`: the detection, if not the device's own;
    `other` [..., n]: the crests of the other arm, where there are two.
    """
    xp, inner, by = device.xp, values.shape[-1], by or device.detection
    if device.exact_reading or not values.size:
        return Read(product(values), 0.0, 0, 0.0)
    light, size, crest, crests = converting.send(xp, values, device.dac_bits, by in FIELDS)
    found, noise = product(light), None
    if device.shot_noise and by != "intensity":  # whose counts are the product already
        if device.level == "photon":
            found = detected(device, found, spread, inner, rng, by, crest, other)
        else:
            noise = normal_noise(device, spread, inner, rng, by, crest, other)
    received = converting.receive(xp, found, size, device.adc_bits, device.adc_crest, noise)
    return Read(received.values, received.clipped, found.size, crests)


def meeting(device: Optics, x: Array, dy: Array, rng: Any) -> Read:
    """x'dy for x [..., m, k] and dy [..., m, n], both as light; charge adds up over the batch."""
    errors, norm, crest = converting.send_columns(device.xp, dy, device.dac_bits)
    inner = x.shape[-2]
    spread = norm * (noise_factor(device, inner, "arms") / math.sqrt(inner * device.detected_photons))
    return read(device, x.swapaxes(-1, -2), lambda light: light @ errors, spread, rng, "arms", crest)


def normal_noise(
    device: Optics, spread: Array, inner: int, rng: Any, by: str, crest: Array, other: Array | None
) -> converting.Noise:
    """The noise of results [..., m, n] of vectors of the crests [..., m], the other arm's [..., n]."""
    own, shot, electronics = own_light_and_shares(device, inner, by)
    return converting.Noise(spread, own, crest, other, device.crest.nominal, shot, electronics, rng)


@lru_cache(maxsize=256)
def own_light_and_shares(device: Optics, inner: int, by: str) -> tuple[float, float, float]:
    """Noise of a result by its own light, and what parts of the rest grow with dimness and with its square."""
    if by == "oscillator":
        return math.sqrt(device.excess_factor / device.oscillator_photons) / 2, 1.0, 0.0
    part = shares(device, inner, by)
    return 0.0, part.shot + (part.laser if by == "arms" else 0.0), part.electronics


def detected(
    device: Optics, found: Array, spread: Array, inner: int, rng: Any, by: str, crest: Array, other: Array | None
) -> Array:
    """Exact results [..., m, n] of vectors of size 1 as detectors count them.

    `spread` [..., n] is their noise at full light; `crest` [..., m] is the vectors', `other` [..., n] the other arm's.
    """
    xp, full = device.xp, sample_electrons(device, inner, by)
    lit = (spread > 0)[..., None, :]
    one = xp.where(lit, spread[..., None, :], 1).astype(xp.float64)
    one = one / noise_factor(device, inner, by)  # a result, over the shot noise in it
    dim = converting.dimming(xp, crest, device.crest.nominal)[..., None].astype(xp.float64)
    if by == "oscillator":
        one = one * xp.sqrt(dim)
        field = found / one * VACUUM
        arms = [(math.sqrt(full) + sign * field) ** 2 / 2 for sign in (1, -1)]
        rest = device.variance(full, by, inner) - full + (device.excess_factor - 1) * field**2
        per = 2 * math.sqrt(full) * VACUUM
    else:
        ahead = dim
        if other is not None:
            ahead = converting.dimming(xp, other, device.crest.nominal)[..., None, :].astype(xp.float64)
        electrons = full * (1 / dim + 1 / ahead) / 2
        one, per = one * xp.sqrt(dim * ahead), math.sqrt(full)
        half = xp.clip(found / one * per, -electrons, electrons) / 2
        arms = [electrons / 2 + half, electrons / 2 - half]
        rest = device.variance(electrons, by, inner) - electrons
    counted = rng.poisson(arms[0]) - rng.poisson(arms[1])
    noisy = counted + rest**0.5 * rng.standard_normal(found.shape)
    return xp.where(lit, noisy * (one / per), 0).astype(found.dtype)


def counted(device: Optics, light: Array, weights: Array, rng: Any) -> Array:
    """light [..., m, k] @ weights [..., k, n] by intensities: positive values first, negative ones then.

    `detected_photons` are those of a multiplication by the largest weight.
    """
    if not device.shot_noise or not light.size:
        return light @ weights
    if weights.ndim > 2:
        flat = zip(light.reshape(-1, *light.shape[-2:]), weights.reshape(-1, *weights.shape[-2:]), strict=True)
        found = device.xp.stack([counted(device, *pair, rng) for pair in flat])
        return found.reshape(*light.shape[:-1], weights.shape[-1])
    crest = converting.crests(device.xp, light, fields=False)
    dim = converting.dimming(device.xp, crest, device.crest.nominal)[:, None]
    return intensity_product(device.xp, light, weights, device.detected_photons / dim, rng, device.receiver)

"""Saturable absorbers as a layer of the network: what passes, what comes back, and the noise of reading it.

Values are fields in units of the square root of the saturation intensity. The pump is saturated, so strong: read beside
a local oscillator its noise is 1/2 / sqrt(photons at the saturation intensity). The probe is weak, and its noise is
that of `probe_photons`.
"""

from __future__ import annotations

import math
from typing import Any

from hwsim.arrays import Array
from hwsim.devices.optical import absorber
from hwsim.devices.optical.detection import VACUUM
from hwsim.devices.optical.device import Optics


def activate(device: Optics, x: Array, rng: Any) -> Array:
    """What leaves absorbers [..., n] that x enters, as it is read."""
    y = absorber.transmit(device.xp, device.absorber, x)
    if not device.shot_noise:
        return y
    sigma = VACUUM / math.sqrt(device.saturation_photons)
    return y + y.dtype.type(sigma) * rng.standard_normal(y.shape, dtype=y.dtype)


def activate_backward(device: Optics, x: Array, dy: Array, rng: Any) -> Array:
    """Errors [..., n] before absorbers that x pumps: by the derivative, in electronics, or as a probe brings them."""
    xp, settings = device.xp, device.absorber
    if device.absorber_backward == "exact" or not dy.size:
        return absorber.backward_exact(xp, settings, x, dy)
    found = absorber.backward_probe(xp, settings, x, dy)
    if device.shot_noise:
        size = xp.sqrt((dy * dy).mean())
        noise = rng.standard_normal(found.shape, dtype=found.dtype)
        found = found + (size * found.dtype.type(VACUUM / math.sqrt(device.probe_photons))) * noise
    gain = device.probe_gain
    if gain is None:
        weak = settings if settings.probe_ratio == 0 else absorber.weak(settings)
        return found * absorber.best_gain(xp, weak, absorber.mixed(settings, x))
    return found * found.dtype.type(gain)

"""Saturable absorbers as a layer of the network: what passes, what comes back, and the noise of reading it.

Values are fields in units of the square root of the saturation intensity, read beside a local oscillator of the power
that products have. With e electrons of the oscillator in one symbol of the absorbers, f^2 all noise of the receiver
over their shot noise, and N electrons of a field at saturation (behind path and detector), a value y is off by

    sigma^2 = f^2 / (4 N) + F y^2 / (4 e),

the last from the light itself (derived). An error comes back with `probe_photons` in place of N, for its RMS.
"""

from __future__ import annotations

import dataclasses
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
    return read(device, y, device.saturation_photons * device.detector_efficiency.nominal / device.path_ratio, rng)


def read(device: Optics, values: Array, electrons: float, rng: Any) -> Array:
    """Fields [..., n] as they are read, where a field of 1 makes so many electrons in a symbol."""
    oscillator = device.oscillator_photons * device.symbol_rate_hz * device.absorber_period_s
    receiver = dataclasses.replace(device.receiver, integration_s=device.absorber_period_s)
    dark = VACUUM**2 * receiver.variance(oscillator) / oscillator / electrons
    own = device.excess_factor / (4 * oscillator)
    sigma = device.xp.sqrt(values.dtype.type(dark) + values.dtype.type(own) * values * values)
    return values + sigma * rng.standard_normal(values.shape, dtype=values.dtype)


def activate_backward(device: Optics, x: Array, dy: Array, rng: Any) -> Array:
    """Errors [..., n] before absorbers that x pumps: by the derivative, in electronics, or as a probe brings them."""
    xp, settings = device.xp, device.absorber
    if device.absorber_backward == "exact" or not dy.size:
        return absorber.backward_exact(xp, settings, x, dy)
    found = absorber.backward_probe(xp, settings, x, dy)
    if device.shot_noise:
        size = xp.sqrt((dy * dy).mean())
        lit = xp.where(size > 0, size, xp.ones_like(size))
        found = read(device, found / lit, device.probe_photons, rng) * size
    gain = device.probe_gain
    if gain is None:
        weak = settings if settings.probe_ratio == 0 else absorber.weak(settings)
        return found * absorber.best_gain(xp, weak, absorber.mixed(settings, x))
    return found * found.dtype.type(gain)

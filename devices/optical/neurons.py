"""Saturable absorbers as a layer of the network: what passes, what comes back, and the noise of reading it.

Encoding "amplitude": values are fields in units of the square root of the saturation intensity, read beside a local
oscillator of the power that products have. With e electrons of the oscillator in one symbol of the absorbers, f^2 all
noise of the receiver over their shot noise, F its excess factor, and N electrons of a field at saturation (behind path
and detector), a value y is off by

    sigma^2 = f^2 / (4 N) + F y^2 / (4 e),

the last from the light itself (derived). Encoding "intensity": |x| is light in units of the saturation intensity, and
one detector counts it; electronics, which knew the sign before, puts it back. With V(n) the receiver's whole variance
at n electrons

    sigma^2 = V(N |y|) / N^2.

An error comes back in the same encoding with `probe_photons` in place of N, for its RMS or its mean magnitude; with a
`probe_ratio` the probe is that much of the pump that is there, and so are its photons. What leaks from one neuron to
the next as intensity adds up without signs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from hwsim.arrays import Array, Namespace
from hwsim.devices.optical import absorber
from hwsim.devices.optical.detection import VACUUM
from hwsim.devices.optical.device import Optics


def activate(device: Optics, x: Array, rng: Any) -> Array:
    """What leaves absorbers [..., n] that x enters, as it is read."""
    signs, light = split(device, x)
    y = signs * absorber.transmit(device.xp, device.absorber, light)
    if not device.shot_noise:
        return y
    return read(device, y, read_of(device, 1.0), rng)


def activate_backward(device: Optics, x: Array, dy: Array, rng: Any) -> Array:
    """Errors [..., n] before absorbers that x pumps: by the derivative, in electronics, or as a probe brings them."""
    xp, settings = device.xp, device.absorber
    signs, light = split(device, x)
    if device.absorber_backward == "exact" or not dy.size:
        return signs * absorber.backward_exact(xp, settings, light, signs * dy)
    signs, probe = split(device, dy)
    found = signs * absorber.backward_probe(xp, settings, light, probe)
    if device.shot_noise:
        size = xp.sqrt((dy * dy).mean()) if device.encoding == "amplitude" else probe.mean()
        electrons = device.probe_photons if device.probe_ratio == 0 else read_of(device, probe_light(device, x, dy))
        lit = xp.where((size > 0) & (electrons > 0), size, xp.zeros_like(size))  # without light nothing comes back
        found = read(device, found / _or_one(xp, lit), _or_one(xp, xp.asarray(electrons)), rng) * lit
    gain = device.probe_gain
    if gain is None:
        weak = settings if settings.probe_ratio == 0 else absorber.weak(settings)
        return found * absorber.best_gain(xp, weak, absorber.mixed(settings, light))
    return found * found.dtype.type(gain)


def split(device: Optics, values: Array) -> tuple[Array | float, Array]:
    """What electronics keeps of values, and what is sent: fields as they are, intensities without their signs."""
    if device.encoding == "amplitude":
        return 1.0, values
    return device.xp.where(values < 0, values.dtype.type(-1), values.dtype.type(1)), device.xp.abs(values)


def read_of(device: Optics, light: Any) -> Any:
    """The electrons that light in the absorbers, over the saturation intensity, makes in a symbol behind the path."""
    return light * (device.saturation_photons * device.detector_efficiency.nominal / device.path_ratio)


def probe_light(device: Optics, x: Array, dy: Array) -> Array:
    """The mean intensity of a probe that brings dy back through absorbers that x pumps, at the ratio that is given.

    Over the saturation intensity; the ratio is that of RMS values, whatever encodes them.
    """
    xp = device.xp
    pump = absorber.mixed(device.absorber, split(device, x)[1])
    size = device.probe_ratio * xp.sqrt((pump * pump).mean())
    if device.encoding == "amplitude":
        return size * size
    return size * xp.abs(dy).mean() / _or_one(xp, xp.sqrt((dy * dy).mean()))


def intensity(device: Optics, values: Array) -> Array:
    """The light of values, over the saturation intensity."""
    return values * values if device.encoding == "amplitude" else device.xp.abs(values)


def read(device: Optics, values: Array, electrons: Any, rng: Any) -> Array:
    """Values [..., n] as they are read, where light at saturation makes so many electrons in a symbol."""
    diodes = 2 if device.encoding == "amplitude" else 1
    receiver = dataclasses.replace(device.receiver, integration_s=device.absorber_period_s, diodes=diodes)
    if device.encoding == "amplitude":
        oscillator = device.oscillator_photons * device.symbol_rate_hz * device.absorber_period_s
        dark = device.xp.asarray(VACUUM**2 * receiver.variance(oscillator) / oscillator / electrons)
        own = device.excess_factor / (4 * oscillator)
        variance = dark.astype(values.dtype) + values.dtype.type(own) * values * values
    else:
        alone = dataclasses.replace(receiver, common_mode_rejection_db=0.0)
        electrons = device.xp.asarray(electrons, dtype=values.dtype)
        variance = alone.variance(electrons * device.xp.abs(values)) / electrons**2
    return values + device.xp.sqrt(variance) * rng.standard_normal(values.shape, dtype=values.dtype)


def _or_one(xp: Namespace, values: Array) -> Array:
    """Values, and 1 where they are 0: what is dark needs no scale."""
    return xp.where(values > 0, values, xp.ones_like(values))

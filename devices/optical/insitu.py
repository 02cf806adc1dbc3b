"""Gradients of phases, measured by light in the mesh itself: three power readings per shifter and vector.

For a loss L with dL = Re sum g dY and f, b the fields of x and of the error g sent back, right behind a shifter,
dL/dphase = -Im(f b). Power meters see no such product. But g leaves the inputs as U^T g; its conjugate, sent in
again, is conj(b) at every shifter of a lossless mesh (time reversal), and x - i conj(U^T g) gives

    |f - i conj(b)|^2 - |f|^2 - |b|^2 = -2 Im(f b).

With loss the light that is sent in again is r conj(b), r < 1: a shifter behind c columns of amplitude transmission t
has r = t^(2 c), the way back from it and forth to it. The reading is then r^2 |b|^2 - |b|^2 - 2 r Im(f b): a calibrated
measurement knows r (exact for uniform loss), one that is not takes r = 1, and is biased. Two readings need no |b|^2,

    |f - i conj(b)|^2 - |f + i conj(b)|^2 = -4 r Im(f b):

one that is not calibrated then weighs shifters by r, and its direction stays nearly right.

Light that passed attenuators on its way back and forth is not its own conjugate in the mesh behind them; so the two
meshes of a chip are measured each by itself, and each attenuator by three readings of its own: dL/ds = Re(v g) for
the fields v and g that enter it.

Source: Hughes, Minkov, Shi and Fan, Optica 5, 864 (2018); the readings under loss are derived.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from hwsim.arrays import Array, Namespace
from hwsim.devices.optical.decomposition import Layout, Shifters
from hwsim.devices.optical.mesh import Mesh, propagate, propagate_back, trace, trace_back
from hwsim.devices.optical.svd import SvdMesh, between
from hwsim.errors import ConfigError


@dataclass(frozen=True)
class Monitor:
    """Power meters at taps: `noise` is the standard deviation of a tapped power, in units of the mean launched power.

    `tap_fraction` of the light reaches the meter, so that a reading is off by noise / tap_fraction (the loss that the
    taps cause belongs to the mesh). An ADC of `bits` follows, its range the largest reading. Raises ConfigError.
    """

    tap_fraction: float = 1.0
    noise: float = 0.0
    bits: float = math.inf

    def __post_init__(self) -> None:
        if not 0 < self.tap_fraction <= 1:
            raise ConfigError(f"tap_fraction={self.tap_fraction}: needs a share of the power above 0 and up to 1")
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ConfigError(f"noise={self.noise}: needs a finite number, 0 or more")
        if not self.bits >= 1:
            raise ConfigError(f"bits={self.bits}: a meter needs 1 bit or more; inf: exact")


class ChipGradient(NamedTuple):
    """dL for every shifter of both meshes and every attenuation [min(k, n)], summed over the batch."""

    first: Shifters
    attenuation: Array
    second: Shifters


def exact_gradient(forward: Shifters, backward: Shifters) -> Shifters:
    """dL/dphase [mzis], [mzis], [n], summed over the batch, from the fields of `trace` and `trace_back`."""
    return Shifters(*(-(f * b).imag.sum(axis=1) for f, b in zip(forward, backward, strict=True)))


def resent(xp: Namespace, layout: Layout, column_amplitude: float) -> Shifters:
    """r of every shifter where each column passes `column_amplitude` of the field."""
    theta = column_amplitude ** (2 * xp.asarray(layout.column_of))
    return Shifters(theta, theta, xp.full(layout.n, column_amplitude ** (2 * len(layout.columns))))


def measured_gradient(
    xp: Namespace,
    mesh: Mesh,
    x: Array,
    g: Array,
    monitor: Monitor,
    rng: Any,
    calibration: Shifters | None = None,
    readings: Literal[2, 3] = 3,
) -> Shifters:
    """dL/dphase [mzis], [mzis], [n], summed over the batch, from power readings, for x and g [n, m].

    Errors are sent back with the power of their x, vector by vector, and the field that returns is read without
    error. `calibration` is what the operator believes of r (see `resent`); None: no loss. `readings` 3: the sum, x
    and g one by one; 2: sum and difference of x and what is sent again.
    """
    known = resent(xp, mesh.layout, 1.0) if calibration is None else calibration
    gain = _gains(xp, x, g)
    returned, backward = trace_back(xp, mesh, gain * g)
    again = 1j * returned.conj()
    sent = (x - again, x + again) if readings == 2 else (x - again, x)
    fields = [trace(xp, mesh, light)[1] for light in sent]
    fields += [backward] if readings == 3 else []
    launched = float((xp.abs(x) ** 2).sum(axis=0).mean())
    parts = []
    for *lights, r in zip(*fields, known, strict=True):
        powers = [_read(xp, light, monitor, launched, rng) for light in lights]
        difference = powers[0] - powers[1]
        if readings == 3:
            difference = 2 * (difference - (r * r)[:, None] * powers[2])
        parts.append((difference / gain).sum(axis=1) / (4 * r))
    return Shifters(*parts)


def measured_chip_gradient(
    xp: Namespace,
    chip: SvdMesh,
    x: Array,
    g: Array,
    monitor: Monitor,
    rng: Any,
    calibration: tuple[Shifters, Shifters] | None = None,
    readings: Literal[2, 3] = 3,
) -> ChipGradient:
    """dL of a whole chip, for fields x [k, m] at its inputs and dL/dy = g [n, m] at its scaled outputs."""
    first_known, second_known = calibration or (None, None)
    lit, error = len(chip.attenuation), chip.scale * g
    arriving = propagate(xp, chip.first, x)
    returned = propagate_back(xp, chip.second, error)
    entering = between(xp, chip, arriving, chip.second.layout.n)
    second = measured_gradient(xp, chip.second, entering, error, monitor, rng, second_known, readings)
    behind = between(xp, chip, returned, chip.first.layout.n)
    first = measured_gradient(xp, chip.first, x, behind, monitor, rng, first_known, readings)
    attenuation = _product_readings(xp, arriving[:lit], returned[:lit], monitor, rng)
    return ChipGradient(first, attenuation, second)


def _product_readings(xp: Namespace, v: Array, g: Array, monitor: Monitor, rng: Any) -> Array:
    """Re sum v g [lit] of fields [lit, m] from |v + conj g|^2 - |v|^2 - |g|^2 = 2 Re(v g)."""
    gain = _gains(xp, v, g)
    launched = float((xp.abs(v) ** 2).sum(axis=0).mean())
    sent = gain * g
    powers = [_read(xp, field, monitor, launched, rng) for field in (v + sent.conj(), v, sent)]
    return ((powers[0] - powers[1] - powers[2]) / (2 * gain)).sum(axis=1)


def _gains(xp: Namespace, x: Array, g: Array) -> Array:
    """What brings each error [n, m] to the power of its x, [m]; 1 where either is dark."""
    powers = [(xp.abs(part) ** 2).sum(axis=0) for part in (x, g)]
    lit = (powers[0] > 0) & (powers[1] > 0)
    return xp.sqrt(xp.where(lit, powers[0], 1) / xp.where(lit, powers[1], 1))


def _read(xp: Namespace, fields: Array, monitor: Monitor, launched: float, rng: Any) -> Array:
    """Powers of fields [..., m] as the meters report them, tap fraction divided out."""
    power = xp.abs(fields) ** 2
    power = power + (monitor.noise * launched / monitor.tap_fraction) * rng.standard_normal(power.shape)
    if math.isinf(monitor.bits) or not power.size:
        return power
    step = _or_one(xp, xp.abs(power).max()) / (2.0**monitor.bits - 1)
    return xp.clip(xp.rint(power / step), 0, None) * step


def _or_one(xp: Namespace, value: Array) -> Array:
    """The value, and 1 where it is 0."""
    return xp.where(value > 0, value, xp.ones_like(value))


def gradient_error(xp: Namespace, measured: Shifters, exact: Shifters) -> tuple[float, float]:
    """How wrong a measured gradient is over all shifters of a mesh: |difference| / |exact|, and their cosine."""
    found, wanted = (xp.concatenate(list(part)) for part in (measured, exact))
    size = float(xp.sqrt((wanted * wanted).sum()))
    length = float(xp.sqrt((found * found).sum()))
    return float(xp.sqrt(((found - wanted) ** 2).sum())) / size, float((found * wanted).sum()) / (size * length)

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
from hwsim.devices.optical import columns, passing
from hwsim.devices.optical.decomposition import Layout, Shifters
from hwsim.devices.optical.mesh import Mesh, trace, trace_back
from hwsim.devices.optical.svd import SvdMesh, between
from hwsim.errors import ConfigError


@dataclass(frozen=True)
class Monitor:
    """Power meters at taps: `noise` is the standard deviation of a tapped power, in units of the mean launched power.

    `tap_fraction` of the light reaches the meter, so that a reading is off by noise / tap_fraction (the loss that the
    taps cause belongs to the mesh). An ADC of `bits` follows each meter, its range the meter's largest reading of a
    batch, of either sign: a reading below 0 is noise, and to cut it off would be a bias. Fields that leave a mesh to be
    sent again are read beside a local oscillator, either quadrature off by `field_noise`, in units of the root of the
    mean launched power. Raises ConfigError.
    """

    tap_fraction: float = 1.0
    noise: float = 0.0
    bits: float = math.inf
    field_noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.tap_fraction <= 1:
            raise ConfigError(f"tap_fraction={self.tap_fraction}: needs a share of the power above 0 and up to 1")
        for name in ("noise", "field_noise"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"{name}={getattr(self, name)}: needs a finite number, 0 or more")
        if not self.bits >= 2:
            raise ConfigError(f"bits={self.bits}: a meter needs 2 bits or more, one of them the sign; inf: exact")

    @property
    def levels(self) -> float:
        """Of the ADC above 0; 0: exact."""
        return 0.0 if math.isinf(self.bits) else 2.0 ** (self.bits - 1) - 1


class ChipGradient(NamedTuple):
    """dL for every shifter of both meshes and every attenuation [min(k, n)], summed over the batch."""

    first: Shifters
    attenuation: Array
    second: Shifters


def resent(xp: Namespace, layout: Layout, column_amplitude: float) -> Shifters:
    """r of every shifter where each column passes `column_amplitude` of the field.

    Raises ConfigError for a lossy Reck mesh: its paths differ in loss, so that no one number tells what comes back.
    """
    if layout.kind == "reck" and column_amplitude != 1:
        raise ConfigError(
            "light that is sent again through a Reck mesh with loss has passed paths of different length: no column "
            "has one number for it; take two readings, or a Clements mesh"
        )
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

    Errors are sent back with the power of their x, vector by vector. `calibration` is what the operator believes of r
    (see `resent`); None: no loss. `readings` 3: the sum, x and g one by one; 2: sum and difference of x and what is
    sent again.
    """
    known = (1.0, 1.0, 1.0) if calibration is None else calibration
    gain, launched = _gains(xp, x, g), _launched(xp, x)
    if readings == 2:
        returned = _read_field(passing.backward(xp, mesh, gain * g), monitor, launched, rng)
        again = 1j * returned.conj()
        found = _compared(xp, mesh, (x - again, x + again), launched, 1 / gain, monitor, rng)
        return Shifters(*(part / (4 * r) for part, r in zip(found, known, strict=True)))
    returned, backward = trace_back(xp, mesh, gain * g)
    returned = _read_field(returned, monitor, launched, rng)
    fields = [trace(xp, mesh, light)[1] for light in (x - 1j * returned.conj(), x)]
    parts = []
    for both, forward, back, r in zip(*fields, backward, known, strict=True):
        powers = [_read(xp, light, monitor, launched, rng) for light in (both, forward, back)]
        sums = [(power / gain).sum(axis=1) for power in powers]
        parts.append((sums[0] - sums[1] - r * r * sums[2]) / (2 * r))
    return Shifters(*parts)


def _compared(
    xp: Namespace, mesh: Mesh, lights: tuple[Array, Array], launched: float, weights: Array, monitor: Monitor, rng: Any
) -> Shifters:
    """The power of one light less that of the other as meters read them, times `weights` [m], summed over the batch."""
    if passing.by_kernels(xp, lights[0]):
        meters = columns.Meters(monitor.noise * launched / monitor.tap_fraction, monitor.levels)
        return columns.compared(columns.pack(mesh), lights, meters, weights, rng)
    parts = []
    for fields in zip(*(trace(xp, mesh, light)[1] for light in lights), strict=True):
        powers = [_read(xp, field, monitor, launched, rng) for field in fields]
        parts.append(((powers[0] - powers[1]) * weights).sum(axis=1))
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
    arriving = _read_field(passing.forward(xp, chip.first, x), monitor, _launched(xp, x), rng)
    entering = between(xp, chip, arriving, chip.second.layout.n)
    power = _launched(xp, entering) / _gains(xp, entering, error) ** 2  # errors are sent with that of what they meet
    returned = _read_field(passing.backward(xp, chip.second, error), monitor, power, rng)
    second = measured_gradient(xp, chip.second, entering, error, monitor, rng, second_known, readings)
    behind = between(xp, chip, returned, chip.first.layout.n)
    first = measured_gradient(xp, chip.first, x, behind, monitor, rng, first_known, readings)
    attenuation = _product_readings(xp, arriving[:lit], returned[:lit], monitor, rng)
    return ChipGradient(first, attenuation, second)


def _product_readings(xp: Namespace, v: Array, g: Array, monitor: Monitor, rng: Any) -> Array:
    """Re sum v g [lit] of fields [lit, m] from |v + conj g|^2 - |v|^2 - |g|^2 = 2 Re(v g)."""
    gain = _gains(xp, v, g)
    sent = gain * g
    powers = [_read(xp, field, monitor, _launched(xp, v), rng) for field in (v + sent.conj(), v, sent)]
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
    if not monitor.levels or not power.size:
        return power
    step = _or_one(xp, xp.abs(power).max(axis=-1, keepdims=True)) / monitor.levels
    return xp.rint(power / step) * step


def _read_field(fields: Array, monitor: Monitor, launched: Array | float, rng: Any) -> Array:
    """Complex fields [n, m] as receivers at the ports of a mesh report them, for light of the power `launched`."""
    if monitor.field_noise == 0:
        return fields
    kind = fields.real.dtype
    noise = rng.standard_normal((2, *fields.shape), dtype=kind)
    return fields + kind.type(monitor.field_noise) * launched**0.5 * (noise[0] + 1j * noise[1])


def _launched(xp: Namespace, x: Array) -> float:
    """The mean power of vectors [n, m]."""
    return float((xp.abs(x) ** 2).sum(axis=0).mean())


def _or_one(xp: Namespace, value: Array) -> Array:
    """The value, and 1 where it is 0."""
    return xp.where(value > 0, value, xp.ones_like(value))

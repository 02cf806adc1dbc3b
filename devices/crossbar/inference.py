"""Cells for inference: programming error, read noise, drift and relaxation.

Errors are published in microsiemens against u, the share of the window that a cell is programmed to; they are kept
so, and applied to states in units of the window. Each read noise is that of one instant: whoever reads a batch at
once decides which reads share it.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from hwsim.arrays import Array, Namespace
from hwsim.devices.crossbar.cells import Cell, PerDevice
from hwsim.devices.crossbar.steps import ExpStep
from hwsim.errors import DeviceError
from hwsim.parameters import parameter

DAY_S = 86400.0
LEAST = 1e-7  # u below which drift is as at this u: aihwkit 1.2, pcm.py (read)


def polynomial(coefficients: tuple[float, ...], u: Array) -> Array:
    """c0 + c1 u + c2 u^2 + ..., by Horner's rule."""
    value = u * 0 + coefficients[-1]
    for c in coefficients[-2::-1]:
        value = value * u + c
    return value


class PhaseChange(ExpStep):
    """Phase-change memory: programming error, drift g (t/t0)^-nu with nu of each device, and 1/f read noise.

    nu = |mu + sigma xi|, mu = clip(-0.0155 ln u + 0.0244, .049, .1), sigma = clip(-0.0125 ln u - 0.0059, .008, .045);
    relative read noise Q sqrt(ln((t + t_read) / (2 t_read))), Q = min(0.0088 / max(u^0.65, 1e-3), 0.2), with t the
    time after programming plus `t0_s`. xi belongs to the device (aihwkit draws it anew at each programming), and u is
    that of the programmed, not of the aimed-at state. Not modelled: drift within training, temperature.
    Source: Nandakumar et al., ICECS 2019, and Joshi et al., Nature Communications 11, 2473 (2020), by aihwkit 1.2,
    inference/noise/pcm.py (read). Pulses: `ExpStep`.
    """

    name = "phase-change"

    sigma_us: tuple[float, ...] = parameter(
        (0.26348, 1.9650, -1.1731), unit="uS", doc="programming error by powers of u"
    )
    sigma_window_us: float = parameter(25.0, unit="uS", doc="the window that `sigma_us` was measured in", low=1e-6)
    t0_s: float = parameter(20.0, unit="s", doc="when programming is verified; drift counts from here", low=1e-9)
    t_read_s: float = parameter(250e-9, unit="s", doc="duration of one read", low=1e-12)

    def populate(self, xp: Namespace, rng: Any, shape: tuple[int, ...], dtype: Any = None) -> PerDevice:
        """As pulsed devices, and "drift_normal", which each device's nu follows from."""
        drawn = super().populate(xp, rng, shape, dtype)
        drawn["drift_normal"] = rng.standard_normal(shape, dtype=dtype or xp.float32)
        return drawn

    def program_std(self, xp: Namespace, g: Array, per_device: PerDevice) -> Array:
        return polynomial(self.sigma_us, self.fraction(g)) * (self.span / self.sigma_window_us)

    def nu(self, xp: Namespace, g: Array, per_device: PerDevice) -> Array:
        """The drift exponent of each device, from its state as programmed."""
        log = xp.log(xp.maximum(self.fraction(g), LEAST))
        mu = xp.minimum(xp.maximum(-0.0155 * log + 0.0244, 0.049), 0.1)
        sigma = xp.minimum(xp.maximum(-0.0125 * log - 0.0059, 0.008), 0.045)
        return abs(mu + sigma * per_device["drift_normal"])

    def drift(self, xp: Namespace, g: Array, per_device: PerDevice, time_s: float, rng: Any) -> Array:
        age = (self.checked(time_s) + self.t0_s) / self.t0_s
        kept = xp.exp(-math.log(age) * self.nu(xp, g, per_device))
        moved = self.dark + (g - self.dark) * kept
        return xp.where(per_device["w_max"] > per_device["w_min"], moved, g).astype(g.dtype)

    def read_std(self, xp: Namespace, g: Array, per_device: PerDevice, time_s: float = 0.0) -> Array:
        """Q times the state times the growth of 1/f noise; Q by the state as it is (aihwkit: as programmed)."""
        u = xp.maximum(self.fraction(g), 0)
        q = xp.minimum(0.0088 / xp.maximum(u**0.65, 1e-3), 0.2)
        t = self.checked(time_s) + self.t0_s
        return q * u * (self.span * math.sqrt(math.log((t + self.t_read_s) / (2 * self.t_read_s))))


class Relaxing(Cell):
    """A cell that is programmed with an error which grows with time: sigma(u) is known at some ages.

    Programming draws the first age's error; drift to time t adds what its variance has grown by since, and draws it
    anew at each call. Between ages the variance is interpolated; after the last it is held.
    """

    fits: ClassVar[tuple[str, ...]] = ()

    ages_s: tuple[float, ...] = parameter((1.0,), unit="s", doc="ages that errors were measured at, rising")

    def check(self) -> None:
        if not self.ages_s or any(b <= a for a, b in zip(self.ages_s, self.ages_s[1:], strict=False)):
            raise DeviceError(f"{self.title}: ages_s must rise, got {self.ages_s}")

    def error(self, xp: Namespace, u: Array, age: int) -> Array:
        """Standard deviation, as a share of the window, at age number `age`, of cells programmed to u."""
        raise DeviceError(f"{self.title} does not say how large its errors are; give it a method `error`")

    def place(self, time_s: float) -> float:
        """Where on the scale that ages are interpolated on: linear in time."""
        return time_s

    def program_std(self, xp: Namespace, g: Array, per_device: PerDevice) -> Array:
        return self.error(xp, self.fraction(g), 0) * self.span

    def drift(self, xp: Namespace, g: Array, per_device: PerDevice, time_s: float, rng: Any) -> Array:
        time_s, ages = self.checked(time_s), self.ages_s
        if time_s <= ages[0]:
            return g
        last = next((i for i, age in enumerate(ages) if time_s <= age), len(ages) - 1)
        u = xp.maximum(self.fraction(g), 0)
        start, left, right = (self.error(xp, u, i) ** 2 for i in (0, last - 1, last))
        ends = self.place(ages[last - 1]), self.place(ages[last])
        share = min((self.place(time_s) - ends[0]) / (ends[1] - ends[0]), 1.0)
        grown = xp.maximum(left + share * (right - left) - start, 0)
        return self.noisy(xp, g, xp.sqrt(grown) * self.span, per_device, rng)


class Wan(Relaxing):
    """Filamentary ReRAM of the NeuRRAM chip: error and relaxation as polynomials of u; interpolated in log time.

    Source: Wan et al., Nature 608, 504 (2022), by aihwkit 1.2, inference/noise/reram.py (read).
    """

    name = "reram-wan-model"

    ages_s: tuple[float, ...] = parameter((1.0, DAY_S, 2 * DAY_S), unit="s", doc="ages of the polynomials, rising")
    sigma_us: tuple[tuple[float, ...], ...] = parameter(unit="uS", doc="error by powers of u, one row an age")
    sigma_window_us: float = parameter(40.0, unit="uS", doc="the window that `sigma_us` was measured in", low=1e-6)

    def check(self) -> None:
        super().check()
        if len(self.sigma_us) != len(self.ages_s):
            raise DeviceError(f"{self.title}: {len(self.sigma_us)} rows of sigma_us for {len(self.ages_s)} ages")

    def place(self, time_s: float) -> float:
        return math.log10(time_s)

    def error(self, xp: Namespace, u: Array, age: int) -> Array:
        return xp.maximum(polynomial(self.sigma_us[age], u), 0) / self.sigma_window_us


class Sonos(Relaxing):
    """Charge-trap (SONOS) transistor, read as a current I = u I_max: error A (1 - e^(-I/B)), and read noise alike.

    Not modelled: the mean drift of I over days. Source: CrossSim 3.2, simulator/devices/custom (read).
    """

    name = "sonos-model"

    current_max_na: float = parameter(unit="nA", doc="current at w_max", low=1e-6)
    sigma_na: tuple[float, ...] = parameter(unit="nA", doc="A, one an age")
    knee_na: tuple[float, ...] = parameter(unit="nA", doc="B, one an age")
    read_sigma_na: float = parameter(0.0, unit="nA", doc="A of read noise", low=0)
    read_knee_na: float = parameter(1.0, unit="nA", doc="B of read noise", low=1e-9)

    def check(self) -> None:
        super().check()
        if not len(self.sigma_na) == len(self.knee_na) == len(self.ages_s):
            raise DeviceError(f"{self.title}: needs one sigma_na and one knee_na for each of {len(self.ages_s)} ages")

    def error(self, xp: Namespace, u: Array, age: int) -> Array:
        return self._saturating(xp, u, self.sigma_na[age], self.knee_na[age])

    def read_std(self, xp: Namespace, g: Array, per_device: PerDevice, time_s: float = 0.0) -> Array:
        self.checked(time_s)
        return self._saturating(xp, xp.maximum(self.fraction(g), 0), self.read_sigma_na, self.read_knee_na) * self.span

    def _saturating(self, xp: Namespace, u: Array, sigma: float, knee: float) -> Array:
        return -xp.expm1(-u * (self.current_max_na / knee)) * (sigma / self.current_max_na)

"""What a detector and its amplifier add to light: noise in electrons per sample.

One sample integrates for T, bandwidth B = 1 / (2 T). In detected electrons squared (standard formulas):

    shot       F n          n electrons of light, F the excess noise factor of an avalanche (1: none)
    dark       I T / q         of every photodiode on the amplifier: a balanced pair has two
    load       2 k_B Temperature T / (q^2 R)       Johnson noise of the load resistor
    amplifier  i^2 T / (2 q^2)                     i input noise of the transimpedance amplifier, A / sqrt(Hz)
    laser      RIN B n^2 10^(-CMRR / 10)           what balanced detection leaves of the laser's intensity noise
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hwsim.arrays import Array, Namespace
from hwsim.errors import ConfigError

CHARGE_C = 1.602176634e-19  # exact, SI 2019
BOLTZMANN_J_PER_K = 1.380649e-23  # exact, SI 2019
PLANCK_J_S = 6.62607015e-34  # exact, SI 2019
LIGHT_M_PER_S = 299792458.0  # exact, SI


def photon_energy_j(wavelength_m: float) -> float:
    """h c / wavelength."""
    return PLANCK_J_S * LIGHT_M_PER_S / wavelength_m


@dataclass(frozen=True)
class Receiver:
    """Photodiodes with their amplifier; by default shot noise alone. Raises ConfigError for impossible values."""

    integration_s: float
    excess_factor: float = 1.0
    dark_current_a: float = 0.0
    load_ohm: float = math.inf
    temperature_k: float = 300.0
    amplifier_a_per_root_hz: float = 0.0
    rin_db_per_hz: float = -math.inf
    common_mode_rejection_db: float = 0.0
    diodes: int = 1

    def __post_init__(self) -> None:
        for name in ("integration_s", "load_ohm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}: needs a number above 0")
        for name in ("dark_current_a", "temperature_k", "amplifier_a_per_root_hz"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}={value}: needs a finite number, 0 or more")
        if not 1 <= self.excess_factor < math.inf:
            raise ConfigError(f"excess_factor={self.excess_factor}: needs a finite number, 1 or more")
        if not (self.rin_db_per_hz < math.inf and math.isfinite(self.common_mode_rejection_db)):
            raise ConfigError("rin_db_per_hz and common_mode_rejection_db need numbers in dB; no RIN: -inf")

    @property
    def electronic_variance(self) -> float:
        """Dark current, load and amplifier [electrons^2]: what is there without light."""
        dark = self.diodes * self.dark_current_a * self.integration_s / CHARGE_C
        load = 2 * BOLTZMANN_J_PER_K * self.temperature_k * self.integration_s / (CHARGE_C**2 * self.load_ohm)
        return dark + load + self.amplifier_a_per_root_hz**2 * self.integration_s / (2 * CHARGE_C**2)

    @property
    def laser_variance(self) -> float:
        """Variance of the detected electrons from the laser's own noise, relative to their mean squared."""
        bandwidth_hz = 1 / (2 * self.integration_s)
        return bandwidth_hz * 10 ** ((self.rin_db_per_hz - self.common_mode_rejection_db) / 10)

    def variance(self, electrons: Any) -> Any:
        """All noise [electrons^2] of samples with the mean `electrons` of light."""
        return self.excess_factor * electrons + self.laser_variance * electrons**2 + self.electronic_variance


def count(xp: Namespace, electrons: Array, receiver: Receiver, rng: Any) -> Array:
    """Detected electrons [...] when `electrons` are expected: Poisson, then the noise that is not shot noise.

    Readings may lie below 0, where the receiver's offset was subtracted.
    """
    other = receiver.variance(electrons) - electrons
    return rng.poisson(electrons) + xp.sqrt(other) * rng.standard_normal(electrons.shape)

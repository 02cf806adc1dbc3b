"""What it costs to move charge slowly: ramps, leakage, threshold drops, resonators, and erased bits.

A node of capacitance C is charged from 0 to V through a resistance R by a rail that rises during a time T, holds, and
falls again. Everything here is for one node; numbers may be arrays, which broadcast. Sources: the ramp, its optimum
under leakage and the resonator are derived below; threshold drops as in Springer 978-3-319-59936-6_4 (read).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hwsim.cost import Value
from hwsim.errors import ConfigError

BOLTZMANN_J_PER_K = 1.380649e-23  # exact, SI 2019
SETTLED = 5.0  # time / RC from which less than e^-5 of the last drop is still to come: what `ramp_j` takes for granted
SERIES_BELOW = 1e-2  # T / RC: below, the closed form of the linear ramp cancels


class Waveform(NamedTuple):
    """How a rail rises."""

    dissipated: Callable[[Value], Value]  # energy of one ramp / C V^2, by RC / T
    asymptote: float  # the same / (RC / T) where T >> RC
    mean_square: float  # of the rail's voltage during the ramp / V^2


def _linear(ratio: Value) -> Value:
    """a (1 - a (1 - e^(-1/a))), a = RC / T; 1/2 - u/6 + u^2/24 - ... in u = T / RC where that cancels."""
    a = np.asarray(ratio, dtype=float)
    u = 1 / np.maximum(a, 1e-300)  # R = 0: a = 0, and so is the result
    closed = a * (1 + a * np.expm1(-u))
    short = np.minimum(u, SERIES_BELOW)
    series = 1 / 2 - short / 6 * (1 - short / 4 * (1 - short / 5 * (1 - short / 6)))
    return np.where(u < SERIES_BELOW, series, closed)[()]


def _sinusoidal(ratio: Value) -> Value:
    """b^2 / (4 (1 + b^2)^2) [pi (1 + b^2) / (2 b) + b^2 (1 + e^(-pi/b))], b = pi RC / T; the tail in the hold included.

    Derived: the drop across R is A [sin wt - b cos wt + b e^(-t/RC)] with w = pi / T and A = b V / (2 (1 + b^2)).
    """
    b = math.pi * np.asarray(ratio, dtype=float)
    tail = np.exp(-math.pi / np.maximum(b, 1e-300))
    return (math.pi * b / (8 * (1 + b**2)) + (b**2 / (1 + b**2)) ** 2 * (1 + tail) / 4)[()]


WAVEFORMS = {
    "linear": Waveform(_linear, 1.0, 1 / 3),
    "sinusoidal": Waveform(_sinusoidal, math.pi**2 / 8, 3 / 8),
}


def waveform(name: str) -> Waveform:
    """The waveform called `name`. Raises ConfigError where there is none."""
    if name not in WAVEFORMS:
        raise ConfigError(f"no waveform {name!r}; known: {', '.join(WAVEFORMS)}")
    return WAVEFORMS[name]


def ramp_j(
    resistance_ohm: Value, capacitance_f: Value, voltage_v: Value, ramp_s: Value, shape: str = "linear"
) -> Value:
    """Heat of charging a node, or of discharging it, by one ramp [J]; exact where the hold after it settles.

    C V^2 / 2 where the ramp is short, and C V^2 RC / T (x pi^2 / 8: sinusoidal) where it is long.
    """
    ratio = resistance_ohm * capacitance_f / ramp_s
    return capacitance_f * voltage_v**2 * waveform(shape).dissipated(ratio)


def check_settled(settling_s: float, resistance_ohm: float, capacitance_f: float) -> None:
    """Raise ConfigError where a node has not settled when its rail falls, or when the next level has read it."""
    needed_s = SETTLED * resistance_ohm * capacitance_f
    if not settling_s >= needed_s * (1 - 1e-12):  # a time computed to be just enough is enough
        raise ConfigError(
            f"{settling_s:.3g} s for a node to settle: the ramp formula needs {SETTLED:g} R C = {needed_s:.3g} s; "
            "ramp more slowly"
        )


def trapezoid_s(ramp_s: Value, hold_ramps: float, shape: str = "linear") -> Value:
    """Time at full voltage that leaks as much as a ramp, a hold of `hold_ramps` ramps, and a ramp [s]."""
    return ramp_s * (hold_ramps + 2 * waveform(shape).mean_square)


def leakage_j(leakage_siemens: Value, voltage_v: Value, held_s: Value) -> Value:
    """Leakage of a node through an ohmic conductance while it is held [J]."""
    return leakage_siemens * voltage_v**2 * held_s


def threshold_floor_j(capacitance_f: Value, threshold_v: Value) -> Value:
    """Heat when a transistor of one polarity moves the last threshold voltage abruptly, however slow the ramp [J]."""
    return capacitance_f * threshold_v**2 / 2


def clock_loss_j(capacitance_f: Value, voltage_v: Value, quality: Value) -> Value:
    """Heat of a resonator that swings a capacitance between 0 and V, per period [J].

    2 pi / Q of its energy C (V/2)^2 / 2. Q is that of generator and rails, without the logic's own resistance,
    whose heat is `ramp_j`.
    """
    return math.pi / 4 * capacitance_f * voltage_v**2 / quality


def landauer_j(temperature_k: Value) -> Value:
    """The least heat of erasing one bit: k T ln 2 [J]."""
    return BOLTZMANN_J_PER_K * temperature_k * math.log(2)


def erasure_j(temperature_k: Value, circuit_j: Value) -> Value:
    """Heat of erasing one bit by a circuit that takes `circuit_j`, never below Landauer's bound [J]."""
    return np.maximum(landauer_j(temperature_k), circuit_j)[()]


def optimum_s(
    resistance_ohm: Value,
    capacitance_f: Value,
    leakage_siemens: Value,
    cycles: Value,
    leaking_ramps: Value,
    shape: str = "linear",
) -> Value:
    """The ramp time of least energy where it is far above RC [s]: C sqrt(2 R cycles / (G leaking_ramps)).

    `cycles` nodes are charged and discharged; all nodes together leak for `leaking_ramps` ramp times. The factor
    pi^2 / 8 of a sinusoidal ramp multiplies R. Known with leakage since Paul, Schlaffer and Nossek, TCAS-I 47:1009
    (2000).
    """
    losses = 2 * resistance_ohm * waveform(shape).asymptote * cycles
    return capacitance_f * np.sqrt(losses / (leakage_siemens * leaking_ramps))

"""Cells that take many pulses at once: their step at w, and where n steps with noise lead, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from hwsim.arrays import Array, Namespace
from hwsim.devices.crossbar.counter import normals
from hwsim.errors import ConfigError

SHIFT_OF_BARRIER = 0.5826  # a discrete walk peaks lower than Brownian motion by this times its step (Chernoff 1965;
# Broadie, Glasserman and Kou, Math. Finance 7:325, 1997): -zeta(1/2) / sqrt(2 pi)


class Step(NamedTuple):
    """One pulse up and one down at w: the mean steps, by how much w shrinks them, and the noise of one pulse."""

    up: Array  # w += up
    up_rate: Array  # -d up / dw
    down: Array  # w -= down
    down_rate: Array  # d down / dw
    up_noise: Array  # standard deviation that does not follow the step [weight units]
    down_noise: Array
    factor: float  # standard deviation per size of the step


class Cells(Protocol):
    """A family of cells that the fast path can pulse: low, high [k, n], and its step at w."""

    @property
    def low(self) -> Array: ...
    @property
    def high(self) -> Array: ...
    @property
    def at_once(self) -> int:
        """Pulses that a cell takes in one closed form; more are split into turns."""

    def step(self, xp: Namespace, w: Array) -> Step: ...
    def kernel(self, w: Array) -> tuple[str, tuple[Any, ...]]:
        """The name and arguments of the Numba kernel."""


@dataclass(frozen=True)
class AffineCells:
    """w += up (1 - up_slope w) or w -= down (1 - down_slope w), each plus noise, within [low, high]; arrays [k, n].

    Slopes 0: constant step. up_slope = 1 / high and down_slope = 1 / low: soft bounds. `noise` is the standard
    deviation from cycle to cycle in units of the step at w = 0; of the step at w if `multiplicative`. Full float32
    arrays in C order are used as they are; others are copied at each update.
    """

    up: Array
    up_slope: Array
    down: Array
    down_slope: Array
    low: Array
    high: Array
    noise: float = 0.0
    multiplicative: bool = False
    at_once: int = 2048

    def __post_init__(self) -> None:
        _require(self.noise, self.at_once)

    def step(self, xp: Namespace, w: Array) -> Step:
        up_rate, down_rate = self.up * self.up_slope, -self.down * self.down_slope
        added, factor = (0.0, self.noise) if self.multiplicative else (self.noise, 0.0)
        up, down = self.up - up_rate * w, self.down + down_rate * w
        return Step(up, up_rate, down, down_rate, added * self.up, added * self.down, factor)

    def kernel(self, w: Array) -> tuple[str, tuple[Any, ...]]:
        names = self.up, self.up_slope, self.down, self.down_slope, self.low, self.high
        added, factor = (0.0, self.noise) if self.multiplicative else (self.noise, 0.0)
        return "update_affine", (*(_full(a, w) for a in names), np.float32(added), np.float32(factor))


@dataclass(frozen=True)
class ExponentialCells:
    """w += up max(1 - a_up e^(gamma_up z), 0), w -= down max(1 - a_down e^(-gamma_down z), 0), plus noise.

    z = 2 a w / (high - low) + b. Noise of one pulse: standard deviation noise (|step| + noise_add + noise_slope |w|).
    up, down, low, high [k, n]. Source: Gong et al., Nat. Commun. 9:2102 (2018); equations as aihwkit's ExpStepDevice.
    """

    up: Array
    down: Array
    low: Array
    high: Array
    a_up: float
    a_down: float
    gamma_up: float
    gamma_down: float
    a: float
    b: float
    noise: float = 0.0
    noise_add: float = 0.0
    noise_slope: float = 0.0
    at_once: int = 1024

    def __post_init__(self) -> None:
        _require(self.noise, self.at_once)

    def step(self, xp: Namespace, w: Array) -> Step:
        scale = 2 * self.a / (self.high - self.low)
        z = scale * w + self.b
        y_up, y_down = self.a_up * xp.exp(self.gamma_up * z), self.a_down * xp.exp(-self.gamma_down * z)
        up, down = self.up * xp.maximum(1 - y_up, 0), self.down * xp.maximum(1 - y_down, 0)
        up_rate = xp.where(y_up < 1, self.up * y_up * self.gamma_up * scale, 0)
        down_rate = xp.where(y_down < 1, self.down * y_down * self.gamma_down * scale, 0)
        added = self.noise * (self.noise_add + self.noise_slope * xp.abs(w))
        return Step(up, up_rate, down, down_rate, added, added, self.noise)

    def kernel(self, w: Array) -> tuple[str, tuple[Any, ...]]:
        curve = (self.a_up, self.a_down, self.gamma_up, self.gamma_down, self.a, self.b, self.noise, self.noise_add,
                 self.noise_slope)  # fmt: skip
        names = self.up, self.down, self.low, self.high
        return "update_exponential", (*(_full(a, w) for a in names), tuple(np.float32(v) for v in curve))


def pulsed(cells: Cells, w: Array, ups: Array, downs: Array, rng: np.random.Generator) -> Array:
    """The reference: w [k, n] after one pulse of each cell in `ups`, and one down of each in `downs` (masks)."""
    step = cells.step(np, w)
    up = step.up + (step.up_noise + step.factor * np.abs(step.up)) * rng.standard_normal(w.shape)
    down = step.down + (step.down_noise + step.factor * np.abs(step.down)) * rng.standard_normal(w.shape)
    return np.where(ups | downs, np.clip(w + ups * up - downs * down, cells.low, cells.high), w)


def moved(xp: Namespace, cells: Cells, w: Array, ups: Array, downs: Array, key: int, start: int = 0) -> Array:
    """w [k, n] after `ups` and `downs` pulses (whole numbers up to 4095 together), all taken at once.

    The step is made affine in w where the cell stands: w -> (1 - e) w + s, with e and s the means over its pulses,
    which stands for pulses up and down in random order. n such steps have a closed form, as has the variance of
    their noise; sums of powers are built by doubling, which cancels nothing. For an affine cell with pulses in one
    direction and no bound in reach, mean and variance are exact (multiplicative noise: to second order in n e).
    A bound reflects the walk of the noise: the peak of a Brownian bridge, lowered as a discrete walk's is, says by
    how much the walk was held back. One clipping at the end would let cells with much noise sit too near the bound.

    Bias of the mean against pulse by pulse, for a window of 2 (measured). 128 small gradients, some 10 pulses a cell:
    no more than the sampling error of .001 for soft bounds with noise 3.75, at their bounds too; for reram-es .001, and
    .007 from its upper bound, where steps down are 12 times as steep. 128 full trains of 31 slots, some 2,000 pulses a
    cell: below .03 for soft bounds. For reram-es .05, but from its upper bound, with pulses in both directions, .52 as
    it comes (at_once 1024), .09 at 512, .02 at 256, below .01 at 128, which take 1.6, 2.6 and 4.5 times as long: set
    at_once=128 where full trains meet cells near a steep bound. Tests hold the small gradients to .006 (reram-es near
    bounds: .017) and full trains on soft bounds to .042, sampling errors included. float32 resolves e to 2^-24.
    """
    n = (ups + downs).astype(xp.float32)
    share = ups.astype(xp.float32) / xp.maximum(n, 1)
    rest = 1 - share
    step = cells.step(xp, w)
    drift, e = share * step.up - rest * step.down, share * step.up_rate + rest * step.down_rate
    q, bits = 1 - e, n.astype(xp.int32)
    first, second = xp.ones_like(q), xp.ones_like(q)  # sums of q^l and of q^2l over 2^bit pulses
    gained, spread = xp.zeros_like(q), xp.zeros_like(q)  # and over the pulses of the bits so far
    for bit in range(int(bits.max()).bit_length() if bits.size else 0):
        chosen, square = (bits >> bit) & 1 != 0, q * q
        gained = xp.where(chosen, first + q * gained, gained)
        spread = xp.where(chosen, second + square * spread, spread)
        first, second, q = first * (1 + q), second * (1 + square), square
    drift = drift * gained
    before = (step.up_noise + step.factor * xp.abs(step.up), step.down_noise + step.factor * xp.abs(step.down))
    after = (step.up_noise + step.factor * xp.abs(step.up - step.up_rate * drift),
             step.down_noise + step.factor * xp.abs(step.down + step.down_rate * drift))  # fmt: skip
    variance = 0.5 * (share * (before[0] ** 2 + after[0] ** 2) + rest * (before[1] ** 2 + after[1] ** 2)) * spread
    noise, u = normals(xp, key, w.shape, start, second_uniform=True)
    move = drift + xp.sqrt(variance) * noise
    rising = 2 * w + move > cells.low + cells.high
    along, room = xp.where(rising, move, -move), xp.where(rising, cells.high - w, w - cells.low)
    peak = 0.5 * (along + xp.sqrt(along * along - 2 * variance * xp.log(u)))
    peak = xp.maximum(peak - SHIFT_OF_BARRIER * xp.sqrt(variance / xp.maximum(n, 1)), along)
    along = along - xp.maximum(xp.where(n < 2, along, peak) - room, 0)
    end = xp.minimum(xp.maximum(xp.where(rising, w + along, w - along), cells.low), cells.high)
    return xp.where(n > 0, end, w).astype(xp.float32)


def _full(array: Array, w: Array) -> Array:
    """A parameter as a float32 array [k, n] in C order."""
    return np.ascontiguousarray(np.broadcast_to(array, w.shape), np.float32)


def _require(noise: float, at_once: int) -> None:
    """Raises ConfigError for a noise that is negative or NaN, and for no pulses at once."""
    if not (math.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise={noise}: the spread from cycle to cycle needs a finite number, 0 or more")
    if at_once < 1:
        raise ConfigError(f"at_once={at_once}: a closed form takes 1 pulse or more")

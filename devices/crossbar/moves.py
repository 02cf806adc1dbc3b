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
FEW = 7  # pulses are taken in one turn, however steep the cell (chosen: see moved)
TURNS = 16  # that the pulses of a cell are split into at most (chosen: see moved)
REACH = 0.3  # of the distance over which a curve changes e-fold (chosen: see moved)
TINY = np.float32(1e-30)


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
    def step(self, xp: Namespace, w: Array) -> Step: ...
    def share(self, xp: Namespace, w: Array, step: Step, ups: Array, downs: Array) -> Array:
        """The share of its pulses that a cell may take in one closed form; 1 and more: all."""

    def kernel(self, w: Array) -> tuple[str, tuple[Any, ...]]:
        """The name and arguments of the Numba kernel."""


@dataclass(frozen=True)
class AffineCells:
    """w += up (1 - up_slope w) or w -= down (1 - down_slope w), each plus noise, within [low, high]; arrays [k, n].

    Slopes 0: constant step. up_slope = 1 / high and down_slope = 1 / low: soft bounds. Where a pulse shrinks the rest
    of the way by more than all of it (up up_slope > 1: a bound within a step of 0), it ends at the bound. `noise` is
    the standard deviation from cycle to cycle in units of the step at w = 0; of the step at w if `multiplicative`. Full
    float32 arrays in C order are used as they are; others are copied at each update.
    """

    up: Array
    up_slope: Array
    down: Array
    down_slope: Array
    low: Array
    high: Array
    noise: float = 0.0
    multiplicative: bool = False

    def __post_init__(self) -> None:
        _require(self.noise)

    def step(self, xp: Namespace, w: Array) -> Step:
        up_rate, down_rate = self.up * self.up_slope, -self.down * self.down_slope
        added, factor = (0.0, self.noise) if self.multiplicative else (self.noise, 0.0)
        up = xp.where(up_rate > 1, self.high - w, self.up - up_rate * w)
        down = xp.where(down_rate > 1, w - self.low, self.down + down_rate * w)
        up_rate, down_rate = xp.minimum(up_rate, 1), xp.minimum(down_rate, 1)
        return Step(up, up_rate, down, down_rate, added * self.up, added * self.down, factor)

    def share(self, xp: Namespace, w: Array, step: Step, ups: Array, downs: Array) -> Array:
        return xp.ones_like(w)

    def kernel(self, w: Array) -> tuple[str, tuple[Any, ...]]:
        names = self.low, self.high, self.up, self.up_slope, self.down, self.down_slope
        noise = (0.0, self.noise) if self.multiplicative else (self.noise, 0.0)
        return "update_affine", (*(_full(a, w) for a in names), *(np.float32(v) for v in noise))


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

    def __post_init__(self) -> None:
        _require(self.noise)

    def step(self, xp: Namespace, w: Array) -> Step:
        scale = 2 * self.a / self._width(xp)
        z = scale * w + self.b
        y_up, y_down = self.a_up * xp.exp(self.gamma_up * z), self.a_down * xp.exp(-self.gamma_down * z)
        up, down = self.up * xp.maximum(1 - y_up, 0), self.down * xp.maximum(1 - y_down, 0)
        up_rate = xp.where(y_up < 1, self.up * y_up * self.gamma_up * scale, 0)
        down_rate = xp.where(y_down < 1, self.down * y_down * self.gamma_down * scale, 0)
        added = self.noise * (self.noise_add + self.noise_slope * xp.abs(w))
        return Step(up, up_rate, down, down_rate, added, added, self.noise)

    def _width(self, xp: Namespace) -> Array:
        """Of the window; 1 where there is none, and the bounds hold the cell."""
        return xp.where(self.high > self.low, self.high - self.low, 1)

    @property
    def _reach(self) -> float:
        """How far from the fixed point of its tangent a cell may be for all its pulses at once, over its window."""
        return REACH / max(2 * abs(self.a) * max(abs(self.gamma_up), abs(self.gamma_down)), 1e-30)

    def share(self, xp: Namespace, w: Array, step: Step, ups: Array, downs: Array) -> Array:
        drift = ups * step.up - downs * step.down
        rate = abs(ups * step.up_rate + downs * step.down_rate)
        away = xp.minimum(abs(drift), rate * xp.where(drift > 0, self.high - w, w - self.low))
        near = self._reach * self._width(xp)
        return xp.where(ups + downs <= FEW, 1, near / xp.maximum(away - near * rate, TINY))

    def kernel(self, w: Array) -> tuple[str, tuple[Any, ...]]:
        curve = (self.a_up, self.a_down, self.gamma_up, self.gamma_down, self.a, self.b, self.noise, self.noise_add,
                 self.noise_slope, self._reach)  # fmt: skip
        names = self.low, self.high, self.up, self.down
        return "update_exponential", (*(_full(a, w) for a in names), tuple(np.float32(v) for v in curve))


def pulsed(cells: Cells, w: Array, ups: Array, downs: Array, rng: np.random.Generator) -> Array:
    """The reference: w [k, n] after one pulse of each cell in `ups`, and one down of each in `downs` (masks)."""
    step = cells.step(np, w)
    up = step.up + (step.up_noise + step.factor * np.abs(step.up)) * rng.standard_normal(w.shape)
    down = step.down + (step.down_noise + step.factor * np.abs(step.down)) * rng.standard_normal(w.shape)
    return np.where(ups | downs, np.clip(w + ups * up - downs * down, cells.low, cells.high), w)


def moved_in_turns(xp: Namespace, cells: Cells, w: Array, ups: Array, downs: Array, key: int) -> Array:
    """w [k, n] after `ups` and `downs` pulses (whole numbers, float32), each cell in as many turns as it needs.

    A turn takes what `cells.share` allows, and of what is left at least 1/(TURNS - turn): TURNS of them are enough.
    """
    turn = 0
    while True:
        least = 1 / max(TURNS - turn, 1)
        share = cells.share(xp, w, cells.step(xp, w), ups, downs)
        share = xp.minimum(xp.maximum(share, least), 1).astype(xp.float32)
        up, down = xp.ceil(ups * share), xp.ceil(downs * share)
        w = moved(xp, cells, w, up, down, key, turn * w.size)
        ups, downs, turn = ups - up, downs - down, turn + 1
        if not bool((ups + downs).any()):
            return w


def moved(xp: Namespace, cells: Cells, w: Array, ups: Array, downs: Array, key: int, start: int = 0) -> Array:
    """w [k, n] after `ups` and `downs` pulses (whole numbers up to 4095 together), all taken at once.

    The step is made affine in w where the cell stands: w -> (1 - e) w + s, with e and s the means over its pulses,
    which stands for pulses up and down in random order. n such steps have a closed form, as has the variance of
    their noise; sums of powers are built by doubling, which cancels nothing. For an affine cell with pulses in one
    direction and no bound in reach, mean and variance are exact (multiplicative noise: to second order in n e).
    A bound reflects the walk of the noise: the peak of a Brownian bridge, lowered as a discrete walk's is, says by
    how much the walk was held back. One clipping at the end would let cells with much noise sit too near the bound.

    Bias of the mean against pulse by pulse, for a window of 2, from nine places in it, both bounds among them, as
    `moved_in_turns` does it (measured, 8,100 cells, sampling errors of .003 and less). 128 small gradients, some 10
    pulses a cell: .001 for soft bounds with noise 3.75, .005 for reram-es with noise 5, at its upper bound, where steps
    down are 12 times as steep. 7 pulses down from there: .015. Full trains of 31 slots, 200 and 1,950 pulses a cell,
    one way and both: .035 for soft bounds, in one turn; for reram-es .039, in 1 turn where cells rest, 3 on average,
    7 from the upper bound (all at once: .95; REACH .2: .030 in 4.3 turns on average; .5: .084 in 2.5). The spread is
    within .02 of the reference's. Tests hold the small gradients to .006 (reram-es near bounds: .017), and full trains
    to .047 and .067, sampling errors included. float32 resolves e to 2^-24.
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
    """A parameter as a float32 array [k n] in C order."""
    whole = array if array.shape == w.shape else np.broadcast_to(array, w.shape)
    return np.ascontiguousarray(whole, np.float32).reshape(-1)


def _require(noise: float) -> None:
    """Raises ConfigError for a noise that is negative or NaN."""
    if not (math.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise={noise}: the spread from cycle to cycle needs a finite number, 0 or more")

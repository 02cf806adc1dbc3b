"""Cells that move by pulses: constant, linear, soft-bounds, exponential and power-law steps.

One pulse moves a cell by its mean step at its state, and by cycle-to-cycle noise; then its bounds hold it. Many
pulses are taken at once: near a state, a pulse up is g -> a_u g + c_u and a pulse down g -> a_d g + c_d, and both
are run side by side, as rates. The linear part of n pulses, a_u^n_up a_d^n_down, is exact in any order; so is the
mean of pulses of one direction where steps are linear in the state, but for what bounds cut off.

Bias of the mean in per cent of the window, closed form against pulses one by one in random order; typical devices,
20,000 cells, starts at 7 places from bound to bound, sampling error about 0.01 times the noise (measured). One way:
the worst of 1 to 31 pulses up or down. Mixed: the worst of 3 + 2 to 100 + 90. Last, the ratio of standard deviations
that is furthest from 1, mixed, where the noise exceeds 0.1% of the window:

    reram-es           0.23  0.58  1.06        ecram           0.01  0.03  0.88 at a bound
    reram-sb           0.04  0.16  1.02        ecram-mo        0.01  0.01  0.97
    reram-array-om     0.08  0.44  0.95        idealized       0.01  0.01  0.94
    reram-array-hfo2   0.13  1.37  0.78        gokmen-vlasov   0.01  0.01  0.94
    capacitor          0.01  0.03  0.79        pcm             0.50  0.66  0.62 at 100 + 90

A pulse down empties a phase-change cell, which is why many mixed with pulses up are poorly described there; such
cells are used in pairs that are only pulsed up.

Source of the steps and defaults: aihwkit 1.2, rpu_pulsed_device.cpp and the files of its devices (read).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from hwsim.arrays import Array, Namespace
from hwsim.devices.crossbar.cells import Cell, PerDevice, drawn_ups, varying
from hwsim.errors import DeviceError
from hwsim.parameters import parameter

SHIFT = 0.5826  # -zeta(1/2) / sqrt(2 pi): a walk overshoots a barrier by this many steps (Siegmund 1985)
NEARLY_ALL = 1 - 1e-6  # of the way to a bound that one pulse goes at most


class Local(NamedTuple):
    """Mean steps [>= 0] and their slopes at some states: a pulse up is g + up - slope_up (g' - g), down alike."""

    up: Array
    down: Array
    slope_up: Array  # -d up / dg
    slope_down: Array  # d down / dg


class StepCell(Cell):
    """A population of pulsed devices; subclasses say how the mean step depends on the state (`local`).

    Per device: gain = 1 + dw_min_d2d xi (or exp), r = up_down_d2d xi; scale_up = |(gain + min(up_down, 0) + r) dw_min|,
    scale_down = |(gain - max(up_down, 0) - r) dw_min|. Noise of one pulse: dw_min_std times the step (`mult_noise`),
    or times the scale (additive). Many pulses: order is taken as random, its variance to leading order.
    """

    fits: ClassVar[tuple[str, ...]] = ("dw_min", "up_down")

    dw_min: float = varying(0.001, d2d=0.3, doc="mean step at state 0", low=0)
    up_down: float = varying(
        0.0, d2d=0.01, law="absolute", doc="> 0: down steps are smaller by this share", low=-1, high=1
    )
    dw_min_std: float = parameter(0.3, doc="cycle to cycle: sigma of a step", low=0)
    mult_noise: bool = parameter(True, doc="noise in proportion to the step, else to its scale")
    pieces: int = parameter(1, doc="many pulses are taken in so many pieces at most: 1 where steps are linear", low=1)
    w_min: float = varying(-0.6, d2d=0.3, doc="lower bound")
    w_max: float = varying(0.6, d2d=0.3, doc="upper bound")

    def check(self) -> None:
        if self.dw_min == 0 or vars(self)["dw_min_law"] == "absolute":
            raise DeviceError(f"{self.title}: needs dw_min > 0, and dw_min_law normal or lognormal")

    def populate(self, xp: Namespace, rng: Any, shape: tuple[int, ...], dtype: Any = None) -> PerDevice:
        """Bounds, "scale_up" and "scale_down" per device; faulty cells have scale 0."""
        drawn = super().populate(xp, rng, shape, dtype)
        size, split = drawn.pop("dw_min"), drawn.pop("up_down")
        moves = drawn["w_max"] > drawn["w_min"]
        lower, raise_ = max(self.up_down, 0.0), min(self.up_down, 0.0)
        r = split - self.up_down
        drawn["scale_up"] = xp.where(moves, abs(size + (raise_ + r) * self.dw_min), 0)
        drawn["scale_down"] = xp.where(moves, abs(size - (lower + r) * self.dw_min), 0)
        return drawn

    def local(self, xp: Namespace, g: Array, per_device: PerDevice) -> Local:
        """Mean steps at g, and their slopes."""
        raise DeviceError(f"{self.title} does not say how large its steps are; give it a method `local`")

    def step_std(self, xp: Namespace, g: Array, step: Array, scale: Array) -> Array:
        """Standard deviation of one step, from its mean and its device's scale."""
        return self.dw_min_std * (step if self.mult_noise else scale)

    def pulse(self, xp: Namespace, g: Array, per_device: PerDevice, up: Array, rng: Any) -> Array:
        """One pulse: g + step, g - step, with noise, within bounds."""
        at = self.local(xp, g, per_device)
        step = xp.where(up, at.up, at.down)
        if self.dw_min_std:
            std = self.step_std(xp, g, step, xp.where(up, per_device["scale_up"], per_device["scale_down"]))
            step = step + std * rng.standard_normal(g.shape, dtype=g.dtype)
        return self.bounded(xp, xp.where(up, g + step, g - step), per_device)

    def pulses(self, xp: Namespace, g: Array, per_device: PerDevice, n_up: Array, n_down: Array, rng: Any) -> Array:
        """Closed forms of pieces of whole pulses; up to `pieces` pulses are taken pulse by pulse, in random order."""
        if self.pieces == 1:
            return self._jump(xp, g, per_device, n_up.astype(g.dtype), n_down.astype(g.dtype), rng)
        total = n_up + n_down
        pieces = min(int(total.max()), self.pieces) if total.size else 0
        for i in range(pieces):
            size = (i + 1) * total // pieces - i * total // pieces
            ups = drawn_ups(xp, size, n_up, n_down, g.dtype, rng)
            downs = size - ups
            n_up, n_down = n_up - ups, n_down - downs
            g = self._jump(xp, g, per_device, ups.astype(g.dtype), downs.astype(g.dtype), rng)
        return g

    def _jump(self, xp: Namespace, g: Array, p: PerDevice, ups: Array, downs: Array, rng: Any) -> Array:
        at = self.local(xp, g, p)
        slope_up, slope_down = xp.minimum(at.slope_up, NEARLY_ALL), xp.minimum(at.slope_down, NEARLY_ALL)
        log_up, log_down = xp.log1p(-slope_up), xp.log1p(-slope_down)
        rate_up = at.up * ratio(xp, slope_up, log_up)
        rate_down = at.down * ratio(xp, slope_down, log_down)
        total = ups * log_up + downs * log_down  # the logarithm of the linear part
        drift = ups * rate_up - downs * rate_down
        end = g + drift * mean_of_exp(xp, total)
        if not self.dw_min_std:
            return self.bounded(xp, end, p)
        n = ups + downs
        before = (n - 1) / (2 * xp.maximum(n, 1))  # the share of pulses before the one in the middle
        if self.mult_noise:  # noise of the middle pulse, damped by those after it: exact for one direction
            middle = g + drift * before * mean_of_exp(xp, total * before)
            there_up = xp.maximum(at.up - at.slope_up * (middle - g), 0)
            there_down = xp.maximum(at.down + at.slope_down * (middle - g), 0)
            std_up = self.step_std(xp, middle, there_up, p["scale_up"])
            std_down = self.step_std(xp, middle, there_down, p["scale_down"])
            variance = (ups * std_up**2 + downs * std_down**2) * xp.exp(2 * total * before)
        else:  # sum of a^2i, exact for one direction
            square_up = self.step_std(xp, g, at.up, p["scale_up"]) ** 2 * ratio(
                xp, slope_up * (2 - slope_up), 2 * log_up
            )
            square_down = self.step_std(xp, g, at.down, p["scale_down"]) ** 2
            square_down = square_down * ratio(xp, slope_down * (2 - slope_down), 2 * log_down)
            variance = (ups * square_up + downs * square_down) * mean_of_exp(xp, 2 * total)
        # Random order: a swap of neighbours moves the end by `swap`; swaps are distributed as Mann and Whitney's U,
        # variance n_up n_down (n + 1) / 12, less where pulses that follow damp it (rational fit of the integral).
        swap = at.down * slope_up + at.up * slope_down
        x = -xp.minimum(total, 0)
        order = swap**2 * ups * downs * (n + 1) / (12 + x * (12 + x * (5.2 + 2 * x)))
        moved = end + xp.sqrt(variance + order) * rng.standard_normal(g.shape, dtype=g.dtype)
        wander = (at.up + at.down) ** 2 * ups * downs / xp.maximum(n, 1)  # of a path with random order and this end
        return self._held(xp, g, moved, variance + wander, n, p, rng)

    def _held(self, xp: Namespace, g: Array, end: Array, variance: Array, n: Array, p: PerDevice, rng: Any) -> Array:
        """The end of a walk that its bounds held on the way: less by how far it would have gone beyond them.

        The largest excursion of a walk that ends at `end` is drawn from the Brownian bridge, less what a walk in n
        steps misses of it (Siegmund 1985; Asmussen, Glynn and Pitman 1995). One pulse is cut exactly.
        """
        u = 1 - rng.random(g.shape, dtype=g.dtype)  # in (0, 1]
        move = end - g
        reach = xp.sqrt(move * move - 2 * variance * xp.log(u))
        missed = SHIFT * xp.sqrt(variance / xp.maximum(n, 1))
        above, below = (move + reach) / 2 - missed, (move - reach) / 2 + missed
        above = xp.where(n > 1, xp.maximum(above, xp.maximum(move, 0)), move)
        below = xp.where(n > 1, xp.minimum(below, xp.minimum(move, 0)), move)
        over = xp.maximum(g + above - p["w_max"], 0)
        under = xp.maximum(p["w_min"] - g - below, 0)
        return self.bounded(xp, end - over + under, p)


def mean_of_exp(xp: Namespace, x: Array) -> Array:
    """(e^x - 1) / x, the mean of e^(x t) over t from 0 to 1; 1 at x = 0."""
    small = abs(x) < 1e-3
    return xp.where(small, 1 + x * (0.5 + x / 6), xp.expm1(x) / xp.where(small, 1, x))


def ratio(xp: Namespace, slope: Array, log: Array) -> Array:
    """-log / slope, for log = ln(1 - slope); its limit, 1, at slope = 0."""
    small = abs(slope) < 1e-3
    return xp.where(small, 1 + slope * (0.5 + slope / 3), -log / xp.where(small, 1, slope))


class ConstantStep(StepCell):
    """The same step everywhere."""

    name = "constant-step"

    def populate(self, xp: Namespace, rng: Any, shape: tuple[int, ...], dtype: Any = None) -> PerDevice:
        """Steps at state 0 ("step_up", "step_down") and their slopes ("slope_up", "slope_down"), per device.

        A pulse up is g + step_up - slope_up g, a pulse down g - step_down - slope_down g.
        """
        drawn = super().populate(xp, rng, shape, dtype)
        return drawn | self.lines(xp, drawn)

    def lines(self, xp: Namespace, drawn: PerDevice) -> PerDevice:
        """The steps of each device as straight lines in the state."""
        flat = xp.zeros_like(drawn["scale_up"])
        return {"step_up": drawn["scale_up"], "step_down": drawn["scale_down"], "slope_up": flat, "slope_down": flat}

    def local(self, xp: Namespace, g: Array, per_device: PerDevice) -> Local:
        p = per_device
        up = xp.maximum(p["step_up"] - p["slope_up"] * g, 0)
        down = xp.maximum(p["step_down"] + p["slope_down"] * g, 0)
        return Local(up, down, p["slope_up"], p["slope_down"])


class LinearStep(ConstantStep):
    """A step that shrinks linearly towards its bound: scale_up (1 - gamma_up g / w_max), down with w_min."""

    name = "linear-step"
    fits: ClassVar[tuple[str, ...]] = ("dw_min", "up_down", "gamma_up", "gamma_down")

    gamma_up: float = varying(0.0, d2d=0.05, law="absolute", doc="1: up steps vanish at w_max", low=0)
    gamma_down: float = varying(0.0, d2d=0.05, law="absolute", doc="1: down steps vanish at w_min", low=0)

    def check(self) -> None:
        super().check()
        if not self.w_min < 0 < self.w_max:
            raise DeviceError(f"{self.title}: steps are sloped about state 0; needs w_min < 0 < w_max")

    def lines(self, xp: Namespace, drawn: PerDevice) -> PerDevice:
        return sloped(xp, drawn, abs(drawn.pop("gamma_up")), abs(drawn.pop("gamma_down")))


class SoftBoundsReference(ConstantStep):
    """Soft bounds: a step up is scale_up (1 - g'/w_max), down scale_down (1 - g'/w_min), of g' = g + reference.

    The reference is a second cell that is subtracted; with `subtract_symmetry_point` it holds each cell's symmetry
    point, where a pulse up and a pulse down cancel, so that state 0 is that point.
    """

    name = "soft-bounds"
    fits: ClassVar[tuple[str, ...]] = ("dw_min", "up_down", "w_min", "w_max")

    mult_noise: bool = parameter(False, doc="noise in proportion to the step, else to its scale")
    reference: float = varying(0.0, law="absolute", doc="state of the reference cell")
    subtract_symmetry_point: bool = parameter(False, doc="each reference also holds its cell's symmetry point")

    def check(self) -> None:
        super().check()
        if not self.w_min < 0 < self.w_max:
            raise DeviceError(f"{self.title}: steps vanish at the bounds on both sides of 0; needs w_min < 0 < w_max")

    def lines(self, xp: Namespace, drawn: PerDevice) -> PerDevice:
        """Bounds and steps in terms of the difference to the reference, which is what the state means."""
        reference = drawn.pop("reference")
        if self.subtract_symmetry_point:
            reference = reference + symmetry_point(xp, drawn)
        lines = sloped(xp, drawn, 1.0, 1.0)
        lines["step_up"] = lines["step_up"] - lines["slope_up"] * reference
        lines["step_down"] = lines["step_down"] + lines["slope_down"] * reference
        stuck = drawn["w_max"] <= drawn["w_min"]
        drawn["w_min"] = xp.where(stuck, drawn["w_min"], drawn["w_min"] - reference)
        drawn["w_max"] = xp.where(stuck, drawn["w_max"], drawn["w_max"] - reference)
        return lines


def sloped(xp: Namespace, drawn: PerDevice, gamma_up: Array | float, gamma_down: Array | float) -> PerDevice:
    """Steps that shrink to 1 - gamma of their scale at their bounds."""
    tiny = 1e-9  # a device whose bound fell on 0 moves there at once
    return {
        "step_up": drawn["scale_up"],
        "step_down": drawn["scale_down"],
        "slope_up": gamma_up * drawn["scale_up"] / xp.maximum(abs(drawn["w_max"]), tiny),
        "slope_down": gamma_down * drawn["scale_down"] / xp.maximum(abs(drawn["w_min"]), tiny),
    }


def symmetry_point(xp: Namespace, per_device: PerDevice) -> Array:
    """Where soft-bounds pulses up and down cancel: (su - sd) / (su / w_max - sd / w_min), 0 for faulty cells."""
    up, down = per_device["scale_up"], per_device["scale_down"]
    moves = up + down > 0
    total = up / xp.where(moves, per_device["w_max"], 1) - down / xp.where(moves, per_device["w_min"], 1)
    return xp.where(moves, (up - down) / xp.where(moves, total, 1), 0)


class ExpStep(StepCell):
    """A step that changes exponentially: up scale_up max(1 - A_up e^(gamma_up z), 0), down with -gamma_down z.

    z = 2 a g / (w_max - w_min) + b. With std_add or std_slope, the noise of a pulse is
    dw_min_std (step + std_add + std_slope |g|). Device: Gong et al., Nature Communications 9, 2102 (2018).
    """

    name = "exp-step"
    fits: ClassVar[tuple[str, ...]] = ("dw_min", "A_up", "A_down", "gamma_up", "gamma_down")
    begins: ClassVar[tuple[dict[str, float], ...]] = tuple(
        {"A_up": weight, "A_down": weight, "gamma_up": 3.0, "gamma_down": 3.0} for weight in (0.3, -0.3)
    )

    A_up: float = parameter(0.00081, doc="weight of the exponential, up")
    A_down: float = parameter(0.36833, doc="weight of the exponential, down")
    gamma_up: float = parameter(12.44625, doc="exponent, up")
    gamma_down: float = parameter(12.78785, doc="exponent, down")
    a: float = parameter(0.244, doc="scale of z")
    b: float = parameter(0.2425, doc="offset of z")
    std_add: float = parameter(0.0, doc="noise that no step shrinks, in units of the state", low=0)
    std_slope: float = parameter(0.0, doc="noise in proportion to the state", low=0)
    pieces = 8

    def local(self, xp: Namespace, g: Array, per_device: PerDevice) -> Local:
        p = per_device
        width = p["w_max"] - p["w_min"]
        stretch = 2 * self.a / xp.where(width > 0, width, 1)
        z = stretch * g + self.b
        up = p["scale_up"] - p["scale_up"] * self.A_up * xp.exp(self.gamma_up * z)
        down = p["scale_down"] - p["scale_down"] * self.A_down * xp.exp(-self.gamma_down * z)
        slope_up = self.gamma_up * stretch * (p["scale_up"] - up)
        slope_down = self.gamma_down * stretch * (p["scale_down"] - down)
        return Local(
            xp.maximum(up, 0), xp.maximum(down, 0), xp.where(up > 0, slope_up, 0), xp.where(down > 0, slope_down, 0)
        )

    def step_std(self, xp: Namespace, g: Array, step: Array, scale: Array) -> Array:
        if not self.std_add and not self.std_slope:
            return super().step_std(xp, g, step, scale)
        return xp.where(scale > 0, self.dw_min_std * (step + self.std_add + self.std_slope * abs(g)), 0)


class PowerStep(StepCell):
    """A step that is a power of the distance to its bound, u = (w_max - g) / (w_max - w_min): up u^gamma_up.

    Down (1 - u)^gamma_down. gamma = 1 are soft bounds whose scale is the step at the far bound.
    """

    name = "power-step"
    fits: ClassVar[tuple[str, ...]] = ("dw_min", "up_down", "gamma_up", "gamma_down")
    pieces = 8

    gamma_up: float = varying(1.0, d2d=0.1, law="absolute", doc="power, up", low=0)
    gamma_down: float = varying(1.0, d2d=0.1, law="absolute", doc="power, down", low=0)

    def local(self, xp: Namespace, g: Array, per_device: PerDevice) -> Local:
        p = per_device
        width = p["w_max"] - p["w_min"]
        width = xp.where(width > 0, width, 1)
        u = xp.minimum(xp.maximum((p["w_max"] - g) / width, 1e-6), 1 - 1e-6)
        gamma_up, gamma_down = abs(p["gamma_up"]), abs(p["gamma_down"])
        up, down = p["scale_up"] * u**gamma_up, p["scale_down"] * (1 - u) ** gamma_down
        return Local(up, down, gamma_up * up / (u * width), gamma_down * down / ((1 - u) * width))

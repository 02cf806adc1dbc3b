"""Saturable absorbers as neurons: light bleaches its own way, and a weak beam in the other direction finds it bleached.

I is intensity over saturation intensity, alpha the optical depth of the dark absorber. Saturable depth D, so that the
intensity falls by e^-D:

    lumped        D = alpha / (1 + I)                         I at the entrance
    distributed   dI/dz = -alpha I / (1 + I), z from 0 to 1:  y + ln y = x + ln x - alpha,  D = ln(x / y)
    with loss     dI/dz = -(alpha / (1 + I) + beta) I:        h(y) = h(x) - c,  c = alpha + beta,
                                                              h(I) = ln I + (alpha / beta) ln(1 + beta I / c)

x enters and y leaves. Encoding "amplitude": a value is a signed field in units of sqrt(I_sat), I its square, and the
value falls by e^(-D / 2); "intensity": a value is I itself.

Slopes, relative to value out over value in: exact 1 - dD/d ln I, which is (1 + x) / (1 + y) in the distributed
absorber. A weak counter-propagating beam sees 1: the same depth, so that light sends back the *secant*. Where pump
and probe are coherent, of one polarisation, and the absorbers stand still, their standing wave writes a grating, and
the probe meets 1 / (1 + I)^2 instead of 1 / (1 + I) (derived: the field at one place, expanded in the probe, averaged
over a wavelength). A distributed absorber then shows it, in amplitude, the geometric mean of secant and exact slope,
and in intensity the exact slope itself. A strong probe of intensity P saturates as well: since the product of both
fields is the same everywhere, both then see the transmission of one beam of intensity x + P (derived).

Source of the lumped model and its probe: Guo, Barrett, Wang and Lvovsky, Photonics Research 9, B71 (2021), read in
its published code. The distributed model: derived.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hwsim.arrays import Array, Namespace
from hwsim.errors import ConfigError, ShapeError

MOST_STEPS = 200  # each step of Newton's method takes off at least e^-1 of the intensity, or ends


@dataclass(frozen=True)
class Absorber:
    """One layer of absorbers. Depths are on intensity; all numbers finite, 0 or more. Raises ConfigError.

    `output_loss_depth`: unsaturable loss behind it; `internal_loss_depth`: along it (distributed only).
    `probe_ratio`: RMS amplitude (or intensity, if that is the encoding) of the probe over the pump's.
    `grating` 0 to 1: how much of the standing wave is written. `crosstalk`: the share of each value that lands on
    each of its two neighbours instead. `lifetime_s`: of the excited state.
    """

    optical_depth: float
    profile: Literal["lumped", "distributed"] = "lumped"
    encoding: Literal["amplitude", "intensity"] = "amplitude"
    output_loss_depth: float = 0.0
    internal_loss_depth: float = 0.0
    probe_ratio: float = 0.0
    grating: float = 0.0
    crosstalk: float = 0.0
    lifetime_s: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("profile", ("lumped", "distributed")), ("encoding", ("amplitude", "intensity"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}={getattr(self, name)!r}; known: {', '.join(known)}")
        for name in ("optical_depth", "output_loss_depth", "internal_loss_depth", "probe_ratio", "lifetime_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}={value}: needs a finite number, 0 or more")
        for name, most in (("grating", 1.0), ("crosstalk", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name}={getattr(self, name)}: needs a number from 0 to {most:g}")
        if self.internal_loss_depth and self.profile == "lumped":
            raise ConfigError("internal_loss_depth needs profile='distributed'; lumped ones have output_loss_depth")
        if self.probe_ratio and (self.grating or self.internal_loss_depth):
            raise ConfigError("there is no model of a strong probe_ratio with grating or internal_loss_depth; drop one")

    @property
    def order(self) -> int:
        """Powers of the value in the intensity: 2 for amplitudes, 1 for intensities."""
        return 2 if self.encoding == "amplitude" else 1

    def highest_symbol_rate_hz(self, remembered: float) -> float:
        """The rate at which `remembered` of one symbol's excitation is left at the next: 1 / (lifetime ln(1 / it))."""
        if not 0 < remembered < 1:
            raise ConfigError(f"remembered={remembered}: needs a share between 0 and 1")
        return math.inf if self.lifetime_s == 0 else 1 / (self.lifetime_s * math.log(1 / remembered))


def transmit(xp: Namespace, absorber: Absorber, x: Array) -> Array:
    """What leaves the absorbers, [m, n], when x [m, n] enters. Raises ShapeError for intensities below 0."""
    pump = mixed(absorber, x)
    return pump * _kept(xp, absorber, depth(xp, absorber, _intensity(absorber, pump)))


def backward_exact(xp: Namespace, absorber: Absorber, x: Array, dy: Array) -> Array:
    """dL/dx [m, n] of `transmit` at x [m, n] for dL/dy = dy [m, n]: what no light does by itself."""
    pump = mixed(absorber, x)
    return mixed(absorber, dy * exact_slope(xp, absorber, pump))


def backward_probe(xp: Namespace, absorber: Absorber, x: Array, dy: Array) -> Array:
    """What is left of a beam dy [m, n] that runs back through absorbers pumped by x [m, n]; crosstalk is reciprocal."""
    pump = mixed(absorber, x)
    if absorber.probe_ratio == 0:
        return mixed(absorber, dy * probe_slope(xp, absorber, pump))
    power = xp.sqrt((pump * pump).mean() / xp.maximum((dy * dy).mean(), np.finfo(dy.dtype).tiny))
    probe = xp.abs(dy) * (absorber.probe_ratio * power)  # a detector reads the sign from the phase
    return mixed(absorber, dy * probe_slope(xp, absorber, pump, probe))


def exact_slope(xp: Namespace, absorber: Absorber, pump: Array) -> Array:
    """d(value out) / d(value in) of every absorber alone, at the pump [m, n] that enters it."""
    entering = _intensity(absorber, pump)
    absorbed = depth(xp, absorber, entering)
    return _kept(xp, absorber, absorbed) * _steeper(xp, absorber, entering, absorbed)


def probe_slope(xp: Namespace, absorber: Absorber, pump: Array, probe: Array | float = 0.0) -> Array:
    """Value out over value in of a counter-propagating probe, at the pump [m, n]; `probe` is its own strength."""
    entering = _intensity(absorber, pump)
    if absorber.probe_ratio:
        entering = entering + _intensity(absorber, probe)
    absorbed = depth(xp, absorber, entering)
    if absorber.grating:
        absorbed = absorbed - absorber.grating * _bleached_more(xp, absorber, entering, absorbed)
    return _kept(xp, absorber, absorbed)


def best_gain(xp: Namespace, absorber: Absorber, pump: Array) -> Array:
    """The gain that brings the probe's slopes nearest to the exact ones, over the pumps [m, n]: a 0-d array."""
    exact, probe = exact_slope(xp, absorber, pump), probe_slope(xp, absorber, pump)
    return (exact * probe).sum() / (probe * probe).sum()


def weak(absorber: Absorber) -> Absorber:
    """The same absorbers met by a probe that saturates nothing."""
    return dataclasses.replace(absorber, probe_ratio=0.0)


def mixed(absorber: Absorber, values: Array) -> Array:
    """Values [m, n] after crosstalk between neighbours; what falls off the ends of the row is lost."""
    share = absorber.crosstalk
    if share == 0:
        return values
    after = (1 - 2 * share) * values
    after[..., 1:] += share * values[..., :-1]
    after[..., :-1] += share * values[..., 1:]
    return after


def slope_cosine(absorber: Absorber, sigma: float) -> float:
    """Cosine between exact and probe slopes over values N(0, sigma^2): how well light knows the gradient's direction.

    Intensities are |N(0, sigma^2)|. By the trapezoidal rule over 10 sigma either way, exact to rounding for functions
    this smooth.
    """
    value = np.linspace(-10 * sigma, 10 * sigma, 20_001)
    weight = np.exp(-0.5 * (value / sigma) ** 2)
    pump = value if absorber.order == 2 else abs(value)
    exact, probe = exact_slope(np, absorber, pump), probe_slope(np, absorber, pump)
    return float((weight * exact * probe).sum() / np.sqrt((weight * exact**2).sum() * (weight * probe**2).sum()))


def depth(xp: Namespace, absorber: Absorber, entering: Array) -> Array:
    """The depth that intensities `entering` meet, internal loss included, output loss not."""
    alpha, beta = absorber.optical_depth, absorber.internal_loss_depth
    if absorber.profile == "lumped":
        return alpha / (1 + entering)
    lit = xp.maximum(entering, np.finfo(entering.dtype).tiny)  # the dark has no logarithm
    leaving = _lossy_output(xp, lit, alpha, beta) if beta else wright_omega(xp, lit + xp.log(lit) - alpha)
    # ln(x / y) as it stands where the beam comes out strong; elsewhere y may underflow: by the solved equation.
    if beta:
        share = beta / (alpha + beta)
        weak = (alpha + beta) - (alpha / beta) * (xp.log1p(share * lit) - xp.log1p(share * leaving))
    else:
        weak = alpha - (lit - leaving)
    return xp.where(leaving > 1, xp.log(lit / xp.maximum(leaving, 1)), weak)


def wright_omega(xp: Namespace, z: Array) -> Array:
    """The y with y + ln y = z, real: by SciPy on NumPy arrays, else by the iteration that SciPy uses.

    Source: Fritsch, Shafer and Crowley, Comm. ACM 16, 123 (1973), recalled; of fourth order, so that three steps from
    a guess within a third reach rounding.
    """
    if xp is np:
        from scipy.special import wrightomega

        return wrightomega(z)
    z = xp.maximum(z, math.log(np.finfo(z.dtype).tiny))
    high = xp.maximum(z, 1)
    y = xp.where(z > 1, high - xp.log(high) * (1 - 1 / high), xp.log1p(xp.exp(xp.minimum(z, 1))))
    for _ in range(3):
        residual, one = z - y - xp.log(y), 1 + y
        twice = 2 * one * (one + residual * (2 / 3))
        y = y * (1 + residual / one * (twice - residual) / (twice - 2 * residual))
    return y


def _lossy_output(xp: Namespace, entering: Array, alpha: float, beta: float) -> Array:
    """y of the distributed absorber with internal loss, by Newton's method in u = ln y.

    The equation is increasing and convex in u, and u = ln x lies above its root: every step comes nearer from above.
    Raises ConfigError where it does not converge, as with NaN.
    """
    share, weight = beta / (alpha + beta), alpha / beta
    u = xp.log(entering)
    target = u + weight * xp.log1p(share * entering) - (alpha + beta)
    close = 8 * float(np.finfo(entering.dtype).eps) * (1 + alpha + beta)
    for _ in range(MOST_STEPS):
        y = xp.exp(u)
        step = (u + weight * xp.log1p(share * y) - target) / (1 + weight * share * y / (1 + share * y))
        u = u - step
        # Relative to |u|, and to what rounding leaves of the residual where intensities are large.
        if bool((xp.abs(step) <= close * (1 + xp.abs(u))).all()):
            return xp.exp(u)
    raise ConfigError(f"the absorber's equation did not converge in {MOST_STEPS} steps; are all values finite?")


def _intensity(absorber: Absorber, values: Array) -> Array:
    """I of encoded values. Raises ShapeError where intensities below 0 were asked for."""
    if absorber.order == 2:
        return values * values
    if not bool((values >= 0).all()):
        raise ShapeError("an intensity is below 0 or NaN; encode signed values as amplitudes, or add an offset")
    return values


def _kept(xp: Namespace, absorber: Absorber, absorbed: Array) -> Array:
    """Value out over value in, behind the depth `absorbed` and the output loss."""
    return xp.exp((absorbed + absorber.output_loss_depth) / -absorber.order)


def _steeper(xp: Namespace, absorber: Absorber, entering: Array, absorbed: Array) -> Array:
    """Exact slope over secant, 1 - dD/d ln I."""
    if absorber.profile == "lumped":
        return 1 + absorber.optical_depth * entering / (1 + entering) ** 2
    leaving = entering * xp.exp(-absorbed)
    share = absorber.internal_loss_depth / (absorber.optical_depth + absorber.internal_loss_depth or 1.0)
    return (1 + entering) / (1 + leaving) * ((1 + share * leaving) / (1 + share * entering))


def _bleached_more(xp: Namespace, absorber: Absorber, entering: Array, absorbed: Array) -> Array:
    """How much less depth the probe meets where a full grating is written.

    The integral of alpha I / (1 + I)^2 over the absorber; along a distributed one, with internal loss or without, it
    is the logarithm of exact slope over secant.
    """
    steeper = _steeper(xp, absorber, entering, absorbed)
    return steeper - 1 if absorber.profile == "lumped" else xp.log(steeper)

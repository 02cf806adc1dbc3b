"""Cell models fitted to measured pulse-conductance curves, with 95% intervals and residuals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hwsim.devices.crossbar.cells import Cell, Silent
from hwsim.devices.crossbar.curves import Curve, Values
from hwsim.errors import ConfigError, DeviceError
from hwsim.parameters import hints_of, parameters_of

NOISES = ("cycle", "read")
Z95 = 1.96  # of the normal distribution: half a 95% interval in standard deviations
FAR = 3.0  # standard deviations from a bound at which it cuts one pulse in 740
REFUSED = 1e6  # residual of parameters that no cell can have


class Estimate(NamedTuple):
    """A fitted value within its 95% interval."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Fitted:
    """A cell model with its fitted parameters, their 95% intervals, and what is left over."""

    cell: Cell
    names: tuple[str, ...]
    values: Values
    low: Values
    high: Values
    curve: Curve
    predicted_siemens: Values  # [count - 1], of the conductances after each pulse
    noise: str
    spread: Estimate | None  # dw_min_std; None: the cell has none, or read noise

    @cached_property
    def residuals_siemens(self) -> Values:
        """Measured minus predicted [S], after each pulse [count - 1]."""
        return self.curve.conductance_siemens[1:] - self.predicted_siemens

    @cached_property
    def rms_siemens(self) -> float:
        """RMS of the residuals [S]."""
        return float(np.sqrt(np.mean(self.residuals_siemens**2)))

    @cached_property
    def autocorrelation(self) -> float:
        """Of residuals one pulse apart; far from 0 (beyond 2 / sqrt(count)), model or kind of noise do not fit."""
        r = self.residuals_siemens
        power = float(r @ r)
        return float(r[1:] @ r[:-1]) / power if power else 0.0

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Every fitted parameter, dw_min_std included, with its 95% interval."""
        found = {
            name: Estimate(*map(float, values))
            for name, *values in zip(self.names, self.low, self.values, self.high, strict=True)
        }
        return found if self.spread is None else found | {"dw_min_std": self.spread}

    def __str__(self) -> str:
        """One parameter a line, then the residuals."""
        rows = [
            f"{name:<12} {at.value:12.6g}   95% {at.low:.6g} to {at.high:.6g}" for name, at in self.estimates.items()
        ]
        rows.append(
            f"residuals: RMS {self.rms_siemens:.4g} S over {len(self.residuals_siemens)} pulses, "
            f"correlation of neighbours {self.autocorrelation:+.2f}"
        )
        return "\n".join(rows)


@dataclass(frozen=True)
class Population:
    """One cell model fitted to every device of a measurement: means with 95% intervals, and spreads.

    Of one device: its own values and intervals. Of several: means over devices, intervals by Student's t, and
    NAME_d2d, the spread from device to device, less what the uncertainty of each device's own fit adds to it.
    """

    fits: dict[str, Fitted]  # by device

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Every fitted parameter with its 95% interval."""
        from scipy.special import stdtrit

        first, *others = self.fits.values()
        if not others:
            return first.estimates
        quantile = float(stdtrit(len(others), 0.975)) / math.sqrt(len(self.fits))
        found = {}
        for name in first.estimates:
            values = [each.estimates[name].value for each in self.fits.values()]
            mean, half = statistics.fmean(values), quantile * statistics.stdev(values)
            found[name] = Estimate(mean - half, mean, mean + half)
        return found

    @cached_property
    def spreads(self) -> dict[str, float]:
        """NAME_d2d of fitted parameters that differ from device to device; none of one device."""
        cell = next(iter(self.fits.values())).cell
        if len(self.fits) == 1:
            return {}
        found = {}
        for name in self.estimates:
            if f"{name}_d2d" in parameters_of(type(cell)):
                own = [each.estimates[name] for each in self.fits.values()]
                relative = getattr(cell, f"{name}_law") != "absolute"
                unit = abs(self.estimates[name].value) if relative else 1.0
                uncertainty = statistics.fmean(((at.high - at.low) / (2 * Z95)) ** 2 for at in own)
                excess = statistics.variance(at.value for at in own) - uncertainty
                found[f"{name}_d2d"] = math.sqrt(max(excess, 0.0)) / unit
        return found

    @cached_property
    def cell(self) -> Cell:
        """The cell of the means and spreads."""
        cells = [each.cell for each in self.fits.values()]
        window = {
            name: statistics.fmean(getattr(each, name).nominal for each in cells)
            for name in ("g_min_siemens", "g_max_siemens")
        }
        values = {name: at.value for name, at in self.estimates.items()}
        return cells[0].changed(**values, **self.spreads, **window)

    @property
    def rms_siemens(self) -> float:
        """RMS of all residuals [S]."""
        return float(np.sqrt(np.mean(np.concatenate([each.residuals_siemens for each in self.fits.values()]) ** 2)))

    @property
    def pulses(self) -> int:
        """How many were measured, on all devices."""
        return sum(len(each.residuals_siemens) for each in self.fits.values())

    @property
    def parameters(self) -> int:
        """How many were fitted to each device."""
        return len(next(iter(self.fits.values())).names)

    @property
    def degrees_of_freedom(self) -> int:
        """Pulses less fitted parameters."""
        return self.pulses - self.parameters * len(self.fits)

    @property
    def autocorrelation(self) -> float:
        """Mean over devices; see `Fitted.autocorrelation`."""
        return statistics.fmean(each.autocorrelation for each in self.fits.values())

    @property
    def bic(self) -> float:
        """Bayesian information criterion, sum of n ln(RSS / n) [S^2] over devices + parameters x ln(all pulses).

        Parameters: those fitted and the size of the residuals, of each device; and the bounds w_min and w_max where
        they are not fitted but read off the curves. Residuals below a billionth of the range count as that. Lower is
        better. Source: Schwarz, Annals of Statistics 6, 461 (1978), for normal residuals.
        """
        misfit, fits = 0.0, self.fits.values()
        for each in fits:
            least = 1e-9 * float(np.ptp(each.curve.conductance_siemens))
            misfit += 2 * len(each.residuals_siemens) * math.log(max(each.rms_siemens, least))
        bounds = len({"w_min", "w_max"} - self.estimates.keys())
        return misfit + (len(fits) * (self.parameters + 1) + bounds) * math.log(self.pulses)


def fit(
    model: type[Cell],
    curve: Curve | str | Path,
    *,
    free: Sequence[str] = (),
    noise: str = "cycle",
    window_siemens: tuple[float, float] | None = None,
    **start: Any,
) -> Fitted:
    """The parameters `free` of a cell class (none given: its `fits`) that explain a curve best, by least squares.

    Where errors come from decides what is compared. `cycle`: each pulse is noisy and reading is exact, so each state
    is predicted from the measured one before it. `read`: pulses are exact and reading is noisy, so the whole curve is
    predicted from its start. Conductances `window_siemens` (none given: the curve's own extremes) stand for the
    start values of w_min and w_max. `start` sets parameters, free ones to begin with and others for good.
    Intervals come from the Jacobian; for `cycle` they allow for noise that differs from step to step (MacKinnon and
    White 1985, HC3). They are as good as the model is straight within them: of synthetic curves of 400 pulses they
    held 94 to 95% of the true parameters, but 90% of exponential steps', whose five parameters trade against each
    other. dw_min_std is taken from the residuals, for `cycle`.
    Raises ConfigError for unreadable curves and for parameters that the curve does not determine.
    """
    from scipy.optimize import least_squares
    from scipy.special import stdtrit

    curve = curve if isinstance(curve, Curve) else Curve.from_csv(curve)
    if noise not in NOISES:
        raise ConfigError(f"noise={noise!r}; needs one of {', '.join(NOISES)}")
    names = tuple(free) or fitted_by_default(model)
    known = parameters_of(model)
    if unknown := [name for name in (*names, *start) if name not in known]:
        raise ConfigError(f"{model.__name__} has no parameter {', '.join(unknown)}; it has: {', '.join(sorted(known))}")
    if not names:
        raise ConfigError(f"{model.__name__} has no number to fit; name parameters in `free`")
    if (pulses := len(curve.up) - 1) <= len(names):
        raise ConfigError(f"{pulses} pulses are too few for {len(names)} parameters ({', '.join(names)}); measure more")
    low_s, high_s = window_siemens or (curve.conductance_siemens.min(), curve.conductance_siemens.max())
    if not 0 <= low_s < high_s:
        raise ConfigError(f"window_siemens={window_siemens}: needs 0 <= lowest < highest conductance [S]")
    first = model(**{"w_min": -1.0, "w_max": 1.0, **start})
    scale = first.span / (high_s - low_s)
    states = first.w_min + (curve.conductance_siemens - low_s) * scale
    if "dw_min" in names and "dw_min" not in start:
        first = first.changed(dw_min=max(float(np.median(abs(np.diff(states)))), 1e-9))
    limits = np.array(
        [[known[name].metadata.get(key, s) for name in names] for key, s in (("low", -np.inf), ("high", np.inf))]
    )
    if "w_min" in names:  # no cell conducts less than nothing
        limits[0, names.index("w_min")] = first.w_min - low_s * scale

    def residuals(x: Values) -> Values:
        try:
            tried = first.changed(**dict(zip(names, map(float, x), strict=True)))
        except DeviceError:
            return np.full(len(states) - 1, REFUSED)
        with np.errstate(over="ignore", invalid="ignore"):  # parameters that no cell has may overflow
            off = states[1:] - predicted(tried, states, curve.up[1:], noise)
        return np.where(np.isfinite(off), off, REFUSED)

    ends: list[tuple[Any, Values]] = []
    for values in model.begins:
        begin = np.array([float({**{n: getattr(first, n) for n in names}, **values, **start}[n]) for n in names])
        size = np.where(begin == 0, 0.1, abs(begin))
        tight = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12, "max_nfev": 300}
        ends.append((least_squares(residuals, begin, bounds=limits, x_scale=size, **tight), size))
    found, size = min(ends, key=lambda end: float(end[0].cost))
    count, number = found.jac.shape
    freedom = count - number
    scaled = found.jac * size
    if np.linalg.matrix_rank(scaled, tol=1e-9 * np.linalg.norm(scaled)) < number:
        remedy = (
            "fit fewer, or give longer curves" if len(set(curve.up[1:])) > 1 else "pulse it both ways, or fit fewer"
        )
        raise ConfigError(f"the curve does not determine {', '.join(names)} together; {remedy}")
    inverse = np.linalg.inv(scaled.T @ scaled)
    if noise == "cycle":
        leverage = np.einsum("ij,jk,ik->i", scaled, inverse, scaled)
        spread = scaled * (found.fun / np.maximum(1 - leverage, 1e-6))[:, None]
        covariance = inverse @ (spread.T @ spread) @ inverse
    else:
        covariance = inverse * (float(found.fun @ found.fun) / freedom)
    half = float(stdtrit(freedom, 0.975)) * np.sqrt(np.diag(covariance)) * size
    best = first.changed(**dict(zip(names, map(float, found.x), strict=True)))
    own_std = None
    if noise == "cycle" and "dw_min_std" in known:
        own_std = _cycle_std(best, states, curve.up[1:], found.fun, number)
        best = best.changed(dw_min_std=own_std[1])
    elif "dw_min_std" in known:
        best = best.changed(dw_min_std=0.0)
    window = {
        f"g_{end}_siemens": max(low_s + (w - first.w_min) / scale, 0.0)
        for end, w in (("min", best.w_min), ("max", best.w_max))
    }
    best = best.changed(**{key: float(value) for key, value in window.items()})
    predicted_siemens = low_s + (states[1:] - found.fun - first.w_min) / scale
    return Fitted(best, names, found.x, found.x - half, found.x + half, curve, predicted_siemens, noise, own_std)


def fit_devices(model: type[Cell], curves: Mapping[str, Curve], noise: str = "cycle") -> Population:
    """`fit` of each device, in one window of conductances: from the lowest to the highest of all."""
    ends = [(each.conductance_siemens.min(), each.conductance_siemens.max()) for each in curves.values()]
    window = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
    fits = {}
    for device, curve in curves.items():
        try:
            fits[device] = fit(model, curve, noise=noise, window_siemens=window)
        except ConfigError as error:
            raise ConfigError(f"device {device}: {error}" if device else str(error)) from None
    return Population(fits)


def fitted_by_default(model: type[Cell]) -> tuple[str, ...]:
    """A class's `fits`, or the float parameters that it declares itself."""
    if model.fits:
        return model.fits
    hints, base = hints_of(model), parameters_of(Cell)
    own = [name for name in parameters_of(model) if name not in base and hints[name] is float]
    return tuple(name for name in own if not name.endswith(("_d2d", "_std")))


def predicted(cell: Cell, states: Values, up: Values, noise: str) -> Values:
    """States [count - 1] after each pulse, without noise: each from the measured one before, or all from the first."""
    if noise == "cycle":
        return np.asarray(cell.pulse(np, states[:-1], cell.typical(np, up.shape), up, Silent(np)))
    per_device, silent = cell.typical(np, (1,)), Silent(np)
    g, curve = states[:1], np.empty(len(up))
    for i in range(len(up)):
        g = cell.pulse(np, g, per_device, up[i : i + 1], silent)
        curve[i] = g[0]
    return curve


def _cycle_std(cell: Cell, states: Values, up: Values, residual: Values, number: int) -> Estimate:
    """dw_min_std that the residuals show (95%, for normal noise), of pulses that no bound can have cut short."""
    unit = cell.changed(dw_min_std=1.0)
    per_device, ends = cell.typical(np, up.shape), states[1:]
    low, high = per_device["w_min"], per_device["w_max"]
    if _straight(cell):
        per_device |= {"w_min": np.full(up.shape, -math.inf), "w_max": np.full(up.shape, math.inf)}
    middle, off = (unit.pulse(np, states[:-1], per_device, up, Silent(np, xi)) for xi in (0.0, 1e-3))
    std = abs(off - middle) * 1e3
    held = (std > 0) & (low < ends) & (ends < high)
    for _ in range(2):  # chosen by where pulses end, which favours small steps; then by where they are expected
        chosen = held if held.any() else std > 0
        power = float(np.mean((residual[chosen] / std[chosen]) ** 2))
        value = math.sqrt(power * len(residual) / (len(residual) - number))
        reach = FAR * value * std
        held = (std > 0) & (low < middle - reach) & (middle + reach < high)
    half = Z95 * value / math.sqrt(2 * int(chosen.sum()))
    return Estimate(max(value - half, 0.0), value, value + half)


def _straight(cell: Cell) -> bool:
    """Whether a cell's steps do not look at its bounds, so that these can be taken away."""
    return "slope_up" in cell.typical(np)

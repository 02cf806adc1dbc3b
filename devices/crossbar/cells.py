"""Memory cells of a crossbar: what a cell is, and how a user's or a shipped one is found by name.

A cell's state g is one dimensionless number, its weight in the units that pulsed devices are published in. It runs
from `w_min` to `w_max`, which stand for the conductances `g_min_siemens` and `g_max_siemens`, linearly between:

    G = g_min + (g - w_min) / (w_max - w_min) (g_max - g_min)  [S], not below 0

The nominal window sets this scale for all cells; a device whose own bounds lie further out conducts more or less.
Methods take the array library xp (NumPy or CuPy), states g of any shape, per-device parameters of the same shape as
`populate` drew them, and a generator; they return new arrays and keep nothing. A cell of one's own, complete:

    class MyCell(Cell):
        step: float = varying(0.01, d2d=0.3, doc="mean step")

        def pulse(self, xp, g, per_device, up, rng):
            step = per_device["step"] * (1 + 0.2 * rng.standard_normal(g.shape, dtype=g.dtype))
            return self.bounded(xp, g + xp.where(up, step, -step), per_device)
"""

from __future__ import annotations

import dataclasses
import math
import re
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self, dataclass_transform

from hwsim import library, registry
from hwsim.arrays import Array, Namespace
from hwsim.cost import Quantity
from hwsim.devices.crossbar.varying import Silent, declare, frozen, spread, varying
from hwsim.errors import ConfigError, DeviceError, PluginError
from hwsim.parameters import coerced, hints_of, parameter, parameters_of

__all__ = ["Cell", "PerDevice", "Silent", "cell", "models", "presets", "varying"]

GROUP = "hwsim.cells"  # entry points of cells that others wrote
PRESETS = Path(__file__).with_name("cells.toml")
CHANGE = re.compile(r"\+(?=[A-Za-z_]\w*=)")  # begins a parameter that differs; "+" within a number does not
DESCRIBES = ("doc", "model", "source", "certainty", "note")  # entries of a preset that are no parameters

PerDevice = dict[str, Array]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(parameter, varying))
@declare
class Cell:
    """A memory cell: annotated class attributes are its parameters, methods its physics; exact unless overridden.

    Whoever owns the states keeps them, counts pulses per cell, and asks `affordable` before pulsing where cells
    wear out. Persistent states move by pulses; where there is write noise, products see `apparent` states.
    """

    name: ClassVar[str] = "cell"
    fits: ClassVar[tuple[str, ...]] = ()  # what a fit to measured curves varies; (): floats of the class's own
    begins: ClassVar[tuple[dict[str, float], ...]] = ({},)  # values that a fit begins with; the best end is kept

    label: str = parameter("", doc="what it was asked for by")
    w_min: float = varying(-1.0, doc="state at the lowest conductance")
    w_max: float = varying(1.0, doc="state at the highest conductance")
    g_min_siemens: Quantity | None = parameter(None, unit="S", doc="conductance at w_min", low=0)
    g_max_siemens: Quantity | None = parameter(None, unit="S", doc="conductance at w_max", low=0)
    stuck_probability: float = parameter(0.0, doc="share of cells stuck at random states", low=0, high=1)
    stuck_range: float = parameter(0.1, doc="stuck states lie within +- this, and within the window", low=0)
    dead_probability: float = parameter(0.0, doc="share of cells that stay at w_min", low=0, high=1)
    endurance: float | None = varying(None, law="lognormal", unit="pulses", doc="a cell stops after so many", low=1)
    write_noise_std: float = parameter(0.0, doc="apparent minus persistent state, in units of `resolution`", low=0)
    lifetime: float | None = varying(None, unit="updates", doc="decay towards `rest`, per update of weights", low=1)
    rest: float = varying(0.0, law="absolute", doc="the state that decay ends in")
    diffusion: float = parameter(0.0, doc="random walk per update of weights, sigma", low=0)

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        declare(cls)

    def __post_init__(self) -> None:
        hints = hints_of(type(self))
        for field in parameters_of(type(self)).values():
            value = coerced(self.title, field, hints[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, frozen(value))
        if not self.w_min < self.w_max:
            raise DeviceError(f"{self.title}: w_min={self.w_min:g} must lie below w_max={self.w_max:g}")
        low, high = self.g_min_siemens, self.g_max_siemens
        if low is not None and high is not None and not low.nominal < high.nominal:
            raise DeviceError(f"{self.title}: g_min_siemens={low.nominal:g} S must lie below g_max={high.nominal:g} S")
        self.check()

    def check(self) -> None:
        """Refuse parameters that do not fit together, with a DeviceError; nothing by default."""

    def __repr__(self) -> str:
        return f"<{self.title}>"

    def changed(self, **values: Any) -> Self:
        """This cell with other parameters."""
        return dataclasses.replace(self, **values)

    @property
    def title(self) -> str:
        """The cell in words, for messages."""
        own = type(self)
        return f"cell {getattr(self, 'label', '') or (own.name if 'name' in vars(own) else own.__name__)}"

    # -- scale -------------------------------------------------------------------------------------------

    @property
    def span(self) -> float:
        """Width of the nominal window, in units of the state."""
        return self.w_max - self.w_min

    @property
    def resolution(self) -> float:
        """The step that write noise is given in: `dw_min` where there is one, else the whole window."""
        return float(getattr(self, "dw_min", self.span))

    @property
    def pulsed(self) -> bool:
        """Whether single pulses move it; else it can only be programmed."""
        return type(self).pulse is not Cell.pulse

    def fraction(self, g: Array) -> Array:
        """u = (g - w_min) / (w_max - w_min) of the nominal window: 0 at g_min, 1 at g_max."""
        return (g - self.w_min) / self.span

    def window_siemens(self) -> tuple[float, float]:
        """(g_min, g_max) [S]. Raises DeviceError where they are not known."""
        if self.g_min_siemens is None or self.g_max_siemens is None:
            raise DeviceError(f"{self.title}: its conductances are not known; give g_min_siemens and g_max_siemens")
        return self.g_min_siemens.nominal, self.g_max_siemens.nominal

    def conductance(self, xp: Namespace, g: Array) -> Array:
        """Conductance [S] of states g, not below 0."""
        low, high = self.window_siemens()
        return xp.maximum(low + self.fraction(g) * (high - low), 0)

    def state(self, conductance_siemens: Array) -> Array:
        """The states that have the given conductances [S]; the inverse of `conductance`."""
        low, high = self.window_siemens()
        return self.w_min + (conductance_siemens - low) / (high - low) * self.span

    @property
    def dark(self) -> float:
        """The state that conducts nothing; w_min where conductances are not known."""
        if self.g_min_siemens is None or self.g_max_siemens is None:
            return self.w_min
        return float(self.state(0.0))

    # -- devices -----------------------------------------------------------------------------------------

    def populate(self, xp: Namespace, rng: Any, shape: tuple[int, ...], dtype: Any = None) -> PerDevice:
        """Per-device parameters, each an array of `shape`, float32 unless told: varying ones, bounds in order, faults.

        Bounds follow w_max = |w_max| and w_min = -|w_min| where the nominal window spans zero. Stuck and dead cells
        have w_min = w_max. Source: aihwkit 1.2, rpu_pulsed_device.cpp (read).
        """
        drawn: PerDevice = {}
        dtype = dtype or xp.float32
        for field in parameters_of(type(self)).values():
            value = getattr(self, field.name)
            if "d2d" in field.metadata and value is not None:
                sigma, law = getattr(self, f"{field.name}_d2d"), getattr(self, f"{field.name}_law")
                xi = rng.standard_normal(shape, dtype=dtype) if sigma else xp.zeros(shape, dtype=dtype)
                drawn[field.name] = spread(xp, value, sigma, law, xi)
        if self.w_min <= 0 <= self.w_max:
            drawn["w_min"], drawn["w_max"] = -abs(drawn["w_min"]), abs(drawn["w_max"])
        low, high = xp.minimum(drawn["w_min"], drawn["w_max"]), xp.maximum(drawn["w_min"], drawn["w_max"])
        drawn["w_min"], drawn["w_max"] = self.with_faults(xp, rng, low, high)
        if self.lifetime is None:
            del drawn["rest"]
        return drawn

    def with_faults(self, xp: Namespace, rng: Any, low: Array, high: Array) -> tuple[Array, Array]:
        """Bounds in which stuck and dead cells have both bounds at the state that they stay in."""
        if self.stuck_probability:
            bottom, top = xp.maximum(low, -self.stuck_range), xp.minimum(high, self.stuck_range)
            where = bottom + rng.random(low.shape, dtype=xp.float32) * xp.maximum(top - bottom, 0)
            stuck = rng.random(low.shape, dtype=xp.float32) < self.stuck_probability
            low, high = xp.where(stuck, where, low), xp.where(stuck, where, high)
        if self.dead_probability:
            dead = rng.random(low.shape, dtype=xp.float32) < self.dead_probability
            low, high = xp.where(dead, self.w_min, low), xp.where(dead, self.w_min, high)
        return low, high

    def typical(self, xp: Namespace, shape: tuple[int, ...] = ()) -> PerDevice:
        """Per-device parameters without spread and without faults, float64."""
        sound = self.changed(stuck_probability=0.0, dead_probability=0.0)
        return sound.populate(xp, Silent(xp), shape, xp.float64)

    def bounded(self, xp: Namespace, g: Array, per_device: PerDevice) -> Array:
        """g within each device's own bounds; stuck and dead cells at theirs."""
        return xp.minimum(xp.maximum(g, per_device["w_min"]), per_device["w_max"])

    # -- pulses ------------------------------------------------------------------------------------------

    def pulse(self, xp: Namespace, g: Array, per_device: PerDevice, up: Array, rng: Any) -> Array:
        """States after one pulse, up where `up` (bool, shape of g), else down. Raises DeviceError: no pulses known."""
        raise DeviceError(f"{self.title} has no pulse model; train it by programming, or take a cell that has `pulse`")

    def pulses(self, xp: Namespace, g: Array, per_device: PerDevice, n_up: Array, n_down: Array, rng: Any) -> Array:
        """States after n_up pulses up and n_down down (whole numbers >= 0, shape of g) in random order.

        One `pulse` of all cells at a time, max(n_up + n_down) times; cells that have had theirs stay. A class that
        knows a closed form overrides this.
        """
        total = n_up + n_down
        for turn in range(int(total.max()) if total.size else 0):
            now = (turn < total).astype(total.dtype)
            ups = drawn_ups(xp, now, n_up, n_down, g.dtype, rng)
            n_up, n_down = n_up - ups, n_down - (now - ups)
            g = xp.where(now > 0, self.pulse(xp, g, per_device, ups > 0, rng), g)
        return self.bounded(xp, g, per_device)

    def affordable(
        self, xp: Namespace, per_device: PerDevice, spent: Array, n_up: Array, n_down: Array
    ) -> tuple[Array, Array]:
        """The pulses that cells with `spent` pulses behind them still obey: both directions cut alike, worn cells 0.

        Whoever owns the states counts every pulse that is applied, obeyed or not.
        """
        if "endurance" not in per_device:
            return n_up, n_down
        left = xp.maximum(per_device["endurance"] - spent, 0).astype(n_up.dtype)
        total = n_up + n_down
        kept_up = xp.where(total > left, left * n_up // xp.maximum(total, 1), n_up)
        return kept_up, xp.where(total > left, xp.minimum(left - kept_up, n_down), n_down)

    def apparent(self, xp: Namespace, g: Array, per_device: PerDevice, rng: Any) -> Array:
        """What products see after cells were written: g + write_noise_std resolution xi; faulty cells stay.

        Keep g as it is; redraw the apparent state of the cells that were touched. Source: aihwkit 1.2 (read).
        """
        if not self.write_noise_std:
            return g
        moves = (per_device["w_max"] > per_device["w_min"]).astype(g.dtype)
        return g + moves * (self.write_noise_std * self.resolution) * rng.standard_normal(g.shape, dtype=g.dtype)

    def relax(self, xp: Namespace, g: Array, per_device: PerDevice, rng: Any) -> Array:
        """States after one update's worth of decay and diffusion: (g - rest)(1 - 1/lifetime) + rest + diffusion xi."""
        if self.lifetime is not None:
            kept = 1 - 1 / xp.maximum(abs(per_device["lifetime"]), 1)
            g = (g - per_device["rest"]) * kept + per_device["rest"]
        if self.diffusion:
            g = g + self.diffusion * rng.standard_normal(g.shape, dtype=g.dtype)
        return g if self.lifetime is None and not self.diffusion else self.bounded(xp, g, per_device)

    # -- programming, drift, reading ----------------------------------------------------------------------

    def program_std(self, xp: Namespace, g: Array, per_device: PerDevice) -> Array | None:
        """Standard deviation of programming to states g, in units of the state; None: exact."""
        return None

    def read_std(self, xp: Namespace, g: Array, per_device: PerDevice, time_s: float = 0.0) -> Array | None:
        """Standard deviation of one read, `time_s` after programming, in units of the state; None: exact."""
        return None

    def program(self, xp: Namespace, target: Array, per_device: PerDevice, rng: Any) -> Array:
        """States after programming to `target`, each with its own error; faulty cells stay.

        Exact programming ends within each device's bounds; with noise, conductance is not below 0. Raises
        DeviceError for targets outside the nominal window.
        """
        if target.size:
            low, high = float(target.min()), float(target.max())
            slack = 1e-6 * self.span  # rounding of whoever scaled the weights
            if not (self.w_min - slack <= low and high <= self.w_max + slack):
                worst = low if not low >= self.w_min - slack else high
                raise DeviceError(
                    f"{self.title}: {worst:g} cannot be programmed: it lies outside the cell's window, "
                    f"{self.w_min:g} to {self.w_max:g}; scale or clip the weights"
                )
        std = self.program_std(xp, target, per_device)
        if std is None:
            return self.bounded(xp, target, per_device)
        return self.noisy(xp, target, std, per_device, rng)

    def read(self, xp: Namespace, g: Array, per_device: PerDevice, rng: Any, time_s: float = 0.0) -> Array:
        """States as one read sees them, `time_s` [s] after programming. Raises DeviceError for a negative time."""
        std = self.read_std(xp, g, per_device, self.checked(time_s))
        return g if std is None else self.noisy(xp, g, std, per_device, rng)

    def drift(self, xp: Namespace, g: Array, per_device: PerDevice, time_s: float, rng: Any) -> Array:
        """States `time_s` [s] after they were programmed to g. Raises DeviceError for a negative time."""
        self.checked(time_s)
        return g

    def noisy(self, xp: Namespace, g: Array, std: Array, per_device: PerDevice, rng: Any) -> Array:
        """g + std xi, not below zero conductance; stuck and dead cells as they are stuck."""
        drawn = xp.maximum(g + std * rng.standard_normal(g.shape, dtype=g.dtype), self.dark)
        return xp.where(per_device["w_max"] > per_device["w_min"], drawn, per_device["w_min"]).astype(g.dtype)

    def checked(self, time_s: float) -> float:
        """`time_s`, finite and not negative. Raises DeviceError otherwise."""
        if not (math.isfinite(time_s) and time_s >= 0):
            raise DeviceError(f"{self.title}: time_s={time_s!r} after programming; needs a finite time of 0 s or more")
        return float(time_s)


def drawn_ups(xp: Namespace, size: Array, n_up: Array, n_down: Array, dtype: Any, rng: Any) -> Array:
    """How many of the next `size` pulses go up, where n_up and n_down are left and their order is random.

    Exact for one pulse; for more the hypergeometric distribution's mean and variance, of a normal draw that is
    rounded at random.
    """
    left = xp.maximum(n_up + n_down, 1)
    mean = size * n_up / left
    variance = mean * (n_down / left) * (left - size) / xp.maximum(left - 1, 1) - 1 / 6  # which rounding adds
    variance = xp.where(size > 1, xp.maximum(variance, 0), 0)  # one pulse: rounding alone
    draw = mean + xp.sqrt(variance) * rng.standard_normal(size.shape, dtype=dtype)
    ups = xp.floor(draw + rng.random(size.shape, dtype=dtype)).astype(n_up.dtype)
    return xp.minimum(xp.maximum(ups, xp.maximum(size - n_down, 0)), xp.minimum(size, n_up))


# -- by name -----------------------------------------------------------------------------------------------


def presets() -> dict[str, dict[str, Any]]:
    """The shipped parameter sets by name, from cells.toml: `model`, `source`, `certainty` and the parameters."""
    return {name: dict(values) for name, values in _presets().items()}


@cache
def _presets() -> dict[str, dict[str, Any]]:
    return library.presets(PRESETS)


def models() -> dict[str, type[Cell]]:
    """The shipped cell classes by name."""
    from hwsim.devices.crossbar import inference, steps

    classes = [value for module in (steps, inference) for value in vars(module).values() if isinstance(value, type)]
    return {cls.name: cls for cls in classes if issubclass(cls, Cell) and "name" in vars(cls) and cls is not Cell}


def cell(spec: str | Cell, /, **overrides: Any) -> Cell:
    """A cell by name, with other parameters: "ecram", "ecram+dw_min=0.001+dw_min_d2d=0.1"; keywords override too.

    A name is a preset, a model, an entry point of `hwsim.cells`, path/to/file.py:Class, or path/to/presets.toml:NAME.
    Raises DeviceError for unknown names and parameters, and lists what there is; PluginError where a plug-in does
    not import or offers no cell.
    """
    if isinstance(spec, Cell):
        _refuse_unknown(type(spec), spec.title, overrides)
        return spec.changed(**overrides)
    name, *changes = CHANGE.split(spec)
    written = dict(change.split("=", 1) for change in changes)
    cls, values = _found(name)
    overrides = {**written, **overrides}
    if isinstance(cls, Cell):
        return cell(cls, **overrides)
    if not (isinstance(cls, type) and issubclass(cls, Cell)):
        raise PluginError(f"cell {name!r} is {cls!r}, not a subclass of hwsim.devices.crossbar.cells.Cell")
    values = values | overrides
    _refuse_unknown(cls, f"cell {name!r}", values)
    known = parameters_of(cls)
    if missing := [k for k, field in known.items() if field.default is dataclasses.MISSING and k not in values]:
        raise DeviceError(f"cell {name!r} needs {', '.join(missing)} (no default is known)")
    return cls(**{"label": spec, **values})


def _found(name: str) -> tuple[Any, dict[str, Any]]:
    """What a name stands for, a class or a cell, and the parameters that come with it."""
    place = name.partition(":")[0]
    if place.endswith(".py"):
        return registry.load_file(name), {}
    if place.endswith(".toml"):
        return _of_preset(name.rpartition(":")[2], _presets_of(Path(place)))
    if name in _presets():
        return _of_preset(name, _presets())
    if name in models():
        return models()[name], {}
    points = registry.installed(GROUP)
    if name not in points:
        raise DeviceError(registry.unknown("cell", name, [*_presets(), *models(), *points]))
    return registry.load(GROUP, "cell", name), {}


def _presets_of(path: Path) -> dict[str, dict[str, Any]]:
    """The presets of a user's file. Raises DeviceError where it cannot be read."""
    try:
        return library.presets(path)
    except ConfigError as error:
        raise DeviceError(f"cells of {path}: {error}") from None


def _of_preset(name: str, known: dict[str, dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
    if name not in known:
        raise DeviceError(registry.unknown("cell", name, known))
    preset = known[name]
    model = str(preset.get("model"))
    if model not in models() and not model.partition(":")[0].endswith(".py"):
        raise PluginError(f"preset {name!r} needs a model: {', '.join(sorted(models()))}, or path/to/file.py:Class")
    return _found(model)[0], {key: value for key, value in preset.items() if key not in DESCRIBES}


def _refuse_unknown(cls: type[Cell], title: str, values: dict[str, Any]) -> None:
    known = parameters_of(cls)
    for key in values:
        if key not in known:
            raise DeviceError(f"{title} has no parameter {key!r}; it has: {', '.join(sorted(known))}")

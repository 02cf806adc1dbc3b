"""What hardware is asked to do, what one unit costs, and the rule that turns counts into joules and seconds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from hwsim.arrays import generator, key_of
from hwsim.errors import ConfigError

BOLTZMANN_J_PER_K = 1.380649e-23  # exact, SI 2019
ROOM_TEMPERATURE_K = 300.0
Z95 = 1.6448536269514722  # 95% point of the standard normal distribution


class Kind(StrEnum):
    """What the hardware is asked to do with a programmed matrix."""

    PROGRAM = "program"
    READ = "read"
    FORWARD = "forward"
    BACKWARD = "backward"
    GRADIENT = "gradient"
    UPDATE = "update"
    UPDATE_OUTER = "update_outer"
    RELEASE = "release"
    PRODUCT = "product"


EVERY_KIND = frozenset(Kind)


class Phase(StrEnum):
    """What an operation is for; chosen by whoever trains, as the ledger's scope."""

    SETUP = "setup"
    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"
    EVALUATE = "evaluate"


STEP_PHASES = (Phase.FORWARD, Phase.BACKWARD, Phase.UPDATE)  # what a training step consists of


class Part(StrEnum):
    """Why joules were spent."""

    DYNAMIC = "dynamic"  # actions x energy
    STATIC = "static"  # power of what is installed, while overlapped work goes on
    LAUNCH = "launch"  # the same power, while a serial component (launch, fill, settling) holds all others up
    IDLE = "idle"  # power of what is installed, while another device works


class Role(StrEnum):
    """What a component is for: the columns of a comparison."""

    CORE = "core"
    CONVERTER = "converter"
    LIGHT = "light"
    ON_CHIP_MEMORY = "on-chip memory"
    OFF_CHIP_MEMORY = "off-chip memory"
    HOST = "host"
    PROGRAMMING = "programming"
    COOLING = "cooling"
    LINK = "link"


class Certainty(StrEnum):
    """How a value is known, best first."""

    MEASURED = "measured"
    READ = "read"
    DERIVED = "derived"
    RECALLED = "recalled"
    ASSUMED = "assumed"


CERTAINTY_ORDER = tuple(Certainty)


def weaker(a: Certainty, b: Certainty) -> Certainty:
    """The less certain of two: what rests on both rests on the weaker."""
    return max(a, b, key=CERTAINTY_ORDER.index)


class Product(NamedTuple):
    """y[m, n] = x[m, k] @ w[k, n] and its relatives; k and n are always the tile's own."""

    kind: Kind
    m: int
    k: int
    n: int
    stack: int = 1  # independent matrices: attention heads, groups, depthwise
    x_values: int = 0  # distinct inputs, where im2col repeats them; 0: stack * m * k

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the product itself; none where only weights move."""
        return self.stack * self.m * self.k * self.n


class Elementwise(NamedTuple):
    """Work on values, not matrices: "relu", "softmax", "adam", "move" (between devices), ...

    `name` is "device" or "device_backward" where a substrate's own nonlinearity does it.
    """

    name: str
    size: int  # output values
    flops: int
    bytes_read: int
    bytes_written: int


Op = Product | Elementwise


class Use(NamedTuple):
    """One component's part in one operation."""

    actions: float
    units: float = 1  # how many units work side by side on this operation


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with its range: 5% (low), best estimate and median (nominal), 95% (high).

    `key` is the value's place in its TOML file, kept through scaling: quantities of equal key vary together.
    Raises ConfigError unless 0 < low <= nominal <= high, or all three are zero.
    """

    low: float
    nominal: float
    high: float
    source: str = ""
    certainty: Certainty = Certainty.ASSUMED
    key: str = ""

    def __post_init__(self) -> None:
        values = (self.low, self.nominal, self.high)
        if not all(math.isfinite(v) for v in values) or not self.low <= self.nominal <= self.high:
            raise ConfigError(f"quantity {self.key or values}: needs finite low <= nominal <= high, got {values}")
        if self.low < 0 or (self.low == 0 and self.high > 0):
            raise ConfigError(
                f"quantity {self.key or values}: needs low > 0 (or all three zero), got {values}; "
                "a range that starts at zero has no lognormal spread: give the smallest credible value"
            )

    @classmethod
    def of(cls, value: float | Quantity) -> Quantity:
        """`value` itself, or a bare number as a quantity without spread, marked as assumed."""
        if isinstance(value, Quantity):
            return value
        return cls(float(value), float(value), float(value), source="given as a bare number")

    def scaled(self, factor: float, note: str = "") -> Quantity:
        """This quantity times `factor` > 0, with the same key, so that it varies together with the original."""
        return replace(
            self,
            low=self.low * factor,
            nominal=self.nominal * factor,
            high=self.high * factor,
            source=f"{self.source}; {note}" if note else self.source,
        )

    def draws(self, count: int, key: str, seed: int) -> float | np.ndarray[Any, Any]:
        """[1 + count] values, the nominal first, then two-piece lognormal draws; a float where there is no spread.

        `key` stands in where the quantity has none of its own. Equal key and seed give equal draws.
        """
        if count == 0 or self.low == self.high:
            return self.nominal
        z = generator(np, key_of("draw", seed, self.key or key)).standard_normal(count)
        up, down = math.log(self.high / self.nominal) / Z95, math.log(self.nominal / self.low) / Z95
        values = np.empty(1 + count)
        values[0] = self.nominal
        values[1:] = self.nominal * np.exp(z * np.where(z > 0, up, down))
        return values


ZERO = Quantity(0.0, 0.0, 0.0, certainty=Certainty.MEASURED, source="nothing")


@dataclass(frozen=True)
class Component:
    """ONE unit of hardware. Bare numbers become quantities without spread, marked as assumed."""

    role: Role = Role.CORE
    energy_j: Quantity | float = ZERO  # per action [J]
    time_s: Quantity | float = ZERO  # per action and unit [s]
    static_power_w: Quantity | float = ZERO  # per installed unit, while its device works [W]
    idle_power_w: Quantity | float | None = None  # the same, while its device waits [W]; None: as when busy
    serial: bool = False  # adds to the operation's time (launch, fill, settling) instead of overlapping
    area_mm2: Quantity | float | None = None  # per unit [mm2]
    node_nm: float | None = None  # CMOS node that its digital energy scales from [nm]; None: does not scale
    holds: bool = False  # its static power keeps what its actions set, and goes with them: recorded over expected
    of_tile: Collection[Kind] = ()  # products during which its time (of a wait, a clock) is each tile's own

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in QUANTITIES and value is not None:
                object.__setattr__(self, field.name, Quantity.of(value))

    def quantity(self, name: str) -> Quantity:
        """The quantity called `name`, with idle power falling back on static power."""
        value = getattr(self, name)
        if value is None and name == "idle_power_w":
            value = self.static_power_w
        return Quantity.of(value) if value is not None else ZERO


QUANTITIES = ("energy_j", "time_s", "static_power_w", "idle_power_w", "area_mm2")

Value = Any  # a float, or [1 + draws] floats with the nominal first


class Rates(NamedTuple):
    """The numbers of one device's components, nominal or drawn: each a float or [1 + draws]."""

    energy_j: dict[str, Value]
    time_s: dict[str, Value]
    static_power_w: dict[str, Value]  # per component, all installed units together
    idle_power_w: dict[str, Value]
    serial: frozenset[str]
    power_cap_w: Value | None


class OpTime(NamedTuple):
    """How long one operation takes on one device."""

    time_s: Value
    serial_s: dict[str, Value]  # the part of the time that serial components hold everything up
    bound_by: str  # which component the rest of the time waits for, at nominal values


class OpCost(NamedTuple):
    """What one operation costs on one device: its OpTime, and its energy."""

    time_s: Value
    serial_s: dict[str, Value]
    bound_by: str
    energy_j: dict[str, Value]  # dynamic, by component


POWER_CAP = "power cap"


def op_time(uses: Mapping[str, Use], rates: Rates) -> OpTime:
    """The cost rule for time: serial times add, all others overlap, and a power cap stretches the whole."""
    serial: dict[str, Value] = {}
    overlapped: Value = 0.0
    bound_by, longest = "", 0.0
    for name, use in uses.items():
        time = use.actions / use.units * rates.time_s[name]
        if name in rates.serial:
            serial[name] = time
            continue
        if nominal(time) > longest:
            bound_by, longest = name, nominal(time)
        overlapped = larger(overlapped, time)
    total = sum(serial.values(), start=overlapped)
    if rates.power_cap_w is not None:
        dynamic = sum(use.actions * rates.energy_j[name] for name, use in uses.items())
        capped = dynamic / headroom_w(rates.power_cap_w, sum(rates.static_power_w.values()))
        if nominal(capped) > nominal(total):
            bound_by = POWER_CAP
        total = larger(total, capped)
    return OpTime(total, serial, bound_by)


def headroom_w(cap: Value, static: Value) -> Value:
    """What a power cap leaves for work [W]. Raises ConfigError where at nominal values that is nothing.

    A draw that leaves nothing describes no device that works; it gets the least that any other draw leaves.
    """
    headroom = cap - static
    if not nominal(headroom) > 0:
        raise ConfigError(
            f"power cap {nominal(cap):g} W does not exceed the static power {nominal(static):g} W: "
            "nothing is left for work"
        )
    return np.maximum(headroom, headroom[headroom > 0].min()) if isinstance(headroom, np.ndarray) else headroom


def op_cost(uses: Mapping[str, Use], rates: Rates) -> OpCost:
    """The cost rule: the time of `op_time`, and for every component its actions times its energy."""
    return OpCost(*op_time(uses, rates), {name: use.actions * rates.energy_j[name] for name, use in uses.items()})


def nominal(value: Value) -> float:
    """The nominal one of a float or of [1 + draws]."""
    return float(value[0]) if isinstance(value, np.ndarray) else float(value)


def larger(a: Value, b: Value) -> Value:
    """The larger, element by element where either is [1 + draws]."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.maximum(a, b)
    return max(a, b)

"""What a ledger's calls cost: joules and seconds by group, at the components' nominal or drawn values."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from hwsim.cost import (
    POWER_CAP,
    Certainty,
    OpTime,
    Part,
    Phase,
    Quantity,
    Rates,
    Use,
    Value,
    op_time,
    weaker,
)
from hwsim.errors import ConfigError

DRAWS = 10_000  # samples behind an interval


Place = tuple[str, str]  # a layer and a phase


class Row(NamedTuple):
    """Where joules went: the finest grouping."""

    layer: str
    phase: str
    device: str
    component: str
    role: str
    part: str
    certainty: str


class TimeRow(NamedTuple):
    """Where seconds went: `bound_by` is the component that the time was spent waiting for."""

    layer: str
    phase: str
    device: str
    bound_by: str


class Interval(NamedTuple):
    """The 90% interval of a derived total: 5%, the value at nominal components, 95%.

    The nominal is no quantile: where many like parts compete for a maximum of time, most draws lie above it.
    """

    low: float
    nominal: float
    high: float

    @classmethod
    def of(cls, value: Value) -> Interval:
        """From a float or [1 + draws] values, the nominal first."""
        if not isinstance(value, np.ndarray):
            return cls(value, value, value)
        low, high = np.percentile(value[1:], [5, 95])
        return cls(float(low), float(value[0]), float(high))


class Recorded(Protocol):
    """What is needed of a ledger: calls by (layer, phase, device, op), actual counts, tiles and its devices' labels."""

    @property
    def calls(self) -> Mapping[Any, int]: ...
    @property
    def actual(self) -> Mapping[Any, Mapping[str, Any]]: ...
    @property
    def tiles(self) -> Mapping[Any, Any]: ...
    def devices(self) -> dict[Any, str]: ...


class Sum:
    """A running sum: of floats exactly rounded, so that no order matters, and of [1 + draws] in place."""

    __slots__ = ("array", "floats")

    def __init__(self) -> None:
        self.floats: list[float] = []
        self.array: Any = None

    def add(self, value: Value) -> None:
        """One more term."""
        if not isinstance(value, np.ndarray):
            self.floats.append(value)
        elif self.array is None:
            self.array = value.copy()
        else:
            self.array += value

    @property
    def total(self) -> Value:
        """The sum so far."""
        exact = math.fsum(self.floats)
        return exact if self.array is None else self.array + exact


class Charge(NamedTuple):
    """All calls of one operation in one layer and phase, and what one of them takes and costs."""

    layer: str
    phase: Phase
    device: Any
    calls: int
    uses: Mapping[str, Use]
    time: OpTime


class Costing:
    """The charges of a ledger at one set of component values."""

    def __init__(
        self, ledger: Recorded, *, draws: int = 0, seed: int = 0, phases: Collection[Phase] | None = None,
        actual: bool = True,
    ) -> None:  # fmt: skip
        self.ledger, self.phases, self.actual = ledger, phases, actual
        self.labels = ledger.devices()
        self.components = {device: device.components for device in self.labels}
        self.rates = {device: rates(ledger, device, draws=draws, seed=seed, actual=actual) for device in self.labels}

    def charges(self) -> Iterator[Charge]:
        """Every operation of the phases that are asked for, with actual counts where there are any."""
        known: dict[tuple[Any, Any], tuple[Mapping[str, Use], OpTime]] = {}
        for key, calls in self.ledger.calls.items():
            layer, phase, device, op = key
            if self.phases is not None and phase not in self.phases:
                continue
            counts = self.ledger.actual.get(key) if self.actual else None
            found = None if counts else known.get((device, op))
            if found is None:
                uses = dict(device.uses(op))
                for component, count in (counts or {}).items():
                    units = uses[component].units if component in uses else 1
                    uses[component] = Use(float(count) / calls, units)
                found = uses, op_time(uses, self.rates[device])
                if not counts:
                    known[device, op] = found
            yield Charge(layer, phase, device, calls, *found)

    def energy_rows(self, by: Collection[str] = Row._fields) -> Iterator[tuple[Row, Value]]:
        """The energy [J] by component and part; layer, phase and certainty are told apart only where `by` has them."""
        actions: dict[tuple[Place, Any, str], Sum] = defaultdict(Sum)
        spent: dict[tuple[Place, Any, Part, Certainty], Sum] = defaultdict(Sum)
        for layer, phase, device, calls, uses, time in self.charges():
            place = layer if "layer" in by else "", phase if "phase" in by else ""
            for name, use in uses.items():
                actions[place, device, name].add(calls * use.actions)
            serial = sum(time.serial_s.values()) if time.serial_s else 0.0
            for part, seconds, waited_for in (
                (Part.STATIC, time.time_s - serial, (time.bound_by,)),
                (Part.LAUNCH, serial, time.serial_s),
            ):
                if is_positive(seconds):
                    certainty = Certainty.MEASURED
                    if "certainty" in by:
                        certainty = self.time_certainty(device, waited_for, uses)
                    spent[place, device, part, certainty].add(calls * seconds)

        def row(place: Place, device: Any, name: str, part: Part, value: str, timing: Certainty) -> Row:
            component = self.components[device][name]
            certainty = weaker(component.quantity(value).certainty, timing)
            return Row(*place, self.labels[device], name, component.role, part, certainty)

        for (place, device, name), count in actions.items():
            joules = count.total * self.rates[device].energy_j[name]
            if np.any(joules):
                yield row(place, device, name, Part.DYNAMIC, "energy_j", Certainty.MEASURED), joules
        for (place, working, part, timing), total in spent.items():
            seconds = total.total
            for device, numbers in self.rates.items():
                waits = device is not working
                powers = numbers.idle_power_w if waits else numbers.static_power_w
                value, why = ("idle_power_w", Part.IDLE) if waits else ("static_power_w", part)
                for name, power in powers.items():
                    if is_positive(power):
                        yield row(place, device, name, why, value, timing), seconds * power

    def time_certainty(self, device: Any, waited_for: Collection[str], uses: Mapping[str, Use]) -> Certainty:
        """The weakest certainty among what a time rests on; a power cap is met by energies, and static power."""
        components = self.components[device]
        rests_on = [components[name].quantity("time_s") for name in waited_for if name in components]
        if POWER_CAP in waited_for:
            rests_on += [Quantity.of(device.power_cap_w), *(components[name].quantity("energy_j") for name in uses)]
            rests_on += [part.quantity("static_power_w") for part in components.values()]
        found = Certainty.MEASURED
        for quantity in rests_on:
            if quantity.nominal > 0:
                found = weaker(found, quantity.certainty)
        return found

    def time_rows(self, by: Collection[str] = TimeRow._fields) -> Iterator[tuple[TimeRow, Value]]:
        """The serial time [s]; layer and phase are told apart only where `by` has them."""
        spent: dict[TimeRow, Sum] = defaultdict(Sum)
        for layer, phase, device, calls, _, time in self.charges():
            place = layer if "layer" in by else "", phase if "phase" in by else "", self.labels[device]
            overlapped = time.time_s
            for name, seconds in time.serial_s.items():
                overlapped = overlapped - seconds
                spent[TimeRow(*place, name)].add(calls * seconds)
            if is_positive(overlapped):
                spent[TimeRow(*place, time.bound_by)].add(calls * overlapped)
        for row, total in spent.items():
            yield row, total.total


def rates(ledger: Recorded, device: Any, *, draws: int = 0, seed: int = 0, actual: bool = True) -> Rates:
    """The numbers of `device` and of what is installed on it for the ledger's tiles, nominal or drawn.

    `actual`: components that hold what was set hold what was recorded, the average over all settings of the ledger.
    """
    components = device.components
    installed = device.installed([shape for (owner, _), shape in ledger.tiles.items() if owner is device])
    extra = set(installed) - set(components)
    if extra:
        raise ConfigError(f"{device.spec}: installed() names {sorted(extra)}, which are no components of it")

    def values(field: str, units: Callable[[str], float] = lambda name: 1.0) -> dict[str, Value]:
        found = {}
        for name, component in components.items():
            quantity = component.quantity(field)
            key = f"{device.name}/{name}/{'static_power_w' if field == 'idle_power_w' else field}"
            found[name] = units(name) * quantity.draws(draws, key, seed)
        return found

    kept = {name: held(ledger, device, name) for name, part in components.items() if actual and part.holds}

    def count(name: str) -> float:
        return float(installed.get(name, 0.0)) * kept.get(name, 1.0)

    cap = device.power_cap_w
    return Rates(
        energy_j=values("energy_j"),
        time_s=values("time_s"),
        static_power_w=values("static_power_w", count),
        idle_power_w=values("idle_power_w", count),
        serial=frozenset(name for name, component in components.items() if component.serial),
        power_cap_w=None if cap is None else Quantity.of(cap).draws(draws, f"{device.name}/cap", seed),
    )


def held(ledger: Recorded, device: Any, name: str) -> float:
    """What the actions of a component set, over what was expected; every setting counts once, whatever its time."""
    recorded, expected = Sum(), Sum()
    for key, calls in ledger.calls.items():
        if key[2] is device and name in (uses := device.uses(key[3])):
            foreseen = calls * uses[name].actions
            recorded.add(float(ledger.actual.get(key, {}).get(name, foreseen)))
            expected.add(foreseen)
    return float(recorded.total / expected.total) if expected.total else 1.0


def grouped(
    rows: Iterator[tuple[Any, Value]], by: Sequence[str], fields: tuple[str, ...]
) -> dict[tuple[str, ...], Value]:
    """The sums of rows by the fields named in `by`. Raises ConfigError for one that there is not."""
    wrong = [name for name in by if name not in fields]
    if wrong:
        raise ConfigError(f"cannot group by {wrong}; possible: {', '.join(fields)}")
    places = [fields.index(name) for name in by]
    sums: dict[tuple[str, ...], Sum] = defaultdict(Sum)
    for row, value in rows:
        sums[tuple(str(row[place]) for place in places)].add(value)
    return {group: total.total for group, total in sums.items()}


def is_positive(value: Value) -> bool:
    """Whether a float, or the nominal one of [1 + draws], is above zero."""
    return bool(value[0] > 0) if isinstance(value, np.ndarray) else value > 0


def table(groups: Mapping[tuple[str, ...], float], by: Sequence[str]) -> str:
    """Energies by group as aligned text: joules, share, largest first; the last line is the total."""
    ordered = sorted(groups.items(), key=lambda item: -item[1])
    total = math.fsum(groups.values())
    lines = [(*by, "energy [J]", "share")]
    lines += [(*group, f"{value:.4g}", f"{value / total:.1%}") for group, value in ordered if by and total]
    lines.append((*["total", *[""] * (len(by) - 1)][: len(by)], f"{total:.4g}", "100%"))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)

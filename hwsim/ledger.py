"""A multiset of operations by (layer, phase, device); counts, joules, seconds and intervals are derived from it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np

from hwsim.cost import (
    Certainty,
    Component,
    Elementwise,
    Kind,
    Op,
    OpCost,
    Part,
    Phase,
    Product,
    Quantity,
    Rates,
    Use,
    Value,
    op_cost,
    weaker,
)
from hwsim.errors import ConfigError

DRAWS = 10_000  # samples behind an interval
MULTIPLYING = (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT, Kind.UPDATE_OUTER, Kind.PRODUCT)


class TileShape(NamedTuple):
    """The matrices programmed on one tile; k = 0 marks a substrate's own activation of n units."""

    stack: int
    k: int
    n: int


class Costed(Protocol):
    """What the ledger needs of a device."""

    @property
    def spec(self) -> str: ...
    @property
    def components(self) -> Mapping[str, Component]: ...
    @property
    def power_cap_w(self) -> Quantity | float | None: ...
    def uses(self, op: Op) -> Mapping[str, Use] | None: ...
    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]: ...


class Cell(NamedTuple):
    """What calls are counted by."""

    layer: str
    phase: Phase
    device: Any
    op: Op


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
    """The 90% interval of a derived total: 5%, the value at nominal components, 95%."""

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


class Ledger:
    """What one run asked of its devices.

    Stored: integer calls by (layer, phase, device, op), recorded actual counts, tiles, live and peak held bits.
    Everything else is derived, so that a run can be costed again with other component values.
    """

    def __init__(self) -> None:
        self.calls: dict[Cell, int] = defaultdict(int)
        self.actual: dict[Cell, dict[str, Any]] = {}
        self.tiles: dict[tuple[Any, str], TileShape] = {}
        self.live_bits: dict[Any, int] = defaultdict(int)
        self.peak_bits: dict[Any, int] = defaultdict(int)
        self.layer = ""
        self.phase = Phase.SETUP

    # -- recording ---------------------------------------------------------------------------------------

    def scope(self, layer: str | None = None, phase: Phase | None = None) -> _Scope:
        """A context in which operations are charged to `layer` and `phase`; None keeps the present one."""
        return _Scope(self, layer, phase)

    def charge(self, device: Any, op: Op, held_bits: int = 0) -> None:
        """Count one call of `op` on `device`, which holds so many bits more (or fewer) from now on."""
        # A plain tuple equals, and hashes as, the Cell of the same fields, and is quicker to make.
        self.calls[self.layer, self.phase, device, op] += 1  # type: ignore[index]
        if held_bits:
            self.live_bits[device] += held_bits
            self.peak_bits[device] = max(self.peak_bits[device], self.live_bits[device])

    def record(self, device: Any, op: Op, counts: Mapping[str, Any]) -> None:
        """Add the actual actions of one call, where they depend on values; 0-d arrays are not synchronised."""
        cell = self.actual.setdefault(Cell(self.layer, self.phase, device, op), {})
        for component, count in counts.items():
            cell[component] = cell[component] + count if component in cell else count

    def merge(self, other: Ledger) -> None:
        """Add another run's calls, counts and tiles to this one's; peaks are the larger of the two."""
        for cell, calls in other.calls.items():
            self.calls[cell] += calls
        for cell, counts in other.actual.items():
            mine = self.actual.setdefault(cell, {})
            for component, count in counts.items():
                mine[component] = mine.get(component, 0) + count
        self.tiles.update(other.tiles)
        for device, bits in other.live_bits.items():
            self.live_bits[device] += bits
        for device, bits in other.peak_bits.items():
            self.peak_bits[device] = max(self.peak_bits[device], bits)

    # -- devices -----------------------------------------------------------------------------------------

    def devices(self) -> dict[Any, str]:
        """Every device that was programmed or did something, with a label of its own: its spec, numbered if needed."""
        labels: dict[Any, str] = {}
        used: dict[str, int] = defaultdict(int)
        for device in [device for device, _ in self.tiles] + [cell[2] for cell in self.calls]:
            if device not in labels:
                used[device.spec] += 1
                count = used[device.spec]
                labels[device] = device.spec if count == 1 else f"{device.spec}#{count}"
        return labels

    def with_devices(self, devices: Mapping[str, Any]) -> Ledger:
        """The same calls on other devices, by label: the run costed again. Raises ConfigError for unknown labels."""
        labels = self.devices()
        missing = set(devices) - set(labels.values())
        if missing:
            raise ConfigError(f"no device {sorted(missing)} in this ledger; it has {sorted(labels.values())}")

        def other(device: Any) -> Any:
            return devices.get(labels[device], device)

        result = Ledger()
        for (layer, phase, device, op), calls in self.calls.items():
            result.calls[Cell(layer, phase, other(device), op)] += calls
        result.actual = {Cell(c.layer, c.phase, other(c.device), c.op): dict(v) for c, v in self.actual.items()}
        result.tiles = {(other(device), name): shape for (device, name), shape in self.tiles.items()}
        result.live_bits.update({other(device): bits for device, bits in self.live_bits.items()})
        result.peak_bits.update({other(device): bits for device, bits in self.peak_bits.items()})
        return result

    def rates(self, device: Any, *, draws: int = 0, seed: int = 0) -> Rates:
        """The numbers of `device` and of what is installed on it for this ledger's tiles, nominal or drawn."""
        installed = device.installed([shape for (owner, _), shape in self.tiles.items() if owner is device])
        extra = set(installed) - set(device.components)
        if extra:
            raise ConfigError(f"{device.spec}: installed() names {sorted(extra)}, which are no components of it")

        def values(field: str, units: Callable[[str], float] = lambda name: 1.0) -> dict[str, Value]:
            found = {}
            for name, component in device.components.items():
                quantity = component.quantity(field)
                key = f"{device.name}/{name}/{'static_power_w' if field == 'idle_power_w' else field}"
                found[name] = units(name) * quantity.draws(draws, key, seed)
            return found

        def count(name: str) -> float:
            return float(installed.get(name, 0.0))

        cap = device.power_cap_w
        return Rates(
            energy_j=values("energy_j"),
            time_s=values("time_s"),
            static_power_w=values("static_power_w", count),
            idle_power_w=values("idle_power_w", count),
            serial=frozenset(name for name, component in device.components.items() if component.serial),
            power_cap_w=None if cap is None else Quantity.of(cap).draws(draws, f"{device.name}/cap", seed),
        )

    # -- deriving ----------------------------------------------------------------------------------------

    def _costs(
        self, *, draws: int, seed: int, phases: Collection[Phase] | None, actual: bool
    ) -> Iterator[tuple[Cell, int, OpCost, dict[Any, Rates]]]:
        """Each cell with its calls, its cost per call and the rates of all devices."""
        rates = {device: self.rates(device, draws=draws, seed=seed) for device in self.devices()}
        known: dict[tuple[Any, Op], OpCost] = {}
        for key, calls in self.calls.items():
            cell = Cell(*key)
            if phases is not None and cell.phase not in phases:
                continue
            counts = self.actual.get(cell) if actual else None
            cost = None if counts else known.get((cell.device, cell.op))
            if cost is None:
                uses = dict(cell.device.uses(cell.op))
                for component, count in (counts or {}).items():
                    units = uses[component].units if component in uses else 1
                    uses[component] = Use(float(count) / calls, units)
                cost = op_cost(uses, rates[cell.device])
                if not counts:
                    known[cell.device, cell.op] = cost
            yield cell, calls, cost, rates

    def energy_rows(
        self, *, draws: int = 0, seed: int = 0, phases: Collection[Phase] | None = None, actual: bool = True
    ) -> Iterator[tuple[Row, Value]]:
        """Every contribution to the energy [J], unsummed; a float each, or [1 + draws] with the nominal first."""
        labels = self.devices()
        for cell, calls, cost, rates in self._costs(draws=draws, seed=seed, phases=phases, actual=actual):
            components = cell.device.components

            def row(device: Any, name: str, part: Part, certainty: Certainty, cell: Cell = cell) -> Row:
                role = device.components[name].role
                return Row(cell.layer, cell.phase, labels[device], name, role, part, certainty)

            for name, joules in cost.energy_j.items():
                if is_positive(joules):
                    certainty = components[name].quantity("energy_j").certainty
                    yield row(cell.device, name, Part.DYNAMIC, certainty), calls * joules
            serial = sum(cost.serial_s.values()) if cost.serial_s else 0.0
            spent = cost.time_s - serial
            timing = time_certainty(components, [cost.bound_by])
            launching = time_certainty(components, list(cost.serial_s))
            for name, power in rates[cell.device].static_power_w.items():
                if is_positive(power):
                    certainty = components[name].quantity("static_power_w").certainty
                    if is_positive(serial):
                        yield (
                            row(cell.device, name, Part.LAUNCH, weaker(certainty, launching)),
                            calls * serial * power,
                        )
                    if is_positive(spent):
                        yield (
                            row(cell.device, name, Part.STATIC, weaker(certainty, timing)),
                            calls * spent * power,
                        )
            if not is_positive(cost.time_s):
                continue
            timing = weaker(timing, launching)
            for device, other in rates.items():
                if device is cell.device:
                    continue
                for name, power in other.idle_power_w.items():
                    if is_positive(power):
                        certainty = weaker(device.components[name].quantity("idle_power_w").certainty, timing)
                        yield row(device, name, Part.IDLE, certainty), calls * cost.time_s * power

    def time_rows(
        self, *, draws: int = 0, seed: int = 0, phases: Collection[Phase] | None = None, actual: bool = True
    ) -> Iterator[tuple[TimeRow, Value]]:
        """Every contribution to the serial time [s], unsummed."""
        labels = self.devices()
        for cell, calls, cost, _ in self._costs(draws=draws, seed=seed, phases=phases, actual=actual):
            label = labels[cell.device]
            for name, seconds in cost.serial_s.items():
                yield TimeRow(cell.layer, cell.phase, label, name), calls * seconds
            spent = cost.time_s - sum(cost.serial_s.values()) if cost.serial_s else cost.time_s
            if is_positive(spent):
                yield TimeRow(cell.layer, cell.phase, label, cost.bound_by), calls * spent

    def energy(self, by: Sequence[str] = (), **options: Any) -> dict[tuple[str, ...], Value]:
        """Energy [J] grouped by fields of Row (layer, phase, device, component, role, part, certainty).

        Options: draws, seed, phases (only these), actual (False: expected counts even where actual ones exist).
        """
        return grouped(self.energy_rows(**options), by, Row._fields)

    def time(self, by: Sequence[str] = (), **options: Any) -> dict[tuple[str, ...], Value]:
        """Serial time [s] grouped by fields of TimeRow (layer, phase, device, bound_by); options as for energy."""
        return grouped(self.time_rows(**options), by, TimeRow._fields)

    def total_j(self, **options: Any) -> Value:
        """The whole energy [J], idle and static included; options as for energy."""
        return self.energy(**options).get((), 0.0)

    def total_s(self, **options: Any) -> Value:
        """The whole serial time [s], an upper bound where operations could overlap; options as for energy."""
        return self.time(**options).get((), 0.0)

    @property
    def energy_j(self) -> float:
        """The whole energy at nominal components [J]."""
        return float(self.total_j())

    @property
    def time_s(self) -> float:
        """The whole serial time at nominal components [s]."""
        return float(self.total_s())

    def interval(
        self, by: Sequence[str] = (), *, draws: int = DRAWS, **options: Any
    ) -> dict[tuple[str, ...], Interval]:
        """The 90% interval of each group's energy [J], by sampling every component value."""
        return {group: Interval.of(value) for group, value in self.energy(by, draws=draws, **options).items()}

    def counts(self, *, actual: bool = True) -> dict[tuple[str, str], float]:
        """Actions by (device, component), actual ones where they were recorded."""
        labels, parts = self.devices(), defaultdict(list)
        for key, calls in self.calls.items():
            cell = Cell(*key)
            counts = self.actual.get(cell, {}) if actual else {}
            for name, use in cell.device.uses(cell.op).items():
                if name not in counts:
                    parts[labels[cell.device], name].append(calls * use.actions)
            for name, count in counts.items():
                parts[labels[cell.device], name].append(float(count))
        return {key: math.fsum(values) for key, values in parts.items()}

    def macs(self, *, phases: Collection[Phase] | None = None) -> dict[Kind, int]:
        """Useful multiply-accumulates by kind of product, from the shapes alone; `phases`: only these."""
        found: dict[Kind, int] = defaultdict(int)
        for (_, phase, _, op), calls in self.calls.items():
            if isinstance(op, Product) and op.kind in MULTIPLYING and (phases is None or phase in phases):
                found[op.kind] += calls * op.macs
        return dict(found)

    def table(self, by: Sequence[str] = ("phase", "component"), **options: Any) -> str:
        """The energy by group as aligned text: joules, share, largest first; the last line is the total."""
        groups = sorted(self.energy(by, **options).items(), key=lambda item: -item[1])
        total = math.fsum(value for _, value in groups)
        lines = [(*by, "energy [J]", "share")]
        lines += [(*group, f"{value:.4g}", f"{value / total:.1%}") for group, value in groups]
        lines.append(("total", *[""] * (len(by) - 1), f"{total:.4g}", "100%") if by else ("", f"{total:.4g}", ""))
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        )

    # -- keeping -----------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and integers, ready for JSON; devices are their labels."""
        labels = self.devices()
        return {
            "calls": [[c[0], c[1], labels[c[2]], *op_as_list(c[3]), n] for c, n in self.calls.items()],
            "actual": [
                [
                    c.layer,
                    c.phase,
                    labels[c.device],
                    *op_as_list(c.op),
                    {k: plain(v) for k, v in counts.items()},
                ]
                for c, counts in self.actual.items()
            ],
            "tiles": [[labels[device], name, *shape] for (device, name), shape in self.tiles.items()],
            "live_bits": {labels[d]: bits for d, bits in self.live_bits.items()},
            "peak_bits": {labels[d]: bits for d, bits in self.peak_bits.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], devices: Mapping[str, Any]) -> Ledger:
        """The ledger that `as_dict` described, on `devices` by label. Raises ConfigError where one is missing."""
        ledger = cls()
        ledger.load(data, devices)
        return ledger

    def load(self, data: Mapping[str, Any], devices: Mapping[str, Any]) -> None:
        """Hold what `as_dict` described in place of what is held now. Raises ConfigError where that is no ledger."""
        for held in (self.calls, self.actual, self.tiles, self.live_bits, self.peak_bits):
            held.clear()
        try:
            for layer, phase, label, tag, fields, calls in data["calls"]:
                self.calls[Cell(layer, Phase(phase), devices[label], op_from_list(tag, fields))] += int(calls)
            for layer, phase, label, tag, fields, counts in data["actual"]:
                self.actual[Cell(layer, Phase(phase), devices[label], op_from_list(tag, fields))] = dict(counts)
            for label, name, stack, k, n in data["tiles"]:
                self.tiles[devices[label], name] = TileShape(stack, k, n)
            self.live_bits.update({devices[label]: bits for label, bits in data["live_bits"].items()})
            self.peak_bits.update({devices[label]: bits for label, bits in data["peak_bits"].items()})
        except KeyError as error:
            raise ConfigError(f"ledger: {error} is missing; given devices: {sorted(devices)}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"not a ledger that hwsim wrote: {error}") from None

    def to_json(self, path: str | Path) -> None:
        """Write the calls to a file; `from_json` reads them back."""
        Path(path).write_text(json.dumps(self.as_dict()))

    @classmethod
    def from_json(cls, path: str | Path, devices: Mapping[str, Any]) -> Ledger:
        """A ledger from a file, on `devices` by label. Raises ConfigError where the file is no ledger."""
        try:
            data = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read as a ledger: {error}") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{path} holds no ledger but a {type(data).__name__}")
        return cls.from_dict(data, devices)


class _Scope:
    """Sets the ledger's layer and phase for a while."""

    __slots__ = ("layer", "ledger", "phase", "saved")

    def __init__(self, ledger: Ledger, layer: str | None, phase: Phase | None) -> None:
        self.ledger, self.layer, self.phase = ledger, layer, phase

    def __enter__(self) -> None:
        ledger = self.ledger
        self.saved = ledger.layer, ledger.phase
        if self.layer is not None:
            ledger.layer = self.layer
        if self.phase is not None:
            ledger.phase = self.phase

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ledger.layer, self.ledger.phase = self.saved


def grouped(
    rows: Iterator[tuple[Any, Value]], by: Sequence[str], fields: tuple[str, ...]
) -> dict[tuple[str, ...], Value]:
    """Sum rows by the named fields: exactly rounded (fsum) where they are floats, in place where they are drawn."""
    wrong = [name for name in by if name not in fields]
    if wrong:
        raise ConfigError(f"cannot group by {wrong}; possible: {', '.join(fields)}")
    places = [fields.index(name) for name in by]
    floats: dict[tuple[str, ...], list[float]] = defaultdict(list)
    arrays: dict[tuple[str, ...], Value] = {}
    for row, value in rows:
        group = tuple(str(row[place]) for place in places)
        if not isinstance(value, np.ndarray):
            floats[group].append(value)
        elif group in arrays:
            arrays[group] += value
        else:
            arrays[group] = value.copy()
    sums: dict[tuple[str, ...], Value] = {group: math.fsum(values) for group, values in floats.items()}
    return {group: sums.get(group, 0.0) + arrays.get(group, 0.0) for group in [*sums, *(set(arrays) - set(sums))]}


def is_positive(value: Value) -> bool:
    """Whether a float, or the nominal one of [1 + draws], is above zero."""
    return bool(value[0] > 0) if isinstance(value, np.ndarray) else value > 0


def time_certainty(components: Mapping[str, Component], names: Sequence[str]) -> Certainty:
    """The weakest certainty among the times of the components called `names`."""
    found = Certainty.MEASURED
    for name in names:
        if name in components:
            found = weaker(found, components[name].quantity("time_s").certainty)
    return found


def op_as_list(op: Op) -> list[Any]:
    """A tag and the fields of an operation."""
    return ["product" if isinstance(op, Product) else "elementwise", list(op)]


def op_from_list(tag: str, fields: Sequence[Any]) -> Op:
    """The operation of `op_as_list`."""
    if tag == "product":
        kind, *numbers = fields
        return Product(Kind(kind), *numbers)
    return Elementwise(*fields)


def plain(count: Any) -> float | int:
    """A recorded count as a Python number; here a card is synchronised."""
    number = float(count)
    return int(number) if number.is_integer() else number

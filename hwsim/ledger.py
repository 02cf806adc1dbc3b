"""A multiset of operations by (layer, phase, device); counts, joules, seconds and intervals are derived from it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from hwsim import costing
from hwsim.cost import Component, Elementwise, Kind, Op, Phase, Product, Quantity, Rates, Use, Value
from hwsim.costing import DRAWS, Costing, Interval, Row, TimeRow, grouped
from hwsim.errors import ConfigError
from hwsim.files import write_text

__all__ = ["DRAWS", "Cell", "Costed", "Interval", "Ledger", "Row", "TileShape", "TimeRow"]

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


class Ledger:
    """What one run asked of its devices.

    Stored: integer calls by (layer, phase, device, op), recorded actual counts, tiles, held bits: live, and at their
    peak outside evaluation. Everything else is derived, so that a run can be costed again with other component values.
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
            if self.phase is not Phase.EVALUATE:  # which has batches of another size
                self.peak_bits[device] = max(self.peak_bits[device], self.live_bits[device])

    def record(self, device: Any, op: Op, counts: Mapping[str, Any]) -> None:
        """Add the actual actions of one call, where they depend on values; 0-d arrays are not synchronised."""
        cell = self.actual.setdefault(Cell(self.layer, self.phase, device, op), {})
        for component, count in counts.items():
            cell[component] = cell[component] + count if component in cell else count

    def merge(self, other: Ledger) -> None:
        """Add another run's calls, counts and tiles to this one's; peaks are the larger of the two."""
        for cell, calls in other.calls.items():
            self._add(Cell(*cell), calls, other.actual.get(cell, {}))
        self.tiles.update(other.tiles)
        for device, bits in other.live_bits.items():
            self.live_bits[device] += bits
        for device, bits in other.peak_bits.items():
            self.peak_bits[device] = max(self.peak_bits[device], bits)

    def _add(self, cell: Cell, calls: int, counts: Mapping[str, Any]) -> None:
        """Add calls with their actual counts; where only one side has such, the other's are the expected ones."""
        before = self.calls[cell]
        self.calls[cell] += calls
        mine = self.actual.get(cell, {})
        if not mine and not counts:
            return
        uses = cell.device.uses(cell.op)
        expected = {name: use.actions for name, use in uses.items()}
        self.actual[cell] = {
            name: mine.get(name, before * expected.get(name, 0)) + counts.get(name, calls * expected.get(name, 0))
            for name in dict.fromkeys([*mine, *counts])
        }

    # -- devices -----------------------------------------------------------------------------------------

    def labels(self) -> dict[Any, str]:
        """A label for every device that was programmed or did something, and its hosts: its spec, numbered if needed.

        In order of tiles, so that a network that is built anew gives its devices the labels of one that has run.
        """
        labels: dict[Any, str] = {}
        used: dict[str, int] = defaultdict(int)
        for device in [device for device, _ in self.tiles] + [cell[2] for cell in self.calls]:
            while device is not None and device not in labels:
                used[device.spec] += 1
                count = used[device.spec]
                labels[device] = device.spec if count == 1 else f"{device.spec}#{count}"
                device = getattr(device, "host_device", None)
        return labels

    def devices(self) -> dict[Any, str]:
        """Every device that was programmed or did something, with its label."""
        used = {device for device, _ in self.tiles} | {cell[2] for cell in self.calls}
        return {device: label for device, label in self.labels().items() if device in used}

    def with_devices(self, devices: Mapping[str, Any]) -> Ledger:
        """The same calls on other devices, by label: the run costed again. Raises ConfigError for unknown labels."""
        labels = self.labels()
        missing = set(devices) - set(labels.values())
        if missing:
            raise ConfigError(f"no device {sorted(missing)} in this ledger; it has {sorted(labels.values())}")

        def other(device: Any) -> Any:
            return devices.get(labels[device], device)

        result = Ledger()
        for cell, calls in self.calls.items():
            layer, phase, device, op = cell
            result._add(Cell(layer, phase, other(device), op), calls, self.actual.get(cell, {}))
        result.tiles = {(other(device), name): shape for (device, name), shape in self.tiles.items()}
        for device, bits in self.live_bits.items():
            result.live_bits[other(device)] += bits
        for device, bits in self.peak_bits.items():
            result.peak_bits[other(device)] += bits
        return result

    # -- deriving ----------------------------------------------------------------------------------------

    def rates(self, device: Any, *, draws: int = 0, seed: int = 0) -> Rates:
        """The numbers of `device` and of what is installed on it for this ledger's tiles, nominal or drawn."""
        return costing.rates(self, device, draws=draws, seed=seed)

    def energy_rows(self, by: Collection[str] = Row._fields, **options: Any) -> Iterator[tuple[Row, Value]]:
        """Contributions to the energy [J]; layer, phase and certainty are told apart only where `by` has them."""
        return Costing(self, **options).energy_rows(by)

    def time_rows(self, by: Collection[str] = TimeRow._fields, **options: Any) -> Iterator[tuple[TimeRow, Value]]:
        """Contributions to the serial time [s]; layer and phase are told apart only where `by` has them."""
        return Costing(self, **options).time_rows(by)

    def energy(self, by: Sequence[str] = (), **options: Any) -> dict[tuple[str, ...], Value]:
        """Energy [J] grouped by fields of Row (layer, phase, device, component, role, part, certainty).

        Options: draws, seed, phases (only these), actual (False: expected counts even where actual ones exist).
        """
        return grouped(self.energy_rows(by=by, **options), by, Row._fields)

    def time(self, by: Sequence[str] = (), **options: Any) -> dict[tuple[str, ...], Value]:
        """Serial time [s] grouped by fields of TimeRow (layer, phase, device, bound_by); options as for energy."""
        return grouped(self.time_rows(by=by, **options), by, TimeRow._fields)

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

    def table(self, by: Sequence[str] = ("phase", "component"), **options: Any) -> str:
        """The energy by group as aligned text: joules, share, largest first; the last line is the total."""
        return costing.table(self.energy(by, **options), by)

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
        read = Ledger()
        try:
            for layer, phase, label, tag, fields, calls in data["calls"]:
                read.calls[Cell(layer, Phase(phase), devices[label], op_from_list(tag, fields))] += at_least(1, calls)
            for layer, phase, label, tag, fields, counts in data["actual"]:
                read.actual[Cell(layer, Phase(phase), devices[label], op_from_list(tag, fields))] = amounts(counts)
            for label, name, stack, k, n in data["tiles"]:
                read.tiles[devices[label], name] = TileShape(stack, k, n)
            read.live_bits.update({devices[label]: bits for label, bits in data["live_bits"].items()})
            read.peak_bits.update({devices[label]: at_least(0, bits) for label, bits in data["peak_bits"].items()})
        except KeyError as error:
            raise ConfigError(f"ledger: {error} is missing; given devices: {sorted(devices)}") from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ConfigError(f"not a ledger that hwsim wrote: {error}") from None
        self.calls, self.actual, self.tiles = read.calls, read.actual, read.tiles
        self.live_bits, self.peak_bits = read.live_bits, read.peak_bits

    def to_json(self, path: str | Path) -> None:
        """Write the calls to a file, all or nothing; `from_json` reads them back. Raises ConfigError."""
        write_text(path, json.dumps(self.as_dict()))

    @classmethod
    def from_json(cls, path: str | Path, devices: Mapping[str, Any]) -> Ledger:
        """A ledger from a file, on `devices` by label. Raises ConfigError where the file is no ledger."""
        try:
            data = json.loads(Path(path).read_text())
        except (OSError, ValueError, RecursionError) as error:
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


def at_least(least: int, value: Any) -> int:
    """A whole number that was read. Raises ValueError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{value!r} where a whole number from {least} is needed")
    return value


def amounts(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Counts by component that were read. Raises ValueError or TypeError for what is none."""
    for name, count in counts.items():
        if not 0 <= count < math.inf:
            raise ValueError(f"{count!r} actions of {name}, where a finite number from 0 is needed")
    return dict(counts)

"""What operations take when they are scheduled: their time, and of which machines and pools they take it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwsim import costing
from hwsim.cost import POWER_CAP, Component, Kind, Op, Phase, Product, Rates, Role, Use, headroom_w, op_time
from hwsim.errors import ConfigError
from hwsim.ledger import MULTIPLYING, Ledger, TileShape
from hwsim.schedule.engine import Claim, grains
from hwsim.schedule.recorded import Recorded
from hwsim.schedule.trace import Task, Trace

OF_A_TILE = (Role.CORE, Role.CONVERTER, Role.LIGHT)  # memory and cooling grow with tiles on a single machine too
LENT_WHOLE = (Role.CONVERTER, Role.LIGHT)  # what takes no time of its own, but is there as long as others take

Shared = Mapping[str, float | None]  # units of a component by its name; None: one bank
Priced = tuple[Any, Op, str, Phase]  # what has one price: a device, an operation, and for what layer and phase
Uses = Mapping[str, Use]


class Price(NamedTuple):
    """What one operation takes: its time, how long each of its components works, its joules, its shares of pools.

    Of a component that tiles share, that is on average over all of its units.
    """

    time_s: float
    component_s: dict[str, float]
    energy_j: float
    claims: tuple[Claim, ...]


class Resource(NamedTuple):
    """A machine (a device, or one tile of it), or a pool (a component that tiles share)."""

    device: str
    tile: str
    component: str

    @property
    def label(self) -> str:
        """As people read it."""
        return " ".join(part for part in (self.device, self.tile, self.component) if part)


@dataclass
class Pricing:
    """What the tasks of a trace take, and the machines and pools that they take it of.

    `run`: whose actual counts there are in place of expected ones; None: nobody's. Raises ConfigError for a component
    to share that there is not or that no operation takes, and for too few units.
    """

    trace: Trace
    shared: Shared
    run: Ledger | None = None
    machines: dict[Resource, int] = field(default_factory=dict)
    pools: dict[Resource, int] = field(default_factory=dict)
    _prices: dict[Priced, Price] = field(default_factory=dict)
    _machines: dict[tuple[Any, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = self.trace.devices()
        self.growing = {device: growing(self.trace, device) for device in self.labels}
        self.tiled = {device: has_own_tiles(device, found) for device, found in self.growing.items()}
        recorded = None if self.run is None else Recorded(self.run)
        tasks = {priced(task): None for task in self.trace.tasks}
        self.uses: dict[Priced, Uses] = {
            each: each[0].uses(each[1]) if recorded is None else recorded.uses(*each) for each in tasks
        }
        self.most = self._most_taken()
        self.units = self._units()
        self.rates = {device: self._rates(device) for device in self.labels}
        for device, label in self.labels.items():
            for name in (*device.components, POWER_CAP):
                if (device, name) in self.units or (name == POWER_CAP and self._capped(device)):
                    self.pools[Resource(label, "", name)] = len(self.pools)

    @property
    def pool_units(self) -> list[float | None]:
        """How many units each pool has; None for a power cap."""
        units = {(self.labels[device], name): count for (device, name), count in self.units.items()}
        return [units.get((pool.device, pool.component)) for pool in self.pools]

    def machine(self, task: Task) -> int:
        """The machine that does a task."""
        key = task.device, task.tile
        if key not in self._machines:
            own = self.tiled[task.device] and key in self.trace.tiles
            resource = Resource(self.labels[task.device], task.tile if own else "", "")
            self._machines[key] = self.machines.setdefault(resource, len(self.machines))
        return self._machines[key]

    def price(self, task: Task) -> Price:
        """What a task takes."""
        key = priced(task)
        found = self._prices.get(key)
        if found is None:
            found = self._prices[key] = self._price(key)
        return found

    def _price(self, key: Priced) -> Price:
        device, op, given = *key[:2], self.uses[key]
        rates, parts = self.rates[device], device.components
        bank = {
            name: units
            for (owner, name), units in self.units.items()
            if owner is device and not is_of_tile(parts[name], op)
        }
        uses = {
            name: Use(use.actions, min(use.units, bank[name])) if name in bank and rates.time_s[name] else use
            for name, use in given.items()
        }
        time_s = float(op_time(uses, rates).time_s)
        energy_j = math.fsum(use.actions * rates.energy_j[name] for name, use in uses.items())
        taken = takes(device, op, given, tiled=self.tiled[device]) if bank else {}
        shares = {name: min(taken[name] / units, 1.0) for name, units in bank.items() if name in taken}
        if time_s and energy_j and self._capped(device):
            room_w = headroom_w(rates.power_cap_w, sum(rates.static_power_w.values()))
            shares[POWER_CAP] = energy_j / time_s / room_w
        label = self.labels[device]
        claims = [Claim(self.pools[Resource(label, "", name)], grains(share)) for name, share in shares.items()]
        component_s = {name: use.actions / bank.get(name, use.units) * rates.time_s[name] for name, use in uses.items()}
        return Price(time_s, component_s, energy_j, tuple(sorted(claims)))

    def _capped(self, device: Any) -> bool:
        """Whether machines that work side by side stand under one power cap."""
        return self.tiled[device] and device.power_cap_w is not None

    def _most_taken(self) -> dict[Any, dict[str, float]]:
        """By device and component, the most units that one operation takes at once."""
        most: dict[Any, dict[str, float]] = {device: {} for device in self.labels}
        for (device, op, *_), uses in self.uses.items():
            found = most[device]
            for name, units in takes(device, op, uses, tiled=self.tiled[device]).items():
                found[name] = max(units, found.get(name, 0.0))
        return most

    def _one_for_all(self, device: Any) -> dict[str, float]:
        """Of a device with tiles, the units of what does not grow with them: what is installed, or one operation takes.

        An operation that takes more by itself than is installed takes its bits or places in turns.
        """
        installed, growing = device.installed(shapes_on(self.trace, device)), self.growing[device]
        return {
            name: max(taken, float(installed.get(name, 0.0)))
            for name, taken in self.most[device].items()
            if self.tiled[device] and name not in growing
        }

    def _units(self) -> dict[tuple[Any, str], float]:
        """How many units there are of what is shared, by device and component."""
        if self.shared:
            require_sharable(self.shared, self.labels, self.most.values())
        units = {}
        for device, most in self.most.items():
            units.update({(device, name): count for name, count in self._one_for_all(device).items()})
            for name in self.shared.keys() & most.keys():
                given = self.shared[name]
                units[device, name] = given = most[name] if given is None else given
                if given < most[name] and not device.components[name].quantity("time_s").nominal:
                    raise ConfigError(
                        f"{given:g} units of {name!r} to share are too few: {self.labels[device]} needs "
                        f"{most[name]:g} at once; give as many or more, or no number for one bank"
                    )
        return units

    def _rates(self, device: Any) -> Rates:
        """The device's numbers; of what tiles share, so many units have power.

        A bank takes the place of what grows with tiles, and may be larger than all of it without taking more.
        """
        rates = costing.rates(self.trace if self.run is None else self.run, device)
        installed, common = device.installed(shapes_on(self.trace, device)), self._one_for_all(device)
        for (owner, name), units in self.units.items():
            if owner is not device or not (had := common.get(name, installed.get(name, 0.0))):
                continue
            if name in common or units < had:
                rates.static_power_w[name] *= units / had
                rates.idle_power_w[name] *= units / had
        return rates


def priced(task: Task) -> Priced:
    """What decides on the price of a task."""
    return task.device, task.op, task.layer, task.phase


def require_sharable(shared: Shared, devices: Iterable[Any], most: Iterable[Mapping[str, float]]) -> None:
    """Refuse to share what none of `devices` has, or takes (`most`); and units that there cannot be."""
    known = {name for device in devices for name in device.components}
    possible = sorted(set().union(*most))
    for name, units in shared.items():
        if name not in known:
            raise ConfigError(
                f"no component {name!r} to share; can be shared: {', '.join(possible) or 'nothing of these devices'}"
            )
        if units is not None and not 0 < units < math.inf:
            raise ConfigError(f"{units:g} units of {name!r} to share: needs a finite number above 0")
        if name not in possible:
            raise ConfigError(
                f"sharing {name} changes nothing, as no operation takes time of it that could be another's; "
                f"can be shared: {', '.join(possible) or 'nothing'}"
            )


def sharable(trace: Trace) -> dict[str, float]:
    """The components that operations of a trace could share, and the most units that one takes, of whatever device."""
    most: dict[str, float] = {}
    for found in Pricing(trace, {}).most.values():
        most |= {name: max(units, most.get(name, 0.0)) for name, units in found.items()}
    return most


def takes(device: Any, op: Op, uses: Uses, *, tiled: bool) -> dict[str, float]:
    """Units of each component that one operation takes at once, as far as tiles can share them.

    Where tiles have hardware of their own, that is also their light and converters whose time the cost rule does not
    count by itself: a product holds what is installed for its tile as long as it lasts.
    """
    parts = device.components
    found = {
        name: float(use.units)
        for name, use in uses.items()
        if use.actions and parts[name].quantity("time_s").nominal and not is_of_tile(parts[name], op)
    }
    if tiled and isinstance(op, Product) and op.kind in MULTIPLYING and op.kind is not Kind.PRODUCT:
        shape = TileShape(op.stack, op.k, op.n)
        once, twice = device.installed([shape]), device.installed([shape] * 2)
        for name, part in parts.items():
            lent = part.role in LENT_WHOLE and not part.holds and not part.quantity("time_s").nominal
            if lent and twice.get(name, 0.0) > once.get(name, 0.0):
                found[name] = float(once[name])
    return found


def is_of_tile(part: Component, op: Op) -> bool:
    """Whether a component's time in an operation passes on its tile alone, whatever others do."""
    return isinstance(op, Product) and op.kind in part.of_tile


def shapes_on(trace: Trace, device: Any) -> list[TileShape]:
    """The shapes of a device's tiles."""
    return [shape for (owner, _), shape in trace.tiles.items() if owner is device]


def growing(trace: Trace, device: Any) -> frozenset[str]:
    """The components of which twice the tiles have more."""
    shapes = shapes_on(trace, device)
    once, twice = device.installed(shapes), device.installed(shapes * 2)
    return frozenset(name for name in device.components if twice.get(name, 0.0) > once.get(name, 0.0))


def has_own_tiles(device: Any, growing: frozenset[str]) -> bool:
    """Whether each tile of a device has hardware of its own: twice the tiles take more cores, converters or light."""
    return any(device.components[name].role in OF_A_TILE for name in growing)

"""What operations take when they are scheduled: their time, and of which machines and pools they take it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwsim import costing
from hwsim.cost import POWER_CAP, Op, Rates, Role, Use, headroom_w, op_time
from hwsim.errors import ConfigError
from hwsim.ledger import Ledger, TileShape
from hwsim.schedule.engine import Claim, grains
from hwsim.schedule.trace import Task

OF_A_TILE = (Role.CORE, Role.CONVERTER, Role.LIGHT)  # memory and cooling grow with tiles on a single machine too


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
    """What the tasks of a ledger's network take, and the machines and pools that they take it of."""

    ledger: Ledger
    shared: Mapping[str, float]
    machines: dict[Resource, int] = field(default_factory=dict)
    pools: dict[Resource, int] = field(default_factory=dict)
    _prices: dict[tuple[Any, Op], Price] = field(default_factory=dict)
    _machines: dict[tuple[Any, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = self.ledger.devices()
        self.tiled = {device: has_own_tiles(self.ledger, device) for device in self.labels}
        known = {name for device in self.labels for name in device.components}
        for name, units in self.shared.items():
            if name not in known:
                raise ConfigError(f"no component {name!r} to share; there are: {', '.join(sorted(known))}")
            if not 0 < units < math.inf:
                raise ConfigError(f"{units:g} units of {name!r} to share: needs a finite number above 0")
        self.rates = {device: self._rates(device) for device in self.labels}
        for device, label in self.labels.items():
            for name in (*device.components, POWER_CAP):
                if name in self.shared or (name == POWER_CAP and self._capped(device)):
                    self.pools[Resource(label, "", name)] = len(self.pools)

    def machine(self, task: Task) -> int:
        """The machine that does a task."""
        key = task.device, task.tile
        if key not in self._machines:
            own = self.tiled[task.device] and key in self.ledger.tiles
            resource = Resource(self.labels[task.device], task.tile if own else "", "")
            self._machines[key] = self.machines.setdefault(resource, len(self.machines))
        return self._machines[key]

    def price(self, device: Any, op: Op) -> Price:
        """What one operation takes."""
        found = self._prices.get((device, op))
        if found is None:
            found = self._prices[device, op] = self._price(device, op)
        return found

    def _price(self, device: Any, op: Op) -> Price:
        rates, uses = self.rates[device], {}
        for name, use in device.uses(op).items():
            uses[name] = Use(use.actions, min(use.units, self.shared[name])) if name in self.shared else use
        time_s = float(op_time(uses, rates).time_s)
        energy_j = math.fsum(use.actions * rates.energy_j[name] for name, use in uses.items())
        busy = {name: use.units for name, use in uses.items() if name in self.shared and use.actions}
        shares = {name: units / self.shared[name] for name, units in busy.items()}
        if time_s and energy_j and self._capped(device):
            room_w = headroom_w(rates.power_cap_w, sum(rates.static_power_w.values()))
            shares[POWER_CAP] = energy_j / time_s / room_w
        label = self.labels[device]
        claims = [Claim(self.pools[Resource(label, "", name)], grains(share)) for name, share in shares.items()]
        component_s = {
            name: use.actions / self.shared.get(name, use.units) * rates.time_s[name] for name, use in uses.items()
        }
        return Price(time_s, component_s, energy_j, tuple(sorted(claims)))

    def _capped(self, device: Any) -> bool:
        """Whether machines that work side by side stand under one power cap."""
        return self.tiled[device] and self.rates[device].power_cap_w is not None

    def _rates(self, device: Any) -> Rates:
        """The device's numbers; of what is shared, no more units are installed than that."""
        rates = costing.rates(self.ledger, device)
        installed = device.installed(shapes_on(self.ledger, device))
        for name in rates.static_power_w.keys() & self.shared.keys():
            if installed.get(name, 0.0) > self.shared[name]:
                rates.static_power_w[name] *= self.shared[name] / installed[name]
                rates.idle_power_w[name] *= self.shared[name] / installed[name]
        return rates


def shapes_on(ledger: Ledger, device: Any) -> list[TileShape]:
    """The shapes of a device's tiles."""
    return [shape for (owner, _), shape in ledger.tiles.items() if owner is device]


def has_own_tiles(ledger: Ledger, device: Any) -> bool:
    """Whether each tile of a device has hardware of its own: twice the tiles take more cores, converters or light."""
    shapes = shapes_on(ledger, device)
    once, twice = device.installed(shapes), device.installed(shapes * 2)
    own = [name for name, part in device.components.items() if part.role in OF_A_TILE]
    return any(twice.get(name, 0.0) > once.get(name, 0.0) for name in own)

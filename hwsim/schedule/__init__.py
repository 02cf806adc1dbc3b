"""Operations on shared units: when each runs, how long all take, what is busy, and what idles meanwhile.

The components are those of the cost rule. A machine does one operation at a time: a whole device, or each of its tiles
where its cores, converters or light grow with them, so that every tile has its own. What does not grow with tiles, such
as a processor that works out their settings, is one for all of them, unless its time passes on each tile by itself
(`of_tile` of the component). That, and what tiles are told to share, such as ADCs or a resonator, is a pool of so many
units; an operation holds what it takes of a pool from its beginning to its end. Under a power cap, tiles that work side
by side share what it leaves for work.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hwsim.cost import Part
from hwsim.ledger import Ledger
from hwsim.schedule.engine import Job, Times, list_schedule
from hwsim.schedule.loans import Loan, Wait, loans, waits
from hwsim.schedule.pricing import Price, Pricing, Resource, Shared, require_sharable, sharable
from hwsim.schedule.trace import Task, Trace

__all__ = [
    "Loan", "Price", "Resource", "Schedule", "Shared", "Task", "Trace", "Wait", "require_sharable", "schedule",
    "sharable",
]  # fmt: skip

Engine = Callable[[Sequence[Job]], Times]
Energies = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Schedule:
    """When the tasks of a trace run, and what follows from it; at nominal component values."""

    tasks: Sequence[Task]
    jobs: Sequence[Job]
    prices: Sequence[Price]  # of each task
    start_s: Sequence[float]
    finish_s: Sequence[float]
    taken_s: Sequence[float]  # when its machine was free for each task, which then waited for what tiles share
    machines: Sequence[Resource]
    pools: Sequence[Resource]
    pool_units: Sequence[float | None]  # None: of a power cap
    labels: Mapping[Any, str]  # every device that is powered
    static_power_w: Mapping[str, float]  # by device: of all that is installed, while it works
    idle_power_w: Mapping[str, float]

    @cached_property
    def makespan_s(self) -> float:
        """From the beginning of the first operation to the end of the last [s]."""
        return max(self.finish_s, default=0.0)

    @cached_property
    def serial_s(self) -> float:
        """How long the same operations take one after the other [s]."""
        return math.fsum(job.duration_s for job in self.jobs)

    @cached_property
    def busy_s(self) -> dict[Resource, float]:
        """How long each machine works, and each pool is lent, on average over its units [s]."""
        spent: dict[Resource, list[float]] = {resource: [] for resource in (*self.machines, *self.pools)}
        for job in self.jobs:
            spent[self.machines[job.machine]].append(job.duration_s)
        for loan in self.loans:
            spent[self.pools[loan.pool]].append((loan.finish_s - loan.start_s) * loan.share)
        return {resource: math.fsum(times) for resource, times in spent.items()}

    @property
    def utilisation(self) -> dict[Resource, float]:
        """The share of the makespan that each machine works, and each pool is lent, on average over its units."""
        return {resource: self._share(seconds) for resource, seconds in self.busy_s.items()}

    @cached_property
    def component_utilisation(self) -> dict[tuple[str, str], float]:
        """The share of the makespan that each component works, by device; the mean over tiles that have their own.

        Of a component that tiles share in all that they do there is one pool, and no mean is taken.
        """
        spent: dict[tuple[str, str], list[float]] = defaultdict(list)
        for label, price, calls in self._priced:
            for name, seconds in price.component_s.items():
                spent[label, name].append(calls * seconds)
        count: dict[str, int] = defaultdict(int)
        for machine in self.machines:
            count[machine.device] += 1
        of_tile = {
            (label, name) for device, label in self.labels.items() for name, part in device.components.items()
            if part.of_tile
        }  # fmt: skip
        shared = {(pool.device, pool.component) for pool in self.pools} - of_tile
        return {
            key: self._share(math.fsum(times)) / (1 if key in shared else count[key[0]])
            for key, times in spent.items()
            if any(times)
        }

    @cached_property
    def device_busy_s(self) -> dict[str, float]:
        """How long at least one machine of each device works [s]: what works at the same time counts once."""
        spans: dict[str, list[tuple[float, float]]] = {label: [] for label in self.labels.values()}
        for task, start, finish in zip(self.tasks, self.start_s, self.finish_s, strict=True):
            if finish > start:
                spans[self.labels[task.device]].append((start, finish))
        return {label: covered_s(found) for label, found in spans.items()}

    @cached_property
    def energy_j(self) -> Energies:
        """Joules by device and part; a device is busy while one of its machines works, and idles until the makespan."""
        return self._energy_j(self.makespan_s, self.device_busy_s)

    @cached_property
    def serial_energy_j(self) -> Energies:
        """Joules by device and part of the same operations one after the other."""
        times: dict[str, list[float]] = {label: [] for label in self.labels.values()}
        for task, job in zip(self.tasks, self.jobs, strict=True):
            times[self.labels[task.device]].append(job.duration_s)
        return self._energy_j(self.serial_s, {label: math.fsum(found) for label, found in times.items()})

    @property
    def total_j(self) -> float:
        """The whole energy, idle and static included [J]."""
        return math.fsum(self.energy_j.values())

    @cached_property
    def loans(self) -> list[Loan]:
        """What machines hold of pools, and when."""
        return loans(self.jobs, self._times)

    @cached_property
    def waits(self) -> list[Wait]:
        """Which machines wait for a pool, and who gives back what they wait for."""
        return waits(self.jobs, self._times)

    def bars(self) -> list[tuple[int, str, int, float, float]]:
        """Machine, phase, micro-batch, start and end [s] of all work, what follows without a gap as one."""
        found: list[tuple[int, str, int, float, float]] = []
        last: dict[int, int] = {}
        for i in sorted(range(len(self.jobs)), key=self.start_s.__getitem__):
            job, task = self.jobs[i], self.tasks[i]
            if not job.duration_s:
                continue
            kind, start_s = (job.machine, str(task.phase), task.micro_batch), self.start_s[i]
            place = last.get(job.machine)
            if place is not None and found[place][:3] == kind and found[place][4] == start_s:
                start_s = found[place][3]
                found[place] = (*kind, start_s, self.finish_s[i])
            else:
                last[job.machine] = len(found)
                found.append((*kind, start_s, self.finish_s[i]))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Times [s], joules, utilisation and bars as plain data, ready for JSON and for report.gantt."""
        return {
            "makespan_s": self.makespan_s,
            "serial_s": self.serial_s,
            "energy_j": by_part(self.energy_j),
            "serial_energy_j": by_part(self.serial_energy_j),
            "utilisation": {resource.label: share for resource, share in self.utilisation.items()},
            "component_utilisation": {".".join(key): share for key, share in self.component_utilisation.items()},
            "machines": [machine.label for machine in self.machines],
            "bars": [list(bar) for bar in self.bars()],
            "pools": {pool.label: units for pool, units in zip(self.pools, self.pool_units, strict=True)},
            "loans": [list(loan) for loan in self.loans],
            "waits": [list(wait) for wait in self.waits],
        }

    @property
    def _times(self) -> Times:
        return Times(list(self.start_s), list(self.finish_s), list(self.taken_s))

    @cached_property
    def _priced(self) -> list[tuple[str, Price, int]]:
        """The device, the price and the number of all tasks of one price, which is one object."""
        calls = Counter(map(id, self.prices))
        first = {id(price): (task, price) for task, price in zip(self.tasks, self.prices, strict=True)}
        return [(self.labels[task.device], price, calls[key]) for key, (task, price) in first.items()]

    def _share(self, seconds: float) -> float:
        return seconds / self.makespan_s if self.makespan_s else 0.0

    def _energy_j(self, time_s: float, busy_s: Mapping[str, float]) -> Energies:
        dynamic: dict[str, list[float]] = {label: [] for label in self.labels.values()}
        for label, price, calls in self._priced:
            dynamic[label].append(calls * price.energy_j)
        found: Energies = {}
        for label, joules in dynamic.items():
            busy = busy_s[label]
            found[label, Part.DYNAMIC] = math.fsum(joules)
            found[label, Part.STATIC] = self.static_power_w[label] * busy
            found[label, Part.IDLE] = self.idle_power_w[label] * max(time_s - busy, 0.0)
        return found


def schedule(
    trace: Trace, *, shared: Shared | None = None, run: Ledger | None = None, engine: Engine = list_schedule
) -> Schedule:
    """When the tasks of `trace` run.

    `shared`: how many units of a component all tiles of its device share, by the component's name; None: one bank, as
    many as one operation takes at most. An operation that would use more takes them all, for longer. Light and
    converters whose time does not count by itself, such as detectors, are taken by a product as installed for its tile.
    `run`: of the same network on the same devices; where it recorded actual counts, these stand in place of expected
    ones, for other numbers of rows in proportion. `engine`: who finds the times (simpy_schedule finds the same ones).
    Raises ConfigError for a component that there is not or that no operation takes, no units of it, and too few where
    no time of it counts.
    """
    pricing = Pricing(trace, shared or {}, run)
    prices = [pricing.price(task) for task in trace.tasks]
    jobs = [
        Job(price.time_s, pricing.machine(task), task.after, price.claims if price.time_s else ())
        for task, price in zip(trace.tasks, prices, strict=True)
    ]
    labels, powers = pricing.labels, pricing.rates.items()
    return Schedule(
        trace.tasks,
        jobs,
        prices,
        *engine(jobs),
        machines=list(pricing.machines),
        pools=list(pricing.pools),
        pool_units=pricing.pool_units,
        labels=labels,
        static_power_w={labels[device]: math.fsum(rates.static_power_w.values()) for device, rates in powers},
        idle_power_w={labels[device]: math.fsum(rates.idle_power_w.values()) for device, rates in powers},
    )


def covered_s(spans: list[tuple[float, float]]) -> float:
    """How much time is in at least one of several spans [s]."""
    lengths, reached = [], 0.0
    for start, finish in sorted(spans):
        if finish > reached:
            lengths.append(finish - max(start, reached))
            reached = finish
    return math.fsum(lengths)


def by_part(energies: Energies) -> dict[str, float]:
    """Joules by device and part as plain data, what is not spent left out."""
    return {f"{label}/{part}": joules for (label, part), joules in energies.items() if joules}

"""The same rules as in engine.py, written with SimPy: a process a job, its machine and pools as SimPy's resources.

It is the reference that the list scheduler is tested against, and takes 8 to 10 times as long (see engine.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import simpy
from simpy.events import NORMAL, Event, EventPriority
from simpy.resources.container import Container, ContainerGet
from simpy.resources.resource import SortedQueue

from hwsim.schedule.engine import GRAINS, Job, Times, check_jobs


class Turn(Event):
    """Something at the present instant, after all that ends there and in a given order."""

    def __init__(self, env: simpy.Environment, place: int) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        env.schedule(self, priority=EventPriority(NORMAL + 1 + place))


class Loan(ContainerGet):
    """A request to a pool, which serves the lowest job first."""

    def __init__(self, pool: Pool, amount: int, job: int) -> None:
        self.key = job
        super().__init__(pool, amount)


class Pool(Container):
    """Grains that jobs borrow and give back."""

    GetQueue = SortedQueue

    def lend(self, amount: int, job: int) -> Loan:
        """An event that is triggered when `job` has got so many grains."""
        return Loan(self, amount, job)


class _Shop:
    """All jobs, machines and pools in one environment."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.env = simpy.Environment()
        self.jobs = jobs
        self.done = [self.env.event() for _ in jobs]
        self.machines = {job.machine: simpy.PriorityResource(self.env) for job in jobs}
        pools = sorted({claim.pool for job in jobs for claim in job.claims})
        self.pools = {pool: Pool(self.env, GRAINS, GRAINS) for pool in pools}
        self.stages = {pool: stage for stage, pool in enumerate(pools, 1)}  # machines are stage 0
        self.start_s, self.finish_s, self.taken_s = ([0.0] * len(jobs) for _ in range(3))

    def turn(self, stage: int, place: int) -> Turn:
        """Within an instant: stage after stage, in each those who ask, by job, before those who give back."""
        return Turn(self.env, stage * (len(self.jobs) + 1) + place)

    def process(self, i: int) -> Generator[Any, Any, None]:
        """The life of a job."""
        job, last = self.jobs[i], len(self.jobs)
        yield self.env.all_of([self.done[j] for j in job.after])
        if not job.duration_s:
            self.start_s[i] = self.finish_s[i] = self.taken_s[i] = self.env.now
            self.done[i].succeed()
            return
        yield self.turn(0, i)
        request = self.machines[job.machine].request(priority=i)
        yield request
        self.taken_s[i] = self.env.now
        for claim in job.claims:
            yield self.turn(self.stages[claim.pool], i)
            yield self.pools[claim.pool].lend(claim.grains, i)
        self.start_s[i] = self.env.now
        yield self.env.timeout(job.duration_s)
        self.finish_s[i] = self.env.now
        self.done[i].succeed()
        yield self.turn(0, last)
        self.machines[job.machine].release(request)
        for claim in job.claims:
            yield self.turn(self.stages[claim.pool], last)
            self.pools[claim.pool].put(claim.grains)


def simpy_schedule(jobs: Sequence[Job]) -> Times:
    """When each job begins and ends, all of them given at 0 s. Raises ConfigError where one cannot be scheduled."""
    check_jobs(jobs)
    shop = _Shop(jobs)
    for i in range(len(jobs)):
        shop.env.process(shop.process(i))
    shop.env.run()
    return Times(shop.start_s, shop.finish_s, shop.taken_s)

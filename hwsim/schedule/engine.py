"""List scheduling: jobs on machines that do one at a time, and on pools that lend a share of themselves.

What happens at an instant, in this order, so that equal jobs always get equal times:

1. Jobs end, free their machine and give back what they borrowed; jobs that waited for them only are ready. A ready job
   that takes no time occupies nothing, and ends as it begins.
2. Every free machine takes the first of its ready jobs, in the order in which they are given.
3. Pool after pool lends to jobs that hold their machine, in the same order: who does not fit holds up those behind.
4. Jobs that have all that they need begin, and hold it until they end.

reference.py has the same rules as SimPy processes, and finds the same times to the last bit. It takes 9 to 10 times as
long, as each job is a generator that some ten events resume; that is why it is the test's oracle and not the engine.
Jobs a second, on one core of a two-core x86-64 machine with Python 3.11 (measured, benchmarks/schedule.py, medians of
one run in which both take turns): a pipeline 568,000 here and 56,000 with SimPy; a random graph 398,000 and 46,000;
the same with three pools 263,000 and 29,000. A traced step, from recording to report: 184,000.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from hwsim.errors import ConfigError

GRAINS = 2**30  # of a pool: shares are counted in whole grains, so that what is lent and given back adds up exactly


class Claim(NamedTuple):
    """A part of a pool that a job holds while it runs."""

    pool: int
    grains: int


class Job(NamedTuple):
    """Work on one machine, after other jobs, of which each is given before it."""

    duration_s: float
    machine: int
    after: Sequence[int] = ()
    claims: Sequence[Claim] = ()  # by pool, lowest first


class Times(NamedTuple):
    """When each job begins, ends, and has got its machine, which it holds while it waits for pools [s]."""

    start_s: list[float]
    finish_s: list[float]
    taken_s: list[float]


def grains(share: float) -> int:
    """A share of a pool in grains: equal parts that make the whole still fit in it."""
    return min(max(math.floor(share * GRAINS), 1), GRAINS)


def check_jobs(jobs: Sequence[Job]) -> None:
    """Refuse jobs that could not be scheduled, with a ConfigError."""
    for i, job in enumerate(jobs):
        if not 0 <= job.duration_s < math.inf:
            raise ConfigError(f"job {i} takes {job.duration_s:g} s: needs a finite time from 0")
        if job.after and (min(job.after) < 0 or max(job.after) >= i):
            raise ConfigError(f"job {i} waits for {list(job.after)}: it may wait only for jobs given before it")
        if not job.claims:
            continue
        pools = [claim.pool for claim in job.claims]
        if pools != sorted(set(pools)):
            raise ConfigError(f"job {i} claims pools {pools}: name each once, lowest first")
        if any(not 1 <= claim.grains <= GRAINS for claim in job.claims):
            raise ConfigError(f"job {i} claims {list(job.claims)}: needs from 1 to {GRAINS} grains of each pool")


def list_schedule(jobs: Sequence[Job]) -> Times:
    """When each job begins and ends, all of them given at 0 s. Raises ConfigError where one cannot be scheduled."""
    check_jobs(jobs)
    return _Run(jobs).times()


class _Run:
    """One run: what waits, what is free, and what goes on."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.now = 0.0
        self.start_s, self.finish_s, self.taken_s = ([0.0] * len(jobs) for _ in range(3))
        self.missing = [len(job.after) for job in jobs]
        self.followers: list[list[int]] = [[] for _ in jobs]
        for i, job in enumerate(jobs):
            for j in job.after:
                self.followers[j].append(i)
        self.busy: set[int] = set()
        self.ready: dict[int, list[int]] = defaultdict(list)  # heaps, by machine
        self.left: dict[int, int] = defaultdict(lambda: GRAINS)  # by pool
        self.borrowers: dict[int, list[tuple[int, int]]] = defaultdict(list)  # heaps of (job, its claim), by pool
        self.going: list[tuple[float, int]] = []  # a heap of (end, job)

    def times(self) -> Times:
        """From instant to instant until nothing goes on."""
        roots = [i for i, count in enumerate(self.missing) if not count]
        machines, pools = self._became_ready(roots), set[int]()
        while True:
            pools |= self._taken(machines)
            if pools:
                self._lend(pools)
            if not self.going:
                return Times(self.start_s, self.finish_s, self.taken_s)
            machines, pools = self._end()

    def _became_ready(self, found: list[int]) -> set[int]:
        """Queue jobs that wait for nothing any more, and those that follow on ones without duration; their machines."""
        jobs, machines = self.jobs, set()
        while found:
            i = found.pop()
            job = jobs[i]
            if job.duration_s:
                heappush(self.ready[job.machine], i)
                machines.add(job.machine)
            else:
                self.start_s[i] = self.finish_s[i] = self.taken_s[i] = self.now
                found += self._released(i)
        return machines

    def _released(self, i: int) -> list[int]:
        """Jobs that have waited for i last."""
        missing, found = self.missing, []
        for j in self.followers[i]:
            missing[j] -= 1
            if not missing[j]:
                found.append(j)
        return found

    def _taken(self, machines: Iterable[int]) -> set[int]:
        """Let free machines take a job each; the pools that are asked next."""
        pools = set()
        for machine in machines:
            queue = self.ready[machine]
            if queue and machine not in self.busy:
                i = heappop(queue)
                self.busy.add(machine)
                self.taken_s[i] = self.now
                if self.jobs[i].claims:
                    pools.add(self._ask(i, 0))
                else:
                    self._begin(i)
        return pools

    def _ask(self, i: int, place: int) -> int:
        """Queue a job at the pool of its claim number `place`."""
        pool = self.jobs[i].claims[place].pool
        heappush(self.borrowers[pool], (i, place))
        return pool

    def _lend(self, pools: set[int]) -> None:
        """Lend what is left, the lowest pool first: who has got its claim there asks at a higher one."""
        waiting = sorted(pools)
        while waiting:
            pool = heappop(waiting)
            queue = self.borrowers[pool]
            while queue:
                i, place = queue[0]
                claims = self.jobs[i].claims
                if claims[place].grains > self.left[pool]:
                    break
                heappop(queue)
                self.left[pool] -= claims[place].grains
                if place + 1 < len(claims):
                    heappush(waiting, self._ask(i, place + 1))
                else:
                    self._begin(i)

    def _begin(self, i: int) -> None:
        self.start_s[i] = self.now
        heappush(self.going, (self.now + self.jobs[i].duration_s, i))

    def _end(self) -> tuple[set[int], set[int]]:
        """Go to the next instant and end what ends there; machines and pools that have something to give."""
        going, jobs = self.going, self.jobs
        self.now = now = going[0][0]
        machines, pools = set(), set()
        found: list[int] = []
        while going and going[0][0] == now:
            i = heappop(going)[1]
            job = jobs[i]
            self.finish_s[i] = now
            self.busy.remove(job.machine)
            machines.add(job.machine)
            for pool, count in job.claims:
                self.left[pool] += count
                pools.add(pool)
            found += self._released(i)
        return machines | self._became_ready(found), pools

"""Who holds what of a pool and when, and who waits for whom: read off finished times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hwsim.schedule.engine import GRAINS, Job, Times


class Loan(NamedTuple):
    """What a machine holds of a pool: a share of it, from start to finish [s]."""

    pool: int
    machine: int
    start_s: float
    finish_s: float
    share: float


class Wait(NamedTuple):
    """A machine has taken a job that waits for a pool, from begin to end [s], when another machine gives it back."""

    machine: int
    pool: int
    begin_s: float
    end_s: float
    lender: int


def loans(jobs: Sequence[Job], times: Times) -> list[Loan]:
    """Everything that is lent, by job."""
    return [
        Loan(claim.pool, job.machine, times.start_s[i], times.finish_s[i], claim.grains / GRAINS)
        for i, job in enumerate(jobs)
        for claim in job.claims
    ]


def waits(jobs: Sequence[Job], times: Times) -> list[Wait]:
    """Every wait for a pool, by job: for the last of several pools, and of several who give back for the first."""
    lenders: dict[tuple[int, float], int] = {}
    for i, job in enumerate(jobs):
        for claim in job.claims:
            lenders.setdefault((claim.pool, times.finish_s[i]), job.machine)
    found = []
    for i, job in enumerate(jobs):
        begin_s, end_s = times.taken_s[i], times.start_s[i]
        if job.claims and end_s > begin_s:
            # A job that waited begins as something of one of its pools comes back: nothing else makes room there.
            pool = next(claim.pool for claim in reversed(job.claims) if (claim.pool, end_s) in lenders)
            found.append(Wait(job.machine, pool, begin_s, end_s, lenders[pool, end_s]))
    return found

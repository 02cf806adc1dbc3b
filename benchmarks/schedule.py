"""Tasks scheduled per second: list scheduling, SimPy as the reference, and a traced step of a network, end to end.

    python benchmarks/schedule.py [--tasks N] [--rounds N] [--json FILE]

Processor seconds of one thread. Both engines get the same jobs: a pipeline, a random graph, and the same graph with
three pools; SimPy gets a tenth of them. The traced step is that of the transformer `gpt` on `crossbar`, batch 32 in 32
micro-batches:

- record: its tasks, of which micro-batches that are like the ones before are copied; "every call": none is.
- schedule: prices, times, idle energy, bars and loans, as they go into a report; "simpy": with SimPy's times.
- end to end: both together.

All take turns, round by round. Each figure is the median of the rounds, with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import hwsim
from hwsim.arguments import model_and_data
from hwsim.pipeline import traced_step
from hwsim.schedule import Trace, schedule
from hwsim.schedule.engine import Claim, Job, grains, list_schedule
from hwsim.schedule.reference import simpy_schedule
from hwsim.schedule.trace import Collector
from hwsim.train import loss_for

MACHINES, POOLS, REACH = 20, 3, 40


def pipeline(count: int) -> list[Job]:
    """Items through stages of unequal length, in turns."""
    return [
        Job(1.0 + 0.1 * (i % MACHINES % 3), i % MACHINES, (i - 1,) if i % MACHINES else ()) for i in range(count)
    ]  # fmt: skip


def graph(count: int, pools: int) -> list[Job]:
    """Random jobs, each after up to two of the latest ones."""
    rng, jobs = random.Random(0), []
    for i in range(count):
        before = rng.sample(range(max(0, i - REACH), i), min(i, rng.choice((0, 1, 1, 2))))
        claims = [Claim(p, grains(rng.random())) for p in range(pools) if rng.random() < 0.3]
        jobs.append(Job(rng.random(), rng.randrange(MACHINES), sorted(before), claims))
    return jobs


def rates(work: dict[str, tuple[int, Callable[[], object]]], rounds: int) -> dict[str, dict[str, float]]:
    """Tasks a second by name of the work: median, lowest and highest of the rounds, in which all take turns."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, (count, run) in work.items():
            start_s = time.process_time()
            run()
            found[name].append(count / (time.process_time() - start_s))
    return {
        name: {"median": statistics.median(each), "low": min(each), "high": max(each)} for name, each in found.items()
    }


def engines(jobs: Sequence[Job], rounds: int) -> dict[str, dict[str, float]]:
    """Both engines on the same kind of jobs."""
    few = jobs[: len(jobs) // 10]
    return rates(
        {"list": (len(jobs), lambda: list_schedule(jobs)), "simpy": (len(few), lambda: simpy_schedule(few))}, rounds
    )


def traced(rounds: int) -> dict[str, dict[str, float]]:
    """The step of a network: recorded, scheduled with all that follows, and both."""
    network, data, _ = model_and_data("gpt", None)
    device, loss, shape = hwsim.device("crossbar"), loss_for(data), data.y_train.shape[1:]

    def record() -> Trace:
        return traced_step(network, device, shape, loss, batch=32, micro_batches=32)

    def every_call() -> None:
        with mock.patch.object(Collector, "repeat", return_value=0):
            record()

    trace = record()
    work: dict[str, Callable[[], object]] = {
        "record, every call": every_call,
        "record": record,
        "schedule, simpy": lambda: schedule(trace, engine=simpy_schedule).as_dict(),
        "schedule": lambda: schedule(trace).as_dict(),
        "end to end": lambda: schedule(record()).as_dict(),
    }
    return rates({name: (len(trace.tasks), run) for name, run in work.items()}, rounds)


def main() -> None:
    """Print the rates, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {
        "pipeline": engines(pipeline(options.tasks), options.rounds),
        "graph": engines(graph(options.tasks, 0), options.rounds),
        "graph with pools": engines(graph(options.tasks, POOLS), options.rounds),
        "gpt on crossbar": traced(options.rounds),
    }
    for name, rates in found.items():
        for what, values in rates.items():
            low, high = (f"{values[bound]:,.0f}" for bound in ("low", "high"))
            print(f"{name:17} {what:18} {values['median']:>9,.0f} tasks/s ({low} to {high})")
    if options.json:
        made_with = {
            "python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count(),
            "load": os.getloadavg(), "hwsim": hwsim.__version__,
        }  # fmt: skip
        options.json.write_text(json.dumps({"made_with": made_with, "tasks_per_s": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

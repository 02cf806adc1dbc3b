"""Tasks scheduled per second: list scheduling, SimPy as the reference, and a traced step of a network, end to end.

    python benchmarks/schedule.py [--tasks N] [--rounds N] [--json FILE]

Processor seconds of one thread. Both engines get the same jobs: a pipeline, a random graph, and the same graph with
three pools; SimPy gets a tenth of them. The traced step is that of the transformer `gpt` on `crossbar`, batch 32 in 32
micro-batches: recording its tasks, and scheduling them with prices, idle energy and bars. Each figure is the median of
the rounds, with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import hwsim
from hwsim.arguments import model_and_data
from hwsim.pipeline import traced_step
from hwsim.schedule import schedule
from hwsim.schedule.engine import Claim, Job, grains, list_schedule
from hwsim.schedule.reference import simpy_schedule
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


def rate(count: int, work: Callable[[], object], rounds: int) -> dict[str, float]:
    """Tasks a second: median, lowest and highest of the rounds."""
    found = []
    for _ in range(rounds):
        start_s = time.process_time()
        work()
        found.append(count / (time.process_time() - start_s))
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}


def engines(jobs: Sequence[Job], rounds: int) -> dict[str, dict[str, float]]:
    """Both engines on the same kind of jobs."""
    few = jobs[: len(jobs) // 10]
    return {
        "list": rate(len(jobs), lambda: list_schedule(jobs), rounds),
        "simpy": rate(len(few), lambda: simpy_schedule(few), rounds),
    }


def traced(rounds: int) -> dict[str, dict[str, float]]:
    """The step of a network: recorded, and scheduled with all that follows."""
    network, data, _ = model_and_data("gpt", None)
    device, loss, shape = hwsim.device("crossbar"), loss_for(data), data.y_train.shape[1:]

    def record() -> object:
        return traced_step(network, device, shape, loss, batch=32, micro_batches=32)

    trace = traced_step(network, device, shape, loss, batch=32, micro_batches=32)
    return {
        "record": rate(len(trace.tasks), record, rounds),
        "schedule": rate(len(trace.tasks), lambda: schedule(trace).as_dict(), rounds),
    }


def main() -> None:
    """Print the rates, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
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
            print(f"{name:17} {what:9} {values['median']:>9,.0f} tasks/s ({low} to {high})")
    if options.json:
        made_with = {"python": platform.python_version(), "machine": platform.machine(), "hwsim": hwsim.__version__}
        options.json.write_text(json.dumps({"made_with": made_with, "tasks_per_s": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

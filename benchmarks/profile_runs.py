"""Where time goes in training steps, in costing, and in a comparison: the five hottest places of each, and their bound.

    python benchmarks/profile_runs.py [--rounds N] [--json FILE] [--only NAME]

Steps are those of 64-32-10 on digits, at batch 32 and once more at 16 times that; a GPT-2 of medium size is costed from
shapes alone; a comparison is run from end to end. A place is a function of this repository, with what it calls outside
of it (NumPy, BLAS, compiled kernels). Processor time of a run is measured without a profiler, and divided between
places by cProfile, of whose seconds each place is first relieved of what profiling adds to a call, so often as it calls
or is called. (Samples taken by a signal come late: Python looks for signals only between calls, and would show a
product under the next function.)

What does not grow with the batch, and is no kernel, is overhead of calls where it is no longer than a hundred calls of
NumPy, and else work on weights; the rest is held against ceilings that are measured in the same run:

- GEMM: multiply-accumulates of the step's products over the time of the place, against bare products of that size
- memory: bytes of the arrays among the variables of the place, each once, against a triad a = b + s c of as many;
  far below that, arithmetic: many passes over them, or functions that take longer than memory
- random numbers: values of the largest array there, against standard normal float32 values from the same generator
- kernel: one that numba has compiled, by the same count of values

One thread, unless OPENBLAS_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported

import argparse
import cProfile
import inspect
import json
import linecache
import platform
import pstats
import re
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

import hwsim
from hwsim.arguments import model_and_data
from hwsim.arrays import generator
from hwsim.bill import shape_step
from hwsim.cost import Kind
from hwsim.learning.backprop import backprop
from hwsim.losses import cross_entropy
from hwsim.optim import SGD, Adam
from hwsim.train import loss_for

ROOT = str(Path(hwsim.__file__).resolve().parents[1])
DEVICES = ("ideal", "gpu:h100:precision=fp8", "crossbar:ecram", "optical:homodyne", "optical:nitride", "reversible")
COMPARED = ("ideal", "gpu:h100:precision=fp8", "crossbar:ecram", "optical:homodyne", "reversible")
BATCH, TIMES = 32, 16
FAR_BELOW = 0.1  # of a ceiling: what does not come nearer is not bound by it
HOTTEST, PROFILED_S, DEEPEST = 5, 0.5, 8
LARGE_BYTES = 2**28
MANY_CALLS = 100  # of NumPy, in one function: what takes longer than that is no matter of calls alone
SMALL_BYTES = 2**12  # what is done on less is a matter of calls, whatever it is
WORK = (  # what a function does, by its text; the first that is found
    ("kernel", re.compile(r"compiled|kernel")),
    ("random numbers", re.compile(r"standard_normal|\.normal\(|poisson|binomial|\.random\(|uniform\(|integers\(")),
    ("GEMM", re.compile(r" @ |matmul|einsum|tensordot")),
)
PRODUCTS = {"forward": Kind.FORWARD, "backward": Kind.BACKWARD, "gradient": Kind.GRADIENT}

Place = tuple[str, int, str]  # file, first line and name of a function, as cProfile has it


class Variables(NamedTuple):
    """What a function has among its variables, on average: bytes of arrays, values of the largest."""

    size_bytes: float = 0.0
    values: float = 0.0


class Times(NamedTuple):
    """Seconds and calls of each place in one run, the time of the run without a profiler, and the calls of all."""

    places: dict[Place, float]
    calls: dict[Place, int]
    run_s: float
    total: int


def ours(place: Place) -> bool:
    """Whether a function is of this repository."""
    return place[0].startswith(f"{ROOT}/") and place[0] != __file__


def profiled(work: Callable[[], object], rounds: int) -> Times:
    """Where the time of one run goes."""
    run_s = once_s(work, time.process_time, rounds)
    repeats = max(1, int(PROFILED_S / run_s))
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(repeats):
        work()
    profile.disable()
    stats: dict[Place, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(entry[1] for entry in stats.values())
    added_s = (sum(entry[2] for entry in stats.values()) - repeats * run_s) / total  # by profiling, to each call
    spent: dict[Place, float] = defaultdict(float)
    for place, (_, calls, own_s, _, callers) in stats.items():
        for owner, share in owners(place, callers, stats).items():
            spent[owner] += share * max(own_s - calls * added_s, 0.0) / repeats
    calls = {place: entry[1] // repeats for place, entry in stats.items()}
    whole = sum(spent.values())  # what profiling adds is not the same for every call
    return Times({place: each * run_s / whole for place, each in spent.items()}, calls, run_s, total // repeats)


def owners(place: Place, callers: dict[Place, Any], stats: dict[Place, Any], depth: int = 0) -> dict[Place, float]:
    """The nearest functions of this repository that the time of a function belongs to, with their shares."""
    if ours(place) or not callers or depth > DEEPEST:
        return {place: 1.0}
    found: dict[Place, float] = defaultdict(float)
    total = sum(entry[0] for entry in callers.values())
    for caller, entry in callers.items():
        for owner, share in owners(caller, stats[caller][4], stats, depth + 1).items():
            found[owner] += share * entry[0] / total
    return found


def variables(work: Callable[[], object], places: set[Place]) -> dict[Place, Variables]:
    """What functions have among their variables as they return, on average over all calls."""
    found: dict[Place, list[tuple[int, int]]] = defaultdict(list)

    def returned(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        place = code.co_filename, code.co_firstlineno, code.co_name
        if event != "return" or place not in places:
            return
        arrays = {id(a): a for a in frame.f_locals.values() if isinstance(a, np.ndarray)}.values()
        found[place].append((sum(a.nbytes for a in arrays), max((a.size for a in arrays), default=0)))

    sys.setprofile(returned)
    try:
        work()
    finally:
        sys.setprofile(None)
    return {place: Variables(*map(statistics.fmean, zip(*sizes, strict=True))) for place, sizes in found.items()}


# -- ceilings ----------------------------------------------------------------------------------------------


def once_s(
    work: Callable[[], object], clock: Callable[[], float] = time.perf_counter, rounds: int = 9, seconds: float = 2e-3
) -> float:
    """The time of one call [s]: the median of the rounds."""
    work()
    start = clock()
    work()
    repeats = max(1, int(seconds / max(clock() - start, 1e-7)))
    found = []
    for _ in range(rounds):
        start = clock()
        for _ in range(repeats):
            work()
        found.append((clock() - start) / repeats)
    return statistics.median(found)


def gemm_flops(m: int, k: int, n: int) -> float:
    """Flops a second of a bare float32 product, its result's memory being there."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in ((m, k), (k, n)))
    out = np.empty((m, n), np.float32)
    return 2 * m * k * n / once_s(lambda: np.matmul(a, b, out=out))


def triad_bytes(size_bytes: int) -> float:
    """Bytes a second of a = b + s c on arrays of so many bytes together."""
    b, c = (np.ones(max(size_bytes // 12, 1), np.float32) for _ in range(2))
    a = np.empty_like(b)

    def triad() -> None:
        np.multiply(c, np.float32(0.5), out=a)
        np.add(a, b, out=a)

    return 5 * b.nbytes / once_s(triad)  # reads c and writes a; reads a and b and writes a


def nothing() -> None:
    """What a call costs."""


def ceilings() -> dict[str, float]:
    """What this machine can do, in this run."""
    rng = generator(np, 1)
    values = np.empty(2**16, np.float32)
    many = list(range(1000))

    def calls() -> None:
        for _ in many:
            nothing()

    return {
        "gemm_1024_flops": gemm_flops(1024, 1024, 1024),
        f"gemm_{BATCH}_64_32_flops": gemm_flops(BATCH, 64, 32),
        f"gemm_{BATCH * TIMES}_64_32_flops": gemm_flops(BATCH * TIMES, 64, 32),
        "triad_large_bytes": triad_bytes(LARGE_BYTES),
        "triad_64_kb_bytes": triad_bytes(2**16),
        "normals_per_s": values.size / once_s(lambda: rng.standard_normal(out=values, dtype=np.float32)),
        "python_call_s": once_s(calls) / len(many),
        "numpy_call_s": once_s(lambda: np.add(values[:1], values[:1])),
    }


# -- workloads ---------------------------------------------------------------------------------------------


@dataclass
class Workload:
    """One run of something, the same with more data (None: there is no such), and its products' multiplications."""

    run: Callable[[], object]
    larger: Callable[[], object] | None = None
    macs: dict[Kind, float] = field(default_factory=dict)  # of the larger


def step(spec: str) -> Workload:
    """A training step of the digits network."""
    network, data, _ = model_and_data("mlp", None)
    device, loss = hwsim.device(spec), loss_for(data)

    def at(rows: int) -> Callable[[], object]:
        net, optimizer = hwsim.Network(network, device), SGD(0.1)
        x, y = data.x_train[:rows], data.y_train[:rows]
        run = lambda: backprop(net, x, y, loss, optimizer)  # noqa: E731
        run()  # compiles kernels, fills tables
        return run

    larger = BATCH * TIMES
    macs = shape_step(network, data, device, larger, "sgd").macs()
    return Workload(at(BATCH), at(larger), {kind: float(count) for kind, count in macs.items()})


def costing() -> Workload:
    """The step of a transformer of GPT-2's medium size, from shapes, with its bill and 90% interval."""
    model = hwsim.models.gpt(vocabulary=50_000, length=1024, width=1024, heads=16, layers=24)  # type: ignore[attr-defined]
    device = hwsim.device("gpu:h100:precision=bf16")

    def run() -> None:
        net = hwsim.Network(model, device, shape_only=True)
        backprop(net, hwsim.Shape(8, 1024), hwsim.Shape(8, 1024), cross_entropy, Adam(1e-4))
        net.ledger.total_j()
        net.ledger.interval()

    return Workload(run)


def comparison() -> Workload:
    """A comparison end to end, without its picture."""
    network, data, _ = model_and_data("mlp", None)
    return Workload(
        lambda: str(hwsim.compare(network, data, COMPARED, epochs=1, seeds=1, learning_rates=(1.0,), target=0.3))
    )


WORKLOADS: dict[str, Callable[[], Workload]] = {
    **{f"step {spec}": lambda spec=spec: step(spec) for spec in DEVICES},  # type: ignore[misc]
    "costing gpt": costing,
    "compare": comparison,
}


# -- what bounds a place -----------------------------------------------------------------------------------


def analysed(name: str, workload: Workload, limits: dict[str, float], rounds: int) -> dict[str, Any]:
    """The hottest places of a workload, each with its bound and the evidence for it."""
    times = profiled(workload.run, rounds)
    larger = profiled(workload.larger, rounds) if workload.larger is not None else None
    hottest = sorted((place for place in times.places if ours(place)), key=lambda place: -times.places[place])[:HOTTEST]
    sizes = variables(workload.run if workload.larger is None else workload.larger, set(hottest))
    return {
        "name": name,
        "time_s": times.run_s,
        "larger_time_s": larger.run_s if larger is not None else None,
        "calls": times.total,
        "calls_share": times.total * limits["python_call_s"] / times.run_s,  # what as many empty calls would take
        "hottest": [
            examined(place, times, larger, sizes.get(place, Variables()), workload, limits) for place in hottest
        ],
    }


def examined(
    place: Place, times: Times, larger: Times | None, size: Variables, workload: Workload, limits: dict[str, float]
) -> dict[str, Any]:
    """Where a place is, how long it takes, and what bounds it."""
    path, line, name = place
    calls, place_s = max(times.calls[place], 1), times.places[place]
    found = {"share": place_s / times.run_s, "place": f"{os.path.relpath(path, ROOT)}:{line} {name}", "calls": calls}
    large_s = place_s if larger is None else larger.places.get(place, 0.0)
    fixed = min(max((TIMES * place_s - large_s) / (TIMES - 1) / place_s, 0.0), 1.0)
    text = f"{1e6 * place_s / calls:.2g} us a call"
    if larger is not None:
        text += f", {1e6 * large_s / calls:.2g} us with {TIMES} x the data: {fixed:.0%} fixed"
    kind = work_of(place)
    if kind != "kernel" and (fixed >= 0.5 if larger is not None else size.size_bytes < SMALL_BYTES):
        many = larger is not None and place_s / calls > MANY_CALLS * limits["numpy_call_s"]
        return found | {"bound": "work on weights" if many else "call overhead", "evidence": text}
    product = PRODUCTS.get(name)
    flops = 2 * workload.macs.get(product, 0.0) / large_s if product is not None else 0.0
    return found | data_bound(kind, size, large_s / calls, flops, limits, text)


def work_of(place: Place) -> str:
    """What a function does, by its text."""
    text = "".join(inspect.getblock(linecache.getlines(place[0])[max(place[1] - 2, 0) :]))
    return next((kind for kind, pattern in WORK if pattern.search(text)), "memory")


def data_bound(
    kind: str, size: Variables, of_call_s: float, flops: float, limits: dict[str, float], text: str
) -> dict[str, Any]:
    """What bounds a place whose time grows with its data."""
    if kind == "GEMM" and flops:
        ceiling = limits[f"gemm_{BATCH * TIMES}_64_32_flops"]
        evidence = f"{flops / 1e9:.3g} GFLOP/s; a bare product {ceiling / 1e9:.3g}"
    elif kind in ("random numbers", "kernel") and size.values:
        ceiling, each = 1e9 / limits["normals_per_s"], 1e9 * of_call_s / size.values
        evidence = f"{each:.2g} ns a value of {size.values:.0f}; a bare normal takes {ceiling:.2g} ns"
    elif size.size_bytes < SMALL_BYTES:
        return {"bound": kind if kind == "kernel" else "call overhead", "evidence": text}
    else:
        reached, ceiling = size.size_bytes / of_call_s, triad_bytes(int(size.size_bytes))
        evidence = f"{reached / 1e9:.2g} GB/s of {size.size_bytes:.0f} bytes; a triad of as many {ceiling / 1e9:.2g}"
        kind = "memory" if reached > FAR_BELOW * ceiling else "arithmetic"
    return {"bound": kind, "evidence": f"{evidence} ({text})"}


def table(found: list[dict[str, Any]]) -> str:
    """The report as text."""
    lines = []
    for entry in found:
        larger = "" if entry["larger_time_s"] is None else f", {1e6 * entry['larger_time_s']:.4g} us with 16 x the data"
        lines.append(
            f"{entry['name']}: {1e6 * entry['time_s']:.4g} us{larger}; {entry['calls']} calls, which empty would take "
            f"{entry['calls_share']:.0%} of it"
        )
        for each in entry["hottest"]:
            where = f"{each['place']} ({each['calls']} calls)"
            lines.append(f"  {each['share']:4.0%}  {where:62} {each['bound']:15} {each['evidence']}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="of which each time is the median")
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load, limits = os.getloadavg(), ceilings()
    found = [analysed(name, make(), limits, options.rounds) for name, make in WORKLOADS.items() if options.only in name]
    about = {
        "python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine(),
        "cores": os.cpu_count(), "threads": os.environ["OPENBLAS_NUM_THREADS"], "load": [load, os.getloadavg()],
    }  # fmt: skip
    print(json.dumps(about), json.dumps({name: float(f"{value:.3g}") for name, value in limits.items()}))
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps({"about": about, "ceilings": limits, "workloads": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

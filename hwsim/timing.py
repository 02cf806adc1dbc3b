"""How long operations take on this machine, as medians of repeats, what a device says of that, and what ran them.

Timed are the hooks of a device (`forward`, `backward`, `gradient`, `update`) and the arithmetic of host operations and
optimizers, so that the time of a call includes what these add to NumPy's, and not what lies between two of them.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from hwsim.arrays import Array, Shape, namespace
from hwsim.cost import Kind, Op, Product, op_time
from hwsim.costing import Interval
from hwsim.device import Device
from hwsim.ledger import Ledger
from hwsim.meter import synchronize
from hwsim.parameters import parameters_of
from hwsim.progress import progress_bar
from hwsim.tape import HostOp, Tape, Value
from hwsim.tile import Tile

KINDS = (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT)
REPEATS = 7
SAMPLE_S = 2e-3  # of one repeat: far above the clock's resolution, below most pauses that an operating system makes
MOST_CALLS = 2000  # in one repeat
DRAWS = 1000  # behind a predicted range: 5% and 95% of a lognormal are off by 1/15 of its deviation

Shapes = tuple[tuple[int, int, int], ...]  # m, k, n of layers


class Run(NamedTuple):
    """Something that can be timed: an operation, the device that is charged for it, and what does it once."""

    op: Op
    device: Device
    once: Callable[[], Any]


class Timing(NamedTuple):
    """An operation in one precision, the median of its repeats [s], and their interquartile range over it."""

    op: Op
    precision: str
    time_s: float
    spread: float

    def __str__(self) -> str:
        what = f"m={self.op.m} k={self.op.k} n={self.op.n}" if isinstance(self.op, Product) else f"of {self.op.size}"
        return f"{self.op.kind if isinstance(self.op, Product) else self.op.name} {what} {self.precision}"


def timings(groups: Mapping[str, Iterable[Run]]) -> dict[str, list[Timing]]:
    """Medians of repeats of every run, and their spreads, by group; all take turns, and empty groups are left out."""
    listed = {what: list(runs) for what, runs in groups.items()}
    every = [run for runs in listed.values() for run in runs]
    medians, spreads = repeated([(run.once, run.device.xp) for run in every])
    timed = (
        Timing(run.op, str(getattr(run.device, "precision", "")), float(median), float(spread))
        for run, median, spread in zip(every, medians, spreads, strict=True)
    )
    return {what: list(islice(timed, len(runs))) for what, runs in listed.items() if runs}


def repeated(tasks: Sequence[tuple[Callable[[], Any], Any]]) -> tuple[Array, Array]:
    """Medians of repeats [s] and their interquartile range over them, of calls that use an array library.

    The tasks take turns, so that a slow minute touches a repeat of each and no median.
    """
    calls = [calls_for(once, xp) for once, xp in tasks]
    samples = np.empty((REPEATS, len(tasks)))
    with progress_bar("calibrating", REPEATS) as advance:
        for repeat in range(REPEATS):
            for i, (once, xp) in enumerate(tasks):
                samples[repeat, i] = seconds(once, xp, calls[i])
            advance(f"repeat {repeat + 1}")
    first, medians, third = np.percentile(samples, [25, 50, 75], axis=0)
    return medians, (third - first) / medians


# -- what devices say of it ---------------------------------------------------------------------------------


class Error(NamedTuple):
    """How far predictions are from the medians of some operations: predicted / measured - 1."""

    median: float  # of the magnitudes
    worst: float
    where: Timing
    inside: int  # so many medians lie within the predicted 90% range
    among: int

    def __str__(self) -> str:
        return (
            f"median {self.median:.0%}, worst {self.worst:+.0%} ({self.where}); "
            f"{self.inside} of {self.among} ({self.inside / self.among:.0%}) within their 90% ranges"
        )


def changed(device: Device, values: Mapping[str, Any]) -> Device:
    """The device with other parameters."""
    own = {name: getattr(device, name) for name in parameters_of(type(device))}
    return type(device)(**{**own, **values})


def predicted(device: Device, timed: Sequence[Timing], draws: int = 0) -> list[Any]:
    """What the device says that each operation takes [s]; with its ranges, [1 + draws] of each."""
    variants = {precision: changed(device, {"precision": precision}) for precision in {t.precision for t in timed}}
    rates = {precision: Ledger().rates(variant, draws=draws) for precision, variant in variants.items()}
    return [op_time(variants[t.precision].uses(t.op) or {}, rates[t.precision]).time_s for t in timed]


def inside(device: Device, timed: Sequence[Timing]) -> int:
    """How many of the times lie within the 90% range that the device predicts."""
    ranges = [Interval.of(value) for value in predicted(device, timed, DRAWS)]
    return sum(each.low <= t.time_s <= each.high for each, t in zip(ranges, timed, strict=True))


def error(device: Device, timed: Sequence[Timing]) -> Error:
    """The errors of predictions."""
    errors = np.array(predicted(device, timed)) / np.array([t.time_s for t in timed]) - 1
    at = int(np.argmax(np.abs(errors)))
    return Error(float(np.median(np.abs(errors))), float(errors[at]), timed[at], inside(device, timed), len(timed))


# -- what is timed -----------------------------------------------------------------------------------------


def products(device: Device, shape: tuple[int, int, int]) -> list[Run]:
    """The three products of one layer, as they run in training."""
    m, k, n = shape
    generator = np.random.default_rng([m, k, n])
    w, x, dy = (device.asarray(generator.standard_normal(size)) for size in ((k, n), (m, k), (m, n)))
    tile = device.program(w, name="calibrate", ledger=Ledger())
    runs: dict[Kind, Callable[[], Any]] = {
        Kind.FORWARD: lambda: device.forward(tile, x),
        Kind.BACKWARD: lambda: device.backward(tile, dy),
        Kind.GRADIENT: lambda: device.gradient(tile, x, dy),
    }
    return [Run(Product(kind, m, k, n), device, runs[kind]) for kind in KINDS]


def passes(device: Device, op: HostOp, arrays: Sequence[Array]) -> list[Run]:
    """A host operation on arrays, and its derivative for dy = y, each charged as a tape charges it."""
    ledger, xp = Ledger(), device.xp
    tape = Tape(ledger)
    traced = tape.host(op, *(Value(Shape(*array.shape), device, wanted=True) for array in arrays))
    tape.backward(traced, traced.data)
    forward, backward = (cell[3] for cell in ledger.calls)
    y, saved = op.forward(xp, *arrays)
    return [
        Run(forward, device, lambda: op.forward(xp, *arrays)),
        Run(backward, device, lambda: op.backward(xp, saved, y)),
    ]


class Mover(Protocol):
    """What is needed of an optimizer: its step for a gradient, and what that is charged as."""

    def step(self, name: str, device: Device, gradient: Array) -> Array: ...
    def charge(self, ledger: Ledger, device: Device, target: Tile, size: int) -> None: ...


def moving(device: Device, mover: Mover, w: Array) -> Run:
    """An optimizer's step for a gradient of w [k, n]; where it is charged nothing, together with the tile's move."""
    ledger, gradient = Ledger(), w.copy()
    tile = device.program(w, name="calibrate", ledger=Ledger())
    mover.charge(ledger, device, tile, w.size)
    if not ledger.calls:
        update = Product(Kind.UPDATE, 0, *w.shape)
        return Run(update, device, lambda: device.update(tile, mover.step(tile.name, device, gradient)))
    ((_, _, _, op),) = ledger.calls
    return Run(op, device, lambda: mover.step(tile.name, device, gradient))


# -- timing ------------------------------------------------------------------------------------------------


def calls_for(run: Callable[[], Any], xp: Any) -> int:
    """How many calls fill a sample; the first one, which loads and allocates, does not count."""
    run()
    return max(1, min(MOST_CALLS, int(SAMPLE_S / max(seconds(run, xp, 1), SAMPLE_S / MOST_CALLS))))


def seconds(run: Callable[[], Any], xp: Any, calls: int) -> float:
    """The time of one of `calls` calls [s], after one that warms the caches."""
    run()
    synchronize(xp)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize(xp)
    return (time.perf_counter() - start) / calls


# -- what stands in this machine ---------------------------------------------------------------------------


def processor(device: Device) -> str:
    """The name of the card or processor."""
    if device.array == "cupy":
        name = namespace("cupy").cuda.runtime.getDeviceProperties(0)["name"]
        return str(name.decode() if isinstance(name, bytes) else name)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def library(device: Device) -> str:
    """The array library, what it multiplies with, and on how many threads."""
    if device.array == "cupy":
        return f"CuPy {namespace('cupy').__version__}"
    import threadpoolctl

    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    blas = [f"{pool['internal_api']} {pool['version']}, threads: {pool['num_threads']}" for pool in found[:1]]
    return ", ".join([f"NumPy {np.__version__}", *(blas or ["BLAS unknown, and its threads"])])

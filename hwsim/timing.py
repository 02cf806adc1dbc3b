"""How long products take on this machine: medians of repeats of what devices run, and the name of what ran them.

Timed are `forward`, `backward` and `gradient` of a tile, so that the time of a call includes what hwsim adds to it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hwsim.arrays import namespace
from hwsim.cost import Kind, Product
from hwsim.device import Device
from hwsim.errors import ConfigError
from hwsim.ledger import Ledger
from hwsim.meter import synchronize
from hwsim.progress import progress_bar

KINDS = (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT)
REPEATS = 7
SAMPLE_S = 2e-3  # of one repeat: far above the clock's resolution, below most pauses that an operating system makes
MOST_CALLS = 2000  # in one repeat

Shapes = tuple[tuple[int, int, int], ...]  # m, k, n of layers


class Timing(NamedTuple):
    """A product in one precision, the median of its repeats [s], and their interquartile range over it."""

    op: Product
    precision: str
    time_s: float
    spread: float

    def __str__(self) -> str:
        return f"{self.op.kind} m={self.op.m} k={self.op.k} n={self.op.n} {self.precision}"


def timings(devices: Sequence[Device], shapes: Shapes) -> list[Timing]:
    """Medians of repeats; the products take turns, so that a slow minute touches a repeat of each and no median."""
    runs = [(op, device, run) for device in devices for shape in shapes for op, run in products(device, shape)]
    calls = [calls_for(run, device.xp) for _, device, run in runs]
    samples = np.empty((REPEATS, len(runs)))
    with progress_bar("calibrating", REPEATS) as advance:
        for repeat in range(REPEATS):
            for i, (_, device, run) in enumerate(runs):
                samples[repeat, i] = seconds(run, device.xp, calls[i])
            advance(f"repeat {repeat + 1}")
    first, medians, third = np.percentile(samples, [25, 50, 75], axis=0)
    return [
        Timing(op, str(getattr(device, "precision", "")), float(medians[i]), float((third[i] - first[i]) / medians[i]))
        for i, (op, device, _) in enumerate(runs)
    ]


def products(device: Device, shape: tuple[int, int, int]) -> list[tuple[Product, Callable[[], Any]]]:
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
    return [(Product(kind, m, k, n), runs[kind]) for kind in KINDS]


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


def require_card() -> None:
    """Refuse to go on without CuPy, or without a card that it can use, with a ConfigError."""
    try:
        import cupy
    except ImportError:
        raise ConfigError("CuPy is not installed: pip install 'hwsim[cuda12]' or 'hwsim[cuda13]'") from None
    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # drivers fail in ways of their own
        raise ConfigError(f"CuPy finds no usable GPU: {error}; see: nvidia-smi") from None
    if not found:
        raise ConfigError("CuPy finds no usable GPU: the driver lists none; see: nvidia-smi")


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

"""Reads of a crossbar through DAC and ADC, without and with read noise, against float32 products, in one run.

    python benchmarks/crossbar_read.py [--rounds N] [--threads N] [--json FILE]

7-bit inputs, 9-bit outputs within 12, output noise .06 (aihwkit's IOParameters) and iterative bound management. Read
noise of every cell at every vector is one more product, of squares (converters.read_variance), and a normal number for
each output; `literally` draws every cell anew for every vector, once, for comparison. Read and product take turns;
printed are medians of the ratios, round by round, and quartiles. CPU time at one thread, else wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHAPES = ((128, 1024, 1024), (64, 1024, 1024), (64, 256, 256), (1, 1024, 1024))
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # would hold BLAS back, and flatter the ratios


def works(m: int, k: int, n: int) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Each kind of read, and the product that it is measured against."""
    import numpy as np

    from hwsim.devices.crossbar import converters
    from hwsim.devices.crossbar.converters import Converter, Periphery

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (m, k)).astype(np.float32)
    dy = rng.standard_normal((m, n), dtype=np.float32)
    w = rng.uniform(-0.3, 0.3, (k, n)).astype(np.float32)
    squares = np.full((k, n), 1e-4, np.float32)
    io = Periphery(Converter(1, 2 / 126), Converter(12, 24 / 510, 0.06), bound_management="iterative")

    def read(values: Any, cells: Any, variance: Any = None, backward: bool = False) -> Callable[[], object]:
        noise = None if variance is None else lambda line: converters.read_variance(line, variance)
        return lambda: converters.read(
            np, values, lambda line: line @ cells, io, rng, variance=noise, backward=backward
        )

    return {
        "forward": (read(x, w), lambda: x @ w),
        "forward, read noise": (read(x, w, squares), lambda: x @ w),
        "backward": (read(dy, w.T, backward=True), lambda: dy @ w.T),
        "backward, read noise": (read(dy, w.T, squares.T, True), lambda: dy @ w.T),
    }


def literally(m: int, k: int, n: int) -> float:
    """Milliseconds of one read with every cell drawn anew for every vector."""
    import numpy as np

    from hwsim.devices.crossbar import converters

    rng = np.random.default_rng(0)
    x, w, sigma = (np.full(shape, 0.01, np.float32) for shape in ((m, k), (k, n), (k, n)))
    start = time.perf_counter()
    converters.read_resampled(np, x, w, sigma, rng)
    return 1e3 * (time.perf_counter() - start)


def measure(threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and ratios of all reads."""
    clock = time.process_time if threads == 1 else time.perf_counter
    results = {}
    for shape in SHAPES:
        repeats = max(1, 10**8 // (2 * shape[0] * shape[1] * shape[2]))
        for name, pair in works(*shape).items():
            times = []
            for _ in range(rounds + 1):
                taken = []
                for work in pair:
                    start = clock()
                    for _ in range(repeats):
                        work()
                    taken.append(1e3 * (clock() - start) / repeats)
                times.append(taken)
            times = times[1:]  # the first compiles
            low, middle, high = statistics.quantiles([a / b for a, b in times], n=4)
            results[f"{shape} {name}"] = {
                "read_ms": statistics.median(a for a, _ in times),
                "product_ms": statistics.median(b for _, b in times),
                "ratio": middle,
                "lower_quartile": low,
                "upper_quartile": high,
            }
    return results


def machine() -> str:
    """The processor as it calls itself."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for name in POOLS:  # before NumPy is imported
        os.environ[name] = str(options.threads)
    for name in FORCED:
        os.environ.pop(name, None)
    import numpy as np

    about = {
        "machine": machine(), "cores": os.cpu_count(), "threads": options.threads, "rounds": options.rounds,
        "clock": "process_time" if options.threads == 1 else "perf_counter", "python": platform.python_version(),
        "numpy": np.__version__,
    }  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{'':42} ratio to the product (quartiles)    ms: read, product")
    results = measure(options.threads, options.rounds)
    for name, row in results.items():
        print(
            f"{name:42} {row['ratio']:6.2f} ({row['lower_quartile']:.2f}-{row['upper_quartile']:.2f})"
            f" {row['read_ms']:21.3f} {row['product_ms']:8.3f}"
        )
    slow = literally(*SHAPES[1])
    print(f"{SHAPES[1]} literally, once: {slow:.0f} ms")
    if options.json:
        whole = {"about": about, "results": results, "literally_ms": slow}
        options.json.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Pulsed updates and converted reads of a crossbar against float32 products of the same shape, in one run.

    python benchmarks/crossbar_update.py [--rounds N] [--threads 1 2] [--json FILE]

Each thread count runs in a process of its own, with OpenBLAS free to choose its kernel. Work and product take turns;
printed are the median of the ratios, round by round, and their quartiles. Wall time; one thread: CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHAPES = ((128, 1024, 1024), (64, 256, 256))
FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # would hold BLAS back, and flatter the ratios
POOLS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PUBLISHED = {  # aihwkit 1.2.0 on 2 EPYC cores, one thread, (128, 1024, 1024); ReRamES, the forward with default IO
    "forward, noise, DAC and ADC": "2.5x, backward 2.7x",
    "update, small gradients, exponential": "56x",
    "update, full trains, exponential": "10,000x",
}


def works(m: int, k: int, n: int, threads: int) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Each piece of work, and the product that it is measured against."""
    import numpy as np

    from hwsim.devices.crossbar import converters, moves, pulses
    from hwsim.devices.crossbar.converters import Converter, Periphery

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (m, k)).astype(np.float32)
    w = rng.uniform(-0.3, 0.3, (k, n)).astype(np.float32)
    d = rng.standard_normal((m, n), dtype=np.float32)

    def full(value: float) -> Any:
        return np.full((k, n), value, np.float32)

    # aihwkit's IOParameters: 7-bit inputs, 9-bit outputs within 12, output noise .06
    io = Periphery(Converter(1, 2 / 126), Converter(12, 24 / 510, 0.06), bound_management="iterative")
    spread = full(1e-4)
    soft = moves.AffineCells(*map(full, (0.002, 0.8, 0.002, -4 / 3, -0.75, 1.25)), noise=3.75)
    constant = moves.AffineCells(*map(full, (0.00135, 0, 0.00135, 0, -1, 1)), noise=0.3)
    exponential = moves.ExponentialCells(
        *map(full, (0.00135, 0.00135, -1, 1)), -1.18445, -0.081404, 5.0, 5.0, -0.5, -0.5, 5.0
    )
    settings = pulses.TrainSettings()

    def forward(variance: bool = False) -> object:
        more = {"variance": lambda line: converters.read_variance(line, spread)} if variance else {}
        return converters.read(np, x, lambda line: line @ w, io, rng, **more)

    def update(cells: moves.Cells, gradient: Any) -> Callable[[], object]:
        held = w.copy()

        def work() -> object:
            parameters = pulses.train_parameters(np, x, gradient, 0.1, 0.00135, settings)
            return pulses.update(np, held, parameters, cells, rng, threads=threads)

        return work

    small = d * np.float32(0.003)
    found: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "forward, noise, DAC and ADC": (forward, lambda: x @ w),
        "forward, with read noise": (lambda: forward(True), lambda: x @ w),
        "backward, noise, DAC and ADC": (
            lambda: converters.read(np, d, lambda line: line @ w.T, io, rng, backward=True),
            lambda: d @ w.T,
        ),
    }
    for name, cells in (("constant", constant), ("soft bounds", soft), ("exponential", exponential)):
        found[f"update, small gradients, {name}"] = (update(cells, small), lambda: x.T @ d)
        found[f"update, full trains, {name}"] = (update(cells, d), lambda: x.T @ d)
    return found


def measure(threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and ratios of all work at one thread count."""
    clock = time.process_time if threads == 1 else time.perf_counter
    results = {}
    for shape in SHAPES:
        repeats = 1 if shape[0] * shape[1] * shape[2] > 10**8 else 20
        for name, (work, product) in works(*shape, threads).items():
            times = []
            for _ in range(rounds + 1):
                pair = []
                for each, count in ((work, repeats), (product, 4 * repeats)):
                    start = clock()
                    for _ in range(count):
                        each()
                    pair.append(1e3 * (clock() - start) / count)
                times.append(pair)
            times = times[1:]  # the first compiles
            low, middle, high = statistics.quantiles([a / b for a, b in times], n=4)
            results[f"{shape} {name}"] = {
                "work_ms": statistics.median(a for a, _ in times),
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
    """Measure in subprocesses and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.threads[0], options.rounds)))
        return
    found = {}
    print(f"{machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for threads in options.threads:
        environment = {name: value for name, value in os.environ.items() if name not in FORCED}
        environment |= dict.fromkeys(POOLS, str(threads))
        command = [sys.executable, __file__, "--here", "--threads", str(threads), "--rounds", str(options.rounds)]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        found[threads] = json.loads(done.stdout)
        print(f"\n{threads} thread{'s' * (threads > 1)}: ratio to the float32 product (quartiles), ms against ms")
        for name, row in found[threads].items():
            published = next((p for work, p in PUBLISHED.items() if name == f"{SHAPES[0]} {work}"), "")
            beside = f"   aihwkit {published} (published, other run)" if published and threads == 1 else ""
            print(
                f"{name:55} {row['ratio']:6.2f} ({row['lower_quartile']:.2f}-{row['upper_quartile']:.2f})"
                f" {row['work_ms']:8.3f} {row['product_ms']:7.3f}{beside}"
            )
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

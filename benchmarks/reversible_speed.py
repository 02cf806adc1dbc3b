"""Times the exact products of the device `reversible` against plain ones, and the counts of wired-in weights.

    python benchmarks/reversible_speed.py [--json FILE]

Stored: results/reversible_speed.json.

Products: forward, backward and gradient of a tile, operands rounded to integers and results to float32 included, beside
one NumPy product of the same shape in float64 (what the target is stated in) and in float32. Counts: gates and levels
of the naf netlists of a 1024 x 1024 matrix, exact for each weight. Gates: a small forward with every gate run.
Medians of interleaved repeats, with the least and the most.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stamp import commit

from hwsim.devices.reversible import Reversible, work
from hwsim.run import made_with

SHAPES = ((64, 256, 256), (128, 1024, 1024), (1024, 1024, 1024))  # m, k, n
REPEATS = 15
COUNTED = 1024
GATES_SHAPE = (64, 64, 32)
TARGET_RATIO, TARGET_S = 3.0, 0.020


def medians(calls: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, tuple[float, float, float]]:
    """Median, least and most seconds of each call, taken in turns after a first one that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                found[name].append(time.perf_counter() - start)
    return {name: (statistics.median(times), min(times), max(times)) for name, times in found.items()}


def products(bits: int, m: int, k: int, n: int) -> dict[str, Any]:
    """Print one line for each product of a shape; median, least and most [s]."""
    rng = np.random.default_rng(0)
    w, x, dy = (rng.standard_normal(shape) for shape in ((k, n), (m, k), (m, n)))
    w32, x32, dy32 = (array.astype(np.float32) for array in (w, x, dy))
    tile = Reversible.create(None, {"bits": bits}).program(w32, name="w")
    calls = {
        "float64": lambda: x @ w,
        "float32": lambda: x32 @ w32,
        "forward": lambda: tile.forward(x32),
        "backward": lambda: tile.backward(dy32),
        "gradient": lambda: tile.gradient(x32, dy32),
    }
    found = medians(calls)
    plain = found["float64"][0]
    for name, (middle, least, most) in found.items():
        verdict = "" if name.startswith("float") else f"  {middle / plain:5.2f} of float64 (target {TARGET_RATIO:g})"
        spread = f"{middle * 1e3:9.3f} ms ({least * 1e3:.3f} to {most * 1e3:.3f})"
        print(f"{bits:4d} {m:6d} {k:5d} {n:5d}  {name:9s} {spread}{verdict}")
    return {"bits": bits, "m": m, "k": k, "n": n, "seconds": found}


def counts(bits: int) -> dict[str, Any]:
    """Print, and return, how long the counts of a matrix take; the table of all weights is made once, and not in it."""
    rng = np.random.default_rng(1)
    codes = rng.integers(-(1 << bits - 1), 1 << bits - 1, (COUNTED, COUNTED)).astype(np.float32)
    wide = 2 * bits + 10

    def count() -> object:
        return work.wired(work.histogram(np, codes, bits), bits, wide)

    found = medians({"counts": count})
    middle, least, most = found["counts"]
    print(f"naf counts of {COUNTED} x {COUNTED}, {bits} bits: {middle * 1e3:.2f} ms ({least * 1e3:.2f} to "
          f"{most * 1e3:.2f}); target {TARGET_S * 1e3:g} ms")  # fmt: skip
    return {"bits": bits, "rows": COUNTED, "columns": COUNTED, "seconds": found}


def gates(scheme: str, bits: int) -> dict[str, Any]:
    """Print, and return, how long a forward takes whose every gate is run, and that of integer arithmetic."""
    m, k, n = GATES_SHAPE
    rng = np.random.default_rng(2)
    w, x = (rng.standard_normal(shape).astype(np.float32) for shape in ((k, n), (m, k)))
    tiles = {
        mode: Reversible.create(None, {"scheme": scheme, "bits": bits, "mode": mode}).program(w, name="w")
        for mode in ("closed", "gates")
    }
    results = [tile.forward(x) for tile in tiles.values()]
    assert results[0].tobytes() == results[1].tobytes()
    found = medians({mode: (lambda tile=tile: tile.forward(x)) for mode, tile in tiles.items()}, repeats=3)
    print(f"{scheme} of {bits} bits, {m} x {k} x {n}: every gate {found['gates'][0] * 1e3:.1f} ms, integers "
          f"{found['closed'][0] * 1e3:.3f} ms, equal bits")  # fmt: skip
    return {"scheme": scheme, "bits": bits, "m": m, "k": k, "n": n, "seconds": found}


def main() -> None:
    """Measure, print and store all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(f"{os.cpu_count()} cores, load {load}, NumPy {np.__version__}, threads "
          f"{os.environ.get('OPENBLAS_NUM_THREADS', 'as BLAS takes them')}")  # fmt: skip
    print("bits      m     k     n")
    result: dict[str, Any] = {**commit(), "made_with": {**made_with(), "load": load}}
    result["products"] = [products(bits, *shape) for bits in (8, 16) for shape in SHAPES]
    result["counts"] = [counts(bits) for bits in (8, 16)]
    result["gates"] = [gates(scheme, 8) for scheme in ("ctrl", "naf")]
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

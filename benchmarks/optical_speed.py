"""Speed of optics: forward and backward at batch 64, one thread, as a ratio to three float32 GEMMs of the same run.

    python benchmarks/optical_speed.py [--sizes 64 256] [--rounds N] [--json FILE]

Rows: a tile of preset mzi (converters and shot noise both ways) as products reach it, with the ledger's charge and all
checks; the same with noise and converters in the gradient as well; one full mesh (a layer has two) with the gradients
of all its phases, from two power readings behind each shifter for each vector, exact ones and with noise and ADCs; a
whole layer trained in place, with both meshes, attenuators and the new weights; a Clements decomposition [s]. Medians
of ratios, round by round, with quartiles. CPU time.
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

from stamp import commit

BATCH = 64
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def seconds(work: Callable[[], object], repeats: int) -> float:
    """CPU time of one call."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def works(size: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name; "GEMMs" is what all are divided by."""
    import numpy as np

    from hwsim.devices.optical import Optical
    from hwsim.devices.optical.decomposition import decompose
    from hwsim.devices.optical.insitu import Monitor, measured_gradient
    from hwsim.devices.optical.mesh import ideal_mesh

    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, BATCH, size), dtype=np.float32)
    w = 0.1 * rng.standard_normal((size, size), dtype=np.float32)
    both = {"inputs": size, "outputs": size}
    host = Optical.create("mzi", both).program(w, name="host")
    noisy = Optical.create("mzi", {**both, "gradient_by": "homodyne"}).program(w, name="noisy")
    trained = Optical.create("mzi", {**both, "trained": "phases"}).program(w, name="trained")
    layout, phases = decompose(np.linalg.qr(rng.standard_normal((size, size)))[0])
    mesh = ideal_mesh(np, layout, phases)
    fields, errors = np.ascontiguousarray(x.T), np.ascontiguousarray(dy.T)

    def gemms() -> None:
        _ = x @ w, dy @ w.T, x.T @ dy

    def products(tile: Any) -> None:
        _ = tile.forward(x), tile.backward(dy), tile.gradient(x, dy)

    def gradients(monitor: Monitor) -> None:
        moved = mesh.with_phases(mesh.phases)  # as after every update: nothing of the mesh is kept
        measured_gradient(np, moved, fields, errors, monitor, rng, readings=2)

    return {
        "GEMMs": gemms,
        "gemm, noise both ways": lambda: products(host),
        "gemm, noise in the gradient too": lambda: products(noisy),
        "one mesh, all phase gradients": lambda: gradients(Monitor()),
        "one mesh, by noisy meters and ADCs": lambda: gradients(Monitor(0.01, 1e-6, 8)),
        "a layer trained in place": lambda: trained.update_outer(x, dy, -1e-6),
    }


def measured(size: int, rounds: int) -> dict[str, Any]:
    """Ratios with quartiles, and the seconds of a decomposition."""
    import numpy as np

    from hwsim.devices.optical.decomposition import decompose

    timed = works(size)
    repeats = dict.fromkeys(timed, 1)
    for name, work in timed.items():
        work()
        repeats[name] = max(1, round(0.02 / max(seconds(work, 3), 1e-6)))
    ratios: dict[str, list[float]] = {name: [] for name in timed if name != "GEMMs"}
    base = []
    for _ in range(rounds):
        base.append(seconds(timed["GEMMs"], repeats["GEMMs"]))
        for name, found in ratios.items():
            found.append(seconds(timed[name], repeats[name]) / base[-1])
    unitary = np.linalg.qr(np.random.default_rng(1).standard_normal((size, size)))[0]
    return {
        "GEMMs [us]": round(1e6 * statistics.median(base), 1),
        **{name: [round(q, 2) for q in statistics.quantiles(found)] for name, found in ratios.items()},
        "decomposition [s]": round(seconds(lambda: decompose(unitary), 3), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for name in POOLS:
        os.environ[name] = "1"
    found = {size: measured(size, options.rounds) for size in options.sizes}
    for size, row in found.items():
        print(f"N = {size}")
        for name, value in row.items():
            print(f"  {name:36}{value}")
    if options.json:
        options.json.write_text(json.dumps({**commit(), **found}, indent=1))


if __name__ == "__main__":
    main()

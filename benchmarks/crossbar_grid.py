"""Times the exact effective matrix of a crossbar against sparse LU with every right-hand side, on 1 and 2 threads.

    python benchmarks/crossbar_grid.py [SIZE ...]

Sparse LU (SciPy's SuperLU of the whole nodal matrix, one solve per input) is the peer method; it is skipped above 256,
where it needs minutes. The GEMM column is one vector times the matrix in float32: what a read costs afterwards. The
update is `EffectiveMatrix.update` over 40 training steps, exact solves included.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time

SIZES = (64, 128, 256, 512)
LARGEST_SPARSE = 256
STEPS = 40


def cpu() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def best(call, repeats: int) -> float:
    """Least wall time [s] of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def sparse_lu(g, segment_ohm: float):
    """The effective matrix [m, n] by one sparse LU and m right-hand sides: drivers left, outputs at the bottom."""
    import numpy as np
    from scipy import sparse
    from scipy.sparse.linalg import splu

    m, n = g.shape

    def line(k: int, last_open: int):
        degree = np.full(k, 2.0)
        degree[last_open] = 1.0
        return sparse.diags([-np.ones(k - 1), degree, -np.ones(k - 1)], [-1, 0, 1]) / segment_ohm

    cells = sparse.diags(g.ravel())
    words = sparse.kron(sparse.eye(m), line(n, n - 1)) + cells
    bits = sparse.kron(line(m, 0), sparse.eye(n)) + cells
    factor = splu(sparse.bmat([[words, -cells], [-cells, bits]], format="csc"), permc_spec="MMD_AT_PLUS_A")
    result = np.empty((m, n))
    for start in range(0, m, 64):
        stop = min(start + 64, m)
        drive = np.zeros((2 * m * n, stop - start))
        drive[np.arange(start, stop) * n, np.arange(stop - start)] = 1 / segment_ohm
        result[start:stop] = factor.solve(drive)[-n:].T / segment_ohm
    return result


def measure(sizes: list[int]) -> None:
    """Print one row per size, under the thread count that the environment sets."""
    import numpy as np

    from hwsim.devices.crossbar.grid import EffectiveMatrix, Wires, effective_conductance

    wires = Wires(1.0, 1.0)
    effective_conductance(np.full((2, 2), 1e-5), wires)  # imports
    for size in sizes:
        rng = np.random.default_rng(1)
        g = rng.uniform(1e-6, 1e-4, (size, size))
        repeats = 7 if size <= 128 else 3 if size <= 256 else 2
        exact = best(lambda g=g: effective_conductance(g, wires), repeats)
        effective = effective_conductance(g, wires)
        x, w = rng.random((1, size), dtype=np.float32), effective.astype(np.float32)
        gemm = best(lambda x=x, w=w: x @ w, 200)
        peer, apart = "", ""
        if size <= LARGEST_SPARSE:
            start = time.perf_counter()
            other = sparse_lu(g, 1.0)
            lu = time.perf_counter() - start
            peer = f"{lu * 1e3:9.1f} ms ({lu / exact:5.1f}x)"
            apart = f"{np.abs(other - effective).max() / effective.max():.0e}"
        matrix = EffectiveMatrix(g, wires, tolerance=1e-3, rng=rng)
        updating = 0.0
        for _ in range(STEPS):
            outer = np.outer(rng.standard_normal(size), rng.standard_normal(size))
            g = np.clip(g + 5e-8 * outer + 2.5e-8 * rng.standard_normal((size, size)), 1e-6, 1e-4)
            start = time.perf_counter()
            matrix.update(g)
            updating += time.perf_counter() - start
        print(
            f"{size:5d} {exact * 1e3:9.1f} ms {peer or 'not run':>22s} {apart or '-':>7s} {exact / gemm:12,.0f}x "
            f"{updating / STEPS * 1e3:9.2f} ms ({updating / STEPS / exact:5.1%}, {matrix.state['solves'] - 1} solves)"
        )


def main() -> None:
    """Run the measurement in one process for each thread count."""
    if sys.argv[1:2] == ["--measure"]:
        measure([int(size) for size in sys.argv[2:]])
        return
    sizes = sys.argv[1:] or [str(size) for size in SIZES]
    import numpy
    import scipy

    print(f"{cpu()}, {os.cpu_count()} cores; NumPy {numpy.__version__}, SciPy {scipy.__version__}; 1 ohm, 1-100 uS")
    for threads in ("1", "2"):
        kept = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
        kept.update(OPENBLAS_NUM_THREADS=threads, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
        print(
            f"\n{threads} thread(s)\n size    exact once      sparse LU, all inputs   apart   to one read  update, mean"
        )
        subprocess.run([sys.executable, __file__, "--measure", *sizes], env=kept, check=True)


if __name__ == "__main__":
    main()

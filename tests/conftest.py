"""One BLAS thread for all tests: their matrices are small, and the pools of NumPy and SciPy spin against each other.

Set before anything imports NumPy; what the environment already says goes before it. And pytest.approx is relative
alone: its absolute tolerance of 1e-12 would let any number of joules pass for any other.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402

type(pytest.approx(1.0)).DEFAULT_ABSOLUTE_TOLERANCE = 0

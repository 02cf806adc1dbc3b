"""One BLAS thread for all tests: their matrices are small, and the pools of NumPy and SciPy spin against each other.

Set before anything imports NumPy; what the environment already says goes before it.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

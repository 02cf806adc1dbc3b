"""One BLAS thread for all tests: their matrices are small, and the pools of NumPy and SciPy spin against each other.

Set before anything imports NumPy; what the environment already says goes before it. And pytest.approx is relative
alone: its absolute tolerance of 1e-12 would let any number of joules pass for any other.
"""

import os
from typing import TYPE_CHECKING

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402

type(pytest.approx(1.0)).DEFAULT_ABSOLUTE_TOLERANCE = 0

if TYPE_CHECKING:
    from hwsim.data import Dataset


@pytest.fixture(scope="session")
def few() -> "Dataset":
    """Digits, 100 training rows."""
    from hwsim import data

    full = data.load("digits")
    return data.from_arrays(
        full.x_train[:100], full.y_train[:100], x_validation=full.x_validation[:50],
        y_validation=full.y_validation[:50], x_test=full.x_test[:50], y_test=full.y_test[:50], name="few",
    )  # fmt: skip

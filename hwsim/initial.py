"""Initial values: functions of a generator and a shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Initial = Callable[[Any, tuple[int, ...]], Any]  # (NumPy generator, shape) -> initial values


def zeros(rng: Any, shape: tuple[int, ...]) -> Any:
    """All zero."""
    return np.zeros(shape)


def ones(rng: Any, shape: tuple[int, ...]) -> Any:
    """All one."""
    return np.ones(shape)


def he_normal(rng: Any, shape: tuple[int, ...]) -> Any:
    """Normal with variance 2 / k. Source: He et al. 2015, for ReLU."""
    return rng.standard_normal(shape) * math.sqrt(2 / shape[-2])


def glorot_normal(rng: Any, shape: tuple[int, ...]) -> Any:
    """Normal with variance 2 / (k + n). Source: Glorot and Bengio 2010."""
    return rng.standard_normal(shape) * math.sqrt(2 / (shape[-2] + shape[-1]))


def uniform(limit: float) -> Initial:
    """Uniform between -limit and limit."""
    return lambda rng, shape: rng.uniform(-limit, limit, shape)

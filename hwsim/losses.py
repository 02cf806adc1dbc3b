"""Losses: scalar operations on a network's output, in the working type of the device's host."""

from __future__ import annotations

from typing import Any

from hwsim.arrays import Array, Namespace
from hwsim.errors import ConfigError, ShapeError
from hwsim.ops import TRANSCENDENTAL_FLOPS
from hwsim.tape import HostOp


def _cross_entropy_shape(x: tuple[int, ...], labels: tuple[int, ...]) -> tuple[int, ...]:
    if x[:-1] != labels:
        raise ShapeError(f"cross-entropy of outputs {x} needs one label a row, shape {x[:-1]}; got {labels}")
    return ()


def _cross_entropy(xp: Namespace, x: Array, labels: Array) -> tuple[Array, Any]:
    x = x.reshape(-1, x.shape[-1])
    m = len(x)
    rows, flat = xp.arange(m), labels.reshape(-1)
    shifted = x - x.max(axis=-1, keepdims=True)
    exponentials = xp.exp(shifted)
    sums = exponentials.sum(axis=-1, keepdims=True)
    loss = (xp.log(sums[:, 0]) - shifted[rows, flat]).sum() / m
    exponentials /= sums
    return loss, (exponentials, rows, flat, labels.shape)


def _cross_entropy_backward(xp: Namespace, saved: Any, dy: Array) -> tuple[Array, None]:
    probabilities, rows, flat, shape = saved
    dx = probabilities.copy()
    dx[rows, flat] -= 1
    dx *= dy / len(rows)
    return dx.reshape(*shape, dx.shape[-1]), None


# Mean over rows of -log softmax(x)[label]: x [..., classes], labels [...] -> [].
cross_entropy = HostOp(
    "cross_entropy",
    _cross_entropy,
    _cross_entropy_backward,
    _cross_entropy_shape,
    flops=TRANSCENDENTAL_FLOPS + 5,
    backward_flops=2,
    rounds=False,
)


def _squared_error_shape(x: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    if x != target:
        raise ShapeError(f"squared error of outputs {x} needs targets of the same shape; got {target}")
    return ()


def _squared_error(xp: Namespace, x: Array, target: Array) -> tuple[Array, Any]:
    difference = x - target
    return 0.5 * (difference * difference).sum() / x.shape[0], (difference, x.shape[0])


def _squared_error_backward(xp: Namespace, saved: Any, dy: Array) -> tuple[Array, None]:
    difference, m = saved
    return difference * (dy / m), None


# Half the squared error, summed over outputs and averaged over rows: x [m, n], target [m, n] -> [].
squared_error = HostOp(
    "squared_error",
    _squared_error,
    _squared_error_backward,
    _squared_error_shape,
    flops=3,
    backward_flops=2,
    rounds=False,
)

LOSSES: dict[str, HostOp] = {"cross_entropy": cross_entropy, "mse": squared_error}


def loss(name: str) -> HostOp:
    """The loss called `name`. Raises ConfigError for an unknown one."""
    try:
        return LOSSES[name]
    except KeyError:
        raise ConfigError(f"no loss {name!r}; known: {', '.join(LOSSES)}") from None

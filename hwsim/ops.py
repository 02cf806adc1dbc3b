"""Operations on values, done by a device or its host: arithmetic, derivative and shape of each.

An operation with a parameter is made by a function that makes each one once: a tape knows operations by identity.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from hwsim.arrays import Array, Namespace
from hwsim.errors import ConfigError, ShapeError
from hwsim.tape import HostOp

# Flops of a transcendental function, after the usual range reduction and polynomial. Assumed: 10, as in the
# operation counts of the Rodinia and SHOC kernels; it sets host joules only, never a value.
TRANSCENDENTAL_FLOPS = 10

GELU_SCALE = math.sqrt(2.0 / math.pi)  # Hendrycks & Gimpel 2016, tanh approximation
GELU_CUBIC = 0.044715


def same(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of arrays that must all have it."""
    if any(shape != shapes[0] for shape in shapes):
        raise ShapeError(f"shapes {', '.join(map(str, shapes))} must be the same")
    return shapes[0]


def first_with_last_axis(x: tuple[int, ...], *vectors: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of x [..., n] that meets vectors [n]."""
    if any(vector != x[-1:] for vector in vectors):
        raise ShapeError(f"vectors of shape {vectors} do not fit the last axis of {x}")
    return x


def over_rows(x: Array) -> tuple[int, ...]:
    """All axes but the last."""
    return tuple(range(x.ndim - 1))


def _relu(xp: Namespace, x: Array) -> tuple[Array, Any]:
    y = xp.maximum(x, 0)
    return y, y


relu = HostOp("relu", _relu, lambda xp, y, dy: (dy * (y > 0),), same)


def _sigmoid(xp: Namespace, x: Array) -> tuple[Array, Any]:
    y = 0.5 * xp.tanh(0.5 * x) + 0.5  # no overflow at either end
    return y, y


sigmoid = HostOp(
    "sigmoid", _sigmoid, lambda xp, y, dy: (dy * y * (1 - y),), same, flops=TRANSCENDENTAL_FLOPS, backward_flops=3
)


def _tanh(xp: Namespace, x: Array) -> tuple[Array, Any]:
    y = xp.tanh(x)
    return y, y


tanh = HostOp("tanh", _tanh, lambda xp, y, dy: (dy * (1 - y * y),), same, flops=TRANSCENDENTAL_FLOPS, backward_flops=3)


def _gelu(xp: Namespace, x: Array) -> tuple[Array, Any]:
    t = xp.tanh(GELU_SCALE * (x + GELU_CUBIC * x * x * x))
    return 0.5 * x * (1 + t), (x, t)


def _gelu_backward(xp: Namespace, saved: Any, dy: Array) -> tuple[Array]:
    x, t = saved
    inner = GELU_SCALE * (1 + 3 * GELU_CUBIC * x * x)
    return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner),)


gelu = HostOp("gelu", _gelu, _gelu_backward, same, flops=TRANSCENDENTAL_FLOPS + 8, backward_flops=14)

ACTIVATIONS = {"relu": relu, "sigmoid": sigmoid, "tanh": tanh, "gelu": gelu}


def activation(name: str) -> HostOp:
    """The activation called `name`. Raises ConfigError for an unknown one."""
    try:
        return ACTIVATIONS[name]
    except KeyError:
        raise ConfigError(
            f"no activation {name!r}; known: {', '.join(ACTIVATIONS)}, or 'device' for the substrate's own"
        ) from None


add = HostOp(
    "add",
    lambda xp, a, b: (a + b, None),
    lambda xp, saved, dy: (dy, dy),
    same,
    backward_touches=lambda y, a, b: ([], []),
)
multiply = HostOp(
    "multiply", lambda xp, a, b: (a * b, (a, b)), lambda xp, s, dy: (dy * s[1], dy * s[0]), same, backward_flops=2
)
bias_add = HostOp(
    "bias_add",
    lambda xp, x, b: (x + b, None),
    lambda xp, saved, dy: (dy, dy.sum(axis=over_rows(dy))),
    first_with_last_axis,
    backward_touches=lambda y, x, b: ([y], [b]),
)


@cache
def scaled(factor: float) -> HostOp:
    """x times a constant."""
    return HostOp(
        "scale",
        lambda xp, x: (x * factor, None),
        lambda xp, saved, dy: (dy * factor,),
        same,
        backward_touches=lambda y, x: ([y], [x]),
    )


@cache
def causal_mask(length: int) -> HostOp:
    """x [..., length, length] with -1e9 wherever a column is later than its row: no position sees what follows it."""

    def forward(xp: Namespace, x: Array) -> tuple[Array, Any]:
        seen = xp.tri(length, dtype=bool)
        return xp.where(seen, x, xp.asarray(-1e9, dtype=x.dtype)), seen

    return HostOp("mask", forward, lambda xp, seen, dy: (dy * seen,), same, backward_touches=lambda y, x: ([y], [x]))


def _softmax(xp: Namespace, x: Array) -> tuple[Array, Any]:
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def _softmax_backward(xp: Namespace, y: Array, dy: Array) -> tuple[Array]:
    return (y * (dy - (dy * y).sum(axis=-1, keepdims=True)),)


softmax = HostOp("softmax", _softmax, _softmax_backward, same, flops=TRANSCENDENTAL_FLOPS + 4, backward_flops=4)


@cache
def layer_norm(epsilon: float = 1e-5) -> HostOp:
    """x [..., n] centred and scaled to unit variance over the last axis, then times gain [n] plus bias [n]."""

    def forward(xp: Namespace, x: Array, gain: Array, bias: Array) -> tuple[Array, Any]:
        centred = x - x.mean(axis=-1, keepdims=True)
        inverse = 1 / xp.sqrt((centred * centred).mean(axis=-1, keepdims=True) + epsilon)
        normal = centred * inverse
        return normal * gain + bias, (normal, inverse, gain)

    def backward(xp: Namespace, saved: Any, dy: Array) -> tuple[Array, Array, Array]:
        normal, inverse, gain = saved
        g = dy * gain
        dx = inverse * (g - g.mean(axis=-1, keepdims=True) - normal * (g * normal).mean(axis=-1, keepdims=True))
        return dx, (dy * normal).sum(axis=over_rows(dy)), dy.sum(axis=over_rows(dy))

    return HostOp("layer_norm", forward, backward, first_with_last_axis, flops=9, backward_flops=14)


@cache
def reshape(shape: tuple[int, ...]) -> HostOp:
    """The same values in another shape, the first axis of which may be -1 (the batch)."""

    def resolved(before: tuple[int, ...]) -> tuple[int, ...]:
        size, rest = math.prod(before), math.prod(shape[1:])
        after = (size // rest, *shape[1:]) if shape[0] == -1 else shape
        if math.prod(after) != size:
            raise ShapeError(f"cannot reshape {before} to {shape}")
        return after

    def forward(xp: Namespace, x: Array) -> tuple[Array, Any]:
        return x.reshape(resolved(tuple(x.shape))), tuple(x.shape)

    return HostOp("reshape", forward, lambda xp, before, dy: (dy.reshape(before),), resolved, view=True)


@cache
def transpose(axes: tuple[int, ...]) -> HostOp:
    """The axes in another order; a view, whose reordering the next operation's reads pay for."""
    inverse = tuple(sorted(range(len(axes)), key=axes.__getitem__))

    def shape(before: tuple[int, ...]) -> tuple[int, ...]:
        if len(before) != len(axes):
            raise ShapeError(f"cannot transpose {before} by axes {axes}")
        return tuple(before[axis] for axis in axes)

    return HostOp(
        "transpose",
        lambda xp, x: (x.transpose(axes), None),
        lambda xp, saved, dy: (dy.transpose(inverse),),
        shape,
        view=True,
    )


def placed(name: str, shape: Any, place: Any) -> HostOp:
    """A view of a part of x, of `shape(shape of x)` at `place(shape of x)`; the tape takes it out and puts dy back."""
    return HostOp(name, lambda xp, x: (x[place(x.shape)], None), lambda xp, s, dy: (dy,), shape, view=True, place=place)


@cache
def part(index: int, count: int) -> HostOp:
    """Part `index` of x's last axis cut into `count` equal parts (queries, keys, values)."""

    def shape(before: tuple[int, ...]) -> tuple[int, ...]:
        if before[-1] % count:
            raise ShapeError(f"the last axis of {before} does not divide into {count} parts")
        return (*before[:-1], before[-1] // count)

    def place(before: tuple[int, ...]) -> Any:
        n = before[-1] // count
        return ..., slice(index * n, (index + 1) * n)

    return placed("part", shape, place)


@cache
def at(position: int) -> HostOp:
    """x[:, position] of x [batch, length, ...]: one time step of a sequence."""

    return placed("at", lambda before: (before[0], *before[2:]), lambda before: (slice(None), position))


@cache
def stack_steps(count: int) -> HostOp:
    """`count` arrays [batch, n] as one [batch, count, n]: the time steps of a sequence."""

    def forward(xp: Namespace, *steps: Array) -> tuple[Array, Any]:
        return xp.stack(steps, axis=1), None

    return HostOp(
        "stack",
        forward,
        lambda xp, saved, dy: tuple(dy[:, i] for i in range(count)),
        lambda *shapes: (shapes[0][0], count, *same(*shapes)[1:]),
        flops=0,
        backward_flops=0,
    )


@cache
def embedding(table: tuple[int, int]) -> HostOp:
    """Rows of a table [vocabulary, n] by ids [...]: -> [..., n]; the gradient is summed into the rows."""

    def forward(xp: Namespace, weights: Array, ids: Array) -> tuple[Array, Any]:
        return weights[ids], ids

    def backward(xp: Namespace, ids: Array, dy: Array) -> tuple[Array, None]:
        gradient = xp.zeros(table, dtype=dy.dtype)
        xp.add.at(gradient, ids, dy)
        return gradient, None

    return HostOp(
        "embedding",
        forward,
        backward,
        lambda weights, ids: (*ids, table[1]),
        flops=0,
        reads=lambda y, weights, ids: [y, ids],
        backward_touches=lambda y, weights, ids: ([y, ids], [weights]),
    )


@cache
def position_add() -> HostOp:
    """x [batch, length, n] plus a table [length, n] of positions."""

    def shape(x: tuple[int, ...], table: tuple[int, ...]) -> tuple[int, ...]:
        if x[1:] != table:
            raise ShapeError(f"positions of shape {table} do not fit {x}")
        return x

    return HostOp(
        "position_add",
        lambda xp, x, table: (x + table, None),
        lambda xp, saved, dy: (dy, dy.sum(axis=0)),
        shape,
        backward_touches=lambda y, x, table: ([y], [table]),
    )

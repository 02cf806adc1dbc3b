"""Numba kernels that send vectors and receive results: scale, round, add noise, clip, scale back.

Imported on first use only. Noise is drawn from a counter: 64 bits by SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)
make one standard normal by the method of Box and Muller (Ann. Math. Stat. 29, 610 (1958)), sine alone.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from hwsim.compiled import compiled

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
GAP = np.float32(2.0**-24)
LN2 = np.float32(0.6931471805599453)
DARK = np.float32(1e-30)  # below it 2^23 / largest is no float32
QUICK = {"contract", "reassoc", "nsz"}
# sin(pi r / 2) = r (S0 + S1 r^2 + ...), Taylor series
SINE = tuple(
    np.float32((-1) ** i * (np.pi / 2) ** (2 * i + 1) / float(np.prod(np.arange(1.0, 2 * i + 2)))) for i in range(6)
)


def lowered(function: Any) -> Any:
    """numba.extending.intrinsic, typed: a function that says its own LLVM code."""
    return intrinsic(function)


@lowered
def pattern(typing: Any, value: Any) -> Any:
    """The bits of a float32 as int32."""
    return numba.types.int32(value), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], context.get_value_type(numba.types.int32)
    )


@lowered
def number(typing: Any, value: Any) -> Any:
    """The float32 whose bits are this int32."""
    return numba.types.float32(value), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], context.get_value_type(numba.types.float32)
    )


@compiled(forceinline=True, fastmath={"contract"})
def logarithm(u: Any) -> Any:
    """ln u of a normal float32 above 0: the exponent's part, and 2 atanh((a - 1) / (a + 1)) of the mantissa a."""
    bits = pattern(u)
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)  # so that a lies between sqrt(1/2) and sqrt(2)
    a = number(np.int32(bits - (exponent << np.int32(23))))
    t = (a - ONE) / (a + ONE)
    s = t * t
    series = ((s * np.float32(1 / 9) + np.float32(1 / 7)) * s + np.float32(1 / 5)) * s + np.float32(1 / 3)
    return np.float32(exponent) * LN2 + (t + t) * (series * s + ONE)


@compiled(forceinline=True, fastmath={"contract"})
def normal(counter: Any) -> Any:
    """A standard normal from a 64-bit counter."""
    bits = (counter ^ (counter >> np.uint64(30))) * FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * SECOND
    bits = bits ^ (bits >> np.uint64(31))
    u = (np.float32(np.int32(bits >> np.uint64(40))) + HALF) * GAP
    r = np.float32(np.int32(bits & np.uint64(0xFFFFFF))) * (GAP + GAP) + (GAP - ONE)
    s = r * r
    sine = ((((SINE[5] * s + SINE[4]) * s + SINE[3]) * s + SINE[2]) * s + SINE[1]) * s + SINE[0]
    return np.sqrt(np.float32(-2) * logarithm(u)) * (sine * r)


@compiled(fastmath=QUICK)
def send(values: Any, light: Any, size: Any, levels: Any, power: Any) -> Any:
    """Rows of `values` [m, k], rounded to `levels` of their largest and of size 1, to `light`; their sizes [m].

    Returns the sum of their crests. Rows whose largest value lies below DARK send nothing.
    """
    m, k = values.shape
    crest = 0.0
    for i in range(m):
        largest: Any = ZERO
        total: Any = ZERO
        for j in range(k):
            largest = max(largest, abs(values[i, j]))
        if largest < DARK:
            size[i] = ZERO
            light[i, :] = ZERO
            continue
        inverse = ONE / largest
        for j in range(k):
            a = abs(values[i, j]) * inverse
            total += a * a if power else a
        crest += np.float32(k) / total
        relative = np.sqrt(total) if power else total
        size[i] = largest * relative
        if levels > ZERO:
            steps, step = levels * inverse, ONE / (levels * relative)
            for j in range(k):
                light[i, j] = np.rint(values[i, j] * steps) * step
        else:
            scale = inverse / relative
            for j in range(k):
                light[i, j] = values[i, j] * scale
    return crest


@compiled(fastmath=QUICK)
def disturb(found: Any, spread: Any, own: Any, key: Any, bright: Any) -> None:
    """Noise `spread` [n] on `found` [m, n], in place; `bright`: more of it by the results, times `own` [n]."""
    m, n = found.shape
    for i in range(m):
        base = key + np.uint64(i * n) * GOLDEN
        if bright:
            for j in range(n):
                more = found[i, j] * own[j]
                found[i, j] += spread[j] * np.sqrt(ONE + more * more) * normal(base + np.uint64(j) * GOLDEN)
        else:
            for j in range(n):
                found[i, j] += spread[j] * normal(base + np.uint64(j) * GOLDEN)


@compiled(fastmath=QUICK)
def receive(found: Any, size: Any, levels: Any, crest: Any) -> Any:
    """`found` [m, n] clipped and rounded, times `size` [m], in place; how many were clipped.

    Full scale is the largest value, or `crest` times the RMS where that is above 0 and less.
    """
    m, n = found.shape
    full: Any = ZERO
    for i in range(m):
        for j in range(n):
            full = max(full, abs(found[i, j]))
    if crest > ZERO and full > ZERO:
        square = 0.0
        for i in range(m):
            for j in range(n):
                relative = np.float64(found[i, j] / full)
                square += relative * relative
        full = full * min(ONE, crest * np.float32(np.sqrt(square / (m * n))))
    clipped = 0
    rounds = levels > ZERO and full > DARK
    steps, step = (levels / full, full / levels) if rounds else (ONE, ONE)
    for i in range(m):
        scale = size[i]
        for j in range(n):
            value = found[i, j]
            clipped += abs(value) > full
            value = min(max(value, -full), full)
            if rounds:
                value = np.rint(value * steps) * step
            found[i, j] = value * scale
    return clipped

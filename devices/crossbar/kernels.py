"""Numba kernels for what NumPy cannot do in few passes: pulse trains and their coincidences, and converters with noise.

Imported on first use only: importing this module imports Numba, and each kernel compiles when it is first called (a
copy is kept on the disk where that can be written). Every kernel does row after row with float32 lanes, releases the
interpreter's lock, and draws its noise from a counter, so that a result depends on no thread count. The array
functions beside which they stand (pulses.py, moves.py, converters.py) say what they compute. Helpers are inlined by
force, since a loop with a call in it is no vector code; products and sums of cells may fuse ("contract"), so that
those agree with the array functions to float32's last bits, and trains and counts bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled import compiled
from hwsim.random_kernels import (
    GAP,
    GOLDEN,
    HALF,
    LN2,
    LOW24,
    ONE,
    SHIFT40,
    ZERO,
    largest_of,
    lowered,
    mix,
    normal,
    number,
)  # fmt: skip

NOTHING = np.float32(1e-37)  # see converters.scales


@lowered
def popcount(typing: Any, value: Any) -> Any:
    """Set bits of an integer: one instruction, and the loops around it become vector code."""
    return value(value), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


@compiled(forceinline=True, fastmath={"contract"})
def exponential(x: Any) -> Any:
    """e^x for |x| < 80: 2^i times a Taylor series of the rest."""
    x = min(max(x, np.float32(-80)), np.float32(80))
    whole = np.int32(x * np.float32(1.4426950408889634) + np.float32(128.5)) - np.int32(128)
    r = x - np.float32(whole) * LN2
    series = ((r * np.float32(1 / 720) + np.float32(1 / 120)) * r + np.float32(1 / 24)) * r + np.float32(1 / 6)
    return number(np.int32((whole + np.int32(127)) << np.int32(23))) * (((series * r + HALF) * r + ONE) * r + ONE)


@compiled()
def draw_words(key: Any, sample: Any, p: Any, negative: Any, fire: Any, sign: Any) -> None:
    """Bernoulli trains packed into words: p [m, lines] -> fire, sign [words, lines]; pulses.draw_words."""
    slots, lines = sample.size, p.shape[1]
    for first in range(0, slots, 2):
        word, shift = first >> 5, np.uint32(first & 31)
        low, high = sample[first], sample[min(first + 1, slots - 1)]
        there = np.uint32(first + 1 < slots)
        base = key + np.uint64((first >> 1) * lines) * GOLDEN
        for j in range(lines):
            bits = mix(base + np.uint64(j) * GOLDEN)
            a = np.uint32(np.float32(np.int32(bits >> SHIFT40)) * GAP < p[low, j])
            b = np.uint32(np.float32(np.int32(bits & LOW24)) * GAP < p[high, j]) & there
            fire[word, j] |= (a | (b << np.uint32(1))) << shift
            signs = (a & np.uint32(negative[low, j])) | ((b & np.uint32(negative[high, j])) << np.uint32(1))
            sign[word, j] |= signs << shift


@compiled(forceinline=True)
def both(a: Any, b: Any) -> Any:
    """a & b as uint32: Numba's own rules would widen it to 64 bits, and halve the lanes."""
    return np.uint32(a & b)


@compiled()
def count_four(xf: Any, xs: Any, df: Any, ds: Any, i: Any, end: Any, t0: Any, t1: Any, t2: Any, t3: Any) -> None:
    """All coincidences of rows i to i + 3 with every column, plus 2^16 times those that pulse up.

    Four rows and two words at a time: the words of the columns come from the second-level cache, and are used 8 times.
    """
    i1, i2, i3 = min(i + 1, end - 1), min(i + 2, end - 1), min(i + 3, end - 1)
    t0[:] = 0
    t1[:] = 0
    t2[:] = 0
    t3[:] = 0
    up = np.uint32(16)
    for w in range(0, xf.shape[0], 2):
        v = w + 1
        a0, a1, a2, a3 = xf[w, i], xf[w, i1], xf[w, i2], xf[w, i3]
        b0, b1, b2, b3 = xf[v, i], xf[v, i1], xf[v, i2], xf[v, i3]
        if a0 | a1 | a2 | a3 | b0 | b1 | b2 | b3 == 0:
            continue
        p0, p1, p2, p3 = xs[w, i], xs[w, i1], xs[w, i2], xs[w, i3]
        q0, q1, q2, q3 = xs[v, i], xs[v, i1], xs[v, i2], xs[v, i3]
        f0, f1, s0, s1 = df[w], df[v], ds[w], ds[v]
        for j in range(t0.size):
            e, f, g, h = f0[j], f1[j], s0[j], s1[j]
            m, n = both(a0, e), both(b0, f)
            ups = popcount(both(m, p0 ^ g)) + popcount(both(n, q0 ^ h))
            t0[j] += np.uint32(popcount(m) + popcount(n) + (ups << up))
            m, n = both(a1, e), both(b1, f)
            ups = popcount(both(m, p1 ^ g)) + popcount(both(n, q1 ^ h))
            t1[j] += np.uint32(popcount(m) + popcount(n) + (ups << up))
            m, n = both(a2, e), both(b2, f)
            ups = popcount(both(m, p2 ^ g)) + popcount(both(n, q2 ^ h))
            t2[j] += np.uint32(popcount(m) + popcount(n) + (ups << up))
            m, n = both(a3, e), both(b3, f)
            ups = popcount(both(m, p3 ^ g)) + popcount(both(n, q3 ^ h))
            t3[j] += np.uint32(popcount(m) + popcount(n) + (ups << up))


@compiled()
def count(xf: Any, xs: Any, df: Any, ds: Any, begin: Any, end: Any, ups: Any, downs: Any) -> None:
    """Coincidence counts of rows begin..end, added to ups and downs [k, n]; pulses.count_words."""
    n = df.shape[1]
    rows = np.empty((4, n), np.uint32)
    for i in range(begin, end, 4):
        count_four(xf, xs, df, ds, i, end, rows[0], rows[1], rows[2], rows[3])
        for row in range(i, min(i + 4, end)):
            counts = rows[row - i]
            for j in range(n):
                ups[row, j] += counts[j] >> np.uint32(16)
                downs[row, j] += (counts[j] & np.uint32(0xFFFF)) - (counts[j] >> np.uint32(16))


@compiled()
def convert(v: Any, out: Any, before: Any, after: Any, key: Any, sigma: Any, step: Any, bound: Any, over: Any) -> None:
    """Rows through gain, noise, quantiser, clipping and gain; converters.convert says how."""
    for r in range(v.shape[0]):
        base = key + np.uint64(r * v.shape[1]) * GOLDEN
        over[r] = convert_row(v[r], out[r], before[r], after[r], base, sigma, step, bound)


@compiled(forceinline=True)
def convert_row(v: Any, out: Any, before: Any, after: Any, base: Any, sigma: Any, step: Any, bound: Any) -> Any:
    """One vector; returns how many of its values were clipped."""
    per_step, over = ONE / step, np.int32(0)
    for j in range(v.size):
        out[j] = v[j] * before
    if sigma > ZERO:  # a loop of its own: where out is v, one that touches both is no vector code
        for j in range(v.size):
            out[j] += sigma * normal(mix(base + np.uint64(j) * GOLDEN))
    if step > ZERO:
        for j in range(v.size):
            out[j] = np.rint(out[j] * per_step) * step
    for j in range(v.size):
        value = out[j]
        over += np.int32(abs(value) > bound)
        out[j] = min(max(value, -bound), bound) * after
    return over


@compiled()
def spread(y: Any, variance: Any, key: Any) -> None:
    """y += sqrt(variance) times a normal, in place; converters.add_noise."""
    for r in range(y.shape[0]):
        base = key + np.uint64(r * y.shape[1]) * GOLDEN
        for j in range(y.shape[1]):
            y[r, j] += np.sqrt(variance[r, j]) * normal(mix(base + np.uint64(j) * GOLDEN))


@compiled()
def largest(x: Any, out: Any) -> None:
    """out[r] = max |x[r]|."""
    for r in range(x.shape[0]):
        out[r] = largest_of(x[r])


@compiled()
def enter(x: Any, line: Any, scale: Any, managed: Any, key: Any, sigma: Any, step: Any, bound: Any) -> None:
    """Rows over their scale, which is found first where `managed`, through a DAC; converters.read says how."""
    for r in range(x.shape[0]):
        if managed:
            most = largest_of(x[r])
            scale[r] = ONE if most < NOTHING else most
        base = key + np.uint64(r * x.shape[1]) * GOLDEN
        convert_row(x[r], line[r], ONE / scale[r], ONE, base, sigma, step, bound)


@compiled()
def firing(x: Any, gain: Any, p: Any, negative: Any) -> None:
    """Probabilities min(|x| gain, 1) and signs of lines; pulses.train_parameters."""
    for r in range(x.shape[0]):
        for j in range(x.shape[1]):
            p[r, j] = min(abs(x[r, j]) * gain[r], ONE)
            negative[r, j] = x[r, j] < ZERO

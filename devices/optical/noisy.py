"""Numba kernels that send vectors and receive results: scale, round, add noise, clip, scale back (see converting.py).

Imported on first use only. Noise is drawn from a counter (random_kernels.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled import compiled
from hwsim.random_kernels import GOLDEN, HALF, ONE, ZERO, largest_of, mix, normal, number, pattern

DARK = np.float32(1e-30)  # below it 2^23 / largest is no float32
TINY = np.float32(2.0**-126)  # the least normal float32
QUICK = {"contract", "reassoc", "nsz"}


@compiled(fastmath=QUICK)
def send(values: Any, light: Any, size: Any, crest: Any, levels: Any, fields: Any) -> Any:
    """Rows of `values` [m, k], rounded to `levels` of their largest and of size 1, to `light`; the sum of their crests.

    `size` [m, 1] and `crest` [m] get theirs. Rows whose largest value lies below DARK send nothing.
    """
    m, k = values.shape
    crests = 0.0
    for i in range(m):
        row, out = values[i], light[i]
        largest = largest_of(row)
        if largest < DARK:
            size[i, 0] = crest[i] = ZERO
            out[:] = ZERO
            continue
        inverse = ONE / largest
        total: Any = ZERO
        for j in range(k):
            a = abs(row[j]) * inverse
            total += a * a if fields else a
        crest[i] = np.float32(k) / total
        crests += crest[i]
        relative = np.sqrt(total) if fields else total
        size[i, 0] = largest * relative
        if levels > ZERO:
            steps, step = levels * inverse, ONE / (levels * relative)
            for j in range(k):
                out[j] = np.rint(row[j] * steps) * step
        else:
            scale = inverse / relative
            for j in range(k):
                out[j] = row[j] * scale
    return crests


@compiled(fastmath={"contract"})
def send_columns(values: Any, light: Any, norm: Any, crest: Any, levels: Any) -> None:
    """Columns of `values` [m, n], rounded to `levels` of their largest, to `light`; their norms and crests [n].

    Columns whose largest value lies below DARK send nothing.
    """
    m, n = values.shape
    top = np.zeros(n, np.int32)
    for i in range(m):
        row = values[i]
        for j in range(n):
            top[j] = max(top[j], pattern(abs(row[j])))
    largest, steps, step = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    for j in range(n):
        largest[j] = number(top[j])
        steps[j] = ONE / largest[j] if largest[j] >= DARK else ZERO
        step[j] = largest[j] / levels if levels > ZERO else largest[j]
    norm[:] = ZERO
    for i in range(m):
        row, out = values[i], light[i]
        for j in range(n):
            relative = row[j] * steps[j]
            if levels > ZERO:
                relative = np.rint(relative * levels)
            norm[j] += relative * relative
            out[j] = relative * step[j]
    for j in range(n):
        relative = levels if levels > ZERO else ONE
        crest[j] = np.float32(m) * relative * relative / norm[j] if norm[j] > ZERO else ZERO
        norm[j] = np.sqrt(norm[j]) * step[j]


@compiled(forceinline=True, fastmath={"contract"})
def disturb(row: Any, spread: Any, share: Any, bright: Any, grown: Any, first: Any) -> None:
    """Noise `spread` [n] on results [n], in place, its variance `grown` and more by a result's `share` [n]."""
    if bright:
        for j in range(row.size):
            own = row[j] * share[j]
            row[j] += spread[j] * np.sqrt(grown + own * own) * normal(mix(first + np.uint64(j) * GOLDEN))
    else:
        factor = np.sqrt(grown)
        for j in range(row.size):
            row[j] += factor * spread[j] * normal(mix(first + np.uint64(j) * GOLDEN))


@compiled(forceinline=True, fastmath={"contract"})
def disturb_arms(row: Any, spread: Any, still: Any, moved: Any, dim: Any, first: Any) -> None:
    """The same where the other arm is dim too: variances `still` + `moved` x dim [n] over what it is at full light."""
    for j in range(row.size):
        row[j] += spread[j] * np.sqrt(still[j] + moved[j] * dim) * normal(mix(first + np.uint64(j) * GOLDEN))


@compiled(fastmath={"contract"})
def receive(found: Any, size: Any, spread: Any, own: Any, crests: Any, other: Any, inverse: Any, shot: Any,
            electronics: Any, key: Any, levels: Any, crest: Any) -> Any:  # fmt: skip
    """Results `found` [m, n] disturbed, clipped and rounded, times `size` [m, 1], in place; how many were clipped.

    The noise of value i is number i of stream `key`; an empty `spread`: there is none; an empty `other`: no second arm.
    Noise and what dims it as in converting.Noise, `inverse` being that of the billed crest. Full scale is the largest
    value, or `crest` times the RMS where that is above 0 and less.
    """
    m, n = found.shape
    share = own / np.maximum(spread, TINY)  # where nothing is noisy, nothing is lit
    ahead = np.maximum(other * inverse, ONE)
    still, moved = shot * HALF * ahead, shot * HALF + electronics * ahead
    full: Any = ZERO
    for i in range(m):
        if spread.size:
            dim, first = max(crests[i] * inverse, ONE), key + np.uint64(i * n) * GOLDEN
            if other.size:
                disturb_arms(found[i], spread, still, moved, dim, first)
            else:
                grown = ONE + (dim - ONE) * (shot + electronics * (dim + ONE))
                disturb(found[i], spread, share, own > ZERO, grown, first)
        full = max(full, largest_of(found[i]))
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
        row, scale = found[i], size[i, 0]
        if crest > ZERO:
            for j in range(n):
                clipped += abs(row[j]) > full
        if rounds:
            for j in range(n):
                row[j] = np.rint(min(max(row[j], -full), full) * steps) * step * scale
        else:
            for j in range(n):
                row[j] = min(max(row[j], -full), full) * scale
    return clipped

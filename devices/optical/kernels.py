"""Numba kernels of a mesh: column after column, split real and imaginary float32, the batch innermost.

Imported on first use only; each kernel compiles when it is first called (a copy is kept on the disk where that can be
written). columns.py says what they compute. Arithmetic is as written: with fused or reordered sums the same kernel gave
other bits in the process that compiled it than in one that found it on the disk. Only readings sum over the batch in
any order ("reassoc"), so that they become vector code; they are inlined by force, so that it is always the same code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled import compiled
from hwsim.random_kernels import GOLDEN, largest_of, mix, normal

QUICK = {"contract", "reassoc", "nsz"}


@compiled()
def pair(cells: Any, number: Any, re: Any, im: Any, top: Any) -> None:
    """(a, b) <- T (a, b) for modes `top` and the next [m]: a row of `cells` has T, real and imaginary, row by row."""
    t0, t1, t2, t3 = cells[number, 0], cells[number, 1], cells[number, 2], cells[number, 3]
    t4, t5, t6, t7 = cells[number, 4], cells[number, 5], cells[number, 6], cells[number, 7]
    low = top + 1
    for j in range(re.shape[1]):
        xr, xi, yr, yi = re[top, j], im[top, j], re[low, j], im[low, j]
        re[top, j] = t0 * xr - t1 * xi + t2 * yr - t3 * yi
        im[top, j] = t0 * xi + t1 * xr + t2 * yi + t3 * yr
        re[low, j] = t4 * xr - t5 * xi + t6 * yr - t7 * yi
        im[low, j] = t4 * xi + t5 * xr + t6 * yi + t7 * yr


@compiled()
def turn(output: Any, re: Any, im: Any) -> None:
    """a <- (cosine + i sine) a for every mode."""
    for mode in range(re.shape[0]):
        cosine, sine = output[mode, 0], output[mode, 1]
        for j in range(re.shape[1]):
            xr, xi = re[mode, j], im[mode, j]
            re[mode, j] = cosine * xr - sine * xi
            im[mode, j] = cosine * xi + sine * xr


@compiled()
def fade(share: Any, re: Any, im: Any, start: Any, stop: Any) -> None:
    """a <- share a for the modes start..stop."""
    for mode in range(start, stop):
        for j in range(re.shape[1]):
            re[mode, j] *= share
            im[mode, j] *= share


@compiled()
def beside(first: Any, end: Any, bypass: Any, re: Any, im: Any) -> None:
    """The modes before `first` and from `end` on, which pass a column beside its MZIs."""
    if bypass != np.float32(1):
        fade(bypass, re, im, 0, first)
        fade(bypass, re, im, end, re.shape[0])


@compiled()
def forward(columns: Any, cells: Any, output: Any, bypass: Any, re: Any, im: Any) -> None:
    """Fields [n, m] through all columns and the output phases, in place."""
    number = 0
    for c in range(columns.shape[0]):
        first, end = columns[c, 0], columns[c, 0] + 2 * columns[c, 1]
        for top in range(first, end, 2):
            pair(cells, number, re, im, top)
            number += 1
        beside(first, end, bypass, re, im)
    turn(output, re, im)


@compiled()
def returning(columns: Any, cells: Any, output: Any, bypass: Any, re: Any, im: Any) -> None:
    """Fields [n, m] through the output phases and all columns in reverse, in place; `cells` are transposed."""
    number = cells.shape[0]
    turn(output, re, im)
    for c in range(columns.shape[0] - 1, -1, -1):
        first, end = columns[c, 0], columns[c, 0] + 2 * columns[c, 1]
        for top in range(end - 2, first - 1, -2):
            number -= 1
            pair(cells, number, re, im, top)
        beside(first, end, bypass, re, im)


@compiled(forceinline=True, fastmath=QUICK)
def power_of(re: Any, im: Any, mode: Any, power: Any) -> None:
    """|a|^2 [m] of one mode."""
    for j in range(power.size):
        power[j] = re[mode, j] * re[mode, j] + im[mode, j] * im[mode, j]


@compiled(forceinline=True, fastmath=QUICK)
def power_inside(parts: Any, number: Any, re: Any, im: Any, top: Any, power: Any) -> None:
    """The power [m] in the upper arm of an MZI that the modes `top` and the next enter."""
    ca, sa, cp, sp = parts[number, 0], parts[number, 1], parts[number, 2], parts[number, 3]
    low = top + 1
    for j in range(power.size):
        xr, xi = re[top, j], im[top, j]
        inner = ca * (cp * xr - sp * xi) - sa * im[low, j], ca * (cp * xi + sp * xr) + sa * re[low, j]
        power[j] = inner[0] * inner[0] + inner[1] * inner[1]


@compiled(forceinline=True, fastmath=QUICK)
def sum_of(re: Any, im: Any, mode: Any, weights: Any) -> Any:
    """The power of one mode, times `weights` [m], summed."""
    total = np.float32(0)
    for j in range(weights.size):
        total += weights[j] * (re[mode, j] * re[mode, j] + im[mode, j] * im[mode, j])
    return total


@compiled(forceinline=True, fastmath=QUICK)
def sum_inside(parts: Any, number: Any, re: Any, im: Any, top: Any, weights: Any) -> Any:
    """The power in the upper arm of an MZI that the modes `top` and the next enter, times `weights` [m], summed."""
    ca, sa, cp, sp = parts[number, 0], parts[number, 1], parts[number, 2], parts[number, 3]
    low, total = top + 1, np.float32(0)
    for j in range(weights.size):
        xr, xi = re[top, j], im[top, j]
        inner = ca * (cp * xr - sp * xi) - sa * im[low, j], ca * (cp * xi + sp * xr) + sa * re[low, j]
        total += weights[j] * (inner[0] * inner[0] + inner[1] * inner[1])
    return total


@compiled()
def powers(columns: Any, cells: Any, parts: Any, bypass: Any, re: Any, im: Any, weights: Any, theta: Any, phi: Any,
           ends: Any) -> None:  # fmt: skip
    """What `meters` finds without noise and rounding; apart, since code with both takes twice as long."""
    theta[:], phi[:], ends[:] = np.float32(0), np.float32(0), np.float32(0)
    for light in range(2):
        fr, fi, sign, number = re[light], im[light], np.float32(1 - 2 * light), 0
        for c in range(columns.shape[0]):
            first, end = columns[c, 0], columns[c, 0] + 2 * columns[c, 1]
            for top in range(first, end, 2):
                phi[number] += sign * sum_of(fr, fi, top, weights)
                theta[number] += sign * sum_inside(parts, number, fr, fi, top, weights)
                pair(cells, number, fr, fi, top)
                number += 1
            beside(first, end, bypass, fr, fi)
        for mode in range(re.shape[1]):
            ends[mode] += sign * sum_of(fr, fi, mode, weights)


@compiled(forceinline=True, fastmath=QUICK)
def reading(power: Any, sigma: Any, first: Any, levels: Any, weights: Any) -> Any:
    """Powers [m] as one meter reads them, noisy and rounded to `levels` of the largest; times `weights`, summed."""
    if sigma > np.float32(0):
        for j in range(power.size):
            power[j] += sigma * normal(mix(first + np.uint64(j) * GOLDEN))
    total = np.float32(0)
    largest = largest_of(power) if levels > np.float32(0) else np.float32(0)
    if largest > np.float32(0):
        steps, step = levels / largest, largest / levels
        for j in range(power.size):
            total += weights[j] * np.rint(power[j] * steps)
        return total * step
    for j in range(power.size):
        total += weights[j] * power[j]
    return total


@compiled()
def meters(columns: Any, cells: Any, parts: Any, bypass: Any, re: Any, im: Any, sigma: Any, key: Any, levels: Any,
           weights: Any, theta: Any, phi: Any, ends: Any) -> None:  # fmt: skip
    """Two lights [2, n, m] through all columns, in place; at every shifter the first one's reading less the other's."""
    mzis, n, m = cells.shape[0], re.shape[1], re.shape[2]
    power = np.empty(m, np.float32)
    theta[:], phi[:], ends[:] = np.float32(0), np.float32(0), np.float32(0)
    for light in range(2):
        fr, fi = re[light], im[light]
        sign, number, start = np.float32(1 - 2 * light), 0, light * (2 * mzis + n)
        for c in range(columns.shape[0]):
            first, end = columns[c, 0], columns[c, 0] + 2 * columns[c, 1]
            for top in range(first, end, 2):
                power_of(fr, fi, top, power)
                place = key + np.uint64((start + number) * m) * GOLDEN
                phi[number] += sign * reading(power, sigma, place, levels, weights)
                power_inside(parts, number, fr, fi, top, power)
                place = key + np.uint64((start + mzis + number) * m) * GOLDEN
                theta[number] += sign * reading(power, sigma, place, levels, weights)
                pair(cells, number, fr, fi, top)
                number += 1
            beside(first, end, bypass, fr, fi)
        for mode in range(n):
            power_of(fr, fi, mode, power)
            place = key + np.uint64((start + 2 * mzis + mode) * m) * GOLDEN
            ends[mode] += sign * reading(power, sigma, place, levels, weights)

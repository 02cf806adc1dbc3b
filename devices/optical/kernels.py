"""Numba kernels of a mesh: column after column, split real and imaginary float32, the batch innermost.

Imported on first use only; each kernel compiles when it is first called (a copy is kept on the disk where that can be
written). columns.py says what they compute. Arithmetic is as written: with fused or reordered sums the same kernel gave
other bits in the process that compiled it than in one that found it on the disk. Only gradients, which no run depends
on, sum over the batch in any order ("reassoc"), so that they become vector code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled import compiled

QUICK = {"contract", "reassoc", "nsz"}


@compiled()
def pair(t: Any, ar: Any, ai: Any, br: Any, bi: Any) -> None:
    """(a, b) <- T (a, b) for vectors [m]: the 2 x 2 matrix t holds real and imaginary parts, row by row."""
    t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
    for j in range(ar.size):
        xr, xi, yr, yi = ar[j], ai[j], br[j], bi[j]
        ar[j] = t0 * xr - t1 * xi + t2 * yr - t3 * yi
        ai[j] = t0 * xi + t1 * xr + t2 * yi + t3 * yr
        br[j] = t4 * xr - t5 * xi + t6 * yr - t7 * yi
        bi[j] = t4 * xi + t5 * xr + t6 * yi + t7 * yr


@compiled()
def turn(cosine: Any, sine: Any, ar: Any, ai: Any) -> None:
    """a <- (cosine + i sine) a for a vector [m]."""
    for j in range(ar.size):
        xr, xi = ar[j], ai[j]
        ar[j] = cosine * xr - sine * xi
        ai[j] = cosine * xi + sine * xr


@compiled()
def fade(share: Any, ar: Any, ai: Any) -> None:
    """a <- share a for a vector [m]."""
    for j in range(ar.size):
        ar[j] *= share
        ai[j] *= share


@compiled()
def beside(first: Any, end: Any, bypass: Any, re: Any, im: Any) -> None:
    """The modes before `first` and from `end` on, which pass a column beside its MZIs."""
    if bypass != np.float32(1):
        for mode in range(first):
            fade(bypass, re[mode], im[mode])
        for mode in range(end, re.shape[0]):
            fade(bypass, re[mode], im[mode])


@compiled()
def forward(columns: Any, cells: Any, output: Any, bypass: Any, re: Any, im: Any) -> None:
    """Fields [n, m] through all columns and the output phases, in place."""
    n, number = re.shape[0], 0
    for c in range(columns.shape[0]):
        first, end = columns[c, 0], columns[c, 0] + 2 * columns[c, 1]
        for top in range(first, end, 2):
            pair(cells[number], re[top], im[top], re[top + 1], im[top + 1])
            number += 1
        beside(first, end, bypass, re, im)
    for mode in range(n):
        turn(output[mode, 0], output[mode, 1], re[mode], im[mode])


@compiled()
def returning(columns: Any, cells: Any, output: Any, bypass: Any, re: Any, im: Any) -> None:
    """Fields [n, m] through the output phases and all columns in reverse, in place; `cells` are transposed."""
    number = cells.shape[0]
    for mode in range(re.shape[0]):
        turn(output[mode, 0], output[mode, 1], re[mode], im[mode])
    for c in range(columns.shape[0] - 1, -1, -1):
        first, end = columns[c, 0], columns[c, 0] + 2 * columns[c, 1]
        for top in range(end - 2, first - 1, -2):
            number -= 1
            pair(cells[number], re[top], im[top], re[top + 1], im[top + 1])
        beside(first, end, bypass, re, im)


@compiled(fastmath=QUICK)
def undo(p: Any, far: Any, fai: Any, fbr: Any, fbi: Any, gar: Any, gai: Any, gbr: Any, gbi: Any) -> Any:
    """One MZI backwards: f (a, b) <- T^-1 f, g <- T^T g, and -Im(f g) behind both shifters, summed over [m]."""
    ca, sa, cb, sb, ct, st, cp, sp, t, inverse = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9]
    fc, fs, gc, gs = cb * inverse, sb * inverse, cb * t, sb * t
    theta, phi = np.float32(0), np.float32(0)
    for j in range(far.size):
        xr, xi, yr, yi = far[j], fai[j], fbr[j], fbi[j]
        ur, ui, vr, vi = gar[j], gai[j], gbr[j], gbi[j]
        ar, ai = fc * xr + fs * yi, fc * xi - fs * yr  # the inverse of a splitter is its conjugate
        br, bi = fc * yr + fs * xi, fc * yi - fs * xr
        er, ei = gc * ur - gs * vi, gc * ui + gs * vr
        dr, di = gc * vr - gs * ui, gc * vi + gs * ur
        theta -= ar * ei + ai * er
        xr, xi = ct * ar + st * ai, ct * ai - st * ar
        ur, ui = ct * er - st * ei, ct * ei + st * er
        ar, ai = ca * xr + sa * bi, ca * xi - sa * br
        fbr[j], fbi[j] = ca * br + sa * xi, ca * bi - sa * xr
        er, ei = ca * ur - sa * di, ca * ui + sa * dr
        gbr[j], gbi[j] = ca * dr - sa * ui, ca * di + sa * ur
        phi -= ar * ei + ai * er
        far[j], fai[j] = cp * ar + sp * ai, cp * ai - sp * ar
        gar[j], gai[j] = cp * er - sp * ei, cp * ei + sp * er
    return theta, phi


@compiled(fastmath=QUICK)
def overlap(fr: Any, fi: Any, gr: Any, gi: Any) -> Any:
    """-Im(f g) summed over [m]."""
    total = np.float32(0)
    for j in range(fr.size):
        total -= fr[j] * gi[j] + fi[j] * gr[j]
    return total


@compiled()
def backward(columns: Any, parts: Any, output: Any, bypass: Any, fr: Any, fi: Any, gr: Any, gi: Any, theta: Any,
             phi: Any, ends: Any) -> None:  # fmt: skip
    """All columns in reverse: fields f [n, m] undone, errors g sent back, gradients of all shifters; in place."""
    n, number = fr.shape[0], parts.shape[0]
    for mode in range(n):
        ends[mode] = overlap(fr[mode], fi[mode], gr[mode], gi[mode])
        turn(output[mode, 0], -output[mode, 1], fr[mode], fi[mode])
        turn(output[mode, 0], output[mode, 1], gr[mode], gi[mode])
    for c in range(columns.shape[0] - 1, -1, -1):
        first, end = columns[c, 0], columns[c, 0] + 2 * columns[c, 1]
        for top in range(end - 2, first - 1, -2):
            number -= 1
            low = top + 1
            theta[number], phi[number] = undo(
                parts[number], fr[top], fi[top], fr[low], fi[low], gr[top], gi[top], gr[low], gi[low]
            )
        beside(first, end, np.float32(1) / bypass, fr, fi)
        beside(first, end, bypass, gr, gi)

"""Numba kernels that take a unitary matrix apart into a mesh, MZI by MZI. Imported on first use only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hwsim.compiled import compiled


@compiled()
def columns(work: Any, row: Any, mode: Any) -> Any:
    """work <- work T^H on columns mode, mode + 1, so that work[row, mode] = 0; rows below hold zeros there."""
    a, b = work[row, mode], work[row, mode + 1]
    product = -a * b.conjugate()
    theta, phi = 2 * math.atan2(abs(b), abs(a)), math.atan2(product.imag, product.real)
    half = complex(math.cos(theta / 2), -math.sin(theta / 2)) * -1j  # conjugate of i e^(i theta / 2)
    turn = complex(math.cos(phi), -math.sin(phi))
    s, c = half * math.sin(theta / 2), half * math.cos(theta / 2)
    for i in range(row + 1):
        x, y = work[i, mode], work[i, mode + 1]
        work[i, mode] = x * (turn * s) + y * c
        work[i, mode + 1] = x * (turn * c) - y * s
    work[row, mode] = 0
    return theta, phi


@compiled()
def rows(work: Any, row: Any, column: Any) -> Any:
    """work <- T work on rows row - 1, row, so that work[row, column] = 0; columns before hold zeros there."""
    a, b = work[row - 1, column], work[row, column]
    product = b * a.conjugate()
    theta, phi = 2 * math.atan2(abs(a), abs(b)), math.atan2(product.imag, product.real)
    half = complex(math.cos(theta / 2), math.sin(theta / 2)) * 1j
    turn = complex(math.cos(phi), math.sin(phi))
    s, c = half * math.sin(theta / 2), half * math.cos(theta / 2)
    for j in range(column, work.shape[1]):
        x, y = work[row - 1, j], work[row, j]
        work[row - 1, j] = turn * s * x + c * y
        work[row, j] = turn * c * x - s * y
    work[row, column] = 0
    return theta, phi


@compiled()
def clements(work: Any, modes: Any, theta: Any, phi: Any) -> None:
    """Upper mode, theta and phi of every MZI, in the order that light meets them; `work` [n, n] becomes diagonal."""
    n, right, left = work.shape[0], 0, modes.size
    for i in range(n - 1):
        for j in range(i + 1):
            if i % 2 == 0:
                modes[right] = i - j
                theta[right], phi[right] = columns(work, n - 1 - j, i - j)
                right += 1
            else:  # nulled from the output: the last of them is met first
                left -= 1
                modes[left] = n - 2 + j - i
                theta[left], phi[left] = rows(work, n - 1 + j - i, j)
    for number in range(right, modes.size):  # a left factor passes the diagonal: T^-1 D = D' T'
        mode, upper, lower = (
            modes[number],
            work[modes[number], modes[number]],
            work[modes[number] + 1, modes[number] + 1],
        )
        inner = -complex(math.cos(theta[number]), -math.sin(theta[number]))
        outer = complex(math.cos(phi[number]), -math.sin(phi[number]))
        product = upper * lower.conjugate()
        work[mode, mode], work[mode + 1, mode + 1] = inner * outer * lower, inner * lower
        phi[number] = math.atan2(product.imag, product.real)


@compiled()
def reck(work: Any, modes: Any, theta: Any, phi: Any) -> None:
    """The same for a Reck mesh: rows are nulled from the last one up, each from its left end."""
    number = 0
    for row in range(work.shape[0] - 1, 0, -1):
        for mode in range(row):
            modes[number] = mode
            theta[number], phi[number] = columns(work, row, mode)
            number += 1


@compiled()
def numbers(modes: Any, firsts: Any, starts: Any, n: Any) -> Any:
    """Where in a mesh of n modes each MZI stands: in the first column that is free on both of its modes."""
    free, found = np.zeros(n, np.int64), np.empty(modes.size, np.int64)
    for i in range(modes.size):
        mode = modes[i]
        column = max(free[mode], free[mode + 1])
        free[mode] = free[mode + 1] = column + 1
        found[i] = starts[column] + (mode - firsts[column]) // 2
    return found

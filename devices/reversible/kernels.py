"""The Numba kernel of the simulator: a program of gates over blocks of words that stay in the first-level cache.

Imported on first use only: importing this module imports Numba, and the kernel compiles when it is first called (a copy
is kept on the disk where that can be written). simulate.py says what it computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled import compiled
from hwsim.devices.reversible.netlist import Kind

BLOCK = 64  # words of a wire at a time: 64 wires of them are 32 KiB (measured: fastest of 32 to 256)
NOT, CNOT, TOFFOLI = int(Kind.NOT), int(Kind.CNOT), int(Kind.TOFFOLI)
FREDKIN, PERES = int(Kind.FREDKIN), int(Kind.PERES)


@compiled()
def run_gates(program: Any, tile: Any) -> None:
    """Run a program [gates, 4] on a tile [wires, BLOCK]."""
    for i in range(len(program)):
        kind, first, second, target = program[i, 0], program[i, 1], program[i, 2], program[i, 3]
        if kind == TOFFOLI:
            for j in range(BLOCK):
                tile[target, j] ^= tile[first, j] & tile[second, j]
        elif kind == CNOT:
            for j in range(BLOCK):
                tile[target, j] ^= tile[first, j]
        elif kind == NOT:
            for j in range(BLOCK):
                tile[target, j] = ~tile[target, j]
        elif kind == FREDKIN:
            for j in range(BLOCK):
                moved = (tile[second, j] ^ tile[target, j]) & tile[first, j]
                tile[second, j] ^= moved
                tile[target, j] ^= moved
        elif kind == PERES:
            for j in range(BLOCK):
                tile[target, j] ^= tile[first, j] & tile[second, j]
                tile[second, j] ^= tile[first, j]
        else:
            for j in range(BLOCK):
                tile[second, j] ^= tile[first, j]
                tile[target, j] ^= tile[first, j] & tile[second, j]


@compiled()
def run(
    program: Any, state: Any, begin: int, end: int, starts: Any, gate: Any, wire: Any, word: Any, mask: Any
) -> None:
    """Run a program [gates, 4] on blocks `begin` to `end` of state [wires, words], in place.

    Fault number p flips mask[p] of [wire[p], word[p]] after gate gate[p]; those of block b are numbers starts[b] to
    starts[b + 1], in the order of their gates.
    """
    tile = np.zeros((len(state), BLOCK), np.uint64)
    for block in range(begin, end):
        base = block * BLOCK
        size = min(BLOCK, state.shape[1] - base)
        tile[:, :size] = state[:, base : base + size]
        done = 0
        for p in range(starts[block], starts[block + 1]):
            run_gates(program[done : gate[p] + 1], tile)
            done = gate[p] + 1
            tile[wire[p], word[p] - base] ^= mask[p]
        run_gates(program[done:], tile)
        state[:, base : base + size] = tile[:, :size]

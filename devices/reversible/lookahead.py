"""Draper's carry-lookahead adders: depth of order log n, for more gates and ancillas.

Carries are found by a tree over blocks of bits: a block propagates a carry where each of its bits does, and generates
one where its upper half does, or its lower half does and its upper propagates it.
Source: Draper, Kutin, Rains, Svore, quant-ph/0406142 (recalled).
"""

from __future__ import annotations

from hwsim.devices.reversible.adders import same_width
from hwsim.devices.reversible.netlist import Builder, Wires
from hwsim.errors import ConfigError

Ands = list[tuple[int, int, int]]  # Toffoli gates: first, second, target


def lookahead(builder: Builder, a: Wires, b: Wires, total: Wires) -> None:
    """total = a + b, for n + 1 wires that were 0; a and b kept. Raises ConfigError for another width of total."""
    same_width(a, b)
    n = len(a)
    if len(total) != n + 1:
        raise ConfigError(f"a total of {len(total)} wires: the sum of operands of {n} wires needs {n + 1}")
    for i in range(n):
        builder.toffoli(a[i], b[i], total[i + 1])
    for i in range(1, n):
        builder.cnot(a[i], b[i])
    with builder.ancillas(tree_ancillas(n)) as tree:
        for gate in carry_tree(b, total[1:], tree):
            builder.toffoli(*gate)
    for i in range(n):
        builder.cnot(b[i], total[i])
    builder.cnot(a[0], total[0])
    for i in range(1, n):
        builder.cnot(a[i], b[i])


def lookahead_in_place(builder: Builder, a: Wires, b: Wires, carry: Wires) -> None:
    """b += a and carry = the carry out, which was 0; a kept.

    The carries stand on ancillas, and are unmade by the sum s: a + ~s has the carries of a + b.
    """
    same_width(a, b)
    n = len(a)
    with builder.ancillas(n - 1) as inner, builder.ancillas(tree_ancillas(n)) as tree:
        outs = inner + carry
        for i in range(n):
            builder.toffoli(a[i], b[i], outs[i])
            builder.cnot(a[i], b[i])
        for gate in carry_tree(b, outs, tree):
            builder.toffoli(*gate)
        for i in range(1, n):
            builder.cnot(outs[i - 1], b[i])
        _unmake_carries(builder, a[:-1], b[:-1], inner, tree)


def _unmake_carries(builder: Builder, a: Wires, sums: Wires, outs: Wires, tree: Wires) -> None:
    """Return `outs`, the carries out of these bits, to 0."""
    for wire in sums:
        builder.invert(wire)
    for i in range(1, len(sums)):
        builder.cnot(a[i], sums[i])
    for gate in reversed(carry_tree(sums, outs, tree)):
        builder.toffoli(*gate)
    for i in range(1, len(sums)):
        builder.cnot(a[i], sums[i])
    for i in range(len(sums)):
        builder.toffoli(a[i], sums[i], outs[i])
        builder.invert(sums[i])


def tree_ancillas(n: int) -> int:
    """Blocks of 2, 4, 8, ... bits whose propagation the tree for n bits keeps: n - popcount(n) - floor(log2 n)."""
    return n - n.bit_count() - (n.bit_length() - 1)


def carry_tree(propagates: Wires, outs: Wires, tree: Wires) -> Ands:
    """The gates that turn `outs` from what each bit generates into the carry out of each bit; `tree` is 0 around them.

    `propagates` holds a ^ b for each bit but the first, whose value is not used.
    """
    n = len(propagates)
    rounds, blocks = [propagates], list(tree)  # rounds[t][i]: whether the block of 2^t bits number i propagates
    making: Ands = []
    for t in range(1, n.bit_length() - 1):
        below = rounds[-1]
        made = {i: blocks.pop() for i in range(1, n >> t)}
        making += [(below[2 * i], below[2 * i + 1], wire) for i, wire in made.items()]
        rounds.append(tuple(made.get(i, -1) for i in range(n >> t)))
    found: Ands = []
    for t in range(1, n.bit_length()):  # up: the carries out of whole blocks
        half = 1 << (t - 1)
        found += [
            (outs[(i << t) + half - 1], rounds[t - 1][2 * i + 1], outs[(i << t) + 2 * half - 1]) for i in range(n >> t)
        ]
    for t in reversed(range(1, n.bit_length())):  # down: the carries out of lower halves
        half = 1 << (t - 1)
        found += [
            (outs[(i << t) - 1], rounds[t - 1][2 * i], outs[(i << t) + half - 1])
            for i in range(1, ((n - half) >> t) + 1)
        ]
    return making + found + making[::-1]

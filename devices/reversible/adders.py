"""Adders whose carries ripple: b += a in place, a kept.

`a` and `b` have the same number of wires n. Where there is a `carry` wire, it changes by the carry out, so that b and
carry together are a sum modulo 2^(n+1); without it the sum is modulo 2^n. Counts: counts.py.
"""

from __future__ import annotations

from hwsim.devices.reversible.netlist import Builder, Wires
from hwsim.errors import ConfigError

FEWEST_OPTIMISED = 4  # bits, from which on every step of the optimised circuit exists (quant-ph/0410184, recalled)


def cuccaro(builder: Builder, a: Wires, b: Wires, carry: Wires) -> None:
    """Add with one ancilla: a chain of majorities up, and of sums down.

    Source: Cuccaro, Draper, Kutin, Moulton, quant-ph/0410184, section 2 (recalled).
    """
    same_width(a, b)
    with builder.ancillas(1) as zero:
        carries = zero + a[:-1]
        majorities(builder, carries, a, b)
        builder.cnot(a[-1], carry[0])
        for before, a_bit, b_bit in zip(carries[::-1], a[::-1], b[::-1], strict=True):
            builder.toffoli(before, b_bit, a_bit)
            builder.cnot(a_bit, before)
            builder.cnot(before, b_bit)


def majorities(builder: Builder, carries: Wires, a: Wires, b: Wires) -> None:
    """Turn each a into the majority of it, its b and its carry, the carry out; `carries` are (zero, *a[:-1])."""
    for before, a_bit, b_bit in zip(carries, a, b, strict=True):
        builder.cnot(a_bit, b_bit)
        builder.cnot(a_bit, before)
        builder.toffoli(before, b_bit, a_bit)


def cuccaro_optimised(builder: Builder, a: Wires, b: Wires, carry: Wires) -> None:
    """Add with one ancilla in depth 2 n + 4: gates that cancel left out, the rest side by side; n >= 4.

    Raises ConfigError below 4 bits. Source: quant-ph/0410184, section 3 (recalled).
    """
    same_width(a, b)
    n = len(a)
    if n < FEWEST_OPTIMISED:
        raise ConfigError(f"the optimised adder with {n} bits: it needs at least {FEWEST_OPTIMISED}; use cuccaro")
    with builder.ancillas(1) as zero:
        outs = zero + a[1:-1] + carry  # where the carry out of each bit is made
        ins = a[:1] + outs[:-1]  # and where it is read; bit 0 has none, and ands a with b
        for i in range(1, n):
            builder.cnot(a[i], b[i])
        builder.cnot(a[1], outs[0])
        for i in range(n - 1):
            builder.toffoli(ins[i], b[i], outs[i])
            builder.cnot(a[min(i + 2, n - 1)], outs[i + 1])
        builder.toffoli(ins[-1], b[-1], outs[-1])
        for i in range(1, n - 1):
            builder.invert(b[i])
        for i in range(1, n):
            builder.cnot(ins[i], b[i])
        builder.toffoli(ins[-2], b[-2], outs[-2])
        for i in reversed(range(n - 2)):
            builder.toffoli(ins[i], b[i], outs[i])
            builder.cnot(a[i + 2], a[i + 1])
            builder.invert(b[i + 1])
        builder.cnot(a[1], outs[0])
        for a_bit, b_bit in zip(a, b, strict=True):
            builder.cnot(a_bit, b_bit)


def takahashi(builder: Builder, a: Wires, b: Wires, carry: Wires) -> None:
    """Add without an ancilla: each carry is made on the next wire of a.

    Source: Takahashi, Tani, Kunihiro, Quantum Information and Computation 10 (2010) 872: 7 n - 6 gates, no ancilla
    (read); the order of the gates is recalled.
    """
    same_width(a, b)
    chain = a + carry
    for a_bit, b_bit in zip(a[1:], b[1:], strict=True):
        builder.cnot(a_bit, b_bit)
    _shift_up(builder, chain)
    for i, b_bit in enumerate(b):
        builder.toffoli(chain[i], b_bit, chain[i + 1])
    for i in reversed(range(1, len(b))):
        builder.cnot(a[i], b[i])
        builder.toffoli(a[i - 1], b[i - 1], a[i])
    _shift_down(builder, a)
    for a_bit, b_bit in zip(a, b, strict=True):
        builder.cnot(a_bit, b_bit)


def takahashi_modular(builder: Builder, a: Wires, b: Wires) -> None:
    """Add modulo 2^n without an ancilla: `takahashi` less its carry out."""
    same_width(a, b)
    for a_bit, b_bit in zip(a[1:], b[1:], strict=True):
        builder.cnot(a_bit, b_bit)
    _shift_up(builder, a)
    for i in range(len(a) - 1):
        builder.toffoli(a[i], b[i], a[i + 1])
    for i in reversed(range(1, len(a))):
        builder.cnot(a[i], b[i])
        builder.toffoli(a[i - 1], b[i - 1], a[i])
    _shift_down(builder, a)
    for a_bit, b_bit in zip(a, b, strict=True):
        builder.cnot(a_bit, b_bit)


def takahashi_controlled(builder: Builder, control: Wires, a: Wires, b: Wires) -> None:
    """b += control a modulo 2^n without an ancilla: the control stands only in the writes of the sum.

    Where it is 0, the carries are made and unmade, and nothing else happens.
    """
    same_width(a, b)
    (on,) = control
    for a_bit, b_bit in zip(a[1:], b[1:], strict=True):
        builder.cnot(a_bit, b_bit)
    _shift_up(builder, a)
    for i in range(len(a) - 1):
        builder.toffoli(a[i], b[i], a[i + 1])
    for i in reversed(range(1, len(a))):
        builder.toffoli(on, a[i], b[i])
        builder.toffoli(a[i - 1], b[i - 1], a[i])
    _shift_down(builder, a)
    builder.toffoli(on, a[0], b[0])
    for a_bit, b_bit in zip(a[1:], b[1:], strict=True):
        builder.cnot(a_bit, b_bit)


def _shift_up(builder: Builder, chain: Wires) -> None:
    """Add to each wire but the first two the one below it, from the top: sums of neighbours, for the carries."""
    for i in reversed(range(2, len(chain))):
        builder.cnot(chain[i - 1], chain[i])


def _shift_down(builder: Builder, chain: Wires) -> None:
    """Undo `_shift_up`."""
    for i in range(2, len(chain)):
        builder.cnot(chain[i - 1], chain[i])


def vbe(builder: Builder, a: Wires, b: Wires, carry: Wires) -> None:
    """Add with n ancillas, one for each carry in.

    Source: Vedral, Barenco, Ekert, Physical Review A 54 (1996) 147 (recalled).
    """
    same_width(a, b)
    n = len(a)
    with builder.ancillas(n) as carries:
        outs = carries[1:] + carry
        marks = []
        for i in range(n):
            marks.append(builder.mark())
            builder.toffoli(a[i], b[i], outs[i])
            builder.cnot(a[i], b[i])
            builder.toffoli(carries[i], b[i], outs[i])
        marks.append(builder.mark())
        builder.cnot(a[-1], b[-1])
        for i in reversed(range(n)):
            if i < n - 1:
                builder.undo(marks[i], marks[i + 1])
            builder.cnot(a[i], b[i])
            builder.cnot(carries[i], b[i])


def same_width(a: Wires, b: Wires) -> None:
    """Raises ConfigError where two operands have different numbers of wires."""
    if len(a) != len(b):
        raise ConfigError(f"operands of {len(a)} and {len(b)} wires: make them equal; extend the shorter by ancillas")

"""Comparison, subtraction, rectification and rounding: what a neuron needs beside its sum of products."""

from __future__ import annotations

from hwsim.devices.reversible.adders import majorities, same_width, takahashi_modular
from hwsim.devices.reversible.netlist import Builder, Wires
from hwsim.errors import ConfigError


def less(builder: Builder, a: Wires, b: Wires, flag: Wires) -> None:
    """flag ^= (a < b), unsigned; a and b kept; one ancilla.

    It is the carry out of ~a + b, by Cuccaro's majorities, which are undone.
    """
    same_width(a, b)
    with builder.complemented(a), builder.ancillas(1) as zero:
        start = builder.mark()
        majorities(builder, zero + a[:-1], a, b)
        stop = builder.mark()
        builder.cnot(a[-1], flag[0])
        builder.undo(start, stop)


def subtract(builder: Builder, a: Wires, b: Wires) -> None:
    """b -= a modulo 2^n, as ~(~b + a); a kept, no ancilla."""
    with builder.complemented(b):
        takahashi_modular(builder, a, b)


def relu(builder: Builder, x: Wires, y: Wires) -> None:
    """y ^= max(x, 0), for x of n wires in two's complement, kept, and y of n - 1 wires.

    Raises ConfigError for another width of y.
    """
    _one_less(y, x)
    with builder.complemented(x[-1:]):
        for x_bit, y_bit in zip(x[:-1], y, strict=True):
            builder.toffoli(x[-1], x_bit, y_bit)


def relu_in_place(builder: Builder, x: Wires, garbage: Wires) -> None:
    """Leave max(x, 0) on all wires of x but the sign, which stays; the lower bits of a negative x move to `garbage`.

    Garbage has one wire less than x, and was 0: what a rectifier forgets, this one sets aside.
    Raises ConfigError for another width of garbage.
    """
    _one_less(garbage, x)
    for x_bit, spare in zip(x[:-1], garbage, strict=True):
        builder.fredkin(x[-1], x_bit, spare)


def round_half_up(builder: Builder, x: Wires, dropped: int) -> None:
    """Leave floor(x / 2^dropped + 1/2) on the wires of x from `dropped` up; those below keep what makes it reversible.

    x += 2^(dropped - 1) modulo 2^n, on n - dropped - 1 ancillas; the sum wraps where x is within half a step of its
    largest value. Raises ConfigError unless 0 < dropped < n.
    """
    if not 0 < dropped < len(x):
        raise ConfigError(f"rounding away {dropped} of {len(x)} wires: it takes at least 1, and leaves at least 1")
    increment(builder, x[dropped - 1 :])


def increment(builder: Builder, x: Wires) -> None:
    """x += 1 modulo 2^n, for n >= 2, on n - 2 ancillas that hold the carries."""
    n = len(x)
    with builder.ancillas(n - 2) as inner:
        carries = x[:1] + inner  # carries[i] goes into bit i + 1
        for i in range(1, n - 1):
            builder.toffoli(carries[i - 1], x[i], carries[i])
        for i in reversed(range(1, n - 1)):
            builder.cnot(carries[i], x[i + 1])
            builder.toffoli(carries[i - 1], x[i], carries[i])
        builder.cnot(x[0], x[1])
        builder.invert(x[0])


def _one_less(narrow: Wires, x: Wires) -> None:
    if len(narrow) != len(x) - 1:
        raise ConfigError(f"{len(narrow)} wires for the rectified value of {len(x)}: it needs {len(x) - 1}")

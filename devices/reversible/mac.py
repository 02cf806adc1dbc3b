"""Multiply-accumulate: accumulator += w x modulo 2^A, for x unsigned and w in two's complement, n bits each, A >= 2 n.

Five ways to one sum. In `mask`, `controlled` and `product` the weight is in a register; in `constant_x` and `naf` it is
in the wiring, and each weight has a netlist of its own. The top bit of w counts -2^(n-1), so its row is subtracted.
A signed x is made unsigned by inverting its top bit, which adds 2^(n-1); 2^(n-1) times the sum of the weights is then
taken off once per output.
"""

from __future__ import annotations

from hwsim.arrays import Array
from hwsim.devices.reversible.adders import takahashi, takahashi_controlled, takahashi_modular
from hwsim.devices.reversible.netlist import Builder, Netlist, Wires, standalone
from hwsim.errors import ConfigError

FEWEST_BITS = 2  # of a weight: a sign and one more
REGISTER_SCHEMES = ("mask", "ctrl", "product")
WIRED_SCHEMES = ("const_x", "naf")


def mac_netlist(scheme: str, bits: int, accumulator_bits: int, weight: int | None = None) -> Netlist:
    """The netlist of one scheme, with registers x, accumulator and, where the weight is in a register, w.

    Raises ConfigError for an unknown scheme, for a weight where it has a register and none where it has not, and where
    the numbers of bits or the weight are out of range.
    """
    if scheme not in REGISTER_SCHEMES + WIRED_SCHEMES:
        raise ConfigError(f"no MAC scheme {scheme!r}; known: {', '.join(REGISTER_SCHEMES + WIRED_SCHEMES)}")
    if (weight is None) == (scheme in WIRED_SCHEMES):
        wanted = "a weight, which is in its wiring" if weight is None else "no weight: it has a register for it"
        raise ConfigError(f"MAC scheme {scheme!r} takes {wanted}")
    if weight is not None:
        emit = constant_x if scheme == "const_x" else naf
        return standalone(lambda builder, x, accumulator: emit(builder, x, weight, accumulator),
                          x=bits, accumulator=accumulator_bits)  # fmt: skip
    return standalone({"mask": mask, "ctrl": controlled, "product": product}[scheme],
                      x=bits, w=bits, accumulator=accumulator_bits)  # fmt: skip


def mask(builder: Builder, x: Wires, w: Wires, accumulator: Wires) -> None:
    """Row by row: x and a bit of w into ancillas, added, and unmade; A ancillas."""
    check_widths(len(x), len(w), len(accumulator))
    with builder.ancillas(len(accumulator)) as row:
        for i, w_bit in enumerate(w):
            target = accumulator[i:]
            start = builder.mark()
            _and_row(builder, w_bit, x, row)
            stop = builder.mark()
            with builder.complemented(target if i == len(w) - 1 else ()):
                takahashi_modular(builder, row[: len(target)], target)
            builder.undo(start, stop)


def controlled(builder: Builder, x: Wires, w: Wires, accumulator: Wires) -> None:
    """Row by row: x added under the control of a bit of w; A - n ancillas, which extend x by zeros."""
    check_widths(len(x), len(w), len(accumulator))
    with builder.ancillas(len(accumulator) - len(x)) as zeros:
        for i, w_bit in enumerate(w):
            target = accumulator[i:]
            with builder.complemented(target if i == len(w) - 1 else ()):
                takahashi_controlled(builder, (w_bit,), (x + zeros)[: len(target)], target)


def product(builder: Builder, x: Wires, w: Wires, accumulator: Wires) -> None:
    """The product on 2 n ancillas, extended by its sign to A, added, and unmade; 2 n + max(n, A - 2 n) ancillas."""
    check_widths(len(x), len(w), len(accumulator))
    with builder.ancillas(2 * len(x)) as result:
        start = builder.mark()
        multiply(builder, x, w, result)
        stop = builder.mark()
        with builder.ancillas(len(accumulator) - len(result)) as signs:
            for wire in signs:
                builder.cnot(result[-1], wire)
            takahashi_modular(builder, result + signs, accumulator)
            for wire in signs:
                builder.cnot(result[-1], wire)
        builder.undo(start, stop)


def multiply(builder: Builder, x: Wires, w: Wires, result: Wires) -> None:
    """result = w x in two's complement, on 2 n wires that were 0; n ancillas."""
    n = len(x)
    _and_row(builder, w[0], x, result)
    with builder.ancillas(n) as row:
        for i in range(1, n):
            target = result[i : i + n + 1]
            start = builder.mark()
            _and_row(builder, w[i], x, row)
            stop = builder.mark()
            with builder.complemented(target if i == n - 1 else ()):
                takahashi(builder, row, target[:-1], target[-1:])
            builder.undo(start, stop)


def constant_x(builder: Builder, x: Wires, weight: int, accumulator: Wires) -> None:
    """Bit by bit of x: the weight, copied where that bit is 1 onto A ancillas, added, and unmade."""
    check_weight(weight, len(x))
    check_widths(len(x), len(x), len(accumulator))
    with builder.ancillas(len(accumulator)) as row:
        for i, x_bit in enumerate(x):
            target = accumulator[i:]
            ones = [wire for j, wire in enumerate(row[: len(target)]) if weight >> j & 1]
            for wire in ones:
                builder.cnot(x_bit, wire)
            takahashi_modular(builder, row[: len(target)], target)
            for wire in ones:
                builder.cnot(x_bit, wire)


def naf(builder: Builder, x: Wires, weight: int, accumulator: Wires) -> None:
    """Digit by digit of the weight's non-adjacent form: x added or subtracted; A - n ancillas extend x by zeros."""
    check_weight(weight, len(x))
    check_widths(len(x), len(x), len(accumulator))
    nonzero, negative = naf_masks(weight)
    with builder.ancillas(len(accumulator) - len(x)) as zeros:
        for i in range(len(x)):
            target = accumulator[i:]
            if nonzero >> i & 1:
                with builder.complemented(target if negative >> i & 1 else ()):
                    takahashi_modular(builder, (x + zeros)[: len(target)], target)


def naf_masks(weight: Array) -> tuple[Array, Array]:
    """Where the digits -1, 0, 1 of the non-adjacent form of a weight are not 0, and where they are -1, as bit masks.

    Takes integer arrays too. Source: 3 w and w differ next to each digit (Prodinger, Integers 0 (2000) A8, recalled).
    """
    triple = 3 * weight
    return (weight ^ triple) >> 1, (weight & ~triple) >> 1


def check_widths(x_bits: int, w_bits: int, accumulator_bits: int) -> None:
    """Raises ConfigError where a multiply-accumulate of these widths does not exist."""
    if x_bits != w_bits or w_bits < FEWEST_BITS:
        raise ConfigError(f"x of {x_bits} and w of {w_bits} bits: both need the same number, at least {FEWEST_BITS}")
    if accumulator_bits < 2 * w_bits:
        raise ConfigError(
            f"an accumulator of {accumulator_bits} bits for products of {w_bits} by {w_bits}: "
            f"one product takes {2 * w_bits}, a sum of k products log2(k) more"
        )


def check_weight(weight: int, bits: int) -> None:
    """Raises ConfigError where a weight is not in the range of two's complement."""
    if not -(1 << bits - 1) <= weight < 1 << bits - 1:
        raise ConfigError(f"weight {weight} in {bits} bits: allowed are {-(1 << bits - 1)} to {(1 << bits - 1) - 1}")


def _and_row(builder: Builder, w_bit: int, x: Wires, row: Wires) -> None:
    """row ^= x where w_bit is 1, on the first wires of row."""
    for x_bit, row_bit in zip(x, row, strict=False):
        builder.toffoli(w_bit, x_bit, row_bit)

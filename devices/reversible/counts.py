"""What each block takes, in closed form: gates and ancillas by number of bits, and by weight where it is wired in.

A Fredkin gate counts as two CNOTs and a Toffoli, a Peres gate as one of each. All forms hold for n >= 2 bits. They were
derived by counting the loops of adders.py, lookahead.py, blocks.py and mac.py.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hwsim.arrays import Array, Namespace
from hwsim.devices.reversible.lookahead import tree_ancillas
from hwsim.devices.reversible.mac import REGISTER_SCHEMES, check_weight, check_widths, naf_masks
from hwsim.devices.reversible.netlist import Kind, Netlist
from hwsim.errors import ConfigError

MOST_TABLE_BITS = 20  # a table of every weight of so many bits is 40 MiB


class Counts(NamedTuple):
    """Gates by kind, and ancillas: integers, or arrays of them where there is one netlist for each weight."""

    inverters: Array
    cnots: Array
    toffolis: Array
    ancillas: Array


def counted(netlist: Netlist) -> Counts:
    """What a netlist takes."""
    found = netlist.elementary().counts
    return Counts(found[Kind.NOT], found[Kind.CNOT], found[Kind.TOFFOLI], len(netlist.ancillas))


# -- adders ------------------------------------------------------------------------------------------------


def cuccaro(n: int) -> Counts:
    """adders.cuccaro; depth 5 n + 2."""
    return Counts(0, 4 * n + 1, 2 * n, 1)


def cuccaro_optimised(n: int) -> Counts:
    """adders.cuccaro_optimised, n >= 4; depth 2 n + 4."""
    return Counts(2 * n - 4, 5 * n - 3, 2 * n - 1, 1)


def takahashi(n: int) -> Counts:
    """adders.takahashi; depth 5 n - 3."""
    return Counts(0, 5 * n - 5, 2 * n - 1, 0)


def takahashi_modular(n: int) -> Counts:
    """adders.takahashi_modular; depth 5 n - 5."""
    return Counts(0, 5 * n - 6, 2 * n - 2, 0)


def takahashi_controlled(n: int) -> Counts:
    """adders.takahashi_controlled; depth 5 n - 5."""
    return Counts(0, 4 * n - 6, 3 * n - 2, 0)


def vbe(n: int) -> Counts:
    """adders.vbe; depth 6 n."""
    return Counts(0, 4 * n, 4 * n - 2, n)


def lookahead(n: int) -> Counts:
    """lookahead.lookahead: 5 n - 3 popcount(n) - 3 floor(log2 n) - 1 Toffolis."""
    return Counts(0, 3 * n - 1, n + _tree_toffolis(n), tree_ancillas(n))


def lookahead_in_place(n: int) -> Counts:
    """lookahead.lookahead_in_place: one tree to make the carries, one of n - 1 bits to unmake them."""
    toffolis = n + _tree_toffolis(n) + _tree_toffolis(n - 1) + n - 1
    return Counts(2 * (n - 1), 4 * n - 5, toffolis, n - 1 + tree_ancillas(n))


def _tree_toffolis(n: int) -> int:
    """Gates of lookahead.carry_tree: its ancillas made and unmade, n - popcount(n) up, n - floor(log2 n) - 1 down."""
    return 4 * n - 3 * n.bit_count() - 3 * (n.bit_length() - 1) - 1


# -- blocks ------------------------------------------------------------------------------------------------


def less(n: int) -> Counts:
    """blocks.less."""
    return Counts(2 * n, 4 * n + 1, 2 * n, 1)


def subtract(n: int) -> Counts:
    """blocks.subtract."""
    return takahashi_modular(n)._replace(inverters=2 * n)


def relu(n: int) -> Counts:
    """blocks.relu."""
    return Counts(2, 0, n - 1, 0)


def relu_in_place(n: int) -> Counts:
    """blocks.relu_in_place."""
    return Counts(0, 2 * (n - 1), n - 1, 0)


def round_half_up(n: int, dropped: int) -> Counts:
    """blocks.round_half_up: an increment of the n - dropped + 1 upper wires."""
    wires = n - dropped + 1
    return Counts(1, wires - 1, 2 * (wires - 2), wires - 2)


# -- multiply-accumulate -----------------------------------------------------------------------------------


def mac(scheme: str, bits: int, accumulator_bits: int) -> Counts:
    """mac.mac_netlist of a scheme whose weight is in a register.

    Raises ConfigError for another scheme, and for numbers of bits that it does not take.
    """
    check_widths(bits, bits, accumulator_bits)
    n, wide = bits, accumulator_bits
    rows = _rows(n, wide)
    if scheme == "mask":
        return Counts(2 * (wide - n + 1), 5 * rows - 6 * n, 2 * n * n + 2 * rows - 2 * n, wide)
    if scheme == "ctrl":
        return Counts(2 * (wide - n + 1), 4 * rows - 6 * n, 3 * rows - 2 * n, wide - n)
    if scheme == "product":
        cnots = 2 * (n - 1) * (5 * n - 5) + 5 * wide - 6 + 2 * (wide - 2 * n)
        toffolis = 2 * (n + (n - 1) * (4 * n - 1)) + 2 * wide - 2
        return Counts(4 * (n + 1), cnots, toffolis, 2 * n + max(n, wide - 2 * n))
    raise ConfigError(f"no counts by size for MAC scheme {scheme!r}: {', '.join(REGISTER_SCHEMES)} have them")


def controlled_depth(bits: int, accumulator_bits: int) -> int:
    """Levels of the ctrl netlist: its additions one after the other, and the inverters of the last."""
    check_widths(bits, bits, accumulator_bits)
    return 5 * _rows(bits, accumulator_bits) - 5 * bits + 2


def constant_x(weight: int, bits: int, accumulator_bits: int) -> Counts:
    """mac.constant_x of one weight."""
    check_weight(weight, bits)
    check_widths(bits, bits, accumulator_bits)
    rows = _rows(bits, accumulator_bits)
    ones = sum((weight % (1 << (accumulator_bits - i))).bit_count() for i in range(bits))
    return Counts(0, 5 * rows - 6 * bits + 2 * ones, 2 * rows - 2 * bits, accumulator_bits)


def naf(xp: Namespace, w: Array, bits: int, accumulator_bits: int) -> Counts:
    """mac.naf of each weight: integer arrays like w [...].

    Raises ConfigError where weights are not integers or out of the range of `bits`.
    """
    codes, tables = _codes(xp, w, bits), _naf_tables(bits, accumulator_bits)
    inverters, cnots, toffolis = (xp.asarray(table)[codes] for table in tables[:3])
    return Counts(inverters, cnots, toffolis, xp.full(w.shape, accumulator_bits - bits))


def naf_depth(xp: Namespace, w: Array, bits: int, accumulator_bits: int) -> Array:
    """Levels of mac.naf of each weight: its additions one after the other, two more for each subtraction."""
    return xp.asarray(_naf_tables(bits, accumulator_bits)[3])[_codes(xp, w, bits)]


def _rows(bits: int, accumulator_bits: int) -> int:
    """Wires of all additions of a MAC: the accumulator from bit 0, 1, ..., n - 1 up."""
    return bits * accumulator_bits - bits * (bits - 1) // 2


def _codes(xp: Namespace, w: Array, bits: int) -> Array:
    """Weights modulo 2^bits, by which the tables are indexed."""
    if w.dtype.kind not in "iu":
        raise ConfigError(f"weights of type {w.dtype}: give integers, the fixed-point weights themselves")
    if w.size:
        check_weight(int(w.min()), bits)
        check_weight(int(w.max()), bits)
    return w.astype(xp.int64) & ((1 << bits) - 1)


@cache
def _naf_tables(bits: int, accumulator_bits: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Inverters, CNOTs, Toffolis and depth of mac.naf, [2^bits] each, by the weight modulo 2^bits."""
    check_widths(bits, bits, accumulator_bits)
    if bits > MOST_TABLE_BITS:
        raise ConfigError(f"NAF counts of weights of {bits} bits: the table reaches {MOST_TABLE_BITS}")
    codes = np.arange(1 << bits)
    weights = codes - ((codes >> (bits - 1)) << bits)
    nonzero, negative = naf_masks(weights)
    inverters, cnots, toffolis, depth = (np.zeros(len(codes), np.int64) for _ in range(4))
    for i in range(bits):
        wires = accumulator_bits - i
        adder = takahashi_modular(wires)
        used, subtracted = nonzero >> i & 1, negative >> i & 1
        inverters += subtracted * 2 * wires
        cnots += used * adder.cnots
        toffolis += used * adder.toffolis
        depth += used * (5 * wires - 5) + 2 * subtracted
    return inverters, cnots, toffolis, depth

"""Pieces of work on a reversible machine: scheduled netlists, how often they run, and how many can run at once."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hwsim.arrays import Array, Namespace, to_host
from hwsim.devices.reversible import counts
from hwsim.devices.reversible.adders import takahashi_modular
from hwsim.devices.reversible.blocks import less
from hwsim.devices.reversible.energy import Schedule
from hwsim.devices.reversible.mac import WIRED_SCHEMES, mac_netlist
from hwsim.devices.reversible.netlist import Netlist, standalone

Weights = npt.NDArray[np.int64]  # how many there are of each code


class Block(NamedTuple):
    """A netlist that runs many times."""

    runs: float
    schedule: Schedule
    together: float  # runs that do not wait for each other
    netlists: float = 0  # built for these runs alone, as those of wired-in weights are; 0: units run them
    deepest: float = 0  # levels of the one of these netlists that takes longest
    staying_bits: float = 0  # of each result, which stays where it was formed until all are
    due_bits: float = 0  # of inputs, for each result, which come when it is due and go with it


class Macs(NamedTuple):
    """The multiply-accumulates of a product: all alike, or, where weights are wired in, of many kinds."""

    mean: Schedule
    deepest: float  # levels of the one that takes longest


class Work(NamedTuple):
    """What an operation consists of."""

    blocks: tuple[Block, ...] = ()
    waiting_bits: float = 0  # of inputs, held outside the units until the operation is over
    erased_bits: float = 0
    rewired: float = 0  # weights whose netlist is made anew
    converted: float = 0  # values of the host that become integers, or integers that become such values


def of_netlist(netlist: Netlist) -> Schedule:
    """A netlist, counted and scheduled."""
    found = counts.counted(netlist)
    return Schedule(found.inverters, found.cnots, found.toffolis, netlist.width, netlist.elementary().depth)


@cache
def copy(wires: int) -> Schedule:
    """A register of `wires` copied onto one that is 0, or a copy cleared by its original."""
    return Schedule(0, wires, 0, 2 * wires, 1)


@cache
def add(wires: int) -> Schedule:
    """One register added to another."""
    return of_netlist(standalone(takahashi_modular, a=wires, b=wires))


@cache
def compare(wires: int) -> Schedule:
    """Two registers compared."""
    return of_netlist(standalone(less, a=wires, b=wires, flag=1))


@cache
def multiply(scheme: str, bits: int, accumulator_bits: int) -> Schedule:
    """A multiply-accumulate whose weight is in a register."""
    found = counts.mac(scheme, bits, accumulator_bits)
    if scheme == "ctrl":
        depth = counts.controlled_depth(bits, accumulator_bits)
    else:
        depth = mac_netlist(scheme, bits, accumulator_bits).depth
    wires = 2 * bits + accumulator_bits + found.ancillas
    return Schedule(found.inverters, found.cnots, found.toffolis, wires, depth)


def histogram(xp: Namespace, integers: Array, bits: int) -> Weights:
    """How many weights have each of the 2^bits codes, in the order of 0, 1, ..., -2, -1."""
    return to_host(xp.bincount(integers.reshape(-1).astype(xp.int64) & ((1 << bits) - 1), minlength=1 << bits))


@cache
def _wired_table(bits: int, accumulator_bits: int) -> npt.NDArray[np.int64]:
    """Inverters, CNOTs, Toffolis and levels, [4, 2^bits], of every weight's netlist in the order of `histogram`."""
    weights = np.arange(1 << bits)
    weights -= (weights >> (bits - 1)) << bits
    found = counts.naf(np, weights, bits, accumulator_bits)
    depth = counts.naf_depth(np, weights, bits, accumulator_bits)
    return np.stack([found.inverters, found.cnots, found.toffolis, depth])


def wired(weights: Weights, bits: int, accumulator_bits: int) -> Macs:
    """The naf netlists of so many weights of each code; their mean is exact, as all of them have the same wires."""
    table = _wired_table(bits, accumulator_bits)
    inverters, cnots, toffolis, depth = map(float, table @ weights / weights.sum())
    return Macs(Schedule(inverters, cnots, toffolis, 2 * accumulator_bits, depth), float(table[3][weights > 0].max()))


@cache
def expected(scheme: str, bits: int, accumulator_bits: int) -> Macs:
    """Multiply-accumulates; where weights are wired in, one of each weight that there is."""
    if scheme in WIRED_SCHEMES:
        return wired(np.ones(1 << bits, np.int64), bits, accumulator_bits)
    alike = multiply(scheme, bits, accumulator_bits)
    return Macs(alike, alike.depth)


def with_operands(scheme: str, macs: Macs, bits: int, accumulator_bits: int) -> Macs:
    """Multiply-accumulates to which operands come from a neighbour by copying, and whose copies are cleared after it.

    x comes, and as weight and accumulator cannot both stay through a product of matrices, one of the two: the weight,
    or, where that is in the wiring, the accumulator, from the netlist of one weight to that of the next.
    """
    moved = accumulator_bits if scheme in WIRED_SCHEMES else bits
    mean = macs.mean._replace(cnots=macs.mean.cnots + 2 * (bits + moved), depth=macs.mean.depth + 2)
    return Macs(mean, macs.deepest + 2)

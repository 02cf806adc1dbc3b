"""Runs netlists on bit slices: every gate is one or two operations on words of 64 lanes each.

A state [wires, words] of uint64 holds what is on each wire (slices.py). Two engines give equal bits: NumPy, gate after
gate over a chunk of words, and Numba, the whole program over a block of words that the first-level cache holds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hwsim.devices.reversible.netlist import Kind, Netlist
from hwsim.devices.reversible.slices import Slices, Values, pack, unpack
from hwsim.errors import ConfigError, ShapeError

Integers = npt.NDArray[np.int64]
CHUNK = 2048  # words at a time on NumPy: 64 wires of them are 1 MiB, about a second-level cache
FEW_WORDS = 256  # so few go by NumPy: a MAC takes it 1 ms; to load Numba takes 0.3 s, to compile seconds (measured)


class Faults(NamedTuple):
    """Bits that flip: state[wire, word] ^= mask after gate number `gate`; entries with equal places add up."""

    gate: Integers
    wire: Integers
    word: Integers
    mask: npt.NDArray[np.uint64]


NONE = np.zeros(0, np.int64)
NO_FAULTS = Faults(NONE, NONE, NONE, NONE.astype(np.uint64))


def load(netlist: Netlist, **values: npt.NDArray[Any]) -> Slices:
    """A state with these values [lanes] in registers; the other registers, and all ancillas, are 0.

    Raises ConfigError for a register that the netlist lacks, ShapeError where the numbers of lanes differ.
    """
    unknown = set(values) - set(netlist.registers)
    if unknown or not values:
        raise ConfigError(f"registers {sorted(values)} to load: allowed are {', '.join(netlist.registers)}")
    lanes = {name: len(given) for name, given in values.items()}
    if len(set(lanes.values())) > 1:
        raise ShapeError(f"registers of {lanes} lanes: all need the same number")
    slices = {name: pack(given, len(netlist.registers[name])) for name, given in values.items()}
    state = np.zeros((netlist.width, next(iter(slices.values())).shape[1]), np.uint64)
    for name, rows in slices.items():
        state[list(netlist.registers[name])] = rows
    return state


def read(netlist: Netlist, state: Slices, register: str, lanes: int, *, signed: bool = False) -> Values:
    """The values [lanes] in a register."""
    return unpack(state[list(netlist.registers[register])], lanes, signed=signed)


def simulate(netlist: Netlist, state: Slices, faults: Faults = NO_FAULTS, threads: int = 1) -> None:
    """Run a netlist on a state in place, by NumPy on few words and by Numba on many.

    Raises ShapeError for a state of another number of wires or type, ConfigError for faults in places it does not have.
    """
    if state.shape[-1] > FEW_WORDS:
        simulate_numba(netlist, state, faults, threads)
    else:
        simulate_numpy(netlist, state, faults)


def simulate_numpy(netlist: Netlist, state: Slices, faults: Faults = NO_FAULTS) -> None:
    """Run a netlist on a state in place, gate after gate."""
    _check(netlist, state, faults)
    gates = netlist.program.tolist()
    for start in range(0, state.shape[1], CHUNK):
        part = state[:, start : start + CHUNK]
        rows, spare = list(part), np.empty(part.shape[1], np.uint64)
        at, flips = _by_gate(faults, start, len(gates))
        for i, (kind, first, second, target) in enumerate(gates):
            GATES[kind](rows[first], rows[second], rows[target], spare)
            if at[i] < at[i + 1]:
                wire, word, mask = (column[at[i] : at[i + 1]] for column in flips)
                np.bitwise_xor.at(part, (wire, word), mask)


def simulate_numba(netlist: Netlist, state: Slices, faults: Faults = NO_FAULTS, threads: int = 1) -> None:
    """Run a netlist on a state in place, block after block, the blocks shared among threads."""
    _check(netlist, state, faults)
    from hwsim.devices.reversible import kernels

    words, size = state.shape[1], kernels.BLOCK
    blocks = -(-words // size)
    order = np.lexsort((faults.gate, faults.word // size))
    starts = np.searchsorted(faults.word[order] // size, np.arange(blocks + 1))
    ordered = [column[order] for column in faults]

    def work(begin: int, end: int) -> None:
        kernels.run(netlist.program, state, begin, end, starts, *ordered)

    cuts = [blocks * i // threads for i in range(threads + 1)]
    if threads == 1:
        work(0, blocks)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, cuts[:-1], cuts[1:]))


def _by_gate(faults: Faults, start: int, gates: int) -> tuple[list[int], tuple[Any, Any, Any]]:
    """Where the flips of each gate begin, and the flips themselves, of the chunk that begins at word `start`."""
    here = np.flatnonzero((faults.word >= start) & (faults.word < start + CHUNK))
    order = here[np.argsort(faults.gate[here], kind="stable")]
    at = np.searchsorted(faults.gate[order], np.arange(gates + 1)).tolist()
    return at, (faults.wire[order], faults.word[order] - start, faults.mask[order])


def _check(netlist: Netlist, state: Slices, faults: Faults) -> None:
    if state.ndim != 2 or len(state) != netlist.width or state.dtype != np.uint64:
        raise ShapeError(
            f"a state of shape {state.shape} and type {state.dtype}: this netlist needs [{netlist.width}, words] of "
            "uint64; load() makes one"
        )
    for name, places, end in zip(
        ("gates", "wires", "words"), faults, (len(netlist.program), *state.shape), strict=False
    ):
        if len(places) and not (places.min() >= 0 and places.max() < end):
            raise ConfigError(f"faults at {name} {places.min()} to {places.max()}: there are 0 to {end - 1}")


# -- gates on rows of words: first, second, target, and a row to spare --------------------------------------


def _not(first: Slices, second: Slices, target: Slices, spare: Slices) -> None:
    np.invert(target, out=target)


def _cnot(first: Slices, second: Slices, target: Slices, spare: Slices) -> None:
    np.bitwise_xor(target, first, out=target)


def _toffoli(first: Slices, second: Slices, target: Slices, spare: Slices) -> None:
    np.bitwise_and(first, second, out=spare)
    np.bitwise_xor(target, spare, out=target)


def _fredkin(first: Slices, second: Slices, target: Slices, spare: Slices) -> None:
    np.bitwise_xor(second, target, out=spare)
    np.bitwise_and(spare, first, out=spare)
    np.bitwise_xor(second, spare, out=second)
    np.bitwise_xor(target, spare, out=target)


def _peres(first: Slices, second: Slices, target: Slices, spare: Slices) -> None:
    _toffoli(first, second, target, spare)
    np.bitwise_xor(second, first, out=second)


def _peres_inverse(first: Slices, second: Slices, target: Slices, spare: Slices) -> None:
    np.bitwise_xor(second, first, out=second)
    _toffoli(first, second, target, spare)


GATES: dict[int, Callable[[Slices, Slices, Slices, Slices], None]] = {
    Kind.NOT: _not,
    Kind.CNOT: _cnot,
    Kind.TOFFOLI: _toffoli,
    Kind.FREDKIN: _fredkin,
    Kind.PERES: _peres,
    Kind.PERES_INVERSE: _peres_inverse,
}

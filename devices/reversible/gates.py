"""Products by running netlists: every gate of every multiply-accumulate, or of sampled ones, compared with integers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hwsim.devices.reversible import counts
from hwsim.devices.reversible.mac import REGISTER_SCHEMES, WIRED_SCHEMES, mac_netlist
from hwsim.devices.reversible.netlist import Netlist
from hwsim.devices.reversible.simulate import load, read, simulate
from hwsim.devices.reversible.slices import Slices, pack
from hwsim.errors import HwsimError

Integers = npt.NDArray[np.int64]
KEPT = 1024  # netlists: all of 8-bit weights for four widths of accumulators, some 10 MB


class MismatchError(HwsimError):
    """A netlist and integer arithmetic disagree, or a netlist left behind what it should not."""


@lru_cache(KEPT)
def netlist(scheme: str, bits: int, accumulator_bits: int, weight: int | None = None) -> Netlist:
    """The netlist of a multiply-accumulate, its gates counted and compared with the closed form.

    Raises MismatchError where they differ.
    """
    made = mac_netlist(scheme, bits, accumulator_bits, weight)
    if weight is None:
        wanted = counts.mac(scheme, bits, accumulator_bits)
    else:
        wanted = counts.Counts(*(int(c[0]) for c in counts.naf(np, np.array([weight]), bits, accumulator_bits)))
    if counts.counted(made) != wanted:
        raise MismatchError(f"{scheme} of {bits} bits: counted {counts.counted(made)}, by closed form {wanted}")
    return made


def product(scheme: str, x: Integers, w: Integers, bits: int, accumulator_bits: int) -> Integers:
    """x [m, k] @ w [k, n] by m n accumulators, which take one product after the other, every gate of it run.

    Raises MismatchError where an ancilla is not 0 after a product, or an operand has changed.
    """
    sums = np.repeat(offsets(w, bits)[None], len(x), axis=0)
    accumulate = _by_registers if scheme in REGISTER_SCHEMES else _by_weights
    accumulate(scheme, unsigned(x, bits), w, bits, sums, accumulator_bits)
    return sums


def offsets(w: Integers, bits: int) -> Integers:
    """Where the accumulators [n] of products with w [k, n] start, as every x comes in larger by 2^(bits - 1)."""
    start: Integers = -(w.sum(axis=0) << bits - 1)
    return start


def unsigned(x: Integers, bits: int) -> Integers:
    """x with its top bit inverted, read as unsigned: x + 2^(bits - 1)."""
    return x + (1 << bits - 1)


def _by_registers(scheme: str, x: Integers, w: Integers, bits: int, sums: Integers, accumulator_bits: int) -> None:
    """Accumulators stay in their slices while the operands of one product after the other come in beside them."""
    (m, k), n = x.shape, w.shape[1]
    made = netlist(scheme, bits, accumulator_bits)
    state = load(made, accumulator=sums.reshape(-1))
    for j in range(k):
        operands = {"x": pack(np.repeat(x[:, j], n), bits), "w": pack(np.tile(w[j], m), bits)}
        _run(made, state, operands)
    sums[...] = read(made, state, "accumulator", m * n, signed=True).reshape(m, n)


def _by_weights(scheme: str, x: Integers, w: Integers, bits: int, sums: Integers, accumulator_bits: int) -> None:
    """All accumulators whose next weight is the same run its netlist together."""
    for j, row in enumerate(w):
        for weight in np.unique(row).tolist():
            columns = np.flatnonzero(row == weight)
            made = netlist(scheme, bits, accumulator_bits, weight)
            state = load(made, accumulator=sums[:, columns].reshape(-1))
            _run(made, state, {"x": pack(np.repeat(x[:, j], len(columns)), bits)})
            done = read(made, state, "accumulator", len(x) * len(columns), signed=True)
            sums[:, columns] = done.reshape(len(x), -1)


def _run(made: Netlist, state: Slices, operands: dict[str, Slices]) -> None:
    """One product in every lane."""
    for name, rows in operands.items():
        state[list(made.registers[name])] = rows
    simulate(made, state)
    for name, rows in operands.items():
        if not np.array_equal(state[list(made.registers[name])], rows):
            raise MismatchError(f"operand {name} of a multiply-accumulate has changed")
    if state[list(made.ancillas)].any():
        raise MismatchError("an ancilla of a multiply-accumulate is not 0 after it")


def check(
    scheme: str, x: Integers, w: Integers, result: Any, bits: int, accumulator_bits: int, rng: np.random.Generator
) -> None:
    """Compare sampled multiply-accumulates of result [m, n] = x [m, k] @ w [k, n] with their netlists, both ways.

    Of a scheme whose weights are in registers one output, each of its k accumulations; of a wired-in one, for whose
    every weight there is another netlist, a single one. Raises MismatchError for a value, a count, an ancilla or an
    operand that is not what it should be, or where the inverse does not lead back.
    """
    row, column = int(rng.integers(result.shape[0])), int(rng.integers(result.shape[1]))
    x, w = unsigned(x[row], bits), w[:, column]
    sums = np.cumsum(np.concatenate((offsets(w[:, None], bits), x * w)))
    if int(result[row, column]) != sums[-1]:
        raise MismatchError(f"product of {len(w)} terms: {int(result[row, column])}, by integers {sums[-1]}")
    if scheme in WIRED_SCHEMES:
        j = int(rng.integers(len(w)))
        made = netlist(scheme, bits, accumulator_bits, int(w[j]))
        _there_and_back(made, {"x": x[j : j + 1]}, sums[j : j + 1], sums[j + 1 : j + 2])
    else:
        _there_and_back(netlist(scheme, bits, accumulator_bits), {"x": x, "w": w}, sums[:-1], sums[1:])


def _there_and_back(made: Netlist, operands: dict[str, Integers], before: Integers, after: Integers) -> None:
    start = load(made, **operands, accumulator=before)
    state = start.copy()
    _run(made, state, {name: start[list(made.registers[name])] for name in operands})
    found = read(made, state, "accumulator", len(after), signed=True)
    if not np.array_equal(found, after):
        raise MismatchError(f"accumulators {found.tolist()[:4]} by the netlist, {after.tolist()[:4]} by integers")
    simulate(made.inverse(), state)
    if not np.array_equal(state, start):
        raise MismatchError("the inverse of a multiply-accumulate does not lead back to where it started")

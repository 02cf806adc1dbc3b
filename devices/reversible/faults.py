"""Bit flips after gates, and how many of them show: in an ancilla that is not 0, or an operand that has changed.

A netlist is one to one. So a single flip always changes what comes out, and one that neither shows in an ancilla nor in
an operand has changed the result: to look at them is a detector that costs no gate, but a partial one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hwsim.devices.reversible.netlist import Kind, Netlist
from hwsim.devices.reversible.simulate import Faults, load, simulate
from hwsim.devices.reversible.slices import LANES, Slices, pack
from hwsim.errors import ConfigError

WRITTEN = {  # of first, second, target: the wires that a gate of this kind may change
    Kind.NOT: (2,),
    Kind.CNOT: (2,),
    Kind.TOFFOLI: (2,),
    Kind.FREDKIN: (1, 2),
    Kind.PERES: (1, 2),
    Kind.PERES_INVERSE: (1, 2),
}


class Detection(NamedTuple):
    """How many of `lanes` runs had a wrong result, showed a fault, or had a wrong result and showed nothing."""

    lanes: int
    wrong: int
    flagged: int
    silent: int

    @property
    def flagged_share(self) -> float:
        """Share of all runs in which an ancilla or an operand shows a fault."""
        return self.flagged / self.lanes


def sites(netlist: Netlist) -> npt.NDArray[np.int64]:
    """Where one gate may fail, [sites, 2]: its number, and a wire that it writes."""
    return np.array(
        [(i, gate[1 + place]) for i, gate in enumerate(netlist.program.tolist()) for place in WRITTEN[Kind(gate[0])]],
        dtype=np.int64,
    ).reshape(-1, 2)


def one_each(netlist: Netlist, repeats: int) -> tuple[Faults, int]:
    """One flip in each lane, so that every site has one in `repeats` lanes; and the number of lanes."""
    chosen = np.tile(sites(netlist), (repeats, 1))
    return _flips(chosen, np.arange(len(chosen))), len(chosen)


def at_random(netlist: Netlist, lanes: int, probability: float, rng: np.random.Generator) -> Faults:
    """Flips of every site in every lane with one probability, independently of each other.

    Raises ConfigError for a probability outside 0 to 1.
    """
    if not 0 <= probability <= 1:
        raise ConfigError(f"fault probability {probability}: allowed are 0 to 1")
    places = sites(netlist)
    pairs = len(places) * lanes
    chosen = rng.choice(pairs, rng.binomial(pairs, probability), replace=False, shuffle=False)
    return _flips(places[chosen // lanes], chosen % lanes)


def detection(
    netlist: Netlist, values: dict[str, npt.NDArray[Any]], faults: Faults, kept: tuple[str, ...]
) -> Detection:
    """Compare runs with `faults` against runs without, on these values [lanes] of registers.

    `kept` names the operands, which a good netlist restores; every other register is result.
    Raises ConfigError for an operand that the netlist lacks.
    """
    unknown = set(kept) - set(netlist.registers)
    if unknown:
        raise ConfigError(f"operands {sorted(unknown)}: this netlist has {', '.join(netlist.registers)}")
    lanes = len(next(iter(values.values())))
    good, bad = load(netlist, **values), load(netlist, **values)
    simulate(netlist, good)
    simulate(netlist, bad, faults)
    difference = good ^ bad
    operands = [wire for name in kept for wire in netlist.registers[name]]
    results = [wire for name, wires in netlist.registers.items() if name not in kept for wire in wires]
    real = pack(np.ones(lanes, np.int64), 1)[0]
    wrong = _any(difference, results) & real
    flagged = _any(difference, [*operands, *netlist.ancillas]) & real
    wrongs, flags, silent = (int(np.bitwise_count(words).sum()) for words in (wrong, flagged, wrong & ~flagged))
    return Detection(lanes, wrongs, flags, silent)


def _any(difference: Slices, wires: list[int]) -> Slices:
    """Words [words] whose bits say in which lanes any of these wires differs."""
    found: Slices = np.bitwise_or.reduce(difference[wires], axis=0)
    return found


def _flips(places: npt.NDArray[np.int64], lane: npt.NDArray[np.int64]) -> Faults:
    mask = np.uint64(1) << (lane % LANES).astype(np.uint64)
    return Faults(places[:, 0], places[:, 1], lane // LANES, mask)

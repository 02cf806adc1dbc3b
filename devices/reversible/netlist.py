"""Reversible netlists: gates on wires, their inverse, their counts and their schedule as soon as possible.

Registers are little-endian: wire 0 of a register is its least significant bit. Signed registers hold two's complement,
so that every sum is a sum modulo 2^(number of wires). An ancilla is 0 before a netlist and 0 after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hwsim.errors import ConfigError

Wires = tuple[int, ...]
Program = npt.NDArray[np.int32]  # [gates, 4]: kind and three wires; see Kind
ABSENT = -1  # in place of a wire that a gate does not have


class Kind(IntEnum):
    """What a gate does to its wires (first, second, target), those that it has."""

    NOT = 0  # target ^= 1
    CNOT = 1  # target ^= first
    TOFFOLI = 2  # target ^= first second
    FREDKIN = 3  # first ? second <-> target
    PERES = 4  # target ^= first second, then second ^= first
    PERES_INVERSE = 5  # second ^= first, then target ^= first second


INVERSE = {kind: kind for kind in Kind} | {Kind.PERES: Kind.PERES_INVERSE, Kind.PERES_INVERSE: Kind.PERES}
Gate = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Netlist:
    """Gates in order, on `width` wires, each of which belongs to one register or is an ancilla."""

    program: Program
    registers: Mapping[str, Wires]
    ancillas: Wires

    @property
    def width(self) -> int:
        """Wires, ancillas included."""
        return sum(map(len, self.registers.values())) + len(self.ancillas)

    @cached_property
    def counts(self) -> dict[Kind, int]:
        """Gates of each kind."""
        found = np.bincount(self.program[:, 0], minlength=len(Kind))
        return {kind: int(found[kind]) for kind in Kind}

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """The level, from 1, at which each gate runs as soon as possible; a wire takes part in one gate a level."""
        ready = [0] * (self.width + 1)  # the last entry, which ABSENT points to, stays 0
        found = []
        for _, first, second, target in self.program.tolist():
            level = max(ready[first], ready[second], ready[target]) + 1
            ready[first] = ready[second] = ready[target] = level
            ready[ABSENT] = 0
            found.append(level)
        return tuple(found)

    @property
    def depth(self) -> int:
        """Levels of the schedule as soon as possible."""
        return max(self.levels, default=0)

    def inverse(self) -> Netlist:
        """The netlist that undoes this one: the inverse gates, last first."""
        program = self.program[::-1].copy()
        program[:, 0] = np.array([INVERSE[kind] for kind in Kind], dtype=np.int32)[program[:, 0]]
        return Netlist(_read_only(program), self.registers, self.ancillas)

    def elementary(self) -> Netlist:
        """The same function by NOT, CNOT and Toffoli alone: a Fredkin is two CNOTs and a Toffoli, a Peres one each."""
        gates: list[Gate] = []
        for gate in self.program.tolist():
            gates += _expanded(*gate)
        return Netlist(_program(gates), self.registers, self.ancillas)


class Builder:
    """Collects gates; gives out registers, and ancillas that return to a pool."""

    def __init__(self) -> None:
        self._gates: list[Gate] = []
        self._registers: dict[str, Wires] = {}
        self._ancillas: list[int] = []
        self._spare: list[int] = []
        self._width = 0

    def register(self, name: str, wires: int) -> Wires:
        """A new register. Raises ConfigError where the name is taken or `wires` is below 1."""
        if name in self._registers or wires < 1:
            raise ConfigError(f"register {name!r} of {wires} wires: it needs a name of its own and at least 1 wire")
        self._registers[name] = self._new(wires)
        return self._registers[name]

    @contextmanager
    def ancillas(self, count: int) -> Iterator[Wires]:
        """Wires that are 0 and that the caller leaves 0; they serve again after the block."""
        kept = len(self._spare) - min(count, len(self._spare))
        wires = tuple(self._spare[kept:])
        del self._spare[kept:]
        fresh = self._new(count - len(wires))
        self._ancillas += fresh
        wires += fresh
        yield wires
        self._spare += wires

    def invert(self, target: int) -> None:
        """NOT."""
        self._add(Kind.NOT, target)

    def cnot(self, control: int, target: int) -> None:
        """target ^= control."""
        self._add(Kind.CNOT, control, target)

    def toffoli(self, first: int, second: int, target: int) -> None:
        """target ^= first second."""
        self._add(Kind.TOFFOLI, first, second, target)

    def fredkin(self, control: int, first: int, second: int) -> None:
        """Exchange first and second where control is 1."""
        self._add(Kind.FREDKIN, control, first, second)

    def peres(self, first: int, second: int, target: int) -> None:
        """target ^= first second, then second ^= first: a half adder."""
        self._add(Kind.PERES, first, second, target)

    def mark(self) -> int:
        """The place of the next gate, for `undo`."""
        return len(self._gates)

    def undo(self, start: int, stop: int) -> None:
        """Add the inverse of the gates from mark `start` up to mark `stop`."""
        made = reversed(self._gates[start:stop])
        self._gates += [(INVERSE[Kind(kind)], first, second, target) for kind, first, second, target in made]

    @contextmanager
    def complemented(self, wires: Wires) -> Iterator[None]:
        """Invert `wires` before and after the block: what is added to them inside is subtracted."""
        for wire in wires:
            self.invert(wire)
        yield
        for wire in wires:
            self.invert(wire)

    def build(self) -> Netlist:
        """The netlist so far."""
        return Netlist(_program(self._gates), dict(self._registers), tuple(self._ancillas))

    def _new(self, wires: int) -> Wires:
        self._width += wires
        return tuple(range(self._width - wires, self._width))

    def _add(self, kind: Kind, *wires: int) -> None:
        if len(set(wires)) < len(wires) or min(wires) < 0 or max(wires) >= self._width:
            raise ConfigError(f"{kind.name} on wires {wires}: they must differ and lie in 0 to {self._width - 1}")
        *controls, target = wires
        first, second = (*controls, ABSENT, ABSENT)[:2]
        self._gates.append((kind, first, second, target))


def standalone(emit: Callable[..., None], **wires: int) -> Netlist:
    """The netlist of one block, emit(builder, name=wires of that register, ...), with registers of these sizes."""
    builder = Builder()
    emit(builder, **{name: builder.register(name, count) for name, count in wires.items()})
    return builder.build()


def _expanded(kind: int, first: int, second: int, target: int) -> list[Gate]:
    toffoli = (Kind.TOFFOLI, first, second, target)
    if kind == Kind.FREDKIN:
        around = (Kind.CNOT, target, ABSENT, second)
        return [around, toffoli, around]
    if kind == Kind.PERES:
        return [toffoli, (Kind.CNOT, first, ABSENT, second)]
    if kind == Kind.PERES_INVERSE:
        return [(Kind.CNOT, first, ABSENT, second), toffoli]
    return [(kind, first, second, target)]


def _program(gates: list[Gate]) -> Program:
    return _read_only(np.array(gates, dtype=np.int32).reshape(-1, 4))


def _read_only(program: Program) -> Program:
    program.setflags(write=False)
    return program

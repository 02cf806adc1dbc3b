"""What operations took in a run, for operations of the same layers with other numbers of rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from hwsim.cost import Op, Phase, Product, Use
from hwsim.ledger import Ledger


class Amounts(NamedTuple):
    """Terms of sums over all calls of operations that differ in their rows at most."""

    recorded: list[float]
    expected: list[float]
    sizes: list[float]


class Recorded:
    """The actual counts of a run: of an operation as it was run, itself; else by their ratio to the expected ones."""

    def __init__(self, run: Ledger) -> None:
        self.run = run
        self._amounts: dict[Hashable, dict[str, Amounts]] = defaultdict(dict)
        for cell, counts in run.actual.items():
            calls, uses = run.calls[cell], cell.device.uses(cell.op)
            for name, count in counts.items():
                place = self._amounts[alike(cell.device, cell.op, cell.layer, cell.phase)]
                amounts = place.setdefault(name, Amounts([], [], []))
                amounts.recorded.append(float(count))
                amounts.expected.append(calls * uses[name].actions if name in uses else 0.0)
                amounts.sizes.append(calls * size(cell.op))

    def uses(self, device: Any, op: Op, layer: str, phase: Phase) -> Mapping[str, Use]:
        """What one call takes: as recorded where it was, else as expected."""
        expected, key = device.uses(op), (layer, phase, device, op)
        calls = self.run.calls.get(key)  # type: ignore[call-overload]
        if calls:
            own = self.run.actual.get(key, {})  # type: ignore[call-overload]
            counts = {name: float(count) / calls for name, count in own.items()}
        else:
            found = self._amounts.get(alike(device, op, layer, phase), {})
            counts = {name: scaled(amounts, op, expected.get(name)) for name, amounts in found.items()}
        units = {name: expected[name].units if name in expected else 1.0 for name in counts}
        return {**expected, **{name: Use(count, units[name]) for name, count in counts.items()}}


def scaled(amounts: Amounts, op: Op, expected: Use | None) -> float:
    """The actions of an operation that was not run: expected ones by their ratio, else as many a row as recorded."""
    recorded, foreseen = math.fsum(amounts.recorded), math.fsum(amounts.expected)
    if expected is not None and foreseen:
        return expected.actions * (recorded / foreseen)
    return size(op) * (recorded / math.fsum(amounts.sizes))


def alike(device: Any, op: Op, layer: str, phase: Phase) -> Hashable:
    """What operations have in common that differ in their rows at most."""
    shape = (op.kind, op.k, op.n) if isinstance(op, Product) else (op.name,)
    return device, layer, phase, *shape


def size(op: Op) -> int:
    """What an operation's counts grow with: its rows or values; of what has neither, 1."""
    return (op.stack * op.m if isinstance(op, Product) else op.size) or 1

"""How a fault is entered into the list, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hwsim.cost import Kind, Op, Product, Use
from hwsim.device import Device

Uses = Mapping[str, Use] | None


class Fault(NamedTuple):
    """One planted fault."""

    name: str
    what: str
    make: Callable[[], Device]
    sound: str  # the device string of what was spoilt


FAULTS: list[Fault] = []


def planted(preset: str | None = None, **parameters: Any) -> Callable[[type[Device]], type[Device]]:
    """Enter a class into the list, made from a preset and parameters of the device that it spoils."""

    def enter(cls: type[Device]) -> type[Device]:
        what = f"{cls.name}: {(cls.__doc__ or '').strip()}"
        sound = f"{cls.name}:{preset}" if preset else cls.name
        FAULTS.append(Fault(cls.__name__, what, lambda: cls.create(preset, parameters), sound))
        return cls

    return enter


def is_kind(op: Op, *kinds: Kind) -> bool:
    """Whether an operation is a product of one of these kinds."""
    return isinstance(op, Product) and op.kind in kinds


def scaled(uses: Uses, factor: float) -> Uses:
    """All actions times a factor."""
    return None if uses is None else {name: Use(use.actions * factor, use.units) for name, use in uses.items()}


def times(uses: Uses, **factors: float) -> Uses:
    """The actions of some components times a factor each; what a device does not use it does not gain."""
    return None if uses is None else {
        name: use._replace(actions=use.actions * factors.get(name, 1.0)) for name, use in uses.items()
    }  # fmt: skip


def without(uses: Uses, *names: str) -> Uses:
    """All uses but those of some components."""
    return None if uses is None else {name: use for name, use in uses.items() if name not in names}

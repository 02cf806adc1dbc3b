"""How far a move of the weights is from the step that was asked for."""

from __future__ import annotations

from collections.abc import Callable

from hwsim.contract import Contract
from hwsim.testing.bench import STEP_RMS, HostArray, exact
from hwsim.tile import Tile


def moved(tile: Tile, step: HostArray, move: Callable[[], None]) -> float:
    """Mean square of (read after - read before - step) over that of the step, less what reading alone contributes."""
    again, before = exact(tile.read()), exact(tile.read())
    move()
    after = exact(tile.read())
    reading = ((again - before) ** 2).mean()  # two readings, as there are in after - before
    return float((((after - before - step) ** 2).mean() - reading) / (step**2).mean())


def of_the_step(claim: float, contract: Contract) -> float:
    """A claim for updates relative to the step: a rounding bound is one of the largest weight, 1."""
    return claim / STEP_RMS if contract.rounding_bound else claim

"""What a training run leaves: its history, its ledger, and what it had spent at the end of each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hwsim.cost import STEP_PHASES, Phase
from hwsim.ledger import Interval, Ledger
from hwsim.nn import Network

TRAINING_PHASES = (Phase.SETUP, *STEP_PHASES)  # what energy to a target includes: everything but evaluation
EPOCHS_AT_ONCE = 256  # how many epochs' joules are derived together


@dataclass(frozen=True)
class Epoch:
    """How things stood after an epoch; `energy_j` and `time_s` so far, programming included, evaluation not."""

    epoch: int
    steps: int
    loss: float  # mean over the epoch's steps
    validation_accuracy: float
    energy_j: float
    time_s: float


@dataclass
class Run:
    """A trained network with its history and its ledger."""

    network: Network
    seed: int
    batch: int
    learning_rate: float
    data: str
    data_sha256: str
    test_images: int
    epochs: list[Epoch] = field(default_factory=list)
    test_accuracy: float = math.nan

    @property
    def ledger(self) -> Ledger:
        """What the run asked of its devices."""
        return self.network.ledger

    @property
    def steps(self) -> int:
        """Training steps so far."""
        return self.epochs[-1].steps if self.epochs else 0

    @property
    def validation_accuracy(self) -> float:
        """After the last epoch."""
        return self.epochs[-1].validation_accuracy if self.epochs else math.nan

    @property
    def energy_per_step_j(self) -> float:
        """Forward, backward and update of one step [J]; neither programming nor evaluation."""
        return float(self.ledger.total_j(phases=STEP_PHASES)) / self.steps

    @property
    def time_per_step_s(self) -> float:
        """Serial time of one step [s], an upper bound where operations could overlap."""
        return float(self.ledger.total_s(phases=STEP_PHASES)) / self.steps

    def energy_per_step_interval_j(self) -> Interval:
        """The 90% interval of the energy of one step [J]."""
        low, nominal, high = self.ledger.interval(phases=STEP_PHASES).get((), Interval(0.0, 0.0, 0.0))
        return Interval(low / self.steps, nominal / self.steps, high / self.steps)

    def first_epoch_at(self, accuracy: float) -> Epoch | None:
        """The first epoch whose validation accuracy reaches `accuracy`; None: not reached."""
        return next((epoch for epoch in self.epochs if epoch.validation_accuracy >= accuracy), None)


class Meter:
    """Joules and seconds at the end of each epoch.

    To derive them takes longer than an epoch of a small network. The calls of many epochs are therefore noted and
    derived together, which gives the same bits as one by one: calls times cost, summed by fsum. Counts that depend
    on values are not noted; with such, every epoch is derived when it ends.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.noted: list[tuple[int, dict[Any, int]]] = []  # place among the run's epochs, calls by then

    def note(self) -> None:
        """The last epoch has just ended."""
        ledger, place = self.run.ledger, len(self.run.epochs) - 1
        if not ledger.actual:
            self.noted.append((place, dict(ledger.calls)))
            if len(self.noted) == EPOCHS_AT_ONCE:
                self.settle()
            return
        self.settle()
        energy_j, time_s = ledger.total_j(phases=TRAINING_PHASES), ledger.total_s(phases=TRAINING_PHASES)
        self._enter(place, float(energy_j), float(time_s))

    def settle(self) -> None:
        """Derive what was noted."""
        if not self.noted:
            return
        together = Ledger()
        together.tiles = self.run.ledger.tiles
        for cell in self.run.ledger.calls:
            calls: Any = np.array([noted.get(cell, 0) for _, noted in self.noted])
            together.calls[cell] = calls
        energy_j = _sums(together.energy_rows(phases=TRAINING_PHASES), len(self.noted))
        time_s = _sums(together.time_rows(phases=TRAINING_PHASES), len(self.noted))
        for (place, _), joules, seconds in zip(self.noted, energy_j, time_s, strict=True):
            self._enter(place, joules, seconds)
        self.noted.clear()

    def _enter(self, place: int, energy_j: float, time_s: float) -> None:
        self.run.epochs[place] = replace(self.run.epochs[place], energy_j=energy_j, time_s=time_s)


def _sums(rows: Iterable[tuple[Any, Any]], count: int) -> list[float]:
    """Contributions [count] each, summed by place."""
    values = [value.tolist() for _, value in rows]
    return [math.fsum(column) for column in zip(*values, strict=True)] if values else [0.0] * count

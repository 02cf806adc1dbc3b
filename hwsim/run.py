"""What a training run leaves: its history, its ledger, and what it had spent at the end of each epoch."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.cost import STEP_PHASES, Phase
from hwsim.device import Device
from hwsim.ledger import Interval, Ledger
from hwsim.nn import Network
from hwsim.report.erasure import step_of

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ENERGY_BY, TIME_BY = ("phase", "device", "component", "part"), ("device", "bound_by")  # what a bill tells apart
TRAINING_PHASES = (Phase.SETUP, *STEP_PHASES)  # what energy to a target includes: everything but evaluation


def made_with() -> dict[str, Any]:
    """What equal bits depend on besides the seed: libraries, machine, and threads as the environment sets them."""
    return {
        "hwsim": version("hwsim"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        **{name: os.environ.get(name) for name in THREAD_SETTINGS},
    }


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
    test_accuracy: float = math.nan
    _ended: list[Epoch] = field(default_factory=list, init=False, repr=False)
    _noted: dict[int, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False)
    _tiles: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def ledger(self) -> Ledger:
        """What the run asked of its devices."""
        return self.network.ledger

    def end_epoch(self, epoch: int, steps: int, loss: float, validation_accuracy: float) -> None:
        """Note how things stand.

        To derive joules takes as long as an epoch of a small network, and few runs are asked for those of every
        epoch: the calls by now are kept, and the joules derived when `epochs` is read. Counts that depend on values
        are not kept; with such, they are derived now.
        """
        ledger = self.ledger
        self._ended.append(Epoch(epoch, steps, loss, validation_accuracy, math.nan, math.nan))
        if ledger.actual:
            self._enter(len(self._ended) - 1, ledger)
        else:
            # A ledger only gains cells, at its end: by place, the first so many of them.
            self._noted[len(self._ended) - 1] = np.fromiter(ledger.calls.values(), np.int64, len(ledger.calls))
            self._tiles = dict(ledger.tiles)

    @property
    def epochs(self) -> list[Epoch]:
        """How things stood after each epoch."""
        for place, calls in self._noted.items():
            by_then = Ledger()
            by_then.tiles = self._tiles
            by_then.calls.update(zip(self.ledger.calls, calls.tolist(), strict=False))
            self._enter(place, by_then)
        self._noted.clear()
        return self._ended

    @epochs.setter
    def epochs(self, epochs: list[Epoch]) -> None:
        self._ended = list(epochs)
        self._noted.clear()

    def _enter(self, place: int, ledger: Ledger) -> None:
        energy_j, time_s = ledger.total_j(phases=TRAINING_PHASES), ledger.total_s(phases=TRAINING_PHASES)
        self._ended[place] = replace(self._ended[place], energy_j=float(energy_j), time_s=float(time_s))

    @property
    def steps(self) -> int:
        """Training steps so far."""
        return self._ended[-1].steps if self._ended else 0

    @property
    def validation_accuracy(self) -> float:
        """After the last epoch."""
        return self._ended[-1].validation_accuracy if self._ended else math.nan

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

    def record(self) -> dict[str, Any]:
        """What it reached and what a step cost, as plain data."""
        return {
            "seed": self.seed,
            "epochs": len(self.epochs),
            "steps": self.steps,
            "test_accuracy": self.test_accuracy,
            "validation_accuracy": self.validation_accuracy,
            "energy_per_step_j": self.energy_per_step_interval_j()._asdict(),
            "time_per_step_s": self.time_per_step_s,
            "history": [asdict(epoch) for epoch in self.epochs],
        }

    def bill(self) -> dict[str, Any]:
        """What one training step cost and of what that consists, what is installed and left out, as plain data.

        Joules [J] by phase, device, component and part, largest first, and seconds [s] by what bounds them: each sums
        to the step's. Areas [mm2] are of all units that are installed; None where a component does not state its own.
        """
        energy = self.ledger.energy(ENERGY_BY, phases=STEP_PHASES)
        time = self.ledger.time(TIME_BY, phases=STEP_PHASES)
        devices, step_j = self.ledger.devices(), self.energy_per_step_interval_j()
        return {
            "seed": self.seed,
            "energy_per_step_j": step_j._asdict(),
            "energy_by_part": [
                {**dict(zip(ENERGY_BY, group, strict=True)), "energy_j": each_j, "share": each_j / step_j.nominal}
                for group, joules in sorted(energy.items(), key=lambda item: -float(item[1]))
                if (each_j := float(joules) / self.steps)
            ],
            "time_per_step_s": self.time_per_step_s,
            "time_by_bound": [
                {**dict(zip(TIME_BY, group, strict=True)), "time_s": float(seconds) / self.steps}
                for group, seconds in sorted(time.items(), key=lambda item: -float(item[1]))
                if seconds > 0
            ],
            "area_mm2": {label: self._areas_mm2(device) for device, label in devices.items()},
            "excluded": {label: list(type(device).excluded) for device, label in devices.items()},
            "garbage": {label: self._garbage(device) for device, label in devices.items() if device.erasing},
            "wear": self.network.wear(),
        }

    def _garbage(self, device: Device) -> dict[str, float]:
        """Held bits at their peak, and of one step the erased bits, their joules [J] and the passes over a matrix."""
        step = step_of(self.ledger, device, self.steps)
        wanted = {name: step[name] for name in ("erased_bits", "erasure_j", "passes")}
        return {"peak_bits": self.ledger.peak_bits[device], **wanted}

    def _areas_mm2(self, device: Device) -> dict[str, float | None]:
        """The area of all installed units of each component [mm2]; None where it states none."""
        installed = device.installed([shape for (owner, _), shape in self.ledger.tiles.items() if owner is device])
        parts = {name: device.components[name] for name, units in installed.items() if units}
        return {
            name: None if part.area_mm2 is None else installed[name] * part.quantity("area_mm2").nominal
            for name, part in parts.items()
        }

    def first_epoch_at(self, accuracy: float) -> Epoch | None:
        """The first epoch whose validation accuracy reaches `accuracy`; None: not reached."""
        reached = (place for place, epoch in enumerate(self._ended) if epoch.validation_accuracy >= accuracy)
        place = next(reached, None)
        return None if place is None else self.epochs[place]

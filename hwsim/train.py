"""Training: one network on one substrate, with metrics, joules and checkpoints."""

from __future__ import annotations

import math
import platform
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.arrays import Array, generator, key_of
from hwsim.checkpoint import read_checkpoint, require_writable, write_checkpoint
from hwsim.cost import STEP_PHASES, Phase
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.errors import ConfigError, Interrupted, ShapeError, TrainingError
from hwsim.learning import rule as learning_rule
from hwsim.ledger import Interval, Ledger
from hwsim.losses import loss as loss_function
from hwsim.nn import Model, Network
from hwsim.optim import Optimizer
from hwsim.optim import optimizer as make_optimizer
from hwsim.progress import progress_bar

TRAINING_PHASES = (Phase.SETUP, *STEP_PHASES)  # what energy to a target includes: everything but evaluation
EVALUATION_ROWS = 1024  # rows of one evaluation batch
CLOSE_ENOUGH = 0.4  # where targets are values: an output nearer than this to its target counts as right


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


def fit(
    model: Model,
    data: Dataset,
    device: Device | Mapping[str, Device],
    *,
    epochs: int = 10,
    batch: int = 32,
    learning_rate: float = 0.1,
    optimizer: str = "sgd",
    loss: str | None = None,
    rule: str = "backprop",
    seed: int = 0,
    frozen: Collection[str] = (),
    until: float | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    progress: bool | None = False,
) -> Run:
    """Train `model` on `data` with every product done by `device` (or by layer name, "*" for all others).

    Mini-batches are drawn without replacement, in an order that depends on `seed` and the epoch alone; rows that
    do not fill a batch wait for the next epoch. `loss` None: cross-entropy for classes, squared error for values.
    `frozen`: layers that are not trained. `until`: stop after the epoch that reaches this validation accuracy.
    `checkpoint`: a file that is kept whole, written every `checkpoint_every` steps (None: every epoch) and when the
    run is asked to stop; with `resume`, training goes on from it and ends with the same bits as if never stopped.
    `progress`: whether to show a bar (None: on a terminal).

    Raises ConfigError, DataError or ShapeError before training, TrainingError where it diverges, and Interrupted
    when it was stopped by SIGINT or SIGTERM with a checkpoint.
    """
    check_settings(epochs=epochs, batch=batch, checkpoint_every=checkpoint_every, until=until)
    mover = make_optimizer(optimizer, learning_rate)
    loss_op = loss_function(loss or ("cross_entropy" if data.classes else "mse"))
    take_step = learning_rule(rule)
    if resume and checkpoint is None:
        raise ConfigError("resume needs a checkpoint to go on from")
    net = Network(model, device, seed=seed, frozen=frozen)
    if not set(net.layers) - net.frozen:
        raise ConfigError(f"all layers are frozen ({', '.join(net.layers)}); leave one to train")

    rows = len(data.x_train)
    batch = min(batch, rows)
    per_epoch = rows // batch
    run = Run(net, seed, batch, learning_rate, data.name, data.sha256, len(data.x_test))
    settings = {
        "model": repr(model), "devices": {name: d.spec for name, d in net.devices.items()}, "data": data.name,
        "data_sha256": data.sha256, "batch": batch, "learning_rate": learning_rate, "optimizer": optimizer,
        "loss": loss_op.name, "rule": rule, "seed": seed, "frozen": sorted(frozen),
    }  # fmt: skip
    keeper = _Keeper(checkpoint, checkpoint_every or per_epoch, settings, run, mover)
    if resume:
        keeper.restore()

    total = epochs * per_epoch
    with (
        progress_bar(f"{data.name} on {'+'.join(d.spec for d in net.devices.values())}", total, shown=progress) as tick,
        np.errstate(over="ignore", invalid="ignore", divide="ignore"),  # what overflows is found, and named, below
        _stop_requests(active=checkpoint is not None) as stop_asked,
    ):
        order: Array = None
        while keeper.step < total and not _reached(run, until):
            epoch, place = divmod(keeper.step, per_epoch)
            if order is None or place == 0:
                order = generator(np, key_of("order", seed), epoch).permutation(rows)
            chosen = order[place * batch : (place + 1) * batch]
            try:
                value = float(take_step(net, data.x_train[chosen], data.y_train[chosen], loss_op, mover))
            except ShapeError as error:
                raise TrainingError(_diverged(keeper.step, error, learning_rate)) from None
            if not math.isfinite(value):
                raise TrainingError(_diverged(keeper.step, f"loss: {value}", learning_rate))
            keeper.losses.append(value)
            keeper.step += 1
            if place == per_epoch - 1:
                finish_epoch(run, data, epoch + 1, keeper.step, keeper.losses)
                keeper.losses.clear()
            tick(f"epoch {epoch + 1}, loss {value:.3f}")
            if keeper.due() or stop_asked():
                keeper.write()
            if stop_asked():
                raise Interrupted(f"stopped after step {keeper.step} of {total}; {checkpoint} holds it, resume goes on")
        keeper.write()
        run.test_accuracy = accuracy(net, data.x_test, data.y_test, data.classes)
    return run


def check_settings(*, epochs: int, batch: int, checkpoint_every: int | None, until: float | None) -> None:
    """Refuse counts below one and an accuracy outside 0..1, with a ConfigError."""
    for name, count in (("epochs", epochs), ("batch", batch), ("checkpoint_every", checkpoint_every)):
        if count is not None and count < 1:
            raise ConfigError(f"{name} {count}: needs a whole number from 1")
    if until is not None and not 0 < until <= 1:
        raise ConfigError(f"accuracy to stop at {until:g}: needs a value above 0 and up to 1")


def accuracy(net: Network, x: Array, y: Array, classes: int) -> float:
    """The share of rows that are right: the largest output is the label, or every output is near its target."""
    right = 0.0
    for start in range(0, len(x), EVALUATION_ROWS):
        outputs, targets = net.predict(x[start : start + EVALUATION_ROWS]), y[start : start + EVALUATION_ROWS]
        if classes:
            right += (outputs.argmax(axis=-1) == targets).reshape(len(targets), -1).mean(axis=-1).sum()
        else:
            right += (np.abs(outputs - targets) < CLOSE_ENOUGH).reshape(len(targets), -1).all(axis=-1).sum()
    return float(right / len(x))


def finish_epoch(run: Run, data: Dataset, epoch: int, step: int, losses: list[float]) -> None:
    """Evaluate on the validation split and note how things stand."""
    ledger = run.ledger
    energy_j, time_s = float(ledger.total_j(phases=TRAINING_PHASES)), float(ledger.total_s(phases=TRAINING_PHASES))
    validation = accuracy(run.network, data.x_validation, data.y_validation, data.classes)
    run.epochs.append(Epoch(epoch, step, math.fsum(losses) / len(losses), validation, energy_j, time_s))


def _reached(run: Run, until: float | None) -> bool:
    return until is not None and run.validation_accuracy >= until


def _diverged(step: int, what: object, learning_rate: float) -> str:
    return f"training diverged at step {step + 1}: {what}; a learning rate below {learning_rate:g} may help"


class _Keeper:
    """Where a run stands, and its checkpoint."""

    def __init__(
        self, path: str | Path | None, every: int, settings: dict[str, Any], run: Run, optimizer: Optimizer
    ) -> None:
        self.path = None if path is None else require_writable(path)
        self.every, self.settings, self.run, self.optimizer = every, settings, run, optimizer
        self.step = 0
        self.losses: list[float] = []  # of the present epoch
        self.written = -1

    def due(self) -> bool:
        """Whether it is time to write."""
        return self.step % self.every == 0

    def write(self) -> None:
        """Write the checkpoint, unless there is none or it already holds this step."""
        if self.path is None or self.written == self.step:
            return
        arrays = {f"net/{name}": value for name, value in self.run.network.save().items()}
        arrays |= {f"optimizer/{name}": value for name, value in self.optimizer.save().items()}
        integers = {name: value for name, value in arrays.items() if isinstance(value, int)}
        meta = {
            "settings": self.settings,
            "made_with": {"numpy": np.__version__, "python": platform.python_version(), "machine": platform.machine()},
            "step": self.step,
            "losses": self.losses,
            "epochs": [asdict(epoch) for epoch in self.run.epochs],
            "integers": integers,
            "ledger": self.run.ledger.as_dict(),
        }
        write_checkpoint(self.path, {n: v for n, v in arrays.items() if n not in integers}, meta)
        self.written = self.step

    def restore(self) -> None:
        """Go on from the checkpoint. Raises ConfigError where it is unreadable or of a run with other settings."""
        assert self.path is not None
        arrays, meta = read_checkpoint(self.path)
        other = meta.get("settings", {})
        differ = [
            f"{name} was {other.get(name)!r}, is {value!r}" for name, value in self.settings.items()
            if other.get(name) != value
        ]  # fmt: skip
        if differ:
            raise ConfigError(f"checkpoint {self.path} belongs to another run: {'; '.join(differ)}")
        net = self.run.network
        try:
            saved = arrays | meta["integers"]
            ledger, step, epochs = meta["ledger"], int(meta["step"]), [Epoch(**epoch) for epoch in meta["epochs"]]
            losses = list(meta["losses"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"checkpoint {self.path} is not whole: {error!r}") from None
        net.load(_below(saved, "net/"))
        self.optimizer.load(_below(saved, "optimizer/"))
        net.ledger.load(ledger, net.device_labels())
        self.step, self.losses, self.run.epochs, self.written = step, losses, epochs, step


def _below(saved: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in saved.items() if name.startswith(prefix)}


@contextmanager
def _stop_requests(*, active: bool) -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a question that is asked between steps; only where there is a checkpoint."""
    asked = threading.Event()
    if not active or threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

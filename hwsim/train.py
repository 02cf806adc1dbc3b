"""Training: one network on one substrate, with metrics, joules and checkpoints."""

from __future__ import annotations

import math
import re
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hwsim import registry
from hwsim.arrays import Array, Shape, generator, key_of
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.errors import ConfigError, Interrupted, NotFiniteError, ShapeError, TrainingError
from hwsim.identity import files, operations
from hwsim.keeping import Keeper, require_new
from hwsim.learning import prepare
from hwsim.learning import rule as learning_rule
from hwsim.losses import LOSSES
from hwsim.losses import loss as loss_function
from hwsim.nn import Model, Network
from hwsim.optim import Optimizer
from hwsim.optim import optimizer as make_optimizer
from hwsim.progress import progress_bar
from hwsim.report.units import CLOSE_ENOUGH
from hwsim.run import Run
from hwsim.tape import HostOp
from hwsim.tile import Tile

EVALUATION_ROWS = 1024  # rows of one evaluation batch


def fit(
    model: Model,
    data: Dataset,
    device: Device | str | Mapping[str, Device | str],
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

    A device may be given by its string, such as "gpu:h100". Mini-batches are drawn without replacement, in an order
    that depends on `seed` and the epoch alone; rows that do not fill a batch wait for the next epoch. `loss` None:
    cross-entropy for classes, squared error for values ("mse" on classes: against one-hot targets). `frozen`: layers
    that are not trained. `until`: stop after the epoch that reaches this validation accuracy.
    `checkpoint`: a new file that is kept whole, written every `checkpoint_every` steps (None: every epoch) and when
    the run is asked to stop; with `resume`, training goes on from it and ends with the same bits as if never stopped.
    `progress`: whether to show a bar (None: on a terminal).

    Raises ConfigError, DataError or ShapeError before training, TrainingError where it diverges, and Interrupted
    when it was stopped by SIGINT or SIGTERM with a checkpoint.
    """
    require_objects(model, data)
    check_settings(epochs=epochs, batch=batch, seed=seed, checkpoint_every=checkpoint_every, until=until)
    mover = make_optimizer(optimizer, learning_rate)
    loss_op = loss_for(data, loss)
    take_step = learning_rule(rule)
    if resume and checkpoint is None:
        raise ConfigError("resume needs a checkpoint to go on from")
    if checkpoint_every is not None and checkpoint is None:
        raise ConfigError(f"checkpoint_every {checkpoint_every} needs a checkpoint to write; give --checkpoint FILE")
    if checkpoint is not None and not resume:
        require_new(checkpoint)
    device = made(device)
    outputs = require_fit(model, data, device, loss_op)
    one_hot = np.eye(outputs, dtype=np.float32) if data.classes and loss_op is LOSSES["mse"] else None
    net = Network(model, device, seed=seed, frozen=frozen)
    require_moves(net, mover)
    if not set(net.layers) - net.frozen:
        raise ConfigError(f"all layers are frozen ({', '.join(net.layers)}); leave one to train")

    rows = len(data.x_train)
    batch = min(batch, rows)
    per_epoch = rows // batch
    run = Run(net, seed, batch, learning_rate, data.name, data.sha256, len(data.x_test))
    settings = {
        "model": model_text(model), "devices": {name: d.spec for name, d in net.devices.items()}, "data": data.name,
        "data_sha256": data.sha256, "batch": batch, "learning_rate": learning_rate, "optimizer": optimizer,
        "loss": loss_op.name, "rule": rule, "seed": seed, "frozen": sorted(frozen),
    }  # fmt: skip
    if checkpoint is not None:
        settings |= {"operations": operations(model, net.devices), "files": files(model, net.devices.values())}
    keeper = Keeper(checkpoint, checkpoint_every, settings, run, mover, per_epoch=per_epoch, epochs=epochs)
    total = epochs * per_epoch
    title = f"{data.name} on {'+'.join(d.spec for d in net.devices.values())}"
    with (
        keeper.held(resume=resume),
        progress_bar(title, total, done=keeper.step, shown=progress) as tick,
        np.errstate(over="ignore", invalid="ignore", divide="ignore"),  # what overflows is found, and named, below
        _stop_requests(active=checkpoint is not None) as stop_asked,
    ):
        prepare(rule, net, mover)
        order: Array = None
        while keeper.step < total and not _reached(run, until):
            epoch, place = divmod(keeper.step, per_epoch)
            if order is None or place == 0:
                order = generator(np, key_of("order", seed), epoch).permutation(rows)
            chosen = order[place * batch : (place + 1) * batch]
            y = data.y_train[chosen] if one_hot is None else one_hot[data.y_train[chosen]]
            with _naming(f"at step {keeper.step + 1}", learning_rate):
                value = float(take_step(net, data.x_train[chosen], y, loss_op, mover))
                if not math.isfinite(value):
                    raise NotFiniteError(f"loss: {value}, NaN or infinite")
                net.require_finite()
            keeper.losses.append(value)
            keeper.step += 1
            if place == per_epoch - 1:
                with _naming(f"after step {keeper.step}", learning_rate):
                    validation = accuracy(net, data.x_validation, data.y_validation, data.classes)
                keeper.finish_epoch(epoch + 1, validation)
            tick(f"epoch {epoch + 1}, loss {value:.3f}")
            if keeper.due() or stop_asked():
                keeper.write()
            if stop_asked():
                raise Interrupted(
                    f"stopped after step {keeper.step} of {total}; {checkpoint} holds it; add --resume to go on"
                )
        keeper.write()
        with _naming(f"after step {keeper.step}", learning_rate):
            run.test_accuracy = accuracy(net, data.x_test, data.y_test, data.classes)
    return run


def loss_for(data: Dataset, name: str | None = None) -> HostOp:
    """The loss called `name`; None: cross-entropy for classes, squared error for values. Raises ConfigError."""
    found = loss_function(name or ("cross_entropy" if data.classes else "mse"))
    if not data.classes and found is LOSSES["cross_entropy"]:
        raise ConfigError(f"loss cross_entropy needs class labels, but {data.name} has real-valued targets; take mse")
    return found


def require_fit(model: Model, data: Dataset, device: Device | Mapping[str, Device], loss: HostOp) -> int:
    """The number of outputs, if inputs, outputs and targets fit each other. Raises ShapeError before any training.

    A model may say what its inputs are (`reads`: "token ids" or "real-valued inputs"); data of the other kind are
    refused.
    """
    x, y, needed = data.x_train, data.y_train, tuple(model.input_shape)
    have = "token ids" if x.dtype.kind == "i" else "real-valued inputs"
    reads = getattr(model, "reads", have)
    name = getattr(model, "__name__", type(model).__name__)
    if reads != have or x.shape[1:] != needed:
        known = getattr(model, "recipe", {}).get("data")
        raise ShapeError(
            f"{name} reads {reads} {list(needed)}, {data.name} has {have} {list(x.shape[1:])}"
            + (f"; try --data {known}" if known and known != data.name else "")
        )
    vocabulary = getattr(model, "vocabulary", data.tokens)
    if isinstance(vocabulary, int) and data.tokens > vocabulary:
        raise ShapeError(f"{data.name} has {data.tokens} kinds of token, {name} a vocabulary of {vocabulary}")
    traced: Any = Network(model, device, shape_only=True).predict(Shape(2, *needed))
    outputs = tuple(traced.shape)
    targets = (2, *y.shape[1:])
    if data.classes and outputs[-1] < data.classes:
        raise ShapeError(
            f"{data.name} has {data.classes} classes, {name} {outputs[-1]} outputs; it needs one for each class"
        )
    try:
        loss.shape(outputs, (*targets, outputs[-1]) if data.classes and loss is LOSSES["mse"] else targets)
    except ShapeError:
        kind = f"class labels {list(y.shape[1:]) or ''}".rstrip() if data.classes else f"targets {list(y.shape[1:])}"
        raise ShapeError(
            f"{data.name} has {kind} for each sample, {name} gives outputs {list(outputs[1:])}: {loss.name} cannot "
            "compare them"
        ) from None
    return int(outputs[-1])


def require_objects(model: Any, data: Any) -> None:
    """Refuse names and other things where a model and a data set are needed, with a ConfigError."""
    if not callable(model) or not hasattr(model, "input_shape"):
        raise ConfigError(f"model {model!r}: needs a network with an input_shape, such as hwsim.model('mlp')")
    if not isinstance(data, Dataset):
        raise ConfigError(f"data {data!r:.80}: needs a data set, such as hwsim.data.load('digits')")


def made(device: Any) -> Device | dict[str, Device]:
    """Devices, made from their strings where they are strings. Raises ConfigError for anything else."""
    if isinstance(device, Mapping):
        return {name: one_device(each) for name, each in device.items()}
    return one_device(device)


def one_device(device: Any) -> Device:
    """A device, made from its string where it is one. Raises ConfigError for anything else."""
    found = registry.device(device) if isinstance(device, str) else device
    if not isinstance(found, Device):
        raise ConfigError(f"device {device!r:.80}: needs a device or its string, such as hwsim.device('gpu:h100')")
    return found


def model_text(model: Model) -> str:
    """The model as text that is the same in every process: a function's address is left out."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(model))


def check_settings(
    *, epochs: int, batch: int, seed: int, checkpoint_every: int | None = None, until: float | None = None
) -> None:
    """Refuse counts below one, a seed below zero and an accuracy outside 0..1, with a ConfigError."""
    for name, count in (("epochs", epochs), ("batch", batch), ("checkpoint_every", checkpoint_every)):
        if count is not None and count < 1:
            raise ConfigError(f"{name} {count}: needs a whole number from 1")
    if seed < 0:
        raise ConfigError(f"seed {seed}: needs a whole number from 0")
    if until is not None and not 0 < until <= 1:
        raise ConfigError(f"accuracy to stop at {until:g}: needs a value above 0 and up to 1")


def accuracy(net: Network, x: Array, y: Array, classes: int) -> float:
    """The share of rows that are right: the largest output is the label, or every output is near its target.

    Raises NotFiniteError where an output is NaN or infinite: the largest of such is no answer.
    """
    right = 0.0
    for start in range(0, len(x), EVALUATION_ROWS):
        outputs, targets = net.predict(x[start : start + EVALUATION_ROWS]), y[start : start + EVALUATION_ROWS]
        if not np.isfinite(outputs).all():
            raise NotFiniteError("output: holds NaN or infinite values")
        if classes:
            right += (outputs.argmax(axis=-1) == targets).reshape(len(targets), -1).mean(axis=-1).sum()
        else:
            right += (np.abs(outputs - targets) < CLOSE_ENOUGH).reshape(len(targets), -1).all(axis=-1).sum()
    return float(right / len(x))


def most_frequent_class_share(data: Dataset) -> float | None:
    """What always answering the most frequent class of the test split would reach; None where there are no classes."""
    if not data.classes:
        return None
    return float(np.bincount(data.y_test.reshape(-1)).max() / data.y_test.size)


def _reached(run: Run, until: float | None) -> bool:
    return until is not None and run.validation_accuracy >= until


@contextmanager
def _naming(when: str, learning_rate: float) -> Iterator[None]:
    """Turn the refusal of NaN or infinity, which names the layer, into a TrainingError that also says when."""
    try:
        yield
    except NotFiniteError as error:
        hint = f"a tenth of the learning rate, {learning_rate / 10:g}, may help"
        raise TrainingError(f"training diverged {when}: {error}; {hint}") from None


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


def require_moves(net: Network, optimizer: Optimizer) -> None:
    """Refuse an optimizer that a device cannot follow, before anything is trained. Raises DeviceError."""
    for name, item in net.placed.items():
        if isinstance(item, Tile) and name.rpartition("/")[0] not in net.frozen:
            item.device.require_moves(in_place=optimizer.in_place(item))

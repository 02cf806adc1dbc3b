"""One training step of a network, cut into micro-batches that follow each other through its layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from hwsim.arrays import Shape
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.errors import ConfigError
from hwsim.learning.backprop import backprop
from hwsim.nn import Model, Network
from hwsim.optim import Optimizer
from hwsim.optim import optimizer as make_optimizer
from hwsim.schedule import Schedule, Trace, by_part, schedule
from hwsim.tape import HostOp
from hwsim.train import loss_for


def traced_step(
    model: Model,
    devices: Device | Mapping[str, Device],
    target_shape: tuple[int, ...],
    loss: HostOp,
    *,
    batch: int,
    optimizer: str = "sgd",
    micro_batches: int = 1,
) -> Trace:
    """The tasks of one step on `batch` rows with targets [batch, *target_shape], from shapes alone.

    Each micro-batch goes forwards and backwards by itself; gradients add up, and the weights move once, after all of
    them. Raises ConfigError unless each of the `micro_batches` has a row.
    """
    if not 1 <= micro_batches <= batch:
        raise ConfigError(f"{micro_batches} micro-batches of {batch} rows: needs from 1 to {batch}")
    trace = Trace()
    net = Network(model, devices, ledger=trace, shape_only=True)
    collector = trace.follow(net, make_optimizer(optimizer, 1.0))
    for part in range(micro_batches):
        rows = batch // micro_batches + (part < batch % micro_batches)
        x, y = Shape(rows, *model.input_shape), Shape(rows, *target_shape)
        backprop(net, x, y, loss, cast(Optimizer, collector))
    collector.finish()
    return trace


@dataclass(frozen=True)
class Pipelined:
    """The quickest schedule that was found, and the whole batch in one piece, one operation after the other."""

    quickest: Schedule
    micro_batches: int
    whole: Schedule

    def as_dict(self) -> dict[str, Any]:
        """Serial and scheduled time [s] and energy [J], and the schedule, as plain data."""
        return {
            "micro_batches": self.micro_batches,
            "whole_serial_s": self.whole.serial_s,
            "whole_serial_j": math.fsum(self.whole.serial_energy_j.values()),
            "whole_serial_energy_j": by_part(self.whole.serial_energy_j),
            "scheduled_j": self.quickest.total_j,
            **self.quickest.as_dict(),
        }


def pipelined(
    model: Model, data: Dataset, devices: Device | Mapping[str, Device], *, batch: int, optimizer: str = "sgd"
) -> Pipelined:
    """The quickest schedule of a training step in 1, 2, 4, ... micro-batches, up to one a row."""
    loss, target_shape = loss_for(data), data.y_train.shape[1:]

    def found(micro_batches: int) -> Schedule:
        return schedule(
            traced_step(
                model, devices, target_shape, loss, batch=batch, optimizer=optimizer, micro_batches=micro_batches
            )
        )

    counts = [2**i for i in range(batch.bit_length())]  # powers of two up to the batch
    schedules = [found(count) for count in counts]
    # Not until the first that is slower: finer parts may pay again. Of equals, the coarsest.
    best = min(range(len(counts)), key=lambda i: schedules[i].makespan_s)
    return Pipelined(schedules[best], counts[best], schedules[0])

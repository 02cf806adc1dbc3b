"""One training step of a network, cut into micro-batches that follow each other through its layers.

Steps do not overlap: the weights of one move before the next one reads them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from hwsim.arrays import Shape
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.errors import ConfigError
from hwsim.learning.backprop import backprop
from hwsim.ledger import Ledger
from hwsim.nn import Model, Network
from hwsim.optim import Optimizer
from hwsim.optim import optimizer as make_optimizer
from hwsim.schedule import Schedule, Shared, Trace, by_part, require_sharable, schedule, sharable
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
    sizes = [batch // micro_batches + (part < batch % micro_batches) for part in range(micro_batches)]
    for rows, alike in Counter(sizes).items():
        done = 0
        while done < alike:
            x, y = Shape(rows, *model.input_shape), Shape(rows, *target_shape)
            backprop(net, x, y, loss, cast(Optimizer, collector))
            done += 1
            done += collector.repeat(alike - done)
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
            "cut_serial_j": math.fsum(self.quickest.serial_energy_j.values()),
            "scheduled_j": self.quickest.total_j,
            **self.quickest.as_dict(),
        }


@dataclass(frozen=True)
class Step:
    """A training step that is to be scheduled: its whole batch, and what its tiles share."""

    traced: Callable[[int], Trace]  # by the number of micro-batches
    batch: int
    whole: Trace
    shared: Shared

    def quickest(self, run: Ledger | None = None) -> Pipelined:
        """The quickest schedule in 1, 2, 4, ... micro-batches, up to one a row.

        `run`: whose actual counts there are in place of expected ones.
        """

        def scheduled(micro_batches: int) -> Schedule:
            trace = self.traced(micro_batches) if micro_batches > 1 else self.whole
            return schedule(trace, shared=self.shared, run=run)

        counts = [2**i for i in range(self.batch.bit_length())]  # powers of two up to the batch
        schedules = [scheduled(count) for count in counts]
        # Not until the first that is slower: finer parts may pay again. Of equals, the coarsest.
        best = min(range(len(counts)), key=lambda i: schedules[i].makespan_s)
        return Pipelined(schedules[best], counts[best], schedules[0])


def step_of(
    model: Model,
    data: Dataset,
    devices: Device | Mapping[str, Device],
    *,
    batch: int,
    optimizer: str = "sgd",
    shared: Shared | None = None,
) -> Step:
    """A training step, to be scheduled.

    `shared`: as of hwsim.schedule.schedule; one bank has the units that an operation on the whole batch takes. Raises
    ConfigError as that does.
    """

    def traced(micro_batches: int) -> Trace:
        return traced_step(
            model,
            devices,
            data.y_train.shape[1:],
            loss_for(data),
            batch=batch,
            optimizer=optimizer,
            micro_batches=micro_batches,
        )

    whole = traced(1)
    most = sharable(whole) if shared else {}
    banks = {name: most.get(name) if units is None else units for name, units in (shared or {}).items()}
    schedule(whole, shared=banks)  # what it refuses costs no more than that
    return Step(traced, batch, whole, banks)


def steps_of(
    model: Model,
    data: Dataset,
    named: Mapping[str, Device],
    *,
    batch: int,
    optimizer: str = "sgd",
    shared: Shared | None = None,
) -> dict[str, Step]:
    """The training step of each of several devices by name, which shares what it has of `shared`.

    Raises ConfigError for what none of them can share.
    """
    shared, own = shared or {}, {}
    if shared:
        wholes = {
            name: step_of(model, data, device, batch=batch, optimizer=optimizer).whole for name, device in named.items()
        }
        own = {name: sharable(whole) for name, whole in wholes.items()}
        require_sharable(shared, [device for whole in wholes.values() for device in whole.devices()], own.values())
    return {
        name: step_of(
            model,
            data,
            device,
            batch=batch,
            optimizer=optimizer,
            shared={what: units for what, units in shared.items() if what in own[name]},
        )
        for name, device in named.items()
    }


def shares_in(text: str) -> dict[str, float | None]:
    """What tiles share, in NAME=UNITS or NAME (one bank), comma separated. Raises ConfigError for anything else."""
    found: dict[str, float | None] = {}
    for part in text.split(","):
        name, given, units = (word.strip() for word in part.partition("="))
        try:
            number = float(units) if given else None
        except ValueError:
            name = ""
        if not name:
            raise ConfigError(f"share {text!r}: {part.strip()!r} is not NAME=UNITS, nor NAME alone; such as adc=8,dac")
        if name in found:
            raise ConfigError(f"share {text!r}: {name} is named twice")
        found[name] = number
    return found

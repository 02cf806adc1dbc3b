"""Training by the rule `leapfrog` run backwards: step by step, or a whole run of hwsim.fit to its first weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from hwsim.arrays import Array, generator, key_of
from hwsim.cost import Phase
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.errors import ConfigError, TrainingError
from hwsim.learning.leapfrog import DIGESTS, Leapfrog, digest_of, hold_all
from hwsim.losses import LOSSES
from hwsim.nn import Network
from hwsim.tape import HostOp, Parameter
from hwsim.tile import Tile


def exact(device: Device) -> bool:
    """Whether an update of a device's tiles by -step takes back that by step, bit for bit."""
    return device.exact_updates


def require_exact(devices: Iterable[Device]) -> None:
    """Refuse devices on which steps cannot be taken back, with a ConfigError."""
    for device in devices:
        if not exact(device):
            raise ConfigError(
                f"{device.spec} does not move its weights in whole units, so that its steps cannot be taken back bit "
                "for bit; take a device whose class says exact_updates = True, such as reversible"
            )


def undo(net: Network, batches: Iterable[tuple[Array, Array]], loss: HostOp) -> list[Array]:
    """Take back one step of `leapfrog` for each mini-batch (x, target), the last one first; the losses before them.

    What it asks of the devices is charged as training is. Raises ConfigError where there are fewer steps to take back,
    or a device's updates are not exact; TrainingError for a mini-batch or a loss that is not that of the step, whose
    step then stands as it did, and where all steps are taken back, and velocities and information buffers are not as
    they were before the first.
    """
    mover = net.tape.mover
    if not isinstance(mover, Leapfrog):
        raise ConfigError("there is nothing to undo: rule 'leapfrog' has not moved this network")
    require_exact(net.devices.values())
    losses: list[Array] = []
    for x, target in batches:
        if mover.count == 0:
            raise ConfigError(f"only {len(losses)} steps could be undone: the network is where it started")
        losses.append(_step_back(net, x, target, loss, mover))
    if mover.count == 0 and not mover.at_start:
        raise TrainingError(
            f"the {len(losses)} steps did not lead back: a device is not deterministic, or does not move its weights "
            "exactly as it says"
        )
    return losses


def _step_back(net: Network, x: Array, target: Array, loss: HostOp, mover: Leapfrog) -> Array:
    """Move back, find the gradient again, release, and take it out of the velocity."""
    batch_digest, loss_digest = divmod(int(mover.state[DIGESTS][-1]), 1 << 32)
    if digest_of(x, target) != batch_digest:
        raise TrainingError(
            f"step {mover.count} was taken with another mini-batch: give those of the training, the last one first"
        )
    moved = [item for name, item in net.placed.items() if f"{name}|velocity" in mover.state]
    targets = [item for item in moved if isinstance(item, Tile | Parameter)]
    mover.move_back(net.ledger, targets)
    with net.ledger.scope(phase=Phase.FORWARD):
        try:
            y = net.forward(x, sink=mover)
            net.ledger.layer = "loss"
            value = net.tape.host(loss, y, net.constant(target, y.device))
            if digest_of(value.data) != loss_digest:
                mover.move_back(net.ledger, targets, 1)
                raise TrainingError(
                    f"step {mover.count} does not find its loss again: weights or settings were changed after it, "
                    "another loss was given, or a device is not deterministic or exact as it says"
                )
            net.tape.backward(value)
        finally:
            net.tape.release()
        mover.take_out(net.ledger)
    return value.data


def batches_back(data: Dataset, *, seed: int, batch: int, steps: int) -> Iterator[tuple[Array, Array]]:
    """The mini-batches (x, labels or values) of the first `steps` steps of hwsim.fit, the last one first.

    Their order depends on `seed` and the epoch alone, so that nobody has to keep it.
    """
    rows = len(data.x_train)
    batch = min(batch, rows)
    per_epoch = rows // batch
    for epoch in reversed(range(-(-steps // per_epoch))):
        order = generator(np, key_of("order", seed), epoch).permutation(rows)
        for place in reversed(range(min(per_epoch, steps - epoch * per_epoch))):
            chosen = order[place * batch : (place + 1) * batch]
            yield data.x_train[chosen], data.y_train[chosen]


def run_back(net: Network, data: Dataset, loss: HostOp, *, batch: int, steps: int) -> dict[str, Any]:
    """Take back all `steps` steps of a run of hwsim.fit; how many, whether all came back, and for how many joules.

    `bit_for_bit`: whether tiles and parameters are those that the network began with; of parameters that the host
    holds, those rounded to units. Raises what `undo` raises.
    """
    mover, before_j = net.tape.mover, float(net.ledger.total_j())
    batches: Iterable[tuple[Array, Array]] = batches_back(data, seed=net.seed, batch=batch, steps=steps)
    if data.classes and loss is LOSSES["mse"]:
        one_hot = np.eye(net.predict(data.x_train[:1]).shape[-1], dtype=np.float32)
        batches = ((x, one_hot[labels]) for x, labels in batches)
    losses = undo(net, batches, loss)
    assert isinstance(mover, Leapfrog)  # or there had been nothing to undo
    first = Network(net.model, net.devices, seed=net.seed, frozen=net.frozen)
    hold_all(first, Leapfrog(mover.learning_rate, mover.momentum))
    start, end = first.save(), net.save()
    same = start.keys() == end.keys() and all(np.array_equal(end[name], value) for name, value in start.items())
    return {"steps": len(losses), "bit_for_bit": same, "energy_j": float(net.ledger.total_j()) - before_j}

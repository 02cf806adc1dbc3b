"""Backpropagation whose steps can be undone: momentum in integers, which moves the weights after all is uncomputed.

A step, with the velocity v in units of 2^-32 and the momentum a ratio:
    forward and backward at the weights as they are; v <- momentum v - gradient, in place, what the multiplication drops
    going into an information buffer; release of what the products left behind; weights += learning rate v
Undone, with the same mini-batch: weights -= learning rate v; forward and backward, which find the same gradient again;
v <- (v + gradient) / momentum, out of the buffer. That gives back the first bits where a device is deterministic and
its `update` by -step takes back that by step: where weights are integers. Floating-point weights do not come back, and
`undo` says so.

Source: D. Maclaurin, D. Duvenaud and R. P. Adams, Gradient-based hyperparameter optimization through reversible
learning, 2015, algorithm 2; the order of the step is such that weights are frozen until all is uncomputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

import numpy as np

from hwsim.arrays import Array, Namespace, Shape, generator, key_of
from hwsim.cost import Elementwise, Phase
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.errors import ConfigError, NotFiniteError, TrainingError
from hwsim.learning.backprop import backprop
from hwsim.learning.information import Buffer, checked_ratio, divided, empty_buffer, multiplied, register_bits
from hwsim.ledger import Ledger
from hwsim.nn import Network
from hwsim.optim import SGD, Optimizer, Target, name_of
from hwsim.tape import HostOp, Parameter
from hwsim.tile import Activation, Tile

UNIT = 2.0**-32  # of velocities and of the host's parameters: finer than float32 gradients of order 1
LARGEST_VALUE = 2.0**20  # so that v, at most 1 / (1 - momentum) gradients, stays far below 2^63 units
LARGEST_DENOMINATOR = 1000  # of the momentum as a ratio: 0.9 is 9/10
INTEGER_BYTES = 8  # of a velocity, and of a buffer's head
# Operations on a value: the gradient in units, two products, two quotients with their remainders, four sums.
STEP_FLOPS = 11


class Leapfrog(Optimizer):
    """v <- momentum v - gradient, weights += learning rate v, in integers that can be taken back.

    `momentum`: above 0 and below 1. State by name: the velocity in units of 2^-32, its information buffer, the number
    of steps, and of the host's parameters the place in the same units. Raises ConfigError for another momentum.
    """

    def __init__(self, learning_rate: float, momentum: Fraction) -> None:
        super().__init__(learning_rate)
        self.momentum = checked_ratio(momentum)

    @property
    def count(self) -> int:
        """Steps that can be undone."""
        return max((int(value) for name, value in self.state.items() if name.endswith("|count")), default=0)

    @property
    def at_start(self) -> bool:
        """Whether all velocities are zero and all buffers are empty."""
        left = [value for name, value in self.state.items() if name.endswith(("|velocity", "|head", "|spilled"))]
        return self.count == 0 and not any(array.any() for array in left)

    def hold(self, parameter: Parameter) -> None:
        """Round a parameter that the host holds to units, of which it is a whole number from now on."""
        if f"{parameter.name}|place" not in self.state:
            self.state[f"{parameter.name}|place"] = in_units(parameter.device.xp, parameter.name, parameter.data)
            self._put(parameter)

    # -- forwards: called by Optimizer.move ------------------------------------------------------------------

    def collect_activation(self, activation: Activation, gradients: Mapping[str, Array]) -> None:
        """Refused with a ConfigError: how a substrate moves its nonlinearity cannot be taken back."""
        raise ConfigError(
            f"rule 'leapfrog' cannot take back how {activation.name} moves its {', '.join(gradients)}; freeze its "
            "layer, or name an activation that the host does, such as 'relu'"
        )

    def _move_one(self, ledger: Ledger, target: Target, gradient: Array) -> None:
        super()._move_one(ledger, target, gradient)
        name = name_of(target)
        self.state[f"{name}|count"] = np.int64(self._count(name) + 1)
        if isinstance(target, Parameter) and not isinstance(gradient, Shape):
            self._shift(target, 1)

    def step(self, name: str, device: Device, gradient: Array) -> Array:
        """Take the gradient into the velocity; the step that follows from it."""
        xp = device.xp
        velocity, buffer = multiplied(xp, *self._held(xp, name, gradient.shape), self.momentum)
        self._keep(name, velocity - in_units(xp, name, gradient), buffer)
        return self._step_of(name, device)

    def charge(self, ledger: Ledger, device: Device, target: Target, size: int) -> None:
        """The velocity's arithmetic, and the bits by which its buffer grows; a host array also moves itself."""
        self._charge(ledger, device, name_of(target), size, 1)
        if not isinstance(target, Tile):
            self.work(ledger, device, "sgd", size, flops=2, read=2, written=1)

    # -- backwards -------------------------------------------------------------------------------------------

    def move_back(self, ledger: Ledger, targets: Iterable[Tile | Parameter]) -> None:
        """Move everything by minus its velocity, to where it was before the last step."""
        with ledger.scope(phase=Phase.UPDATE):
            for target in targets:
                ledger.layer = target.name.rpartition("/")[0]
                if isinstance(target, Tile):
                    target.update(-self._step_of(target.name, target.device))
                else:
                    self.work(ledger, target.device, "sgd", target.data.size, flops=2, read=2, written=1)
                    self._shift(target, -1)

    def take_out(self, ledger: Ledger) -> None:
        """Take the gradients that were collected out of the velocities again."""
        with ledger.scope(phase=Phase.UPDATE):
            for target, (layer, gradient) in self._gradients.items():
                assert not isinstance(target, tuple)
                ledger.layer, name, device = layer, target.name, target.device
                velocity, buffer = self._held(device.xp, name, gradient.shape)
                velocity = velocity + in_units(device.xp, name, gradient)
                self._keep(name, *divided(device.xp, velocity, buffer, self.momentum))
                self._charge(ledger, device, name, gradient.size, -1)
                self.state[f"{name}|count"] = np.int64(self._count(name) - 1)
        self.forget()

    # -- inside ----------------------------------------------------------------------------------------------

    def _charge(self, ledger: Ledger, device: Device, name: str, size: int, steps: int) -> None:
        moved = (2 * INTEGER_BYTES + device.policy.master.bits // 8) * size  # velocity and head; gradient in, step out
        op = Elementwise("leapfrog", size, STEP_FLOPS * size, moved, moved)
        doer, count = device.who(op), self._count(name)
        growth = register_bits(self.momentum, count + steps) - register_bits(self.momentum, count)
        ledger.charge(doer, op, doer.held_bits(op) + size * growth)

    def _count(self, name: str) -> int:
        return int(self.state.get(f"{name}|count", 0))

    def _held(self, xp: Namespace, name: str, shape: tuple[int, ...]) -> tuple[Array, Buffer]:
        """Velocity and buffer; what was loaded lies on the host."""
        velocity = self.state.get(f"{name}|velocity")
        if velocity is None:
            return xp.zeros(shape, dtype=xp.int64), empty_buffer(xp, shape)
        head, spilled = xp.asarray(self.state[f"{name}|head"]), xp.asarray(self.state[f"{name}|spilled"])
        return xp.asarray(velocity), Buffer(head, spilled, self._count(name))

    def _keep(self, name: str, velocity: Array, buffer: Buffer) -> None:
        self.state |= {f"{name}|velocity": velocity, f"{name}|head": buffer.head, f"{name}|spilled": buffer.spilled}

    def _step_of(self, name: str, device: Device) -> Array:
        """Learning rate x velocity in the device's working type: the same whenever it is asked of one velocity."""
        step = device.xp.asarray(self.state[f"{name}|velocity"]) * (self.learning_rate * UNIT)
        return step.astype(device.policy.dtype(device.xp))

    def _shift(self, parameter: Parameter, sign: int) -> None:
        """Move what the host holds by its velocity, or by minus that, in units."""
        xp, name = parameter.device.xp, parameter.name
        step = xp.rint(xp.asarray(self.state[f"{name}|velocity"]) * self.learning_rate).astype(xp.int64)
        self.state[f"{name}|place"] = xp.asarray(self.state[f"{name}|place"]) + sign * step
        self._put(parameter)

    def _put(self, parameter: Parameter) -> None:
        parameter.data[...] = parameter.device.xp.asarray(self.state[f"{parameter.name}|place"]) * UNIT


def in_units(xp: Namespace, name: str, a: Array) -> Array:
    """a [...] in units of 2^-32, as integers. Raises NotFiniteError where it is not finite, or beyond 2^20."""
    largest = float(abs(a).max()) if a.size else 0.0
    if not largest <= LARGEST_VALUE:
        raise NotFiniteError(f"{name}: a gradient or value of {largest:g}; rule 'leapfrog' counts to {LARGEST_VALUE:g}")
    return xp.rint(a.astype(xp.float64) / UNIT).astype(xp.int64)


def leapfrog(net: Network, x: Array, target: Array, loss: HostOp, optimizer: Optimizer) -> Array:
    """One step of backprop that `undo` can take back, with the learning rate and momentum of `optimizer`.

    x [m, ...], `target` (labels [m] or values [m, n]); the loss before it []. The optimizer keeps the state. Raises
    ConfigError where it has no momentum, or a device is not deterministic.
    """
    return backprop(net, x, target, loss, mover_of(net, optimizer))


def mover_of(net: Network, optimizer: Optimizer) -> Leapfrog:
    """The network's `Leapfrog`, made at its first step, whose state is the optimizer's."""
    known = net.tape.mover
    if isinstance(known, Leapfrog) and known.state is optimizer.state:
        return known
    if not isinstance(optimizer, SGD) or not optimizer.momentum:
        raise ConfigError("rule 'leapfrog' moves weights by their momentum; give it optimizer='momentum'")
    for device in net.devices.values():
        if not device.contract.deterministic:
            raise ConfigError(f"{device.spec} is not deterministic: rule 'leapfrog' could not be undone on it")
    mover = Leapfrog(optimizer.learning_rate, Fraction(optimizer.momentum).limit_denominator(LARGEST_DENOMINATOR))
    mover.state = optimizer.state
    for item in net.placed.values():
        if isinstance(item, Parameter) and item.layer not in net.frozen and not net.shape_only:
            mover.hold(item)
    net.tape.mover = mover
    return mover


def undo(net: Network, batches: Iterable[tuple[Array, Array]], loss: HostOp) -> list[Array]:
    """Take back one step of `leapfrog` for each mini-batch (x, target), the last one first; the losses before them.

    What it asks of the devices is charged as training is. Raises ConfigError where there are fewer steps to take back,
    and TrainingError where all are, and velocities and information buffers are not as they were before the first.
    """
    mover = net.tape.mover
    if not isinstance(mover, Leapfrog):
        raise ConfigError("there is nothing to undo: rule 'leapfrog' has not moved this network")
    losses: list[Array] = []
    for x, target in batches:
        if mover.count == 0:
            raise ConfigError(f"only {len(losses)} steps could be undone: the network is where it started")
        losses.append(_step_back(net, x, target, loss, mover))
    if mover.count == 0 and not mover.at_start:
        raise TrainingError(
            f"the {len(losses)} steps did not lead back: a device is not deterministic or does not move its weights "
            "exactly, or these are not the mini-batches of the training, the last one first"
        )
    return losses


def _step_back(net: Network, x: Array, target: Array, loss: HostOp, mover: Leapfrog) -> Array:
    """Move back, find the gradient again, release, and take it out of the velocity."""
    moved = [item for name, item in net.placed.items() if f"{name}|velocity" in mover.state]
    mover.move_back(net.ledger, [item for item in moved if isinstance(item, Tile | Parameter)])
    with net.ledger.scope(phase=Phase.FORWARD):
        try:
            y = net.forward(x, sink=mover)
            net.ledger.layer = "loss"
            value = net.tape.host(loss, y, net.constant(target, y.device))
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

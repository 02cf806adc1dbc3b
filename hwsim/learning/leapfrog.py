"""Backpropagation whose steps can be undone: momentum in integers, which moves the weights after all is uncomputed.

A step, with the velocity v in units of 2^-32 and the momentum a ratio:
    forward and backward at the weights as they are; v <- momentum v - gradient, in place, what the multiplication drops
    going into an information buffer; release of what the products left behind; weights += learning rate v
Undone, with the same mini-batch: weights -= learning rate v; forward and backward, which find the same gradient again;
v <- (v + gradient) / momentum, out of the buffer. That gives back the first bits of tiles where a device is
deterministic and its `update` by -step takes back that by step: where weights are integers. A device says so by the
class attribute `exact_updates`; on others, such as those with floating-point weights, `undo` is refused. What the host
holds, biases and the like, is rounded to units of 2^-32 before the first step, and comes back to that.

Every step leaves a digest of 8 bytes, half of its mini-batch and half of its loss, by which a wrong mini-batch is found
before anything moves, and a wrong gradient before it spoils a velocity. A check of the simulator's: not in the ledger.

Source: D. Maclaurin, D. Duvenaud and R. P. Adams, Gradient-based hyperparameter optimization through reversible
learning, 2015, algorithm 2; the order of the step is such that weights are frozen until all is uncomputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import numpy as np

from hwsim.arrays import Array, Namespace, Shape, to_host
from hwsim.cost import Elementwise, Phase
from hwsim.device import Device
from hwsim.errors import ConfigError, HwsimError, NotFiniteError
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
RATIO_ERROR = 1e-6  # by which that ratio may differ from the momentum that was asked for
DIGESTS = "leapfrog|digests"  # of all steps that can be undone, uint64 [steps], in the optimizer's state
INTEGER_BYTES = 8  # of a velocity, and of a buffer's head
# Operations on a value: the gradient in units, two products, two quotients with their remainders, four sums.
STEP_FLOPS = 11


class Leapfrog(Optimizer):
    """v <- momentum v - gradient, weights += learning rate v, in integers that can be taken back.

    `momentum`: above 0 and below 1. State by name: the velocity in units of 2^-32, its information buffer, the number
    of steps, and of the host's parameters the place in the same units; and the digests of all steps. Raises ConfigError
    for another momentum.
    """

    def __init__(self, learning_rate: float, momentum: Fraction) -> None:
        super().__init__(learning_rate)
        self.momentum = checked_ratio(momentum)
        self._moved: list[Tile | Parameter] = []  # in this step so far

    @property
    def count(self) -> int:
        """Steps that can be undone."""
        return len(self.state.get(DIGESTS, ()))

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

    # -- forwards --------------------------------------------------------------------------------------------

    def move(self, ledger: Ledger) -> None:
        """Move everything, or nothing where a velocity or a weight would leave its range."""
        before = dict(self.state)  # shallow: arrays of the state are replaced, never written to
        self._moved.clear()
        try:
            super().move(ledger)
        except HwsimError:
            self.move_back(ledger, self._moved)
            self.state.clear()
            self.state.update(before)
            for target in self._gradients:
                if isinstance(target, Parameter):
                    self._put(target)
            self.forget()
            raise

    def note(self, digest: int) -> None:
        """Keep the digest of a step that was taken."""
        kept = self.state.get(DIGESTS, np.zeros(0, np.uint64))
        self.state[DIGESTS] = np.append(kept, np.uint64(digest))

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
        if not isinstance(target, tuple):
            self._moved.append(target)

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

    def move_back(self, ledger: Ledger, targets: Iterable[Tile | Parameter], sign: int = -1) -> None:
        """Move everything by minus its velocity, to where it was before the last step; by plus, there again."""
        with ledger.scope(phase=Phase.UPDATE):
            for target in targets:
                ledger.layer = target.name.rpartition("/")[0]
                if isinstance(target, Tile):
                    target.update(sign * self._step_of(target.name, target.device))
                else:
                    self.work(ledger, target.device, "sgd", target.data.size, flops=2, read=2, written=1)
                    self._shift(target, sign)

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
        self.state[DIGESTS] = self.state[DIGESTS][:-1]
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

    x [m, ...], `target` (labels [m] or values [m, n]); the loss before it []. The optimizer keeps the state. A step
    that is refused leaves weights, velocities and buffers as they were. Raises ConfigError where the optimizer has no
    momentum or another one than before, or a device is not deterministic.
    """
    mover = mover_of(net, optimizer)
    value = backprop(net, x, target, loss, mover)
    if not net.shape_only:
        mover.note(digest_of(x, target) << 32 | digest_of(value))
    return value


def mover_of(net: Network, optimizer: Optimizer) -> Leapfrog:
    """The network's `Leapfrog`, made from the optimizer's state, which it shares: that of a run that goes on, too."""
    if not isinstance(optimizer, SGD) or not optimizer.momentum:
        raise ConfigError("rule 'leapfrog' moves weights by their momentum; give it optimizer='momentum'")
    known, momentum = net.tape.mover, ratio_of(optimizer.momentum)
    if isinstance(known, Leapfrog) and known.state is optimizer.state:
        if (known.learning_rate, known.momentum) != (optimizer.learning_rate, momentum):
            raise ConfigError(
                f"learning rate {known.learning_rate:g} and momentum {known.momentum} became "
                f"{optimizer.learning_rate:g} and {momentum} within a run of rule 'leapfrog': its steps are undone "
                "with one of each; keep them, or undo the run first"
            )
        return known
    for device in net.devices.values():
        if not device.contract.deterministic:
            raise ConfigError(f"{device.spec} is not deterministic: rule 'leapfrog' could not be undone on it")
    mover = Leapfrog(optimizer.learning_rate, momentum)
    mover.state = optimizer.state
    hold_all(net, mover)
    net.tape.mover = mover
    return mover


def hold_all(net: Network, mover: Leapfrog) -> None:
    """Round every parameter that the host holds, and that is trained, to units."""
    for item in net.placed.values():
        if isinstance(item, Parameter) and item.layer not in net.frozen and not net.shape_only:
            mover.hold(item)


def ratio_of(momentum: float) -> Fraction:
    """A momentum as a ratio of small numbers. Raises ConfigError where none is within 1e-6 of it."""
    ratio = Fraction(momentum).limit_denominator(LARGEST_DENOMINATOR)
    if abs(float(ratio) - momentum) > RATIO_ERROR:
        raise ConfigError(
            f"momentum {momentum!r} is no ratio of whole numbers up to {LARGEST_DENOMINATOR}: rule 'leapfrog' could "
            f"not undo it; the nearest is {ratio}, {float(ratio):.6g}"
        )
    return checked_ratio(ratio)


def digest_of(*arrays: Any) -> int:
    """32 bits that tell arrays apart, by their bytes, types and shapes."""
    hashed = blake2b(digest_size=4)
    for array in arrays:
        host = np.ascontiguousarray(to_host(array))
        hashed.update(f"{host.dtype.str}{host.shape}".encode())
        hashed.update(host.tobytes())
    return int.from_bytes(hashed.digest(), "little")

"""Optimizers: they take the gradients of a step, and move the weights when it is over."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from hwsim.arrays import Array, Shape, to_host
from hwsim.cost import Elementwise, Phase
from hwsim.device import Device
from hwsim.errors import ConfigError
from hwsim.ledger import Ledger
from hwsim.tape import Parameter
from hwsim.tile import Activation, Tile

Target = Tile | Parameter | tuple[Activation, str]


class Optimizer(ABC):
    """Gradients in, moved weights out; state by the name of what is moved, so that it can be saved.

    `learning_rate` > 0. Raises ConfigError otherwise.
    """

    def __init__(self, learning_rate: float) -> None:
        if not (math.isfinite(learning_rate) and learning_rate > 0):
            raise ConfigError(f"learning rate {learning_rate:g}: needs a finite value above zero")
        self.learning_rate = learning_rate
        self.state: dict[str, Array] = {}
        self._gradients: dict[Target, tuple[str, Array]] = {}
        self._operands: list[tuple[str, Tile, Array, Array, int]] = []
        self._ops: dict[tuple[Device, str, int], tuple[Device, Elementwise, int]] = {}

    # -- taking (called by the tape, in the backward phase) --------------------------------------------------

    def collect(self, tile: Tile, x: Array, dy: Array, x_values: int = 0) -> None:
        """Form the gradient of a tile now, or keep its operands where the substrate moves in place."""
        if self.in_place(tile):
            self._operands.append((tile.ledger.layer, tile, x, dy, x_values))
        else:
            self._add(tile, tile.ledger, tile.gradient(x, dy, x_values), tile.device)

    def collect_parameter(self, parameter: Parameter, gradient: Array) -> None:
        """Take the gradient of an array that the host holds."""
        # A copy: a sum hands one array to all its terms, and what is collected here is overwritten.
        own = gradient if isinstance(gradient, Shape) else gradient.copy()
        self._add(parameter, parameter.ledger, own, parameter.device)

    def collect_activation(self, activation: Activation, gradients: Mapping[str, Array]) -> None:
        """Take the gradients of a substrate's own nonlinearity."""
        for name, gradient in gradients.items():
            self._add((activation, name), activation.ledger, gradient, activation.device)

    def _add(self, target: Target, ledger: Ledger | None, gradient: Array, device: Device) -> None:
        known = self._gradients.get(target)
        if known is None:
            layer = target.layer if isinstance(target, Parameter) else ledger.layer if ledger is not None else ""
            self._gradients[target] = layer, gradient
            return
        layer, total = known
        if ledger is not None:
            self.work(ledger, device, "accumulate", gradient.size, flops=1, read=2, written=1)
        if not isinstance(total, Shape):
            total += gradient

    def forget(self) -> None:
        """Drop what a step that failed has collected."""
        self._operands.clear()
        self._gradients.clear()

    # -- moving ----------------------------------------------------------------------------------------------

    def move(self, ledger: Ledger) -> None:
        """Move everything that a gradient was taken of, layer by layer, in the update phase."""
        with ledger.scope(phase=Phase.UPDATE):
            for layer, tile, x, dy, x_values in self._operands:
                ledger.layer = layer
                tile.update_outer(x, dy, -self.learning_rate, x_values)
            for target, (layer, gradient) in self._gradients.items():
                ledger.layer = layer
                self._move_one(ledger, target, gradient)
        self.forget()

    def _move_one(self, ledger: Ledger, target: Target, gradient: Array) -> None:
        device = target[0].device if isinstance(target, tuple) else target.device
        self.charge(ledger, device, target, gradient.size)
        shape_only = isinstance(gradient, Shape)
        step = gradient if shape_only else self.step(name_of(target), device, gradient)
        if isinstance(target, Tile):
            target.update(step)
        elif not shape_only:
            if isinstance(target, Parameter):
                target.data += step
            else:
                target[0].update({target[1]: step})

    def in_place(self, tile: Tile) -> bool:
        """Whether this optimizer leaves the rank-m update to the substrate."""
        return False

    @abstractmethod
    def step(self, name: str, device: Device, gradient: Array) -> Array:
        """The step for a gradient, which may be overwritten; state is kept by `name`."""

    def charge(self, ledger: Ledger, device: Device, target: Target, size: int) -> None:
        """Charge the arithmetic of `step` (and, for what the host holds, of the move) to who does it."""

    def work(
        self, ledger: Ledger, device: Device, name: str, size: int, *, flops: int, read: int, written: int
    ) -> None:
        """Charge elementwise work on `size` values: per value, flops and reads and writes in the master format."""
        known = self._ops.get((device, name, size))
        if known is None:
            value_bytes = device.policy.master.bits // 8
            op = Elementwise(name, size, flops * size, value_bytes * read * size, value_bytes * written * size)
            doer = device.who(op)
            known = self._ops[device, name, size] = doer, op, doer.held_bits(op)
        ledger.charge(*known)

    # -- keeping ---------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """State as host arrays and integers."""
        return {name: to_host(value).copy() for name, value in self.state.items()}

    def load(self, saved: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]] | None = None) -> None:
        """Take over what `save` returned; with the `shapes` of all that is moved, what belongs to that alone.

        Raises ConfigError for other names, parts that are missing, other shapes, and values that are no numbers.
        """
        if shapes is not None:
            require_kept(saved, {name: self.keeps(shape) for name, shape in shapes.items()})
        self.state = {name: value.copy() for name, value in saved.items()}

    def keeps(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """What is kept of an array of this shape that has been moved: shapes by what follows its name."""
        return {}


class SGD(Optimizer):
    """w -= learning rate x gradient; with momentum p: v = p v + gradient, w -= learning rate x v.

    Without momentum the multiplication belongs to the tile's own move, or to its rank-m update in place.
    """

    def __init__(self, learning_rate: float, momentum: float = 0.0) -> None:
        super().__init__(learning_rate)
        if not 0 <= momentum < 1:
            raise ConfigError(f"momentum {momentum:g}: needs a value from 0 to below 1")
        self.momentum = momentum

    def in_place(self, tile: Tile) -> bool:
        """Rank-m updates carry no momentum, so only plain gradient descent is done in place."""
        return self.momentum == 0 and tile.updates_in_place

    def step(self, name: str, device: Device, gradient: Array) -> Array:
        """-learning rate x (gradient or its running sum)."""
        if self.momentum:
            velocity = self.state.get(name)
            velocity = device.xp.zeros_like(gradient) if velocity is None else device.xp.asarray(velocity)
            velocity *= self.momentum
            velocity += gradient
            self.state[name] = velocity
            return velocity * -self.learning_rate
        gradient *= -self.learning_rate
        return gradient

    def keeps(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """With momentum, the running sum."""
        return {"": shape} if self.momentum else {}

    def charge(self, ledger: Ledger, device: Device, target: Target, size: int) -> None:
        """Momentum reads and writes its running sum; a host array also reads and writes itself."""
        if self.momentum:
            self.work(ledger, device, "momentum", size, flops=2, read=2, written=1)
        if not isinstance(target, Tile):
            self.work(ledger, device, "sgd", size, flops=2, read=2, written=1)


class Adam(Optimizer):
    """Adam with bias correction. Source: Kingma and Ba 2015, algorithm 1."""

    def __init__(self, learning_rate: float, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
        super().__init__(learning_rate)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def step(self, name: str, device: Device, gradient: Array) -> Array:
        """-learning rate x mean / (sqrt(mean square) + epsilon), both corrected for their start at zero."""
        xp = device.xp
        mean, square = self.state.get(f"{name}|mean"), self.state.get(f"{name}|square")
        if mean is None or square is None:
            mean, square = xp.zeros_like(gradient), xp.zeros_like(gradient)
        mean, square = xp.asarray(mean), xp.asarray(square)  # what was loaded lies on the host
        count = int(self.state.get(f"{name}|count", 0)) + 1
        mean = self.beta1 * mean + (1 - self.beta1) * gradient
        square = self.beta2 * square + (1 - self.beta2) * gradient * gradient
        self.state |= {f"{name}|mean": mean, f"{name}|square": square, f"{name}|count": count}
        scale = -self.learning_rate / (1 - self.beta1**count)
        return scale * mean / (xp.sqrt(square / (1 - self.beta2**count)) + self.epsilon)

    def keeps(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Both means, and how many gradients they are of."""
        return {"|mean": shape, "|square": shape, "|count": ()}

    def charge(self, ledger: Ledger, device: Device, target: Target, size: int) -> None:
        """Twelve flops a value: reads gradient, mean and square, writes mean, square and step."""
        self.work(ledger, device, "adam", size, flops=12, read=3, written=3)
        if not isinstance(target, Tile):
            self.work(ledger, device, "sgd", size, flops=1, read=2, written=1)


OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {
    "sgd": SGD,
    "momentum": lambda learning_rate: SGD(learning_rate, momentum=0.9),
    "adam": Adam,
}


def optimizer(name: str, learning_rate: float) -> Optimizer:
    """The optimizer called `name`. Raises ConfigError for an unknown one, or a learning rate not above zero."""
    try:
        make = OPTIMIZERS[name]
    except KeyError:
        raise ConfigError(f"no optimizer {name!r}; known: {', '.join(OPTIMIZERS)}") from None
    return make(learning_rate)


def name_of(target: Target) -> str:
    """The name that optimizer state is kept by."""
    return f"{target[0].name}/{target[1]}" if isinstance(target, tuple) else target.name


def require_kept(saved: Mapping[str, Any], kept: Mapping[str, Mapping[str, tuple[int, ...]]]) -> None:
    """Refuse state that is not what is `kept` by name; of what no gradient came yet, there is none. ConfigError."""
    known = {name + part: shape for name, parts in kept.items() for part, shape in parts.items()}
    if strays := sorted(set(saved) - set(known)):
        raise ConfigError(f"the optimizer keeps no {', '.join(strays)}")
    for name, parts in kept.items():
        there = [part for part in parts if name + part in saved]
        if there and len(there) < len(parts):
            raise ConfigError(f"of {name!r} the optimizer was saved with {', '.join(there)} of {', '.join(parts)}")
    for name, value in saved.items():
        if tuple(value.shape) != known[name] or value.dtype.kind not in "fiu":
            raise ConfigError(f"optimizer state {name!r} is {value.dtype} {value.shape}; needs numbers {known[name]}")

"""The bench of the conformance kit: what a check is given and may answer, operands, and short runs.

A check takes a `Bench`, and returns what it found or raises `Failed` or `Skipped`. Its name is the function's. The
promises are in `arrays` (shapes, state), `noise`, `accuracy` and `cost`.

Operands of every statistical check: weights normal with RMS 1/4, cut at +-1; x and dy normal with RMS 1; steps normal
with RMS 0.01. A `Contract` is a claim about these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from hwsim import learning, losses, nn, optim
from hwsim.arrays import Array, Shape, generator, key_of, to_host
from hwsim.contract import Contract
from hwsim.cost import Elementwise, Phase
from hwsim.device import Device
from hwsim.ledger import Ledger
from hwsim.tape import Value
from hwsim.tile import Activation, Tile

WEIGHT_RMS, STEP_RMS = 0.25, 0.01
SIGMAS = 5  # of every statistical comparison

HostArray = np.ndarray[Any, Any]


class Failed(Exception):
    """A promise is broken; the text says which, what was found and what was expected."""

    def __init__(self, message: str, claimed: float | None = None, measured: float | None = None) -> None:
        super().__init__(message)
        self.claimed, self.measured = claimed, measured


class Skipped(Exception):
    """A check does not apply to this device or on this machine; the text says why."""


class Found(NamedTuple):
    """What a check that passed has to say."""

    claimed: float | None = None
    measured: float | None = None
    note: str = ""


class Bench:
    """A device to be checked: `make` returns a new one each time, all alike; `seeds` are two seeds of its noise."""

    def __init__(self, make: Callable[[], Device], seeds: tuple[int, int]) -> None:
        self.make, self.seeds = make, seeds

    @cached_property
    def device(self) -> Device:
        """One device, shared by checks that need no new one."""
        return self.make()

    @cached_property
    def contract(self) -> Contract:
        """What the device promises."""
        return self.device.contract

    def seeded(self, seed: int) -> Device:
        """A new device of another seed."""
        return dataclasses.replace(self.make(), seed=seed)


Check = Callable[[Bench], Found | None]


def require(condition: bool, message: str) -> None:
    """Raise Failed with `message` unless `condition` holds."""
    if not condition:
        raise Failed(message)


# -- operands and drivers -------------------------------------------------------------------------------


def normal(device: Device, *shape: int, rms: float = 1.0, key: object = "") -> Array:
    """Normal values, always the same for equal shape and key, as an array of the device."""
    return device.asarray(rms * generator(np, key_of("check", key, shape)).standard_normal(shape))


def weights(device: Device, *shape: int, key: object = "") -> Array:
    """Weights of RMS 1/4 within +-1."""
    return device.asarray(np.clip(to_host(normal(device, *shape, rms=WEIGHT_RMS, key=("w", key))), -1, 1))


def exact(array: Array) -> HostArray:
    """The same values in double precision on the host."""
    return to_host(array).astype(np.float64)


def relative(result: HostArray, wanted: HostArray) -> float:
    """Mean square of the error over the mean square of what is wanted."""
    return float(((result - wanted) ** 2).mean() / (wanted**2).mean())


def same_bits(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """The first name whose arrays or numbers differ in any bit, shape or type; empty where none does."""
    for name in a:
        if name not in b:
            return name
        left, right = np.asarray(to_host(a[name])), np.asarray(to_host(b[name]))
        if left.dtype != right.dtype or left.shape != right.shape or left.tobytes() != right.tobytes():
            return name
    return next((name for name in b if name not in a), "")


def state_of(tile: Tile | Activation) -> dict[str, Any]:
    """A tile's state without the counters of its streams."""
    return {key: value for key, value in tile.save().items() if not key.startswith("drawn/")}


def forward(tile: Tile, x: Array) -> Array:
    """One forward of which nothing needs to be kept."""
    y = tile.forward(x)
    tile.release(x.shape[-2])
    return y


def sequence(device: Device, tile: Tile | None = None) -> dict[str, HostArray]:
    """The results of a fixed sequence of all operations on one tile, by name, as host arrays."""
    m, k, n = 4, 7, 5
    tile = tile or device.program(weights(device, k, n), name="sequence")
    x, dy = normal(device, m, k), normal(device, m, n)
    found: dict[str, Array] = {}
    for turn in ("first", "second"):
        found[f"{turn} forward"] = tile.forward(x)
        found[f"{turn} backward"] = tile.backward(dy)
        found[f"{turn} gradient"] = tile.gradient(x, dy)
        tile.release(m)
        tile.update(normal(device, k, n, rms=STEP_RMS))
        found[f"{turn} read"] = tile.read()
        if tile.updates_in_place:
            tile.update_outer(x, dy, -STEP_RMS)
            found[f"{turn} read after update_outer"] = tile.read()
        found[f"{turn} product"] = device.multiply(x, normal(device, k, n), ledger=tile.ledger)
        with tile.ledger.scope(phase=Phase.EVALUATE):
            found[f"{turn} forward in evaluation"] = tile.forward(x)
        tile.release(m)
    return {name: to_host(array).copy() for name, array in found.items()}


@dataclasses.dataclass(frozen=True)
class TwoLayers:
    """The network of the checks: 6 inputs, 5 hidden units, 3 outputs."""

    activation: str = "relu"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return (6,)

    def __call__(self, net: nn.Network, x: Value) -> Value:
        """x [m, 6] -> [m, 3]."""
        return nn.dense(net, "fc2", nn.dense(net, "fc1", x, 5, activation=self.activation), 3)


class Trained(NamedTuple):
    """What a short training run left behind."""

    losses: list[float]
    ledger: Ledger
    net: nn.Network


def train(
    device: Device, *, optimizer: str = "sgd", activation: str = "relu", shape_only: bool = False, predict: int = 0
) -> Trained:
    """Four steps of the two-layer network on batches of 8 and 3 rows; `predict` rows are evaluated before each."""
    net = nn.Network(TwoLayers(activation), device, ledger=Ledger(), shape_only=shape_only)
    moves, found = optim.optimizer(optimizer, 0.02), []
    for step, m in enumerate((8, 8, 3, 8)):
        if predict:
            net.predict(Shape(predict, 6) if shape_only else normal(device, predict, 6, key="predict"))
        x, labels = normal(device, m, 6, key=step), np.arange(m) % 3
        if shape_only:
            learning.rule("backprop")(net, Shape(m, 6), Shape(m), losses.loss("cross_entropy"), moves)
        else:
            loss = learning.rule("backprop")(net, x, device.asarray(labels), losses.loss("cross_entropy"), moves)
            found.append(float(to_host(loss)))
    return Trained(found, net.ledger, net)


def activations_of(device: Device) -> tuple[str, ...]:
    """The activations that networks of the checks use: ReLU, and the substrate's own where it has one."""
    own = device.uses(Elementwise("device", 5, 0, 0, 0)) is not None
    return ("relu", "device") if own else ("relu",)

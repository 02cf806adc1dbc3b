"""Good devices, and for every check of the conformance kit devices that break its promise and little else.

Where a promise is kept by final code of `Tile` or `Ledger`, and no device can break it by its hooks, the break is in
a subclass of that code, and its docstring says so.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from hwsim.arrays import Array, Shape
from hwsim.contract import Contract
from hwsim.cost import Component, Elementwise, Kind, Op, Phase, Product, Quantity, Role, Use
from hwsim.device import Device
from hwsim.ledger import Ledger, TileShape
from hwsim.parameters import parameter
from hwsim.precision import policy
from hwsim.tile import Activation, Tile

PRODUCTS = (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT, Kind.PRODUCT)


class Good(Device):
    """Exact, its own host, and using everything that the interface has: held bits, moves in place, a nonlinearity."""

    name = "good"
    host = None

    mac_energy_j: float = parameter(1e-12, unit="J", doc="one multiply-accumulate", low=0)

    @property
    def components(self) -> Mapping[str, Component]:
        return {
            "mac": Component(energy_j=self.mac_energy_j, time_s=1e-9),
            "value": Component(energy_j=1e-13, time_s=1e-10),
            "start": Component(Role.HOST, time_s=1e-8, serial=True),
            "converter": Component(Role.CONVERTER, time_s=1e-11),
            "memory": Component(Role.OFF_CHIP_MEMORY, time_s=1e-12),
            "chip": Component(static_power_w=0.1, idle_power_w=0.02),
        }

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        if isinstance(op, Elementwise):
            return {"value": Use(op.size, 8)}
        start = {"start": Use(1)}
        if op.kind in PRODUCTS:
            results = {Kind.BACKWARD: op.m * op.k, Kind.GRADIENT: op.k * op.n}.get(op.kind, op.m * op.n)
            inputs = op.stack * op.m * op.n if op.kind is Kind.BACKWARD else op.x_values or op.stack * op.m * op.k
            sides = {"converter": Use(op.stack * results, 8), "memory": Use(inputs)}
            return {"mac": Use(op.macs, 64), **sides, **start}
        rows = op.m if op.kind in (Kind.UPDATE_OUTER, Kind.RELEASE) else 1
        return {"value": Use(op.stack * rows * op.k * op.n, 8), **start}

    def held_bits(self, op: Op) -> int:
        if not isinstance(op, Product):
            return 0
        return {Kind.FORWARD: 32, Kind.RELEASE: -32}.get(op.kind, 0) * op.stack * op.m * op.n

    def forward(self, tile: Tile, x: Array) -> Array:
        tile.record(mac=(x != 0).sum() * tile.n)
        return super().forward(tile, x)

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        self.update(tile, scale * self.gradient(tile, x, dy))

    def start_activation(self, activation: Activation, n: int) -> None:
        activation.state["slope"] = self.xp.ones(n, dtype=self.xp.float32)

    def activate(self, activation: Activation, x: Array) -> tuple[Array, Any]:
        y = self.xp.tanh(activation.state["slope"] * x)
        return y, y

    def activate_backward(self, activation: Activation, saved: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        return dy * (1 - saved * saved) * activation.state["slope"], {}


class Noisy(Good):
    """A good device with noise of every kind: fixed at programming, fresh at each reading, and in each step."""

    name = "noisy"

    read_noise: float = parameter(0.02, doc="standard deviation added to results", low=0)
    write_noise: float = parameter(0.01, doc="relative standard deviation of programmed weights", low=0)
    step_noise: float = parameter(0.1, doc="relative standard deviation of steps", low=0)

    @property
    def contract(self) -> Contract:
        return Contract(forward=0.016, backward=0.018, gradient=1e-5, update=0.11, deterministic=False)

    def normal(self, tile: Tile, stream: str, shape: tuple[int, ...]) -> Array:
        return tile.rng(stream).standard_normal(shape, dtype=self.xp.float32)

    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w * (1 + self.write_noise * self.normal(tile, "write", tile.shape)))

    def read(self, tile: Tile) -> Array:
        return tile.state["w"] + 0.1 * self.step_noise * 0.01 * self.normal(tile, "read", tile.shape)

    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        return y + self.read_noise * self.normal(tile, "forward", y.shape)

    def backward(self, tile: Tile, dy: Array) -> Array:
        dx = super().backward(tile, dy)
        return dx + self.read_noise * self.normal(tile, "backward", dx.shape)

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step * (1 + self.step_noise * self.normal(tile, "update", tile.shape)))


class WeightNoise(Noisy):
    """Noise in the weights as they are read, fresh for each product: all rows of a batch share it."""

    name = "weight-noise"

    def forward(self, tile: Tile, x: Array) -> Array:
        return x @ (tile.state["w"] * (1 + self.write_noise * self.normal(tile, "forward", tile.shape)))

    def backward(self, tile: Tile, dy: Array) -> Array:
        w = tile.state["w"] * (1 + self.write_noise * self.normal(tile, "backward", tile.shape))
        return dy @ w.swapaxes(-1, -2)


class CommonNoise(Noisy):
    """One draw a product, as of a laser whose power wanders, and one fixed gain a column."""

    name = "common-noise"

    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        tile.state["gain"] = 1 + self.write_noise * self.normal(tile, "gain", (tile.n,))

    def forward(self, tile: Tile, x: Array) -> Array:
        return x @ tile.state["w"] * tile.state["gain"] * (1 + self.read_noise * self.normal(tile, "forward", ()))

    def backward(self, tile: Tile, dy: Array) -> Array:
        dy = dy * tile.state["gain"] * (1 + self.read_noise * self.normal(tile, "backward", ()))
        return dy @ tile.state["w"].swapaxes(-1, -2)


class FrozenNoise(Noisy):
    """Noise that stays for a mini-batch: state, redrawn by every update."""

    name = "frozen-noise"

    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        self.redraw(tile)

    def redraw(self, tile: Tile) -> None:
        for side, n in (("forward", tile.n), ("backward", tile.k)):
            tile.state[side] = self.read_noise * self.normal(tile, side, (*tile.shape[:-2], 1, n))

    def forward(self, tile: Tile, x: Array) -> Array:
        return x @ tile.state["w"] + tile.state["forward"]

    def backward(self, tile: Tile, dy: Array) -> Array:
        return dy @ tile.state["w"].swapaxes(-1, -2) + tile.state["backward"]

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step)
        self.redraw(tile)


class Counts(Good):
    """A good device that keeps a plain number among its arrays, and computes with it."""

    name = "counts"

    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, 2 * w)
        tile.state["scale"] = 0.5

    def read(self, tile: Tile) -> Array:
        return tile.state["scale"] * tile.state["w"]

    def forward(self, tile: Tile, x: Array) -> Array:
        return tile.state["scale"] * super().forward(tile, x)

    def backward(self, tile: Tile, dy: Array) -> Array:
        return tile.state["scale"] * super().backward(tile, dy)

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step / tile.state["scale"])


class Hosted(Noisy):
    """A noisy device that leaves gradients, products and all work on values to its host."""

    name = "hosted"
    host = "digital:fp16"

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        left = isinstance(op, Elementwise) or op.kind in (Kind.GRADIENT, Kind.PRODUCT)
        return None if left else super().activity(op)

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        self.update(tile, scale * (x.swapaxes(-1, -2) @ dy))


# -- arrays in, arrays out ------------------------------------------------------------------------------


class TransposedGradient(Good):
    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        return super().gradient(tile, x, dy).swapaxes(-1, -2)


class DoublePrecisionRead(Good):
    def read(self, tile: Tile) -> Array:
        return super().read(tile).astype(self.xp.float64)


class NoStacks(Good):
    def backward(self, tile: Tile, dy: Array) -> Array:
        return dy @ tile.state["w"].T


class SloppyTile(Tile):
    """Broken final code of Tile: any shape is taken."""

    def _rows(self, a: Array, columns: int, what: str) -> int:
        return int(a.shape[-2])


class AnyShape(Good):
    def program(self, w: Array | Shape, *, name: str, ledger: Ledger | None = None) -> Tile:
        return SloppyTile(self, w, name, ledger if ledger is not None else Ledger())


class GullibleTile(Tile):
    """Broken final code of Tile: NaN is taken."""

    def _require_finite(self, a: Array, what: str) -> None:
        pass


class TakesNaN(Good):
    def program(self, w: Array | Shape, *, name: str, ledger: Ledger | None = None) -> Tile:
        return GullibleTile(self, w, name, ledger if ledger is not None else Ledger())


class ScalesItsInput(Good):
    def forward(self, tile: Tile, x: Array) -> Array:
        x *= 0.5
        return 2 * super().forward(tile, x)


class KeepsItsInput(Good):
    def forward(self, tile: Tile, x: Array) -> Array:
        tile.state["newest"] = x
        return super().forward(tile, x)


class ProgramsInPlace(Good):
    def write(self, tile: Tile, w: Array) -> None:
        tile.state["w"] = w


class HandsOutItsWeights(Good):
    def read(self, tile: Tile) -> Array:
        return tile.state["w"]


class Unseeded(Noisy):
    def normal(self, tile: Tile, stream: str, shape: tuple[int, ...]) -> Array:
        return np.random.default_rng().standard_normal(shape, dtype=np.float32)


class CountsGradients(Good):
    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        tile.state["gradients"] = self.xp.zeros((), dtype=self.xp.int64)

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        tile.state["gradients"] += 1
        return super().gradient(tile, x, dy)


class ScalesByTheLargest(Good):
    def forward(self, tile: Tile, x: Array) -> Array:
        largest = abs(x).max()
        return super().forward(tile, x / largest) * largest


class ActivationChangesInput(Good):
    def activate_backward(self, activation: Activation, saved: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        dy *= 1 - saved * saved
        return dy.copy(), {}


class ActivationWithoutItsParameter(Good):
    def activate_backward(self, activation: Activation, saved: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        return super().activate_backward(activation, saved, dy)[0], {"offset": dy.sum(axis=0)}


class ActivationWithoutSlope(Good):
    def activate_backward(self, activation: Activation, saved: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        return dy.copy(), {}


class SquareTurned(Good):
    def backward(self, tile: Tile, dy: Array) -> Array:
        return dy @ tile.state["w"] if tile.k == tile.n else super().backward(tile, dy)


class FirstOfAStack(Good):
    def forward(self, tile: Tile, x: Array) -> Array:
        w = tile.state["w"]
        return x @ (w[:1] if w.ndim == 3 else w)


class FirstRows(Good):
    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        return super().gradient(tile, x[..., :512, :], dy[..., :512, :])


class AsItLies(Good):
    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step.ravel(order="K").reshape(step.shape))


class StaleWeights(Good):
    """Products go on with the weights that were programmed."""

    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        tile.state["programmed"] = w.copy()

    def backward(self, tile: Tile, dy: Array) -> Array:
        return dy @ tile.state["programmed"].swapaxes(-1, -2)


class DriftUnseen(Good):
    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        self.drift(tile, 0)

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step)
        self.drift(tile, 0)

    def drift(self, tile: Tile, time_s: float) -> None:
        tile.state["seen"] = tile.state["w"] * np.float32((1 + time_s) ** -0.2)

    def read(self, tile: Tile) -> Array:
        return tile.state["seen"].copy()


class OneBuffer(Good):
    """All results of one shape lie in one place."""

    buffers: ClassVar[dict[tuple[int, ...], Array]] = {}

    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        buffer = self.buffers.setdefault(y.shape, np.empty_like(y))
        buffer[...] = y
        return buffer


class OneMatrixForAll(Good):
    """Tiles of one shape lie in one place."""

    places: ClassVar[dict[tuple[int, ...], Array]] = {}

    def write(self, tile: Tile, w: Array) -> None:
        place = tile.state["w"] = self.places.setdefault(w.shape, np.empty_like(w))
        place[...] = w


class ScaledBySquares(Good):
    def backward(self, tile: Tile, dy: Array) -> Array:
        with np.errstate(all="ignore"):
            size = (dy * dy).sum() if dy.size else np.float32(1)
            return super().backward(tile, dy / size) * size


class CountedBySquares(Good):
    def forward(self, tile: Tile, x: Array) -> Array:
        with np.errstate(all="ignore"):
            tile.record(value=(x * x).sum() / (abs(x).max() ** 2 if x.size else 1))
        return super().forward(tile, x)


class WearResets(Good):
    def wear(self, tile: Tile) -> Mapping[str, float]:
        tile.state["asked"] = tile.state.get("asked", 0) + 1
        return {}


class WearReads(Good):
    def wear(self, tile: Tile) -> Mapping[str, float]:
        return {"largest_weight": float(abs(tile.read()).max())}


class WearDraws(Noisy):
    def wear(self, tile: Tile) -> Mapping[str, float]:
        return {"sample": float(self.normal(tile, "wear", (1,))[0])}


class WearOfNothing(Good):
    def wear(self, tile: Tile) -> Mapping[str, float]:
        return {"pulses_per_move": float("nan")}


class NoiseByPlace(Noisy):
    """A row's noise is that of its place in the batch, at every call alike."""

    def forward(self, tile: Tile, x: Array) -> Array:
        rng = np.random.default_rng([self.seed, *tile.name.encode()])
        return x @ tile.state["w"] + np.float32(0.02) * rng.standard_normal((*x.shape[:-1], tile.n), dtype=np.float32)


class NoisierAlongTheBatch(Noisy):
    def forward(self, tile: Tile, x: Array) -> Array:
        y = x @ tile.state["w"]
        ramp = np.linspace(0, 0.04, y.shape[-2], dtype=np.float32)[:, None]
        return y + ramp * self.normal(tile, "forward", y.shape)


class HalfWay(Noisy):
    """Steps go half the way, within the error that is claimed."""

    @property
    def contract(self) -> Contract:
        return dataclasses.replace(super().contract, update=0.6, bias=0.6)

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step / 2)


class OneNoiseForAStack(Noisy):
    def forward(self, tile: Tile, x: Array) -> Array:
        y = x @ tile.state["w"]
        return y + np.float32(0.02) * self.normal(tile, "forward", y.shape[-2:])


class NamesCutShort(Noisy):
    """The key of a stream takes the first letters of the tile's name."""

    def normal(self, tile: Tile, stream: str, shape: tuple[int, ...]) -> Array:
        index = tile.drawn[stream] = tile.drawn.get(stream, 0) + 1
        key = [self.seed, *tile.name[:2].encode(), *stream.encode(), index]
        return np.random.default_rng(key).standard_normal(shape, dtype=np.float32)


class FirstBatchDecides(Good):
    """The first batch, be it one of evaluation, sets the range of all others."""

    def forward(self, tile: Tile, x: Array) -> Array:
        if x.size:
            bound = tile.state.setdefault("bound", abs(x).max())
            x = x.clip(-bound, bound)
        return super().forward(tile, x)


class DriftKeptElsewhere(Good):
    """What drift starts from is kept in a table beside the tile."""

    programmed: ClassVar[weakref.WeakKeyDictionary[Tile, Array]] = weakref.WeakKeyDictionary()

    def drift(self, tile: Tile, time_s: float) -> None:
        w = self.programmed.setdefault(tile, tile.state["w"].copy())
        tile.state["w"] = w * np.float32((1 + time_s) ** -0.05)

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step)
        self.programmed.pop(tile, None)


class AgainstTheStep(Good):
    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, -step)


# -- state ----------------------------------------------------------------------------------------------


class Remembers(Good):
    """A counter on the device itself; the dictionary gets around the frozen dataclass, as an author might."""

    def forward(self, tile: Tile, x: Array) -> Array:
        self.__dict__["forwards"] = self.__dict__.get("forwards", 0) + 1
        return super().forward(tile, x)


class Log(list[Any]):
    """A list that a frozen device can hold, and still write to."""


class RemembersInAList(Good):
    def check(self) -> None:
        object.__setattr__(self, "log", Log())

    def forward(self, tile: Tile, x: Array) -> Array:
        vars(self)["log"].append(tile.name)
        return super().forward(tile, x)


class ForgetsParameters(Good):
    gain: float = parameter(1.0, doc="factor on results", low=0)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class DriftsOn(Good):
    def drift(self, tile: Tile, time_s: float) -> None:
        tile.state["w"] *= np.float32((1 + time_s) ** -0.05)


class DriftsToInfinity(Good):
    def drift(self, tile: Tile, time_s: float) -> None:
        w = tile.state.setdefault("programmed", tile.state["w"].copy())
        tile.state["w"] = np.full_like(w, np.inf) if time_s else w.copy()


class KeepsStateElsewhere(Good):
    """Weights are right only with what a table beside the tile says."""

    moved: ClassVar[weakref.WeakKeyDictionary[Tile, Array]] = weakref.WeakKeyDictionary()

    def update(self, tile: Tile, step: Array) -> None:
        self.moved[tile] = self.moved.get(tile, 0) + step

    def read(self, tile: Tile) -> Array:
        return tile.state["w"] + self.moved.get(tile, 0)

    def forward(self, tile: Tile, x: Array) -> Array:
        return x @ self.read(tile)

    def backward(self, tile: Tile, dy: Array) -> Array:
        return dy @ self.read(tile).swapaxes(-1, -2)


class SavesAText(Good):
    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        tile.state["polarity"] = np.array("normal")


class NumPyOnly(Good):
    def forward(self, tile: Tile, x: Array) -> Array:
        return np.matmul(x, tile.state["w"])


# -- noise ----------------------------------------------------------------------------------------------


class SameNoiseOnAllTiles(Noisy):
    """The key of a stream leaves out the tile's name."""

    def normal(self, tile: Tile, stream: str, shape: tuple[int, ...]) -> Array:
        index = tile.drawn[stream] = tile.drawn.get(stream, 0) + 1
        key = [self.seed, *stream.encode(), index]
        return np.random.default_rng(key).standard_normal(shape, dtype=np.float32)


class SameNoiseBothWays(Noisy):
    """Forward and backward draw the same numbers."""

    def normal(self, tile: Tile, stream: str, shape: tuple[int, ...]) -> Array:
        index = tile.drawn[stream] = tile.drawn.get(stream, 0) + 1
        key = [self.seed, *tile.name.encode(), index]
        return np.random.default_rng(key).standard_normal(shape, dtype=np.float32)


class IgnoresTheSeed(Noisy):
    """The key of a stream leaves out the device's seed."""

    def normal(self, tile: Tile, stream: str, shape: tuple[int, ...]) -> Array:
        index = tile.drawn[stream] = tile.drawn.get(stream, 0) + 1
        key = [*tile.name.encode(), *stream.encode(), index]
        return np.random.default_rng(key).standard_normal(shape, dtype=np.float32)


class Drifts(Noisy):
    """Every forward adds the same once more: differences of successive results are all alike."""

    def forward(self, tile: Tile, x: Array) -> Array:
        ramp = self.xp.linspace(-1, 1, tile.n, dtype=self.xp.float32)
        tile.state["drift"] = tile.state.get("drift", 0 * ramp) + 0.05 * ramp
        return super().forward(tile, x) + tile.state["drift"]


class FixedVariation(Noisy):
    """All noise is drawn at programming, though the contract is not deterministic."""

    read_noise = 0.0
    step_noise = 0.0

    @property
    def contract(self) -> Contract:
        return Contract(forward=0.01, backward=0.01, gradient=1e-5, update=1e-5, deterministic=False)


class NoisyButSaysDeterministic(Noisy):
    @property
    def contract(self) -> Contract:
        return dataclasses.replace(super().contract, deterministic=True)


class VariesButSaysDeterministic(FixedVariation):
    @property
    def contract(self) -> Contract:
        return dataclasses.replace(super().contract, deterministic=True)


# -- accuracy -------------------------------------------------------------------------------------------


class Claims(Noisy):
    """A noisy device whose contract is another one."""

    changed: ClassVar[dict[str, float]] = {}

    @property
    def contract(self) -> Contract:
        return dataclasses.replace(super().contract, **self.changed)


class ClaimsForwardTooWell(Claims):
    changed: ClassVar[dict[str, float]] = {"forward": 0.01}


class ClaimsForwardTooLoosely(Claims):
    changed: ClassVar[dict[str, float]] = {"forward": 0.5}


class ClaimsBackwardTooWell(Claims):
    changed: ClassVar[dict[str, float]] = {"backward": 0.01}


class ClaimsBackwardTooLoosely(Claims):
    changed: ClassVar[dict[str, float]] = {"backward": 0.5}


class ClaimsUpdateTooWell(Claims):
    changed: ClassVar[dict[str, float]] = {"update": 0.05}


class ClaimsUpdateTooLoosely(Claims):
    changed: ClassVar[dict[str, float]] = {"update": 2.0}


class ClaimsGradientTooLoosely(Claims):
    changed: ClassVar[dict[str, float]] = {"gradient": 0.1}


class CoarseGradient(Good):
    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        return policy("bf16").output.round(self.xp, super().gradient(tile, x, dy))


class CoarseProduct(Good):
    def product(self, a: Array, b: Array) -> Array:
        return policy("bf16").output.round(self.xp, super().product(a, b))


class ClaimsOuterTooLoosely(Claims):
    changed: ClassVar[dict[str, float]] = {"update_outer": 2.0}


class AnswersNaN(Good):
    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        y[..., :1, 0] = float("nan")
        return y


class MovesToNaN(Good):
    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step)
        tile.state["w"][..., 0, 0] = float("nan")


class HalfTheOuterProduct(Good):
    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        super().update_outer(tile, x, dy, scale / 2)


class BackwardOfTheWrongSign(Good):
    def backward(self, tile: Tile, dy: Array) -> Array:
        return -super().backward(tile, dy)


class MeanGradient(Good):
    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        return super().gradient(tile, x, dy) / max(x.shape[-2], 1)


class CoarserThanItsFormat(Good):
    def forward(self, tile: Tile, x: Array) -> Array:
        return policy("bf16").output.round(self.xp, super().forward(tile, x))


class WeakGain(Noisy):
    """A tenth of every result is lost: within the claimed error, yet not on average."""

    @property
    def contract(self) -> Contract:
        return dataclasses.replace(super().contract, forward=0.11, bias=0.01)

    def forward(self, tile: Tile, x: Array) -> Array:
        return 0.9 * super().forward(tile, x)


# -- cost -----------------------------------------------------------------------------------------------


class NoBackward(Good):
    def activity(self, op: Op) -> Mapping[str, Use] | None:
        return None if isinstance(op, Product) and op.kind is Kind.BACKWARD else super().activity(op)


class NoSoftmax(Good):
    def activity(self, op: Op) -> Mapping[str, Use] | None:
        return None if isinstance(op, Elementwise) and op.name == "softmax" else super().activity(op)


class CostsByHistory(Good):
    """Asking is counted, and the next answer is dearer."""

    asked: ClassVar[list[Op]] = []

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        self.asked.append(op)
        return {**(super().activity(op) or {}), "value": Use(len(self.asked))}


class CostsByValues(Good):
    """Pulses are counted in the arrays of the newest forward, and asked of the next."""

    newest: ClassVar[list[float]] = [0.0]

    def forward(self, tile: Tile, x: Array) -> Array:
        self.newest[0] = float(abs(x).sum())
        return super().forward(tile, x)

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        return {**(super().activity(op) or {}), "value": Use(self.newest[0])}


class NegativeCount(Good):
    def activity(self, op: Op) -> Mapping[str, Use] | None:
        uses = super().activity(op)
        if isinstance(op, Product) and op.kind is Kind.FORWARD:
            return {**(uses or {}), "value": Use(op.m * op.n - op.k)}
        return uses


class NoUnits(Good):
    def activity(self, op: Op) -> Mapping[str, Use] | None:
        uses = super().activity(op)
        return {"mac": Use(op.macs, op.m // 64)} if isinstance(op, Product) and op.kind is Kind.FORWARD else uses


class UnknownComponent(Good):
    def activity(self, op: Op) -> Mapping[str, Use] | None:
        return {**(super().activity(op) or {}), "flux": Use(1)}


class InstallsAnother(Good):
    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {"chip": 1, "fan": 1}


class QuickerWhenFull(Good):
    """Batches that fill the array run four times as fast, so that 64 rows are quicker than 63."""

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        uses = super().activity(op)
        if isinstance(op, Product) and op.kind is Kind.FORWARD:
            return {**(uses or {}), "mac": Use(op.macs, 256 if op.m % 64 == 0 else 64)}
        return uses


class CheaperWhenFull(Good):
    """As long, but for less energy."""

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        uses = super().activity(op)
        if isinstance(op, Product) and op.kind is Kind.BACKWARD and op.m % 64 == 0:
            return {**(uses or {}), "mac": Use(op.macs / 4, 16)}
        return uses


class ChargesByItself(Good):
    """A hook writes to the ledger: on shapes alone no hook runs."""

    def forward(self, tile: Tile, x: Array) -> Array:
        tile.ledger.charge(self, Elementwise("warm_up", 1, 0, 0, 0))
        return super().forward(tile, x)


class RecordsAnother(Good):
    def forward(self, tile: Tile, x: Array) -> Array:
        tile.record(pulse=x.sum())
        return super().forward(tile, x)


class RecordsLessThanNothing(Good):
    def backward(self, tile: Tile, dy: Array) -> Array:
        tile.record(value=-abs(dy).sum())
        return super().backward(tile, dy)


class AdaptsInEvaluation(Good):
    """A running gain follows every forward, those of evaluation too."""

    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        tile.state["gain"] = self.xp.ones((), dtype=self.xp.float32)

    def forward(self, tile: Tile, x: Array) -> Array:
        if x.size:
            tile.state["gain"] = 0.99 * tile.state["gain"] + 0.01 * (x * x).mean()
        return super().forward(tile, x) * tile.state["gain"]


class NeverReleases(Good):
    def activity(self, op: Op) -> Mapping[str, Use] | None:
        return None if isinstance(op, Product) and op.kind is Kind.RELEASE else super().activity(op)


class ReleasesTooMuch(Good):
    def held_bits(self, op: Op) -> int:
        held = super().held_bits(op)
        return 2 * held if held < 0 else held


class FewRowsCounted(Good):
    def activity(self, op: Op) -> Mapping[str, Use] | None:
        return super().activity(op._replace(m=min(op.m, 2**17)) if isinstance(op, Product) else op)


class OneOfAStackCounted(Good):
    def activity(self, op: Op) -> Mapping[str, Use] | None:
        return super().activity(op._replace(stack=1) if isinstance(op, Product) else op)


class FreeUpdates(Good):
    def activity(self, op: Op) -> Mapping[str, Use] | None:
        return {} if isinstance(op, Product) and op.kind is Kind.UPDATE else super().activity(op)


class InstalledForTheLast(Good):
    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {**super().installed(tiles), "value": float(tiles[-1].k) if tiles else 0.0}


class InstalledWhereFull(Good):
    """Lanes come by 64: a matrix of 48 x 32 has none."""

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {**super().installed(tiles), "mac": float(sum(tile.k // 64 for tile in tiles))}


class HoldsOneOfAStack(Good):
    def held_bits(self, op: Op) -> int:
        return super().held_bits(op._replace(stack=1) if isinstance(op, Product) else op)


class CountsTheFirstRow(Good):
    def backward(self, tile: Tile, dy: Array) -> Array:
        tile.record(value=abs(dy[..., :1, :]).sum())
        return super().backward(tile, dy)


class Miscounted(Good):
    """What products and moves use goes through `changed`, what work on values uses through `changed_values`."""

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        uses = dict(super().activity(op) or {})
        return self.changed_values(op, uses) if isinstance(op, Elementwise) else self.changed(op, uses)

    def changed(self, op: Product, uses: dict[str, Use]) -> dict[str, Use]:
        return uses

    def changed_values(self, op: Elementwise, uses: dict[str, Use]) -> dict[str, Use]:
        return uses


class BackwardOfOneOutput(Miscounted):
    def changed(self, op: Product, uses: dict[str, Use]) -> dict[str, Use]:
        return dict(super(Miscounted, self).activity(op._replace(n=1)) or {}) if op.kind is Kind.BACKWARD else uses


class InputsTimesInputs(Miscounted):
    def changed(self, op: Product, uses: dict[str, Use]) -> dict[str, Use]:
        return {**uses, "mac": Use(op.stack * op.m * op.k**2, 64)} if op.kind is Kind.FORWARD else uses


class UnconvertedErrors(Miscounted):
    def changed(self, op: Product, uses: dict[str, Use]) -> dict[str, Use]:
        return {"mac": uses["mac"], "start": uses["start"]} if op.kind is Kind.BACKWARD else uses

    def held_bits(self, op: Op) -> int:
        return 0


class ConvertsOnceABatch(Miscounted):
    def changed(self, op: Product, uses: dict[str, Use]) -> dict[str, Use]:
        return {**uses, "converter": Use(op.stack * op.n)} if op.kind is Kind.FORWARD else uses


class StackSquared(Miscounted):
    def changed(self, op: Product, uses: dict[str, Use]) -> dict[str, Use]:
        return {**uses, "mac": Use(op.stack * op.macs, 64)} if op.kind is Kind.BACKWARD else uses


class UpdatesUncalled(Miscounted):
    def changed(self, op: Product, uses: dict[str, Use]) -> dict[str, Use]:
        return {"value": uses["value"]} if op.kind is Kind.UPDATE else uses


class RepeatsInGradients(Miscounted):
    def changed(self, op: Product, uses: dict[str, Use]) -> dict[str, Use]:
        return {**uses, "memory": Use(op.stack * op.m * op.k)} if op.kind is Kind.GRADIENT else uses


class RepeatsCostMore(Miscounted):
    def changed(self, op: Product, uses: dict[str, Use]) -> dict[str, Use]:
        if op.kind is not Kind.FORWARD or not op.x_values:
            return uses
        return {**uses, "memory": Use(2 * op.stack * op.m * op.k - op.x_values)}


class FreeSoftmax(Miscounted):
    def changed_values(self, op: Elementwise, uses: dict[str, Use]) -> dict[str, Use]:
        return {} if op.name == "softmax" else uses


class ValuesUncounted(Miscounted):
    def changed_values(self, op: Elementwise, uses: dict[str, Use]) -> dict[str, Use]:
        return {"value": Use(1)}


class AdamElsewhere(Miscounted):
    def changed_values(self, op: Elementwise, uses: dict[str, Use]) -> dict[str, Use]:
        return {"mac": Use(op.flops / 2)} if op.name == "adam" else uses


class FreeRelease(Miscounted):
    def changed(self, op: Product, uses: dict[str, Use]) -> dict[str, Use]:
        return {} if op.kind is Kind.RELEASE else uses


class FasterThanItSays(Good):
    """64 lanes of one MAC a nanosecond are 1.28e11 FLOP/s."""

    precision: str = parameter("fp32", doc="number format")

    @property
    def flop_per_s(self) -> Mapping[str, Quantity]:
        return {"fp32": Quantity(1e11, 1e11, 1e11)}


class CleanEvaluation(Noisy):
    def forward(self, tile: Tile, x: Array) -> Array:
        return x @ tile.state["w"] if tile.ledger.phase is Phase.EVALUATE else super().forward(tile, x)


class NoisierEvaluation(Noisy):
    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        evaluating = tile.ledger.phase is Phase.EVALUATE
        return y + self.read_noise * self.normal(tile, "more", y.shape) if evaluating else y


class BelowLandauer(Good):
    mac_energy_j = 1e-21


class Glutton(Good):
    mac_energy_j = 1e-3


# Which checks must fail on which devices. Those that no device can fail are tested apart.
BROKEN: dict[str, tuple[Callable[[], Good], ...]] = {
    "shapes": (TransposedGradient, DoublePrecisionRead, NoStacks),
    "wrong_shapes": (AnyShape,),
    "not_finite": (TakesNaN,),
    "inputs_untouched": (ScalesItsInput, KeepsItsInput, ProgramsInPlace, HandsOutItsWeights),
    "same_seed_same_bits": (Unseeded,),
    "gradient_leaves_state": (CountsGradients,),
    "empty_batch": (ScalesByTheLargest,),
    "own_activation_shapes": (ActivationChangesInput, ActivationWithoutItsParameter),
    "own_activation_differences": (ActivationWithoutSlope,),
    "state_on_tiles": (Remembers, RemembersInAList),
    "pickling": (partial(ForgetsParameters, gain=2.0),),
    "checkpoint": (KeepsStateElsewhere, SavesAText, DriftKeptElsewhere),
    "sizes": (SquareTurned, FirstOfAStack, FirstRows),
    "layouts": (AsItLies,),
    "products_follow": (StaleWeights, DriftUnseen),
    "tiles_apart": (OneBuffer, OneMatrixForAll),
    "small_values": (ScaledBySquares, CountedBySquares),
    "wear_is_told": (WearResets, WearReads, WearDraws, WearOfNothing),
    "rows_in_any_order": (NoiseByPlace,),
    "drift_from_programming": (DriftsOn, DriftsToInfinity),
    "independent_streams": (
        SameNoiseOnAllTiles,
        SameNoiseBothWays,
        IgnoresTheSeed,
        Drifts,
        OneNoiseForAStack,
        NamesCutShort,
    ),
    "rows_alike": (NoisierAlongTheBatch,),
    "evaluation_noise": (CleanEvaluation, NoisierEvaluation),
    "fresh_noise": (FixedVariation,),
    "deterministic": (NoisyButSaysDeterministic, VariesButSaysDeterministic),
    "claim_forward": (ClaimsForwardTooWell, ClaimsForwardTooLoosely, AnswersNaN),
    "claim_backward": (ClaimsBackwardTooWell, ClaimsBackwardTooLoosely),
    "claim_gradient": (CoarseGradient, ClaimsGradientTooLoosely),
    "claim_product": (CoarseProduct,),
    "claim_update": (ClaimsUpdateTooWell, ClaimsUpdateTooLoosely, MovesToNaN),
    "claim_update_outer": (HalfTheOuterProduct, ClaimsOuterTooLoosely),
    "moves_forward": (AgainstTheStep, HalfWay),
    "adjoint": (BackwardOfTheWrongSign, AnswersNaN),
    "gradient_differences": (MeanGradient,),
    "noise_free": (CoarserThanItsFormat, AnswersNaN),
    "bias": (WeakGain, AnswersNaN),
    "answered": (NoBackward, NoSoftmax),
    "cost_pure": (CostsByHistory, CostsByValues),
    "cost_sane": (NegativeCount, NoUnits, UnknownComponent),
    "installed": (InstallsAnother,),
    "time_monotone": (QuickerWhenFull,),
    "energy_monotone": (CheaperWhenFull,),
    "shape_only": (ChargesByItself,),
    "recorded_counts": (RecordsAnother, RecordsLessThanNothing),
    "evaluation": (AdaptsInEvaluation, FirstBatchDecides),
    "held_bits": (NeverReleases, ReleasesTooMuch),
    "cost_grows": (FewRowsCounted, OneOfAStackCounted, BackwardOfOneOutput),
    "nothing_is_free": (FreeUpdates, FreeRelease),
    "installed_grows": (InstalledForTheLast, InstalledWhereFull),
    "held_bits_grow": (HoldsOneOfAStack,),
    "counts_of_all_rows": (CountsTheFirstRow,),
    "both_ways_alike": (InputsTimesInputs, UnconvertedErrors),
    "converters_take_all": (ConvertsOnceABatch,),
    "stacks_add_up": (StackSquared,),
    "calls_for_all": (UpdatesUncalled,),
    "distinct_inputs": (RepeatsInGradients, RepeatsCostMore),
    "within_stated_rate": (FasterThanItSays,),
    "work_on_values": (FreeSoftmax, ValuesUncounted, AdamElsewhere),
}

"""Faults planted in the built-in devices: each a subclass that is wrong in one thing an author could get wrong.

The docstring of a class says what is wrong. `FAULTS` holds them in order; `Fault.make` returns a new device, and all of
them can be pickled, as they are classes of this module.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hwsim.arrays import Array, generator, key_of
from hwsim.contract import Contract
from hwsim.cost import Kind, Op, Product, Use
from hwsim.device import Device
from hwsim.devices.cpu import Cpu
from hwsim.devices.crossbar import Crossbar
from hwsim.devices.digital import Digital
from hwsim.devices.gpu import Gpu
from hwsim.devices.optical import Optical
from hwsim.devices.reversible import Reversible
from hwsim.ledger import TileShape
from hwsim.precision import policy
from hwsim.tile import Activation, Tile

Uses = Mapping[str, Use] | None


class Fault(NamedTuple):
    """One planted fault."""

    name: str
    what: str
    make: Callable[[], Device]


FAULTS: list[Fault] = []


def planted(preset: str | None = None, **parameters: Any) -> Callable[[type[Device]], type[Device]]:
    """Enter a class into the list, made from a preset and parameters of the device that it spoils."""

    def enter(cls: type[Device]) -> type[Device]:
        what = f"{cls.name}: {(cls.__doc__ or '').strip()}"
        FAULTS.append(Fault(cls.__name__, what, lambda: cls.create(preset, parameters)))
        return cls

    return enter


def is_kind(op: Op, *kinds: Kind) -> bool:
    """Whether an operation is a product of one of these kinds."""
    return isinstance(op, Product) and op.kind in kinds


def scaled(uses: Uses, factor: float) -> Uses:
    """All actions times a factor."""
    return None if uses is None else {name: Use(use.actions * factor, use.units) for name, use in uses.items()}


class Rekeyed:
    """A tile whose streams have other keys: `key` makes them of the tile and the stream's name."""

    def __init__(self, tile: Tile, key: Callable[[Tile, str, int], int]) -> None:
        self.__dict__.update(tile=tile, key=key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tile, name)

    def rng(self, stream: str) -> Any:
        """The next draw of a stream, counted as the tile counts it."""
        index = self.tile.drawn.get(stream, 0)
        self.tile.drawn[stream] = index + 1
        return generator(self.tile.device.xp, self.key(self.tile, stream, index), index)


class Alike:
    """A generator that draws one matrix for all that lie on a stack."""

    def __init__(self, rng: Any) -> None:
        self.inner = rng

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def standard_normal(self, shape: tuple[int, ...], **options: Any) -> Array:
        """Normal values, equal along every axis but the last two."""
        return np.broadcast_to(self.inner.standard_normal(shape[-2:], **options), shape).copy()


# -- products --------------------------------------------------------------------------------------------------


@planted("h100")
class NegativeBackward(Gpu):
    """the errors come back with the other sign"""

    def backward(self, tile: Tile, dy: Array) -> Array:
        return -super().backward(tile, dy)


@planted()
class NotTransposedWhereSquare(Cpu):
    """backward multiplies by w, not its transpose, where both have one shape"""

    def backward(self, tile: Tile, dy: Array) -> Array:
        return dy @ tile.state["w"] if tile.k == tile.n else super().backward(tile, dy)


@planted()
class MeanGradient(Cpu):
    """the gradient is the mean over the batch, not the sum"""

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        return super().gradient(tile, x, dy) / max(x.shape[-2], 1)


@planted("h100")
class FirstBlockOfInputs(Gpu):
    """inputs after the 256th are left out"""

    def forward(self, tile: Tile, x: Array) -> Array:
        return super().forward(tile, x * (self.xp.arange(tile.k) < 256).astype(x.dtype))


@planted()
class FirstBlockOfErrors(Digital):
    """errors after the 512th output are left out"""

    def backward(self, tile: Tile, dy: Array) -> Array:
        return super().backward(tile, dy * (self.xp.arange(tile.n) < 512).astype(dy.dtype))


@planted("h100")
class FirstRowsOfABatch(Gpu):
    """the gradient leaves out the rows after the 256th"""

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        return super().gradient(tile, x[..., :256, :], dy[..., :256, :])


@planted()
class OneRowAlone(Digital):
    """the quick path for a single row forgets the last input"""

    def forward(self, tile: Tile, x: Array) -> Array:
        if x.shape[-2] == 1:
            x = self.xp.concatenate([x[..., :-1], 0 * x[..., -1:]], axis=-1)
        return super().forward(tile, x)


@planted()
class FirstMatrixOfAStack(Digital):
    """every row of a stack meets the first matrix"""

    def forward(self, tile: Tile, x: Array) -> Array:
        w = tile.state["w"]
        return x @ (w[:1] if w.ndim == 3 else w)


@planted()
class OrderOfMemory(Cpu):
    """inputs are taken as they lie in memory, not as they are indexed"""

    def forward(self, tile: Tile, x: Array) -> Array:
        return super().forward(tile, x.ravel(order="K").reshape(x.shape))


@planted("h100")
class DividesByTheLargest(Gpu):
    """inputs are scaled by the square of the largest, which is 0 for small ones"""

    def forward(self, tile: Tile, x: Array) -> Array:
        with np.errstate(all="ignore"):
            largest = abs(x).max() ** 2 if x.size else np.float32(1)
            return super().forward(tile, x / largest) * largest


@planted()
class DividesByTheLargestWeight(Digital):
    """weights are scaled by the largest, which may be 0"""

    def write(self, tile: Tile, w: Array) -> None:
        with np.errstate(all="ignore"):
            largest = abs(w).max()
            super().write(tile, w / largest * largest)


@planted()
class CoarseSums(Digital):
    """the gradient is added up in bf16"""

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        return policy("bf16").output.round(self.xp, super().gradient(tile, x, dy))


@planted()
class DoublePrecision(Cpu):
    """results come in double precision"""

    def forward(self, tile: Tile, x: Array) -> Array:
        return super().forward(tile, x).astype(np.float64)


@planted()
class FirstProductOfAStack(Cpu):
    """a product of two changing operands takes the first matrix of a stack for all"""

    def product(self, a: Array, b: Array) -> Array:
        return a[:1] @ b if a.ndim == 3 else a @ b


# -- moves -----------------------------------------------------------------------------------------------------


@planted(precision="int8")
class StaleCodes(Digital):
    """an update moves the master weights, and products go on with the old codes"""

    def update(self, tile: Tile, step: Array) -> None:
        tile.state["w"] = tile.state["w"] + step


@planted()
class LongStepsCut(Cpu):
    """steps are clipped to twice their usual size"""

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step.clip(-0.02, 0.02))


@planted("h100")
class StepOnTheFirstMatrix(Gpu):
    """an update moves only the first matrix of a stack"""

    def update(self, tile: Tile, step: Array) -> None:
        if step.ndim == 3:
            step = step * (self.xp.arange(len(step)) == 0).astype(step.dtype)[:, None, None]
        super().update(tile, step)


@planted("reram-es")
class TurnedPulses(Crossbar):
    """pulsed moves go the wrong way"""

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        super().update_outer(tile, x, dy, -scale)


@planted("reram-es")
class HalfTheWeights(Crossbar):
    """verified moves stop half-way"""

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step / 2)


@planted()
class DroppedRegisters(Reversible):
    """a step is cut to whole units, never rounded up"""

    def update(self, tile: Tile, step: Array) -> None:
        unit = tile.state["unit"] * 2**12
        super().update(tile, (self.xp.floor(step / unit) * unit).astype(step.dtype))


@planted("pcm")
class DriftsOn(Crossbar):
    """drift starts from what an earlier drift left"""

    def drift(self, tile: Tile, time_s: float) -> None:
        for name in [name for name in tile.state if name.startswith("programmed/")]:
            del tile.state[name]
        super().drift(tile, time_s)


@planted(precision="int8")
class DriftNobodySees(Digital):
    """drift changes what is read, and not what multiplies"""

    def drift(self, tile: Tile, time_s: float) -> None:
        kept = tile.state.setdefault("programmed", tile.state["w"].copy())
        tile.state["w"] = kept * np.float32((1 + time_s) ** -0.2)


# -- arrays of others ------------------------------------------------------------------------------------------


@planted("h100", precision="bf16")
class RoundsInPlace(Gpu):
    """inputs are rounded where they lie"""

    def forward(self, tile: Tile, x: Array) -> Array:
        x[...] = policy("bf16").values.round(self.xp, x)
        return super().forward(tile, x)


@planted()
class ScalesErrorsInPlace(Cpu):
    """the gradient doubles the errors where they lie"""

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        dy *= 2
        return super().gradient(tile, x, dy) / 2


@planted()
class KeepsTheStep(Digital):
    """the new weights are written over the step, and lie there"""

    def update(self, tile: Tile, step: Array) -> None:
        step += tile.state["w"]
        tile.state["w"] = step


@planted()
class HandsOutItsWeights(Cpu):
    """reading hands out the weights themselves"""

    def read(self, tile: Tile) -> Array:
        return tile.state["w"]


SCRATCH: dict[tuple[int, ...], Array] = {}


@planted("h100")
class OneBuffer(Gpu):
    """all results of one shape lie in one buffer"""

    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        buffer = SCRATCH.setdefault(y.shape, self.xp.empty_like(y))
        buffer[...] = y
        return buffer


# -- state -----------------------------------------------------------------------------------------------------


@planted("reram-es")
class CountsOnTheDevice(Crossbar):
    """pulses are counted on the device"""

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        self.__dict__["moves"] = self.__dict__.get("moves", 0) + 1
        super().update_outer(tile, x, dy, scale)


RESIDUALS: weakref.WeakKeyDictionary[Tile, Array] = weakref.WeakKeyDictionary()


@planted()
class ResidualsElsewhere(Reversible):
    """what rounding leaves of a step is kept in a table beside the tile"""

    def update(self, tile: Tile, step: Array) -> None:
        wanted = step + RESIDUALS.get(tile, 0)
        given = self.xp.rint(wanted / tile.state["unit"]) * tile.state["unit"]
        RESIDUALS[tile] = wanted - given
        super().update(tile, given.astype(step.dtype))


@planted("nitride")
class GeneratorOfItsOwn(Optical):
    """noise comes from a generator that the device holds"""

    def forward(self, tile: Tile, x: Array) -> Array:
        rng = self.__dict__.setdefault("rng", np.random.default_rng(self.seed))
        y = super().forward(tile, x)
        return y + np.float32(1e-3) * rng.standard_normal(y.shape, dtype=np.float32)


@planted()
class ListsInState(Cpu):
    """a tile's state holds a list"""

    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        tile.state["history"] = ["programmed"]


@planted("h100")
class GradientCounts(Gpu):
    """a gradient leaves its mark in the state"""

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        tile.state["gradients"] = tile.state.get("gradients", 0) + 1
        return super().gradient(tile, x, dy)


@planted()
class LearnsItsRange(Digital):
    """the first batch sets the range of all, be it one of evaluation"""

    def forward(self, tile: Tile, x: Array) -> Array:
        if x.size:
            bound = tile.state.setdefault("range", self.xp.maximum(abs(x).max(), 1e-6))
            x = x.clip(-bound, bound)
        return super().forward(tile, x)


@planted()
class ForgetsItsNode(Digital):
    """pickling forgets a parameter"""

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt, (type(self), {"seed": self.seed})


def rebuilt(cls: type[Device], parameters: dict[str, Any]) -> Device:
    """A device from part of its parameters."""
    return cls.create(None, {**parameters, "node_nm": 7.0})


@planted("reram-es")
class WearResets(Crossbar):
    """asking for wear resets a counter"""

    def wear(self, tile: Tile) -> dict[str, float]:
        tile.state["asked"] = tile.state.get("asked", 0) + 1
        return super().wear(tile)


@planted("reram-es")
class WearReadsTheCells(Crossbar):
    """wear reads the weights back, and is charged for it"""

    def wear(self, tile: Tile) -> dict[str, float]:
        return {**super().wear(tile), "weight_mean": float(tile.read().mean())}


@planted("reram-es")
class WearBeforeUse(Crossbar):
    """wear divides by the moves there were, also where there were none"""

    def wear(self, tile: Tile) -> dict[str, float]:
        with np.errstate(all="ignore"):
            moves = np.float64(tile.state.get("verified_moves", 0))
            return {**super().wear(tile), "pulses_per_move": float(moves / moves)}


# -- noise -----------------------------------------------------------------------------------------------------


def of_all_but(*left_out: str) -> Callable[[Tile, str, int], int]:
    """The key of a stream without some of its parts."""

    def key(tile: Tile, stream: str, index: int) -> int:
        parts = {"seed": tile.device.seed, "name": tile.name, "stream": stream}
        return key_of("noise", *(str(value) for part, value in parts.items() if part not in left_out))

    return key


class SpoiltCrossbar(Crossbar):
    """A crossbar whose products draw their noise from `key`."""

    def key(self, tile: Tile, stream: str, index: int) -> int:
        """The key of a stream."""
        raise NotImplementedError

    def _read(self, tile: Tile, x: Array, direction: str) -> Array:
        return super()._read(Rekeyed(tile, self.key), x, direction)  # type: ignore[arg-type]


@planted("reram-es")
class BothWaysAlike(SpoiltCrossbar):
    """forward and backward share a stream"""

    def key(self, tile: Tile, stream: str, index: int) -> int:
        return of_all_but("stream")(tile, stream, index)


@planted("reram-es")
class AllTilesAlike(SpoiltCrossbar):
    """all tiles share a stream"""

    def key(self, tile: Tile, stream: str, index: int) -> int:
        return of_all_but("name")(tile, stream, index)


@planted("reram-es")
class AllSeedsAlike(SpoiltCrossbar):
    """the seed is left out of the reads' streams"""

    def key(self, tile: Tile, stream: str, index: int) -> int:
        return of_all_but("seed")(tile, stream, index)


@planted("reram-es")
class NamesCutShort(SpoiltCrossbar):
    """tiles whose names begin alike share a stream"""

    def key(self, tile: Tile, stream: str, index: int) -> int:
        return key_of(str(self.seed), tile.name[:2], stream)


@planted("reram-es")
class Unseeded(SpoiltCrossbar):
    """reads draw from the system's entropy"""

    def key(self, tile: Tile, stream: str, index: int) -> int:
        return int.from_bytes(os.urandom(8), "little")


@planted("reram-es")
class NoiseByPlaceAlone(Crossbar):
    """every read draws the same numbers, row by row of the batch"""

    def forward(self, tile: Tile, x: Array) -> Array:
        tile.drawn["forward"] = 0
        return super().forward(tile, x)


@planted("nitride")
class NoiseOfTheBatch(Optical):
    """noise follows from the first row of the batch, and so from its order"""

    def forward(self, tile: Tile, x: Array) -> Array:
        digest = hashlib.blake2b(np.ascontiguousarray(x[..., :1, :]).tobytes(), digest_size=8).digest()
        found = int.from_bytes(digest, "little")
        return super().forward(Rekeyed(tile, lambda *_: found), x)  # type: ignore[arg-type]


@planted("nitride")
class OneNoiseForAStack(Optical):
    """all matrices of a stack meet the same noise"""

    def forward(self, tile: Tile, x: Array) -> Array:
        if x.ndim == 2 or not x.size:
            return super().forward(tile, x)
        quiet = x @ tile.state["w"]
        return quiet + np.float32(0.02) * Alike(tile.rng("forward")).standard_normal(quiet.shape, dtype=np.float32)


@planted("reram-es")
class NoisierRowByRow(Crossbar):
    """noise grows along the batch, from none to twice its variance"""

    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        quiet = x @ super().read(tile)
        ramp = np.sqrt(2 * np.linspace(0, 1, y.shape[-2], dtype=np.float32))
        return quiet + (y - quiet) * ramp[:, None]


@planted("reram-es")
class OneNoiseForABatch(Crossbar):
    """all rows of a batch meet the same noise"""

    def forward(self, tile: Tile, x: Array) -> Array:
        quiet = x @ super().read(tile)
        noise = tile.rng("forward").standard_normal((*x.shape[:-2], 1, tile.n), dtype=np.float32)
        return quiet + np.float32(0.1) * noise


@planted("nitride")
class SaysDeterministic(Optical):
    """the contract says that results are always the same"""

    @property
    def contract(self) -> Contract:  # type: ignore[override]
        return Contract(1.0, 1.0, 1.0, 1.0, None, 1.0, deterministic=True, rounding_bound=True)


@planted("reram-es", output_noise=0.4)
class FourTimesTheNoise(Crossbar):
    """reads are four times as noisy as is claimed"""


@planted("ecram", claim_update=10.0)
class ClaimsTooLittle(Crossbar):
    """the claim for moves is far above their error"""


# -- nonlinearities ----------------------------------------------------------------------------------------------


@planted("nitride")
class NeuronsTurned(Optical):
    """errors leave the neurons with the other sign"""

    def activate_backward(self, activation: Activation, saved: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        dx, gradients = super().activate_backward(activation, saved, dy)
        return -dx, gradients


@planted("nitride")
class NeuronsInPlace(Optical):
    """neurons cut their inputs where they lie"""

    def activate(self, activation: Activation, x: Array) -> tuple[Array, Any]:
        x *= abs(x) < 1
        return super().activate(activation, x)


# -- counts ------------------------------------------------------------------------------------------------------


@planted()
class WholeTilesAlone(Crossbar):
    """an array that is only partly used is not installed"""

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        cut = [TileShape(s, k // self.rows * self.rows, n // self.columns * self.columns) for s, k, n in tiles]
        return super().installed(cut)


@planted("nitride")
class LastTileMissing(Optical):
    """the last tile is not installed"""

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return super().installed(tiles[:-1])


@planted()
class WholeArraysRead(Crossbar):
    """conversions of an array that is only partly used are not counted"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if uses is None or not is_kind(op, Kind.FORWARD) or not isinstance(op, Product):
            return uses
        whole = (op.k // self.rows) / -(-op.k // self.rows)
        return {name: use._replace(actions=use.actions * whole) if "adc" in name else use for name, use in uses.items()}


@planted("h100")
class OneMatrixOfAStack(Gpu):
    """the count leaves out the stack"""

    def activity(self, op: Op) -> Uses:
        return super().activity(op._replace(stack=1) if isinstance(op, Product) else op)


@planted()
class LongBatchesCut(Cpu):
    """rows after the 65536th are not counted"""

    def activity(self, op: Op) -> Uses:
        return super().activity(op._replace(m=min(op.m, 65536)) if isinstance(op, Product) else op)


@planted()
class NoColumns(Digital):
    """an update is counted by its inputs, whatever its outputs"""

    def activity(self, op: Op) -> Uses:
        return super().activity(op._replace(n=1) if isinstance(op, Product) and is_kind(op, Kind.UPDATE) else op)


@planted("h100")
class FreeBackward(Gpu):
    """errors come back for nothing"""

    def activity(self, op: Op) -> Uses:
        return {} if is_kind(op, Kind.BACKWARD) else super().activity(op)


NEWEST = [1.0]


@planted("h100")
class CostOfArrays(Gpu):
    """an operation costs by how many inputs of the newest batch were not zero"""

    def forward(self, tile: Tile, x: Array) -> Array:
        NEWEST[0] = float((abs(x) > 0.5).mean()) if x.size else 1.0
        return super().forward(tile, x)

    def activity(self, op: Op) -> Uses:
        return scaled(super().activity(op), NEWEST[0]) if is_kind(op, Kind.FORWARD) else super().activity(op)


ASKED = [0]


@planted()
class WarmsUp(Cpu):
    """what is asked first costs more"""

    def activity(self, op: Op) -> Uses:
        ASKED[0] += 1
        return scaled(super().activity(op), 1 + 1 / ASKED[0])


@planted()
class Refund(Digital):
    """a small product gives energy back"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if uses and isinstance(op, Product) and is_kind(op, Kind.FORWARD):
            return {**uses, "alu": Use(op.m * op.n - op.k)}
        return uses


@planted("h100")
class QuickWhenFull(Gpu):
    """batches of whole warps take half the time"""

    def activity(self, op: Op) -> Uses:
        full = isinstance(op, Product) and op.m and op.m % 32 == 0
        return scaled(super().activity(op), 0.5 if full else 1.0)


@planted()
class HoldsOneOfAStack(Reversible):
    """what a stack holds is that of one matrix"""

    def held_bits(self, op: Op) -> int:
        return super().held_bits(op._replace(stack=1) if isinstance(op, Product) else op)


@planted()
class NeverFrees(Reversible):
    """a release frees nothing"""

    def held_bits(self, op: Op) -> int:
        return 0 if is_kind(op, Kind.RELEASE) else super().held_bits(op)


@planted("nitride")
class ReadsItsWeights(Optical):
    """every forward reads the weights back, which a run on shapes alone does not know"""

    def forward(self, tile: Tile, x: Array) -> Array:
        busy = tile._busy
        tile.read()
        tile._busy = busy
        return super().forward(tile, x)


class RecordingCrossbar(Crossbar):
    """A crossbar that records the cells of a read in a way of its own."""

    def cells(self, x: Array) -> Any:
        """What is recorded of inputs x."""
        raise NotImplementedError

    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        busy = tile._busy
        assert busy is not None
        for cell, counts in tile.ledger.actual.items():
            if cell.op == busy[1]:
                counts["cell"] = self.cells(x)
        return y


@planted("reram-es")
class CountIsNoNumber(RecordingCrossbar):
    """cells are counted by squares over the largest square, 0 over 0 for small inputs"""

    def cells(self, x: Array) -> Any:
        with np.errstate(all="ignore"):
            return (x * x).sum() / (abs(x).max() ** 2 if x.size else 1)


@planted("reram-es")
class CountOfOneRow(RecordingCrossbar):
    """cells are counted for the first row of a batch"""

    def cells(self, x: Array) -> Any:
        return (x[:1] * x[:1]).sum()


@planted("reram-es")
class CountWithSign(RecordingCrossbar):
    """cells are counted by inputs with their sign"""

    def cells(self, x: Array) -> Any:
        return x.sum()


# -- what no check can know ----------------------------------------------------------------------------------------


@planted()
class MissingLeakage(Digital):
    """half of the static power is forgotten"""

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {name: count / 2 for name, count in super().installed(tiles).items()}


@planted("h100", die_mm2=8.14e-4)
class WrongUnit(Gpu):
    """the area is a millionth of what it is"""

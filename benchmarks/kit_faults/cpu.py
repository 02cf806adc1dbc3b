"""Faults planted in `cpu`."""

from __future__ import annotations

import numpy as np

from hwsim.arrays import Array
from hwsim.cost import Elementwise, Kind, Op, Product
from hwsim.devices.cpu import Cpu
from hwsim.tile import Tile
from kit_faults.planting import Uses, is_kind, planted, scaled, times, without

TRAFFIC = ("cache_byte", "memory_byte", "pass_cache_byte", "pass_memory_byte")

# -- products --------------------------------------------------------------------------------------------------------


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


@planted()
class OrderOfMemory(Cpu):
    """inputs are taken as they lie in memory, not as they are indexed"""

    def forward(self, tile: Tile, x: Array) -> Array:
        return super().forward(tile, x.ravel(order="K").reshape(x.shape))


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


# -- moves -----------------------------------------------------------------------------------------------------------


@planted()
class LongStepsCut(Cpu):
    """steps are clipped to twice their usual size"""

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step.clip(-0.02, 0.02))


# -- arrays of others ------------------------------------------------------------------------------------------------


@planted()
class ScalesErrorsInPlace(Cpu):
    """the gradient doubles the errors where they lie"""

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        dy *= 2
        return super().gradient(tile, x, dy) / 2


@planted()
class HandsOutItsWeights(Cpu):
    """reading hands out the weights themselves"""

    def read(self, tile: Tile) -> Array:
        return tile.state["w"]


# -- state -----------------------------------------------------------------------------------------------------------


@planted()
class ListsInState(Cpu):
    """a tile's state holds a list"""

    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        tile.state["history"] = ["programmed"]


# -- counts ----------------------------------------------------------------------------------------------------------


@planted()
class LongBatchesCut(Cpu):
    """rows after the 65536th are not counted"""

    def activity(self, op: Op) -> Uses:
        return super().activity(op._replace(m=min(op.m, 65536)) if isinstance(op, Product) else op)


ASKED = [0]


@planted()
class WarmsUp(Cpu):
    """what is asked first costs more"""

    def activity(self, op: Op) -> Uses:
        ASKED[0] += 1
        return scaled(super().activity(op), 1 + 1 / ASKED[0])


@planted()
class OddRowForgotten(Cpu):
    """the gradient of an odd number of rows leaves out the last"""

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        m = x.shape[-2]
        rows = m - m % 2 if m > 1 else m
        return super().gradient(tile, x[..., :rows, :], dy[..., :rows, :])


@planted()
class LargestOfTheLast(Cpu):
    """results are scaled by the largest of the forward before"""

    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        before = tile.state.get("largest", 0.0)
        tile.state["largest"] = float(abs(y).max()) if y.size else 0.0
        return y * np.float32(1 + 1e-3 * before)


@planted()
class HalfTheFlops(Cpu):
    """one floating-point operation is counted for a multiply-accumulate, not two"""

    def activity(self, op: Op) -> Uses:
        return times(super().activity(op), flop=0.5)


@planted()
class BackwardOfOneOutput(Cpu):
    """errors come back as if there were one output"""

    def activity(self, op: Op) -> Uses:
        return super().activity(op._replace(n=1) if isinstance(op, Product) and is_kind(op, Kind.BACKWARD) else op)


@planted()
class FreeElementwise(Cpu):
    """work on values is free"""

    def activity(self, op: Op) -> Uses:
        return {} if isinstance(op, Elementwise) else super().activity(op)


@planted()
class CallsAlone(Cpu):
    """neither arithmetic nor traffic is counted, only calls and packing"""

    def activity(self, op: Op) -> Uses:
        return without(super().activity(op), "flop", "vector_flop", *TRAFFIC)


@planted()
class TrafficOfOneRow(Cpu):
    """traffic is that of one row, whatever the batch"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if uses is None or not isinstance(op, Product) or not op.m:
            return uses
        one = super().activity(op._replace(m=1)) or {}
        return {**uses, **{name: use for name, use in one.items() if "byte" in name}}


@planted()
class GradientOfOneRow(Cpu):
    """the gradient is counted for one row"""

    def activity(self, op: Op) -> Uses:
        if isinstance(op, Product) and is_kind(op, Kind.GRADIENT):
            return super().activity(op._replace(m=min(op.m, 1)))
        return super().activity(op)


@planted()
class UnpackedBackward(Cpu):
    """the way back packs nothing"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        return without(uses, "pack") if is_kind(op, Kind.BACKWARD) else uses

"""Faults planted in `gpu`."""

from __future__ import annotations

import numpy as np

from hwsim.arrays import Array
from hwsim.cost import Elementwise, Kind, Op, Product, Use
from hwsim.devices.gpu import Gpu
from hwsim.precision import policy
from hwsim.tile import Tile
from kit_faults.planting import Uses, is_kind, planted, scaled, without

# -- products --------------------------------------------------------------------------------------------------------


@planted("h100")
class NegativeBackward(Gpu):
    """the errors come back with the other sign"""

    def backward(self, tile: Tile, dy: Array) -> Array:
        return -super().backward(tile, dy)


@planted("h100")
class FirstBlockOfInputs(Gpu):
    """inputs after the 256th are left out"""

    def forward(self, tile: Tile, x: Array) -> Array:
        return super().forward(tile, x * (self.xp.arange(tile.k) < 256).astype(x.dtype))


@planted("h100")
class FirstRowsOfABatch(Gpu):
    """the gradient leaves out the rows after the 256th"""

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        return super().gradient(tile, x[..., :256, :], dy[..., :256, :])


@planted("h100")
class DividesByTheLargest(Gpu):
    """inputs are scaled by the square of the largest, which is 0 for small ones"""

    def forward(self, tile: Tile, x: Array) -> Array:
        with np.errstate(all="ignore"):
            largest = abs(x).max() ** 2 if x.size else np.float32(1)
            return super().forward(tile, x / largest) * largest


# -- moves -----------------------------------------------------------------------------------------------------------


@planted("h100")
class StepOnTheFirstMatrix(Gpu):
    """an update moves only the first matrix of a stack"""

    def update(self, tile: Tile, step: Array) -> None:
        if step.ndim == 3:
            step = step * (self.xp.arange(len(step)) == 0).astype(step.dtype)[:, None, None]
        super().update(tile, step)


# -- arrays of others ------------------------------------------------------------------------------------------------


@planted("h100", precision="bf16")
class RoundsInPlace(Gpu):
    """inputs are rounded where they lie"""

    def forward(self, tile: Tile, x: Array) -> Array:
        x[...] = policy("bf16").values.round(self.xp, x)
        return super().forward(tile, x)


SCRATCH: dict[tuple[int, ...], Array] = {}


@planted("h100")
class OneBuffer(Gpu):
    """all results of one shape lie in one buffer"""

    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        buffer = SCRATCH.setdefault(y.shape, self.xp.empty_like(y))
        buffer[...] = y
        return buffer


# -- state -----------------------------------------------------------------------------------------------------------


@planted("h100")
class GradientCounts(Gpu):
    """a gradient leaves its mark in the state"""

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        tile.state["gradients"] = tile.state.get("gradients", 0) + 1
        return super().gradient(tile, x, dy)


# -- counts ----------------------------------------------------------------------------------------------------------


@planted("h100")
class OneMatrixOfAStack(Gpu):
    """the count leaves out the stack"""

    def activity(self, op: Op) -> Uses:
        return super().activity(op._replace(stack=1) if isinstance(op, Product) else op)


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


@planted("h100")
class QuickWhenFull(Gpu):
    """batches of whole warps take half the time"""

    def activity(self, op: Op) -> Uses:
        full = isinstance(op, Product) and op.m and op.m % 32 == 0
        return scaled(super().activity(op), 0.5 if full else 1.0)


# -- what no check can know ------------------------------------------------------------------------------------------


@planted("h100", die_mm2=8.14e-4)
class WrongUnit(Gpu):
    """the area is a millionth of what it is"""


@planted()
class GradientWithoutMemory(Gpu):
    """a gradient moves nothing to or from memory"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        return without(uses, "dram_byte") if is_kind(op, Kind.GRADIENT) else uses


@planted()
class RepeatedInputsWhole(Gpu):
    """inputs that repeat are counted each time"""

    def activity(self, op: Op) -> Uses:
        return super().activity(op._replace(x_values=0) if isinstance(op, Product) else op)


@planted()
class RepeatedInputsWholeInGradients(Gpu):
    """inputs that repeat are counted each time, but only by gradients"""

    def activity(self, op: Op) -> Uses:
        if isinstance(op, Product) and is_kind(op, Kind.GRADIENT):
            op = op._replace(x_values=0)
        return super().activity(op)


@planted()
class UpdateWithoutLaunch(Gpu):
    """an update launches no kernel"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        return without(uses, "launch") if is_kind(op, Kind.UPDATE) else uses


@planted()
class SoftmaxWithoutLaunch(Gpu):
    """softmax launches no kernel"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        return without(uses, "launch") if isinstance(op, Elementwise) and op.name == "softmax" else uses


@planted()
class AdamMovesNothing(Gpu):
    """the optimizer's numbers are neither read nor written"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        return without(uses, "dram_byte") if isinstance(op, Elementwise) and op.name == "adam" else uses


@planted("h100")
class ResultsUnwritten(Gpu):
    """results of a forward are not written"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if not uses or not isinstance(op, Product) or not is_kind(op, Kind.FORWARD):
            return uses
        result, _ = self._bytes
        return {**uses, "dram_byte": Use(uses["dram_byte"].actions - result * op.stack * op.m * op.n)}


@planted("h100")
class FlopsOfInputs(Gpu):
    """arithmetic is counted by inputs times inputs"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if not uses or not isinstance(op, Product) or not is_kind(op, Kind.FORWARD) or not op.macs:
            return uses
        return {**uses, "flop": Use(2 * op.stack * op.m * op.k * op.k)}

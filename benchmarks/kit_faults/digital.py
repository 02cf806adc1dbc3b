"""Faults planted in `digital`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hwsim.arrays import Array
from hwsim.cost import Elementwise, Kind, Op, Phase, Product, Use
from hwsim.device import Device
from hwsim.devices.digital import Digital
from hwsim.ledger import TileShape
from hwsim.precision import policy
from hwsim.tile import Tile
from kit_faults.planting import Uses, is_kind, planted, times

# -- products --------------------------------------------------------------------------------------------------------


@planted()
class FirstBlockOfErrors(Digital):
    """errors after the 512th output are left out"""

    def backward(self, tile: Tile, dy: Array) -> Array:
        return super().backward(tile, dy * (self.xp.arange(tile.n) < 512).astype(dy.dtype))


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


# -- moves -----------------------------------------------------------------------------------------------------------


@planted(precision="int8")
class StaleCodes(Digital):
    """an update moves the master weights, and products go on with the old codes"""

    def update(self, tile: Tile, step: Array) -> None:
        tile.state["w"] = tile.state["w"] + step


@planted(precision="int8")
class DriftNobodySees(Digital):
    """drift changes what is read, and not what multiplies"""

    def drift(self, tile: Tile, time_s: float) -> None:
        kept = tile.state.setdefault("programmed", tile.state["w"].copy())
        tile.state["w"] = kept * np.float32((1 + time_s) ** -0.2)


# -- arrays of others ------------------------------------------------------------------------------------------------


@planted()
class KeepsTheStep(Digital):
    """the new weights are written over the step, and lie there"""

    def update(self, tile: Tile, step: Array) -> None:
        step += tile.state["w"]
        tile.state["w"] = step


# -- state -----------------------------------------------------------------------------------------------------------


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


# -- counts ----------------------------------------------------------------------------------------------------------


@planted()
class NoColumns(Digital):
    """an update is counted by its inputs, whatever its outputs"""

    def activity(self, op: Op) -> Uses:
        return super().activity(op._replace(n=1) if isinstance(op, Product) and is_kind(op, Kind.UPDATE) else op)


@planted()
class Refund(Digital):
    """a small product gives energy back"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if uses and isinstance(op, Product) and is_kind(op, Kind.FORWARD):
            return {**uses, "alu": Use(op.m * op.n - op.k)}
        return uses


# -- what no check can know ------------------------------------------------------------------------------------------


@planted()
class MissingLeakage(Digital):
    """half of the static power is forgotten"""

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {name: count / 2 for name, count in super().installed(tiles).items()}


@planted()
class TwiceTheStep(Digital):
    """an update goes twice as far"""

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, 2 * step)


@planted(precision="int8")
class ReadsCodes(Digital):
    """reading hands out the codes, not the weights that they stand for"""

    def read(self, tile: Tile) -> Array:
        return tile.state["operand"].copy()


@planted()
class LargeBatchesOff(Digital):
    """errors of more than eight rows come back a hundredth too large"""

    def backward(self, tile: Tile, dy: Array) -> Array:
        return super().backward(tile, dy) * np.float32(1.01 if dy.shape[-2] > 8 else 1)


@planted(precision="int8")
class ExactEvaluation(Digital):
    """evaluation multiplies by the weights as they are kept, not by codes"""

    def forward(self, tile: Tile, x: Array) -> Array:
        return x @ tile.state["w"] if tile.ledger.phase is Phase.EVALUATE else super().forward(tile, x)


@planted()
class SizeForgotten(Digital):
    """work on values costs what it does for one value"""

    def activity(self, op: Op) -> Uses:
        if isinstance(op, Elementwise) and op.size:
            op = op._replace(flops=1, bytes_read=4, bytes_written=4)
        return super().activity(op)


@planted()
class StackSquared(Digital):
    """reads are counted by the square of the stack"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        return times(uses, sram_read=op.stack) if isinstance(op, Product) else uses


@planted()
class RegistersOfResults(Digital):
    """registers switch once a result, not once a multiplication"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if not isinstance(op, Product) or not is_kind(op, Kind.FORWARD) or not op.k:
            return uses
        return times(uses, register=1 / op.k)

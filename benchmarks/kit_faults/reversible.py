"""Faults planted in `reversible`."""

from __future__ import annotations

import weakref

from hwsim.arrays import Array
from hwsim.cost import Kind, Op, Product
from hwsim.devices.reversible import Reversible
from hwsim.tile import Tile
from kit_faults.planting import Uses, is_kind, planted, scaled

# -- moves -----------------------------------------------------------------------------------------------------------


@planted()
class DroppedRegisters(Reversible):
    """a step is cut to whole units, never rounded up"""

    def update(self, tile: Tile, step: Array) -> None:
        unit = tile.state["unit"] * 2**12
        super().update(tile, (self.xp.floor(step / unit) * unit).astype(step.dtype))


# -- state -----------------------------------------------------------------------------------------------------------

RESIDUALS: weakref.WeakKeyDictionary[Tile, Array] = weakref.WeakKeyDictionary()


@planted()
class ResidualsElsewhere(Reversible):
    """what rounding leaves of a step is kept in a table beside the tile"""

    def update(self, tile: Tile, step: Array) -> None:
        wanted = step + RESIDUALS.get(tile, 0)
        given = self.xp.rint(wanted / tile.state["unit"]) * tile.state["unit"]
        RESIDUALS[tile] = wanted - given
        super().update(tile, given.astype(step.dtype))


# -- counts ----------------------------------------------------------------------------------------------------------


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


@planted()
class FreesTwice(Reversible):
    """a release frees twice what was held"""

    def held_bits(self, op: Op) -> int:
        bits = super().held_bits(op)
        return 2 * bits if bits < 0 else bits


@planted(garbage="bennett")
class FreeRelease(Reversible):
    """garbage is computed away for nothing"""

    def activity(self, op: Op) -> Uses:
        return {} if is_kind(op, Kind.RELEASE) else super().activity(op)


@planted(garbage="bennett")
class BackwardOnePass(Reversible):
    """what the way back leaves behind is not computed away"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        return scaled(uses, 0.5) if is_kind(op, Kind.BACKWARD) else uses


@planted()
class GradientOfOneColumn(Reversible):
    """a gradient is counted for one output"""

    def activity(self, op: Op) -> Uses:
        if isinstance(op, Product) and is_kind(op, Kind.GRADIENT):
            op = op._replace(n=min(op.n, 1))
        return super().activity(op)

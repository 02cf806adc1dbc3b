"""Exact arithmetic, free of charge: the reference that every substrate's accuracy is read against."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from hwsim.arrays import Array, add_outer
from hwsim.cost import Elementwise, Kind, Op, Use
from hwsim.device import Device
from hwsim.parameters import parameter
from hwsim.precision import Policy, policy
from hwsim.tile import Tile


class Ideal(Device):
    """Products and functions in plain floating point, without noise.

    It has no cost: it takes no time, no energy and no area, and so belongs in no ranking. It answers "how accurate
    would this network be if the hardware were exact", and is its own host.
    """

    name = "ideal"

    host: str | Device | None = parameter(None, doc="none: it is its own host")
    precision: str = parameter("fp32", doc="number format", choices=("fp32", "fp64"))

    @cached_property
    def policy(self) -> Policy:
        """Every number in `precision`."""
        return policy(self.precision)

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        """Nothing at all, for whatever a host can do and rank-m updates; nothing held, no nonlinearity of its own."""
        if isinstance(op, Elementwise):
            return None if op.name in ("device", "device_backward") else {}
        return None if op.kind is Kind.RELEASE else {}

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        """w += scale x'dy, in place and in one pass over w."""
        add_outer(self.xp, tile.state["w"], x, dy, scale)

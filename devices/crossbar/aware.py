"""Hardware-aware training: a digital machine trains with the noise of the chip that will hold the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hwsim import registry
from hwsim.arrays import Array
from hwsim.contract import Contract
from hwsim.cost import Component, Kind, Op, Product, Use
from hwsim.device import Device
from hwsim.devices.crossbar import Crossbar, reads
from hwsim.devices.crossbar.cells import Cell
from hwsim.errors import DeviceError
from hwsim.ledger import TileShape
from hwsim.parameters import parameter
from hwsim.precision import Policy
from hwsim.tile import Tile


class Aware(Device):
    """Weights are digital and move exactly; forward products see them as the chip would, backward products do not.

    Forward: the chip's converters and read noise, and the programming error of its cells, drawn anew at every move and
    kept for the mini-batch in between (Joshi et al., Nat. Commun. 11:2473, 2020; Rasch et al., Nat. Commun. 14:5282,
    2023). Weights beyond `clip_sigma` of their spread are clipped, so that few large ones do not set the scale. Every
    operation is charged to the machine that trains, `on`; the chip costs nothing until something is deployed on it.
    """

    name = "aware"
    presets_path = Path(__file__).with_name("aware.toml")
    default_preset = "pcm"

    chip: str = parameter(doc="the preset of `crossbar` that the weights are meant for")
    on: str = parameter("digital", doc="the device that trains")
    noise_factor: float = parameter(1.0, doc="on the chip's programming error", low=0)
    clip_sigma: float = parameter(2.5, doc="weights are clipped to so many of their standard deviations", low=0.1)
    claim_forward: float = parameter(doc="RMS relative error, see Contract", low=0)
    claim_update: float = parameter(doc="RMS relative error: what clipping takes", low=0)
    claim_bias: float = parameter(doc="largest mean error", low=0)

    def check(self) -> None:
        """Refuse chips whose forward products cannot be had from weights alone, and machines that there are not."""
        chip, _ = self.hardware, self.machine
        if chip.wires is not None or chip.slice_bits:
            raise DeviceError(f"aware: chip={self.chip} has wire resistance or digits, which noise does not stand for")

    @property
    def excluded(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the machine's joules leave out."""
        return self.machine.excluded

    @cached_property
    def hardware(self) -> Crossbar:
        """The chip."""
        return Crossbar.create(self.chip, {"seed": self.seed, "array": self.array})

    @cached_property
    def machine(self) -> Device:
        """The device that trains."""
        found: Device = registry.device(self.on, array=self.array)
        return found

    @cached_property
    def policy(self) -> Policy:
        """The machine's number formats."""
        return self.machine.policy

    @property
    def contract(self) -> Contract:
        """The machine's own, but for noise in forward products and clipped moves."""
        own = self.machine.contract
        return Contract(self.claim_forward, own.backward, own.gradient, self.claim_update, None, self.claim_bias, False)

    @property
    def components(self) -> Mapping[str, Component]:
        """The machine's."""
        return self.machine.components

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        """The machine's; but moves are whole steps, which are clipped."""
        if isinstance(op, Product) and op.kind is Kind.UPDATE_OUTER:
            return None
        return self.machine.activity(op)

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        """The machine's."""
        return self.machine.installed(tiles)

    def held_bits(self, op: Op) -> int:
        """The machine's."""
        return self.machine.held_bits(op)

    def write(self, tile: Tile, w: Array) -> None:
        """Keep the weights in digital, and draw the chip's errors."""
        super().write(tile, w)
        self._draw(tile)

    def update(self, tile: Tile, step: Array) -> None:
        """Move, clip, and draw the chip's errors anew."""
        super().update(tile, step)
        w = tile.state["w"]
        limit = self.clip_sigma * float(self.xp.sqrt((w * w).mean()))
        self.xp.clip(w, -limit, limit, out=w)
        self._round_operand(tile)
        self._draw(tile)

    def forward(self, tile: Tile, x: Array) -> Array:
        """What the chip would answer, had it been programmed with these weights just now."""
        xp, chip, state = self.xp, self.hardware, tile.state
        lines = xp.zeros((*x.shape[:-2], tile.k), dtype=xp.float32)
        variance = [state.get("variance")]
        y, _ = reads.read(
            chip, tile.rng("forward"), x, [state["noisy"]], variance, lines, backward=False, periphery=chip.periphery
        )
        return y * xp.float32(state["scale"])

    def _draw(self, tile: Tile) -> None:
        """The states that the chip's cells would have after programming, less those of weight 0."""
        xp, chip, state = self.xp, self.hardware, tile.state
        w = state["w"]
        largest = float(xp.abs(w).max())
        state["scale"] = largest / (chip.weight_fill * chip.window) if largest > 0 else 1.0
        value = (w / state["scale"]).astype(xp.float32)
        rng, cell, noisy, variance = tile.rng("chip"), chip.model, value, None
        typical = cell.typical(xp, tile.shape)
        for sign in (1, -1) if chip.paired else (1,):
            target = chip.share(value, sign)
            std = cell.program_std(xp, target, typical)
            if std is not None and self.noise_factor:
                drawn = rng.standard_normal(tile.shape, dtype=xp.float32)
                noisy = noisy + sign * self.noise_factor * std.astype(xp.float32) * drawn
            if type(cell).read_std is not Cell.read_std:
                read: Any = cell.read_std(xp, target, typical)
                variance = read * read + (0 if variance is None else variance)
        state["noisy"] = noisy
        if variance is not None:
            state["variance"] = variance.astype(xp.float32)

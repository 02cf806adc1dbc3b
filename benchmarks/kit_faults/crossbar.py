"""Faults planted in `crossbar`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hwsim.arrays import Array, key_of
from hwsim.cost import Kind, Op, Phase, Product
from hwsim.devices.crossbar import Crossbar
from hwsim.ledger import TileShape
from hwsim.tile import Tile
from kit_faults.planting import Uses, is_kind, planted, scaled, times, without
from kit_faults.streams import Rekeyed, of_all_but

# -- moves -----------------------------------------------------------------------------------------------------------


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


@planted("pcm")
class DriftsOn(Crossbar):
    """drift starts from what an earlier drift left"""

    def drift(self, tile: Tile, time_s: float) -> None:
        for name in [name for name in tile.state if name.startswith("programmed/")]:
            del tile.state[name]
        super().drift(tile, time_s)


# -- state -----------------------------------------------------------------------------------------------------------


@planted("reram-es")
class CountsOnTheDevice(Crossbar):
    """pulses are counted on the device"""

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        self.__dict__["moves"] = self.__dict__.get("moves", 0) + 1
        super().update_outer(tile, x, dy, scale)


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


# -- noise -----------------------------------------------------------------------------------------------------------


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


@planted("reram-es", output_noise=0.4)
class FourTimesTheNoise(Crossbar):
    """reads are four times as noisy as is claimed"""


@planted("ecram", claim_update=10.0)
class ClaimsTooLittle(Crossbar):
    """the claim for moves is far above their error"""


# -- counts ----------------------------------------------------------------------------------------------------------


@planted()
class WholeTilesAlone(Crossbar):
    """an array that is only partly used is not installed"""

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        cut = [TileShape(s, k // self.rows * self.rows, n // self.columns * self.columns) for s, k, n in tiles]
        return super().installed(cut)


@planted()
class WholeArraysRead(Crossbar):
    """conversions of an array that is only partly used are not counted"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if uses is None or not is_kind(op, Kind.FORWARD) or not isinstance(op, Product):
            return uses
        whole = (op.k // self.rows) / -(-op.k // self.rows)
        return {name: use._replace(actions=use.actions * whole) if "adc" in name else use for name, use in uses.items()}


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


@planted()
class ConvertsOnceABatch(Crossbar):
    """results are converted once a batch"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        return times(uses, adc=1 / op.m) if isinstance(op, Product) and is_kind(op, Kind.FORWARD) and op.m else uses


@planted()
class ErrorsConvertedOnceABatch(Crossbar):
    """errors are converted once a batch on their way in"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if not isinstance(op, Product) or not is_kind(op, Kind.BACKWARD) or not op.m:
            return uses
        return times(uses, dac_back=1 / op.m)


@planted()
class CellsOfOneArray(Crossbar):
    """only the cells of the first array conduct"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if not isinstance(op, Product) or not is_kind(op, Kind.FORWARD) or not op.macs:
            return uses
        return times(uses, cell=min(op.k, self.rows) * min(op.n, self.columns) / (op.k * op.n))


@planted()
class ErrorsByOutputs(Crossbar):
    """conversions on the way back are counted by outputs, of which there are none"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if not isinstance(op, Product) or not is_kind(op, Kind.BACKWARD) or not op.k:
            return uses
        return times(uses, adc_back=op.n / op.k)


@planted()
class NoSettlingBackward(Crossbar):
    """nothing settles on the way back"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        return without(uses, "settle") if is_kind(op, Kind.BACKWARD) else uses


@planted("reram-es")
class PulsesOfOneOutput(Crossbar):
    """pulses in place are counted for one output"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if not isinstance(op, Product) or not is_kind(op, Kind.UPDATE_OUTER):
            return uses
        return scaled(uses, 1 / max(op.n, 1))


@planted("reram-es")
class PulsesOfOneRow(Crossbar):
    """pulses in place are counted for one row of the batch"""

    def activity(self, op: Op) -> Uses:
        if isinstance(op, Product) and is_kind(op, Kind.UPDATE_OUTER):
            op = op._replace(m=min(op.m, 1))
        return super().activity(op)


@planted()
class HalfOfTheTiles(Crossbar):
    """every other tile is not installed"""

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return super().installed(list(tiles)[: (len(tiles) + 1) // 2])


@planted()
class GlobalNoise(Crossbar):
    """some noise comes from NumPy's global generator"""

    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        return y + np.float32(1e-3) * np.random.standard_normal(y.shape).astype(np.float32)  # noqa: NPY002


@planted()
class GainOfTheClock(Crossbar):
    """the gain goes with the time of day"""

    def forward(self, tile: Tile, x: Array) -> Array:
        return super().forward(tile, x) * np.float32(1 + 1e-4 * (time.perf_counter() % 1))


@planted()
class CleanEvaluation(Crossbar):
    """evaluation is free of noise"""

    def forward(self, tile: Tile, x: Array) -> Array:
        return x @ super().read(tile) if tile.ledger.phase is Phase.EVALUATE else super().forward(tile, x)


@planted("reram-es")
class EvaluationDrawsAgain(Crossbar):
    """every evaluation draws the same noise"""

    def forward(self, tile: Tile, x: Array) -> Array:
        if tile.ledger.phase is Phase.EVALUATE:
            for stream in tile.drawn:
                tile.drawn[stream] = 0
        return super().forward(tile, x)

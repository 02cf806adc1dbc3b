"""Faults planted in `optical`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hwsim.arrays import Array
from hwsim.contract import Contract
from hwsim.cost import Kind, Op, Phase, Product
from hwsim.devices.optical import Optical
from hwsim.ledger import TileShape
from hwsim.tile import Activation, Tile
from kit_faults.planting import Uses, is_kind, planted, times
from kit_faults.streams import Alike, Rekeyed

# -- state -----------------------------------------------------------------------------------------------------------


@planted("nitride")
class GeneratorOfItsOwn(Optical):
    """noise comes from a generator that the device holds"""

    def forward(self, tile: Tile, x: Array) -> Array:
        rng = self.__dict__.setdefault("rng", np.random.default_rng(self.seed))
        y = super().forward(tile, x)
        return y + np.float32(1e-3) * rng.standard_normal(y.shape, dtype=np.float32)


# -- noise -----------------------------------------------------------------------------------------------------------


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


@planted("nitride")
class SaysDeterministic(Optical):
    """the contract says that results are always the same"""

    @property
    def contract(self) -> Contract:  # type: ignore[override]
        return Contract(1.0, 1.0, 1.0, 1.0, None, 1.0, deterministic=True, rounding_bound=True)


# -- nonlinearities --------------------------------------------------------------------------------------------------


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


# -- counts ----------------------------------------------------------------------------------------------------------


@planted("nitride")
class LastTileMissing(Optical):
    """the last tile is not installed"""

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return super().installed(tiles[:-1])


@planted("nitride")
class ReadsItsWeights(Optical):
    """every forward reads the weights back, which a run on shapes alone does not know"""

    def forward(self, tile: Tile, x: Array) -> Array:
        busy = tile._busy
        tile.read()
        tile._busy = busy
        return super().forward(tile, x)


@planted()
class FirstWeightsBackward(Optical):
    """errors come back through the weights that were programmed first"""

    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        tile.state["first"] = np.array(w, dtype=np.float32)

    def backward(self, tile: Tile, dy: Array) -> Array:
        return dy @ tile.state["first"].swapaxes(-1, -2)


@planted()
class SameNoiseAlways(Optical):
    """every product draws the same noise"""

    def forward(self, tile: Tile, x: Array) -> Array:
        tile.drawn.clear()
        return super().forward(tile, x)


@planted("nitride")
class NoisierTraining(Optical):
    """training meets twice the noise of evaluation"""

    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        return y if tile.ledger.phase is Phase.EVALUATE else y + (y - x @ super().read(tile))


@planted("nitride")
class ModulatorsOfOneUnit(Optical):
    """inputs are modulated once, however many units they go to"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if not isinstance(op, Product) or not is_kind(op, Kind.FORWARD):
            return uses
        copies = max(-(-op.n // self.outputs), 1)
        return times(uses, dac=1 / copies, modulator=1 / copies)


@planted("nitride")
class FirstMatrixDetected(Optical):
    """results of a stack are converted for its first matrix alone"""

    def activity(self, op: Op) -> Uses:
        uses = super().activity(op)
        if not isinstance(op, Product) or not is_kind(op, Kind.FORWARD, Kind.BACKWARD):
            return uses
        return times(uses, adc=1 / max(op.stack, 1))

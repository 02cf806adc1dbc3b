"""Planes of cells: the physical cells behind a tile's weights, one for every place that a weight has a cell at."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from hwsim.arrays import Array
from hwsim.devices.crossbar import converters
from hwsim.devices.crossbar.cells import Cell, PerDevice
from hwsim.devices.crossbar.counter import draw_key
from hwsim.devices.crossbar.moves import AffineCells, Cells, ExponentialCells
from hwsim.devices.crossbar.pulses import TrainParameters, update
from hwsim.devices.crossbar.steps import ConstantStep, ExpStep, LinearStep, SoftBoundsReference
from hwsim.tile import Tile

OWN = "cell."  # begins the names of per-device parameters
FEW = 8  # fewer than one in so many cells are gathered and moved apart from the others
RELATIVE = "relative_slope_"  # begins the names of slopes over steps


class Plane(NamedTuple):
    """Cells [..., k, n] of a tile, kept in its state under `prefix`; `rows` [k] are those that are looked at.

    Kept: "g", persistent states; "seen", those that products see, where the cells have write noise; "pulses" of every
    cell, uint32; "cell.*", the parameters of every cell. Random streams are named after the prefix too.
    """

    tile: Tile
    cell: Cell
    prefix: str = ""
    rows: slice = slice(None)

    def at(self, rows: slice) -> Plane:
        """Some rows of it."""
        return self._replace(rows=rows)

    def _kept(self, name: str) -> Array:
        return self.tile.state[self.prefix + name][..., self.rows, :]

    def _rng(self, stream: str) -> Any:
        return self.tile.rng(self.prefix + stream)

    @property
    def g(self) -> Array:
        """Persistent states."""
        return self._kept("g")

    @property
    def seen(self) -> Array:
        """The states that products see: with write noise, where the cells have it."""
        return self._kept("seen") if self.noisy_writes else self._kept("g")

    @property
    def pulses(self) -> Array:
        """How many pulses each cell has had."""
        return self._kept("pulses")

    @property
    def per_device(self) -> PerDevice:
        """The parameters of these cells."""
        own, start = self.prefix + OWN, len(self.prefix + OWN)
        names = [name for name in self.tile.state if name.startswith(own)]
        return {name[start:]: self.tile.state[name][..., self.rows, :] for name in names}

    def fabricate(self, shape: tuple[int, ...]) -> None:
        """New cells of a shape [..., k, n], without state."""
        xp, state = self.tile.device.xp, self.tile.state
        own = self.cell.populate(xp, self._rng("fabrication"), shape)
        state.update({self.prefix + OWN + name: values.astype(xp.float32) for name, values in own.items()})
        state[self.prefix + "pulses"] = xp.zeros(shape, dtype=xp.uint32)

    def program(self, target: Array, count: Array | float, where: Array | None = None) -> None:
        """Program cells, all or those `where`, to a state within the nominal window, by `count` pulses each."""
        xp, state = self.tile.device.xp, self.tile.state
        if self.prefix + "g" not in state:
            state[self.prefix + "g"] = xp.zeros(target.shape, dtype=xp.float32)
            if self.noisy_writes:
                state[self.prefix + "seen"] = state[self.prefix + "g"].copy()
        self.reprogram(xp.ones(target.shape, dtype=bool) if where is None else where, target, count, "program")

    def reprogram(self, where: Array, target: Array, count: Array | float, stream: str = "refresh") -> None:
        """Program the cells `where` (bool) anew, which takes `count` pulses each; worn cells stay."""
        xp, own = self.tile.device.xp, self.per_device
        again = self.cell.program(xp, target.astype(xp.float32), own, self._rng(stream))
        obeys = where & (self.pulses < own["endurance"]) if "endurance" in own else where
        self._kept("g")[...] = xp.where(obeys, again, self.g)
        self.pulses[...] += (where * count).astype(xp.uint32)
        self.rewrite(obeys)

    def set(self, g: Array) -> None:
        """Let the states be g; write noise moves along."""
        if self.noisy_writes:
            self._kept("seen")[...] += g - self.g
        self._kept("g")[...] = g

    def pulse(self, ups: Array, downs: Array, rng: Any) -> None:
        """Pulse cells, by their own closed form where it is more than once; all pulses are counted, obeyed or not."""
        xp, total = self.tile.device.xp, ups + downs
        touched, g, own, spent = total > 0, self._kept("g"), self.per_device, self.pulses
        chosen: Any = ...
        if int(xp.count_nonzero(touched)) * FEW < total.size:
            chosen = xp.nonzero(touched)
            ups, downs, total = ups[chosen], downs[chosen], total[chosen]
            own = {name: values[chosen] for name, values in own.items()}
        if not total.size:
            return
        now, counts = g[chosen], self.cell.affordable(xp, own, spent[chosen], ups, downs)
        if int(total.max()) == 1:
            once = self.cell.pulse(xp, now, own, counts[0] > 0, rng)
            g[chosen] = xp.where(counts[0] + counts[1] > 0, once, now)
        else:
            g[chosen] = self.cell.pulses(xp, now, own, *counts, rng)
        spent[chosen] += total.astype(xp.uint32)
        if self.noisy_writes:
            seen = self._kept("seen")
            seen[chosen] = xp.where(total > 0, self._apparent(g[chosen], own), seen[chosen])

    def train(self, matrix: int, trains: TrainParameters, family: Cells, rng: Any) -> Array:
        """Pulse trains on matrix number `matrix` of a stack, counted and obeyed in one pass; how many pulses."""
        kept = {name: self._matrix(name, matrix) for name in ("g", "pulses", *(["seen"] * self.noisy_writes))}
        write_std = self.cell.write_noise_std * self.cell.resolution
        up, down = update(self.tile.device.xp, kept["g"], trains, family, rng, pulses=kept["pulses"],
                          seen=kept.get("seen"), write_std=write_std)  # fmt: skip
        return up + down

    def _matrix(self, name: str, matrix: int) -> Array:
        return self._kept(name).reshape(-1, self.tile.k, self.tile.n)[matrix]

    @property
    def noisy_writes(self) -> bool:
        """Whether products see other states than the persistent ones."""
        return self.cell.write_noise_std > 0

    def rewrite(self, touched: Array) -> None:
        """Draw the write noise of `touched` cells anew."""
        if self.noisy_writes:
            seen = self._kept("seen")
            seen[...] = self.tile.device.xp.where(touched, self._apparent(self.g, self.per_device), seen)

    def _apparent(self, g: Array, own: PerDevice) -> Array:
        """The cells' own `apparent`; where that is the common one, the same by the quick noise of the converters."""
        xp, cell, rng = self.tile.device.xp, self.cell, self._rng("write")
        if type(cell).apparent is not Cell.apparent:
            return cell.apparent(xp, g, own, rng)
        drawn = g.reshape(1, -1).copy()
        variance = xp.float32((cell.write_noise_std * cell.resolution) ** 2)
        moves = (own["w_max"] > own["w_min"]).reshape(drawn.shape)
        converters.add_noise(xp, drawn, moves * variance, draw_key(rng))
        return drawn.reshape(g.shape)

    def relax(self) -> None:
        """Decay and diffusion of one update."""
        if self.cell.lifetime is not None or self.cell.diffusion:
            xp = self.tile.device.xp
            self.set(self.cell.relax(xp, self.g, self.per_device, self._rng("relax")).astype(xp.float32))

    def family(self, matrix: int) -> Cells | None:
        """The family by which the fast update of pulses.py knows matrix number `matrix`; None: it does not."""
        cell, state = self.cell, self.tile.state
        if cell.endurance is not None or cell.stuck_probability or cell.dead_probability:
            return None
        if type(cell).apparent is not Cell.apparent:
            return None
        own = partial(self._matrix, matrix=matrix)
        bounds = own(OWN + "w_min"), own(OWN + "w_max")
        if type(cell) is ExpStep and cell.mult_noise:
            curve = cell.A_up, cell.A_down, cell.gamma_up, cell.gamma_down, cell.a, cell.b
            noise = cell.dw_min_std, cell.std_add, cell.std_slope
            return ExponentialCells(own(OWN + "scale_up"), own(OWN + "scale_down"), *bounds, *curve, *noise)
        if type(cell) not in (ConstantStep, LinearStep, SoftBoundsReference) or shifted(cell):
            return None
        assert isinstance(cell, ConstantStep)
        for way, sign in (("up", 1), ("down", -1)):  # slopes per step, worked out once
            if self.prefix + RELATIVE + way not in state:
                slope, step = (self._kept(f"{OWN}{what}_{way}") for what in ("slope", "step"))
                state[self.prefix + RELATIVE + way] = sign * slope / step
        up, down = ((own(f"{OWN}step_{way}"), own(RELATIVE + way)) for way in ("up", "down"))
        return AffineCells(*up, *down, *bounds, cell.dw_min_std, cell.mult_noise)


def shifted(cell: Cell) -> bool:
    """Whether steps are counted from references of their own, which the fast update does not know."""
    if not isinstance(cell, SoftBoundsReference):
        return False
    return bool(cell.reference or vars(cell)["reference_d2d"] or cell.subtract_symmetry_point)

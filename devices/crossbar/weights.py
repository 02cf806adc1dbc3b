"""Signed weights out of cells that know no sign: encodings, digits over several cells, and pulses on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hwsim.arrays import Array
from hwsim.devices.crossbar import converters, pulses
from hwsim.devices.crossbar.activity import Counts
from hwsim.devices.crossbar.cells import Cell
from hwsim.devices.crossbar.planes import Plane
from hwsim.tile import Tile

OFFSET = "offset/"  # the prefix of the cells of offset columns


class Pulsed(NamedTuple):
    """What a move took, in the units of activity.py."""

    pulses: Array | float = 0.0
    half_selected: Array | float = 0.0
    lines: Array | float = 0.0
    slots: Array | float = 0.0
    resets: Array | float = 0.0
    gates: Array | float = 0.0  # cells whose selectors are on, where there are such, each time that a row fires

    def plus(self, other: Pulsed) -> Pulsed:
        """Both, one after the other."""
        return Pulsed(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def counts(self) -> dict[str, Array | float]:
        """By component."""
        names = "pulse", "half_selected", "pulse_line", "slot", "reset", "gate"
        return dict(zip(names, self, strict=True))


class Written(NamedTuple):
    """What programming took: pulses of cells; the share of cells, and of rows with such cells, that were written."""

    pulses: Array | float
    cells: Array | float
    rows: Array | float


class Weights(NamedTuple):
    """The weights of a tile in units of the cells' state: a sum of +-states over the cells of each weight.

    `prefix` tells the fast array of Tiki-Taka from the array that products read. Values [..., k, n] are what a weight
    is less its value at rest, in states; with `slice_bits`, whole multiples of the digit of the lowest slice.
    """

    device: Counts
    tile: Tile
    prefix: str = ""
    rows: slice = slice(None)

    def planes(self, digit: int = 0) -> Iterator[tuple[Plane, int]]:
        """The planes of one slice, and the sign with which each counts."""
        start = self.prefix + (f"slice{digit}/" if self.device.weight_slices > 1 else "")
        names = (("plus/", 1), ("minus/", -1)) if self.device.paired else (("", 1),)
        for name, sign in names:
            yield Plane(self.tile, self.device.model, start + name, self.rows), sign

    def all_planes(self) -> Iterator[Plane]:
        """Every plane of every slice."""
        for digit in range(self.device.weight_slices):
            for plane, _ in self.planes(digit):
                yield plane

    def offset_plane(self, digit: int = 0) -> Plane:
        """The cells [..., k, arrays side by side] of the offset columns of one slice."""
        return Plane(self.tile, self.device.model, f"{self.prefix}slice{digit}/{OFFSET}")

    def at(self, rows: slice) -> Weights:
        """Some rows of them."""
        return self._replace(rows=rows)

    # -- programming -------------------------------------------------------------------------------------

    def fabricate(self) -> None:
        """New cells, and offset columns, which are programmed once."""
        for plane in self.all_planes():
            plane.fabricate(self.tile.shape)
        if self.device.encoding == "offset":
            shape = (*self.tile.shape[:-1], -(-self.tile.n // self.device.columns))
            for digit in range(self.device.weight_slices):
                self.offset_plane(digit).fabricate(shape)
                target = self.device.xp.full(shape, self.rest(digit), self.device.xp.float32)
                self.offset_plane(digit).program(target, self._climb(target))

    def _climb(self, target: Array) -> Array:
        """The pulses that programming a cell to `target` takes: from rest, or those of a verified writing."""
        device = self.device
        if device.programmed:
            return device.program_pulses
        return self.device.xp.rint(abs(target - device.rest) / (device.mean_step / device.pulsed_together))

    def rest(self, digit: int = 0) -> float:
        """The state that stands for 0 in one slice: with digits and one cell a weight, 1 in the highest bit."""
        device, cell = self.device, self.device.model
        if not device.slice_bits or device.paired:
            return device.rest
        top = 2.0 ** (device.slice_bits - 1) if digit == device.weight_slices - 1 else 0.0
        return cell.w_min + top * device.digit

    def program(self, value: Array) -> Written:
        """Program the cells so that the weights have `value`, which lies within what they can hold.

        Cells that hold digits are left alone where their digit stays.
        """
        xp, device, everywhere = self.device.xp, self.device, self.device.xp.ones(value.shape, dtype=bool)
        if not device.slice_bits:
            pulses = []
            for plane, sign in self.planes():
                target = device.share(value, sign)
                count = self._climb(target) * everywhere
                plane.program(target, count)
                pulses.append(count.sum())
            return Written(sum(pulses), 1.0, 1.0)
        whole, bits, cells, rows = xp.rint(value / device.digit), device.weight_slices * device.slice_bits, [], []
        if not device.paired:
            whole = whole + 2 ** (bits - 1)
        for place in range(device.moving):
            part = xp.clip(whole if place == 0 else -whole, 0, 2**bits - 1)
            for digit, aim in enumerate(converters.digits(xp, part, device.slice_bits, device.weight_slices)):
                plane, _ = list(self.planes(digit))[place]
                before = self.tile.state.get(plane.prefix + "aim")
                where = everywhere if before is None else aim != before
                plane.program(device.model.w_min + aim * device.digit, device.program_pulses, where)
                self.tile.state[plane.prefix + "aim"] = aim.astype(xp.uint8)
                cells.append(where.mean())
                rows.append(where.any(axis=-1).mean())
        share = sum(cells) / len(cells)
        return Written(share * len(cells) * value.size * device.program_pulses, share, sum(rows) / len(rows))

    # -- reading -----------------------------------------------------------------------------------------

    def value(self) -> Array:
        """The weights as products see them, without wires and read noise."""
        total = None
        for digit in range(self.device.weight_slices):
            part = self.slice_value(digit) * 2 ** (digit * self.device.slice_bits)
            total = part if total is None else total + part
        return total

    def slice_value(self, digit: int, *, nominal: bool = False) -> Array:
        """The same of one slice, in its own digits' worth; `nominal`: less what offset columns should hold."""
        planes = list(self.planes(digit))
        if len(planes) == 2:
            return planes[0][0].seen - planes[1][0].seen
        seen, rest = planes[0][0].seen, self.rest(digit)
        if self.device.encoding == "offset" and not nominal:
            return seen - self.columns_of(self.offset_plane(digit).seen)[..., self.rows, :]
        return seen - seen.dtype.type(rest) if rest else seen

    def columns_of(self, offsets: Array) -> Array:
        """The offset of every column [..., k, n] from that of every array [..., k, arrays]."""
        return self.device.xp.repeat(offsets, self.device.columns, axis=-1)[..., : self.tile.n]

    def variance(self, digit: int, age_s: float = 0.0) -> Array | None:
        """The variance of reading each weight of one slice [..., k, n], from its cells' own; None: they have none."""
        device = self.device
        if device.read_noise == "none" or type(device.model).read_std is Cell.read_std:
            return None
        total: Any = 0
        for plane, _ in self.planes(digit):
            total = total + self.plane_variance(plane, age_s)
        return total

    def plane_variance(self, plane: Plane, age_s: float) -> Array:
        """The variance of reading the cells of a plane."""
        xp = self.device.xp
        std: Any = self.device.model.read_std(xp, plane.seen, plane.per_device, age_s)
        return (std * std).astype(xp.float32)

    # -- moving ------------------------------------------------------------------------------------------

    def pulse(self, ups: Array, downs: Array, rng: Any) -> Array:
        """Pulse the weights up and down (counts [..., k, n]); how many pulses their cells got."""
        planes = [plane for plane, _ in self.planes()]
        if not self.device.paired:
            planes[0].pulse(ups, downs, rng)
        elif self.device.encoding == "differential":
            planes[0].pulse(ups, downs, rng)
            planes[1].pulse(downs, ups, rng)
        else:
            none = self.device.xp.zeros_like(ups)
            planes[0].pulse(ups, none, rng)
            planes[1].pulse(downs, none, rng)
        return (ups.sum() + downs.sum()) * self.device.pulsed_together

    def pulse_by_rows(self, ups: Array, downs: Array, rng: Any) -> Pulsed:
        """The same, row after row, the same rows of all arrays at once: a row takes as long as its busiest cell."""
        xp, device, rows = self.device.xp, self.device, min(self.tile.k, self.device.rows)
        done = self.pulse(ups, downs, rng)
        per_row = (ups + downs).max(axis=-1)
        slots = self._slots(per_row)
        fired, cells, length = per_row.sum(), self.tile.n * device.pair, device.row_line(self.tile.n)
        halves = xp.maximum(fired * cells + done * (rows - 2), 0)
        return Pulsed(done, halves, fired * length + done * device.rows, slots, gates=fired * cells)

    def _slots(self, per_row: Array) -> Array:
        """Slots of all rows [..., k], one after the other, the same rows of all arrays at once."""
        together = per_row.reshape(-1, per_row.shape[-1]).max(axis=0)
        padded = self.device.xp.pad(together, (0, -len(together) % self.device.rows))
        return padded.reshape(-1, self.device.rows).max(axis=0).sum()

    def train(self, x: Array, d: Array, rate: float, rng: Any) -> Pulsed:
        """Coincidences of pulse trains: value -= rate x'd for x [..., m, k], d [..., m, n], both [states]."""
        device, tile, xp = self.device, self.tile, self.device.xp
        m, k, n = x.shape[-2], tile.k, tile.n
        found, total = [], Pulsed()
        (first, _), *others = self.planes()
        slots, together = 0, device.pulsed_together
        for i, (values, error) in enumerate(zip(x.reshape(tile.stack, m, k), d.reshape(tile.stack, m, n), strict=True)):
            trains = pulses.train_parameters(xp, values, error, rate, device.mean_step, device.trains)
            family = None if others else first.family(i)
            if family is not None:
                done = first.train(i, trains, family, rng)
            else:
                found.append(pulses.coincidences(xp, trains, rng))
                done = (found[-1][0].sum() + found[-1][1].sum()) * together
            length = xp.asarray(trains.slots.astype(xp.float32))
            rows, columns = length @ trains.p_x.sum(axis=1), length @ trains.p_d.sum(axis=1) * device.moving
            halves = xp.maximum(rows * (n * device.pair) + columns * k - 2 * done, 0)
            lines = rows * device.row_line(n) + columns * device.column_line(k)
            total = total.plus(Pulsed(done, halves, lines, gates=rows * (n * device.pair)))
            slots = max(slots, int(trains.slots.sum()))  # matrices of a stack are pulsed side by side
        if found:
            ups, downs = (xp.stack(parts).reshape(tile.shape) for parts in zip(*found, strict=True))
            self.pulse(ups, downs, rng)
        return total._replace(slots=slots)

    def relax(self) -> None:
        """Decay and diffusion of one update."""
        for plane in self.all_planes():
            plane.relax()

    def refresh(self) -> Pulsed:
        """Reset one-sided pairs of which a cell has come close to its bound, and program their difference again."""
        device, xp, tile = self.device, self.device.xp, self.tile
        (plus, _), (minus, _) = self.planes()
        limit = device.model.w_min + device.refresh_at * device.model.span
        full = (plus.g > limit) | (minus.g > limit)
        if not bool(full.any()):
            return Pulsed()
        difference = xp.clip(plus.g - minus.g, -device.window, device.window)
        climb = xp.rint(xp.abs(difference) / xp.float32(device.mean_step))
        for plane, sign in self.planes():
            up = xp.maximum(sign * difference, 0)
            plane.reprogram(full, xp.where(full, device.rest + up, device.rest), climb * (up > 0))
        climbs, resets = (full * climb).sum(), 2 * full.sum()
        across, down = min(tile.n, device.columns) * device.pair, min(tile.k, device.rows)
        lines = climbs * (device.columns * device.pair + device.rows)
        slots = self._slots((full * (1 + climb)).max(axis=-1))
        return Pulsed(climbs, xp.maximum(climbs * (across + down - 2), 0), lines, slots, resets, climbs * across)

"""A matrix cut into units of optics: a mesh chip, or a part of a modulator or of a bank of rings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from hwsim.devices.optical.device import Optics
from hwsim.tile import Tile


class Unit(NamedTuple):
    """One unit: its number, its place among stacked matrices and units, and the rows and columns that it holds."""

    number: int
    place: tuple[int, ...]  # [..., down, across]
    rows: slice
    columns: slice

    @property
    def block(self) -> tuple[Any, ...]:
        """The index of its weights."""
        return (*self.place[:-2], self.rows, self.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Its inputs and outputs in use."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


@cache  # each product asks anew
def cuts(length: int, size: int) -> tuple[slice, ...]:
    """Parts of `size`, the last one as it comes."""
    return tuple(slice(start, min(start + size, length)) for start in range(0, length, size))


def parts(device: Optics, tile: Tile) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The rows and columns of units; light that meets light needs no cuts."""
    if not device.reprogrammed:
        return cuts(tile.k, tile.k), cuts(tile.n, tile.n)
    return cuts(tile.k, device.inputs), cuts(tile.n, device.outputs)


def units(device: Optics, tile: Tile) -> Iterator[Unit]:
    """All units of a tile."""
    down, across = parts(device, tile)
    for number, place in enumerate(np.ndindex(*tile.shape[:-2], len(down), len(across))):
        yield Unit(number, place, down[place[-2]], across[place[-1]])

"""Tiles and generators whose noise is keyed, or shaped, in a wrong way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hwsim.arrays import Array, generator, key_of
from hwsim.tile import Tile


class Rekeyed:
    """A tile whose streams have other keys: `key` makes them of the tile and the stream's name."""

    def __init__(self, tile: Tile, key: Callable[[Tile, str, int], int]) -> None:
        self.__dict__.update(tile=tile, key=key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tile, name)

    def rng(self, stream: str) -> Any:
        """The next draw of a stream, counted as the tile counts it."""
        index = self.tile.drawn.get(stream, 0)
        self.tile.drawn[stream] = index + 1
        return generator(self.tile.device.xp, self.key(self.tile, stream, index), index)


class Alike:
    """A generator that draws one matrix for all that lie on a stack."""

    def __init__(self, rng: Any) -> None:
        self.inner = rng

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def standard_normal(self, shape: tuple[int, ...], **options: Any) -> Array:
        """Normal values, equal along every axis but the last two."""
        return np.broadcast_to(self.inner.standard_normal(shape[-2:], **options), shape).copy()


def of_all_but(*left_out: str) -> Callable[[Tile, str, int], int]:
    """The key of a stream without some of its parts."""

    def key(tile: Tile, stream: str, index: int) -> int:
        parts = {"seed": tile.device.seed, "name": tile.name, "stream": stream}
        return key_of("noise", *(str(value) for part, value in parts.items() if part not in left_out))

    return key

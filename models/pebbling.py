"""In which order to compute and uncompute a chain of segments where only so many results may be live at once.

A segment, such as a layer, is computed from the result before it, and uncomputed from the same: a pebble is put on, or
taken from, place i while one lies on i - 1. On place 0, the input, there always lies one. A schedule is a tuple of
moves: i puts a pebble on place i, -i takes it away. Two things are wanted of a chain of m:

    value   the result of segment m alone is left
    sweep   results m, m - 1, ..., 1 are each live once, in this order, and nothing is left: what a backward pass needs

Sources: C. H. Bennett, Time/space trade-offs for reversible computation, 1989 (the game); E. Knill, An analysis of
Bennett's pebble game, 1995 (the recursion for `value`). That for `sweep` is derived here. Both take as few moves as an
exhaustive search finds, for chains of up to 12 segments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache

from hwsim.errors import ConfigError

Moves = tuple[int, ...]


def value_steps(segments: int, pebbles: int) -> int:
    """The fewest moves that leave the result of the last segment alone. Raises ConfigError for too few pebbles."""
    return _steps(_value, fewest_value_pebbles, segments, pebbles)


def value_moves(segments: int, pebbles: int) -> Moves:
    """A schedule of `value_steps`. Raises ConfigError for too few pebbles."""
    value_steps(segments, pebbles)
    return _value_moves(segments, min(pebbles, segments))


def sweep_steps(segments: int, pebbles: int) -> int:
    """How many moves `sweep_moves` takes. Raises ConfigError for too few pebbles."""
    return _steps(_sweep, fewest_sweep_pebbles, segments, pebbles)


def sweep_moves(segments: int, pebbles: int) -> Moves:
    """A schedule in which results are live once each, the last first. Raises ConfigError for too few pebbles."""
    sweep_steps(segments, pebbles)
    return _sweep_moves(segments, min(pebbles, segments))


def fewest_value_pebbles(segments: int) -> int:
    """The least pebbles with which the result of the last of `segments` can be left alone: s of them reach 2^(s-1)."""
    return 1 + (segments - 1).bit_length()


def fewest_sweep_pebbles(segments: int) -> int:
    """The least pebbles with which the last of `segments` is reached at all: s of them reach 2^s - 1."""
    return segments.bit_length()


def undone(moves: Moves) -> Moves:
    """The schedule that takes `moves` back."""
    return tuple(-move for move in reversed(moves))


def peak(moves: Iterable[int]) -> int:
    """The most results that are live at once. Raises ConfigError for a move that the rules forbid."""
    live, most = {0}, 0
    for move in moves:
        place = abs(move)
        if place - 1 not in live or (place in live) == (move > 0) or place == 0:
            raise ConfigError(f"move {move}: not possible while {sorted(live)} are live")
        live ^= {place}
        most = max(most, len(live) - 1)
    return most


# -- recursions: (moves, place of the first checkpoint) --------------------------------------------------------


@cache
def _value(m: int, s: int) -> tuple[float, int]:
    """Knill's: to a checkpoint, on from there with one pebble less, and the checkpoint away with one less again."""
    if m <= 1:
        return (m if s >= m else math.inf), m
    if s <= 1:
        return math.inf, 0
    return min((_value(j, s)[0] + _value(m - j, s - 1)[0] + _value(j, s - 1)[0], j) for j in range(1, m))


@cache
def _sweep(m: int, s: int) -> tuple[float, int]:
    """To a checkpoint, the sweep above it with one pebble less, and the descent from it."""
    if m == 0:
        return 0, 0
    if s == 0:
        return math.inf, 0
    return min((_value(j, s)[0] + _sweep(m - j, s - 1)[0] + _descent(j, s)[0], j) for j in range(1, m + 1))


@cache
def _descent(m: int, s: int) -> tuple[float, int]:
    """From the result of m alone, which has been of use, to those below it and to nothing: a checkpoint first."""
    if s == 0:
        return math.inf, 0
    if m == 1:
        return 1, 0
    options = [(_value(m, s)[0] + _sweep(m - 1, s)[0], 0)]
    for j in range(1, m):
        options.append((_value(j, s - 1)[0] + _descent(m - j, s - 1)[0] + _descent(j, s)[0], j))
    return min(options)


@cache
def _value_moves(m: int, s: int) -> Moves:
    if m <= 1:
        return tuple(range(1, m + 1))
    j = _value(m, s)[1]
    return _value_moves(j, s) + _above(j, _value_moves(m - j, s - 1)) + undone(_value_moves(j, s - 1))


@cache
def _sweep_moves(m: int, s: int) -> Moves:
    if m == 0:
        return ()
    j = _sweep(m, s)[1]
    return _value_moves(j, s) + _above(j, _sweep_moves(m - j, s - 1)) + _descent_moves(j, s)


@cache
def _descent_moves(m: int, s: int) -> Moves:
    if m == 1:
        return (-1,)
    j = _descent(m, s)[1]
    if j == 0:
        return undone(_value_moves(m, s)) + _sweep_moves(m - 1, s)
    return _value_moves(j, s - 1) + _above(j, _descent_moves(m - j, s - 1)) + _descent_moves(j, s)


def _above(place: int, moves: Moves) -> Moves:
    """`moves` of a chain whose input is the result of `place`."""
    return tuple(move + place if move > 0 else move - place for move in moves)


def _steps(
    recursion: Callable[[int, int], tuple[float, int]], fewest: Callable[[int], int], segments: int, pebbles: int
) -> int:
    """The moves of one recursion, or a ConfigError that says what is missing."""
    if segments < 1 or pebbles < 1:
        raise ConfigError(f"a chain of {segments} segments with {pebbles} live: needs whole numbers from 1")
    if pebbles < fewest(segments):
        raise ConfigError(f"{segments} segments with {pebbles} results live: needs {fewest(segments)} or more live")
    return int(recursion(segments, min(pebbles, segments))[0])

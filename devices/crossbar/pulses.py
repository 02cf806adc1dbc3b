"""Stochastic pulse trains: from x, d and a learning rate to coincidences, and from coincidences to moved cells.

Every line of the array fires in each slot of its train with a probability proportional to its own x_i or d_j; where a
row and a column fire in one slot, the cell between them is pulsed once, up where x_i d_j < 0 (w += -lr x'd). All
cells of a line share its train, and that is kept: trains are bits, the samples of a batch back to back, so that
counting is one popcount of (x bits and d bits) for 32 slots. Independent binomials per cell would get each cell right
and understate the variance of a column's sum (39-fold at 256 rows, p = .2 and .3).

Then each cell takes its n pulses at once, in closed form (moves.py says what is exact in that). `pulse_by_pulse` and
moves.pulsed are the slow reference: slot after slot, pulse after pulse.

Sources: Gokmen and Vlasov, Front. Neurosci. 10:333 (2016), for the trains; Gokmen, Onen and Haensch, Front. Neurosci.
11:538 (2017), for update management; the equations are aihwkit's (Rasch et al., AICAS 2021), which add the management
of the train's length.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from hwsim.arrays import Array, Namespace, to_host
from hwsim.devices.crossbar.counter import draw_key, subkeys, uniforms
from hwsim.devices.crossbar.moves import Cells, moved
from hwsim.errors import ConfigError, NotFiniteError, ShapeError

MOST_SLOTS = 4095  # of one block of samples: the kernels hold a count in 12 bits; a longer batch is done in blocks
FEW_CELLS = 1 << 17  # a thread of its own takes longer to start than these take (measured: 0.1 ms)


@dataclass(frozen=True)
class TrainSettings:
    """How trains are made. Raises ConfigError where a train would have no slot.

    desired_bl: most slots of a train. update_bl_management: shorter trains where the largest product needs fewer
    pulses. update_management: x and d are scaled so that their largest lines fire equally often.
    """

    desired_bl: int = 31
    update_management: bool = True
    update_bl_management: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.desired_bl, bool) or not isinstance(self.desired_bl, int) or self.desired_bl < 1:
            raise ConfigError(f"desired_bl={self.desired_bl}: a pulse train needs a whole number of slots, 1 or more")
        if self.desired_bl > MOST_SLOTS:
            raise ConfigError(f"desired_bl={self.desired_bl}: at most {MOST_SLOTS} slots; 31 is usual")


class TrainParameters(NamedTuple):
    """Trains of a batch before any draw. Products pulse up where exactly one of the two signs is negative."""

    slots: np.ndarray[Any, Any]  # [m], on the host: length of each sample's train; 0: nothing to do
    p_x: Array  # [m, k] float32, probability that the row fires in a slot
    p_d: Array  # [m, n] float32
    x_negative: Array  # [m, k] bool
    d_negative: Array  # [m, n] bool


def train_parameters(
    xp: Namespace, x: Array, d: Array, learning_rate: float, dw_min: float, settings: TrainSettings
) -> TrainParameters:
    """Length and probabilities of each sample's trains for w += -learning_rate x'd, x [m, k], d [m, n].

    A pulse moves a cell by `dw_min` [weight units], so that slots p_x p_d = learning_rate |x d| / dw_min where no
    probability is cut at 1. Raises ConfigError, ShapeError, NotFiniteError.
    """
    if not (math.isfinite(learning_rate) and learning_rate >= 0):
        raise ConfigError(f"learning rate {learning_rate}: needs a finite number, 0 or more; signs belong to d")
    if not (math.isfinite(dw_min) and dw_min > 0):
        raise ConfigError(f"dw_min={dw_min}: the step of one pulse needs a finite number above 0")
    if x.ndim != 2 or d.ndim != 2 or len(x) != len(d):
        raise ShapeError(f"x has shape {tuple(x.shape)}, d {tuple(d.shape)}; needs [m, k] and [m, n]")
    x_size, d_size = xp.abs(x), xp.abs(d)
    x_max = to_host(x_size.max(axis=1)).astype(np.float64)
    d_max = to_host(d_size.max(axis=1)).astype(np.float64)
    if not (np.isfinite(x_max).all() and np.isfinite(d_max).all()):
        raise NotFiniteError("x or d holds NaN or infinity; pulse trains need finite values")
    wanted = learning_rate * x_max * d_max / dw_min  # pulses for the largest product
    slots = np.full(len(wanted), settings.desired_bl)
    if settings.update_bl_management:
        slots = np.minimum(np.ceil(wanted), settings.desired_bl).astype(np.int64)
    slots[wanted == 0] = 0
    gain = np.sqrt(learning_rate / (dw_min * np.maximum(slots, 1)))
    x_gain, d_gain = gain, gain
    if settings.update_management:
        cut = np.minimum(1.0, settings.desired_bl / np.maximum(wanted, 1e-300))
        ratio = np.sqrt(np.divide(x_max, d_max * cut, out=np.ones_like(wanted), where=wanted > 0))
        x_gain, d_gain = gain / ratio, gain * ratio
    p_x = xp.minimum(x_size * xp.asarray(x_gain.astype(np.float32))[:, None], 1)
    p_d = xp.minimum(d_size * xp.asarray(d_gain.astype(np.float32))[:, None], 1)
    return TrainParameters(slots, p_x.astype(xp.float32), p_d.astype(xp.float32), x < 0, d < 0)


class Words(NamedTuple):
    """Trains as bits, slot t of the block in bit t % 32 of word t // 32; an even number of words, zeros at the end."""

    x_fire: Array  # [words, k] uint32
    x_sign: Array  # [words, k] uint32, set where it fires and x < 0
    d_fire: Array  # [words, n] uint32
    d_sign: Array  # [words, n] uint32


def draw_words(parameters: TrainParameters, key: int) -> Words:
    """The trains of a block as bits, by Numba. P(fire) = p rounded up to a multiple of 2^-24; 0 and 1 are exact."""
    sample = np.repeat(np.arange(len(parameters.slots)), parameters.slots)
    words = 2 * -(-len(sample) // 64)
    found = []
    lines = (parameters.p_x, parameters.x_negative), (parameters.p_d, parameters.d_negative)
    for part, (p, negative) in zip(subkeys(key, 2), lines, strict=True):
        fire, sign = np.zeros((2, words, p.shape[1]), np.uint32)
        numba_kernels().draw_words(np.uint64(part), sample, np.ascontiguousarray(p), negative, fire, sign)
        found += [fire, sign]
    return Words(*found)


def draw_trains(xp: Namespace, parameters: TrainParameters, key: int) -> tuple[Array, Array]:
    """The same trains as x [slots, k], d [slots, n] float32: 0, or the sign of a line that fires."""
    sample = xp.asarray(np.repeat(np.arange(len(parameters.slots)), parameters.slots))
    trains = []
    lines = (parameters.p_x, parameters.x_negative), (parameters.p_d, parameters.d_negative)
    for part, (p, negative) in zip(subkeys(key, 2), lines, strict=True):
        high, low = uniforms(xp, part, ((len(sample) + 1) // 2, p.shape[1]))
        u = xp.stack([high, low], axis=1).reshape(-1, p.shape[1])[: len(sample)]
        fire = (u < p[sample]).astype(xp.float32)
        trains.append(xp.where(negative[sample], -fire, fire))
    return trains[0], trains[1]


def unpack(words: Words, slots: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What draw_trains gives, from words."""
    trains = []
    for fire, sign in ((words.x_fire, words.x_sign), (words.d_fire, words.d_sign)):
        bit = np.arange(32, dtype=np.uint32)[:, None]
        on, minus = ((part[:, None] >> bit & 1).reshape(-1, part.shape[1])[:slots] for part in (fire, sign))
        trains.append(on.astype(np.float32) - 2 * minus.astype(np.float32))
    return trains[0], trains[1]


def count_trains(xp: Namespace, x: Array, d: Array) -> tuple[Array, Array]:
    """Pulses up and down [k, n] float32 of trains x [slots, k], d [slots, n]: two products, exact below 2^24."""
    total, net = xp.abs(x).T @ xp.abs(d), x.T @ d
    return (total - net) * 0.5, (total + net) * 0.5


def count_words(words: Words, threads: int = 1) -> tuple[Array, Array]:
    """Pulses up and down [k, n] int32 of packed trains, by Numba."""
    shape = words.x_fire.shape[1], words.d_fire.shape[1]
    ups, downs = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    _by_rows(ups, threads, lambda begin, end: numba_kernels().count(*words, begin, end, ups, downs))
    return ups, downs


def coincidences(xp: Namespace, parameters: TrainParameters, rng: Any, threads: int = 1) -> tuple[Array, Array]:
    """Pulses up and down [k, n] int32 of a whole batch."""
    shape = parameters.p_x.shape[1], parameters.p_d.shape[1]
    ups, downs = xp.zeros(shape, xp.int32), xp.zeros(shape, xp.int32)
    for block, key, _ in _blocks(parameters, rng):
        if xp is np and numba_kernels() is not None:
            up, down = count_words(draw_words(block, key), threads)
        else:
            up, down = count_trains(xp, *draw_trains(xp, block, key))
        ups += up.astype(xp.int32)
        downs += down.astype(xp.int32)
    return ups, downs


def pulse_by_pulse(
    parameters: TrainParameters, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """The reference: for each slot of each sample in order, the cells [k, n] that are pulsed up, and down."""
    _, p_x, p_d, x_negative, d_negative = parameters
    for s, slots in enumerate(parameters.slots):
        rises = x_negative[s][:, None] ^ d_negative[s][None, :]
        for _ in range(slots):
            coincide = (rng.random(p_x.shape[1]) < p_x[s])[:, None] & (rng.random(p_d.shape[1]) < p_d[s])[None, :]
            yield coincide & rises, coincide & ~rises


def update(
    xp: Namespace,
    w: Array,
    parameters: TrainParameters,
    cells: Cells,
    rng: Any,
    *,
    pulses: Array | None = None,
    threads: int = 1,
) -> tuple[int | Array, int | Array]:
    """Pulse w [k, n] float32 in place; returns the pulses up and down, all cells together.

    `pulses` [k, n] uint32, where given, is raised by what each cell got. `threads` share the rows on NumPy with
    Numba; the result depends on neither of them. Draws one 64-bit integer from `rng`.
    """
    shape = parameters.p_x.shape[1], parameters.p_d.shape[1]
    if tuple(w.shape) != shape or w.dtype != xp.float32:
        raise ShapeError(f"w has shape {tuple(w.shape)} of {w.dtype}; these trains need {shape} of float32")
    up_total, down_total = 0, 0
    fast = xp is np and w.flags.c_contiguous and numba_kernels() is not None
    for block, key, noise_key in _blocks(parameters, rng):
        if fast:
            totals = _fused(w, draw_words(block, key), cells, noise_key, pulses, threads)
            up_total, down_total = up_total + int(totals[0]), down_total + int(totals[1])
            continue
        ups, downs = (a.astype(xp.float32) for a in count_trains(xp, *draw_trains(xp, block, key)))
        turns = -((ups + downs).max(axis=1, keepdims=True) // -cells.at_once)  # of each row its own
        for turn in range(int(turns.max())):
            ends = (xp.minimum(xp.asarray(t), turns) / xp.maximum(turns, 1) for t in (turn, turn + 1))
            before, after = (share.astype(xp.float32) ** 2 for share in ends)
            up, down = ((a * after).astype(xp.int32) - (a * before).astype(xp.int32) for a in (ups, downs))
            w[...] = moved(xp, cells, w, up, down, noise_key, turn * w.size)
        if pulses is not None:
            pulses += (ups + downs).astype(xp.uint32)
        up_total, down_total = up_total + ups.sum(dtype=xp.float64), down_total + downs.sum(dtype=xp.float64)
    return up_total, down_total


def _fused(w: Array, words: Words, cells: Cells, key: int, pulses: Array | None, threads: int) -> Array:
    """Count and move in one pass over w, by Numba; the pulses up and down."""
    name, arguments = cells.kernel(w)
    work = getattr(numba_kernels(), name)
    noted = np.zeros((0, w.shape[1]), np.uint32) if pulses is None else pulses
    parts: list[Array] = []

    def rows(begin: int, end: int) -> None:
        totals = np.zeros(2, np.int64)
        parts.append(totals)
        at_once = min(cells.at_once, MOST_SLOTS)
        work(*words, begin, end, np.uint64(key), at_once, w, *arguments, noted, totals)

    _by_rows(w, threads, rows)
    return sum(parts)


def _blocks(parameters: TrainParameters, rng: Any) -> Iterator[tuple[TrainParameters, int, int]]:
    """Samples in blocks of at most MOST_SLOTS slots, with keys for their trains and for their noise."""
    ends = np.cumsum(parameters.slots)
    if not len(ends) or ends[-1] == 0:
        return
    draw, first = draw_key(rng), 0
    for index in range(len(ends)):
        start = ends[first - 1] if first else 0
        last = int(np.searchsorted(ends, start + MOST_SLOTS, side="right"))
        yield TrainParameters(*(a[first:last] for a in parameters)), *subkeys(draw + index, 2)  # type: ignore[misc]
        first = last
        if first == len(ends):
            return


def _by_rows(array: Array, threads: int, work: Callable[[int, int], None]) -> None:
    """work(begin, end) over all rows of array [k, n], cut among threads where there is enough for each."""
    rows = len(array)
    if threads == 1 or array.size < FEW_CELLS * threads or rows < 4 * threads:
        work(0, rows)
        return
    cuts = [4 * round(rows * i / threads / 4) for i in range(threads)] + [rows]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, cuts[:-1], cuts[1:]))


@cache
def numba_kernels() -> Any:
    """The module of Numba kernels, or None where Numba is not installed."""
    try:
        return importlib.import_module("hwsim.devices.crossbar.kernels")
    except ImportError:
        return None

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
from hwsim.devices.crossbar.counter import draw_key, normals, subkeys, uniforms
from hwsim.devices.crossbar.moves import Cells, moved_in_turns
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
    x_max, d_max = (to_host(largest(xp, a)).astype(np.float64) for a in (x, d))
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
    p_x, x_negative = _firing(xp, x, x_gain.astype(np.float32))
    p_d, d_negative = _firing(xp, d, d_gain.astype(np.float32))
    return TrainParameters(slots, p_x, p_d, x_negative, d_negative)


def largest(xp: Namespace, x: Array) -> Array:
    """max |x| of each row of x [m, k]."""
    if not fast(xp, x):
        return xp.abs(x).max(axis=1)
    found = np.empty(len(x), np.float32)
    numba_kernels().largest(x, found)
    return found


def _firing(xp: Namespace, x: Array, gain: np.ndarray[Any, Any]) -> tuple[Array, Array]:
    """The probability min(|x| gain, 1) that each line fires in a slot, and whether it is negative."""
    if not fast(xp, x):
        return xp.minimum(xp.abs(x) * xp.asarray(gain)[:, None], 1).astype(xp.float32), x < 0
    p, negative = np.empty(x.shape, np.float32), np.empty(x.shape, np.bool_)
    numba_kernels().firing(x, gain, p, negative)
    return p, negative


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
    for block, keys in _blocks(parameters, rng):
        if xp is np and numba_kernels() is not None:
            up, down = count_words(draw_words(block, keys[0]), threads)
        else:
            up, down = count_trains(xp, *draw_trains(xp, block, keys[0]))
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
    seen: Array | None = None,
    write_std: float = 0.0,
    threads: int = 1,
) -> tuple[int | Array, int | Array]:
    """Pulse w [k, n] float32 in place; returns the pulses up and down, all cells together.

    `pulses` [k, n] uint32, where given, is raised by what each cell got. `seen` [k, n] float32, where given, is what
    products see: cells that got pulses get w + write_std xi with new noise xi, but w where low = high; the others
    keep theirs. `threads` share the rows on NumPy with Numba; the result depends on neither of them. Draws one 64-bit
    integer from `rng`.
    """
    shape = parameters.p_x.shape[1], parameters.p_d.shape[1]
    if tuple(w.shape) != shape or w.dtype != xp.float32:
        raise ShapeError(f"w has shape {tuple(w.shape)} of {w.dtype}; these trains need {shape} of float32")
    up_total, down_total = 0, 0
    quick = fast(xp, w) and all(a is None or a.flags.c_contiguous for a in (pulses, seen))
    for block, keys in _blocks(parameters, rng):
        if quick:
            totals = _fused(w, draw_words(block, keys[0]), cells, keys[1:], pulses, seen, write_std, threads)
            up_total, down_total = up_total + int(totals[0]), down_total + int(totals[1])
            continue
        ups, downs = (a.astype(xp.float32) for a in count_trains(xp, *draw_trains(xp, block, keys[0])))
        w[...] = moved_in_turns(xp, cells, w, ups, downs, keys[1])
        if pulses is not None:
            pulses += (ups + downs).astype(xp.uint32)
        if seen is not None:
            spread = (cells.low < cells.high) * xp.float32(write_std)
            seen[...] = xp.where(ups + downs > 0, w + spread * normals(xp, keys[2], w.shape), seen)
        up_total, down_total = up_total + ups.sum(dtype=xp.float64), down_total + downs.sum(dtype=xp.float64)
    return up_total, down_total


def _fused(
    w: Array,
    words: Words,
    cells: Cells,
    keys: list[int],
    pulses: Array | None,
    seen: Array | None,
    write_std: float,
    threads: int,
) -> Array:
    """Count and move in one pass over w, by Numba; the pulses up and down."""
    name, arguments = cells.kernel(w)
    work = getattr(importlib.import_module("hwsim.devices.crossbar.cell_kernels"), name)
    noted = np.empty(0, np.uint32) if pulses is None else pulses.reshape(-1)
    shown = np.empty(0, np.float32) if seen is None else seen.reshape(-1)
    move_key, write_key = (np.uint64(key) for key in keys)
    flat, noise = w.reshape(-1), (write_key, np.float32(write_std))
    parts: list[Array] = []

    def rows(begin: int, end: int) -> None:
        totals = np.zeros(2, np.int64)
        parts.append(totals)
        work(*words, begin, end, move_key, flat, *arguments, noted, shown, *noise, totals)

    _by_rows(w, threads, rows)
    return sum(parts)


def _blocks(parameters: TrainParameters, rng: Any) -> Iterator[tuple[TrainParameters, list[int]]]:
    """Samples in blocks of at most MOST_SLOTS slots, with keys for their trains, their moves and their write noise."""
    ends = np.cumsum(parameters.slots)
    if not len(ends) or ends[-1] == 0:
        return
    draw, first = draw_key(rng), 0
    for index in range(len(ends)):
        start = ends[first - 1] if first else 0
        last = int(np.searchsorted(ends, start + MOST_SLOTS, side="right"))
        yield TrainParameters(*(a[first:last] for a in parameters)), subkeys(draw + index, 3)
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


def fast(xp: Namespace, *arrays: Array) -> bool:
    """Whether the Numba kernels take these arrays: matrices of float32 in C order."""
    if xp is not np or numba_kernels() is None:
        return False
    return all(a.ndim == 2 and a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)


@cache
def numba_kernels() -> Any:
    """The module of Numba kernels, or None where Numba is not installed."""
    try:
        return importlib.import_module("hwsim.devices.crossbar.kernels")
    except ImportError:
        return None

"""Numba kernels that count a batch's pulses and move the cells that got any; moves.py explains the sums.

Four rows at a time. Where most of their cells got pulses, all are moved as they lie; else those that did are gathered
side by side, moved, and put back: in a step of a real network most get none. The same for the cells that need another
turn. A cell's noise follows from its place and its turn, so that a result depends on no order and no thread count.
Numba's copies on the disk know this file's age, not those of kernels.py and random_kernels.py: after a change there,
change this file too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.compiled import compiled
from hwsim.devices.crossbar.kernels import count_four, exponential
from hwsim.random_kernels import GOLDEN, HALF, ONE, ZERO, logarithm, mix, normal, polar

SHIFT_OF_BARRIER = np.float32(0.5826)  # see moves.py
GAP16 = np.float32(2.0**-16)
DENSE, AGAIN = 2, 3  # where more than 1/DENSE of the cells got pulses, or 1/AGAIN have some left, all move (measured)
FEW, TURNS = 7, 16  # see moves.py
TINY = np.float32(1e-30)


@compiled(forceinline=True, fastmath={"contract"})
def double(sums: Any, bits: Any, bit: Any) -> Any:
    """Sums of q^l and q^2l over the pulses of the lowest bits of a count, with one bit more."""
    q, g, h, gained, spread = sums
    square = q * q
    chosen = (bits >> np.int32(bit)) & np.int32(1) != 0
    gained = g + q * gained if chosen else gained
    spread = h + square * spread if chosen else spread
    return square, g * (ONE + q), h * (ONE + square), gained, spread


@compiled(forceinline=True, fastmath={"contract"})
def cell(ups: Any, bits: Any, w: Any, low: Any, high: Any, up: Any, eu: Any, down: Any, ed: Any, bu: Any, bd: Any,
         factor: Any, random: Any, many: Any) -> Any:  # fmt: skip
    """One cell after its pulses, FEW at most unless `many`; moves.moved explains the sums."""
    per_pulse = ONE / max(np.float32(bits), ONE)
    f = np.float32(ups) * per_pulse
    b = ONE - f
    drift, e = f * up - b * down, f * eu + b * ed
    sums = (ONE - e, ONE, ONE, ZERO, ZERO)
    sums = double(double(double(sums, bits, 0), bits, 1), bits, 2)
    if many:
        sums = double(double(double(sums, bits, 3), bits, 4), bits, 5)
        sums = double(double(double(sums, bits, 6), bits, 7), bits, 8)
        sums = double(double(double(sums, bits, 9), bits, 10), bits, 11)
    gained, spread = sums[3], sums[4]
    drift *= gained
    nu, nd = bu + factor * abs(up), bd + factor * abs(down)
    mu, md = bu + factor * abs(up - eu * drift), bd + factor * abs(down + ed * drift)
    variance = HALF * (f * (nu * nu + mu * mu) + b * (nd * nd + md * md)) * spread
    square, sine = polar(random)
    move = drift + np.sqrt(variance * square) * sine
    rising = w + w + move > low + high
    along = move if rising else -move
    room = high - w if rising else w - low
    u = (np.float32(np.int32((random >> np.uint64(24)) & np.uint64(0xFFFF))) + HALF) * GAP16
    peak = HALF * (along + np.sqrt(along * along - (variance + variance) * logarithm(u)))
    peak -= SHIFT_OF_BARRIER * np.sqrt(variance * per_pulse)
    peak = along if bits < 2 else max(peak, along)
    along -= max(peak - room, ZERO)
    moved = min(max(w + along if rising else w - along, low), high)
    return moved if bits > 0 else w


@compiled(forceinline=True, fastmath={"contract"})
def affine(count: Any, w: Any, low: Any, high: Any, up: Any, up_slope: Any, down: Any, down_slope: Any, added: Any,
           factor: Any, random: Any, many: Any) -> Any:  # fmt: skip
    """A cell whose step is affine in w: AffineCells.step."""
    eu, ed = up * up_slope, -down * down_slope
    su = high - w if eu > ONE else up - eu * w
    sd = w - low if ed > ONE else down + ed * w
    ups, bits = np.int32(count >> np.uint32(16)), np.int32(count & np.uint32(0xFFFF))
    return cell(ups, bits, w, low, high, su, min(eu, ONE), sd, min(ed, ONE), added * up, added * down, factor, random,
                many)  # fmt: skip


@compiled(fastmath={"contract"})
def affine_cells(counts: Any, index: Any, w: Any, low: Any, high: Any, up: Any, up_slope: Any, down: Any,
                 down_slope: Any, added: Any, factor: Any, base: Any, many: Any) -> None:  # fmt: skip
    """Cells side by side; numbers `index` choose their noise."""
    if many:
        for c in range(w.size):
            w[c] = affine(counts[c], w[c], low[c], high[c], up[c], up_slope[c], down[c], down_slope[c], added, factor,
                          mix(base + np.uint64(index[c]) * GOLDEN), True)  # fmt: skip
    else:
        for c in range(w.size):
            w[c] = affine(counts[c], w[c], low[c], high[c], up[c], up_slope[c], down[c], down_slope[c], added, factor,
                          mix(base + np.uint64(index[c]) * GOLDEN), False)  # fmt: skip


@compiled(forceinline=True, fastmath={"contract"})
def exponential_turn(left: Any, w: Any, low: Any, high: Any, up: Any, down: Any, curve: Any, least: Any, random: Any,
                     many: Any) -> Any:  # fmt: skip
    """A turn of a cell whose step is exponential in w, and what it has left: ExponentialCells.step and .share."""
    a_up, a_down, g_up, g_down, a, b, factor, plus, slope, reach = curve
    width = high - low if high > low else ONE
    scale = (a + a) / width
    z = scale * w + b
    yu, yd = a_up * exponential(g_up * z), a_down * exponential(-g_down * z)
    su, sd = up * max(ONE - yu, ZERO), down * max(ONE - yd, ZERO)
    eu = up * yu * g_up * scale if yu < ONE else ZERO
    ed = down * yd * g_down * scale if yd < ONE else ZERO
    noise = factor * (plus + slope * abs(w))
    ups, bits = np.int32(left >> np.uint32(16)), np.int32(left & np.uint32(0xFFFF))
    if many:
        n_up, n_down = np.float32(ups), np.float32(bits - ups)
        drift, rate = n_up * su - n_down * sd, abs(n_up * eu + n_down * ed)
        away, near = min(abs(drift), rate * (high - w if drift > ZERO else w - low)), reach * width
        share = min(max(near / max(away - near * rate, TINY), least), ONE)
        share = ONE if bits <= FEW else share
        ups, downs = np.int32(np.ceil(n_up * share)), np.int32(np.ceil(n_down * share))
        bits = ups + downs
    left -= np.uint32(bits) + (np.uint32(ups) << np.uint32(16))
    return cell(ups, bits, w, low, high, su, eu, sd, ed, noise, noise, factor, random, many), left


@compiled(fastmath={"contract"})
def exponential_cells(left: Any, index: Any, w: Any, low: Any, high: Any, up: Any, down: Any, curve: Any, turn: Any,
                      base: Any, many: Any) -> Any:  # fmt: skip
    """One turn of cells side by side; numbers `index` choose their noise. How many have pulses left."""
    rest, least = np.int32(0), ONE / np.float32(max(TURNS - turn, 1))
    if many:
        for c in range(w.size):
            w[c], left[c] = exponential_turn(left[c], w[c], low[c], high[c], up[c], down[c], curve, least,
                                             mix(base + np.uint64(index[c]) * GOLDEN), True)  # fmt: skip
        for c in range(w.size):
            rest += np.int32(left[c] != 0)
    else:
        for c in range(w.size):
            w[c], _ = exponential_turn(left[c], w[c], low[c], high[c], up[c], down[c], curve, least,
                                       mix(base + np.uint64(index[c]) * GOLDEN), False)  # fmt: skip
    return rest


@compiled()
def tally(counts: Any, totals: Any) -> Any:
    """Adds pulses up and down to totals; the most of one cell, and how many cells have any."""
    ups, both, most, held = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)
    for j in range(counts.size):
        n = counts[j] & np.uint32(0xFFFF)
        ups += counts[j] >> np.uint32(16)
        both += n
        most = max(most, n)
        held += np.uint32(n != 0)
    totals[0] += ups
    totals[1] += both - ups
    return most, held


@compiled()
def pick(counts: Any, cells: Any, part: Any, index: Any) -> Any:
    """The cells that have pulses, side by side: their counts and numbers; how many. In place, if need be."""
    held = 0
    for c in range(counts.size):
        mine = counts[c]
        index[held], part[held] = cells[c], mine
        held += mine != 0
    return held


@compiled()
def gather(values: Any, index: Any, out: Any) -> None:
    """out = values[index]."""
    for c in range(index.size):
        out[c] = values[index[c]]


@compiled()
def scatter(values: Any, index: Any, out: Any) -> None:
    """out[index] = values."""
    for c in range(index.size):
        out[index[c]] = values[c]


@compiled(fastmath={"contract"})
def finish(counts: Any, w: Any, low: Any, high: Any, base: Any, sigma: Any, pulses: Any, seen: Any) -> None:
    """Adds pulses to what cells have had, and draws the write noise of those anew: seen = w + sigma xi.

    Cells without a window are seen as they are.
    """
    for c in range(pulses.size):
        pulses[c] += counts[c] & np.uint32(0xFFFF)
    for c in range(seen.size):
        drawn = w[c] + (sigma if low[c] < high[c] else ZERO) * normal(mix(base + np.uint64(c) * GOLDEN))
        seen[c] = drawn if counts[c] else seen[c]


@compiled()
def update_affine(xf: Any, xs: Any, df: Any, ds: Any, first: Any, last: Any, key: Any, w: Any, low: Any, high: Any,
                  up: Any, up_slope: Any, down: Any, down_slope: Any, added: Any, factor: Any, pulses: Any, seen: Any,
                  write_key: Any, write_std: Any, totals: Any) -> None:  # fmt: skip
    """Count and move rows first..last of affine cells, all arrays [k n]; pulses.update."""
    n = df.shape[1]
    rows, part, some = np.empty((4, n), np.uint32), np.empty(4 * n, np.uint32), np.empty((7, 4 * n), np.float32)
    every, index = np.arange(4 * n).astype(np.uint32), np.empty(4 * n, np.uint32)
    for i in range(first, last, 4):
        a, b = i * n, min(i + 4, last) * n
        count_four(xf, xs, df, ds, i, last, rows[0], rows[1], rows[2], rows[3])
        counts = rows.reshape(-1)[: b - a]
        busiest, held = tally(counts, totals)
        if held == 0:
            continue
        many, base = busiest > FEW, key + np.uint64(a) * GOLDEN
        if DENSE * held > b - a:
            affine_cells(counts, every, w[a:b], low[a:b], high[a:b], up[a:b], up_slope[a:b], down[a:b],
                         down_slope[a:b], added, factor, base, many)  # fmt: skip
        else:
            chosen = index[: pick(counts, every, part, index)]
            gather(w[a:b], chosen, some[0])
            gather(low[a:b], chosen, some[1])
            gather(high[a:b], chosen, some[2])
            gather(up[a:b], chosen, some[3])
            gather(up_slope[a:b], chosen, some[4])
            gather(down[a:b], chosen, some[5])
            gather(down_slope[a:b], chosen, some[6])
            affine_cells(part, chosen, some[0, : chosen.size], some[1], some[2], some[3], some[4], some[5], some[6],
                         added, factor, base, many)  # fmt: skip
            scatter(some[0], chosen, w[a:b])
        finish(counts, w[a:b], low[a:b], high[a:b], write_key + np.uint64(a) * GOLDEN, write_std, pulses[a:b],
               seen[a:b])  # fmt: skip


@compiled()
def update_exponential(xf: Any, xs: Any, df: Any, ds: Any, first: Any, last: Any, key: Any, w: Any, low: Any,
                       high: Any, up: Any, down: Any, curve: Any, pulses: Any, seen: Any, write_key: Any,
                       write_std: Any, totals: Any) -> None:  # fmt: skip
    """Count and move rows first..last of exponential cells, all arrays [k n]; pulses.update."""
    n = df.shape[1]
    rows, part, some = np.empty((4, n), np.uint32), np.empty(4 * n, np.uint32), np.empty((5, 4 * n), np.float32)
    every, index = np.arange(4 * n).astype(np.uint32), np.empty(4 * n, np.uint32)
    for i in range(first, last, 4):
        a, b = i * n, min(i + 4, last) * n
        count_four(xf, xs, df, ds, i, last, rows[0], rows[1], rows[2], rows[3])
        counts = rows.reshape(-1)[: b - a]
        busiest, held = tally(counts, totals)
        if held == 0:
            continue
        rest, turn, many, chosen = np.int32(held), 0, busiest > FEW, every[: b - a]
        part[: b - a] = counts
        while (AGAIN if turn else DENSE) * rest > b - a:
            base = key + np.uint64(turn * w.size + a) * GOLDEN
            rest = exponential_cells(part, every, w[a:b], low[a:b], high[a:b], up[a:b], down[a:b], curve, turn, base,
                                     many)  # fmt: skip
            turn += 1
        while rest:
            chosen = index[: pick(part[: chosen.size], chosen, part, index)]
            gather(w[a:b], chosen, some[0])
            gather(low[a:b], chosen, some[1])
            gather(high[a:b], chosen, some[2])
            gather(up[a:b], chosen, some[3])
            gather(down[a:b], chosen, some[4])
            base = key + np.uint64(turn * w.size + a) * GOLDEN
            rest = exponential_cells(part, chosen, some[0, : chosen.size], some[1], some[2], some[3], some[4], curve,
                                     turn, base, many)  # fmt: skip
            scatter(some[0], chosen, w[a:b])
            turn += 1
        finish(counts, w[a:b], low[a:b], high[a:b], write_key + np.uint64(a) * GOLDEN, write_std, pulses[a:b],
               seen[a:b])  # fmt: skip

"""Which kernel a GPU multiplies with, and what that kernel moves: tiles, waves of tiles, and split sums.

y[m, n] = sum over k. The result is cut into tiles; a streaming multiprocessor (SM) works on one tile at a time, so
that tiles run in waves, and a wave that is not full wastes the rest of the chip. Larger tiles read their operands
less often, smaller ones fill waves better; where there are few tiles, the sum over k is split over several SMs and
a second kernel adds the parts. Source: NVIDIA, Matrix Multiplication Background User's Guide (DU-09799), sections
2 and 3; parallel split of k as in CUTLASS and cuBLAS.
"""

from __future__ import annotations

import math
from typing import NamedTuple

# Tiles of cuBLAS and CUTLASS kernels (DU-09799, section 2.3), continued downwards for small products.
TILES = (
    (256, 128),
    (128, 256),
    (128, 128),
    (128, 64),
    (64, 128),
    (64, 64),
    (64, 32),
    (32, 64),
    (32, 32),
    (16, 16),
)
SPLITS = (1, 4, 16, 64)  # parts that the sum over k is cut into, while all parts still run in one wave
PARTIAL_BYTES = 4  # a partial sum is fp32 (fp64 products are rarely split; the difference is not modelled)


class Gemm(NamedTuple):
    """stack products y[m, n] = a[m, k] @ b[k, n] as a kernel sees them."""

    m: int
    k: int
    n: int
    stack: int
    operand_bytes: float  # of one value of a or b, with its share of a scale
    dram_bytes: int  # compulsory traffic: every distinct operand read once, every result written once


class Speeds(NamedTuple):
    """What decides which kernel is fastest on a board: nominal values, one unit each."""

    sms: int
    sharing: int  # SMs that take one operand tile from the L2 cache together
    fed_edge: int  # edge of the smallest tile that shared memory feeds at full rate; smaller take as long as it takes
    slot_s: float  # per FLOP on one SM [s]
    port_s: float  # per byte into one SM [s]
    l2_s: float  # per byte out of the L2 cache, all slices together [s]
    dram_s: float  # per byte [s]
    launch_s: float
    fill_s: float


class Kernel(NamedTuple):
    """One way to do a Gemm, and what it takes."""

    tile_m: int
    tile_n: int
    split: int  # SMs that share the sum over k of one tile
    tiles: int  # work items: tiles x split
    waves: int
    slot_flops: int  # FLOPs that would fit while the SMs are taken, idle ones of the last wave included
    port_bytes: float  # bytes for which the ports of the SMs are taken, idle ones included
    l2_bytes: float  # bytes that leave the L2 cache, and partial sums
    fills: int  # kernels in a row: a split sum takes a second


def traffic(gemm: Gemm, sharing: int, tile_m: int, tile_n: int, split: int) -> float:
    """Bytes of operands that leave the L2 cache, with padding: larger tiles take fewer."""
    rows, columns = -(-gemm.m // tile_m), -(-gemm.n // tile_n)
    # One row of a's tiles is read once for each group of `sharing` columns, and the other way round.
    values = tile_m * rows * -(-columns // sharing) + tile_n * columns * -(-rows // sharing)
    return gemm.stack * split * -(-gemm.k // split) * gemm.operand_bytes * values


def kernel(gemm: Gemm, speeds: Speeds, tile_m: int, tile_n: int, split: int) -> Kernel:
    """What `gemm` takes with this tile and split. Every count grows with m, k and n, or stays."""
    tiles = gemm.stack * -(-gemm.m // tile_m) * -(-gemm.n // tile_n) * split
    waves = -(-tiles // speeds.sms)
    depth = -(-gemm.k // split)
    slots = waves * speeds.sms
    partial = 2 * PARTIAL_BYTES * tile_m * tile_n if split > 1 else 0  # written, and read by the kernel that adds
    return Kernel(
        tile_m,
        tile_n,
        split,
        tiles,
        waves,
        slots * depth * max(2 * tile_m * tile_n, speeds.fed_edge * (tile_m + tile_n)),
        slots * ((tile_m + tile_n) * depth * gemm.operand_bytes + partial),
        traffic(gemm, speeds.sharing, tile_m, tile_n, split) + tiles * partial,
        2 if split > 1 else 1,
    )


def time_s(gemm: Gemm, found: Kernel, speeds: Speeds) -> float:
    """The time of a kernel on a board without a power cap [s]: `hwsim.cost.op_cost` at nominal values, to the bit."""
    overlapped = max(
        found.slot_flops / speeds.sms * speeds.slot_s,
        found.port_bytes / speeds.sms * speeds.port_s,
        found.l2_bytes * speeds.l2_s,
        gemm.dram_bytes * speeds.dram_s,
    )
    return sum((speeds.launch_s, found.fills * speeds.fill_s), start=overlapped)


def _needed(tile_m: int, tile_n: int) -> tuple[int, int]:
    """The m and n from which on a tile can win: below, a tile of half its height or width does as many tiles."""
    least_m = tile_m // 2 if (tile_m // 2, tile_n) in TILES else 0
    least_n = tile_n // 2 if (tile_m, tile_n // 2) in TILES else 0
    return least_m, least_n


CANDIDATES = tuple((tile_m, tile_n, *_needed(tile_m, tile_n)) for tile_m, tile_n in TILES)


def candidates(gemm: Gemm) -> list[tuple[int, int]]:
    """The tiles that are worth a try: of two that cut the result into as many tiles, only the smaller."""
    return [(a, b) for a, b, least_m, least_n in CANDIDATES if gemm.m > least_m and gemm.n > least_n]


def fastest(gemm: Gemm, speeds: Speeds) -> Kernel:
    """The kernel that takes the least time; of equals, the one of least traffic.

    More rows never take less time: the time of each kernel grows with every dimension or stays, kernels drop out
    (splits that no longer fit one wave) but none joins, and a minimum over fewer, larger times is larger.
    """
    best: Kernel | None = None
    least = (math.inf, math.inf)
    for tile_m, tile_n in candidates(gemm):
        for split in SPLITS:
            found = kernel(gemm, speeds, tile_m, tile_n, split)
            if split > 1 and found.waves > 1:
                break
            cost = (time_s(gemm, found, speeds), found.l2_bytes)
            if best is None or cost < least:
                best, least = found, cost
    assert best is not None  # 16 x 16 is always a candidate
    return best


def least_traffic(gemm: Gemm, sharing: int) -> float:
    """Bytes that leave the L2 cache with the most economical tile: what their energy is charged for.

    A lower bound where the fastest kernel has smaller tiles; by it, more rows never take less energy either.
    """
    return min(traffic(gemm, sharing, tile_m, tile_n, 1) for tile_m, tile_n in candidates(gemm))

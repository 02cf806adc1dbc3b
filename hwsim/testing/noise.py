"""Checks of the noise: independent streams, fresh draws, and none where a device says that it is deterministic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hwsim.arrays import Array, to_host
from hwsim.cost import Phase
from hwsim.device import Device
from hwsim.testing.bench import (
    SIGMAS,
    STEP_RMS,
    Bench,
    Check,
    Failed,
    Found,
    HostArray,
    Skipped,
    exact,
    forward,
    normal,
    require,
    same_bits,
    sequence,
    state_of,
    weights,
)

NOISE_SIZE = 8  # m = k = n, so that forward and backward noise can be compared
NAMES = ("fc1/w", "fc2/w")  # which begin and end alike
ROWS_SIZE = (16, 24, 16)  # m, k, n
NOISE_ROUNDS = 32  # sigma of a correlation comes from so many pairs of draws


class Draws(NamedTuple):
    """Differences between successive results of one tile: noise alone, since whatever stays the same cancels."""

    forward: list[HostArray]
    backward: list[HostArray]
    gradient: list[HostArray]
    update: list[HostArray]


def noise_draws(device: Device, name: str) -> Draws:
    """Rounds of differences on a tile; noise frozen for a mini-batch is redrawn by an update by zero in between."""
    size = NOISE_SIZE
    w, x, dy = weights(device, size, size), normal(device, size, size, key="x"), normal(device, size, size, key="dy")
    tile, zero = device.program(w, name=name), 0 * w
    step = normal(device, size, size, rms=STEP_RMS)
    found = Draws([], [], [], [])
    calls: dict[str, Callable[[], Array]] = {
        "forward": lambda: forward(tile, x),
        "backward": lambda: tile.backward(dy),
        "gradient": lambda: tile.gradient(x, dy),
    }
    for field, call in calls.items():
        frozen = not (exact(call()) - exact(call())).any()
        draws = []
        for _ in range(2 * NOISE_ROUNDS):
            if frozen:
                tile.update(zero)
            draws.append(exact(call()))
        getattr(found, field).extend(a - b for a, b in zip(draws[::2], draws[1::2], strict=True))
    start, now = state_of(tile), []
    for _ in range(2 * NOISE_ROUNDS):
        # From the same state, but with streams that have moved on: only noise differs.
        tile.load(start | {f"drawn/{stream}": count for stream, count in tile.drawn.items()})
        tile.update(step)
        now.append(exact(tile.read()))
    found.update.extend(a - b for a, b in zip(now[::2], now[1::2], strict=True))
    return found


def cosine(a: HostArray, b: HostArray) -> float:
    """Correlation of two arrays about zero; 0 where one of them is zero."""
    norms = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / norms if norms else 0.0


def uncorrelated(what: str, pairs: Sequence[tuple[HostArray, HostArray]]) -> float:
    """Require a mean correlation within 5 sigma of zero, sigma from the spread over the pairs; returns the mean."""
    values = np.array([cosine(a, b) for a, b in pairs])
    mean, sigma = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    require(
        abs(mean) <= SIGMAS * sigma,
        f"{what} are correlated: {mean:.2f}, {SIGMAS} sigma = {SIGMAS * sigma:.2f} from n = {len(values)} pairs",
    )
    return abs(mean)


def independent_streams(bench: Bench) -> Found:
    """Noise of different seeds, tiles, directions and draws is uncorrelated, and does differ."""
    first, second = (bench.seeded(seed) for seed in bench.seeds)
    a, b, other = (noise_draws(*each) for each in ((first, NAMES[0]), (first, NAMES[1]), (second, NAMES[0])))
    largest, noisy = 0.0, False
    for field in Draws._fields:
        mine, neighbour, reseeded = (getattr(draws, field) for draws in (a, b, other))
        if not any(draw.any() for draw in mine):
            continue
        noisy = True
        pairs = {
            f"successive draws of {field} noise": [*pairwise(mine)],
            f"{field} noise of two tiles of different names": [*zip(mine, neighbour, strict=True)],
            f"{field} noise of two seeds": [*zip(mine, reseeded, strict=True)],
        }
        largest = max(largest, *(uncorrelated(what, found) for what, found in pairs.items()))
    if any(draw.any() for draw in a.backward):
        largest = max(largest, uncorrelated("forward and backward noise", [*zip(a.forward, a.backward, strict=True)]))
    for way, draws in stack_draws(first).items():
        if any(draw.any() for draw in draws):
            pairs_of_matrices = [(draw[0], draw[1]) for draw in draws]
            largest = max(largest, uncorrelated(f"{way} noise of two matrices of a stack", pairs_of_matrices))
    fixed = fabrication_draws(first, second)
    for a_draws, b_draws in (fixed["forward"], fixed["backward"]):
        if any(draw.any() for draw in a_draws):
            noisy = True
            pairs_of_tiles = [*zip(a_draws, b_draws, strict=True)]
            largest = max(largest, uncorrelated("fixed errors of two tiles of different names", pairs_of_tiles))
    across = [*zip(fixed["forward"][0], fixed["backward"][0], strict=True)]
    largest = max(largest, uncorrelated("fixed forward and backward errors", across))
    if not noisy:
        if bench.contract.deterministic:
            raise Skipped("no noise was seen, and the contract says deterministic")
        raise Failed(f"the contract is not deterministic, but seeds {bench.seeds} give the same results everywhere")
    return Found(0.0, largest, "largest correlation")


def stack_draws(device: Device) -> dict[str, list[HostArray]]:
    """Differences between results alike of a stack of two matrices, each round with inputs of its own."""
    size = NOISE_SIZE
    tile = device.program(weights(device, 2, size, size, key="stack"), name="stack")
    zero, found = 0 * tile.read(), dict[str, list[HostArray]](forward=[], backward=[])
    for i in range(NOISE_ROUNDS):
        x, dy = normal(device, 2, size, size, key=("x", i)), normal(device, 2, size, size, key=("dy", i))
        first = exact(forward(tile, x)), exact(tile.backward(dy))
        again = exact(forward(tile, x)), exact(tile.backward(dy))
        if not any((one - two).any() for one, two in zip(first, again, strict=True)):
            tile.update(zero)
            again = exact(forward(tile, x)), exact(tile.backward(dy))
        for way, one, two in zip(found, first, again, strict=True):
            found[way].append(one - two)
    return found


def fabrication_draws(first: Device, second: Device) -> dict[str, tuple[list[HostArray], list[HostArray]]]:
    """What two seeds make of tiles programmed alike: differences of results, for many tiles of two names."""
    size = NOISE_SIZE
    found: dict[str, tuple[list[HostArray], list[HostArray]]] = {"forward": ([], []), "backward": ([], [])}
    for i in range(NOISE_ROUNDS):
        for place, name in enumerate(("left", "right")):
            results = []
            for device in (first, second):
                x, dy = normal(device, size, size, key=("x", i)), normal(device, size, size, key=("dy", i))
                tile = device.program(weights(device, size, size), name=f"layer{i}/{name}/w")
                results.append((exact(forward(tile, x)), exact(tile.backward(dy))))
            for field, one, two in zip(("forward", "backward"), *results, strict=True):
                found[field][place].append(one - two)
    return found


def rows_alike(bench: Bench) -> Found:
    """The first rows of a batch are as accurate as the last ones."""
    device, tilts = bench.device, list[float]()
    m, k, n = ROWS_SIZE
    places = np.linspace(-1, 1, m)
    for i in range(NOISE_ROUNDS):
        tile = device.program(weights(device, k, n, key=i), name=f"rows{i}")
        w = exact(tile.read())  # errors of programming are the same for all rows, and would hide the others
        for call, size, exactly in ((partial(forward, tile), k, w), (tile.backward, n, w.T)):
            a = normal(device, m, size, key=i)
            errors = ((exact(call(a)) - exact(a) @ exactly) ** 2).mean(axis=-1)
            tilts.append(float(places @ errors / errors.sum()) if errors.any() else 0.0)
    mean, sigma = float(np.mean(tilts)), float(np.std(tilts, ddof=1)) / math.sqrt(len(tilts))
    require(
        abs(mean) <= SIGMAS * sigma,
        f"errors {'grow' if mean > 0 else 'shrink'} along the batch: their tilt is {mean:.3f}, {SIGMAS} sigma = "
        f"{SIGMAS * sigma:.3f} from n = {len(tilts)} products",
    )
    return Found(0.0, abs(mean))


def evaluation_noise(bench: Bench) -> Found:
    """Errors of forward are as large in evaluation as in training."""
    device, training, evaluating = bench.device, list[float](), list[float]()
    m, k, n = ROWS_SIZE
    for i in range(NOISE_ROUNDS):
        tile = device.program(weights(device, k, n, key=i), name=f"evaluation{i}")
        x, w = normal(device, m, k, key=("evaluation", i)), exact(tile.read())
        wanted = exact(x) @ w
        training.append(float(((exact(forward(tile, x)) - wanted) ** 2).mean()))
        with tile.ledger.scope(phase=Phase.EVALUATE):
            evaluating.append(float(((exact(forward(tile, x)) - wanted) ** 2).mean()))
    differences = np.array(training) - np.array(evaluating)
    mean, sigma = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(NOISE_ROUNDS)
    rms = [math.sqrt(float(np.mean(errors))) for errors in (training, evaluating)]
    require(
        abs(mean) <= SIGMAS * sigma,
        f"RMS errors are {rms[0]:.3g} in training and {rms[1]:.3g} in evaluation: their squares differ by {mean:.2g}, "
        f"{SIGMAS} sigma = {SIGMAS * sigma:.2g} from n = {NOISE_ROUNDS} tiles",
    )
    return Found(rms[0], rms[1])


def fresh_noise(bench: Bench) -> None:
    """Where results are not deterministic, some noise is drawn anew, by the next operation or by the next update."""
    if bench.contract.deterministic:
        raise Skipped("the contract says deterministic")
    draws = noise_draws(bench.device, "fresh")
    require(
        any(draw.any() for field in Draws._fields for draw in getattr(draws, field)),
        "the contract is not deterministic, but successive results are equal, within a mini-batch and after updates; "
        "if all variation is fixed at programming, expect this failure and give that as the reason",
    )


def deterministic(bench: Bench) -> None:
    """If the contract says deterministic, equal inputs give equal results: again, on other tiles, for other seeds."""
    if not bench.contract.deterministic:
        raise Skipped("the contract does not say deterministic")
    device = bench.device
    w, x, dy = weights(device, 6, 5), normal(device, 4, 6), normal(device, 4, 5)
    found: list[dict[str, HostArray]] = []
    one, two = (bench.seeded(seed) for seed in bench.seeds)
    for maker, name in ((device, "a"), (device, "b"), (one, "a"), (two, "a")):
        tile = maker.program(w, name=name)
        for _ in range(2):
            results = {"forward": forward(tile, x), "backward": tile.backward(dy), "gradient": tile.gradient(x, dy)}
            found.append({key: to_host(array) for key, array in results.items()})
            differs = same_bits(found[0], found[-1])
            require(not differs, f"{differs}: equal inputs gave different results, but the contract says deterministic")
    differs = same_bits(sequence(one), sequence(two))
    require(not differs, f"{differs} depends on the seed, but the contract says deterministic")


CHECKS: tuple[Check, ...] = (independent_streams, rows_alike, evaluation_noise, fresh_noise, deterministic)

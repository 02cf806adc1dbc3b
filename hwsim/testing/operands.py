"""Checks of the operands: every size, stack and layout, values near zero, and what operations leave on other tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from hwsim.arrays import Array, Namespace, generator, key_of, to_host
from hwsim.contract import ACCUMULATION
from hwsim.cost import Kind, Product
from hwsim.ledger import Ledger
from hwsim.testing.bench import (
    SIGMAS,
    STEP_RMS,
    Bench,
    Check,
    Found,
    HostArray,
    exact,
    forward,
    normal,
    relative,
    require,
    same_bits,
    weights,
)
from hwsim.testing.moves import of_the_step
from hwsim.tile import Tile

HOUR_S = 3600.0
TINY = (0.0, 1e-20, 1e-30)  # squares of the last two are no float32
GROSS = 0.5  # an error that no matrix may have where its device claims less: something is left out, or twice there


class Size(NamedTuple):
    """One problem: rows, inputs, outputs, and matrices on a stack."""

    name: str
    m: int
    k: int
    n: int
    stack: int = 0


SIZES = (
    Size("one row", 1, 48, 32),
    Size("a square matrix", 4, 24, 24),
    Size("many rows", 520, 12, 10),
    Size("many inputs", 3, 600, 20),
    Size("many outputs", 3, 20, 600),
    Size("a stack", 4, 12, 10, 3),
)


def agree(what: str, found: HostArray, wanted: HostArray, claim: float) -> float:
    """Require an error that fits its claim, of each matrix alone, as far as one matrix can tell; returns the largest.

    A contract is about one size; at others only errors are told that leave something out, or count it twice.
    """
    largest = 0.0
    shape = (-1, *wanted.shape[-2:])
    for result, target in zip(found.reshape(shape), wanted.reshape(shape), strict=True):
        error, limit = math.sqrt(relative(result, target)), max(SIGMAS * claim, min(GROSS, 30 * claim)) + ACCUMULATION
        require(
            error <= limit, f"{what}: RMS relative error {error:.3g}, more than {limit:.3g}; the claim is {claim:.3g}"
        )
        largest = max(largest, error)
    return largest


def sizes(bench: Bench) -> Found:
    """Results are right for one row and for many, square and long matrices, and every matrix of a stack by itself."""
    device, contract, largest = bench.device, bench.contract, 0.0
    for name, m, k, n, stack in SIZES:
        leading = (stack,) if stack else ()
        # Long sums as large as those of a claim: formats of fixed range hold no more.
        x_rms, dy_rms = (min(1.0, math.sqrt(usual / terms)) for usual, terms in ((48, k), (32, n)))
        w, x = weights(device, *leading, k, n), normal(device, *leading, m, k, rms=x_rms)
        dy = normal(device, *leading, m, n, rms=dy_rms)
        tile, turned = device.program(w, name=name), np.swapaxes
        doer = device.who(Product(Kind.GRADIENT, m, k, n)).contract
        multiplier = device.who(Product(Kind.PRODUCT, m, k, n)).contract
        ew, ex, edy = exact(w), exact(x), exact(dy)
        step = normal(device, *leading, k, n, rms=STEP_RMS, key="step")
        results = (
            ("forward", forward(tile, x), ex @ ew, contract.forward),
            ("backward", tile.backward(dy), edy @ turned(ew, -1, -2), contract.backward),
            ("gradient", tile.gradient(x, dy), turned(ex, -1, -2) @ edy, doer.gradient),
            ("product", device.multiply(x, w, ledger=tile.ledger), ex @ ew, multiplier.forward),
        )
        for operation, result, wanted, claim in results:
            largest = max(largest, agree(f"{operation}, {name}", exact(result), wanted, claim))
        before = exact(tile.read())
        tile.update(step)
        claim = of_the_step(contract.update, contract)
        agree(f"update, {name}", exact(tile.read()) - before, exact(step), claim)
    return Found(None, largest)


def layouts(bench: Bench) -> None:
    """Operands that are views in another order of memory are taken for what they are."""
    device, contract = bench.device, bench.contract
    m, k, n = 16, 48, 32
    w, x, dy = weights(device, k, n), normal(device, m, k), normal(device, m, n)
    step = normal(device, k, n, rms=STEP_RMS, key="step")
    view_of_x, view_of_dy, view_of_step = (as_view(device.xp, each) for each in (x, dy, step))
    tile = device.program(as_view(device.xp, w), name="layouts")
    ew, ex, edy = exact(w), exact(x), exact(dy)
    gradient = device.who(Product(Kind.GRADIENT, m, k, n)).contract.gradient
    agree("forward of a view", exact(forward(tile, view_of_x)), ex @ ew, contract.forward)
    agree("backward of a view", exact(tile.backward(view_of_dy)), edy @ ew.T, contract.backward)
    agree("gradient of views", exact(tile.gradient(view_of_x, view_of_dy)), ex.T @ edy, gradient)
    before = exact(tile.read())
    tile.update(view_of_step)
    claim = of_the_step(contract.update, contract)
    agree("update by a view", exact(tile.read()) - before, exact(step), claim)


def as_view(xp: Namespace, a: Array) -> Array:
    """The same values, column by column in memory."""
    return xp.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)


def products_follow(bench: Bench) -> None:
    """Products are by the weights that are read: after moves, after drift, and after loading."""
    device, contract = bench.device, bench.contract
    m, k, n = 16, 48, 32
    w, x, dy = weights(device, k, n, key="follow"), normal(device, m, k), normal(device, m, n)
    tile = device.program(w, name="follow")

    def follow(when: str) -> None:
        read = exact(tile.read())
        agree(f"forward after {when}", exact(forward(tile, x)), exact(x) @ read, contract.forward)
        agree(f"backward after {when}", exact(tile.backward(dy)), exact(dy) @ read.T, contract.backward)

    far = -exact(tile.read())  # a step that leaves hardly anything of the weights: stale ones are far off
    tile.update(device.asarray(0.75 * far))
    follow("update")
    if tile.updates_in_place:
        for _ in range(4):
            tile.update_outer(x, dy, 0.25 / m)
        follow("update_outer")
    saved = tile.save()
    tile.drift(HOUR_S)
    follow("drift")
    tile.load(saved)
    follow("load")


def tiles_apart(bench: Bench) -> None:
    """What is done on one tile changes nothing on another, and results do not change when others are made."""
    device, ledger = bench.device, Ledger()
    x, other = normal(device, 4, 7), normal(device, 4, 7, key="other")
    dy, step = normal(device, 4, 5), normal(device, 7, 5, rms=STEP_RMS)
    one, two = (device.program(weights(device, 7, 5, key=key), name=key, ledger=ledger) for key in ("one", "two"))
    before = one.save()
    forward(two, x)
    two.backward(dy)
    two.gradient(x, dy)
    two.read()
    two.update(step)
    if two.updates_in_place:
        two.update_outer(x, dy, STEP_RMS)
    two.drift(HOUR_S)
    changed = same_bits(before, one.save())
    require(not changed, f"work on one tile changed {changed} of another")
    calls: dict[str, Callable[[Array], Array]] = {
        "forward": partial(forward, one), "product": lambda a: device.multiply(a, step, ledger=ledger),
        "backward": lambda a: one.backward(a[:, :5]), "gradient": lambda a: one.gradient(a, dy),
    }  # fmt: skip
    for name, call in calls.items():
        first = call(x)
        kept = to_host(first).copy()
        call(other)
        require(to_host(first).tobytes() == kept.tobytes(), f"a later {name} changed the result of an earlier one")


def small_values(bench: Bench) -> None:
    """Operands, errors, steps and weights of 0, and as small as 1e-30, give finite results and finite counts."""
    device = bench.device
    for size in TINY:
        for largest, of in ((1.0, "operands"), (size, "operands and weights")):
            tile = device.program(device.asarray(largest * exact(weights(device, 7, 5))), name=f"{of} {size:g}")
            x, dy = normal(device, 4, 7, rms=size), normal(device, 4, 5, rms=size)
            found = {"forward": forward(tile, x), "backward": tile.backward(dy), "gradient": tile.gradient(x, dy)}
            tile.update(normal(device, 7, 5, rms=size * STEP_RMS))
            if tile.updates_in_place:
                tile.update_outer(x, dy, STEP_RMS)
            found["product"] = device.multiply(x, normal(device, 7, 5, rms=size), ledger=tile.ledger)
            found["read"] = tile.read()
            for name, result in found.items():
                fine = bool(np.isfinite(to_host(result)).all())
                require(fine, f"{name} with {of} of {size:g}: NaN or infinite values")
            for name, count in recorded(tile):
                fine = math.isfinite(count) and count >= 0
                require(fine, f"with {of} of {size:g}, {count:g} actions of {name} are recorded; needs 0 or more")


def recorded(tile: Tile) -> Iterator[tuple[str, float]]:
    """All actual counts in a tile's ledger."""
    for cell, counts in tile.ledger.actual.items():
        for name, count in counts.items():
            yield f"{name} in {cell.op}", float(count)


def wear_is_told(bench: Bench) -> None:
    """`wear` gives finite numbers by name, and leaves state, streams and ledger as they were."""
    device = bench.device
    tile = device.program(weights(device, 7, 5), name="wear")
    x, dy = normal(device, 4, 7), normal(device, 4, 5)
    for turn in ("programmed", "used"):
        state, calls, counts = tile.save(), dict(tile.ledger.calls), list(recorded(tile))
        first, second = device.wear(tile), device.wear(tile)
        for name, value in first.items():
            fine = isinstance(name, str) and math.isfinite(float(value))
            require(fine, f"wear of a tile that was {turn} says {name!r}: {value!r}; needs finite numbers by name")
        require(dict(first) == dict(second), f"wear, asked twice, says {dict(first)} and then {dict(second)}")
        changed = same_bits(state, tile.save())
        require(not changed, f"wear changed {changed}")
        require(dict(tile.ledger.calls) == calls, "wear charged the ledger")
        require(list(recorded(tile)) == counts, "wear recorded counts")
        forward(tile, x)
        tile.backward(dy)
        tile.update(normal(device, 7, 5, rms=STEP_RMS))
        if tile.updates_in_place:
            tile.update_outer(x, dy, STEP_RMS)


def rows_in_any_order(bench: Bench) -> None:
    """Where a row's result is the same at each call, it is the same in any order of the batch."""
    device, rng = bench.make(), generator(np, key_of("check", "order"))
    m, k, n = 12, 10, 8
    tile = device.program(weights(device, k, n), name="order")
    x, dy = normal(device, m, k), normal(device, m, n)
    order = rng.permutation(m)
    for name, call, a in (("forward", partial(forward, tile), x), ("backward", tile.backward, dy)):
        first, again = exact(call(a)), exact(call(a))
        if (first != again).any():
            continue  # noise is drawn anew
        shuffled = exact(call(device.asarray(to_host(a)[order])))
        error = math.sqrt(relative(shuffled, first[order]))
        limit = ACCUMULATION + 0.1 * device.policy.output.unit_roundoff
        require(error <= limit, f"{name}: rows in another order differ by {error:.3g} RMS, though equal calls agree")


CHECKS: tuple[Check, ...] = (
    sizes,
    layouts,
    products_follow,
    tiles_apart,
    small_values,
    wear_is_told,
    rows_in_any_order,
)

"""Checks of single uses: each component's part in a product beside its part in another product that does like work."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hwsim.cost import Elementwise, Kind, Op, Product, Quantity, Role
from hwsim.device import Device
from hwsim.testing.bench import Bench, Check, Skipped, require
from hwsim.testing.cost import AGREEMENT, elementwise_names
from hwsim.testing.growth import LARGE, NEARLY_TWICE, ON_EVERY_VALUE, STACKS, cost, require_doubling

ROWS = 4096
SIDES = ((4096, 64), (64, 4096))  # inputs and outputs: what is counted by the wrong side is off by 64
UNLIKE = 10.0  # at most, in actions for like work: built-in devices come to 5.3 (measured)
LONG = Product(Kind.FORWARD, 2**16, 1024, 512)
HARDLY_MORE = 1.1
PRODUCTS = (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT, Kind.PRODUCT)
MOVES = (Kind.PROGRAM, Kind.READ, Kind.UPDATE, Kind.UPDATE_OUTER)
VALUES = 2**24
# Work that nothing else does on the way, as converters may do a ReLU: sums over rows, and numbers beside the weights.
WHOLE_WORK = ("softmax", "softmax_backward", "layer_norm", "layer_norm_backward", "sgd", "momentum", "adam")


def actions(device: Device, op: Op) -> dict[str, float]:
    """How often each component that has a part in an operation acts; nothing where the host does it."""
    return {name: float(use.actions) for name, use in (device.activity(op) or {}).items() if use.actions > 0}


def on_values(name: str, size: int) -> Elementwise:
    """Work on so many values, two operands read for each that is written."""
    return Elementwise(name, size, 3 * size, 8 * size, 4 * size)


def waiting(device: Device, kind: Kind) -> set[str]:
    """Components that count bits times how long they are held: of twice the rows, four times as much."""
    once, twice = (actions(device, LONG._replace(kind=kind, m=m)) for m in (LONG.m, 2 * LONG.m))
    return {name for name, count in once.items() if twice.get(name, 0) > 2 * NEARLY_TWICE * count}


def both_ways_alike(bench: Bench) -> None:
    """Errors through a matrix take about what inputs through its transpose do, component by component.

    A device that does the two in different ways says so as the reason of an expected failure.
    """
    device, compared = bench.device, 0
    exempt = waiting(device, Kind.FORWARD) | waiting(device, Kind.BACKWARD)
    missing: list[set[tuple[str, str]]] = []
    for k, n in SIDES:
        forth, back = Product(Kind.FORWARD, ROWS, k, n), Product(Kind.BACKWARD, ROWS, n, k)
        there, here = actions(device, forth), actions(device, back)
        compared += len(there)
        missing.append(unpaired(device, there, here))
        for name in sorted(there.keys() & here.keys() - exempt):
            ratio = here[name] / there[name]
            require(
                1 / UNLIKE <= ratio <= UNLIKE,
                f"{name} acts {here[name]:.4g} times for {back} and {there[name]:.4g} times for {forth}, which is as "
                f"much work: a factor of {ratio:.3g}; needs {1 / UNLIKE:g} to {UNLIKE:g}",
            )
    if not compared:
        raise Skipped("products use nothing")
    if device.held_bits(Product(Kind.FORWARD, 4, 7, 5)):
        return  # what forwards leave behind, errors that come back may have to clear at once
    for name, where in sorted(set.intersection(*missing)):
        require(False, f"{name} acts only in {where}, and no other {device.components[name].role} in its place")


def unpaired(device: Device, there: dict[str, float], here: dict[str, float]) -> set[tuple[str, str]]:
    """Components that act one way, while none of their role acts the other way alone, as their counterpart would."""
    alone = {Kind.FORWARD: there.keys() - here.keys(), Kind.BACKWARD: here.keys() - there.keys()}
    roles = {kind: {device.components[name].role for name in names} for kind, names in alone.items()}
    other = {Kind.FORWARD: Kind.BACKWARD, Kind.BACKWARD: Kind.FORWARD}
    return {
        (name, str(kind)) for kind, names in alone.items() for name in names
        if device.components[name].role not in roles[other[kind]]
    }  # fmt: skip


def converters_take_all(bench: Bench) -> None:
    """Converters and light act for every row of a batch: what they do for it doubles with the rows."""
    device, compared = bench.device, 0
    for kind in (Kind.FORWARD, Kind.BACKWARD):
        op = LONG._replace(kind=kind)
        more = actions(device, op._replace(m=2 * op.m))
        for name, count in actions(device, op).items():
            part = device.components[name]
            if part.role not in ON_EVERY_VALUE or part.serial:
                continue
            compared, ratio = compared + 1, more.get(name, 0) / count
            require(
                ratio >= NEARLY_TWICE,
                f"{kind}: {name} acts {count:.4g} times for {op.m} rows, and {ratio:.3g} times as often for twice as "
                "many; every row has values of its own, and what converts weights has the role programming",
            )
    if not compared:
        raise Skipped("no converter and no light has a part in products")


def stacks_add_up(bench: Bench) -> None:
    """Of twice as many matrices on a stack, all that takes energy acts twice as often: they are independent."""
    device, compared = bench.device, 0
    for kind in (*PRODUCTS, *MOVES):
        op = LONG._replace(kind=kind)
        one, two = (actions(device, op._replace(stack=stack)) for stack in STACKS)
        rows = actions(device, op._replace(stack=STACKS[0], m=2 * op.m))
        for name, count in one.items():
            part = device.components[name]
            if part.serial or not part.quantity("energy_j").nominal:
                continue
            compared, ratio = compared + 1, two.get(name, 0) / count
            most = HARDLY_MORE * max(2.0, rows.get(name, 0) / count)  # bits that wait grow like this with rows too
            require(
                NEARLY_TWICE <= ratio <= most,
                f"{kind}: {name} acts {ratio:.3g} times as often for {STACKS[1]} matrices as for {STACKS[0]}; needs "
                f"{NEARLY_TWICE:g} to {most:.3g}",
            )
    if not compared:
        raise Skipped("nothing that acts takes energy of its own")


def calls_for_all(bench: Bench) -> None:
    """What the host spends on starting an operation, whatever its size, it spends on every product and move."""
    device, compared = bench.device, 0
    used = {kind: actions(device, LONG._replace(kind=kind)) for kind in (*PRODUCTS, *MOVES)}
    used = {kind: found for kind, found in used.items() if found}
    larger = actions(device, LONG._replace(m=2 * LONG.m, k=2 * LONG.k, n=2 * LONG.n))
    for name, count in used.get(Kind.FORWARD, {}).items():
        part = device.components[name]
        if part.role is not Role.HOST or not part.serial or larger.get(name) != count:
            continue
        compared += 1
        for kind, found in used.items():
            require(name in found, f"{kind} takes no {name}, which starts a forward; without it nothing starts")
    if not compared:
        raise Skipped("no call of a host starts a product")


def distinct_inputs(bench: Bench) -> None:
    """Inputs that repeat (convolutions) take no more than distinct ones, and alike from memory in all products."""
    device = bench.device
    fewer: dict[Kind, set[str]] = {}
    for kind in (Kind.FORWARD, Kind.GRADIENT, Kind.UPDATE_OUTER):
        op = LONG._replace(kind=kind)
        whole, said, less = (actions(device, op._replace(x_values=v)) for v in (0, op.m * op.k, op.m * op.k // 8))
        require(
            whole == said, f"{kind}: m k = {op.m * op.k} distinct inputs, said or left out, take {said} and {whole}"
        )
        for name, count in less.items():
            require(count <= whole.get(name, 0), f"{kind}: {name} acts more often where inputs repeat")
        fetched = {name for name in whole if device.components[name].role is Role.OFF_CHIP_MEMORY}
        if fetched:
            fewer[kind] = {name for name in fetched if less.get(name, 0) < whole[name]}
    if not fewer:
        raise Skipped("inputs of products come from no memory off the chip")
    saved = fewer.pop(Kind.FORWARD, None)
    for kind, names in fewer.items():
        fine = saved is None or names == saved
        require(fine, f"of inputs that repeat, forward saves {sorted(saved or ())} and {kind} {sorted(names)}")


def work_on_values(bench: Bench) -> None:
    """What work on values takes doubles with them; optimizers and sums over rows are not free, and use alike parts."""
    device = bench.device
    if not any(cost(device, LARGE) or ()):
        raise Skipped("products cost nothing")
    asked = [name for name in elementwise_names() if device.activity(on_values(name, VALUES)) is not None]
    if not asked:
        raise Skipped("the host does all work on values")
    for name in asked:
        one, two = (on_values(name, size) for size in (VALUES, 2 * VALUES))
        free = not any(cost(device, one) or ())
        require(not free or name not in WHOLE_WORK, f"{name} of {VALUES} values takes neither energy nor time")
        require_doubling(device, one, two)
    found = {name: actions(device, on_values(name, VALUES)) for name in asked if name in WHOLE_WORK}
    for part in sorted({part for uses in found.values() for part in uses}):
        without = [name for name, uses in found.items() if part not in uses]
        rare = 2 * len(without) >= len(found)  # a unit for exponentials, say
        require(rare or not without, f"{', '.join(without)}: {part} has no part in it, as in other work on values")


def within_stated_rate(bench: Bench) -> None:
    """No product is done faster than the rate that the device states: `flop_per_s`, by precision, two for each MAC."""
    device = bench.device
    rates, precision = getattr(device, "flop_per_s", None), getattr(device, "precision", None)
    if not isinstance(rates, Mapping) or precision not in rates:
        raise Skipped("the device states no flop_per_s")
    rate, compared = Quantity.of(rates[precision]).nominal, 0
    for kind in PRODUCTS:
        op = LONG._replace(kind=kind)
        found = cost(device, op)
        if found is None:
            continue
        compared, reached = compared + 1, 2 * op.macs / found[1] if found[1] else math.inf
        require(
            reached <= rate * (1 + AGREEMENT),
            f"{kind} of {op.macs} MACs takes {found[1]:.4g} s: {reached:.4g} FLOP/s, and the device states {rate:.4g}",
        )
    if not compared:
        raise Skipped("the host does all products")


CHECKS: tuple[Check, ...] = (
    both_ways_alike,
    converters_take_all,
    stacks_add_up,
    calls_for_all,
    distinct_inputs,
    work_on_values,
    within_stated_rate,
)

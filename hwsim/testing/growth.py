"""Checks of how costs grow: with rows, inputs, outputs, stacked matrices, and tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hwsim.cost import Elementwise, Kind, Op, Product, Role, Use, op_cost
from hwsim.device import Device
from hwsim.ledger import Ledger, TileShape
from hwsim.testing.bench import Bench, Check, Failed, Skipped, exact, forward, normal, require, weights

SLACK = 0.01  # by which a larger matrix may seem cheaper: means of pulses over its cells are estimates
AGREEMENT = 1e-12  # between two ways of adding up the same floats
ROWS = (2**20, 2**21)  # a product of so many is long beyond any start
LARGE = Product(Kind.FORWARD, 64, 1024, 512)
SMALL = Product(Kind.FORWARD, 4, 7, 5)
MULTIPLYING = (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT)
MOVING = (Kind.PROGRAM, Kind.READ, Kind.UPDATE, Kind.UPDATE_OUTER)
ON_EVERY_VALUE = (Role.CONVERTER, Role.LIGHT)  # what all values pass, however few
STACKS = (32, 64)
NEARLY_TWICE = 1.5
LONG_SIDE, SHORT_SIDE = 2**22, 2**12  # what goes with the long side is far beyond all that does not
GROWING = (*MULTIPLYING, Kind.PRODUCT, *MOVING)
MOST_PER_ROW = 1.5  # twice the rows may record twice the counts, times so much or over so much: they vary by noise


def cost(device: Device, op: Op) -> tuple[float, float] | None:
    """Dynamic energy [J] and time [s] of one operation; None where the host does it."""
    found = bill(device, op)
    return None if found is None else found[:2]


def bill(device: Device, op: Op) -> tuple[float, float, float] | None:
    """Dynamic energy [J], time [s], and the energy with all that is powered for the tile meanwhile [J]."""
    uses = device.activity(op)
    if uses is None:
        return None
    ledger = Ledger()
    matrix = LARGE if isinstance(op, Elementwise) else op
    ledger.tiles[device, "tile"] = TileShape(matrix.stack, matrix.k, matrix.n)
    rates = ledger.rates(device)
    found = op_cost(uses, rates)
    energy, time = float(sum(found.energy_j.values())), float(found.time_s)
    return energy, time, energy + time * float(sum(rates.static_power_w.values()))


def cost_grows(bench: Bench) -> None:
    """Of very many rows, twice as many take nearly twice as much; larger matrices and stacks take more than smaller.

    Of very many inputs or outputs, twice as many take nearly twice the energy.
    """
    for kind in (*MULTIPLYING, *MOVING):
        op = LARGE._replace(kind=kind, m=0 if kind in MOVING[:3] else LARGE.m)
        if cost(bench.device, op) is None:
            continue
        if kind in MULTIPLYING:
            require_more(bench.device, op._replace(m=ROWS[0]), op._replace(m=ROWS[1]), NEARLY_TWICE)
        require_more(bench.device, op._replace(stack=STACKS[0]), op._replace(stack=STACKS[1]), 1.0)
        for larger in (op._replace(k=2 * op.k), op._replace(n=2 * op.n)):
            require_more(bench.device, op, larger, 1.0)
    for kind in GROWING:
        m, k, n = 0 if kind in MOVING[:3] else SHORT_SIDE, SHORT_SIDE, SHORT_SIDE
        one, two = LONG_SIDE, 2 * LONG_SIDE
        if m:
            require_doubling(bench.device, Product(kind, one, k, n), Product(kind, two, k, n))
        require_doubling(bench.device, Product(kind, m, one, n), Product(kind, m, two, n))
        require_doubling(bench.device, Product(kind, m, k, one), Product(kind, m, k, two))
    release = Product(Kind.RELEASE, LONG_SIDE, SHORT_SIDE, SHORT_SIDE)
    require_doubling(bench.device, release, release._replace(m=2 * LONG_SIDE))


def require_doubling(device: Device, small: Op, large: Op) -> None:
    """Require of `large`, twice `small`, nearly twice the joules; where there are none, nearly twice the seconds."""
    one, two = bill(device, small), bill(device, large)
    if one is None or two is None:
        return
    require(two[1] >= one[1] * (1 - SLACK), f"{large} takes {two[1]:.4g} s, and {small} {one[1]:.4g} s")
    # Units side by side may hide the time of a larger matrix, but then there are more of them, and they take power.
    compared = [("J of dynamic energy", 0), ("J, static energy included", 2)] if one[2] else [("s", 1)]
    for unit, i in compared:
        fine = two[i] >= NEARLY_TWICE * one[i]
        require(fine, f"{large} takes {two[i]:.4g} {unit}, and {small}, half of it, {one[i]:.4g}")


def require_more(device: Device, small: Product, large: Product, least: float) -> None:
    """Require that `large` takes neither less energy nor less time, and of what there is at least `least` times more.

    Units side by side may hide the time of a larger matrix; the energy, if there is any, has to grow.
    """
    one, two = cost(device, small), cost(device, large)
    if one is None or two is None:
        raise Failed(f"the device answers only one of {small} and {large}")
    for before, after, unit in zip(one, two, ("J", "s"), strict=True):
        fine = after >= before * (1 - SLACK) and (least == 1 or after >= least * before)
        require(fine, f"{large} takes {after:.4g} {unit}, and {small} {before:.4g} {unit}")
    require(not one[0] or two[0] > one[0], f"{large} takes no more than {small}: {one[0]:.4g} J")


def nothing_is_free(bench: Bench) -> None:
    """If products cost anything, so does each kind of product and move; converters act however small a product is.

    Bits that a forward holds are not got rid of for nothing: they are erased, at kT ln 2 each at least (Landauer 1961),
    or computed away. A memory that is written over may charge that to the writing, and says so as the reason.
    """
    device = bench.device
    costs = {kind: cost(device, LARGE._replace(kind=kind)) for kind in (*MULTIPLYING, *MOVING)}
    if not any(any(each) for each in costs.values() if each):
        raise Skipped("nothing that the device does costs anything")
    for kind, found in costs.items():
        if kind not in (Kind.PROGRAM, Kind.READ):  # weights may come with the memory, or be known already
            require(found is None or any(found), f"{kind} of a large matrix takes neither energy nor time")
    held, released = device.held_bits(LARGE), cost(device, LARGE._replace(kind=Kind.RELEASE))
    require(not held or any(released or ()), f"a release gets rid of {held} bits for neither energy nor time")
    for kind in MULTIPLYING:
        large, small = (acting(device.activity(op._replace(kind=kind))) for op in (LARGE, SMALL))
        for name in sorted(large - small):
            passed = device.components[name].role not in ON_EVERY_VALUE
            require(passed, f"{kind}: {name} acts for {LARGE.k} x {LARGE.n} weights, and not for {SMALL.k} x {SMALL.n}")


def acting(uses: Mapping[str, Use] | None) -> set[str]:
    """The components that do anything."""
    return {name for name, use in (uses or {}).items() if use.actions > 0}


def installed_grows(bench: Bench) -> None:
    """More tiles need no less hardware, and no more than they need apart, in any order; what acts is installed."""
    device = bench.device
    one, two = TileShape(1, 48, 32), TileShape(3, 130, 70)
    alone = [device.installed([each]) for each in (one, two)]
    both, turned = device.installed([one, two]), device.installed([two, one])
    for name in both:
        found = [float(units.get(name, 0)) for units in alone]
        together, other = float(both[name]), float(turned.get(name, 0))
        require(together == other, f"installed(): {together:g} of {name}, and {other:g} for tiles in another order")
        fine = max(found) * (1 - AGREEMENT) <= together <= sum(found) * (1 + AGREEMENT)
        require(
            fine, f"installed(): {together:g} of {name} for two tiles that take {found[0]:g} and {found[1]:g} alone"
        )
    for kind in MULTIPLYING:
        uses = device.activity(Product(kind, 4, one.k, one.n)) or {}
        for name in sorted(acting(uses)):
            fine = alone[0].get(name, 1) > 0  # what is not named takes no power while it waits
            require(fine, f"{kind} uses {name}, of which installed() powers none for its tile")


def held_bits_grow(bench: Bench) -> None:
    """What is held grows with rows and stacked matrices, and a release frees what its forward held."""
    device = bench.device
    op = Product(Kind.FORWARD, 4, 48, 32)
    held = device.held_bits(op)
    if not held:
        raise Skipped("a forward holds nothing")
    for larger in (op._replace(m=2 * op.m), op._replace(stack=2)):
        more = device.held_bits(larger)
        require(more > held, f"{larger} holds {more} bits, and {op} holds {held}")
    for forth in (op, op._replace(stack=3), op._replace(m=1, k=300)):
        bits, freed = device.held_bits(forth), device.held_bits(forth._replace(kind=Kind.RELEASE))
        require(bits + freed == 0, f"{forth} holds {bits} bits, and its release frees {-freed}")


def counts_of_all_rows(bench: Bench) -> None:
    """Recorded counts of a product grow with its rows: the same rows twice count twice."""
    device, compared = bench.device, 0
    for way, size in (("forward", 48), ("backward", 32)):
        found = []
        for times in (1, 2):
            tile = device.program(weights(device, 48, 32), name=f"rows {way}")
            rows = device.asarray([*exact(normal(device, 16, size))] * times)
            _ = forward(tile, rows) if way == "forward" else tile.backward(rows)
            found.append({
                name: float(count) for cell, counts in tile.ledger.actual.items()
                if isinstance(cell.op, Product) and cell.op.kind == way for name, count in counts.items()
            })  # fmt: skip
        for name, once in found[0].items():
            compared, ratio = compared + 1, found[1].get(name, 0.0) / once if once else 2.0
            fine = math.isfinite(ratio) and 2 / MOST_PER_ROW <= ratio <= 2 * MOST_PER_ROW
            require(fine, f"{way}: twice the rows record {ratio:.2f} times the actions of {name}; needs about 2")
    if not compared:
        raise Skipped("products record nothing: counts do not depend on values")


CHECKS: tuple[Check, ...] = (cost_grows, nothing_is_free, installed_grows, held_bits_grow, counts_of_all_rows)

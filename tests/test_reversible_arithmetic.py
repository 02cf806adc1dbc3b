"""Reversible arithmetic against integer arithmetic: all inputs of few bits, random inputs of many.

Every check also asks that operands come back, that ancillas end at 0, and that the inverse netlist undoes the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hwsim.devices.reversible import adders, blocks, lookahead, mac
from hwsim.devices.reversible.netlist import Builder, Netlist, standalone
from hwsim.devices.reversible.simulate import load, read, simulate_numpy
from hwsim.errors import ConfigError

Values = npt.NDArray[np.int64]
LANES = 1024  # of random inputs, where there are too many for all

WITH_CARRY = {
    "cuccaro": (adders.cuccaro, 1),
    "cuccaro_optimised": (adders.cuccaro_optimised, 4),
    "takahashi": (adders.takahashi, 1),
    "vbe": (adders.vbe, 1),
}


def every(*bits: int) -> list[Values]:
    """All combinations of unsigned values of these numbers of bits."""
    return [axis.reshape(-1) for axis in np.meshgrid(*(np.arange(2**count) for count in bits), indexing="ij")]


def drawn(*bits: int) -> list[Values]:
    """Random combinations, the smallest and the largest among them."""
    rng = np.random.default_rng(sum(bits))
    return [np.concatenate((rng.integers(2**count, size=LANES), [0, 2**count - 1])) for count in bits]


def inputs(*bits: int, exhaustive: bool) -> list[Values]:
    return every(*bits) if exhaustive else drawn(*bits)


def check(netlist: Netlist, values: dict[str, Values], **expected: Values) -> None:
    """The registers in `expected` end at those values, all others as they began; and back again."""
    assert set(expected) <= set(netlist.registers)
    state = load(netlist, **values)
    before, lanes = state.copy(), len(next(iter(values.values())))
    simulate_numpy(netlist, state)
    for name in netlist.registers:
        wanted = expected.get(name, values.get(name, np.zeros(lanes, np.int64)))
        found = read(netlist, state, name, lanes)
        assert np.array_equal(found, wanted), f"{name}: {np.sum(found != wanted)} of {lanes} lanes differ"
    assert not state[list(netlist.ancillas)].any()
    simulate_numpy(netlist.inverse(), state)
    assert np.array_equal(state, before)


def signed(values: Values, bits: int) -> Values:
    """What unsigned values mean in two's complement."""
    return np.where(values >= 2 ** (bits - 1), values - 2**bits, values)


def sizes(least: int = 1) -> Iterator[tuple[int, bool]]:
    """Numbers of bits, and whether all inputs are tried."""
    yield from ((n, n <= 6) for n in (*range(least, 17), 32))


@pytest.mark.parametrize("name", WITH_CARRY)
def test_adders_add_and_carry(name: str) -> None:
    emit, least = WITH_CARRY[name]
    for n, exhaustive in sizes(least):
        a, b, carry = inputs(n, n, 1, exhaustive=exhaustive)
        total = a + b
        check(
            standalone(emit, a=n, b=n, carry=1),
            {"a": a, "b": b, "carry": carry},
            b=total % 2**n,
            carry=carry ^ total >> n,
        )


def test_lookahead_adds_out_of_place() -> None:
    for n, exhaustive in sizes():
        a, b = inputs(n, n, exhaustive=exhaustive)
        check(standalone(lookahead.lookahead, a=n, b=n, total=n + 1), {"a": a, "b": b}, total=a + b)


def test_lookahead_adds_in_place() -> None:
    for n, exhaustive in sizes():
        a, b = inputs(n, n, exhaustive=exhaustive)
        total = a + b
        netlist = standalone(lookahead.lookahead_in_place, a=n, b=n, carry=1)
        check(netlist, {"a": a, "b": b}, b=total % 2**n, carry=total >> n)


def test_modular_addition_and_subtraction() -> None:
    for n, exhaustive in sizes():
        a, b = inputs(n, n, exhaustive=exhaustive)
        check(standalone(adders.takahashi_modular, a=n, b=n), {"a": a, "b": b}, b=(a + b) % 2**n)
        check(standalone(blocks.subtract, a=n, b=n), {"a": a, "b": b}, b=(b - a) % 2**n)


def test_controlled_addition() -> None:
    for n, exhaustive in sizes():
        control, a, b = inputs(1, n, n, exhaustive=exhaustive)
        netlist = standalone(adders.takahashi_controlled, control=1, a=n, b=n)
        check(netlist, {"control": control, "a": a, "b": b}, b=(b + control * a) % 2**n)


def test_comparison() -> None:
    for n, exhaustive in sizes():
        a, b, flag = inputs(n, n, 1, exhaustive=exhaustive)
        check(standalone(blocks.less, a=n, b=n, flag=1), {"a": a, "b": b, "flag": flag}, flag=flag ^ (a < b))


def test_rectifier_copies_what_is_positive() -> None:
    for n, _ in sizes(2):
        x, y = inputs(n, n - 1, exhaustive=n <= 6)
        check(standalone(blocks.relu, x=n, y=n - 1), {"x": x, "y": y}, y=y ^ np.maximum(signed(x, n), 0))


def test_rectifier_in_place_moves_what_is_negative() -> None:
    for n, exhaustive in sizes(2):
        (x,) = inputs(n, exhaustive=exhaustive)
        negative, low = x >> (n - 1), x % 2 ** (n - 1)
        rectified = np.maximum(signed(x, n), 0)
        netlist = standalone(blocks.relu_in_place, x=n, garbage=n - 1)
        check(netlist, {"x": x}, x=rectified + (negative << (n - 1)), garbage=negative * low)


def test_rounding_goes_to_the_nearest_and_keeps_what_it_dropped() -> None:
    for n, exhaustive in sizes(2):
        (x,) = inputs(n, exhaustive=exhaustive)
        for dropped in range(1, n):
            netlist = standalone(partial(blocks.round_half_up, dropped=dropped), x=n)
            shifted = x + 2 ** (dropped - 1)
            check(netlist, {"x": x}, x=shifted % 2**n)
            fits = signed(x, n) + 2 ** (dropped - 1) < 2 ** (n - 1)
            upper = signed(shifted % 2**n, n)[fits] >> dropped
            # The nearest multiple, a half going up: no further than half a step, and never below by exactly half.
            error = upper * 2**dropped - signed(x, n)[fits]
            assert (-(2 ** (dropped - 1)) < error).all()
            assert (error <= 2 ** (dropped - 1)).all()


def test_an_increment_counts() -> None:
    for n, exhaustive in sizes(2):
        (x,) = inputs(n, exhaustive=exhaustive)
        check(standalone(blocks.increment, x=n), {"x": x}, x=(x + 1) % 2**n)


# -- multiply-accumulate -----------------------------------------------------------------------------------


def accumulators(bits: int, exhaustive: bool) -> Values:
    """Values of an accumulator: all, or the ends, the middle and random ones."""
    if exhaustive:
        return np.arange(2**bits)
    ends = [0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1]
    return np.concatenate((ends, np.random.default_rng(bits).integers(2**bits, size=27)))


def products(n: int, wide: int) -> tuple[Values, Values, Values]:
    """All x and w of n bits with all or some accumulators."""
    axes = (np.arange(2**n), np.arange(2**n), accumulators(wide, n <= 3))
    x, w, accumulator = (axis.reshape(-1) for axis in np.meshgrid(*axes, indexing="ij"))
    return x, w, accumulator


@pytest.mark.parametrize("scheme", mac.REGISTER_SCHEMES)
def test_macs_with_the_weight_in_a_register(scheme: str) -> None:
    for n, wide in ((2, 4), (2, 5), (2, 7), (3, 6), (3, 8), (4, 8), (4, 9), (4, 13)):
        x, w, accumulator = products(n, wide)
        total = (accumulator + signed(w, n) * x) % 2**wide
        netlist = mac.mac_netlist(scheme, n, wide)
        check(netlist, {"x": x, "w": w, "accumulator": accumulator}, accumulator=total)
    for n, wide in ((5, 10), (7, 20), (8, 16), (8, 24), (12, 30), (16, 32), (16, 42)):
        x, w, accumulator = drawn(n, n, wide)
        total = (accumulator + signed(w, n) * x) % 2**wide
        netlist = mac.mac_netlist(scheme, n, wide)
        check(netlist, {"x": x, "w": w, "accumulator": accumulator}, accumulator=total)


@pytest.mark.parametrize("scheme", mac.WIRED_SCHEMES)
def test_macs_with_the_weight_in_the_wiring(scheme: str) -> None:
    for n, wide in ((2, 4), (2, 6), (3, 6), (3, 8), (4, 8), (4, 11)):
        x, accumulator = (axis.reshape(-1) for axis in np.meshgrid(np.arange(2**n), accumulators(wide, n <= 3)))
        for weight in range(-(2 ** (n - 1)), 2 ** (n - 1)):
            netlist = mac.mac_netlist(scheme, n, wide, weight)
            check(netlist, {"x": x, "accumulator": accumulator}, accumulator=(accumulator + weight * x) % 2**wide)
    for n, wide, weight in (
        (8, 24, -128),
        (8, 24, 127),
        (8, 16, -77),
        (12, 30, 1365),
        (16, 40, -32768),
        (16, 42, -21846),
    ):
        x, accumulator = drawn(n, wide)
        netlist = mac.mac_netlist(scheme, n, wide, weight)
        check(netlist, {"x": x, "accumulator": accumulator}, accumulator=(accumulator + weight * x) % 2**wide)


def test_a_row_of_macs_is_a_dot_product_with_signed_inputs() -> None:
    n, terms = 8, 300
    wide = 2 * n + 9  # 2^9 > 300
    rng = np.random.default_rng(3)
    x, w = (rng.integers(-128, 128, size=(LANES, terms)) for _ in range(2))
    shifted = x + 2 ** (n - 1)  # the top bit inverted
    netlist = mac.mac_netlist("ctrl", n, wide)
    state = load(netlist, accumulator=-(w.sum(axis=1) << (n - 1)))
    operands = list(netlist.registers["x"] + netlist.registers["w"])
    for term in range(terms):
        state[operands] = load(netlist, x=shifted[:, term], w=w[:, term])[operands]
        simulate_numpy(netlist, state)
    assert np.array_equal(read(netlist, state, "accumulator", LANES, signed=True), (x * w).sum(axis=1))


# -- the checks themselves, and errors ---------------------------------------------------------------------


@pytest.mark.parametrize("emit", [adders.cuccaro_optimised, adders.takahashi, lookahead.lookahead_in_place])
def test_the_check_sees_any_gate_that_is_missing(emit: Callable[..., None]) -> None:
    netlist = standalone(emit, a=4, b=4, carry=1)
    a, b = every(4, 4)
    for i in range(len(netlist.program)):
        lacking = Netlist(np.delete(netlist.program, i, axis=0), netlist.registers, netlist.ancillas)
        with pytest.raises(AssertionError):
            check(lacking, {"a": a, "b": b}, b=(a + b) % 16, carry=a + b >> 4)


def three_and_four(emit: Callable[..., None], **others: int) -> Callable[[], Any]:
    return lambda: standalone(emit, a=3, b=4, **others)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (three_and_four(adders.cuccaro, carry=1), "3 and 4 wires"),
        (three_and_four(adders.takahashi_modular), "3 and 4 wires"),
        (three_and_four(lookahead.lookahead, total=5), "3 and 4 wires"),
        (three_and_four(blocks.less, flag=1), "3 and 4 wires"),
        (lambda: standalone(adders.cuccaro_optimised, a=3, b=3, carry=1), "at least 4; use cuccaro"),
        (lambda: standalone(lookahead.lookahead, a=3, b=3, total=3), "needs 4"),
        (lambda: standalone(blocks.relu, x=4, y=4), "it needs 3"),
        (lambda: standalone(blocks.relu_in_place, x=4, garbage=4), "it needs 3"),
        (lambda: standalone(partial(blocks.round_half_up, dropped=4), x=4), "rounding away 4 of 4"),
        (lambda: standalone(partial(blocks.round_half_up, dropped=0), x=4), "rounding away 0 of 4"),
        (lambda: mac.mac_netlist("booth", 8, 24), "known: mask, ctrl, product, const_x, naf"),
        (lambda: mac.mac_netlist("naf", 8, 24), "takes a weight"),
        (lambda: mac.mac_netlist("ctrl", 8, 24, 3), "takes no weight"),
        (lambda: mac.mac_netlist("ctrl", 8, 15), "an accumulator of 15 bits"),
        (lambda: mac.mac_netlist("mask", 1, 15), "at least 2"),
        (lambda: mac.mac_netlist("naf", 8, 24, 128), "allowed are -128 to 127"),
        (lambda: mac.mac_netlist("const_x", 8, 24, -129), "allowed are -128 to 127"),
        (lambda: standalone(mac.mask, x=8, w=7, accumulator=24), "the same number"),
    ],
)
def test_widths_that_do_not_fit_are_refused(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_blocks_share_a_builder() -> None:
    builder = Builder()
    a, b, carry = builder.register("a", 4), builder.register("b", 4), builder.register("carry", 1)
    adders.cuccaro(builder, a, b, carry)
    blocks.less(builder, a, b, carry)
    netlist = builder.build()
    assert len(netlist.ancillas) == 1
    left, right = every(4, 4)
    total = left + right
    wanted = (total >> 4) ^ (left < total % 16)
    check(netlist, {"a": left, "b": right}, b=total % 16, carry=wanted)

"""Closed forms of gates, ancillas and depth against built netlists, published figures and brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from math import floor, log2
from typing import Any

import numpy as np
import pytest

from hwsim.devices.reversible import adders, blocks, counts, lookahead, mac
from hwsim.devices.reversible.counts import Counts, counted
from hwsim.devices.reversible.netlist import Netlist, standalone
from hwsim.errors import ConfigError

SIZES = (*range(2, 17), 32)


def with_carry(emit: Callable[..., None]) -> Callable[[int], Netlist]:
    return lambda n: standalone(emit, a=n, b=n, carry=1)


def two(emit: Callable[..., None]) -> Callable[[int], Netlist]:
    return lambda n: standalone(emit, a=n, b=n)


NETLISTS: dict[str, Callable[[int], Netlist]] = {
    "cuccaro": with_carry(adders.cuccaro),
    "cuccaro_optimised": with_carry(adders.cuccaro_optimised),
    "takahashi": with_carry(adders.takahashi),
    "takahashi_modular": two(adders.takahashi_modular),
    "takahashi_controlled": lambda n: standalone(adders.takahashi_controlled, control=1, a=n, b=n),
    "vbe": with_carry(adders.vbe),
    "lookahead": lambda n: standalone(lookahead.lookahead, a=n, b=n, total=n + 1),
    "lookahead_in_place": with_carry(lookahead.lookahead_in_place),
    "less": lambda n: standalone(blocks.less, a=n, b=n, flag=1),
    "subtract": two(blocks.subtract),
    "relu": lambda n: standalone(blocks.relu, x=n, y=n - 1),
    "relu_in_place": lambda n: standalone(blocks.relu_in_place, x=n, garbage=n - 1),
}


def sizes(name: str) -> list[int]:
    return [n for n in SIZES if name != "cuccaro_optimised" or n >= 4]


@pytest.mark.parametrize("name", NETLISTS)
def test_closed_forms_count_what_is_built(name: str) -> None:
    for n in sizes(name):
        assert getattr(counts, name)(n) == counted(NETLISTS[name](n)), n


def test_closed_form_of_rounding_counts_what_is_built() -> None:
    for n in SIZES:
        for dropped in range(1, n):
            netlist = standalone(partial(blocks.round_half_up, dropped=dropped), x=n)
            assert counts.round_half_up(n, dropped) == counted(netlist)


def widths(n: int) -> tuple[int, ...]:
    return 2 * n, 2 * n + 1, 2 * n + 8, 3 * n + 5


@pytest.mark.parametrize("scheme", mac.REGISTER_SCHEMES)
def test_closed_forms_of_macs_count_what_is_built(scheme: str) -> None:
    for n in range(2, 17):
        for wide in widths(n):
            netlist = mac.mac_netlist(scheme, n, wide)
            assert counts.mac(scheme, n, wide) == counted(netlist)
            if scheme == "ctrl":
                assert counts.controlled_depth(n, wide) == netlist.depth


def some_weights(n: int) -> list[int]:
    """All of few bits, the ends and random ones of many."""
    if n <= 5:
        return list(range(-(2 ** (n - 1)), 2 ** (n - 1)))
    drawn = np.random.default_rng(n).integers(-(2 ** (n - 1)), 2 ** (n - 1), size=4).tolist()
    return [-(2 ** (n - 1)), 2 ** (n - 1) - 1, -1, *drawn]


def test_closed_forms_of_wired_macs_count_what_is_built() -> None:
    for n in range(2, 17):
        for wide in widths(n):
            weights = some_weights(n)
            found = counts.naf(np, np.array(weights), n, wide)
            depth = counts.naf_depth(np, np.array(weights), n, wide)
            for i, weight in enumerate(weights):
                netlist = mac.mac_netlist("naf", n, wide, weight)
                assert Counts(*(column[i] for column in found)) == counted(netlist)
                assert depth[i] == netlist.depth
                netlist = mac.mac_netlist("const_x", n, wide, weight)
                assert counts.constant_x(weight, n, wide) == counted(netlist)


def test_counts_of_a_matrix_are_those_of_its_weights() -> None:
    w = np.random.default_rng(0).integers(-128, 128, size=(30, 20), dtype=np.int8)
    each = counts.naf(np, w, 8, 24)
    assert each.toffolis.shape == w.shape
    built = [counted(mac.mac_netlist("naf", 8, 24, weight)) for weight in w[0].tolist()]
    assert each.toffolis[0].tolist() == [count.toffolis for count in built]


# -- figures of others -------------------------------------------------------------------------------------


def test_published_counts_of_adders() -> None:
    # Cuccaro et al., quant-ph/0410184: 2n-1 Toffolis, 5n-3 CNOTs, 2n-4 NOTs, depth 2n+4, 2n+2 wires (recalled).
    netlist = NETLISTS["cuccaro_optimised"](8)
    assert counted(netlist) == Counts(12, 37, 15, 1)
    assert (netlist.depth, netlist.width) == (20, 18)
    # qiskit 2.6.2 at n = 8 (measured): adder_ripple_c04 "half" 16 Toffolis, 33 CNOTs, 18 qubits; v95 "full" 30, 32, 25.
    assert counted(NETLISTS["cuccaro"](8)) == Counts(0, 33, 16, 1)
    assert NETLISTS["cuccaro"](8).width == 18
    assert counted(NETLISTS["vbe"](8)) == Counts(0, 32, 30, 8)
    assert NETLISTS["vbe"](8).width == 25
    for n in range(2, 17):
        # Takahashi, Tani, Kunihiro, QIC 10 (2010): 7n-6 gates and no ancilla (read).
        assert len(NETLISTS["takahashi"](n).program) == 7 * n - 6
        assert not NETLISTS["takahashi"](n).ancillas
    for n, toffolis, cnots in ((4, 6, 14), (8, 14, 34), (16, 30, 74)):
        # mqt-syrec 2.1.0 synthesises b += a to 2n-2 Toffolis and 5n-6 CNOTs at these n (measured).
        assert counted(NETLISTS["takahashi_modular"](n))[1:3] == (cnots, toffolis)


@pytest.mark.parametrize("n", [7, 8, 10, 12, 13, 16, 24, 32])
def test_published_figures_of_lookahead(n: int) -> None:
    # Draper, Kutin, Rains, Svore, quant-ph/0406142, sections 4.1 and 4.2, for n >= 7 (recalled).
    ones, below, lg, third = n.bit_count(), (n - 1).bit_count(), floor(log2(n)), floor(log2(n / 3))
    out, place = NETLISTS["lookahead"](n), NETLISTS["lookahead_in_place"](n)
    assert counted(out).toffolis == 5 * n - 3 * ones - 3 * lg - 1
    assert out.depth == lg + third + 7
    lg_below, third_below = floor(log2(n - 1)), floor(log2((n - 1) / 3))
    assert counted(place).toffolis == 10 * n - 3 * ones - 3 * below - 3 * lg - 3 * lg_below - 7
    assert place.depth == lg + lg_below + third + third_below + 14


def test_depths_of_ripple_adders() -> None:
    forms: dict[str, Callable[[int], int]] = {
        "cuccaro": lambda n: 5 * n + 2,
        "cuccaro_optimised": lambda n: 2 * n + 4,  # quant-ph/0410184 (recalled)
        "takahashi": lambda n: 5 * n - 3,  # QIC 10 (2010) 872: depth 5n-3 (recalled)
        "takahashi_modular": lambda n: 5 * n - 5,
        "takahashi_controlled": lambda n: 5 * n - 5,
        "vbe": lambda n: 6 * n,
    }
    for name, form in forms.items():
        assert [NETLISTS[name](n).depth for n in sizes(name)] == [form(n) for n in sizes(name)]


# -- the non-adjacent form ---------------------------------------------------------------------------------


def digits(weight: int, n: int) -> list[int]:
    nonzero, negative = mac.naf_masks(weight)
    assert nonzero >> n == 0
    assert negative & ~nonzero == 0
    return [(nonzero >> i & 1) * (1 - 2 * (negative >> i & 1)) for i in range(n)]


def test_digits_make_the_weight_are_not_adjacent_and_are_the_fewest() -> None:
    n = 7
    fewest: dict[int, int] = {}
    for choice in itertools.product((-1, 0, 1), repeat=n):
        value = sum(digit << i for i, digit in enumerate(choice))
        fewest[value] = min(fewest.get(value, n), n - choice.count(0))
    for weight in range(-(2 ** (n - 1)), 2 ** (n - 1)):
        found = digits(weight, n)
        assert sum(digit << i for i, digit in enumerate(found)) == weight
        assert not any(a and b for a, b in itertools.pairwise(found))
        assert n - found.count(0) == fewest[weight]


def test_digits_of_sixteen_bits_make_the_weight() -> None:
    weights = np.arange(-(2**15), 2**15)
    nonzero, negative = mac.naf_masks(weights)
    assert np.array_equal((nonzero & ~negative) - negative, weights)
    assert not (nonzero & (nonzero << 1)).any()


def test_a_known_form_and_its_counts_by_hand() -> None:
    assert digits(7, 4) == [-1, 0, 0, 1]  # 8 - 1
    # A = 8: 1 at bit 3 adds on 5 wires, -1 at bit 0 subtracts on 8: Toffolis 2*5-2 + 2*8-2, CNOTs 5*5-6 + 5*8-6.
    found = counts.naf(np, np.array([7, 0]), 4, 8)
    assert [column.tolist() for column in found] == [[16, 0], [53, 0], [22, 0], [4, 4]]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: counts.mac("naf", 8, 24), "mask, ctrl, product have them"),
        (lambda: counts.mac("ctrl", 8, 12), "an accumulator of 12 bits"),
        (lambda: counts.controlled_depth(1, 12), "at least 2"),
        (lambda: counts.constant_x(200, 8, 24), "allowed are -128 to 127"),
        (lambda: counts.naf(np, np.array([0, 128]), 8, 24), "weight 128 in 8 bits"),
        (lambda: counts.naf(np, np.array([-129]), 8, 24), "weight -129 in 8 bits"),
        (lambda: counts.naf_depth(np, np.array([1]), 8, 15), "an accumulator of 15 bits"),
        (lambda: counts.naf(np, np.array([1]), 24, 48), "the table reaches 20"),
        (lambda: counts.naf(np, np.array([1.0]), 8, 24), "give integers"),
    ],
)
def test_what_does_not_exist_has_no_counts(ask: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ask()

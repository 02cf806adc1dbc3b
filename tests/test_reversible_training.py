"""Training that erases nothing: pebbling schedules against exhaustive search, and the information buffer."""

import math
from collections import deque
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.errors import ConfigError
from hwsim.learning.information import divided, empty_buffer, multiplied, occupied_bits, register_bits
from hwsim.models import pebbling

CHAINS = [(m, s) for m in range(1, 13) for s in range(1, 9)]
RATIOS = [Fraction(1, 2), Fraction(2, 3), Fraction(9, 10), Fraction(15, 16), Fraction(99, 100), Fraction(1, 1000)]


# -- pebbling ----------------------------------------------------------------------------------------------


def fewest(m: int, s: int, *, sweep: bool) -> float:
    """The fewest moves, by breadth-first search over all sets of live results (bit 0: the input).

    For a sweep a state also says which result is to be live next: the last at first, then the one before, to none.
    """

    def settled(live: int, wanted: int) -> tuple[int, int]:
        while wanted and live >> wanted & 1:
            wanted -= 1
        return live, wanted

    start = (1, m if sweep else 0)
    goal = (1, 0) if sweep else (1 | 1 << m, 0)
    known, queue = {start: 0}, deque([start])
    while queue:
        state = queue.popleft()
        if state == goal:
            return known[state]
        live, wanted = state
        for place in range(1, m + 1):
            after = live ^ (1 << place)
            if live >> (place - 1) & 1 and after.bit_count() - 1 <= s:
                following = settled(after, wanted)
                if following not in known:
                    known[following] = known[state] + 1
                    queue.append(following)
    return math.inf


@pytest.mark.parametrize("sweep", [False, True], ids=["value", "sweep"])
def test_schedules_take_as_few_moves_as_an_exhaustive_search_finds(sweep: bool) -> None:
    steps = pebbling.sweep_steps if sweep else pebbling.value_steps
    moves = pebbling.sweep_moves if sweep else pebbling.value_moves
    pebbles = pebbling.fewest_sweep_pebbles if sweep else pebbling.fewest_value_pebbles
    feasible = 0
    for m, s in CHAINS:
        expected = fewest(m, s, sweep=sweep)
        if math.isinf(expected):
            assert s < pebbles(m)
            with pytest.raises(ConfigError, match=f"needs {pebbles(m)} or more"):
                steps(m, s)
            continue
        feasible += 1
        assert s >= pebbles(m)
        assert steps(m, s) == len(moves(m, s)) == expected
        assert pebbling.peak(moves(m, s)) <= s
    assert feasible > 60


def test_published_numbers_of_steps() -> None:
    """Knill's numbers for longer chains, as computed by an independent program before this one was written."""
    for m, s, steps in [
        (16, 16, 31),
        (16, 5, 71),
        (32, 6, 193),
        (32, 7, 145),
        (32, 8, 117),
        (32, 12, 103),
        (32, 32, 63),
    ]:
        assert pebbling.value_steps(m, s) == steps


def live_after(moves: pebbling.Moves) -> set[int]:
    live: set[int] = set()
    for move in moves:
        live ^= {abs(move)}
    return live


@given(m=st.integers(1, 40), extra=st.integers(0, 6))
def test_a_schedule_leaves_what_it_says(m: int, extra: int) -> None:
    moves = pebbling.value_moves(m, pebbling.fewest_value_pebbles(m) + extra)
    assert live_after(moves) == {m}
    assert live_after(moves + pebbling.undone(moves)) == set()
    moves = pebbling.sweep_moves(m, pebbling.fewest_sweep_pebbles(m) + extra)
    assert live_after(moves) == set()
    wanted, live = m, live_after(moves)
    for move in moves:
        live ^= {abs(move)}
        while wanted in live:
            wanted -= 1
    assert wanted == 0


def test_sweeps_by_hand() -> None:
    """All four live: there and back. Three live: 1 2 -1 3 4 (2, 3, 4 live) -4 -3, then 1 again to take 2 away, -1."""
    assert pebbling.sweep_moves(4, 4) == (1, 2, 3, 4, -4, -3, -2, -1)
    moves = pebbling.sweep_moves(4, 3)
    assert (len(moves), pebbling.peak(moves)) == (10, 3)


@pytest.mark.parametrize("moves", [(2,), (1, 1), (-1,), (1, 2, -1, -2), (0,)])
def test_moves_that_the_rules_forbid_are_refused(moves: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="not possible"):
        pebbling.peak(moves)


@pytest.mark.parametrize(("m", "s"), [(0, 1), (3, 0), (-1, 2)])
def test_chains_of_nothing_are_refused(m: int, s: int) -> None:
    for steps in (pebbling.value_steps, pebbling.sweep_steps):
        with pytest.raises(ConfigError, match="whole numbers from 1"):
            steps(m, s)


# -- information buffer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_a_buffer_without_spills_is_one_integer(ratio: Fraction) -> None:
    """The published recipe in Python's integers of any length, for as long as a head of 63 bits needs no spill."""
    n, d = ratio.numerator, ratio.denominator
    rng = np.random.default_rng(0)
    v, buffer = rng.integers(-(2**40), 2**40, 5), empty_buffer(np, (5,))
    expected = [(int(each), 0) for each in v]
    while True:
        before = buffer
        v, buffer = multiplied(np, v, buffer, ratio)
        if len(buffer.spilled):
            break
        for i, (value, information) in enumerate(expected):
            information = information * d + value % d
            expected[i] = value // d * n + information % n, information // n
        assert expected == list(zip(v.tolist(), buffer.head.tolist(), strict=True))
        kicks = rng.integers(-(2**40), 2**40, 5)
        v = v + kicks
        expected = [
            (value + int(kick), information) for (value, information), kick in zip(expected, kicks, strict=True)
        ]
    assert before.times >= 63 // math.log2(d) - 3  # it spills when it is full, and not before


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 4000),
    gap=st.integers(1, 90),
    steps=st.integers(1, 80),
    scale=st.integers(0, 44),
    seed=st.integers(0),
)
def test_there_and_back(n: int, gap: int, steps: int, scale: int, seed: int) -> None:
    ratio, rng = Fraction(n, n + gap), np.random.default_rng(seed)
    start = rng.integers(-(2**scale), 2**scale, (2, 3), endpoint=True)
    kicks = rng.integers(-(2**scale), 2**scale, (steps, 2, 3), endpoint=True)
    v, buffer = start, empty_buffer(np, (2, 3))
    for kick in kicks:
        after, buffer = multiplied(np, v, buffer, ratio)
        # v = d q + r, and n q + t with r < d and t < n, lie within n of the exact product.
        assert (abs(after - v * float(ratio)) <= ratio.numerator + 2.0**-40 * abs(v)).all()
        v = after + kick
    assert occupied_bits(np, buffer) <= 6 * register_bits(ratio, steps)
    for kick in kicks[::-1]:
        v, buffer = divided(np, v - kick, buffer, ratio)
    assert (v == start).all()
    assert not buffer.head.any()
    assert not buffer.spilled.size
    with pytest.raises(ConfigError, match="nothing is left to undo"):
        divided(np, v, buffer, ratio)


@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_the_register_holds_the_worst_digits_and_no_less(ratio: Fraction) -> None:
    """Values that always drop the largest digit, d - 1, fill the register to its last bit."""
    d = ratio.denominator
    buffer = empty_buffer(np, (1,))
    for steps in range(1, 400):
        _, buffer = multiplied(np, np.array([d - 1]), buffer, ratio)
        assert buffer.head[0] >= 0
        bits = 32 * len(buffer.spilled) + int(buffer.head[0]).bit_length()
        assert bits == register_bits(ratio, steps)


@pytest.mark.parametrize("ratio", [r for r in RATIOS if r <= Fraction(15, 16)], ids=str)
def test_a_buffer_grows_by_what_the_ratio_loses(ratio: Fraction) -> None:
    """log2(1 / ratio) bits for each value and step, within 5%, both as occupied and as reserved."""
    rng, steps, values = np.random.default_rng(1), 1200, 300
    v, buffer = np.zeros(values, dtype=np.int64), empty_buffer(np, (values,))
    for _ in range(steps):
        v, buffer = multiplied(np, v, buffer, ratio)
        v = v + rng.integers(-(2**28), 2**28, values)
    expected = -math.log2(ratio)
    assert occupied_bits(np, buffer) / (steps * values) == pytest.approx(expected, rel=0.05)
    assert register_bits(ratio, steps) / steps == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("ratio", [Fraction(0), Fraction(1), Fraction(3, 2), Fraction(-1, 2), Fraction(1, 5000)])
def test_ratios_that_lose_nothing_or_too_much_are_refused(ratio: Fraction) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        register_bits(ratio, 1)

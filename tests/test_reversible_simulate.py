"""The bit-sliced simulator against one lane at a time in plain Python, and faults against what they must do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from hwsim.devices.reversible import mac
from hwsim.devices.reversible.faults import Detection, at_random, detection, one_each, sites
from hwsim.devices.reversible.netlist import ABSENT, Builder, Kind, Netlist, standalone
from hwsim.devices.reversible.simulate import (
    CHUNK,
    NO_FAULTS,
    Faults,
    load,
    read,
    simulate,
    simulate_numba,
    simulate_numpy,
)
from hwsim.devices.reversible.slices import pack, unpack
from hwsim.errors import ConfigError, ShapeError

ENGINES: dict[str, Callable[..., None]] = {
    "numpy": simulate_numpy,
    "numba": simulate_numba,
    "numba, 2 threads": partial(simulate_numba, threads=2),
    "chosen by size": simulate,
}


def scrambled(rng: np.random.Generator, wires: int, gates: int) -> Netlist:
    """A netlist of random gates of all kinds on one register."""
    kinds = rng.integers(len(Kind), size=gates)
    program = np.array([(kind, *rng.permutation(wires)[:3]) for kind in kinds], dtype=np.int32)
    program[np.isin(kinds, (Kind.NOT, Kind.CNOT)), 2] = ABSENT
    program[kinds == Kind.NOT, 1] = ABSENT
    return Netlist(program, {"r": tuple(range(wires))}, ())


def one_lane(netlist: Netlist, bits: list[int], flips: dict[int, list[int]]) -> list[int]:
    """One lane, gate by gate on integers 0 and 1, with flips of wires after gates."""
    bits = list(bits)
    for i, (kind, a, b, t) in enumerate(netlist.program.tolist()):
        match Kind(kind):
            case Kind.NOT:
                bits[t] = 1 - bits[t]
            case Kind.CNOT:
                bits[t] = (bits[t] + bits[a]) % 2
            case Kind.TOFFOLI:
                bits[t] = (bits[t] + bits[a] * bits[b]) % 2
            case Kind.FREDKIN:
                bits[b], bits[t] = (bits[t], bits[b]) if bits[a] else (bits[b], bits[t])
            case Kind.PERES:
                bits[b], bits[t] = (bits[a] + bits[b]) % 2, (bits[t] + bits[a] * bits[b]) % 2
            case Kind.PERES_INVERSE:
                bits[b] = (bits[a] + bits[b]) % 2
                bits[t] = (bits[t] + bits[a] * bits[b]) % 2
        for wire in flips.get(i, []):
            bits[wire] = 1 - bits[wire]
    return bits


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("words", [1, 65, 300])  # less than a block, a block and a word, more than goes by NumPy
def test_engines_do_what_one_lane_does(engine: str, words: int) -> None:
    rng = np.random.default_rng(words)
    netlist = scrambled(rng, wires=7, gates=120)
    values = rng.integers(2**7, size=64 * words)
    faults = at_random(netlist, len(values), 0.002, rng)
    state = load(netlist, r=values)
    ENGINES[engine](netlist, state, faults)
    found = read(netlist, state, "r", len(values))
    tried = [0, 1, 63, len(values) - 1, *rng.integers(len(values), size=30)]
    flipped = 0
    for lane in tried:
        here = (faults.word == lane // 64) & (faults.mask == np.uint64(1) << np.uint64(lane % 64))
        flips: dict[int, list[int]] = {}
        for gate, wire in zip(faults.gate[here].tolist(), faults.wire[here].tolist(), strict=True):
            flips.setdefault(gate, []).append(wire)
        flipped += len(flips)
        bits = one_lane(netlist, [int(values[lane]) >> wire & 1 for wire in range(7)], flips)
        assert found[lane] == sum(bit << wire for wire, bit in enumerate(bits))
    assert flipped


@pytest.mark.parametrize("faulty", [False, True])
def test_engines_agree_on_many_words(faulty: bool) -> None:
    rng = np.random.default_rng(1)
    netlist = mac.mac_netlist("mask", 4, 11)
    words = CHUNK + 130
    state = rng.integers(2**64, size=(netlist.width, words), dtype=np.uint64)
    faults = at_random(netlist, 64 * words, 1e-5, rng) if faulty else NO_FAULTS
    assert (len(faults.gate) > 50) == faulty
    states = [state.copy() for _ in ENGINES]
    for engine, copy in zip(ENGINES.values(), states, strict=True):
        engine(netlist, copy, faults)
    assert not np.array_equal(states[0], state)
    for copy in states[1:]:
        assert np.array_equal(copy, states[0])


# -- slices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wires", [1, 2, 3, 7, 8, 9, 16, 17, 24, 31, 32, 33, 48, 63, 64])
@pytest.mark.parametrize("lanes", [1, 64, 200])
def test_slices_hold_the_bits_of_the_values(wires: int, lanes: int) -> None:
    values = np.random.default_rng(wires).integers(-(2**63), 2**63, size=lanes)
    slices = pack(values, wires)
    assert slices.shape == (wires, -(-lanes // 64))
    lanes_of_wire = np.unpackbits(slices.view(np.uint8), axis=1, bitorder="little")  # a little-endian machine
    for lane, value in enumerate(values.tolist()):
        assert lanes_of_wire[:, lane].tolist() == [value >> wire & 1 for wire in range(wires)]
    assert not lanes_of_wire[:, lanes:].any()
    modulus = 2**wires
    if wires < 64:
        assert unpack(slices, lanes, signed=False).tolist() == [value % modulus for value in values.tolist()]
    halfway = modulus // 2
    wanted = [(value + halfway) % modulus - halfway for value in values.tolist()]
    assert unpack(slices, lanes, signed=True).tolist() == wanted


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, bool])
def test_values_of_any_integer_type_are_packed(dtype: Any) -> None:
    values = np.array([0, 1, 1, 0, 1], dtype=dtype)
    assert pack(values, 1).tolist() == [[0b10110]]


def test_a_byte_of_minus_one_fills_its_wires_and_no_more() -> None:
    assert pack(np.array([-1], dtype=np.int8), 10).tolist() == [[1]] * 10


# -- faults ------------------------------------------------------------------------------------------------


def copy_through_ancilla() -> Netlist:
    """ancilla ^= x, y ^= ancilla, ancilla ^= x."""

    def emit(builder: Builder, x: tuple[int, ...], y: tuple[int, ...]) -> None:
        with builder.ancillas(1) as (spare,):
            builder.cnot(x[0], spare)
            builder.cnot(spare, y[0])
            builder.cnot(x[0], spare)

    return standalone(emit, x=1, y=1)


def test_faults_of_a_small_netlist_by_hand() -> None:
    netlist = copy_through_ancilla()
    (spare,), (y,) = netlist.ancillas, netlist.registers["y"]
    assert sites(netlist).tolist() == [[0, spare], [1, y], [2, spare]]
    faults, lanes = one_each(netlist, repeats=1)
    # After gate 0 the ancilla is wrong, stays so and spoils y; after gate 1 y is wrong alone; after gate 2 the ancilla.
    values = {"x": np.ones(lanes, np.int64)}
    assert detection(netlist, values, faults, kept=("x",)) == Detection(lanes=3, wrong=2, flagged=2, silent=1)
    assert detection(netlist, values, faults, kept=("x",)).flagged_share == pytest.approx(2 / 3)
    assert detection(netlist, values, NO_FAULTS, kept=("x",)) == Detection(lanes=3, wrong=0, flagged=0, silent=0)


def test_gates_that_write_two_wires_may_fail_on_both() -> None:
    def emit(builder: Builder, r: tuple[int, ...]) -> None:
        builder.fredkin(*r)
        builder.peres(*r)
        builder.toffoli(*r)

    assert sites(standalone(emit, r=3)).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2], [2, 2]]


@pytest.mark.parametrize("scheme", mac.REGISTER_SCHEMES)
def test_a_single_flip_that_does_not_show_has_changed_the_result(scheme: str) -> None:
    # A netlist is one to one: two different states in the middle never end as the same state.
    netlist = mac.mac_netlist(scheme, 4, 10)
    faults, lanes = one_each(netlist, repeats=20)
    rng = np.random.default_rng(0)
    values = {name: rng.integers(2**10, size=lanes) for name in ("x", "w", "accumulator")}
    found = detection(netlist, values, faults, kept=("x", "w"))
    assert found.lanes == 20 * len(sites(netlist))
    assert found.flagged + found.silent == lanes
    assert 0 < found.silent < lanes


def test_two_equal_flips_cancel() -> None:
    netlist = copy_through_ancilla()
    once, lanes = one_each(netlist, repeats=1)
    twice = Faults(np.tile(once.gate, 2), np.tile(once.wire, 2), np.tile(once.word, 2), np.tile(once.mask, 2))
    values = {"x": np.array([0, 1, 1])}
    assert detection(netlist, values, twice, kept=("x",)) == Detection(lanes, wrong=0, flagged=0, silent=0)
    for engine in ENGINES.values():
        state, wanted = load(netlist, **values), load(netlist, **values)
        engine(netlist, state, twice)
        engine(netlist, wanted)
        assert np.array_equal(state, wanted)


def test_random_faults_are_as_many_as_their_probability_says() -> None:
    netlist = mac.mac_netlist("ctrl", 4, 10)
    places, lanes, probability = len(sites(netlist)), 5000, 0.01
    faults = at_random(netlist, lanes, probability, np.random.default_rng(5))
    expected = places * lanes * probability
    sigma = np.sqrt(expected * (1 - probability))  # binomial, n = places * lanes
    assert abs(len(faults.gate) - expected) < 5 * sigma
    lane = 64 * faults.word + np.log2(faults.mask.astype(np.float64)).astype(np.int64)
    assert lane.max() < lanes
    assert len(set(zip(faults.gate.tolist(), faults.wire.tolist(), lane.tolist(), strict=True))) == len(lane)
    # Spread evenly: mean lane of a uniform draw, sigma = lanes / sqrt(12 n).
    assert abs(lane.mean() - (lanes - 1) / 2) < 5 * lanes / np.sqrt(12 * len(lane))


def test_faults_of_probability_0_and_1() -> None:
    netlist = copy_through_ancilla()
    assert not len(at_random(netlist, 70, 0.0, np.random.default_rng(0)).gate)
    assert len(at_random(netlist, 70, 1.0, np.random.default_rng(0)).gate) == 3 * 70


def test_faults_are_the_same_for_the_same_generator() -> None:
    netlist = mac.mac_netlist("ctrl", 3, 7)
    first, second, other = (at_random(netlist, 100, 0.01, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first.gate, other.gate)


def test_few_words_do_not_load_numba() -> None:
    code = (
        "import sys, numpy as np\n"
        "from hwsim.devices.reversible import adders, blocks, counts, faults, mac, simulate\n"
        "netlist = mac.mac_netlist('ctrl', 4, 9)\n"
        "state = simulate.load(netlist, x=np.array([3]), w=np.array([-2]))\n"
        "simulate.simulate(netlist, state)\n"
        "print(simulate.read(netlist, state, 'accumulator', 1, signed=True)[0], 'numba' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-6", "False"]


# -- errors ------------------------------------------------------------------------------------------------


def at(gate: int, wire: int, word: int) -> Faults:
    return Faults(np.array([gate]), np.array([wire]), np.array([word]), np.ones(1, np.uint64))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("faults", [at(3, 0, 0), at(-1, 0, 0), at(0, 3, 0), at(0, 0, 2)])
def test_faults_in_places_that_do_not_exist_are_refused(engine: str, faults: Faults) -> None:
    netlist = copy_through_ancilla()
    with pytest.raises(ConfigError, match=r"faults at .* there are 0 to"):
        ENGINES[engine](netlist, load(netlist, x=np.zeros(128, np.int64)), faults)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("state", [np.zeros((2, 4), np.uint64), np.zeros((3, 4), np.int64), np.zeros(3, np.uint64)])
def test_states_of_another_shape_or_type_are_refused(engine: str, state: Any) -> None:
    with pytest.raises(ShapeError, match=r"needs \[3, words\] of uint64"):
        ENGINES[engine](copy_through_ancilla(), state)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda: load(copy_through_ancilla(), z=np.zeros(3, np.int64)), ConfigError, "allowed are x, y"),
        (lambda: load(copy_through_ancilla()), ConfigError, "allowed are x, y"),
        (
            lambda: load(copy_through_ancilla(), x=np.zeros(3, np.int64), y=np.zeros(4, np.int64)),
            ShapeError,
            "same number",
        ),
        (lambda: pack(np.zeros(3), 4), ShapeError, "give integers"),
        (lambda: pack(np.zeros((3, 3), np.int64), 4), ShapeError, "one for each lane"),
        (lambda: pack(np.zeros(3, np.int64), 65), ConfigError, "from 1 to 64"),
        (lambda: unpack(np.zeros((64, 1), np.uint64), 3, signed=False), ConfigError, "63 where it is unsigned"),
        (lambda: unpack(np.zeros((4, 1), np.uint64), 65, signed=False), ShapeError, "there are 64"),
        (
            lambda: at_random(copy_through_ancilla(), 9, 1.5, np.random.default_rng(0)),
            ConfigError,
            "allowed are 0 to 1",
        ),
        (
            lambda: detection(copy_through_ancilla(), {"x": np.zeros(3, np.int64)}, NO_FAULTS, kept=("w",)),
            ConfigError,
            "this netlist has x, y",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused(ask: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ask()

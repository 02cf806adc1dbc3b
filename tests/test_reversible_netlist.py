"""Netlists of reversible gates: what each gate does, inverses, counts, schedules and ancillas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hwsim.devices.reversible.netlist import ABSENT, Builder, Kind, Netlist, standalone
from hwsim.devices.reversible.simulate import load, read, simulate_numpy
from hwsim.errors import ConfigError

# Truth tables written out: for inputs 000, 001, ..., 111 (first, second, target), what comes out. Fredkin and Toffoli:
# Int. J. Theor. Phys. 21 (1982) 219; Peres, Physical Review A 32 (1985) 3266: a, a ^ b, c ^ ab.
TRUTH = {
    "toffoli": ["000", "001", "010", "011", "100", "101", "111", "110"],
    "fredkin": ["000", "001", "010", "011", "100", "110", "101", "111"],
    "peres": ["000", "001", "010", "011", "110", "111", "101", "100"],
}


def outputs(netlist: Netlist, wires: int) -> list[str]:
    """What comes out of a netlist of one register `r` for all inputs in order, first wire leftmost."""
    lanes = np.arange(2**wires)
    state = load(netlist, r=np.array([int(f"{lane:0{wires}b}"[::-1], 2) for lane in lanes]))
    simulate_numpy(netlist, state)
    return [f"{value:0{wires}b}"[::-1] for value in read(netlist, state, "r", len(lanes))]


def one_gate(name: str, wires: int) -> Netlist:
    return standalone(lambda builder, r: getattr(builder, name)(*r), r=wires)


def scrambled(rng: np.random.Generator, wires: int, gates: int) -> Netlist:
    """A netlist of random gates of all kinds on one register."""
    kinds = rng.integers(len(Kind), size=gates)
    rows = [(kind, *rng.permutation(wires)[:3]) for kind in kinds]
    program = np.array(rows, dtype=np.int32)
    program[np.isin(kinds, (Kind.NOT, Kind.CNOT)), 2] = ABSENT
    program[kinds == Kind.NOT, 1] = ABSENT
    return Netlist(program, {"r": tuple(range(wires))}, ())


def test_gates_do_what_their_truth_tables_say() -> None:
    assert outputs(one_gate("invert", 1), 1) == ["1", "0"]
    assert outputs(one_gate("cnot", 2), 2) == ["00", "01", "11", "10"]
    for name, table in TRUTH.items():
        assert outputs(one_gate(name, 3), 3) == table


def test_each_gate_is_undone_by_its_inverse() -> None:
    inputs = ["".join(bits) for bits in itertools.product("01", repeat=3)]
    for name, table in TRUTH.items():
        undone = outputs(one_gate(name, 3).inverse(), 3)
        assert [undone[int(out, 2)] for out in table] == inputs


@pytest.mark.parametrize("seed", range(5))
def test_any_netlist_is_undone_by_its_inverse_and_equals_its_elementary_gates(seed: int) -> None:
    netlist = scrambled(np.random.default_rng(seed), wires=6, gates=80)
    lanes = np.arange(64)
    state = load(netlist, r=lanes)
    simulate_numpy(netlist, state)
    out = state.copy()
    assert not np.array_equal(read(netlist, out, "r", 64), lanes)
    simulate_numpy(netlist.inverse(), state)
    assert np.array_equal(read(netlist, state, "r", 64), lanes)
    simple = netlist.elementary()
    simulate_numpy(simple, state)
    assert np.array_equal(state, out)
    peres = netlist.counts[Kind.PERES] + netlist.counts[Kind.PERES_INVERSE]
    assert simple.counts == {
        Kind.NOT: netlist.counts[Kind.NOT],
        Kind.CNOT: netlist.counts[Kind.CNOT] + 2 * netlist.counts[Kind.FREDKIN] + peres,
        Kind.TOFFOLI: netlist.counts[Kind.TOFFOLI] + netlist.counts[Kind.FREDKIN] + peres,
        Kind.FREDKIN: 0,
        Kind.PERES: 0,
        Kind.PERES_INVERSE: 0,
    }


def test_counts_and_levels_of_a_netlist_by_hand() -> None:
    def emit(builder: Builder, r: tuple[int, ...]) -> None:
        builder.cnot(r[0], r[1])  # level 1
        builder.invert(r[3])  # level 1, beside it
        builder.toffoli(r[0], r[1], r[2])  # level 2, after the CNOT
        builder.cnot(r[3], r[4])  # level 2, after the NOT
        builder.peres(r[2], r[3], r[4])  # level 3, after both
        builder.invert(r[0])  # level 3: its wire is free again

    netlist = standalone(emit, r=5)
    assert netlist.levels == (1, 1, 2, 2, 3, 3)
    assert netlist.depth == 3
    assert netlist.width == 5
    found = {kind.name: count for kind, count in netlist.counts.items() if count}
    assert found == {"NOT": 2, "CNOT": 2, "TOFFOLI": 1, "PERES": 1}


def test_no_wire_is_used_twice_in_a_level_and_no_gate_could_run_earlier() -> None:
    netlist = scrambled(np.random.default_rng(7), wires=9, gates=300)
    last = dict.fromkeys(range(9), 0)
    for level, gate in zip(netlist.levels, netlist.program.tolist(), strict=True):
        wires = [wire for wire in gate[1:] if wire != ABSENT]
        assert level == 1 + max(last[wire] for wire in wires)
        last.update(dict.fromkeys(wires, level))


def test_an_empty_netlist_has_no_depth() -> None:
    netlist = standalone(lambda builder, r: None, r=2)
    assert (netlist.depth, netlist.width, netlist.inverse().depth) == (0, 2, 0)
    assert outputs(netlist, 2) == ["00", "01", "10", "11"]


def test_ancillas_serve_again_and_only_the_most_at_once_are_counted() -> None:
    builder = Builder()
    x = builder.register("x", 2)
    with builder.ancillas(2) as first:
        assert not set(first) & set(x)
        with builder.ancillas(1) as inner:
            assert not set(inner) & set(first + x)
    with builder.ancillas(3) as later:
        assert set(later) == set(first + inner)
    netlist = builder.build()
    assert (len(netlist.ancillas), netlist.width) == (3, 5)
    assert sorted(netlist.ancillas + netlist.registers["x"]) == list(range(5))


def test_complemented_wires_are_inverted_back() -> None:
    def emit(builder: Builder, r: tuple[int, ...]) -> None:
        with builder.complemented(r[:1]):
            builder.cnot(r[0], r[1])
        with builder.complemented(()):
            builder.cnot(r[0], r[2])

    assert outputs(standalone(emit, r=3), 3) == ["010", "011", "000", "001", "101", "100", "111", "110"]


def test_a_built_netlist_does_not_change() -> None:
    builder = Builder()
    (wire,) = builder.register("x", 1)
    builder.invert(wire)
    netlist = builder.build()
    builder.invert(wire)
    assert len(netlist.program) == 1
    for part in (netlist, netlist.inverse()):
        with pytest.raises(ValueError, match="read-only"):
            part.program[0, 0] = 1


@pytest.mark.parametrize("wires", [(0, 0), (0, 2), (-1, 0), (1, 5)])
def test_gates_on_wires_that_are_equal_or_do_not_exist_are_refused(wires: tuple[int, int]) -> None:
    builder = Builder()
    builder.register("x", 2)
    with pytest.raises(ConfigError, match=r"CNOT on wires .* must differ and lie in 0 to 1"):
        builder.cnot(*wires)


def test_registers_need_a_name_of_their_own_and_a_wire() -> None:
    builder = Builder()
    builder.register("x", 2)
    for name, wires in (("x", 1), ("y", 0)):
        with pytest.raises(ConfigError, match="name of its own and at least 1 wire"):
            builder.register(name, wires)

"""Wire resistance in the loop: products, moves and checkpoints of tiles whose lines are resistive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from crossbar_cells import plain
from numpy.testing import assert_allclose, assert_array_equal

from hwsim.devices.crossbar.grid import Wires, effective_conductance, effective_conductance_transposed
from hwsim.ledger import Ledger

SAME = {"word_line_ohm": 10.0, "bit_line_ohm": 5.0, "driver_ohm": 100.0, "sense_ohm": 100.0}
OTHER = {**SAME, "driver_ohm": 2000.0}


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def wires(ohms: dict[str, float]) -> Wires:
    return Wires(ohms["word_line_ohm"], ohms["bit_line_ohm"], ohms["driver_ohm"], ohms["sense_ohm"])


def siemens(states: Any) -> Any:
    """Of the cell Plain: 1 uS at -1, 10 uS at 1."""
    return 1e-6 + (states + 1) / 2 * 9e-6


def neighbours(one: Any, other: Any) -> Any:
    """Columns 0, 0', 1, 1', ...: the cells of a weight beside each other."""
    return np.stack([one, other], axis=-1).reshape(len(one), -1)


@pytest.mark.parametrize("ohms", [SAME, OTHER], ids=["same terminals", "other terminals"])
def test_one_array_is_one_network_of_cells_and_references(ohms: dict[str, float]) -> None:
    device = plain(weight_scale=1.0, **ohms)
    w = np.clip(0.4 * normal(24, 16), -1, 1)
    tile = device.program(w, name="w")
    x, dy = normal(5, 24, seed=1), normal(5, 16, seed=2)
    g = neighbours(siemens(w.astype(np.float64)), np.full((24, 16), 5.5e-6))
    ahead, back = effective_conductance(g, wires(ohms)), effective_conductance_transposed(g, wires(ohms))
    ahead, back = ahead[:, ::2] - ahead[:, 1::2], back[::2] - back[1::2]
    assert_allclose(tile.forward(x), x @ ahead / 4.5e-6, atol=1e-4)
    assert_allclose(tile.backward(dy), dy @ back / 4.5e-6, atol=1e-4)
    assert abs(ahead / 4.5e-6 - w).max() > 0.02  # the wires matter


def test_pairs_are_neighbours_and_arrays_are_cut() -> None:
    device = plain("Climbing", encoding="one-sided", rows=8, columns=8, weight_scale=1.0, **SAME)
    w = np.clip(0.4 * normal(12, 10), -1, 1)
    tile = device.program(w, name="w")
    expected = np.zeros((12, 10))
    for rows in (slice(0, 8), slice(8, 12)):
        for columns in (slice(0, 8), slice(8, 10)):
            part = w[rows, columns].astype(np.float64)
            g = neighbours(1e-6 + np.maximum(part, 0) * 9e-6, 1e-6 + np.maximum(-part, 0) * 9e-6)
            both = effective_conductance(g, wires(SAME))
            expected[rows, columns] = (both[:, ::2] - both[:, 1::2]) / 9e-6
    assert_allclose(tile.read(), expected, atol=1e-5)


def test_an_offset_column_is_the_last_of_its_array() -> None:
    """Forwards its current is subtracted; the transposed read takes what it should hold off in digital."""
    device = plain(encoding="offset", columns=6, weight_scale=1.0, **SAME)
    w = np.clip(0.4 * normal(12, 10), -1, 1)
    tile = device.program(w, name="w")
    ahead, back = np.zeros((12, 10)), np.zeros((12, 10))
    for columns in (slice(0, 6), slice(6, 10)):
        g = np.concatenate([siemens(w[:, columns].astype(np.float64)), np.full((12, 1), 5.5e-6)], axis=1)
        both = effective_conductance(g, wires(SAME))
        ahead[:, columns], back[:, columns] = both[:, :-1] - both[:, -1:], both[:, :-1] - 5.5e-6
    x, dy = normal(5, 12, seed=1), normal(5, 10, seed=2)
    assert_allclose(tile.forward(x), x @ ahead / 4.5e-6, atol=1e-4)
    assert_allclose(tile.backward(dy), dy @ back.T / 4.5e-6, atol=1e-4)


def test_no_resistance_is_no_effect() -> None:
    w, x = normal(20, 12), normal(3, 20, seed=1)
    tiny = plain(word_line_ohm=1e-9, bit_line_ohm=1e-9).program(w, name="w")
    none = plain().program(w, name="w")
    assert_allclose(tiny.forward(x), none.forward(x), atol=1e-4)


@pytest.mark.parametrize("encoding", ["reference", "differential", "offset"])
def test_moves_are_followed_within_the_tolerance(encoding: str) -> None:
    """After twenty pulsed moves products are those of networks solved anew, to the tolerance of conductances."""
    device = plain(encoding=encoding, weight_scale=1.0, wire_tolerance=1e-3, **SAME)
    tile = device.program(0.2 * np.clip(normal(32, 24), -1, 1), name="w")
    for i in range(20):
        tile.update_outer(normal(2, 32, seed=i), normal(2, 24, seed=100 + i), -0.01)
    followed = tile.read()
    tile.drift(0.0)  # solves anew; these cells do not drift
    solved = tile.read()
    # relative to the conductances, of which the weights are a difference: 5.5 uS are 1.22 states
    assert np.linalg.norm(followed - solved) / (1.22 * np.sqrt(32 * 24)) < 2e-3
    assert np.linalg.norm(solved) > 0


def test_a_checkpoint_goes_on_with_the_same_bits() -> None:
    device = plain(weight_scale=1.0, **SAME)
    tile = device.program(0.2 * np.clip(normal(16, 12), -1, 1), name="w")
    tile.update_outer(normal(2, 16), normal(2, 12), -0.01)
    other = device.program(np.zeros((16, 12), np.float32), name="w", ledger=Ledger())
    other.load(tile.save())
    for i in range(4):
        for each in (tile, other):
            each.update_outer(normal(2, 16, seed=i), normal(2, 12, seed=i), -0.01)
    assert_array_equal(tile.forward(normal(2, 16)), other.forward(normal(2, 16)))

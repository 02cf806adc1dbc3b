"""Reversible networks, and chains by a pebbling schedule: what comes back, what is kept, and that gradients agree."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hard_devices import Leapfrog as FixedPoint

import hwsim
from hwsim import nn
from hwsim.arrays import Shape
from hwsim.cost import Kind, Product
from hwsim.devices.reversible import Reversible
from hwsim.errors import ConfigError
from hwsim.learning.backprop import backprop
from hwsim.learning.undoing import batches_back, undo
from hwsim.losses import cross_entropy
from hwsim.models import revnet
from hwsim.models.pebbling import peak, sweep_moves
from hwsim.models.recompute import Segment, chained, coupled
from hwsim.models.revnet import RANGE, UNIT, Revnet, branch, fixed, fixed_add, fixed_subtract
from hwsim.nn import Network
from hwsim.optim import SGD
from hwsim.tape import Value


class Leapfrog(FixedPoint):
    """The fixed-point machine of the tests, which says that it moves in whole units."""

    exact_updates = True


BITS = 2 * 20  # that the device `leapfrog` of the tests holds for each output of a forward until its release


def halves(net: Network, rows: int, scale: float = 1.0) -> tuple[Value, Value]:
    rng = np.random.default_rng(5)
    width = net.model.width  # type: ignore[attr-defined]
    x1, x2 = (np.rint(scale * rng.standard_normal((rows, width)) / UNIT) * UNIT for _ in range(2))
    return net.constant(x1.astype("f4")), net.constant(x2.astype("f4"))


def batch(rows: int = 16) -> tuple[Any, Any]:
    rng = np.random.default_rng(6)
    return rng.standard_normal((rows, 12)).astype("f4"), rng.integers(0, 3, rows)


class Gradients:
    """A sink that keeps every gradient by name, in the order of arrival."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def collect(self, tile: Any, x: Any, dy: Any, x_values: int = 0) -> None:
        assert tile.name not in self.found
        self.found[tile.name] = tile.gradient(x, dy)

    def collect_parameter(self, parameter: Any, gradient: Any) -> None:
        assert parameter.name not in self.found
        self.found[parameter.name] = gradient.copy()


def gradients(net: Network, x: Any, labels: Any) -> dict[str, Any]:
    sink = Gradients()
    y = net.forward(x, sink=sink)  # type: ignore[arg-type]
    net.tape.backward(net.tape.host(cross_entropy, y, net.constant(labels, y.device)))
    net.tape.release()
    return sink.found


# -- couplings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("growth", [1.0, 300.0], ids=["tame", "overflowing"])
@pytest.mark.parametrize("name", ["ideal", "gpu:h100", "leapfrog", "reversible:checked=none"])
def test_sixty_blocks_come_back_bit_for_bit(name: str, growth: float) -> None:
    device = Leapfrog() if name == "leapfrog" else hwsim.device(name)
    if growth > 1 and name == "leapfrog":
        growth = 20.0  # its own words have 8 bits before the point; what it makes of more is not defined
    net = Network(Revnet(12, 8, 60, 3), device)
    for item_name, item in net.placed.items():
        if item_name.endswith("narrow/w"):
            item.device.write(item, growth * item.read())  # type: ignore[union-attr, arg-type]
    x1, x2 = halves(net, 5)
    y1, y2 = net.model.forwards(net, x1, x2)  # type: ignore[attr-defined]
    back1, back2 = net.model.backwards(net, y1, y2)  # type: ignore[attr-defined]
    assert not np.array_equal(y1.data, x1.data)
    if growth == 300.0:
        assert abs(y1.data).max() > 0.4 * RANGE  # it did overflow
    assert np.array_equal(back1.data, x1.data)
    assert np.array_equal(back2.data, x2.data)


def test_sums_are_those_of_integers_of_24_bits() -> None:
    """An independent reference in 64-bit integers, modulo 2^24 units; operands all over the range, and beyond it."""
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**23), 2**23, 5000)
    change = rng.uniform(-3 * RANGE, 3 * RANGE, 5000).astype("f4")
    for op, sign in ((fixed_add, 1), (fixed_subtract, -1)):
        y, _ = op.forward(np, (x * UNIT).astype("f4"), change)
        expected = (x + sign * np.rint(change.astype("f8") / UNIT).astype(np.int64) + 2**23) % 2**24 - 2**23
        assert y.dtype == np.float32
        assert np.array_equal(y.astype("f8") / UNIT, expected)
    # The largest float32 is 2^128 - 2^104, a multiple of the range, and so is 2^100; 2^24 + 2 is 2 more than one.
    large = np.array([np.finfo("f4").max, -(2.0**100), 2.0**24 + 2], dtype="f4")
    for op, sign in ((fixed_add, 1), (fixed_subtract, -1)):
        assert op.forward(np, np.full(3, 0.25, "f4"), large)[0].tolist() == [0.25, 0.25, 0.25 + 2 * sign]
    with np.errstate(invalid="ignore"):
        assert np.isnan(fixed.forward(np, np.array([np.inf, np.nan], "f4"))[0]).all()  # to be found, not hidden
    assert fixed.forward(np, np.array([0.3, -5000.0], dtype="f4"))[0].tolist() == [1229 / 4096, -5000 + 4096]


@dataclass(frozen=True)
class Kept(Revnet):
    """The same network with every operation recorded and kept."""

    def forwards(self, net: Network, x1: Value, x2: Value) -> tuple[Value, Value]:
        for i in range(1, self.blocks + 1):
            with net.layer(f"block{i}"):
                x1 = net.apply(fixed_add, x1, branch(net, "f", x2))
                x2 = net.apply(fixed_add, x2, branch(net, "g", x1))
        return x1, x2


def test_gradients_are_those_of_the_network_that_keeps_everything() -> None:
    found = gradients(Network(Revnet(12, 8, 6, 3), Leapfrog()), *batch())
    expected = gradients(Network(Kept(12, 8, 6, 3), Leapfrog()), *batch())
    assert list(found) == list(expected)
    assert len(found) == 2 * (2 + 6 * 4)
    for name, gradient in expected.items():
        assert gradient.any(), name
        assert np.array_equal(found[name], gradient), name


def peak_bits(model: Any, rows: int = 16) -> int:
    device = Leapfrog()
    net = Network(model, device)
    backprop(net, *batch(rows), cross_entropy, SGD(0.1))
    assert net.ledger.live_bits[device] == 0
    return net.ledger.peak_bits[device]


def test_what_is_kept_does_not_grow_with_depth() -> None:
    """By hand, 16 rows, width 8: on the way back the stem's 16 outputs, the head's 3, and one branch of 2 x 8."""
    for blocks in (1, 4, 50):
        assert peak_bits(Revnet(12, 8, blocks, 3)) == BITS * 16 * (16 + 3 + 2 * 8)
        assert peak_bits(Kept(12, 8, blocks, 3)) == BITS * 16 * (16 + blocks * 4 * 8 + 3)


def test_nor_does_the_memory_of_the_simulator() -> None:
    """Six times the blocks take less than one more array of a half; kept, each block takes more than eight of them."""
    rows, width = 2000, 32
    array_bytes = rows * width * 4

    def peak_bytes(model: Any) -> int:
        net = Network(model, hwsim.device("ideal"))
        x, labels = batch(rows)
        tracemalloc.start()
        try:
            backprop(net, x, labels, cross_entropy, SGD(0.1, momentum=0.9))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Gradients of 4 x (32 x 32 + 32) weights a block wait for the end of the step, which makes a velocity of each.
    waiting = 10 * 2 * 4 * (width * width + width) * 4
    assert peak_bytes(Revnet(12, width, 12, 3)) - peak_bytes(Revnet(12, width, 2, 3)) - waiting < array_bytes
    assert peak_bytes(Kept(12, width, 12, 3)) - peak_bytes(Kept(12, width, 2, 3)) > 10 * 8 * array_bytes


def test_a_branch_is_done_twice_and_released_as_often() -> None:
    device = Leapfrog()
    net = Network(Revnet(12, 8, 3, 3), device)
    backprop(net, *batch(), cross_entropy, SGD(0.1))
    calls: dict[Kind, int] = {}
    for (layer, _, _, op), count in net.ledger.calls.items():
        if isinstance(op, Product) and layer.startswith("block"):
            calls[op.kind] = calls.get(op.kind, 0) + count
    tiles = 3 * 4
    assert calls == {
        Kind.PROGRAM: tiles, Kind.FORWARD: 2 * tiles, Kind.RELEASE: 2 * tiles, Kind.BACKWARD: tiles,
        Kind.GRADIENT: tiles, Kind.UPDATE: tiles,
    }  # fmt: skip


@pytest.mark.parametrize("model", [Revnet(12, 8, 3, 3)], ids=["revnet"])
def test_a_run_and_its_trace_ask_for_the_same(model: Any) -> None:
    run, trace = Network(model, Leapfrog()), Network(model, Leapfrog(), shape_only=True)
    for net, x, labels in ((run, *batch()), (trace, Shape(16, 12), Shape(16))):
        backprop(net, x, labels, cross_entropy, SGD(0.1))
        net.predict(x)
    assert run.ledger.as_dict() == trace.ledger.as_dict()


def test_two_devices_in_one_network() -> None:
    x, labels = batch()
    mixed = gradients(Network(Revnet(12, 8, 2, 3), {"*": hwsim.device("ideal"), "block2.f": Leapfrog()}), x, labels)
    whole = gradients(Network(Revnet(12, 8, 2, 3), hwsim.device("ideal")), x, labels)
    for name, gradient in whole.items():
        # Errors rounded to 2^-12 on their way back, times inputs of up to 3, summed over 16 rows.
        assert abs(mixed[name] - gradient).max() < 16 * 3 * 2.0**-13, name
        assert abs(gradient).max() > 0


def test_what_was_overwritten_cannot_be_coupled_again() -> None:
    net = Network(Revnet(12, 8, 1, 3), hwsim.device("ideal"))
    x1, x2 = halves(net, 4)
    x1.wanted = x2.wanted = True
    with net.layer("block1"):
        y1 = coupled(net, x1, x2, net.model.f, fixed_add, fixed_subtract)  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match="wrote over"):
            coupled(net, x2, x1, net.model.g, fixed_add, fixed_subtract)  # type: ignore[attr-defined]
        coupled(net, x2, y1, net.model.g, fixed_add, fixed_subtract)  # type: ignore[attr-defined]


def machine() -> Reversible:
    return Reversible.create(None, {"checked": "none"})


@pytest.mark.parametrize("make", [Leapfrog, machine])
def test_it_learns_digits_and_its_training_can_be_undone(make: Any) -> None:
    """Reversible in depth and in time: training by `leapfrog`, run back to the first weights."""
    data, model = hwsim.data.load("digits"), revnet(blocks=2, width=8)
    options: Any = {"epochs": 6, "batch": 64, "learning_rate": 0.03, "optimizer": "momentum", "rule": "leapfrog"}
    run = hwsim.fit(model, data, make(), **options)
    assert run.test_accuracy > 0.85  # of 360 images; always answering one class reaches 0.11
    undo(run.network, batches_back(data, seed=0, batch=64, steps=run.steps), cross_entropy)
    start, end = Network(model, make()).save(), run.network.save()
    assert start.keys() == end.keys()
    assert all(np.array_equal(end[name], value) for name, value in start.items())


@pytest.mark.parametrize("sizes", [(0, 8, 2, 3), (12, 0, 2, 3), (12, 8, 0, 3), (12, 8, 2, 0)])
def test_sizes_of_nothing_are_refused(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="one or more"):
        Revnet(*sizes)


# -- chains ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deep:
    """`depth` dense layers of the same width as one chain, by `moves`; None: recorded as every other network."""

    depth: int
    moves: tuple[int, ...] | None
    input_shape: tuple[int, ...] = (12,)

    def __call__(self, net: Network, x: Value) -> Value:
        def segment(i: int) -> Segment:
            def layer(net: Network, x: Value) -> Value:
                return nn.dense(net, f"layer{i}", x, 12, activation="tanh")

            return layer

        segments = [segment(i) for i in range(self.depth)]
        with net.layer("chain"):
            if self.moves is None:
                for each in segments:
                    x = each(net, x)
            else:
                x = chained(net, x, segments, self.moves)
        return nn.dense(net, "head", x, 3)


def forwards(net: Network) -> tuple[int, int]:
    """Forwards and releases of the chain."""
    found = {Kind.FORWARD: 0, Kind.RELEASE: 0}
    for (layer, _, _, op), calls in net.ledger.calls.items():
        if layer.startswith("chain") and isinstance(op, Product) and op.kind in found:
            found[op.kind] += calls
    return found[Kind.FORWARD], found[Kind.RELEASE]


@pytest.mark.parametrize("live", [7, 6, 4, 3])
def test_a_chain_takes_what_its_schedule_says(live: int) -> None:
    """Gradients are bit for bit those of the ordinary network; forwards, releases and peak are the schedule's."""
    x, labels = batch()
    moves = sweep_moves(7, live)
    device = Leapfrog()
    net = Network(Deep(7, moves), device)
    found, expected = gradients(net, x, labels), gradients(Network(Deep(7, None), Leapfrog()), x, labels)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], gradient) for name, gradient in expected.items())
    assert forwards(net) == (len(moves) // 2, len(moves) // 2)
    assert net.ledger.live_bits[device] == 0
    # The head is held as well while the last result is live: 3 outputs beside 12 for each result of the chain.
    at_head = peak(moves[: moves.index(7) + 1])
    live_then = sum(1 if move > 0 else -1 for move in moves[: moves.index(7) + 1])
    assert at_head <= peak(moves)
    assert net.ledger.peak_bits[device] == BITS * 16 * max(12 * peak(moves), 12 * live_then + 3)


@pytest.mark.parametrize("live", [7, 3])
def test_a_chain_on_the_reversible_machine(live: int) -> None:
    """By hand: 16 rows of 12 results of 8 + 8 + 4 bits and 12 inputs of 8 for each live layer; the head's 3 and 12."""
    x, labels = batch()
    moves = sweep_moves(7, live)
    device, other = machine(), machine()
    net = Network(Deep(7, moves), device)
    found, expected = gradients(net, x, labels), gradients(Network(Deep(7, None), other), x, labels)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], gradient) for name, gradient in expected.items())
    assert forwards(net) == (len(moves) // 2, len(moves) // 2)
    assert net.ledger.live_bits[device] == 0
    layer, head = 16 * (12 * 20 + 12 * 8), 16 * (3 * 20 + 12 * 8)
    live_then = sum(1 if move > 0 else -1 for move in moves[: moves.index(7) + 1])
    assert net.ledger.peak_bits[device] == max(layer * peak(moves), layer * live_then + head)


def test_evaluation_of_a_chain_leaves_nothing_and_answers_the_same() -> None:
    x, _ = batch()
    device = Leapfrog()
    net = Network(Deep(7, sweep_moves(7, 3)), device)
    assert np.array_equal(net.predict(x), Network(Deep(7, None), Leapfrog()).predict(x))
    assert net.ledger.live_bits[device] == 0
    there, back = forwards(net)
    assert there == back > 7


def test_a_chain_and_its_trace_ask_for_the_same() -> None:
    model = Deep(7, sweep_moves(7, 4))
    run, trace = Network(model, Leapfrog()), Network(model, Leapfrog(), shape_only=True)
    for net, x, labels in ((run, *batch()), (trace, Shape(16, 12), Shape(16))):
        backprop(net, x, labels, cross_entropy, SGD(0.1))
    assert run.ledger.as_dict() == trace.ledger.as_dict()


@pytest.mark.parametrize(
    ("moves", "complaint"),
    [
        ((1, 3), "move 3 is not possible while results \\[1\\] are live"),
        ((1, 2), "do not compute the last of 3 segments"),
        ((1, 1), "move 1 is not possible"),
        ((1, 2, -1, 3, -3), "leave results \\[2\\] live, and reach segment 2 backwards"),
        ((1, 2, 3), "leave results \\[1, 2, 3\\] live"),
    ],
)
def test_moves_that_do_not_fit_a_chain_are_refused(moves: Sequence[int], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        gradients(Network(Deep(3, tuple(moves)), Leapfrog()), *batch())


def test_the_factory_of_the_plug_in() -> None:
    model = revnet(blocks=2, width=4)
    assert model == Revnet(64, 4, 2, 10)
    assert model.recipe["data"] == "digits"

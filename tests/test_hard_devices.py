"""The whole framework on three substrates that strain it: noise, in-place moves, own nonlinearities, garbage."""

import math
import threading

import numpy as np
import pytest
from hard_devices import (
    HOST,
    Gradients,
    Leapfrog,
    LearnedAbsorber,
    Plan,
    ReversibleMomentum,
    StatefulCrossbar,
    Toy,
    calls_by_kind,
)

from hwsim import losses, nn, ops
from hwsim.arrays import Shape
from hwsim.cost import Elementwise, Kind, Phase, Product, Use
from hwsim.device import Device
from hwsim.learning.backprop import backprop
from hwsim.ledger import Ledger
from hwsim.models.mlp import Mlp
from hwsim.nn import Network
from hwsim.optim import SGD, Adam, optimizer
from hwsim.tape import Value
from hwsim.testing import check_device
from hwsim.tile import Tile

RNG = np.random.default_rng(0)
X = RNG.standard_normal((16, 6)).astype(np.float32)
LABELS = np.arange(16) % 3
RELU_NET = Mlp((6, 8, 3))
OWN_NET = Mlp((6, 8, 3), activation="device")

CASES = {
    "toy": (Toy, RELU_NET, "adam"),
    "pulses": (StatefulCrossbar, RELU_NET, "sgd"),
    "pulses, momentum": (StatefulCrossbar, RELU_NET, "momentum"),
    "verify": (lambda **kw: StatefulCrossbar(moved_by="verify", **kw), RELU_NET, "sgd"),
    "verify, adam": (lambda **kw: StatefulCrossbar(moved_by="verify", **kw), RELU_NET, "adam"),
    "absorber": (LearnedAbsorber, OWN_NET, "sgd"),
    "absorber, adam": (LearnedAbsorber, OWN_NET, "adam"),
    "leapfrog": (Leapfrog, RELU_NET, "sgd"),
}


def train(net, how, steps=5, x=X, target=LABELS, loss=losses.cross_entropy):
    """So many steps of backprop; the losses before each."""
    return [backprop(net, x, target, loss, how) for _ in range(steps)]


def state_of(net):
    """Every array and counter of a network, as bytes, so that equal means equal bits."""
    return {key: np.asarray(value).tobytes() for key, value in net.save().items()}


@pytest.fixture(params=CASES, ids=[name.replace(", ", "-") for name in CASES])
def case(request):
    make, model, how = CASES[request.param]
    return make, model, lambda: optimizer(how, 0.05)


def test_training_lowers_the_loss(case):
    make, model, how = case
    found = train(Network(model, make()), how(), steps=40)
    assert found[-1] < 0.9 * found[0]


def test_a_run_asks_for_what_its_shape_only_trace_asks_for(case):
    make, model, how = case
    device = make()
    run, trace = Network(model, device), Network(model, device, shape_only=True)
    train(run, how(), steps=3)
    train(trace, how(), steps=3, x=Shape(*X.shape), target=Shape(*LABELS.shape))
    run.predict(X)
    trace.predict(Shape(*X.shape))
    assert dict(run.ledger.calls) == dict(trace.ledger.calls)
    assert run.ledger.tiles == trace.ledger.tiles
    assert run.ledger.live_bits == trace.ledger.live_bits
    assert run.ledger.peak_bits == trace.ledger.peak_bits
    by = ["layer", "phase", "device", "component", "part"]
    assert run.ledger.energy(by, actual=False) == trace.ledger.energy(by)
    assert run.ledger.total_j(actual=False) == trace.ledger.total_j()
    assert run.ledger.total_s(actual=False) == trace.ledger.total_s()


@pytest.mark.parametrize("name", ["pulses", "verify"])
def test_actual_counts_are_what_differs_from_the_trace(name):
    make, model, _ = CASES[name]
    net = Network(model, make())
    train(net, SGD(0.05), steps=3)
    expected, actual = net.ledger.counts(actual=False), net.ledger.counts()
    label = net.ledger.devices()[net.devices["*"]]
    pulses = sum(int(tile.state["pulses"].sum()) for tile in net.placed.values() if isinstance(tile, Tile))
    programming = 5 * (6 * 8 + 8 * 3)  # expected pulses of the first programming, which records none
    assert pulses > 0
    assert actual[label, "pulse"] == pulses + programming
    assert {key for key in actual if actual[key] != expected[key]} == {(label, "pulse"), (label, "cell")}
    difference = net.ledger.energy_j - net.ledger.total_j(actual=False)
    by_hand = 1e-13 * (actual[label, "pulse"] - expected[label, "pulse"])
    by_hand += 1e-15 * (actual[label, "cell"] - expected[label, "cell"])
    assert difference == pytest.approx(by_hand, rel=1e-6)  # neither component takes time


def test_a_resumed_run_has_the_same_bits(case):
    make, model, how = case
    net, first = Network(model, make()), how()
    train(net, first, steps=3)
    saved, saved_optimizer = net.save(), first.save()
    later = train(net, first, steps=3)

    other, second = Network(model, make()), how()
    other.load(saved)
    second.load(saved_optimizer)
    assert train(other, second, steps=3) == later
    assert state_of(other) == state_of(net)


def test_a_checkpoint_is_not_changed_by_later_training(case):
    make, model, how = case
    net = Network(model, make())
    saved = net.save()
    before = {key: np.array(value) for key, value in saved.items()}
    train(net, how(), steps=2)
    for key, value in before.items():
        np.testing.assert_array_equal(saved[key], value)
    assert state_of(net) != {key: value.tobytes() for key, value in before.items()}


def test_evaluation_leaves_training_alone(case):
    make, model, how = case
    plain, watched = Network(model, make()), Network(model, make())
    plain_losses = train(plain, first := how(), steps=2) + train(plain, first, steps=2)
    second = how()
    watched_losses = train(watched, second, steps=2)
    watched.predict(X)
    watched.predict(X[:5])
    watched_losses += train(watched, second, steps=2)
    assert plain_losses == watched_losses
    steps = {"phases": [Phase.FORWARD, Phase.BACKWARD, Phase.UPDATE]}
    assert plain.ledger.total_j(**steps) == watched.ledger.total_j(**steps)
    assert plain.ledger.total_s(**steps) == watched.ledger.total_s(**steps)
    assert Phase.EVALUATE not in {cell[1] for cell in plain.ledger.calls}
    assert watched.ledger.total_j(phases=[Phase.EVALUATE]) > 0
    trained = {name: item.state for name, item in plain.placed.items() if not hasattr(item, "data")}
    for name, state in trained.items():
        for key, value in state.items():
            np.testing.assert_array_equal(value, watched.placed[name].state[key])


def test_evaluations_of_the_same_input_draw_anew():
    net = Network(RELU_NET, StatefulCrossbar())
    assert (net.predict(X) != net.predict(X)).all()


def test_two_threads_get_equal_results(case):
    make, model, how = case
    device, found = make(), {}

    def job(i):
        net = Network(model, device)
        found[i] = train(net, how(), steps=5), state_of(net), dict(net.ledger.calls)

    threads = [threading.Thread(target=job, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]


def test_seeds_differ(case):
    make, model, how = case
    if make in (Toy, Leapfrog):
        assert train(Network(model, make(seed=1)), how()) == train(Network(model, make(seed=2)), how())
    else:
        assert train(Network(model, make(seed=1)), how()) != train(Network(model, make(seed=2)), how())


@pytest.mark.parametrize("name", ["pulses", "verify", "absorber", "leapfrog"])
def test_conformance(name):
    slope = "its way back knows a running gain in place of the slope, by design"
    expected = {"own_activation_differences": slope} if name == "absorber" else {}
    check_device(CASES[name][0], expected_failures=expected)


# Fabrication and noise


def test_fabrication_spread_is_what_was_asked_for():
    # ln(step) of n = 40,000 cells is normal with mean ln(0.002 * 1.1) and sigma 0.3. At 5 sigma the mean is known to
    # 5 * 0.3 / 200 = 0.0075 and the sigma to 5 * 0.3 / sqrt(80,000) = 0.0053.
    tile = StatefulCrossbar().program(np.zeros((200, 200), np.float32), name="w")
    logarithm = np.log(tile.state["up"].astype(np.float64))
    assert logarithm.mean() == pytest.approx(math.log(0.0022), abs=0.0075)
    assert logarithm.std() == pytest.approx(0.3, abs=0.0053)
    assert not np.array_equal(tile.state["up"] / 1.1, tile.state["down"] / 0.9)


def test_pulses_move_the_weights_in_place_by_their_mean_step():
    # One update of 1/2 on each of n = 40,000 cells without spread: Poisson of mean 250 pulses of 0.0022 each, sigma
    # sqrt(250) * 0.0022 = 0.0348; the mean over cells is 0.55 to within 5 * 0.0348 / 200 = 0.00087.
    tile = StatefulCrossbar(spread=0).program(np.zeros((200, 200), np.float32), name="w")
    tile.update_outer(np.ones((1, 200), np.float32), np.full((1, 200), -1, np.float32), -0.5)
    moved = tile.read()
    assert moved.mean() == pytest.approx(0.55, abs=0.00087)
    assert moved.std() == pytest.approx(0.0348, rel=0.05)


def test_program_and_verify_ends_within_half_a_pulse():
    # A cell that answers r times the mean misses |1 - r| of each round's move: with sigma 5%, 2,500 cells stay within
    # 25%, so that 0.2 shrinks to 0.2 * 0.25^5 = 0.0002, and half a mean pulse, 0.001, is below what a round sees.
    tile = StatefulCrossbar(moved_by="verify", asymmetry=0.0, spread=0.05).program(
        np.zeros((50, 50), np.float32), name="w"
    )
    step = np.linspace(-0.2, 0.2, 2500, dtype=np.float32).reshape(50, 50)
    tile.update(step)
    assert abs(tile.read() - step).max() < 0.00125
    assert abs(tile.read() - step).mean() > 0


def test_read_noise_of_both_directions():
    # n = 100 * 40 draws of sigma 0.01 around the exact product: RMS within 5 / sqrt(2 n) = 5.6% of 0.01.
    w, x = np.zeros((40, 40), np.float32), np.ones((100, 40), np.float32)
    tile = StatefulCrossbar().program(w, name="w")
    for y in (tile.forward(x), tile.backward(x)):
        assert y.std() == pytest.approx(0.01, rel=0.056)
    assert not np.array_equal(tile.forward(x), tile.forward(x))


def test_adding_a_layer_changes_no_other_layers_noise_or_initial_values():
    def without(net, x):
        return nn.dense(net, "last", nn.dense(net, "first", x, 6, activation="relu"), 3)

    def with_another(net, x):
        x = nn.dense(net, "first", x, 6, activation="relu")
        nn.dense(net, "aside", x, 4)
        return nn.dense(net, "last", x, 3)

    device = StatefulCrossbar()
    small, large = Network(Plan(without, 6), device), Network(Plan(with_another, 6), device)
    for name, item in small.placed.items():
        other = large.placed[name]
        assert (item.state if isinstance(item, Tile) else {"data": item.data}).keys()
        for key, value in (item.state if isinstance(item, Tile) else {"data": item.data}).items():
            np.testing.assert_array_equal(value, other.state[key] if isinstance(item, Tile) else other.data)
    assert "aside/w" in large.placed
    np.testing.assert_array_equal(small.forward(X).data, large.forward(X).data)


# Several devices in one network


def test_two_devices_move_values_and_wait_for_each_other():
    optical, crossbar = LearnedAbsorber(), StatefulCrossbar()
    net = Network(Mlp((6, 8, 3), activation="device", bias=False), {"fc1": optical, "*": crossbar})
    found = train(net, SGD(0.05), steps=30)
    assert found[-1] < found[0]

    moves = {cell: calls for cell, calls in net.ledger.calls.items() if isinstance(cell[3], Elementwise)}
    moves = {(cell[0], cell[1], cell[3]): calls for cell, calls in moves.items() if cell[3].name == "move"}
    # The input [16, 6] lives where "*" does, so it is moved to fc1, and the hidden layer [16, 8] to fc2; the gradient
    # of the hidden layer goes back, that of the input is not wanted. 4 bytes a value, read and written.
    assert moves == {
        ("fc1", Phase.FORWARD, Elementwise("move", 96, 0, 384, 384)): 30,
        ("fc2", Phase.FORWARD, Elementwise("move", 128, 0, 512, 512)): 30,
        ("fc2", Phase.BACKWARD, Elementwise("move", 128, 0, 512, 512)): 30,
    }


def test_idle_energy_of_the_device_that_waits():
    optical = LearnedAbsorber()
    net = Network(Mlp((6, 8, 3), activation="device", bias=False), {"fc1": optical, "*": HOST}, shape_only=True)
    net.forward(Shape(10, 6))
    ledger = net.ledger
    labels = ledger.devices()
    # Setup: 1 heating of fc1 = 10 us; fc2 programmed on the host, 8 * 8 * 3 = 192 bytes at 0.1 ns.
    # fc1: move of 60 values on the host, 480 bytes = 48 ns. Optics: modulators 10 * 6 / 16, detectors 10 * 8 / 16
    # = 5 actions of 0.1 ns = 0.5 ns; absorber 80 / 16 * 0.1 ns = 0.5 ns.
    # fc2: move of 80 values, 640 bytes = 64 ns; product: 2 * 10 * 8 * 3 / 64 = 7.5 ns of flops, and
    # 4 * (80 + 24 + 30) = 536 bytes = 53.6 ns.
    host_s = 1e-10 * (192 + 480 + 640 + 536)
    optical_s = 1e-5 + 0.5e-9 + 0.5e-9
    # The host idles at 0.02 W while light computes; the laser idles at 0.25 W, 2 * 48 shifters hold at 1 mW each.
    assert ledger.time(["device"]) == pytest.approx({(labels[HOST],): host_s, (labels[optical],): optical_s})
    idle = {
        key[1:]: joules for key, joules in ledger.energy(["part", "device", "component"]).items() if key[0] == "idle"
    }
    assert idle == pytest.approx(
        {
            (labels[HOST], "chip"): 0.02 * optical_s,
            (labels[optical], "laser"): 0.25 * host_s,
            (labels[optical], "shifter"): 0.096 * host_s,
        }
    )
    static = {key[1:]: joules for key, joules in ledger.energy(["part", "component"]).items() if key[0] == "static"}
    launch = {key[1:]: joules for key, joules in ledger.energy(["part", "component"]).items() if key[0] == "launch"}
    assert static == pytest.approx({("chip",): 0.1 * host_s, ("laser",): 0.5e-9, ("shifter",): 0.096e-9})
    assert launch == pytest.approx({("laser",): 0.5e-5, ("shifter",): 0.096e-5})


def test_idle_energy_belongs_to_the_phase_in_which_the_others_wait():
    optical = LearnedAbsorber()
    net = Network(Mlp((6, 8, 3), bias=False), {"fc1": optical, "*": HOST}, shape_only=True)
    net.predict(Shape(10, 6))
    idle = {key for key in net.ledger.energy(["part", "phase"]) if key[0] == "idle"}
    assert idle == {("idle", "setup"), ("idle", "evaluate")}


def test_values_that_meet_come_to_the_device_of_the_first():
    optical, crossbar = LearnedAbsorber(), StatefulCrossbar()

    def residual(net, x):
        return net.apply(ops.add, x, nn.dense(net, "inner", x, 6, bias=False))

    net = Network(Plan(residual, 6), {"inner": optical, "*": crossbar}, shape_only=True)
    y = net.forward(Shape(10, 6))
    assert y.device is crossbar
    assert calls_by_kind(net.ledger)["move"] == 2  # there and back again

    def mixed(net, x):
        inner = nn.dense(net, "inner", x, 6, bias=False)
        a, b = (net.apply(ops.reshape((-1, 2, 3)), v) for v in (x, inner))
        return net.product(a, net.apply(ops.transpose((0, 2, 1)), b))

    net = Network(Plan(mixed, 6), {"inner": optical, "*": crossbar}, shape_only=True)
    assert net.forward(Shape(10, 6)).device is crossbar
    assert calls_by_kind(net.ledger)["move"] == 2


def test_an_own_activation_gets_its_input_on_its_own_device():
    optical = LearnedAbsorber()

    def model(net, x):
        x = nn.dense(net, "first", x, 8, bias=False)
        with net.layer("second"):
            return net.activate("device", x)

    net = Network(Plan(model, 6), {"second": optical, "*": HOST}, shape_only=True)
    assert net.forward(Shape(10, 6)).device is optical
    assert calls_by_kind(net.ledger, "second")["move"] == 1


# Networks that strain the order of a step


@pytest.mark.parametrize("make", [StatefulCrossbar, LearnedAbsorber, Leapfrog], ids=lambda make: make.name)
def test_attention_asks_for_dynamic_products(make):
    device = make()
    net = Network(Plan(lambda net, x: nn.attention(net, "attention", x, 2), 5, 4), device, shape_only=True)
    target = Shape(3, 5, 4)
    backprop(net, Shape(3, 5, 4), target, losses.squared_error, SGD(0.1))
    products = {cell: calls for cell, calls in net.ledger.calls.items() if getattr(cell[3], "kind", "") == "product"}
    doer = device if make is Leapfrog else HOST
    # Width 4 in 2 heads: 3 * 2 matrices of queries [5, 2] by keys [2, 5], then scores [5, 5] by values [5, 2].
    forward = {Product(Kind.PRODUCT, 5, 2, 5, 6): 1, Product(Kind.PRODUCT, 5, 5, 2, 6): 1}
    # Backwards, of q k: dy k' [5, 5] [5, 2] and q' dy [2, 5] [5, 5]; of s v: dy v' [5, 2] [2, 5], s' dy [5, 5] [5, 2].
    backward = {
        Product(Kind.PRODUCT, 5, 5, 2, 6): 2,
        Product(Kind.PRODUCT, 2, 5, 5, 6): 1,
        Product(Kind.PRODUCT, 5, 2, 5, 6): 1,
    }
    expected = {("attention", Phase.FORWARD, doer, op): calls for op, calls in forward.items()}
    expected |= {("attention", Phase.BACKWARD, doer, op): calls for op, calls in backward.items()}
    assert products == expected


def tied(net, x):
    """y = relu(x w) w', one matrix from both sides."""
    with net.layer("tied"):
        w = net.tile("w", (6, 4), nn.glorot_normal)
        return net.linear_transposed(w, net.apply(ops.relu, net.linear(w, x)))


@pytest.mark.parametrize("make", [Toy, StatefulCrossbar, Leapfrog], ids=lambda make: make.name)
def test_tied_weights_are_moved_by_the_sum_of_both_gradients(make):
    net = Network(Plan(tied, 6), make())
    w0 = net.placed["tied/w"].read()
    found = train(net, SGD(0.05), steps=40, target=X, loss=losses.squared_error)
    assert found[-1] < found[0]
    assert not np.array_equal(w0, net.placed["tied/w"].read())
    live = net.ledger.live_bits
    assert live.get(net.devices["*"], 0) == 0


def test_tied_gradient_by_hand():
    # One row, one weight: y = w (w x), loss (y - t)^2 / 2; dw = (y - t) 2 w x.
    def model(net, x):
        with net.layer("tied"):
            w = net.tile("w", (1, 1), lambda rng, shape: np.full(shape, 3.0))
            return net.linear_transposed(w, net.linear(w, x))

    net, sink = Network(Plan(model, 1), Toy()), Gradients()
    y = net.forward(np.full((1, 1), 2, np.float32), sink=sink)
    net.tape.backward(net.tape.host(losses.squared_error, y, net.constant(np.full((1, 1), 17, np.float32))))
    assert float(y.data[0, 0]) == 18
    assert float(sink.found["tied/w"][0, 0]) == (18 - 17) * 2 * 3 * 2


def test_a_tied_host_array_gets_the_gradient_of_each_use():
    # z = (2 a + b) (3 a + b) at a = b = 1: dz/db = (3 + 1) + (2 + 1) = 7 and dz/da = 2 (3 + 1) + 3 (2 + 1) = 17.
    def model(net, x):
        with net.layer("tied"):
            a, b = (net.parameter(name, (1, 1), nn.ones) for name in "ab")
            multiples = [net.apply(ops.scaled(factor), a) for factor in (2, 3)]
            return net.apply(ops.multiply, *[net.apply(ops.add, multiple, b) for multiple in multiples])

    net = Network(Plan(model, 1), Toy())
    how = SGD(1.0)
    with net.ledger.scope(phase=Phase.FORWARD):
        net.tape.backward(net.forward(np.ones((1, 1), np.float32), sink=how))
        how.move(net.ledger)
    assert float(net.placed["tied/a"].data[0, 0]) == 1 - 17
    assert float(net.placed["tied/b"].data[0, 0]) == 1 - 7


def test_two_host_arrays_that_are_added_each_move_once():
    def model(net, x):
        with net.layer("sum"):
            return net.apply(ops.add, *(net.parameter(name, (1, 1), nn.zeros) for name in "ab"))

    net, how = Network(Plan(model, 1), Toy()), SGD(0.5)
    net.tape.backward(net.forward(np.ones((1, 1), np.float32), sink=how))
    how.move(net.ledger)
    assert [float(net.placed[f"sum/{name}"].data[0, 0]) for name in "ab"] == [-0.5, -0.5]


def test_a_recurrent_network_releases_newest_first_and_moves_once():
    released = []

    class Watched(Leapfrog):
        def release(self, tile):
            released.append((tile.name, len(released)))

    device = Watched()
    net = Network(Plan(lambda net, x: nn.recurrent(net, "cell", x, 3), 5, 2), device)
    x, target = RNG.standard_normal((4, 5, 2)).astype(np.float32), np.zeros((4, 5, 3), np.float32)
    backprop(net, x, target, losses.squared_error, SGD(0.05))
    assert [name for name, _ in released] == ["cell/u"] * 4 + ["cell/w"]
    calls = calls_by_kind(net.ledger)
    assert calls[Kind.UPDATE] == 2  # w and u, once each, though u was used in 4 of the 5 steps
    assert calls[Kind.GRADIENT] == 1 + 4
    assert calls[Kind.RELEASE] == calls[Kind.FORWARD] == 1 + 4
    # Held at most, at 2 * 20 bits a value: w's product of 4 * 5 rows of 3, and u's 4 products of 4 rows of 3.
    assert net.ledger.peak_bits[device] == 40 * (20 * 3 + 4 * 4 * 3)
    assert net.ledger.live_bits[device] == 0


def test_a_recurrent_networks_in_place_moves_come_after_all_products():
    order = []

    class Watched(StatefulCrossbar):
        def update_outer(self, tile, x, dy, scale):
            order.append("move")
            super().update_outer(tile, x, dy, scale)

        def backward(self, tile, dy):
            order.append("backward")
            return super().backward(tile, dy)

    net = Network(Plan(lambda net, x: nn.recurrent(net, "cell", x, 3), 5, 2), Watched())
    x, target = RNG.standard_normal((4, 5, 2)).astype(np.float32), np.zeros((4, 5, 3), np.float32)
    backprop(net, x, target, losses.squared_error, SGD(0.05))
    assert order == ["backward"] * 4 + ["move"] * 5


@pytest.mark.parametrize("make", [StatefulCrossbar, LearnedAbsorber, Leapfrog], ids=lambda make: make.name)
def test_frozen_layers_get_no_gradient_and_nothing_goes_below_the_lowest_trained_layer(make):
    net = Network(Mlp((6, 8, 7, 3)), make(), frozen={"fc1", "fc3"})
    w1, w2, w3 = (net.placed[f"fc{i}/w"].read() for i in (1, 2, 3))
    b1, b2, b3 = (net.placed[f"fc{i}/b"].data.copy() for i in (1, 2, 3))
    train(net, SGD(0.1), steps=3)
    by_layer = [calls_by_kind(net.ledger, f"fc{i}") for i in (1, 2, 3)]
    moves = (Kind.GRADIENT, Kind.UPDATE, Kind.UPDATE_OUTER)
    assert [any(kind in calls for kind in moves) for calls in by_layer] == [False, True, False]
    assert [calls.get(Kind.BACKWARD, 0) for calls in by_layer] == [0, 0, 3]
    assert ["relu_backward" in calls for calls in by_layer] == [False, True, False]
    np.testing.assert_array_equal(net.placed["fc1/w"].read(), w1)
    np.testing.assert_array_equal(net.placed["fc3/w"].read(), w3)
    np.testing.assert_array_equal(net.placed["fc1/b"].data, b1)
    np.testing.assert_array_equal(net.placed["fc3/b"].data, b3)
    assert not np.array_equal(net.placed["fc2/w"].read(), w2)
    assert not np.array_equal(net.placed["fc2/b"].data, b2)


def test_a_frozen_layers_own_activation_is_not_moved():
    net = Network(OWN_NET, LearnedAbsorber(), frozen={"fc1"})
    before = net.placed["fc1/activation"].state["depth"].copy()
    train(net, SGD(0.1), steps=3)
    np.testing.assert_array_equal(net.placed["fc1/activation"].state["depth"], before)
    assert "device_backward" not in calls_by_kind(net.ledger)


def test_gradient_accumulation_moves_once_by_the_sum():
    # Half the rows at half the weight each, twice, are the whole mini-batch: exact in float64.
    whole, halves = (Network(RELU_NET, Toy(precision="fp64")) for _ in range(2))
    how = SGD(0.1)
    for rows in (slice(0, 8), slice(8, 16)):
        y = halves.forward(X[rows], sink=how)
        loss = halves.tape.host(losses.cross_entropy, y, halves.constant(LABELS[rows]))
        halves.tape.backward(loss, np.float64(0.5))
        halves.tape.release()
    how.move(halves.ledger)
    train(whole, SGD(0.1), steps=1)
    for name in whole.placed:
        a, b = (net.save() for net in (whole, halves))
        key = f"{name}:data" if name.endswith("/b") else f"{name}:state/w"
        np.testing.assert_allclose(a[key], b[key], rtol=0, atol=1e-15)
    calls = calls_by_kind(halves.ledger)
    assert calls[Kind.UPDATE] == 2
    assert calls[Kind.GRADIENT] == 4
    assert calls["accumulate"] == 4  # two tiles and two biases


def test_update_outer_falls_back_to_gradient_then_update():
    ledger = Ledger()
    w = RNG.standard_normal((3, 2)).astype(np.float32)
    tile = StatefulCrossbar(moved_by="verify", spread=0.0, asymmetry=0.0).program(w, name="w", ledger=ledger)
    assert not tile.updates_in_place
    assert StatefulCrossbar().program(w, name="w").updates_in_place
    x, dy = np.ones((4, 3), np.float32), np.full((4, 2), 0.25, np.float32)
    tile.update_outer(x, dy, -0.5)  # -0.5 * 4 * 0.25 = -0.5 on every weight
    crossbar = tile.device
    assert dict(ledger.calls) == {
        ("", Phase.SETUP, crossbar, Product(Kind.PROGRAM, 0, 3, 2)): 1,
        ("", Phase.SETUP, HOST, Product(Kind.GRADIENT, 4, 3, 2)): 1,
        ("", Phase.SETUP, crossbar, Product(Kind.UPDATE, 0, 3, 2)): 1,
    }
    np.testing.assert_allclose(tile.read(), w - 0.5, atol=0.001 + 1e-6)  # half a pulse


def test_momentum_and_adam_leave_in_place_moves_alone():
    for how, kind in ((SGD(0.1), Kind.UPDATE_OUTER), (SGD(0.1, 0.9), Kind.UPDATE), (Adam(0.1), Kind.UPDATE)):
        net = Network(RELU_NET, StatefulCrossbar())
        train(net, how, steps=1)
        assert {k for k in calls_by_kind(net.ledger) if k in (Kind.UPDATE, Kind.UPDATE_OUTER)} == {kind}


@pytest.mark.parametrize("make", [Toy, StatefulCrossbar, LearnedAbsorber, Leapfrog], ids=lambda make: make.name)
def test_stacks_of_matrices(make):
    w = np.round(RNG.standard_normal((3, 4, 2)), 2).astype(np.float32)
    x, dy = RNG.standard_normal((3, 5, 4)).astype(np.float32), RNG.standard_normal((3, 5, 2)).astype(np.float32)
    ledger, device = Ledger(), make()
    tile = device.program(w, name="stack", ledger=ledger)
    assert (tile.stack, tile.k, tile.n) == (3, 4, 2)
    near = {"rtol": 0, "atol": {Toy: 1e-5, Leapfrog: 5e-3}.get(make, 0.06)}  # fixed point; 5 sigma of 0.01 noise
    np.testing.assert_allclose(tile.forward(x), np.einsum("hmk,hkn->hmn", x, w), **near)
    np.testing.assert_allclose(tile.backward(dy), np.einsum("hmn,hkn->hmk", dy, w), **near)
    np.testing.assert_allclose(tile.gradient(x, dy), np.einsum("hmk,hmn->hkn", x, dy), **near)
    tile.update_outer(x, dy, 0.0)
    tile.release(5)
    np.testing.assert_allclose(tile.read(), w, rtol=0, atol=0.002)
    assert all(op.stack == 3 and op.macs in (0, 3 * 5 * 4 * 2) for _, _, _, op in ledger.calls)
    assert ledger.macs()[Kind.FORWARD] == 3 * 5 * 4 * 2 * calls_by_kind(ledger)[Kind.FORWARD]
    assert ledger.live_bits.get(device, 0) == 0


# The absorber


def test_the_absorber_learns_its_depth_and_keeps_a_running_gain():
    net = Network(OWN_NET, LearnedAbsorber())
    own = net.placed["fc1/activation"]
    assert set(own.state) == {"depth", "gain"}
    train(net, SGD(0.1), steps=3)
    assert (own.state["depth"] != 2).any()
    assert (own.state["gain"] != 1).any()
    saved = net.save()
    assert {"fc1/activation:state/depth", "fc1/activation:state/gain"} < set(saved)


def test_the_absorbers_gradients_of_weights_are_formed_by_its_host():
    net = Network(OWN_NET, LearnedAbsorber())
    train(net, SGD(0.1), steps=1)
    who = {cell[2] for cell in net.ledger.calls if getattr(cell[3], "kind", "") == "gradient"}
    assert who == {HOST}


# The reversible machine


def test_leapfrog_holds_garbage_until_its_release_and_pays_for_it():
    device = Leapfrog()
    net = Network(RELU_NET, device)
    train(net, SGD(0.05), steps=4)
    # 2 * 20 bits a value of two products of 16 rows: 8 and 3 wide.
    assert net.ledger.peak_bits[device] == 40 * 16 * (8 + 3)
    assert net.ledger.live_bits[device] == 0
    uses = device.activity(Product(Kind.RELEASE, 16, 6, 8))
    assert uses == {"gate": Use(14 * 20 * 16 * 6 * 8, 8)}
    releases = [(cell, calls) for cell, calls in net.ledger.calls.items() if getattr(cell[3], "kind", "") == "release"]
    assert sorted((cell[0], cell[1], calls) for cell, calls in releases) == [
        ("fc1", Phase.BACKWARD, 4),
        ("fc2", Phase.BACKWARD, 4),
    ]


def test_an_evaluation_leaves_no_garbage_and_pays_for_its_own_release():
    device = Leapfrog()
    net = Network(RELU_NET, device)
    net.predict(X)
    assert net.ledger.live_bits[device] == 0
    phases = {cell[1] for cell in net.ledger.calls if getattr(cell[3], "kind", "") == "release"}
    assert phases == {Phase.EVALUATE}


def test_training_by_leapfrog_momentum_runs_back_to_its_start_bit_for_bit():
    device = Leapfrog()
    net = Network(Mlp((6, 8, 3), bias=False), device)
    start = state_of(net)
    how = ReversibleMomentum(0.1, device.fraction_bits)
    found = train(net, how, steps=60)
    assert found[-1] < 0.6 * found[0]
    assert state_of(net) != start
    for _ in range(60):
        how.back(net, X, LABELS, losses.cross_entropy)
    assert state_of(net) == start
    assert not any(velocity.any() for velocity in how.state.values())
    assert not any(how.dropped.values())
    assert net.ledger.live_bits[device] == 0


def test_fixed_point_products_are_exact():
    # Operands on the grid of 2^-12: the sum is exact in integers, and rounded once.
    device = Leapfrog()
    w, x = (np.rint(RNG.standard_normal(s) * 4096) / 4096 for s in ((40, 3), (5, 40)))
    exact = np.floor(x @ w * 4096 + 0.5) / 4096  # 24 fraction bits and sums below 2^8: exact in float64
    y = device.program(w.astype(np.float32), name="w").forward(x.astype(np.float32))
    np.testing.assert_array_equal(y, exact.astype(np.float32))


def test_hosts_are_shared_where_they_are_one_object():
    assert StatefulCrossbar().host_device is LearnedAbsorber().host_device is HOST
    assert isinstance(HOST, Device)
    assert HOST.host_device is None
    assert Value(X, HOST, False).device is HOST


def test_a_substrate_bounds_how_its_own_activation_moves() -> None:
    """An optical depth stays at or above zero, however far the optimizer wants it to go."""
    activation = LearnedAbsorber().activation(3, name="absorber")
    activation.update({"depth": np.asarray([-100.0, -1.0, 1.0], dtype=np.float32)})
    assert activation.state["depth"].tolist() == [0.0, 1.0, 3.0]  # from a depth of 2 each

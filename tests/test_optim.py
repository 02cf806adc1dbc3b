"""Optimizers against the formulas of their papers, in float64, and what they charge."""

import math

import numpy as np
import pytest
from hard_devices import HOST, LearnedAbsorber, Plan, StatefulCrossbar, Toy, calls_by_kind

from hwsim import losses, nn
from hwsim.arrays import LIBRARIES, Shape, to_host
from hwsim.cost import Elementwise, Kind, Phase
from hwsim.errors import ConfigError, ShapeError
from hwsim.learning import rule
from hwsim.learning.backprop import backprop
from hwsim.ledger import Ledger
from hwsim.models.mlp import Mlp
from hwsim.nn import Network
from hwsim.optim import OPTIMIZERS, SGD, Adam, optimizer

RNG = np.random.default_rng(4)
EXACT = Toy(precision="fp64")
X, LABELS = RNG.standard_normal((8, 4)), np.arange(8) % 3


def moved(how, gradients, w0=0.5):
    """The weights [2, 3] of one tile, and a host array [3], after each move by the given gradients."""
    tile = EXACT.program(np.full((2, 3), w0), name="w")
    found = []
    for gradient in gradients:
        # x = 1 and dy = gradient: the tile's gradient is x'dy.
        how.collect(tile, np.ones((1, 2)), np.full((1, 3), gradient))
        how.move(tile.ledger)
        found.append(float(tile.read()[0, 0]))
    assert np.ptp(tile.read()) == 0
    return found


def test_gradient_descent():
    assert moved(SGD(0.1), [1.0, -2.0]) == pytest.approx([0.4, 0.6])


def test_momentum():
    # v: 1, 0.9 - 2 = -1.1, -0.99 + 0 = -0.99; w = 0.5 - 0.1 v, summed up.
    assert moved(SGD(0.1, 0.9), [1.0, -2.0, 0.0]) == pytest.approx([0.4, 0.51, 0.609])


def test_adam():
    w, mean, square, expected = 0.5, 0.0, 0.0, []
    gradients = [1.0, -2.0, 0.5, 0.0]
    for t, g in enumerate(gradients, start=1):
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        w -= 0.1 * (mean / (1 - 0.9**t)) / (math.sqrt(square / (1 - 0.999**t)) + 1e-8)
        expected.append(w)
    assert moved(Adam(0.1), gradients) == pytest.approx(expected, rel=1e-12)
    assert moved(Adam(0.1), [3.0])[0] == pytest.approx(0.4)  # the first step is the learning rate, whatever g


def test_optimizers_by_name():
    assert set(OPTIMIZERS) == {"sgd", "momentum", "adam"}
    assert isinstance(optimizer("sgd", 0.1), SGD)
    assert optimizer("momentum", 0.1).momentum == 0.9
    assert isinstance(optimizer("adam", 0.1), Adam)
    with pytest.raises(ConfigError, match="no optimizer 'adagrad'; known: sgd, momentum, adam"):
        optimizer("adagrad", 0.1)
    assert rule("backprop") is backprop
    with pytest.raises(ConfigError, match="no learning rule 'hebb'; known: backprop"):
        rule("hebb")


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("bad", [0.0, -0.1, math.nan, math.inf])
def test_learning_rates_that_are_refused(name, bad):
    with pytest.raises(ConfigError, match="needs a finite value above zero"):
        optimizer(name, bad)


@pytest.mark.parametrize("bad", [-0.1, 1.0, 1.5, math.nan])
def test_momenta_that_are_refused(bad):
    with pytest.raises(ConfigError, match="needs a value from 0 to below 1"):
        SGD(0.1, bad)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_collected_gradients_add_up_and_are_gone_after_the_move(name):
    together, apart = [], []
    for found, parts in ((together, [1.5]), (apart, [1.0, 0.5])):
        how = optimizer(name, 0.1)
        tile = EXACT.program(np.zeros((2, 3)), name="w")
        for _ in range(3):
            for part in parts:
                how.collect(tile, np.ones((1, 2)), np.full((1, 3), part))
            how.move(tile.ledger)
            how.move(tile.ledger)  # nothing is left to move by
            found.append(tile.read())
    np.testing.assert_allclose(together, apart, rtol=1e-14)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_saved_state_goes_on_with_the_same_bits(name):
    def net_and_optimizer():
        return Network(Mlp((4, 5, 3)), EXACT), optimizer(name, 0.1)

    net, how = net_and_optimizer()
    for _ in range(3):
        backprop(net, X, LABELS, losses.cross_entropy, how)
    saved_net, saved = net.save(), how.save()
    assert all(isinstance(value, np.ndarray) for value in saved.values())
    assert bool(saved) == (name != "sgd")
    kept = {key: value.copy() for key, value in saved.items()}
    later = [float(backprop(net, X, LABELS, losses.cross_entropy, how)) for _ in range(3)]
    for key, value in kept.items():
        np.testing.assert_array_equal(saved[key], value)

    for _ in range(2):  # loading twice: what was loaded is not overwritten either
        other, again = net_and_optimizer()
        other.load(saved_net)
        again.load(saved)
        assert [float(backprop(other, X, LABELS, losses.cross_entropy, again)) for _ in range(3)] == later


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_saved_state_goes_on_where_arrays_are_not_numpys(name, monkeypatch):
    monkeypatch.setitem(LIBRARIES, "strict", "strict_array")
    x, found = X.astype(np.float32), []
    for reload in (False, True):
        net, how = Network(Mlp((4, 5, 3)), Toy(array="strict")), optimizer(name, 0.1)
        values = []
        for step in range(3):
            if reload and step:
                net.load(net.save())
                how.load(how.save())
            values.append(float(to_host(backprop(net, x, LABELS, losses.cross_entropy, how))))
        found.append(values)
    assert found[0] == found[1]


def test_what_an_optimizer_charges_by_hand():
    # One dense layer [4, 3] with bias: 12 weights on a tile, 3 on the host; 4 bytes a value.
    def charged(how):
        net = Network(Mlp((4, 3)), HOST, shape_only=True)
        backprop(net, Shape(8, 4), Shape(8), losses.cross_entropy, how)
        cells = [(cell[0], cell[3]) for cell in net.ledger.calls if cell[1] is Phase.UPDATE]
        return [(layer, op if isinstance(op, Elementwise) else op.kind) for layer, op in cells]

    # Plain descent of a tile is its own move. A bias: read gradient and itself, write itself; multiply and add.
    bias = ("fc1", Elementwise("sgd", 3, 6, 24, 12))
    assert charged(SGD(0.1)) == [bias, ("fc1", Kind.UPDATE)] or charged(SGD(0.1)) == [("fc1", Kind.UPDATE), bias]
    assert set(charged(SGD(0.1, 0.9))) == {
        ("fc1", Elementwise("momentum", 12, 24, 96, 48)),
        ("fc1", Kind.UPDATE),
        ("fc1", Elementwise("momentum", 3, 6, 24, 12)),
        bias,
    }
    assert set(charged(Adam(0.1))) == {
        ("fc1", Elementwise("adam", 12, 144, 144, 144)),
        ("fc1", Kind.UPDATE),
        ("fc1", Elementwise("adam", 3, 36, 36, 36)),
        ("fc1", Elementwise("sgd", 3, 3, 24, 12)),
    }


def test_accumulation_is_charged_where_the_gradients_meet():
    ledger = Ledger()
    tile = HOST.program(Shape(4, 3), name="w", ledger=ledger)
    how = SGD(0.1)
    with ledger.scope("layer", Phase.BACKWARD):
        for _ in range(3):
            how.collect(tile, Shape(8, 4), Shape(8, 3))
    # Two additions of 12 values: read 2 * 12, write 12.
    assert ledger.calls["layer", Phase.BACKWARD, HOST, Elementwise("accumulate", 12, 12, 96, 48)] == 2
    assert calls_by_kind(ledger)[Kind.GRADIENT] == 3


def test_accumulation_of_host_arrays_is_charged_too():
    def twice(net, x):
        with net.layer("tied"):
            b = net.parameter("b", (4,), nn.zeros)
            return net.apply(nn.ops.bias_add, net.apply(nn.ops.bias_add, x, b), b)

    net = Network(Plan(twice, 4), HOST, shape_only=True)
    backprop(net, Shape(8, 4), Shape(8, 4), losses.squared_error, SGD(0.1))
    assert net.ledger.calls["tied", Phase.BACKWARD, HOST, Elementwise("accumulate", 4, 4, 32, 16)] == 1


def test_everything_moves_in_the_update_phase_and_its_own_layer():
    for device in (HOST, StatefulCrossbar(), LearnedAbsorber()):
        net = Network(Mlp((4, 5, 3)), device, shape_only=True)
        backprop(net, Shape(8, 4), Shape(8), losses.cross_entropy, SGD(0.1))
        kinds = (Kind.UPDATE, Kind.UPDATE_OUTER)
        cells = {(cell[0], cell[1]) for cell in net.ledger.calls if getattr(cell[3], "kind", "") in kinds}
        assert cells == {("fc1", Phase.UPDATE), ("fc2", Phase.UPDATE)}
        assert (net.ledger.layer, net.ledger.phase) == ("", Phase.SETUP)


def test_an_own_activations_parameters_are_moved():
    own = LearnedAbsorber().activation(3, name="own")
    how = SGD(0.5)
    how.collect_activation(own, {"depth": np.full(3, 2, np.float32)})
    how.move(own.ledger)
    np.testing.assert_array_equal(own.state["depth"], 2 - 0.5 * 2)
    how.collect_activation(own, {"depth": np.ones(3, np.float32)})
    how.collect_activation(own, {"depth": np.ones(3, np.float32)})
    how.move(own.ledger)
    np.testing.assert_array_equal(own.state["depth"], 1 - 0.5 * 2)


def test_a_step_that_fails_leaves_nothing_behind():
    class Brittle(Toy):
        broken = False

        def backward(self, tile, dy):
            if self.broken:
                raise ShapeError("broken")
            return super().backward(tile, dy)

    def trained(*, broken):
        net, how = Network(Mlp((4, 5, 3)), Brittle()), SGD(0.1, 0.9)
        found = [float(backprop(net, X, LABELS, losses.cross_entropy, how))]
        if broken:
            Brittle.broken = True
            with pytest.raises(ShapeError, match="broken"):
                backprop(net, 2 * X, LABELS, losses.cross_entropy, how)
            Brittle.broken = False
            assert not net.tape.nodes
            assert not net.tape.held
        return found + [float(backprop(net, X, LABELS, losses.cross_entropy, how)) for _ in range(2)]

    assert trained(broken=True) == trained(broken=False)


def test_a_mini_batch_that_does_not_fit_is_refused():
    net = Network(Mlp((4, 3)), EXACT)
    for x, target, text in [
        (X[:, :3], LABELS, "the network needs"),
        (X, LABELS[:5], "needs one label a row"),
    ]:
        with pytest.raises(ShapeError, match=text):
            backprop(net, x, target, losses.cross_entropy, SGD(0.1))
    backprop(net, X, LABELS, losses.cross_entropy, SGD(0.1))


def test_backprop_returns_the_loss_before_the_step():
    net = Network(Mlp((4, 3)), EXACT)
    outputs = net.predict(X)
    expected = (np.log(np.exp(outputs).sum(-1)) - outputs[np.arange(8), LABELS]).mean()
    assert float(backprop(net, X, LABELS, losses.cross_entropy, SGD(0.1))) == pytest.approx(expected, rel=1e-12)
    target = RNG.standard_normal((8, 3))
    expected = 0.5 * ((net.predict(X) - target) ** 2).sum() / 8
    assert float(backprop(net, X, target, losses.squared_error, SGD(0.1))) == pytest.approx(expected, rel=1e-12)

"""Networks, layers and sequence models against plain NumPy, and in shapes alone."""

import math

import numpy as np
import pytest
from hard_devices import HOST, Gradients, Leapfrog, LearnedAbsorber, Plan, StatefulCrossbar, Toy, calls_by_kind

from hwsim import losses, nn
from hwsim.arrays import Shape
from hwsim.cost import Elementwise, Kind, Phase
from hwsim.errors import ConfigError, ShapeError
from hwsim.learning.backprop import backprop
from hwsim.ledger import Ledger
from hwsim.models.mlp import Mlp
from hwsim.models.rnn import Rnn, rnn
from hwsim.models.transformer import Gpt, gpt
from hwsim.nn import Network
from hwsim.optim import SGD, Adam
from hwsim.tape import Parameter
from hwsim.tile import Activation, Tile

RNG = np.random.default_rng(3)
EXACT = Toy(precision="fp64")
SMALL_GPT = gpt(vocabulary=7, length=5, width=8, heads=2, layers=2)
SMALL_RNN = rnn(vocabulary=7, length=5, width=8)


def weights(net, name):
    """The values of a tile or host array, in float64."""
    item = net.placed[name]
    return np.asarray(item.read() if isinstance(item, Tile) else item.data, np.float64)


# Layers against NumPy


def test_a_dense_layer_is_numpys():
    net = Network(Plan(lambda net, x: nn.dense(net, "fc", x, 3, activation="tanh", bias_initial=nn.ones), 4), EXACT)
    x = RNG.standard_normal((5, 4))
    np.testing.assert_allclose(net.predict(x), np.tanh(x @ weights(net, "fc/w") + 1), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(weights(net, "fc/b"), 1)


def test_a_dense_layer_of_a_sequence_is_one_product():
    net = Network(Plan(lambda net, x: nn.dense(net, "fc", x, 3, bias=False), 6, 4), EXACT)
    x = RNG.standard_normal((5, 6, 4))
    np.testing.assert_allclose(net.predict(x), x @ weights(net, "fc/w"), rtol=0, atol=1e-14)
    forwards = [cell[3] for cell in net.ledger.calls if getattr(cell[3], "kind", "") == Kind.FORWARD]
    assert [(op.m, op.k, op.n) for op in forwards] == [(30, 4, 3)]


def test_layer_norm_is_numpys():
    net = Network(Plan(lambda net, x: nn.layer_norm(net, "norm", x), 6, 4), EXACT)
    net.placed["norm/gain"].data = RNG.standard_normal(4)
    net.placed["norm/bias"].data = RNG.standard_normal(4)
    x = RNG.standard_normal((5, 6, 4))
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    expected = normal * weights(net, "norm/gain") + weights(net, "norm/bias")
    np.testing.assert_allclose(net.predict(x), expected, rtol=0, atol=1e-13)


def test_attention_is_numpys():
    length, n, heads = 5, 6, 2
    net = Network(Plan(lambda net, x: nn.attention(net, "attention", x, heads), length, n), EXACT)
    x = RNG.standard_normal((3, length, n))
    qkv, out = weights(net, "attention/qkv"), weights(net, "attention/out")
    q, k, v = np.split(x @ qkv, 3, axis=-1)
    mixed = np.zeros_like(x)
    for head in range(heads):
        place = slice(head * n // heads, (head + 1) * n // heads)
        for t in range(length):
            scores = np.einsum("bd,bsd->bs", q[:, t, place], k[:, : t + 1, place]) / math.sqrt(n / heads)
            share = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            mixed[:, t, place] = np.einsum("bs,bsd->bd", share, v[:, : t + 1, place])
    np.testing.assert_allclose(net.predict(x), mixed @ out, rtol=0, atol=1e-13)


def test_a_recurrent_layer_is_a_plain_loop():
    net = Network(Plan(lambda net, x: nn.recurrent(net, "cell", x, 3), 5, 4), EXACT)
    net.placed["cell/b"].data = RNG.standard_normal(3)
    x, h, expected = RNG.standard_normal((2, 5, 4)), np.zeros((2, 3)), []
    for t in range(5):
        h = np.tanh(x[:, t] @ weights(net, "cell/w") + h @ weights(net, "cell/u") + weights(net, "cell/b"))
        expected.append(h)
    np.testing.assert_allclose(net.predict(x), np.stack(expected, axis=1), rtol=0, atol=1e-13)


def test_an_embedding_is_rows_of_its_table():
    net = Network(Plan(lambda net, x: nn.embed(net, "embedding", x, 7, 3), 4), EXACT)
    ids = RNG.integers(0, 7, (5, 4))
    np.testing.assert_array_equal(net.predict(ids), weights(net, "embedding/table")[ids])


def test_an_activation_by_name():
    for name, expected in [("relu", lambda x: np.maximum(x, 0)), ("sigmoid", lambda x: 1 / (1 + np.exp(-x)))]:
        net = Network(Plan(lambda net, x, name=name: net.activate(name, x), 4), EXACT)
        x = RNG.standard_normal((5, 4))
        np.testing.assert_allclose(net.predict(x), expected(x), rtol=0, atol=1e-15)
    with pytest.raises(ConfigError, match="no activation 'swish'"):
        Network(Plan(lambda net, x: net.activate("swish", x), 4), EXACT)
    with pytest.raises(ConfigError, match="layer 'attention': width 4 does not divide into 3 heads"):
        Network(Plan(lambda net, x: nn.attention(net, "attention", x, 3), 5, 4), EXACT)


def test_initial_values_have_the_variance_they_are_named_for():
    # n = 40,000 weights: the relative sigma of a variance is sqrt(2 / n) = 0.0071, so 3.5% at 5 sigma.
    def model(net, x):
        x = nn.dense(net, "he", x, 200, activation="relu")
        return nn.dense(net, "glorot", x, 200)

    net = Network(Plan(model, 200), EXACT)
    assert weights(net, "he/w").var() == pytest.approx(2 / 200, rel=0.035)
    assert weights(net, "glorot/w").var() == pytest.approx(2 / 400, rel=0.035)
    drawn = nn.uniform(0.5)(np.random.default_rng(0), (40_000,))
    assert abs(drawn).max() <= 0.5
    assert drawn.var() == pytest.approx(1 / 12, rel=0.035)


def test_initial_values_depend_on_seed_and_name_alone():
    one, same, other = (Network(Mlp((4, 3, 3)), Toy(), seed=seed) for seed in (0, 0, 1))
    on_crossbar = Network(Mlp((4, 3, 3)), StatefulCrossbar())
    np.testing.assert_array_equal(weights(one, "fc1/w"), weights(same, "fc1/w"))
    np.testing.assert_array_equal(weights(one, "fc1/w"), weights(on_crossbar, "fc1/w"))
    assert not np.array_equal(weights(one, "fc1/w"), weights(other, "fc1/w"))
    assert not np.array_equal(weights(one, "fc1/w")[:3], weights(one, "fc2/w"))


# Networks


def test_a_dry_run_declares_everything_before_training():
    net = Network(SMALL_GPT, StatefulCrossbar(), shape_only=True)
    tiles = {name: item.shape for name, item in net.placed.items() if isinstance(item, Tile)}
    block = {"attention/qkv": (8, 24), "attention/out": (8, 8), "up/w": (8, 32), "down/w": (32, 8)}
    expected = {f"block{i}.{name}": shape for i in (1, 2) for name, shape in block.items()}
    assert tiles == expected | {"unembedding/w": (8, 7)}
    assert {cell[1] for cell in net.ledger.calls} == {Phase.SETUP}
    assert calls_by_kind(net.ledger) == {Kind.PROGRAM: 9}
    assert {cell[0] for cell in net.ledger.calls} == {name.rpartition("/")[0] for name in tiles}
    tables = 7 * 8 + 5 * 8
    norms = 5 * 2 * 8
    biases = 2 * (32 + 8)
    products = 2 * (8 * 24 + 8 * 8 + 8 * 32 + 32 * 8) + 8 * 7
    assert net.parameter_count == tables + norms + biases + products
    assert net.layers[:3] == ("embedding", "positions", "block1.norm1")


def test_a_dry_run_does_no_arithmetic_and_draws_nothing():
    net = Network(Mlp((4, 3)), StatefulCrossbar(), shape_only=True)
    assert all(item.state == {} and item.drawn == {} for item in net.placed.values() if isinstance(item, Tile))
    assert isinstance(net.placed["fc1/b"].data, Shape)
    assert isinstance(net.predict(Shape(5, 4)), Shape)


def test_a_model_that_asks_for_more_than_it_did_is_refused():
    asked = []

    def model(net, x):
        asked.append(None)
        return nn.dense(net, f"fc{len(asked)}", x, 3)

    net = Network(Plan(model, 4), Toy())
    with pytest.raises(ConfigError, match="the model asks for 'fc2/w', which it did not ask for when it was placed"):
        net.forward(np.ones((1, 4), np.float32))


@pytest.mark.parametrize("shape", [(5, 3), (4,), (5, 4, 1), (5,)])
def test_an_input_of_the_wrong_shape_is_refused(shape):
    net = Network(Mlp((4, 3)), Toy())
    before = dict(net.ledger.calls)
    with pytest.raises(ShapeError, match=r"input has shape .*, the network needs \[m, 4\]"):
        net.predict(np.ones(shape, np.float32))
    assert dict(net.ledger.calls) == before


def test_models_that_do_not_fit_are_refused_before_a_charge():
    ledger = Ledger()
    for kwargs, text in [
        ({"frozen": {"fc9"}}, r"no layer \['fc9'\] to freeze; the network has: fc1, fc2"),
        ({"devices": {"*": HOST, "fc9": HOST}}, r"no layer \['fc9'\] to place; the network has: fc1, fc2"),
        ({"devices": {"fc1": HOST}}, r"no device for layer 'fc2'; name one for it, or one for '\*'"),
    ]:
        with pytest.raises(ConfigError, match=text):
            Network(Mlp((4, 3, 2)), **{"devices": HOST, "ledger": ledger} | kwargs)
    with pytest.raises(ShapeError, match="product of"):
        Network(Plan(lambda net, x: net.product(x, x), 4), HOST, ledger=ledger)
    assert not ledger.calls
    assert not ledger.tiles


def test_layers_are_placed_by_their_own_or_the_nearest_enclosing_name():
    block, attention, rest = StatefulCrossbar(), LearnedAbsorber(), Toy()
    net = Network(SMALL_GPT, {"block1": block, "block1.attention": attention, "*": rest}, shape_only=True)
    where = {name: item.device for name, item in net.placed.items() if isinstance(item, Tile)}
    assert where["block1.up/w"] is block
    assert where["block1.attention/qkv"] is attention
    assert where["block2.up/w"] is where["block2.attention/qkv"] is rest
    net.predict(Shape(3, 5))
    assert calls_by_kind(net.ledger)["move"] > 0


def test_an_enclosing_layer_is_frozen_whole():
    net = Network(SMALL_GPT, HOST, shape_only=True, frozen={"block1", "embedding"})
    backprop(net, Shape(3, 5), Shape(3, 5), losses.cross_entropy, SGD(0.1))
    moved = {cell[0] for cell in net.ledger.calls if cell[1] is Phase.UPDATE}
    assert not [layer for layer in moved if layer.startswith(("block1", "embedding"))]
    assert {"block2.up", "block2.attention", "positions"} <= moved
    whole = Network(SMALL_GPT, HOST, shape_only=True)
    frozen = 7 * 8 + 2 * 2 * 8 + 32 + 8 + 8 * 24 + 8 * 8 + 8 * 32 + 32 * 8
    assert whole.parameter_count - net.parameter_count == frozen


def test_saving_and_loading_is_bit_for_bit():
    for device in (Toy(), StatefulCrossbar(), Leapfrog()):
        net, other = Network(SMALL_GPT, device), Network(SMALL_GPT, device, seed=1)
        saved = net.save()
        other.load(saved)
        again = other.save()
        assert saved.keys() == again.keys()
        for key, value in saved.items():
            np.testing.assert_array_equal(again[key], value)
        ids = RNG.integers(0, 7, (3, 5))
        np.testing.assert_array_equal(net.predict(ids), other.predict(ids))


def test_a_saved_network_of_another_kind_is_refused():
    saved = Network(Mlp((4, 3)), Toy()).save()
    with pytest.raises(ConfigError, match="the saved network has 'fc1/w', this one has: embedding/table, "):
        Network(SMALL_RNN, Toy()).load(saved)
    net = Network(Mlp((4, 3, 2)), Toy())
    before = {key: np.array(value) for key, value in net.save().items()}
    with pytest.raises(ConfigError, match="the saved network lacks 'fc2/w'"):
        net.load(saved)
    with pytest.raises(ConfigError, match=r"'fc1/w' was saved with shape \(4, 3\), this network's has \(4, 2\)"):
        Network(Mlp((4, 2)), Toy()).load(saved)
    for key, value in before.items():
        np.testing.assert_array_equal(net.save()[key], value)


def test_what_a_network_holds():
    net = Network(Mlp((4, 3, 2), activation="device"), LearnedAbsorber())
    kinds = {name: type(item) for name, item in net.placed.items()}
    assert kinds == {
        "fc1/w": Tile, "fc1/b": Parameter, "fc1/activation": Activation, "fc2/w": Tile, "fc2/b": Parameter,
    }  # fmt: skip
    assert net.layers == ("fc1", "fc2")


def test_nested_layers_are_joined_by_dots_and_left_after_an_error():
    seen = []

    def model(net, x):
        with net.layer("outer"), net.layer("inner"):
            seen.append(net.tape.ledger.layer)
            x = net.linear(net.tile("w", (4, 4), nn.glorot_normal), x)
        seen.append(net.tape.ledger.layer)
        return x

    net = Network(Plan(model, 4), Toy())
    assert seen == ["outer.inner", ""]
    assert list(net.placed) == ["outer.inner/w"]
    with pytest.raises(ZeroDivisionError), net.layer("outer"):
        _ = 1 / 0
    assert net.ledger.layer == ""


def test_an_evaluation_is_a_phase_of_its_own_and_records_nothing():
    net = Network(SMALL_GPT, StatefulCrossbar())
    y = net.predict(RNG.integers(0, 7, (3, 5)))
    assert isinstance(y, np.ndarray)
    assert y.shape == (3, 5, 7)
    assert not net.tape.nodes
    assert not net.tape.held
    assert {cell[1] for cell in net.ledger.calls} == {Phase.SETUP, Phase.EVALUATE}


# Sequence models


@pytest.mark.parametrize("model", [SMALL_GPT, SMALL_RNN], ids=["gpt", "rnn"])
def test_no_output_depends_on_a_later_token(model):
    net = Network(model, EXACT)
    ids = RNG.integers(0, 7, (1, 5))
    y = net.predict(ids)
    for t in range(5):
        changed = ids.copy()
        changed[0, t] = (ids[0, t] + 1) % 7
        difference = abs(net.predict(changed) - y)[0].max(axis=-1)
        np.testing.assert_array_equal(difference[:t], 0)
        assert (difference[t:] > 0).all()


@pytest.mark.parametrize("model", [SMALL_GPT, SMALL_RNN], ids=["gpt", "rnn"])
@pytest.mark.parametrize("make", [Toy, StatefulCrossbar, Leapfrog], ids=lambda make: make.name)
def test_sequence_models_learn_a_repeated_batch(model, make):
    net, how = Network(model, make()), Adam(0.02)
    ids = RNG.integers(0, 7, (8, 6))
    x, target = ids[:, :-1], ids[:, 1:]
    found = [float(backprop(net, x, target, losses.cross_entropy, how)) for _ in range(30)]
    assert abs(found[0] - math.log(7)) < 0.7  # before training about as uncertain as an even guess
    assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize("model", [SMALL_GPT, SMALL_RNN], ids=["gpt", "rnn"])
def test_sequence_models_in_shapes_alone_ask_for_the_same(model):
    device = StatefulCrossbar()
    run, trace = Network(model, device), Network(model, device, shape_only=True)
    backprop(run, RNG.integers(0, 7, (3, 5)), RNG.integers(0, 7, (3, 5)), losses.cross_entropy, SGD(0.1))
    backprop(trace, Shape(3, 5), Shape(3, 5), losses.cross_entropy, SGD(0.1))
    assert dict(run.ledger.calls) == dict(trace.ledger.calls)
    assert run.ledger.total_j(actual=False) == trace.ledger.total_j()


@pytest.mark.parametrize("model", [SMALL_GPT, SMALL_RNN], ids=["gpt", "rnn"])
def test_gradients_of_whole_sequence_models(model):
    # Every weight, moved by 1e-5 in the direction of its gradient's sign, together: the loss changes by the sum of
    # magnitudes, to second order. Central differences in float64.
    ids = RNG.integers(0, 7, (2, 6))

    def loss_and_gradients(sink=None, steps=None, size=0.0):
        net = Network(model, EXACT)
        for name, step in (steps or {}).items():
            item = net.placed[name]
            if isinstance(item, Tile):
                item.update(size * step)
            else:
                item.data = item.data + size * step
        y = net.forward(ids[:, :-1], sink=sink)
        value = net.tape.host(losses.cross_entropy, y, net.constant(ids[:, 1:], y.device))
        if sink is not None:
            net.tape.backward(value)
        return float(value.data), net

    sink = Gradients()
    _, net = loss_and_gradients(sink)
    assert set(sink.found) == set(net.placed)
    for name, gradient in sink.found.items():
        step = {name: np.sign(gradient) + (gradient == 0)}
        above, below = (loss_and_gradients(None, step, size)[0] for size in (1e-5, -1e-5))
        assert (above - below) / 2e-5 == pytest.approx((gradient * step[name]).sum(), rel=1e-5, abs=1e-8), name


def test_sequence_models_by_hand():
    assert Gpt(65).input_shape == (64,)
    assert gpt(vocabulary=65) == Gpt(65, 64, 64, 4, 2)
    assert rnn(vocabulary=65, length=16, width=8) == Rnn(65, 16, 8)
    for bad in ({"vocabulary": 0}, {"vocabulary": 7, "layers": 0}, {"vocabulary": 7, "width": 6, "heads": 4}):
        with pytest.raises(ConfigError, match="a GPT needs"):
            gpt(**bad)
    with pytest.raises(ConfigError, match="an RNN needs"):
        rnn(vocabulary=7, width=0)


def test_work_of_a_transformer_by_hand():
    # A row of a batch, length 5, width 8, 2 heads of 4, 7 tokens. Tiles: 5 rows each, 2 blocks of 8 * 24 + 8 * 8 +
    # 8 * 32 + 32 * 8 = 768 and the unembedding's 56. Products: 2 blocks, 2 heads, scores and mixing of 5 * 5 * 4.
    net = Network(SMALL_GPT, HOST, shape_only=True)
    backprop(net, Shape(1, 5), Shape(1, 5), losses.cross_entropy, SGD(0.1))
    macs = net.ledger.macs()
    tiles, products = 5 * (2 * 768 + 56), 2 * 2 * 2 * 5 * 5 * 4
    assert macs == {
        Kind.FORWARD: tiles,
        Kind.BACKWARD: tiles,  # the embedding below is trained, so that every tile's input wants a gradient
        Kind.GRADIENT: tiles,
        Kind.PRODUCT: 3 * products,
    }


def test_a_longer_sequence_costs_a_recurrent_network_in_proportion():
    def elementwise(length):
        net = Network(rnn(vocabulary=7, length=length, width=8), HOST, shape_only=True)
        backprop(net, Shape(2, length), Shape(2, length), losses.cross_entropy, SGD(0.1))
        cells = {cell: calls for cell, calls in net.ledger.calls.items() if cell[0] == "cell"}
        return sum(calls * cell[3].bytes_read for cell, calls in cells.items() if isinstance(cell[3], Elementwise))

    assert elementwise(64) / elementwise(16) == pytest.approx(4, rel=0.1)

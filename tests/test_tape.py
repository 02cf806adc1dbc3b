"""Differentiation against central finite differences in float64, and what a pass asks its devices for."""

import inspect

import numpy as np
import pytest
from hard_devices import HOST, Gradients, Leapfrog, Plan, Toy, calls_by_kind

from hwsim import losses, nn, ops
from hwsim.arrays import Shape
from hwsim.cost import Elementwise, Kind, Phase, Product
from hwsim.device import Device
from hwsim.errors import ConfigError, DeviceError, ShapeError
from hwsim.ledger import Ledger
from hwsim.nn import Network
from hwsim.optim import SGD
from hwsim.tape import HostOp, Parameter, Tape, Value

EXACT = Toy(precision="fp64")
RNG = np.random.default_rng(1)

# Central differences of a smooth function of order one: truncation h^2 / 6 = 2e-13, rounding 1e-16 / h = 1e-10.
H = 1e-6
NEAR = {"rtol": 1e-6, "atol": 1e-8}


def normal(*shape):
    return RNG.standard_normal(shape)


def away_from_zero(*shape):
    """Values that a step of h does not carry over the kink of a ReLU."""
    x = normal(*shape)
    return x + 0.1 * np.sign(x)


# Every operation: how it is made, and its inputs; integers are labels or ids, which have no gradient.
CASES = {
    "ops.relu": (ops.relu, away_from_zero(3, 4)),
    "ops.sigmoid": (ops.sigmoid, normal(3, 4)),
    "ops.tanh": (ops.tanh, normal(3, 4)),
    "ops.gelu": (ops.gelu, normal(3, 4)),
    "ops.add": (ops.add, normal(3, 4), normal(3, 4)),
    "ops.multiply": (ops.multiply, normal(3, 4), normal(3, 4)),
    "ops.bias_add": (ops.bias_add, normal(2, 3, 4), normal(4)),
    "ops.scaled": (ops.scaled(-1.7), normal(3, 4)),
    "ops.causal_mask": (ops.causal_mask(4), normal(2, 4, 4)),
    "ops.softmax": (ops.softmax, normal(2, 3, 4)),
    "ops.layer_norm": (ops.layer_norm(), normal(2, 3, 4), normal(4), normal(4)),
    "ops.reshape": (ops.reshape((-1, 6)), normal(4, 3, 2)),
    "ops.transpose": (ops.transpose((2, 0, 1)), normal(4, 3, 2)),
    "ops.part": (ops.part(1, 3), normal(2, 6)),
    "ops.at": (ops.at(2), normal(2, 4, 3)),
    "ops.stack_steps": (ops.stack_steps(3), normal(2, 4), normal(2, 4), normal(2, 4)),
    "ops.embedding": (ops.embedding((5, 3)), normal(5, 3), np.array([[0, 4, 4], [1, 0, 4]])),
    "ops.position_add": (ops.position_add(), normal(2, 4, 3), normal(4, 3)),
    "losses.cross_entropy": (losses.cross_entropy, normal(2, 3, 4), np.array([[0, 3, 1], [2, 2, 0]])),
    "losses.squared_error": (losses.squared_error, normal(3, 4), normal(3, 4)),
}
TARGETS = {"losses.squared_error": 1}  # inputs of floats that are no variables
LOOKUPS = {"ops.activation", "losses.loss"}  # they return one of the others by name
HELPERS = {"ops.placed"}  # they make what others return


def every_operation():
    """The names of all module-level operations, and of the functions that make one."""
    found = set()
    for module in (ops, losses):
        short = module.__name__.rpartition(".")[2]
        for name, item in vars(module).items():
            made = inspect.unwrap(item) if callable(item) and hasattr(item, "__wrapped__") else item
            makes = inspect.isfunction(made) and made.__annotations__.get("return") in (HostOp, "HostOp")
            if isinstance(item, HostOp) or (makes and item.__module__ == module.__name__):
                found.add(f"{short}.{name}")
    return found - LOOKUPS - HELPERS


def test_every_operation_has_a_case():
    assert every_operation() == set(CASES)


def test_the_lookups_find_every_named_operation():
    assert {ops.activation(name) for name in ops.ACTIVATIONS} == {ops.relu, ops.sigmoid, ops.tanh, ops.gelu}
    assert {losses.loss(name) for name in losses.LOSSES} == {losses.cross_entropy, losses.squared_error}
    with pytest.raises(ConfigError, match="no activation 'swish'; known: relu, sigmoid, tanh, gelu, or 'device'"):
        ops.activation("swish")
    with pytest.raises(ConfigError, match="no loss 'hinge'; known: cross_entropy, mse"):
        losses.loss("hinge")


def variable(name, data):
    """An array whose gradient a sink will be handed, by name."""
    return Value(data, EXACT, True, Parameter(name, "", EXACT, data))


def check_gradients(compute, arrays, wanted=None):
    """sum(dy * y) differentiated by the tape against central differences, for each of `arrays` that is wanted."""
    wanted = range(len(arrays)) if wanted is None else wanted

    def run(data):
        tape, sink = Tape(Ledger()), Gradients()
        tape.sink = sink
        values = [variable(str(i), a) if i in wanted else Value(a, EXACT, False) for i, a in enumerate(data)]
        return tape, sink, compute(tape, *values)

    tape, sink, y = run(arrays)
    assert y.data.dtype == np.float64
    dy = normal(*y.shape)
    tape.backward(y, np.asarray(dy))
    assert set(sink.found) - {"w"} == {str(i) for i in wanted}
    for i in wanted:
        numeric = np.empty(arrays[i].shape)
        for place in np.ndindex(*arrays[i].shape):
            moved = [[a.copy() for a in arrays] for _ in range(2)]
            moved[0][i][place] += H
            moved[1][i][place] -= H
            above, below = (run(data)[2].data for data in moved)
            numeric[place] = ((above - below) * dy).sum() / (2 * H)
        np.testing.assert_allclose(sink.found[str(i)], numeric, **NEAR)


@pytest.mark.parametrize("name", sorted(CASES))
def test_derivative_of_every_operation(name):
    op, *arrays = CASES[name]
    wanted = [i for i, a in enumerate(arrays) if a.dtype.kind == "f" and i != TARGETS.get(name)]
    check_gradients(lambda tape, *values: tape.host(op, *values), arrays, wanted)


@pytest.mark.parametrize("name", sorted(CASES))
def test_shapes_and_values_agree_for_every_operation(name):
    op, *arrays = CASES[name]
    real, traced = Tape(Ledger()), Tape(Ledger())
    with_values = real.host(op, *[variable(str(i), a) for i, a in enumerate(arrays)])
    with_shapes = traced.host(op, *[variable(str(i), Shape(*a.shape)) for i, a in enumerate(arrays)])
    assert with_values.shape == with_shapes.shape
    real.backward(with_values, np.ones(with_values.shape))
    traced.backward(with_shapes, Shape(*with_shapes.shape))
    assert dict(real.ledger.calls) == dict(traced.ledger.calls)


def test_layer_norm_of_constant_rows_is_its_bias():
    tape = Tape(Ledger())
    y = tape.host(ops.layer_norm(), *[Value(a, EXACT, False) for a in (np.full((2, 4), 7.0), np.ones(4), np.arange(4))])
    np.testing.assert_array_equal(y.data, [np.arange(4)] * 2)


def test_softmax_and_cross_entropy_of_huge_outputs_stay_finite():
    tape = Tape(Ledger())
    x = Value(np.array([[1000.0, 0.0], [-1000.0, 0.0]]), EXACT, False)
    np.testing.assert_array_equal(tape.host(ops.softmax, x).data, [[1, 0], [0, 1]])
    loss = tape.host(losses.cross_entropy, x, Value(np.array([1, 1]), EXACT, False))
    assert float(loss.data) == 500.0  # (1000 + 0) / 2


def test_sigmoid_does_not_overflow():
    tape = Tape(Ledger())
    y = tape.host(ops.sigmoid, Value(np.array([-1e4, 0.0, 1e4], np.float32), HOST, False))
    np.testing.assert_array_equal(y.data, [0, 0.5, 1])


# Products


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4), (4,)], ids=["rows", "sequence", "vector"])
def test_derivative_of_a_linear_layer(shape):
    tile = EXACT.program(normal(4, 3), name="w")
    check_gradients(lambda tape, x: tape.linear(tile, x), [normal(*shape)])


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (3,)], ids=["rows", "sequence", "vector"])
def test_derivative_of_a_linear_layer_from_the_other_side(shape):
    tile = EXACT.program(normal(4, 3), name="w")
    check_gradients(lambda tape, x: tape.linear_transposed(tile, x), [normal(*shape)])


def test_derivative_of_a_stack():
    tile = EXACT.program(normal(2, 4, 3), name="w")
    check_gradients(lambda tape, x: tape.linear(tile, x), [normal(2, 5, 4)])


def test_derivative_of_a_product():
    check_gradients(lambda tape, a, b: tape.product(a, b), [normal(2, 5, 4), normal(2, 4, 3)])
    check_gradients(lambda tape, a, b: tape.product(a, b), [normal(5, 4), normal(4, 3)], wanted=[1])
    check_gradients(lambda tape, a, b: tape.product(a, b), [normal(5, 4), normal(4, 3)], wanted=[0])


@pytest.mark.parametrize("wanted", [0, 1])
def test_a_product_goes_back_only_to_what_is_wanted(wanted):
    tape = Tape(Ledger())
    a, b = (Value(Shape(*shape), HOST, i == wanted) for i, shape in enumerate([(5, 4), (4, 3)]))
    y = tape.product(a, b)
    tape.backward(y, Shape(5, 3))
    # da = dy b' is [5, 3] [3, 4]; db = a' dy is [4, 5] [5, 3].
    back = Product(Kind.PRODUCT, 5, 3, 4) if wanted == 0 else Product(Kind.PRODUCT, 4, 5, 3)
    assert [cell[3] for cell in tape.ledger.calls] == [Product(Kind.PRODUCT, 5, 4, 3), back]


@pytest.mark.parametrize(
    ("forward", "shape"),
    [
        (lambda tape, tile, x: tape.linear(tile, x), (5, 4)),
        (lambda tape, tile, x: tape.linear(tile, x), (2, 5, 4)),
        (lambda tape, tile, x: tape.linear_transposed(tile, x), (5, 3)),
    ],
    ids=["linear", "sequence", "transposed"],
)
def test_derivative_by_the_weights(forward, shape):
    w, x = normal(4, 3), normal(*shape)

    def run(w):
        tape, sink = Tape(Ledger()), Gradients()
        tape.sink = sink
        tile = EXACT.program(w, name="w", ledger=tape.ledger)
        return tape, sink, forward(tape, tile, Value(x, EXACT, False))

    tape, sink, y = run(w)
    dy = normal(*y.shape)
    tape.backward(y, dy)
    numeric = np.empty(w.shape)
    for place in np.ndindex(*w.shape):
        above, below = w.copy(), w.copy()
        above[place] += H
        below[place] -= H
        numeric[place] = ((run(above)[2].data - run(below)[2].data) * dy).sum() / (2 * H)
    np.testing.assert_allclose(sink.found["w"], numeric, **NEAR)


def test_products_of_wrong_shapes_are_refused_before_a_charge():
    tape = Tape(Ledger())
    for a, b in [((5, 4), (3, 4)), ((2, 5, 4), (3, 4, 3)), ((2, 5, 4), (4, 3))]:
        with pytest.raises(ShapeError, match=r"product of .* needs \[..., m, k\] and \[..., k, n\]"):
            tape.product(Value(normal(*a), EXACT, False), Value(normal(*b), EXACT, False))
    assert not tape.ledger.calls


# Structure


def test_branches_that_meet_are_summed():
    tile = EXACT.program(normal(4, 4), name="w")

    def residual(tape, x):
        inner = tape.host(ops.tanh, tape.linear(tile, x))
        return tape.host(ops.add, tape.host(ops.add, x, inner), x)

    check_gradients(residual, [normal(3, 4)])


def test_a_sum_of_gradients_is_charged_where_its_value_lives():
    tape = Tape(Ledger())
    x = Value(Shape(3, 4), HOST, True)
    with tape.ledger.scope(layer="below", phase=Phase.FORWARD):
        doubled = tape.host(ops.scaled(2.0), x)
    with tape.ledger.scope(layer="above", phase=Phase.FORWARD):
        y = tape.host(ops.multiply, doubled, doubled)
    tape.backward(y, Shape(3, 4))
    # "multiply" hands back two gradients of 12 values, which are added: 12 flops, 2 * 12 values read, 12 written.
    assert tape.ledger.calls["above", Phase.BACKWARD, HOST, Elementwise("add", 12, 12, 96, 48)] == 1


def test_an_output_that_is_not_used_costs_nothing_backwards():
    tape = Tape(Ledger())
    x = Value(normal(3, 4), EXACT, True)
    y = tape.host(ops.tanh, x)
    tape.host(ops.gelu, x)
    tape.backward(y, normal(3, 4))
    assert "gelu_backward" not in calls_by_kind(tape.ledger)
    assert "tanh_backward" in calls_by_kind(tape.ledger)


def test_what_is_not_wanted_is_not_recorded():
    tape = Tape(Ledger())
    tape.host(ops.tanh, Value(normal(3, 4), EXACT, False))
    tape.linear(EXACT.program(normal(4, 3), name="w"), Value(normal(3, 4), EXACT, False))
    assert not tape.nodes


def test_release_empties_the_tape_newest_first():
    order = []

    class Watched(Leapfrog):
        def release(self, tile):
            order.append(tile.name)

    ledger, device = Ledger(), Watched()
    tape = Tape(ledger)
    tape.sink = Gradients()
    x = Value(normal(5, 4).astype(np.float32), device, False)
    for name in ("first", "second"):
        x = tape.linear(device.program(normal(4, 4), name=name, ledger=ledger), x)
    assert len(tape.nodes) == len(tape.held) == 2
    assert ledger.live_bits[device] == 2 * 40 * 5 * 4
    tape.release()
    assert order == ["second", "first"]
    assert not tape.nodes
    assert not tape.held
    assert ledger.live_bits[device] == 0
    tape.release()
    assert len(order) == 2


def test_a_gradient_is_needed_for_an_output_that_is_no_loss():
    tape = Tape(Ledger())
    y = tape.host(ops.tanh, variable("x", normal(3, 4)))
    with pytest.raises(ShapeError, match=r"backward from an output of shape \(3, 4\) needs its gradient dy"):
        tape.backward(y)


def test_backward_leaves_the_scope_as_it_was():
    tape = Tape(Ledger())
    with tape.ledger.scope(layer="inner", phase=Phase.FORWARD):
        y = tape.host(ops.tanh, variable("x", normal(1)))
    tape.backward(y)
    tape.release()
    assert (tape.ledger.layer, tape.ledger.phase) == ("", Phase.SETUP)


def test_shape_errors_name_the_shapes():
    tape = Tape(Ledger())

    def value(*shape):
        return Value(Shape(*shape), HOST, False)

    for op, shapes, text in [
        (ops.add, [(3, 4), (4, 3)], r"shapes \(3, 4\), \(4, 3\) must be the same"),
        (ops.bias_add, [(3, 4), (3,)], r"do not fit the last axis of \(3, 4\)"),
        (ops.reshape((5, 2)), [(3, 4)], r"cannot reshape \(3, 4\) to \(5, 2\)"),
        (ops.reshape((-1, 5)), [(3, 4)], r"cannot reshape \(3, 4\) to \(2, 5\)|cannot reshape"),
        (ops.transpose((1, 0)), [(2, 3, 4)], r"cannot transpose \(2, 3, 4\) by axes \(1, 0\)"),
        (ops.part(0, 3), [(3, 4)], r"the last axis of \(3, 4\) does not divide into 3 parts"),
        (ops.position_add(), [(2, 4, 3), (5, 3)], r"positions of shape \(5, 3\) do not fit \(2, 4, 3\)"),
        (losses.cross_entropy, [(3, 4), (4,)], r"one label a row, shape \(3,\); got \(4,\)"),
        (losses.squared_error, [(3, 4), (3,)], r"targets of the same shape; got \(3,\)"),
    ]:
        with pytest.raises(ShapeError, match=text):
            tape.host(op, *[value(*shape) for shape in shapes])
    assert not tape.ledger.calls


# What it costs


@pytest.mark.parametrize(("wanted", "ratio"), [(True, 2.0), (False, 1067520 / 935168)], ids=["dx", "no dx"])
def test_backward_work_of_a_multilayer_perceptron(wanted, ratio):
    # Forward 784 * 1024 + 1024 * 128 + 128 * 10 = 802,816 + 131,072 + 1,280 = 935,168 MACs a row. Backward twice
    # that, 1,870,336, less the 802,816 of the input's gradient where nothing below wants it: 1,067,520, 1.1415 times.
    tape, sink, m = Tape(Ledger()), SGD(0.1), 32
    tape.sink = sink
    x = Value(Shape(m, 784), HOST, wanted)
    with tape.ledger.scope(phase=Phase.FORWARD):
        for i, (k, n) in enumerate([(784, 1024), (1024, 128), (128, 10)]):
            tile = HOST.program(Shape(k, n), name=f"fc{i}", ledger=tape.ledger)
            x = tape.linear(tile, tape.host(ops.relu, x) if i else x)
        tape.backward(x, Shape(m, 10))
    macs = tape.ledger.macs()
    assert macs[Kind.FORWARD] == m * 935_168
    assert macs[Kind.GRADIENT] == m * 935_168
    assert macs[Kind.BACKWARD] == m * (935_168 if wanted else 132_352)
    assert macs[Kind.BACKWARD] + macs[Kind.GRADIENT] == m * (1_870_336 if wanted else 1_067_520)
    assert (macs[Kind.BACKWARD] + macs[Kind.GRADIENT]) / macs[Kind.FORWARD] == ratio


def charged(op, *shapes, wanted=None):
    """The forward and backward Elementwise that `op` on arrays of these shapes asks for."""
    tape = Tape(Ledger())
    values = [Value(Shape(*shape), HOST, wanted is None or i in wanted) for i, shape in enumerate(shapes)]
    y = tape.host(op, *values)
    tape.backward(y, Shape(*y.shape))
    return [cell[3] for cell in tape.ledger.calls]


def test_work_of_elementwise_operations_by_hand():
    # 4 bytes a value. relu [3, 4]: 12 flops, reads 12 values, writes 12; back: reads dy and x, writes dx.
    assert charged(ops.relu, (3, 4)) == [
        Elementwise("relu", 12, 12, 48, 48),
        Elementwise("relu_backward", 12, 12, 96, 48),
    ]
    # bias_add [3, 4] + [4]: reads 16 values, writes 12; back: dy is dx, and its column sums are 12 adds, writing 4.
    assert charged(ops.bias_add, (3, 4), (4,)) == [
        Elementwise("bias_add", 12, 12, 64, 48),
        Elementwise("bias_add_backward", 4, 12, 48, 16),
    ]
    # add: reads 24, writes 12; back: dy goes on as it is.
    assert charged(ops.add, (3, 4), (3, 4)) == [Elementwise("add", 12, 12, 96, 48)]
    # multiply back: reads dy and both factors, writes both gradients, 2 flops a value; with one wanted, one less.
    assert charged(ops.multiply, (3, 4), (3, 4))[1] == Elementwise("multiply_backward", 24, 24, 144, 96)
    assert charged(ops.multiply, (3, 4), (3, 4), wanted=[0])[1] == Elementwise("multiply_backward", 12, 24, 144, 48)
    # position_add [2, 4, 3] + [4, 3]: reads 36, writes 24; back: 24 adds, writing 12.
    assert charged(ops.position_add(), (2, 4, 3), (4, 3)) == [
        Elementwise("position_add", 24, 24, 144, 96),
        Elementwise("position_add_backward", 12, 24, 96, 48),
    ]
    # softmax: 14 flops a value forward, 4 back.
    assert charged(ops.softmax, (3, 4)) == [
        Elementwise("softmax", 12, 168, 48, 48),
        Elementwise("softmax_backward", 12, 48, 96, 48),
    ]
    # cross-entropy of [3, 4] with 3 labels: 15 flops a value, one loss; back: reads the loss' 1, 12 and 3 values.
    assert charged(losses.cross_entropy, (3, 4), (3,), wanted=[0]) == [
        Elementwise("cross_entropy", 1, 180, 60, 4),
        Elementwise("cross_entropy_backward", 12, 24, 64, 48),
    ]
    # embedding of 6 ids in a table of 100 rows of 3: reads 18 values and 6 ids, writes 18, not the table's 300.
    # Back: dy is added into a gradient of the whole table, which the optimizer is handed: 300 values, a flop each.
    assert charged(ops.embedding((100, 3)), (100, 3), (2, 3), wanted=[0]) == [
        Elementwise("embedding", 18, 0, 96, 72),
        Elementwise("embedding_backward", 300, 300, 96, 1200),
    ]


def test_views_are_free():
    assert charged(ops.reshape((4, 3)), (3, 4)) == []
    assert charged(ops.transpose((1, 0)), (3, 4)) == []
    for op in (ops.part(0, 2), ops.at(0)):
        tape = Tape(Ledger())
        tape.host(op, Value(Shape(3, 4, 2), HOST, True))
        assert not tape.ledger.calls


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_bytes_follow_the_number_format(precision):
    tape = Tape(Ledger())
    tape.host(ops.relu, Value(Shape(3, 4), Toy(precision=precision), False))
    (cell,) = tape.ledger.calls
    assert cell[3].bytes_read == 12 * (8 if precision == "fp64" else 4)


def test_two_operations_of_one_name_are_charged_each_for_its_own_work():
    tape = Tape(Ledger())
    for flops in (1, 5):
        tape.host(
            HostOp("mine", ops.relu.forward, ops.relu.backward, ops.same, flops=flops), Value(Shape(2), HOST, False)
        )
    assert {cell[3].flops: calls for cell, calls in tape.ledger.calls.items()} == {2: 1, 10: 1}


def test_the_parts_of_a_value_are_written_into_one_gradient():
    # A sequence of 6 steps of [2, 3]: the gradients of the steps fill disjoint places, 6 * 6 = 36 values in all.
    # Adding up whole sequences instead would take 5 * 36 additions, quadratic in the length.
    tape = Tape(Ledger())
    x = Value(Shape(2, 6, 3), HOST, True)
    y = tape.host(ops.stack_steps(6), *[tape.host(ops.at(t), x) for t in range(6)])
    tape.backward(y, Shape(2, 6, 3))
    added = sum(calls * cell[3].size for cell, calls in tape.ledger.calls.items() if cell[3].name == "add")
    assert added <= 36


# Who does it


class Minimal(Device):
    """A device of the shortest kind: products only."""

    name = "minimal"
    host = HOST

    def activity(self, op):
        if isinstance(op, Elementwise) or op.kind in (Kind.GRADIENT, Kind.PRODUCT, Kind.UPDATE_OUTER):
            return None
        return {}


def test_the_host_does_what_a_device_cannot():
    device = Minimal()
    net = Network(Plan(lambda net, x: nn.dense(net, "fc", x, 3, activation="relu"), 4), device, shape_only=True)
    y = net.forward(Shape(5, 4), sink=SGD(0.1))
    net.tape.backward(y, Shape(5, 3))
    who = {(cell[3].kind if isinstance(cell[3], Product) else cell[3].name): cell[2] for cell in net.ledger.calls}
    assert who == {
        Kind.PROGRAM: device,
        Kind.FORWARD: device,
        "bias_add": HOST,
        "relu": HOST,
        "relu_backward": HOST,
        "bias_add_backward": HOST,
        Kind.GRADIENT: HOST,
    }


def test_nobody_does_it():
    class Alone(Minimal):
        host = None

    tape = Tape(Ledger())
    with pytest.raises(DeviceError, match="neither minimal nor a host of it does"):
        tape.host(ops.relu, Value(Shape(2), Alone(), False))
    with pytest.raises(DeviceError, match="neither minimal nor a host of it does"):
        tape.product(Value(Shape(2, 2), Alone(), False), Value(Shape(2, 2), Alone(), False))
    assert not tape.ledger.calls


def test_moving_is_charged_to_whoever_receives():
    tape, other = Tape(Ledger()), Toy()
    x = Value(Shape(3, 4), HOST, True)
    assert tape.move(x, HOST) is x
    with tape.ledger.scope(phase=Phase.FORWARD):
        y = tape.move(x, other)
        tape.backward(y, Shape(3, 4))
    move = Elementwise("move", 12, 0, 48, 48)
    assert dict(tape.ledger.calls) == {("", Phase.FORWARD, other, move): 1, ("", Phase.BACKWARD, HOST, move): 1}
    assert y.device is other


def test_a_value_that_is_moved_takes_the_other_devices_type():
    tape = Tape(Ledger())
    x = variable("x", normal(3))
    y = tape.move(x, HOST)
    assert (x.data.dtype, y.data.dtype) == (np.float64, np.float32)
    np.testing.assert_array_equal(y.data, x.data.astype(np.float32))

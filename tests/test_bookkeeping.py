"""Who is charged for what, under which label, and what outlives a step: cases that once went wrong."""

import numpy as np
import pytest
from hard_devices import HOST, Leapfrog, LearnedAbsorber, Toy

import hwsim
from hwsim import data, nn
from hwsim.arrays import Shape
from hwsim.cost import Certainty, Component, Elementwise, Kind, Product, Quantity, Use
from hwsim.device import Device
from hwsim.devices.digital import Digital
from hwsim.devices.gpu import Gpu
from hwsim.devices.ideal import Ideal
from hwsim.errors import PluginError
from hwsim.learning.backprop import backprop
from hwsim.ledger import Ledger
from hwsim.losses import cross_entropy, squared_error
from hwsim.models.mlp import Mlp
from hwsim.nn import Network
from hwsim.optim import SGD, Adam
from hwsim.tape import Tape, Value
from hwsim.train import fit

RNG = np.random.default_rng(5)


class Counting(Device):
    """Multiplies, and records what it did."""

    name = "counting"
    host = HOST
    components = {"mac": Component(energy_j=1e-12)}  # noqa: RUF012  as a device author writes it

    def activity(self, op):
        return None if isinstance(op, Elementwise) or op.kind in (Kind.RELEASE, Kind.UPDATE_OUTER) else {"mac": Use(1)}

    def forward(self, tile, x):
        tile.record(mac=5)
        return super().forward(tile, x)


def test_a_run_with_two_hosts_of_one_spec_resumes(tmp_path):
    xor = data.load("xor")
    devices = {"fc1": LearnedAbsorber(host=Digital.create("fp32", {})), "*": Digital.create("fp32", {})}
    settings = {"learning_rate": 0.5, "batch": 4, "checkpoint": tmp_path / "run.npz"}
    fit(Mlp((2, 3, 1)), xor, devices, epochs=2, **settings)
    resumed = fit(Mlp((2, 3, 1)), xor, devices, epochs=4, resume=True, **settings)
    labels = set(resumed.ledger.devices().values())
    assert {"digital:fp32", "digital:fp32#2"} <= labels
    whole = fit(Mlp((2, 3, 1)), xor, devices, epochs=4, learning_rate=0.5, batch=4)
    assert resumed.epochs == whole.epochs


def test_peak_bits_are_those_of_training():
    """Evaluation runs 1,024 rows at a time, and would hide what a step of 4 rows holds."""
    device = Leapfrog()
    net = Network(Mlp((64, 16, 10)), device, shape_only=True)
    backprop(net, Shape(4, 64), Shape(4), cross_entropy, SGD(0.1))
    peak = net.ledger.peak_bits[device]
    assert peak > 0
    net.predict(Shape(1024, 64))
    assert net.ledger.peak_bits[device] == peak
    assert net.ledger.live_bits[device] == 0


def test_the_order_of_devices_changes_nothing():
    bills = []
    for order in (("fc1", "fc2"), ("fc2", "fc1")):
        both = {"fc1": HOST, "fc2": Toy()}
        net = Network(Mlp((6, 8, 3)), {name: both[name] for name in order}, shape_only=True)
        backprop(net, Shape(4, 6), Shape(4), cross_entropy, SGD(0.1))
        bills.append((net.ledger.energy_j, sum(net.ledger.calls.values())))
    assert bills[0] == bills[1]


def test_errors_of_a_product_are_rounded_as_gradients():
    """E5M2 keeps 2^-20 beside 1, E4M3 does not: so small an error must come through."""
    device, ledger = Gpu.create("h100", {"precision": "fp8"}), Ledger()
    tape = Tape(ledger)
    a = Value(np.ones((1, 2), np.float32), device, True)
    b = Value(np.eye(2, dtype=np.float32), device, True)
    y = tape.product(a, b)
    seen = []
    tape._record((y,), Value(y.data, device, True), lambda dy: (dy,))
    node = tape.nodes[0]
    seen = node.back(np.array([[1.0, 2.0**-20]], np.float32))
    assert seen[0].tolist() == [[1.0, 2.0**-20]]
    values = device.multiply(np.array([[1.0, 2.0**-20]], np.float32), b.data, ledger=ledger)
    assert values.tolist() == [[1.0, 0.0]]  # as a value it is flushed to zero


def test_what_a_power_cap_rests_on_is_evidence():
    """1 nJ a MAC, assumed, under a cap that leaves 1 W: the time, and so the static joules, are assumed too."""

    class Capped(Device):
        name = "capped"
        host = None
        power_cap_w = Quantity.of(2.0)
        components = {  # noqa: RUF012
            "mac": Component(energy_j=Quantity(1e-10, 1e-9, 1e-8, "guess", Certainty.ASSUMED, "capped/mac")),
            "board": Component(static_power_w=Quantity(1, 1, 1, "meter", Certainty.MEASURED, "capped/board")),
        }

        def activity(self, op):
            return {"mac": Use(op.macs)} if isinstance(op, Product) and op.macs else {}

    ledger = Ledger()
    Capped().program(Shape(10, 10), name="w", ledger=ledger).forward(Shape(10, 10))
    shares = ledger.energy(("component", "certainty"))
    assert set(shares) == {("mac", "assumed"), ("board", "assumed")}
    assert shares["board", "assumed"] == pytest.approx(1e-6)  # 1000 MACs x 1 nJ / 1 W = 1 us at 1 W


def test_two_devices_mapped_onto_one_keep_their_actual_counts():
    first, second, ledger = Counting(), Counting(), Ledger()
    for device, times in ((first, 1), (second, 2)):
        tile = device.program(np.eye(2, dtype=np.float32), name="w", ledger=ledger)
        for _ in range(times):
            tile.forward(np.ones((1, 2), np.float32))
    target = Counting()
    together = ledger.with_devices(dict.fromkeys(ledger.devices().values(), target))
    forward = {cell[3].kind: counts["mac"] for cell, counts in together.actual.items()}
    assert forward == {Kind.FORWARD: 15}
    assert sum(calls for cell, calls in together.calls.items() if cell[3].kind is Kind.FORWARD) == 3


def test_merging_with_a_trace_adds_what_is_expected_of_it():
    device, run, trace = Counting(), Ledger(), Ledger()
    device.program(np.eye(2, dtype=np.float32), name="w", ledger=run).forward(np.ones((1, 2), np.float32))
    device.program(Shape(2, 2), name="w", ledger=trace).forward(Shape(1, 2))
    run.merge(trace)
    assert [counts["mac"] for counts in run.actual.values()] == [5 + 1]  # 5 recorded, 1 expected of the trace


def test_training_leaves_the_arrays_of_an_initial_alone():
    mine = np.full(3, 0.5, np.float32)

    def model(net, x):
        return nn.dense(net, "fc1", x, 3, bias_initial=lambda rng, shape: mine)

    model.input_shape = (2,)
    net = Network(model, Ideal())
    backprop(net, np.ones((4, 2), np.float32), np.zeros((4, 3), np.float32), squared_error, SGD(0.1))
    assert mine.tolist() == [0.5, 0.5, 0.5]


def test_a_failed_evaluation_leaves_nothing_held():
    def model(net, x):
        x = nn.dense(net, "fc1", x, 3)
        if x.shape[0] == 7:
            raise RuntimeError("on purpose")
        return x

    model.input_shape = (2,)
    device = Leapfrog()
    net = Network(model, device)
    with pytest.raises(RuntimeError, match="on purpose"):
        net.predict(np.ones((7, 2)))
    assert net.ledger.live_bits[device] == 0
    assert not net.tape.held


def test_the_gradient_of_a_lowered_product_has_its_distinct_inputs():
    device, ledger, optimizer = HOST, Ledger(), SGD(0.1, momentum=0.5)
    tape = Tape(ledger)
    tape.sink = optimizer
    tile = device.program(Shape(9, 4), name="w", ledger=ledger)
    y = tape.linear(tile, Value(Shape(100, 9), device, False), x_values=144)
    tape.backward(y, Shape(100, 4))
    kinds = {cell[3].kind: cell[3].x_values for cell in ledger.calls if isinstance(cell[3], Product)}
    assert kinds[Kind.FORWARD] == kinds[Kind.GRADIENT] == 144


@pytest.mark.parametrize(
    ("parts", "answer", "says"),
    [
        ({"mac": Component()}, {"mac": 5.0}, r"mac=5.0; needs Use\("),
        ({"mac": Component()}, {"mac": Use(1, 0)}, r"needs Use\(actions >= 0, units > 0\)"),
        ({"mac": Component()}, {"mac": Use(-1)}, r"needs Use\(actions >= 0, units > 0\)"),
        ({"mac": 3}, {"mac": Use(1)}, r"component 'mac' is 3; needs a Component"),
        ({"mac": Component()}, {"mak": Use(1)}, "names 'mak', which is no component of it"),
    ],
)
def test_a_mistake_in_a_plug_in_is_named(parts, answer, says):
    class Mistaken(Device):
        name = "mistaken"
        host = None
        components = parts

        def activity(self, op):
            return answer

    with pytest.raises(PluginError, match=says):
        Mistaken().program(Shape(2, 2), name="w")


def elementwise_bytes(device, name):
    """Bytes that the operation `name` reads and writes in one step of a small network."""
    net = Network(Mlp((8, 16, 4)), device, shape_only=True)
    backprop(net, Shape(10, 8), Shape(10), cross_entropy, Adam(0.1))
    ops = {cell[3] for cell in net.ledger.calls if isinstance(cell[3], Elementwise) and cell[3].name == name}
    return {(op.size, op.bytes_read, op.bytes_written) for op in ops}


def test_values_are_charged_as_products_leave_them():
    """10 x 16 hidden values: fp32 behind an int8 product, bf16 behind an fp8 one."""
    assert elementwise_bytes(hwsim.device("digital:int8"), "relu") == {(160, 640, 640)}
    assert elementwise_bytes(hwsim.device("gpu:h100:precision=fp8"), "relu") == {(160, 320, 320)}


def test_optimizer_state_is_charged_as_weights_are_kept():
    """Adam reads gradient, mean and square, and writes mean, square and step: 3 and 3 values of 4 or 8 bytes."""
    assert (128, 128 * 12, 128 * 12) in elementwise_bytes(hwsim.device("gpu:h100:precision=fp8"), "adam")
    assert (128, 128 * 24, 128 * 24) in elementwise_bytes(hwsim.device("gpu:h100:precision=fp64"), "adam")

"""Tiles, activations, devices and their parameters: what is refused, what is charged, what is kept."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hard_devices import HOST, Leapfrog, LearnedAbsorber, StatefulCrossbar, Toy

from hwsim import registry
from hwsim.arrays import Shape
from hwsim.cost import Certainty, Component, Elementwise, Kind, Phase, Product, Quantity, Use
from hwsim.device import Device
from hwsim.errors import ConfigError, DeviceError, PluginError, ShapeError
from hwsim.ledger import Ledger, TileShape
from hwsim.parameters import parameter

W = np.arange(12, dtype=np.float32).reshape(4, 3)
X, DY = np.ones((5, 4), np.float32), np.ones((5, 3), np.float32)


class Free(Device):
    """Does everything that a host may not do in its place, for nothing."""

    name = "free"
    host = HOST

    def activity(self, op):
        elsewhere = isinstance(op, Elementwise) or op.kind in (Kind.GRADIENT, Kind.PRODUCT)
        return None if elsewhere or op.kind in (Kind.UPDATE_OUTER, Kind.RELEASE) else {}


@pytest.fixture
def ledger():
    return Ledger()


# What is refused


def test_a_tile_needs_a_matrix(ledger):
    for w in (np.ones(3, np.float32), np.ones((0, 3), np.float32), np.ones((3, 0), np.float32), Shape(3), Shape(0, 2)):
        with pytest.raises(ShapeError, match=r"w: a tile needs w \[..., k, n\] with at least one row and column"):
            Toy().program(w, name="w", ledger=ledger)
    assert not ledger.calls
    assert not ledger.tiles


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused_before_a_charge(ledger, bad):
    device = Toy()
    w, x, dy = W.copy(), X.copy(), DY.copy()
    w[1, 1] = x[2, 3] = dy[0, 2] = bad
    with pytest.raises(ShapeError, match="w: w holds 1 NaN or infinite values of 12; all must be finite"):
        device.program(w, name="w", ledger=ledger)
    assert not ledger.calls
    tile = device.program(W, name="w", ledger=ledger)
    before = dict(ledger.calls)
    for refused in (
        lambda: tile.forward(x),
        lambda: tile.backward(dy),
        lambda: tile.gradient(x, DY),
        lambda: tile.gradient(X, dy),
        lambda: tile.update(w),
        lambda: tile.update_outer(x, DY, 1.0),
        lambda: tile.update_outer(X, dy, 1.0),
    ):
        with pytest.raises(ShapeError, match="holds 1 NaN or infinite values"):
            refused()
    assert dict(ledger.calls) == before
    np.testing.assert_array_equal(tile.read(), W)


def test_large_finite_values_are_not_refused():
    # Their squares overflow float32, so that the quick test fails and every value is looked at.
    tile = Toy().program(np.full((2, 2), 1e30, np.float32), name="w")
    np.testing.assert_array_equal(tile.forward(np.zeros((1, 2), np.float32)), [[0, 0]])


@pytest.mark.parametrize("shape_only", [False, True])
def test_wrong_shapes_are_refused_before_a_charge(ledger, shape_only):
    def made(*shape):
        return Shape(*shape) if shape_only else np.ones(shape, np.float32)

    tile = Toy().program(made(4, 3), name="w", ledger=ledger)
    stack = Toy().program(made(2, 4, 3), name="stack", ledger=ledger)
    before = dict(ledger.calls)
    for refused, text in [
        (lambda: tile.forward(made(5, 3)), r"w: x has shape \(5, 3\), needs \[m, 4\]"),
        (lambda: tile.forward(made(4)), r"w: x has shape \(4,\), needs \[m, 4\]"),
        (lambda: tile.forward(made(2, 5, 4)), r"w: x has shape \(2, 5, 4\), needs \[m, 4\]"),
        (lambda: tile.backward(made(5, 4)), r"w: dy has shape \(5, 4\), needs \[m, 3\]"),
        (lambda: tile.gradient(made(5, 4), made(6, 3)), r"w: x has 5 rows, dy has 6; they need the same number"),
        (lambda: tile.update_outer(made(5, 4), made(6, 3), 1.0), r"w: x has 5 rows, dy has 6"),
        (lambda: tile.update(made(3, 4)), r"w: step has shape \(3, 4\), needs \(4, 3\)"),
        (lambda: stack.forward(made(5, 4)), r"stack: x has shape \(5, 4\), needs \[2, m, 4\]"),
        (lambda: stack.forward(made(3, 5, 4)), r"stack: x has shape \(3, 5, 4\), needs \[2, m, 4\]"),
        (lambda: stack.update(made(4, 3)), r"stack: step has shape \(4, 3\), needs \(2, 4, 3\)"),
    ]:
        with pytest.raises(ShapeError, match=text):
            refused()
    assert dict(ledger.calls) == before


def test_two_tiles_of_one_name_are_refused(ledger):
    device = Toy()
    device.program(W, name="w", ledger=ledger)
    with pytest.raises(DeviceError, match="toy already holds a tile called 'w' in this ledger; give it another name"):
        device.program(W, name="w", ledger=ledger)
    Toy().program(W, name="w", ledger=ledger)  # on another device, or in another ledger, the name is free
    device.program(W, name="w")
    assert len(ledger.tiles) == 2


def test_a_refused_tile_leaves_no_trace(ledger):
    class Picky(Free):
        def activity(self, op):
            return None if isinstance(op, Product) and op.kind is Kind.PROGRAM else super().activity(op)

    with pytest.raises(DeviceError, match=r"free does not do program .*, and no host can do it in its place"):
        Picky().program(W, name="w", ledger=ledger)
    assert not ledger.calls
    assert not ledger.tiles


# What is charged


def test_every_call_is_charged_once(ledger):
    tile = Toy().program(W, name="w", ledger=ledger)
    tile.forward(X)
    tile.forward(X, x_values=7)
    tile.backward(DY)
    tile.gradient(X, DY)
    tile.update(W)
    tile.read()
    tile.release(5)  # a Toy has nothing to release
    kinds = [(cell[3].kind, cell[3].m, cell[3].x_values, calls) for cell, calls in ledger.calls.items()]
    assert kinds == [
        (Kind.PROGRAM, 0, 0, 1),
        (Kind.FORWARD, 5, 0, 1),
        (Kind.FORWARD, 5, 7, 1),
        (Kind.BACKWARD, 5, 0, 1),
        (Kind.GRADIENT, 5, 0, 1),
        (Kind.UPDATE, 0, 0, 1),
        (Kind.READ, 0, 0, 1),
    ]
    assert ledger.tiles == {(tile.device, "w"): TileShape(1, 4, 3)}


def test_a_tile_keeps_its_own_copy_of_the_weights(ledger):
    w = W.copy()
    tile = Toy().program(w, name="w", ledger=ledger)
    w[:] = 0
    np.testing.assert_array_equal(tile.read(), W)
    tile.read()[:] = 0
    np.testing.assert_array_equal(tile.read(), W)
    step = np.ones_like(W)
    tile.update(step)
    np.testing.assert_array_equal(tile.read(), W + 1)
    np.testing.assert_array_equal(step, 1)


def test_products_are_those_of_numpy():
    tile = Toy().program(W, name="w")
    x, dy = np.arange(20, dtype=np.float32).reshape(5, 4), np.arange(15, dtype=np.float32).reshape(5, 3)
    np.testing.assert_array_equal(tile.forward(x), x @ W)
    np.testing.assert_array_equal(tile.backward(dy), dy @ W.T)
    np.testing.assert_array_equal(tile.gradient(x, dy), x.T @ dy)
    np.testing.assert_array_equal(tile.gradient(x[:1], dy[:1]), x[:1].T @ dy[:1])
    tile.update_outer(x, dy, -0.5)
    np.testing.assert_array_equal(tile.read(), W - 0.5 * (x.T @ dy))


def test_shapes_alone_come_back_as_shapes(ledger):
    class Untouchable(Toy):
        def write(self, tile, w):
            raise AssertionError("a hook was called")

        forward = backward = gradient = update = update_outer = release = read = write

    tile = Untouchable().program(Shape(2, 4, 3), name="w", ledger=ledger)
    assert tile.forward(Shape(2, 5, 4)).shape == (2, 5, 3)
    assert tile.backward(Shape(2, 5, 3)).shape == (2, 5, 4)
    assert tile.gradient(Shape(2, 5, 4), Shape(2, 5, 3)).shape == (2, 4, 3)
    assert tile.read().shape == (2, 4, 3)
    assert tile.update(Shape(2, 4, 3)) is None
    assert tile.update_outer(Shape(2, 5, 4), Shape(2, 5, 3), 0.1) is None
    tile.release(5)
    assert tile.state == {}


def test_recording_counts_belongs_inside_a_hook(ledger):
    tile = StatefulCrossbar().program(W, name="w", ledger=ledger)
    tile.forward(X)
    with pytest.raises(DeviceError, match="w: record\\(\\) belongs inside a hook"):
        tile.record(cell=1)
    own = LearnedAbsorber().activation(3, name="own", ledger=ledger)
    with pytest.raises(DeviceError, match="own: record\\(\\) belongs inside a hook"):
        own.record(absorber=1)


def test_recording_for_no_component_of_the_device_is_refused(ledger):
    class Misspelt(StatefulCrossbar):
        def forward(self, tile, x):
            tile.record(sell=1)
            return x @ self.read(tile)

    tile = Misspelt().program(W, name="w", ledger=ledger)
    with pytest.raises(PluginError, match=r"stateful-crossbar: record\(\) names \['sell'\], which are no components"):
        tile.forward(X)


def test_recorded_counts_add_up_in_the_hosts_name_too(ledger):
    class Counting(Toy):
        def gradient(self, tile, x, dy):
            tile.record(flop=np.asarray(7))
            return super().gradient(tile, x, dy)

    host = Counting()
    tile = Free(host=host).program(W, name="w", ledger=ledger)
    for _ in range(2):
        tile.gradient(X, DY)
    assert ledger.actual == {("", Phase.SETUP, host, Product(Kind.GRADIENT, 5, 4, 3)): {"flop": 14}}


# Noise


def test_streams_are_keyed_by_seed_name_and_stream():
    def first(seed, name, stream):
        return StatefulCrossbar(seed=seed).program(W, name=name).rng(stream).random()

    values = [first(*key) for key in [(0, "a", "s"), (1, "a", "s"), (0, "b", "s"), (0, "a", "t")]]
    assert len(set(values)) == 4
    assert first(0, "a", "s") == values[0]


def test_a_stream_goes_on_and_starts_again_where_it_was_saved(ledger):
    tile = StatefulCrossbar().program(W, name="w", ledger=ledger)
    tile.rng("s").random()
    saved = tile.save()
    drawn = [tile.rng("s").random() for _ in range(3)]
    assert len(set(drawn)) == 3
    tile.load(saved)
    assert [tile.rng("s").random() for _ in range(3)] == drawn


def test_evaluation_draws_from_a_stream_of_its_own(ledger):
    tile = StatefulCrossbar().program(W, name="w", ledger=ledger)
    with ledger.scope(phase=Phase.FORWARD):
        undisturbed = [tile.rng("s").random() for _ in range(2)]
    other = StatefulCrossbar().program(W, name="w", ledger=Ledger())
    with other.ledger.scope(phase=Phase.FORWARD):
        drawn = [other.rng("s").random()]
    with other.ledger.scope(phase=Phase.EVALUATE):
        evaluation = other.rng("s").random()
    with other.ledger.scope(phase=Phase.FORWARD):
        drawn.append(other.rng("s").random())
    assert drawn == undisturbed
    assert evaluation not in drawn


# Keeping


def test_saved_state_is_arrays_and_integers_and_a_copy(ledger):
    tile = StatefulCrossbar().program(W, name="w", ledger=ledger)
    tile.forward(X)
    saved = tile.save()
    assert all(isinstance(value, np.ndarray | int) for value in saved.values())
    assert saved["drawn/forward"] == 1
    before = saved["state/plus"].copy()
    tile.update_outer(X, DY, 1.0)
    np.testing.assert_array_equal(saved["state/plus"], before)
    tile.load(saved)
    np.testing.assert_array_equal(tile.state["plus"], before)
    tile.update_outer(X, DY, 1.0)
    np.testing.assert_array_equal(saved["state/plus"], before)


def test_loading_replaces_everything(ledger):
    tile = StatefulCrossbar().program(W, name="w", ledger=ledger)
    saved = tile.save()
    tile.state["more"] = np.ones(1)
    tile.rng("more")
    tile.load(saved)
    assert "more" not in tile.state
    assert "more" not in tile.drawn


def test_a_number_in_the_state_comes_back_as_the_same_kind_of_number():
    # A Python float leaves float32 arrays float32; as a 0-d float64 array it would turn them into float64.
    tile = Toy().program(W, name="w")
    tile.state |= {"gain": 0.1, "count": 3, "on": True, "offset": np.float32(0.1), "level": np.asarray(2.0)}
    other = Toy().program(W, name="w")
    other.load(tile.save())
    for key in ("gain", "count", "on"):
        assert type(other.state[key]) is type(tile.state[key])
        assert other.state[key] == tile.state[key]
    for key in ("offset", "level"):
        assert other.state[key].dtype == tile.state[key].dtype
        assert other.state[key] == tile.state[key]
    assert (X * other.state["gain"]).dtype == np.float32


# Activations


def test_a_substrates_own_activation(ledger):
    device = LearnedAbsorber(depth=2.0)
    own = device.activation(3, name="own", ledger=ledger)
    x = np.array([[0.0, 1.0, 3.0]], np.float32)
    y, saved = own.forward(x)
    np.testing.assert_allclose(y, x * np.exp(-1.0 / (1 + x * x)), rtol=1e-6)
    dx, gradients = own.backward(saved, np.ones_like(x))
    assert dx.shape == x.shape
    assert {name: gradient.shape for name, gradient in gradients.items()} == {"depth": (3,)}
    own.update({"depth": np.full(3, 0.5, np.float32)})
    np.testing.assert_array_equal(own.state["depth"], 2.5)
    assert [cell[3] for cell in ledger.calls] == [
        Elementwise("device", 3, 0, 0, 0),
        Elementwise("device_backward", 3, 0, 0, 0),
    ]
    assert ledger.tiles == {(device, "own"): TileShape(1, 0, 3)}


def test_an_activation_refuses_wrong_shapes_nan_and_a_second_of_its_name(ledger):
    device = LearnedAbsorber()
    own = device.activation(3, name="own", ledger=ledger)
    with pytest.raises(ShapeError, match=r"own: got shape \(1, 4\), needs \[..., 3\]"):
        own.forward(np.zeros((1, 4), np.float32))
    with pytest.raises(ShapeError, match="own: got NaN or infinite values"):
        own.forward(np.full((1, 3), np.nan, np.float32))
    with pytest.raises(DeviceError, match="already holds a tile called 'own'"):
        device.activation(3, name="own", ledger=ledger)
    assert not ledger.calls


def test_a_device_without_an_activation_of_its_own(ledger):
    with pytest.raises(DeviceError, match="has no activation of its own; name one such as 'relu'"):
        StatefulCrossbar().activation(3, name="own", ledger=ledger)
    assert not ledger.tiles


def test_an_activation_in_shapes_alone_declares_its_gradients(ledger):
    own = LearnedAbsorber().activation(3, name="own", ledger=ledger, shape_only=True)
    y, saved = own.forward(Shape(5, 3))
    dx, gradients = own.backward(saved, Shape(5, 3))
    assert (y.shape, dx.shape) == ((5, 3), (5, 3))
    assert {name: gradient.shape for name, gradient in gradients.items()} == {"depth": (3,)}
    assert own.state == {}


# Who does it


def test_only_gradients_products_and_elementwise_work_go_to_the_host():
    device = Free()
    assert device.who(Product(Kind.FORWARD, 1, 2, 3)) is device
    for op in (Product(Kind.GRADIENT, 1, 2, 3), Product(Kind.PRODUCT, 1, 2, 3), Elementwise("relu", 1, 1, 4, 4)):
        assert device.who(op) is HOST
    for kind in (Kind.UPDATE_OUTER, Kind.RELEASE):
        with pytest.raises(DeviceError, match=f"free does not do {kind} .*, and no host can do it in its place"):
            device.who(Product(kind, 1, 2, 3))
    with pytest.raises(DeviceError, match="free has no activation of its own; name one such as 'relu'"):
        device.who(Elementwise("device", 1, 0, 0, 0))


def test_a_host_may_have_a_host():
    class Middle(Free):
        name = "middle"

    assert Free(host=Middle()).who(Elementwise("relu", 1, 1, 4, 4)) is HOST
    with pytest.raises(DeviceError, match=r"neither free:host=middle.* nor a host of it does Elementwise"):
        Free(host=Middle(host=None)).who(Elementwise("relu", 1, 1, 4, 4))


def test_a_class_body_sets_the_host():
    class Alone(Free):
        host = None

    assert Alone().host is None
    assert Alone().host_device is None
    assert Alone(host=HOST).host_device is HOST
    assert Free().host_device is HOST

    class Bare(Device):
        name = "bare"

        def activity(self, op):
            return {}

    assert Bare().host == "digital"
    assert Bare(host="none").host is None


def test_activity_must_name_components_of_the_device():
    class Stray(Free):
        def activity(self, op):
            return {"pump": Use(1)}

    with pytest.raises(PluginError, match=r"free: activity\(\) names 'pump', which is no component of it"):
        Stray().program(W, name="w")


def test_activity_is_asked_once_per_operation():
    asked = []

    class Asked(Free):
        def activity(self, op):
            asked.append(op)
            return super().activity(op)

    device = Asked()
    for name in "ab":
        tile = device.program(W, name=name)
        for _ in range(3):
            tile.forward(X)
    assert len(asked) == len(set(asked)) == 2


def test_a_device_that_answers_in_place_must_do_it():
    class Promises(Free):
        def activity(self, op):
            return {} if isinstance(op, Product) and op.kind is Kind.UPDATE_OUTER else super().activity(op)

    with pytest.raises(DeviceError, match="free answers UPDATE_OUTER but does not define update_outer"):
        Promises().program(W, name="w").update_outer(X, DY, 1.0)


def test_a_device_needs_activity_alone():
    with pytest.raises(TypeError, match="activity"):
        Device()
    assert Free().components == {}
    assert Free().installed([]) == {}


# Parameters


class Parametrised(Free):
    """One parameter of each type."""

    name = "parametrised"

    count: int = parameter(3, low=1, high=10, unit="cells", doc="a count")
    ratio: float = parameter(0.5, low=0, high=1, doc="a ratio")
    exact: bool = parameter(False, doc="a switch")
    mode: str = parameter("plain", choices=("plain", "fancy"), doc="a choice")
    power_w: Quantity = parameter(Quantity(1.0, 2.0, 3.0, key="p"), unit="W", low=0.5, doc="an uncertain value")
    limit: float | None = parameter(None, low=0, doc="a limit, or none")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "7", 7),
        ("count", "1e1", 10),
        ("count", 4.0, 4),
        ("ratio", "0.25", 0.25),
        ("ratio", 1, 1.0),
        ("exact", "true", True),
        ("exact", "FALSE", False),
        ("exact", "1", True),
        ("exact", 0, False),
        ("mode", "fancy", "fancy"),
        ("limit", "none", None),
        ("limit", "None", None),
        ("limit", None, None),
        ("limit", "2.5", 2.5),
        ("seed", "12", 12),
        ("host", "none", None),
    ],
)
def test_parameters_are_read_from_text(name, text, value):
    found = getattr(Parametrised(**{name: text}), name)
    assert found == value
    assert type(found) is type(value)


def test_a_quantity_is_read_from_text():
    found = Parametrised(power_w="4").power_w
    assert (found.low, found.nominal, found.high, found.certainty) == (4.0, 4.0, 4.0, Certainty.ASSUMED)
    quantity = Quantity(1.0, 2.0, 4.0, key="mine")
    assert Parametrised(power_w=quantity).power_w is quantity
    assert Parametrised(power_cap_w="300").power_cap_w.nominal == 300
    assert Parametrised().power_w.key == "p"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("count", "0", "needs a finite value from 1 to 10 cells"),
        ("count", 11, "needs a finite value from 1 to 10 cells"),
        ("count", "2.5", "cannot be read as int: not a whole number"),
        ("count", "many", "cannot be read as int"),
        ("count", "inf", "cannot be read as int"),
        ("count", None, "a value is needed"),
        ("ratio", "1.01", "needs a finite value from 0 to 1"),
        ("ratio", "nan", "needs a finite value"),
        ("ratio", "half", "cannot be read as float"),
        ("exact", "perhaps", "cannot be read as bool"),
        ("mode", "odd", "needs one of plain, fancy"),
        ("mode", 3, "cannot be read as str"),
        ("power_w", "0.1", "needs a finite value from 0.5 to inf W"),
        ("power_w", "-1", "cannot be read as Quantity|needs a finite value"),
        ("power_w", "nan", "cannot be read as Quantity|needs a finite value"),
        ("power_w", Quantity(0.1, 0.2, 0.3), "needs a finite value from 0.5 to inf W"),
        ("limit", "-1", "needs a finite value from 0"),
        ("seed", "-1", "needs a finite value from 0"),
    ],
)
def test_parameters_that_are_refused(name, value, text):
    with pytest.raises(DeviceError, match=rf"parametrised: {name}=.*({text})"):
        Parametrised(**{name: value})


def test_an_unknown_parameter_lists_the_known_ones_with_their_units():
    with pytest.raises(DeviceError) as caught:
        Parametrised.create(None, {"cuont": 3})
    text = str(caught.value)
    assert "device 'parametrised' has no parameter 'cuont'; it has: " in text
    listed = text.partition("it has: ")[2].split(", ")
    assert listed[:3] == ["array", "count [cells]", "exact"]
    assert {"power_w [W]", "power_cap_w [W]", "seed", "host", "limit"} < set(listed)


def test_a_parameter_without_default_is_required():
    class Needy(Parametrised):
        area: float = parameter(unit="mm2", doc="no number is known")

    with pytest.raises(DeviceError, match=r"device 'parametrised' needs area \(no default is known\)"):
        Needy.create(None, {})
    assert Needy.create(None, {"area": "3"}).area == 3.0
    with pytest.raises(TypeError, match="area"):
        Needy()


def test_what_does_not_fit_together_is_refused():
    class Checked(Parametrised):
        def check(self):
            if self.limit is not None and self.limit > self.count:
                raise DeviceError("limit above count")

    Checked(limit=3)
    with pytest.raises(DeviceError, match="limit above count"):
        Checked(limit=4)


PRESETS = """
[small]
doc = "a small one"
count = 2
mode = "fancy"
power_w = { low = 1.5, nominal = 2.5, high = 4.5, unit = "W", source = "a data sheet", certainty = "read" }

[large]
base = "small"
doc = "a large one"
count = 9
"""


@pytest.fixture
def with_presets(tmp_path):
    path = tmp_path / "presets.toml"
    path.write_text(PRESETS)

    class WithPresets(Parametrised):
        presets_path = path
        default_preset = "small"

    return WithPresets


def test_presets_come_from_a_file(with_presets):
    small, large = with_presets.create("small", {}), with_presets.create("large", {"mode": "plain"})
    assert (small.count, small.mode, small.power_w.nominal) == (2, "fancy", 2.5)
    assert (small.power_w.source, small.power_w.certainty) == ("a data sheet", Certainty.READ)
    assert (large.count, large.mode, large.power_w.key) == (9, "plain", small.power_w.key)
    assert with_presets.create(None, {}).count == 2
    with pytest.raises(
        DeviceError, match="no preset of 'parametrised' called 'smal'; installed: large, small; did you mean 'small'"
    ):
        with_presets.create("smal", {})


def test_a_preset_of_a_parameter_that_there_is_not_is_refused(tmp_path):
    path = tmp_path / "presets.toml"
    path.write_text('[odd]\ndoc = "odd"\ncuont = 2\n')

    class Odd(Parametrised):
        presets_path = path

    with pytest.raises(DeviceError, match=r"preset 'odd'.* no parameter 'cuont'; it has: array"):
        Odd.create("odd", {})


def test_the_spec_string_makes_the_device(with_presets):
    assert Parametrised().spec == "parametrised"
    assert Parametrised(count=4, mode="fancy").spec == "parametrised:count=4:mode=fancy"
    assert Parametrised(power_w=4).spec == "parametrised:power_w=4"
    assert Parametrised(host=None).spec == "parametrised:host=none"
    assert with_presets.create("large", {"ratio": "0.25"}).spec == "parametrised:large:ratio=0.25"
    for device in (Parametrised(count=4, exact=True, limit=0.125, host=None), Parametrised(ratio=1 / 3, host=None)):
        name, preset, parameters = registry.parse_device(device.spec)
        again = Parametrised.create(preset, parameters, text=name)
        assert again.spec == device.spec
        for field in dataclasses.fields(device):
            assert getattr(again, field.name) == getattr(device, field.name), field.name


def test_a_bare_number_for_a_quantity_may_be_its_default():
    class Bare(Free):
        power_w: Quantity = parameter(2, unit="W", doc="given as a bare number")

    assert Bare().power_w == Quantity.of(2)
    assert Bare().spec == "free"
    assert Bare(power_w=2.0).spec == "free"


def test_the_spec_of_a_small_difference_tells_devices_apart():
    value = 1.23456789012345
    name, preset, parameters = registry.parse_device(Parametrised(power_w=value).spec)
    assert Parametrised.create(preset, parameters, text=name).power_w.nominal == value


def test_devices_are_immutable_and_hashed_by_identity():
    one, other = Parametrised(), Parametrised()
    assert one != other
    assert len({one, other}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.count = 4
    with pytest.raises(TypeError, match="positional"):
        Parametrised(3)
    assert repr(one) == "<parametrised>"


def test_devices_survive_pickling_and_replacing(with_presets):
    for device in (StatefulCrossbar(seed=3, spread=0.1, moved_by="verify"), Leapfrog(fraction_bits=10)):
        device.program(W, name="w").forward(X)  # fill what it caches
        again = pickle.loads(pickle.dumps(device))
        assert type(again) is type(device)
        assert again.spec == device.spec
        for field in dataclasses.fields(device):
            if field.name != "host":
                assert getattr(again, field.name) == getattr(device, field.name)
        np.testing.assert_array_equal(
            again.program(W, name="w").forward(X), dataclasses.replace(device).program(W, name="w").forward(X)
        )
    changed = dataclasses.replace(StatefulCrossbar(seed=3), spread=0.0)
    assert (changed.seed, changed.spread) == (3, 0.0)
    assert changed.spec == "stateful-crossbar:seed=3:spread=0.0"
    with pytest.raises(DeviceError, match="seed=-1"):
        dataclasses.replace(changed, seed=-1)


def test_the_array_library_is_a_name():
    assert Toy().xp is np
    with pytest.raises(ConfigError, match="no array library 'torch'; known: cupy, numpy"):
        _ = Toy(array="torch").xp


def test_arrays_take_the_working_type_and_integers_stay():
    assert Toy().asarray([1.5]).dtype == np.float32
    assert Toy(precision="fp64").asarray(np.ones(2, np.float32)).dtype == np.float64
    assert Toy().asarray(np.array([1, 2])).dtype.kind == "i"
    assert Toy().asarray(np.array([True])).dtype == bool
    shape = Shape(2, 3)
    assert Toy().asarray(shape) is shape


def test_a_component_of_a_device_is_one_unit():
    assert all(isinstance(component, Component) for component in StatefulCrossbar().components.values())
    assert StatefulCrossbar().installed([TileShape(2, 65, 64)]) == {"adc": 2 * 2 * 8}  # 2 stacks of 2 arrays of 64 / 8

"""Networks: a model is a function of (net, x); a Network is that model placed on devices.

A model asks the network for what it needs by name, and the same lines run on arrays and on shapes alone:

    def two_layers(net, x):
        x = dense(net, "fc1", x, 32, activation="relu")
        return dense(net, "fc2", x, 10)
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from hwsim import ops
from hwsim.arrays import Array, Shape, generator, key_of, to_host
from hwsim.cost import Phase
from hwsim.device import Device
from hwsim.errors import ConfigError, PluginError, ShapeError
from hwsim.initial import Initial as Initial  # what a model starts from is asked for here
from hwsim.initial import glorot_normal as glorot_normal
from hwsim.initial import he_normal as he_normal
from hwsim.initial import ones as ones
from hwsim.initial import uniform as uniform
from hwsim.initial import zeros as zeros
from hwsim.ledger import Ledger
from hwsim.tape import HostOp, Parameter, Sink, Tape, Value
from hwsim.tile import Activation, Tile

MOST_PLACED = 50_000  # tiles and parameters: a transformer of a thousand layers has a third of that
LARGEST_SIZE = 2**63 - 1  # of an axis: what an int64 holds
BYTES = 8  # of a weight and its gradient in float32, which are there at once


class Model(Protocol):
    """What a network can be built from: a function of a network and its input that says its input's shape."""

    @property
    def input_shape(self) -> tuple[int, ...]: ...
    def __call__(self, net: Network, x: Value) -> Value: ...


class _Layer:
    """Names the present layer for a while."""

    __slots__ = ("name", "net", "saved")

    def __init__(self, net: Network, name: str) -> None:
        self.net, self.name = net, name

    def __enter__(self) -> None:
        net = self.net
        self.saved = net.path, net.tape.ledger.layer
        net.path = net.tape.ledger.layer = f"{net.path}.{self.name}" if net.path else self.name

    def __exit__(self, *error: object) -> None:
        self.net.path, self.net.tape.ledger.layer = self.saved


class _Declared(NamedTuple):
    """What a model asked for under one name."""

    layer: str
    kind: str  # tile, parameter or activation
    shape: tuple[int, ...]
    initial: Initial | None


class Network:
    """A model placed on devices: its tiles, host parameters and activations, its ledger and its tape.

    `devices`: one device, or by layer name with "*" for all others. `frozen`: layers that are not trained. `values`:
    arrays by name to start from, of all tiles and host parameters (None: the model's initial values, by `seed`).
    Raises ShapeError or ConfigError where the model does not fit, before anything is charged.
    """

    def __init__(
        self,
        model: Model,
        devices: Device | Mapping[str, Device],
        *,
        ledger: Ledger | None = None,
        seed: int = 0,
        shape_only: bool = False,
        frozen: Collection[str] = (),
        values: Mapping[str, Array] | None = None,
    ) -> None:
        self.model = model
        self.devices = {"*": devices} if isinstance(devices, Device) else dict(devices)
        self.seed = seed
        self.shape_only = shape_only
        self.placed: dict[str, Tile | Parameter | Activation] = {}
        self.path = ""  # the present layer, enclosing layers first, joined by dots
        self._by_layer: dict[str, Device] = {}
        self._declared: dict[str, _Declared] | None = {}
        self.tape = Tape(Ledger())
        self.frozen: frozenset[str] = frozenset()

        # A dry pass over shapes finds out what the model needs, so that it is all programmed before training.
        self.forward(Shape(1, *model.input_shape))
        declared, self._declared = self._declared or {}, None
        layers = self.layers
        known = {"*", *(enclosing for layer in layers for enclosing in enclosing_layers(layer))}
        for named, what in ((set(frozen), "freeze"), (set(self.devices), "place")):
            if named - known:
                raise ConfigError(f"no layer {sorted(named - known)} to {what}; the network has: {', '.join(layers)}")
        asked_for = {name: asked.shape for name, asked in declared.items() if asked.kind != "activation"}
        given = asked_for if values is None else {name: tuple(value.shape) for name, value in values.items()}
        if given != asked_for:
            raise ConfigError(f"values of shapes {given} to start from; the network needs {asked_for}")
        if not shape_only:
            require_memory(asked_for.values())
        self.frozen = frozenset(layer for layer in layers if not set(enclosing_layers(layer)).isdisjoint(frozen))
        self.ledger = ledger if ledger is not None else Ledger()
        self.tape = Tape(self.ledger)
        self.placed = {}
        with self.ledger.scope(phase=Phase.SETUP):
            for name, asked in declared.items():
                start = None if values is None else values.get(name)
                self.placed[name] = self._place(name, asked, shape_only, start)

    # -- for models ----------------------------------------------------------------------------------------

    def layer(self, name: str) -> _Layer:
        """A context in which everything belongs to the layer `name` (nested names are joined by dots)."""
        return _Layer(self, name)

    @property
    def device(self) -> Device:
        """The device of the present layer: its own, its nearest enclosing layer's, or that of "*"."""
        found = self._by_layer.get(self.path)
        if found is None:
            found = self._by_layer[self.path] = self._device_of(self.path)
        return found

    def _device_of(self, layer: str) -> Device:
        enclosing = layer
        while enclosing:
            if enclosing in self.devices:
                return self.devices[enclosing]
            enclosing = enclosing.rpartition(".")[0]
        try:
            return self.devices["*"]
        except KeyError:
            raise ConfigError(f"no device for layer {layer!r}; name one for it, or one for '*', all others") from None

    def tile(self, name: str, shape: tuple[int, ...], initial: Initial) -> Tile:
        """The tile [..., k, n] called `name` in the present layer."""
        return self._get(name, "tile", shape, initial)  # type: ignore[no-any-return]

    def parameter(self, name: str, shape: tuple[int, ...], initial: Initial) -> Value:
        """The host array called `name` in the present layer, as a value."""
        parameter = self._get(name, "parameter", shape, initial)
        return Value(parameter.data, parameter.device, self.trained and self.tape.sink is not None, parameter)

    @property
    def trained(self) -> bool:
        """Whether the present layer is trained."""
        return self.path not in self.frozen

    def linear(self, tile: Tile, x: Value) -> Value:
        """x [..., k] -> x w [..., n]."""
        return self.tape.linear(tile, self.here(x), trained=self.trained)

    def linear_transposed(self, tile: Tile, x: Value) -> Value:
        """x [..., n] -> x w' [..., k], through the same tile from the other side."""
        return self.tape.linear_transposed(tile, self.here(x), trained=self.trained)

    def product(self, a: Value, b: Value) -> Value:
        """a [..., m, k] @ b [..., k, n], where both change; done where the first is."""
        return self.tape.product(a, self.tape.move(b, a.device))

    def apply(self, op: HostOp, *inputs: Value) -> Value:
        """An operation on values, done where the first is; see hwsim.ops."""
        device = inputs[0].device
        for value in inputs[1:]:
            if value.device is not device:
                inputs = tuple(self.tape.move(value, device) for value in inputs)
                break
        return self.tape.host(op, *inputs)

    def activate(self, name: str | None, x: Value) -> Value:
        """The activation `name` of x: one of hwsim.ops, "device" for the substrate's own, None for none."""
        if name is None:
            return x
        if name == "device":
            own: Activation = self._get("activation", "activation", (x.shape[-1],), None)
            return self.tape.activation(own, self.here(x), trained=self.trained)
        return self.apply(ops.activation(name), x)

    def constant(self, data: Array, device: Device | None = None) -> Value:
        """An array that no gradient is wanted of."""
        device = device or self.device
        return Value(data if isinstance(data, Shape) else device.asarray(data), device, False)

    def here(self, x: Value) -> Value:
        """x on the device of the present layer."""
        return self.tape.move(x, self.device)

    # -- for learning rules --------------------------------------------------------------------------------

    def forward(self, x: Array, sink: Sink | None = None) -> Value:
        """The model's output for x [m, ...]; with a sink, gradients can be sent back to it."""
        needed = self.model.input_shape
        if tuple(x.shape[1:]) != needed:
            raise ShapeError(f"input has shape {tuple(x.shape)}, the network needs [m, {', '.join(map(str, needed))}]")
        self.tape.sink = sink
        # The input arrives on the device of "*", or without one where the first layer needs it.
        first = self.devices.get("*") or next((item.device for item in self.placed.values()), None)
        first = first or next(iter(self.devices.values()))
        return self.model(self, self.constant(x, first))

    def predict(self, x: Array) -> Array:
        """The model's output for x [m, ...] as a host array; charged to the evaluation phase."""
        with self.ledger.scope(phase=Phase.EVALUATE):
            try:
                y = self.forward(x).data
            finally:
                self.tape.release()
        return y if isinstance(y, Shape) else to_host(y)

    def drift(self, time_s: float) -> None:
        """Let all tiles become what they are `time_s` [s] after they were last programmed or moved (see Tile.drift).

        What devices read to compensate is charged to the evaluation phase.
        """
        for name, item in self.placed.items():
            if isinstance(item, Tile):
                with self.ledger.scope(layer=name.rpartition("/")[0], phase=Phase.EVALUATE):
                    item.drift(time_s)

    def wear(self) -> dict[str, dict[str, float]]:
        """What use has left on tiles, by layer (see Device.wear); tile by tile, such as "mix/qkv", where one has more.

        Without arrays there is none. Raises PluginError where a device says what is no finite number.
        """
        tiles = {name: item for name, item in self.placed.items() if isinstance(item, Tile) and not item.shape_only}
        layers, worn = [name.rpartition("/")[0] for name in tiles], {}
        for layer, (name, tile) in zip(layers, tiles.items(), strict=True):
            found = {what: float(value) for what, value in tile.device.wear(tile).items()}
            if not all(map(math.isfinite, found.values())):
                raise PluginError(f"{tile.device.spec}: wear() of {name} says {found}; needs finite numbers")
            if found:
                worn[layer if layers.count(layer) == 1 else name] = found
        return worn

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of layers that hold something to train, in order of first use."""
        return tuple(dict.fromkeys(name.rpartition("/")[0] for name in self.placed))

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained, frozen layers aside."""
        count = 0
        for name, item in self.placed.items():
            if name.rpartition("/")[0] not in self.frozen and not isinstance(item, Activation):
                count += math.prod(item.shape if isinstance(item, Tile) else item.data.shape)
        return count

    def require_finite(self) -> None:
        """Refuse what entered a tile since the last call and was not finite, where that was not looked at yet."""
        for item in self.placed.values():
            if isinstance(item, Tile):
                item.require_finite()

    def save(self) -> dict[str, Any]:
        """All state as host arrays and integers, by name."""
        saved: dict[str, Any] = {}
        for name, item in self.placed.items():
            state = {"data": to_host(item.data).copy()} if isinstance(item, Parameter) else item.save()
            saved |= {f"{name}:{key}": value for key, value in state.items()}
        return saved

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take over what `save` returned. Raises ConfigError where it belongs to another network."""
        by_name: dict[str, dict[str, Any]] = {name: {} for name in self.placed}
        for key, value in saved.items():
            name, _, rest = key.partition(":")
            if name not in by_name:
                raise ConfigError(f"the saved network has {name!r}, this one has: {', '.join(self.placed)}")
            by_name[name][rest] = value
        for name, item in self.placed.items():
            self._require_same(name, item, by_name[name])
        for name, item in self.placed.items():
            if isinstance(item, Parameter):
                item.data = item.device.asarray(by_name[name]["data"].copy())
            else:
                item.load(by_name[name])

    # -- inside --------------------------------------------------------------------------------------------

    def _require_same(self, name: str, item: Tile | Parameter | Activation, saved: Mapping[str, Any]) -> None:
        """Refuse saved state of something else with a ConfigError, before anything is overwritten.

        What a device adds while it is used, and streams that are drawn from later, may be there too.
        """
        now = {"data": item.data} if isinstance(item, Parameter) else item.save()
        if now and not saved:
            raise ConfigError(f"the saved network lacks {name!r}; it is another network's")
        for key, value in now.items():
            if key not in saved:
                raise ConfigError(f"the saved network lacks {key!r} of {name!r}")
            (shape, kind), (saved_shape, saved_kind) = shape_and_type(value), shape_and_type(saved[key])
            if shape != saved_shape:
                raise ConfigError(f"{name!r} was saved with shape {saved_shape}, this network's has {shape}")
            if kind != saved_kind:
                raise ConfigError(f"{key!r} of {name!r} was saved as {saved_kind}, this network's is {kind}")
        for key, value in saved.items():
            if key.startswith("drawn/") and not int(value) >= 0:
                raise ConfigError(f"{key!r} of {name!r} was saved as {value!r}; needs a number of draws")
        if isinstance(item, Parameter) and len(saved) > 1:
            raise ConfigError(f"{name!r} was saved with {', '.join(saved)}, this network's has data alone")

    def _get(self, name: str, kind: str, shape: tuple[int, ...], initial: Initial | None) -> Any:
        layer = self.path
        full = f"{layer}/{name}"
        item = self.placed.get(full)
        if item is None:
            if self._declared is None:
                raise ConfigError(f"the model asks for {full!r}, which it did not ask for when it was placed")
            if len(self._declared) == MOST_PLACED:
                raise ConfigError(f"the model has more than {MOST_PLACED} tiles and parameters; take fewer layers")
            if max(shape, default=0) > LARGEST_SIZE:
                raise ConfigError(f"{full!r} has a side of more than {LARGEST_SIZE}; take a smaller network")
            asked = self._declared[full] = _Declared(layer, kind, shape, initial)
            item = self.placed[full] = self._place(full, asked, shape_only=True)
        return item

    def _place(self, name: str, asked: _Declared, shape_only: bool, start: Array = None) -> Any:
        ledger = self.tape.ledger
        device = self._device_of(asked.layer)
        with ledger.scope(layer=asked.layer):
            if asked.kind == "activation":
                return device.activation(asked.shape[-1], name=name, ledger=ledger, shape_only=shape_only)
            data: Array = Shape(*asked.shape) if shape_only else start
            if data is None and asked.initial is not None:
                # By name: another layer more or less changes the start of no other, and every device starts alike.
                data = asked.initial(generator(np, key_of("initial", self.seed, name)), asked.shape)
            if asked.kind == "tile":
                return device.program(data, name=name, ledger=ledger)
            return Parameter(name, asked.layer, device, data if shape_only else device.asarray(data).copy(), ledger)


def require_memory(shapes: Iterable[tuple[int, ...]]) -> None:
    """Refuse arrays that this machine's memory cannot hold, with a ConfigError.

    Systems that do not tell how much there is (Windows) do not promise more either: there the allocation fails.
    """
    needed = BYTES * sum(map(math.prod, shapes))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
    if needed > there:
        raise ConfigError(
            f"the network's weights and gradients take {needed / 1e9:.3g} GB, and this machine has {there / 1e9:.3g} "
            "GB of memory; take a smaller network, or cost it from shapes alone"
        )


def shape_and_type(value: Any) -> tuple[tuple[int, ...], str]:
    """Of an array, which stays on its card, or of a number as NumPy keeps it."""
    array = value if hasattr(value, "dtype") else np.asarray(value)
    return tuple(array.shape), str(array.dtype)


def enclosing_layers(layer: str) -> list[str]:
    """The layer itself and those around it, the outermost first: a, a.b, a.b.c."""
    parts = layer.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


# -- layers: functions of (net, name, x, ...) --------------------------------------------------------------


def dense(
    net: Network,
    name: str,
    x: Value,
    n: int,
    *,
    activation: str | None = None,
    bias: bool = True,
    initial: Initial | None = None,
    bias_initial: Initial = zeros,
) -> Value:
    """x [..., k] -> activation(x w + b) [..., n]. Weights start He-normal before a ReLU, else Glorot-normal."""
    with net.layer(name):
        initial = initial or (he_normal if activation == "relu" else glorot_normal)
        y = net.linear(net.tile("w", (x.shape[-1], n), initial), x)
        if bias:
            y = net.apply(ops.bias_add, y, net.parameter("b", (n,), bias_initial))
        return net.activate(activation, y)


def layer_norm(net: Network, name: str, x: Value) -> Value:
    """x [..., n] normalised over its last axis, with a trained gain and bias."""
    with net.layer(name):
        n = x.shape[-1]
        gain, bias = net.parameter("gain", (n,), ones), net.parameter("bias", (n,), zeros)
        return net.apply(ops.layer_norm(), net.here(x), gain, bias)


def embed(net: Network, name: str, ids: Value, vocabulary: int, n: int) -> Value:
    """Token ids [batch, length] -> rows [batch, length, n] of a trained table that the host holds."""
    with net.layer(name):
        table = net.parameter("table", (vocabulary, n), lambda rng, shape: 0.02 * rng.standard_normal(shape))
        return net.apply(ops.embedding((vocabulary, n)), table, net.here(ids))


def attention(net: Network, name: str, x: Value, heads: int) -> Value:
    """Causal multi-head self-attention: x [batch, length, n] -> [batch, length, n]. Source: Vaswani et al. 2017."""
    length, n = x.shape[1:]
    if n % heads:
        raise ConfigError(f"layer {name!r}: width {n} does not divide into {heads} heads")
    width = n // heads

    def by_head(value: Value, axes: tuple[int, ...]) -> Value:
        split = net.apply(ops.reshape((-1, length, heads, width)), value)
        turned = net.apply(ops.transpose(axes), split)
        last = (length, width) if axes[-1] == 3 else (width, length)
        return net.apply(ops.reshape((-1, *last)), turned)

    with net.layer(name):
        joint = net.linear(net.tile("qkv", (n, 3 * n), glorot_normal), x)
        q, k, v = (net.apply(ops.part(i, 3), joint) for i in range(3))
        q = net.apply(ops.scaled(1 / math.sqrt(width)), q)
        scores = net.product(by_head(q, (0, 2, 1, 3)), by_head(k, (0, 2, 3, 1)))  # [batch * heads, length, length]
        scores = net.apply(ops.causal_mask(length), scores)
        mixed = net.product(net.apply(ops.softmax, scores), by_head(v, (0, 2, 1, 3)))
        mixed = net.apply(ops.reshape((-1, heads, length, width)), mixed)
        mixed = net.apply(ops.reshape((-1, length, n)), net.apply(ops.transpose((0, 2, 1, 3)), mixed))
        return net.linear(net.tile("out", (n, n), glorot_normal), mixed)


def recurrent(net: Network, name: str, x: Value, n: int) -> Value:
    """Elman network: x [batch, length, k] -> hidden states [batch, length, n], h_t = tanh(x_t w + h_(t-1) u + b)."""
    length, k = x.shape[1:]
    with net.layer(name):
        w, u = net.tile("w", (k, n), glorot_normal), net.tile("u", (n, n), glorot_normal)
        b = net.parameter("b", (n,), zeros)
        inputs = net.apply(ops.bias_add, net.linear(w, x), b)  # all time steps in one product
        states: list[Value] = []
        for t in range(length):
            z = net.apply(ops.at(t), inputs)
            if states:
                z = net.apply(ops.add, z, net.linear(u, states[-1]))
            states.append(net.apply(ops.tanh, z))
        return net.apply(ops.stack_steps(length), *states)

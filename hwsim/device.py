"""The interface: a Device multiplies on Tiles that it programmed, and says from shapes alone what that takes."""

from __future__ import annotations

import dataclasses
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform

from hwsim import library, registry
from hwsim.arrays import Array, Namespace, Shape, namespace
from hwsim.contract import Contract, rounding_contract
from hwsim.cost import Component, Elementwise, Kind, Op, Product, Quantity, Use
from hwsim.errors import DeviceError, PluginError, ShapeError
from hwsim.ledger import Ledger, TileShape
from hwsim.parameters import coerced, hints_of, parameter, parameters_of
from hwsim.precision import Policy, policy
from hwsim.tile import Activation, Tile

WRITTEN = str | int | float | Quantity  # what a device string can hold, besides devices
MAY_GO_TO_HOST = (Kind.GRADIENT, Kind.PRODUCT)  # and every Elementwise


class Origin(NamedTuple):
    """What a device was asked for by: a name, a preset, and overriding parameters."""

    text: str
    preset: str | None
    parameters: Mapping[str, Any]


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(parameter,))
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Device(ABC):
    """A substrate that does the three products of backpropagation.

    Annotated class attributes are its parameters (see `parameter`); instances are immutable and hashed by
    identity. State lives on tiles. The only mandatory method is `activity`; hooks that are not overridden
    compute exactly, in the number format of `policy`.
    """

    name: ClassVar[str] = "device"
    presets_path: ClassVar[Path | None] = None  # a TOML of named parameter sets beside the device
    default_preset: ClassVar[str | None] = None
    excluded: ClassVar[tuple[str, ...]] = ()  # what its joules leave out, printed under every comparison
    erasing: ClassVar[tuple[str, ...]] = ()  # components an action of which erases a bit: what garbage is discarded by
    exact_updates: ClassVar[bool] = False  # whether update(-step) takes update(step) back bit for bit

    seed: int = parameter(0, doc="seed of every noise stream", low=0)
    array: str = parameter("numpy", doc="array library: numpy or cupy")
    host: str | Device | None = parameter("digital", doc="the device that does what this one cannot; none: itself")
    power_cap_w: Quantity | None = parameter(None, unit="W", doc="power cap, which stretches time")

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        # `host = None` in a class body is a new default, as one expects, though only annotations make fields.
        own = inspect.get_annotations(cls)
        for base in cls.__mro__[1:]:
            for name, field in getattr(base, "__dataclass_fields__", {}).items():
                if name in cls.__dict__ and name not in own:
                    own[name] = hints_of(base)[name]
                    setattr(cls, name, dataclasses.field(default=cls.__dict__[name], metadata=field.metadata))
        cls.__annotations__ = own
        dataclasses.dataclass(frozen=True, eq=False, kw_only=True, repr=False)(cls)

    # -- parameters --------------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        hints = hints_of(type(self))
        namespace(self.array)  # whether it is there, and CuPy has a card, before any work
        for field in parameters_of(type(self)).values():
            value = getattr(self, field.name)
            if not isinstance(value, Device):
                object.__setattr__(self, field.name, coerced(self.name, field, hints[field.name], value))
        self.check()

    def check(self) -> None:
        """Refuse parameters that do not fit together, with a DeviceError; nothing by default."""

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Named parameter sets, from the TOML at `presets_path`."""
        return {} if cls.presets_path is None else library.presets(cls.presets_path)

    @classmethod
    def create(cls, preset: str | None, parameters: Mapping[str, Any], text: str = "") -> Self:
        """A device from a preset and overriding parameters; `text` is the name it was asked for by.

        Raises DeviceError for an unknown preset or parameter, and lists what there is.
        """
        text = text or cls.name
        known, presets = parameters_of(cls), cls.presets()
        preset = preset or cls.default_preset
        if preset is not None and preset not in presets:
            raise DeviceError(registry.unknown(f"preset of {text!r} called", preset, presets))
        values = {key: value for key, value in presets.get(preset or "", {}).items() if key != "doc"}
        for where, keys in ((f"preset {preset!r}: ", values), ("", parameters)):
            for key in keys:
                if key not in known:
                    options = [f"{k} [{f.metadata['unit']}]" if f.metadata.get("unit") else k for k, f in known.items()]
                    raise DeviceError(
                        f"{where}device {text!r} has no parameter {key!r}; it has: {', '.join(sorted(options))}"
                    )
        values.update(parameters)
        missing = [k for k, f in known.items() if f.default is dataclasses.MISSING and k not in values]
        if missing:
            hint = f"; or take a preset: {', '.join(presets)}" if presets else ""
            raise DeviceError(f"device {text!r} needs {', '.join(missing)} (no default is known){hint}")
        device = cls(**values)
        device.__dict__["origin"] = Origin(text, preset, dict(parameters))
        return device

    @cached_property
    def origin(self) -> Origin:
        """What it was asked for by; a device made by its class alone, by the parameters that differ from defaults."""
        known = parameters_of(type(self))
        own = {k: v for k, f in known.items() if not same_value(v := getattr(self, k), self._default(f))}
        return Origin(self.name, None, own)

    @cached_property
    def spec(self) -> str:
        """The device string that makes this device: name[:preset][:key=value]..."""
        text, preset, changed = self.origin
        shown = {k: text_of(v) for k, v in changed.items() if v is None or isinstance(v, WRITTEN | Device)}
        return ":".join([text, *([preset] if preset else []), *(f"{k}={shown[k]}" for k in shown)])

    def _default(self, field: dataclasses.Field[Any]) -> Any:
        """A parameter's default, as the type that it is declared with."""
        if field.default is dataclasses.MISSING or isinstance(field.default, Device):
            return field.default
        return coerced(self.name, field, hints_of(type(self))[field.name], field.default)

    def __repr__(self) -> str:
        return f"<{self.spec}>"

    def __reduce__(self) -> tuple[Any, ...]:
        values = {name: getattr(self, name) for name in parameters_of(type(self))}
        return rebuilt, (registry.importable(type(self)), values, self.origin)

    # -- cost: pure, from shapes -------------------------------------------------------------------------

    @property
    def components(self) -> Mapping[str, Component]:
        """One unit of each piece of hardware, by name."""
        return {}

    @abstractmethod
    def activity(self, op: Op) -> Mapping[str, Use] | None:
        """How often one `op` uses each component, from shapes alone; None: not mine, {}: mine and free."""

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        """Units of each component that are powered for these tiles; one of each by default."""
        return dict.fromkeys(self.components, 1.0)

    def held_bits(self, op: Op) -> int:
        """Bits that `op` leaves held until their release (+), or frees (-)."""
        return 0

    # -- physics hooks, called by Tile and Activation only -------------------------------------------------

    @cached_property
    def policy(self) -> Policy:
        """The number formats of the products; fp32 by default."""
        return policy("fp32")

    @cached_property
    def rounds(self) -> bool:
        """Whether `policy` rounds anything; without, products are plain and quicker."""
        formats = self.policy
        return any(f.name not in ("fp32", "fp64") for f in (formats.values, formats.gradients, formats.output))

    @property
    def contract(self) -> Contract:
        """What the products promise; by default the rounding bound of `policy`."""
        return rounding_contract(self.policy)

    def write(self, tile: Tile, w: Array) -> None:
        """Set tile.state from w [..., k, n]."""
        tile.state["w"] = self.policy.master.round(self.xp, self.xp.array(w, dtype=self.policy.dtype(self.xp)))
        self._round_operand(tile)

    def _round_operand(self, tile: Tile) -> None:
        """Keep the weights as they enter products, where that is not as they are kept; with blocks, either way."""
        operand = self.policy.quantize_values(self.xp, tile.state["w"], axis=-2)
        if operand is not tile.state["w"]:
            tile.state["operand"] = operand
        if self.policy.blocked:
            tile.state["operand_backward"] = self.policy.quantize_values(self.xp, tile.state["w"], axis=-1)

    def read(self, tile: Tile) -> Array:
        """The weights [..., k, n] as they can be read back."""
        return tile.state["w"].copy()

    def forward(self, tile: Tile, x: Array) -> Array:
        """x [..., m, k] -> [..., m, n]."""
        if not self.rounds:
            return x @ tile.state["w"]
        operand = tile.state.get("operand", tile.state["w"])
        return self.policy.round_output(self.xp, self.policy.quantize_values(self.xp, x, axis=-1) @ operand)

    def backward(self, tile: Tile, dy: Array) -> Array:
        """dy [..., m, n] -> [..., m, k], through the tile as it is read."""
        if not self.rounds:
            return dy @ tile.state["w"].swapaxes(-1, -2)
        operand = tile.state.get("operand_backward" if self.policy.blocked else "operand", tile.state["w"])
        dy = self.policy.quantize_gradients(self.xp, dy, self._rounding(tile, "backward"), axis=-1)
        return self.policy.round_output(self.xp, dy @ operand.swapaxes(-1, -2))

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        """x [..., m, k], dy [..., m, n] -> [..., k, n], summed over m; does not touch tile.state."""
        if self.rounds:
            x = self.policy.quantize_values(self.xp, x, axis=-2)
            dy = self.policy.quantize_gradients(self.xp, dy, self._rounding(tile, "gradient"), axis=-2)
        if x.shape[-2] == 1:  # one row: an outer product by broadcasting is quicker than a GEMM
            return x.swapaxes(-1, -2) * dy
        return x.swapaxes(-1, -2) @ dy

    def _rounding(self, tile: Tile, stream: str) -> Any:
        """The generator of stochastic rounding, where the policy asks for it."""
        return tile.rng(f"rounding/{stream}") if self.policy.stochastic else None

    def update(self, tile: Tile, step: Array) -> None:
        """Move the weights by step [..., k, n], as far as the physics lets it."""
        w, master = tile.state["w"], self.policy.master
        w += step
        if not self.rounds:
            return
        # A coarse master format is moved stochastically: to nearest, steps below half its own step would be lost.
        rng = tile.rng("rounding/update") if master.bits < 32 else None
        tile.state["w"] = master.round(self.xp, w, rng)
        self._round_operand(tile)

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        """w += scale x'dy in place, for devices whose `activity` answers UPDATE_OUTER."""
        raise DeviceError(f"{self.spec} answers UPDATE_OUTER but does not define update_outer")

    def require_moves(self, *, in_place: bool) -> None:
        """Refuse, with a DeviceError, a run whose optimizer moves weights so: in place, or by steps of its own."""

    def release(self, tile: Tile) -> None:
        """What the newest forward that is still held left behind is no longer needed."""

    def drift(self, tile: Tile, time_s: float) -> None:
        """Let tile.state become what it is `time_s` [s] after the weights were last programmed or moved; as it was.

        A device that drifts keeps that first state apart, in tile.state too, and starts from it at every call: drift to
        3600 s is the same, in distribution, whether or not drift to another time went before, a later one included.
        To compensate, it may call tile.read(), which is charged.
        """

    def wear(self, tile: Tile) -> Mapping[str, float]:
        """What use has left on a tile: numbers by what they are, with units in the name; none by default.

        It changes nothing, draws no noise, and is charged to nobody: it tells what a simulator knows, reads no cell.
        """
        return {}

    def product(self, a: Array, b: Array) -> Array:
        """a [..., m, k] @ b [..., k, n], where both operands change (attention), and arrive as `policy` rounds them."""
        return a @ b

    def start_activation(self, activation: Activation, n: int) -> None:
        """Set activation.state for n units of this substrate's own nonlinearity."""
        raise DeviceError(f"{self.spec} has no activation of its own; name one that its host does, such as 'relu'")

    def activation_parameters(self, n: int) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the parameters, by name, that `activate_backward` returns gradients of; none by default."""
        return {}

    def activate(self, activation: Activation, x: Array) -> tuple[Array, Any]:
        """x [..., n] -> y [..., n], and what `activate_backward` needs."""
        raise DeviceError(f"{self.spec} has no activation of its own")

    def activate_backward(self, activation: Activation, saved: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        """dy [..., n] -> dx [..., n] and the gradients of parameters in activation.state, by name."""
        raise DeviceError(f"{self.spec} has no activation of its own")

    def update_activation(self, activation: Activation, steps: Mapping[str, Array]) -> None:
        """Move the parameters in activation.state by `steps`, as far as the physics lets them."""
        for name, step in steps.items():
            activation.state[name] = activation.state[name] + step

    # -- final -------------------------------------------------------------------------------------------

    @cached_property
    def xp(self) -> Namespace:
        """The array library."""
        return namespace(self.array)

    @cached_property
    def host_device(self) -> Device | None:
        """The device that does what this one cannot; devices that name the same host share it."""
        return shared_host(self.host, self.array) if isinstance(self.host, str) else self.host

    def asarray(self, values: Any) -> Array:
        """`values` as an array of this device's library and working type; integers stay as they are."""
        if isinstance(values, Shape):
            return values
        array = self.xp.asarray(values)
        return array if array.dtype.kind in "iub" else array.astype(self.policy.dtype(self.xp), copy=False)

    @cached_property
    def _uses(self) -> dict[Op, Mapping[str, Use] | None]:
        return {}

    def uses(self, op: Op) -> Mapping[str, Use] | None:
        """`activity(op)`, asked once per operation. Raises PluginError where it names no component of this device."""
        try:
            return self._uses[op]
        except KeyError:
            found = self.activity(op)
            check_uses(self, op, found)
            self._uses[op] = found
            return found

    def who(self, op: Op) -> Device:
        """The device that does `op`: this one, or where allowed its host. Raises DeviceError where none does."""
        device: Device | None = self
        while device is not None:
            if device.uses(op) is not None:
                return device
            if isinstance(op, Product) and op.kind not in MAY_GO_TO_HOST:
                raise DeviceError(f"{device.spec} does not do {op.kind} {op}, and no host can do it in its place")
            if isinstance(op, Elementwise) and op.name in ("device", "device_backward"):
                raise DeviceError(f"{device.spec} has no activation of its own; name one such as 'relu'")
            device = device.host_device
        raise DeviceError(f"neither {self.spec} nor a host of it does {op}")

    def program(self, w: Array | Shape, *, name: str, ledger: Ledger | None = None) -> Tile:
        """A tile holding w [..., k, n] (an array, or a Shape for costing alone), charged to `ledger`."""
        return Tile(self, w, name, ledger if ledger is not None else Ledger())

    def activation(self, n: int, *, name: str, ledger: Ledger | None = None, shape_only: bool = False) -> Activation:
        """This substrate's own nonlinearity for n units, charged to `ledger`."""
        return Activation(self, n, name, ledger if ledger is not None else Ledger(), shape_only)

    def multiply(self, a: Array, b: Array, *, ledger: Ledger, gradient: str = "") -> Array:
        """a [..., m, k] @ b [..., k, n], where both operands change; by this device or its host.

        `gradient`: which of the two, "a" or "b", is an error on its way back. No stream belongs to such a product, so
        that a policy which rounds gradients stochastically rounds these to nearest, as it does values.
        """
        if a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2]:
            raise ShapeError(f"product of {a.shape} and {b.shape}: needs [..., m, k] and [..., k, n]")
        op = Product(Kind.PRODUCT, a.shape[-2], a.shape[-1], b.shape[-1], math.prod(a.shape[:-2]))
        device = self.who(op)
        ledger.charge(device, op, device.held_bits(op))
        if isinstance(a, Shape):
            return Shape(*a.shape[:-1], b.shape[-1])
        if not device.rounds:
            return device.product(a, b)
        formats = device.policy
        error = formats.quantize_values if formats.stochastic else formats.quantize_gradients
        a = (error if gradient == "a" else formats.quantize_values)(device.xp, a, axis=-1)
        b = (error if gradient == "b" else formats.quantize_values)(device.xp, b, axis=-2)
        return formats.round_output(device.xp, device.product(a, b))


def check_uses(device: Device, op: Op, uses: Mapping[str, Use] | None) -> None:
    """Refuse an `activity` that is not uses of the device's own components, with a PluginError."""
    for name, component in device.components.items():
        if not isinstance(component, Component):
            raise PluginError(f"{device.spec}: component {name!r} is {component!r}; needs a Component(...)")
    for name, use in (uses or {}).items():
        if name not in device.components:
            raise PluginError(f"{device.spec}: activity() names {name!r}, which is no component of it ({op})")
        if not isinstance(use, Use) or not use.actions >= 0 or not use.units > 0:
            raise PluginError(
                f"{device.spec}: activity() says {name}={use!r}; needs Use(actions >= 0, units > 0) ({op})"
            )


@cache
def shared_host(spec: str, array: str) -> Device:
    """The device called `spec`, made once: a network on two substrates has one host, which idles once."""
    host: Device = registry.device(spec, **({} if array == "numpy" else {"array": array}))
    return host


def text_of(value: Any) -> str:
    """A parameter as it is written in a device string; numbers read back as the same numbers."""
    if isinstance(value, Device):
        return value.spec
    if isinstance(value, Quantity):
        short = f"{value.nominal:g}"
        return short if float(short) == value.nominal else repr(value.nominal)
    return "none" if value is None else str(value)


def same_value(a: Any, b: Any) -> bool:
    """Equality of parameters; devices, which are hashed by identity, are equal where their strings are."""
    return bool(a.spec == b.spec if isinstance(a, Device) and isinstance(b, Device) else a == b)


def rebuilt(cls: type[Device] | str, values: dict[str, Any], origin: Origin) -> Device:
    """A device from what pickle kept of it: its class, or path/to/file.py:Class, and its parameters."""
    device: Device = (registry.device_class(cls) if isinstance(cls, str) else cls)(**values)
    device.__dict__["origin"] = origin
    return device

"""What holds state on a device: a Tile is a programmed matrix, an Activation a substrate's own nonlinearity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hwsim.arrays import Array, Shape, generator, is_finite, key_of, to_host
from hwsim.cost import Elementwise, Kind, Op, Phase, Product
from hwsim.errors import ConfigError, DeviceError, NotFiniteError, PluginError, ShapeError
from hwsim.ledger import Ledger, TileShape

if TYPE_CHECKING:
    from hwsim.device import Device


class Placed:
    """Anything that holds state on a device: arrays and numbers, and the counters of its noise streams."""

    def __init__(self, device: Device, name: str, ledger: Ledger, shape_only: bool) -> None:
        if (device, name) in ledger.tiles:
            raise DeviceError(
                f"{device.spec} already holds a tile called {name!r} in this ledger; give it another name"
            )
        self.device = device
        self.name = name
        self.ledger = ledger
        self.shape_only = shape_only
        self.state: dict[str, Any] = {}
        self.drawn: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        self._busy: tuple[Device, Op] | None = None

    def rng(self, stream: str) -> Any:
        """A generator for the next draw of `stream`: keyed by seed, name and stream, apart for evaluation."""
        if self.ledger.phase is Phase.EVALUATE:
            stream += "/evaluate"
        key = self._keys.get(stream)
        if key is None:
            key = self._keys[stream] = key_of("noise", self.device.seed, self.name, stream)
        index = self.drawn.get(stream, 0)
        self.drawn[stream] = index + 1
        return generator(self.device.xp, key, index)

    def record(self, **counts: Any) -> None:
        """Add the actual actions of the operation being done, by component."""
        if self._busy is None:
            raise DeviceError(f"{self.name}: record() belongs inside a hook, while an operation is being done")
        device, op = self._busy
        stray = sorted(set(counts) - set(device.components))
        if stray:
            raise PluginError(f"{device.spec}: record() names {stray}, which are no components of it")
        self.ledger.record(device, op, counts)

    def _done(self, result: Any) -> Any:
        """What a hook returned; from here on there is nothing to record for."""
        self._busy = None
        return result

    def save(self) -> dict[str, Any]:
        """State and stream counters as host arrays and integers."""
        state: dict[str, Any] = {}
        for key, value in self.state.items():
            if type(value) in (bool, int, float):  # apart: as a 0-d array it would change the type of results
                state[f"number/{key}"] = value
            else:
                state[f"state/{key}"] = to_host(value).copy()
        return state | {f"drawn/{key}": index for key, index in self.drawn.items()}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take over what `save` returned; every key that it holds replaces what was there."""
        self.state, self.drawn = {}, {}
        for key, value in saved.items():
            group, _, name = key.partition("/")
            if group == "drawn":
                self.drawn[name] = int(value)
            elif group == "number":
                self.state[name] = value.item() if hasattr(value, "item") else value
            else:
                self.state[name] = self.device.xp.array(value)


class Tile(Placed):
    """A programmed matrix w [..., k, n]: checks, charges, and calls the device's hooks."""

    def __init__(self, device: Device, w: Array | Shape, name: str, ledger: Ledger) -> None:
        if len(w.shape) < 2 or min(w.shape) < 1:
            raise ShapeError(f"{name}: a tile needs w [..., k, n] with at least one row and column, got {w.shape}")
        super().__init__(device, name, ledger, isinstance(w, Shape))
        if not self.shape_only:
            w = device.asarray(w)
            self._require_finite(w, "w")
        self.shape: tuple[int, ...] = tuple(w.shape)
        self.stack = math.prod(self.shape[:-2])
        self.k, self.n = self.shape[-2:]
        self._ops: dict[tuple[Kind, int, int], tuple[Product, Device, int]] = {}
        self._leading, self._axes = self.shape[:-2], len(self.shape)
        self._vdot = device.xp.vdot
        self._at_hand = device.array == "numpy"  # to look at a value on a card stops its queue
        self._seen: dict[str, Array] = {}  # whether what entered since `require_finite` is finite, by what it is
        self._do(Kind.PROGRAM, 0, 0)
        ledger.tiles[device, name] = TileShape(self.stack, self.k, self.n)
        if not self.shape_only:
            device.write(self, w)
            self._busy = None

    def forward(self, x: Array, x_values: int = 0) -> Array:
        """x [..., m, k] -> y [..., m, n]; `x_values` distinct inputs where im2col repeats them."""
        m = self._rows(x, self.k, "x")
        doer = self._do(Kind.FORWARD, m, x_values)
        return Shape(*x.shape[:-1], self.n) if self.shape_only else self._done(doer.forward(self, x))

    def backward(self, dy: Array) -> Array:
        """dy [..., m, n] -> dx [..., m, k]."""
        m = self._rows(dy, self.n, "dy")
        doer = self._do(Kind.BACKWARD, m, 0)
        return Shape(*dy.shape[:-1], self.k) if self.shape_only else self._done(doer.backward(self, dy))

    def gradient(self, x: Array, dy: Array, x_values: int = 0) -> Array:
        """x [..., m, k], dy [..., m, n] -> dw [..., k, n], summed over m."""
        m = self._pair(x, dy)
        doer = self._do(Kind.GRADIENT, m, x_values)
        return Shape(*self.shape) if self.shape_only else self._done(doer.gradient(self, x, dy))

    def update(self, step: Array) -> None:
        """Move the weights by step [..., k, n], as far as the physics lets it."""
        if tuple(step.shape) != self.shape:
            raise ShapeError(f"{self.name}: step has shape {tuple(step.shape)}, needs {self.shape}")
        if not self.shape_only:
            (self._require_finite if self._at_hand else self._note)(step, "step")
        doer = self._do(Kind.UPDATE, 0, 0)
        if not self.shape_only:
            doer.update(self, step)
            self._busy = None

    def update_outer(self, x: Array, dy: Array, scale: float, x_values: int = 0) -> None:
        """w += scale x'dy in place where the device can; else by gradient, then update."""
        m = self._pair(x, dy)
        if not self.updates_in_place:
            gradient = self.gradient(x, dy, x_values)
            self.update(gradient if self.shape_only else scale * gradient)
            return
        doer = self._do(Kind.UPDATE_OUTER, m, x_values)
        if not self.shape_only:
            doer.update_outer(self, x, dy, scale)
            self._busy = None

    @cached_property
    def updates_in_place(self) -> bool:
        """Whether the device itself does rank-m updates."""
        return self.device.uses(Product(Kind.UPDATE_OUTER, 1, self.k, self.n, self.stack)) is not None

    def read(self) -> Array:
        """The weights [..., k, n] as they can be read back."""
        doer = self._do(Kind.READ, 0, 0)
        return Shape(*self.shape) if self.shape_only else self._done(doer.read(self))

    def drift(self, time_s: float) -> None:
        """Let the weights become what they are `time_s` [s] after they were last programmed or moved.

        Times do not add up: each is counted from then, in any order. No operation, so nothing is charged but what the
        device reads to compensate; without arrays nothing happens. Raises ConfigError for a time that there is not.
        """
        require_age(time_s)
        if not self.shape_only:
            self.device.drift(self, time_s)

    def release(self, m: int) -> None:
        """What the newest forward of m rows left behind is no longer needed."""
        if not self.releases:
            return
        doer = self._do(Kind.RELEASE, m, 0)
        if not self.shape_only:
            doer.release(self)
            self._busy = None

    @cached_property
    def releases(self) -> bool:
        """Whether the device holds something after a forward until it is released."""
        return self.device.uses(Product(Kind.RELEASE, 1, self.k, self.n, self.stack)) is not None

    def _do(self, kind: Kind, m: int, x_values: int) -> Device:
        """Charge one operation and say who does it."""
        known = self._ops.get((kind, m, x_values))
        if known is None:
            op = Product(kind, m, self.k, self.n, self.stack, x_values)
            device = self.device.who(op)
            known = self._ops[kind, m, x_values] = op, device, device.held_bits(op)
        op, device, held_bits = known
        self._busy = device, op
        self.ledger.charge(device, op, held_bits)
        return device

    def _rows(self, a: Array, columns: int, what: str) -> int:
        """The rows m of a [..., m, columns]. Raises ShapeError for another shape, NaN or infinity."""
        shape = a.shape
        if len(shape) != self._axes or shape[-1] != columns or shape[:-2] != self._leading:
            needed = ", ".join([*map(str, self._leading), "m", str(columns)])
            raise ShapeError(f"{self.name}: {what} has shape {tuple(shape)}, needs [{needed}]")
        # One dot product finds NaN and infinity; where it overflows, a full scan decides.
        if not self.shape_only:
            if not self._at_hand:
                self._note(a, what)
            elif not math.isfinite(self._vdot(a, a)):
                self._require_finite(a, what)
        return shape[-2]  # type: ignore[no-any-return]

    def _pair(self, x: Array, dy: Array) -> int:
        m = self._rows(x, self.k, "x")
        if self._rows(dy, self.n, "dy") != m:
            raise ShapeError(f"{self.name}: x has {m} rows, dy has {dy.shape[-2]}; they need the same number")
        return m

    def _note(self, a: Array, what: str) -> None:
        """Keep, on the card, whether a is finite: `require_finite` looks at it when the step is over."""
        finite = self.device.xp.isfinite(a).all()
        known = self._seen.get(what)
        self._seen[what] = finite if known is None else known & finite

    def require_finite(self) -> None:
        """Refuse what has entered since the last call and was NaN or infinite, where arrays lie on a card.

        On the processor it was refused as it entered. Raises NotFiniteError.
        """
        seen, self._seen = self._seen, {}
        bad = [what for what, finite in seen.items() if not finite]
        if bad:
            raise NotFiniteError(f"{self.name}: {', '.join(bad)} held NaN or infinite values; all must be finite")

    def _require_finite(self, a: Array, what: str) -> None:
        if not is_finite(self.device.xp, a):
            bad = a.size - int(self.device.xp.isfinite(a).sum())
            raise NotFiniteError(
                f"{self.name}: {what} holds {bad} NaN or infinite values of {a.size}; all must be finite"
            )


def require_age(time_s: float) -> None:
    """Refuse a negative or infinite time, and NaN, with a ConfigError."""
    if not 0 <= time_s < math.inf:
        raise ConfigError(f"drift to {time_s:g} s: needs a finite time from 0, counted from the last programming")


class Activation(Placed):
    """A substrate's own nonlinearity for n units: state, streams, and what each call saved for its way back."""

    def __init__(self, device: Device, n: int, name: str, ledger: Ledger, shape_only: bool) -> None:
        super().__init__(device, name, ledger, shape_only)
        self.n = n
        if device.uses(Elementwise("device", n, 0, 0, 0)) is None:
            raise DeviceError(f"{device.spec} has no activation of its own; name one such as 'relu'")
        ledger.tiles[device, name] = TileShape(1, 0, n)
        if not shape_only:
            device.start_activation(self, n)

    def forward(self, x: Array) -> tuple[Array, Any]:
        """x [..., n] -> y [..., n], and what `backward` needs."""
        self._charge("device", x)
        return (Shape(*x.shape), None) if self.shape_only else self._done(self.device.activate(self, x))

    def backward(self, saved: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        """dy [..., n] -> dx [..., n] and gradients of parameters in `state`, by name."""
        self._charge("device_backward", dy)
        shapes = self.device.activation_parameters(self.n)
        if self.shape_only:
            return Shape(*dy.shape), {name: Shape(*shape) for name, shape in shapes.items()}
        dx, gradients = self._done(self.device.activate_backward(self, saved, dy))
        found = {name: tuple(gradient.shape) for name, gradient in gradients.items()}
        if found != dict(shapes):
            raise PluginError(
                f"{self.device.spec}: activate_backward returns gradients {found}, "
                f"and activation_parameters() says {dict(shapes)}"
            )
        return dx, gradients

    def update(self, steps: Mapping[str, Array]) -> None:
        """Move the parameters in `state` by `steps`, as far as the physics lets them."""
        self.device.update_activation(self, steps)

    def _charge(self, name: str, a: Array) -> None:
        if a.shape[-1] != self.n:
            raise ShapeError(f"{self.name}: got shape {tuple(a.shape)}, needs [..., {self.n}]")
        if not self.shape_only and not is_finite(self.device.xp, a):
            raise NotFiniteError(f"{self.name}: got NaN or infinite values; all must be finite")
        op = Elementwise(name, a.size, 0, 0, 0)
        self._busy = self.device.who(op), op
        self.ledger.charge(self.device, op, self.device.held_bits(op))

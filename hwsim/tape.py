"""Reverse-mode differentiation: every matrix product asks a tile, everything else the tile's device or its host."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from hwsim.arrays import Array, Shape, to_host
from hwsim.cost import Elementwise, Phase
from hwsim.device import Device
from hwsim.errors import ShapeError
from hwsim.ledger import Ledger
from hwsim.precision import Policy
from hwsim.tile import Activation, Tile


class Parameter:
    """A trained array that the host holds: a bias, a gain, an embedding table."""

    def __init__(self, name: str, layer: str, device: Device, data: Array, ledger: Ledger | None = None) -> None:
        self.name, self.layer, self.device, self.data, self.ledger = name, layer, device, data, ledger


class Value:
    """An array (or Shape) on the tape, where it lives, and whether a gradient of it is wanted."""

    __slots__ = ("data", "device", "parameter", "wanted")

    def __init__(self, data: Array, device: Device, wanted: bool, parameter: Parameter | None = None) -> None:
        self.data, self.device, self.wanted, self.parameter = data, device, wanted, parameter

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return tuple(self.data.shape)


@dataclass(frozen=True, eq=False)
class HostOp:
    """An operation on values that a digital device does: its arithmetic, its derivative and its size.

    `forward(xp, *arrays)` -> y, saved; `backward(xp, saved, dy)` -> gradients of the arrays, None where there is
    none; `shape(*shapes)` -> the shape of y. Flops are per value of the largest array; `view`: nothing is computed.
    """

    name: str
    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., tuple[Array | None, ...]]
    shape: Callable[..., tuple[int, ...]]
    flops: int = 1
    backward_flops: int = 1
    view: bool = False
    rounds: bool = True  # whether y is rounded to the device's output format; losses stay in the working type
    reads: Callable[..., list[tuple[int, ...]]] | None = None  # shapes that are read, where not all inputs whole
    # Where y is a part of its one input: its index, from the input's shape. The tape puts dy back there.
    place: Callable[[tuple[int, ...]], Any] | None = None
    # The shapes that the derivative (reads, writes), where not (dy and all inputs, every wanted gradient); from the
    # shape of y and those of the inputs. Where both are empty the derivative is dy itself, and free.
    backward_touches: Callable[..., tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] | None = None


class Sink(Protocol):
    """Who takes the gradients: an optimizer."""

    def collect(self, tile: Tile, x: Array, dy: Array, x_values: int = 0) -> None:
        """A tile's operands x [..., m, k] and dy [..., m, n], and how many inputs are distinct (0: all)."""

    def collect_parameter(self, parameter: Parameter, gradient: Array) -> None:
        """The gradient of an array that the host holds."""

    def collect_activation(self, activation: Activation, gradients: dict[str, Array]) -> None:
        """The gradients of a substrate's own nonlinearity, by parameter name."""


class Piece(NamedTuple):
    """The gradient of a part of a value: dy belongs at `place`, and all else is zero."""

    place: Any
    dy: Array


class Node(NamedTuple):
    """One recorded operation: from the gradient of its output to those of its inputs."""

    layer: str
    inputs: tuple[Value, ...]
    output: Value
    back: Callable[[Array], tuple[Array | Piece | None, ...]]


class Record(NamedTuple):
    """What a pass, or a part of one, did: operations, and forwards that are to be released, by layer."""

    nodes: list[Node]
    held: list[tuple[str, Tile, int]]


_Charge = tuple[Device, Elementwise, int]
Shapes = Sequence[tuple[int, ...]]


class _Plan(NamedTuple):
    """What a host operation on given shapes takes, worked out once."""

    charge: _Charge | None
    back_charge: _Charge | None
    shape: tuple[int, ...]
    rounding: Policy | None
    back_rounding: Policy | None
    wanted: bool


class Tape:
    """What a forward pass did, so that it can be differentiated, and released newest first.

    One tape serves a network for its whole life; `release` empties it after each pass.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.sink: Sink | None = None
        self.mover: Sink | None = None  # who moved the weights, where a learning rule can take that back
        self.nodes: list[Node] = []
        self.held: list[tuple[str, Tile, int]] = []
        self._plans: dict[tuple[Any, ...], _Plan] = {}

    # -- products ----------------------------------------------------------------------------------------

    def linear(self, tile: Tile, x: Value, *, trained: bool = True, x_values: int = 0) -> Value:
        """y = x w on a tile: x [..., k] -> y [..., n], leading axes of x being rows where w has no stack."""
        data = rows(x.data, tile)
        flat = data is not x.data  # leading axes were made rows, and are restored behind
        y = tile.forward(data, x_values)
        if tile.releases:
            self._hold(tile, data)
        sink = self.sink if trained else None

        def back(dy: Array) -> tuple[Array | None, ...]:
            if flat:
                dy = rows(dy, tile)
            dx = tile.backward(dy) if x.wanted else None
            if sink is not None:
                sink.collect(tile, data, dy, x_values)
            return (reshaped(dx, x.shape) if flat and x.wanted else dx,)

        if flat:
            y = reshaped(y, (*x.shape[:-1], tile.n))
        return self._record((x,), Value(y, tile.device, x.wanted or sink is not None), back)

    def linear_transposed(self, tile: Tile, x: Value, *, trained: bool = True) -> Value:
        """y = x w' on a tile, read from the other side (tied weights): x [..., n] -> y [..., k]."""
        data = rows(x.data, tile)
        y = tile.backward(data)
        sink = self.sink if trained else None

        def back(dy: Array) -> tuple[Array | None, ...]:
            dy = rows(dy, tile)
            dx = None
            if x.wanted:
                dx = reshaped(tile.forward(dy), x.shape)
                if tile.releases:
                    self._hold(tile, dy)
            if sink is not None:
                sink.collect(tile, dy, data)
            return (dx,)

        output = Value(reshaped(y, (*x.shape[:-1], tile.k)), tile.device, x.wanted or sink is not None)
        return self._record((x,), output, back)

    def product(self, a: Value, b: Value) -> Value:
        """a [..., m, k] @ b [..., k, n], where both change (attention)."""
        device, ledger = a.device, self.ledger
        y = device.multiply(a.data, b.data, ledger=ledger)

        def back(dy: Array) -> tuple[Array | None, ...]:
            da = device.multiply(dy, transposed(b.data), ledger=ledger, gradient="a") if a.wanted else None
            db = device.multiply(transposed(a.data), dy, ledger=ledger, gradient="b") if b.wanted else None
            return da, db

        return self._record((a, b), Value(y, device, a.wanted or b.wanted), back)

    # -- everything else -----------------------------------------------------------------------------------

    def host(self, op: HostOp, *inputs: Value) -> Value:
        """Do `op` on the device of the first input, or its host."""
        first = inputs[0]
        device, xp = first.device, first.device.xp
        if len(inputs) == 1:  # as most have; quicker than the general key below
            key: tuple[Any, ...] = (op, device, first.data.shape, first.wanted)
        else:
            key = (op, device, *[value.data.shape for value in inputs], *[value.wanted for value in inputs])
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._planned(op, device, inputs)
        charge, back_charge, shape, rounding, back_rounding, wanted = plan
        if charge is not None:
            self.ledger.charge(*charge)
        if op.place is not None:
            place = op.place(first.shape)
            part = Shape(*shape) if isinstance(first.data, Shape) else first.data[place]
            return self._record(inputs, Value(part, device, wanted), lambda dy: (Piece(place, dy),))
        if isinstance(first.data, Shape):

            def shape_back(dy: Array) -> tuple[Array | None, ...]:
                if back_charge is not None:
                    self.ledger.charge(*back_charge)
                return tuple([Shape(*value.data.shape) if value.wanted else None for value in inputs])

            return self._record(inputs, Value(Shape(*shape), device, wanted), shape_back)
        y, saved = op.forward(xp, *[value.data for value in inputs])
        if rounding is not None:
            y = rounding.round_output(xp, y)

        def back(dy: Array) -> tuple[Array | None, ...]:
            if back_charge is not None:
                self.ledger.charge(*back_charge)
            gradients = op.backward(xp, saved, dy)
            if back_rounding is None:
                return gradients
            return tuple(None if g is None else back_rounding.round_output(xp, g) for g in gradients)

        return self._record(inputs, Value(y, device, wanted), back)

    def _planned(self, op: HostOp, device: Device, inputs: tuple[Value, ...]) -> _Plan:
        """What `op` on inputs of these shapes charges each way, and what it makes."""
        shapes = [value.data.shape for value in inputs]
        shape = tuple(op.shape(*[tuple(each) for each in shapes]))
        wanted = [value.data.shape for value in inputs if value.wanted]
        read, written = [shape, *shapes], wanted
        if op.backward_touches is not None:
            read, written = op.backward_touches(shape, *shapes)
        free = op.view or not (read or written)
        entering = shapes if op.reads is None else op.reads(shape, *shapes)
        charge = None if op.view else self._costed(op.name, device, op.flops, entering, [shape])
        back_charge = None
        if wanted and not free:
            back_charge = self._costed(op.name + "_backward", device, op.backward_flops, read, written)

        def rounding(charge: _Charge | None) -> Policy | None:
            return charge[0].policy if charge is not None and op.rounds and charge[0].rounds else None

        return _Plan(charge, back_charge, shape, rounding(charge), rounding(back_charge), bool(wanted))

    def activation(self, activation: Activation, x: Value, *, trained: bool = True) -> Value:
        """A substrate's own nonlinearity: x [..., n] -> y [..., n]."""
        y, saved = activation.forward(x.data)
        sink = self.sink if trained else None

        def back(dy: Array) -> tuple[Array | None, ...]:
            dx, gradients = activation.backward(saved, dy)
            if sink is not None and gradients:
                sink.collect_activation(activation, gradients)
            return (dx,)

        return self._record((x,), Value(y, activation.device, x.wanted or sink is not None), back)

    def move(self, x: Value, device: Device) -> Value:
        """x on another device; the way there, and the gradient's way back, are charged to whoever receives."""
        origin = x.device
        if origin is device:
            return x
        self._charge("move", device, 0, [x.shape], [x.shape])

        def back(dy: Array) -> tuple[Array | None, ...]:
            self._charge("move", origin, 0, [x.shape], [x.shape])
            return (carried(dy, device, origin),)

        return self._record((x,), Value(carried(x.data, origin, device), device, x.wanted), back)

    @contextmanager
    def apart(self, record: Record) -> Iterator[None]:
        """A context whose operations are recorded in `record` alone: what is kept, or computed again, by itself.

        Within it, `gradient` goes back through what that holds, and `release` empties it.
        """
        outer = Record(self.nodes, self.held)
        self.nodes, self.held = record
        try:
            with self.ledger.scope():
                yield
        finally:
            self.nodes, self.held = outer

    # -- backwards -----------------------------------------------------------------------------------------

    def backward(self, y: Value, dy: Array | None = None) -> None:
        """Send dy (1 for a loss) back from y; gradients of tiles and parameters go to the sink."""
        if dy is None:
            if y.data.size != 1:
                raise ShapeError(f"backward from an output of shape {y.shape} needs its gradient dy")
            dy = Shape(*y.shape) if isinstance(y.data, Shape) else y.device.asarray(1.0).reshape(y.shape)
        self.gradient(y, dy, y)

    def gradient(self, y: Value, dy: Array, x: Value) -> Array | None:
        """Send dy back from y, as `backward` does; the gradient of x, if it is wanted, where all began with x."""
        gradients: dict[Value, Array] = {y: dy}
        pieced: dict[Value, Array] = {}  # gradients that come in pieces, in arrays of the tape's own
        ledger = self.ledger
        with ledger.scope(phase=Phase.BACKWARD):
            for layer, inputs, output, back in reversed(self.nodes):
                arrived = gradients.pop(output, None)
                whole = pieced.pop(output, None) if pieced else None
                if arrived is None and whole is None:
                    continue
                ledger.layer = layer
                if whole is not None:
                    arrived = whole if arrived is None else self._sum(output, arrived, whole)
                for value, gradient in zip(inputs, back(arrived), strict=True):
                    if gradient is None or not value.wanted:
                        continue
                    if isinstance(gradient, Piece):
                        gradient = self._put(gradient, value, pieced if value.parameter is None else {})
                        if value.parameter is None:
                            continue
                    if value.parameter is not None:
                        if self.sink is not None:
                            self.sink.collect_parameter(value.parameter, gradient)
                    elif value in gradients:
                        gradients[value] = self._sum(value, gradients[value], gradient)
                    else:
                        gradients[value] = gradient
        whole, pieces = gradients.get(x), pieced.get(x)
        return pieces if whole is None else whole if pieces is None else self._sum(x, whole, pieces)

    def release(self) -> None:
        """Tell the tiles, newest first, that nothing of this pass is needed any more, and forget it."""
        ledger = self.ledger
        self.nodes.clear()
        if not self.held:
            return
        with ledger.scope(phase=None if ledger.phase is Phase.EVALUATE else Phase.BACKWARD):
            for layer, tile, m in reversed(self.held):
                ledger.layer = layer
                tile.release(m)
        self.held.clear()

    # -- inside --------------------------------------------------------------------------------------------

    def _record(
        self, inputs: tuple[Value, ...], output: Value, back: Callable[[Array], tuple[Array | Piece | None, ...]]
    ) -> Value:
        if output.wanted:
            self.nodes.append(Node(self.ledger.layer, inputs, output, back))
        return output

    def _hold(self, tile: Tile, x: Array) -> None:
        self.held.append((self.ledger.layer, tile, x.shape[-2]))

    def _sum(self, value: Value, a: Array, b: Array) -> Array:
        """Two gradients that meet at one value are added, by whoever does elementwise work there."""
        self._charge("add", value.device, 1, [value.shape, value.shape], [value.shape])
        return a if isinstance(a, Shape) else a + b

    def _put(self, piece: Piece, value: Value, sums: dict[Value, Array]) -> Array:
        """The gradient of `value` so far, with one more piece, which costs an addition of its own size."""
        self._charge("add", value.device, 1, [piece.dy.shape, piece.dy.shape], [piece.dy.shape])
        if isinstance(piece.dy, Shape):
            return sums.setdefault(value, Shape(*value.shape))
        if value not in sums:
            sums[value] = value.device.xp.zeros(value.shape, dtype=piece.dy.dtype)
        sums[value][piece.place] += piece.dy
        return sums[value]

    def _charge(self, name: str, device: Device, flops: int, read: Shapes, written: Shapes) -> None:
        """Charge an elementwise operation on arrays of these shapes."""
        self.ledger.charge(*self._costed(name, device, flops, read, written))

    def _costed(self, name: str, device: Device, flops: int, read: Shapes, written: Shapes) -> _Charge:
        """Who does an elementwise operation, and what it is; flops are per value of the largest array."""
        bits = device.policy.output.bits  # values lie in memory as products leave them
        sizes_read, sizes_written = ([math.prod(shape) for shape in shapes] for shapes in (read, written))
        op = Elementwise(
            name,
            sum(sizes_written),
            flops * max([*sizes_read, *sizes_written]),
            byte_count(sizes_read, bits),
            byte_count(sizes_written, bits),
        )
        doer = device.who(op)
        return doer, op, doer.held_bits(op)


def rows(x: Array, tile: Tile) -> Array:
    """x [..., columns] as rows [m, columns] where the tile holds one matrix; as it is where it holds a stack."""
    return x if x.ndim == len(tile.shape) or len(tile.shape) > 2 else reshaped(x, (-1, x.shape[-1]))


def reshaped(x: Array, shape: tuple[int, ...]) -> Array:
    """x in another shape; one axis may be -1."""
    if x.shape == shape:
        return x
    if -1 in shape:
        known = math.prod([size for size in shape if size != -1])
        shape = tuple(x.size // known if size == -1 else size for size in shape)
    return Shape(*shape) if isinstance(x, Shape) else x.reshape(shape)


def transposed(x: Array) -> Array:
    """x with its last two axes exchanged."""
    return Shape(*x.shape[:-2], x.shape[-1], x.shape[-2]) if isinstance(x, Shape) else x.swapaxes(-1, -2)


def carried(x: Array, origin: Device, device: Device) -> Array:
    """x as an array of another device."""
    if isinstance(x, Shape):
        return x
    return device.asarray(x if origin.xp is device.xp else to_host(x))


def byte_count(sizes: list[int], bits: int) -> int:
    """Whole bytes that so many values take."""
    return -(-sum(sizes) * bits // 8)

"""The operations of a step in order, and what each waits for: recorded while a network runs on shapes alone.

A `Trace` is the ledger of such a network. Once it follows the network, its tape says what each operation reads, and
its tiles say on which of them it is done. Data that flow forwards or backwards, gradients that add up, and weights
that move only after all reads of them are what makes an operation wait; whether hardware is free is not asked here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hwsim.arrays import Array
from hwsim.cost import Kind, Op, Phase, Product
from hwsim.errors import ConfigError
from hwsim.ledger import Ledger
from hwsim.tape import Parameter, Piece, Tape, Value
from hwsim.tile import Activation, Tile

MOVING = (Kind.UPDATE, Kind.UPDATE_OUTER, Kind.RELEASE)  # what comes after all earlier use of a tile

Waits = tuple[int, ...]  # tasks, by their place in the trace


@dataclass(slots=True)
class Task:
    """One call of an operation: who does it, what for, on which tile ("" for none), and after which tasks."""

    device: Any
    op: Op
    layer: str
    phase: Phase
    tile: str
    micro_batch: int
    after: Waits

    @property
    def call(self) -> tuple[Any, Op, str, Phase, str]:
        """All but when it is done."""
        return self.device, self.op, self.layer, self.phase, self.tile


class Mover(Protocol):
    """What is needed of an optimizer."""

    def collect(self, tile: Tile, x: Array, dy: Array, x_values: int = 0) -> None: ...
    def collect_parameter(self, parameter: Parameter, gradient: Array) -> None: ...
    def collect_activation(self, activation: Activation, gradients: dict[str, Array]) -> None: ...
    def forget(self) -> None: ...
    def move(self, ledger: Ledger) -> None: ...


class Traced(Protocol):
    """What is needed of a network."""

    tape: Tape

    @property
    def placed(self) -> dict[str, Any]: ...
    @property
    def shape_only(self) -> bool: ...


class Trace(Ledger):
    """A ledger that also keeps the operations in order, from when it follows a network."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[Task] = []
        self.begins = [0]  # the first task of each micro-batch, and of what comes after them
        self._following = False
        self._claimed = 0
        self._side: set[int] = set()  # gradients of weights, which no value waits for
        self._used: dict[str, list[int]] = defaultdict(list)  # by tile: what its next move waits for

    @property
    def micro_batch(self) -> int:
        """The present micro-batch."""
        return len(self.begins) - 1

    def follow(self, net: Traced, optimizer: Mover) -> Collector:
        """Record what `net`, which this is the ledger of, does from now on; the optimizer to train it with.

        Raises ConfigError for a network with arrays: only shapes are followed.
        """
        if not net.shape_only:
            raise ConfigError("a trace follows shapes: make the network with shape_only=True")
        self._following = True
        net.tape = tape = TracingTape(self)
        for item in net.placed.values():
            if isinstance(item, Tile | Activation):
                item.ledger = Account(self, item.name)  # type: ignore[assignment]
        return Collector(tape, optimizer)

    def charge(self, device: Any, op: Op, held_bits: int = 0, tile: str = "") -> None:
        """Count one call, on a tile where it has one."""
        super().charge(device, op, held_bits)
        if not self._following:
            return
        after: Waits = ()
        if tile:
            if is_move(op):
                after = tuple(sorted(set(self._used.pop(tile, ()))))
            self._used[tile].append(len(self.tasks))
        self.tasks.append(Task(device, op, self.layer, self.phase, tile, self.micro_batch, after))

    # -- what waits for what: called by tape and collector ---------------------------------------------------

    def wait(self, task: int, after: Waits) -> None:
        """Let a task wait for some more."""
        known = self.tasks[task]
        known.after = merged(known.after, after)

    def claim(self, after: Waits) -> Waits:
        """Let all tasks since the last claim wait for `after`; these tasks, or `after` where there are none."""
        made: Sequence[int] = range(self._claimed, len(self.tasks))
        self._claimed = len(self.tasks)
        if not self._side.isdisjoint(made):
            made = [task for task in made if task not in self._side]
        for task in made:
            known = self.tasks[task]
            known.after = merged(known.after, after) if known.after else after
        return tuple(made) or after

    def chain(self, first: int, after: Waits) -> Waits:
        """Let task after task from `first` on wait for the one before, and `first` for `after`; the end of the chain.

        They are a side branch: not of what is claimed next.
        """
        for task in range(first, len(self.tasks)):
            self.wait(task, after)
            self._side.add(task)
            after = (task,)
        return after

    def main_branch(self, first: int) -> Waits:
        """The tasks from `first` on that values or their gradients come from."""
        return tuple(
            task
            for task in range(first, len(self.tasks))
            if task not in self._side and not is_move(self.tasks[task].op)
        )

    def use(self, tile: str, tasks: Waits) -> None:
        """Let the next move of a tile wait for `tasks` too."""
        self._used[tile] += tasks

    def end_micro_batch(self) -> None:
        """What follows belongs to the next micro-batch."""
        self.begins.append(len(self.tasks))

    def steady(self) -> bool:
        """Whether the latest micro-batch is like the one before it, task by task, and waits likewise."""
        if len(self.begins) < 3:
            return False
        before, begin, end = self.begins[-3:]
        count = end - begin
        return begin - before == count and all(
            old.call == new.call and later(old.after, count) == new.after
            for old, new in zip(self.tasks[before:begin], self.tasks[begin:], strict=True)
        )

    def repeat(self, times: int) -> None:
        """Append the latest micro-batch, a steady one, so many times more."""
        begin, end = self.begins[-2:]
        latest, count = self.tasks[begin:], end - begin
        for task in latest:
            self.calls[task.layer, task.phase, task.device, task.op] += times  # type: ignore[index]
        for shift in range(count, (times + 1) * count, count):
            part = self.micro_batch
            self.tasks += [Task(*task.call, part, later(task.after, shift)) for task in latest]
            self.end_micro_batch()
        for used in self._used.values():
            own = [task for task in used if task >= begin]
            if len(own) == len(used):  # moved within the micro-batch: what was before is waited for no more
                used[:] = later(own, times * count)
            else:
                used += [task + shift for shift in range(count, (times + 1) * count, count) for task in own]
        self._claimed = len(self.tasks)


class Account:
    """The ledger of one tile: it charges as the trace does, with the tile's name."""

    def __init__(self, trace: Trace, tile: str) -> None:
        self.trace, self.tile = trace, tile

    @property
    def layer(self) -> str:
        """The present layer."""
        return self.trace.layer

    def charge(self, device: Any, op: Op, held_bits: int = 0) -> None:
        """Count one call on the tile."""
        self.trace.charge(device, op, held_bits, self.tile)


class TracingTape(Tape):
    """A tape that knows which tasks made each value, and each gradient on its way back."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self.trace = trace
        self.arrived: Waits = ()  # what the operation that goes backwards now waits for
        self.came: dict[Array, Waits] = {}  # gradients; by shape, which is hashed by identity
        self._made: dict[Value, Waits] = {}
        self._filled: dict[Array, Waits] = {}  # by the shape that stands for an array, whatever value holds it
        self._floor: Waits = ()  # what is computed again on the way back waits for its gradient

    def made(self, value: Value) -> Waits:
        """The tasks that made a value."""
        known = self._made.get(value)
        return self._filled.get(value.data, ()) if known is None else known

    def gradient(self, y: Value, dy: Array, x: Value) -> Array | None:
        """As of any tape; operations that a model has recorded itself are traced as a whole."""
        for place, node in enumerate(self.nodes):
            if not isinstance(node.back, TracedBack):
                self.nodes[place] = node._replace(back=TracedBack(self, node.back, self.made(node.output), whole=True))
        return super().gradient(y, dy, x)

    def release(self) -> None:
        """As of any tape: each tile after all use of it so far."""
        super().release()
        self.trace.claim(())

    def forget(self) -> None:
        """Drop what was made: the pass is over."""
        for known in (self.came, self._made, self._filled):
            known.clear()

    def _record(
        self, inputs: tuple[Value, ...], output: Value, back: Callable[[Array], tuple[Array | Piece | None, ...]]
    ) -> Value:
        self._made[output] = made = self.trace.claim(merged(self._floor, *[self.made(value) for value in inputs]))
        if output.data not in [value.data for value in inputs]:
            self._filled[output.data] = made
        return super()._record(inputs, output, TracedBack(self, back, made))

    def _sum(self, value: Value, a: Array, b: Array) -> Array:
        total = super()._sum(value, a, b)
        self.came[total] = self.trace.claim(merged(self.came[a], self.came[b]))
        return total

    def _put(self, piece: Piece, value: Value, sums: dict[Value, Array]) -> Array:
        whole = super()._put(piece, value, sums)
        self.came[whole] = self.trace.claim(merged(self.came[piece.dy], self.came.get(whole, ())))
        return whole


class TracedBack:
    """The way back of one recorded operation: what it does waits for its gradient, and for what went forwards.

    `whole`: it computes things again in a way of its own, so that all that it does comes before what it returns.
    """

    def __init__(
        self, tape: TracingTape, back: Callable[[Array], tuple[Array | Piece | None, ...]], made: Waits, *,
        whole: bool = False,
    ) -> None:  # fmt: skip
        self.tape, self.back, self.made, self.whole = tape, back, made, whole

    def __call__(self, dy: Array) -> tuple[Array | Piece | None, ...]:
        tape, trace = self.tape, self.tape.trace
        tape.arrived = arrived = merged(tape.came.get(dy, ()), self.made)
        first, floor = len(trace.tasks), tape._floor
        if self.whole:
            tape._floor = arrived
        gradients = self.back(dy)
        tape._floor = floor
        done = trace.claim(arrived)
        if self.whole:
            done = merged(done, trace.main_branch(first))
        for gradient in gradients:
            if gradient is not None:
                tape.came[gradient.dy if isinstance(gradient, Piece) else gradient] = done
        return gradients


class Collector:
    """Stands before an optimizer: it notes what gradients come from, and moves nothing until all micro-batches are in.

    A layer's host arithmetic waits for all gradients of the layer, and for the one before it there; a tile moves after
    the arithmetic before it in its layer, and after all reads of it.
    """

    def __init__(self, tape: TracingTape, optimizer: Mover) -> None:
        self.tape, self.trace, self.optimizer = tape, tape.trace, optimizer
        self._layers: dict[Any, str] = {}  # under which what is moved was collected first
        self._latest: dict[Any, Waits] = {}  # the gradient of what is moved, as far as it has been added up
        self._missing: dict[str, set[int]] = defaultdict(set)
        self._kept: list[tuple[str, Tile, Array, Array, int]] = []  # operands of moves in place, of this micro-batch

    def collect(self, tile: Tile, x: Array, dy: Array, x_values: int = 0) -> None:
        """The operands of a tile."""
        first = len(self.trace.tasks)
        self.optimizer.collect(tile, x, dy, x_values)
        if first == len(self.trace.tasks):
            self._kept.append((self.trace.layer, tile, x, dy, x_values))
        self.trace.use(tile.name, self._came(tile, self.trace.layer, first, self.tape.arrived))

    def collect_parameter(self, parameter: Parameter, gradient: Array) -> None:
        """The gradient of an array that the host holds."""
        first = len(self.trace.tasks)
        self.optimizer.collect_parameter(parameter, gradient)
        self._came(parameter, parameter.layer, first, self.tape.came[gradient])

    def collect_activation(self, activation: Activation, gradients: dict[str, Array]) -> None:
        """The gradients of a substrate's own nonlinearity."""
        first = len(self.trace.tasks)
        self.optimizer.collect_activation(activation, gradients)
        self._came(activation, self.trace.layer, first, self.tape.arrived)

    def forget(self) -> None:
        """Drop what a step that failed has collected."""
        self.optimizer.forget()

    def move(self, ledger: Ledger) -> None:
        """Nothing: the micro-batch is over, and the step is not."""
        self.tape.forget()
        self.trace.end_micro_batch()

    def repeat(self, times: int) -> int:
        """Let as many as `times` more micro-batches follow that are like the latest; how many did.

        None do before two alike have followed each other: the first ones have no gradient to add theirs to.
        """
        trace = self.trace
        steady, kept = times > 0 and trace.steady(), self._kept
        self._kept = []
        if not steady:
            return 0
        begin, end = trace.begins[-2:]
        trace.repeat(times)
        for _ in range(times):
            for layer, tile, x, dy, x_values in kept:
                trace.layer = layer
                self.optimizer.collect(tile, x, dy, x_values)
        shifts = range(end - begin, (times + 1) * (end - begin), end - begin)
        self._latest = {target: later(done, shifts[-1]) for target, done in self._latest.items()}
        for missing in self._missing.values():
            missing |= {task + shift for task in missing if task >= begin for shift in shifts}
        return times

    def finish(self) -> None:
        """Move everything: the step is over."""
        trace, first = self.trace, len(self.trace.tasks)
        self.optimizer.move(trace)
        arithmetic: dict[str, Waits] = {}  # the last of a layer
        for place in range(first, len(trace.tasks)):
            layer, before = trace.tasks[place].layer, arithmetic.get(trace.tasks[place].layer, ())
            if trace.tasks[place].tile:
                trace.wait(place, before)
            else:
                trace.wait(place, before or tuple(sorted(self._missing[layer])))
                arithmetic[layer] = (place,)
        trace.claim(())

    def _came(self, target: Any, layer: str, first: int, after: Waits) -> Waits:
        """Note the tasks from `first` on as the gradient of `target`, the last of which adds it to those before."""
        done = self.trace.chain(first, after)
        if target in self._latest and first < len(self.trace.tasks):
            self.trace.wait(done[0], self._latest[target])
        self._latest[target] = done
        layer = self._layers.setdefault(target, layer)
        self._missing[layer].update(done)
        return done


def is_move(op: Op) -> bool:
    """Whether an operation comes after all earlier use of its tile."""
    return isinstance(op, Product) and op.kind in MOVING


def later(tasks: Sequence[int], count: int) -> Waits:
    """The tasks that come `count` after others."""
    return tuple([task + count for task in tasks])


def merged(*waits: Waits) -> Waits:
    """All tasks of several, each once, in order, as they are in each."""
    found: Waits = ()
    for more in waits:
        if not found:
            found = more
        elif more:  # most often of one task, or later ones than all before
            if found[-1] < more[0]:
                found += more
            elif more[-1] < found[0]:
                found = more + found
            elif more != found:
                found = tuple(sorted({*found, *more}))
    return found

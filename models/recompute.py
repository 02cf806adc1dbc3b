"""Layers that compute again what they do not keep for the way back: couplings, and chains by a pebbling schedule.

What a pass keeps shows in the ledger: forwards hold bits on devices that say so, until they are released.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hwsim.arrays import Array
from hwsim.errors import ConfigError
from hwsim.nn import Network
from hwsim.tape import HostOp, Node, Record, Value

Segment = Callable[[Network, Value], Value]


class _Result(NamedTuple):
    """The live result of one segment, from which values, by which recorded operations."""

    x: Value
    y: Value
    record: Record


def coupled(net: Network, x: Value, by: Value, branch: Segment, plus: HostOp, minus: HostOp) -> Value:
    """y = plus(x, branch(by)), written over x: nothing but y and `by` is kept for the way back.

    Needs minus(y, branch(by)) = x, and that `plus` passes dy on as it is. What the branch leaves behind is released at
    once; on the way back it is computed again, x becomes what it was, and y is dropped. Nothing else may need x after
    this; ConfigError where a coupling does. The branch must do the same each time, and take `by` alone. Source: Gomez
    et al., The reversible residual network, 2017.
    """
    if x.data is None or by.data is None:
        raise ConfigError("an earlier coupling wrote over a value that this one needs; go on with what it returned")
    tape, branch = net.tape, from_here(net, branch)
    record = Record([], [])
    with tape.apart(record):
        try:
            output = tape.host(plus, x, tape.move(branch(net, by), x.device))
        finally:
            tape.release()

    def back(dy: Array) -> tuple[Array | None, ...]:
        with tape.apart(record):
            try:
                again = Value(by.data, by.device, by.wanted)
                change = tape.move(branch(net, again), x.device)
                x.data, output.data = tape.host(minus, output, change).data, None
                return dy, tape.gradient(change, dy, again)
            finally:
                tape.release()

    if output.wanted:
        x.data = None
        tape.nodes.append(Node(tape.ledger.layer, (x, by), output, back))
    return output


def chained(net: Network, x: Value, segments: Sequence[Segment], moves: Sequence[int]) -> Value:
    """segments[-1](... segments[0](x)), of whose results no more are live at once than `moves` make live.

    Moves are counted from 1: i computes the result of segment i from that of i - 1, -i releases it. They must make the
    results live from the last to the first, once each at least, and leave none (hwsim.models.pebbling has
    the fewest such for each number that is live). The part up to the first live result of the last segment is done
    forwards, the rest on the way back; without a gradient that part is undone at once. Segments must do the same each
    time. Raises ConfigError for moves that do not.
    """
    chain = _Chain(net, x, [from_here(net, segment) for segment in segments])
    count = len(segments)
    start = moves.index(count) + 1 if count in moves else len(moves)
    for move in moves[:start]:
        chain.make(move)
    last = chain.last_result()
    output = Value(last.data, last.device, last.wanted)
    if not output.wanted:
        for move in reversed(moves[:start]):
            chain.make(-move)
        return output
    net.tape.nodes.append(Node(net.tape.ledger.layer, (x,), output, lambda dy: (chain.back(dy, moves[start:]),)))
    return output


class _Chain:
    """The live results of a chain of segments."""

    def __init__(self, net: Network, x: Value, segments: Sequence[Segment]) -> None:
        self.net, self.x, self.segments = net, x, segments
        self.live: dict[int, _Result] = {}

    def make(self, move: int) -> None:
        """Compute a segment, or release it."""
        place, tape = abs(move), self.net.tape
        before = self.live[place - 1].y if place - 1 in self.live else self.x if place == 1 else None
        if before is None or place > len(self.segments) or (move > 0) == (place in self.live):
            raise ConfigError(f"move {move} is not possible while results {sorted(self.live)} are live")
        if move < 0:
            with tape.apart(self.live.pop(place).record):
                tape.release()
            return
        record = Record([], [])
        x = Value(before.data, before.device, before.wanted)
        with tape.apart(record):
            y = self.segments[place - 1](self.net, x)
        self.live[place] = _Result(x, y, record)

    def last_result(self) -> Value:
        """The result of the last segment. Raises ConfigError where it is not live."""
        if len(self.segments) not in self.live:
            raise ConfigError(f"the moves do not compute the last of {len(self.segments)} segments")
        return self.live[len(self.segments)].y

    def back(self, dy: Array, moves: Sequence[int]) -> Array | None:
        """Send dy back through the segments, each as soon as its result is live."""
        gradient: Array | None = dy
        place = len(self.segments)
        for move in (0, *moves):
            if move:
                self.make(move)
            while place in self.live:
                x, y, record = self.live[place]
                with self.net.tape.apart(record):
                    gradient = self.net.tape.gradient(y, gradient, x) if y.wanted else None
                place -= 1
        if place or self.live:
            raise ConfigError(
                f"the moves leave results {sorted(self.live)} live, and reach segment {place + 1} backwards"
            )
        return gradient


def from_here(net: Network, segment: Segment) -> Segment:
    """`segment` in the layer that the network is in now, wherever it is when that is computed again."""
    path = net.path

    def placed(net: Network, x: Value) -> Value:
        outside, net.path = net.path, path
        try:
            with net.tape.ledger.scope(layer=path):
                return segment(net, x)
        finally:
            net.path = outside

    return placed

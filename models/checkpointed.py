"""Multilayer perceptrons of which only so many layers are held at once; the others are computed again on the way back.

Where a forward leaves garbage that its release computes away, as on reversible logic, fewer live layers are less
garbage and more passes over the matrices. Values, gradients and weights are those of hwsim.models.mlp, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hwsim import nn
from hwsim.errors import ConfigError
from hwsim.models.mlp import whole
from hwsim.models.pebbling import fewest_sweep_pebbles, sweep_moves
from hwsim.models.recompute import Segment, chained
from hwsim.nn import Network
from hwsim.tape import Value

HIDDEN = "-".join(["64"] * 8)


@dataclass(frozen=True)
class Checkpointed:
    """Dense layers fc1, fc2, ... of the given widths, the first of which is the input's, `live` of them at once.

    Layers are made again by the schedule of fewest moves for so many; ReLU follows all but the last. Raises ConfigError
    where so few are not enough.
    """

    widths: tuple[int, ...]
    live: int
    recipe: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    reads: ClassVar[str] = "real-valued inputs"

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ConfigError(f"a checkpointed MLP needs at least two widths of one or more, got {list(self.widths)}")
        if self.live > self.layers:
            raise ConfigError(f"live={self.live} of {self.layers} layers; take {self.layers} or fewer")
        sweep_moves(self.layers, self.live)

    @property
    def layers(self) -> int:
        """How many dense layers there are."""
        return len(self.widths) - 1

    @property
    def live_choices(self) -> range:
        """What `live` can be."""
        return range(fewest_sweep_pebbles(self.layers), self.layers + 1)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.widths[:1]

    def __call__(self, net: Network, x: Value) -> Value:
        """x [m, widths[0]] -> [m, widths[-1]]."""
        layers = [self._layer(i) for i in range(1, self.layers + 1)]
        return chained(net, x, layers, sweep_moves(self.layers, self.live))

    def _layer(self, i: int) -> Segment:
        activation = "relu" if i < self.layers else None
        return lambda net, x: nn.dense(net, f"fc{i}", x, self.widths[i], activation=activation)


def checkpointed(
    *, hidden: str | Sequence[int] = HIDDEN, inputs: int = 64, outputs: int = 10, live: int | None = None
) -> Checkpointed:
    """An MLP by its hidden widths, such as checkpointed:hidden=64-64-64:live=3; live none: all of its layers."""
    widths = (inputs, *whole(hidden, "hidden"), outputs)
    return Checkpointed(widths, len(widths) - 1 if live is None else live)

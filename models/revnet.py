"""Networks of additive couplings in fixed point, whose inputs come back from their outputs bit for bit.

Half of the values is changed by a branch that reads the other half: x1 += F(x2), then x2 += G(x1). Sums are taken in
units of 2^-12 and modulo 2^12, as two's complement of 24 bits, so that they are exact in float32 and each has an
inverse whatever finite value the branch returns, overflow included. A residual network keeps what every block read;
this one computes it again, and what it keeps does not grow with the number of blocks. Sources: Gomez et al., The
reversible residual network, 2017; Dinh et al., NICE, 2014 (the additive coupling).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hwsim import nn, ops
from hwsim.arrays import Array, Namespace
from hwsim.errors import ConfigError
from hwsim.models.recompute import coupled
from hwsim.nn import Network
from hwsim.tape import HostOp, Value

UNIT = 2.0**-12  # of the values that couplings change
RANGE = 2.0**12  # sums are taken modulo this; 24 bits, as many as float32 has
RECIPE = {"data": "digits", "epochs": 10, "batch": 32, "learning_rate": 0.002, "optimizer": "adam"}


def in_units(xp: Namespace, x: Array) -> Array:
    """x rounded to units and taken modulo the range, to -RANGE / 2 up to RANGE / 2; exact in float32."""
    codes = RANGE / UNIT
    whole = xp.rint(xp.fmod(x, RANGE) / UNIT) % codes  # fmod is exact; x / UNIT could leave float32
    return xp.where(whole >= codes / 2, whole - codes, whole) * UNIT


def _passed(xp: Namespace, saved: None, dy: Array) -> tuple[Array, Array]:
    return dy, dy


# Rounding is passed by the gradient as it is, and nothing is rounded to the device's own format.
fixed = HostOp(
    "fixed",
    lambda xp, x: (in_units(xp, x), None),
    lambda xp, saved, dy: (dy,),
    ops.same,
    flops=4,
    rounds=False,
    backward_touches=lambda y, x: ([], []),
)
fixed_add = HostOp(
    "fixed_add",
    lambda xp, x, change: (in_units(xp, x + in_units(xp, change)), None),
    _passed,
    ops.same,
    flops=5,
    rounds=False,
    backward_touches=lambda y, x, change: ([], []),
)
fixed_subtract = HostOp(
    "fixed_subtract",
    lambda xp, x, change: (in_units(xp, x - in_units(xp, change)), None),
    lambda xp, saved, dy: (dy, -dy),
    ops.same,
    flops=5,
    rounds=False,
)


@dataclass(frozen=True)
class Revnet:
    """A dense layer onto 2 x `width` values, `blocks` of two couplings, and a dense layer to the outputs.

    Each branch is one dense layer with a ReLU and a linear one behind it, `width` wide. `recipe`: settings of hwsim.fit
    that this network is known to train with.
    """

    inputs: int
    width: int
    blocks: int
    outputs: int
    recipe: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    reads: ClassVar[str] = "real-valued inputs"

    def __post_init__(self) -> None:
        sizes = (self.inputs, self.width, self.blocks, self.outputs)
        if min(sizes) < 1:
            raise ConfigError(
                f"a revnet needs inputs, width, blocks and outputs of one or more, got {', '.join(map(str, sizes))}"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return (self.inputs,)

    def __call__(self, net: Network, x: Value) -> Value:
        """x [m, inputs] -> [m, outputs]."""
        start = nn.dense(net, "stem", x, 2 * self.width, activation="relu")
        x1, x2 = (net.apply(fixed, net.apply(ops.part(i, 2), start)) for i in range(2))
        y1, y2 = self.forwards(net, x1, x2)
        joined = net.apply(ops.reshape((-1, 2 * self.width)), net.apply(ops.stack_steps(2), y1, y2))
        return nn.dense(net, "head", joined, self.outputs)

    def forwards(self, net: Network, x1: Value, x2: Value) -> tuple[Value, Value]:
        """Both halves [m, width] through all blocks; they are overwritten where gradients are wanted."""
        for i in range(1, self.blocks + 1):
            with net.layer(f"block{i}"):
                x1 = coupled(net, x1, x2, self.f, fixed_add, fixed_subtract)
                x2 = coupled(net, x2, x1, self.g, fixed_add, fixed_subtract)
        return x1, x2

    def backwards(self, net: Network, y1: Value, y2: Value) -> tuple[Value, Value]:
        """What `forwards` was given, bit for bit, from what it returned."""
        for i in range(self.blocks, 0, -1):
            with net.layer(f"block{i}"):
                y2 = net.apply(fixed_subtract, y2, self.g(net, y1))
                y1 = net.apply(fixed_subtract, y1, self.f(net, y2))
        return y1, y2

    def f(self, net: Network, x2: Value) -> Value:
        """x2 [m, width] -> the change of x1 [m, width]."""
        return branch(net, "f", x2)

    def g(self, net: Network, x1: Value) -> Value:
        """x1 [m, width] -> the change of x2 [m, width]."""
        return branch(net, "g", x1)


def branch(net: Network, name: str, x: Value) -> Value:
    """x [m, width] -> [m, width]: a dense layer with a ReLU, and a linear one."""
    width = x.shape[-1]
    with net.layer(name):
        return nn.dense(net, "narrow", nn.dense(net, "wide", x, width, activation="relu"), width, initial=small)


def small(rng: Any, shape: tuple[int, ...]) -> Any:
    """Glorot-normal over ten: at its start a block changes little, so that depth does not matter yet."""
    return 0.1 * nn.glorot_normal(rng, shape)


def revnet(*, inputs: int = 64, width: int = 32, blocks: int = 4, outputs: int = 10) -> Revnet:
    """A reversible residual network, such as revnet(blocks=50) for the 8x8 digits."""
    return Revnet(inputs, width, blocks, outputs, RECIPE)

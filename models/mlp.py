"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hwsim import nn
from hwsim.errors import ConfigError
from hwsim.nn import Initial, Network
from hwsim.tape import Value


@dataclass(frozen=True)
class Mlp:
    """Dense layers fc1, fc2, ... of the given widths, the first of which is the input's.

    `activation` follows every layer but the last, `output` the last; "device" is the substrate's own. `recipe`:
    settings of hwsim.fit that this network is known to train with.
    """

    widths: tuple[int, ...]
    activation: str | None = "relu"
    output: str | None = None
    bias: bool = True
    initial: Initial | None = field(default=None, repr=False)  # of weights and biases; None: by activation, and zero
    recipe: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    reads: ClassVar[str] = "real-valued inputs"

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ConfigError(f"an MLP needs at least two widths of one or more, got {list(self.widths)}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.widths[:1]

    def __call__(self, net: Network, x: Value) -> Value:
        """x [m, widths[0]] -> [m, widths[-1]]."""
        last = len(self.widths) - 1
        for i, n in enumerate(self.widths[1:], start=1):
            activation = self.activation if i < last else self.output
            x = nn.dense(
                net,
                f"fc{i}",
                x,
                n,
                activation=activation,
                bias=self.bias,
                initial=self.initial,
                bias_initial=self.initial or nn.zeros,
            )
        return x


def mlp(
    widths: str | Sequence[int] | None = None,
    activation: str | None = "relu",
    *,
    hidden: str | Sequence[int] = (32,),
    inputs: int = 64,
    outputs: int = 10,
    output: str | None = None,
    bias: bool = True,
) -> Mlp:
    """A multilayer perceptron, such as mlp([64, 32, 10]) for the 8x8 digits.

    Or by its hidden widths alone, between `inputs` and `outputs`. Both may be text, such as "256-128".
    """
    all_widths = [inputs, *whole(hidden, "hidden"), outputs] if widths is None else whole(widths, "widths")
    return Mlp(tuple(all_widths), activation, output, bias)


def whole(widths: str | int | Sequence[int], what: str) -> list[int]:
    """Widths as numbers, from such or from text. Raises ConfigError for other text."""
    if not isinstance(widths, str | int):
        return list(widths)
    try:
        return [int(width) for width in str(widths).split("-")]
    except ValueError:
        raise ConfigError(f"{what} {widths!r}: write widths as 256-128") from None


def xor() -> Mlp:
    """The smallest network that computes XOR: two inputs, two sigmoid neurons, one sigmoid output.

    Its recipe: plain gradient descent at rate 20 on all four rows, squared error, all parameters starting uniform
    in (-0.5, 0.5); about 93% of starts solve it within 1,000 epochs, the others are stuck in local minima.
    """
    recipe = {
        "data": "xor", "epochs": 1000, "batch": 4, "learning_rate": 20.0, "optimizer": "sgd", "loss": "mse",
        "until": 1.0,
    }  # fmt: skip
    return Mlp((2, 2, 1), "sigmoid", "sigmoid", initial=nn.uniform(0.5), recipe=recipe)

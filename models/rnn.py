"""Recurrent language models. Source: Elman 1990, Finding structure in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hwsim import nn
from hwsim.errors import ConfigError
from hwsim.nn import Network
from hwsim.tape import Value

RECIPE = {"data": "corpus", "epochs": 1, "batch": 32, "learning_rate": 0.01, "optimizer": "adam"}


@dataclass(frozen=True)
class Rnn:
    """Token ids [m, length] -> the next token's scores at every position, [m, length, vocabulary]: one Elman layer.

    `recipe`: settings of hwsim.fit that this network is known to train with.
    """

    vocabulary: int
    length: int = 32
    width: int = 64
    recipe: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    reads: ClassVar[str] = "token ids"

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.length, self.width)
        if min(sizes) < 1:
            raise ConfigError(
                f"an RNN needs vocabulary, length and width of one or more, got {', '.join(map(str, sizes))}"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return (self.length,)

    def __call__(self, net: Network, x: Value) -> Value:
        """x [m, length] -> [m, length, vocabulary]."""
        x = nn.embed(net, "embedding", x, self.vocabulary, self.width)
        x = nn.recurrent(net, "cell", x, self.width)
        return nn.dense(net, "unembedding", x, self.vocabulary)


def rnn(*, vocabulary: int = 128, length: int = 32, width: int = 64) -> Rnn:
    """An Elman network over `vocabulary` tokens, such as rnn(vocabulary=65) for characters; the default is ASCII."""
    return Rnn(vocabulary, length, width, RECIPE)

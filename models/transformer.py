"""Decoder-only transformers: language models that see what came before. Source: Radford et al. 2019 (GPT-2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hwsim import nn, ops
from hwsim.errors import ConfigError
from hwsim.nn import Network
from hwsim.tape import Value

RECIPE = {"data": "corpus", "epochs": 1, "batch": 32, "learning_rate": 0.003, "optimizer": "adam"}


@dataclass(frozen=True)
class Gpt:
    """Token ids [m, length] -> the next token's scores at every position, [m, length, vocabulary].

    Pre-norm blocks of causal attention and a GELU layer four times as wide. The host looks the embedding up; the
    unembedding is a tile of its own, as a table that is looked up is no matrix that is multiplied by.
    `recipe`: settings of hwsim.fit that this network is known to train with.
    """

    vocabulary: int
    length: int = 64
    width: int = 64
    heads: int = 4
    layers: int = 2
    recipe: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    reads: ClassVar[str] = "token ids"

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.length, self.width, self.heads, self.layers)
        if min(sizes) < 1 or self.width % self.heads:
            raise ConfigError(
                "a GPT needs vocabulary, length, width, heads and layers of one or more, and a width that divides "
                f"into the heads; got {', '.join(map(str, sizes))}"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return (self.length,)

    def __call__(self, net: Network, x: Value) -> Value:
        """x [m, length] -> [m, length, vocabulary]."""
        x = nn.embed(net, "embedding", x, self.vocabulary, self.width)
        with net.layer("positions"):
            x = net.apply(ops.position_add(), x, net.parameter("table", (self.length, self.width), small))
        for i in range(1, self.layers + 1):
            with net.layer(f"block{i}"):
                x = self.block(net, x)
        return nn.dense(net, "unembedding", nn.layer_norm(net, "norm", x), self.vocabulary, bias=False)

    def block(self, net: Network, x: Value) -> Value:
        """x [m, length, width] -> x and what attention and then a wide layer add to it."""
        x = net.apply(ops.add, x, nn.attention(net, "attention", nn.layer_norm(net, "norm1", x), self.heads))
        wide = nn.dense(net, "up", nn.layer_norm(net, "norm2", x), 4 * self.width, activation="gelu")
        return net.apply(ops.add, x, nn.dense(net, "down", wide, self.width))


def small(rng: Any, shape: tuple[int, ...]) -> Any:
    """Normal with a deviation of 0.02, as GPT-2's tables start."""
    return 0.02 * rng.standard_normal(shape)


def gpt(*, vocabulary: int = 128, length: int = 64, width: int = 64, heads: int = 4, layers: int = 2) -> Gpt:
    """A small causal transformer over `vocabulary` tokens, such as gpt(vocabulary=65); the default is ASCII."""
    return Gpt(vocabulary, length, width, heads, layers, RECIPE)

"""Learning rules by name: each turns one mini-batch into one move of the weights, and may prepare for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hwsim.errors import ConfigError
from hwsim.learning.backprop import backprop
from hwsim.learning.leapfrog import leapfrog, mover_of
from hwsim.nn import Network
from hwsim.optim import Optimizer

RULES: dict[str, Callable[..., Any]] = {"backprop": backprop, "leapfrog": leapfrog}
PREPARATIONS: dict[str, Callable[[Network, Optimizer], Any]] = {"leapfrog": mover_of}


def rule(name: str) -> Callable[..., Any]:
    """The learning rule called `name`. Raises ConfigError for an unknown one."""
    try:
        return RULES[name]
    except KeyError:
        raise ConfigError(f"no learning rule {name!r}; known: {', '.join(RULES)}") from None


def prepare(name: str, net: Network, optimizer: Optimizer) -> None:
    """Ready a network for the rule called `name`, with the optimizer's state as it is now, resumed or new.

    What cannot be trained by the rule is refused here, with a ConfigError, before a first step.
    """
    if name in PREPARATIONS:
        PREPARATIONS[name](net, optimizer)

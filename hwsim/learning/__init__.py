"""Learning rules by name: each turns one mini-batch into one move of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hwsim.errors import ConfigError
from hwsim.learning.backprop import backprop
from hwsim.learning.leapfrog import leapfrog

RULES: dict[str, Callable[..., Any]] = {"backprop": backprop, "leapfrog": leapfrog}


def rule(name: str) -> Callable[..., Any]:
    """The learning rule called `name`. Raises ConfigError for an unknown one."""
    try:
        return RULES[name]
    except KeyError:
        raise ConfigError(f"no learning rule {name!r}; known: {', '.join(RULES)}") from None

"""Networks by name: what NAME[:key=value]... means, each value read as the type that the model's factory declares."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from hwsim import registry
from hwsim.errors import ConfigError, HwsimError, PluginError
from hwsim.parameters import whole

LARGEST = 2**63 - 1  # of a whole number: what an int64 holds


class Named(NamedTuple):
    """A model that was asked for: its factory, the parameters that this has, and those that were given."""

    name: str
    factory: Any
    known: Mapping[str, inspect.Parameter]
    given: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether nothing more is needed to build it."""
        return all(each.default is not inspect.Parameter.empty or key in self.given for key, each in self.known.items())

    def built(self, **others: Any) -> Any:
        """The model, of what was given and then of `others`. Raises ConfigError where its factory refuses."""
        parameters = others | dict(self.given)
        try:
            return self.factory(**parameters)
        except HwsimError:
            raise
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ConfigError(f"model {self.name!r} cannot be built from {parameters}: {error}") from None


def network(text: str) -> Any:
    """The model that a text asks for, by itself. Raises as `named` does, and ConfigError where it cannot be built."""
    return named(text).built()


def named(text: str) -> Named:
    """What is asked for by NAME[:key=value]...

    Raises DeviceError for an unknown name or a malformed text, PluginError where it does not import or is no model, and
    ConfigError for a parameter that it has not, or a value that is none.
    """
    parsed = registry.parse_device(text)
    name = parsed.name
    if parsed.preset is not None:
        raise ConfigError(f"model {text!r}: {parsed.preset!r} is not key=value")
    factory = registry.load(registry.MODELS, "model", name)
    known = parameters_of(name, factory)
    for key in parsed.parameters:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"model {name!r} has no parameter {key!r}; it has: {', '.join(known) or 'none'}{hint}")
    written = parsed.parameters.items()
    return Named(name, factory, known, {k: typed(f"{name}:{k}={v}", known[k].annotation, v) for k, v in written})


def parameters_of(name: str, factory: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a model's factory, their types resolved. Raises PluginError where it is no function of such."""
    try:
        return inspect.signature(factory, eval_str=True).parameters
    except Exception as error:  # annotations that cannot be resolved raise whatever they meet
        raise PluginError(f"model {name!r} is {factory!r}, whose parameters cannot be told: {error}") from None


def typed(where: str, hint: Any, text: str) -> Any:
    """What a text means for a parameter of this type; of types other than these, what it looks like.

    Raises ConfigError where it is no such value.
    """
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    if types.NoneType in options and text.lower() == "none":
        return None
    try:
        if bool in options:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if int in options and str not in options and float not in options:
            return counted(text)
        if float in options and str not in options:
            return float(text)
    except (ValueError, KeyError, OverflowError):
        kinds = " or ".join(getattr(option, "__name__", str(option)) for option in options)
        raise ConfigError(f"{where} cannot be read as {kinds}") from None
    return text if str in options else literal(text)


def counted(text: str) -> int:
    """A whole number. Raises ValueError for anything else, or one that no array could have as its size."""
    number = whole(text)
    if abs(number) > LARGEST:
        raise ValueError(text)
    return number


def literal(text: str) -> int | float | str | bool | None:
    """A number, truth value or None where the text is one."""
    words: dict[str, bool | None] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text

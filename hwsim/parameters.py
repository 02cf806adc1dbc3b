"""Parameters as annotated class attributes: defaults, units, bounds, and reading them from text."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from typing import Any

from hwsim.cost import Quantity
from hwsim.errors import DeviceError, PluginError

LARGEST, LEAST = 1e40, 1e-60  # magnitudes beyond any in nature, products of some of which a float still holds


def parameter(
    default: Any = dataclasses.MISSING,
    *,
    unit: str = "",
    doc: str = "",
    low: float = -math.inf,
    high: float = math.inf,
    choices: Sequence[str] = (),
) -> Any:
    """A device parameter: its default (none: required), unit, meaning, and what is allowed (bounds included)."""
    metadata = {"unit": unit, "doc": doc, "low": low, "high": high, "choices": tuple(choices)}
    return dataclasses.field(default=default, metadata=metadata)


def parameters_of(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """The parameters of a device class by name."""
    return {field.name: field for field in dataclasses.fields(cls)}


_HINTS: dict[type, dict[str, Any]] = {}


def hints_of(cls: type) -> dict[str, Any]:
    """The resolved types of a device's parameters. Raises PluginError where they cannot be resolved."""
    if cls not in _HINTS:
        try:
            _HINTS[cls] = typing.get_type_hints(cls)
        except Exception as error:
            raise PluginError(f"{cls.__name__}: the types of its parameters cannot be resolved: {error}") from error
    return _HINTS[cls]


def coerced(owner: str, field: dataclasses.Field[Any], hint: Any, value: Any) -> Any:
    """`value` as the type that a parameter is declared with, within its bounds. Raises DeviceError otherwise."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    where = f"{owner}: {field.name}={value!r}"
    if value is None or (isinstance(value, str) and value.lower() == "none" and types.NoneType in options):
        if types.NoneType not in options:
            raise DeviceError(f"{where}: a value is needed")
        return None
    try:
        if Quantity in options and not isinstance(value, Quantity):
            value = Quantity.of(float(value))
        elif bool in options:
            value = {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        elif int in options and not isinstance(value, int):
            value = whole(value)
        elif float in options:
            value = float(value)
        elif (str in options) != isinstance(value, str) or not is_one_of(options, value):
            raise TypeError("it is set by presets alone" if isinstance(value, str) else f"a {type(value).__name__}")
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        kinds = ", ".join(getattr(option, "__name__", str(option)) for option in options)
        raise DeviceError(f"{where} cannot be read as {kinds}: {error}") from None
    return within(where, field, value)


def is_one_of(options: Sequence[Any], value: Any) -> bool:
    """Whether a value is of one of the declared types, as far as they are types."""
    kinds = [typing.get_origin(option) or option for option in options]
    if not all(isinstance(kind, type) and kind is not Any for kind in kinds):
        return True
    lists = (list,) if tuple in kinds else ()  # which is what a TOML has
    return isinstance(value, (*kinds, *lists))


def whole(value: Any) -> int:
    """A whole number, of any size where it is written as one. Raises ValueError, TypeError or OverflowError."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value)
    if float(value) != int(float(value)):
        raise ValueError("not a whole number")
    return int(float(value))


def within(where: str, field: dataclasses.Field[Any], value: Any) -> Any:
    """`value`, if it lies within the bounds and choices of its parameter. Raises DeviceError otherwise."""
    number = value.nominal if isinstance(value, Quantity) else value
    low, high = field.metadata.get("low", -math.inf), field.metadata.get("high", math.inf)
    if isinstance(number, int | float) and not isinstance(number, bool):
        unit = f" {field.metadata['unit']}" if field.metadata.get("unit") else ""
        if not (-math.inf < number < math.inf and low <= number <= high):
            raise DeviceError(f"{where}: needs a finite value from {low:g} to {high:g}{unit}")
        if number and not LEAST <= abs(number) <= LARGEST:
            raise DeviceError(f"{where}: needs a magnitude from {LEAST:g} to {LARGEST:g}{unit}, or 0")
    choices = field.metadata.get("choices", ())
    if choices and value not in choices:
        raise DeviceError(f"{where}: needs one of {', '.join(choices)}")
    return value

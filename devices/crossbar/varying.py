"""How cell classes are declared: parameters that vary from device to device, and their draws."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, TypeVar, dataclass_transform

from hwsim.arrays import Array, Namespace
from hwsim.parameters import hints_of, parameter

LAWS = ("normal", "lognormal", "absolute")

T = TypeVar("T")


def varying(
    default: Any = dataclasses.MISSING,
    *,
    d2d: float = 0.0,
    law: str = "normal",
    unit: str = "",
    doc: str = "",
    **limits: Any,
) -> Any:
    """A parameter that differs from device to device by sigma `d2d`, with xi of the standard normal distribution.

    `normal`: value (1 + d2d xi); `lognormal`: value exp(d2d xi); `absolute`: value + d2d xi. The class also gets the
    parameters NAME_d2d and NAME_law, by which presets and users change both.
    """
    field = parameter(default, unit=unit, doc=doc, **limits)
    return dataclasses.field(default=default, metadata={**field.metadata, "d2d": d2d, "law": law})


def spread(xp: Namespace, value: float, sigma: float, law: str, xi: Array) -> Array:
    """A parameter's values over devices from standard normal xi; see `varying`."""
    if law == "lognormal":
        return value * xp.exp(sigma * xi)
    return value + sigma * xi if law == "absolute" else value * (1 + sigma * xi)


class Silent:
    """A generator without randomness: normal draws are 0, uniform draws 1/2. Cells are then typical, pulses mean."""

    def __init__(self, xp: Namespace, normal: float = 0.0) -> None:
        self.xp, self.normal = xp, normal

    def standard_normal(self, size: Any = (), dtype: Any = None) -> Array:
        """The chosen value instead of a draw, 0 unless told."""
        return self.xp.full(size, self.normal, dtype=dtype or self.xp.float64)

    def random(self, size: Any = (), dtype: Any = None) -> Array:
        """1/2 everywhere."""
        return self.xp.full(size, 0.5, dtype=dtype or self.xp.float64)


def frozen(value: Any) -> Any:
    """Lists, as TOML has them, as tuples, so that cells can be compared and hashed."""
    return tuple(frozen(item) for item in value) if isinstance(value, list | tuple) else value


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(parameter, varying))
def declare(cls: type[T]) -> type[T]:
    """Make a class of annotated parameters a frozen dataclass; varying ones get their NAME_d2d and NAME_law."""
    own = dict(inspect.get_annotations(cls))
    for name in list(own):
        field = cls.__dict__.get(name)
        if isinstance(field, dataclasses.Field) and "d2d" in field.metadata:
            for suffix, kind, limits in (("d2d", "float", {"low": 0.0}), ("law", "str", {"choices": LAWS})):
                if f"{name}_{suffix}" not in own:
                    default = cls.__dict__.get(f"{name}_{suffix}", field.metadata[suffix])
                    doc = f"device to device, {name}: {'sigma' if suffix == 'd2d' else 'law'}"
                    own[f"{name}_{suffix}"] = kind
                    setattr(cls, f"{name}_{suffix}", parameter(default, doc=doc, **limits))
    for base in cls.__mro__[1:]:  # `w_max = 2.0` in a class body is a new default, as one expects
        for name, field in getattr(base, "__dataclass_fields__", {}).items():
            if name in cls.__dict__ and name not in own:
                own[name] = hints_of(base)[name]
                setattr(cls, name, dataclasses.field(default=cls.__dict__[name], metadata=field.metadata))
    cls.__annotations__ = own
    return dataclasses.dataclass(frozen=True, kw_only=True, repr=False)(cls)

"""Technologies by name, from reversible.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hwsim import library
from hwsim.cost import Quantity
from hwsim.devices.reversible.energy import Adiabatic, Conventional, check_numbers
from hwsim.devices.reversible.superconducting import Josephson
from hwsim.errors import ConfigError

PRESETS = Path(__file__).with_name("reversible.toml")

Technology = Adiabatic | Conventional | Josephson
LOADED = ("capacitance_f", "leakage_siemens")  # what grows with the gates on a wire
LAWS: dict[str, type[Technology]] = {"adiabatic": Adiabatic, "conventional": Conventional, "josephson": Josephson}


def technology(values: Mapping[str, Any], *, draws: int = 0, seed: int = 0) -> Technology:
    """The technology that a preset's `values` describe, nominal, or with `draws` of every value behind the nominal one.

    `law` says which dataclass takes them; it takes what it has fields for, since a preset inherits values of other
    laws. `load` is that of a wire between gates: it multiplies the capacitance and the leakage of a node. Raises
    ConfigError for an unknown law, a missing value, and values out of range.
    """
    law = values.get("law")
    if law not in LAWS:
        raise ConfigError(f"no law {law!r} of energy; known: {', '.join(LAWS)}")
    wanted = [field.name for field in fields(LAWS[law])]
    if missing := [name for name in wanted if name not in values]:
        raise ConfigError(f"law {law}: needs {', '.join(missing)}")
    given: dict[str, Any] = {name: values[name] for name in wanted}
    for name, value in given.items():
        if isinstance(value, Quantity):
            given[name] = value.draws(draws, name, seed)
    if (load := values.get("load")) is not None:
        factor = load.draws(draws, "load", seed) if isinstance(load, Quantity) else load
        check_numbers(law, {"load": factor}, {})
        given |= {name: given[name] * factor for name in LOADED if name in given}
    return LAWS[law](**given)


def named(preset: str, *, draws: int = 0, seed: int = 0) -> Technology:
    """The technology of a preset of reversible.toml. Raises ConfigError where there is none of that name."""
    known = library.presets(PRESETS)
    if preset not in known:
        raise ConfigError(f"no reversible technology {preset!r}; known: {', '.join(known)}")
    return technology(known[preset], draws=draws, seed=seed)

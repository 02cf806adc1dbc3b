"""The one boundary around all rows of a comparison: from a device's joules to joules at the wall plug."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.cost import Quantity, Value
from hwsim.errors import ConfigError
from hwsim.library import read_values


@dataclass(frozen=True)
class Boundary:
    """What stands around every substrate alike: wall plug = PUE / efficiency x (device + host power x time + input).

    The host processor dispatches and feeds data: it is on for the whole time, whatever the substrate.
    """

    host_power_w: Quantity  # processor and memory of the computer that dispatches [W]
    supply_efficiency: Quantity  # direct current out over mains power in
    power_usage_effectiveness: Quantity  # site over equipment power: cooling and distribution
    input_energy_j_per_byte: Quantity  # reading a byte of training data and carrying it to the device [J]

    def wall_plug_j(
        self, device_j: Value, time_s: Value, input_bytes: float, *, draws: int = 0, seed: int = 0
    ) -> Value:
        """Joules at the wall plug for `device_j` [J] spent over `time_s` [s] on `input_bytes` of data."""
        drawn = {f.name: getattr(self, f.name).draws(draws, f"boundary/{f.name}", seed) for f in fields(self)}
        # Drawn far enough up or down, a supply would make energy and a site would use less than its computers.
        efficiency = np.minimum(drawn["supply_efficiency"], 1.0)
        effectiveness = np.maximum(drawn["power_usage_effectiveness"], 1.0)
        inside = device_j + drawn["host_power_w"] * time_s + drawn["input_energy_j_per_byte"] * input_bytes
        return inside / efficiency * effectiveness

    def without_host(self) -> Boundary:
        """The same without the host processor: how much of a result rests on it."""
        return replace(self, host_power_w=Quantity.of(0.0))

    def as_dict(self) -> dict[str, Any]:
        """Values, sources and certainties, ready for JSON."""
        return {f.name: as_dict(getattr(self, f.name)) for f in fields(self)}


def as_dict(quantity: Quantity) -> dict[str, Any]:
    """A quantity ready for JSON."""
    return {f.name: getattr(quantity, f.name) for f in fields(quantity) if f.name != "key"}


@cache
def standard_boundary() -> Boundary:
    """The boundary of boundary.toml. Raises ConfigError where an efficiency exceeds one or a PUE falls below it."""
    boundary = Boundary(**read_values(Path(__file__).with_name("boundary.toml")))
    if boundary.supply_efficiency.high > 1 or boundary.power_usage_effectiveness.low < 1:
        raise ConfigError("boundary: supply efficiency must stay below 1 and PUE above 1")
    return boundary

"""Cells for tests of the crossbar, in a file as a user would write it, and devices of them."""

from __future__ import annotations

from typing import Any

from hwsim.devices.crossbar import Crossbar
from hwsim.devices.crossbar.cells import Cell
from hwsim.devices.crossbar.steps import ConstantStep, SoftBoundsReference

EXACT: dict[str, Any] = {"dac_bits": 0, "adc_bits": 0, "adc_effective_bits": 9, "output_noise": 0, "output_bound": 1e6}
ALIKE = {"dw_min_d2d": 0.0, "dw_min_std": 0.0, "up_down_d2d": 0.0, "w_min_d2d": 0.0, "w_max_d2d": 0.0}
WINDOW = {"g_min_siemens": 1e-6, "g_max_siemens": 1e-5}


def crossbar(preset: str | None = None, /, **parameters: Any) -> Crossbar:
    """A crossbar with other parameters than its preset's."""
    return Crossbar.create(preset, parameters)


def plain(name: str = "Plain", /, **parameters: Any) -> Crossbar:
    """A crossbar of the cells called `name` here, whose converters neither round nor add noise."""
    return crossbar("idealized", cell=f"{__file__}:{name}", **{**EXACT, **parameters})


class Noisy(Cell):
    """Read with a sigma of 0.05, programmed with one of 0.02."""

    g_min_siemens = 1e-6
    g_max_siemens = 1e-5

    def read_std(self, xp: Any, g: Any, per_device: Any, time_s: float = 0.0) -> Any:
        return xp.full_like(g, 0.05)

    def program_std(self, xp: Any, g: Any, per_device: Any) -> Any:
        return xp.full_like(g, 0.02)


class Fading(Cell):
    """Conductance falls as (1 + t)^-0.1 from a window that begins at nothing."""

    w_min = 0.0
    g_min_siemens = 0.0
    g_max_siemens = 1e-5

    def drift(self, xp: Any, g: Any, per_device: Any, time_s: float, rng: Any) -> Any:
        return g * (1 + self.checked(time_s)) ** -0.1


class Vanishing(Fading):
    """Nothing is left after a while."""

    def drift(self, xp: Any, g: Any, per_device: Any, time_s: float, rng: Any) -> Any:
        return g * (self.checked(time_s) < 1)


Plain = ConstantStep(dw_min=0.001, w_min=-1.0, w_max=1.0, **ALIKE, **WINDOW)  # type: ignore[arg-type]
Climbing = ConstantStep(dw_min=0.001, w_min=0.0, w_max=1.0, **ALIKE, **WINDOW)  # type: ignore[arg-type]
Wide = ConstantStep(dw_min=0.002, w_min=-10.0, w_max=10.0, **ALIKE, **WINDOW)  # type: ignore[arg-type]
Soft = SoftBoundsReference(dw_min=0.002, w_min=-0.6, w_max=0.6, **WINDOW)  # type: ignore[arg-type]

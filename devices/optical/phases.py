"""Training a mesh by its phases: gradients that light measures in place, and phases that follow them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from hwsim.arrays import Array
from hwsim.devices.optical import chips
from hwsim.devices.optical.activity import Counts
from hwsim.devices.optical.decomposition import Shifters
from hwsim.devices.optical.insitu import measured_chip_gradient, resent
from hwsim.devices.optical.svd import SvdMesh
from hwsim.devices.optical.units import units
from hwsim.tile import Tile


def move(device: Counts, tile: Tile, x: Array, dy: Array, scale: float) -> None:
    """Phases and attenuations += scale x dL/d(each), for x [..., m, k] and dL/dy = dy [..., m, n]; then settle."""
    if x.shape[-2] == 0:
        return
    rng, state = tile.rng("meters"), tile.state
    readings: Literal[2, 3] = 2 if device.readings == 2 else 3
    for unit in units(device, tile):
        chip, lead = chips.mesh_unit(device, tile, unit), unit.place[:-2]
        # in one order of memory, or sums over the batch would depend on where values lie
        fields, errors = (np.array(part.T, order="C") for part in (x[lead][:, unit.rows], dy[lead][:, unit.columns]))
        monitor = device.monitor(*unit.shape)
        found = measured_chip_gradient(np, chip, fields, errors, monitor, rng, resend(device, chip), readings)
        for side, gradient in zip(chips.SIDES, (found.first, found.second), strict=True):
            follow(device, tile, f"{unit.number}/{side}", gradient, scale * device.phase_rate)
        attenuation = f"{unit.number}/attenuation"
        state[attenuation] = np.clip(state[attenuation] + scale * device.phase_rate * found.attenuation, 0.0, 1.0)
    chips.settle(device, tile)
    state["target"] = state["w"].copy()


def resend(device: Counts, chip: SvdMesh) -> tuple[Shifters, Shifters] | None:
    """What the operator makes good for of the loss of light that is sent again; two readings: nothing.

    They weigh each shifter by the light that is left, and so by how well it is read; to divide by that would drown the
    others in the noise of the last columns.
    """
    if device.readings == 2:
        return None
    amplitude = device.imperfections.column_amplitude
    return resent(np, chip.first.layout, amplitude), resent(np, chip.second.layout, amplitude)


def follow(device: Counts, tile: Tile, name: str, gradient: Shifters, rate: float) -> None:
    """Phases of one mesh along their gradient."""
    told = chips.told(tile, name)
    moved: list[Any] = [part + rate * change for part, change in zip(told, gradient, strict=True)]
    chips.keep_phases(tile, name, Shifters(*moved), device.xp)

"""Weights that are pixels, rings or pulses of light: rounded, with fixed errors, crosstalk and drift."""

from __future__ import annotations

from typing import Any

from hwsim.arrays import Array
from hwsim.devices.optical.converting import quantised
from hwsim.devices.optical.device import Optics
from hwsim.devices.optical.units import Unit, units
from hwsim.tile import Tile

BACKWARD = "/backward"  # of what a bank for the transpose has to itself


def within_scale(device: Optics, target: Array) -> Array:
    """Weights cut to a given scale, of optics that hold or send them one by one."""
    if device.optics == "mesh" or device.weight_scale is None:
        return target
    return device.xp.clip(target, -device.weight_scale, device.weight_scale)


def settle(device: Optics, tile: Tile, rng: Any) -> None:
    """The scale of each unit, and the weights that act; `rng` draws drift, None: there is none."""
    state = tile.state
    for unit in units(device, tile):
        largest = float(device.xp.abs(state["target"][unit.block]).max())
        state["scales"][unit.place] = device.weight_scale or largest or 1.0
    state["w"] = bank(device, tile, rng, "")
    if device.banks_of_weights == 2:
        state["w/backward"] = bank(device, tile, rng, BACKWARD)


def bank(device: Optics, tile: Tile, rng: Any, way: str) -> Array:
    """The weights [..., k, n] as units do them that light passes one `way`, or both."""
    w = device.xp.array(tile.state["target"], order="C")
    if not device.exact_weights:
        for unit in units(device, tile):
            w[unit.block] = acting(device, tile, unit, rng, way)
    return w


def acting(device: Optics, tile: Tile, unit: Unit, rng: Any, way: str) -> Array:
    """One unit's weights as they act when `target` was asked for at the unit's scale."""
    xp, state = device.xp, tile.state
    full = float(state["scales"][unit.place])
    asked = xp.clip(state["target"][unit.block], -full, full)
    block = quantised(xp, asked, xp.asarray(full), device.weight_bits)
    if device.weight_sigma:
        block = block + (device.weight_sigma * full) * state[f"draws{way}"][unit.block]
    if rng is not None:
        block = block + (device.drift_sigma * full) * rng.standard_normal(unit.shape)
    if way == BACKWARD:  # the inputs of the transpose are the outputs
        return beside(block.swapaxes(0, 1), device.weight_crosstalk).swapaxes(0, 1)
    return beside(block, device.weight_crosstalk)


def beside(block: Array, share: float) -> Array:
    """A unit's weights when each acts on the inputs beside its own as well."""
    if share == 0:
        return block
    mixed = block.copy()
    mixed[1:] += share * block[:-1]
    mixed[:-1] += share * block[1:]
    return mixed

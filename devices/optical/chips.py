"""Units of optics programmed: what each is told, what it does, and what that makes of the weights.

A unit's state on the tile, c its number (units.py); what is no mesh: elements.py.

    target                what was asked for, kept in electronics [..., k, n]
    w, w/backward         what products multiply by [..., k, n]; the other, where errors pass a bank of their own
    scales                singular value, or weight, of full transmission [..., units down, units across]
    sigma/forward, /backward   noise of results for vectors of size 1 [..., units down, n], [..., units across, k]
    crest/forward, /backward   two arms: crests of the weights as they are sent [..., n], [..., k]
    c/first, c/second     a mesh: /draws and /ends of its fabrication, /phases and /output as told to its drivers,
                          /actual phases; c/attenuation
    c/locked              the phase of the unit's local oscillators, over that of light at its inputs [rad]
    draws, draws/backward of fixed errors of pixels or rings
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from hwsim.arrays import Array, generator, key_of
from hwsim.devices.optical import converting, detection, elements, svd
from hwsim.devices.optical.decomposition import Layout, Shifters, layout_of, wrapped
from hwsim.devices.optical.device import Optics
from hwsim.devices.optical.imperfections import Fabrication, corrected, fabricated, realised, standard_draws
from hwsim.devices.optical.mesh import Mesh
from hwsim.devices.optical.svd import SvdMesh, factorise
from hwsim.devices.optical.units import Unit, parts, units
from hwsim.tile import Tile

SIDES = ("first", "second")


# -- streams ---------------------------------------------------------------------------------------------------


def fabrication_stream(device: Optics, tile: Tile) -> Any:
    """Of what is fixed in a chip."""
    if device.chip_seed is None:
        return tile.rng("fabrication")
    return generator(device.xp, key_of("fabrication", device.chip_seed, tile.name))


def drift_stream(device: Optics, tile: Tile) -> Any:
    """Of what changes with every update."""
    if device.drift_seed is None:
        return tile.rng("drift")
    return generator(device.xp, key_of("drift", device.drift_seed, tile.name), tile.state["moves"])


# -- programming -----------------------------------------------------------------------------------------------


def fabricate(device: Optics, tile: Tile) -> None:
    """Draw the chips that the tile gets."""
    rng, state = fabrication_stream(device, tile), tile.state
    state["moves"] = 0
    state["scales"] = device.xp.zeros((*tile.shape[:-2], *map(len, parts(device, tile))))
    if device.optics == "mesh":
        for unit in units(device, tile):
            for side, modes in zip(SIDES, unit.shape, strict=True):
                name = f"{unit.number}/{side}"
                state[f"{name}/draws"], state[f"{name}/ends"] = standard_draws(layout(device, modes), rng)
    elif device.weight_sigma:
        for way in ("", elements.BACKWARD)[: device.banks_of_weights or 1]:
            state[f"draws{way}"] = rng.standard_normal(tile.shape)


def program(device: Optics, tile: Tile, *, saturate: bool) -> None:
    """Tell the units to do `target`, and work out what they do."""
    if device.optics == "mesh":
        for unit in units(device, tile):
            tell(device, tile, unit, saturate)
    settle(device, tile)


def layout(device: Optics, modes: int) -> Layout:
    """The mesh of so many modes."""
    return layout_of(device.mesh_kind, modes)


def chip_of(device: Optics, tile: Tile, name: str, modes: int) -> Fabrication:
    """A mesh as it was made."""
    state = tile.state
    return fabricated(
        device.xp, layout(device, modes), device.imperfections, state[f"{name}/draws"], state[f"{name}/ends"]
    )


def tell(device: Optics, tile: Tile, unit: Unit, saturate: bool) -> None:
    """Decompose one unit's weights into the phases and attenuations that its drivers get."""
    xp, state = device.xp, tile.state
    if saturate and device.weight_scale is not None:  # what was asked for in vain is not remembered
        state["target"][unit.block] = shrunk(xp, state["target"][unit.block], device.weight_scale)
    block = state["target"][unit.block]
    factors = factorise(xp, block, device.mesh_kind, device.weight_scale, saturate=saturate)  # type: ignore[arg-type]
    for side, (_, phases) in zip(SIDES, (factors.first, factors.second), strict=True):
        name = f"{unit.number}/{side}"
        if device.calibrated and (device.fixed_errors or device.heat_crosstalk):
            phases = corrected(xp, chip_of(device, tile, name, phases.output.size), phases)
        keep_phases(tile, name, phases, xp)
    state[f"{unit.number}/attenuation"] = factors.attenuation
    state["scales"][unit.place] = factors.scale


def shrunk(xp: Any, block: Array, scale: float) -> Array:
    """A matrix with its singular values cut to `scale`."""
    u, s, v = xp.linalg.svd(block, full_matrices=False)
    return (u * xp.minimum(s, scale)) @ v


def keep_phases(tile: Tile, name: str, phases: Shifters, xp: Any) -> None:
    """Phases as drivers get them."""
    tile.state[f"{name}/phases"] = wrapped(xp, xp.stack([phases.theta, phases.phi]))
    tile.state[f"{name}/output"] = wrapped(xp, phases.output)


def told(tile: Tile, name: str) -> Shifters:
    """The phases that drivers have."""
    theta, phi = tile.state[f"{name}/phases"]
    return Shifters(theta, phi, tile.state[f"{name}/output"])


# -- what follows ----------------------------------------------------------------------------------------------


def settle(device: Optics, tile: Tile) -> None:
    """Work out what products multiply by, and how noisy they are, after the units were told something new."""
    rng = drift_stream(device, tile) if device.drift_sigma else None
    (settle_meshes if device.optics == "mesh" else elements.settle)(device, tile, rng)
    tile.state["moves"] += 1
    keep_sigma(device, tile)


def settle_meshes(device: Optics, tile: Tile, rng: Any) -> None:
    """Phases as they come out, and effective weights."""
    xp, state = device.xp, tile.state
    w = xp.array(state["target"], order="C")
    for unit in units(device, tile):
        for side, modes in zip(SIDES, unit.shape, strict=True):
            name = f"{unit.number}/{side}"
            phases = realised(xp, chip_of(device, tile, name, modes), told(tile, name)).phases
            actual = xp.concatenate([phases.theta, phases.phi, phases.output])
            if rng is not None:
                actual = actual + device.drift_sigma * rng.standard_normal(actual.shape)
            state[f"{name}/actual"] = actual
        state[f"{unit.number}/locked"] = xp.zeros(())
        if not device.exact_weights or device.trained == "phases":
            w[unit.block] = locked(device, tile, unit, w.dtype)
    state["w"] = w


def locked(device: Optics, tile: Tile, unit: Unit, dtype: Any) -> Array:
    """What fields beside local oscillators see of a unit's weights, these being locked to the phase of its light.

    A unit's oscillators share one phase, or the way back would not be the transpose of the way forth. They lock to the
    phase at which the unit does most of what it was asked for: what a whole chip turns light by does not matter then.
    """
    xp, state = device.xp, tile.state
    found = svd.effective_weights(xp, mesh_unit(device, tile, unit), dtype)
    overlap = (found * state["target"][unit.block]).sum(dtype=xp.complex128)
    angle = xp.arctan2(overlap.imag, overlap.real)
    state[f"{unit.number}/locked"] = angle
    return (found * xp.exp(-1j * angle).astype(found.dtype)).real


class Same:
    """Arrays, equal to others where they are the very same objects; kept, so that no other gets their place."""

    def __init__(self, *arrays: Array) -> None:
        self.arrays = arrays

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and all(a is b for a, b in zip(self.arrays, other.arrays, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(id(array) for array in self.arrays))


def mesh_unit(device: Optics, tile: Tile, unit: Unit) -> SvdMesh:
    """The chip as it is now, its outputs turned back by the phase that its local oscillators are locked to."""
    state, scale = tile.state, float(tile.state["scales"][unit.place])
    first, second = (
        Same(*(state[f"{unit.number}/{side}/{part}"] for part in ("draws", "ends", "actual"))) for side in SIDES
    )
    turned = Same(state[f"{unit.number}/attenuation"], state[f"{unit.number}/locked"])
    return built(device, unit.shape, first, turned, second, scale)


@lru_cache(maxsize=32)  # light passes a chip many times before it is settled anew, which makes new arrays
def built(device: Optics, shape: tuple[int, int], first: Same, turned: Same, second: Same, scale: float) -> SvdMesh:
    """A unit from the arrays of its state; its scale makes good for the nominal loss, which is known."""
    meshes = [assembled(device, modes, *side.arrays) for modes, side in zip(shape, (first, second), strict=True)]
    told, angle = turned.arrays
    phases = meshes[1].phases
    last = meshes[1].with_phases(phases._replace(output=phases.output - angle))
    nominal = math.prod(device.imperfections.column_amplitude ** passes(mesh.layout) for mesh in meshes)
    bits = device.weight_bits + 1 if device.weight_bits else 0  # from 0 to 1: half of the levels of signed values
    attenuation = converting.quantised(device.xp, told, device.xp.ones(()), bits)
    return SvdMesh(meshes[0], attenuation, last, scale / nominal)


def assembled(device: Optics, modes: int, draws: Array, ends: Array, actual: Array) -> Mesh:
    """A mesh as it was made, at its phases."""
    blank = fabricated(device.xp, layout(device, modes), device.imperfections, draws, ends).blank
    theta, phi, output = (actual[part] for part in parted(blank.layout.mzis))
    return blank.with_phases(Shifters(theta, phi, output))


def parted(mzis: int) -> tuple[slice, slice, slice]:
    """Where theta, phi and output phases stand in one array."""
    return slice(0, mzis), slice(mzis, 2 * mzis), slice(2 * mzis, None)


def passes(mesh: Layout) -> float:
    """How many MZIs light passes: every column, or in a Reck mesh, whose paths differ, the mean over modes."""
    return len(mesh.columns) if mesh.kind == "clements" else 2 * mesh.mzis / mesh.n


def keep_sigma(device: Optics, tile: Tile) -> None:
    """Noise of results for vectors of size 1, each way."""
    xp, state = device.xp, tile.state
    down, across = parts(device, tile)
    w, scales, lead = state["w"], state["scales"], tile.shape[:-2]
    forward, backward = xp.zeros((*lead, len(down), tile.n)), xp.zeros((*lead, len(across), tile.k))
    for i, rows in enumerate(down):
        for j, cols in enumerate(across):
            k, n = rows.stop - rows.start, cols.stop - cols.start
            full = scales[..., i, j, None]
            ways = (full, full)
            if device.detection == "arms":
                ways = (converting.norms(xp, w, -2), converting.norms(xp, w, -1))
                state["crest/forward"] = converting.crests(xp, w.swapaxes(-1, -2), fields=True)
                state["crest/backward"] = converting.crests(xp, w, fields=True)
            forward[..., i, cols] = detection.sigma(device, ways[0], k, n)
            backward[..., j, rows] = detection.sigma(device, ways[1], n, k)
    state["sigma/forward"], state["sigma/backward"] = (s.astype(w.dtype) for s in (forward, backward))


def shifter_turns(device: Optics, tile: Tile) -> Array:
    """The sum of all phases that drivers hold, over pi; an attenuator that passes s is an MZI at 2 arcsin s."""
    xp, state, total = device.xp, tile.state, 0.0
    for unit in units(device, tile):
        for side in SIDES:
            total = total + sum(state[f"{unit.number}/{side}/{part}"].sum() for part in ("phases", "output"))
        total = total + 2 * xp.arcsin(state[f"{unit.number}/attenuation"]).sum()
    return total / math.pi

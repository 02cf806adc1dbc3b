"""A matrix cut into units of optics: what each is told, what it does, and what that makes of the weights.

A unit is a mesh chip, or a part of a modulator or of a bank of rings. Its state on the tile, c the unit's number:

    target                what was asked for, kept in electronics [..., k, n]
    w                     what products multiply by [..., k, n]
    scales                singular value, or weight, of full transmission [..., units down, units across]
    sigma/forward, /backward   noise of results for vectors of size 1 [..., units down, n], [..., units across, k]
    c/first, c/second     a mesh: /draws and /ends of its fabrication, /phases and /output as told to its drivers,
                          /actual phases; c/attenuation
    draws                 of fixed errors of pixels or rings
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from hwsim.arrays import Array, generator, key_of
from hwsim.devices.optical import columns, detection, svd
from hwsim.devices.optical.decomposition import Layout, Shifters, layout_of, wrapped
from hwsim.devices.optical.device import Optics
from hwsim.devices.optical.imperfections import Fabrication, corrected, fabricated, realised, standard_draws
from hwsim.devices.optical.mesh import Mesh, matrix
from hwsim.devices.optical.svd import SvdMesh, factorise
from hwsim.tile import Tile

SIDES = ("first", "second")


class Unit(NamedTuple):
    """One unit: its number, its place among stacked matrices and units, and the rows and columns that it holds."""

    number: int
    place: tuple[int, ...]  # [..., down, across]
    rows: slice
    columns: slice

    @property
    def block(self) -> tuple[Any, ...]:
        """The index of its weights."""
        return (*self.place[:-2], self.rows, self.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Its inputs and outputs in use."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def cuts(length: int, size: int) -> list[slice]:
    """Parts of `size`, the last one as it comes."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def parts(device: Optics, tile: Tile) -> tuple[list[slice], list[slice]]:
    """The rows and columns of units; light that meets light needs no cuts."""
    if not device.reprogrammed:
        return [slice(0, tile.k)], [slice(0, tile.n)]
    return cuts(tile.k, device.inputs), cuts(tile.n, device.outputs)


def units(device: Optics, tile: Tile) -> Iterator[Unit]:
    """All units of a tile."""
    down, across = parts(device, tile)
    for number, place in enumerate(np.ndindex(*tile.shape[:-2], len(down), len(across))):
        yield Unit(number, place, down[place[-2]], across[place[-1]])


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
    if device.optics == "mesh":
        for unit in units(device, tile):
            for side, modes in zip(SIDES, unit.shape, strict=True):
                name = f"{unit.number}/{side}"
                state[f"{name}/draws"], state[f"{name}/ends"] = standard_draws(layout(device, modes), rng)
    elif device.weight_sigma:
        state["draws"] = rng.standard_normal(tile.shape)


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
        if device.calibrated and device.fixed_errors:
            phases = corrected(xp, chip_of(device, tile, name, phases.output.size), phases)
        keep_phases(tile, name, phases, xp)
    state[f"{unit.number}/attenuation"] = factors.attenuation
    state.setdefault("scales", xp.zeros((*tile.shape[:-2], *map(len, parts(device, tile)))))
    state["scales"][unit.place] = factors.scale


def shrunk(xp: Any, block: Array, scale: float) -> Array:
    """A matrix with its singular values cut to `scale`."""
    u, s, v = xp.linalg.svd(block, full_matrices=False)
    return (u * xp.minimum(s, scale)) @ v


def within_scale(device: Optics, target: Array) -> Array:
    """Weights cut to a given scale, of optics that hold or send them one by one."""
    if device.optics == "mesh" or device.weight_scale is None:
        return target
    return device.xp.clip(target, -device.weight_scale, device.weight_scale)


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
    if device.optics == "mesh":
        settle_meshes(device, tile, rng)
    else:
        settle_elements(device, tile, rng)
    tile.state["moves"] += 1
    keep_sigma(device, tile)


def settle_meshes(device: Optics, tile: Tile, rng: Any) -> None:
    """Phases as they come out, and effective weights."""
    xp, state = device.xp, tile.state
    w = xp.array(state["target"])
    for unit in units(device, tile):
        for side, modes in zip(SIDES, unit.shape, strict=True):
            name = f"{unit.number}/{side}"
            phases = realised(xp, chip_of(device, tile, name, modes), told(tile, name)).phases
            actual = xp.concatenate([phases.theta, phases.phi, phases.output])
            if rng is not None:
                actual = actual + device.drift_sigma * rng.standard_normal(actual.shape)
            state[f"{name}/actual"] = actual
        if not device.exact_weights or device.trained == "phases":
            w[unit.block] = effective(device, mesh_unit(device, tile, unit))
    state["w"] = w


def mesh_unit(device: Optics, tile: Tile, unit: Unit) -> SvdMesh:
    """The chip as it is now; its scale makes good for the nominal loss, which is known."""
    meshes, nominal = [], 1.0
    for side, modes in zip(SIDES, unit.shape, strict=True):
        name = f"{unit.number}/{side}"
        blank = chip_of(device, tile, name, modes).blank
        actual, mzis = tile.state[f"{name}/actual"], blank.layout.mzis
        meshes.append(blank.with_phases(Shifters(actual[:mzis], actual[mzis : 2 * mzis], actual[2 * mzis :])))
        nominal *= device.imperfections.column_amplitude ** passes(blank.layout)
    scale = float(tile.state["scales"][unit.place]) / nominal
    bits = device.weight_bits + 1 if device.weight_bits else 0  # from 0 to 1: half of the levels of signed values
    told = tile.state[f"{unit.number}/attenuation"]
    return SvdMesh(meshes[0], detection.quantised(device.xp, told, device.xp.ones(()), bits), meshes[1], scale)


def passes(mesh: Layout) -> float:
    """How many MZIs light passes: every column, or in a Reck mesh, whose paths differ, the mean over modes."""
    return len(mesh.columns) if mesh.kind == "clements" else 2 * mesh.mzis / mesh.n


def effective(device: Optics, chip: SvdMesh) -> Array:
    """The real weights [k, n] that fields beside a local oscillator of phase 0 see."""
    first, second = (mesh_matrix(device, mesh) for mesh in (chip.first, chip.second))
    lit = len(chip.attenuation)
    scaled = (second[:, :lit] * (chip.scale * chip.attenuation).astype(second.real.dtype)) @ first[:lit]
    return scaled.real.T


def passed(device: Optics, chip: SvdMesh, fields: Array, way: str) -> Array:
    """Fields through a chip, forward [k, m] or backward [n, m]; in single precision by the column kernels."""
    if not by_kernels(device):
        return (svd.forward if way == "forward" else svd.backward)(device.xp, chip, fields)
    first, second = columns.pack(chip.first), columns.pack(chip.second)
    if way == "forward":
        inner = svd.between(np, chip, columns.propagate(first, fields), chip.second.layout.n)
        return chip.scale * columns.propagate(second, inner)
    inner = svd.between(np, chip, columns.propagate_back(second, fields), chip.first.layout.n)
    return chip.scale * columns.propagate_back(first, inner)


def by_kernels(device: Optics) -> bool:
    """Whether light runs through the column kernels."""
    return device.xp is np and device.precision == "fp32"


def mesh_matrix(device: Optics, mesh: Mesh) -> Array:
    """U of a mesh; in single precision by the column kernels."""
    if by_kernels(device):
        return columns.propagate(columns.pack(mesh), np.eye(mesh.layout.n, dtype=np.float32))
    return matrix(device.xp, mesh)


def settle_elements(device: Optics, tile: Tile, rng: Any) -> None:
    """Weights that are pixels, rings or pulses of light: rounded, with fixed errors, crosstalk and drift."""
    xp, state = device.xp, tile.state
    target = state["target"]
    state["scales"] = xp.zeros((*tile.shape[:-2], *map(len, parts(device, tile))))
    w = xp.array(target)
    for unit in units(device, tile):
        largest = float(xp.abs(target[unit.block]).max())
        full = device.weight_scale or largest or 1.0
        state["scales"][unit.place] = full
        if device.exact_weights:
            continue
        block = detection.quantised(xp, xp.clip(target[unit.block], -full, full), xp.asarray(full), device.weight_bits)
        if device.weight_sigma:
            block = block + (device.weight_sigma * full) * state["draws"][unit.block]
        if rng is not None:
            block = block + (device.drift_sigma * full) * rng.standard_normal(unit.shape)
        w[unit.block] = beside(block, device.weight_crosstalk)
    state["w"] = w


def beside(block: Array, share: float) -> Array:
    """A unit's weights when each acts on the inputs beside its own as well."""
    if share == 0:
        return block
    mixed = block.copy()
    mixed[1:] += share * block[:-1]
    mixed[:-1] += share * block[1:]
    return mixed


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
                ways = (detection.norms(xp, w, -2), detection.norms(xp, w, -1))
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

"""What separates a fabricated mesh from an ideal one, and what calibration gets back.

From commanded to actual phases, in this order: quantised to the levels of the driver; heat of neighbours added; the
fixed offset of each shifter added. Splitters and offsets are drawn once per chip. A chip whose errors are known is
corrected one MZI after another, with no search: the splitting is set as near as it can be to the ideal one, and the
phases that come out wrong are passed on to the next column. What neighbours heat is then left out of the commands.

First-order laws, E = |dU|_F / sqrt n, for a mesh of n modes with n (n - 1) splitters and n^2 shifters (derived):

    splitters sigma: E = sqrt(2 (n - 1)) sigma      phases sigma: E = sqrt(n) sigma
    b bits: the phase law at the sigma of a uniform error, 2 pi / (2^b sqrt 12)

Source of the correction: Bandyopadhyay, Hamerly and Englund, Optica 8, 1247 (2021), recalled; its formulas are
derived here for the MZI of mesh.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hwsim.arrays import Array, Namespace
from hwsim.devices.optical.decomposition import TURN, Layout, Shifters, wrapped
from hwsim.devices.optical.mesh import Mesh, amplitude, ideal_mesh, transfer
from hwsim.errors import ConfigError, ShapeError

MOST_HEAT = 0.2  # of a phase, to each of four neighbours: from 1/4 on commands could not be solved for


@dataclass(frozen=True)
class Imperfections:
    """Standard deviations and strengths; zeros, and infinite bits, are an ideal mesh.

    `loss_db` per MZI, with `loss_sigma_db` between MZIs (losses below 0 are cut to 0). `heat_crosstalk` is the share
    of a shifter's phase that each of its four neighbours on the chip gets as well. `tap_fraction` is the share of
    the power that leaves to a monitor at each of the two shifters of an MZI, on both arms. Raises ConfigError.
    """

    splitter_sigma: float = 0.0  # [rad]
    phase_sigma: float = 0.0  # [rad]
    phase_bits: float = math.inf
    loss_db: float = 0.0
    loss_sigma_db: float = 0.0
    heat_crosstalk: float = 0.0
    tap_fraction: float = 0.0

    def __post_init__(self) -> None:
        for name in ("splitter_sigma", "phase_sigma", "loss_db", "loss_sigma_db", "heat_crosstalk"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}={value}: needs a finite number, 0 or more")
        if self.heat_crosstalk > MOST_HEAT:
            raise ConfigError(f"heat_crosstalk={self.heat_crosstalk}: needs a share of a phase, {MOST_HEAT} or less")
        if not 0 <= self.tap_fraction < 1:
            raise ConfigError(f"tap_fraction={self.tap_fraction}: needs a share of the power, 0 or more and below 1")
        if not self.phase_bits >= 1:
            raise ConfigError(f"phase_bits={self.phase_bits}: a phase driver needs 1 bit or more; inf: exact")

    @property
    def column_amplitude(self) -> float:
        """Nominal amplitude transmission of an MZI, taps included."""
        return float(amplitude(self.loss_db)) * (1 - self.tap_fraction)


@dataclass(frozen=True)
class Fabrication:
    """What was drawn for one chip: a mesh at the phases 0, and the fixed offset [rad] of every shifter."""

    imperfections: Imperfections
    blank: Mesh
    offsets: Shifters


def standard_draws(layout: Layout, rng: Any) -> tuple[Array, Array]:
    """What makes one chip differ from another: standard normal numbers [5, mzis] and [n], whatever is set to 0."""
    return rng.standard_normal((5, layout.mzis)), rng.standard_normal(layout.n)


def fabricated(xp: Namespace, layout: Layout, imperfections: Imperfections, draws: Array, output: Array) -> Fabrication:
    """The chip of standard normal `draws` [5, mzis] and `output` [n].

    In a Clements mesh the modes beside the MZIs are given their loss (matched dummies); in a Reck mesh they are not.
    """
    splitter_in, splitter_out, loss, theta, phi = draws
    loss_db = xp.maximum(imperfections.loss_db + imperfections.loss_sigma_db * loss, 0.0)
    blank = Mesh(
        layout,
        Shifters(xp.zeros(layout.mzis), xp.zeros(layout.mzis), xp.zeros(layout.n)),
        imperfections.splitter_sigma * splitter_in,
        imperfections.splitter_sigma * splitter_out,
        amplitude(loss_db) * (1 - imperfections.tap_fraction),
        imperfections.column_amplitude if layout.kind == "clements" else 1.0,
    )
    return Fabrication(imperfections, blank, Shifters(*(imperfections.phase_sigma * z for z in (theta, phi, output))))


def realised(xp: Namespace, chip: Fabrication, phases: Shifters) -> Mesh:
    """The mesh that the chip is when its drivers are told `phases` [rad].

    Raises ShapeError where they do not fit, and ConfigError where one lies outside 0 to 2 pi (use `wrapped`).
    """
    layout, settings = chip.blank.layout, chip.imperfections
    if tuple(part.size for part in phases) != (layout.mzis, layout.mzis, layout.n):
        found = tuple(part.size for part in phases)
        raise ShapeError(f"phases (theta, phi, output) have {found} values; this chip has {layout.mzis} MZIs twice, "
                         f"and {layout.n} outputs")  # fmt: skip
    if not all(bool(((part >= 0) & (part < TURN)).all()) for part in phases):
        raise ConfigError("a phase lies outside 0 to 2 pi, which drivers cannot set; wrap phases by whole turns first")
    driven = Shifters(*(quantised(xp, part, settings.phase_bits) for part in phases))
    heated = heat(xp, layout, driven, settings.heat_crosstalk)
    return chip.blank.with_phases(Shifters(*(a + b for a, b in zip(heated, chip.offsets, strict=True))))


def quantised(xp: Namespace, phases: Array, bits: float) -> Array:
    """The nearest of the 2^bits levels that divide a whole turn; infinite bits: the phases themselves."""
    if math.isinf(bits):
        return phases
    levels = 2.0**bits
    return xp.mod(xp.rint(phases * (levels / TURN)), levels) * (TURN / levels)


def heat(xp: Namespace, layout: Layout, phases: Shifters, share: float) -> Shifters:
    """Each shifter's phase plus `share` of its four neighbours'; the phases of the outputs stand apart.

    On the chip phi and theta of an MZI follow each other along the light, and MZIs lie in rows of two modes.
    """
    if share == 0 or layout.mzis == 0:
        return phases
    places = _places(xp, layout)
    chip = _laid_out(xp, layout, places, phases)
    warmed = chip + share * _from_neighbours(xp, chip)
    return Shifters(warmed[places[0]], warmed[places[1]], phases.output)


def unheated(xp: Namespace, layout: Layout, wanted: Shifters, share: float, bits: float = math.inf) -> Shifters:
    """The phases to command [rad, 0 to 2 pi] so that with neighbours' heat `wanted` come out, but for whole turns.

    What would have to be cooled, by more than half of one of 2^bits levels, gets a turn more, and all are solved again:
    each turn heats neighbours, so that it may take several. A command beyond the highest level, which takes a phase
    within a few share^2 of a turn from an end, is set to that level.
    """
    if share == 0 or layout.mzis == 0:
        return wanted
    places, half = _places(xp, layout), TURN / 2 * 2.0**-bits
    highest = TURN - 2 * half if half else TURN * (1 - 1e-12)
    target = _laid_out(xp, layout, places, wanted)
    filled = _laid_out(xp, layout, places, Shifters(*(xp.ones_like(part) for part in wanted)))
    command = _solved(xp, target, filled, share, math.inf)
    while bool((command < -half).any()):
        target = target + TURN * (command < -half)
        command = _solved(xp, target, filled, share, math.inf)
    command = _solved(xp, target, filled, share, highest)
    return Shifters(command[places[0]], command[places[1]], wanted.output)


def _solved(xp: Namespace, target: Array, filled: Array, share: float, highest: float) -> Array:
    """The commands, cut to 0 and `highest` where that is finite, that neighbours' heat brings to `target` on a chip."""
    command = target
    for _ in range(math.ceil(-12 / math.log10(4 * share))):  # each leaves 4 share of what was wrong
        command = filled * (target - share * _from_neighbours(xp, command))
        if math.isfinite(highest):
            command = xp.clip(command, 0.0, highest)
    return command


def _places(xp: Namespace, layout: Layout) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Where on the chip theta and phi of every MZI stand."""
    column, row = xp.asarray(layout.column_of), xp.asarray(layout.mode_of // 2)
    return (2 * column + 2, row + 1), (2 * column + 1, row + 1)


def _laid_out(xp: Namespace, layout: Layout, places: Any, phases: Shifters) -> Array:
    """Phases at their places; nothing is heated around them."""
    chip = xp.zeros((2 * len(layout.columns) + 2, layout.n // 2 + 2))
    for place, part in zip(places, phases[:2], strict=True):
        chip[place] = part
    return chip


def _from_neighbours(xp: Namespace, chip: Array) -> Array:
    """The sum of the phases beside each place."""
    around = xp.zeros_like(chip)
    around[1:-1, 1:-1] = chip[:-2, 1:-1] + chip[2:, 1:-1] + chip[1:-1, :-2] + chip[1:-1, 2:]
    return around


def corrected(xp: Namespace, chip: Fabrication, ideal: Shifters) -> Shifters:
    """The phases to command [rad, 0 to 2 pi] so that a chip with known errors does what `ideal` phases mean.

    Exact where every splitting is within reach (sin^2(theta / 2) between sin^2(a + b) and cos^2(a - b)), at infinite
    bits; an MZI beyond reach is set to the end of its range, an error of second order.
    """
    layout = chip.blank.layout
    theta = _reachable_theta(xp, chip.blank, ideal.theta)
    found = transfer(xp, chip.blank.with_phases(Shifters(theta, 0 * ideal.phi, ideal.output)))
    wanted = transfer(xp, ideal_mesh(xp, layout, ideal))
    # At phi = e the real MZI is diag(e^{i u}, e^{i l}) times the ideal one: the elements' phases are, in their order,
    # u - e, u, l - e, l. Where one is too weak to have a phase, its value does not matter, and `extra` follows it.
    ahead = found * wanted.conj()
    angle = xp.arctan2(ahead.imag, ahead.real)
    upper, lower = angle[:, 0, 1], angle[:, 1, 1]
    bar = xp.abs(ahead[:, 0, 0]) > xp.abs(ahead[:, 0, 1])
    extra = xp.where(bar, upper - angle[:, 0, 0], lower - angle[:, 1, 0])
    phi, output = _passed_on(xp, layout, extra, upper, lower, ideal.output)
    command = zip((theta, phi, output), chip.offsets, strict=True)
    phases = Shifters(*(wrapped(xp, part - offset) for part, offset in command))
    return unheated(xp, layout, phases, chip.imperfections.heat_crosstalk, chip.imperfections.phase_bits)


def _reachable_theta(xp: Namespace, mesh: Mesh, theta: Array) -> Array:
    """The theta in 0 to pi at which the upper bar power is sin^2(theta / 2) of the ideal MZI, or the nearest."""
    a, b = math.pi / 4 + mesh.splitter_in, math.pi / 4 + mesh.splitter_out
    both, cross = xp.cos(a) * xp.cos(b), xp.sin(a) * xp.sin(b)
    cosine = (both**2 + cross**2 - xp.sin(theta / 2) ** 2) / (2 * both * cross)
    return xp.arccos(xp.clip(cosine, -1.0, 1.0))


def _passed_on(
    xp: Namespace, layout: Layout, extra: Array, upper: Array, lower: Array, output: Array
) -> tuple[Array, Array]:
    """phi and output phases when each MZI is ahead by `upper` and `lower` at its outputs, and needs `extra` as phi."""
    phi, ahead = xp.empty(layout.mzis), xp.zeros(layout.n)
    for column, (first, count) in enumerate(layout.columns):
        own = slice(layout.starts[column], layout.starts[column + 1])
        pairs = ahead[first : first + 2 * count].reshape(count, 2)
        phi[own] = extra[own] - pairs[:, 0] + pairs[:, 1]
        common = pairs[:, 1]
        ahead[first : first + 2 * count] = xp.stack([common + upper[own], common + lower[own]], axis=1).reshape(-1)
    return phi, output - ahead

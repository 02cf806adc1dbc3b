"""Chips as tiles hold them: local oscillators locked to them, heat, loss beyond reason, and what is kept between calls.

Run time: about 2 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hwsim.devices.optical import Optical, chips, svd
from hwsim.devices.optical.units import units
from hwsim.errors import DeviceError
from hwsim.ledger import TileShape

Host = np.ndarray[Any, Any]
CLEAN = {
    "shot_noise": False, "dac_bits": 0, "adc_bits": 0, "weight_bits": 0, "splitter_sigma": 0, "phase_sigma": 0,
    "drift_sigma": 0, "mzi_loss_db": 0, "precision": "fp64",
}  # fmt: skip


def values(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def relative(found: Host, wanted: Host) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


# -- the phase of the local oscillators --------------------------------------------------------------------------


def test_what_turns_a_whole_chip_does_not_matter() -> None:
    """A drift of 1.1 rad on all outputs of the second mesh: read against oscillators that follow, the weights stay."""
    w, x, dy = values(12, 9), values(4, 12, seed=1), values(4, 9, seed=2)
    device = Optical.create("mzi", {**CLEAN, "heat_crosstalk": 0, "level": "mesh"})
    tile = device.program(w, name="turned")
    name = "0/second/phases"
    mzis = tile.state[name].shape[1]
    tile.state["0/second/actual"] = tile.state["0/second/actual"] + 1.1 * (np.arange(2 * mzis + 9) >= 2 * mzis)
    (unit,) = units(device, tile)
    assert relative(svd.effective_weights(np, chips.mesh_unit(device, tile, unit)).real, w) > 0.5  # cos 1.1 of it
    locked = chips.locked(device, tile, unit, np.float64)
    assert_allclose(tile.state["0/locked"], 1.1, rtol=1e-9)
    assert_allclose(locked, w, atol=1e-9)
    assert_allclose(tile.forward(x), x @ w, atol=1e-9)
    assert_allclose(tile.backward(dy), dy @ w.T, atol=1e-9)


def test_one_phase_for_both_ways() -> None:
    """Heat that nobody makes good for: both ways see one real matrix, in which a whole turn is gone. 64 modes, 0.2%.

    Errors as a search over all phases finds them; against oscillators at 0 the same chip is wrong by more than 1.
    """
    w, x, dy = values(64, 64) / 8, values(5, 64, seed=1), values(5, 64, seed=2)
    device = Optical.create("mzi", {**CLEAN, "heat_crosstalk": 0.002, "calibrated": False, "level": "mesh"})
    tile = device.program(w, name="warm")
    acting = tile.read()
    assert_allclose(tile.forward(x), x @ acting, atol=1e-9)
    assert_allclose(tile.backward(dy), dy @ acting.T, atol=1e-9)
    (unit,) = units(device, tile)
    angle = float(tile.state["0/locked"])
    fields = svd.effective_weights(np, chips.mesh_unit(device, tile, unit)) * np.exp(1j * angle)
    errors = [relative((fields * np.exp(-1j * each)).real, w) for each in np.linspace(-np.pi, np.pi, 721)]
    assert relative(acting, w) < min(errors) * 1.02
    assert relative(acting, w) < 0.12
    assert relative(fields.real, w) > 1


@pytest.mark.parametrize(("share", "most"), [(0.001, 1e-6), (0.005, 2e-3), (0.01, 0.03)])
def test_known_heat_costs_next_to_nothing(share: float, most: float) -> None:
    """64 modes, no other error: left alone heat bends weights by 40 times its share or more, known by `most`."""
    w, errors = values(64, 64) / 8, []
    for known in (False, True):
        device = Optical.create("mzi", {**CLEAN, "heat_crosstalk": share, "calibrated": known})
        errors.append(relative(device.program(w, name="warm").read(), w))
    assert errors[0] > 40 * share
    assert errors[1] < most


# -- loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_db", [2, 6, 100])
def test_meshes_that_no_light_passes_are_refused(loss_db: float) -> None:
    """64 + 1 + 64 columns of 2 dB lose 258 dB; of 1.5 dB, 193.5, which stays a number both ways and in the bill."""
    with pytest.raises(DeviceError, match=r"129 columns of inputs=64, outputs=64 lose .* take mzi_loss_db=1\.55 or"):
        Optical.create("mzi", {"mzi_loss_db": loss_db})
    device = Optical.create("mzi", {"mzi_loss_db": 1.5, "level": "mesh"})
    tile = device.program(values(64, 64).astype(np.float32), name="dark")
    assert np.isfinite(tile.forward(values(3, 64).astype(np.float32))).all()
    assert device.installed([TileShape(1, 64, 64)])["laser"] > 1e18


# -- what is kept --------------------------------------------------------------------------------------------------


def test_chips_are_built_once_for_what_they_are() -> None:
    """The same arrays, the same chip; an update, a loaded checkpoint or another tile makes new ones."""
    device = Optical.create("mzi", {"level": "mesh", "precision": "fp64", "shot_noise": False})
    w, x = values(9, 7), values(4, 9, seed=1)
    tiles = [device.program(w, name=name) for name in ("one", "two")]
    (unit,) = units(device, tiles[0])
    first, other = (chips.mesh_unit(device, tile, unit) for tile in tiles)
    assert chips.mesh_unit(device, tiles[0], unit) is first
    assert other is not first
    y, saved = tiles[0].forward(x), tiles[0].save()
    tiles[0].update(values(9, 7, seed=3))
    assert relative(tiles[0].forward(x), y) > 0.1
    moved = tiles[0].read()
    tiles[0].load(saved)
    assert_array_equal(tiles[0].forward(x), y)
    tiles[0].update(values(9, 7, seed=3))
    assert_array_equal(tiles[0].read(), moved)


# -- meters ----------------------------------------------------------------------------------------------------------


def test_light_of_the_meters_is_set_by_itself() -> None:
    """1e5 detected in a reading by each of 10 modes' meters, 1% tapped: 1e8 are sent, 1e6 in each of 100 symbols.

    Whatever an MZI loses, the meters' noise over what is launched is that; the laser carries the larger of both lights.
    """
    noise = []
    for loss_db in (0.0, 0.2, 0.4):
        device = Optical.create("mzi", {"trained": "phases", "mzi_loss_db": loss_db, "dark_current_a": 0,
                                        "amplifier_a_per_root_hz": 0, "rin_db_per_hz": -1000})  # fmt: skip
        monitor = device.monitor(64, 10)
        noise.append(monitor.noise)
        entering = 64 * 10 * 10 * 10 ** (75 * (loss_db - 20 * np.log10(0.99)) / 10)
        assert_allclose(device.installed([TileShape(1, 64, 10)])["laser"], max(entering, 1e6), rtol=1e-9)
        # half of the light for either quadrature, whose vacuum is half a photon's field, beside a strong oscillator
        assert_allclose(monitor.field_noise, 0.5 * np.sqrt(2 / 1e8), rtol=1e-9)
    assert_allclose(noise, np.sqrt(1e5) / (1e5 * 10 / 0.01), rtol=1e-9)  # of 1e8 launched in a reading
    dark = Optical.create("mzi", {"trained": "phases", "shot_noise": False}).monitor(64, 10)
    assert dark.noise == dark.field_noise == 0


def test_bits_of_meters_are_their_own() -> None:
    device = Optical.create("mzi", {"trained": "phases", "meter_bits": 12, "adc_bits": 4})
    assert device.monitor(4, 4).levels == 2**11 - 1


def test_three_readings_of_a_reck_mesh_are_refused() -> None:
    with pytest.raises(DeviceError, match="take readings=2 or mesh_kind=clements"):
        Optical.create("mzi", {"trained": "phases", "readings": 3, "mesh_kind": "reck"})

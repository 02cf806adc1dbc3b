"""The bill of optics by hand: link budget, holding power, reprogramming, converters, time, neurons. Run time: 1 s."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hwsim import costing
from hwsim.arrays import Shape
from hwsim.cost import Elementwise, Kind, Product, Role, op_cost
from hwsim.devices.optical import Optical
from hwsim.ledger import Ledger, TileShape

PLANCK_X_LIGHT = 6.62607015e-34 * 299792458.0  # SI


def optical(preset: str, **parameters: Any) -> Optical:
    return Optical.create(preset, parameters)


def actions(device: Optical, op: Any) -> dict[str, float]:
    uses = device.uses(op)
    assert uses is not None
    return {name: use.actions for name, use in uses.items()}


def seconds(device: Optical, op: Product) -> float:
    ledger = Ledger()
    ledger.tiles[device, "tile"] = TileShape(op.stack, op.k, op.n)
    uses = device.uses(op)
    assert uses is not None
    return float(op_cost(uses, ledger.rates(device)).time_s)


# -- light ---------------------------------------------------------------------------------------------------


def test_link_budget_of_a_mesh() -> None:
    """64 x 64 Clements: 64 + 1 + 64 columns of 0.2 dB, 3 dB modulator, 2 dB path: 30.8 dB; 0.8 electrons a photon.

    Extinction 10 dB costs (10 + 1) / (10 - 1), and a crest of 6.9 as much again. So 10 detected photons need
    10 * 10^3.08 / 0.8 * 11 / 9 * 6.9 launched.
    """
    launched, detected = optical("mzi").photons_per_mac(64, 64)
    assert detected == 10
    assert_allclose(launched, 10 * 10**3.08 / 0.8 * 11 / 9 * 6.9, rtol=1e-9)


def test_both_rails_are_launched() -> None:
    """Rings: 3 dB modulator, 3 dB path, 0.8, 11 / 9, crest 3, and two symbols for signs: the light that is billed."""
    device = optical("microring")
    launched = device.photons_per_mac(32, 32).launched
    assert_allclose(launched, 2000 * 10**0.6 / 0.8 * 11 / 9 * 3 * 2, rtol=1e-9)
    watts = (
        device.installed([TileShape(1, 32, 32)])["laser"]
        * device.components["laser"].quantity("static_power_w").nominal
    )
    symbols = actions(device, Product(Kind.FORWARD, 1, 32, 32))["symbol"]
    photons = watts * 0.2 * symbols / 1e9 / (PLANCK_X_LIGHT / 1.55e-6)
    assert_allclose(photons / 32**2, launched, rtol=1e-9)


def test_crest_of_vectors_is_recorded() -> None:
    """(3, 4): 2 * 16 / 25 of its power where fields are sent, 2 * 4 / 7 where intensities are; (1, 1): 1 each."""
    for preset, crest in (("mzi", 2 * 16 / 25), ("homodyne", 2 * 16 / 25), ("microring", 2 * 4 / 7)):
        for stack in ((), (1,)):  # kernels, and NumPy
            ledger = Ledger()
            tile = optical(preset).program(np.ones((*stack, 2, 3)), name="crest", ledger=ledger)
            tile.forward(np.array([[3, 4], [1, 1]], np.float32).reshape(*stack, 2, 2))
            found = [counts["crest"] for counts in ledger.actual.values() if "crest" in counts]
            assert_allclose([float(each) for each in found], [crest + 1], rtol=1e-6)
    assert actions(optical("mzi"), Product(Kind.FORWARD, 5, 100, 70))["crest"] == 5 * 2 * 6.9  # two units down


def test_laser_power() -> None:
    """16 x 8 on a mesh: 25 columns, 5 dB; photons of 1550 nm, 1e9 symbols a second, 20% of the wall plug's power."""
    device = optical("mzi")
    power_w = 16 * 8 * 10 * 10 ** ((25 * 0.2 + 5) / 10) / 0.8 * 11 / 9 * PLANCK_X_LIGHT / 1.55e-6 * 1e9 / 0.2 * 6.9
    units = device.installed([TileShape(1, 16, 8)])["laser"]
    assert_allclose(units * device.components["laser"].quantity("static_power_w").nominal, power_w, rtol=1e-9)
    # the local oscillators: 24 detectors, both sides, of 1e6 photons a symbol over 0.8 and 0.2
    units = device.installed([TileShape(1, 16, 8)])["oscillator"]
    wanted = 24 * 1e6 * PLANCK_X_LIGHT / 1.55e-6 * 1e9 / 0.8 / 0.2
    assert_allclose(units * device.components["oscillator"].quantity("static_power_w").nominal, wanted, rtol=1e-9)


def test_detectors_are_charged() -> None:
    """1.1 mW each, 2 a pair: of 24 ends of a 16 x 8 mesh, of 64 x 64 meetings; and one for each of 328 meters."""
    assert_allclose(optical("mzi").components["detector"].quantity("static_power_w").nominal, 1.1e-3)
    assert optical("mzi").installed([TileShape(1, 16, 8)])["detector"] == 48
    assert optical("homodyne").installed([])["detector"] == 2 * 64 * 64
    assert optical("mzi", trained="phases").installed([TileShape(1, 16, 8)])["detector"] == 48 + 256 + 64 + 8


def test_light_of_the_meters_is_the_light_that_is_billed() -> None:
    """64 x 10, shot noise alone: sigma = sqrt(L tap / 64) / L, so that L = tap / 64 / sigma^2 electrons in 100 symbols.

    The laser: L / 100 electrons a symbol, over 0.8, before 5 dB, 11 / 9 and a crest of 6.9, at 1e9 symbols, over 0.2.
    """
    device = optical("mzi", trained="phases", amplifier_a_per_root_hz=0, rin_db_per_hz=-1000)
    monitor = device.monitor(64, 10)
    electrons = monitor.tap_fraction / 64 / monitor.noise**2 / 100
    watts = electrons / 0.8 * 10**0.5 * 11 / 9 * 6.9 * PLANCK_X_LIGHT / 1.55e-6 * 1e9 / 0.2
    laser = device.components["laser"].quantity("static_power_w").nominal
    assert_allclose(device.installed([TileShape(1, 64, 10)])["laser"] * laser, watts, rtol=1e-9)


def test_light_burns_while_a_matrix_settles() -> None:
    """The laser is static power: it burns in an op that sends nothing."""
    device = optical("mzi")
    for name in ("laser", "oscillator", "shifter"):
        assert device.components[name].quantity("static_power_w").nominal > 0
        assert device.components[name].quantity("energy_j").nominal == 0
        assert device.components[name].role is Role.LIGHT
    assert device.components["adc"].role is Role.CONVERTER


# -- meshes --------------------------------------------------------------------------------------------------


def test_holding_power_of_a_64_by_64_layer() -> None:
    """2 * 64^2 + 64 = 8,256 shifters: 248 W at 30 mW a pi and mean phase pi, 83 W at 10 mW."""
    device = optical("mzi", mean_phase=1.0)
    units = device.installed([TileShape(1, 64, 64)])["shifter"]
    assert units == 8256
    assert_allclose(units * device.components["shifter"].quantity("static_power_w").nominal, 247.68)
    cheap = optical("mzi", mean_phase=1.0, shifter_pi_power_w=0.01)
    assert_allclose(units * cheap.components["shifter"].quantity("static_power_w").nominal, 82.56)


def test_actual_phases_are_recorded() -> None:
    """One mode each way, weight 3: no MZI, two output phases of 0 or pi each, the attenuator open: 2 arcsin 1 = pi."""
    ledger = Ledger()
    device = optical("mzi", splitter_sigma=0, phase_sigma=0, drift_sigma=0)
    tile = device.program(np.array([[3.0]]), name="one", ledger=ledger)
    turns = sum(float(tile.state[f"0/{side}/output"][0]) for side in ("first", "second")) / math.pi + 1
    (counts,) = ledger.actual.values()
    assert_allclose(float(counts["shifter"]), turns)
    assert turns == pytest.approx(1) or turns == pytest.approx(3)
    wear = device.wear(tile)
    assert_allclose(wear["holding_power_w"], turns * 0.03)
    assert_allclose(wear["mean_phase_over_pi"], turns / 3)


def test_the_bill_holds_the_actual_phases() -> None:
    """Two settings in a run count alike: power is the mean of what was set, 30 mW for every pi."""
    ledger = Ledger()
    device = optical("mzi")
    tile = device.program(np.array([[3.0, 0.5], [0.2, -1.0]]), name="one", ledger=ledger)
    first = device.wear(tile)["holding_power_w"]
    tile.update(np.array([[-2.9, 0.4], [0.0, 2.0]]))
    second = device.wear(tile)["holding_power_w"]
    assert first != second
    assert_allclose(ledger.rates(device).static_power_w["shifter"], (first + second) / 2)
    expected = costing.rates(ledger, device, actual=False).static_power_w["shifter"]
    assert_allclose(expected, 10 * 0.62 * 0.03)


def test_expected_phases_are_near_the_actual_ones() -> None:
    """The preset's mean phase against that of 64 x 64 normal weights, within 5%."""
    tile = optical("mzi").program(np.random.default_rng(5).standard_normal((64, 64)), name="mean")
    assert_allclose(tile.device.wear(tile)["mean_phase_over_pi"], 0.62, rtol=0.05)


def test_reprogramming_outweighs_a_batch() -> None:
    """Batch 64 at 1 GHz: 64 ns and 129 * 4.2 ps of flight; settling takes 10 us, and decomposing more.

    21 * 64^3 + 2 * 28 * (64 * 63 / 2) * (64 * 2 / 3) = 10.32 million operations, of 135 ps each.
    """
    device = optical("mzi")
    forward, update = Product(Kind.FORWARD, 64, 64, 64), Product(Kind.UPDATE, 0, 64, 64)
    assert_allclose(seconds(device, forward), 64e-9 + 129 * 4.2e-12)
    flops = 21 * 64**3 + 2 * 28 * (64 * 63 / 2) * (64 * 2 / 3)
    assert_allclose(actions(device, update)["flop"], flops)
    assert_allclose(seconds(device, update), 10e-6 + flops * 135e-12)
    assert actions(device, update)["driver"] == 8256
    # where settling alone is one forward's time: 10 us at 1 GHz are 10,000 vectors
    assert_allclose(seconds(device, forward._replace(m=10_000)), 10e-6, rtol=1e-3)


def test_phases_are_trained_without_decomposition() -> None:
    """Nine sends of each of 32 vectors for 100 symbols, 2 readings of 8,256 elements each, one settling."""
    found = actions(optical("mzi", trained="phases"), Product(Kind.UPDATE_OUTER, 32, 64, 64))
    assert found["symbol"] == 9 * 32 * 100
    assert found["tap"] == 32 * 2 * 8256
    assert found["settle"] == 1
    assert "flop" not in found


# -- products ------------------------------------------------------------------------------------------------


def test_converters_of_a_cut_matrix() -> None:
    """100 x 70 on units of 64 x 64: 2 x 2 units; 5 vectors forwards: 100 * 2 modulated values, 70 * 2 read ones."""
    device = optical("mzi")
    found = actions(device, Product(Kind.FORWARD, 5, 100, 70))
    assert found["dac"] == 5 * 100 * 2
    assert found["modulator"] == 5 * 100 * 2 * 8
    assert found["adc"] == 5 * 70 * 2
    assert found["add"] == 5 * 70
    assert found["symbol"] == 5
    back = actions(device, Product(Kind.BACKWARD, 5, 100, 70))
    assert back["dac"] == 5 * 70 * 2
    assert back["adc"] == 5 * 100 * 2
    # 64 x 64, 64 x 6, 36 x 64, 36 x 6
    shifters = sum(a * a + b * b + min(a, b) for a in (64, 36) for b in (64, 6))
    assert device.installed([TileShape(3, 100, 70)])["shifter"] == 3 * shifters


def test_intensities_take_two_symbols() -> None:
    found = actions(optical("microring"), Product(Kind.FORWARD, 5, 32, 32))
    assert (found["symbol"], found["dac"], found["adc"]) == (10, 2 * 5 * 32, 2 * 5 * 32)
    assert optical("microring").installed([TileShape(1, 32, 32)])["shifter"] == 1024


def test_two_beams_take_turns_on_one_unit() -> None:
    """[100, 50] x [50, 130] on 64 x 64 detectors: 2 x 3 blocks of 50 symbols; x goes out 3 times, weights twice."""
    device = optical("homodyne")
    found = actions(device, Product(Kind.FORWARD, 100, 50, 130))
    assert found["symbol"] == 6 * 50
    assert found["dac"] == 50 * (100 * 3 + 130 * 2)
    assert found["adc"] == 100 * 130
    gradient = actions(device, Product(Kind.GRADIENT, 100, 50, 130))
    assert gradient["symbol"] == 1 * 3 * 100
    assert gradient["adc"] == 50 * 130
    assert "settle" not in actions(device, Product(Kind.UPDATE, 0, 50, 130))
    assert device.installed([])["amplifier"] == 64 * 64
    assert device.installed([TileShape(1, 50, 130)]) == device.installed([])


def test_standard_quantum_limit() -> None:
    """Hamerly 2019: 50 zJ are 0.39 photons at 1550 nm; light of a lossless link at that number costs that much."""
    lossless = {"crest": 1, "detector_efficiency": 1, "modulator_loss_db": 0, "path_loss_db": 0, "extinction_db": 200}
    device = optical("homodyne", detected_photons=0.39, wall_plug=1, **lossless)
    unit = device.components["laser"].quantity("static_power_w").nominal * device.installed([])["laser"]
    assert_allclose(unit / (64 * 64 * 1e9), 50e-21, rtol=0.01)


# -- neurons -------------------------------------------------------------------------------------------------


def test_saturation_is_a_floor_under_the_light() -> None:
    """1.67 mW/cm2 on a radius of 50 um: 131 nW; 102.5 ns of it 5.3e4 photons of 780 nm, as the reference says (5e4).

    4 dB of path, 4 of the modulator, its extinction of 20 dB, a crest of 6.9 and 20% of the wall plug:
    131 nW * 102.5 ns * 10^.8 * 101 / 99 * 6.9 / .2 = 3.0 pJ a neuron and symbol. The probe: 500 photons, over 0.7 and
    twice 4 dB of path to the detector, the rest as before.
    """
    device = optical("nitride")
    assert_allclose(device.saturation_photons, 5.3e4, rtol=0.02)
    period_s = 26.2e-9 * math.log(1 / 0.02)
    wanted = 1.67e-5 * 0.00785 * period_s * 10**0.8 * 101 / 99 * 6.9 / 0.2
    assert_allclose(device.components["saturation"].quantity("energy_j").nominal, wanted, rtol=1e-9)
    wanted = 500 / 0.7 * 10**1.2 * 101 / 99 * 6.9 / 0.2 * PLANCK_X_LIGHT / 7.8e-7
    assert_allclose(device.components["probe"].quantity("energy_j").nominal, wanted, rtol=1e-9)


def test_neurons_work_side_by_side() -> None:
    """64 rows of 128 values on 128 absorbers: 64 symbols of 102.5 ns; the way back modulates pump and probe."""
    device = optical("nitride")
    there, back = (Elementwise(name, 64 * 128, 0, 0, 0) for name in ("device", "device_backward"))
    use = device.uses(there)["absorber"]  # type: ignore[index]
    time_s = device.components["absorber"].quantity("time_s").nominal
    assert_allclose(use.actions / use.units * time_s, 64 * 102.5e-9, rtol=1e-3)
    assert actions(device, back)["dac"] == 2 * actions(device, there)["dac"]
    assert set(actions(optical("nitride", absorber_backward="exact"), back)) == {"mac"}
    # the automatic gain: 20 operations for a slope and 4 for two sums, two to a multiply-accumulate
    assert actions(device, back)["mac"] == 12 * 64 * 128
    assert actions(optical("nitride", probe_gain=1.0), back)["mac"] == 0
    # detectors of 128 neurons, in pairs, beside oscillators as strong as those of products
    found = device.installed([TileShape(1, 0, 128)])
    assert (found["detector"], found["oscillator"]) == (256, 128 * 1e6)


def test_intensity_in_neurons_is_recorded() -> None:
    ledger = Ledger()
    neurons = optical("slm").activation(2, name="neurons", ledger=ledger)
    neurons.forward(np.array([[1.0, 3.0]], np.float32))
    (counts,) = ledger.actual.values()
    assert float(counts["saturation"]) == 10


# -- the whole -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["mzi", "nitride", "slm", "homodyne", "microring"])
def test_every_value_has_a_source_and_a_range(preset: str) -> None:
    for key, value in Optical.presets()[preset].items():
        if hasattr(value, "nominal"):
            assert value.source, key
            assert value.low < value.nominal <= value.high or value.low == value.high, key


@pytest.mark.parametrize("preset", ["mzi", "slm", "homodyne", "microring"])
def test_shapes_alone_are_costed(preset: str) -> None:
    ledger = Ledger()
    tile = optical(preset).program(Shape(4096, 4096), name="large", ledger=ledger)
    tile.forward(Shape(64, 4096))
    assert ledger.total_j() > 0

"""The bill of optics by hand: link budget, holding power, reprogramming, converters, time, neurons. Run time: 1 s."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hwsim import costing
from hwsim.arrays import Shape
from hwsim.cost import Certainty, Elementwise, Kind, Product, Quantity, Role, op_cost
from hwsim.devices.optical import Optical
from hwsim.ledger import Ledger, TileShape

RUBIDIUM = ("optical_depth", "lifetime_s", "saturation_w_per_mm2", "beam_area_mm2", "wavelength_m", "symbol_rate_hz")
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


def test_photons_are_said_where_number_formats_are() -> None:
    """In the line that comparisons print for each device: 10 * 10^3.08 / 0.8 * 11 / 9 * 6.9 = 126,745 for 10."""
    said = optical("mzi", adc_bits=0).policy.describe()
    assert said.startswith("8 bits sent, 8 bits held, read exactly; ")
    assert "1.27e+05 launched, 10 detected, in a unit of 64 x 64" in said
    assert said.endswith("simulated in fp32")
    assert optical("mzi", precision="fp64").policy.dtype(np) == np.float64


def test_both_rails_are_launched() -> None:
    """Rings: 3 dB modulator, 3 dB path, 0.8, 11 / 9, crest 3, and two symbols for signs: the light that is billed.

    Twice, for the bank that sends errors back has lasers of its own, which burn throughout.
    """
    device = optical("microring")
    launched = device.photons_per_mac(32, 32).launched
    assert_allclose(launched, 2000 * 10**0.6 / 0.8 * 11 / 9 * 3 * 2, rtol=1e-9)
    watts = (
        device.installed([TileShape(1, 32, 32)])["laser"]
        * device.components["laser"].quantity("static_power_w").nominal
    )
    symbols = actions(device, Product(Kind.FORWARD, 1, 32, 32))["symbol"]
    photons = watts / 2 * 0.2 * symbols / 1e9 / (PLANCK_X_LIGHT / 1.55e-6)
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
    # the local oscillators: 24 detectors, both sides, of 1e6 photons a symbol over 0.8 and 0.2, before 2 dB of path
    units = device.installed([TileShape(1, 16, 8)])["oscillator"]
    wanted = 24 * 1e6 * PLANCK_X_LIGHT / 1.55e-6 * 1e9 / 0.8 / 0.2 * 10**0.2
    assert_allclose(units * device.components["oscillator"].quantity("static_power_w").nominal, wanted, rtol=1e-9)


def test_detectors_are_charged() -> None:
    """25 nW each in the dark, 2 a pair: of 24 ends of a 16 x 8 mesh, of 64 x 64 meetings.

    Trained in place: one more for each of 16^2 + 8^2 + 8 meters, and pairs between the meshes: of the 8 modes of the
    second, and the 8 of the first that attenuators pass.
    """
    assert_allclose(optical("mzi").components["detector"].quantity("static_power_w").nominal, 25e-9)
    assert optical("mzi").installed([TileShape(1, 16, 8)])["detector"] == 48
    assert optical("homodyne").installed([])["detector"] == 2 * 64 * 64
    trained = optical("mzi", trained="phases").installed([TileShape(1, 16, 8)])
    assert trained["detector"] == 48 + 32 + 256 + 64 + 8
    assert trained["amplifier"] == 24 + 16 + 256 + 64 + 8
    assert trained["dac"] == trained["adc"] == 24 + 16
    assert trained["oscillator"] == 40 * 1e6


def test_photocurrent_is_drawn_from_the_bias() -> None:
    """1 V times q times electrons a second: 24 ends of 1e6 of an oscillator, 16 x 8 x 10 of the signal, at 1 GHz."""
    device = optical("mzi")
    units = device.installed([TileShape(1, 16, 8)])["photocurrent"]
    wanted = (24 * 1e6 + 16 * 8 * 10) * 1.602176634e-19 * 1e9
    assert_allclose(units * device.components["photocurrent"].quantity("static_power_w").nominal, wanted, rtol=1e-9)
    assert optical("homodyne").installed([])["photocurrent"] == 64 * 64 * 200
    # a camera's pixels have it in their own power
    assert optical("slm").components["photocurrent"].quantity("static_power_w").nominal == 0


def test_light_of_the_meters_is_the_light_that_is_billed() -> None:
    """64 x 10, shot noise alone: sigma = sqrt(L tap / 10) / L, so that L = tap / 10 / sigma^2 electrons in 100 symbols.

    The laser: L / 100 electrons a symbol, over 0.8, before 5 dB, 11 / 9 and a crest of 6.9, at 1e9 symbols, over 0.2;
    where products need more, it is theirs.
    """
    quiet = {"trained": "phases", "amplifier_a_per_root_hz": 0, "rin_db_per_hz": -1000, "dark_current_a": 0}
    device = optical("mzi", **quiet, meter_photons=1e6)
    monitor = device.monitor(64, 10)
    electrons = monitor.tap_fraction / 10 / monitor.noise**2 / 100
    watts = electrons / 0.8 * 10**0.5 * 11 / 9 * 6.9 * PLANCK_X_LIGHT / 1.55e-6 * 1e9 / 0.2
    laser = device.components["laser"].quantity("static_power_w").nominal
    assert_allclose(device.installed([TileShape(1, 64, 10)])["laser"] * laser, watts, rtol=1e-9)
    weak = optical("mzi", **quiet, meter_photons=1e3).installed([TileShape(1, 64, 10)])["laser"]
    assert weak == device.entering_electrons(64, 10)


def test_meters_hear_the_laser() -> None:
    """One detector rejects none of it: RIN 1e-10 a Hz, 100 ns (5 MHz): variance 5e-4 of the mean squared."""
    quiet = {"trained": "phases", "amplifier_a_per_root_hz": 0}
    shot, both = (optical("mzi", **quiet, rin_db_per_hz=rin).monitor(8, 8).noise for rin in (-1000, -100))
    assert_allclose(both**2 - shot**2, 5e-4 * (0.01 / 8) ** 2, rtol=1e-9)


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
    """Nine sends of each of 32 vectors for 100 symbols; 64 x 10: 64^2 + 10^2 phases and 10 attenuators.

    2 readings of every phase, 3 of every attenuator. The second mesh gets 10 errors and twice 10 values; the first
    errors on the 10 modes that attenuators pass, and twice 64; the attenuators thrice 10. What leaves is read: errors,
    of 10 and 64 modes, and twice the 10 values behind the first mesh. Attenuators open to the sides, which is waited
    for; then all is set, which is too.
    """
    found = actions(optical("mzi", trained="phases"), Product(Kind.UPDATE_OUTER, 32, 64, 10))
    assert found["symbol"] == 9 * 32 * 100
    assert found["tap"] == 32 * (2 * (64**2 + 10**2) + 3 * 10)
    assert found["dac"] == 32 * (3 * 10 + 10 + 2 * 64 + 3 * 10)
    assert found["adc"] == 32 * (10 + 64 + 2 * 10)
    assert found["driver"] == 64**2 + 10**2 + 10 + 10
    assert found["settle"] == 2
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


def test_rings_are_set_for_either_way() -> None:
    """40 x 20 weights: 800 rings, and 800 that hold the transpose, all set at every update and waited for once."""
    device = optical("microring")
    found = device.installed([TileShape(1, 40, 20)])
    assert found["shifter"] == 2 * 800
    # converters and detectors stand once at either end of 32 + 8 inputs and 20 outputs in each of two units
    assert found["dac"] == found["adc"] == 32 + 20 + 8 + 20
    update = actions(device, Product(Kind.UPDATE, 0, 40, 20))
    assert (update["driver"], update["settle"]) == (2 * 800, 1)
    assert actions(optical("slm"), Product(Kind.UPDATE, 0, 40, 20))["driver"] == 800


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
    alone, weights = device.installed([]), device.installed([TileShape(1, 50, 130)])
    assert {name for name in alone if alone[name] != weights[name]} == {"buffer_read"}


def test_memory_grows_with_the_weights() -> None:
    """4096 x 4096 weights of 16 bits are 2^28 bits, a bank of 64 KB holds 2^19: 512 banks, and one for vectors."""
    for preset in ("homodyne", "mzi"):
        device = optical(preset)
        assert device.installed([])["buffer_read"] == 1
        assert device.installed([TileShape(1, 4096, 4096), TileShape(1, 0, 99)])["buffer_read"] == 513
        assert device.installed([TileShape(3, 100, 70)])["buffer_read"] == 2
    ledger = Ledger()
    optical("homodyne").program(Shape(4096, 4096), name="large", ledger=ledger)
    one = optical("homodyne").components["buffer_read"].quantity("static_power_w").nominal
    (device,) = ledger.devices()
    assert_allclose(ledger.rates(device).static_power_w["buffer_read"], 513 * one)


# -- converters ----------------------------------------------------------------------------------------------


def energy_pj(component: str, **parameters: Any) -> Quantity:
    return optical("mzi", **parameters).components[component].quantity("energy_j").scaled(1e12)


def test_converters_of_digital_to_analog_lie_on_what_was_read() -> None:
    """3.571 pJ at 8 bits and 12.07 at 12 (read), their geometric mean at 10; beyond them by the same factor a bit."""
    assert_allclose(energy_pj("dac").nominal, 3.571)
    assert_allclose(energy_pj("dac", dac_bits=12).nominal, 12.07)
    assert_allclose(energy_pj("dac", dac_bits=10).nominal, math.sqrt(3.571 * 12.07))
    assert_allclose(energy_pj("dac", dac_bits=4).nominal, 3.571**2 / 12.07)
    assert energy_pj("dac", dac_bits=10).certainty is Certainty.DERIVED
    assert energy_pj("dac", dac_bits=4).certainty is Certainty.ASSUMED
    # what a simulation does not round is billed as the 16-bit words of the buffers
    assert_allclose(energy_pj("dac", dac_bits=0).nominal, 12.07**2 / 3.571)


def test_converters_of_analog_to_digital_follow_the_survey() -> None:
    """1.48 pJ at 8 bits (read). At 1 GS/s the survey's figure of merit is 154.071 dB at 8 bits, by 128.3068 + 3.2205 b,
    and 154.266 at 12, by 213.7807 - 2.8719 ln(1e9); 6.02 dB a bit, and bits^-2.8291: 77.7 times. Ranges: 2^4 and 4^4.
    At 4 bits 141.189 dB: 0.54 times, as 0.924 over 1.714 pJ, which were computed by the survey's own program.
    """
    assert_allclose(energy_pj("adc").nominal, 1.48)
    at_12 = energy_pj("adc", adc_bits=12)
    factor = 10 ** ((4 * 6.02 - (154.26555 - 154.0708)) / 10) * (8 / 12) ** 2.8291
    assert_allclose(at_12.nominal, 1.48 * factor, rtol=1e-4)
    down, up = (
        math.hypot(math.log(f), math.log(r)) for f, r in ((factor / 16, 1.48 / 0.5), (256 / factor, 4.5 / 1.48))
    )
    assert_allclose([at_12.nominal / at_12.low, at_12.high / at_12.nominal], np.exp([down, up]), rtol=1e-3)
    assert_allclose(energy_pj("adc", adc_bits=4).nominal, 1.48 * 0.924 / 1.714, rtol=0.01)
    assert_allclose(energy_pj("adc", adc_bits=2).nominal, energy_pj("adc", adc_bits=4).nominal / 4)
    assert at_12.certainty is Certainty.DERIVED
    assert energy_pj("tap", meter_bits=12, trained="phases") == at_12


@pytest.mark.parametrize("preset", ["mzi", "slm", "homodyne", "microring"])
def test_more_bits_never_cost_less(preset: str) -> None:
    """For every converter, and for every bound of its range."""
    devices = [optical(preset, adc_bits=bits, dac_bits=bits) for bits in range(2, 17)]
    for name in ("adc", "dac"):
        found = [device.components[name].quantity("energy_j") for device in devices]
        for bound in ("low", "nominal", "high"):
            assert (np.diff([getattr(each, bound) for each in found]) >= 0).all(), (name, bound)


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
    131 nW * 10^.8 * 101 / 99 * 6.9 / .2 = 29 uW of laser a neuron. The probe: 500 photons in 102.5 ns, over 0.7 and
    twice 4 dB of path to the detector, the rest as before. Of a fifth of the pump's fields: .04 of its light.
    """
    device = optical("nitride")
    assert_allclose(device.saturation_photons, 5.3e4, rtol=0.02)
    period_s = 26.2e-9 * math.log(1 / 0.02)
    pump = 1.67e-5 * 0.00785 * 10**0.8 * 101 / 99 * 6.9 / 0.2
    assert_allclose(device.components["saturation"].quantity("static_power_w").nominal, pump, rtol=1e-9)
    wanted = 500 / 0.7 * 10**1.2 * 101 / 99 * 6.9 / 0.2 * PLANCK_X_LIGHT / 7.8e-7 / period_s
    assert_allclose(device.components["probe"].quantity("static_power_w").nominal, wanted, rtol=1e-9)
    given = optical("nitride", probe_ratio=0.2)
    assert_allclose(given.components["probe"].quantity("static_power_w").nominal, 0.04 * pump, rtol=1e-9)
    given = optical("nitride", probe_ratio=0.2, encoding="intensity")
    pump = given.components["saturation"].quantity("static_power_w").nominal
    assert_allclose(given.components["probe"].quantity("static_power_w").nominal, 0.2 * pump, rtol=1e-9)


def test_absorbers_are_installed_once() -> None:
    """128 of them, with their lasers, for two layers of 200 and 50 neurons, which take turns; no laser for no probe."""
    layers = [TileShape(1, 0, 200), TileShape(1, 0, 50)]
    found = optical("nitride").installed(layers)
    assert [found[name] for name in ("saturation", "probe", "amplifier", "dac")] == [128] * 4
    assert found == optical("nitride").installed(layers[:1])
    assert optical("nitride", absorber_backward="exact").installed(layers)["probe"] == 0
    assert optical("nitride").installed([TileShape(1, 64, 64)])["saturation"] == 0


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


@pytest.mark.parametrize(("encoding", "intensity"), [("amplitude", 10), ("intensity", 4)])
def test_intensity_in_neurons_is_recorded(encoding: str, intensity: float) -> None:
    """(1, -3): fields of intensity 1 + 9, or intensities 1 + 3; the way back needs the pump again, beside the probe."""
    ledger = Ledger()
    neurons = optical("slm", encoding=encoding).activation(2, name="neurons", ledger=ledger)
    saved = neurons.forward(np.array([[1.0, -3.0]], np.float32))[1]
    neurons.backward(saved, np.ones((1, 2), np.float32))
    assert [float(counts["saturation"]) for counts in ledger.actual.values()] == [intensity, intensity]


def test_neurons_of_intensities_need_no_oscillator() -> None:
    """One detector a neuron; a crest of normal intensities, sqrt(pi / 2 * 9.4) = 3.84 where fields have 9.4.

    k max|x| / sum|x| of normal vectors of 256 values, measured here: 3.8 +- 0.3 over 4,000 vectors.
    """
    fields, intensities = (optical("slm", encoding=name) for name in ("amplitude", "intensity"))
    found = intensities.installed([TileShape(1, 0, 128)])
    assert (found["detector"], found["oscillator"], found["photocurrent"]) == (128, 0, 0)
    for name in ("saturation", "probe"):
        watts = [device.components[name].quantity("static_power_w").nominal for device in (fields, intensities)]
        assert_allclose(watts[1] / watts[0], math.sqrt(math.pi / 2 * 9.4) / 9.4)
    x = np.abs(np.random.default_rng(3).standard_normal((4000, 256)))
    assert_allclose((x.max(axis=1) / x.mean(axis=1)).mean(), math.sqrt(math.pi / 2 * 9.4), rtol=0.03)
    back = optical("microring", **{name: getattr(fields, name) for name in RUBIDIUM})
    assert_allclose(back.neuron_crest.nominal, 2 / math.pi * 3.0**2)


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

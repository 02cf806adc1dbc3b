"""The energy of reversible logic: limits, a worked example by hand, published figures, and what it is compared with."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad, solve_ivp
from scipy.special import hyp1f1

from hwsim import library
from hwsim.devices.reversible import adiabatic, counts, energy_optimum
from hwsim.devices.reversible.energy import Adiabatic, Conventional, Schedule
from hwsim.devices.reversible.energy_presets import PRESETS, named, technology
from hwsim.devices.reversible.superconducting import Josephson, fastest_paying_hz
from hwsim.errors import ConfigError

NAMES = ("adiabatic_cmos", "quasi_adiabatic", "landauer_ideal", "cmos_reference", "aqfp")
KT_LN2_J = 2.870979e-21  # at 300 K

# 8 bits x 8 bits into 24: 476 Toffolis, 608 CNOTs, wires 8 + 8 + 24 + 16 ancillas, levels 5 x 164 - 5 x 8 + 2
CTRL = Schedule(inverters=34, cnots=608, toffolis=476, wires=56, depth=782)
NODE = Schedule(inverters=0, cnots=0.5, toffolis=0, wires=0, depth=0)  # 0.5 x 2 nodes
LEVEL = ("retractile_ramps_per_level", "pipelined_ramps_per_level")


def near(value: Any, rel: float = 1e-6) -> Any:
    """Within a relative error alone: the absolute tolerance that pytest adds, 1e-12, is above all energies here."""
    return pytest.approx(value, rel=rel, abs=0)


def example(**changes: Any) -> Adiabatic:
    """10 kOhm, 1 fF, 0.8 V, 1 nS, ramps of 1 ns, held for 3, without clock loss, one ramp a level."""
    made = named("adiabatic_cmos")
    assert isinstance(made, Adiabatic)
    return replace(made, **{"ramp_s": 1e-9, "clock_load": 0.0, "retractile_ramps_per_level": 1.0, **changes})


# -- one ramp ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ohm", "ramp_s", "joules"), [(1e3, 1e-11, 5.76003e-17), (1e3, 1e-12, 2.35443e-16), (1e4, 1e-9, 6.336e-18)]
)
def test_ramps_that_a_circuit_simulator_gave(ohm: float, ramp_s: float, joules: float) -> None:
    """ngspice 39.3, 1 fF to 0.8 V: ramps of 10, 1 and 100 RC; its own error is 5e-6."""
    assert adiabatic.ramp_j(ohm, 1e-15, 0.8, ramp_s) == near(joules, rel=1e-5)


def test_the_linear_ramp_is_a_confluent_hypergeometric_function() -> None:
    """(u - 1 + e^-u) / u^2 = 1F1(1; 3; -u) / 2, also where the closed form cancels."""
    u = np.logspace(-9, 6, 301)
    assert_allclose(adiabatic.ramp_j(1.0, 1.0, 1.0, u), hyp1f1(1, 3, -u) / 2, rtol=1e-12)


@pytest.mark.parametrize("ratio", [0.03, 0.3, 1.0, 3.0, 30.0])
def test_the_sinusoidal_ramp_is_its_differential_equation(ratio: float) -> None:
    """d drop / dt = d rail / dt - drop / RC, heat drop^2 / R, in units of R = C = V = 1; hold of 40 RC."""

    def slope(t: float, state: Any) -> list[float]:
        rises = math.pi / (2 * ratio) * math.sin(math.pi * t / ratio) if t < ratio else 0.0
        return [rises - state[0], state[0] ** 2]

    first = solve_ivp(slope, (0, ratio), [0.0, 0.0], rtol=1e-10, atol=1e-14).y[:, -1]
    heat = first[1] + first[0] ** 2 / 2  # the drop that is left decays in the hold
    assert adiabatic.ramp_j(1.0, 1.0, 1.0, ratio, "sinusoidal") == near(heat, rel=1e-7)


@pytest.mark.parametrize(("shape", "factor"), [("linear", 1.0), ("sinusoidal", math.pi**2 / 8)])
def test_limits_of_a_ramp(shape: str, factor: float) -> None:
    """A short ramp is a step, C V^2 / 2; a long one C V^2 (RC/T) x factor; no resistance, no heat."""
    ramp = {"resistance_ohm": 2e3, "capacitance_f": 3e-15, "voltage_v": 0.9, "shape": shape}
    swing_j, rc_s = 3e-15 * 0.81, 6e-12
    assert adiabatic.ramp_j(**ramp, ramp_s=1e-9 * rc_s) == near(swing_j / 2, rel=1e-8)
    assert adiabatic.ramp_j(**ramp, ramp_s=1e6 * rc_s) == near(swing_j * 1e-6 * factor, rel=2e-6)
    times_s = rc_s * np.logspace(-6, 6, 200)
    assert np.all(np.diff(adiabatic.ramp_j(**ramp, ramp_s=times_s)) < 0)  # slower is better
    assert adiabatic.ramp_j(**{**ramp, "resistance_ohm": 0.0}, ramp_s=rc_s) == 0


def test_the_asymptote_is_wrong_where_ramps_are_short() -> None:
    """At T = RC it is 1 / e^-1 = 2.7 times too high, at 10 RC by 1 / 0.9 = 11 %."""
    assert 1.0 / adiabatic.ramp_j(1.0, 1.0, 1.0, 1.0) == near(math.e)
    assert 0.1 / adiabatic.ramp_j(1.0, 1.0, 1.0, 10.0) == near(1 / 0.9, rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "voltage"), [("linear", lambda t: t), ("sinusoidal", lambda t: (1 - math.cos(math.pi * t)) / 2)]
)
def test_a_trapezoid_leaks_like_the_integral_of_its_square(shape: str, voltage: Any) -> None:
    """Two ramps and a hold of 3: linear 3 + 2/3 ramps at full voltage."""
    ramp = quad(lambda t: voltage(t) ** 2, 0, 1)[0]
    assert adiabatic.trapezoid_s(2.0, 3, shape) == near(2.0 * (3 + 2 * ramp), rel=1e-9)
    assert adiabatic.leakage_j(1e-9, 0.8, adiabatic.trapezoid_s(1e-9, 1)) == near(1e-18 * 0.64 * 5 / 3)


def test_landauer_is_never_undercut() -> None:
    """k T ln 2 is 2.870979e-21 J at 300 K and 4.0194e-23 J at 4.2 K; a circuit adds what it takes above that."""
    assert adiabatic.landauer_j(300) == near(KT_LN2_J, rel=1e-6)
    assert adiabatic.landauer_j(4.2) == near(4.0194e-23, rel=1e-4)
    assert adiabatic.erasure_j(300, 0.0) == adiabatic.landauer_j(300)
    assert adiabatic.erasure_j(300, 3.2e-16) == 3.2e-16
    for name in NAMES:
        made = named(name)
        least = 1000 * adiabatic.landauer_j(made.temperature_k)
        assert made.bill(CTRL._replace(erased_bits=1000)).parts["erasure"] >= least
    ideal = named("landauer_ideal").bill(CTRL._replace(erased_bits=1000))
    assert ideal.energy_j == near(1000 * KT_LN2_J, rel=1e-6)
    assert named("landauer_ideal").bill(CTRL).energy_j == 0


def test_a_resonator_loses_two_pi_over_q_of_its_energy() -> None:
    """C (V/2)^2 / 2 around a mean of V/2: 1 fF, 0.8 V, Q 100: 2 pi / 100 x 8e-17 J."""
    assert adiabatic.clock_loss_j(1e-15, 0.8, 100) == near(2 * math.pi / 100 * 8e-17)


def test_what_textbooks_say_of_a_transistor() -> None:
    """Springer 978-3-319-59936-6_4: a cycle loses 2 RC/T of C V^2, and C Vt^2 / 2 through one polarity."""
    cycle = 2 * adiabatic.ramp_j(1.0, 1.0, 1.0, 1e5)
    assert cycle == near(2e-5, rel=2e-5)
    assert adiabatic.threshold_floor_j(2e-15, 0.35) == near(1.225e-16)


# -- a node, and a multiply-accumulate ---------------------------------------------------------------------


def test_the_worked_example_of_one_node() -> None:
    """115 aJ at 0.1 ns; best 10.9 aJ at 2.34 ns, 58.5 times below C V^2 = 640 aJ; at 100 ns only 2.7 times.

    2.34 ns by the law of slow ramps; by the exact one, half a per cent less.
    """

    def joules(ramp_s: float, **changes: Any) -> float:
        return float(example(ramp_s=ramp_s, **changes).bill(NODE).energy_j)

    assert joules(1e-10) == near(115e-18, rel=0.005)
    best = energy_optimum.at_optimum(NODE, example())
    assert energy_optimum.slow_optimum_s(NODE, example()) == near(2.34e-9, rel=0.003)
    assert best.ramp_s == near(2.34e-9, rel=0.01)
    assert joules(best.ramp_s) == near(10.9e-18, rel=0.005)
    assert 640e-18 / joules(best.ramp_s) == near(58.5, rel=0.005)
    assert 640e-18 / joules(1e-7) == near(2.7, rel=0.01)
    for quality, factor in ((1000, 55.9), (100, 40.1), (20, 17.7)):
        assert 640e-18 / joules(2.34e-9, clock_load=1.0, quality=quality) == near(factor, rel=0.005)


def test_the_best_ramp_of_a_node_held_for_one() -> None:
    """C sqrt(2R / (G 5/3)) = 346 RC, 2 C V^2 sqrt(2 R G 5/3) = 7.39 aJ; ngspice at 300 RC: 7.452 aJ."""
    node = example(hold_ramps=1)
    assert energy_optimum.slow_optimum_s(NODE, node) == near(346e-11, rel=0.002)
    lowest = energy_optimum.at_optimum(NODE, node).bill(NODE).energy_j
    assert lowest == near(7.39e-18, rel=0.003)
    assert replace(node, ramp_s=300e-11).bill(NODE).energy_j == near(7.452e-18, rel=1e-3)


def test_idle_wires_double_the_energy_of_a_serial_netlist() -> None:
    """109 Toffolis, 270 CNOTs, 48 wires, 270 levels: about 22 fJ at 1 ns; without idle wires less than half."""
    naf = Schedule(inverters=0, cnots=270, toffolis=109, wires=48, depth=270)
    best = energy_optimum.at_optimum(naf, example())
    assert best.ramp_s == near(1e-9, rel=0.1)
    assert best.bill(naf).energy_j == near(22e-15, rel=0.05)
    active = naf._replace(wires=0)
    assert energy_optimum.at_optimum(active, example()).bill(active).energy_j < 10.7e-15


def test_a_retractile_schedule_by_hand() -> None:
    """2 x 608 + 3 x 476 = 2644 nodes, none for a NOT; 56 wires x 782 levels x 4 ramps of 1 ns leak 0.64 nW each."""
    bill = example(retractile_ramps_per_level=4.0, clock_load=1.5, quality=100).bill(CTRL._replace(erased_bits=5))
    assert bill.nodes == 2644
    expected = {
        "switching": 2644 * 2 * 0.64e-15 * 0.01 * (1 - 0.01),
        "leakage_active": 2644 * 0.64e-18 * (3 + 2 / 3),
        "threshold_floor": 0.0,
        "clock": 2644 * math.pi / 4 * 1.5 * 0.64e-15 / 100,
        "leakage_idle": 56 * 782 * 4 * 0.64e-18,
        "configuration": 0.0,
        "erasure": 5 * 0.32e-15,
        "cooler": 0.0,
    }
    assert bill.parts == near(expected, rel=1e-9)
    assert bill.energy_j == near(sum(expected.values()))
    assert bill.latency_s == bill.interval_s == near((782 * 4 + 4) * 1e-9)
    assert bill.rails == 782
    assert bill.area_mm2 == near((2644 + 56) * 2e-6)


def test_a_pipelined_schedule_by_hand() -> None:
    """Every wire is charged anew at every ramp: 2644 + 56 x 782 = 46436 nodes; 8 phases; a result every 8 ns."""
    bill = example(clocking="pipelined").bill(CTRL)
    assert bill.nodes == 46436
    assert bill.parts["switching"] == near(46436 * 2 * 0.64e-15 * 0.01 * 0.99)
    assert bill.parts["leakage_idle"] == 0
    assert bill.rails == 8
    assert bill.interval_s == near(8e-9)
    assert bill.latency_s == near(786e-9)
    two = example(clocking="pipelined", hold_ramps=1, ramp_s=1e-9).bill(CTRL)
    assert two.rails == 4  # 2LAL


def test_a_floor_and_a_cooler() -> None:
    """2 nodes, Vt 0.35 V, twice C Vt^2 / 2 = 61 aJ each; a cooler of 9 makes all of it ten times as much."""
    schedule = Schedule(0, 1, 0, 0, 0)
    bill = example(floor_share=2.0, cooler_factor=9.0).bill(schedule)
    assert bill.parts["threshold_floor"] == near(2 * 1e-15 * 0.35**2)
    assert bill.energy_j == near(10 * example(floor_share=2.0).bill(schedule).energy_j)


def test_the_same_netlist_switched_conventionally() -> None:
    """2644 x 0.64 fJ = 1.69 pJ; an ordinary multiply-accumulate takes a tenth, at 28 nm 0.3 pJ x 0.513 = 0.154 pJ."""
    bill = named("cmos_reference").bill(CTRL)
    assert bill.parts["switching"] == near(1.692e-12, rel=1e-3)
    assert bill.latency_s == near(782 * 50e-12)
    assert bill.parts["leakage_idle"] == near(2700 * 39.1e-9 * 0.64e-9)
    ordinary = energy_optimum.ordinary_mac(8, 28)
    assert ordinary.nominal == near(0.154e-12, rel=0.003)
    assert bill.parts["switching"] / ordinary.nominal == near(11, rel=0.01)


def test_a_node_must_settle_within_a_ramp() -> None:
    """A level is read by the next one's ramp as soon as its own is over: after 5 RC, e^-5 / 5 = 0.13% are missing.

    The rest of a linear ramp of u = T / RC is (1 - e^-u) / u of V at its end, and decays by e^-u in a ramp of the next.
    """
    made = named("adiabatic_cmos")
    assert isinstance(made, Adiabatic)
    assert made.shortest_ramp_s == near(5e-11)
    missing = (1 - math.exp(-5)) / 5 * math.exp(-5)
    assert missing == near(0.00134, rel=0.01)
    assert replace(made, ramp_s=5e-11, hold_ramps=1).shortest_ramp_s == near(5e-11)
    assert replace(made, hold_ramps=0.5).shortest_ramp_s == near(1e-10)


def test_the_default_ramp_is_the_best_of_its_preset() -> None:
    """To two digits, which costs less than a thousandth; 4 x 8 CNOTs in two levels bring operands and clear them."""
    typical = CTRL._replace(cnots=640, depth=784)
    for name in ("adiabatic_cmos", "quasi_adiabatic"):
        made = named(name)
        assert isinstance(made, Adiabatic)
        best = energy_optimum.at_optimum(typical, made)
        assert made.ramp_s == near(best.ramp_s, rel=0.02)
        assert made.bill(typical).energy_j == near(best.bill(typical).energy_j, rel=1e-3)


def test_the_load_of_a_wire_multiplies_its_capacitance_and_leakage() -> None:
    """Twice both, ramps far above RC: their heat is RC x C V^2 / T, 4 times; clock and leakage twice."""
    values = library.presets(PRESETS)["adiabatic_cmos"] | {"ramp_s": 1e-6}
    one, two = (technology(values | {"load": factor}).bill(CTRL).parts for factor in (1.0, 2.0))
    assert two["switching"] == near(4 * one["switching"], rel=1e-4)
    for cause in ("clock", "leakage_active", "leakage_idle"):
        assert two[cause] == near(2 * one[cause])
    drawn, fixed = (technology(values | more, draws=500) for more in ({}, {"load": 1.0}))
    assert isinstance(drawn, Adiabatic)
    assert isinstance(fixed, Adiabatic)
    ratio = np.asarray(drawn.capacitance_f) / np.asarray(fixed.capacitance_f)
    assert ratio[0] == 1
    assert np.all(ratio >= 1)
    # 95% lies at 8: of 500 draws 25 +- 4.9 are above; 5 sigma
    assert abs(int((ratio > 8).sum()) - 25) < 25
    assert_allclose(np.asarray(drawn.leakage_siemens) / np.asarray(fixed.leakage_siemens), ratio)
    with pytest.raises(ConfigError, match=r"load=0\.0: needs a finite number above 0"):
        technology(values | {"load": 0.0})


def test_counts_of_the_netlists_fit_in() -> None:
    """The closed forms of the ctrl netlist are the schedule used here."""
    taken = counts.mac("ctrl", 8, 24)
    depth = counts.controlled_depth(8, 24)
    assert Schedule(taken.inverters, taken.cnots, taken.toffolis, 16 + 24 + taken.ancillas, depth) == CTRL


@pytest.mark.parametrize("name", NAMES)
def test_a_held_bit(name: str) -> None:
    """A weight that only waits: leakage, or copies; with the cooler."""
    made = named(name)
    if isinstance(made, Josephson):  # 4 junctions in each of 4 phases, 1.4 zJ at 5 GHz, x 501
        expected = 16 * 1.4e-21 * 5e9 * 501
    elif isinstance(made, Adiabatic) and made.clocking == "pipelined":  # a node each phase: 4 in a period of 4 ramps
        expected = float(sum(made.node_j.values())) / float(made.ramp_s)
    else:
        expected = {"landauer_ideal": 0.0}.get(name, 0.64e-9)
    assert made.held_bit_w == near(expected)


# -- the best ramp, and what it is compared with -------------------------------------------------------------


@pytest.mark.parametrize("clocking", ["retractile", "pipelined"])
@pytest.mark.parametrize("shape", ["linear", "sinusoidal"])
@pytest.mark.parametrize("leak", [1e-12, 1e-9, 1e-6])
def test_no_ramp_is_better_than_the_best(clocking: str, shape: str, leak: float) -> None:
    """Against a grid of 2000 ramp times; where leakage is small, the closed form is as good."""
    made = replace(named("adiabatic_cmos"), clocking=clocking, shape=shape, leakage_siemens=leak)
    assert isinstance(made, Adiabatic)
    best = energy_optimum.at_optimum(CTRL, made)
    ramps_s = np.geomspace(made.shortest_ramp_s, 1e-5, 2000)
    energies = energy_optimum.curve(CTRL, made, ramps_s).energy_j
    assert energies.shape == (2000,)
    lowest = float(best.bill(CTRL).energy_j)
    assert lowest <= energies.min() * (1 + 1e-9)
    assert lowest == near(energies.min(), rel=1e-4)
    if leak == 1e-12:
        assert energy_optimum.slow_optimum_s(CTRL, made) == near(best.ramp_s, rel=0.01)


def test_where_leakage_is_heavy_the_shortest_ramp_is_best() -> None:
    """1 mS leaks more in any hold than a step loses."""
    made = example(leakage_siemens=1e-3)
    assert energy_optimum.at_optimum(CTRL, made).ramp_s == near(5e-11)


def test_a_verdict_holds_at_its_edges() -> None:
    """At both ends of the span, and at the least Q, the energy is that of the ordinary multiply-accumulate."""
    ordinary_j = energy_optimum.ordinary_mac(8, 28).nominal
    made = named("adiabatic_cmos")
    assert isinstance(made, Adiabatic)
    verdict = energy_optimum.against(CTRL, made, ordinary_j)
    assert verdict.pays is not None
    assert verdict.pays.fastest_s < energy_optimum.at_optimum(CTRL, made).ramp_s < verdict.pays.slowest_s
    assert_allclose(energy_optimum.curve(CTRL, made, verdict.pays).energy_j, ordinary_j, rtol=1e-9)
    worse = replace(made, quality=verdict.least_quality)
    assert energy_optimum.against(CTRL, worse, ordinary_j).gain == near(1, rel=1e-9)
    assert energy_optimum.against(CTRL, replace(worse, quality=verdict.least_quality * 0.99), ordinary_j).pays is None


def test_the_least_quality_by_hand() -> None:
    """2644 nodes lose 2644 x pi/4 x 0.64 fJ = 1.329 pJ / Q; to stay 10 fJ above the rest Q must be 132.9."""
    made = example(clock_load=1.0, quality=50.0)
    rest_j = float(example().bill(CTRL).energy_j)
    assert energy_optimum.least_quality(CTRL, made, rest_j + 10e-15) == near(132.9, rel=1e-3)
    assert energy_optimum.least_quality(CTRL, made, rest_j) == math.inf
    assert energy_optimum.least_quality(CTRL, made, rest_j * 0.5) == math.inf


def test_a_cooler_raises_what_is_cheap_enough_alike() -> None:
    """Ten times the energy against ten times the reference: the same verdict."""
    ordinary_j = energy_optimum.ordinary_mac(8, 28).nominal
    made = named("adiabatic_cmos")
    assert isinstance(made, Adiabatic)
    warm = energy_optimum.against(CTRL, made, ordinary_j)
    cold = energy_optimum.against(CTRL, replace(made, cooler_factor=9.0), 10 * ordinary_j)
    assert warm.pays is not None
    assert cold.pays == near(tuple(warm.pays), rel=1e-5)
    assert (cold.gain, cold.least_quality) == near((warm.gain, warm.least_quality), rel=1e-9)


def test_against_the_conventional_netlist_it_pays_ten_times_more_than_against_an_ordinary_one() -> None:
    """The weaker reference is 1.76 / 0.154 = 11.4 times dearer (1.69 pJ, and 0.07 pJ of leakage)."""
    made = named("adiabatic_cmos")
    assert isinstance(made, Adiabatic)
    weak = energy_optimum.against(CTRL, made, float(named("cmos_reference").bill(CTRL).energy_j))
    headline = energy_optimum.against(CTRL, made, energy_optimum.ordinary_mac(8, 28).nominal)
    assert weak.gain / headline.gain == near(11.4, rel=0.01)
    assert weak.pays is not None
    assert weak.pays.fastest_s == near(made.shortest_ramp_s)  # it pays as soon as nodes settle
    assert weak.least_quality < headline.least_quality


# -- published figures -------------------------------------------------------------------------------------


def test_one_parametron_gate_against_one_of_cmos() -> None:
    """Chen et al. 2019 forecast 25,242 times less energy per operation than 28 nm CMOS, without cooling.

    640 aJ of a node / (6 junctions of a majority gate x 1.4 zJ) = 76,000: within a factor of 4.
    """
    made, reference = named("aqfp"), named("cmos_reference")
    assert isinstance(made, Josephson)
    assert isinstance(reference, Conventional)
    ratio = reference.swing_j / (6 * made.switch_j)
    assert ratio == near(76190, rel=1e-3)
    assert 1 / 4 < ratio / 25242 < 4


# -- parametrons -------------------------------------------------------------------------------------------


def test_parametrons_by_hand() -> None:
    """608 x 48 + 476 x 72 = 63456 junctions in gates, 56 x 782 x 6 x 4 in buffers of all phases; x 501 with cooler."""
    bill = named("aqfp").bill(CTRL._replace(erased_bits=3))
    assert bill.parts["switching"] == near(63456 * 1.4e-21)
    assert bill.parts["buffers"] == near(56 * 782 * 24 * 1.4e-21)
    assert bill.parts["erasure"] == near(3 * 1e-19)
    assert bill.energy_j == near(501 * ((63456 + 1051008) * 1.4e-21 + 3e-19))
    assert bill.interval_s == near(0.2e-9)
    assert bill.latency_s == near(782 * 6 / 4 * 0.2e-9)


def test_parametrons_cost_in_proportion_to_frequency() -> None:
    """Ten times slower is ten times less, but for erased bits; below the paying frequency the reference is undercut."""
    made = named("aqfp")
    assert isinstance(made, Josephson)
    slow = replace(made, frequency_hz=5e8)
    assert made.bill(CTRL).energy_j / slow.bill(CTRL).energy_j == near(10)
    erasing = CTRL._replace(erased_bits=100)
    assert slow.bill(erasing).parts["erasure"] == made.bill(erasing).parts["erasure"]
    ordinary_j = energy_optimum.ordinary_mac(8, 28).nominal
    limit_hz = float(fastest_paying_hz(erasing, made, ordinary_j))
    assert replace(made, frequency_hz=limit_hz).bill(erasing).energy_j == near(ordinary_j)
    assert fastest_paying_hz(erasing, made, 1.0) == 1e10  # as far as the law is known
    assert fastest_paying_hz(erasing, made, 1e-18) == 0  # 100 erased bits alone take 5 fJ
    assert replace(made, erase_j=0.0).erased_bit_j == near(4.0194e-23, rel=1e-4)
    with pytest.raises(ConfigError, match="up to 1e\\+10 Hz"):
        replace(made, frequency_hz=2e10)


# -- presets, ranges, errors -------------------------------------------------------------------------------


def test_every_value_has_a_source_and_a_range() -> None:
    presets = library.presets(PRESETS)
    assert tuple(presets) == ("adiabatic_cmos", "quasi_adiabatic", "landauer_ideal", "cmos_reference", "aqfp")
    for name, values in presets.items():
        numbers = [key for key, value in values.items() if isinstance(value, float | int | bool)]
        plain = {"ramp_s", "hold_ramps", "node_nm", "frequency_hz", "reference_hz", "highest_hz", "phases_per_period"}
        assert set(numbers) <= plain, name  # choices of a design, not properties of a technology
    for name in ("adiabatic_cmos", "quasi_adiabatic", "aqfp"):
        assert "no published fit" in presets[name]["doc"] or "no fit" in presets[name]["doc"]


def test_draws_begin_with_the_nominal_and_go_together() -> None:
    """Both technologies of one process draw the same C and V, so that their ratio varies less than either."""
    fast, reference = named("adiabatic_cmos", draws=200), named("cmos_reference", draws=200)
    assert isinstance(fast, Adiabatic)
    assert isinstance(reference, Conventional)
    np.testing.assert_array_equal(fast.swing_j, reference.swing_j)
    energy_j = fast.bill(CTRL).energy_j
    assert energy_j.shape == (201,)
    assert energy_j[0] == near(named("adiabatic_cmos").bill(CTRL).energy_j)
    reference_j = reference.bill(CTRL).energy_j
    ratio = np.std(np.log(reference_j / energy_j))
    unpaired = np.std(np.log(np.roll(reference_j, 1) / energy_j))
    assert ratio < unpaired
    assert np.all(energy_optimum.least_quality(CTRL, fast, reference_j) > 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ramp_s": 4.8e-11}, "4.8e-11 s for a node to settle: the ramp formula needs 5 R C = 5e-11 s"),
        ({"ramp_s": 8e-11, "hold_ramps": 0.5}, "4e-11 s for a node to settle"),
        ({"clocking": "static"}, "no clocking 'static'; known: retractile, pipelined"),
        ({"shape": "square"}, "no waveform 'square'; known: linear, sinusoidal"),
        ({"quality": 0.0}, "adiabatic: quality=0.0: needs a finite number above 0"),
        ({"leakage_siemens": -1e-9}, "adiabatic: leakage_siemens=-1e-09: needs a finite number of 0 or more"),
        ({"voltage_v": math.nan}, "voltage_v=nan: needs a finite number"),
    ],
)
def test_impossible_values(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        example(**changes)


def test_what_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no reversible technology 'ecrl'; known: adiabatic_cmos"):
        named("ecrl")
    with pytest.raises(ConfigError, match="no law 'magic' of energy; known: adiabatic, conventional, josephson"):
        technology({"law": "magic"})
    with pytest.raises(ConfigError, match="law conventional: needs node_nm, capacitance_f"):
        technology({"law": "conventional"})
    with pytest.raises(ConfigError, match="without leakage: slower is always better"):
        energy_optimum.at_optimum(CTRL, example(leakage_siemens=0.0))
    with pytest.raises(ConfigError, match="without resistance: shorter is always better"):
        energy_optimum.at_optimum(CTRL, example(resistance_ohm=0.0))
    with pytest.raises(ConfigError, match="known"):
        energy_optimum.ordinary_mac(7, 28)

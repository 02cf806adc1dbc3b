"""Quantities, their draws, and the cost rule, by hand."""

import math

import numpy as np
import pytest

from hwsim.cost import (
    POWER_CAP,
    Certainty,
    Component,
    Elementwise,
    Kind,
    Product,
    Quantity,
    Rates,
    Role,
    Use,
    larger,
    nominal,
    op_cost,
    weaker,
)
from hwsim.errors import ConfigError

# Quantities


@pytest.mark.parametrize(
    "values",
    [(1.0, 1.0, 1.0), (1e-15, 2e-15, 9e-15), (0.0, 0.0, 0.0), (1, 2, 3)],
    ids=["point", "range", "zero", "integers"],
)
def test_quantities_that_are_allowed(values):
    quantity = Quantity(*values)
    assert (quantity.low, quantity.nominal, quantity.high) == values


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((2.0, 1.0, 3.0), "needs finite low <= nominal <= high"),
        ((1.0, 4.0, 3.0), "needs finite low <= nominal <= high"),
        ((1.0, 2.0, math.inf), "needs finite low <= nominal <= high"),
        ((math.nan, math.nan, math.nan), "needs finite low <= nominal <= high"),
        ((0.0, 0.0, 1.0), "needs low > 0 .*smallest credible value"),
        ((0.0, 1.0, 2.0), "needs low > 0 .*smallest credible value"),
        ((-1.0, 0.0, 1.0), "needs low > 0"),
        ((-2.0, -1.0, -0.5), "needs low > 0"),
    ],
)
def test_quantities_that_are_refused(values, text):
    with pytest.raises(ConfigError, match=text):
        Quantity(*values, key="file/part")
    with pytest.raises(ConfigError, match="file/part"):
        Quantity(*values, key="file/part")


def test_a_bare_number_is_an_assumption_without_spread():
    quantity = Quantity.of(3)
    assert (quantity.low, quantity.nominal, quantity.high) == (3.0, 3.0, 3.0)
    assert quantity.certainty is Certainty.ASSUMED
    assert Quantity.of(quantity) is quantity


def test_scaling_keeps_key_certainty_and_ratios():
    quantity = Quantity(1.0, 2.0, 6.0, "a paper", Certainty.READ, "file/part")
    half = quantity.scaled(0.5, "half a bit")
    assert (half.low, half.nominal, half.high) == (0.5, 1.0, 3.0)
    assert (half.key, half.certainty) == ("file/part", Certainty.READ)
    assert half.source == "a paper; half a bit"
    assert quantity.scaled(2.0).source == "a paper"
    # Equal key, equal draw: the halved one is half of the other, draw by draw.
    np.testing.assert_allclose(half.draws(100, "x", 0), 0.5 * quantity.draws(100, "y", 0), rtol=1e-15)


def test_draws_have_the_quantiles_that_were_asked_for():
    # Of n = 100,000 draws the share below a quantile q has sigma sqrt(q (1 - q) / n): 0.00069 at 5% and 95%, 0.00158 at
    # the median. At 5 sigma 0.0035 and 0.0080.
    n, quantity = 100_000, Quantity(1.0, 2.0, 20.0, key="skewed")
    values = quantity.draws(n, "", seed=3)
    assert values.shape == (1 + n,)
    assert values[0] == 2.0
    draws = values[1:]
    assert (draws < 1.0).mean() == pytest.approx(0.05, abs=0.0035)
    assert (draws < 2.0).mean() == pytest.approx(0.50, abs=0.0080)
    assert (draws < 20.0).mean() == pytest.approx(0.95, abs=0.0035)
    assert draws.min() > 0


def test_equal_key_and_seed_give_equal_draws():
    narrow, wide = Quantity(1.0, 2.0, 4.0, key="a"), Quantity(10.0, 20.0, 40.0, key="a")
    other, keyless = Quantity(1.0, 2.0, 4.0, key="b"), Quantity(1.0, 2.0, 4.0)
    draws = narrow.draws(50, "", 0)
    np.testing.assert_allclose(wide.draws(50, "", 0), 10 * draws, rtol=1e-15)
    assert not np.array_equal(narrow.draws(50, "", 1)[1:], draws[1:])
    assert not np.array_equal(other.draws(50, "", 0)[1:], draws[1:])
    np.testing.assert_array_equal(keyless.draws(50, "a", 0), draws)
    # Independent keys: |correlation| of n = 10,000 pairs below 5 / sqrt(n) = 0.05.
    assert abs(np.corrcoef(narrow.draws(10_000, "", 0)[1:], other.draws(10_000, "", 0)[1:])[0, 1]) < 0.05


def test_what_has_no_spread_is_not_drawn():
    assert Quantity(0.0, 0.0, 0.0).draws(10, "x", 0) == 0.0
    assert Quantity(3.0, 3.0, 3.0).draws(10, "x", 0) == 3.0
    assert Quantity(1.0, 2.0, 4.0).draws(0, "x", 0) == 2.0


def test_half_a_range_stays_at_the_nominal_on_its_other_side():
    draws = Quantity(1.0, 1.0, 4.0, key="upwards").draws(1000, "", 0)
    assert draws.min() == 1.0
    assert draws.max() > 4.0


def test_what_rests_on_both_is_as_certain_as_the_weaker():
    assert weaker(Certainty.MEASURED, Certainty.ASSUMED) is Certainty.ASSUMED
    assert weaker(Certainty.RECALLED, Certainty.DERIVED) is Certainty.RECALLED
    assert weaker(Certainty.READ, Certainty.READ) is Certainty.READ


# Components and operations


def test_a_component_makes_quantities_of_bare_numbers():
    component = Component(Role.LIGHT, energy_j=1e-12, static_power_w=2)
    assert component.energy_j == Quantity.of(1e-12)
    assert component.quantity("static_power_w").nominal == 2
    assert component.quantity("time_s").nominal == 0
    assert component.area_mm2 is None
    assert component.quantity("area_mm2").nominal == 0


def test_idle_power_is_static_power_unless_it_is_given():
    assert Component(static_power_w=2.0).quantity("idle_power_w").nominal == 2.0
    assert Component(static_power_w=2.0, idle_power_w=0.5).quantity("idle_power_w").nominal == 0.5
    assert Component(static_power_w=2.0, idle_power_w=0.0).quantity("idle_power_w").nominal == 0.0


def test_a_component_refuses_what_a_quantity_refuses():
    with pytest.raises(ConfigError):
        Component(energy_j=-1e-12)
    with pytest.raises(ConfigError):
        Component(time_s=math.inf)


def test_macs_of_a_product():
    assert Product(Kind.FORWARD, 2, 3, 5, stack=7).macs == 2 * 3 * 5 * 7
    assert Product(Kind.UPDATE, 0, 3, 5).macs == 0


def test_operations_with_equal_fields_are_one_key():
    assert Product(Kind.FORWARD, 1, 2, 3) == Product("forward", 1, 2, 3)
    assert len({Elementwise("relu", 1, 1, 4, 4), Elementwise("relu", 1, 1, 4, 4)}) == 1


# The cost rule


def rates(cap=None, static=0.0):
    """Four components: two that overlap, two serial ones."""
    return Rates(
        energy_j={"multiplier": 1e-12, "memory": 5e-12, "launch": 0.0, "settling": 2e-9},
        time_s={"multiplier": 1e-9, "memory": 4e-9, "launch": 3e-6, "settling": 1e-8},
        static_power_w={"multiplier": static, "memory": 0.0, "launch": 0.0, "settling": 0.0},
        idle_power_w={},
        serial=frozenset({"launch", "settling"}),
        power_cap_w=cap,
    )


USES = {"multiplier": Use(1000, 10), "memory": Use(100, 2), "launch": Use(1), "settling": Use(5)}
# Overlapped: max(1000 / 10 * 1 ns = 100 ns, 100 / 2 * 4 ns = 200 ns); serial: 3000 ns + 5 * 10 ns = 3050 ns.
# Dynamic energy: 1000 * 1 pJ + 100 * 5 pJ + 0 + 5 * 2 nJ = 1 nJ + 0.5 nJ + 10 nJ = 11.5 nJ.
TIME_S, ENERGY_J = 3250e-9, 11.5e-9


def test_serial_times_add_and_all_others_overlap():
    cost = op_cost(USES, rates())
    assert cost.time_s == pytest.approx(TIME_S)
    assert cost.serial_s == pytest.approx({"launch": 3e-6, "settling": 50e-9})
    assert cost.bound_by == "memory"
    assert cost.energy_j == pytest.approx({"multiplier": 1e-9, "memory": 0.5e-9, "launch": 0.0, "settling": 10e-9})


def test_more_units_shorten_the_time_and_leave_the_energy():
    cost = op_cost(USES | {"memory": Use(100, 200)}, rates())
    assert cost.time_s == pytest.approx(3150e-9)
    assert cost.bound_by == "multiplier"
    assert sum(cost.energy_j.values()) == pytest.approx(ENERGY_J)


def test_an_operation_that_uses_nothing_is_free():
    cost = op_cost({}, rates())
    assert (cost.time_s, cost.bound_by, cost.energy_j, cost.serial_s) == (0.0, "", {}, {})


def test_only_serial_components():
    cost = op_cost({"launch": Use(2)}, rates())
    assert cost.time_s == pytest.approx(6e-6)
    assert cost.bound_by == ""


def test_a_power_cap_stretches_time_and_leaves_energy():
    # 11.5 nJ in 3250 ns is 3.54 mW. A cap of 3 mW above nothing takes 11.5 nJ / 3 mW = 3833 ns; one of 4 mW does not
    # bind; one of 4 mW of which 2 mW are static leaves 2 mW: 5750 ns.
    for cap, static, time_s in [(3e-3, 0.0, 11.5e-9 / 3e-3), (4e-3, 0.0, TIME_S), (4e-3, 2e-3, 5750e-9)]:
        cost = op_cost(USES, rates(cap, static))
        assert cost.time_s == pytest.approx(time_s)
        assert cost.bound_by == (POWER_CAP if time_s > TIME_S else "memory")
        assert sum(cost.energy_j.values()) == pytest.approx(ENERGY_J)


@pytest.mark.parametrize("static", [1.0, 1.5])
def test_a_power_cap_below_static_power_is_refused(static):
    with pytest.raises(ConfigError, match=rf"power cap 1 W does not exceed the static power {static:g} W"):
        op_cost(USES, rates(1.0, static))


def test_the_rule_works_draw_by_draw():
    drawn = rates()._replace(
        time_s={"multiplier": np.array([1e-9, 9e-9]), "memory": 4e-9, "launch": 0.0, "settling": 0}
    )
    cost = op_cost(USES, drawn)
    np.testing.assert_allclose(cost.time_s, [200e-9, 900e-9])  # max(100, 200) and max(900, 200) ns
    assert cost.bound_by == "memory"  # at nominal values
    capped = op_cost(USES, rates(np.array([4e-3, 2e-3])))
    np.testing.assert_allclose(capped.time_s, [TIME_S, 5750e-9])
    assert capped.bound_by == "memory"


def test_floats_and_draws():
    draws = np.array([1.0, 3.0])
    assert nominal(draws) == 1.0
    assert nominal(2) == 2.0
    np.testing.assert_array_equal(larger(draws, 2.0), [2.0, 3.0])
    np.testing.assert_array_equal(larger(2.0, draws), [2.0, 3.0])
    assert larger(1.0, 2.0) == 2.0

"""The boundary around all rows: its formula by hand, its draws, its sources."""

import json

import numpy as np
import pytest

from hwsim.boundary import Boundary, standard_boundary
from hwsim.cost import Quantity

EXACT = Boundary(
    host_power_w=Quantity.of(10.0),
    supply_efficiency=Quantity.of(0.8),
    power_usage_effectiveness=Quantity.of(1.5),
    input_energy_j_per_byte=Quantity.of(2e-9),
)
SPREAD = Boundary(
    host_power_w=Quantity(5, 10, 20, key="host"),
    supply_efficiency=Quantity(0.5, 0.9, 0.99, key="supply"),
    power_usage_effectiveness=Quantity(1.01, 1.1, 2.0, key="pue"),
    input_energy_j_per_byte=Quantity.of(0.0),
)


def test_joules_at_the_wall_by_hand() -> None:
    # Inside: 3 J of the device, 10 W x 0.2 s = 2 J of the host, 2 nJ x 1e9 bytes = 2 J of input: 7 J.
    # A supply of 80% takes 7 / 0.8 = 8.75 J; a site of PUE 1.5 takes 13.125 J.
    assert EXACT.wall_plug_j(3.0, 0.2, 1e9) == pytest.approx(13.125, rel=1e-15)


def test_without_the_host_by_hand() -> None:
    # (3 + 2) / 0.8 x 1.5 = 9.375 J
    assert EXACT.without_host().wall_plug_j(3.0, 0.2, 1e9) == pytest.approx(9.375, rel=1e-15)
    assert EXACT.host_power_w.nominal == 10.0  # as it was


def test_nothing_spent_is_nothing_at_the_wall() -> None:
    assert EXACT.wall_plug_j(0.0, 0.0, 0.0) == 0.0


def test_draws_are_those_of_the_quantities() -> None:
    n = 20_000
    found = SPREAD.wall_plug_j(1.0, 0.5, 100.0, draws=n)
    assert found.shape == (1 + n,)
    # Nominal first: (1 + 10 x 0.5) / 0.9 x 1.1.
    assert found[0] == pytest.approx(6 / 0.9 * 1.1, rel=1e-15)
    host = SPREAD.host_power_w.draws(n, "", 0)
    supply = np.minimum(SPREAD.supply_efficiency.draws(n, "", 0), 1)
    pue = np.maximum(SPREAD.power_usage_effectiveness.draws(n, "", 0), 1)
    np.testing.assert_allclose(found, (1 + host * 0.5) / supply * pue, rtol=1e-12)
    # Equal seeds, equal draws: rows of a comparison are paired.
    np.testing.assert_array_equal(found, SPREAD.wall_plug_j(1.0, 0.5, 100.0, draws=n))
    assert not np.array_equal(found, SPREAD.wall_plug_j(1.0, 0.5, 100.0, draws=n, seed=1))


def test_no_draw_has_a_supply_above_one_or_a_site_below() -> None:
    n = 20_000
    supply, pue = SPREAD.supply_efficiency.draws(n, "", 0), SPREAD.power_usage_effectiveness.draws(n, "", 0)
    assert (supply > 1).any()  # else this shows nothing
    assert (pue < 1).any()
    device_alone = SPREAD.without_host().wall_plug_j(1.0, 0.5, 0.0, draws=n)
    assert device_alone.min() >= 1.0


def test_devices_with_draws_stay_paired() -> None:
    device = np.linspace(1.0, 2.0, 101)
    found = EXACT.wall_plug_j(device, 0.0, 0.0, draws=100)
    np.testing.assert_allclose(found, device / 0.8 * 1.5, rtol=1e-15)


def test_the_standard_boundary_is_sourced() -> None:
    boundary = standard_boundary()
    assert boundary is standard_boundary()
    text = json.loads(json.dumps(boundary.as_dict(), allow_nan=False))
    assert set(text) == {
        "host_power_w", "supply_efficiency", "power_usage_effectiveness", "input_energy_j_per_byte",
    }  # fmt: skip
    for name, value in text.items():
        assert value["source"], name
        assert 0 < value["low"] < value["nominal"] < value["high"], name
        assert value["certainty"] in ("measured", "read", "derived", "recalled", "assumed"), name
    # What the file says, in SI units: 65 W, and 0.2 nJ a byte.
    assert text["host_power_w"]["nominal"] == 65
    assert text["input_energy_j_per_byte"]["nominal"] == pytest.approx(2e-10)
    assert text["supply_efficiency"]["high"] <= 1 <= text["power_usage_effectiveness"]["low"]

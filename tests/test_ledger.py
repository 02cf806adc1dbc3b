"""What a ledger counts, and what it derives: by hand, by an independent sum, and against analytic quantiles."""

import json
import math

import numpy as np
import pytest
from hard_devices import HOST, LearnedAbsorber, StatefulCrossbar, Toy

from hwsim import losses
from hwsim.arrays import Shape
from hwsim.cost import Certainty, Component, Elementwise, Kind, Phase, Product, Quantity, Role, Use
from hwsim.device import Device
from hwsim.errors import ConfigError
from hwsim.learning.backprop import backprop
from hwsim.ledger import Interval, Ledger, TileShape
from hwsim.models.mlp import Mlp
from hwsim.nn import Network
from hwsim.optim import SGD
from hwsim.parameters import parameter

RNG = np.random.default_rng(2)
X, LABELS = RNG.standard_normal((16, 6)).astype(np.float32), np.arange(16) % 3


class Plain(Device):
    """One multiplier and one serial launch, with powers that can be chosen."""

    name = "plain"
    host = None

    energy_j: Quantity = parameter(1e-12, unit="J", doc="one multiplication")
    launch_s: float = parameter(1e-6, unit="s", doc="one launch")
    static_power_w: float = parameter(2.0, unit="W", doc="of each of three multipliers")
    idle_power_w: float | None = parameter(None, unit="W", doc="the same, waiting")

    @property
    def components(self):
        return {
            "multiplier": Component(
                energy_j=self.energy_j,
                time_s=1e-9,
                static_power_w=self.static_power_w,
                idle_power_w=self.idle_power_w,
            ),
            "launch": Component(Role.HOST, time_s=self.launch_s, serial=True),
        }

    def installed(self, tiles):
        return {"multiplier": 3}

    def activity(self, op):
        return {"multiplier": Use(op.macs, 3), "launch": Use(1)} if isinstance(op, Product) else {}


FORWARD = Product(Kind.FORWARD, 10, 20, 30)  # 6000 MACs
BACKWARD = Product(Kind.BACKWARD, 10, 20, 30)


def two_device_ledger(idle_power_w=0.5):
    """Two forwards and a backward on one device, one forward on another: 6000 MACs each."""
    ledger, first = Ledger(), Plain()
    second = Plain(idle_power_w=idle_power_w, static_power_w=4.0, energy_j=3e-12)
    with ledger.scope(layer="a", phase=Phase.FORWARD):
        ledger.charge(first, FORWARD)
        ledger.charge(first, FORWARD)
    with ledger.scope(layer="b", phase=Phase.BACKWARD):
        ledger.charge(first, BACKWARD)
        ledger.charge(second, FORWARD)
    return ledger, first, second


# One operation: 6000 / 3 * 1 ns = 2 us of multiplying after a launch of 1 us.
BUSY_S, LAUNCH_S = 2e-6, 1e-6


def test_calls_are_counted_by_layer_phase_device_and_operation():
    ledger, first, second = two_device_ledger()
    assert dict(ledger.calls) == {
        ("a", Phase.FORWARD, first, FORWARD): 2,
        ("b", Phase.BACKWARD, first, BACKWARD): 1,
        ("b", Phase.BACKWARD, second, FORWARD): 1,
    }
    assert ledger.macs() == {Kind.FORWARD: 18_000, Kind.BACKWARD: 6_000}
    assert ledger.macs(phases=[Phase.BACKWARD]) == {Kind.FORWARD: 6_000, Kind.BACKWARD: 6_000}


def test_scopes_nest_and_are_left_after_an_error():
    ledger = Ledger()
    with ledger.scope(layer="a", phase=Phase.FORWARD):
        with ledger.scope(layer="b"):
            assert (ledger.layer, ledger.phase) == ("b", Phase.FORWARD)
        with ledger.scope(phase=Phase.EVALUATE):
            assert (ledger.layer, ledger.phase) == ("a", Phase.EVALUATE)
        with pytest.raises(RuntimeError), ledger.scope("c", Phase.UPDATE):
            raise RuntimeError
        assert (ledger.layer, ledger.phase) == ("a", Phase.FORWARD)
    assert (ledger.layer, ledger.phase) == ("", Phase.SETUP)


def test_time_by_hand():
    ledger, _, _ = two_device_ledger()
    assert ledger.time_s == pytest.approx(4 * (BUSY_S + LAUNCH_S))
    assert ledger.time(["phase", "bound_by"]) == pytest.approx(
        {
            ("forward", "launch"): 2 * LAUNCH_S,
            ("forward", "multiplier"): 2 * BUSY_S,
            ("backward", "launch"): 2 * LAUNCH_S,
            ("backward", "multiplier"): 2 * BUSY_S,
        }
    )
    assert ledger.total_s(phases=[Phase.FORWARD]) == pytest.approx(2 * (BUSY_S + LAUNCH_S))


def test_energy_by_hand():
    ledger, first, second = two_device_ledger()
    labels = ledger.devices()
    one, two = labels[first], labels[second]
    # Dynamic: 6000 MACs a call, at 1 pJ and 3 pJ. Powers: 3 * 2 W and 3 * 4 W at work; waiting, the first burns its
    # 6 W on (idle power None), the second 3 * 0.5 W. The second waits for 3 calls, the first for 1.
    expected = {
        ("dynamic", one): 3 * 6000 * 1e-12,
        ("dynamic", two): 6000 * 3e-12,
        ("static", one): 3 * BUSY_S * 6.0,
        ("static", two): BUSY_S * 12.0,
        ("launch", one): 3 * LAUNCH_S * 6.0,
        ("launch", two): LAUNCH_S * 12.0,
        ("idle", one): (BUSY_S + LAUNCH_S) * 6.0,
        ("idle", two): 3 * (BUSY_S + LAUNCH_S) * 1.5,
    }
    assert ledger.energy(["part", "device"]) == pytest.approx(expected)
    assert ledger.energy_j == pytest.approx(math.fsum(expected.values()))
    # Of the forward phase: two calls of the first, for which the second waits.
    forward = 2 * 6000e-12 + 2 * 3e-6 * 6.0 + 2 * 3e-6 * 1.5
    assert ledger.total_j(phases=[Phase.FORWARD]) == pytest.approx(forward)
    assert ledger.energy(["layer"])[("a",)] == pytest.approx(forward)


def test_a_device_that_only_holds_a_tile_waits_too():
    ledger = Ledger()
    busy, waiting = Plain(static_power_w=0.0), Plain(static_power_w=1.0)
    ledger.tiles[waiting, "unused"] = TileShape(1, 2, 2)
    ledger.charge(busy, FORWARD)
    labels = ledger.devices()
    assert ledger.energy(["part", "device"])["idle", labels[waiting]] == pytest.approx(3 * 3e-6)


def test_idle_power_of_zero_is_not_static_power():
    ledger, _, second = two_device_ledger(idle_power_w=0.0)
    assert ("idle", ledger.devices()[second]) not in ledger.energy(["part", "device"])


def test_parts_by_certainty_rest_on_the_weakest_number():
    certain = Quantity(1e-12, 2e-12, 3e-12, "a bench", Certainty.MEASURED, "x")
    ledger, device = Ledger(), Plain(energy_j=certain)
    ledger.charge(device, FORWARD)
    # The energy is measured; power and times are bare numbers, and so assumed.
    assert ledger.energy(["certainty"]) == pytest.approx(
        {("measured",): 6000 * 2e-12, ("assumed",): (BUSY_S + LAUNCH_S) * 6.0}
    )


def trained(devices=None, steps=3):
    net = Network(Mlp((6, 8, 3), activation="relu"), devices or {"fc1": LearnedAbsorber(), "*": StatefulCrossbar()})
    for _ in range(steps):
        backprop(net, X, LABELS, losses.cross_entropy, SGD(0.05))
    net.predict(X)
    return net.ledger


def independent_sum(ledger):
    """The whole energy, from activity and components alone: dynamic, and power times time for everything powered."""
    joules, seconds = [], {}
    for (layer, phase, device, op), calls in ledger.calls.items():
        counts = ledger.actual.get((layer, phase, device, op), {})
        serial, overlapped = [], [0.0]
        for name, use in device.activity(op).items():
            component = device.components[name]
            actions = float(counts[name]) if name in counts else calls * use.actions
            joules.append(actions * component.energy_j.nominal)
            time = actions / use.units * component.time_s.nominal
            (serial if component.serial else overlapped).append(time)
        seconds.setdefault(device, []).append(math.fsum(serial) + max(overlapped))
    whole = math.fsum(s for each in seconds.values() for s in each)
    for device in {device for device, _ in ledger.tiles} | set(seconds):
        busy = math.fsum(seconds.get(device, []))
        installed = device.installed([shape for (owner, _), shape in ledger.tiles.items() if owner is device])
        for name, units in installed.items():
            component = device.components[name]
            idle = component.static_power_w if component.idle_power_w is None else component.idle_power_w
            joules.append(units * (component.static_power_w.nominal * busy + idle.nominal * (whole - busy)))
    return math.fsum(joules), whole


def test_every_grouping_adds_up_to_an_independent_sum():
    ledger = trained()
    joules, seconds = independent_sum(ledger)
    assert ledger.energy_j == pytest.approx(joules, rel=1e-12)
    assert ledger.time_s == pytest.approx(seconds, rel=1e-12)
    for by in (
        *(["layer"], ["phase"], ["device"], ["component"], ["role"], ["part"], ["certainty"]),
        *(["phase", "component"], ["layer", "phase", "part"]),
        ["layer", "phase", "device", "component", "role", "part", "certainty"],
    ):
        assert math.fsum(ledger.energy(by).values()) == pytest.approx(joules, rel=1e-12)
    for by in (["layer"], ["phase"], ["device"], ["bound_by"], ["layer", "bound_by"]):
        assert math.fsum(ledger.time(by).values()) == pytest.approx(seconds, rel=1e-12)
    phases = [ledger.total_j(phases=[phase]) for phase in Phase]
    assert math.fsum(phases) == pytest.approx(joules, rel=1e-12)
    assert ledger.counts()[ledger.devices()[HOST], "byte"] > 0


def test_grouping_by_what_there_is_not_is_refused():
    ledger, _, _ = two_device_ledger()
    with pytest.raises(ConfigError, match=r"cannot group by \['color'\]; possible: layer, phase, device, component"):
        ledger.energy(["color"])
    with pytest.raises(ConfigError, match="possible: layer, phase, device, bound_by"):
        ledger.time(["component"])


def test_an_empty_ledger_costs_nothing():
    ledger = Ledger()
    assert (ledger.energy_j, ledger.time_s) == (0.0, 0.0)
    assert ledger.energy(["phase"]) == {}
    assert ledger.macs() == {}
    assert ledger.counts() == {}


def test_the_table_has_every_group_and_the_total():
    ledger, _, _ = two_device_ledger()
    lines = ledger.table().splitlines()
    assert lines[0].split() == ["phase", "component", "energy", "[J]", "share"]
    assert len(lines) == 1 + len(ledger.energy(["phase", "component"])) + 1
    assert lines[-1].split()[0] == "total"
    assert f"{ledger.energy_j:.4g}" in lines[-1]
    assert f"{ledger.energy_j:.4g}" in ledger.table(by=[])
    assert "total" in Ledger().table()


def test_devices_of_one_spec_are_told_apart():
    ledger, first, second = Ledger(), Plain(), Plain()
    for device in (first, second, first):
        ledger.charge(device, FORWARD)
    assert ledger.devices() == {first: "plain", second: "plain#2"}


# Actual counts and held bits


def test_actual_counts_take_the_place_of_expected_ones():
    ledger, device = Ledger(), Plain()
    ledger.charge(device, FORWARD)
    ledger.charge(device, FORWARD)
    ledger.record(device, FORWARD, {"multiplier": 1000})
    ledger.record(device, FORWARD, {"multiplier": np.asarray(2000)})
    label = ledger.devices()[device]
    assert ledger.counts() == {(label, "multiplier"): 3000, (label, "launch"): 2}
    assert ledger.counts(actual=False) == {(label, "multiplier"): 12_000, (label, "launch"): 2}
    # 1500 a call: 1500 / 3 ns = 0.5 us after the launch.
    assert ledger.time_s == pytest.approx(2 * (0.5e-6 + LAUNCH_S))
    assert ledger.energy(["part"])[("dynamic",)] == pytest.approx(3000e-12)
    assert ledger.total_s(actual=False) == pytest.approx(2 * (BUSY_S + LAUNCH_S))


def test_actual_counts_stay_in_their_layer_and_phase():
    ledger, device = Ledger(), Plain()
    for layer in "ab":
        with ledger.scope(layer, Phase.FORWARD):
            ledger.charge(device, FORWARD)
            if layer == "a":
                ledger.record(device, FORWARD, {"multiplier": 0})
    dynamic = ledger.energy(["layer", "part"])
    assert ("a", "dynamic") not in dynamic
    assert dynamic["b", "dynamic"] == pytest.approx(6000e-12)


def test_peak_bits_are_the_most_ever_held():
    ledger, device = Ledger(), Plain()
    for bits in (100, 50, -120, 60, -90):
        ledger.charge(device, FORWARD, bits)
    assert ledger.live_bits[device] == 0
    assert ledger.peak_bits[device] == 150


def test_merging_adds_counts_and_takes_the_larger_peak():
    device = Plain()
    ledgers = [Ledger(), Ledger()]
    for i, ledger in enumerate(ledgers):
        ledger.charge(device, FORWARD, 100 * (i + 1))
        ledger.record(device, FORWARD, {"multiplier": 1000 * (i + 1)})
        ledger.charge(device, FORWARD, -100 * (i + 1))
        ledger.tiles[device, f"w{i}"] = TileShape(1, 2, 3)
    first, second = ledgers
    first.charge(device, BACKWARD)
    joules = math.fsum(ledger.energy_j for ledger in ledgers)
    second_calls = dict(second.calls)
    first.merge(second)
    assert first.calls["", Phase.SETUP, device, FORWARD] == 4
    assert first.calls["", Phase.SETUP, device, BACKWARD] == 1
    assert first.actual["", Phase.SETUP, device, FORWARD] == {"multiplier": 3000}
    assert first.energy_j == pytest.approx(joules, rel=1e-12)
    assert (first.live_bits[device], first.peak_bits[device]) == (0, 200)
    assert set(first.tiles) == {(device, "w0"), (device, "w1")}
    assert dict(second.calls) == second_calls


# Keeping and costing again


def test_round_trip_through_json(tmp_path):
    ledger = trained()
    by_label = {label: device for device, label in ledger.devices().items()}
    path = tmp_path / "ledger.json"
    ledger.to_json(path)
    again = Ledger.from_json(path, by_label)
    assert dict(again.calls) == dict(ledger.calls)
    assert again.tiles == ledger.tiles
    assert again.live_bits == ledger.live_bits
    assert again.peak_bits == ledger.peak_bits
    assert {cell: {k: float(v) for k, v in counts.items()} for cell, counts in again.actual.items()} == {
        cell: {k: float(v) for k, v in counts.items()} for cell, counts in ledger.actual.items()
    }
    by = ["layer", "phase", "device", "component", "part"]
    assert again.energy(by) == ledger.energy(by)
    assert json.loads(path.read_text()) == again.as_dict()


def test_the_keys_of_json_are_whole_operations(tmp_path):
    ledger, device = Ledger(), Plain()
    with ledger.scope("a", Phase.FORWARD):
        ledger.charge(device, FORWARD)
        ledger.charge(device, Elementwise("relu", 1, 2, 3, 4))
    assert ledger.as_dict()["calls"] == [
        ["a", "forward", "plain", "product", ["forward", 10, 20, 30, 1, 0], 1],
        ["a", "forward", "plain", "elementwise", ["relu", 1, 2, 3, 4], 1],
    ]


def test_costing_again_with_other_components(tmp_path):
    ledger, first, second = two_device_ledger()
    labels = ledger.devices()
    cheap = Plain(energy_j=5e-13)
    again = ledger.with_devices({labels[first]: cheap})
    # The first's three calls of 6000 MACs at half a picojoule less.
    assert ledger.energy_j - again.energy_j == pytest.approx(3 * 6000 * 5e-13)
    assert again.devices()[second] == labels[second]
    assert second in {cell[2] for cell in again.calls}
    assert first not in {cell[2] for cell in again.calls}
    assert first in {cell[2] for cell in ledger.calls}

    path = tmp_path / "ledger.json"
    ledger.to_json(path)
    read = Ledger.from_json(path, {labels[first]: cheap, labels[second]: second})
    assert read.energy_j == again.energy_j
    with pytest.raises(ConfigError, match=r"no device \['nope'\] in this ledger; it has \['plain', 'plain:"):
        ledger.with_devices({"nope": cheap})


def test_actual_counts_and_bits_are_costed_again_too():
    ledger = Ledger()
    device, other = Plain(), Plain(energy_j=2e-12)
    ledger.charge(device, FORWARD, 64)
    ledger.record(device, FORWARD, {"multiplier": 500})
    ledger.tiles[device, "w"] = TileShape(1, 20, 30)
    again = ledger.with_devices({ledger.devices()[device]: other})
    assert again.energy(["part"])[("dynamic",)] == pytest.approx(500 * 2e-12)
    assert again.live_bits == {other: 64}
    assert again.peak_bits == {other: 64}
    assert set(again.tiles) == {(other, "w")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "cannot be read as a ledger"),
        ("[1, 2]", "holds no ledger but a list"),
        ("{}", "'calls' is missing"),
        ('{"calls": [["a", "forward", "nope", "product", ["forward", 1, 1, 1, 1, 0], 1]]}', "'nope' is missing"),
        ('{"calls": [["a", "lunch", "plain", "product", ["forward", 1, 1, 1, 1, 0], 1]]}', "not a ledger"),
        ('{"calls": [["a", "forward", "plain", "product", ["fly", 1, 1, 1, 1, 0], 1]]}', "not a ledger"),
        ('{"calls": [["a", "forward", "plain", "product", ["forward"], 1]]}', "not a ledger"),
        ('{"calls": [["a", "forward"]]}', "not a ledger"),
        ('{"calls": [["a", "forward", "plain", "product", ["forward", 1, 1, 1, 1, 0], "x"]]}', "not a ledger"),
    ],
)
def test_files_that_are_no_ledger_are_refused(tmp_path, text, message):
    path = tmp_path / "ledger.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Ledger.from_json(path, {"plain": Plain()})
    with pytest.raises(ConfigError, match="cannot be read as a ledger"):
        Ledger.from_json(tmp_path / "absent.json", {})


def test_a_refused_file_leaves_a_ledger_as_it_was():
    ledger, first, _ = two_device_ledger()
    before = dict(ledger.calls)
    with pytest.raises(ConfigError):
        ledger.load({"calls": [["a", "forward", "nope", "product", ["forward", 1, 1, 1, 1, 0], 1]]}, {"plain": first})
    assert dict(ledger.calls) == before


def test_installed_units_must_be_components():
    class Wrong(Plain):
        def installed(self, tiles):
            return {"multiplier": 1, "pump": 2}

    ledger = Ledger()
    ledger.charge(Wrong(), FORWARD)
    with pytest.raises(ConfigError, match=r"installed\(\) names \['pump'\], which are no components of it"):
        ledger.energy()


# Intervals


def test_interval_of_a_single_lognormal_component_is_analytic():
    # One energy, 1 / 2 / 8 pJ, times 6000: its 5% and 95% are 6 and 48 nJ. Of n = 10,000 draws the share below either
    # has sigma sqrt(0.05 * 0.95 / n) = 0.00218, so at 5 sigma between quantiles 0.0391 and 0.0609, whose values are
    # nominal * (low / nominal)^(z / 1.645): z = 1.761 and 1.547, hence 5.72 to 6.25 nJ, and 45.5 to 53.0 nJ.
    ledger = Ledger()
    ledger.charge(Plain(energy_j=Quantity(1e-12, 2e-12, 8e-12, key="alone"), static_power_w=0.0), FORWARD)
    low, middle, high = ledger.interval()[()]
    assert middle == pytest.approx(12e-9, rel=1e-12)
    assert 5.72e-9 < low < 6.25e-9
    assert 45.5e-9 < high < 53.0e-9
    assert ledger.interval(seed=1)[()].low != low
    assert ledger.interval()[()] == (low, middle, high)


def test_interval_of_a_sum_is_narrower_only_where_keys_differ():
    def spread(keys):
        ledger = Ledger()
        for key in keys:
            device = Plain(energy_j=Quantity(1e-12, 2e-12, 4e-12, key=key), static_power_w=0.0)
            ledger.charge(device, FORWARD)
        low, _, high = ledger.interval()[()]
        return math.log(high / low) / math.log(16)  # 1 for both as far as one alone: each is 2 x to each side

    assert spread(["a"]) == pytest.approx(math.log(4) / math.log(16), rel=0.06)
    assert spread(["a", "a"]) == pytest.approx(spread(["a"]), rel=1e-12)
    # Four independent ones: the spread of the sum's logarithm falls by about sqrt(4).
    assert spread("abcd") < 0.7 * spread("aaaa")


def test_ratios_are_of_paired_draws():
    # Twice the calls of one uncertain component: the ratio is 2 in every draw, though each total spans a factor of 8.
    totals = []
    for calls in (1, 2):
        ledger = Ledger()
        device = Plain(energy_j=Quantity(1e-12, 2e-12, 8e-12, key="shared"), static_power_w=0.0)
        for _ in range(calls):
            ledger.charge(device, FORWARD)
        totals.append(ledger.total_j(draws=1000))
    np.testing.assert_allclose(totals[1] / totals[0], 2, rtol=1e-12)


def test_draws_agree_with_costing_each_draw_by_itself():
    # Any one draw, put in as if it were the nominal value, gives that draw's total: max and cap included.
    quantities = {
        "energy_j": Quantity(1e-12, 2e-12, 8e-12, key="e"),
        "power_cap_w": Quantity(4e-3, 6e-3, 9e-3, key="cap"),  # 6 to 48 nJ in 3 us are 2 to 16 mW
    }
    ledger, device = Ledger(), Plain(**quantities, static_power_w=1e-4)
    ledger.charge(device, FORWARD)
    drawn, drawn_s = ledger.total_j(draws=20, seed=4), ledger.total_s(draws=20, seed=4)
    assert 2 < len(set(drawn_s)) < 21  # the cap stretches some draws, each otherwise, and leaves others at 3 us
    each = {name: quantity.draws(20, "", 4) for name, quantity in quantities.items()}
    for i in range(21):
        alone = Ledger()
        alone.charge(Plain(**{name: float(v[i]) for name, v in each.items()}, static_power_w=1e-4), FORWARD)
        assert alone.energy_j == pytest.approx(drawn[i], rel=1e-12)
        assert alone.time_s == pytest.approx(drawn_s[i], rel=1e-12)


def test_draws_of_a_cap_below_static_power_do_not_spoil_an_interval():
    # 6 W are static. The cap, 5.9 to 7 to 9 W, lies above that at best, as it must, but in some draws it does not.
    ledger = Ledger()
    device = Plain(power_cap_w=Quantity(5.9, 7.0, 9.0, key="cap"))
    ledger.charge(device, FORWARD)
    assert (device.power_cap_w.draws(1000, "", 0) < 6).any()
    low, middle, high = ledger.interval(draws=1000)[()]
    assert middle == ledger.energy_j
    assert 0 < low <= middle <= high < math.inf
    refused = Ledger()
    refused.charge(Plain(power_cap_w=5.9), FORWARD)
    with pytest.raises(ConfigError, match=r"power cap 5\.9 W does not exceed the static power 6 W"):
        refused.energy()


def test_intervals_by_group_share_their_draws():
    ledger = trained()
    groups = ledger.energy(["phase", "part"], draws=500)
    np.testing.assert_allclose(sum(groups.values()), ledger.total_j(draws=500), rtol=1e-12)
    for group, interval in ledger.interval(["phase"], draws=500).items():
        assert interval.low <= interval.nominal <= interval.high
        assert interval.nominal == pytest.approx(ledger.energy(["phase"])[group], rel=1e-12)
    assert Interval.of(3.0) == (3.0, 3.0, 3.0)


def test_shape_only_costs_are_exactly_those_of_the_run():
    devices = {"fc1": LearnedAbsorber(), "*": Toy()}
    run, trace = (Network(Mlp((6, 8, 3)), devices, shape_only=shape_only) for shape_only in (False, True))
    backprop(run, X, LABELS, losses.cross_entropy, SGD(0.05))
    backprop(trace, Shape(16, 6), Shape(16), losses.cross_entropy, SGD(0.05))
    np.testing.assert_array_equal(run.ledger.total_j(draws=100), trace.ledger.total_j(draws=100))


class Heater(Device):
    """Holds what `write` sets: 2 W for each of the tile's weights of 1, expected to be a half."""

    name = "heater"
    host = None

    @property
    def components(self):
        return {"heater": Component(static_power_w=2.0, holds=True), "clock": Component(time_s=1.0)}

    def installed(self, tiles):
        return {"heater": sum(0.5 * k * n for _, k, n in tiles)}

    def activity(self, op):
        if isinstance(op, Product) and op.kind in (Kind.PROGRAM, Kind.UPDATE):
            return {"heater": Use(0.5 * op.k * op.n)}
        return {"clock": Use(1)}

    def write(self, tile, w):
        super().write(tile, w)
        tile.record(heater=self.xp.abs(w).sum())

    def update(self, tile, step):
        super().update(tile, step)
        tile.record(heater=self.xp.abs(tile.state["w"]).sum())


def test_static_power_goes_with_what_is_held():
    """4 weights, first .25 each, then .5: a bill holds 2, a run the mean of 1 and 2; one second is 4 W and 3 W."""
    ledger, device = Ledger(), Heater()
    tile = device.program(np.full((2, 2), 0.25), name="w", ledger=ledger)
    assert ledger.rates(device).static_power_w["heater"] == pytest.approx(2.0)
    tile.update(np.full((2, 2), 0.25))
    tile.forward(np.ones((1, 2)))
    assert ledger.total_j() == pytest.approx(3.0)
    assert ledger.total_j(actual=False) == pytest.approx(4.0)
    restored = Ledger.from_dict(ledger.as_dict(), {label: owner for owner, label in ledger.labels().items()})
    assert restored.total_j() == pytest.approx(3.0)

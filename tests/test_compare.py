"""Comparison: bills by hand, targets, ratios, controls, and every way in which a row can fail to have a number."""

import csv
import importlib
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import hwsim
from hwsim import bill, data, models
from hwsim.boundary import Boundary
from hwsim.cost import Certainty, Component, Elementwise, Op, Product, Quantity, Role, Use
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.errors import ConfigError, DeviceError, ShapeError, TrainingError
from hwsim.library import node_scale
from hwsim.report.comparison import Comparison
from hwsim.report.table import components
from hwsim.run import Epoch, Run

compare = importlib.import_module("hwsim.compare")  # hwsim.compare itself is the function of that name
BOUNDARY = Boundary(Quantity.of(10.0), Quantity.of(0.8), Quantity.of(1.5), Quantity.of(2e-9))
MLP = models.mlp([2, 3, 2])


def known(value: float, certainty: Certainty) -> Quantity:
    return Quantity(value, value, value, "here", certainty)


class Toy(Device):
    """One multiplier behind a launch: numbers that can be added by hand."""

    name = "toy"
    host = None
    excluded: ClassVar[tuple[str, ...]] = ("everything that matters",)

    @property
    def components(self) -> Mapping[str, Component]:
        return {
            "mac": Component(
                energy_j=known(1e-12, Certainty.MEASURED), time_s=known(1e-9, Certainty.READ), area_mm2=2.0, node_nm=14
            ),
            "launch": Component(Role.HOST, time_s=known(1e-6, Certainty.ASSUMED), serial=True),
            "board": Component(
                Role.COOLING, static_power_w=known(0.5, Certainty.DERIVED), area_mm2=3.0, node_nm=14
            ),  # which scales nothing: only dynamic energy is scaled
        }

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        if isinstance(op, Elementwise):
            return None if op.name.startswith("device") else {}
        if op.kind in ("update_outer", "release"):
            return None
        return {"mac": Use(op.macs), "launch": Use(1)}


class Card(Toy):
    """The same under the name that gets a filled row."""

    name = "gpu"


class NoProgramming(Toy):
    """Weights appear by themselves."""

    name = "no-programming"

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        return {} if isinstance(op, Product) and op.kind == "program" else super().activity(op)


@pytest.fixture(scope="module")
def corners() -> Dataset:
    """Two classes that a straight line parts, 64 training rows."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (100, 2)).astype(np.float32)
    return data.from_arrays(x, (x.sum(axis=1) > 0).astype(int), name="corners")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits")


def strict(text: str) -> Any:
    """JSON without NaN and infinity."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    return json.loads(text, parse_constant=refuse)


def quick(corners: Dataset, devices: Any, **options: Any) -> Comparison:
    settings: dict[str, Any] = {"epochs": 3, "batch": 5, "seeds": 2, "learning_rates": (0.1, 0.5), **options}
    return hwsim.compare(MLP, corners, devices, boundary=BOUNDARY, **settings)


@pytest.fixture(scope="module")
def toys(corners: Dataset) -> Comparison:
    """A toy, the same as a card, one without programming, and exact arithmetic."""
    devices = {"toy": Toy(), "card": Card(), "free setup": NoProgramming(), "ideal": "ideal"}
    return quick(corners, devices, epochs=4, seeds=3, target=0.5, learning_rates=(0.3,))


# -- bills by hand -----------------------------------------------------------------------------------------

# A step of [2, 3, 2] at batch 5: fc1 forward 5x2x3 = 30 multiplications, fc2 forward 5x3x2 = 30; backward through fc2
# 30 (a first layer has none), gradients 30 + 30: 150 in 5 products. Two updates multiply nothing. Everything is
# launched: 7 launches.
MACS, LAUNCHES = 150, 7
STEP_S = LAUNCHES * 1e-6 + MACS * 1e-9
STEP_J = MACS * 1e-12 + 0.5 * STEP_S
SETUP_S, SETUP_J = 2e-6, 0.5 * 2e-6  # two tiles are programmed: launched, nothing multiplied


def row_of(table: Comparison, device: str, seed: int = 0) -> dict[str, Any]:
    return next(row for row in table.rows if row["device"] == device and row["seed"] == seed)


def entry_of(table: Comparison, device: str) -> dict[str, Any]:
    return next(entry for entry in table.summary if entry["device"] == device)


def test_a_step_by_hand(toys: Comparison) -> None:
    for part in (row_of(toys, "toy"), entry_of(toys, "toy")):
        assert part["time_per_step_s"] == pytest.approx(STEP_S, rel=1e-12)
        assert part["energy_per_step_j"]["nominal"] == pytest.approx(STEP_J, rel=1e-12)
        assert part["macs_per_step"] == MACS
        assert part["macs_per_j"] == pytest.approx(MACS / STEP_J, rel=1e-12)
        assert part["samples_per_s"] == pytest.approx(5 / STEP_S, rel=1e-12)
        assert part["samples_per_j"] == pytest.approx(5 / STEP_J, rel=1e-12)
        assert part["energy_delay_js"] == pytest.approx(STEP_J * STEP_S, rel=1e-12)
        assert part["bound_by"] == "launch"
        assert part["time_by_bound_s"] == pytest.approx({"launch": 7e-6, "mac": 150e-9}, rel=1e-12)
        # By phase: 2 products forward; 3 back, of which 2 are gradients; 2 updates.
        assert part["energy_by_phase_j"] == pytest.approx(
            {
                "forward": 60e-12 + 0.5 * (2e-6 + 60e-9),
                "backward": 90e-12 + 0.5 * (3e-6 + 90e-9),
                "update": 0.5 * 2e-6,
            },
            rel=1e-12,
        )
        assert part["energy_by_component_j"] == pytest.approx(
            {"toy.mac": 150e-12, "toy.board (launch)": 3.5e-6, "toy.board (static)": 75e-9}, rel=1e-12
        )
        assert part["energy_by_role_j"] == pytest.approx(
            {"core": 150e-12, "launch": 3.5e-6, "static": 75e-9}, rel=1e-12
        )
        assert part["host_energy_j"] == 0.0
        # What rests on what: multiplications are measured; power (derived) times launch time (assumed) is assumed;
        # power (derived) times multiplication time (read) is derived.
        assert part["evidence_shares"] == pytest.approx(
            {"measured": 150e-12 / STEP_J, "assumed": 3.5e-6 / STEP_J, "derived": 75e-9 / STEP_J}, rel=1e-12
        )
        assert part["area_mm2"] == 5.0  # 2 + 3
        # At the wall: 10 W of host, 5 rows x 2 inputs x 4 bytes at 2 nJ.
        inside = STEP_J + 10 * STEP_S + 2e-9 * 40
        assert part["wall_plug_per_step_j"] == pytest.approx(inside / 0.8 * 1.5, rel=1e-12)
        assert part["wall_plug_host_share"] == pytest.approx(10 * STEP_S / inside, rel=1e-12)


def test_only_digital_dynamic_energy_is_scaled_to_the_common_node(toys: Comparison) -> None:
    factor, part = node_scale(14, 7), row_of(toys, "toy")
    assert factor.low <= factor.nominal < factor.high < 1
    found = part["energy_per_step_at_common_node_j"]
    for bound in ("low", "nominal", "high"):
        assert found[bound] == pytest.approx(150e-12 * getattr(factor, bound) + 0.5 * STEP_S, rel=1e-12)


def test_every_breakdown_sums_to_the_total(digits: Dataset) -> None:
    table = hwsim.compare(
        models.mlp([64, 8, 10]), digits, ["digital:int8", "gpu:h100", "gpu:gtx580"], epochs=1, seeds=1,
        learning_rates=(0.3,),
    )  # fmt: skip
    for part in [*table.rows, *table.summary, *table.data["filled"]]:
        total = part["energy_per_step_j"]["nominal"]
        for by in ("phase", "component", "role", "part"):
            assert math.fsum(part[f"energy_by_{by}_j"].values()) == pytest.approx(total, rel=1e-12), by
        assert math.fsum(part["evidence_shares"].values()) == pytest.approx(1, rel=1e-12)
        assert math.fsum(part["time_by_bound_s"].values()) == pytest.approx(part["time_per_step_s"], rel=1e-12)
        assert part["energy_per_step_j"]["low"] < total < part["energy_per_step_j"]["high"]


def test_a_device_and_its_host_are_told_apart(corners: Dataset) -> None:
    class Guest(Toy):
        """Multiplies, and leaves functions to a digital host, whose idle lanes leak as much as busy ones."""

        name = "guest"
        host = "digital:fp32:gated_fraction=1"

        def activity(self, op: Op) -> Mapping[str, Use] | None:
            return None if isinstance(op, Elementwise) else super().activity(op)

    part = quick(corners, {"guest": Guest()}, seeds=1).rows[0]
    by_host = {name: j for name, j in part["energy_by_component_j"].items() if name.startswith("digital")}
    assert by_host
    assert all(name.startswith("guest.") for name in set(part["energy_by_component_j"]) - set(by_host))
    assert any(name.endswith("(idle)") for name in part["energy_by_component_j"])
    assert part["host_energy_j"] == pytest.approx(math.fsum(by_host.values()), rel=1e-12)
    assert 0 < part["host_energy_j"] < part["energy_per_step_j"]["nominal"]
    table = quick(corners, {"my guest": Guest(), "digital:fp32": "digital:fp32"}, seeds=1, target=0.5)
    (shares, own), text = (dict(components(table.data))[name] for name in ("my guest", "digital:fp32")), str(table)
    assert "host.mac (idle) " in shares
    assert "board (launch) " in shares
    assert "host." not in own  # what is a host there is a row of its own here
    assert "Host of my guest: digital:fp32:gated_fraction=1, " in text
    assert "Host of digital" not in text


def test_a_card_is_filled_at_the_smallest_power_of_two(toys: Comparison) -> None:
    # Per row 30 multiplications, 30 ns; launches 7 us. At 2048 rows they take 7 / (7 + 61.44) = 10.2% of the time,
    # at 4096 rows 7 / (7 + 122.88) = 5.4%, below the 10% that count as filled.
    (filled,) = toys.data["filled"]
    assert filled["device"] == "card"
    assert filled["batch"] == 4096
    assert filled["filled"]
    assert filled["launch_share_of_time"] == pytest.approx(7 / (7 + 0.03 * 4096), rel=1e-12)
    step_s = 7e-6 + 30e-9 * 4096
    assert filled["time_per_step_s"] == pytest.approx(step_s, rel=1e-12)
    assert filled["energy_per_sample_j"] == pytest.approx((30e-12 * 4096 + 0.5 * step_s) / 4096, rel=1e-12)
    assert filled["macs_per_step"] == 30 * 4096


def test_a_card_that_nothing_fills_says_so(corners: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bill, "LARGEST_BATCH", 1024)
    (filled,) = quick(corners, {"card": Card()}, seeds=1).data["filled"]
    assert filled["batch"] == 1024
    assert not filled["filled"]


# -- joules to the target ----------------------------------------------------------------------------------


def test_joules_to_the_target_by_hand(toys: Comparison) -> None:
    # 64 rows in batches of 5: 12 steps an epoch. Programming, then all steps of every epoch up to the one that
    # reaches the target.
    checked = 0
    for seed in range(3):
        part = row_of(toys, "toy", seed)
        history = entry_of(toys, "toy")["history"][seed]
        epoch = next(i for i, (_, _, accuracy) in enumerate(history, start=1) if accuracy >= 0.5)
        device_j, time_s = SETUP_J + 12 * epoch * STEP_J, SETUP_S + 12 * epoch * STEP_S
        inside = device_j + 10 * time_s + 2e-9 * 12 * epoch * 40
        assert part["device_energy_to_target_j"] == pytest.approx(device_j, rel=1e-12)
        assert part["energy_to_target_j"] == pytest.approx(inside / 0.8 * 1.5, rel=1e-12)
        assert history[epoch - 1][:2] == pytest.approx([device_j, time_s], rel=1e-12)
        checked += epoch
    assert checked
    whole = entry_of(toys, "toy")
    assert whole["energy_to_target_j"]["nominal"] == pytest.approx(
        math.fsum(row_of(toys, "toy", seed)["energy_to_target_j"] for seed in range(3)) / 3, rel=1e-12
    )
    assert whole["programming_j"] == pytest.approx(SETUP_J, rel=1e-12)
    assert whole["programming_amortised_share"] == pytest.approx(SETUP_J / (SETUP_J + 48 * STEP_J), rel=1e-12)


def test_a_device_without_programming_spends_none(toys: Comparison) -> None:
    entry = entry_of(toys, "free setup")
    assert entry["programming_j"] == 0
    assert entry["programming_amortised_share"] == 0
    assert entry["energy_per_step_j"] == entry_of(toys, "toy")["energy_per_step_j"]
    with_setup, without = (row_of(toys, name)["device_energy_to_target_j"] for name in ("toy", "free setup"))
    assert with_setup - without == pytest.approx(SETUP_J, rel=1e-6)


def test_draws_of_programming_are_whole_and_those_of_steps_in_proportion() -> None:
    # Programming 4 J, drawn as 8 J; ten steps 10 J, drawn as 30 J. By the time that 4 + 6 J were spent, 6 of ten
    # steps were done: 8 + 0.6 x 30 = 26 J.
    by_phase = {
        ("setup",): np.array([4.0, 8.0]),
        ("forward",): np.array([7.0, 20.0]),
        ("update",): np.array([3.0, 10.0]),
    }
    np.testing.assert_allclose(bill.until(by_phase, 10.0), [10.0, 26.0], rtol=1e-15)
    assert bill.until({}, 0.0) == 0
    assert bill.until({("setup",): 2.0}, 2.0) == 2.0


def test_seeds_take_turns_in_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bill, "DRAWS", 6)
    seeds = [np.full(7, 1.0), np.full(7, 2.0), 6.0]
    # Nominal: the mean, 3. Draws 1 to 6: seeds 1, 2, 0, 1, 2, 0.
    assert bill.joined(seeds).tolist() == [3.0, 2.0, 6.0, 1.0, 2.0, 6.0, 1.0]


def test_the_target_is_two_points_below_exact_arithmetic(corners: Dataset) -> None:
    table = quick(corners, ["digital:int8"], epochs=8, seeds=2)
    alone = quick(corners, ["ideal"], epochs=8, seeds=2)
    reached = entry_of(alone, "ideal")["validation_accuracy"]["mean"]
    assert table.data["target_validation_accuracy"] == pytest.approx(reached - 0.02, rel=1e-12)
    assert reached == pytest.approx(
        sum(row["validation_accuracy"] for row in alone.rows) / 2, rel=1e-12
    )  # at the last epoch, mean over seeds
    assert quick(corners, ["ideal"], target=0.77).data["target_validation_accuracy"] == 0.77


def test_a_target_that_is_not_reached_is_not_extrapolated(corners: Dataset) -> None:
    table = quick(corners, {"toy": Toy(), "ideal": "ideal"}, epochs=1, target=1.0, learning_rates=(1e-6,))
    for name in ("toy", "ideal"):
        assert row_of(table, name)["energy_to_target_j"] == "not reached"
        assert row_of(table, name)["device_energy_to_target_j"] == "not reached"
        entry = entry_of(table, name)
        assert entry["energy_to_target_j"] == entry["device_energy_to_target_j"] == "not reached"
        assert entry["rank"] is None
        assert entry["ratio_to_best"] is None
        assert entry["seeds_reaching_target"] == 0
    assert "not reached (0 of 2 seeds)" in str(table)


def test_exact_arithmetic_that_learns_nothing_sets_no_target() -> None:
    exact = compare.Row(hwsim.device("ideal"), ("fc1",), compare.Tuned({}, 0.1, [fake_run(0.01)]), None)
    with pytest.raises(TrainingError, match=r"reaches only 1\.0% validation accuracy"):
        compare.usual_target(exact)


def fake_run(accuracy: float) -> Run:
    run = Run(None, 0, 1, 0.1, "none", "", 1)  # type: ignore[arg-type]
    run.epochs = [Epoch(1, 1, 1.0, accuracy, 0.0, 0.0)]
    return run


# -- ratios and ranks --------------------------------------------------------------------------------------


def test_ratios_are_paired() -> None:
    # b is a times 1.1 in every draw: apart, though their intervals overlap widely. c wanders by itself: not apart
    # from either. d is far behind all.
    rng = np.random.default_rng(0)
    a = np.exp(rng.standard_normal(1001))
    a[0] = 1.0
    c = np.exp(rng.standard_normal(1001))
    c[0] = 1.2
    found = bill.ranked({"c": c, "b": 1.1 * a, "a": a, "d": 1e6 * a})
    assert found["a"]["ratio_to_best"]["best"]
    assert found["b"]["ratio_to_best"]["separated"]
    assert found["b"]["ratio_to_best"]["nominal"] == pytest.approx(1.1)
    assert not found["c"]["ratio_to_best"]["separated"]
    assert found["d"]["ratio_to_best"]["separated"]
    # a is before b and d; c may be anywhere among the first three; b has a before it.
    ranks = {name: (each["rank"]["first"], each["rank"]["last"]) for name, each in found.items()}
    assert ranks == {"a": (1, 2), "b": (2, 3), "c": (1, 3), "d": (4, 4)}


def test_equal_devices_are_not_ranked_apart(corners: Dataset) -> None:
    table = quick(corners, {"one": "digital:int8", "two": "digital:int8"}, target=0.5)
    assert [entry["rank"] for entry in table.summary] == [{"first": 1, "last": 2}] * 2
    assert not any(entry["ratio_to_best"]["separated"] for entry in table.summary)
    assert "not separated" in str(table)
    assert bill.ranked({}) == {}
    assert bill.ranked({"a": np.ones(3)})["a"]["rank"] == {"first": 1, "last": 1}


# -- controls, rates, seeds --------------------------------------------------------------------------------


def test_the_rate_is_chosen_on_the_validation_split_with_the_first_seed(corners: Dataset) -> None:
    rates = (1e-4, 0.5, 1e-5)
    table = quick(corners, ["ideal"], learning_rates=rates, first_seed=7, epochs=4)
    entry = table.summary[0]
    singles = {
        rate: hwsim.fit(MLP, corners, hwsim.device("ideal"), epochs=4, batch=5, learning_rate=rate, seed=7)
        for rate in rates
    }
    assert entry["trials"] == {f"{rate:g}": run.validation_accuracy for rate, run in singles.items()}
    best = max(rates, key=lambda rate: singles[rate].validation_accuracy)
    assert entry["learning_rate"] == best == 0.5
    assert [row["seed"] for row in table.rows] == [7, 8]
    assert table.rows[0]["test_accuracy"] == singles[best].test_accuracy
    tests = [row["test_accuracy"] for row in table.rows]
    assert entry["test_accuracy"]["mean"] == pytest.approx(sum(tests) / 2)
    # n - 1 = 1: the deviation of two values is their distance over the root of two.
    assert entry["test_accuracy"]["deviation"] == pytest.approx(abs(tests[0] - tests[1]) / math.sqrt(2))


def test_controls_are_the_same_training(corners: Dataset) -> None:
    table = quick(corners, ["digital:int8"], learning_rates=(0.5,))
    options: dict[str, Any] = {"epochs": 3, "batch": 5, "learning_rate": 0.5}
    for seed in (0, 1):
        part = row_of(table, "digital:int8", seed)
        exact = hwsim.fit(MLP, corners, hwsim.device("ideal"), seed=seed, **options)
        last = hwsim.fit(MLP, corners, hwsim.device("digital:int8"), seed=seed, frozen=["fc1"], **options)
        assert part["exact_arithmetic_accuracy"] == exact.test_accuracy
        assert part["last_layer_only_accuracy"] == last.test_accuracy


def test_a_control_that_reaches_the_target_is_warned_of(digits: Dataset) -> None:
    net, options = models.mlp([64, 32, 10]), {"epochs": 3, "seeds": 1, "learning_rates": (0.3,)}
    easy = hwsim.compare(net, digits, ["ideal"], target=0.3, **options)  # type: ignore[arg-type]
    assert easy.summary[0]["last_layer_only_seeds_reaching_target"] == 1
    assert "with only the last layer trained, ideal also reach the target" in str(easy)
    hard = hwsim.compare(net, digits, ["ideal"], target=0.99, **options)  # type: ignore[arg-type]
    assert hard.summary[0]["last_layer_only_seeds_reaching_target"] == 0
    assert "also reach the target" not in str(hard)


def test_one_layer_has_no_control(corners: Dataset) -> None:
    table = hwsim.compare(models.mlp([2, 2]), corners, ["digital:int8"], epochs=3, seeds=2, learning_rates=(0.5,))
    assert {row["last_layer_only_accuracy"] for row in table.rows} == {None}
    assert table.summary[0]["last_layer_only_accuracy"] is None
    text = str(table)
    assert "one layer, so there is no control" in text
    assert "also reach the target" not in text
    strict(table.json())


def test_one_seed_has_no_spread(corners: Dataset) -> None:
    table = quick(corners, ["digital:int8", "ideal"], seeds=1)
    assert table.summary[0]["test_accuracy"]["deviation"] is None
    text = str(table)
    assert "one seed has no spread" in text
    assert "±" not in text.split("\n\n")[2]
    strict(table.json())


# -- rows without a number ---------------------------------------------------------------------------------


class Unstable(Toy):
    """Exact up to a rate of 1; beyond, every gradient explodes."""

    name = "unstable"

    def update(self, tile: Any, step: Any) -> None:
        super().update(tile, step * (np.float32(3e38) if np.abs(step).max() > self.limit else 1))

    limit = 0.2


class AlwaysUnstable(Unstable):
    """Explodes at any rate."""

    name = "always-unstable"
    limit = 0.0


def test_one_rate_that_diverges_is_a_trial_that_failed(corners: Dataset) -> None:
    table = quick(corners, {"unstable": Unstable()}, learning_rates=(0.01, 100.0))
    entry = table.summary[0]
    assert entry["trials"]["100"] is None
    assert entry["learning_rate"] == 0.01
    assert entry["seeds_diverged"] == 0
    assert "WARNING: unstable diverged at learning rate 100." in str(table)
    strict(table.json())


def test_a_device_that_always_diverges_is_a_row_that_says_so(corners: Dataset, tmp_path: Path) -> None:
    table = quick(corners, {"bad": AlwaysUnstable(), "toy": Toy(), "ideal": "ideal"}, target=0.5)
    parts = [row for row in table.rows if row["device"] == "bad"]
    assert [row["seed"] for row in parts] == [0, 1]
    for part in parts:
        assert "training diverged" in part["diverged"]
        assert part["steps"] is part["test_accuracy"] is part["validation_accuracy"] is part["learning_rate"] is None
        assert part["exact_arithmetic_accuracy"] == row_of(table, "ideal", part["seed"])["test_accuracy"]
        assert part["energy_to_target_j"] == "not reached"
        # The step has its bill nevertheless, from shapes.
        assert part["energy_per_step_j"]["nominal"] == pytest.approx(STEP_J, rel=1e-12)
    entry = entry_of(table, "bad")
    assert entry["seeds_diverged"] == 2
    assert entry["test_accuracy"] == {"mean": None, "deviation": None}
    assert entry["rank"] is None
    text = str(table)
    assert "bad diverged at every learning rate tried" in text
    assert text.split("\n\n")[2].splitlines()[2].split()[:2] == ["bad", "diverged"]
    assert row_of(table, "toy")["diverged"] is None
    strict(table.json())
    table.to_figure(tmp_path / "a.png")
    table.to_html(tmp_path / "a.html")
    table.to_csv(tmp_path / "a.csv")


def test_a_seed_that_diverges_leaves_the_others(corners: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    real = compare.fit

    def fit(*arguments: Any, seed: int, **options: Any) -> Run:
        if seed == 1 and not options["frozen"]:
            raise TrainingError("training diverged at step 3: fc1/w")
        return real(*arguments, seed=seed, **options)

    monkeypatch.setattr(compare, "fit", fit)
    table = quick(corners, {"toy": Toy()}, seeds=3, target=0.5)
    entry = table.summary[0]
    assert entry["seeds_diverged"] == 1
    tests = [row["test_accuracy"] for row in table.rows]
    assert tests[1] is None
    assert entry["test_accuracy"]["mean"] == pytest.approx((tests[0] + tests[2]) / 2)
    assert entry["energy_to_target_j"] == "not reached"  # not by all seeds
    assert "toy diverged for 1 of 3 seeds" in str(table)


def test_without_exact_arithmetic_there_is_no_target(corners: Dataset) -> None:
    with pytest.raises(TrainingError, match="exact arithmetic, which sets the target, diverged at every learning rate"):
        quick(corners, ["digital:int8"], learning_rates=(1e30,))
    table = quick(corners, ["digital:int8"], learning_rates=(1e30,), target=0.9)
    assert table.rows[0]["exact_arithmetic_accuracy"] is None
    assert table.summary[0]["exact_arithmetic_accuracy"]["mean"] is None
    strict(table.json())


def test_what_costs_nothing_says_so(corners: Dataset, tmp_path: Path) -> None:
    table = quick(corners, ["ideal"], target=0.5, epochs=6)
    entry, part = table.summary[0], table.rows[0]
    assert not entry["has_cost"]
    assert entry["energy_per_step_j"] == {"low": 0, "nominal": 0, "high": 0}
    assert entry["energy_to_target_j"] == {"low": 0, "nominal": 0, "high": 0}
    assert part["energy_to_target_j"] == part["device_energy_to_target_j"] == 0
    assert entry["samples_per_s"] is entry["macs_per_j"] is entry["rank"] is None
    assert "has no cost" in str(table)
    assert "What one training step costs" not in str(table)
    strict(table.json())
    table.to_figure(tmp_path / "a.png")
    table.to_html(tmp_path / "a.html")


def test_values_are_compared_with_the_loss_for_values() -> None:
    table = hwsim.compare(
        models.xor(), data.load("xor"), ["digital:int8", "gpu:h100"], epochs=400, batch=4, seeds=1,
        learning_rates=(20.0,), target=1.0,
    )  # fmt: skip
    assert table.summary[0]["test_accuracy"]["mean"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    (filled,) = table.data["filled"]
    # A row of xor: forward 2x2 + 2x1 = 6; back through fc2 2; gradients 6: 14 multiplications.
    assert filled["macs_per_step"] == 14 * filled["batch"]
    run = hwsim.fit(
        models.xor(), data.load("xor"), hwsim.device("gpu:h100"), epochs=1, batch=4, learning_rate=20.0
    )  # the step that is costed from shapes is the step that is trained
    ledger = bill.shape_step(models.xor(), data.load("xor"), hwsim.device("gpu:h100"), 4, "sgd")
    assert bill.STEP_PHASES
    assert float(ledger.total_j(phases=bill.STEP_PHASES)) == pytest.approx(run.energy_per_step_j, rel=1e-12)


def test_the_filled_card_takes_the_optimizer_that_was_asked_for(corners: Dataset) -> None:
    plain, adam = (
        quick(corners, ["gpu:h100"], seeds=1, optimizer=name, learning_rates=(0.01,)).data["filled"][0]
        for name in ("sgd", "adam")
    )
    assert "adam" not in plain["energy_by_phase_j"]
    assert adam["energy_by_phase_j"]["update"] / adam["batch"] > plain["energy_by_phase_j"]["update"] / plain["batch"]


# -- what goes in and out ----------------------------------------------------------------------------------


def test_rows_carry_what_was_promised(toys: Comparison, corners: Dataset) -> None:
    promised = {
        "device", "preset", "parameters", "seed", "steps", "test_accuracy", "exact_arithmetic_accuracy",
        "last_layer_only_accuracy", "energy_per_step_j", "time_per_step_s", "energy_by_phase_j",
        "energy_by_component_j", "host_energy_j", "energy_to_target_j", "evidence_shares", "version",
    }  # fmt: skip
    for row in toys.rows:
        assert promised <= set(row)
        assert set(row["energy_per_step_j"]) == {"low", "nominal", "high"}
        assert row["version"] == hwsim.__version__
    assert toys.data["excluded"]["toy"] == ["everything that matters"]
    assert "Left out of toy, card, free setup: everything that matters." in str(toys)
    table = quick(corners, ["gpu:h100:precision=bf16"], seeds=1)
    assert table.rows[0]["preset"] == "h100"
    assert table.rows[0]["parameters"] == {"precision": "bf16"}


def test_exact_arithmetic_is_known_by_what_it_is_and_not_by_its_name(corners: Dataset) -> None:
    table = quick(corners, {"ideal": AlwaysUnstable(), "reference": hwsim.device("ideal")}, target=0.5)
    assert row_of(table, "ideal")["diverged"]
    for name in ("ideal", "reference"):
        assert row_of(table, name)["exact_arithmetic_accuracy"] == row_of(table, "reference")["test_accuracy"] > 0


def test_equal_seeds_give_equal_json_in_any_process(corners: Dataset, digits: Dataset) -> None:
    settings: dict[str, Any] = {"epochs": 1, "seeds": 2, "learning_rates": (0.3, 1e30)}
    devices, net = ["ideal", "digital:int8", "gpu:h100:precision=fp8"], models.mlp([64, 8, 10])
    first = hwsim.compare(net, digits, devices, **settings).json()
    assert hwsim.compare(net, digits, devices, **settings).json() == first
    other = hwsim.compare(net, digits, devices, **{**settings, "first_seed": 1}).json()
    assert other != first
    code = (
        "import sys, hwsim; from hwsim import models; sys.stdout.write(hwsim.compare(models.mlp([64, 8, 10]), "
        f"hwsim.data.load('digits'), {devices}, epochs=1, seeds=2, learning_rates=(0.3, 1e30)).json())"
    )
    apart = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert apart.stdout == first
    strict(first)


def test_files_hold_what_the_table_holds(toys: Comparison, tmp_path: Path) -> None:
    toys.to_json(tmp_path / "a.json")
    assert strict((tmp_path / "a.json").read_text()) == json.loads(json.dumps(toys.data))
    toys.to_csv(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(toys.rows) == 12
    for line, row in zip(lines, toys.rows, strict=True):
        assert line["device"] == row["device"]
        assert float(line["energy_per_step_j.nominal"]) == row["energy_per_step_j"]["nominal"]
        assert float(line["test_accuracy"]) == row["test_accuracy"]
    with pytest.raises(ConfigError, match="no folder"):
        toys.to_json(tmp_path / "none" / "a.json")


@pytest.mark.parametrize(
    ("devices", "options", "error", "words"),
    [
        ([], {}, ConfigError, "at least one device"),
        (["gpu", "gpu"], {}, ConfigError, "gpu twice"),
        (["nope"], {}, DeviceError, "no device 'nope'"),
        (["ideal"], {"seeds": 0}, ConfigError, "seeds 0"),
        (["ideal"], {"first_seed": -1}, ConfigError, "seed -1"),
        (["ideal"], {"epochs": 0}, ConfigError, "epochs 0"),
        (["ideal"], {"batch": 0}, ConfigError, "batch 0"),
        (["ideal"], {"learning_rates": ()}, ConfigError, "at least one learning rate"),
        (["ideal"], {"learning_rates": (0.1, 0.1)}, ConfigError, "each once"),
        (["ideal"], {"learning_rates": (0.1, -1.0)}, ConfigError, "learning rate -1"),
        (["ideal"], {"learning_rates": (math.nan,)}, ConfigError, "learning rate nan"),
        (["ideal"], {"target": 0.0}, ConfigError, "target 0"),
        (["ideal"], {"target": 1.01}, ConfigError, "target 1.01"),
        (["ideal"], {"target": math.nan}, ConfigError, "target nan"),
        (["ideal"], {"optimizer": "lion"}, ConfigError, "no optimizer 'lion'"),
    ],
)
def test_settings_out_of_range_are_refused_before_training(
    corners: Dataset, devices: Any, options: dict[str, Any], error: type[Exception], words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(compare, "fit", lambda *arguments, **options: pytest.fail("trained"))
    with pytest.raises(error, match=words):
        quick(corners, devices, **options)


def test_shapes_that_do_not_fit_are_refused(corners: Dataset) -> None:
    with pytest.raises(ShapeError, match=r"Mlp reads real-valued inputs \[3\], corners has real-valued inputs \[2\]"):
        hwsim.compare(models.mlp([3, 2]), corners, ["ideal"])


def test_devices_may_be_strings_or_objects(corners: Dataset) -> None:
    options: dict[str, Any] = {"seeds": 1, "epochs": 1, "target": 0.5}
    for devices in ("digital:int8", hwsim.device("digital:int8"), [hwsim.device("digital:int8")], ["digital:int8"]):
        assert [row["device"] for row in quick(corners, devices, **options).rows] == ["digital:int8"]
    with pytest.raises(ConfigError, match="digital:int8 twice"):
        quick(corners, [hwsim.device("digital:int8"), "digital:int8"])
    for wrong in ([3], {"a": 3}):
        with pytest.raises(ConfigError, match=r"device 3: needs a device or its string"):
            quick(corners, wrong)
    with pytest.raises(ConfigError, match=r"model 'mlp': .*hwsim\.model\('mlp'\)"):
        hwsim.compare("mlp", corners)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"data 'digits': .*hwsim\.data\.load\('digits'\)"):
        hwsim.compare(MLP, "digits")  # type: ignore[arg-type]


def test_how_much_there_is_to_do_is_said_where_no_bar_can_be(
    corners: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    for progress, words in ((None, "6 trainings\n"), (False, "")):
        quick(corners, ["ideal"], target=0.5, epochs=1, progress=progress)
        assert capsys.readouterr().err == words  # 2 rates and 1 more seed, whole and with the last layer alone


def test_the_default_rates_surround_the_best(digits: Dataset) -> None:
    table = hwsim.compare(models.mlp([64, 32, 10]), digits, ["ideal", "digital:int8"], seeds=1)
    for entry in table.summary:
        assert None not in entry["trials"].values()
        assert min(compare.LEARNING_RATES) < entry["learning_rate"] < max(compare.LEARNING_RATES)


def test_the_default_devices() -> None:
    assert compare.DEFAULT_DEVICES == (
        "ideal", "digital:int8", "gpu:h100", "gpu:h100:precision=bf16", "gpu:h100:precision=fp8", "gpu:gtx580",
        "crossbar:ecram", "optical:homodyne", "reversible:adiabatic_cmos",
    )  # fmt: skip
    for name in compare.DEFAULT_DEVICES:
        assert hwsim.device(name).spec == name

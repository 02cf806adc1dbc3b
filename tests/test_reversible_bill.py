"""What a reversible step is billed: gradients cleared, bits that wait, slow netlists, erasure; options and verdicts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim
from hwsim import cli, models, registry
from hwsim.cost import Kind, Phase, Product, Quantity
from hwsim.devices.reversible import Reversible, commands, energy_optimum, frequencies, integers, ramps
from hwsim.devices.reversible.energy import Adiabatic
from hwsim.devices.reversible.energy_presets import technology
from hwsim.devices.reversible.mac import mac_netlist
from hwsim.devices.reversible.machine import PHYSICS
from hwsim.errors import ConfigError, DeviceError
from hwsim.learning.undoing import run_back
from hwsim.ledger import Ledger
from hwsim.losses import cross_entropy
from hwsim.report.erasure import step_of
from hwsim.report.garbage import bill, garbage

COPIED = 4 + 4  # ramps of a copy: one level, and hold and fall


def reversible(preset: str | None = None, **parameters: Any) -> Reversible:
    return Reversible.create(preset, parameters)


def near(value: Any, rel: float = 1e-9) -> Any:
    """Within a relative error alone: the absolute tolerance that pytest adds, 1e-12, is above most energies here."""
    return pytest.approx(value, rel=rel, abs=0)


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def elapsed(device: Reversible, op: Product) -> float:
    tick = (device.uses(op) or {})["tick"]
    return tick.actions / tick.units


# -- who clears a gradient ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "rows", "passes"), [(8, 1, 1), (8, 1024, 1), (8, 2048, 2), (12, 4, 1), (12, 8, 2), (16, 1, 2)]
)
def test_a_gradient_is_cleared_by_the_hosts_copy_only_where_float32_holds_it(bits: int, rows: int, passes: int) -> None:
    """2 bits - 2 + log2 rows <= 24; against sums in int64, of the largest operands, and of odd ones next to them."""
    top = (1 << bits - 1) - 1
    rng = np.random.default_rng(bits)
    x, dy = (rng.integers(top - 3, top, (rows, 40), endpoint=True) for _ in range(2))
    x[:, 0] = dy[:, 0] = top
    sums = x.T @ dy
    held = bool((sums.astype(np.float32).astype(np.int64) == sums).all())
    assert held == (passes == 1)
    assert reversible(bits=bits).passes(Product(Kind.GRADIENT, rows, 4, 3)) == passes
    assert reversible(bits=bits, garbage="discard").passes(Product(Kind.GRADIENT, rows, 4, 3)) == 1


def test_most_gradients_of_16_bits_come_back_wrong() -> None:
    """Normal operands, 64 rows: of the sums more than half have bits below the 24 that the host holds."""
    x, dy = normal(64, 30), normal(64, 20, seed=1)
    found = reversible(bits=16).program(normal(30, 20), name="w").gradient(x, dy)
    a, b = (integers.codes(np, each, 16, 64) for each in (x, dy))
    sums = a.integers.astype(np.int64).T @ b.integers.astype(np.int64)
    kept = np.rint(found.astype(np.float64) / (a.unit * b.unit)).astype(np.int64)
    assert abs(kept - sums).max() <= 2.0**-24 * abs(sums).max()  # they differ by rounding alone
    assert (kept != sums).mean() > 0.5


def test_a_gradient_that_is_run_backwards_is_sent_once() -> None:
    """2 rows by 4 x 3: 12 sums; 14 operands, to be used and to clear what was."""
    for bits, converted in ((8, 2 * (12 + 14)), (16, 12 + 2 * 14)):
        uses = reversible(bits=bits).uses(Product(Kind.GRADIENT, 2, 4, 3)) or {}
        assert uses["convert"].actions == converted


# -- more results than units, and what waits ---------------------------------------------------------------


def test_units_take_whole_turns() -> None:
    """6 results of 4 products on 4 units: two turns a product; of 6 or 8 copies two turns each."""
    device, op = reversible(ramp_s=1e-9, in_flight=4), Product(Kind.FORWARD, 2, 4, 3)
    run = 4 * 544 + 4  # 544 levels of 4 ramps, and hold and fall
    ticks = 4 * 2 * run + 3 * 2 * COPIED
    assert elapsed(device, op) == near(ticks)
    # 24 runs in 8 turns are 3 at a time; of 6 results the other 3 wait to begin, or are done: half, of 18 bits each.
    # All 8 inputs of 8 bits stay.
    assert (device.uses(op) or {})["held"].actions == near(64 * ticks + 1.5 * 18 * 8 * run)
    released = device.uses(op._replace(kind=Kind.RELEASE)) or {}
    ticks -= 2 * COPIED  # nothing is sent to the host
    assert released["held"].actions == near(64 * ticks + 1.5 * 18 * 8 * run)


def test_results_fewer_than_units_do_not_wait() -> None:
    device, op = reversible(ramp_s=1e-9, in_flight=6), Product(Kind.FORWARD, 2, 4, 3)
    assert (device.uses(op) or {})["held"].actions == near(64 * elapsed(device, op))


def test_sums_of_a_gradient_wait_for_the_hosts_copy() -> None:
    """12 sums of 2 terms, 17 bits, on 4 units: 6 turns; 8 are in none, half of them done. 14 operands of 8 bits stay.

    Levels: rows of 17 + 16 + ... + 10 = 108 wires, 5 x 108 - 40 + 2, and 2: 504. Erased at once, none waits.
    """
    op, run = Product(Kind.GRADIENT, 2, 4, 3), 4 * 504 + 4
    for garbage_policy, waiting in (("bennett", 4 * 17), ("discard", 0)):
        device = reversible(ramp_s=1e-9, in_flight=4, garbage=garbage_policy)
        found = (device.uses(op) or {})["held"].actions
        assert found == near(14 * 8 * elapsed(device, op) + waiting * 6 * run)


def test_errors_come_when_they_are_due() -> None:
    """8 results of 3 products, there and back; 6 errors of 8 bits: 6 bits for each result, while it is in a unit.

    Of 3 terms 18 bits, as of 4: 544 levels.
    """
    device, op = reversible(ramp_s=1e-9, in_flight=4), Product(Kind.BACKWARD, 2, 4, 3)
    assert (device.uses(op) or {})["held"].actions == near(6 * 2 * 24 * (4 * 544 + 4))


def test_pipelines_take_one_result_a_period() -> None:
    """1 ramp a level: 548 ramps, a result every 8; four places, one pipeline: 6 results hide, 200 take 1600."""
    device = reversible(ramp_s=1e-9, in_flight=4, clocking="pipelined")
    few, many = (elapsed(device, Product(Kind.FORWARD, 2, 4, n)) for n in (3, 100))
    # Copies take 5 ramps, less than the 8 of a period: 4 places are 4 pipelines, 2 turns for 6 or 8, 50 for 200.
    assert few == near(4 * 548 + 3 * 2 * 8)
    assert many == near(4 * 1600 + (50 + 2 + 50) * 8)


@pytest.mark.parametrize("rows", [1, 40])
def test_the_slowest_netlist_decides(rows: int) -> None:
    """Of 6 weights one has four digits. 40 rows take 40 of its runs; a single row a column of 3, at their mean."""
    device = reversible(scheme="naf", ramp_s=1e-9)
    ledger = Ledger()
    tile = device.program(np.array([[1, 0], [85, 0], [0, 2]], np.float32) / 64, name="w", ledger=ledger)
    codes = tile.state["codes"].astype(int).reshape(-1).tolist()
    depths = [2 + mac_netlist("naf", 8, 18, code).depth for code in codes]
    assert max(depths) > 3 * np.mean(depths)
    with ledger.scope(phase=Phase.FORWARD):
        tile.forward(normal(rows, 3))
    (recorded,) = (counts for cell, counts in ledger.actual.items() if cell.op.kind is Kind.FORWARD)
    op = Product(Kind.FORWARD, rows, 3, 2)
    units = (device.uses(op) or {})["tick"].units
    slowest, mean = 4 * max(depths) + 4, 4 * np.mean(depths) + 4
    assert recorded["tick"] / units == near(max(rows * slowest, 3 * mean) + 3 * COPIED)
    assert float(ledger.total_s(phases=[Phase.FORWARD])) == near((max(rows * slowest, 3 * mean) + 3 * COPIED) * 1e-9)


# -- what is erased ----------------------------------------------------------------------------------------


def test_a_wired_in_weight_that_changes_erases_its_configuration() -> None:
    """mlp 64-32-10: 2,368 weights x 400 nodes, all of them by shapes, whatever the policy; C V^2 / 2 each."""
    model, nodes = models.mlp([64, 32, 10]), 2368 * 400
    found = {
        (scheme, policy): bill(reversible(scheme=scheme, garbage=policy), model, 64)
        for scheme in ("ctrl", "naf") for policy in ("discard", "bennett")
    }  # fmt: skip
    assert found["ctrl", "bennett"]["erased_bits"] == found["ctrl", "bennett"]["erasure_j"] == 0
    assert found["naf", "bennett"]["erased_bits"] == nodes
    assert found["naf", "bennett"]["erasure_j"] == near(nodes * 0.32e-15)
    both = found["ctrl", "discard"]["erased_bits"] + nodes
    assert found["naf", "discard"]["erased_bits"] == near(both)
    # Of what is erased without wiring: a step of 24 bits a weight, and of each layer 64 rows of sums and operands:
    # fc1: 32 sums of 22 bits and 64 inputs of 8 at its release; 2048 sums of 22, 96 operands of 8 and 32 sums of dy
    fc1 = 64 * (32 * 22 + 64 * 8) + 2048 * 22 + 64 * 96 * 8 + 32 * 22
    # fc2: 10 sums of 21 bits, 32 inputs; 320 sums of 22, 42 operands, 10 sums of dy; backward 32 sums of 20, 10 errors
    fc2 = 64 * (10 * 21 + 32 * 8) + 320 * 22 + 64 * 42 * 8 + 10 * 22 + 64 * (32 * 20 + 10 * 8)
    assert found["ctrl", "discard"]["erased_bits"] == near(2368 * 24 + fc1 + fc2)
    assert found["ctrl", "bennett"]["passes"] == near((2048 * 3 + 320 * 5) / 2368)  # fc1 has no backward


def test_in_a_run_only_weights_that_change_erase() -> None:
    device, ledger = reversible(scheme="naf"), Ledger()
    tile = device.program(np.array([[0.5, 0.25], [0.125, 1.0]], np.float32), name="w", ledger=ledger)
    with ledger.scope(phase=Phase.UPDATE):
        tile.gradient(normal(3, 2), normal(3, 2))
        tile.update(np.array([[0.25, 0], [0, 0]], np.float32))
    assert step_of(ledger, device)["erased_bits"] == 400


def test_causes_of_heat_take_no_room() -> None:
    """What is unknown is hardware: converters, a cooler."""
    for preset, unknown in ((None, {"convert"}), ("aqfp", {"convert", "cooler"}), ("cmos_reference", {"convert"})):
        components = reversible(preset).components
        assert {name for name, each in components.items() if each.area_mm2 is None} == unknown
        assert components["erasure"].quantity("area_mm2").nominal == 0


# -- fewer live layers -------------------------------------------------------------------------------------


def test_checkpoints_train_alike_and_can_be_undone() -> None:
    """Four layers of which three are held: bit for bit the losses of the ordinary network; 10 moves instead of 8."""
    data, options = hwsim.data.load("digits"), {"epochs": 1, "batch": 64, "optimizer": "momentum", "rule": "leapfrog"}
    runs, devices = [], []
    for model in (models.mlp([64, 16, 16, 16, 10]), registry.model("checkpointed", hidden="16-16-16", live=3)):
        devices.append(reversible(checked="none"))
        runs.append(hwsim.fit(model, data, devices[-1], learning_rate=0.03, **options))  # type: ignore[arg-type]
    assert [epoch.loss for epoch in runs[0].epochs] == [epoch.loss for epoch in runs[1].epochs]
    assert runs[0].test_accuracy == runs[1].test_accuracy
    first, second = (run.network.save() for run in runs)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], value) for name, value in second.items())
    # Rows x (outputs x (16 + 6 or 4 bits of terms) + inputs x 8): fc1 64 -> 16, fc2 and fc3 16 -> 16, fc4 16 -> 10
    fc1, fc2, fc4 = (64 * (n * wide + k * 8) for n, wide, k in ((16, 22, 64), (16, 20, 16), (10, 20, 16)))
    held = [run.ledger.peak_bits[device] for run, device in zip(runs, devices, strict=True)]
    assert held == [fc1 + 2 * fc2 + fc4, max(2 * fc2 + fc4, fc1 + 2 * fc2)]
    assert run_back(runs[1].network, data, cross_entropy, batch=64, steps=runs[1].steps)["bit_for_bit"]


def test_a_network_holds_as_many_layers_as_it_can() -> None:
    """Sweeps of 7 layers need three live."""
    made = registry.model("checkpointed", hidden="8-8-8-8-8-8")
    assert (made.layers, made.live, list(made.live_choices)) == (7, 7, [3, 4, 5, 6, 7])
    for live, message in ((2, "needs 3 or more live"), (8, "live=8 of 7 layers"), (0, "whole numbers from 1")):
        with pytest.raises(ConfigError, match=message):
            registry.model("checkpointed", hidden="8-8-8-8-8-8", live=live)
    with pytest.raises(ConfigError, match="one or more"):
        registry.model("checkpointed", hidden=[0])


def test_policies_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three layers 8 wide in the chain: sweeps with 3 live 6 moves, with 2 live 1 2 -1 3 -3 1 -2 -1: 8 moves."""
    path = tmp_path / "rows.json"
    garbage("reversible", "checkpointed:hidden=8-8:inputs=8:outputs=8", 32, path)
    text = capsys.readouterr().out
    rows = {row["policy"]: row for row in json.loads(path.read_text())["rows"]}
    assert list(rows) == ["discard", "bennett", "checkpoint:2"]
    assert all(policy in text for policy in rows)
    layer = 32 * (8 * 19 + 8 * 8)  # bits: 8 sums of 16 + 3 bits, 8 inputs of 8
    assert [row["held_bits"] for row in rows.values()] == [3 * layer, 3 * layer, 2 * layer]
    # there and back by moves / 3; backward 2/3, twice where uncomputed; gradient 1
    assert [row["passes"] for row in rows.values()] == near([1 + 2 / 3 + 1, 2 + 4 / 3 + 1, 8 / 3 + 4 / 3 + 1])
    assert rows["discard"]["erased_bits"] > rows["bennett"]["erased_bits"] == rows["checkpoint:2"]["erased_bits"] == 0
    garbage("reversible", "mlp", 32, None)
    assert "to hold less: --model checkpointed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("device", "model", "error", "message"),
    [
        ("ideal", "mlp", DeviceError, "does not say which of its components erase bits"),
        ("reversible", "mlp:small", ConfigError, "is not key=value"),
        ("reversible", "mlp:depth=3", ConfigError, "has no parameter 'depth'"),
    ],
)
def test_what_has_no_garbage_policies(device: str, model: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        garbage(device, model, 32, None)


# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "parameters", "message"),
    [
        ("aqfp", {"ramp_s": 1e-9}, "ramp_s=1e-09 has no effect here; it is read with law adiabatic, not josephson"),
        ("aqfp", {"clocking": "pipelined"}, "read with law adiabatic, not josephson"),
        ("aqfp", {"load": 2}, "read with law adiabatic or conventional, not josephson"),
        ("cmos_reference", {"quality": 20}, "read with law adiabatic, not conventional"),
        ("cmos_reference", {"shape": "linear"}, "read with law adiabatic, not conventional"),
        (None, {"frequency_hz": 1e9}, "read with law josephson, not adiabatic"),
        (None, {"delay_s": 1e-10}, "read with law conventional, not adiabatic"),
        (None, {"switching_activity": 0.5}, "read with law conventional, not adiabatic"),
        (None, {"pipelined_ramps_per_level": 2}, "read with clocking pipelined, not retractile"),
        ("quasi_adiabatic", {"retractile_ramps_per_level": 2}, "read with clocking retractile, not pipelined"),
        (None, {"resynthesis_nodes": 100}, "read with scheme naf, not ctrl"),
        (None, {"threshold_v": 0.3}, "read with a floor_share above 0"),
        ("landauer_ideal", {"quality": 20}, "read with a clock_load above 0"),
    ],
)
def test_what_has_no_effect_is_refused(preset: str | None, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        reversible(preset, **parameters)


def effects(device: Reversible) -> list[float]:
    """Every number that a cost can come from."""
    fields = ("energy_j", "time_s", "static_power_w", "area_mm2")
    found = [each.quantity(field).nominal for each in device.components.values() for field in fields]
    return [*found, *(use.actions for use in (device.uses(Product(Kind.FORWARD, 2, 4, 3)) or {}).values())]


@pytest.mark.parametrize("preset", ["adiabatic_cmos", "quasi_adiabatic", "cmos_reference", "aqfp"])
def test_every_value_that_is_accepted_has_an_effect(preset: str) -> None:
    """A temperature only bounds what an erased bit takes, and the highest frequency only the frequency."""
    base, accepted = reversible(preset), 0
    plain = effects(base)
    for name in set(PHYSICS) - {"temperature_k", "highest_hz", "clocking", "shape"}:
        value = getattr(base, name)
        number = value.nominal if isinstance(value, Quantity) else value
        other = {name: 1.25 * number if number else 40.0}  # nm, where a technology of no node has converters of 28
        if base.reader_of(name) is None:
            accepted += 1
            assert effects(reversible(preset, **other)) != plain, name
        else:
            with pytest.raises(DeviceError, match="has no effect"):
                reversible(preset, **other)
    assert accepted > 8


# -- verdicts ----------------------------------------------------------------------------------------------


def test_a_wired_in_weight_pays_for_its_configuration() -> None:
    """400 nodes of 0.64 nW for a run of 4 ramps a level, and 4: 202 fJ at 0.53 ns, at best 132 fJ at 0.19 ns."""
    device = reversible(scheme="naf")
    schedule, machine = ramps.judged(device), device.technology
    assert isinstance(machine, Adiabatic)
    without, run = device.typical, 4 * device.typical.depth + 4
    seconds = np.geomspace(5e-11, 5e-9, 2001)
    by_hand = energy_optimum.curve(without, machine, seconds).energy_j + 400 * 0.64e-9 * run * seconds
    assert energy_optimum.curve(schedule, machine, seconds).energy_j == near(by_hand)
    assert float(replace(machine, ramp_s=5.3e-10).bill(schedule).energy_j) == near(202e-15, rel=0.01)
    found = ramps.ramps(device)
    assert found.energy_j == near(by_hand.min(), rel=1e-4)
    assert found.best_s == near(seconds[by_hand.argmin()], rel=0.01)
    assert (found.energy_j, found.best_s) == near((132e-15, 1.9e-10), rel=0.02)
    # At half use the configuration counts twice, and loses; at the least use it is even.
    use = found.least_use[ramps.ORDINARY]
    assert 0.5 < use < 1
    even = schedule._replace(configured_nodes=400 / use)
    ordinary_j = found.verdicts[ramps.ORDINARY].reference_j
    assert float(replace(machine, ramp_s=found.best_s).bill(even).energy_j) == near(ordinary_j)
    assert energy_optimum.against(schedule._replace(configured_nodes=800), machine, ordinary_j).gain < 1
    assert "in use" in ramps.report(found)
    assert ramps.ramps(reversible()).least_use[ramps.ORDINARY] == 0


@pytest.mark.parametrize("clocking", ["retractile", "pipelined"])
def test_the_best_ramp_with_a_configuration(clocking: str) -> None:
    """Against a grid; where leakage is small the law of slow ramps is as good."""
    device = reversible(scheme="naf", clocking=clocking, leakage_siemens=1e-12)
    schedule, machine = ramps.judged(device), device.technology
    assert isinstance(machine, Adiabatic)
    best = energy_optimum.at_optimum(schedule, machine)
    energies_j = energy_optimum.curve(schedule, machine, np.geomspace(5e-11, 1e-6, 2001)).energy_j
    assert float(best.bill(schedule).energy_j) == near(energies_j.min(), rel=1e-4)
    assert energy_optimum.slow_optimum_s(schedule, machine) == near(best.ramp_s, rel=0.02)


def test_parametrons_say_below_which_frequency_they_pay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """785 fJ at 5 GHz against 154 fJ: in proportion to frequency, below 0.98 GHz."""
    figure = tmp_path / "aqfp.png"
    commands.ramp_times("reversible:aqfp", figure)
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "pays below 0.981 GHz" in capsys.readouterr().out
    found = frequencies.frequencies(reversible("aqfp"))
    assert found.paying_hz[ramps.ORDINARY] == near(5e9 * 0.3e-12 * 0.5132 / found.energy_j, rel=1e-3)
    slower = reversible("aqfp", frequency_hz=found.paying_hz[ramps.ORDINARY])
    assert slower.technology.bill(slower.typical).energy_j == near(found.rivals_j[ramps.ORDINARY])
    wired = frequencies.frequencies(reversible("aqfp", scheme="naf"))
    # Rings of 16 junctions for 400 nodes, a period each, for 6 phases of 4 a level: with the cooler 501 times
    bare = reversible("aqfp", scheme="naf")
    held_j = 400 * 16 * 1.4e-21 * 501 * bare.typical.depth * 6 / 4
    assert wired.energy_j == near(float(bare.technology.bill(bare.typical).energy_j) + held_j)
    assert "up to 10 GHz" in frequencies.report(found)
    with pytest.raises(DeviceError, match="no frequency to choose"):
        frequencies.frequencies(reversible())


def test_ranges_leave_out_what_does_not_settle() -> None:
    """5 RC of a draw above the ramp: of 4000 draws some 6%, which would make switching look cheaper, or slower."""
    device = reversible()
    drawn, nominal_j = technology(device.physics, draws=4000), device.technology.bill(device.typical).parts["switching"]
    assert isinstance(drawn, Adiabatic)
    works = 5 * np.asarray(drawn.resistance_ohm) * np.asarray(drawn.capacitance_f) <= 5.3e-10 * (1 + 1e-12)
    assert 0.03 < 1 - works.mean() < 0.1
    ratio = drawn.bill(device.typical).parts["switching"] / nominal_j
    low, high = np.quantile(ratio[works], (0.05, 0.95))
    found = device.components["switching"].quantity("energy_j")
    assert (found.low / found.nominal, found.high / found.nominal) == near((low, high))
    assert np.quantile(ratio, 0.95) > 1.05 * high


def examples() -> list[str]:
    """The commands of the readme that finish in a second or two."""
    readme = Path(commands.__file__).with_name("readme.md").read_text(encoding="utf-8")
    lines = [line.partition("#")[0].strip() for line in readme.splitlines() if line.startswith("    hwsim ")]
    return [
        line for line in lines if line.startswith(("hwsim ramp-times", "hwsim garbage", "hwsim train checkpointed"))
    ]


@pytest.mark.parametrize("line", examples())
def test_examples_of_the_readme(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--epochs", "1", "--no-controls"] if "train" in line else []
    monkeypatch.setattr(sys, "argv", [*line.split(), *quick])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    wanted = {"ramp-times": "pays", "garbage": "checkpoint:4", "train": "test accuracy"}
    assert wanted[line.split()[1]] in capsys.readouterr().out

"""The learning rule `leapfrog`: momentum as it is known, and steps that are taken back bit for bit."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hard_devices import Leapfrog as FixedPoint
from hard_devices import LearnedAbsorber, StatefulCrossbar

import hwsim
from hwsim import cli
from hwsim.arrays import Shape
from hwsim.contract import Contract
from hwsim.cost import Kind, Phase, Product
from hwsim.devices.reversible import Reversible
from hwsim.errors import ConfigError, NotFiniteError, TrainingError
from hwsim.learning.backprop import backprop
from hwsim.learning.information import register_bits
from hwsim.learning.leapfrog import UNIT, in_units, leapfrog, ratio_of
from hwsim.learning.undoing import batches_back, run_back, undo
from hwsim.losses import cross_entropy, squared_error
from hwsim.models import mlp, xor
from hwsim.nn import Network
from hwsim.optim import SGD, optimizer
from hwsim.tile import Tile

DIGITS = hwsim.data.load("digits")
NINE_TENTHS = Fraction(9, 10)


class Leapfrog(FixedPoint):
    """The fixed-point machine of the tests, which says that it moves in whole units."""

    exact_updates = True


class Forgetful(Leapfrog):
    """One that says so, and rounds its sums all the same."""

    def update(self, tile: Tile, step: Any) -> None:
        super().update(tile, step)
        tile.state["w"] = tile.state["w"] // 3 * 3


def small_batches(count: int) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((8, 5)).astype("f4"), rng.integers(0, 3, 8)) for _ in range(count)]


def trained(device: hwsim.Device, batches: list[tuple[Any, Any]], rate: float = 0.05, **options: Any) -> Network:
    net = Network(mlp([5, 7, 3]), device, **options)
    mover = SGD(rate, momentum=0.9)
    for x, labels in batches:
        leapfrog(net, x, labels, cross_entropy, mover)
    return net


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# -- forwards ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("momentum", "ratio"),
    [(0.9, NINE_TENTHS), (0.99, Fraction(99, 100)), (1 / 3, Fraction(1, 3)), (0.999, Fraction(999, 1000))],
)
def test_momenta_that_are_ratios(momentum: float, ratio: Fraction) -> None:
    assert ratio_of(momentum) == ratio


@pytest.mark.parametrize("momentum", [0.99949, 0.9999, 0.9 + 2e-6])
def test_momenta_that_are_not(momentum: float) -> None:
    with pytest.raises(ConfigError, match="no ratio of whole numbers up to 1000"):
        ratio_of(momentum)


def test_a_rate_or_momentum_that_changes_is_refused() -> None:
    for changes in ({"learning_rate": 0.5}, {"momentum": 0.5}):
        net, mover = Network(mlp([5, 7, 3]), Leapfrog()), SGD(0.05, momentum=0.9)
        leapfrog(net, *small_batches(1)[0], cross_entropy, mover)
        for name, value in changes.items():
            setattr(mover, name, value)
        with pytest.raises(ConfigError, match="within a run of rule 'leapfrog'"):
            leapfrog(net, *small_batches(1)[0], cross_entropy, mover)


def test_it_is_momentum() -> None:
    """In double precision it agrees with v = 0.9 v + g, w -= rate v to the units that it counts in."""
    batches = small_batches(60)
    net = trained(hwsim.device("ideal:precision=fp64"), batches)
    other = Network(mlp([5, 7, 3]), hwsim.device("ideal:precision=fp64"))
    mover = SGD(0.05, momentum=0.9)
    for x, labels in batches:
        backprop(other, x, labels, cross_entropy, mover)
    before, found, expected = (
        Network(mlp([5, 7, 3]), hwsim.device("ideal:precision=fp64")).save(),
        net.save(),
        other.save(),
    )
    for name, w in expected.items():
        # A velocity is off by at most n + 1/2 = 9.5 units a step, which live on for 10 steps; each of 60 steps moves
        # w by the rate times that: 285 units. That gradients follow the weights may make it more: ten times is allowed.
        assert abs(found[name] - w).max() < 10 * 9.5 * 10 * 60 * 0.05 * UNIT
        assert abs(w - before[name]).max() > 1e-2


def test_a_run_and_its_trace_ask_for_the_same() -> None:
    batches = small_batches(40)
    run = trained(Leapfrog(), batches)
    trace = Network(mlp([5, 7, 3]), Leapfrog(), shape_only=True)
    mover = SGD(0.05, momentum=0.9)
    for _ in batches:
        leapfrog(trace, Shape(8, 5), Shape(8), cross_entropy, mover)
    assert run.ledger.as_dict() == trace.ledger.as_dict()


def test_the_ledger_holds_the_buffer() -> None:
    """The host holds one register for each of 5 x 7 + 7 + 7 x 3 + 3 values, the machine nothing after a step."""
    device = Leapfrog()
    net = trained(device, small_batches(40))
    expected = 66 * register_bits(NINE_TENTHS, 40)
    assert net.ledger.live_bits[device.host_device] == net.ledger.peak_bits[device.host_device] == expected
    assert expected / (66 * 40) == pytest.approx(-math.log2(0.9), rel=0.5)  # 3.3 bits at its start, then the law
    assert net.ledger.live_bits[device] == 0
    # Forwards of 8 rows hold two words of 20 bits for each output, both layers' at once.
    assert net.ledger.peak_bits[device] == 2 * 20 * 8 * (7 + 3)


# -- and backwards -----------------------------------------------------------------------------------------


def test_steps_are_taken_back_one_by_one() -> None:
    batches = small_batches(90)  # one spill: a head of 63 bits takes a first digit of log2 10 and 0.152 bits a step
    batches = batches * 5
    device = Leapfrog()
    net = Network(mlp([5, 7, 3]), device)
    mover, states, losses = SGD(0.05, momentum=0.9), [net.save()], []
    for x, labels in batches:
        losses.append(leapfrog(net, x, labels, cross_entropy, mover))
        states.append(net.save())
    assert any(len(value) for name, value in mover.state.items() if name.endswith("|spilled"))
    for step in range(len(batches), 0, -1):
        assert same(net.save(), states[step])
        assert undo(net, [batches[step - 1]], cross_entropy) == [losses[step - 1]]
    assert same(net.save(), states[0])
    assert not any(np.any(value) for name, value in mover.state.items() if not name.endswith("|place"))
    assert not any(net.ledger.live_bits.values())
    with pytest.raises(ConfigError, match="only 0 steps could be undone"):
        undo(net, batches[:1], cross_entropy)


def test_training_goes_on_after_some_steps_were_taken_back() -> None:
    batches = small_batches(30)
    expected = trained(Leapfrog(), batches).save()
    net = Network(mlp([5, 7, 3]), Leapfrog())
    mover = SGD(0.05, momentum=0.9)
    for x, labels in batches[:20]:
        leapfrog(net, x, labels, cross_entropy, mover)
    undo(net, batches[19:4:-1], cross_entropy)
    for x, labels in batches[5:]:
        leapfrog(net, x, labels, cross_entropy, mover)
    assert same(net.save(), expected)


def test_start_values_of_the_host_are_rounded_to_units() -> None:
    """Biases that start anywhere: what comes back is what they were rounded to, within 2^-33."""
    data = hwsim.data.load("xor")
    net = Network(xor(), Leapfrog(), seed=3)
    start = net.save()
    mover = SGD(0.5, momentum=0.9)
    batches = [(data.x_train, data.y_train)] * 12
    for x, y in batches:
        leapfrog(net, x, y, squared_error, mover)
    assert not same(net.save(), start)
    undo(net, batches, squared_error)
    end = net.save()
    for name, value in end.items():
        if name.endswith("b:data"):
            assert np.array_equal(value, (np.rint(start[name] / UNIT) * UNIT).astype("f4"))
            assert start[name].any()
        else:
            assert np.array_equal(value, start[name])


def test_frozen_layers_stay() -> None:
    batches = small_batches(10)
    start = Network(mlp([5, 7, 3]), Leapfrog()).save()
    net = trained(Leapfrog(), batches, frozen=["fc1"])
    end = net.save()
    assert all(np.array_equal(end[name], start[name]) == name.startswith("fc1") for name in start if "/w" in name)
    undo(net, batches[::-1], cross_entropy)
    assert same(net.save(), start)


# -- with hwsim.fit ----------------------------------------------------------------------------------------


def settings(**changes: Any) -> dict[str, Any]:
    fixed = {"epochs": 3, "batch": 32, "learning_rate": 0.05, "optimizer": "momentum", "rule": "leapfrog", "seed": 1}
    return {**fixed, **changes}


def test_fit_can_be_run_back_to_the_first_weights() -> None:
    """On the device `reversible`, 8 bits: as accurate as in float, and back bit for bit, with the same losses."""
    model, device = mlp([64, 32, 10]), Reversible.create(None, {})
    start = Network(model, Reversible.create(None, {}), seed=1).save()
    run = hwsim.fit(model, DIGITS, device, **settings(epochs=30))
    control = hwsim.fit(model, DIGITS, "ideal", **settings(epochs=30, rule="backprop"))
    # Images that just one of the nets gets right are as likely of either: their difference has sigma sqrt(all of them).
    right = [each.network.predict(DIGITS.x_test).argmax(axis=-1) == DIGITS.y_test for each in (run, control)]
    apart = int((right[0] != right[1]).sum())
    assert apart <= 18  # 5% of 360
    assert abs(int(right[0].sum()) - int(right[1].sum())) <= 5 * math.sqrt(apart)
    assert control.test_accuracy > 0.9
    net = run.network
    assert not same(net.save(), start)
    held = net.ledger.live_bits[device.host_device] / (net.parameter_count * run.steps)
    assert held == pytest.approx(-math.log2(0.9), rel=0.05)
    back = batches_back(DIGITS, seed=1, batch=32, steps=run.steps)
    losses = undo(net, back, cross_entropy)
    assert same(net.save(), start)
    assert not any(net.ledger.live_bits.values())
    per_epoch = len(DIGITS.x_train) // 32
    assert len(losses) == run.steps == 30 * per_epoch >= 1000
    first = np.mean([float(loss) for loss in losses[-per_epoch:]])
    assert first == pytest.approx(run.epochs[0].loss, rel=1e-12)


def test_a_run_that_was_resumed_can_be_undone(tmp_path: Path) -> None:
    whole = hwsim.fit(mlp([64, 8, 10]), DIGITS, Leapfrog(), **settings())
    path = tmp_path / "a.npz"
    hwsim.fit(mlp([64, 8, 10]), DIGITS, Leapfrog(), checkpoint=path, **settings(epochs=1))
    run = hwsim.fit(mlp([64, 8, 10]), DIGITS, Leapfrog(), checkpoint=path, resume=True, **settings())
    assert same(run.network.save(), whole.network.save())
    undo(run.network, batches_back(DIGITS, seed=1, batch=32, steps=run.steps), cross_entropy)
    assert same(run.network.save(), Network(mlp([64, 8, 10]), Leapfrog(), seed=1).save())


def test_a_run_back_says_whether_the_first_weights_came_back() -> None:
    """By way of an independent comparison; one-hot targets, and biases that start anywhere, included."""
    data = hwsim.data.load("xor")
    device = Reversible.create(None, {"checked": "none"})
    for model, source in ((mlp([64, 8, 10]), DIGITS), (xor(), data)):
        run = hwsim.fit(model, source, device, loss="mse", **settings(epochs=2, batch=4 if source is data else 64))
        trained_j = float(run.ledger.total_j())
        end = run.network.save()
        found = run_back(run.network, source, squared_error, batch=run.batch, steps=run.steps)
        assert (found["steps"], found["bit_for_bit"]) == (run.steps, True)
        assert found["energy_j"] > 0
        assert float(run.ledger.total_j()) == pytest.approx(trained_j + found["energy_j"], rel=1e-12)
        back = run.network.save()
        assert not same(back, end)
        start = Network(model, device, seed=1).save()
        assert all(np.array_equal(back[key], value) for key, value in start.items() if "/w:" in key)
        assert all(abs(back[key] - value).max() <= UNIT / 2 for key, value in start.items() if "/b:" in key)


def test_a_finished_run_that_is_resumed_can_be_undone(tmp_path: Path) -> None:
    """No step is taken by the process that undoes it."""
    path = tmp_path / "a.npz"
    hwsim.fit(mlp([64, 8, 10]), DIGITS, Leapfrog(), checkpoint=path, **settings())
    run = hwsim.fit(mlp([64, 8, 10]), DIGITS, Leapfrog(), checkpoint=path, resume=True, **settings())
    undo(run.network, batches_back(DIGITS, seed=1, batch=32, steps=run.steps), cross_entropy)
    assert same(run.network.save(), Network(mlp([64, 8, 10]), Leapfrog(), seed=1).save())


def test_batches_come_in_the_order_of_fit_reversed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, Any]] = []

    def noting(net: Network, x: Any, y: Any, *rest: Any) -> float:
        seen.append((x, y))
        return 0.0

    monkeypatch.setitem(hwsim.learning.RULES, "noting", noting)
    hwsim.fit(mlp([64, 4, 10]), DIGITS, "ideal", **settings(rule="noting", batch=100))

    def check(batches: Iterator[tuple[Any, Any]], expected: list[tuple[Any, Any]]) -> None:
        found = list(batches)
        assert len(found) == len(expected) > 0
        for (x, y), (x_expected, y_expected) in zip(found, reversed(expected), strict=True):
            assert np.array_equal(x, x_expected)
            assert np.array_equal(y, y_expected)

    check(batches_back(DIGITS, seed=1, batch=100, steps=len(seen)), seen)
    check(batches_back(DIGITS, seed=1, batch=100, steps=len(seen) - 5), seen[:-5])


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_without_momentum_it_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="give it optimizer='momentum'"):
        hwsim.fit(mlp([64, 4, 10]), DIGITS, Leapfrog(), **settings(optimizer=name))
    net = Network(mlp([5, 7, 3]), Leapfrog())
    with pytest.raises(ConfigError, match="give it optimizer='momentum'"):
        leapfrog(net, *small_batches(1)[0], cross_entropy, optimizer(name, 0.1))


def test_noisy_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="not deterministic"):
        trained(StatefulCrossbar(), small_batches(1))


class QuietAbsorber(LearnedAbsorber):
    """One that claims to be deterministic."""

    @property
    def contract(self) -> Contract:
        return replace(super().contract, deterministic=True)


def test_a_substrate_s_own_nonlinearity_is_refused() -> None:
    net = Network(mlp([5, 7, 3], activation="device"), QuietAbsorber())
    start = net.save()
    with pytest.raises(ConfigError, match=r"fc1/activation moves its depth; freeze its layer"):
        leapfrog(net, *small_batches(1)[0], cross_entropy, SGD(0.1, momentum=0.9))
    assert all(np.array_equal(net.save()[name], w) for name, w in start.items() if name.endswith(("w", "b:data")))


def test_there_is_nothing_to_undo_after_another_rule() -> None:
    net = Network(mlp([5, 7, 3]), Leapfrog())
    backprop(net, *small_batches(1)[0], cross_entropy, SGD(0.1, momentum=0.9))
    with pytest.raises(ConfigError, match="nothing to undo"):
        undo(net, small_batches(1), cross_entropy)


@pytest.mark.parametrize("name", ["ideal", "gpu:h100"])
def test_weights_in_floating_point_are_not_undone(name: str) -> None:
    batches = small_batches(30)
    net = trained(hwsim.device(name), batches)
    end = net.save()
    with pytest.raises(ConfigError, match="does not move its weights in whole units"):
        undo(net, batches[:20:-1], cross_entropy)
    assert same(net.save(), end)


def test_a_device_that_is_not_as_exact_as_it_says_is_found_out() -> None:
    """At the first step, by its loss: weights a unit of 2^-12 away change a float32 loss of about 1 in its bits."""
    batches = small_batches(30)
    net = trained(Forgetful(), batches)
    with pytest.raises(TrainingError, match="step 30 does not find its loss again"):
        undo(net, batches[::-1], cross_entropy)


@pytest.mark.parametrize("device", [Leapfrog, lambda: Reversible.create(None, {"checked": "none"})])
def test_other_mini_batches_are_refused_before_anything_moves(device: Any) -> None:
    batches = small_batches(30)
    net = trained(device(), batches)
    end, state = net.save(), dict(net.tape.mover.state)  # type: ignore[union-attr]
    for wrong in (batches[0], (batches[-1][0], batches[0][1])):
        with pytest.raises(TrainingError, match="step 30 was taken with another mini-batch"):
            undo(net, [wrong], cross_entropy)
    assert same(net.save(), end)
    with pytest.raises(TrainingError, match="step 30 does not find its loss again"):
        undo(net, batches[:-2:-1], squared_error_of_classes)
    assert same(net.save(), end)
    assert same(net.tape.mover.state, state)  # type: ignore[union-attr]
    undo(net, batches[::-1], cross_entropy)
    assert same(net.save(), Network(mlp([5, 7, 3]), device()).save())


# Half of the cross-entropy: another loss with the same shapes.
squared_error_of_classes = replace(
    cross_entropy, name="half", forward=lambda xp, *a: (0.5 * cross_entropy.forward(xp, *a)[0], None)
)


# -- what fails in the middle of a step --------------------------------------------------------------------


@pytest.mark.parametrize(("narrow", "moved"), [("fc2", ["fc2/b"]), ("fc1", ["fc2/b", "fc2/w", "fc1/b"])])
def test_a_weight_that_leaves_its_register_stops_a_run_that_can_still_be_undone(narrow: str, moved: list[str]) -> None:
    """One layer without headroom: its step fails after others, moved before it, have moved."""
    batches = small_batches(200)

    def devices() -> dict[str, hwsim.Device]:
        wide, slim = (Reversible.create(None, {"headroom_bits": bits, "checked": "none"}) for bits in (8, 0))
        return {"*": wide, narrow: slim}

    net, mover = Network(mlp([5, 7, 3]), devices()), SGD(0.3, momentum=0.9)
    states, seen = [net.save()], []
    net.ledger.calls.clear()

    def train() -> None:
        for x, labels in batches:
            leapfrog(net, x, labels, cross_entropy, mover)
            states.append(net.save())

    with pytest.raises(TrainingError, match=f"{narrow}/w: a weight leaves its register"):
        train()
    steps = len(states) - 1
    for name, item in net.placed.items():
        if isinstance(item, Tile):  # once a step, and there and back, or in vain, in the one that failed
            op = Product(Kind.UPDATE, 0, item.k, item.n)
            calls = sum(count for (*_, each), count in net.ledger.calls.items() if each == op)
            extra = 2 if name in moved else name.startswith(narrow)
            assert calls == steps + extra
            seen.append(name)
    assert seen == ["fc1/w", "fc2/w"]
    assert steps > 1
    assert same(net.save(), states[-1])
    assert {int(value) for name, value in mover.state.items() if name.endswith("|count")} == {steps}
    undo(net, batches[:steps][::-1], cross_entropy)
    assert same(net.save(), states[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, 2.0**21])
def test_values_beyond_counting_are_refused(value: float) -> None:
    with pytest.raises(NotFiniteError, match="counts to"):
        in_units(np, "w", np.array([1.0, value], dtype="f4"))
    assert in_units(np, "w", np.array([1.0, -0.5], dtype="f4")).tolist() == [2**32, -(2**31)]


def test_velocities_do_not_leave_the_products_of_a_step_changed() -> None:
    """Backwards asks for the same products as forwards, phase by phase: what is undone costs what was done."""
    batches = small_batches(4)
    net = trained(Leapfrog(), batches)
    there = {cell: calls for cell, calls in net.ledger.calls.items() if cell[1] is not Phase.SETUP}
    undo(net, batches[::-1], cross_entropy)
    both = {cell: calls for cell, calls in net.ledger.calls.items() if cell[1] is not Phase.SETUP}
    assert both == {cell: 2 * calls for cell, calls in there.items()}
    assert {op.kind for _, _, _, op in there if isinstance(op, Product)} == {
        Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT, Kind.RELEASE, Kind.UPDATE
    }  # fmt: skip


# -- from the command line ---------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["hwsim", *words.split()])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_the_command_line_trains_by_a_rule_and_runs_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    words = "train mlp:hidden=8 --device reversible:checked=none --optimizer momentum --learning-rate 0.03 --epochs 1"
    words += f" --batch 64 --seeds 2 --no-controls --rule leapfrog --json {path}"
    status, out, _ = command(monkeypatch, capsys, f"{words} --undo")
    assert status == 0
    assert out.count("first weights bit for bit") == 2
    undone = json.loads(path.read_text())
    assert [row["undone"]["bit_for_bit"] for row in undone["rows"]] == [True, True]
    command(monkeypatch, capsys, words)
    plain = json.loads(path.read_text())
    assert plain["bill"] == undone["bill"]  # what a step cost, without the way back
    assert plain["rows"] == [{key: value for key, value in row.items() if key != "undone"} for row in undone["rows"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--rule nope", "no learning rule 'nope'; known: backprop, leapfrog"),
        ("--undo", "give it with --rule leapfrog"),
        ("--rule leapfrog --optimizer momentum --undo --deploy ideal", "without --deploy"),
        ("--rule leapfrog --optimizer momentum --undo", "ideal does not move its weights in whole units"),
        ("--rule leapfrog", "give it optimizer='momentum'"),
    ],
)
def test_what_the_command_line_refuses(
    words: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = command(monkeypatch, capsys, f"train mlp {words}")
    assert (status, out) == (2, "")
    assert message in err

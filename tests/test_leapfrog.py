"""The learning rule `leapfrog`: momentum as it is known, and steps that are taken back bit for bit."""

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hard_devices import Leapfrog, LearnedAbsorber, StatefulCrossbar

import hwsim
from hwsim.arrays import Shape
from hwsim.contract import Contract
from hwsim.cost import Kind, Phase, Product
from hwsim.devices.reversible import Reversible
from hwsim.errors import ConfigError, NotFiniteError, TrainingError
from hwsim.learning.backprop import backprop
from hwsim.learning.information import register_bits
from hwsim.learning.leapfrog import UNIT, batches_back, in_units, leapfrog, undo
from hwsim.losses import cross_entropy, squared_error
from hwsim.models import mlp, xor
from hwsim.nn import Network
from hwsim.optim import SGD, optimizer

DIGITS = hwsim.data.load("digits")
NINE_TENTHS = Fraction(9, 10)


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
    # 360 images at 95%: sigma 1.1 points each, 1.6 of their difference; 5 sigma.
    assert run.test_accuracy > control.test_accuracy - 0.08
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


def test_weights_in_floating_point_do_not_come_back() -> None:
    batches = small_batches(30)
    net = trained(hwsim.device("ideal"), batches)
    with pytest.raises(TrainingError, match="did not lead back"):
        undo(net, batches[::-1], cross_entropy)


def test_other_batches_do_not_lead_back() -> None:
    batches = small_batches(30)
    net = trained(Leapfrog(), batches)
    with pytest.raises(TrainingError, match="did not lead back"):
        undo(net, batches, cross_entropy)  # the first one first


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

"""Calibration: a machine that is known is found again, and a real one is timed, fitted and written down."""

import math
import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_card import Card, install

from hwsim import calibrate, cli, meter, ops, registry, timing
from hwsim.calibrate import TARGETS, Passes, Target, calibrate_to, fit, names_of, written
from hwsim.cost import Z95, Certainty, Elementwise, Kind, Product, Quantity
from hwsim.errors import ConfigError
from hwsim.ledger import Ledger
from hwsim.optim import optimizer
from hwsim.timing import KINDS, Run, Timing, changed, error, inside, moving, passes, predicted, products, timings

TRUE = {
    "call_s": 2e-6, "pack_bytes_per_s": 2e10, "cache_bytes_per_s": 5e10, "memory_bytes_per_s": 1.2e10,
    "flop_per_s.fp32": 8e10, "flop_per_s.fp64": 3e10,
}  # fmt: skip
TRUE_OF_PASSES = {
    "pass_call_s": 3e-6, "vector_flop_per_s": 4e10, "pass_cache_bytes_per_s": 8e10, "pass_memory_bytes_per_s": 9e9,
}  # fmt: skip
CACHE = 2**23
SMALL = Target(
    "numpy",
    TARGETS["cpu"].free,
    TARGETS["cpu"].fitted[:4],
    ((6, 7, 5), (20, 30, 10)),
    capacity="cache_bytes",
    free_of_passes=TARGETS["cpu"].free_of_passes,
    fitted_passes=(Passes(("relu", "layer_norm", "cross_entropy", "adam", "sgd"), ((1, 64), (64, 64), (100, 100))),),
    held_out_passes=(Passes(("tanh", "bias_add"), ((90, 100),)),),
    steps=(((8, 4), 2),),
)


def roofline_s(op: Product, precision: str) -> float:
    """The time of a product on the machine of TRUE, written down anew."""
    size = {"fp32": 4, "fp64": 8}[precision]
    a, b, c = {
        Kind.FORWARD: ((op.m, op.k), (op.k, op.n), (op.m, op.n)),
        Kind.BACKWARD: ((op.m, op.n), (op.n, op.k), (op.m, op.k)),
        Kind.GRADIENT: ((op.k, op.m), (op.m, op.n), (op.k, op.n)),
    }[op.kind]
    operands, results = size * (math.prod(a) + math.prod(b)), size * math.prod(c)
    packed = 0 if 1 in (*a, *b) else operands / TRUE["pack_bytes_per_s"]
    moved = (operands + 2 * results) / TRUE["cache_bytes_per_s"]  # a result's line is fetched, then written
    if operands + results > CACHE:
        moved = max(moved, (operands + 2 * results) / TRUE["memory_bytes_per_s"])
    return TRUE["call_s"] + packed + max(2 * op.m * op.k * op.n / TRUE[f"flop_per_s.{precision}"], moved)


def made_up(target: Target, shapes: Any, noise: float = 0.0, seed: int = 0) -> list[Timing]:
    """Timings of the machine of TRUE."""
    generator = np.random.default_rng(seed)
    return [
        Timing(op, precision, roofline_s(op, precision) * math.exp(noise * generator.standard_normal()), 0.0)
        for precision in ("fp32", "fp64")
        for m, k, n in shapes
        for op in (Product(kind, m, k, n) for kind in KINDS)
    ]


def pass_s(op: Elementwise) -> float:
    """The time of a pass on the machine of TRUE_OF_PASSES, written down anew."""
    moved = op.bytes_read + 2 * op.bytes_written
    beyond = op.bytes_read + op.bytes_written > CACHE
    bounds = [op.flops / TRUE_OF_PASSES["vector_flop_per_s"], moved / TRUE_OF_PASSES["pass_cache_bytes_per_s"]]
    bounds += [moved / TRUE_OF_PASSES["pass_memory_bytes_per_s"]] if beyond else []
    return TRUE_OF_PASSES["pass_call_s"] + max(bounds)


def exactly(values: dict[str, float]) -> Any:
    """A device of just these values, without ranges."""
    base = changed(registry.device("cpu"), {"cache_bytes": CACHE})
    return changed(base, calibrate.parameters(base, {name: Quantity.of(value) for name, value in values.items()}))


# -- fitting -----------------------------------------------------------------------------------------------


def test_a_machine_that_is_a_roofline_is_found_again() -> None:
    target, base = TARGETS["cpu"], registry.device("cpu")
    found = fit(base, names_of(target), made_up(target, target.fitted), "made up", target.capacity)
    assert found.capacity == {"cache_bytes": CACHE}
    assert found.untold == ()
    assert {name: q.nominal for name, q in found.quantities.items()} == pytest.approx(TRUE, rel=1e-4)
    device = changed(base, calibrate.parameters(base, found.quantities) | found.capacity)
    held_out = error(device, made_up(target, target.held_out))
    assert held_out.median < 1e-4
    assert abs(held_out.worst) < 1e-3
    assert held_out.among == 3 * 2 * len(target.held_out)


def test_passes_of_a_roofline_are_found_again() -> None:
    sizes = [(4**i, flops) for i in range(2, 13) for flops in (1, 30)]
    timed = [
        Timing(op, "fp32", pass_s(op), 0.0)
        for op in (Elementwise("made up", size, flops * size, 4 * size, 4 * size) for size, flops in sizes)
    ]
    base = changed(registry.device("cpu"), {"cache_bytes": CACHE})
    found = fit(base, TARGETS["cpu"].free_of_passes, timed, "made up")
    assert {name: q.nominal for name, q in found.quantities.items()} == pytest.approx(TRUE_OF_PASSES, rel=1e-4)
    assert found.misfit < 1e-3


def test_a_range_is_that_of_a_time_and_not_of_a_mean() -> None:
    # 400 times of one product, bound by arithmetic, scatter lognormally by 0.2: the range of the rate is 1.645 x 0.2
    # each way, not that of their mean, which is 20 times narrower. Of |z|, the 90% point has sigma
    # sqrt(0.9 x 0.1 / 400) / 0.206 = 0.073, of 1.645 that is 4.4%; 1000 draws leave 4.1% of each end: 6% together, and
    # 5 sigma are 30%. Of 400 further times 90% are within: sigma sqrt(0.09 / 400 + (0.06 x 1.645 x 0.206)^2) = 0.025.
    shape = ((1024, 1024, 1024),)
    names = ("flop_per_s.fp32",)

    def scattered(seed: int) -> list[Timing]:
        generator = np.random.default_rng(seed)
        op = Product(Kind.FORWARD, *shape[0])
        return [
            Timing(op, "fp32", roofline_s(op, "fp32") * math.exp(0.2 * z), 0.0) for z in generator.standard_normal(400)
        ]

    base = exactly(TRUE)
    found = fit(base, names, scattered(0), "made up")
    rate = found.quantities["flop_per_s.fp32"]
    assert math.log(rate.high / rate.low) / (2 * Z95) == pytest.approx(0.2, rel=0.3)
    assert 0.774 < inside(changed(base, calibrate.parameters(base, found.quantities)), scattered(1)) / 400 < 1


def test_ranges_hold_times_that_were_not_fitted() -> None:
    # 4 machines that scatter by 0.2, 78 products each: 312 times. The 90% point of 126 fitted ones has sigma
    # sqrt(0.09 / 126) = 0.027 in coverage, of 4 machines 0.013; sqrt(0.09 / 312 + 0.013^2) = 0.022, 5 sigma 0.11.
    target, base, within = TARGETS["cpu"], exactly(TRUE), 0
    for seed in range(4):
        found = fit(base, names_of(target), made_up(target, target.fitted, 0.2, seed), "made up")
        device = changed(base, calibrate.parameters(base, found.quantities))
        within += inside(device, made_up(target, target.held_out, 0.2, 100 + seed))
    assert 0.79 < within / 312 < 1


def test_errors_are_those_of_the_predictions() -> None:
    device = registry.device("cpu")
    timed = made_up(TARGETS["cpu"], ((64, 64, 64), (1, 64, 64)))
    exact = [each._replace(time_s=float(s)) for each, s in zip(timed, predicted(device, timed), strict=True)]
    assert error(device, exact)[:2] == (0, 0)
    # Two of twelve measured at half of what is predicted: +100%; the median stays 0.
    off = [each._replace(time_s=each.time_s / 2) if i in (3, 4) else each for i, each in enumerate(exact)]
    found = error(device, off)
    assert (found.median, found.where) == (0, off[3])
    assert found.worst == pytest.approx(1)
    assert str(error(device, off)._replace(inside=9)) == (
        "median 0%, worst +100% (forward m=1 k=64 n=64 fp32); 9 of 12 (75%) within their 90% ranges"
    )
    # Without ranges, a prediction holds what it hits: of 12 times, 5 of which are 1% longer, 7.
    sharp = exactly(TRUE)
    hit = made_up(TARGETS["cpu"], ((64, 64, 64), (1, 64, 64)))
    hit = [t._replace(time_s=float(s)) for t, s in zip(hit, predicted(sharp, hit), strict=True)]
    assert inside(sharp, hit) == 12
    assert inside(sharp, [each._replace(time_s=1.01 * each.time_s) for each in hit[:5]] + hit[5:]) == 7


def test_what_timings_do_not_tell_is_kept() -> None:
    target = TARGETS["cpu"]
    small = [shape for shape in target.fitted if math.prod(shape) < 1e6]  # all within the cache
    found = fit(registry.device("cpu"), names_of(target), made_up(target, small), "made up")
    assert found.untold == ("memory_bytes_per_s",)
    assert "memory_bytes_per_s" not in found.quantities
    assert found.quantities["call_s"].nominal == pytest.approx(TRUE["call_s"], rel=1e-3)


# -- timing ------------------------------------------------------------------------------------------------


def test_what_is_timed_are_the_three_products() -> None:
    device = registry.device("cpu", precision="fp64")
    runs = {run.op.kind: run.once() for run in products(device, (3, 5, 7)) if isinstance(run.op, Product)}
    generator = np.random.default_rng([3, 5, 7])  # the operands, drawn again
    w, x, dy = (generator.standard_normal(size) for size in ((5, 7), (3, 5), (3, 7)))
    for kind, exact in ((Kind.FORWARD, x @ w), (Kind.BACKWARD, dy @ w.T), (Kind.GRADIENT, x.T @ dy)):
        np.testing.assert_allclose(runs[kind], exact, rtol=1e-12)


def test_what_is_timed_of_passes_is_what_they_are_charged_as() -> None:
    # 15 values of 8 B. Forward: read and written once; back: dy and x read, dx written (x stands for what was saved).
    device = registry.device("cpu", precision="fp64")
    x = np.arange(-7.0, 8.0).reshape(3, 5)
    forward, backward = passes(device, ops.relu, (x,))
    assert forward.op == Elementwise("relu", 15, 15, 120, 120)
    assert backward.op == Elementwise("relu_backward", 15, 15, 240, 120)
    y, _ = forward.once()
    np.testing.assert_array_equal(y, x.clip(0))
    np.testing.assert_array_equal(backward.once()[0], x.clip(0))  # dy is y


def test_what_is_timed_of_optimizers_is_what_they_are_charged_as() -> None:
    device = registry.device("cpu", precision="fp64")
    w = np.arange(1.0, 7.0).reshape(2, 3)
    momentum = moving(device, optimizer("momentum", 0.5), w)
    assert momentum.op == Elementwise("momentum", 6, 12, 96, 48)
    np.testing.assert_array_equal(momentum.once(), -0.5 * w)  # the gradient is w, and the running sum starts with it
    np.testing.assert_allclose(momentum.once(), -0.5 * 1.9 * w)
    sgd = moving(device, optimizer("sgd", 0.5), w)
    assert sgd.op == Product(Kind.UPDATE, 0, 2, 3)
    assert sgd.once() is None


def test_a_step_is_the_sum_of_its_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    # One layer: forward, gradient and the weights' move are calls of 1 us. Bias, loss, both derivatives and the bias's
    # own move: 5 passes of 1 ms. All rates are beyond reach: 5.003 ms.
    rates = {name: 1e30 for name in (*TRUE, *TRUE_OF_PASSES) if not name.endswith("call_s")}
    device = exactly({**rates, "call_s": 1e-6, "pass_call_s": 1e-3})
    monkeypatch.setattr(calibrate, "repeated", lambda tasks: (np.array([10.006e-3]), np.zeros(1)))
    found = calibrate.step(device, (3, 2), 4)
    assert found.said == pytest.approx((5.003e-3,) * 3)
    assert str(found) == (
        "A step of mlp 3-2 on 4 rows took 1.001e+04 us, the model says 5003 us, 90% 5003 to 5003 us (ratio 0.50)"
    )


def test_medians_and_spreads_of_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    # Repeats of 1 to 7 s: median 4, quartiles 2.5 and 5.5, spread 3 / 4. Two shapes take turns.
    clock = iter([0.5] * 6 + [float(repeat) for repeat in range(1, 8) for _ in range(6)])
    monkeypatch.setattr(timing, "seconds", lambda run, xp, calls: next(clock))
    runs: list[Run] = [run for shape in ((2, 3, 4), (5, 6, 7)) for run in products(registry.device("cpu"), shape)]
    groups = timings({"some": runs[:2], "none": [], "others": runs[2:]})
    assert {what: len(group) for what, group in groups.items()} == {"some": 2, "others": 4}
    found = [*groups["some"], *groups["others"]]
    assert [each.op for each in found] == [run.op for run in runs]
    assert {(each.time_s, each.spread, each.precision) for each in found} == {(4.0, 0.75, "fp32")}
    assert next(clock, None) is None


# -- the whole ---------------------------------------------------------------------------------------------


def test_a_real_machine_from_timing_to_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "cpu", SMALL)
    monkeypatch.setattr(calibrate, "POWER_S", 1e-3)
    monkeypatch.setattr(meter, "POWERCAP", tmp_path / "nothing")
    path = tmp_path / "mine.toml"
    text = calibrate_to("cpu:dram=lpddr5", path)
    assert f"Preset: cpu:{path}:local" in text
    assert f"NumPy {np.__version__}" in text
    assert "threads: " in text
    assert "Time error on products held out:        median" in text
    assert "of 12 (" in text  # 2 shapes, 3 products, 2 precisions
    assert "Time error on passes held out:          median" in text
    assert "of 8 (" in text  # 2 operations and their derivatives, 2 precisions
    assert "A step of mlp 8-4 on 2 rows took " in text
    assert "the interpreter works, which is not modelled" in text
    assert "Package power is as it was, not measured. RAPL: unavailable" in text
    device, written_values = registry.device(f"cpu:{path}:local"), tomllib.loads(path.read_text())["local"]
    assert device.spec.startswith(f"cpu:{path}:local@")
    assert device.dram == "lpddr5"
    assert device.call_s.certainty is Certainty.MEASURED
    assert device.call_s.nominal == written_values["call_s"]["nominal"] > 0
    assert device.call_s.source.startswith("hwsim calibrate on ")
    assert device.package_power_w.certainty is Certainty.ASSUMED  # no counter, no measurement
    assert device.pass_call_s.certainty is Certainty.MEASURED
    kept, generic = device.pass_memory_bytes_per_s, registry.device("cpu").pass_memory_bytes_per_s
    assert (kept.nominal, kept.certainty) == (generic.nominal, Certainty.ASSUMED)  # nothing so large was timed
    assert re.search("kept as it was: .*memory_bytes_per_s, .*pass_memory_bytes_per_s", text)
    assert "No preset is written" in calibrate_to("cpu", None)


def test_power_is_measured_where_there_is_a_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A package whose counter says 2 J more at each reading, and a clock that ticks 0.5 s at each look.
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0")
    (zone / "max_energy_range_uj").write_text("1000000000")
    monkeypatch.setattr(meter, "POWERCAP", tmp_path)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    joules, clock = iter(range(0, 100, 2)), iter(np.arange(0, 100, 0.5))
    monkeypatch.setattr(meter, "microjoules", lambda path: float(next(joules)))
    ticking = SimpleNamespace(perf_counter=lambda: float(next(clock)), sleep=lambda s: None)
    monkeypatch.setattr(meter, "time", ticking)
    monkeypatch.setattr(calibrate, "time", ticking)
    powers, (said,) = calibrate.package_power(registry.device("cpu"))
    # Waiting: looks at 0 and 0.5 s: 2 J / 0.5 s = 4 W. Working: from 1 s; looks at 1.5 and 2.0 s, which is long enough,
    # and an end at 2.5 s: 2 J / 1.5 s = 1.333 W, within 1 ms / (1.5 s - 1 ms) and 61 uJ.
    assert powers["idle_power_w"].nominal == pytest.approx(4)
    assert powers["package_power_w"].nominal == pytest.approx(4 / 3)
    width = (2 * 1e-3 / 1.499 + 2**-14) / 1.5
    assert powers["package_power_w"].high - powers["package_power_w"].nominal == pytest.approx(width)
    assert "package_power_w 1.33 (1.33 to 1.33) W" in said


def test_what_cannot_be_calibrated_or_written_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device 'digital:int8' cannot be calibrated; can be: cpu, gpu"):
        calibrate_to("digital:int8", None)
    with pytest.raises(ConfigError, match=r"needs a file whose name ends in \.toml"):
        calibrate_to("cpu", tmp_path / "mine.json")
    for value in ("0", "1e-59", "1e39"):  # before anything is timed
        with pytest.raises(ConfigError, match=re.escape(f"call_s={float(value):g} is no value to start a fit from")):
            calibrate_to(f"cpu:call_s={value}", None)
    with pytest.raises(ConfigError, match="there is no folder"):
        calibrate_to("cpu", tmp_path / "none" / "mine.toml")


def test_the_command_says_why_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(sys, "argv", ["hwsim", "calibrate", "--device", "gpu"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("hwsim: CuPy is not installed: ")


def test_values_as_toml() -> None:
    values = {"a": None, "b": 'say "x"', "c": 2**25, "d": Quantity(1e-6, 2e-6, 3e-6, "s", Certainty.MEASURED)}
    back = tomllib.loads("\n".join(f"{key} = {written(value)}" for key, value in values.items()))
    assert back == {
        "a": "none", "b": 'say "x"', "c": 33554432,
        "d": {"nominal": 2e-6, "low": 1e-6, "high": 3e-6, "certainty": "measured", "source": "s"},
    }  # fmt: skip
    assert "exact = true" in written(Quantity(1, 1, 1, "s"))


# -- cards -------------------------------------------------------------------------------------------------


def test_without_cupy_and_without_a_card_are_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ConfigError, match=r"^CuPy is not installed: pip install 'hwsim\[cuda12\]'"):
        calibrate_to("gpu", None)
    monkeypatch.setitem(sys.modules, "cupy", Card(cards=0))
    with pytest.raises(ConfigError, match=r"^CuPy finds no usable GPU: the driver lists none; see nvidia-smi"):
        calibrate_to("gpu", None)


def test_a_card_is_fitted_by_the_model_of_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = TARGETS["gpu"]._replace(fitted=((16, 16, 16), (128, 128, 128), (1, 256, 256)), held_out=((6, 7, 5),))
    monkeypatch.setitem(TARGETS, "gpu", target)
    install(monkeypatch)
    path = tmp_path / "card.toml"
    text = calibrate_to("gpu:a100-80", path)
    assert "gpu:a100-80 on Made-up card; CuPy 14.2.0" in text
    assert "Energy is not fitted" in text
    values = tomllib.loads(path.read_text())["local"]
    assert values["sms"] == 108  # of the preset
    assert values["power_cap_w"] == "none"  # measured rates are what the cap leaves
    assert values["sustained_share"] == {
        "nominal": 1.0, "exact": True, "certainty": "measured", "source": "within the measured rate",
    }  # fmt: skip
    # What is not timed is what it was: 312 TFLOP/s of the data sheet, as far as it was sustained.
    share = registry.device("gpu:a100-80").sustained_share.nominal
    assert values["flop_per_s"]["bf16"]["nominal"] == pytest.approx(312e12 * share)
    assert values["flop_per_s"]["fp32"]["certainty"] == "measured"
    assert set(values["flop_per_s"]) == set(registry.device("gpu:a100-80").flop_per_s)
    # It can be loaded, and is the machine that was fitted: 2 x 4 x 5 x 3 FLOPs in fp32.
    card, half = (registry.device(f"gpu:{path}:local", precision=name) for name in ("fp32", "bf16"))
    uses = card.uses(Product(Kind.FORWARD, 4, 5, 3))
    assert uses["flop"].actions == 120
    assert half.uses(Product(Kind.FORWARD, 4, 5, 3))["flop"].actions == 120
    assert (card.sms, card.power_cap_w) == (108, None)
    assert card.launch_s.nominal == values["launch_s"]["nominal"]
    ledger = Ledger()
    ledger.charge(card, Product(Kind.FORWARD, 4, 5, 3))
    assert ledger.time_s >= card.launch_s.nominal

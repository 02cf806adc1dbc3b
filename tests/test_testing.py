"""The conformance kit: good devices pass, every check catches a broken one, and reports say what they should."""

import ast
import dataclasses
import importlib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from broken import (
    BROKEN,
    BelowLandauer,
    CommonNoise,
    Counts,
    Drifts,
    FrozenNoise,
    Glutton,
    Good,
    Hosted,
    Noisy,
    NumPyOnly,
    SameNoiseBothWays,
    WeightNoise,
)

import hwsim
from hwsim import arrays, registry, testing
from hwsim.cost import Part
from hwsim.device import Device
from hwsim.errors import ConfigError, HwsimError
from hwsim.ledger import Ledger
from hwsim.precision import policies
from hwsim.testing import CHECKS, ConformanceError, Outcome, Result, check_device, run
from hwsim.testing.bench import Bench, train

BUILT_IN = {
    "ideal": "hwsim.devices.ideal:Ideal",
    "digital": "hwsim.devices.digital:Digital",
    "cpu": "hwsim.devices.cpu:Cpu",
    "gpu": "hwsim.devices.gpu:Gpu",
}
# Their presets have tests of their own, as each takes seconds; here is one of each, with the strict array library.
SLOW = {
    "aware": "hwsim.devices.crossbar.aware:Aware",
    "crossbar:idealized": "hwsim.devices.crossbar:Crossbar",
    "optical:slm": "hwsim.devices.optical:Optical",
    "reversible": "hwsim.devices.reversible:Reversible",
}
# No device can fail these by its hooks alone, or only with a second array library: they have tests of their own.
APART = {"ledger_adds_up", "joules_per_mac", "array_libraries"}


@pytest.fixture(autouse=True)
def built_in_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in devices by name, whether or not hwsim is installed."""
    known = BUILT_IN | {spec.partition(":")[0]: value for spec, value in SLOW.items()}
    points = [EntryPoint(name, value, registry.DEVICES) for name, value in known.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in points if p.group == group])


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second array library, as strict as CuPy."""
    monkeypatch.setitem(arrays.LIBRARIES, "strict", "strict_array")


def failures(make: Callable[[], Device]) -> dict[str, str]:
    """The messages of the checks that fail, by name."""
    return {result.name: result.message for result in check_device(make, raise_on_failure=False).failures}


def name_of(make: object) -> str:
    return getattr(make, "__name__", None) or str(getattr(make, "func", make).__name__)


# -- good devices pass -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    ("make", "skipped"),
    [
        (Good, {"independent_streams", "fresh_noise", "within_stated_rate"}),
        (Counts, {"independent_streams", "fresh_noise", "within_stated_rate"}),
        (Noisy, {"deterministic", "noise_free", "within_stated_rate"}),
        (
            Hosted,
            {
                "deterministic",
                "noise_free",
                "own_activation_shapes",
                "own_activation_differences",
                "work_on_values",
                "within_stated_rate",
            },
        ),
    ],
)
def test_a_good_device_passes_and_little_is_skipped(make: type[Device], skipped: set[str]) -> None:
    report = check_device(make)
    assert report.ok
    assert {result.name for result in report.results if result.outcome is Outcome.SKIPPED} == skipped
    assert [result.name for result in report.results] == list(CHECKS)


@pytest.mark.parametrize("make", [Noisy, WeightNoise, CommonNoise, FrozenNoise])
def test_good_noise_of_any_kind_raises_no_alarm_whatever_the_seeds(make: type[Device]) -> None:
    # 12 pairs of seeds x 13 correlations at 5 sigma, sigma from n = 32 pairs (t of 31 degrees: 2e-5 each): 0.3%
    # that any strays by chance. Seeds are fixed, so that it either does or does not.
    for seed in range(12):
        bench = Bench(make, (seed, seed + 100))
        assert run("independent_streams", bench).outcome is Outcome.PASSED, run("independent_streams", bench).message
        assert run("fresh_noise", bench).outcome is Outcome.PASSED
        # One comparison more, at 5 sigma from n = 32 tiles: 0.02% that any of the 12 strays.
        found = run("evaluation_noise", Bench(lambda seed=seed: make(seed=seed), (seed, seed + 100)))
        assert found.outcome is Outcome.PASSED, found.message


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.usefixtures("strict")
def test_built_in_devices_pass_at_every_preset_and_precision(name: str) -> None:
    module, _, attribute = BUILT_IN[name].partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    specs = [name, *(f"{name}:{preset}" for preset in cls.presets())]
    if "precision" in cls.__dataclass_fields__:
        specs += [f"{name}:precision={precision}" for precision in (*policies(), "fixed4.12")]
    passed = 0
    for spec in specs:
        try:
            registry.device(spec)
        except HwsimError:
            assert "precision=" in spec, spec  # a precision that this device does not offer
            continue
        report = check_device(lambda spec=spec: registry.device(spec), raise_on_failure=False)
        assert report.ok, f"{report}"
        passed += 1
    assert passed > len(cls.presets()) + 1


@pytest.mark.parametrize("spec", SLOW)
@pytest.mark.usefixtures("strict")
def test_slower_built_in_devices_pass_too(spec: str) -> None:
    report = check_device(lambda: registry.device(spec), raise_on_failure=False)
    assert report.ok, f"{report}"


# -- broken devices are caught ---------------------------------------------------------------------------------


def test_every_check_has_a_device_that_it_catches() -> None:
    assert BROKEN.keys() | APART == CHECKS.keys()


@pytest.mark.parametrize(
    ("name", "make"),
    [(name, make) for name, makers in BROKEN.items() for make in makers],
    ids=lambda value: value if isinstance(value, str) else name_of(value),
)
def test_a_broken_device_is_caught_by_the_check_that_names_it(name: str, make: Callable[[], Device]) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_device(make)
    assert name in {result.name for result in caught.value.report.failures}
    assert f"  {name}: failed: " in str(caught.value)


def test_a_device_of_a_local_class_cannot_be_pickled() -> None:
    class Local(Good):
        pass

    assert "Local" in failures(Local)["pickling"]


def test_a_cost_that_history_changes_is_caught_by_name() -> None:
    assert "again" in failures(BROKEN["cost_pure"][0])["cost_pure"]


def test_joules_that_are_left_out_of_the_ledger_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken final code of Ledger: one part of the energy, or the time of one operation, is left out."""
    rows = Ledger.energy_rows

    def without(part: Part) -> Callable[..., Iterator[object]]:
        return lambda self, **options: (row for row in rows(self, **options) if row[0].part is not part)

    for part in Part:
        monkeypatch.setattr(Ledger, "energy_rows", without(part))
        assert "energy" in failures(lambda: Hosted(host=Good()))["ledger_adds_up"], part
    monkeypatch.setattr(Ledger, "energy_rows", rows)
    times = Ledger.time_rows
    monkeypatch.setattr(Ledger, "time_rows", lambda self, **options: list(times(self, **options))[1:])
    assert "time" in failures(Good)["ledger_adds_up"]


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("make", [NumPyOnly, SameNoiseBothWays])
def test_a_device_that_uses_numpy_on_its_arrays_is_caught(make: type[Device]) -> None:
    assert "TypeError" in failures(make)["array_libraries"]


@pytest.mark.usefixtures("strict")
def test_other_results_on_another_array_library_are_caught() -> None:
    class Differs(Good):
        def forward(self, tile, x):  # type: ignore[no-untyped-def]
            return super().forward(tile, x) * (1 if self.array == "numpy" else 1.01)

    assert "strict and numpy differ" in failures(Differs)["array_libraries"]


@pytest.mark.parametrize(("make", "words"), [(BelowLandauer, "kT ln 2"), (Glutton, "lies outside")])
def test_strange_joules_per_mac_are_called_out_but_pass(make: type[Device], words: str) -> None:
    report = check_device(make)
    assert words in report["joules_per_mac"].message
    assert [note.name for note in report.notes] == ["joules_per_mac"]
    assert not check_device(Good).notes


def test_measured_errors_are_those_of_the_device() -> None:
    report = check_device(Noisy)
    # y = x w has mean square 48/16 = 3 and additive noise 0.02^2; programming adds a relative 0.01^2.
    # 24 tiles of 16 x 32 values: sigma of an RMS is about 1/sqrt(2 x 12288) = 0.6%, 5 sigma 3.2%; w is cut at 4 sigma.
    wanted = np.sqrt(0.02**2 / 3 + 0.01**2)
    assert report["claim_forward"].measured == pytest.approx(wanted, rel=0.04)
    # The noise of reading, 1e-4 on steps of 0.01, is taken out of the error of updates. 24 x 48 x 32 values: 1.8%.
    assert report["claim_update"].measured == pytest.approx(0.1, rel=0.02)


# -- expectations, and reports -----------------------------------------------------------------------------------


def test_an_expected_failure_with_a_reason_is_no_failure() -> None:
    report = check_device(Drifts, expected_failures=dict.fromkeys(failures(Drifts), "it drifts, as said in the readme"))
    assert report.ok
    assert report["independent_streams"].outcome is Outcome.EXPECTED_FAILURE
    assert report["independent_streams"].message.startswith("it drifts, as said in the readme (")


def test_a_surprise_pass_fails() -> None:
    with pytest.raises(ConformanceError, match="bias: surprise pass"):
        check_device(Good, expected_failures={"bias": "expected to lean"})


def test_expectations_need_known_names_and_reasons() -> None:
    with pytest.raises(ConfigError, match=r"no check biass to expect a failure of; there are: .*bias"):
        check_device(Good, expected_failures={"biass": "typo"})
    with pytest.raises(ConfigError, match="bias: needs a reason"):
        check_device(Good, expected_failures={"bias": " "})


def test_make_must_return_new_devices_alike() -> None:
    device = Good()
    with pytest.raises(ConfigError, match="a new device at each call"):
        check_device(lambda: device)
    energies = iter([1e-12, 2e-12])
    with pytest.raises(ConfigError, match="all alike"):
        check_device(lambda: Good(mac_energy_j=next(energies)))


def test_seeds_must_differ() -> None:
    with pytest.raises(ConfigError, match="two different"):
        check_device(Good, seeds=(3, 3))


def test_another_seed_keeps_everything_else() -> None:
    device = registry.device("digital:int8:node_nm=45")
    other = dataclasses.replace(device, seed=7)
    assert other.seed == 7
    for field in dataclasses.fields(device):
        if field.name != "seed":
            assert getattr(other, field.name) == getattr(device, field.name), field.name
    assert dict(other.components) == dict(device.components)


def test_a_report_is_an_aligned_table() -> None:
    report = check_device(Noisy)
    lines = str(report).splitlines()
    assert lines[0] == "noisy:"
    claimed, measured = (lines[1].index(word) for word in ("claimed", "measured"))
    line = next(line for line in lines if line.startswith("claim_forward"))
    assert line[claimed:].split()[0] == "0.016"
    assert float(line[measured:].split()[0]) == pytest.approx(report["claim_forward"].measured, rel=0.01)
    assert len(lines) == len(CHECKS) + 3
    assert lines[-1].startswith(f"{sum(r.outcome is Outcome.PASSED for r in report.results)} passed")


def test_progress_is_told_as_checks_end() -> None:
    seen: list[Result] = []
    report = check_device(Good, progress=seen.append)
    assert tuple(seen) == report.results


def test_every_check_says_what_it_demands() -> None:
    for name, demand in testing.checks().items():
        assert demand.endswith("."), name
        assert len(demand) > 30, name


def test_the_kit_needs_no_test_framework() -> None:
    for path in Path(hwsim.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("pytest", "hypothesis") for name in names), path


# -- the strict stand-in for CuPy ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("activation", ["relu", "device"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_training_on_the_strict_library_equals_training_on_numpy(optimizer: str, activation: str) -> None:
    runs = [train(Good(array=name), optimizer=optimizer, activation=activation) for name in ("numpy", "strict")]
    assert runs[1].losses == pytest.approx(runs[0].losses, rel=1e-6)
    saved = [run.net.save() for run in runs]
    for key, value in saved[0].items():
        assert saved[1][key] == pytest.approx(value, rel=1e-6), key


@pytest.mark.usefixtures("strict")
def test_a_host_that_is_named_has_the_array_library_of_its_device() -> None:
    quiet = {"read_noise": 0, "write_noise": 0, "step_noise": 0}
    runs = [train(Hosted(array=name, **quiet), optimizer="adam") for name in ("numpy", "strict")]
    assert runs[1].losses == pytest.approx(runs[0].losses, rel=1e-6)


@pytest.mark.usefixtures("strict")
def test_strict_arrays_refuse_numpy() -> None:
    xp, one = arrays.namespace("strict"), np.ones(3)
    x = xp.asarray(one)
    for mix in (
        lambda: np.asarray(x),
        lambda: np.sqrt(x),
        lambda: np.concatenate([x, x]),
        lambda: x + one,
        lambda: one + x,
        lambda: xp.maximum(x, one),
        lambda: one @ x,
        lambda: x.__setitem__(0, one[:1].reshape(())),
        lambda: xp.stack([x, one]),
    ):
        with pytest.raises(TypeError):
            mix()
    assert float(x.sum()) == 3.0  # as CuPy does: it waits for the card
    assert type(x.get()) is np.ndarray
    x += 1
    view = x.reshape(3, 1)[1:].swapaxes(0, 1)
    view[...] = 5
    assert x.get().tolist() == [2, 5, 5]
    assert one.tolist() == [1, 1, 1]


@pytest.mark.usefixtures("strict")
def test_strict_generators_offer_what_cupy_offers() -> None:
    xp = arrays.namespace("strict")
    rng = arrays.generator(xp, key=3, index=1)
    assert rng.standard_normal((2, 3), dtype=xp.float32).dtype == np.float32
    assert rng.poisson(xp.ones((2, 2)) * 3).shape == (2, 2)
    with pytest.raises(AttributeError, match="normal"):
        rng.normal(0, 1)
    with pytest.raises(TypeError, match="Python numbers"):
        rng.poisson(np.float64(3), size=4)
    again = arrays.generator(xp, key=3, index=1)
    assert (again.random(4).get() == arrays.generator(xp, key=3, index=1).random(4).get()).all()
    assert (again.random(4).get() != arrays.generator(xp, key=3, index=2).random(4).get()).any()

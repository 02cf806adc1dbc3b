"""Plug-ins: names with presets and parameters, devices from files and from strangers' packages."""

import importlib.metadata
import json
import os
import pickle
import subprocess
import sys
import sysconfig
import tomllib
import venv
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from hwsim import registry
from hwsim.errors import ConfigError, DeviceError, HwsimError, PluginError
from hwsim.registry import DeviceName, parse_device
from hwsim.scaffold import new_device
from hwsim.testing import check_device

REPOSITORY = Path(__file__).parents[1]
BUILT_IN = {"ideal": "hwsim.devices.ideal:Ideal", "digital": "hwsim.devices.digital:Digital"}

STRANGER = '''\
"""A stranger's device, as short as they come."""

from hwsim import Component, Device, Kind, Product, Use, parameter


class Stranger(Device):
    """Beads on wires."""

    name = "stranger"
    wires: int = parameter(8, unit="wires", doc="wires side by side", low=1)

    @property
    def components(self):
        return {"bead": Component(energy_j=2e-12, time_s=1e-9)}

    def activity(self, op):
        if not isinstance(op, Product) or op.kind in (Kind.GRADIENT, Kind.PRODUCT):
            return None
        if op.kind in (Kind.UPDATE_OUTER, Kind.RELEASE):
            return None
        return {"bead": Use(op.stack * max(op.m, 1) * op.k * op.n, self.wires)}
'''


def install(monkeypatch: pytest.MonkeyPatch, devices: dict[str, str], models: dict[str, str] | None = None) -> None:
    """Make these the only installed plug-ins."""
    points = [EntryPoint(name, value, registry.DEVICES) for name, value in devices.items()]
    points += [EntryPoint(name, value, registry.MODELS) for name, value in (models or {}).items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in points if p.group == group])


@pytest.fixture(autouse=True)
def built_in_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two built-in devices by name, whether or not hwsim is installed."""
    install(monkeypatch, BUILT_IN)


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("crossbar", DeviceName("crossbar", None, {})),
        ("  crossbar ", DeviceName("crossbar", None, {})),
        ("crossbar:pcm", DeviceName("crossbar", "pcm", {})),
        ("crossbar:adc_bits=6", DeviceName("crossbar", None, {"adc_bits": "6"})),
        ("crossbar:pcm:adc_bits=6:seed=3", DeviceName("crossbar", "pcm", {"adc_bits": "6", "seed": "3"})),
        ("gpu:formula=a=b", DeviceName("gpu", None, {"formula": "a=b"})),
        (
            "crossbar:cell=my/cells.py:MyCell:adc_bits=6",
            DeviceName("crossbar", None, {"cell": "my/cells.py:MyCell", "adc_bits": "6"}),
        ),
        (
            "crossbar:pcm:cell=cells.py:MyCell",
            DeviceName("crossbar", "pcm", {"cell": "cells.py:MyCell"}),
        ),
        (
            "crossbar:ecram:cell=my/cells.toml:mine:adc_bits=6",
            DeviceName("crossbar", "ecram", {"cell": "my/cells.toml:mine", "adc_bits": "6"}),
        ),
        ("path/to/file.py:Mine", DeviceName("path/to/file.py:Mine", None, {})),
        ("path/to/file.py:Mine:key=value", DeviceName("path/to/file.py:Mine", None, {"key": "value"})),
        ("path/to/file.py:Mine:preset:key=1", DeviceName("path/to/file.py:Mine", "preset", {"key": "1"})),
    ],
)
def test_a_device_name_is_split(text: str, parsed: DeviceName) -> None:
    assert parse_device(text) == parsed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty part"),
        (":pcm", "empty part"),
        ("crossbar:", "empty part"),
        ("crossbar::seed=1", "empty part"),
        ("crossbar:pcm:es", "'es' is not key=value"),
        ("crossbar:seed=1:pcm", "'pcm' is not key=value"),
        ("crossbar:seed=", "'seed=' is not key=value"),
        ("crossbar:=1", "'=1' is not key=value"),
        ("crossbar:seed=1:seed=2", "gives 'seed' twice"),
    ],
)
def test_a_malformed_name_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        parse_device(text)


def test_an_unknown_device_is_answered_with_what_there_is() -> None:
    with pytest.raises(DeviceError) as caught:
        registry.device("digtal:int8")
    assert str(caught.value) == "no device 'digtal'; installed: digital, ideal; did you mean 'digital'?"


def test_an_unknown_preset_is_answered_with_what_there_is() -> None:
    with pytest.raises(DeviceError, match=r"no preset of 'digital' called 'int9'; .*did you mean 'int8'"):
        registry.device("digital:int9")


def test_an_unknown_parameter_is_answered_with_names_and_units() -> None:
    with pytest.raises(DeviceError, match=r"'digital' has no parameter 'node'; it has: .*node_nm \[nm\].*seed"):
        registry.device("digital:node=45")


def test_a_value_out_of_bounds_is_answered_with_the_bounds() -> None:
    with pytest.raises(DeviceError, match=r"node_nm='1': needs a finite value from 5 to 130 nm"):
        registry.device("digital:node_nm=1")


def test_keywords_override_the_text() -> None:
    device = registry.device("digital:fp32:seed=1", preset="int8", seed=2)
    assert (device.precision, device.seed) == ("int8", 2)


def test_an_unknown_model_is_answered_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, BUILT_IN, {"mlp": "hwsim.models.mlp:mlp"})
    assert registry.model("mlp", [4, 3]).widths == (4, 3)
    with pytest.raises(DeviceError, match="no model 'mpl'; installed: mlp; did you mean 'mlp'"):
        registry.model("mpl")


# -- devices from files ----------------------------------------------------------------------------------------


@pytest.fixture
def stranger_file(tmp_path: Path) -> Path:
    path = tmp_path / "beads.py"
    path.write_text(STRANGER)
    return path


def test_a_device_comes_from_a_file(stranger_file: Path) -> None:
    device = registry.device(f"{stranger_file}:Stranger:wires=3")
    assert (device.name, device.wires) == ("stranger", 3)
    assert device.spec == f"{stranger_file}:Stranger:wires=3"
    assert type(registry.device(f"{stranger_file}:Stranger")) is type(device)
    check_device(lambda: registry.device(f"{stranger_file}:Stranger:wires=3"))


def test_a_device_from_a_file_can_be_pickled(stranger_file: Path) -> None:
    device = registry.device(f"{stranger_file}:Stranger:wires=3")
    copied = pickle.loads(pickle.dumps(device))
    assert type(copied) is type(device)
    assert (copied.wires, copied.spec) == (3, device.spec)


def test_a_device_from_a_file_can_be_pickled_to_another_process(stranger_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "device.pickle"
    path.write_bytes(pickle.dumps(registry.device(f"{stranger_file}:Stranger:wires=3")))
    load = f"import hwsim, pickle; device = pickle.load(open({str(path)!r}, 'rb')); print(device.spec, device.wires)"
    done = subprocess.run(
        [sys.executable, "-c", load], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == [f"{stranger_file}:Stranger:wires=3", "3"], done.stderr


def test_files_that_offer_no_device_say_so(stranger_file: Path) -> None:
    with pytest.raises(DeviceError, match="names a file but no class"):
        registry.device(str(stranger_file))
    with pytest.raises(DeviceError, match="did you mean 'Stranger'"):
        registry.device(f"{stranger_file}:Stanger")
    with pytest.raises(DeviceError, match=r"no file 'nowhere\.py'"):
        registry.device("nowhere.py:Stranger")
    with pytest.raises(PluginError, match="not a class with an `activity` method"):
        registry.device(f"{stranger_file}:Component")


def test_a_file_that_does_not_import_says_why_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "late.py"
    path.write_text("import no_such_module_at_all\n")
    known = set(sys.modules)
    with pytest.raises(PluginError, match="no_such_module_at_all"):
        registry.device(f"{path}:Late")
    assert set(sys.modules) == known
    path.write_text(STRANGER)
    assert registry.device(f"{path}:Stranger").name == "stranger"


# -- entry points ------------------------------------------------------------------------------------------------


def test_a_plug_in_that_fails_is_warned_about_and_breaks_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {**BUILT_IN, "broken": "no_such_module_at_all:Device", "gone": "hwsim.errors:NoSuchClass"})
    with pytest.warns(RuntimeWarning) as warned:
        found = registry.devices()
    assert sorted(found) == ["digital", "ideal"]
    texts = sorted(str(warning.message) for warning in warned)
    assert len(texts) == 2
    assert texts[0].startswith("device 'broken' (no_such_module_at_all:Device) could not be imported: ModuleNotFound")
    assert texts[1].startswith("device 'gone' (hwsim.errors:NoSuchClass) could not be imported: AttributeError")
    assert registry.device("ideal").name == "ideal"
    with pytest.raises(PluginError, match="device 'broken'"):
        registry.device("broken")


def test_a_plug_in_that_is_no_device_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"odd": "hwsim.errors:ConfigError"})
    with pytest.raises(PluginError, match=r"device 'odd' is .*ConfigError.*not a class with an `activity` method"):
        registry.device("odd")


def test_a_name_that_two_plug_ins_claim_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("ideal", "hwsim.devices.ideal:Ideal", registry.DEVICES),
        EntryPoint("ideal", "zzz_other:Ideal", registry.DEVICES),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.warns(RuntimeWarning, match=r"two plug-ins are called 'ideal': hwsim.devices.ideal:Ideal is used, zzz"):
        assert registry.device("ideal").name == "ideal"


def test_the_same_plug_in_found_twice_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("ideal", "hwsim.devices.ideal:Ideal", registry.DEVICES)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point, point])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(registry.installed(registry.DEVICES)) == ["ideal"]


def test_a_command_is_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"parse": "hwsim.registry:parse_device", "broken": "no_such_module_at_all:go", "text": "hwsim:__version__"}
    points = [EntryPoint(name, value, registry.COMMANDS) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert registry.command("parse") is parse_device
    with pytest.raises(PluginError, match=r"command 'broken' \(no_such_module_at_all:go\) could not be imported"):
        registry.command("broken")
    with pytest.raises(PluginError, match=r"command 'text' is '.*', not a function"):
        registry.command("text")
    with pytest.raises(DeviceError, match="no command 'pars'; installed: broken, parse, text; did you mean 'parse'"):
        registry.command("pars")


def test_nothing_is_imported_to_list_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"broken": "no_such_module_at_all:Device"})
    assert list(registry.installed(registry.DEVICES)) == ["broken"]


def test_every_error_of_the_registry_is_one_of_hwsim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [SimpleNamespace(name="x", value="y", load=lambda: 1 / 0)]
    )
    for text in ("x", "nope", "nope.py:X", "", "x:=", "digital"):
        with pytest.raises(HwsimError):
            registry.device(text)
    with pytest.raises(ConfigError):
        new_device("NOT A NAME", Path())


# -- a stranger's package, installed ---------------------------------------------------------------------------------

SCRIPT = """\
import json, warnings
warnings.simplefilter("error")
import hwsim
from hwsim import registry
from hwsim.testing import check_device

found = {}
for name in ("stranger", "new-chip"):
    report = check_device(lambda: registry.device(name))
    model = registry.model("mlp", [64, 16, 10])
    run = hwsim.fit(model, hwsim.data.load("digits"), registry.device(name, seed=1), epochs=1)
    found[name] = {"passed": report.ok, "checks": len(report.results), "energy_j": run.ledger.energy_j}
found["devices"] = sorted(registry.devices())
found["file"] = hwsim.__file__
print(json.dumps(found))
"""


def build_tools_missing() -> str:
    """Why no package can be built here; empty where it can."""
    try:
        version = importlib.metadata.version("setuptools")
        importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError as error:
        return f"{error.name} is not installed"
    if int(version.split(".")[0]) >= 71:  # from here on it builds wheels by itself
        return ""
    try:
        importlib.metadata.version("wheel")
    except importlib.metadata.PackageNotFoundError:
        return f"setuptools {version} builds no wheels, and the package wheel is not installed"
    return ""


def fresh_environment(folder: Path) -> Path:
    """The Python of a new environment with hwsim in it, installed from the working tree by hand, as editable ones are.

    What this interpreter has (NumPy, pip, setuptools) is there by a path file: a virtual environment's
    --system-site-packages shows those of the base interpreter, not those of the environment that made it.
    """
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder)
    variables = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", scheme="venv", vars=variables))
    mine = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "hwsim.pth").write_text("\n".join([str(REPOSITORY), *mine]) + "\n")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    info = site / f"hwsim-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hwsim\nVersion: {project['version']}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return Path(sysconfig.get_path("scripts", scheme="venv", vars=variables)) / Path(sys.executable).name


@pytest.mark.packaging
def test_strangers_packages_are_installed_found_checked_and_trained(tmp_path: Path) -> None:
    if reason := build_tools_missing():
        pytest.skip(reason)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "beads.py").write_text(STRANGER)
    assert len([line for line in STRANGER.splitlines() if line.strip()]) <= 20
    (stranger / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "beads"\nversion = "1"\n'
        '[project.entry-points."hwsim.devices"]\nstranger = "beads:Stranger"\n'
        '[tool.setuptools]\npy-modules = ["beads"]\n'
    )
    new_chip = new_device("new-chip", tmp_path)[0].parent
    python = fresh_environment(tmp_path / "environment")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(python), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pip = ("-m", "pip", "--disable-pip-version-check", "--isolated", "install", "--no-deps", "--no-index")
    run(*pip, "--no-build-isolation", str(stranger), str(new_chip))
    found = json.loads(run("-c", SCRIPT).splitlines()[-1])
    assert {"stranger", "new-chip", *BUILT_IN} <= set(found["devices"])
    for name in ("stranger", "new-chip"):
        assert found[name]["passed"], found
        assert found[name]["checks"] > 30, found
        assert found[name]["energy_j"] > 0, found
    assert Path(found["file"]).is_relative_to(REPOSITORY)

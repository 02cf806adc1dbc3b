"""`hwsim new-device`: what it writes is a device that passes, and what it refuses."""

import importlib
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from hwsim import registry
from hwsim.errors import ConfigError
from hwsim.scaffold import new_device


@pytest.fixture(autouse=True)
def built_in_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default host by name, whether or not hwsim is installed."""
    point = EntryPoint("digital", "hwsim.devices.digital:Digital", registry.DEVICES)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.DEVICES else [])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a new package, importable; its modules are forgotten afterwards."""
    known = set(sys.modules)
    root = new_device("my-chip2", tmp_path)[0].parent
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.syspath_prepend(str(root / "tests"))
    yield root
    for name in set(sys.modules) - known:
        if "my_chip2" in name:
            del sys.modules[name]


def test_a_new_device_is_a_small_package(tmp_path: Path) -> None:
    files = new_device("my-chip2", tmp_path)
    root = tmp_path / "hwsim-my-chip2"
    assert {str(path.relative_to(root)) for path in files} == {
        "pyproject.toml",
        "README.md",
        "hwsim_my_chip2/__init__.py",
        "hwsim_my_chip2/device.py",
        "hwsim_my_chip2/presets.toml",
        "tests/test_hwsim_my_chip2.py",
    }
    assert all(path.is_file() for path in files)
    text = (root / "hwsim_my_chip2/device.py").read_text()
    assert len(text.splitlines()) < 60
    assert "{" not in text.replace("{\n", "").replace('{"', "")  # no place left that should have been filled in
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert project["project"]["entry-points"][registry.DEVICES] == {"my-chip2": "hwsim_my_chip2:MyChip2"}
    assert project["tool"]["setuptools"]["package-data"] == {"hwsim_my_chip2": ["*.toml"]}


def test_every_value_of_a_new_device_has_a_unit_a_range_and_a_source(package: Path) -> None:
    device = importlib.import_module("hwsim_my_chip2").MyChip2.create(None, {})
    assert device.mac_energy_j.nominal == pytest.approx(1e-12)  # 1 pJ
    assert device.static_power_w.high == pytest.approx(1.0)  # 1000 mW
    for name in ("mac_energy_j", "mac_time_s", "write_energy_j", "write_time_s", "static_power_w"):
        quantity = getattr(device, name)
        assert quantity.low < quantity.nominal < quantity.high, name
        assert quantity.source, name
        assert type(device).__dataclass_fields__[name].metadata["unit"] in ("J", "s", "W"), name


def test_a_new_device_passes_its_own_tests(package: Path) -> None:
    tests: ModuleType = importlib.import_module("test_hwsim_my_chip2")
    ran = [name for name in vars(tests) if name.startswith("test_")]
    for name in ran:
        getattr(tests, name)()
    assert ran == ["test_conformance", "test_energy_of_a_forward_product"]


def test_the_tests_of_a_new_device_can_fail(package: Path) -> None:
    tests: ModuleType = importlib.import_module("test_hwsim_my_chip2")
    tests.make = lambda: tests.MyChip2.create(None, {"units": 1, "host": None})  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="answered: failed"):
        tests.test_conformance()


@pytest.mark.parametrize("name", ["", "MyChip", "2chip", "my chip", "my--chip", "-chip", "chip-", "my.chip", "../chip"])
def test_names_that_are_no_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="such as my-chip"):
        new_device(name, tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["device", "component", "none", "use"])
def test_names_whose_class_is_in_use_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"as my-{name}"):
        new_device(name, tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_name_of_an_installed_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'digital' is taken"):
        new_device("digital", tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "none", "none/deeper"):
        with pytest.raises(ConfigError, match=f"no folder .*{name}"):
            new_device("chip", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_takes_no_files_is_refused() -> None:
    with pytest.raises(ConfigError, match="/proc/hwsim-chip cannot be written: "):
        new_device("chip", Path("/proc"))


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "hwsim-chip").mkdir()
    (tmp_path / "hwsim-chip" / "mine.txt").write_text("work of years")
    with pytest.raises(ConfigError, match="exists"):
        new_device("chip", tmp_path)
    assert [path.name for path in (tmp_path / "hwsim-chip").iterdir()] == ["mine.txt"]

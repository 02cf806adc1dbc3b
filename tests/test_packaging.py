"""What is in the wheel: every package, every data file, and a tool that runs from another folder."""

import fnmatch
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

import hwsim

ROOT = Path(__file__).parents[1]
SOURCES = {"hwsim": ROOT / "hwsim", "hwsim.devices": ROOT / "devices", "hwsim.models": ROOT / "models"}
LINKS = ("devices", "models")  # in hwsim/, to the folders at the top


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files_of(package: str) -> Iterator[Path]:
    """Every file that belongs in the wheel, of `package` and what lies below it."""
    top = SOURCES[package]
    for folder, folders, names in os.walk(top):
        folders[:] = [
            name for name in folders if name != "__pycache__" and not (Path(folder) == ROOT / "hwsim" and name in LINKS)
        ]
        yield from (Path(folder, name) for name in names)


def package_of(path: Path) -> str:
    """The import name of the folder that a file lies in."""
    for name, top in reversed(SOURCES.items()):
        if path.is_relative_to(top):
            return ".".join([name, *path.parent.relative_to(top).parts])
    raise AssertionError(path)


def every_file() -> list[Path]:
    return sorted(path for package in SOURCES for path in files_of(package))


# -- without building --------------------------------------------------------------------------------------


def test_the_list_of_packages_is_the_tree(project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    found = {package_of(path) for path in every_file() if path.suffix == ".py"}
    assert len(listed) == len(set(listed))
    assert set(listed) == found
    for path in every_file():
        assert (path.parent / "__init__.py").is_file(), f"{path.parent} is no package"


def test_every_data_file_goes_into_the_wheel(project: dict[str, Any]) -> None:
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    data = [path for path in every_file() if path.suffix != ".py"]
    assert {"components.toml", "hwsim.mplstyle", "readme.md", "py.typed"} <= {path.name for path in data}
    for path in data:
        assert any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns), path


def test_entry_points_are_importable_and_complete(project: dict[str, Any]) -> None:
    for group in ("devices", "models", "commands"):
        points = project["project"]["entry-points"][f"hwsim.{group}"]
        for name, target in points.items():
            module, _, attribute = target.partition(":")
            assert hasattr(__import__(module, fromlist=["x"]), attribute), name
    # Every device package at the top is offered by name.
    targets = project["project"]["entry-points"]["hwsim.devices"].values()
    offered = {".".join(target.partition(":")[0].split(".")[:3]) for target in targets}
    top = {path for path in (ROOT / "devices").iterdir() if path.name not in ("__init__.py", "__pycache__")}
    assert offered == {f"hwsim.devices.{path.stem}" for path in top if path.is_dir() or path.suffix == ".py"}


def test_versions_agree(project: dict[str, Any]) -> None:
    assert project["project"]["version"] == hwsim.__version__
    try:
        assert version("hwsim") == hwsim.__version__
    except PackageNotFoundError:
        pytest.skip("hwsim is not installed")


def test_the_links_lead_to_the_folders() -> None:
    for name in LINKS:
        link = ROOT / "hwsim" / name
        if link.exists():  # a clone without links still builds
            assert link.resolve() == ROOT / name


@pytest.mark.parametrize("name", LINKS)
def test_a_folder_refuses_to_be_imported_by_another_name(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"import hwsim.{name}, not {name}" in done.stderr


# -- built and installed -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, project: dict[str, Any]) -> Path:
    """The wheel, built from a copy of what is tracked, without links."""
    pytest.importorskip("build", reason="build is not installed")
    needed = int(re.search(r"setuptools>=(\d+)", " ".join(project["build-system"]["requires"]))[1])  # type: ignore[index]
    has = int(version("setuptools").partition(".")[0])
    if has < needed:
        pytest.skip(f"setuptools {has} is installed, building needs {needed}")
    source = tmp_path_factory.mktemp("source")
    for path in [*every_file(), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))]:
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts' folder of a fresh environment that holds the wheel.

    What hwsim depends on is taken from the running environment, by a path that is searched after the fresh one:
    nothing is downloaded. Paths alone, not the running environment's own .pth files: one of them may lead to a
    development copy of hwsim.
    """
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=False, symlinks=True)
    scheme = sysconfig.get_paths("venv", {"base": str(root), "platbase": str(root)})
    site = Path(scheme["purelib"])
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(Path(scheme["scripts"], "python")), "install"]
    done = subprocess.run([*command, "--no-deps", "--no-index", "--quiet", str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(scheme["scripts"])


def ran(installed: Path, folder: Path, *arguments: str) -> str:
    """What a command of the fresh environment prints, run from `folder`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(installed / arguments[0]), *arguments[1:]], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.packaging
def test_the_wheel_holds_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {f"{package_of(path).replace('.', '/')}/{path.name}" for path in every_file()}
    assert held == wanted


@pytest.mark.packaging
def test_it_is_the_wheel_that_runs(installed: Path, tmp_path: Path) -> None:
    code = "import hwsim, hwsim.devices.gpu, hwsim.models; print(hwsim.__file__, hwsim.devices.gpu.__file__)"
    places = ran(installed, tmp_path, "python", "-c", code).split()
    for place in places:
        assert Path(place).is_relative_to(installed.parent), place


@pytest.mark.packaging
def test_the_tool_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    out = ran(installed, tmp_path, "hwsim", "devices")
    assert all(f"\n{name}: " in "\n" + out for name in ("ideal", "digital", "gpu"))
    assert "certainty" in ran(installed, tmp_path, "hwsim", "components", "mac")
    arguments = ["--devices", "ideal,digital:int8,gpu:h100", "--epochs", "1", "--seeds", "1", "--learning-rates", "0.3"]
    files = ["--json", "a.json", "--html", "a.html", "--figure", "a.png"]
    assert "What each reaches" in ran(installed, tmp_path, "hwsim", "compare", *arguments, *files)
    assert len(json.loads((tmp_path / "a.json").read_text())["rows"]) == 3
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.packaging
def test_every_preset_of_every_device_loads_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import hwsim\n"
        "from hwsim import registry\n"
        "for name, cls in registry.devices().items():\n"
        "    print(name, *[hwsim.device(name, preset=preset).spec for preset in (cls.presets() or [None])])\n"
        "print(*registry.models())\n"
    )
    lines = ran(installed, tmp_path, "python", "-W", "error", "-c", code).splitlines()
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert [line.split()[0] for line in lines[:-1]] == sorted(listed["hwsim.devices"])
    assert lines[-1].split() == sorted(listed["hwsim.models"])
    assert "gpu:h100" in next(line for line in lines if line.startswith("gpu"))


# -- types -------------------------------------------------------------------------------------------------


@pytest.mark.packaging
def test_mypy_sees_as_many_files_as_there_are(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    if not all((ROOT / "hwsim" / name).exists() for name in LINKS):
        pytest.skip("this clone has no links, which mypy follows")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    checked = int(re.search(r"in (\d+) source files", done.stdout)[1])  # type: ignore[index]
    assert checked == sum(path.suffix == ".py" for path in every_file())

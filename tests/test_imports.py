"""What an import costs, and who may import whom."""

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("scipy", "sklearn", "numba", "matplotlib", "matplotlib.pyplot", "typer", "rich", "simpy", "cupy", "mlxtend")


def loaded_after(code: str) -> set[str]:
    """The modules of a fresh interpreter after `code`."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_hwsim_loads_nothing_heavy() -> None:
    loaded = loaded_after("import hwsim")
    assert "numpy" in loaded
    assert "hwsim.compare" in loaded
    assert not loaded & set(HEAVY)
    assert not {name for name in loaded if name.startswith(("hwsim.devices", "hwsim.models"))}


def test_the_command_line_loads_no_more_than_it_needs_to_print_its_help() -> None:
    loaded = loaded_after("import hwsim.cli")
    assert not loaded & (set(HEAVY) - {"typer", "rich"})


def test_training_loads_neither_scipy_nor_a_plotter() -> None:
    code = "import hwsim; from hwsim import models\n"
    code += "hwsim.fit(models.xor(), hwsim.data.load('xor'), hwsim.device('digital:int8'), epochs=2, batch=4)"
    assert not loaded_after(code) & set(HEAVY)


def imports_of(path: Path) -> set[str]:
    """What a file imports from hwsim, at any depth, by full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return {name for name in found if name == "hwsim" or name.startswith("hwsim.")}


def core_files() -> list[Path]:
    """The framework, without the two links to devices and models."""
    return [
        path for path in sorted((ROOT / "hwsim").rglob("*.py"))
        if path.relative_to(ROOT / "hwsim").parts[0] not in ("devices", "models")
    ]  # fmt: skip


def test_the_core_imports_neither_devices_nor_models() -> None:
    files = core_files()
    assert len(files) > 30
    for path in files:
        stray = {name for name in imports_of(path) if name.startswith(("hwsim.devices", "hwsim.models"))}
        assert not stray, f"{path.name} imports {stray}"


def test_models_do_not_know_devices_nor_devices_models() -> None:
    for folder, forbidden in (("devices", "hwsim.models"), ("models", "hwsim.devices")):
        files = list((ROOT / folder).rglob("*.py"))
        assert files
        for path in files:
            assert not {name for name in imports_of(path) if name.startswith(forbidden)}, path


def test_this_test_would_see_a_stray_import(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("def f():\n    from hwsim import models\n    import hwsim.devices.gpu as g\n")
    assert imports_of(path) == {"hwsim", "hwsim.models", "hwsim.devices.gpu"}


def test_every_module_of_the_core_is_in_the_floors() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    layers = config["importlinter:contract:floors"]["layers"].replace(":", " ").split()
    modules = {
        "hwsim." + path.relative_to(ROOT / "hwsim").parts[0].removesuffix(".py") for path in core_files()
    } - {"hwsim.__init__"}  # fmt: skip
    assert modules == set(layers)
    core = set(config["importlinter:contract:core"]["source_modules"].split())
    assert core <= modules


def test_contracts_of_imports_are_kept() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    code = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(cache_dir=None))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "0 broken" in done.stdout

"""A package for a device of one's own, ready to install: `hwsim new-device NAME`."""

from __future__ import annotations

import ast
import keyword
import re
from pathlib import Path

from hwsim.errors import ConfigError
from hwsim.registry import DEVICES, installed

NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")

PYPROJECT = """\
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "hwsim-{name}"
version = "0.1.0"
description = "The device {name} for hwsim"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["hwsim"]

# The name on the left is what `hwsim compare --devices {name}` looks for.
[project.entry-points."hwsim.devices"]
{name} = "{package}:{cls}"

[tool.setuptools]
packages = ["{package}"]

[tool.setuptools.package-data]
{package} = ["*.toml"]
"""

DEVICE = '''\
"""{cls}: say in one sentence what multiplies, and by which physics."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from hwsim import Component, Device, Kind, Product, Quantity, Role, Use, parameter
from hwsim.cost import Op


class {cls}(Device):
    """Matrix products on units side by side, weights held where they are used; all else is left to the host.

    Products are exact, as hooks that are not overridden are. To add physics, override `forward`, `backward` or
    `update`, keep all state in `tile.state`, draw noise from `tile.rng("a name")`, and claim errors in `contract`.
    """

    name = "{name}"
    presets_path = Path(__file__).with_name("presets.toml")
    default_preset = "guess"

    units: int = parameter(doc="multiply-accumulate units side by side", low=1)
    mac_energy_j: Quantity = parameter(unit="J", doc="one multiply-accumulate")
    mac_time_s: Quantity = parameter(unit="s", doc="one multiply-accumulate of one unit")
    write_energy_j: Quantity = parameter(unit="J", doc="one weight written or read")
    write_time_s: Quantity = parameter(unit="s", doc="one weight written or read")
    static_power_w: Quantity = parameter(unit="W", doc="everything that is powered")

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """ONE unit of each piece of hardware: joules and seconds per action, watts while powered."""
        return {{
            "mac": Component(Role.CORE, energy_j=self.mac_energy_j, time_s=self.mac_time_s),
            "write": Component(Role.PROGRAMMING, energy_j=self.write_energy_j, time_s=self.write_time_s),
            "chip": Component(Role.CORE, static_power_w=self.static_power_w),
        }}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        """How often one operation uses each component, from shapes alone; None: not mine, the host does it."""
        if not isinstance(op, Product):
            return None
        if op.kind in (Kind.FORWARD, Kind.BACKWARD):
            return {{"mac": Use(op.macs, self.units)}}
        if op.kind in (Kind.PROGRAM, Kind.READ, Kind.UPDATE):
            return {{"write": Use(op.stack * op.k * op.n)}}
        return None
'''

INIT = '''\
"""The device {name} for hwsim."""

from {package}.device import {cls}

__all__ = ["{cls}"]
'''

PRESETS = """\
# Every number has a range, a source and a certainty: measured, read, derived, recalled or assumed.
# low is the 5% point, nominal the best estimate, high the 95% point. A preset may inherit: base = "guess".

[guess]
doc = "Placeholders to be replaced: no number here has a source"
units = 1024

"""

VALUE = """\
[guess.{key}]
low = {low}
nominal = {nominal}
high = {high}
unit = "{unit}"
source = "a placeholder, to be replaced by a citation"
certainty = "assumed"

"""

# Placeholders: low, nominal, high and unit of each value that the new device starts with.
VALUES = {
    "mac_energy_j": (0.1, 1, 10, "pJ"),
    "mac_time_s": (0.5, 1, 2, "ns"),
    "write_energy_j": (1, 10, 100, "pJ"),
    "write_time_s": (5, 10, 20, "ns"),
    "static_power_w": (10, 100, 1000, "mW"),
}

TEST = '''\
"""Everything that hwsim relies on, checked for {name}."""

from hwsim.testing import check_device

from {package} import {cls}


def make() -> {cls}:
    """A new device with the values of the default preset."""
    return {cls}.create(None, {{}})


def test_conformance() -> None:
    print(check_device(make))


def test_energy_of_a_forward_product() -> None:
    # 2 rows x 3 inputs x 4 outputs = 24 multiply-accumulates
    device = make()
    tile = device.program(device.xp.ones((3, 4)), name="w")
    tile.forward(device.xp.ones((2, 3)))
    energy_j = tile.ledger.energy(["component", "part"])["mac", "dynamic"]
    assert abs(energy_j / (24 * device.mac_energy_j.nominal) - 1) < 1e-12
'''

README = """\
# {name}

A device for hwsim. Replace this page by one page on the physics, with its papers; on what is *not* modelled; and on
how to add a preset.

    pip install -e .
    hwsim check {name}
    hwsim compare --devices gpu,{name}

- `{package}/device.py`: the components, and how often each operation uses them.
- `{package}/presets.toml`: their values. All are placeholders: replace each, with its source.
- `tests/`: the conformance kit of hwsim, and one energy by hand.
"""


def imported(source: str) -> set[str]:
    """The names that the imports of a module bind."""
    return {alias.name for node in ast.parse(source).body if isinstance(node, ast.ImportFrom) for alias in node.names}


def new_device(name: str, folder: Path) -> list[Path]:
    """Write the package `hwsim-NAME` into `folder`, and return its files.

    Raises ConfigError where the name is no good or taken, where the package's folder exists, and where `folder` is
    missing or cannot be written.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"device name {name!r}: needs lower-case letters and digits, starting with a letter, in words joined by "
            "'-' or '_', such as my-chip"
        )
    if name in installed(DEVICES):
        raise ConfigError(f"device name {name!r} is taken: such a device is installed; choose another")
    root = folder / f"hwsim-{name}"
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder} to write {root.name} into; make it, or give another --folder")
    if root.exists():
        raise ConfigError(f"{root} exists; choose another name or folder, or remove it")
    words = re.split("[-_]", name)
    cls = "".join(word.capitalize() for word in words)
    package = "_".join(["hwsim", *words])
    if keyword.iskeyword(cls) or cls in imported(DEVICE.format(name=name, cls=cls, package=package)):
        raise ConfigError(f"device name {name!r} makes the class name {cls}, which is in use; add a word, as my-{name}")
    values = "".join(
        VALUE.format(key=key, low=low, nominal=nominal, high=high, unit=unit)
        for key, (low, nominal, high, unit) in VALUES.items()
    )
    texts = {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        f"{package}/__init__.py": INIT,
        f"{package}/device.py": DEVICE,
        f"tests/test_{package}.py": TEST,
    }
    files = {path: text.format(name=name, cls=cls, package=package) for path, text in texts.items()}
    files[f"{package}/presets.toml"] = PRESETS + values.rstrip() + "\n"
    try:
        for path, text in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{root} cannot be written: {error.strerror or error}") from None
    return [root / path for path in files]

"""What a run is: what its model computes, and the files that its devices and model are from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hwsim
from hwsim import data, models, nn, ops
from hwsim.errors import ConfigError
from hwsim.identity import files, operations
from hwsim.nn import Network
from hwsim.tape import Value

IDEAL = {"*": hwsim.device("ideal")}
XOR = data.load("xor")


def described(body: Callable[[Network, Value], Value], inputs: int = 2) -> str:
    """What a function of (net, x) computes."""

    class Plain:
        input_shape = (inputs,)

        def __call__(self, net: Network, x: Value) -> Value:
            return body(net, x)

    return operations(Plain(), IDEAL)


def two_layers(activation: str) -> Any:
    """Closures of one text and equal shapes."""

    class Plain:
        input_shape = (2,)

        def __call__(self, net: Network, x: Value) -> Value:
            return nn.dense(net, "out", nn.dense(net, "in", x, 3, activation=activation), 1)

        def __repr__(self) -> str:
            return "Plain"

    return Plain()


# -- operations --------------------------------------------------------------------------------------------


def test_operations_are_counted_by_name() -> None:
    found = operations(two_layers("relu"), IDEAL)
    assert found.startswith("2 linear, 2 bias_add, 1 relu; sha256 ")
    assert found == operations(two_layers("relu"), IDEAL)
    assert operations(two_layers("tanh"), IDEAL).startswith("2 linear, 2 bias_add, 1 tanh; ")
    assert operations(models.gpt(length=4, width=4, heads=2, layers=1), IDEAL).count("product") == 1


def test_models_that_compute_something_else_differ() -> None:
    def after(f: Callable[[Network, Value], Value]) -> str:
        return described(lambda net, x: f(net, nn.dense(net, "fc", x, 2)))

    def tied(net: Network, x: Value, order: str) -> Value:
        tiles = {name: net.tile(name, (2, 2), nn.zeros) for name in "ab"}
        for name in order:
            x = net.linear(tiles[name], x)
        return x

    def wired(net: Network, x: Value, which: int) -> Value:
        a, b = net.apply(ops.relu, x), net.apply(ops.relu, x)
        c = net.apply(ops.tanh, (a, b)[which])
        return net.apply(ops.add, nn.dense(net, "fc", c, 2), b)

    found = [
        after(lambda net, x: x),
        after(lambda net, x: net.apply(ops.scaled(0.5), x)),
        after(lambda net, x: net.apply(ops.scaled(2.0), x)),
        after(lambda net, x: net.apply(ops.reshape((-1, 1, 2)), x)),
        after(lambda net, x: net.apply(ops.part(0, 2), x)),
        after(lambda net, x: net.apply(ops.part(1, 2), x)),
        described(lambda net, x: tied(net, x, "ab")),
        described(lambda net, x: tied(net, x, "ba")),
        described(lambda net, x: tied(net, x, "aa")),
        described(lambda net, x: net.linear_transposed(net.tile("a", (2, 2), nn.zeros), x)),
        described(lambda net, x: net.linear(net.tile("a", (2, 2), nn.zeros), x)),
        described(lambda net, x: wired(net, x, 0)),
        described(lambda net, x: wired(net, x, 1)),
        described(lambda net, x: net.product(net.apply(ops.reshape((2, 1)), x), x)),
    ]
    assert len(set(found)) == len(found)


def test_a_resume_with_another_activation_is_refused(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 2, "loss": "mse", "checkpoint": tmp_path / "c"}
    hwsim.fit(two_layers("relu"), XOR, "ideal", **settings)
    with pytest.raises(ConfigError, match=r"operations was '.*1 relu; sha256 .*', is '.*1 tanh; sha256 .*'; give the"):
        hwsim.fit(two_layers("tanh"), XOR, "ideal", **settings, resume=True)
    hwsim.fit(two_layers("relu"), XOR, "ideal", **settings | {"epochs": 3}, resume=True)


# -- files -------------------------------------------------------------------------------------------------

DEVICE = "from hwsim.devices.ideal import Ideal\nclass My(Ideal):\n    name = 'my'\n"
CELL = "from hwsim.devices.crossbar.steps import ConstantStep\nclass MyCell(ConstantStep):\n"
CELL += "    name = 'mine'\n    g_min_siemens = 1e-7\n    g_max_siemens = 1e-5\n"
OWN = '[a]\ndoc = "a"\nmodel = "cell.py:MyCell"\nsource = "x"\ncertainty = "assumed"\n'
MODEL = "from hwsim import nn\nclass M:\n    input_shape = (2,)\n    def __call__(self, net, x):\n"
MODEL += "        return nn.dense(net, 'fc', x, 1)\n    def __repr__(self):\n        return 'M'\n"


def test_files_of_devices_hosts_cells_and_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dev.py").write_text(DEVICE)
    (tmp_path / "cell.py").write_text(CELL)
    (tmp_path / "net.py").write_text(MODEL)
    cells = Path(hwsim.__file__).parents[1] / "devices" / "crossbar" / "cells.toml"
    (tmp_path / "cells.toml").write_text(cells.read_text(encoding="utf-8"))
    (tmp_path / "cpus.toml").write_text('[local]\ndoc = "mine"\ncache_bytes = 1000000\n')
    found = {
        text: set(files(models.xor(), [hwsim.device(text)]))
        for text in (
            "ideal",
            "dev.py:My",
            "cpu:cpus.toml:local",
            "crossbar:cell=cells.toml:ecram",
            "crossbar:cell=cell.py:MyCell",
        )
    }
    assert found == {
        "ideal": set(),
        "dev.py:My": {"dev.py"},
        "cpu:cpus.toml:local": {"cpus.toml"},
        "crossbar:cell=cells.toml:ecram": {"cells.toml"},
        "crossbar:cell=cell.py:MyCell": {"cell.py"},
    }
    hosted = hwsim.device("digital:int8", host=hwsim.device("dev.py:My"))
    assert set(files(models.xor(), [hosted])) == {"dev.py"}
    assert set(files(hwsim.model("net.py:M"), [hwsim.device("ideal")])) == {str(tmp_path / "net.py")}
    # A cell of a TOML whose model is a class of a file: both.
    (tmp_path / "own.toml").write_text(OWN)
    assert set(files(models.xor(), [hwsim.device("crossbar:cell=own.toml:a")])) == {"own.toml", "cell.py"}


@pytest.mark.parametrize("name", ["dev.py", "own.toml"])
def test_a_resume_with_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dev.py").write_text(DEVICE)
    (tmp_path / "cell.py").write_text(CELL)
    (tmp_path / "own.toml").write_text(OWN)
    device = {"dev.py": "dev.py:My", "own.toml": "crossbar:cell=own.toml:a"}[name]
    settings: dict[str, Any] = {"epochs": 1, "loss": "mse", "checkpoint": "c"}
    hwsim.fit(models.xor(), XOR, device, **settings)
    content = (tmp_path / name).read_text()
    (tmp_path / name).write_text(content + "\n# changed\n")
    words = rf"another run: the file {name} has changed \(sha256 \w{{12}}, now \w{{12}}\)"
    with pytest.raises(ConfigError, match=words):
        hwsim.fit(models.xor(), XOR, device, **settings, resume=True)
    (tmp_path / name).write_text(content)
    hwsim.fit(models.xor(), XOR, device, **settings | {"epochs": 2}, resume=True)

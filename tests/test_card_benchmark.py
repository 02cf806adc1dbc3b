"""The benchmark of a real card: its arithmetic and its words, and its course on a made-up card."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from fake_card import Card, install

import hwsim
from hwsim import models
from hwsim.devices.gpu import Gpu
from hwsim.errors import ConfigError
from hwsim.learning.backprop import backprop
from hwsim.losses import cross_entropy
from hwsim.optim import SGD
from hwsim.tile import Tile


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """benchmarks/card.py as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / "card.py"
    spec = importlib.util.spec_from_file_location("benchmark_card", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ratios_are_of_rounds(bench: ModuleType) -> None:
    # Ratios 2, 1, 3 and 4: quartiles 1.75, 2.5 and 3.25. The medians of the sides are (2 + 6)/2 and (1 + 2)/2.
    assert bench.ratio_of([(2, 1), (1, 1), (6, 2), (8, 2)]) == (4, 1.5, 2.5, 1.75, 3.25)


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H200", "h200"), ("NVIDIA B200", "b200"),
        ("NVIDIA A100-SXM4-40GB", "a100-40"), ("NVIDIA A100-SXM4-80GB", "a100-80"), ("Tesla V100-SXM2-16GB", "v100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"), ("GeForce GTX 580", "gtx580"), ("Tesla P100-PCIE-16GB", "p100"),
    ],
)  # fmt: skip
def test_the_preset_of_a_card(bench: ModuleType, name: str, preset: str) -> None:
    assert bench.preset_of(name, list(Gpu.presets())) == preset


@pytest.mark.parametrize("name", ["NVIDIA L4", "NVIDIA A100", "Quadro"])
def test_a_card_of_no_preset_is_asked_for(bench: ModuleType, name: str) -> None:
    with pytest.raises(ConfigError, match=f"no preset is known to be that of '{name}'; give --preset: h100, "):
        bench.preset_of(name, list(Gpu.presets()))


def test_joules_of_a_step(bench: ModuleType) -> None:
    readings = [
        SimpleNamespace(source="NVML", name="card 0", energy_j=900.0, error_j=30.0),
        SimpleNamespace(source="RAPL", name="package", energy_j=1e6, error_j=1.0),
    ]
    found = bench.per_step(SimpleNamespace(readings=readings, unavailable=(), time_s=3.0), 100)
    assert found == {"energy_j": 9.0, "error_j": 0.3, "power_w": 300.0, "cards": ["card 0"]}


def test_without_a_card_it_says_so(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", Card(cards=0))
    assert bench.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("card.py: CuPy finds no usable GPU: the driver lists none")
    assert err.count("\n") == 1


def test_the_whole_on_a_made_up_card(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    card = Card(capability="80")
    install(monkeypatch, card)
    monkeypatch.setattr(bench, "WIDTHS", (16, 8, 4))
    monkeypatch.setattr(bench, "BATCH", 8)
    monkeypatch.setattr(bench, "SAMPLE_S", 1e-4)
    monkeypatch.setattr(bench, "ENERGY_S", 1e-2)
    path = tmp_path / "card.json"
    assert bench.main(["--preset", "h100", "--sizes", "16", "--rounds", "2", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    rows = {row["precision"]: row for row in found["products"]}
    assert (found["card"], found["preset"]) == ("Made-up card", "h100")
    assert "compute capability 8.0" in rows["fp8"]["refused"]
    assert {name for name, row in rows.items() if "ratio" in row} == {"fp64", "fp32", "fp16", "int8", "tf32", "bf16"}
    assert rows["bf16"]["flop_per_s"] == pytest.approx(2 * 16**3 / rows["bf16"]["library_s"])
    assert "unavailable" in found["step"]["measured"] or found["step"]["measured"]["energy_j"] >= 0
    text = capsys.readouterr().out
    assert text.startswith("Made-up card, preset h100, CuPy 14.2.0\n")
    assert text.count("\n") == 1 + len(rows) + 2


def test_the_plain_step_is_the_step_of_hwsim(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """From equal weights, its losses are those of hwsim."""
    monkeypatch.setattr(bench, "WIDTHS", (6, 5, 3))
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    labels = np.array([0, 1, 2, 1])
    net, mover = hwsim.Network(models.mlp([6, 5, 3]), hwsim.device("gpu:h100")), SGD(bench.RATE)
    generator = np.random.default_rng(0)
    for tile in (placed for placed in net.placed.values() if isinstance(placed, Tile)):
        start = generator.standard_normal((tile.k, tile.n), dtype=np.float32) * (2 / tile.k) ** 0.5
        tile.state["w"] = np.array(start, dtype=np.float32)
    step = bench.plain_step(np, x, labels)
    for _ in range(4):
        assert float(backprop(net, x, labels, cross_entropy, mover)) == pytest.approx(float(step()), rel=1e-5)

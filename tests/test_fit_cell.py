"""`hwsim fit-cell`: from a file of pulses to a preset that a crossbar takes, and whatever is refused on the way."""

import csv
import json
import math
import os
import re
import sys
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import numpy as np
import pytest

from hwsim import cli, library, registry
from hwsim.devices.crossbar import commands, steps
from hwsim.devices.crossbar.curves import read_csv

ROOT = Path(__file__).parents[1]
LOW, HIGH = 10e-6, 90e-6  # conductances [S] at states -1 and 1
MINE = '''\
from hwsim.devices.crossbar.cells import Cell, varying


class Mine(Cell):
    """The same step everywhere."""

    step: float = varying(0.01, d2d=0.3)

    def pulse(self, xp, g, per_device, up, rng):
        step = per_device["step"] * (1 + 0.3 * rng.standard_normal(g.shape))
        return self.bounded(xp, g + xp.where(up, step, -step), per_device)


class Still(Cell):
    """Nothing moves it."""


class Wrong(Mine):
    """A mistake."""

    def pulse(self, xp, g, per_device, up, rng):
        return g + per_device["stepp"]


number = 3
'''


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test in a folder of its own, with the commands that pyproject.toml names, whatever is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = [EntryPoint(*item, registry.COMMANDS) for item in project["entry-points"][registry.COMMANDS].items()]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: points if group == registry.COMMANDS else entry_points(group=group)
    )
    monkeypatch.chdir(tmp_path)
    for name, value in (("COLUMNS", "200"), ("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
    return tmp_path


def run(monkeypatch, *arguments):
    """The exit status of `hwsim fit-cell arguments...`."""
    monkeypatch.setattr(sys, "argv", ["hwsim", "fit-cell", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def measure(one, seed, halves=(100, 100, 100, 100), read_std=0.0):
    """Rows (direction, conductance) of pulses up, down, ... from state 0; read noise in units of the state."""
    rng = np.random.default_rng(seed)
    p, g = one.typical(np, (1,)), np.zeros(1)
    rows = [(1, 0.0)]
    for i, half in enumerate(halves):
        for _ in range(half):
            g = one.pulse(np, g, p, np.array([i % 2 == 0]), rng)
            rows.append((1 if i % 2 == 0 else -1, g[0]))
    return [(way, LOW + (g + read_std * rng.standard_normal() + 1) / 2 * (HIGH - LOW)) for way, g in rows]


def write(path, devices):
    """A CSV file of curves by device; of one without a name, without that column."""
    with Path(path).open("w", newline="") as file:
        out = csv.writer(file)
        named = list(devices) != [""]
        out.writerow(["device"] * named + ["pulse", "direction", "conductance_siemens"])
        for device, rows in devices.items():
            out.writerows([device] * named + [i, way, repr(float(g))] for i, (way, g) in enumerate(rows))


SOFT = steps.SoftBoundsReference(dw_min=0.02, up_down=0.1, w_min=-1.0, w_max=1.0)
# Reaches both bounds, so that the curve's extremes are the window, exactly: states in the fit are those of the truth.
LINEAR = steps.LinearStep(dw_min=0.03, up_down=0.1, gamma_up=0.2, gamma_down=0.4, w_min=-1.0, w_max=1.0)


def soft_as_fitted(rows):
    """SOFT's parameters for states from -1 to 1 between the curve's own extremes, s' = a s + b.

    A step up, u (1 - s / top), is a u (1 + b / (a top)) (1 - s' / top') with top' = a top + b; a step down likewise.
    With up_down = 0.1: u = 0.02, d = 0.9 x 0.02. Larger step is dw_min; up_down = 1 - d / u or u / d - 1.
    """
    g = np.array([g for _, g in rows])
    a = (HIGH - LOW) / (g.max() - g.min())
    b = -1 + (LOW - g.min()) * 2 / (g.max() - g.min()) + a
    up, down = 0.02 * (a + b), 0.018 * (a - b)
    return {
        "dw_min": max(up, down),
        "up_down": 1 - down / up if down < up else up / down - 1,
        "w_min": -a + b,
        "w_max": a + b,
        "dw_min_std": 0.3,
    }


def linear_as_fitted(rows):
    """LINEAR's own parameters, where the curve reached both bounds."""
    g = np.array([g for _, g in rows])
    assert (g.min(), g.max()) == (pytest.approx(LOW), pytest.approx(HIGH))
    return {"dw_min": 0.03, "up_down": 0.1, "gamma_up": 0.2, "gamma_down": 0.4, "dw_min_std": 0.3}


CASES = {"soft-bounds": (SOFT, soft_as_fitted), "linear-step": (LINEAR, linear_as_fitted)}


# -- what is written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", CASES)
def test_a_curve_is_fitted_and_its_model_found(model, monkeypatch, capsys):
    one, as_fitted = CASES[model]
    rows = measure(one, 3)
    write("cell 7.csv", {"": rows})
    assert run(monkeypatch, "cell 7.csv", "--json", "a.json") == 0
    out, err = capsys.readouterr()
    assert err == "preset: cell 7-cell.toml (crossbar:cell=cell 7-cell.toml:cell-7)\nfigure: cell 7-residuals.png\n"
    assert sorted(os.listdir()) == ["a.json", "cell 7-cell.toml", "cell 7-residuals.png", "cell 7.csv"]
    result = json.loads(Path("a.json").read_text())
    assert result["model"] == model
    assert out.startswith(f"{model} fitted to 400 pulses of cell 7.csv\n")
    for name, true in as_fitted(rows).items():
        at = result["parameters"][name]
        assert abs(at["value"] - true) < 5 / 1.96 * (at["high"] - at["low"]) / 2, name
        assert re.search(rf"\n{name} +{at['value']:.5g} +{at['low']:.5g} to {at['high']:.5g}\n", out)
    # Noise of a step is 0.3 of the step (linear), or of its scale (soft): 0.3 x 0.02 or 0.018 x 40 uS a state.
    if model == "soft-bounds":
        expected = 0.3 * math.sqrt((0.02**2 + 0.018**2) / 2) * (HIGH - LOW) / 2
        assert result["rms_siemens"] == pytest.approx(expected, rel=5 / math.sqrt(2 * 400))
    assert result["degrees_of_freedom"] == 400 - 4
    assert {entry["model"] for entry in result["models"]} == {
        "constant-step", "linear-step", "soft-bounds", "exp-step", "power-step"
    }  # fmt: skip
    scores = [entry["bic"] for entry in result["models"] if "bic" in entry]
    assert scores == sorted(scores)
    assert Path("cell 7-residuals.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("model", CASES)
def test_intervals_hold_the_true_parameters(model, monkeypatch):
    one, as_fitted = CASES[model]
    hits, n = 0, 10
    for seed in range(10, 10 + n):
        rows = measure(one, seed)
        write("a.csv", {"": rows})
        (trial,) = commands.ranked({model: type(one)}, read_csv("a.csv"), "cycle")
        true = as_fitted(rows)
        hits += sum(at.low <= true[name] <= at.high for name, at in trial.found.estimates.items())
    # n = 10 fits, were all parameters of one correlated wholly: sigma = sqrt(0.95 0.05 / 10) = 6.9%.
    assert hits / (n * len(true)) > 0.95 - 5 * math.sqrt(0.95 * 0.05 / n)


def test_the_preset_loads_and_is_the_cell_that_was_fitted(monkeypatch, capsys):
    rows = measure(SOFT, 3)
    write("pulses.csv", {"": rows})
    assert (
        run(monkeypatch, "pulses.csv", "--out", "my.toml", "--name", "mine", "--figure", "my.svg", "--json", "-") == 0
    )
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert "soft-bounds fitted to 400 pulses" in err
    values = library.presets("my.toml")["mine"]
    assert (values["certainty"], values["source"], values["model"]) == ("measured", "pulses.csv", "soft-bounds")
    cell = steps.SoftBoundsReference(
        **{key: value for key, value in values.items() if key not in ("doc", "source", "model", "certainty")}
    )
    for name, at in result["parameters"].items():
        assert getattr(cell, name) == at["value"]
        assert re.search(rf"\n{name} = .* # 95%: {at['low']:.6g} to {at['high']:.6g}\n", Path("my.toml").read_text())
    assert list(cell.window_siemens()) == result["window_siemens"]
    # Bounds were fitted: 5% and 95% of their conductances lie 1.645 / 1.96 of a 95% interval's half away.
    per_state = (result["window_siemens"][1] - result["window_siemens"][0]) / (cell.w_max - cell.w_min)
    half = 1.645 / 1.96 * (result["parameters"]["w_max"]["high"] - cell.w_max) * per_state
    assert cell.g_max_siemens.high == pytest.approx(cell.g_max_siemens.nominal + half)
    assert cell.g_max_siemens.certainty == "measured"
    # The states that were fitted conduct what was measured: the curve's extremes are states -1 and 1.
    measured = [g for _, g in rows]
    ends = cell.conductance(np, np.array([-1.0, 1.0]))
    np.testing.assert_allclose(ends, [min(measured), max(measured)])
    drawing = Path("my.svg").read_text()
    for words in ("conductance [uS]", "residual [uS]", "pulse", "measured", "soft-bounds fitted to pulses.csv"):
        assert f"<!-- {words} -->" in drawing
    # One device tells nothing of how devices differ, and both outputs say so.
    assert "Not measured, the model's own: w_min_d2d=0.3, " in err
    assert "# Not measured, the model's own: w_min_d2d = 0.3, " in Path("my.toml").read_text()


def test_a_crossbar_takes_the_preset(monkeypatch, capsys):
    write("pulses.csv", {"": measure(SOFT, 3)})
    assert run(monkeypatch, "pulses.csv", "--out", "my.toml", "--name", "mine", "--json", "a.json") == 0
    (spec,) = re.findall(r"\((crossbar:.*)\)", capsys.readouterr().err)
    result = json.loads(Path("a.json").read_text())
    cell = registry.device(spec).model
    assert spec == "crossbar:cell=my.toml:mine"
    assert isinstance(cell, steps.SoftBoundsReference)
    assert {name: getattr(cell, name) for name in result["parameters"]} == {
        name: at["value"] for name, at in result["parameters"].items()
    }


def test_several_devices_give_their_spread(monkeypatch, capsys):
    write("many.csv", {name: measure(SOFT, seed) for seed, name in enumerate(("a1", "a2", "b1"))})
    assert run(monkeypatch, "many.csv", "--model", "soft-bounds", "--json", "a.json") == 0
    result = json.loads(Path("a.json").read_text())
    assert result["devices"] == ["a1", "a2", "b1"]
    assert set(result["device_to_device"]) == {"dw_min_d2d", "up_down_d2d", "w_min_d2d", "w_max_d2d"}
    values = library.presets("many-cell.toml")["many"]
    for name, spread in result["device_to_device"].items():
        assert values[name] == spread
    assert "1200 pulses on 3 devices" in values["doc"]
    out = capsys.readouterr().out
    assert "soft-bounds fitted to 1200 pulses on 3 devices of many.csv" in out
    assert "BIC" not in out  # nothing to rank


def test_a_class_of_ones_own(monkeypatch, capsys):
    Path("mine.py").write_text(MINE)
    write("pulses.csv", {"": measure(steps.ConstantStep(dw_min=0.004, w_min=-1.0, w_max=1.0), 5)})
    assert run(monkeypatch, "pulses.csv", "--model", "mine.py:Mine", "--json", "a.json") == 0
    result = json.loads(Path("a.json").read_text())
    curve = read_csv("pulses.csv")[""]
    at, stretch = result["parameters"]["step"], (HIGH - LOW) / np.ptp(curve.conductance_siemens)
    assert abs(at["value"] - 0.004 * stretch) < 5 / 1.96 * (at["high"] - at["low"]) / 2
    values = library.presets("pulses-cell.toml")["pulses"]
    assert values["model"] == "mine.py:Mine"
    cell = registry.load_file(values["model"])(step=values["step"], g_max_siemens=values["g_max_siemens"])
    assert cell.g_max_siemens.nominal == pytest.approx(curve.conductance_siemens.max())
    assert capsys.readouterr().out.startswith("mine.py:Mine fitted to 400 pulses")


def test_noisy_reading_is_noticed_and_can_be_fitted(monkeypatch, capsys):
    write("pulses.csv", {"": measure(SOFT.changed(dw_min_std=0.0), 2, (60, 60), read_std=0.01)})
    assert run(monkeypatch, "pulses.csv", "--model", "soft-bounds") == 0
    assert "the kind of noise (--noise), does not fit" in capsys.readouterr().out
    assert run(monkeypatch, "pulses.csv", "--model", "soft-bounds", "--noise", "read", "--json", "a.json") == 0
    result = json.loads(Path("a.json").read_text())
    # 0.01 of a state of 40 uS; the start of the curve, read as noisily, shifts the fit by a part of that.
    assert result["rms_siemens"] == pytest.approx(0.01 * (HIGH - LOW) / 2, rel=5 / math.sqrt(2 * 120))
    assert "dw_min_std" not in result["parameters"]
    assert library.presets("pulses-cell.toml")["pulses"]["dw_min_std"] == 0


def test_the_help_says_what_a_file_looks_like(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Example: hwsim fit-cell" in out
    words = " ".join(out.replace("│", " ").split())
    for part in ("pulse (0, 1, 2, ... through)", "direction (+1 or -1, up or down)", "conductance_siemens", "device"):
        assert part in words


# -- what is refused ---------------------------------------------------------------------------------------

HEAD = "pulse,direction,conductance_siemens\n"
GOOD = HEAD + "".join(f"{i},{1 if i % 4 < 2 else -1},{1e-5 + 1e-6 * (i % 4)}\n" for i in range(40))
SHORT = "".join(GOOD.splitlines(keepends=True)[:6])
UP = HEAD + "".join(f"{i},1,{1e-5 + 1e-7 * i}\n" for i in range(40))

REFUSED = {
    "no file": (None, [], "pulses.csv cannot be read: No such file"),
    "a folder": (None, ["."], r"\. cannot be read: Is a directory"),
    "nothing in it": ("", [], "has no column pulse, direction, conductance_siemens; needs"),
    "semicolons": (GOOD.replace(",", ";"), [], "separated by commas"),
    "missing column": ("pulse,conductance_siemens\n0,1e-5\n", [], "pulses.csv has no column direction; needs pulse, "),
    "no rows": (HEAD, [], "holds no pulses; a curve needs 5 or more"),
    "a word": (GOOD + "40,1,high\n", [], "pulses.csv, line 42: pulse and conductance must be numbers"),
    "a hole": (GOOD + "40,1,\n", [], "line 42: pulse and conductance must be numbers"),
    "NaN": (GOOD + "40,1,nan\n", [], "line 42: conductance nan S; needs 0 to 1 S"),
    "infinity": (GOOD + "40,1,inf\n", [], "line 42: conductance inf S"),
    "negative": (GOOD + "40,1,-1e-6\n", [], "line 42: conductance -1e-06 S; needs 0 to 1 S"),
    "microsiemens": (GOOD + "40,1,12.5\n", [], "in siemens, not microsiemens"),
    "NaN pulse": (GOOD + "nan,1,1e-5\n", [], "pulse .*nan"),
    "direction 0": (GOOD + "40,0,1e-5\n", [], "line 42: direction '0'; needs up or down, 1 or -1"),
    "pulse twice": (GOOD + "39,1,1e-5\n", [], "pulse 39 is followed by pulse 39; number a device's pulses"),
    "pulses left out": (GOOD + "50,1,1e-5\n", [], "pulse 39 is followed by pulse 50"),
    "few points": (HEAD + "0,1,1e-5\n1,1,2e-5\n", [], "pulses.csv: a curve of .*needs 5 or more"),
    "fewer points than parameters": (SHORT, ["--model", "exp-step"], "4 pulses are too few for 5 parameters"),
    "all one value": (HEAD + "".join(f"{i},1,1e-5\n" for i in range(9)), [], "pulses.csv: .*conductance never changes"),
    "one way": (UP, [], "does not determine dw_min, up_down together; pulse it both ways"),
    "no text": (b"\xff\xfe\x00", [], "pulses.csv cannot be read"),
    "unknown model": (GOOD, ["--model", "soft-bond"], "no cell model 'soft-bond'; .*did you mean 'soft-bounds'"),
    "model without pulses": (GOOD, ["--model", "sonos-model"], "'sonos-model' has no pulses that could be fitted; try"),
    "class without pulses": (GOOD, ["--model", "mine.py:Still"], "'mine.py:Still' has no pulses"),
    "class that is none": (GOOD, ["--model", "mine.py:number"], "'mine.py:number' is 3, not a subclass of"),
    "class that fails": (GOOD, ["--model", "mine.py:Wrong"], "'mine.py:Wrong' cannot be fitted: KeyError: 'stepp'"),
    "no class": (GOOD, ["--model", "mine.py:Min"], "no class in mine.py called 'Min'"),
    "no file of the model": (GOOD, ["--model", "none.py:Mine"], "no file 'none.py'"),
    "unknown noise": (GOOD, ["--noise", "shot"], "noise 'shot': needs one of cycle, read"),
    "name with a colon": (GOOD, ["--name", "a:b"], "preset name 'a:b': needs letters, digits, - and _"),
    "preset in no folder": (GOOD, ["--out", "none/a.toml"], "there is no folder none"),
    "preset in a folder's place": (GOOD, ["--out", "."], "is a folder"),
    "preset over the data": (GOOD, ["--out", "./pulses.csv"], "would be written over pulses.csv or another result"),
    "preset over the figure": (GOOD, ["--out", "a.png", "--figure", "a.png"], "a.png would be written over"),
    "preset over a device": (GOOD, ["--out", "/dev/null"], "/dev/null is no ordinary file"),
    "figure of no kind": (GOOD, ["--figure", "a.xyz"], "a.xyz cannot be drawn: .*png"),
    "figure in no folder": (GOOD, ["--figure", "none/a.png"], "there is no folder none"),
    "JSON in no folder": (GOOD, ["--json", "none/a.json"], "there is no folder none"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_sentence_and_leaves_no_file(case, monkeypatch, capsys):
    content, arguments, words = REFUSED[case]
    Path("mine.py").write_text(MINE)
    if content is not None:
        Path("pulses.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    before = {path: path.read_bytes() for path in Path().iterdir()}
    files = ["pulses.csv"] if arguments[:1] != ["."] else []
    assert run(monkeypatch, *files, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("hwsim: ")
    assert re.search(words, line), line
    after = {path: path.read_bytes() for path in Path().iterdir() if path.name != "__pycache__"}
    assert after == before


def test_a_disk_that_fills_leaves_what_was_there(monkeypatch, capsys):
    Path("pulses.csv").write_text(GOOD)
    Path("pulses-cell.toml").write_text("older")
    real = Path.write_bytes

    def full(path, content):
        if ".png" in path.name:
            raise OSError(28, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run(monkeypatch, "pulses.csv") == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hwsim: pulses-residuals.png cannot be written: No space left on device\n")
    assert sorted(os.listdir()) == ["pulses-cell.toml", "pulses.csv"]
    assert Path("pulses-cell.toml").read_text() == "older"

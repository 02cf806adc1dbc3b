"""The command line: results on standard output, one clear sentence and status 2 for whatever is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim
from hwsim import cli, train

COMMANDS = ("devices", "models", "components", "check", "new-device", "train", "compare")
HARD = Path(__file__).with_name("hard_devices.py")
QUICK = ["--epochs", "1", "--seeds", "1", "--learning-rates", "0.3"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test in a folder of its own, 200 columns wide, without colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of `hwsim arguments...`."""
    monkeypatch.setattr(sys, "argv", ["hwsim", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def strict(text: str) -> Any:
    """JSON without NaN and infinity."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    return json.loads(text, parse_constant=refuse)


# -- help --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_with_an_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    out, err = capsys.readouterr()
    assert f"Example: hwsim {command}" in out
    assert err == ""


def test_the_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)
    assert "NAME[:PRESET][:key=value]..." in out


def test_examples_in_the_help_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["devices"], ["models"], ["components", "mac"], ["new-device", "spintronic"]):
        assert run(monkeypatch, *arguments) == 0, arguments
    assert Path("hwsim-spintronic").is_dir()
    capsys.readouterr()


def test_without_a_command_there_is_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch) == 2
    out, err = capsys.readouterr()
    assert "Usage" in out + err
    assert "compare" in out + err


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"{hwsim.__version__}\n"


# -- commands of plug-ins ----------------------------------------------------------------------------------

GREET = """\
import typer


def greet(name: str, loud: bool = typer.Option(False, help="In capitals.")) -> None:
    \"\"\"Say hello.\"\"\"
    print(f"hello {name}".upper() if loud else f"hello {name}")


def unreadable(made: "int | str | None") -> None:
    \"\"\"Not for typer.\"\"\"
"""


@pytest.fixture
def plugins(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three commands of a stranger's package, one of which cannot be imported and one not be read."""
    folder = elsewhere / "site"
    (folder / "strange-1.dist-info").mkdir(parents=True)
    (folder / "strange_greetings.py").write_text(GREET)
    (folder / "strange-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1\n")
    (folder / "strange-1.dist-info" / "entry_points.txt").write_text(
        "[hwsim.commands]\ngreet = strange_greetings:greet\nodd = strange_greetings:unreadable\n"
        "lost = no_such_module_at_all:go\n"
    )
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.mark.usefixtures("plugins")
def test_a_plug_in_s_command_is_listed_and_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert re.search("Commands of plug-ins.*greet +From strange_greetings; see: hwsim greet --help", out, re.DOTALL)
    assert "lost" in out
    assert "strange_greetings" not in sys.modules
    assert run(monkeypatch, "greet", "--help") == 0
    assert re.search("Usage: hwsim greet .*Say hello.*In capitals", capsys.readouterr().out, re.DOTALL)
    assert run(monkeypatch, "greet", "you", "--loud") == 0
    assert capsys.readouterr().out == "HELLO YOU\n"
    assert run(monkeypatch, "greet") == 2
    assert re.match("(?i)hwsim: missing argument .name.*see: hwsim greet --help", capsys.readouterr().err)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lost", r"command 'lost' \(no_such_module_at_all:go\) could not be imported: ModuleNotFoundError"),
        ("odd", "command 'odd' takes arguments that typer cannot read: "),
        ("gret", "no command 'gret'; installed: .*check, compare.*greet.*did you mean 'greet'"),
    ],
)
def test_a_plug_in_s_command_that_fails_is_one_sentence(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, name) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"hwsim: {words}.*\n", err)


def test_a_plug_in_cannot_take_the_place_of_a_command(
    plugins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "strange-1.dist-info" / "entry_points.txt").write_text("[hwsim.commands]\nmodels = no_such_module:go\n")
    with pytest.warns(RuntimeWarning, match=r"plug-in command 'models' \(no_such_module:go\) is not used"):
        assert run(monkeypatch, "models") == 0
    assert "mlp: " in capsys.readouterr().out


def test_the_help_imports_no_plug_in_and_nothing_heavy(plugins: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(plugins)!r}); sys.argv = ['hwsim', '--help']\n"
        "from hwsim.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print('\\nLOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, _, loaded = done.stdout.partition("\nLOADED ")
    assert "From strange_greetings" in shown
    names = set(loaded.split())
    assert "typer" in names
    assert not names & {"numba", "scipy", "sklearn", "matplotlib", "matplotlib.pyplot", "strange_greetings"}
    assert not {name for name in names if name.startswith(("hwsim.devices", "hwsim.models"))}


# -- lists -------------------------------------------------------------------------------------------------


def test_devices_are_listed_with_presets_and_parameters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "devices") == 0
    out = capsys.readouterr().out
    for name, cls in hwsim.registry.devices().items():
        assert f"\n{name}: " in "\n" + out
        for preset in cls.presets():
            assert f"    {name}:{preset}  " in out
    assert "power_cap_w= [W]" in out


def test_models_are_listed_with_parameters(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "models") == 0
    out = capsys.readouterr().out
    assert "\nmlp: " in "\n" + out
    assert "    hidden=(32,)" in out
    assert "<class" not in out


def test_components_are_listed_with_ranges_and_sources(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "components", "dram") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "low", "nominal", "high", "unit", "certainty"]
    values, rest = lines[2 : lines.index("")], lines[lines.index("") + 1 :]
    names = [line.split()[0] for line in values if not line.startswith(" ")]
    assert len(names) > 3
    assert all("dram" in name for name in names)
    assert values[1].startswith("    ")  # the source, below its value
    assert max(map(len, values)) < 120
    assert rest[0].startswith("How values are known: measured: ")


def test_check_ends_with_the_kit_s_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "check", "ideal") == 0
    assert "passed" in capsys.readouterr().out
    Path("bad.py").write_text(
        "from hwsim import Component, Device, Elementwise, Use\n\n\n"
        "class Bad(Device):\n"
        '    name = "bad"\n'
        "    host = None\n"
        '    components = {"part": Component(energy_j=1e-12, time_s=1e-9)}\n\n'
        "    def activity(self, op):\n"
        '        return None if getattr(op, "kind", "") in ("release", "update_outer") else {"part": Use(1)}\n\n'
        "    def backward(self, tile, dy):\n"
        "        return 2 * super().backward(tile, dy)\n"
    )
    assert run(monkeypatch, "check", "bad.py:Bad") == 1
    assert "failed" in capsys.readouterr().out


# -- train -------------------------------------------------------------------------------------------------


def test_train_prints_accuracy_beside_its_controls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", "mlp:hidden=8", "--device", "gpu:h100", "--epochs", "1", "--seeds", "2") == 0
    above, _, bill = capsys.readouterr().out.partition("\n\n")
    lines = above.splitlines()
    assert len(lines) == 4
    assert bill.startswith("What a training step of seed 0 costs")
    assert lines.pop(0) == (
        "Mlp 64-8-10 on digits by gpu:h100 (test split: accuracy in percent, 360 samples, most frequent class 11.9%)"
    )
    for seed, line in enumerate(lines[:2]):
        assert line.startswith(f"seed {seed}: test accuracy ")
        for words in ("exact arithmetic ", "last layer only ", "35 steps in 1 epoch,", "J (", " a step"):
            assert words in line
    assert lines[2].startswith("2 seeds: test accuracy ")


def test_train_tells_what_a_step_costs_and_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--device", "digital:int8", "--epochs", "1", "--no-controls", "--seed", "3", "--seeds", "2"]
    assert run(monkeypatch, *arguments, "--json", "a.json") == 0
    out = capsys.readouterr().out
    result = strict(Path("a.json").read_text())
    bill, first = result["bill"], result["rows"][0]
    assert bill["seed"] == first["seed"] == 3
    for key in ("energy_per_step_j", "time_per_step_s"):
        assert bill[key] == first[key]
    step_j = bill["energy_per_step_j"]["nominal"]
    assert sum(part["energy_j"] for part in bill["energy_by_part"]) == pytest.approx(step_j)
    assert sum(bound["time_s"] for bound in bill["time_by_bound"]) == pytest.approx(bill["time_per_step_s"])
    assert bill["excluded"] == {"digital:int8": list(hwsim.registry.devices()["digital"].excluded)}
    assert set(bill["area_mm2"]) == {"digital:int8"}
    largest = bill["energy_by_part"][0]
    assert re.search(f"{largest['phase']} +{largest['component']}", out)
    for words in ("What a training step of seed 3 costs", "others", "100%", "Time/step: ", "Area: ", "Left out of "):
        assert words in out
    assert "deployment" not in result


def test_train_deploys_and_lets_age(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    aged = ["--deploy", "digital:int8", "--ages", "1s,30d"]
    assert run(monkeypatch, "train", "--epochs", "1", "--no-controls", *aged, "--json", "-") == 0
    out, err = capsys.readouterr()
    found = strict(out)["deployment"]
    assert found["device"] == "digital:int8"
    assert [(row["age"], row["age_s"]) for row in found["by_age"]] == [("1s", 1.0), ("30d", 30 * 86400.0)]
    assert len(found["programmings"]) == 2 * 5  # ages by seeds
    exact = strict(out)["rows"][0]["test_accuracy"]  # it was trained by exact arithmetic
    assert {row["exact_accuracy"] for row in found["by_age"]} == {exact}
    # Nothing drifts here, and no programming errs: equal at all ages, without spread.
    (only,) = {row["accuracy"]["mean"] for row in found["by_age"]}
    assert f"1s   {100 * only:.1f} ± 0.0  {100 * exact:.1f}\n30d  {100 * only:.1f} ± 0.0" in err
    assert "Weights of seed 0 programmed on digital:int8" in err


def test_usual_ages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "train", "xor", "--epochs", "1", "--no-controls", "--deploy", "ideal") == 0
    out = capsys.readouterr().out
    assert re.findall(r"^(\w+) +[\d.]+ ± [\d.]+ +[\d.]+$", out, re.MULTILINE) == ["1s", "1h", "30d", "365d"]


def test_train_tells_of_wear(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("worn.py").write_text(
        "from hwsim.devices.ideal import Ideal\n\n\n"
        "class Worn(Ideal):\n"
        '    name = "worn"\n\n'
        "    def update_outer(self, tile, x, dy, scale):\n"
        "        super().update_outer(tile, x, dy, scale)\n"
        '        tile.state["moves"] = tile.state.get("moves", 0) + 1\n\n'
        "    def wear(self, tile):\n"
        '        return {"moves": tile.state.get("moves", 0)}\n'
    )
    arguments = ["train", "xor", "--device", "worn.py:Worn", "--epochs", "7", "--no-controls", "--json", "a.json"]
    assert run(monkeypatch, *arguments) == 0
    assert strict(Path("a.json").read_text())["bill"]["wear"] == {"fc1": {"moves": 7.0}, "fc2": {"moves": 7.0}}
    out = capsys.readouterr().out
    assert "What use has left on the tiles of seed 0\n\nlayer  moves\n-----  -----\nfc1    7\nfc2    7\n" in out


def test_train_xor_takes_its_recipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "train", "xor", "--json", "a.json") == 0
    result = strict(Path("a.json").read_text())
    assert result["data"] == "xor"
    (row,) = result["rows"]
    assert row["validation_accuracy"] == 1.0
    assert row["steps"] == row["epochs"] < 1000  # it stops when all four rows are right
    assert row["exact_arithmetic_accuracy"] == row["test_accuracy"]  # it is exact arithmetic
    capsys.readouterr()
    assert run(monkeypatch, "train", "xor", "--epochs", "3", "--json", "b.json") == 0
    assert strict(Path("b.json").read_text())["rows"][0]["steps"] == 3  # what is asked for goes first
    out = capsys.readouterr().out
    assert "no cost" in out
    assert "share of rows within 0.4 of the target" in out  # what an accuracy of values is


@pytest.mark.parametrize("name", ["rnn:width=4", "gpt:width=4:heads=1:layers=1"])
def test_language_models_take_their_recipe(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", name, "--batch", "1024", "--no-controls", "--json", "a.json") == 0
    result = strict(Path("a.json").read_text())
    assert result["data"] == "corpus"
    assert result["rows"][0]["epochs"] == 1
    assert 0.1 < result["most_frequent_class_share"] < 0.4
    assert "most frequent class" in capsys.readouterr().out


def test_widths_may_be_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "train", "mlp:widths=64-7-10", "--epochs", "1", "--no-controls", "--json", "a.json") == 0
    assert "widths=(64, 7, 10)" in strict(Path("a.json").read_text())["model"]
    assert capsys.readouterr().out.startswith("Mlp 64-7-10 on digits")


def test_train_json_on_standard_output_is_alone_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", "mlp", "--epochs", "1", "--json", "-", "--no-controls") == 0
    out, err = capsys.readouterr()
    row = strict(out)["rows"][0]
    assert "exact_arithmetic_accuracy" not in row
    assert set(row["history"][0]) == {"epoch", "steps", "loss", "validation_accuracy", "energy_j", "time_s"}
    assert "\nseed 0: test accuracy" in err


def test_a_control_that_diverges_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = train.fit

    def fit(*arguments: Any, **options: Any) -> Any:
        if options.get("frozen"):
            raise hwsim.errors.TrainingError("training diverged at step 1")
        return real(*arguments, **options)

    monkeypatch.setattr(train, "fit", fit)
    assert run(monkeypatch, "train", "mlp", "--epochs", "1", "--json", "a.json") == 0
    assert "last layer only diverged" in capsys.readouterr().out
    assert strict(Path("a.json").read_text())["rows"][0]["last_layer_only_accuracy"] is None


def test_sizes_of_a_model_come_from_the_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (60, 7))
    np.savez("mine.npz", x_train=x, y_train=(x[:, 0] > 0.5) * 2, x_test=x, y_test=(x[:, 0] > 0.5) * 2)
    assert run(monkeypatch, "train", "mlp", "--data", "npz:mine.npz", "--epochs", "1", "--json", "a.json") == 0
    assert "widths=(7, 32, 3)" in strict(Path("a.json").read_text())["model"]
    capsys.readouterr()


def test_a_model_from_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.py").write_text(
        "from hwsim.nn import dense\n\n\n"
        "class Net:\n"
        "    def __init__(self, inputs, outputs, wide=False):\n"
        "        self.input_shape, self.outputs, self.wide = (inputs,), outputs, wide\n\n"
        "    def __call__(self, net, x):\n"
        "        assert self.wide is True\n"
        '        return dense(net, "only", x, self.outputs)\n'
    )
    assert run(monkeypatch, "train", "net.py:Net:wide=true", "--epochs", "1", "--json", "a.json") == 0
    assert " at 0x" not in Path("a.json").read_text()
    capsys.readouterr()


# -- compare -----------------------------------------------------------------------------------------------


def test_compare_writes_all_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", "a.json", "--csv", "a.csv", "--html", "a.html", "--figure", "a.svg"]
    assert run(monkeypatch, "compare", "--devices", "ideal, digital:int8", *QUICK, *files) == 0
    out, err = capsys.readouterr()
    assert "Mlp 64-32-10 on digits: 1 epoch, batch 32, sgd, 1 seed" in out
    assert err == "4 trainings\nfigure: a.svg\n"  # two devices, each whole and with its last layer alone
    assert [row["device"] for row in strict(Path("a.json").read_text())["rows"]] == ["ideal", "digital:int8"]
    assert Path("a.csv").read_text().count("\n") == 3
    assert "<table>" in Path("a.html").read_text(encoding="utf-8")
    assert "<svg" in Path("a.svg").read_text()


def test_compare_json_on_standard_output_is_alone_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "compare", "--devices", "ideal", *QUICK, "--json", "-") == 0
    out, err = capsys.readouterr()
    assert strict(out)["hwsim_comparison"] == 1
    assert "What each reaches" in err
    assert Path("hwsim-compare.png").is_file()


def test_compare_takes_a_model_s_recipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", "xor", "--epochs", "2", "--seeds", "1", "--target", "0.5", "--devices", "ideal"]
    assert run(monkeypatch, "compare", *arguments, "--json", "a.json") == 0
    result = strict(Path("a.json").read_text())
    assert result["data"]["name"] == "xor"
    assert result["settings"]["learning_rates"] == [20.0]
    assert (result["settings"]["epochs"], result["settings"]["batch"]) == (2, 4)
    capsys.readouterr()


# -- what is refused ---------------------------------------------------------------------------------------


REFUSED = {
    "unknown command": (["compair"], "no command 'compair'; installed: .*check, compare.*did you mean 'compare'"),
    "unknown option": (["compare", "--nope"], "--nope"),
    "no number": (["compare", "--seeds", "three"], "--seeds"),
    "no number of epochs": (["train", "--epochs", "1.5"], "--epochs"),
    "missing argument": (["check"], "(?i)missing argument .device.*see: hwsim check --help"),
    "unknown device": (["compare", "--devices", "ideal,gpuu"], "no device 'gpuu'; installed: .*did you mean 'gpu'"),
    "unknown preset": (["train", "--device", "gpu:h1000"], "no preset .*'h1000'; .*h100"),
    "unknown parameter": (["train", "--device", "gpu:speed=3"], "no parameter 'speed'; it has: "),
    "malformed device": (["train", "--device", "gpu::"], "has an empty part"),
    "no devices": (["compare", "--devices", ""], "a device name is empty"),
    "devices with a hole": (["compare", "--devices", "ideal,,gpu"], "a device name is empty"),
    "device twice": (["compare", "--devices", "gpu,gpu"], "gpu twice"),
    "device file that is missing": (["check", "none.py:Chip"], "no file 'none.py'"),
    "unknown model": (["train", "mpl"], "no model 'mpl'; .*did you mean 'mlp'"),
    "unknown model parameter": (["train", "mlp:depth=3"], "no parameter 'depth'; it has: .*hidden"),
    "misspelt model parameter": (["train", "mlp:hiden=3"], "did you mean 'hidden'"),
    "widths in words": (["train", "mlp:widths=big"], "widths 'big': write widths as 256-128"),
    "model with a preset": (["train", "mlp:big"], "'big' is not key=value"),
    "model that refuses": (["train", "mlp:hidden=0"], "widths of one or more"),
    "model that cannot be built": (["train", "mlp:inputs=many"], "mlp"),
    "unknown data": (["train", "--data", "mnist"], "no data set 'mnist'; known: .*mnist5k"),
    "missing data": (["train", "--data", "npz:none.npz"], "none.npz"),
    "inputs that do not fit": (["train", "xor", "--data", "digits"], r"reads .* \[2\], digits has .*; try --data xor"),
    "outputs that do not fit": (["train", "mlp:outputs=3"], "10 classes, Mlp 3 outputs"),
    "text for a network of numbers": (["train", "mlp", "--data", "corpus"], r"corpus has token ids \[64\]$"),
    "numbers for a network of text": (
        ["train", "gpt", "--data", "digits"],
        r"Gpt reads token ids \[64\], digits has real-valued inputs \[64\]; try --data corpus$",
    ),
    "one target for two outputs": (
        ["train", "mlp:outputs=2", "--data", "xor"],
        r"xor has targets \[1\] for each sample, Mlp gives outputs \[2\]: squared_error cannot compare them$",
    ),
    "ages of nothing": (["train", "--ages", "1s"], "ages '1s' of what\\? give --deploy DEVICE"),
    "ages without a unit": (["train", "--deploy", "ideal", "--ages", "1,9"], "age '1': needs a number with s, min, h"),
    "no ages": (["train", "--deploy", "ideal", "--ages", ""], "age '': needs a number with"),
    "negative age": (["train", "--deploy", "ideal", "--ages", "1s,-1h"], "age '-1h': needs a number with"),
    "an age twice": (["train", "--deploy", "ideal", "--ages", "1h,60min"], "60min is there twice"),
    "unknown device to deploy on": (["train", "--deploy", "idael"], "no device 'idael'; .*did you mean 'ideal'"),
    "device to deploy on that does not fit": (
        ["train", "mlp:activation=device", "--device", f"{HARD}:LearnedAbsorber", "--deploy", "ideal"],
        "ideal has no activation of its own",
    ),
    "negative learning rate": (["train", "--learning-rate", "-0.1"], "learning rate -0.1: needs a finite value above"),
    "zero learning rate": (["train", "--learning-rate", "0"], "learning rate 0"),
    "NaN learning rate": (["train", "--learning-rate", "nan"], "learning rate nan"),
    "infinite learning rate": (["compare", "--learning-rates", "0.1,inf"], "learning rate inf"),
    "learning rates in words": (["compare", "--learning-rates", "0.1;0.3"], "'0.1;0.3': write numbers separated by"),
    "learning rates with a hole": (["compare", "--learning-rates", "0.1,,0.3"], "write numbers separated by"),
    "no fp8": (["train", "--device", "gpu:v100:precision=fp8"], "this card has fp64, fp32, fp16"),
    "no fp8 in a comparison": (["compare", "--devices", "ideal,gpu:v100:precision=fp8"], "this card has"),
    "NaN parameter": (["train", "--device", "gpu:power_cap_w=nan"], "power_cap_w='nan'"),
    "unknown optimizer": (["train", "--optimizer", "lion"], "no optimizer 'lion'; known: sgd, momentum, adam"),
    "unknown loss": (["train", "--loss", "hinge"], "no loss 'hinge'; known: "),
    "loss that does not fit": (["train", "xor", "--loss", "cross_entropy"], "needs class labels"),
    "zero epochs": (["train", "--epochs", "0"], "epochs 0: needs a whole number from 1"),
    "negative batch": (["compare", "--batch", "-3"], "batch -3"),
    "zero seeds": (["compare", "--seeds", "0"], "seeds 0"),
    "zero seeds to train": (["train", "--seeds", "0"], "seeds 0"),
    "negative seed": (["compare", "--seed", "-1"], "seed -1"),
    "negative seed to train": (["train", "--seed", "-1"], "seed -1: needs a whole number from 0"),
    "target above one": (["compare", "--target", "95"], "target 95"),
    "until above one": (["train", "--until", "95"], "95: needs a value above 0 and up to 1"),
    "resume from nowhere": (["train", "--resume"], "needs a checkpoint"),
    "existing checkpoint": (["train", "--checkpoint", "junk"], "junk exists; give --resume to go on from it, or"),
    "intervals of no checkpoint": (["train", "--checkpoint-every", "3"], "needs a checkpoint"),
    "checkpoint of many seeds": (["train", "--checkpoint", "c", "--seeds", "2"], "one run"),
    "no checkpoint": (["train", "--resume", "--checkpoint", "c"], "there is no checkpoint c"),
    "checkpoint that is none": (["train", "--resume", "--checkpoint", "junk"], "checkpoint junk cannot be read"),
    "checkpoint in no folder": (["train", "--checkpoint", "none/c"], "there is no folder none"),
    "JSON in no folder": (["compare", "--json", "none/a.json"], "none/a.json cannot be written: there is no folder"),
    "JSON of training in no folder": (["train", "--json", "none/a.json"], "there is no folder"),
    "JSON where no file can be": (["train", "--json", "/proc/a.json"], "/proc/a.json cannot be written"),
    "JSON that is a folder": (["train", "--json", "."], "is a folder"),
    "CSV in no folder": (["compare", "--csv", "none/a.csv"], "there is no folder"),
    "HTML in no folder": (["compare", "--html", "none/a.html"], "there is no folder"),
    "figure in no folder": (["compare", "--figure", "none/a.png"], "there is no folder"),
    "figure of no kind": (["compare", "--figure", "a.xyz"], "a.xyz cannot be drawn: .*png"),
    "figure without an ending": (["compare", "--figure", "a"], "a cannot be drawn: .*png"),
    "unknown component": (["components", "flux"], "no component value holds 'flux'"),
    "device name that is none": (["new-device", "1x"], "1x"),
    "device in a file": (["new-device", "x", "--folder", "junk"], "no folder junk"),
    "device in no folder": (["new-device", "x", "--folder", "none"], "no folder none"),
    "device where no file can be": (["new-device", "x", "--folder", "/proc"], "/proc/hwsim-x cannot be written"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_sentence_before_any_training(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, words = REFUSED[case]
    Path("junk").write_text("not a checkpoint")
    monkeypatch.setattr(train, "learning_rule", lambda name: lambda *step: pytest.fail("trained"))
    assert run(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("hwsim: ")
    assert "Traceback" not in err
    assert re.search(words, line), line


def test_divergence_is_one_sentence_with_step_and_layer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", "--learning-rate", "1e30") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hwsim: training diverged at step 2: fc2/w: ")
    assert err.count("\n") == 1


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "train", "--epochs", "1", "--no-controls", "--json", "/dev/full") == 2
    assert capsys.readouterr().err == "hwsim: /dev/full cannot be written: No space left on device\n"


def test_an_interrupt_without_a_checkpoint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "learning_rule", lambda name: interrupted)
    assert run(monkeypatch, "train") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "hwsim: interrupted"


def test_a_full_disk_below_standard_output_is_one_sentence() -> None:
    for command in ("devices", "components"):  # less and more than what is kept back before it is written
        with open("/dev/full", "w") as full:
            done = subprocess.run([*HWSIM, command], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert done.stderr == "hwsim: the output cannot be written: No space left on device\n"


def test_a_closed_standard_output_is_one_sentence() -> None:
    done = subprocess.run(["bash", "-c", '"$@" >&-', "_", *HWSIM, "devices"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "hwsim: standard output is closed, so there is nowhere to print to\n"


def test_a_closed_standard_error_changes_nothing(tmp_path: Path) -> None:
    arguments = ["compare", "--devices", "ideal", *QUICK]
    done = subprocess.run(["bash", "-c", '"$@" 2>&-', "_", *HWSIM, *arguments], capture_output=True, cwd=tmp_path)
    assert done.returncode == 0
    assert b"What each reaches" in done.stdout


# -- true processes ----------------------------------------------------------------------------------------

HWSIM = [sys.executable, "-c", "from hwsim.cli import main; main()"]


def test_a_process_that_is_refused() -> None:
    done = subprocess.run([*HWSIM, "train", "--device", "nope"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("hwsim: no device 'nope'; installed: ")


def test_a_process_that_prints_json(tmp_path: Path) -> None:
    arguments = ["compare", "--devices", "digital:int8", *QUICK, "--json", "-"]
    done = subprocess.run([*HWSIM, *arguments], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert strict(done.stdout)["summary"][0]["device"] == "digital:int8"
    assert "\x1b" not in done.stderr  # no progress bar where nobody watches


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "from hwsim.cli import main; main()" components | head -1', sys.executable],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.startswith("name")
    assert "Traceback" not in done.stderr

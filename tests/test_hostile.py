"""Hostile arguments, device strings, TOML and JSON: one sentence, never a traceback."""

import inspect
import json
import re
import string
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import hwsim
from hwsim import arguments, calibrate, cli, data, library, models, networks, nn, registry
from hwsim.checkpoint import META, read_checkpoint, write_checkpoint
from hwsim.cost import Kind, Product
from hwsim.deploy import ages_in
from hwsim.errors import ConfigError, DataError, DeviceError, HwsimError, PluginError
from hwsim.ledger import Ledger, TileShape
from hwsim.nn import Network
from hwsim.parameters import parameters_of
from hwsim.train import loss_for, most_frequent_class_share, require_fit


def fuzzed(examples: int) -> settings:
    """Always the same examples, of which one may take its time; files in a folder of the test are overwritten."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=quiet
    )  # fmt: skip


@contextmanager
def one_sentence(given: str = "") -> Iterator[None]:
    """What is refused is refused on one line, by an error of hwsim's own; anything else is a traceback.

    What was `given` is quoted as it is, with the lines that it has.
    """
    refusal = None
    try:
        with np.errstate(all="ignore"):
            yield
    except HwsimError as error:
        refusal = str(error)
    assert refusal is None or (refusal and ("\n" not in refusal or "\n" in given)), refusal


NUMBERS = [
    "nan", "inf", "-inf", "1e308", "-1e308", "1e400", "1e-320", "1e39", "-1e39", "1e-59", "0", "-0.0", "-1", "0.5",
    "1_000", "1e9", "1e18", "0x10", "9" * 400, "9" * 5000, "\u0663", "1e", "--1", "1,5", "1.5.2",
]  # fmt: skip
WORDS = ["none", "None", "true", "é", "\0", "\ud800", "\u202e", " ", "[]", "{}", "*", "gpu", "fixed99.99", "fixed1e9.3"]
FILES = ["no.toml:x", "/dev/null.toml:x", "no.py:C", "~nobody-here/a.py:C", "~nobody-here/a.toml:b", "\0.toml:x", "/"]
VALUES = st.sampled_from([*NUMBERS, *WORDS, *FILES]) | st.text(max_size=8)
DEVICES = registry.devices()
SLIPPERY = st.text(alphabet=":=.,#/~\\ \t\0\ud800é", max_size=6)


@st.composite
def device_strings(draw: st.DrawFn) -> str:
    """Devices that there are with a parameter that it has and a value that it may not have; and worse."""
    name = draw(st.sampled_from(sorted(DEVICES)))
    presets, known = sorted(DEVICES[name].presets()), sorted(parameters_of(DEVICES[name]))
    parts = [name]
    if draw(st.booleans()):
        parts.append(draw(st.sampled_from(presets) if presets else VALUES))
    for _ in range(draw(st.integers(0, 2))):
        parts.append(f"{draw(st.sampled_from(known))}={draw(VALUES)}")
    if draw(st.integers(0, 4)) == 0:
        parts.insert(draw(st.integers(0, len(parts))), draw(VALUES | SLIPPERY))
    return ":".join(parts)


# -- device strings --------------------------------------------------------------------------------------------


@fuzzed(600)
@given(text=device_strings() | SLIPPERY | st.text(max_size=12))
@example(text="a" * 5000)
@example(text="a" * 5000 + ".py:C")
@example(text="\ud800.py:C")
@example(text="\0.py:C")
@example(text="~nobody-here/a.py:C")
@example(text="cpu:~nobody-here/a.toml:b")
@example(text="cpu:" + "a" * 5000 + ".toml:b")
@example(text="crossbar:cell=\0.toml:b")
@example(text="gpu:active_power_w=0")
@example(text="crossbar:adc_effective_bits=1000")
@example(text="optical:extinction_db=1e9")
@example(text="reversible:voltage_v=1e308")
def test_a_device_string_makes_a_device_or_one_sentence(text: str) -> None:
    with one_sentence(text):
        device = registry.device(text)
        # What was accepted can be described and priced.
        assert device.spec
        assert device.contract.forward >= 0
        assert dict(device.components) is not None
        device.uses(Product(Kind.PROGRAM, 0, 7, 5))
        device.installed([TileShape(1, 7, 5)])


@fuzzed(120)
@given(name=st.sampled_from(sorted(DEVICES)), value=st.none() | st.integers() | st.floats() | st.text() | st.binary(),
       rank=st.integers(0, 200))  # fmt: skip
def test_parameters_of_any_type_are_taken_or_refused(name: str, value: Any, rank: int) -> None:
    known = sorted(set(parameters_of(DEVICES[name])) - {"host"})
    with one_sentence():
        registry.device(name, **{known[rank % len(known)]: value})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ideal:seed=nan", "seed='nan' cannot be read as int"),
        ("gpu:h100:die_mm2=1e308", "die_mm2='1e308': needs a magnitude from 1e-60 to 1e"),
        ("crossbar:pcm:fast_rate=1e-300", "needs a magnitude from 1e-60"),
        ("gpu:h100:die_mm2=-1", "needs low > 0"),
        ("gpu:active_power_w=0", "cannot be computed with these parameters: float division by zero"),
        ("digital:int8:seed=" + "9" * 5000, "cannot be read as int"),
        ("\0.py:C", "no file"),
    ],
)
def test_what_is_said_of_some(text: str, words: str) -> None:
    with pytest.raises(DeviceError) as refused:
        registry.device(text)
    assert words in str(refused.value)


def test_a_seed_of_many_digits_is_kept_digit_by_digit() -> None:
    # 2^53 + 1 is the first whole number that a float has not.
    assert registry.device("ideal:seed=9007199254740993").seed == 2**53 + 1
    assert registry.device("ideal:seed=1e3").seed == 1000


# -- files of devices ----------------------------------------------------------------------------------------------

BODIES = [
    "import sys\nsys.exit(3)", "raise SystemExit(5)", "raise SystemExit('bye')", "exit()", "1 / 0", "raise MemoryError",
    "raise", "return 3", "import no_such_module", "\0", "\ud800", "def", "class My: pass", "My = 3", "My = None",
    "from hwsim.devices.ideal import Ideal as My", "assert False", "raise BaseExceptionGroup('a', [ValueError()])",
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("place", ["{}:My", "crossbar:cell={}:My", "{}:No"])
def test_a_file_of_a_device_or_cell(body: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(body, encoding="utf-8", errors="surrogatepass")
    with one_sentence(body):
        assert registry.device(place.format(path)).spec


@pytest.mark.parametrize(("body", "status"), [("import sys\nsys.exit(3)", "3"), ("raise SystemExit(5)", "5")])
def test_a_file_that_ends_the_program_is_one_sentence(body: str, status: str, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(body)
    with pytest.raises(PluginError, match=f"own.py could not be imported: SystemExit: {status}"):
        registry.device(f"{path}:My")
    with pytest.raises(PluginError, match=f"own.py could not be imported: SystemExit: {status}"):
        arguments.model_and_data(f"{path}:My", None)


def test_an_entry_point_that_ends_the_program_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        value = "elsewhere:My"

        def load(self) -> None:
            raise SystemExit(3)

    monkeypatch.setattr(registry, "installed", lambda group: {"theirs": Point()})
    with pytest.raises(PluginError, match=r"device 'theirs' \(elsewhere:My\) could not be imported: SystemExit: 3"):
        registry.device("theirs")


# -- arguments ---------------------------------------------------------------------------------------------------


@fuzzed(300)
@given(text=VALUES | SLIPPERY)
def test_words_of_a_command_line(text: str) -> None:
    for parse in (
        networks.literal,
        arguments.device_names,
        lambda each: arguments.numbers(each, "rates"),
        lambda each: ages_in(each),
        library.entry,
        lambda each: arguments.model_and_data(each, "xor"),
        lambda each: arguments.model_and_data(f"mlp:hidden={each}", "xor"),
        lambda each: arguments.model_and_data(f"mlp:{each}=3", "xor"),
    ):
        with one_sentence(text):
            parse(text)


MODELS = registry.models()
PARAMETERS = [(name, key) for name, factory in MODELS.items() for key in inspect.signature(factory).parameters]
WHOLE = {(name, key) for name, key in PARAMETERS if inspect.signature(MODELS[name]).parameters[key].annotation == "int"}


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Depths that are allowed are gone through: let few be."""
    monkeypatch.setattr(nn, "MOST_PLACED", 200)


@fuzzed(250)
@given(which=st.sampled_from(PARAMETERS), value=VALUES | st.sampled_from(["2", "3.0", "1e3", "64", "8-4", "relu"]))
@example(which=("gpt", "layers"), value="1.5")
@example(which=("gpt", "width"), value="64.0")
@example(which=("gpt", "heads"), value="2.0")
@example(which=("gpt", "heads"), value="true")
@example(which=("mlp", "inputs"), value="64.0")
@example(which=("mlp", "outputs"), value="10.5")
@example(which=("revnet", "blocks"), value="1.5")
@example(which=("revnet", "blocks"), value="true")
@example(which=("revnet", "blocks"), value="99999999")
@example(which=("mlp", "hidden"), value="999999999")
@example(which=("mlp", "hidden"), value="99999999999999999999")
@example(which=("mlp", "hidden"), value="1e9")
@example(which=("mlp", "bias"), value="maybe")
@example(which=("rnn", "length"), value="99999999")
def test_parameters_of_models(which: tuple[str, str], value: str, shallow: None) -> None:
    name, key = which
    with one_sentence(value):
        model, dataset, _ = arguments.model_and_data(f"{name}:{key}={value}", None)
        ideal = registry.device("ideal")
        require_fit(model, dataset, ideal, loss_for(dataset))
        net = Network(model, ideal, shape_only=True)
        assert net.parameter_count > 0
        if which in WHOLE:
            assert type(getattr(model, key, 1)) is int
        if net.parameter_count < 10**6:
            Network(model, ideal)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gpt:layers=1.5", "gpt:layers=1.5 cannot be read as int"),
        ("gpt:heads=true", "gpt:heads=true cannot be read as int"),
        ("mlp:outputs=10.5", "mlp:outputs=10.5 cannot be read as int"),
        ("mlp:inputs=" + "9" * 40, "cannot be read as int"),
        ("revnet:blocks=true", "revnet:blocks=true cannot be read as int"),
        ("mlp:bias=maybe", "mlp:bias=maybe cannot be read as bool"),
        ("mlp:hidden=1e9", "hidden '1e9': write widths as 256-128"),
        ("mlp:activation=3", "no activation '3'; known: relu"),
        ("mlp:hidden=999999999", r"take 600 GB, and this machine has .* GB of memory; take a smaller network"),
        ("mlp:hidden=99999999999999999999", "'fc1/w' has a side of more than 9223372036854775807"),
        ("revnet:blocks=99999999", "the model has more than 200 tiles and parameters; take fewer layers"),
    ],
)
def test_what_is_said_of_models(
    text: str, words: str, shallow: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of 10^9 - 1 hidden units: (64 + 10) x 10^9 weights and 10^9 biases, 8 bytes each with its gradient.
    monkeypatch.setattr(sys, "argv", ["hwsim", "train", text, "--data", "corpus" if text[0] == "g" else "digits"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1
    assert re.search(words, said), said


def test_parameters_are_what_their_factory_says() -> None:
    def built(text: str, data_name: str = "digits") -> Any:
        return arguments.model_and_data(text, data_name)[0]

    assert built("mlp:bias=false").bias is False
    assert built("mlp:bias=1").bias is True
    assert built("mlp:hidden=7:activation=none") == models.mlp([64, 7, 10], None)
    assert built("revnet:blocks=2e0:width=8.0") == models.revnet(blocks=2, width=8)
    assert built("gpt:heads=2.0", "corpus").heads == 2
    assert networks.network("mlp:hidden=7") == models.mlp(hidden=(7,))
    assert networks.typed("x", float, "1e3") == 1000.0
    assert networks.typed("x", int | float, "3") == 3.0
    assert networks.typed("x", float | None, "none") is None
    assert networks.typed("x", inspect.Parameter.empty, "3") == 3
    assert networks.typed("x", list[int], "a") == "a"


def test_models_whose_parameters_cannot_be_told(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("from __future__ import annotations\nM = 3\ndef N(*, width: NoSuchType = 3): ...\n")
    for name in "MN":
        with pytest.raises(PluginError, match=f"own.py:{name}' is .*, whose parameters cannot be told: "):
            arguments.model_and_data(f"{path}:{name}", None)


def test_too_little_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def allocate(**keywords: Any) -> None:
        raise MemoryError("Unable to allocate 7.28 PiB for an array with shape (1000000000000000,)")

    monkeypatch.setattr(cli, "app", allocate)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "hwsim: more memory is needed than there is (Unable to allocate 7.28 PiB for an array with shape "
        "(1000000000000000,)); take less\n"
    )


@fuzzed(120)
@given(
    device=st.sampled_from(["cpu", "gpu", "ideal", ""]) | VALUES,
    pairs=st.lists(st.tuples(st.sampled_from(sorted(parameters_of(DEVICES["cpu"]))), VALUES), max_size=2),
)
@example(device="cpu", pairs=[("call_s", "0")])
def test_devices_to_calibrate(
    device: str, pairs: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timings(*arguments: Any) -> None:
        raise ConfigError("stop here: what follows takes its time")

    monkeypatch.setattr(calibrate, "timings", timings)
    text = ":".join([device, *(f"{key}={value}" for key, value in pairs)])
    with one_sentence(text):
        calibrate.calibrate_to(text, tmp_path / "mine.toml")
        raise AssertionError("it was calibrated")


# -- data sets -----------------------------------------------------------------------------------------------------

NUMBERS_OF_A_LABEL = st.integers(-3, 12) | st.sampled_from([10**6, 2**20, 10**15, 2**62, 2**63 - 1, -(2**63)])
LABELS = st.lists(NUMBERS_OF_A_LABEL, min_size=12, max_size=12)
TYPES = ["int64", "uint64", "int8", "uint8", "bool", "float64", "float16", "complex64", "U3", "S2", "datetime64[s]"]


@fuzzed(120)
@given(x=LABELS, y=LABELS, x_type=st.sampled_from(TYPES), y_type=st.sampled_from(TYPES), text=st.booleans())
@example(x=[0, 1] * 6, y=[10**15] * 12, x_type="float64", y_type="int64", text=False)
@example(x=[10**15] * 12, y=[1] * 12, x_type="int64", y_type="int64", text=True)
def test_files_of_data(x: list[int], y: list[int], x_type: str, y_type: str, text: bool, tmp_path: Path) -> None:
    with np.errstate(all="ignore"):
        inputs, labels = (np.array(values).astype(kind) for values, kind in ((x, x_type), (y, y_type)))
    inputs = inputs.reshape(12, 1)
    arrays = {"x": inputs, "y": labels.reshape(12, 1) if text else labels}
    path = tmp_path / "d.npz"
    np.savez(path, **{f"{axis}_{split}": array for axis, array in arrays.items() for split in data.SPLITS})
    for name in ("mlp:hidden=2", "rnn:width=2"):
        with one_sentence():
            model, dataset, _ = arguments.model_and_data(name, f"npz:{path}")
            assert dataset.summary()
            most_frequent_class_share(dataset)
            if max(dataset.classes, dataset.tokens) < 1000:
                hwsim.fit(model, dataset, "ideal", epochs=1, learning_rate=1e-3)


def test_labels_and_tokens_that_are_no_classes() -> None:
    x, y = np.zeros((20, 3)), np.zeros(20, int)
    y[3] = 10**15
    with pytest.raises(DataError, match=r"1000000000000001 classes asked for or in its labels; allowed: 2 to 1048576"):
        data.from_arrays(x, y)
    tokens = np.zeros((20, 3), int)
    tokens[3] = 10**15
    with pytest.raises(DataError, match=r"x_train holds token ids up to 1000000000000000; allowed: 0\.\.1048575"):
        data.from_arrays(tokens, np.zeros((20, 3), int), x_test=tokens, y_test=np.zeros((20, 3), int))
    # A token that is never the next one counts for the vocabulary.
    tokens[3], y = 9, np.zeros((20, 3), int)
    found = data.from_arrays(tokens, y)
    assert (found.classes, found.tokens) == (2, 10)
    with pytest.raises(HwsimError, match="arrays has 10 kinds of token, Rnn a vocabulary of 2"):
        hwsim.fit(models.rnn(vocabulary=2, length=3), found, "ideal", epochs=1)
    hwsim.fit(models.rnn(vocabulary=10, length=3), found, "ideal", epochs=1)


@fuzzed(300)
@given(text=VALUES | SLIPPERY, scheme=st.sampled_from(["", "idx:", "npz:", "digits", "npz:/dev/null", "idx:/"]))
def test_names_of_data_sets(text: str, scheme: str) -> None:
    with one_sentence(text):
        data.load(scheme + text)


# Commands that, where a value happens to be allowed, end at once: four rows, one epoch.
QUICK = ["train", "xor", "--device", "ideal", "--epochs", "1", "--no-controls"]
OPTIONS = {"--batch", "--learning-rate", "--optimizer", "--loss", "--until", "--seed", "--data", "--device"}
OPTIONS |= {"--checkpoint-every", "--deploy", "--ages", "--resume", "--no-such-option", "-x"}
COMMANDS = st.one_of(
    st.tuples(st.sampled_from(sorted(OPTIONS)), VALUES).map(lambda pair: [*QUICK, *pair]),
    st.tuples(st.just("train"), VALUES, st.just("--epochs"), st.sampled_from(["1", "0", "-1", "nan", "1e9", ""])).map(
        list
    ),
    st.tuples(st.sampled_from(["components", "check", "new-device", "fit-cell", "estimate", "x"]), VALUES).map(list),
    st.lists(VALUES, max_size=3),
    st.tuples(st.just("compare"), st.just("--devices"), VALUES, st.just("--seeds"), st.just("0")).map(list),
)


@fuzzed(200)
@given(words=COMMANDS)
def test_commands_end_with_a_status_and_one_sentence(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in words if "\ud800" not in word]  # which no shell can pass on
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hwsim", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended, np.errstate(all="ignore"):
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code in (0, 1, 2), words
    if ended.value.code == 2 and not said.startswith("\n"):  # no words at all: the help
        assert said.startswith("hwsim: ") or "Usage" in said, (words, said)
        assert "Traceback" not in said


# -- TOML ----------------------------------------------------------------------------------------------------------

ROOT = Path(hwsim.__file__).parents[1]
TOMLS = [
    ROOT / "hwsim" / "components.toml",
    *sorted(path for path in (ROOT / "devices").glob("*/*.toml") if "cells" not in path.name),
]
CELLS = (ROOT / "devices" / "crossbar" / "cells.toml").read_text(encoding="utf-8").splitlines()
LINES = st.sampled_from(
    ["x = nan", "nominal = inf", "low = -1", "unit = 3", "certainty = []", "source = 1979-05-27", "[a.b]", "a = 1",
     "doc = 1", 'base = "x"', "base = {}", "nominal = {}", "exact = 1", "exact = true", "node_nm = 'x'", '"" = ""',
     "[[a]]", "= 3", "\ud800", "nominal = 0x" + "f" * 400, "x = " + "[" * 2000, "note = 3", "role = 'moon'",
     "nominal = true", "low = 9e999", "high = 1e-320", "unit = ''", "'\u202e' = 1"]
)  # fmt: skip


@st.composite
def mutilated(draw: st.DrawFn, lines: list[str]) -> str:
    """A file of which lines are lost, doubled, cut, or followed by others."""
    start = draw(st.integers(0, max(len(lines) - 30, 0)))
    found = list(lines[start : start + 30])
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(found) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                found[place] = found[place][: draw(st.integers(0, len(found[place])))]
            case 1:
                found.insert(place, draw(LINES))
            case 2:
                key, equals, _ = found[place].partition("=")
                found[place] = f"{key}{equals} {draw(VALUES)}"
            case _:
                found.insert(place, draw(st.sampled_from(found)))
    return "\n".join(found)


@fuzzed(250)
@given(text=st.sampled_from(TOMLS).flatmap(lambda path: mutilated(path.read_text(encoding="utf-8").splitlines()))
       | st.lists(LINES, max_size=6).map("\n".join) | st.text(max_size=20))  # fmt: skip
@example(text="x = " + "[" * 5000)
@example(text="x = " + "9" * 5000)
@example(text='[x]\nnominal = 1\nexact = true\nunit = []\nsource = "a"\ncertainty = "read"')
@example(text="[x]\nnominal = 0x" + "f" * 400 + '\nexact = true\nsource = "a"\ncertainty = "read"')
def test_component_values_and_presets(text: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    for read in (library.read_values, library.presets):
        with one_sentence(text):
            read(path)
    with one_sentence(text):
        registry.device(f"cpu:{path}:x")


@fuzzed(150)
@given(text=mutilated(CELLS), name=st.sampled_from(["reram-es", "pcm", "x", "a"]))
def test_memory_cells(text: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "cells.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with one_sentence(text):
        registry.device(f"crossbar:cell={path}:{name}")


# -- JSON ----------------------------------------------------------------------------------------------------------

LEAVES = st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats(-1e3, 1e3) | st.text(max_size=4)
JSONS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def replaced(value: Any, place: int, by: Any) -> Any:
    """A document in which one value, the one that is met as number `place`, is another."""
    left = place

    def walk(node: Any) -> Any:
        nonlocal left
        left -= 1
        if left == -1:
            return by
        if isinstance(node, dict):
            return {key: walk(inner) for key, inner in node.items()}
        return [walk(inner) for inner in node] if isinstance(node, list) else node

    return walk(value)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a short run."""
    path = tmp_path_factory.mktemp("kept") / "c"
    hwsim.fit(hwsim.model("xor"), data.load("xor"), "digital:int8", epochs=1, checkpoint=path)
    return path


@fuzzed(80)
@given(place=st.integers(0, 250), by=JSONS | st.just(float("inf")))
def test_checkpoints(place: int, by: Any, kept: Path) -> None:
    arrays, meta = read_checkpoint(kept)
    changed = kept.with_name("changed")
    inside = {key: value for key, value in meta.items() if key != "format"}
    write_checkpoint(changed, arrays, replaced(inside, place + 1, by))  # place 0 is the whole document
    with one_sentence():
        hwsim.fit(hwsim.model("xor"), data.load("xor"), "digital:int8", epochs=1, checkpoint=changed, resume=True)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\ud800", '{"format": 1e999}', "[]", "3", ""])
def test_the_text_in_a_checkpoint(text: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", **{META: np.frombuffer(text.encode(errors="surrogatepass"), np.uint8)})
    with pytest.raises(ConfigError, match="checkpoint "):
        read_checkpoint(tmp_path / "c.npz")


@fuzzed(250)
@given(place=st.integers(0, 120), by=JSONS)
def test_ledgers(place: int, by: Any, kept: Path) -> None:
    document = read_checkpoint(kept)[1]["ledger"]
    path = kept.with_name("ledger.json")
    path.write_text(json.dumps(replaced(document, place, by)))
    substrate = registry.device("digital:int8")
    with one_sentence():
        Ledger.from_json(path, {"digital:int8": substrate})


@fuzzed(200)
@given(text=st.text(alphabet=string.printable, max_size=30))
def test_files_that_are_no_ledger(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with one_sentence():
        Ledger.from_json(tmp_path / "x.json", {})

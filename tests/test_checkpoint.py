"""Checkpoints: always whole, never pickle, and a run that goes on from one ends with the same bits."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwsim
from hwsim import keeping, models, registry, train
from hwsim.arrays import Array
from hwsim.checkpoint import read_checkpoint, sole_user, write_checkpoint
from hwsim.data import Dataset
from hwsim.errors import ConfigError, DataError, Interrupted
from hwsim.files import require_writable, write_text
from hwsim.nn import Network
from hwsim.run import Run

MLP = models.mlp([64, 8, 10])


class Killed(Exception):
    """Stands for a process that ends without a last word."""


def killed_at(step: int) -> Any:
    """A learning rule that ends the process, as it were, in the middle of step number `step`."""
    real = train.learning_rule("backprop")
    done = 0

    def rule(net: Network, x: Array, y: Array, loss: Any, optimizer: Any) -> Any:
        nonlocal done
        done += 1
        if done == step:
            net.forward(x)  # half a step: charges and noise that must not survive
            raise Killed
        return real(net, x, y, loss, optimizer)

    return lambda name: rule


def everything(run: Run, path: Path | None = None) -> dict[str, Any]:
    """All that a run ends with, in comparable form."""
    found: dict[str, Any] = {name: np.asarray(value).tolist() for name, value in run.network.save().items()}
    found["ledger"] = sorted(map(repr, run.ledger.as_dict()["calls"]))
    found["epochs"], found["test"] = run.epochs, run.test_accuracy
    found["joules"] = run.energy_per_step_interval_j()
    if path is not None:
        arrays, meta = read_checkpoint(path)
        found |= {name: value.tolist() for name, value in arrays.items()}
        found["meta"] = meta | {"ledger": None}
    return found


# -- resume ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [2, 7, 13, 16])  # 5 batches an epoch: within, at and after ends of epochs
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("device", ["ideal", "digital:int8", "gpu:h100:precision=fp8"])
def test_a_run_that_was_killed_ends_with_the_same_bits(
    few: Dataset, tmp_path: Path, device: str, optimizer: str, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"epochs": 4, "batch": 20, "optimizer": optimizer, "learning_rate": 0.01, "seed": 5}
    substrate = hwsim.device(device)
    whole = hwsim.fit(MLP, few, substrate, checkpoint=tmp_path / "whole", **options)
    keep = {"checkpoint": tmp_path / "stopped", "checkpoint_every": 3}
    with monkeypatch.context() as patch:
        patch.setattr(train, "learning_rule", killed_at(stop))
        with pytest.raises(Killed):
            hwsim.fit(MLP, few, substrate, **options, **keep)
    written = (stop - 1) // 3 * 3
    if written:
        assert read_checkpoint(tmp_path / "stopped")[1]["step"] == written
    else:
        assert not (tmp_path / "stopped").exists()
        return
    resumed = hwsim.fit(MLP, few, substrate, **options, **keep, resume=True)
    assert everything(resumed, tmp_path / "stopped") == everything(whole, tmp_path / "whole")


def test_stochastic_rounding_really_draws_in_that_test(few: Dataset) -> None:
    # Else equal bits would prove nothing about noise: int8 moves counters on, and another device seed other weights.
    runs = [hwsim.fit(MLP, few, hwsim.device(f"digital:int8:seed={seed}"), epochs=1) for seed in (0, 1)]
    assert any("drawn/" in name for name in runs[0].network.save())
    states = [run.network.save()["fc1/w:state/w"] for run in runs]
    assert not np.array_equal(*states)


def test_longer_training_goes_on_from_a_finished_one(few: Dataset, tmp_path: Path) -> None:
    device = hwsim.device("digital:int8")
    whole = hwsim.fit(MLP, few, device, epochs=6)
    hwsim.fit(MLP, few, device, epochs=2, checkpoint=tmp_path / "c")
    longer = hwsim.fit(MLP, few, device, epochs=6, checkpoint=tmp_path / "c", resume=True)
    assert everything(longer) == everything(whole)
    again = hwsim.fit(MLP, few, device, epochs=6, checkpoint=tmp_path / "c", resume=True)
    assert everything(again) == everything(whole)


def test_a_checkpoint_changes_nothing(few: Dataset, tmp_path: Path) -> None:
    device = hwsim.device("digital:int8")
    kept = hwsim.fit(MLP, few, device, epochs=2, checkpoint=tmp_path / "c", checkpoint_every=1)
    assert everything(kept) == everything(hwsim.fit(MLP, few, device, epochs=2))


def test_a_stop_request_writes_and_names_the_file(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, steps = tmp_path / "c", train.learning_rule("backprop"), []

    def rule(*arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(train, "learning_rule", lambda name: rule)
        with pytest.raises(Interrupted, match=rf"stopped after step 7 of 20; {path} holds it; add --resume to go on"):
            hwsim.fit(MLP, few, hwsim.device("ideal"), epochs=4, batch=20, checkpoint=path)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert read_checkpoint(path)[1]["step"] == 7  # the step in hand was finished
    resumed = hwsim.fit(MLP, few, hwsim.device("ideal"), epochs=4, batch=20, checkpoint=path, resume=True)
    assert everything(resumed) == everything(hwsim.fit(MLP, few, hwsim.device("ideal"), epochs=4, batch=20))


def test_a_thread_may_train_with_a_checkpoint(few: Dataset, tmp_path: Path) -> None:
    runs: list[Run] = []  # signals belong to the main thread; elsewhere nothing is caught, and nothing breaks
    thread = threading.Thread(
        target=lambda: runs.append(hwsim.fit(MLP, few, hwsim.device("ideal"), epochs=1, checkpoint=tmp_path / "c"))
    )
    thread.start()
    thread.join()
    assert runs[0].steps == read_checkpoint(tmp_path / "c")[1]["step"] == 3


# -- processes that end ------------------------------------------------------------------------------------

COMMAND = [
    sys.executable,
    "-c",
    "from hwsim.cli import main; main()",
    "train",
    "mlp:hidden=8",
    "--device",
    "digital:int8",
    "--no-controls",
]
COMMAND += ["--optimizer", "adam", "--learning-rate", "0.003", "--epochs", "40"]


def started(path: Path, *options: str) -> subprocess.Popen[str]:
    """The command line at work on a checkpoint, with its first checkpoint written."""
    keep = ["--checkpoint", str(path), "--checkpoint-every", "3", *options]
    process = subprocess.Popen([*COMMAND, *keep], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists(), process.communicate()
    return process


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The JSON of a run that was never stopped."""
    path = tmp_path_factory.mktemp("unstopped") / "run.json"
    subprocess.run([*COMMAND, "--json", str(path)], check=True, capture_output=True)
    return path.read_text()


def resumed(path: Path) -> str:
    """The JSON of the run that goes on from `path`."""
    keep = ["--checkpoint", str(path), "--checkpoint-every", "3", "--resume", "--json", "-"]
    return subprocess.run([*COMMAND, *keep], check=True, capture_output=True, text=True).stdout


def test_a_run_killed_at_a_random_moment_ends_with_the_same_json(tmp_path: Path, unstopped: str) -> None:
    path = tmp_path / "run.ckpt"
    process = started(path)
    time.sleep(random.uniform(0.0, 0.4))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed; train for longer"
    step = read_checkpoint(path)[1]["step"]
    assert resumed(path) == unstopped, f"resumed at step {step}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_asked_to_stop_says_so_and_ends_with_the_same_json(
    tmp_path: Path, unstopped: str, number: signal.Signals
) -> None:
    path = tmp_path / "run.ckpt"
    process = started(path)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.startswith("hwsim: stopped after step ")
    assert err.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["run.ckpt"]  # nothing half written is left
    assert resumed(path) == unstopped


# -- files -------------------------------------------------------------------------------------------------


@pytest.fixture
def written(few: Dataset, tmp_path: Path) -> Path:
    """The checkpoint of two epochs."""
    hwsim.fit(MLP, few, hwsim.device("digital:int8"), epochs=2, optimizer="adam", checkpoint=tmp_path / "c")
    return tmp_path / "c"


def test_what_is_in_a_checkpoint(written: Path) -> None:
    with np.load(written, allow_pickle=False) as file:  # raises where there is a pickle inside
        assert all(file[name].dtype.kind in "fiu" for name in file.files)
        meta = json.loads(bytes(file["meta.json"]))
    assert meta["integers"]
    assert all(isinstance(value, int) for value in meta["integers"].values())
    assert meta["settings"]["devices"] == {"*": "digital:int8"}
    assert {"numpy", "python", "machine", "OMP_NUM_THREADS"} <= set(meta["made_with"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"batch": 10}, "batch was 32, is 10"),
        ({"learning_rate": 0.5}, "learning_rate was 0.1, is 0.5"),
        ({"optimizer": "momentum"}, "optimizer was 'adam', is 'momentum'"),
        ({"loss": "mse"}, "loss was 'cross_entropy', is 'squared_error'"),
        ({"frozen": ["fc1"]}, r"frozen was \[\], is \['fc1'\]"),
    ],
)
def test_another_run_is_refused(few: Dataset, written: Path, options: dict[str, Any], words: str) -> None:
    settings: dict[str, Any] = {"epochs": 3, "optimizer": "adam", **options}
    with pytest.raises(ConfigError, match=f"belongs to another run: {words}"):
        hwsim.fit(MLP, few, hwsim.device("digital:int8"), **settings, checkpoint=written, resume=True)


def test_another_device_or_model_is_refused(few: Dataset, written: Path) -> None:
    settings: dict[str, Any] = {"epochs": 3, "optimizer": "adam", "checkpoint": written, "resume": True}
    with pytest.raises(ConfigError, match=r"devices was .*digital:int8.*, is .*gpu"):
        hwsim.fit(MLP, few, hwsim.device("gpu"), **settings)
    with pytest.raises(ConfigError, match=r"model was .*64, 8, 10.*, is .*64, 9, 10"):
        hwsim.fit(models.mlp([64, 9, 10]), few, hwsim.device("digital:int8"), **settings)


def test_other_data_refuse_a_resume_and_nothing_else(few: Dataset, written: Path) -> None:
    rows = few.x_train.copy()
    rows[0, 0] += 0.5
    other = Dataset(
        few.name, rows, few.y_train, few.x_validation, few.y_validation, few.x_test, few.y_test, 10, "changed"
    )
    settings: dict[str, Any] = {"epochs": 3, "optimizer": "adam", "checkpoint": written}
    with pytest.raises(DataError, match=f"other rows of few .sha256 {few.sha256[:12]}, now {other.sha256[:12]}"):
        hwsim.fit(MLP, other, hwsim.device("digital:int8"), **settings, resume=True)
    with pytest.raises(ConfigError, match="exists; give --resume to go on from it, or another file"):
        hwsim.fit(MLP, other, hwsim.device("digital:int8"), **settings)  # nor is it overwritten


def test_there_must_be_something_to_go_on_from(few: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no checkpoint .*start without --resume"):
        hwsim.fit(MLP, few, hwsim.device("ideal"), checkpoint=tmp_path / "none", resume=True)


def test_whatever_breaks_a_file_is_one_clear_error(few: Dataset, written: Path, tmp_path: Path) -> None:
    whole = written.read_bytes()
    broken = [b"", b"junk", b"PK\x03\x04", whole[:100], whole[: len(whole) // 2], whole[:-1], whole[1:]]
    rng = random.Random(0)
    for _ in range(150):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        broken.append(bytes(flipped))
    path, refusals = tmp_path / "broken", []
    for content in broken:
        path.write_bytes(content)
        try:
            run = hwsim.fit(
                MLP, few, hwsim.device("digital:int8"), epochs=2, optimizer="adam", checkpoint=path, resume=True
            )
        except (ConfigError, DataError) as error:
            refusals.append(str(error))
        else:  # a bit that says nothing, such as a date
            assert run.steps == 6
    assert len(refusals) > 100
    assert all(str(path) in words and "pickle" not in words for words in refusals)


def test_parts_that_are_missing_are_named(few: Dataset, written: Path) -> None:
    arrays, meta = read_checkpoint(written)
    settings: dict[str, Any] = {"epochs": 2, "optimizer": "adam", "checkpoint": written, "resume": True}
    for lost in ("step", "losses", "epochs", "integers", "ledger"):
        write_checkpoint(written, arrays, {key: value for key, value in meta.items() if key != lost})
        with pytest.raises(ConfigError, match=f"not whole: .*{lost}"):
            hwsim.fit(MLP, few, hwsim.device("digital:int8"), **settings)
    write_checkpoint(written, {k: v for k, v in arrays.items() if k != "net/fc1/b:data"}, meta)
    with pytest.raises(ConfigError, match="not whole"):
        hwsim.fit(MLP, few, hwsim.device("digital:int8"), **settings)


def refused(written: Path, arrays: dict[str, Any], meta: dict[str, Any], few: Dataset, words: str) -> None:
    """A file that is whole, with this inside, is refused in one sentence, which holds `words`."""
    write_checkpoint(written, arrays, meta)
    with pytest.raises(ConfigError, match=f"checkpoint {written} is not whole: .*{words}") as caught:
        hwsim.fit(MLP, few, hwsim.device("digital:int8"), epochs=2, optimizer="adam", checkpoint=written, resume=True)
    assert "\n" not in str(caught.value)


def test_every_array_and_every_integer_has_to_be_there_as_it_was(few: Dataset, written: Path) -> None:
    arrays, meta = read_checkpoint(written)
    assert {"net/fc1/w:state/operand", "net/fc1/b:data", "optimizer/fc1/w|mean"} <= set(arrays)
    assert "net/fc1/w:drawn/rounding/gradient" in meta["integers"]
    for name, value in arrays.items():
        refused(written, {k: v for k, v in arrays.items() if k != name}, meta, few, "was .*, is not there")
        refused(written, {**arrays, name: value.astype(np.float16)}, meta, few, "was .*, is float16")
        refused(written, {**arrays, name: np.append(value, 1)}, meta, few, "was .*, is")
    for name in meta["integers"]:
        fewer = {key: value for key, value in meta["integers"].items() if key != name}
        refused(written, arrays, meta | {"integers": fewer}, few, "was int, is not there")
    refused(written, {**arrays, "net/fc1/w:state/more": np.ones(3)}, meta, few, "was not there, is float64")
    refused(written, arrays, meta | {"holds": {}}, few, "was not there")


def test_what_agrees_with_itself_and_not_with_the_network_is_refused(few: Dataset, written: Path) -> None:
    arrays, meta = read_checkpoint(written)

    def forged(name: str, value: Any, words: str) -> None:
        changed = {k: v for k, v in {**arrays, name: value}.items() if v is not None}
        holds = {k: v for k, v in meta["holds"].items() if k != name}
        if value is not None:
            holds[name] = f"{value.dtype} {value.shape}"
        refused(written, changed, meta | {"holds": holds}, few, words)

    forged("net/fc1/w:state/operand", None, "lacks 'state/operand' of 'fc1/w'")
    forged(
        "net/fc1/w:state/w", np.zeros((64, 8)), "'state/w' of 'fc1/w' was saved as float64, this network's is float32"
    )
    forged("net/fc1/b:data", np.zeros((8, 1), np.float32), r"'fc1/b' was saved with shape \(8, 1\), this network's")
    forged("net/fc1/b:more", np.zeros(8), "'fc1/b' was saved with data, more")
    forged("optimizer/fc1/w|mean", None, r"of 'fc1/w' the optimizer was saved with .*square, .*count of .*mean")
    forged("optimizer/fc1/w|square", np.zeros((8, 64)), r"'fc1/w.square' is float64 \(8, 64\); needs numbers \(64, 8\)")
    forged("optimizer/fc9/w|mean", np.zeros((64, 8)), "keeps no fc9/w.mean")
    forged("optimizer/fc1/w|count", np.array(True), "is bool")


def test_history_that_cannot_be_is_refused(few: Dataset, written: Path) -> None:
    arrays, meta = read_checkpoint(written)  # 2 epochs of 3 steps
    first, second = meta["epochs"]
    calls, ledger = meta["ledger"]["calls"], meta["ledger"]
    for change, words in (
        ({"step": 10**9}, "step 1000000000 ends 333333333 epochs of 3 steps and begins another one with 1; it holds 2"),
        ({"step": 7}, "begins another one with 1; it holds 2 and 0"),
        ({"step": 0, "epochs": []}, "its step is 0, where a whole number from 1 is needed"),
        ({"step": True}, "its step is True"),
        ({"epochs": []}, "it holds 0 and 0"),
        ({"epochs": [first]}, "it holds 1 and 0"),
        ({"epochs": [second, first]}, "describes epoch 1 as"),
        ({"epochs": [first, second | {"loss": math.nan}]}, "describes epoch 2 as"),
        ({"epochs": [first, second | {"validation_accuracy": 1.5}]}, "describes epoch 2 as"),
        ({"epochs": [first, second | {"energy_j": -1.0}]}, "describes epoch 2 as"),
        ({"epochs": [first, second | {"steps": 5}]}, "describes epoch 2 as"),
        ({"step": 7, "losses": [math.nan]}, "its losses are .nan., where finite numbers are needed"),
        ({"step": 7, "losses": ["much"]}, "its losses are"),
        ({"ledger": ledger | {"calls": [[*calls[0][:-1], -3], *calls[1:]]}}, "-3 where a whole number from 1"),
        ({"ledger": ledger | {"calls": [[*calls[0][:-1], 1.5], *calls[1:]]}}, "1.5 where a whole number from 1"),
        ({"ledger": ledger | {"actual": [[*calls[0][:-1], {"mac": -1}]]}}, "-1 actions of mac, where a finite number"),
        ({"ledger": ledger | {"peak_bits": {"digital:int8": -1}}}, "-1 where a whole number from 0 is needed"),
        ({"ledger": ledger | {"tiles": ledger["tiles"][1:]}}, "its ledger lists other tiles than the network has"),
        ({"integers": {**meta["integers"], "net/fc1/w:drawn/rounding/gradient": -1}}, "needs a number of draws"),
    ):  # fmt: skip
        refused(written, arrays, meta | change, few, words)


def test_content_that_is_not_that_of_the_digest_is_refused(written: Path) -> None:
    with np.load(written, allow_pickle=False) as file:
        inside = {name: file[name] for name in file.files}
    for change in (
        {"net/fc1/b:data": inside["net/fc1/b:data"] + 1},
        {"sha256": np.zeros(32, np.uint8)},
        {"x": np.ones(1)},
    ):
        with written.open("wb") as file:
            np.savez(file, **{**inside, **change})
        with pytest.raises(ConfigError, match="is not whole: its content is not that of its digest"):
            read_checkpoint(written)
    with written.open("wb") as file:
        np.savez(file, **inside)
    read_checkpoint(written)


def test_every_device_adds_to_its_state_and_changes_no_type(few: Dataset) -> None:
    # Else what it wrote itself would be refused.
    for name, cls in registry.devices().items():
        device = hwsim.device(name)
        assert cls is type(device)
        fresh = Network(MLP, device)
        used = hwsim.fit(MLP, few, device, epochs=1, learning_rate=0.01).network
        fresh.load(used.save())


# -- what is said on resuming ------------------------------------------------------------------------------


def test_what_a_checkpoint_was_made_with_is_said_where_it_differs(
    few: Dataset, written: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"optimizer": "adam", "checkpoint": written, "resume": True}
    hwsim.fit(MLP, few, "digital:int8", epochs=3, **settings)
    assert capsys.readouterr() == ("", "")
    now = keeping.made_with()
    monkeypatch.setattr(keeping, "made_with", lambda: now | {"numpy": "9.9", "processors": 1024})
    hwsim.fit(MLP, few, "digital:int8", epochs=4, **settings)
    words = f"numpy {np.__version__}, now 9.9; processors {os.cpu_count()}, now 1024: the run may end with other bits"
    assert capsys.readouterr() == ("", f"checkpoint {written} was made with {words}\n")


def test_fewer_epochs_than_a_checkpoint_holds_are_remarked_upon(
    few: Dataset, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"optimizer": "adam", "checkpoint": written, "resume": True}
    run = hwsim.fit(MLP, few, "digital:int8", epochs=2, **settings)
    assert capsys.readouterr().err == ""
    again = hwsim.fit(MLP, few, "digital:int8", epochs=1, **settings)
    assert again.epochs == run.epochs
    said = f"checkpoint {written} holds 2 whole epochs, 6 steps: more than 1 epoch, so nothing is trained\n"
    assert capsys.readouterr().err == said


# -- names and systems -------------------------------------------------------------------------------------


def test_a_link_to_a_checkpoint_stays_one_and_has_one_user(few: Dataset, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "c", tmp_path / "link"
    link.symlink_to(target)
    with sole_user(link), pytest.raises(ConfigError, match="is in use by another run"), sole_user(target):
        pass
    hwsim.fit(MLP, few, "ideal", epochs=1, checkpoint=link)
    assert link.is_symlink()
    longer = hwsim.fit(MLP, few, "ideal", epochs=2, checkpoint=link, resume=True)
    assert link.is_symlink()
    assert read_checkpoint(target)[1]["step"] == longer.steps == 6
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["c", "disk", "link"]


def test_a_partial_checkpoint_that_is_a_link_is_not_followed(few: Dataset, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / ".c.partial").symlink_to(precious)
    hwsim.fit(MLP, few, "ideal", epochs=1, checkpoint=tmp_path / "c")
    assert precious.read_text() == "precious"
    assert not (tmp_path / "c").is_symlink()


def test_a_system_without_locks_is_one_sentence(few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigError, match="checkpoints need file locks as Unix has them, and this system has none"):
        hwsim.fit(MLP, few, "ideal", epochs=1, checkpoint=tmp_path / "c")
    hwsim.fit(MLP, few, "ideal", epochs=1)


def test_foreign_npz_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(ConfigError, match=r"not written by this version of hwsim: it has no meta\.json"):
        read_checkpoint(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **{"meta.json": np.frombuffer(b'{"format": "hwsim checkpoint 99"}', np.uint8)})
    with pytest.raises(ConfigError, match="its format is 'hwsim checkpoint 99', wanted 'hwsim checkpoint 2'"):
        read_checkpoint(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", evil=np.array([Killed()], dtype=object))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_checkpoint(tmp_path / "c.npz")


def test_objects_are_not_pickled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="w would need pickle"):
        write_checkpoint(tmp_path / "c", {"w": np.array([{}], dtype=object)}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["savez", "fsync", "replace"])
def test_a_failed_write_leaves_the_older_file_whole(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c"
    write_checkpoint(path, {"x": np.arange(3)}, {"step": 1})

    def fail(*arguments: Any, **keywords: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np if moment == "savez" else os, moment, fail)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        write_checkpoint(path, {"x": np.arange(4)}, {"step": 2})
    monkeypatch.undo()
    arrays, meta = read_checkpoint(path)
    assert arrays["x"].tolist() == [0, 1, 2]
    assert meta["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_where_files_can_be_written(tmp_path: Path) -> None:
    assert require_writable(tmp_path / "a") == tmp_path / "a"
    assert not (tmp_path / "a").exists()
    (tmp_path / "old").write_text("old")
    require_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    with pytest.raises(ConfigError, match="/proc/x cannot be written"):  # where permissions say that one could
        require_writable("/proc/x")
    with pytest.raises(ConfigError, match="is a folder"):
        require_writable(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        require_writable(tmp_path / "b" / "c")
    with pytest.raises(ConfigError, match="/dev/full cannot be written: No space left on device"):
        write_text("/dev/full", "x")

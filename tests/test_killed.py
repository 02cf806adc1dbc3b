"""Nothing is lost: runs that are killed, disks that are full, folders that vanish, two runs on one file."""

import importlib.util
import multiprocessing
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from full_disk import largest_file

import hwsim
from hwsim import keeping
from hwsim.checkpoint import read_checkpoint, sole_user, write_checkpoint
from hwsim.errors import ConfigError


def benchmark(name: str) -> ModuleType:
    """A script of the benchmarks, as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


killing = benchmark("killed")
IDEAL = killing.CASES["ideal"]


def stopped(path: Path) -> bytes:
    """A checkpoint of two steps, by a run that then failed; its bytes."""

    def fail() -> None:
        if path.exists():
            raise RuntimeError

    with pytest.raises(RuntimeError):
        killing.fitted(IDEAL, path, on_step=fail)
    return path.read_bytes()


# -- killed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place", "count"),
    [
        ("ideal", "fsync", 2),
        ("crossbar-ttv2", "half", 3),
        ("crossbar-pcm", "step", 6),
        ("optical", "replace", 2),
        ("reversible", "replaced", 4),
    ],
)
def test_a_run_that_is_killed_anywhere_ends_with_the_same_bits(
    name: str, place: str, count: int, tmp_path: Path
) -> None:
    wanted = killing.ending(killing.fitted(killing.CASES[name]))
    step, differ = killing.differences(name, wanted, tmp_path / "c", killing.Point(place, count))
    # Write number c holds step 2 c; whoever is killed before the rename leaves the one before it.
    assert step == {"step": (count - 1) // 2 * 2, "replaced": 2 * count}.get(place, 2 * (count - 1))
    assert differ == []


# -- disks and folders ---------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_keeps_the_older_checkpoint_and_the_run_goes_on_from_it(tmp_path: Path) -> None:
    path = tmp_path / "c"
    older = stopped(path)
    message = f"^checkpoint {path} cannot be written: File too large; what it held before is kept$"
    with largest_file(len(older) // 2), pytest.raises(ConfigError, match=message):
        killing.fitted(IDEAL, path, resume=True)
    assert path.read_bytes() == older
    assert list(tmp_path.iterdir()) == [path]
    resumed = killing.fitted(IDEAL, path, resume=True)
    assert killing.ending(resumed) == killing.ending(killing.fitted(IDEAL))


def test_a_first_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(ConfigError, match=r"cannot be written: File too large$"):
        killing.fitted(IDEAL, tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_vanishes_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()

    def vanish() -> None:
        if (folder / "c").exists():
            shutil.rmtree(folder)

    with pytest.raises(ConfigError, match=rf"^checkpoint {folder}/c cannot be written: No such file or directory$"):
        killing.fitted(IDEAL, folder / "c", on_step=vanish)
    assert not folder.exists()


def test_a_folder_that_becomes_a_file_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()

    def replaced() -> None:
        shutil.rmtree(folder)
        folder.write_text("a file")

    with pytest.raises(ConfigError, match=rf"^checkpoint {folder}/c cannot be written: Not a directory$"):
        killing.fitted(IDEAL, folder / "c", on_step=lambda: replaced() if folder.is_dir() else None)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to the superuser")
def test_a_read_only_folder_is_refused_before_training_and_keeps_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "c"
    older = stopped(path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigError, match="cannot be locked against other runs: Permission denied"):
            killing.fitted(IDEAL, path, resume=True)
        with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
            killing.fitted(IDEAL, tmp_path / "other")
    finally:
        tmp_path.chmod(0o700)
    assert path.read_bytes() == older


@pytest.mark.parametrize("name", ["x" * 300, "nul\0", "surrogate\udcff\ud800"])
def test_a_name_that_no_file_can_have_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        killing.fitted(IDEAL, tmp_path / name)
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / name)


# -- files of others ------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_making_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "c"
    stopped(path)
    arrays, meta = read_checkpoint(path)
    for change in (
        {"settings": ["list"]},
        {"settings": {**meta["settings"], "data_sha256": None}},
        {"step": -1},
        {"step": 1e999},
        {"step": "2"},
        {"losses": ["much"]},
        {"epochs": [{"epoch": 1}]},
        {"epochs": 3},
        {"integers": []},
        {"integers": {"net/fc1/w:state/w": 3}},
        {"ledger": {"calls": []}},
        {"ledger": {**meta["ledger"], "calls": [["fc1", "forward", "ideal", "product", [[]], 1]]}},
    ):
        write_checkpoint(path, arrays, meta | change)
        with pytest.raises(hwsim.errors.HwsimError, match=f"checkpoint {path} ") as refused:
            killing.fitted(IDEAL, path, resume=True)
        assert "\n" not in str(refused.value), change


# -- two runs ------------------------------------------------------------------------------------------------


def test_two_runs_on_one_file_are_refused_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "c"
    steps: list[int] = []

    def intrude() -> None:
        steps.append(len(steps))
        if len(steps) not in (1, 5):  # before the first write, and after two
            return
        with pytest.raises(ConfigError, match=f"^{path} is in use by another run; wait for its end, or give another"):
            killing.fitted(IDEAL, path, resume=len(steps) == 5)

    run = killing.fitted(IDEAL, path, on_step=intrude)
    assert len(steps) == killing.STEPS
    assert killing.ending(run) == killing.ending(killing.fitted(IDEAL))
    assert list(tmp_path.iterdir()) == [path]  # the lock is gone
    killing.fitted(IDEAL, path, resume=True)


def locked(path: str, answers: Any) -> None:
    """Ask for a file from another process."""
    try:
        with sole_user(Path(path)):
            answers.put("got it")
    except ConfigError as error:
        answers.put(str(error))


def test_the_lock_holds_between_processes_and_ends_with_them(tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("spawn")
    answers, path = context.Queue(), tmp_path / "c"

    def asked() -> str:
        process = context.Process(target=locked, args=(str(path), answers))
        process.start()
        process.join()
        return str(answers.get())

    with sole_user(path):
        assert asked() == f"{path} is in use by another run; wait for its end, or give another file"
    (tmp_path / ".c.lock").write_bytes(b"")  # as a killed run leaves it
    assert asked() == "got it"
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ended_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "c", keeping.sole_user

    def late(asked: Path) -> Any:
        write_checkpoint(path, {"x": np.arange(3)}, {})
        return real(asked)

    monkeypatch.setattr(keeping, "sole_user", late)
    with pytest.raises(ConfigError, match="exists; give --resume to go on from it, or another file"):
        killing.fitted(IDEAL, path)
    assert read_checkpoint(path)[0]["x"].tolist() == [0, 1, 2]


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".c.partial").write_bytes(b"half")
    killing.fitted(IDEAL, tmp_path / "c")
    assert [each.name for each in tmp_path.iterdir()] == ["c"]

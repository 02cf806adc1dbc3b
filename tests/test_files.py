"""Results' files: whole or not there, never two in one place, and links, pipes and permissions as they were."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from full_disk import largest_file

import hwsim
from hwsim import cli, data, models
from hwsim.errors import ConfigError
from hwsim.files import replacing, require_separate, require_writable, write_text
from hwsim.report.comparison import Comparison


@pytest.fixture(scope="module")
def compared() -> Comparison:
    """The smallest comparison."""
    few = data.from_arrays([[0.0], [1.0]] * 20, [0, 1] * 20, name="two")
    return hwsim.compare(models.mlp([1, 2]), few, ["ideal"], epochs=1, seeds=1, learning_rates=(1.0,), target=0.5)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("r.txt", lambda compared, path: write_text(path, "x" * 10_000)),
        ("r.json", Comparison.to_json),
        ("r.csv", Comparison.to_csv),
        ("r.html", Comparison.to_html),
        ("r.png", Comparison.to_figure),
        ("r.svg", Comparison.to_figure),
    ],
)
def test_a_disk_that_fills_up_keeps_the_older_result(
    tmp_path: Path, compared: Comparison, name: str, write: Callable[[Comparison, Path], None]
) -> None:
    path = tmp_path / name
    write(compared, path)
    size = path.stat().st_size
    path.write_text("older")
    message = rf"^{path} cannot be written: File too large; what it held before is kept$"
    with largest_file(size - 1), pytest.raises(ConfigError, match=message):
        write(compared, path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_up_keeps_the_older_ledger(tmp_path: Path) -> None:
    ledger = hwsim.fit(hwsim.model("xor"), data.load("xor"), "digital:int8", epochs=1).ledger
    path = tmp_path / "ledger.json"
    ledger.to_json(path)
    whole = path.read_bytes()
    with largest_file(100), pytest.raises(ConfigError, match="File too large; what it held before is kept"):
        ledger.to_json(path)
    assert path.read_bytes() == whole
    with pytest.raises(ConfigError, match="there is no folder"):
        ledger.to_json(tmp_path / "none" / "x")


def test_a_link_stays_a_link_and_modes_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "r.csv", tmp_path / "r.csv"
    target.write_text("older")
    target.chmod(0o640)
    link.symlink_to(target)
    write_text(link, "newer")
    assert link.is_symlink()
    assert target.read_text() == "newer"
    assert target.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in (tmp_path / "real").iterdir()] == ["r.csv"]
    dangling = tmp_path / "new"
    dangling.symlink_to(tmp_path / "real" / "made")
    write_text(dangling, "made")
    assert (tmp_path / "real" / "made").read_text() == "made"
    nowhere = tmp_path / "nowhere"
    nowhere.symlink_to(tmp_path / "none" / "made")
    with pytest.raises(ConfigError, match="nowhere cannot be written: No such file or directory"):
        require_writable(nowhere)


def test_a_partial_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    precious, path = tmp_path / "precious", tmp_path / "r.txt"
    precious.write_text("precious")
    (tmp_path / f".r.txt.{os.getpid()}.partial").symlink_to(precious)
    require_writable(path)
    (tmp_path / f".r.txt.{os.getpid()}.partial").symlink_to(precious)
    write_text(path, "new")
    assert precious.read_text() == "precious"
    assert not path.is_symlink()
    assert path.read_text() == "new"


def test_pipes_and_devices_are_written_as_they_are(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "through")
    reader.join()
    assert found == ["through"]
    assert pipe.is_fifo()
    write_text("/dev/null", "gone")
    assert Path("/dev/null").is_char_device()


def test_renaming_is_flushed_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(number: int) -> None:
        done.append("folder" if os.path.samestat(os.fstat(number), tmp_path.stat()) else "file")
        real_fsync(number)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), real_replace(*paths)))
    write_text(tmp_path / "r", "x")
    assert done == ["file", "replace", "folder"]


def test_what_fails_inside_the_block_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("older")

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to the superuser")
def test_what_is_read_only_is_refused_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("older")
    path.chmod(0o400)
    with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
        require_writable(path)
    path.chmod(0o600)
    tmp_path.chmod(0o500)  # the file could be written, but nothing could be written beside it
    try:
        with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
            require_writable(path)
    finally:
        tmp_path.chmod(0o700)


def test_one_file_for_two_results_is_refused(tmp_path: Path) -> None:
    path, link = tmp_path / "r", tmp_path / "link"
    link.symlink_to(path)
    for other in (path, link, tmp_path / "." / "r", tmp_path / "x" / ".." / "r"):
        with pytest.raises(ConfigError, match=f"--csv and --html both name {other}; give each a file of its own"):
            require_separate({"--csv": path, "--html": other})
    require_separate({"--csv": path, "--html": tmp_path / "s", "--json": None, "--figure": None})
    require_separate({"--csv": "-", "--json": "-", "--a": "/dev/null", "--b": "/dev/null", "--c": "\0", "--d": "\0"})


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--csv", "r.x", "--html", "r.x"],
        ["compare", "--json", "r.png", "--figure", "./r.png"],
        ["train", "xor", "--json", "r.x", "--checkpoint", "r.x"],
    ],
)
def test_the_command_line_refuses_one_file_for_two_results(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hwsim", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("hwsim: --")
    assert "both name" in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []

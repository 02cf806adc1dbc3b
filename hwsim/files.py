"""Results as files: each is written beside its place and moved there when whole, so that an older one survives."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from hwsim.errors import ConfigError


@contextlib.contextmanager
def replacing(path: str | Path, partial: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write, which becomes `path` at the end of the block, or is removed where that fails.

    `partial` is its name until then. It is flushed to the disk and renamed, so that whoever is killed at any moment
    finds the older whole file or the newer one. A symbolic link stays one: what it points to is replaced. What is no
    ordinary file, such as a pipe, is written to as it is. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    if is_special(target):
        with target.open("wb") as file:
            yield file
        return
    partial = partial or partial_of(target)
    try:
        with begun(partial) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if exists(target):
            shutil.copymode(target, partial)
        os.replace(partial, target)
        flush_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # where nothing can be written, there may be nothing to remove
            partial.unlink()
        raise


def begun(partial: Path) -> IO[bytes]:
    """A new file of this name; what an earlier run left there is removed, and no link is followed."""
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    return partial.open("xb")


def flush_folder(folder: Path) -> None:
    """Make a renaming last; only systems like Unix open folders."""
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that keep an order of their own
            raise
    finally:
        os.close(number)


def write_text(path: str | Path, text: str) -> None:
    """Write a result, all or nothing. Raises ConfigError where it cannot be written."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a result, such as an image, all or nothing. Raises ConfigError where it cannot be written."""
    require_writable(path)
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise ConfigError(refusal(path, error)) from None


def refusal(path: str | Path, error: OSError, what: str = "") -> str:
    """The sentence for a file that cannot be written."""
    kept = "; what it held before is kept" if os.path.isfile(path) else ""
    return f"{what}{path} cannot be written: {error.strerror or error}{kept}"


def require_writable(path: str | Path) -> Path:
    """`path`, if a file can be written there. Raises ConfigError before any work is done for it."""
    path = Path(path)
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a folder; give a file to write")
    folder = path.parent
    if not os.path.isdir(folder):
        raise ConfigError(f"{path} cannot be written: there is no folder {folder}")
    try:
        target = Path(os.path.realpath(path))
        if is_special(target):  # it must not be opened twice
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, "no permission")
            return path
        if exists(path):
            target.open("ab").close()
        partial = partial_of(target)  # permissions do not tell what a file system takes: make a file
        begun(partial).close()
        partial.unlink()
    except (OSError, ValueError) as error:  # ValueError: a null character, or one that the file system has no code for
        why = error.strerror if isinstance(error, OSError) else None
        raise ConfigError(f"{path} cannot be written: {why or error}") from None
    return path


def require_separate(results: Mapping[str, str | Path | None]) -> None:
    """Refuse one file for two results, which are named as options are; None: not asked for. Raises ConfigError."""
    taken: dict[str, str] = {}
    for option, path in results.items():
        if path is None or not is_name(path) or is_special(Path(path)):
            continue
        first = taken.setdefault(os.path.realpath(path), option)
        if first != option:
            raise ConfigError(f"{first} and {option} both name {path}; give each a file of its own")


def partial_of(target: Path) -> Path:
    """The name that a result has while this process writes it."""
    return beside(target, f"{os.getpid()}.partial")


def beside(path: Path, kind: str) -> Path:
    """The name of a hidden file that goes with `path`."""
    return path.with_name(f".{path.name}.{kind}")


def is_special(path: Path) -> bool:
    """Whether there is something else than an ordinary file: a pipe, a terminal, /dev/null."""
    return exists(path) and not path.is_file()


def exists(path: Path) -> bool:
    """Whether there is a file. Raises OSError or ValueError for what cannot be the name of one."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def is_name(path: str | Path) -> bool:
    """Whether a file could have this name; "-" stands for standard output."""
    try:
        exists(Path(path))
    except (OSError, ValueError):
        return False
    return str(path) != "-"

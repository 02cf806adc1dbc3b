"""Checkpoints: one npz of arrays with JSON inside, written so that the file is always whole. No pickle."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from hwsim.errors import ConfigError

FORMAT = "hwsim checkpoint 1"
META = "meta.json"
ZIP = b"PK"  # begins every zip file


@contextlib.contextmanager
def sole_user(path: Path) -> Iterator[None]:
    """Keep `path` to this run for a while.

    The lock is the kernel's, and so ends with the process, however that ends. What a killed run left half written
    goes with it. Raises ConfigError where another run, of this process or of another, has the file, or where it cannot
    be locked.
    """
    lock, partial = beside(path, "lock"), beside(path, "partial")
    try:
        file = opened_alone(lock)
    except BlockingIOError:
        raise ConfigError(f"{path} is in use by another run; wait for its end, or give another file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be locked against other runs: {error.strerror or error}") from None
    with file:
        try:
            yield
        finally:
            for left in (partial, lock):
                with contextlib.suppress(OSError):  # a folder that can no longer be written keeps them
                    left.unlink()


def opened_alone(lock: Path) -> IO[bytes]:
    """A lock file that is open and locked. Raises BlockingIOError where it is locked already."""
    import fcntl  # here, as systems other than Unix lack it, and do everything else

    while True:
        file = lock.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()  # it was removed by its last owner between the two calls


def beside(path: Path, kind: str) -> Path:
    """The name of a hidden file that goes with `path`."""
    return path.with_name(f".{path.name}.{kind}")


def write_checkpoint(path: str | Path, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write `arrays` and `meta` (anything JSON knows) to `path`, all or nothing, for its `sole_user`.

    The file is written beside `path`, flushed to the disk and then renamed, so that whoever is killed at any
    moment finds the older whole file or the newer one. Raises ConfigError where it cannot be written.
    """
    path = Path(path)
    objects = [name for name, value in arrays.items() if np.asarray(value).dtype.hasobject]
    if objects:
        raise ConfigError(f"checkpoint {path}: {', '.join(objects)} would need pickle; keep state in arrays of numbers")
    partial = beside(path, "partial")
    text = json.dumps({"format": FORMAT, **meta}).encode()
    try:
        with partial.open("wb") as file:
            np.savez(file, **{META: np.frombuffer(text, np.uint8), **arrays})
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where nothing can be written, there may be nothing to remove
            partial.unlink()
        if not isinstance(error, OSError):
            raise
        kept = "; what it held before is kept" if os.path.exists(path) else ""
        raise ConfigError(f"checkpoint {path} cannot be written: {error.strerror or error}{kept}") from None


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and the meta data of a checkpoint. Raises ConfigError where it is unreadable or foreign."""
    path = Path(path)
    if not os.path.exists(path):
        raise ConfigError(f"there is no checkpoint {path} to go on from; start without --resume")
    try:
        with path.open("rb") as file:
            # NumPy takes whatever does not begin as a zip does for a pickle.
            whole = file.read(len(ZIP)) == ZIP and zipfile.is_zipfile(file)
        if not whole:
            raise ConfigError(f"checkpoint {path} cannot be read: it is no npz file, or only half of one")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        text = bytes(arrays.pop(META, b""))
        meta = json.loads(text) if text else None
    except ConfigError:
        raise
    except Exception as error:  # file, zip, zlib, header, pickle, JSON: a broken file fails in any of these
        raise ConfigError(f"checkpoint {path} cannot be read: {error or type(error).__name__}") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        made = f"its format is {meta.get('format')!r}" if isinstance(meta, dict) else f"it has no {META}"
        raise ConfigError(f"checkpoint {path} was not written by this version of hwsim: {made}, wanted {FORMAT!r}")
    return arrays, meta


def write_text(path: str | Path, text: str) -> None:
    """Write a result. Raises ConfigError where it cannot be written."""
    try:
        require_writable(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None


def require_writable(path: str | Path) -> Path:
    """`path`, if a file can be written there. Raises ConfigError before any work is done for it."""
    path = Path(path)
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a folder; give a file to write")
    folder = path.parent
    if not os.path.isdir(folder):
        raise ConfigError(f"{path} cannot be written: there is no folder {folder}")
    try:
        if not exists(path):  # permissions do not tell what a file system takes: make a file
            tempfile.NamedTemporaryFile(dir=folder, prefix=".hwsim-").close()
        elif path.is_file():
            path.open("ab").close()
        elif not os.access(path, os.W_OK):  # a pipe or a device, which must not be opened twice
            raise PermissionError(13, "no permission")
    except (OSError, ValueError) as error:  # ValueError: a null character, or one that the file system has no code for
        why = error.strerror if isinstance(error, OSError) else None
        raise ConfigError(f"{path} cannot be written: {why or error}") from None
    return path


def exists(path: Path) -> bool:
    """Whether there is a file. Raises OSError or ValueError for what cannot be the name of one."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True

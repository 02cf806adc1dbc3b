"""Checkpoints: one npz of arrays with JSON inside, written so that the file is always whole. No pickle.

A digest over the names, types, shapes and bytes of all that is inside goes with it, so that what was left out, or put
in by somebody else, is found.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import ConfigError
from hwsim.files import beside, refusal, replacing

FORMAT = "hwsim checkpoint 2"
META = "meta.json"
DIGEST = "sha256"
ZIP = b"PK"  # begins every zip file


@contextlib.contextmanager
def sole_user(path: Path) -> Iterator[None]:
    """Keep `path` to this run for a while.

    The lock is the kernel's, and so ends with the process, however that ends. What a killed run left half written
    goes with it. Raises ConfigError where another run, of this process or of another, has the file, or where it cannot
    be locked.
    """
    lock, partial = beside(real(path), "lock"), partial_checkpoint(path)
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
    try:
        import fcntl  # here, as systems other than Unix lack it, and do everything else
    except ImportError:
        raise ConfigError(
            "checkpoints need file locks as Unix has them, and this system has none; train without a checkpoint, or "
            "under Linux (on Windows: WSL)"
        ) from None
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


def real(path: Path) -> Path:
    """The file that a name stands for, links followed: it is locked and replaced, by whatever name it is called."""
    return Path(os.path.realpath(path))


def partial_checkpoint(path: Path) -> Path:
    """The name that a checkpoint has while it is written; as there is one user, the same in every run."""
    return beside(real(path), "partial")


def write_checkpoint(path: str | Path, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write `arrays` and `meta` (anything JSON knows) to `path`, all or nothing, for its `sole_user`.

    Raises ConfigError where it cannot be written.
    """
    path = Path(path)
    objects = [name for name, value in arrays.items() if np.asarray(value).dtype.hasobject]
    if objects:
        raise ConfigError(f"checkpoint {path}: {', '.join(objects)} would need pickle; keep state in arrays of numbers")
    text = json.dumps({"format": FORMAT, **meta}).encode()
    inside: dict[str, Any] = {META: np.frombuffer(text, np.uint8)}
    inside |= {name: np.asarray(value) for name, value in arrays.items()}
    try:
        with replacing(path, partial_checkpoint(path)) as file:
            np.savez(file, **inside | {DIGEST: digest(inside)})
    except OSError as error:
        raise ConfigError(refusal(path, error, "checkpoint ")) from None


def digest(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """32 bytes that tell arrays apart, by their names, types, shapes and bytes."""
    hashed = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        hashed.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    return np.frombuffer(hashed.digest(), np.uint8)


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
        said = bytes(arrays.pop(DIGEST, b""))
        genuine = said == bytes(digest(arrays))
        text = bytes(arrays.pop(META, b""))
        meta = json.loads(text) if text else None
    except ConfigError:
        raise
    except Exception as error:  # file, zip, zlib, header, pickle, JSON: a broken file fails in any of these
        raise ConfigError(f"checkpoint {path} cannot be read: {error or type(error).__name__}") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        made = f"its format is {meta.get('format')!r}" if isinstance(meta, dict) else f"it has no {META}"
        raise ConfigError(f"checkpoint {path} was not written by this version of hwsim: {made}, wanted {FORMAT!r}")
    if not genuine:
        raise ConfigError(f"checkpoint {path} is not whole: its content is not that of its digest")
    return arrays, meta

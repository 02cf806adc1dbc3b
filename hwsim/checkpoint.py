"""Checkpoints: one npz of arrays with JSON inside, written so that the file is always whole. No pickle."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.errors import ConfigError

FORMAT = "hwsim checkpoint 1"
META = "meta.json"


def write_checkpoint(path: str | Path, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write `arrays` and `meta` (anything JSON knows) to `path`, all or nothing.

    The file is written beside `path`, flushed to the disk and then renamed, so that whoever is killed at any
    moment finds the older whole file or the newer one. Raises ConfigError where it cannot be written.
    """
    path = Path(path)
    objects = [name for name, value in arrays.items() if np.asarray(value).dtype.hasobject]
    if objects:
        raise ConfigError(f"checkpoint {path}: {', '.join(objects)} would need pickle; keep state in arrays of numbers")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text = json.dumps({"format": FORMAT, **meta}).encode()
    try:
        with partial.open("wb") as file:
            np.savez(file, **{META: np.frombuffer(text, np.uint8), **arrays})
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise ConfigError(f"checkpoint {path} cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and the meta data of a checkpoint. Raises ConfigError where it is unreadable or foreign."""
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"there is no checkpoint {path} to go on from; start without --resume")
    if not zipfile.is_zipfile(path) or not starts_with(path, b"PK"):
        raise ConfigError(f"checkpoint {path} cannot be read: it is no npz file, or only half of one")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        text = bytes(arrays.pop(META, b""))
        meta = json.loads(text) if text else None
    except Exception as error:  # zip, zlib, header, pickle, JSON: a broken file fails in any of these
        raise ConfigError(f"checkpoint {path} cannot be read: {error or type(error).__name__}") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        made = f"its format is {meta.get('format')!r}" if isinstance(meta, dict) else f"it has no {META}"
        raise ConfigError(f"checkpoint {path} was not written by this version of hwsim: {made}, wanted {FORMAT!r}")
    return arrays, meta


def starts_with(path: Path, magic: bytes) -> bool:
    """Whether a file begins with `magic`; NumPy takes whatever does not for a pickle."""
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def write_text(path: str | Path, text: str) -> None:
    """Write a result. Raises ConfigError where it cannot be written."""
    try:
        require_writable(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None


def require_writable(path: str | Path) -> Path:
    """`path`, if a file can be written there. Raises ConfigError before any work is done for it."""
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give a file to write")
    folder = path.parent
    if not folder.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {folder}")
    try:
        if path.is_file():
            path.open("ab").close()
        elif path.exists():  # a pipe or a device, which must not be opened twice
            if not os.access(path, os.W_OK):
                raise PermissionError(13, "no permission")
        else:  # permissions do not tell what a file system takes: make a file
            tempfile.NamedTemporaryFile(dir=folder, prefix=".hwsim-").close()
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None
    return path

"""Checkpoints: one npz of arrays with JSON inside, written so that the file is always whole. No pickle."""

from __future__ import annotations

import json
import os
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
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text = json.dumps({"format": FORMAT, **meta}).encode()
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **{META: np.frombuffer(text, np.uint8), **arrays})
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"checkpoint {path} cannot be written: {error.strerror or error}") from None


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and the meta data of a checkpoint. Raises ConfigError where it is unreadable or foreign."""
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(bytes(arrays.pop(META)))
        if meta.get("format") != FORMAT:
            raise ValueError(f"its format is {meta.get('format')!r}, this version reads {FORMAT!r}")
    except KeyError:
        raise ConfigError(f"checkpoint {path} was not written by hwsim: it has no {META}") from None
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ConfigError(f"checkpoint {path} cannot be read: {error}") from None
    return arrays, meta


def require_writable(path: str | Path) -> Path:
    """`path`, if a file can be written there. Raises ConfigError before any work is done for it."""
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give a file to write")
    folder = path.parent
    if not folder.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {folder}")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK):
        raise ConfigError(f"{path} cannot be written: no permission")
    return path

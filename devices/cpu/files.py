"""Presets of files: a machine that was measured is NAME:path/to/file.toml:PRESET, told apart by a digest of its values.

The digest stands in the device's string, so that what was made with one machine is not taken for another one's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from hwsim import library, registry
from hwsim.device import Device, Origin
from hwsim.errors import DeviceError

DIGEST_DIGITS = 8  # 32 bits: of one file there are few versions


class FilePresets(Device):
    """A device whose presets may lie in files; what these leave out is the default preset's."""

    @classmethod
    def create(cls, preset: str | None, parameters: Mapping[str, Any], text: str = "") -> Self:
        """As of every device; a preset may also be path/to/file.toml:NAME, or path/to/file.toml:NAME@DIGEST.

        Raises ConfigError where the file cannot be read; DeviceError for an unknown preset or parameter, and where the
        values are not those of the digest.
        """
        text = text or cls.name
        if (preset or "").endswith(".toml"):
            raise DeviceError(f"{text}:{preset} names a file but no preset; write {text}:{preset}:NAME")
        path, _, called = (preset or "").rpartition(":")
        if not path.endswith(".toml"):
            return super().create(preset, parameters, text)
        name, _, expected = called.partition("@")
        known = library.presets(Path(path).expanduser())
        if name not in known:
            raise DeviceError(registry.unknown(f"preset in {path} called", name, known))
        values = {key: value for key, value in known[name].items() if key != "doc"}
        found = digest(values)
        if expected not in ("", found):
            raise DeviceError(
                f"{text}:{preset}: the values in this file are others by now, of digest {found}; restore the file, or "
                f"write {text}:{path}:{name} to take them as they are"
            )
        device = super().create(cls.default_preset, {**values, **parameters}, text)
        device.__dict__["origin"] = Origin(text, f"{path}:{name}@{found}", dict(parameters))
        return device


def digest(values: Mapping[str, Any]) -> str:
    """A short digest of parameters, whatever their order."""
    return hashlib.sha256(repr(in_order(values)).encode()).hexdigest()[:DIGEST_DIGITS]


def in_order(value: Any) -> Any:
    """Tables as sorted pairs, everything else as it is."""
    return [(key, in_order(value[key])) for key in sorted(value)] if isinstance(value, Mapping) else value

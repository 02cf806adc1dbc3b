"""Measured curves of conductance against pulses, as arrays and as files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.errors import ConfigError

Values = np.ndarray[Any, Any]

COLUMNS = ("pulse", "direction", "conductance_siemens")
UP, DOWN = ("up", "+1", "1", "+", "1.0"), ("down", "-1", "-", "-1.0")
MOST_SIEMENS = 1.0  # of a memory cell: it would draw an ampere at a volt (derived)


@dataclass(frozen=True)
class Curve:
    """A measured curve: conductance_siemens [count] (> 0), and up [count], the direction of the pulse before each.

    The first conductance is the state before any pulse; its direction counts for nothing.
    """

    up: Values
    conductance_siemens: Values

    def __post_init__(self) -> None:
        g = self.conductance_siemens
        if g.ndim != 1 or self.up.shape != g.shape or len(g) < 5:
            raise ConfigError(f"a curve of {self.up.shape} pulses and {g.shape} conductances; needs 5 or more of each")
        if not (np.isfinite(g).all() and (g >= 0).all()):
            raise ConfigError("a curve needs conductances that are finite and not negative")
        if g.min() == g.max():
            raise ConfigError("a curve whose conductance never changes fits every cell")

    @classmethod
    def of(cls, direction: Sequence[float] | Values, conductance_siemens: Sequence[float] | Values) -> Curve:
        """From arrays: direction +1 (up) or -1 (down), and conductance [S] after that pulse."""
        sign = np.asarray(direction, dtype=float)
        if not np.isin(sign, (1.0, -1.0)).all():
            raise ConfigError("directions of pulses are +1 (up) or -1 (down)")
        return cls(sign > 0, np.asarray(conductance_siemens, dtype=float))

    @classmethod
    def from_csv(cls, path: str | Path) -> Curve:
        """The one curve of a file as `read_csv` takes it. Raises ConfigError where it holds several."""
        curves = read_csv(path)
        if len(curves) > 1:
            raise ConfigError(f"{path} holds {len(curves)} devices; read them with read_csv")
        return next(iter(curves.values()))


def read_csv(path: str | Path) -> dict[str, Curve]:
    """Curves by device, from columns pulse, direction (up, down, 1, -1), conductance_siemens, and maybe device.

    A device's pulses are numbered through, with the conductance after each; the first row is the state before any.
    Rows may come in any order, and the column of conductances may be called conductance. Raises ConfigError, naming
    the line, where it cannot be read.
    """
    path = Path(path)
    rows: dict[str, list[tuple[float, bool, float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [str(name).strip().lower() for name in reader.fieldnames or ()]
            names = [COLUMNS[-1] if name == "conductance" else name for name in names]
            if missing := [column for column in COLUMNS if names.count(column) != 1]:
                raise ConfigError(
                    f"{path} has no column {', '.join(missing)}; needs {', '.join(COLUMNS)}, each once, in its first "
                    "line, separated by commas (and device, where there are several)"
                )
            reader.fieldnames = names
            for row in reader:
                device = str(row.get("device") or "").strip()
                rows.setdefault(device, []).append(_row(f"{path}, line {reader.line_num}", row))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not rows:
        raise ConfigError(f"{path} holds no pulses; a curve needs 5 or more")
    return {device: _curve(f"{path}, device {device}" if device else str(path), rows[device]) for device in rows}


def _row(where: str, row: dict[str, Any]) -> tuple[float, bool, float]:
    direction = str(row["direction"]).strip().lower()
    if direction not in UP + DOWN:
        raise ConfigError(f"{where}: direction {direction!r}; needs up or down, 1 or -1")
    try:
        pulse, g = float(row["pulse"]), float(row["conductance_siemens"])
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: pulse and conductance must be numbers") from None
    if not 0 <= g <= MOST_SIEMENS:
        raise ConfigError(f"{where}: conductance {g:g} S; needs 0 to {MOST_SIEMENS:g} S, in siemens, not microsiemens")
    return pulse, direction in UP, g


def _curve(where: str, rows: list[tuple[float, bool, float]]) -> Curve:
    rows = sorted(rows, key=lambda row: row[0])
    for (before, *_), (after, *_) in pairwise(rows):
        if after - before != 1:
            raise ConfigError(
                f"{where}: pulse {before:g} is followed by pulse {after:g}; number a device's pulses 0, 1, 2, ... "
                "through, with the conductance after each"
            )
    try:
        return Curve(np.array([row[1] for row in rows]), np.array([row[2] for row in rows]))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None

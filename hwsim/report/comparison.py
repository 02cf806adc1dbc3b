"""A finished comparison: plain data, and the files that it can be written to."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwsim.files import require_writable, write_text
from hwsim.report import figure, html, table


class Comparison:
    """The result: plain data, which tables and figures are drawn from. `print(comparison)` shows the table."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def __str__(self) -> str:
        return table.text(self.data)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per device and seed."""
        return list(self.data["rows"])

    @property
    def summary(self) -> list[dict[str, Any]]:
        """One entry per device: means, spreads, intervals and ratios."""
        return list(self.data["summary"])

    def to_json(self, path: str | Path) -> None:
        """Write everything; equal seeds give equal files. Raises ConfigError where it cannot be written."""
        write_text(path, self.json())

    def json(self) -> str:
        """Everything, as strict JSON: what there is no number for is null."""
        return json.dumps(self.data, indent=1, allow_nan=False) + "\n"

    def to_csv(self, path: str | Path) -> None:
        """Write one line per device and seed; nested values are joined by dots."""
        flat = [flattened(row) for row in self.rows]
        names = list(dict.fromkeys(name for row in flat for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        write_text(path, text.getvalue())

    def to_html(self, path: str | Path) -> None:
        """Write table and figure as one file."""
        write_text(path, html.page(self.data))

    def to_figure(self, path: str | Path) -> None:
        """Draw accuracy against energy, and the bill of a step, into an image file (its ending says which kind)."""
        figure.draw(self.data, require_writable(path))


def flattened(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one level of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

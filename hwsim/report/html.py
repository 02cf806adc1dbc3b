"""The comparison as one HTML file, with the figure inside."""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwsim.report import figure, table
from hwsim.report.notes import notes

STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
td,th{padding:.25rem .7rem;text-align:left;border-bottom:1px solid #ddd;white-space:nowrap}
th{border-bottom:2px solid #888}img{max-width:100%}li{margin:.3rem 0}"""


def page(data: Mapping[str, Any]) -> str:
    """A page that needs no other file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        figure.draw(data, path)
        image = base64.b64encode(path.read_bytes()).decode()
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in notes(data))
    parts = [
        f"<h1>{html.escape(table.title(data))}</h1><p>{html.escape(table.what_is_shown(data))}</p>",
        grid(*table.reached(data)),
        f'<img alt="accuracy against energy, and the bill of a step" src="data:image/png;base64,{image}">',
    ]
    if table.costed(data):
        by_component = "".join(
            f"<li>{html.escape(name)}: {html.escape(shares)}</li>" for name, shares in table.components(data)
        )
        parts += [
            f"<h2>What one training step costs</h2>{grid(*table.steps(data))}",
            f"<h2>Where the joules go, and on what they rest</h2>{grid(*table.shares(data))}",
            f"<h2>By component, from 1% of a step's joules</h2><ul>{by_component}</ul>",
            f"<h2>Throughput, at equal batch but for a filled card</h2>{grid(*table.throughput(data))}",
        ]
    parts += [f"<p>{html.escape(line)}</p>" for line in table.filled(data)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>hwsim comparison</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"{''.join(parts)}<h2>Notes</h2><ul>{lines}</ul></body></html>\n"
    )


def grid(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

"""`hwsim garbage`: what a training step takes under each policy for intermediate results, side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from hwsim import registry
from hwsim.arrays import Shape
from hwsim.errors import DeviceError
from hwsim.files import require_writable, write_text
from hwsim.learning.backprop import backprop
from hwsim.losses import cross_entropy
from hwsim.networks import network
from hwsim.nn import Network
from hwsim.optim import SGD
from hwsim.report.erasure import step_of
from hwsim.report.table import grid, wrapped
from hwsim.report.units import engineering

POLICIES = ("discard", "bennett")
COLUMNS = ["policy", "held at most", "array erases", "for", "passes", "array", "whole step", "time"]
NOTE = (
    "One step of backpropagation with plain SGD, from shapes alone. Held: garbage between operations, at its peak. "
    "Passes over a matrix: mean of all by size; a first layer has no backward. Array: all joules of the device; the "
    "whole step adds its host, which erases too. A step is as long as its operations after each other."
)


def garbage(
    device: Annotated[str, typer.Argument(help="A device that has garbage policies, and parameters.")] = "reversible",
    model: Annotated[str, typer.Option(help="Network: NAME[:key=value]...")] = "checkpointed",
    batch: Annotated[int, typer.Option(help="Rows of a mini-batch.", min=1)] = 64,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the rows as JSON.")] = None,
) -> None:
    """Print what a training step holds, erases and costs under each garbage policy: discard, bennett, checkpoint:S.

    Example: hwsim garbage reversible:bits=8 --model checkpointed:hidden=64-64-64-64 --batch 32
    """
    if json_path is not None:
        require_writable(json_path)
    built = network(model)
    rows = list(bills(device, built, batch))
    print(grid(COLUMNS, [line(row) for row in rows]))
    if not hasattr(built, "live_choices"):
        print(wrapped(f"{model} holds what it computes; to hold less: --model checkpointed:hidden=...", ""))
    print(wrapped(NOTE, ""))
    if json_path is not None:
        found = {"device": device, "model": model, "batch": batch, "rows": rows}
        write_text(json_path, json.dumps(found) + "\n")


def bills(device: str, model: Any, batch: int) -> Iterator[dict[str, Any]]:
    """A row for each policy; with checkpoints those of a model that says of how many layers it holds (live_choices)."""
    choices = getattr(model, "live_choices", None)
    everything = model if choices is None else dataclasses.replace(model, live=choices[-1])
    if not registry.device(device).erasing:
        raise DeviceError(f"{device} does not say which of its components erase bits; take reversible")
    for policy in POLICIES:
        yield {"policy": policy, **bill(registry.device(device, garbage=policy), everything, batch)}
    for live in reversed(choices[:-1] if choices is not None else ()):
        fewer = dataclasses.replace(model, live=live)
        yield {"policy": f"checkpoint:{live}", **bill(registry.device(device, garbage="bennett"), fewer, batch)}


def bill(device: Any, model: Any, batch: int) -> dict[str, float]:
    """What one step takes: bits, joules [J], passes over a matrix and seconds [s]."""
    net = Network(model, device, shape_only=True)
    outputs = net.predict(Shape(batch, *model.input_shape)).shape
    backprop(net, Shape(batch, *model.input_shape), Shape(*outputs[:-1]), cross_entropy, SGD(0.1))
    return {"held_bits": net.ledger.peak_bits[device], **step_of(net.ledger, device)}


def line(row: dict[str, Any]) -> list[str]:
    """A row as text."""
    return [
        row["policy"],
        f"{row['held_bits']:,} bit",
        f"{row['erased_bits']:,.0f} bit",
        engineering(row["erasure_j"], "J") if row["erasure_j"] else "0",
        f"{row['passes']:.3g}",
        engineering(row["array_j"], "J"),
        engineering(row["step_j"], "J"),
        engineering(row["step_s"], "s"),
    ]

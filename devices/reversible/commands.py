"""`hwsim ramp-times`: how slowly a reversible machine should ramp, or be clocked, and whether that pays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwsim import registry
from hwsim.devices.reversible import frequencies, ramps
from hwsim.devices.reversible.device import Reversible
from hwsim.devices.reversible.superconducting import Josephson
from hwsim.errors import ConfigError, DeviceError
from hwsim.files import require_writable, write_bytes

KINDS = ("png", "svg", "pdf")


def ramp_times(
    device: Annotated[str, typer.Argument(help="A reversible device, and parameters.")] = "reversible",
    figure: Annotated[Path, typer.Option(help="Draw energy against ramp time and Q, or frequency, here.")] = Path(
        "ramp-times.png"
    ),
) -> None:
    """Find the best ramp time of a reversible multiply-accumulate, and what it has to beat.

    Of parametrons (aqfp), which have no ramps: the clock's frequency below which they beat it.

    Example: hwsim ramp-times reversible:scheme=naf:quality=1000 --figure naf.png
    """
    kind = figure.suffix[1:].lower()
    if kind not in KINDS:
        raise ConfigError(f"{figure} cannot be drawn: its ending must be one of {', '.join(KINDS)}")
    require_writable(figure)
    made = registry.device(device)
    if not isinstance(made, Reversible):
        raise DeviceError(f"{made.spec} is no reversible device; take reversible[:PRESET][:key=value]...")
    if isinstance(made.technology, Josephson):
        parametrons = frequencies.frequencies(made)
        write_bytes(figure, frequencies.drawn(parametrons, kind))
        print(frequencies.report(parametrons))
    else:
        found = ramps.ramps(made)
        write_bytes(figure, ramps.drawn(found, kind))
        print(ramps.report(found))
    print(f"figure: {figure}")

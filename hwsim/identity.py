"""What a run rests on besides its settings: what its model computes, and the files that devices and model are from."""

from __future__ import annotations

import hashlib
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hwsim import registry
from hwsim.arrays import Shape
from hwsim.device import Device
from hwsim.ledger import Ledger
from hwsim.nn import Model, Network
from hwsim.parameters import parameters_of
from hwsim.tape import HostOp, Tape, Value
from hwsim.tile import Activation, Tile

SHOWN = 12  # digits of a digest

# -- what a model computes -----------------------------------------------------------------------------------


def operations(model: Model, devices: Mapping[str, Device]) -> str:
    """How many operations of each name one input takes, and a digest of what each does with which others' results.

    From shapes alone. Two models whose operations have other names, shapes, constants, tiles or inputs differ.
    """
    net = Network(model, devices, shape_only=True)
    net.tape = listing = Listing(net.ledger)
    net.predict(Shape(1, *model.input_shape))
    text = "\n".join(listing.lines)
    counts = ", ".join(f"{count} {name}" for name, count in listing.counts.items())
    return f"{counts}; sha256 {hashlib.sha256(text.encode()).hexdigest()[:SHOWN]}"


class Listing(Tape):
    """A tape that lists what is done, in order: layer, operation, where its inputs come from, and its shape."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()
        self._places: dict[Value, int] = {}

    def linear(self, tile: Tile, x: Value, *, trained: bool = True, x_values: int = 0) -> Value:
        """As of every tape."""
        return self._list("linear", tile.name, super().linear(tile, x, trained=trained, x_values=x_values), x)

    def linear_transposed(self, tile: Tile, x: Value, *, trained: bool = True) -> Value:
        """As of every tape."""
        return self._list("linear_transposed", tile.name, super().linear_transposed(tile, x, trained=trained), x)

    def product(self, a: Value, b: Value) -> Value:
        """As of every tape."""
        return self._list("product", "", super().product(a, b), a, b)

    def host(self, op: HostOp, *inputs: Value) -> Value:
        """As of every tape; of the operation, the constants that it was made with."""
        return self._list(op.name, constants(op), super().host(op, *inputs), *inputs)

    def activation(self, activation: Activation, x: Value, *, trained: bool = True) -> Value:
        """As of every tape."""
        return self._list("device_activation", activation.name, super().activation(activation, x, trained=trained), x)

    def _list(self, name: str, about: str, output: Value, *inputs: Value) -> Value:
        places = [str(self._places.get(x, "given")) if x.parameter is None else x.parameter.name for x in inputs]
        self.lines.append(f"{self.ledger.layer}: {name} {about} ({', '.join(places)}) {output.shape}")
        self.counts[name] += 1
        self._places[output] = len(self._places)
        return output


def constants(op: HostOp) -> str:
    """The plain values that the functions of an operation were made with."""
    found: list[Any] = []
    waiting: list[Any] = [op.forward, op.place]
    for function in waiting:  # which grows by the functions that these were made with
        for cell in getattr(function, "__closure__", None) or ():
            value = cell.cell_contents
            if isinstance(value, bool | int | float | str | tuple):
                found.append(value)
            elif callable(value) and value not in waiting:
                waiting.append(value)
    return repr(found)


# -- files ---------------------------------------------------------------------------------------------------


def files(model: Model, devices: Iterable[Device]) -> dict[str, str]:
    """The digest of every file that a device's string names, and of that which a model is from, by name."""
    found: dict[str, str] = {}
    module = sys.modules.get(getattr(model, "__module__", ""))
    if module is not None and module.__name__.startswith(registry.FILE_MODULE):
        add(str(module.__file__), found)
    for text in (text for device in devices for text in words(device)):
        for name in named_in(text):
            add(name, found)
    return found


def words(device: Device) -> Iterator[str]:
    """What a device and its hosts were asked for by: names, presets, and parameters that are text."""
    yield device.origin.text
    yield device.origin.preset or ""
    values = [getattr(device, name) for name in parameters_of(type(device)) if name != "host"]
    for value in (*values, device.host_device):
        if isinstance(value, Device):
            yield from words(value)
        elif isinstance(value, str):
            yield value


def named_in(text: str) -> list[str]:
    """The files in a text such as path/to/file.py:Class, or name:key=path/to/file.toml:NAME."""
    parts = [part.rpartition("=")[2] for part in text.split(":")]
    return [part for part in parts if part.endswith(registry.FILES)]


def add(name: str, found: dict[str, str]) -> None:
    """Note the digest of a file, and of those that it names where it is a TOML; what is not there has none."""
    path = Path(name).expanduser()
    if name in found or not path.is_file():
        return
    content = path.read_bytes()
    found[name] = hashlib.sha256(content).hexdigest()[:SHOWN]
    if path.suffix == ".toml":
        for text in texts(tomllib.loads(content.decode())):
            for inner in named_in(text):
                add(inner, found)


def texts(value: Any) -> Iterator[str]:
    """All texts in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from texts(inner)

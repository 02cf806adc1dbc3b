"""Devices, models and commands by name: entry points, loaded lazily. Knows only errors and importlib."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from hwsim.errors import DeviceError, HwsimError, PluginError

DEVICES = "hwsim.devices"
MODELS = "hwsim.models"
COMMANDS = "hwsim.commands"  # name -> a function whose signature typer can read, such as typer's own commands
FILES = (".py", ".toml")  # a device's parameter may name something within one: path/to/file.py:Class
FILE_MODULE = "hwsim_file_"  # how the modules of load_file are called in sys.modules


class DeviceName(NamedTuple):
    """The parts of `name[:preset][:key=value]...` or `path/to/file.py:Class[:preset][:key=value]...`."""

    name: str
    preset: str | None
    parameters: dict[str, str]


def parse_device(text: str) -> DeviceName:
    """Split a device name as given on a command line or in a study file.

    A segment without `=` after one that ends in .py or .toml belongs to the value before it, so that
    `crossbar:cell=my/cells.py:MyCell` and `crossbar:cell=my.toml:mine` read as they look. Raises DeviceError where
    the text is malformed.
    """
    segments: list[str] = []
    for segment in text.strip().split(":"):
        if segments and segments[-1].endswith(FILES) and "=" not in segment:
            segments[-1] += ":" + segment
        else:
            segments.append(segment)
    if not all(segments):
        raise DeviceError(f"device {text!r} has an empty part; write NAME[:PRESET][:key=value]...")
    name, *rest = segments
    preset = rest.pop(0) if rest and "=" not in rest[0] else None
    parameters: dict[str, str] = {}
    for segment in rest:
        key, equals, value = segment.partition("=")
        if not equals or not key or not value:
            raise DeviceError(f"device {text!r}: {segment!r} is not key=value; write NAME[:PRESET][:key=value]...")
        if key in parameters:
            raise DeviceError(f"device {text!r} gives {key!r} twice")
        parameters[key] = value
    return DeviceName(name, preset, parameters)


def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of `group` by name, sorted; nothing is imported. A name claimed twice is warned about."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.value)):
        first = found.setdefault(point.name, point)
        if first.value != point.value:
            warnings.warn(
                f"two plug-ins are called {point.name!r}: {first.value} is used, {point.value} is not",
                RuntimeWarning,
                stacklevel=2,
            )
    return found


def unknown(what: str, name: str, known: Mapping[str, object] | list[str]) -> str:
    """The sentence for an unknown name: what was asked, what there is, and the nearest match."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"no {what} {name!r}; installed: {', '.join(names) or 'none'}{hint}"


def load(group: str, what: str, name: str) -> Any:
    """The object that the plug-in `name` offers.

    Raises DeviceError for an unknown name, PluginError where its import fails.
    """
    if name.partition(":")[0].endswith(".py"):
        return load_file(name)
    points = installed(group)
    if name not in points:
        raise DeviceError(unknown(what, name, points))
    try:
        return points[name].load()
    except (Exception, SystemExit) as error:  # a module may end the program as it is imported
        raise PluginError(
            f"{what} {name!r} ({points[name].value}) could not be imported: {type(error).__name__}: {error}"
        ) from error


def load_file(text: str) -> Any:
    """The attribute of a Python file, from `path/to/file.py:Name`."""
    path_text, _, attribute = text.partition(":")
    if not attribute:
        raise DeviceError(f"{text!r} names a file but no class; write {path_text}:ClassName")
    try:
        path = Path(path_text).expanduser().resolve()
        found = path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, the home of nobody: no file either
        found = False
    if not found:
        raise DeviceError(f"no file {path_text!r}; a device may be an installed name or path/to/file.py:ClassName")
    # One module per file, known to sys.modules, so that its classes can be pickled and exist once.
    module_name = f"{FILE_MODULE}{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise PluginError(f"{path_text} cannot be read as a Python module")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[module_name]
            raise PluginError(f"{path_text} could not be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise DeviceError(unknown(f"class in {path_text} called", attribute, public))
    return getattr(module, attribute)


def importable(cls: type) -> type | str:
    """The class itself, or path/to/file.py:Class where it came from `load_file`: no other process could import it."""
    if not cls.__module__.startswith(FILE_MODULE):
        return cls
    return f"{sys.modules[cls.__module__].__file__}:{cls.__qualname__}"


def device_class(name: str) -> Any:
    """The class of the device `name`: an installed name or path/to/file.py:Class."""
    cls = load(DEVICES, "device", name)
    if not isinstance(cls, type) or not hasattr(cls, "activity"):
        raise PluginError(f"device {name!r} is {cls!r}, not a class with an `activity` method")
    return cls


def device(text: str, /, *, preset: str | None = None, **parameters: Any) -> Any:
    """The device called `name[:preset][:key=value]...`; keyword arguments override the text.

    Raises DeviceError for unknown names, presets and parameters, and for values that nothing can be computed with;
    PluginError for a plug-in that does not import.
    """
    parsed = parse_device(text)
    cls = device_class(parsed.name)
    try:
        made = cls.create(preset or parsed.preset, {**parsed.parameters, **parameters}, text=parsed.name)
        _ = made.components  # which are computed from the parameters: an overflow is theirs
    except HwsimError:
        raise
    except (ArithmeticError, ValueError, RuntimeError, OSError) as error:
        raise DeviceError(f"device {text!r} cannot be computed with these parameters: {error}") from error
    return made


def model(name: str, /, *arguments: Any, **parameters: Any) -> Any:
    """The network that the model plug-in `name` builds."""
    factory: Callable[..., Any] = load(MODELS, "model", name)
    return factory(*arguments, **parameters)


def command(name: str) -> Callable[..., Any]:
    """The function of the command that a plug-in adds to the command line.

    Raises DeviceError for an unknown name, PluginError where its import fails or it is no function.
    """
    function = load(COMMANDS, "command", name)
    if not callable(function):
        raise PluginError(f"command {name!r} is {function!r}, not a function")
    return function  # type: ignore[no-any-return]


def usable(group: str, what: str) -> dict[str, Any]:
    """All plug-ins of `group` that import; one that does not gives a warning that names it, and is left out."""
    found = {}
    for name in installed(group):
        try:
            found[name] = load(group, what, name)
        except HwsimError as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)
    return found


def devices() -> dict[str, Any]:
    """The classes of all usable devices, by name."""
    return usable(DEVICES, "device")


def models() -> dict[str, Any]:
    """The factories of all usable models, by name."""
    return usable(MODELS, "model")

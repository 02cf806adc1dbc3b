"""What the words of a command line mean: models with their data and recipe, lists, and where results go."""

from __future__ import annotations

import difflib
import inspect
import sys
from typing import Any

from hwsim import data, registry
from hwsim.checkpoint import require_writable, write_text
from hwsim.errors import ConfigError, HwsimError


def model_and_data(text: str, data_name: str | None) -> tuple[Any, data.Dataset, dict[str, Any]]:
    """The model with sizes that were not given taken from the data set, the data set, and the model's recipe.

    A recipe is what a model is known to train with, an attribute of the model; what the command line says goes before
    it, general defaults last. Raises ConfigError, DataError or DeviceError for what there is not.
    """
    name, parameters = model_name(text)
    factory = registry.load(registry.MODELS, "model", name)
    known = inspect.signature(factory).parameters
    for key in parameters:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"model {name!r} has no parameter {key!r}; it has: {', '.join(known) or 'none'}{hint}")
    given = {key: literal(value) for key, value in parameters.items()}
    recipe: dict[str, Any] = {}
    if all(each.default is not inspect.Parameter.empty or key in given for key, each in known.items()):
        recipe |= getattr(build(name, factory, given), "recipe", {})
    dataset = data.load(data_name or recipe.get("data", "digits"))
    recipe.pop("data", None)
    outputs = dataset.classes or dataset.y_train.shape[-1]
    sizes = {"inputs": dataset.features, "outputs": outputs, "vocabulary": dataset.classes, "length": dataset.features}
    taken = {key: size for key, size in sizes.items() if size and key in known and key not in given}
    return build(name, factory, taken | given), dataset, recipe


def model_name(text: str) -> tuple[str, dict[str, str]]:
    """The name and parameters in NAME[:key=value]... Raises DeviceError where the text is malformed."""
    parsed = registry.parse_device(text)
    if parsed.preset is not None:
        raise ConfigError(f"model {text!r}: {parsed.preset!r} is not key=value")
    return parsed.name, parsed.parameters


def build(name: str, factory: Any, parameters: dict[str, Any]) -> Any:
    """The model that a factory makes. Raises ConfigError where it refuses."""
    try:
        return factory(**parameters)
    except HwsimError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model {name!r} cannot be built from {parameters}: {error}") from None


def literal(text: str) -> int | float | str | bool | None:
    """A number, truth value or None where the text is one."""
    words: dict[str, bool | None] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def device_names(text: str) -> tuple[str, ...]:
    """Comma separated devices. Raises ConfigError where one is empty."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ConfigError(f"devices {text!r}: a device name is empty")
    return names


def numbers(text: str, what: str) -> tuple[float, ...]:
    """Comma separated numbers. Raises ConfigError where one is none."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{what} {text!r}: write numbers separated by commas") from None


def writable(json_path: str | None) -> None:
    """Find out before the work whether its result can be written."""
    if json_path not in (None, "-"):
        require_writable(str(json_path))


def say(json_path: str | None, text: str) -> None:
    """Print a result for people: on standard error where standard output belongs to JSON."""
    print(text, file=sys.stderr if json_path == "-" else sys.stdout)


def output(json_path: str | None, text: str) -> None:
    """Write the result as JSON where it was asked for."""
    if json_path == "-":
        print(text.rstrip("\n"))
    elif json_path is not None:
        write_text(json_path, text.rstrip("\n") + "\n")

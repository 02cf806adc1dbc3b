"""What the words of a command line mean: models with their data and recipe, lists, and where results go."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwsim import data
from hwsim.errors import ConfigError
from hwsim.files import require_separate, require_writable, write_text
from hwsim.networks import named


def model_and_data(text: str, data_name: str | None) -> tuple[Any, data.Dataset, dict[str, Any]]:
    """The model with sizes that were not given taken from the data set, the data set, and the model's recipe.

    A recipe is what a model is known to train with, an attribute of the model; what the command line says goes before
    it, general defaults last. Raises ConfigError, DataError or DeviceError for what there is not.
    """
    asked = named(text)
    recipe = dict(getattr(asked.built(), "recipe", {})) if asked.complete else {}
    dataset = data.load(data_name or recipe.get("data", "digits"))
    recipe.pop("data", None)
    outputs = dataset.classes or dataset.y_train.shape[-1]
    vocabulary = max(dataset.tokens, dataset.classes) if dataset.tokens else 0
    sizes = {"inputs": dataset.features, "outputs": outputs, "vocabulary": vocabulary, "length": dataset.features}
    taken = {key: size for key, size in sizes.items() if size and key in asked.known}
    return asked.built(**taken), dataset, recipe


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


def writable(results: Mapping[str, str | Path | None]) -> None:
    """Find out before the work whether its results, by option, can be written, each to a file of its own."""
    require_separate(results)
    for path in results.values():
        if path is not None and str(path) != "-":
            require_writable(path)


def say(json_path: str | None, text: str) -> None:
    """Print a result for people: on standard error where standard output belongs to JSON."""
    print(text, file=sys.stderr if json_path == "-" else sys.stdout)


def output(json_path: str | None, text: str) -> None:
    """Write the result as JSON where it was asked for."""
    if json_path == "-":
        print(text.rstrip("\n"))
    elif json_path is not None:
        write_text(json_path, text.rstrip("\n") + "\n")

"""Write cupy.json, what CuPy offers, from an installed wheel: python tests/data/cupy_names.py (no card is needed)."""

import inspect
import json
from pathlib import Path

import cupy


def parameters(function: object) -> list[str] | None:
    """The names that it can be called with, where it tells; None: anything."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in found):
        return None
    return [each.name for each in found if each.name != "self"]


def public(owner: object) -> dict[str, list[str] | None]:
    """Its public attributes, and how functions among them are called."""
    named = {name: getattr(owner, name) for name in dir(owner) if not name.startswith("_") and name != "annotations"}
    return {name: parameters(value) if inspect.isroutine(value) else None for name, value in named.items()}


names = {
    "version": cupy.__version__,
    "cupy": public(cupy),
    "linalg": public(cupy.linalg),
    "ndarray": public(cupy.ndarray),
    "Generator": public(cupy.random.Generator),
    "ufunc": public(cupy.ufunc),
}
lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in names.items())
Path(__file__).with_name("cupy.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")

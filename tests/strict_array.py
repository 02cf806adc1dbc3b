"""A stand-in for CuPy that runs anywhere: NumPy underneath, and as strict as a card about what is whose.

Its arrays refuse to become NumPy arrays on their own, and to meet one in arithmetic; `asarray` carries values here and
`get` carries them back. Results of reductions stay 0-d arrays, as on a card. What CuPy lacks is missing here too:
functions, their arguments, methods of arrays and draws, as data/cupy.json lists them from its wheel. Register it, and
any device can be made with array="strict":

    monkeypatch.setitem(hwsim.arrays.LIBRARIES, "strict", "strict_array")

`waits()` tells where the processor waits for the card.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

NAMES = json.loads(Path(__file__).with_name("data").joinpath("cupy.json").read_text(encoding="utf-8"))

float32, float64, int32, int64, uint32, uint8 = np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint8

TRANSFERS = ("asarray", "array", "ascontiguousarray")  # take NumPy arrays, as CuPy's do
# The size of what these return depends on values, or they look at values on the way: the processor waits for the card.
WAITING = {"nonzero", "flatnonzero", "argwhere", "bincount", "unique", "array_equal", "allclose", "extract"}
ARRAY_PROPERTIES = ("shape", "ndim", "size", "dtype", "nbytes", "itemsize", "strides")
ARRAY_METHODS = set(NAMES["ndarray"]) - {*ARRAY_PROPERTIES, "T", "mT", "real", "imag", "flags", "data", "get"}
HERE = str(Path(__file__))

_waits: list[Counter[str]] = []


@contextmanager
def waits() -> Iterator[Counter[str]]:
    """Collect where, file:line in function, the processor waits for values from the card, and how often."""
    _waits.append(Counter())
    try:
        yield _waits[-1]
    finally:
        _waits.pop()


def wait() -> None:
    """Note that whoever called this module's function waits."""
    if not _waits:
        return
    frame: Any = sys._getframe(1)
    while frame.f_code.co_filename == HERE:
        frame = frame.f_back
    place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
    for counter in _waits:
        counter[place] += 1


def require_parameters(where: str, name: str, given: dict[str, Any]) -> None:
    """Refuse keywords that CuPy's function does not know, with a TypeError."""
    known = NAMES[where].get(name)
    stray = set(given) - set(given if known is None else known)
    if stray:
        raise TypeError(f"{name} of CuPy {NAMES['version']} has no argument {', '.join(sorted(stray))}")


def inside(value: Any) -> Any:
    """The NumPy array behind a strict one, in containers too. Raises TypeError for a bare NumPy array."""
    if isinstance(value, StrictArray):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array was mixed with arrays of another library; use self.xp, or asarray to carry it")
    if isinstance(value, tuple | list):
        return type(value)(inside(item) for item in value)
    return value


def outside(value: Any) -> Any:
    """Arrays, and the scalars that NumPy makes of 0-d results, as strict arrays."""
    if isinstance(value, np.ndarray):
        return StrictArray(value)
    if isinstance(value, np.generic):
        return StrictArray(np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(outside(item) for item in value)
    return value


class StrictArray:
    """An array that only functions of this module, its own methods and its own kind may touch."""

    __slots__ = ("_array",)
    __array_ufunc__ = None  # NumPy's operators give way to ours, which refuse
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __array__(self, *args: Any, **keywords: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed; use get()")

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called on an array of another library; use self.xp")

    def get(self) -> np.ndarray[Any, Any]:
        """A copy of the values as a NumPy array."""
        wait()
        return self._array.copy()

    def __getattr__(self, name: str) -> Any:
        if name in ARRAY_PROPERTIES:
            return getattr(self._array, name)
        if name == "flags":
            return self._array.flags
        if name in ("T", "mT", "real", "imag"):
            return StrictArray(getattr(self._array, name))
        if name not in ARRAY_METHODS:
            raise AttributeError(f"arrays of CuPy {NAMES['version']} have no {name!r}")
        method = getattr(self._array, name)

        def call(*args: Any, **keywords: Any) -> Any:
            if name in WAITING or name in ("item", "tolist"):
                wait()
            result = method(*inside(args), **{key: inside(value) for key, value in keywords.items()})
            return result if name in ("item", "tolist") else outside(result)

        return call

    def __getitem__(self, key: Any) -> StrictArray:
        for part in key if isinstance(key, tuple) else (key,):
            if isinstance(part, StrictArray) and part.dtype.kind == "b":
                wait()
        return StrictArray(np.asarray(self._array[inside(key)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[inside(key)] = inside(value)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        wait()
        return bool(self._array)

    def __float__(self) -> float:
        wait()
        return float(self._array)

    def __int__(self) -> int:
        wait()
        return int(self._array)

    def __repr__(self) -> str:
        return f"Strict{self._array!r}"


def _operators() -> None:
    """Give StrictArray the operators of NumPy arrays, between its own kind and plain numbers."""
    binary = [
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "divmod",
        "pow",
        "matmul",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
    ]
    names = [f"__{r}{name}__" for name in binary for r in ("", "r")]
    names += [f"__{name}__" for name in ["lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert"]]

    def operator(name: str) -> Any:
        def call(self: StrictArray, *others: Any) -> Any:
            result = getattr(self._array, name)(*inside(others))
            return NotImplemented if result is NotImplemented else outside(result)

        return call

    def in_place(name: str) -> Any:
        def call(self: StrictArray, other: Any) -> StrictArray:
            getattr(self._array, name)(inside(other))
            return self

        return call

    for name in names:
        setattr(StrictArray, name, operator(name))
    for name in binary:
        if name not in ("divmod", "matmul"):
            setattr(StrictArray, f"__i{name}__", in_place(f"__i{name}__"))


_operators()


class Function:
    """A function of NumPy that takes and returns strict arrays."""

    def __init__(self, function: Any, name: str, where: str = "cupy") -> None:
        self._function, self._name, self._where = function, name, where
        self._transfers = name in TRANSFERS

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        require_parameters(self._where, self._name, keywords)
        if self._name in WAITING:
            wait()
        if self._transfers and isinstance(args[0], np.ndarray):
            args = (StrictArray(args[0].copy()), *args[1:])
        return outside(self._function(*inside(args), **{key: inside(value) for key, value in keywords.items()}))

    def __getattr__(self, name: str) -> Any:
        if name not in NAMES["ufunc"]:
            raise AttributeError(f"functions of CuPy {NAMES['version']} have no {name!r}")
        return Function(getattr(self._function, name), name, "ufunc")


def __getattr__(name: str) -> Any:
    if name not in NAMES["cupy"] or name == "cuda":
        raise AttributeError(f"CuPy {NAMES['version']} has no {name!r}")
    value = getattr(np, name)
    if isinstance(value, type) or not callable(value):
        return value
    return Function(value, name)


linalg = SimpleNamespace(
    **{name: Function(getattr(np.linalg, name), name, "linalg") for name in NAMES["linalg"] if hasattr(np.linalg, name)}
)


class Philox4x3210:
    """The bit generator that hwsim asks CuPy for; it takes a seed of 64 bits and no counter."""

    def __init__(self, *, seed: int) -> None:
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed {seed} does not fit in 64 bits")
        self.seed = seed


class Generator:
    """The draws that CuPy's Generator offers, with its arguments. There is no `normal`, no `choice`, no `shuffle`.

    Parameters of `poisson` and its like are Python numbers or arrays of the library: NumPy's scalars are refused there.
    """

    PLAIN = ("random", "standard_normal", "standard_exponential", "uniform", "integers")

    def __init__(self, bits: Philox4x3210) -> None:
        self._generator = np.random.Generator(np.random.Philox(bits.seed))

    def __getattr__(self, name: str) -> Any:
        if name not in NAMES["Generator"]:
            raise AttributeError(f"the Generator of CuPy {NAMES['version']} has no {name!r}")
        draw = getattr(self._generator, name)

        def call(*args: Any, **keywords: Any) -> Any:
            require_parameters("Generator", name, keywords)
            if name not in self.PLAIN and any(isinstance(arg, np.generic) for arg in (*args, *keywords.values())):
                raise TypeError(f"{name}: parameters must be Python numbers or arrays of the library")
            dtype = keywords.pop("dtype", None) if name == "uniform" else None
            result = draw(*inside(args), **{key: inside(value) for key, value in keywords.items()})
            return outside(np.asarray(result) if dtype is None else np.asarray(result).astype(dtype))

        return call


random = SimpleNamespace(Generator=Generator, Philox4x3210=Philox4x3210)

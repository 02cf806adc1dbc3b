"""A stand-in for CuPy that runs anywhere: NumPy underneath, and as strict as a card about what is whose.

Its arrays refuse to become NumPy arrays on their own, and to meet one in arithmetic; `asarray` carries values here and
`get` carries them back. Results of reductions stay 0-d arrays, as on a card. Register it, and any device can be made
with array="strict":

    monkeypatch.setitem(hwsim.arrays.LIBRARIES, "strict", "strict_array")
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

float32, float64, int32, int64, uint32, uint8 = np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint8

TRANSFERS = ("asarray", "array", "ascontiguousarray")  # take NumPy arrays, as CuPy's do
ABSENT = {"frompyfunc", "nditer", "ndenumerate", "longdouble", "float128", "random"}  # CuPy has none of these
UFUNC_METHODS = ("at", "reduce", "accumulate", "outer")
ARRAY_METHODS = (
    *("all", "any", "argmax", "argmin", "argsort", "astype", "clip", "conj", "copy", "cumprod", "cumsum", "diagonal"),
    *("dot", "fill", "flatten", "item", "max", "mean", "min", "nonzero", "partition", "prod", "ravel", "repeat"),
    *("reshape", "round", "searchsorted", "sort", "squeeze", "std", "sum", "swapaxes", "take", "tolist", "trace"),
    *("transpose", "var", "view"),
)
ARRAY_PROPERTIES = ("shape", "ndim", "size", "dtype", "nbytes", "itemsize", "strides")


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
        return self._array.copy()

    def __getattr__(self, name: str) -> Any:
        if name in ARRAY_PROPERTIES:
            return getattr(self._array, name)
        if name in ("T", "real", "imag"):
            return StrictArray(getattr(self._array, name))
        if name not in ARRAY_METHODS:
            raise AttributeError(f"arrays of CuPy have no {name!r}")
        method = getattr(self._array, name)

        def call(*args: Any, **keywords: Any) -> Any:
            result = method(*inside(args), **{key: inside(value) for key, value in keywords.items()})
            return result if name in ("item", "tolist") else outside(result)

        return call

    def __getitem__(self, key: Any) -> StrictArray:
        return StrictArray(np.asarray(self._array[inside(key)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[inside(key)] = inside(value)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._array)

    def __float__(self) -> float:
        return float(self._array)

    def __int__(self) -> int:
        return int(self._array)

    def __index__(self) -> int:
        return self._array.__index__()

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

    def __init__(self, function: Any, transfers: bool = False) -> None:
        self._function, self._transfers = function, transfers

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if self._transfers and isinstance(args[0], np.ndarray):
            args = (StrictArray(args[0].copy()), *args[1:])
        return outside(self._function(*inside(args), **{key: inside(value) for key, value in keywords.items()}))

    def __getattr__(self, name: str) -> Any:
        if name not in UFUNC_METHODS:
            raise AttributeError(f"functions of CuPy have no {name!r}")
        return Function(getattr(self._function, name))


def __getattr__(name: str) -> Any:
    if name in ABSENT or name.startswith("__"):
        raise AttributeError(f"CuPy has no {name!r}")
    value = getattr(np, name)
    if isinstance(value, type) or not callable(value):
        return value
    return Function(value, name in TRANSFERS)


class Philox4x3210:
    """The bit generator that hwsim asks CuPy for; it takes a seed of 64 bits and no counter."""

    def __init__(self, *, seed: int) -> None:
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed {seed} does not fit in 64 bits")
        self.seed = seed


class Generator:
    """The draws that CuPy's Generator offers, with its keywords. There is no `normal`, no `choice`, no `shuffle`.

    Source: cupy/random/_generator_api.pyx. Parameters of `poisson` and its like are Python numbers or arrays of the
    library: NumPy's scalars are refused there.
    """

    PLAIN = ("random", "standard_normal", "standard_exponential", "uniform", "integers")
    WITH_ARRAYS = ("poisson", "binomial", "exponential", "gamma", "standard_gamma", "beta", "geometric", "chisquare")

    def __init__(self, bits: Philox4x3210) -> None:
        self._generator = np.random.Generator(np.random.Philox(bits.seed))

    def __getattr__(self, name: str) -> Any:
        if name not in self.PLAIN + self.WITH_ARRAYS:
            raise AttributeError(f"the Generator of CuPy has no {name!r}")
        draw = getattr(self._generator, name)

        def call(*args: Any, **keywords: Any) -> Any:
            if name in self.WITH_ARRAYS and any(isinstance(arg, np.generic) for arg in (*args, *keywords.values())):
                raise TypeError(f"{name}: parameters must be Python numbers or arrays of the library")
            dtype = keywords.pop("dtype", None) if name == "uniform" else None
            result = draw(*inside(args), **{key: inside(value) for key, value in keywords.items()})
            return outside(np.asarray(result) if dtype is None else np.asarray(result).astype(dtype))

        return call


random = SimpleNamespace(Generator=Generator, Philox4x3210=Philox4x3210)

"""Array libraries by name, and seeded generators for each. The only module that knows NumPy from CuPy."""

from __future__ import annotations

import hashlib
import importlib
import math
from functools import cache
from typing import Any

import numpy as np

from hwsim.errors import ConfigError

# NumPy and CuPy arrays share no base class, so both are Any to the type checker; the names say what is meant.
Array = Any
Namespace = Any

LIBRARIES = {"numpy": "numpy", "cupy": "cupy"}


def namespace(name: str) -> Namespace:
    """The array library called `name`, imported on first use.

    Raises ConfigError where the name is unknown or the library is not installed.
    """
    try:
        module = LIBRARIES[name]
    except KeyError:
        raise ConfigError(f"no array library {name!r}; known: {', '.join(sorted(LIBRARIES))}") from None
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"array library {name!r} is not installed ({error}); "
            "for CuPy: pip install 'hwsim[cuda12]' or 'hwsim[cuda13]', as your driver says"
        ) from error


def to_host(array: Array) -> np.ndarray[Any, Any]:
    """The same values as a NumPy array; copies only where the array lives on a card."""
    return array.get() if hasattr(array, "get") else np.asarray(array)


def key_of(*parts: object) -> int:
    """A 128-bit key from the text of `parts`: equal parts give equal keys on every machine (BLAKE2b)."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(xp: Namespace, key: int, index: int = 0) -> Any:
    """The generator number `index` of the stream `key`, drawing arrays of the library `xp`.

    Counter based (Philox): the 2^64 generators of a key never overlap on NumPy, so that a stream's whole
    state is the integer `index`. CuPy's Philox takes a seed and no counter; there key and index are hashed.
    """
    if xp is np:
        return np.random.Generator(np.random.Philox(key=key, counter=index << 128))
    return xp.random.Generator(xp.random.Philox4x3210(seed=key_of(key, index) & (2**64 - 1)))


def add_outer(xp: Namespace, w: Array, x: Array, dy: Array, scale: float) -> None:
    """w [..., k, n] += scale x'dy in place, for x [..., m, k] and dy [..., m, n].

    One row on NumPy is one BLAS call (ger) that reads and writes w once, where the layout allows it. More rows stay
    with NumPy: SciPy brings a BLAS of its own, and two thread pools that take turns stand in each other's way.
    """
    if len(x) == 1 and xp is np and w.ndim == 2 and w.flags.c_contiguous and w.dtype == x.dtype == dy.dtype:
        ger = _ger(w.dtype.char)
        if ger is not None:
            ger(scale, dy[0], x[0], a=w.T, overwrite_a=1)
            return
    w += x.swapaxes(-1, -2) @ (scale * dy)


@cache
def _ger(char: str) -> Any:
    """BLAS ger for float32 ("f") or float64 ("d"), else None; SciPy is imported on first use."""
    from scipy.linalg import blas

    return {"f": blas.sger, "d": blas.dger}.get(char)


class Shape:
    """What flows through a network in shape-only mode in an array's place."""

    __slots__ = ("ndim", "shape", "size")

    def __init__(self, *shape: int) -> None:
        self.shape = shape
        self.ndim = len(shape)
        self.size = math.prod(shape)

    def __repr__(self) -> str:
        return f"Shape{self.shape}"


def is_finite(xp: Namespace, array: Array) -> bool:
    """Whether no value is NaN or infinite: one dot product, and a full scan only where that overflows."""
    if array.dtype.kind != "f":
        return True
    return math.isfinite(xp.vdot(array, array)) or bool(xp.isfinite(array).all())

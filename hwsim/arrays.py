"""Array libraries by name, and seeded generators for each. The only module that knows NumPy from CuPy."""

from __future__ import annotations

import hashlib
import importlib
import math
from functools import cache, lru_cache
from typing import Any, Self

import numpy as np
from numpy.random.bit_generator import ISeedSequence

from hwsim.errors import ConfigError

# NumPy and CuPy arrays share no base class, so both are Any to the type checker; the names say what is meant.
Array = Any
Namespace = Any

LIBRARIES = {"numpy": "numpy", "cupy": "cupy"}


def namespace(name: str) -> Namespace:
    """The array library called `name`, imported on first use; of CuPy it is known that it can compute.

    Raises ConfigError where the name is unknown, the library is not installed or does not load, or no GPU is usable.
    """
    try:
        module = LIBRARIES[name]
    except KeyError:
        raise ConfigError(f"no array library {name!r}; known: {', '.join(sorted(LIBRARIES))}") from None
    try:
        xp = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if name != "cupy" or error.name not in (None, "cupy"):  # None: a module that is barred from being imported
            raise ConfigError(f"array library {name!r} cannot be imported ({error}); install what it needs") from None
        raise ConfigError(
            "CuPy is not installed: pip install 'hwsim[cuda12]' or 'hwsim[cuda13]', as the driver says (nvidia-smi: "
            "CUDA Version), or take array=numpy"
        ) from None
    except ImportError as error:
        raise ConfigError(f"{name} is installed and does not load: {first_line(error)}; {OTHER_CUPY}") from None
    if name == "cupy":
        require_card(xp)
    return xp


OTHER_CUPY = "uninstall it, then pip install 'hwsim[cuda12]' or 'hwsim[cuda13]', as the driver says"


@cache
def require_card(cupy: Namespace) -> None:
    """Refuse CuPy where it finds no usable GPU, is of another CUDA version, or cannot compute, with a ConfigError.

    What is found good is not looked at again.
    """
    runtime = cupy.cuda.runtime
    try:
        built, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()
    except Exception as error:  # drivers fail in ways of their own
        raise ConfigError(f"CuPy finds no usable GPU: {first_line(error)}; see: nvidia-smi") from None
    if not driver:
        raise ConfigError(
            "CuPy finds no usable GPU: no NVIDIA driver answers; install it (see: nvidia-smi), or take array=numpy"
        )
    if built // 1000 > driver // 1000:  # a driver runs every CUDA of its own major version, and older ones
        raise ConfigError(
            f"CuPy {cupy.__version__} is for CUDA {built // 1000}, and the driver knows only CUDA {version(driver)}: "
            f"update the driver, or pip uninstall cupy-cuda{built // 1000}x and install the extra of hwsim for the "
            "driver's CUDA, such as 'hwsim[cuda12]'"
        )
    try:
        count = runtime.getDeviceCount()
    except Exception as error:
        raise ConfigError(
            f"CuPy finds no usable GPU: {first_line(error)}; see nvidia-smi and CUDA_VISIBLE_DEVICES, or take "
            "array=numpy"
        ) from None
    if not count:
        raise ConfigError(
            "CuPy finds no usable GPU: the driver lists none; see nvidia-smi and CUDA_VISIBLE_DEVICES, or take "
            "array=numpy"
        )
    try:  # a kernel to compile, a product, and a wait for both: what they need does not come with CuPy's own wheel
        one = cupy.ones((2, 2), dtype=cupy.float32)
        float((one @ one).sum())
    except Exception as error:
        raise ConfigError(
            f"CuPy {cupy.__version__} finds a GPU and cannot compute on it: {first_line(error)}; it needs the "
            f"libraries of CUDA {built // 1000}: pip install 'hwsim[cuda{built // 1000}]'"
        ) from None


def version(number: int) -> str:
    """CUDA's 12040 as people write it: 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


def first_line(error: BaseException) -> str:
    """The first line that says something of what an error began with, without its full stop."""
    lines = [line.strip(" =.") for line in str(error.__cause__ or error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)


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
    state is the integer `index`. CuPy's Philox takes a seed and no counter; there key and index are hashed. Single
    numbers that the processor needs come from its attribute `on_host`, NumPy's generator: a draw on the card would be
    waited for.
    """
    counter = np.zeros(4, np.uint64)
    counter[2:] = divmod(index, 1 << 64)[::-1]
    words: Any = _Key.of(key)
    on_host = np.random.Generator(np.random.Philox(words, counter=counter))
    if xp is np:
        return on_host
    made = xp.random.Generator(xp.random.Philox4x3210(seed=key_of(key, index) & (2**64 - 1)))
    made.on_host = on_host
    return made


class _Key(ISeedSequence):
    """Philox's key as NumPy's own seeds hand it over: with `key=`, it asks the system for entropy, and that is slow."""

    def __init__(self, key: int) -> None:
        self.words = np.array([key & (2**64 - 1), key >> 64], np.uint64)

    @classmethod
    @lru_cache(maxsize=4096)
    def of(cls, key: int) -> Self:
        """The one object of that key."""
        return cls(key)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        """The words of the key; Philox asks for these two, and no others."""
        if (n_words, dtype) != (2, np.uint64):
            raise NotImplementedError(f"{n_words} words of {dtype}: Philox takes two of 64 bits")
        return self.words


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

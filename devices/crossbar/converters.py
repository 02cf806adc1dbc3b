"""Converters between digital values and an array's lines: DAC, ADC, their noise, ranges and slices.

Convention of the uniform quantiser: levels are the multiples of `step` (zero is one of them), a value goes to the
nearest (ties to the even multiple), and is then clipped to [-bound, bound]. A converter of b bits has the 2^b - 1
levels -bound .. bound, so step = 2 bound / (2^b - 2): 7 bits give 1/126 of the full range 2 bound. Step 0 stands for
infinitely many bits. Quantising, then clipping, allows a bound that is no level itself.

The order of one read, as in aihwkit's IOParameters (Rasch et al., AICAS 2021): x / scale per vector (noise
management), DAC noise, DAC; the array's product; output noise, ADC; times scale. Where the ADC clipped, iterative
bound management halves that vector's input and reads again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hwsim.arrays import Array, Namespace
from hwsim.devices.crossbar.counter import draw_key, normals, subkeys
from hwsim.devices.crossbar.pulses import fast, largest, numba_kernels
from hwsim.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class Converter:
    """A uniform quantiser on [-bound, bound] with `step`, and the noise added before it (standard deviation).

    All three in units of the line: 1 is a full input, or the product of a full input and a full weight. Raises
    ConfigError for NaN and negative values.
    """

    bound: float = math.inf
    step: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if math.isnan(self.bound) or self.bound <= 0:
            raise ConfigError(f"bound={self.bound}: a converter's range needs a number above 0; inf: no clipping")
        for name, value in (("step", self.step), ("noise", self.noise)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}={value}: a converter's {name} needs a finite number, 0 or more")

    @classmethod
    def of_bits(cls, bits: float, bound: float, noise: float = 0.0) -> Converter:
        """2^bits - 1 levels from -bound to bound; bits = inf: no quantising. Raises ConfigError below 2 bits."""
        if not bits >= 2:
            raise ConfigError(f"bits={bits}: a converter needs 2 bits or more (levels -bound, 0, bound); inf: exact")
        return cls(bound, 2 * bound / (2.0**bits - 2) if math.isfinite(bits) else 0.0, noise)


@dataclass(frozen=True)
class Periphery:
    """Both converters of a read, and how ranges are managed.

    noise_management: "none", "abs_max" (each vector is scaled to its largest value) or "constant" (all are divided by
    `scale`). bound_management "iterative": where the ADC clipped, that vector is read again with half the input, at
    most `most_halvings` times (10: aihwkit's max_bm_factor 1000); its max_bm_res is not modelled.
    """

    dac: Converter = field(default_factory=Converter)
    adc: Converter = field(default_factory=Converter)
    noise_management: Literal["none", "abs_max", "constant"] = "abs_max"
    scale: float = 1.0
    bound_management: Literal["none", "iterative"] = "none"
    most_halvings: int = 10

    def __post_init__(self) -> None:
        for name, allowed in (
            ("noise_management", ("none", "abs_max", "constant")),
            ("bound_management", ("none", "iterative")),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}={getattr(self, name)!r}; known: {', '.join(allowed)}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(f"scale={self.scale}: needs a finite number above 0")
        if self.most_halvings < 0:
            raise ConfigError(f"most_halvings={self.most_halvings}: needs 0 or more")


def convert(
    xp: Namespace,
    v: Array,
    converter: Converter,
    key: int,
    *,
    before: Array | None = None,
    after: Array | None = None,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """v [m, n] float32 through one converter: clip(round(v before + noise)) after, and the values clipped [m].

    `before` and `after` [m] float32 are gains per vector; `out` may be v itself. The same values on every path: the
    noise of value i is number i of stream `key`.
    """
    before = xp.ones(len(v), xp.float32) if before is None else before
    after = xp.ones(len(v), xp.float32) if after is None else after
    out = xp.empty(v.shape, xp.float32) if out is None else out
    step, bound = np.float32(converter.step), np.float32(converter.bound)
    if fast(xp, v, out):
        over = np.empty(len(v), np.int32)
        numba_kernels().convert(v, out, before, after, np.uint64(key), np.float32(converter.noise), step, bound, over)
        return out, over
    xp.multiply(v, before[:, None], out=out)
    if converter.noise:
        out += normals(xp, key, v.shape) * np.float32(converter.noise)
    if converter.step:
        out *= np.float32(1) / step
        xp.rint(out, out=out)
        out *= step
    over = (xp.abs(out) > bound).sum(axis=1)
    xp.clip(out, -bound, bound, out=out)
    out *= after[:, None]
    return out, over


def scales(xp: Namespace, x: Array, periphery: Periphery) -> Array:
    """What each vector of x [m, k] is divided by, [m] float32; 1 for a vector of zeros."""
    if periphery.noise_management != "abs_max":
        value = periphery.scale if periphery.noise_management == "constant" else 1.0
        return xp.full(len(x), value, xp.float32)
    found = largest(xp, x)
    # A line's full input times 2^-126 or less is no input, and its inverse no float32.
    return xp.where(found < 1e-37, np.float32(1), found)


def read(
    xp: Namespace,
    x: Array,
    multiply: Callable[[Array], Array],
    periphery: Periphery,
    rng: Any,
    *,
    variance: Callable[[Array], Array] | None = None,
    backward: bool = False,
) -> Array:
    """y [m, n] = the array's product of x [m, k] float32, through DAC and ADC.

    `multiply` takes converted inputs [m, k] and returns a new array of products [m, n], which is overwritten;
    `variance`, where given, takes the same and returns the variance of the product (read_variance). Bound management
    is for the forward read only: `backward` leaves it out. Draws one 64-bit integer from `rng`.
    """
    key = draw_key(rng)
    keys = subkeys(key, 3)
    line, scale = _enter(xp, x, periphery, keys[0])
    y, over = _leave(xp, line, scale, multiply, periphery, keys, variance)
    if backward or periphery.bound_management == "none" or not math.isfinite(periphery.adc.bound):
        return y
    for halving in range(1, 1 + periphery.most_halvings):
        again = xp.nonzero(over)[0]
        if not len(again):
            break
        scale, keys = scale * 2, subkeys(key + halving, 3)
        line, _ = convert(xp, x[again], periphery.dac, keys[0], before=1 / scale[again])
        y[again], over[again] = _leave(xp, line, scale[again], multiply, periphery, keys, variance)
    return y


def _enter(xp: Namespace, x: Array, periphery: Periphery, key: int) -> tuple[Array, Array]:
    """Inputs x [m, k] over their scale and through the DAC, and the scale [m]."""
    if not fast(xp, x):
        scale = scales(xp, x, periphery)
        return convert(xp, x, periphery.dac, key, before=1 / scale)[0], scale
    managed, dac = periphery.noise_management == "abs_max", periphery.dac
    scale = np.empty(len(x), np.float32) if managed else scales(np, x, periphery)
    line = np.empty(x.shape, np.float32)
    settings = np.float32(dac.noise), np.float32(dac.step), np.float32(dac.bound)
    numba_kernels().enter(x, line, scale, managed, np.uint64(key), *settings)
    return line, scale


def _leave(
    xp: Namespace,
    line: Array,
    scale: Array,
    multiply: Callable[[Array], Array],
    periphery: Periphery,
    keys: list[int],
    variance: Callable[[Array], Array] | None,
) -> tuple[Array, Array]:
    """The product of converted inputs through the ADC: y [m, n], and the values that the ADC clipped, per vector."""
    y = multiply(line)
    if variance is not None:
        add_noise(xp, y, variance(line), keys[1])
    return convert(xp, y, periphery.adc, keys[2], after=scale, out=y)


def add_noise(xp: Namespace, y: Array, variance: Array, key: int) -> None:
    """y [m, n] += normal noise of `variance` [m, n], in place."""
    if fast(xp, y, variance):
        numba_kernels().spread(y, variance, np.uint64(key))
    else:
        y += xp.sqrt(variance) * normals(xp, key, y.shape)


def read_variance(x: Array, sigma_squared: Array) -> Array:
    """Variance [m, n] of x @ w, where w [k, n] has independent noise of variance sigma_squared at every read.

    sigma_y^2 = x^2 @ sigma_w^2: exactly the distribution of fresh noise per vector, for one more product.
    """
    return (x * x) @ sigma_squared


def read_resampled(xp: Namespace, x: Array, w: Array, sigma: Array, rng: Any) -> Array:
    """x [m, k] @ (w + sigma noise) with every cell drawn anew for every vector: the slow and literal way."""
    keys = subkeys(draw_key(rng), len(x))
    return xp.stack([x[i] @ (w + sigma * normals(xp, key, w.shape)) for i, key in enumerate(keys)])


def calibrated_bound(xp: Namespace, values: Array, percentile: float = 99.9) -> float:
    """The bound below which `percentile` % of |values| lie. Raises ConfigError, also where that is 0 or not finite."""
    if not 0 < percentile <= 100:
        raise ConfigError(f"percentile={percentile}: needs a number above 0 and up to 100")
    bound = float(xp.percentile(xp.abs(values), percentile))
    if not (math.isfinite(bound) and bound > 0):
        raise ConfigError(
            f"{percentile}% of the calibration values lie below {bound}; a range needs a finite one above 0"
        )
    return bound


def digits(xp: Namespace, values: Array, bits: int, count: int, signed: bool = False) -> Array:
    """Integers [...] as `count` digits of `bits` bits each, [count, ...], lowest first: slices over cells or time.

    signed: two's complement; the highest digit then runs from -2^(bits-1) to 2^(bits-1) - 1, all others from 0 to
    2^bits - 1. Raises ConfigError for numbers of bits below 1, and ShapeError where a value does not fit.
    """
    if bits < 1 or count < 1 or bits * count > 62:
        raise ConfigError(f"{count} slices of {bits} bits: needs 1 or more of each, and at most 62 bits together")
    whole = values.astype(xp.int64)
    half = 1 << (bits * count - 1)
    low, high = (-half, half - 1) if signed else (0, 2 * half - 1)
    if whole.size and not (bool((whole == values).all()) and int(whole.min()) >= low and int(whole.max()) <= high):
        raise ShapeError(f"{count} slices of {bits} bits hold whole numbers from {low} to {high}; quantise first")
    parts = [whole >> (bits * i) & ((1 << bits) - 1) for i in range(count)]
    if signed:
        parts[-1] = whole >> (bits * (count - 1))
    return xp.stack(parts)

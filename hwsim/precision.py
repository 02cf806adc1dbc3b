"""Number formats, rounding to them, and which formats a low-precision training step uses.

A format rounds an array to its representable values and keeps them in float32 (float64 for fp64), so the same
code runs on NumPy and CuPy and a product of rounded operands is an ordinary matmul. One idea does all rounding:
to a multiple of the gap between representable values at x, which is a constant for integers and fixed point and
a power of two, read off the exponent of x, for floats. Formats with float32's own exponents get the same by
rounding the bit pattern, which no gap can overflow.

Sources: IEEE 754-2019 (binary16, binary32, binary64, round to nearest, ties to even); OCP 8-bit floating point
specification OFP8 1.0, 2023 (E4M3, E5M2, saturating conversion); NVIDIA A100 whitepaper, 2020 (TF32).
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hwsim.arrays import Array, Namespace
from hwsim.errors import ConfigError

# float32 carries every format but fp64. Two's complement integers of 25 bits are all exact in it.
CARRIER_EXPONENT_BITS, CARRIER_MANTISSA_BITS, CARRIER_INTEGER_BITS = 8, 23, 25
SIGN, MAGNITUDE = -0x80000000, 0x7FFFFFFF  # masks of an int32 pattern
INFINITY = 0x7F800000  # a magnitude above this is NaN; also the mask of the exponent
NAN = 0x7FC00000


class Format(Protocol):
    """A number format: what FloatFormat, IntegerFormat and FixedFormat have in common."""

    @property
    def name(self) -> str: ...
    @property
    def bits(self) -> int:
        """Bits that one value occupies in memory."""

    @property
    def max(self) -> float:
        """Largest finite value."""

    @property
    def smallest_normal(self) -> float:
        """Smallest positive value of full precision; below it floats are subnormal, and others have nothing."""

    @property
    def epsilon(self) -> float:
        """Gap from 1 to the next value; for an integer format, which needs a scale, with 1 as its largest value."""

    @property
    def unit_roundoff(self) -> float:
        """Half of epsilon. Rounding to nearest moves x by at most this times

        |x| for a float in its normal range, max|x| for an integer with a per-tensor scale, 1 for fixed point.
        """

    def round(self, xp: Namespace, x: Array, rng: Any = None, saturate: bool | None = None) -> Array:
        """The representable values nearest to `x`, ties to even, as a float32 array of its shape (fp64: float64).

        With a generator `rng` rounding is stochastic: to one of the two neighbours, up with probability equal
        to the fractional distance from the lower one (resolved to 2^-24 of the gap), so that the mean is x.
        `saturate` says what becomes of overflow; None is the format's own way.
        """


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format with sign, exponent, mantissa and subnormals.

    Overflow: with saturate=True every value beyond `max`, infinities included, becomes `max` with its sign (OFP8
    saturating conversion, the satfinite of GPUs); with saturate=False it becomes infinity, or NaN where the format
    has no infinity (OFP8 non-saturating; IEEE 754 for the others). NaN stays NaN, zero keeps its sign. Values that
    round to `max` are not overflow. The default is each format's usual cast: fp8 saturates, the others do not.

    `bits` is the size in memory; 1 + exponent_bits + mantissa_bits of them carry the value (tf32: 19 of 32).
    fp32 and fp64 return x itself, overflow or not. Other formats take at most 8 exponent and 22 mantissa bits.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bits: int
    infinity: bool = True  # False: the top exponent holds numbers, and its last mantissa NaN (E4M3)
    saturates: bool = False  # the default of round()

    @property
    def max(self) -> float:
        below_two = 2 - self.epsilon if self.infinity else 2 - 2 * self.epsilon
        return below_two * 2.0 ** ((1 << self.exponent_bits - 1) - self.infinity)

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (2 - (1 << self.exponent_bits - 1))

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive value, and the gap between all values up to 2 * smallest_normal."""
        return self.smallest_normal * self.epsilon

    @property
    def epsilon(self) -> float:
        return 2.0**-self.mantissa_bits

    @property
    def unit_roundoff(self) -> float:
        return self.epsilon / 2

    def round(self, xp: Namespace, x: Array, rng: Any = None, saturate: bool | None = None) -> Array:
        if self.mantissa_bits >= CARRIER_MANTISSA_BITS:
            return xp.asarray(x, dtype=xp.float64 if self.bits == 64 else xp.float32)
        x = xp.asarray(x, dtype=xp.float32)
        pattern = x.reshape(-1).view(xp.int32)
        magnitude = pattern & MAGNITUDE
        nan = magnitude > INFINITY
        noise = None if rng is None else rng.random(magnitude.shape, dtype=xp.float32)
        largest = _pattern(self.max)
        overflow = (largest & INFINITY) + (1 << CARRIER_MANTISSA_BITS)  # the power of two above max
        saturate = self.saturates if saturate is None else saturate
        magnitude = xp.clip(magnitude, 0, largest if saturate else overflow)
        if self.exponent_bits == CARRIER_EXPONENT_BITS:
            rounded = _drop_bits(xp, magnitude, CARRIER_MANTISSA_BITS - self.mantissa_bits, noise)
        else:
            gap = xp.clip(magnitude & INFINITY, _pattern(self.smallest_normal), overflow)
            gap -= self.mantissa_bits << CARRIER_MANTISSA_BITS
            rounded = _to_multiples(xp, magnitude.view(xp.float32), gap.view(xp.float32), noise).view(xp.int32)
        if not saturate:
            rounded[rounded > largest] = INFINITY if self.infinity else NAN
        rounded[nan] = NAN
        rounded |= pattern & SIGN
        return rounded.view(xp.float32).reshape(x.shape)


@dataclass(frozen=True)
class FixedFormat:
    """Signed two's complement fixed point: integer_bits + fraction_bits in all, the sign counted in integer_bits.

    fixed4.12 has 16 bits and holds the multiples of 2^-12 from -8 to 8 - 2^-12. This is the <IL, FL> of Gupta et
    al., Deep learning with limited numerical precision, 2015. It saturates, infinities included, and cannot do
    otherwise. There is one zero, +0. NaN has no code and is kept, so that it is seen.
    """

    integer_bits: int
    fraction_bits: int

    def __post_init__(self) -> None:
        if self.integer_bits < 1 or self.fraction_bits < 0:
            raise ConfigError(f"{self.name}: needs at least 1 integer bit, the sign, and 0 fraction bits")
        if self.bits > CARRIER_INTEGER_BITS:
            raise ConfigError(f"{self.name}: {self.bits} bits in all, and float32 holds {CARRIER_INTEGER_BITS} exactly")

    @property
    def name(self) -> str:
        return f"fixed{self.integer_bits}.{self.fraction_bits}"

    @property
    def bits(self) -> int:
        return self.integer_bits + self.fraction_bits

    @property
    def max(self) -> float:
        return 2.0 ** (self.integer_bits - 1) - self.smallest_normal

    @property
    def min(self) -> float:
        """Lowest value: one step further from zero than `max`."""
        return -(2.0 ** (self.integer_bits - 1))

    @property
    def smallest_normal(self) -> float:
        return 2.0**-self.fraction_bits

    @property
    def epsilon(self) -> float:
        return self.smallest_normal

    @property
    def unit_roundoff(self) -> float:
        return self.epsilon / 2

    def round(self, xp: Namespace, x: Array, rng: Any = None, saturate: bool | None = None) -> Array:
        if saturate is False:
            raise ConfigError(f"{self.name} always saturates: it has neither infinity nor NaN to overflow to")
        x = xp.clip(xp.asarray(x, dtype=xp.float32), self.min, self.max)
        noise = None if rng is None else rng.random(x.shape, dtype=xp.float32)
        return _to_multiples(xp, x, self.smallest_normal, noise) + 0.0  # -0 becomes +0


@dataclass(frozen=True)
class IntegerFormat(FixedFormat):
    """Fixed point without a fraction and without the lowest code: int8 is -127..127, so that -x has a code too.

    A tensor is scaled before it is rounded: see `per_tensor`.
    """

    fraction_bits: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        return f"int{self.integer_bits}"

    @property
    def min(self) -> float:
        return -self.max

    @property
    def epsilon(self) -> float:
        return 1 / self.max


def _pattern(value: float) -> int:
    """The float32 bit pattern of `value`."""
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def _drop_bits(xp: Namespace, pattern: Array, dropped: int, noise: Array | None) -> Array:
    """int32 patterns rounded to multiples of 2^dropped, ties to even; `noise`, in [0, 1), makes it stochastic."""
    if noise is None:
        rounded = pattern >> dropped
        rounded &= 1  # half a unit, less one where the kept part is even
        rounded += (1 << (dropped - 1)) - 1
    else:
        rounded = (noise * (1 << dropped)).astype(xp.int32)
    rounded += pattern
    rounded &= -(1 << dropped)
    return rounded


def _to_multiples(xp: Namespace, x: Array, step: Array | float, noise: Array | None) -> Array:
    """`x` rounded to multiples of `step`, ties to even; `noise`, uniform in [0, 1), makes it stochastic."""
    steps = x / step
    if noise is None:
        return xp.rint(steps) * step
    floor = xp.floor(steps)
    return (floor + (noise < steps - floor)) * step


def per_tensor(xp: Namespace, x: Array, format: Format, rng: Any = None) -> tuple[Array, Array]:
    """(codes, scale): `x` is about codes * scale, with codes representable in `format` and scale a 0-d float32.

    The scale takes max|x| to the largest value of the format: max|x| / max for integers; for floats that, rounded up
    to a power of two, so that scaling costs no precision and codes * scale is exact. It is 1 for a tensor that is
    empty, all zero or not finite. It stays an array of `xp`: nothing waits for the card. Whoever wants exact integer
    sums multiplies codes, and scales the result.
    """
    x = xp.asarray(x, dtype=xp.float32)
    if x.size == 0:
        return x, xp.asarray(1, dtype=xp.float32)
    scale = xp.asarray(xp.maximum(x.max(), -x.min()) / format.max, dtype=xp.float32)
    if isinstance(format, FloatFormat):  # carry any mantissa into the exponent, and drop it
        scale = ((scale.reshape(1).view(xp.int32) + 0x007FFFFF) & INFINITY).view(xp.float32).reshape(())
    scale = xp.where((scale > 0) & (scale < math.inf), scale, xp.float32(1))
    return format.round(xp, x / scale, rng), scale


_FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        FloatFormat("fp64", 11, 52, 64),
        FloatFormat("fp32", 8, 23, 32),
        FloatFormat("tf32", 8, 10, 32),
        FloatFormat("bf16", 8, 7, 16),
        FloatFormat("fp16", 5, 10, 16),
        FloatFormat("fp8_e4m3", 4, 3, 8, infinity=False, saturates=True),
        FloatFormat("fp8_e5m2", 5, 2, 8, saturates=True),
        IntegerFormat(8),
    )
}


def formats() -> tuple[str, ...]:
    """The names of the number formats; besides these there is fixedI.F for any I and F."""
    return tuple(_FORMATS)


def number_format(name: str) -> Format:
    """The format called `name`: one of formats(), or fixedI.F such as fixed4.12."""
    if name in _FORMATS:
        return _FORMATS[name]
    if fixed := re.fullmatch(r"fixed([0-9]{1,3})\.([0-9]{1,3})", name):
        return FixedFormat(int(fixed[1]), int(fixed[2]))
    known = ", ".join(sorted(_FORMATS))
    raise ConfigError(f"no number format {name!r}; known: {known}, and fixedI.F such as fixed4.12")


@dataclass(frozen=True)
class Policy:
    """Which format each number of a training step is in.

    Operands are rounded before a product (`quantize_values`, `quantize_gradients`), products are summed in
    `accumulate` by whoever multiplies (int32 and int64 sums are exact), and results are rounded to the output
    format (`round_output`). Weights are kept and moved in the master format.
    """

    name: str
    values: Format  # weights and activations entering a product
    gradients: Format  # errors dy entering the backward and gradient products
    output: Format  # what results are rounded to
    accumulate: str = "fp32"  # what products are summed in
    master: Format = _FORMATS["fp32"]
    scaling: Literal["none", "per-tensor"] = "none"
    stochastic: bool = False  # gradients are rounded stochastically: quantize_gradients needs an rng

    @property
    def value_bits(self) -> int:
        """Bits of one stored activation or weight operand, for memory traffic (tf32: 32)."""
        return self.values.bits

    def dtype(self, xp: Namespace) -> Any:
        """The type of every array of this policy: float64 for fp64, else float32."""
        return xp.float64 if self.values.bits == 64 else xp.float32

    def quantize_values(self, xp: Namespace, x: Array, rng: Any = None) -> Array:
        """`x` as it enters a product, in its own units: nearest, or stochastic with `rng`. fp32, fp64: x itself."""
        return self._quantize(xp, x, self.values, rng)

    def quantize_gradients(self, xp: Namespace, dy: Array, rng: Any = None) -> Array:
        """`dy` as it enters a product, in its own units. Needs an `rng` where `stochastic`; uses one wherever given."""
        if self.stochastic and rng is None:
            raise ConfigError(f"{self.name} rounds gradients stochastically: quantize_gradients needs an rng")
        return self._quantize(xp, dy, self.gradients, rng)

    def round_output(self, xp: Namespace, y: Array) -> Array:
        """`y` rounded to the output format, to nearest."""
        return self.output.round(xp, y)

    def _quantize(self, xp: Namespace, x: Array, format: Format, rng: Any) -> Array:
        if self.scaling == "none":
            return format.round(xp, x, rng)
        codes, scale = per_tensor(xp, x, format, rng)
        return codes * scale

    def relative_rms_bound(self, *, gradients: bool = False, peak: float = 6.0) -> float:
        """Bound on RMS error / RMS result of a product of independent zero-mean operands of RMS 1.

        Values times values, or values times `gradients`. `peak` is the largest magnitude in an operand, which sets
        the step of an integer format. Counts the rounding of operands and result: not accumulation in fp32 (about
        sqrt(k) 2^-24 for k terms), nor saturation, nor underflow.
        """
        bound = 1.0
        for format in (self.values, self.gradients if gradients else self.values, self.output):
            bound *= 1 + format.unit_roundoff * (peak if isinstance(format, IntegerFormat) else 1)
        return bound - 1

    def describe(self) -> str:
        """One line for under a table."""
        values, gradients = (f.name.removeprefix("fp8_") for f in (self.values, self.gradients))
        both = f"{values} values and gradients" if values == gradients else f"{values} values, {gradients} gradients"
        return (
            f"{self.name}: {both}"
            + (", stochastic rounding of gradients" if self.stochastic else "")
            + (", per-tensor scales" if self.scaling == "per-tensor" else "")
            + f", accumulated in {self.accumulate}, {self.output.name} out, {self.master.name} master weights"
        )


def _policy(name: str, values: str, gradients: str, output: str, **others: Any) -> Policy:
    return Policy(name, _FORMATS[values], _FORMATS[gradients], _FORMATS[output], **others)


# fp16 does not scale the loss: as on hardware, gradients below 2^-25 become zero unless the training loop does
# (Micikevicius et al., Mixed precision training, 2018). Its output overflows to infinity, which shows.
# fp8: E4M3 forward, E5M2 backward, per-tensor scales, nearest (Micikevicius et al., FP8 formats for deep learning,
# 2022). int8: gradients span more octaves than int8 has, and nearest would turn most into zero, always the same
# way; stochastic rounding keeps their mean (Banner et al., Scalable methods for 8-bit training, 2018).
_POLICIES = {
    p.name: p
    for p in (
        _policy("fp64", "fp64", "fp64", "fp64", accumulate="fp64", master=_FORMATS["fp64"]),
        _policy("fp32", "fp32", "fp32", "fp32"),
        _policy("tf32", "tf32", "tf32", "fp32"),
        _policy("bf16", "bf16", "bf16", "bf16"),
        _policy("fp16", "fp16", "fp16", "fp16"),
        _policy("fp8", "fp8_e4m3", "fp8_e5m2", "bf16", scaling="per-tensor"),
        _policy("int8", "int8", "int8", "fp32", accumulate="int32", scaling="per-tensor", stochastic=True),
    )
}


def policies() -> tuple[str, ...]:
    """The names of the training policies; besides these there is fixedI.F for any I and F."""
    return tuple(_POLICIES)


def policy(name: str) -> Policy:
    """The training policy called `name`: one of policies(), or fixedI.F such as fixed4.12.

    fixedI.F keeps values, gradients, results and master weights in that one format, gradients rounded
    stochastically (Gupta et al. 2015). Round the moved weights with `master.round(xp, w, rng)`: to nearest, a
    step of the weights below half a step of the format would be lost every time.
    """
    if name in _POLICIES:
        return _POLICIES[name]
    if name.startswith("fixed"):
        fixed = number_format(name)
        return Policy(fixed.name, fixed, fixed, fixed, accumulate="int64", master=fixed, stochastic=True)
    known = ", ".join(sorted(_POLICIES))
    raise ConfigError(f"no precision {name!r}; known: {known}, and fixedI.F such as fixed4.12")

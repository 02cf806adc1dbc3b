"""Number formats, and rounding to them.

A format rounds an array to its representable values and keeps them in float32 (float64 for fp64), so the same
code runs on NumPy and CuPy and a product of rounded operands is an ordinary matmul. One idea does all rounding:
to a multiple of the gap between representable values at x, which is a constant for integers and fixed point and
a power of two, read off the exponent of x, for floats. Formats with float32's own exponents get the same by
rounding the bit pattern, which no gap can overflow.

Sources: IEEE 754-2019 (binary16, binary32, binary64, round to nearest, ties to even); OCP 8-bit floating point
specification OFP8 1.0, 2023 (E4M3, E5M2, saturating conversion); OCP microscaling formats specification MX 1.0, 2023
(E2M3, E3M2, E2M1); NVIDIA A100 whitepaper, 2020 (TF32).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Any, Protocol

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
    round to `max` are not overflow. The default is each format's usual cast: fp8, fp6 and fp4 saturate, the others do
    not. fp6 and fp4 have neither infinity nor NaN: they cannot but saturate, and keep NaN so that it is seen.

    `bits` is the size in memory; 1 + exponent_bits + mantissa_bits of them carry the value (tf32: 19 of 32).
    fp32 and fp64 return x itself, overflow or not. Other formats take at most 8 exponent and 22 mantissa bits.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bits: int
    infinity: bool = True  # False: the top exponent holds numbers, and its last mantissa NaN (E4M3)
    nan: bool = True  # False, as infinity is: the last mantissa of the top exponent is a number too (E2M1)
    saturates: bool = False  # the default of round()

    @property
    def max(self) -> float:
        below_two = 2 - 2 * self.epsilon if self.nan and not self.infinity else 2 - self.epsilon
        return below_two * 2.0**self.max_exponent

    @property
    def max_exponent(self) -> int:
        """Exponent of the largest power of two: 8 for E4M3, whose largest value is 1.75 * 2^8."""
        return (1 << self.exponent_bits - 1) - self.infinity

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
        saturate = self.saturates if saturate is None else saturate
        if not (saturate or self.infinity or self.nan):
            raise ConfigError(f"{self.name} always saturates: it has neither infinity nor NaN to overflow to")
        x = xp.asarray(x, dtype=xp.float32)
        pattern = x.reshape(-1).view(xp.int32)
        magnitude = pattern & MAGNITUDE
        nan = magnitude > INFINITY
        noise = None if rng is None else rng.random(magnitude.shape, dtype=xp.float32)
        largest = _pattern(self.max)
        overflow = (largest & INFINITY) + (1 << CARRIER_MANTISSA_BITS)  # the power of two above max
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
        FloatFormat("fp6_e2m3", 2, 3, 6, infinity=False, saturates=True, nan=False),
        FloatFormat("fp6_e3m2", 3, 2, 6, infinity=False, saturates=True, nan=False),
        FloatFormat("fp4_e2m1", 2, 1, 4, infinity=False, saturates=True, nan=False),
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

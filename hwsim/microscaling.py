"""Scales that a short block of values shares: OCP microscaling, and NVIDIA's nvfp4.

A block lies along the axis that a product sums over, so that its scale can be taken out of the sum. Each block is
multiplied by what brings its largest magnitude near the largest value of a narrow element format, is rounded to that,
and multiplied back. A last block with fewer values is a block like the others. A block that holds NaN or infinity is
NaN throughout: the scale is, and then no element matters.

Sources: OCP Microscaling Formats (MX) Specification 1.0, 2023, sections 5.2 to 5.4 and 6.3 (blocks of 32, E8M0 scales,
conversion); NVIDIA, Pretraining Large Language Models with NVFP4, arXiv 2509.25149, appendix B (blocks of 16, both
scales). What becomes of NaN and infinity is left open by the conversion of either.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from hwsim.arrays import Array, Namespace
from hwsim.errors import ShapeError
from hwsim.formats import CARRIER_MANTISSA_BITS, INFINITY, MAGNITUDE, NAN, FloatFormat, number_format

LARGEST = float.fromhex("0x1.fffffep+127")  # of float32
LEAST_INVERTED = 2.0**-128 + 2.0**-149  # the smallest float32 whose reciprocal is one


class BlockScaling(ABC):
    """How blocks of `size` values along one axis find their scales."""

    size: ClassVar[int]
    scale_bits: ClassVar[int]  # of one block; a scale for a whole tensor is not counted
    text: ClassVar[str]

    @abstractmethod
    def factors(self, xp: Namespace, peaks: Array, element: FloatFormat) -> tuple[Array, Array]:
        """What to multiply by before rounding to `element`, and after; NaN where a block is.

        `peaks`: the largest magnitude of each block of one tensor, as an int32 pattern.
        """

    @abstractmethod
    def relative_errors(self, element: FloatFormat) -> tuple[float, float]:
        """The most that rounding moves a value: relative to its own magnitude, and to the largest of its block.

        The first holds in the normal range of `element` and where it saturates, the second in its subnormal range.
        """

    def relative_rms_bound(self, element: FloatFormat) -> float:
        """Bound on the RMS error of independent standard normal values.

        For the largest magnitude M of n of them E[M]^2 <= 2 ln(2 n), and Var[M] <= 1 (Boucheron, Lugosi and Massart,
        Concentration Inequalities, 2013, section 2.5 and theorem 3.20), so that E[M^2] <= 2 ln(2 n) + 1.
        """
        of_value, of_peak = self.relative_errors(element)
        return math.hypot(of_value, of_peak * math.sqrt(2 * math.log(2 * self.size) + 1))


class Microscaling(BlockScaling):
    """OCP MX: a power of two (E8M0) to 32 values, 2^(floor(log2 of the largest magnitude) - largest exponent).

    The largest magnitude comes to lie below twice the element's largest power of two, and saturates if it is beyond
    the element's largest value. Exponents are cut off at -127: blocks below that are subnormal, down to zero.
    """

    size = 32
    scale_bits = 8
    text = "a power-of-two scale to 32 values"

    def factors(self, xp: Namespace, peaks: Array, element: FloatFormat) -> tuple[Array, Array]:
        # The exponent field of float32 has the bias of E8M0. That of a subnormal peak is 0, and is cut off anyway.
        code = xp.maximum((peaks >> CARRIER_MANTISSA_BITS) - element.max_exponent, 0)
        after = xp.where(code > 0, code << CARRIER_MANTISSA_BITS, 1 << CARRIER_MANTISSA_BITS - 1)  # 2^-127: subnormal
        before = (254 - code) << CARRIER_MANTISSA_BITS
        before, after = (xp.where(peaks < INFINITY, each, NAN).astype(xp.int32) for each in (before, after))
        return before.view(xp.float32), after.view(xp.float32)

    def relative_errors(self, element: FloatFormat) -> tuple[float, float]:
        above = 2.0 ** (element.max_exponent + 1)
        saturated = 1 - element.max / above
        return max(element.unit_roundoff, saturated), element.smallest_subnormal / above


class NvidiaScaling(BlockScaling):
    """nvfp4: an E4M3 scale to 16 values, and an fp32 scale to the tensor that makes the most of E4M3.

    The largest magnitude of a tensor becomes the largest element times the largest E4M3. The tensor's scale is 1 where
    that magnitude is zero or not finite. Values of a block whose scale rounds to zero are zero.
    """

    size = 16
    scale_bits = 8
    text = "an E4M3 scale to 16 values and an fp32 scale to the tensor"

    def factors(self, xp: Namespace, peaks: Array, element: FloatFormat) -> tuple[Array, Array]:
        scale = number_format("fp8_e4m3")
        reach = scale.max * element.max
        broken, peaks = peaks >= INFINITY, peaks.view(xp.float32)
        largest = peaks.max()
        enlarged = xp.where(largest > reach / LARGEST, reach / xp.maximum(largest, reach / LARGEST), LARGEST)
        enlarged = xp.where((largest > 0) & (largest < math.inf), enlarged, 1).astype(xp.float32)
        rounded = scale.round(xp, peaks / element.max * enlarged)
        after = rounded * (1 / enlarged)
        before = 1 / xp.maximum(after, LEAST_INVERTED)
        before = xp.where(rounded > 0, before, 0)
        before, after = (xp.where(broken, math.nan, each).astype(xp.float32) for each in (before, after))
        return before, after

    def relative_errors(self, element: FloatFormat) -> tuple[float, float]:
        # A scale that rounding made too small by its unit roundoff cuts the largest magnitude off by as much.
        roundoff = number_format("fp8_e4m3").unit_roundoff
        subnormal = element.smallest_subnormal / 2 / element.max * (1 + roundoff)
        return max(element.unit_roundoff, roundoff), subnormal


def blocks(xp: Namespace, x: Array, axis: int, size: int) -> Array:
    """x [..., length, ...] as [outer, blocks, size, inner], the last block filled up with zeros.

    An axis that is shorter than a block is one block of its own length.
    """
    if not x.ndim:
        raise ShapeError("a single number has no axis along which values share a scale; give an array")
    axis %= x.ndim
    length = x.shape[axis]
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    size = min(size, length)
    count = -(-length // size)
    if count * size == length:
        return x.reshape(outer, count, size, inner)
    filled = xp.zeros((outer, count * size, inner), dtype=x.dtype)
    filled[:, :length] = x.reshape(outer, length, inner)
    return filled.reshape(outer, count, size, inner)


def block_scaled(
    xp: Namespace, x: Array, element: FloatFormat, scaling: BlockScaling, axis: int, rng: Any = None
) -> tuple[Array, Array]:
    """(codes, scales): x is about codes * scales, codes [outer, blocks, size, inner] representable in `element`.

    Scales are [outer, blocks, 1, inner] and hold that of the tensor, where there is one. See `blocks` for the axes;
    `rng` makes the rounding of elements stochastic. x is not empty.
    """
    grouped = blocks(xp, xp.asarray(x, dtype=xp.float32), axis, scaling.size)
    peaks = (grouped.view(xp.int32) & MAGNITUDE).max(axis=2, keepdims=True)
    before, after = scaling.factors(xp, peaks, element)
    return element.round(xp, grouped * before, rng), after


def per_block(
    xp: Namespace, x: Array, element: FloatFormat, scaling: BlockScaling, axis: int, rng: Any = None
) -> Array:
    """`x` rounded to `element` with a scale to each block along `axis`, in its own units."""
    if x.size == 0:
        return xp.asarray(x, dtype=xp.float32)
    codes, scales = block_scaled(xp, x, element, scaling, axis, rng)
    codes *= scales
    if not x.ndim:
        raise ShapeError("a single number has no axis along which values share a scale; give an array")
    axis %= x.ndim
    length = x.shape[axis]
    return codes.reshape(codes.shape[0], -1, codes.shape[-1])[:, :length].reshape(x.shape)

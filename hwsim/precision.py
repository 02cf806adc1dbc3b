"""Scales, and which formats a low-precision training step uses.

A policy says which number format each number of a training step is in, and what the values share a scale with: nothing,
their tensor, or a short block along the axis that a product sums over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

from hwsim.arrays import Array, Namespace
from hwsim.errors import ConfigError
from hwsim.formats import INFINITY, FixedFormat, FloatFormat, Format, IntegerFormat, formats, number_format
from hwsim.microscaling import BlockScaling, Microscaling, NvidiaScaling, per_block

__all__ = ["FixedFormat", "Policy", "formats", "number_format", "per_tensor", "policies", "policy"]

FP32 = number_format("fp32")


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


@dataclass(frozen=True)
class Policy:
    """Which format each number of a training step is in.

    Operands are rounded before a product (`quantize_values`, `quantize_gradients`), products are summed in
    `accumulate` by whoever multiplies (int32 and int64 sums are exact), and results are rounded to the output
    format (`round_output`). Weights are kept and moved in the master format. Blocks that share a scale lie along
    `axis`, the one that the product sums over, so that an operand is another one in another product: where there
    are blocks (`blocked`), so are weights forward and backward, and x and dy in a gradient.
    """

    name: str
    values: Format  # weights and activations entering a product
    gradients: Format  # errors dy entering the backward and gradient products
    output: Format  # what results are rounded to
    accumulate: str = "fp32"  # what products are summed in
    master: Format = FP32
    scaling: Literal["none", "per-tensor"] | BlockScaling = "none"
    stochastic: bool = False  # gradients are rounded stochastically: quantize_gradients needs an rng

    def __post_init__(self) -> None:
        if self.blocked and not all(isinstance(each, FloatFormat) for each in (self.values, self.gradients)):
            raise ConfigError(f"{self.name}: values that share a scale to a block are floating-point numbers")

    @property
    def value_bits(self) -> int:
        """Bits of one stored activation or weight operand, for memory traffic (tf32: 32); scales are apart."""
        return self.values.bits

    @property
    def blocked(self) -> bool:
        """Whether blocks of values share a scale, so that the axis matters along which an operand is rounded."""
        return isinstance(self.scaling, BlockScaling)

    def dtype(self, xp: Namespace) -> Any:
        """The type of every array of this policy: float64 for fp64, else float32."""
        return xp.float64 if self.values.bits == 64 else xp.float32

    def quantize_values(self, xp: Namespace, x: Array, rng: Any = None, *, axis: int = -1) -> Array:
        """`x` as it enters a product that sums over `axis`, in its own units: nearest, or stochastic with `rng`.

        fp32, fp64: x itself.
        """
        return self._quantize(xp, x, self.values, rng, axis)

    def quantize_gradients(self, xp: Namespace, dy: Array, rng: Any = None, *, axis: int = -1) -> Array:
        """`dy` as it enters a product that sums over `axis`, in its own units.

        Needs an `rng` where `stochastic`; uses one wherever given.
        """
        if self.stochastic and rng is None:
            raise ConfigError(f"{self.name} rounds gradients stochastically: quantize_gradients needs an rng")
        return self._quantize(xp, dy, self.gradients, rng, axis)

    def round_output(self, xp: Namespace, y: Array) -> Array:
        """`y` rounded to the output format, to nearest."""
        return self.output.round(xp, y)

    def _quantize(self, xp: Namespace, x: Array, format: Format, rng: Any, axis: int) -> Array:
        if self.scaling == "none":
            return format.round(xp, x, rng)
        if isinstance(self.scaling, BlockScaling):
            return per_block(xp, x, cast(FloatFormat, format), self.scaling, axis, rng)
        codes, scale = per_tensor(xp, x, format, rng)
        return codes * scale

    def relative_rms_bound(self, *, gradients: bool = False, peak: float = 6.0) -> float:
        """Bound on RMS error / RMS result of a product of independent zero-mean operands of RMS 1.

        Values times values, or values times `gradients`. `peak` is the largest magnitude in an operand, which sets
        the step of an integer format. Counts the rounding of operands and result: not accumulation in fp32 (about
        sqrt(k) 2^-24 for k terms), nor saturation, nor underflow. Both are counted, for normal operands, where
        blocks share a scale: there they are part of every block.
        """
        bound = 1 + self.output.unit_roundoff
        for format in (self.values, self.gradients if gradients else self.values):
            if isinstance(self.scaling, BlockScaling):
                bound *= 1 + self.scaling.relative_rms_bound(cast(FloatFormat, format))
            else:
                bound *= 1 + format.unit_roundoff * (peak if isinstance(format, IntegerFormat) else 1)
        return bound - 1

    @property
    def _scales(self) -> str:
        return self.scaling.text if isinstance(self.scaling, BlockScaling) else f"{self.scaling} scales"

    def describe(self) -> str:
        """One line for under a table."""
        values, gradients = (f.name.removeprefix("fp8_") for f in (self.values, self.gradients))
        both = f"{values} values and gradients" if values == gradients else f"{values} values, {gradients} gradients"
        return (
            f"{self.name}: {both}"
            + (", stochastic rounding of gradients" if self.stochastic else "")
            + ("" if self.scaling == "none" else f", {self._scales}")
            + f", accumulated in {self.accumulate}, {self.output.name} out, {self.master.name} master weights"
        )


def _policy(name: str, values: str, gradients: str, output: str, **others: Any) -> Policy:
    return Policy(name, number_format(values), number_format(gradients), number_format(output), **others)


# fp16 does not scale the loss: as on hardware, gradients below 2^-25 become zero unless the training loop does
# (Micikevicius et al., Mixed precision training, 2018). Its output overflows to infinity, which shows.
# fp8: E4M3 forward, E5M2 backward, per-tensor scales, nearest (Micikevicius et al., FP8 formats for deep learning,
# 2022). int8: gradients span more octaves than int8 has, and nearest would turn most into zero, always the same
# way; stochastic rounding keeps their mean (Banner et al., Scalable methods for 8-bit training, 2018).
# Where a block has its own scale, precision is worth more than range: mxfp8 is E4M3 both ways (the MXFP8 recipe of
# NVIDIA's Transformer Engine); mxfp6 keeps the wider of its formats for gradients, as fp8 does. Elements are rounded to
# nearest, as the specification of mx asks. nvfp4 rounds gradients stochastically, as NVIDIA trains with it (arXiv
# 2509.25149, which besides mixes gradients by Hadamard matrices, scales 16 x 16 weights, and leaves layers in bf16).
_POLICIES = {
    p.name: p
    for p in (
        _policy("fp64", "fp64", "fp64", "fp64", accumulate="fp64", master=number_format("fp64")),
        _policy("fp32", "fp32", "fp32", "fp32"),
        _policy("tf32", "tf32", "tf32", "fp32"),
        _policy("bf16", "bf16", "bf16", "bf16"),
        _policy("fp16", "fp16", "fp16", "fp16"),
        _policy("fp8", "fp8_e4m3", "fp8_e5m2", "bf16", scaling="per-tensor"),
        _policy("int8", "int8", "int8", "fp32", accumulate="int32", scaling="per-tensor", stochastic=True),
        _policy("mxfp8", "fp8_e4m3", "fp8_e4m3", "bf16", scaling=Microscaling()),
        _policy("mxfp6", "fp6_e2m3", "fp6_e3m2", "bf16", scaling=Microscaling()),
        _policy("mxfp4", "fp4_e2m1", "fp4_e2m1", "bf16", scaling=Microscaling()),
        _policy("nvfp4", "fp4_e2m1", "fp4_e2m1", "bf16", scaling=NvidiaScaling(), stochastic=True),
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

"""Products in a real card's own number formats: operands packed as tensor cores read them, sums by cuBLAS.

Operands are rounded by the policy, as in the emulation, and then packed, which loses nothing: what differs from the
emulation is the order and the width of the sums alone. Results leave the tensor cores in float32 (int8: exact int32
sums) and are rounded by the policy, as in the emulation. Nothing here waits for the card.

fp16, bf16, tf32 and int8 go through cublasGemmStridedBatchedEx, which CuPy binds; fp8 through cublasLt (lt.py).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hwsim.arrays import Array, Namespace
from hwsim.errors import DeviceError
from hwsim.formats import Format
from hwsim.precision import Policy, per_tensor

EDGE = 16  # values: what tensor cores need int8 and fp8 dimensions to be multiples of (16 bytes, cuBLAS manual, 2.3)

# The first compute capability whose units take a format: CUDA C++ Programming Guide, arithmetic and tensor cores.
FIRST_CAPABILITY: Mapping[str, int] = {
    "fp64": 0, "fp32": 0, "fp16": 53, "int8": 61, "tf32": 80, "bf16": 80, "fp8": 89,
}  # fmt: skip

# cudaDataType of library_types.h
REAL_TYPE = {"fp32": 0, "tf32": 0, "fp16": 2, "int8": 3, "int32": 10, "bf16": 14, "fp8_e4m3": 28, "fp8_e5m2": 29}


class Packed(NamedTuple):
    """An operand [..., rows, columns] as a card holds it: codes that stand for codes x scale."""

    codes: Array
    format: str
    scale: Array = None  # 0-d; None where its format needs none

    def transposed(self) -> Packed:
        """The last two axes exchanged; nothing moves."""
        return self._replace(codes=self.codes.swapaxes(-1, -2))


@dataclass(frozen=True)
class GpuPolicy(Policy):
    """A policy, and who does its products."""

    multiplied: str = ""

    def describe(self) -> str:
        """What is rounded to what, and who multiplies."""
        return f"{super().describe()}; {self.multiplied}"


def on_card(policy: Policy) -> GpuPolicy:
    """The same policy, where a real card multiplies."""
    library = "cublasLt" if policy.name == "fp8" else "cuBLAS"
    return GpuPolicy(**vars(policy), multiplied=f"multiplied by the card in this machine, through {library}")


def emulated(policy: Policy) -> GpuPolicy:
    """The same policy, where float32 products of rounded operands stand for the card's."""
    return GpuPolicy(**vars(policy), multiplied="emulated: float32 products of rounded operands")


def require(precision: str, capability: str, environment: Mapping[str, str]) -> None:
    """Refuse precisions that the card, or CuPy, does not compute in, with a DeviceError; `capability` such as "90".

    Nothing is emulated on a card: what it lacks can be had with array=numpy.
    """
    can = [name for name, first in FIRST_CAPABILITY.items() if first <= int(capability)]
    if precision not in FIRST_CAPABILITY:
        raise DeviceError(
            f"precision={precision!r} with array=cupy: products of blocks that share a scale are not done on a card; "
            f"take one of {', '.join(can)}, or array=numpy, which emulates it"
        )
    if precision not in can:
        major, minor = capability[:-1], capability[-1]
        raise DeviceError(
            f"precision={precision!r} with array=cupy: the card in this machine (compute capability {major}.{minor}) "
            f"has {', '.join(can)}; take one of these, or array=numpy, which emulates it"
        )
    if precision == "fp32" and environment.get("CUPY_TF32", "0") not in ("", "0"):
        raise DeviceError("precision='fp32' with array=cupy: CUPY_TF32 makes it tf32; unset it, or take precision=tf32")


# -- packing -----------------------------------------------------------------------------------------------


def packed(xp: Namespace, x: Array, policy: Policy, format: Format, rng: Any = None) -> Packed:
    """x rounded to `format` as `policy` says, stochastically with `rng`, in the bits that the card reads."""
    if policy.scaling == "none":
        return Packed(narrow(xp, format.round(xp, x, rng), format.name), format.name)
    codes, scale = per_tensor(xp, x, format, rng)
    return Packed(narrow(xp, codes, format.name), format.name, scale)


def narrow(xp: Namespace, values: Array, format: str) -> Array:
    """float32 values that `format` represents, in its own bits; as uint16 and uint8 where arrays know no such type."""
    if format in ("fp32", "tf32"):
        return values
    if format == "int8":
        return values.astype(xp.int8)
    if format == "fp16":
        return values.astype(xp.float16)
    if format == "bf16":  # the upper half of float32
        return (xp.ascontiguousarray(values).view(xp.uint32) >> 16).astype(xp.uint16)
    if format == "fp8_e5m2":  # the upper half of float16
        return (values.astype(xp.float16).view(xp.uint16) >> 8).astype(xp.uint8)
    # E4M3 x 2^-8 has the exponents of float16, subnormals too: sign, a zero, 4 of exponent, 3 of mantissa, zeros.
    pattern = (values * xp.float32(2.0**-8)).astype(xp.float16).view(xp.uint16)
    codes = ((pattern >> 8) & 0x80) | ((pattern >> 7) & 0x7F)
    return xp.where(xp.isnan(values), 0x7F, codes).astype(xp.uint8)


def padded(xp: Namespace, codes: Array) -> Array:
    """codes [..., rows, columns], C-contiguous, both filled up with zeros to whole EDGEs."""
    *stack, rows, columns = codes.shape
    whole = (-(-rows // EDGE) * EDGE, -(-columns // EDGE) * EDGE)
    if whole == (rows, columns):
        return xp.ascontiguousarray(codes)
    filled = xp.zeros((*stack, *whole), dtype=codes.dtype)
    filled[..., :rows, :columns] = codes
    return filled


# -- products ----------------------------------------------------------------------------------------------


def multiply(xp: Namespace, a: Packed, b: Packed) -> Array:
    """a [..., m, k] @ b [..., k, n] -> float32 [..., m, n], by the card's units for the operands' formats."""
    m, n = a.codes.shape[-2], b.codes.shape[-1]
    if a.codes.size == 0 or b.codes.size == 0:
        return xp.zeros((*a.codes.shape[:-2], m, n), dtype=xp.float32)
    if a.format.startswith("fp8"):
        lt = importlib.import_module("hwsim.devices.gpu.lt")
        left, right = padded(xp, a.codes), padded(xp, b.codes.swapaxes(-1, -2))
        found: Array = lt.multiply(xp, left, right, REAL_TYPE[a.format], REAL_TYPE[b.format], a.scale, b.scale)
        return found[..., :m, :n]
    if a.format == "int8":
        sums = gemm(xp, padded(xp, a.codes), padded(xp, b.codes), "int8", xp.int32)[..., :m, :n]
        return sums.astype(xp.float32) * (a.scale * b.scale)
    return gemm(xp, a.codes, b.codes, a.format, xp.float32)


def gemm(xp: Namespace, a: Array, b: Array, format: str, result: Any) -> Array:
    """a [..., m, k] @ b [..., k, n] in one call of cuBLAS, as y' = b' a' in its column-major order."""
    cublas = importlib.import_module("cupy_backends.cuda.libs.cublas")
    *stack, m, k = a.shape
    n = b.shape[-1]
    y = xp.empty((*stack, m, n), dtype=result)
    (a, a_turned, a_lead), (b, b_turned, b_lead) = as_stored(xp, a), as_stored(xp, b)
    one, zero = np.ones((), y.dtype.char), np.zeros((), y.dtype.char)  # on the host, as cuBLAS takes them by default
    compute = {
        "tf32": cublas.CUBLAS_COMPUTE_32F_FAST_TF32, "int8": cublas.CUBLAS_COMPUTE_32I,
    }.get(format, cublas.CUBLAS_COMPUTE_32F)  # fmt: skip
    kind, kind_out = REAL_TYPE[format], REAL_TYPE["int32" if format == "int8" else "fp32"]
    cublas.gemmStridedBatchedEx(
        xp.cuda.device.get_cublas_handle(), b_turned, a_turned, n, m, k, one.ctypes.data,
        b.data.ptr, kind, b_lead, k * n, a.data.ptr, kind, a_lead, m * k, zero.ctypes.data,
        y.data.ptr, kind_out, n, m * n, math.prod(stack), compute, cublas.CUBLAS_GEMM_DEFAULT,
    )  # fmt: skip
    return y


def as_stored(xp: Namespace, x: Array) -> tuple[Array, int, int]:
    """x [..., rows, columns] whole in memory, whether each matrix lies there turned, and the length of what is a row.

    Rows after one another are what cuBLAS calls not transposed, in a product whose factors are exchanged.
    """
    if x.swapaxes(-1, -2).flags.c_contiguous and not x.flags.c_contiguous:
        return x, 1, x.shape[-2]
    return xp.ascontiguousarray(x), 0, x.shape[-1]

"""Products of fp8 matrices by cublasLt, which CuPy does not bind: the few calls that they take, through ctypes.

Constants are those of cublasLt.h and library_types.h, CUDA 12. cublasLt finds its algorithm by itself, without a
workspace. Sums are kept wide (CUBLASLT_MATMUL_DESC_FAST_ACCUM is off).
"""

from __future__ import annotations

import ctypes
import importlib
import math
from functools import cache
from typing import Any

from hwsim.arrays import Array, Namespace
from hwsim.errors import DeviceError

COMPUTE_32F, REAL_32F = 68, 0
TRANSPOSE_A, A_SCALE, B_SCALE = 3, 17, 18  # cublasLtMatmulDescAttributes_t
BATCH_COUNT, BATCH_STRIDE = 5, 6  # cublasLtMatrixLayoutAttribute_t
OPERATION_T = 1


class Library:
    """libcublasLt of the major CUDA version that CuPy was built for; every call that fails is a DeviceError."""

    def __init__(self, major: int) -> None:
        importlib.import_module("cupy_backends.cuda.libs.cublas")  # it loads cublasLt, from wherever CuPy finds it
        self._library = ctypes.CDLL(f"libcublasLt.so.{major}")

    def call(self, name: str, *arguments: Any) -> None:
        """One call. Raises DeviceError with cublasLt's status where it is not success."""
        status = getattr(self._library, name)(*arguments)
        if status:
            raise DeviceError(
                f"fp8 on this card: {name} answers status {status} (cublasStatus_t); take precision=bf16 or array=numpy"
            )

    def layout(self, kind: int, rows: int, columns: int, count: int) -> ctypes.c_void_p:
        """Column-major matrices [rows, columns], `count` of them after one another."""
        made = ctypes.c_void_p()
        size = ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(rows)
        self.call("cublasLtMatrixLayoutCreate", ctypes.byref(made), kind, *size)
        for attribute, value in ((BATCH_COUNT, ctypes.c_int32(count)), (BATCH_STRIDE, ctypes.c_int64(rows * columns))):
            self._set("cublasLtMatrixLayoutSetAttribute", made, attribute, value)
        return made

    def product(self, a_scale: int, b_scale: int) -> ctypes.c_void_p:
        """a' b with both operands scaled by the float32 at these addresses on the card."""
        made = ctypes.c_void_p()
        self.call("cublasLtMatmulDescCreate", ctypes.byref(made), COMPUTE_32F, REAL_32F)
        for attribute, value in (
            (TRANSPOSE_A, ctypes.c_int32(OPERATION_T)),
            (A_SCALE, ctypes.c_void_p(a_scale)),
            (B_SCALE, ctypes.c_void_p(b_scale)),
        ):
            self._set("cublasLtMatmulDescSetAttribute", made, attribute, value)
        return made

    def _set(self, name: str, made: ctypes.c_void_p, attribute: int, value: Any) -> None:
        self.call(name, made, attribute, ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value)))


@cache
def library(major: int) -> Library:
    """The library, loaded once."""
    return Library(major)


@cache
def handle(major: int, card: int) -> ctypes.c_void_p:
    """cublasLt's own state for the card of that number; kept for the life of the process."""
    made = ctypes.c_void_p()
    library(major).call("cublasLtCreate", ctypes.byref(made))
    return made


def multiply(xp: Namespace, a: Array, b: Array, a_kind: int, b_kind: int, a_scale: Array, b_scale: Array) -> Array:
    """a [..., m, k] @ (b [..., n, k])' -> float32 [..., m, n], each operand times its scale, a 0-d float32.

    Both are C-contiguous codes, and m, k and n multiples of 16: in cublasLt's column-major order the result is
    [n, m] = b'' a', and its first operand lies transposed, as fp8 units before Blackwell need it.
    """
    *stack, m, k = a.shape
    n, count = b.shape[-2], math.prod(stack)
    major, card = xp.cuda.runtime.runtimeGetVersion() // 1000, xp.cuda.runtime.getDevice()
    lt = library(major)
    y = xp.empty((*stack, m, n), dtype=xp.float32)
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    made = [
        ("MatrixLayout", lt.layout(b_kind, k, n, count)),
        ("MatrixLayout", lt.layout(a_kind, k, m, count)),
        ("MatrixLayout", lt.layout(REAL_32F, n, m, count)),
        ("MatmulDesc", lt.product(b_scale.data.ptr, a_scale.data.ptr)),
    ]
    (_, first), (_, second), (_, result), (_, product) = made
    b_at, a_at, y_at = (ctypes.c_void_p(array.data.ptr) for array in (b, a, y))
    try:
        lt.call(
            "cublasLtMatmul", handle(major, card), product, ctypes.byref(one), b_at, first, a_at, second,
            ctypes.byref(zero), y_at, result, y_at, result, None, None, ctypes.c_size_t(0),
            ctypes.c_void_p(xp.cuda.get_current_stream().ptr),
        )  # fmt: skip
    finally:
        for kind, each in made:
            lt.call(f"cublasLt{kind}Destroy", each)
    return y

"""A made-up card: NumPy under CuPy's name, with the calls of cuBLAS and cublasLt as their manuals define them.

Matrices are taken from addresses in memory, column after column, with the leading dimensions, strides and operations
given: a product whose arguments are wrong for cuBLAS comes out wrong here. `install(monkeypatch)` puts it in CuPy's
place. It is a plugin of pytest too, to try the tests of real cards:

    PYTHONPATH=tests pytest -p fake_card tests/test_card.py
"""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

TYPES = {
    0: np.float32, 2: np.float16, 3: np.int8, 10: np.int32, 14: ml_dtypes.bfloat16,
    28: ml_dtypes.float8_e4m3fn, 29: ml_dtypes.float8_e5m2,
}  # fmt: skip  # cudaDataType
NOT_SUPPORTED = 15  # cublasStatus_t


class CardArray(np.ndarray):
    """An array that tells its address as CuPy's do."""

    @property
    def data(self) -> Any:
        """Where it lies."""
        return SimpleNamespace(ptr=self.ctypes.data)

    def get(self) -> np.ndarray[Any, Any]:
        """A copy as a plain NumPy array."""
        return np.array(self)


class CardGenerator(np.random.Generator):
    """NumPy's generator; attributes can be set on it, as on CuPy's."""


def carded(value: Any) -> Any:
    """Arrays and NumPy's scalars as arrays of the card."""
    return np.asarray(value).view(CardArray) if isinstance(value, np.ndarray | np.generic) else value


def at(address: int, kind: int, lead: int, columns: int) -> np.ndarray[Any, Any]:
    """A matrix [lead, columns] that lies there column after column; writing to it writes there."""
    dtype = np.dtype(TYPES[kind])
    memory = (ctypes.c_char * (lead * columns * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype).reshape(columns, lead).T


def operand(address: int, kind: int, operation: int, rows: int, columns: int, lead: int) -> np.ndarray[Any, Any]:
    """op(A) [rows, columns] in float64."""
    stored = (columns, rows) if operation else (rows, columns)
    found = at(address, kind, lead, stored[1])[: stored[0]].astype(np.float64)
    return found.T if operation else found


def gemm_strided_batched_ex(
    handle, op_a, op_b, m, n, k, alpha, a, type_a, lead_a, stride_a, b, type_b, lead_b, stride_b, beta, c, type_c,
    lead_c, stride_c, count, compute, algorithm,
):  # fmt: skip
    """C = alpha op(A) op(B) + beta C, `count` times."""
    assert {14: 68, 2: 68, 3: 72}.get(type_a, compute) == compute
    scalar = np.dtype(np.int32 if compute == 72 else np.float32)
    factor, rest = (np.ctypeslib.as_array((ctypes.c_char * 4).from_address(p)).view(scalar)[0] for p in (alpha, beta))
    assert (factor, rest) == (1, 0)
    if type_a == 3:  # cuBLAS: int8 needs leading dimensions and addresses that are multiples of 4
        assert not any(each % 4 for each in (lead_a, lead_b, lead_c, a, b))
    for i in range(count):
        size_a, size_b, size_c = (np.dtype(TYPES[kind]).itemsize for kind in (type_a, type_b, type_c))
        left = operand(a + i * stride_a * size_a, type_a, op_a, m, k, lead_a)
        right = operand(b + i * stride_b * size_b, type_b, op_b, k, n, lead_b)
        at(c + i * stride_c * size_c, type_c, lead_c, n)[:m] = (left @ right).astype(TYPES[type_c])


class FakeLt:
    """libcublasLt, as far as it is called."""

    def __init__(self) -> None:
        self.made: dict[int, dict[Any, Any]] = {}
        self.products = 0

    def _new(self, reference: Any, values: dict[Any, Any]) -> int:
        reference._obj.value = 1000 + len(self.made) + self.products * 100
        self.made[reference._obj.value] = values
        return 0

    def _set(self, made: Any, attribute: int, reference: Any, size: Any) -> int:
        assert ctypes.sizeof(reference._obj) == size.value
        self.made[made.value][attribute] = reference._obj.value
        return 0

    def _destroy(self, made: Any) -> int:
        del self.made[made.value]
        return 0

    cublasLtMatrixLayoutSetAttribute = cublasLtMatmulDescSetAttribute = _set
    cublasLtMatrixLayoutDestroy = cublasLtMatmulDescDestroy = _destroy

    def cublasLtCreate(self, reference: Any) -> int:
        """A handle."""
        reference._obj.value = 1
        return 0

    def cublasLtMatrixLayoutCreate(self, reference: Any, kind: int, rows: Any, columns: Any, lead: Any) -> int:
        """A layout: column-major."""
        size = {"rows": rows.value, "columns": columns.value, "lead": lead.value}
        return self._new(reference, {"kind": kind, 5: 1, 6: 0, **size})

    def cublasLtMatmulDescCreate(self, reference: Any, compute: int, scale: int) -> int:
        """A product."""
        assert (compute, scale) == (68, 0)
        return self._new(reference, {3: 0, 4: 0})

    def cublasLtMatmul(
        self, handle, product, alpha, a, layout_a, b, layout_b, beta, c, layout_c, d, layout_d, algorithm, workspace,
        workspace_size, stream,
    ):  # fmt: skip
        """D = alpha scale_a op(A) scale_b op(B) + beta C; fp8 units take only A transposed and B as it is."""
        what, left, right, out = (self.made[each.value] for each in (product, layout_a, layout_b, layout_d))
        sizes = [left["rows"], left["columns"], right["columns"], out["rows"], out["columns"]]
        if (what[3], what[4]) != (1, 0) or any(size % 16 for size in sizes) or left["kind"] == right["kind"] == 29:
            return NOT_SUPPORTED
        assert (left[5], left["rows"], out["rows"]) == (right[5], right["rows"], left["columns"])
        assert (alpha._obj.value, beta._obj.value) == (1, 0)
        scale = np.float64(1)
        for address in (what[17], what[18]):
            scale *= ctypes.c_float.from_address(address).value
        for i in range(left[5]):
            first = operand(a.value + i * left[6], left["kind"], 1, out["rows"], left["rows"], left["lead"])
            second = operand(b.value + i * right[6], right["kind"], 0, left["rows"], out["columns"], right["lead"])
            at(d.value + 4 * i * out[6], 0, out["lead"], out["columns"])[:] = scale * (first @ second)
        self.products += 1
        return 0


class Card(ModuleType):
    """CuPy with `cards` cards of a compute capability, built for a CUDA, on a driver."""

    def __init__(self, cards: int = 1, capability: str = "90", built: int = 12090, driver: int = 12080) -> None:
        super().__init__("cupy")
        self.__version__, self.ndarray = "14.2.0", CardArray
        runtime = SimpleNamespace(
            getDeviceCount=lambda: cards, getDevice=lambda: 0, runtimeGetVersion=lambda: built,
            driverGetVersion=lambda: driver, getDeviceProperties=lambda index: {"name": b"Made-up card"},
        )  # fmt: skip
        self.cuda = SimpleNamespace(
            runtime=runtime,
            Device=lambda: SimpleNamespace(synchronize=lambda: None, compute_capability=capability),
            device=SimpleNamespace(get_cublas_handle=lambda: 1),
            get_current_stream=lambda: SimpleNamespace(ptr=0),
        )
        self.random = SimpleNamespace(Generator=CardGenerator, Philox4x3210=lambda *, seed: np.random.Philox(seed))

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        if isinstance(value, type) or not callable(value):
            return value
        return lambda *args, **keywords: carded(value(*args, **keywords))


def install(monkeypatch: Any, card: ModuleType | None = None) -> FakeLt:
    """Put the made-up card in CuPy's place; its cublasLt."""
    from hwsim.devices.gpu import lt

    card = Card() if card is None else card
    cublas = ModuleType("cupy_backends.cuda.libs.cublas")
    vars(cublas).update(
        CUBLAS_COMPUTE_32F=68, CUBLAS_COMPUTE_32F_FAST_TF32=77, CUBLAS_COMPUTE_32I=72, CUBLAS_GEMM_DEFAULT=-1,
        gemmStridedBatchedEx=gemm_strided_batched_ex,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cupy", card)
    monkeypatch.setitem(sys.modules, cublas.__name__, cublas)
    found = FakeLt()
    library = object.__new__(lt.Library)
    library._library = found
    monkeypatch.setattr(lt, "library", lambda major: library)
    lt.handle.cache_clear()
    return found


def pytest_configure(config: pytest.Config) -> None:
    """Called where pytest loads this file as a plugin: the made-up card stands in CuPy's place for the whole run."""
    install(pytest.MonkeyPatch())

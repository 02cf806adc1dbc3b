"""Compiled kernels, for what array libraries cannot do in few passes. Numba is imported when the first is defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[Function], Function]:
    """numba.njit with `options`, typed; releases the interpreter's lock, kept on the disk where that can be."""

    def decorate(function: Function) -> Function:
        import numba  # here, so that `import hwsim` stays light

        chosen = {"nogil": True, "error_model": "numpy", **options}
        try:
            return numba.njit(cache=True, **chosen)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # no folder that Numba may write: compile anew in each process
            return numba.njit(**chosen)(function)  # type: ignore[no-any-return]

    return decorate

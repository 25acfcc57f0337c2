"""Loops that numpy has no words for, compiled by numba on first use, in some seconds, and cached on disk.

They release the interpreter's lock, so threads run them side by side; none of them starts threads of its own, for
numba's simplest threading layer ends the process when two threads enter it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")


def compiled(function: Function, *, vectorized: bool = False) -> Function:
    """Compile a function with numba, cached on disk where there is a writable place.

    Parameters
    ----------
    function
        To compile, without the interpreter's lock.
    vectorized
        Whether several elements may be worked on at once. Sums are then added up in any order, and nothing in the
        function may be not-a-number.
    """
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"reassoc", "nsz", "nnan"} if vectorized else False,
    }
    try:
        return cast("Function", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # numba finds no folder to write to
        return cast("Function", numba.njit(**options)(function))

"""A hash of all that the machine code of a kernel depends on. Numba's own cache checks the kernel's file only."""

import hashlib
import inspect
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import numpy as np

_PLAIN = (bool, int, float, complex, str, bytes, tuple, type(None), np.generic)


def kernel_stamp(function: Callable[..., Any]) -> str:
    """Return a hash of a kernel, of all kernels that it calls, and of the constants that they use.

    A change of a docstring, a comment or an annotation does not change the hash.
    """
    digest = hashlib.sha256()
    for piece in _pieces(function, set()):
        digest.update(piece)
        digest.update(b"\0")
    return digest.hexdigest()


def _pieces(function: Callable[..., Any], seen: set[CodeType]) -> Iterator[bytes]:
    code: CodeType = function.__code__
    if code in seen:
        return
    seen.add(code)
    yield from _pieces_of_code(code, function.__doc__)
    for name in sorted(_names(code)):
        value = function.__globals__.get(name)
        if isinstance(value, _PLAIN):
            yield f"{name}={value!r}".encode()
        elif isinstance(value, np.ndarray):
            yield f"{name}={value.dtype}{value.shape}".encode() + value.tobytes()
        elif (called := _python_of(value)) is not None:
            yield from _pieces(called, seen)


def _pieces_of_code(code: CodeType, docstring: str | None) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _pieces_of_code(constant, None)
        elif constant is None or constant != docstring:
            yield repr(constant).encode()


def _names(code: CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _python_of(value: Any) -> Callable[..., Any] | None:
    """Return the Python function of a kernel or of a numba intrinsic; None for any other value."""
    wrapped = getattr(value, "__wrapped__", getattr(value, "_defn", value))
    return wrapped if inspect.isfunction(wrapped) else None

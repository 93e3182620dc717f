"""Support for compiled loops over the rows and bytes of columns: one pass instead of a dozen calls of Arrow.

A call of Arrow takes 3 to 20 µs however few rows there are, and a batch of a quiet country has few. The hot path
therefore uses plain Python functions that numba compiles. Each is compiled once; its machine code is cached beside the
module or in NUMBA_CACHE_DIR, which may be read-only, as in an image. A compiled function gets a column as its Arrow
buffers, without a copy, and runs without Python's global interpreter lock.
"""

import logging
import os
from collections.abc import Callable, Sequence
from functools import cached_property, update_wrapper
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit, types
from numba.core import cgutils
from numba.core.caching import CacheImpl, UserProvidedCacheLocator
from numba.core.event import Listener, register
from numba.extending import intrinsic, typeof_impl
from numba.np.arrayobj import make_array

from orion_beam.transforms.arrow.kernel_stamp import kernel_stamp

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

_logger = logging.getLogger(__name__)

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


class Texts(NamedTuple):
    """The Arrow buffers of a string or binary column. Row `i` is `data[offsets[i]:offsets[i + 1]]`.

    A column of "abc", null and "de" that is a slice behind one other row "xy":

        offsets    2     5 5   7        one more than rows; the first need not be 0
        data    x y|a b c|d e|
        validity  bits 1 (valid), 0 (null), 1 (valid) from bit `first` = 1 on, least significant bit first

    Attributes:
        offsets: Start of each row in `data`, then the end of the last row: int32, one more than rows.
        data: Bytes of all rows.
        validity: Arrow's bitmap: bit `first + i` is set if row `i` is not null. It is empty if no row is null.
        first: Position in `validity` of the bit of row 0.
    """

    offsets: npt.NDArray[np.int32]
    data: Bytes
    validity: Bytes
    first: int


# Numba types of arguments. A function cannot write to these arrays, but a caller may pass writable ones.
BYTES = types.Array(types.uint8, 1, "C", readonly=True)
MASK = types.Array(types.boolean, 1, "C", readonly=True)
INT32S = types.Array(types.int32, 1, "C", readonly=True)
INT64S = types.Array(types.int64, 1, "C", readonly=True)
UINT64S = types.Array(types.uint64, 1, "C", readonly=True)
INT64_ROWS = types.Array(types.int64, 2, "C", readonly=True)
INT64 = types.int64
UINT64 = types.uint64
BYTE = types.uint8
TEXTS = types.NamedTuple((INT32S, BYTES, BYTES, INT64), Texts)  # type: ignore[no-untyped-call]


class _ReadOnlyCache(UserProvidedCacheLocator):
    """NUMBA_CACHE_DIR, where it cannot be written. Numba itself takes only places that it can write to."""

    def ensure_cache_path(self) -> None:
        """Accept what is there.

        Raises:
            NotADirectoryError: Nothing is.
        """
        if not os.path.isdir(self._cache_path):
            raise NotADirectoryError


CacheImpl._locator_classes.insert(1, _ReadOnlyCache)  # behind the same place where it can be written


class _Compiled:
    """A function that is compiled, or loaded from the cache, at its first call. Most commands call none of them."""

    def __init__(self, function: Callable[..., Any], arguments: Sequence[types.Type]) -> None:
        update_wrapper(self, function)
        self._arguments = arguments

    @cached_property
    def dispatcher(self) -> Any:
        """The numba dispatcher of the compiled function."""
        function: Any = self.__wrapped__  # type: ignore[attr-defined]  # of update_wrapper
        made: Any = njit(nogil=True, error_model="numpy")(function)
        self._use_cache(made)
        made.compile(tuple(self._arguments))
        made.disable_compile()
        return made

    def _use_cache(self, made: Any) -> None:
        try:
            made.enable_caching()
        except RuntimeError:
            # No place can be written, and none holds this function: each process compiles it.
            return
        # Numba's cache checks the function's own file only. After a change of a helper in another file it would load
        # stale machine code. Numba has no public option to set the stamp that it compares.
        made._cache._cache_file._source_stamp = kernel_stamp(self.__wrapped__)  # type: ignore[attr-defined]
        if isinstance(made._cache._impl.locator, _ReadOnlyCache):
            made._cache.save_overload = lambda *_: None

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)


@typeof_impl.register(_Compiled)
def _type_of(function: _Compiled, _: Any) -> types.Type:
    """Return the numba type of a compiled function, so that another compiled function can call it."""
    return types.Dispatcher(function.dispatcher)


class _Notice(Listener):
    """Logs once that numba compiles functions, so that nobody takes the pause for a hang."""

    def on_start(self, _: Any) -> None:
        """Log the notice at the first compilation. Numba does not call this for a function that it loads."""
        if not self._has_said:
            self._has_said = True
            _logger.warning("compiling the hot path: half a minute or more, once after an installation")

    def on_end(self, _: Any) -> None:
        """Do nothing: dozens of compilations end."""

    _has_said = False


register("numba:compile", _Notice())  # type: ignore[no-untyped-call]

_compiled: list[_Compiled] = []


def compiled(*arguments: types.Type) -> Callable[[_Kernel], _Kernel]:
    """Return a decorator that compiles a function for arguments of these types at its first call."""

    def decorate(function: _Kernel) -> _Kernel:
        made = _Compiled(function, arguments)
        _compiled.append(made)
        return cast(_Kernel, made)

    return decorate


def compile_all() -> None:
    """Compile all functions of the imported modules, and so cache them for later processes."""
    for function in _compiled:
        _ = function.dispatcher


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array


_NO_BYTES: Bytes = _frozen(np.zeros(0, np.uint8))
_NO_OFFSETS: npt.NDArray[np.int32] = _frozen(np.zeros(1, np.int32))


def texts_of(column: pa.Array) -> Texts:
    """Return the buffers of a string or binary column without a copy. The column may be a slice."""
    validity, offsets, data = column.buffers()
    first = column.offset
    return Texts(
        _frozen(np.frombuffer(offsets, np.int32))[first : first + len(column) + 1] if len(column) else _NO_OFFSETS,
        _frozen(np.frombuffer(data, np.uint8)) if data is not None else _NO_BYTES,
        _frozen(np.frombuffer(validity, np.uint8)) if validity is not None and len(column) else _NO_BYTES,
        first,
    )


def column_of(
    offsets: npt.NDArray[np.int32], data: Bytes, validity: Bytes | None = None, nulls: int = -1
) -> pa.StringArray:
    """Make a string column of buffers that a compiled function has filled, without a copy.

    Args:
        offsets: Start of each row in `data`, then the end of the last row; the first offset is 0.
        data: Bytes of all rows, UTF-8.
        validity: Arrow's bitmap; None if no row is null.
        nulls: Number of null rows; -1 if unknown. If it is 0, `validity` is ignored.
    """
    bits = None if validity is None or nulls == 0 else pa.py_buffer(validity)
    return pa.Array.from_buffers(_STRING, len(offsets) - 1, [bits, pa.py_buffer(offsets), pa.py_buffer(data)], nulls)


_STRING = pa.string()


def numbers_of(values: npt.NDArray[Any], kind: pa.DataType, validity: Bytes | None = None, nulls: int = -1) -> pa.Array:
    """Make a column of fixed width of buffers that a compiled function has filled, see `column_of`."""
    bits = None if validity is None or nulls == 0 else pa.py_buffer(validity)
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(values)], nulls)


@compiled(TEXTS, INT64)
def is_valid(texts: Texts, row: int) -> bool:
    """Return whether a row is not null. For use in compiled functions."""
    bit = texts.first + row
    return len(texts.validity) == 0 or (texts.validity[bit >> 3] >> (bit & 7)) & 1 != 0


@compiled(types.Array(types.uint8, 1, "C"), INT64)
def set_valid(validity: Bytes, row: int) -> None:
    """Set the bit of a row in a bitmap that begins at bit 0. For use in compiled functions."""
    validity[row >> 3] |= np.uint8(1 << (row & 7))


def _copied(_: Any, target: types.Array, _at: Any, source: types.Array, _start: Any, _count: Any) -> Any:
    """Return the numba signature and code generator of `copy_bytes`, which calls C's memcpy."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def address(array: int, place: int) -> Any:
            begin = make_array(signature.args[array])(context, builder, arguments[array]).data  # type: ignore[no-untyped-call]
            return builder.gep(begin, [arguments[place]])

        cgutils.raw_memcpy(builder, address(0, 1), address(2, 3), arguments[4], itemsize=1)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.int64), generate


copy_bytes: Callable[[Bytes, int, Bytes, int, int], None] = intrinsic(_copied)  # type: ignore[assignment]
"""copy_bytes(target, at, source, start, count): copy `source[start:start + count]` to `target[at:at + count]`.

For use in compiled functions. The arrays must not overlap. A loop would take a nanosecond a byte, because numba does
not know that the two arrays are distinct.
"""

"""Description of an exception without personal data."""

import traceback

_LIBRARIES = ("/pyarrow/", "/numpy/", "/polars/", "/pandas/")


class BrokenContractError(Exception):
    """A stage breaks the contract of stages. The text never holds a row's value, so that logs may show it."""


def name_of(error: BaseException) -> str:
    """Return type, file and line of a raised exception. Its text is left out: it may hold a subscriber's number.

    If a library for columns raises it, the line is the one that calls the library.
    """
    if isinstance(error, BrokenContractError):
        return f"{type(error).__name__}: {error}"
    return f"{type(error).__name__} at {place_in(traceback.extract_tb(error.__traceback__))}"


def place_in(frames: traceback.StackSummary) -> str:
    """Return file and line of the innermost frame that is not within a library for columns."""
    callers = [each for each in frames if not any(name in f"/{each.filename}" for name in _LIBRARIES)]
    place = (callers or frames)[-1]
    return f"{place.filename.rpartition('/')[2]}:{place.lineno}"

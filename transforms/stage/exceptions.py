"""Description of an exception without personal data."""

import traceback


class BrokenContractError(Exception):
    """A stage breaks the contract of stages. The text never holds a row's value, so that logs may show it."""


def name_of(error: BaseException) -> str:
    """Return type, file and line of a raised exception. Its text is left out: it may hold a subscriber's number."""
    if isinstance(error, BrokenContractError):
        return f"{type(error).__name__}: {error}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {place.filename.rpartition('/')[2]}:{place.lineno}"

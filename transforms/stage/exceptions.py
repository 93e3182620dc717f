"""What may be said of an exception."""

import traceback


def name_of(error: BaseException) -> str:
    """Return type and place of an exception that was raised: its text may hold a subscriber's number."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {place.filename.rpartition('/')[2]}:{place.lineno}"

"""Durations as people write them: `90s`, `15m`, `12h`, `7d`."""

import re

LONGEST_S = 36_500 * 86_400
"""A hundred years. Nobody waits that long, and a longer duration would lead out of the calendar."""

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_duration_s(text: str) -> int:
    """Parse a duration and return its seconds.

    Raises:
        ValueError: The text is not a duration, its number is 0, or it is longer than `LONGEST_S`.
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None or int(found[1]) == 0:
        raise ValueError(f"{text!r} is no duration: write it as 90s, 15m, 12h or 7d")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if seconds > LONGEST_S:
        raise ValueError(f"{text!r} is too long: the longest duration is {format_duration(LONGEST_S)}")
    return seconds


def format_duration(seconds: float) -> str:
    """Format a duration in the largest unit that gives a whole number, such as `36h`. It is rounded to the second."""
    whole = round(seconds)
    unit = next(unit for unit in reversed(_SECONDS) if whole % _SECONDS[unit] == 0)
    return f"{whole // _SECONDS[unit]}{unit}"

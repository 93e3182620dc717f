"""Sizes of memory as people write them: `512MiB`, `2GiB`."""

import re

_BYTES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_size_bytes(text: str) -> int:
    """Parse a size and return its bytes.

    Raises:
        ValueError: The text is not a size, or its number is 0.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([KMGT]iB)", text)
    if found is None or float(found[1]) == 0:
        raise ValueError(f"{text!r} is no size: write it as 512MiB, 1.5GiB or 2GiB")
    return round(float(found[1]) * _BYTES[found[2]])


def format_mib(size: int) -> str:
    """Format a number of bytes in MiB, such as `1,024 MiB`. It is rounded."""
    return f"{size / _BYTES['MiB']:,.0f} MiB"

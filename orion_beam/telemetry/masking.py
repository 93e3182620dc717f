"""Masking of subscribers' numbers, for everything that people read: screens, logs, messages."""

import os
import re
from pathlib import Path

NUMBER_FIELDS = frozenset({"imsi", "msisdn", "imei", "peer_msisdn"})
"""The fields of CDRs that hold subscribers' numbers."""

_SHORTEST_NUMBER = 10
"""Digits of a subscriber's number at least: what stands in other fields and is shorter is shown."""
_KEPT_AT_START = 4
"""Holds any calling code or MCC; of an ordinary number it says no more than its range."""
_KEPT_AT_END = 3
_MASKED_AT_LEAST = 4
_MASK = "\u2022"

_USER_INFO = re.compile(r"//[^/\s@]*(?:@[^/\s@]*)*@(?=[^/\s@]+)")
_SECRET_OPTION = re.compile(
    r"""((?:password|passwd|passphrase|secret|secret_access_key|access_token|session_token|api_key|jaas\.config|user\.info)
        ["']?\s*[=:]\s*)(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;"']+)""",
    re.IGNORECASE | re.VERBOSE,
)


def mask(number: str | None) -> str:
    """Return an MSISDN, IMSI or IMEI with its middle hidden: `+33612345678` becomes `+3361••••678`.

    Country prefix and the last three digits stay, the length too. Of a short number less stays, so that at least four
    digits are always hidden. Null is the empty text.
    """
    if not number:
        return ""
    plus = "+" if number.startswith("+") else ""
    digits = number.removeprefix("+")
    at_end = _KEPT_AT_END if len(digits) >= _KEPT_AT_END + _MASKED_AT_LEAST else 0
    at_start = max(0, min(_KEPT_AT_START, len(digits) - at_end - _MASKED_AT_LEAST))
    hidden = len(digits) - at_start - at_end
    return plus + digits[:at_start] + _MASK * hidden + digits[at_start + hidden :]


def mask_digits(text: str) -> str:
    """Return a text that means to be one number with its digits hidden as `mask` does, whatever stands between them."""
    digits = iter(mask("".join(each for each in text if each.isdecimal())))
    return "".join(next(digits) if each.isdecimal() else each for each in text)


def mask_numbers(text: str, shortest: int = 7) -> str:
    """Return any text with each run of so many digits or more hidden as `mask` does.

    Blanks, dots and NULs between digits do not end a run: people group numbers, and UTF-16 looks like that.
    """
    return re.sub(rf"\d(?:[ .\0]{{0,3}}\d){{{shortest - 1},}}", lambda found: mask_digits(found[0]), text)


def without_secrets(text: str) -> str:
    """Return any text without who logs in at an address, and without the values of options called after a secret."""
    return _SECRET_OPTION.sub(rf"\1{_MASK * 4}", _USER_INFO.sub(rf"//{_MASK * 4}@", text))


def mask_field(field: str, text: str) -> str:
    """Return what a field of a record says, with numbers hidden as `mask` does, wherever they stand.

    A record whose fields have moved holds numbers where others belong: runs of ten digits are hidden in any field.
    """
    return mask_digits(text) if field in NUMBER_FIELDS else mask_numbers(text, _SHORTEST_NUMBER)


def shown(path: str | Path) -> str:
    """Return a path as text: bytes of its name that are no UTF-8 as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")

"""Masking of subscribers' numbers and secrets in everything that people read: screens, logs, messages."""

import os
import re
from pathlib import Path

NUMBER_FIELDS = frozenset({"imsi", "msisdn", "imei", "peer_msisdn"})
"""The fields of CDRs that hold subscribers' numbers. Log lines have no fields: `mask_line` knows numbers by length."""

_SHORTEST_NUMBER = 10
"""Least digits of a subscriber's number in other fields; shorter runs of digits are shown."""
_LONG_NUMBER = re.compile(rf"\d{{{_SHORTEST_NUMBER},}}")
_FLINK_ID = r"(?<!\w)(?:savepoint-[0-9a-f]{6}-[0-9a-f]{12}|(?=\d*[a-f])[0-9a-f]{32})(?!\w)"
"""A job's id, or the name of a savepoint. Some have ten digits in a row by chance."""
_FLINK_ID_OR_NUMBER = re.compile(rf"({_FLINK_ID})|{_LONG_NUMBER.pattern}")
_KEPT_AT_START = 4
"""Enough for any calling code or MCC; of an ordinary number it tells only the number range."""
_KEPT_AT_END = 3
_MASKED_AT_LEAST = 4
_MASK = "\u2022"

_USER_INFO = re.compile(r"//[^/\s@]*(?:@[^/\s@]*)*@(?=[^/\s@]+)")
_SECRET_OPTION = re.compile(
    r"""((?:password|passwd|passphrase|secret|secret[._-]?(?:access[._-]?)?key|account\.key
        |(?:access|auth|session)[._-]?token|api[._-]?key|jaas\.config|user\.info)
        ["']?\s*[=:]\s*)(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;"']+)""",
    re.IGNORECASE | re.VERBOSE,
)


_CONTROL = re.compile("[\0-\b\v-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that control a terminal or the direction of text, and halves of characters, which no terminal can show;
tabs and line feeds are none of them."""


def printable(text: str) -> str:
    """Return a text without characters that would control the terminal on which it is shown."""
    return _CONTROL.sub("\ufffd", text)


def mask_line(text: str) -> str:
    """Mask what may be a subscriber's number or a secret in a line; other libraries' messages may hold either."""
    return _FLINK_ID_OR_NUMBER.sub(lambda found: found[1] or mask(found[0]), without_secrets(text))


def mask(number: str | None) -> str:
    """Return an MSISDN, IMSI or IMEI with its middle hidden: `+33612345678` becomes `+3361••••678`.

    The length, the first four digits and the last three stay. Fewer digits of a short number stay, so that at least
    four are always hidden. Null becomes the empty text.
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
    """Return the text of a number with its digits hidden as `mask` does; characters between the digits stay."""
    digits = iter(mask("".join(each for each in text if each.isdecimal())))
    return "".join(next(digits) if each.isdecimal() else each for each in text)


def mask_numbers(text: str, shortest: int = 7) -> str:
    """Return any text with each run of at least `shortest` digits hidden as `mask` does.

    Blanks, dots and NULs between digits do not end a run: people group digits, and NULs stand between them in UTF-16.
    """
    return re.sub(rf"\d(?:[ .\0]{{0,3}}\d){{{shortest - 1},}}", lambda found: mask_digits(found[0]), text)


def without_secrets(text: str) -> str:
    """Return any text with user names and passwords in addresses, and values of secret options, hidden."""
    return _SECRET_OPTION.sub(rf"\1{_MASK * 4}", _USER_INFO.sub(rf"//{_MASK * 4}@", text))


def mask_field(field: str, text: str) -> str:
    """Return the text of a record's field with numbers hidden as `mask` does.

    A record with shifted fields holds numbers in the wrong ones, so runs of ten digits are hidden in any field.
    """
    return mask_digits(text) if field in NUMBER_FIELDS else mask_numbers(text, _SHORTEST_NUMBER)


def shown(path: str | Path) -> str:
    """Return a path as text, in which bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")

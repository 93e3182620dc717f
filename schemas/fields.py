"""The value types of CDR fields for the row models: the texts that each accepts, and the code when it rejects one.

These annotated types are the source of truth for the columnar rules in `transforms/rules`: a property test feeds
both the same texts and demands the same verdicts. They read every value as text, so that a JSON number and the same
digits in quotes mean the same.

Sources: IMSI and MSISDN, 3GPP TS 23.003 clauses 2.2 and 3.3 (ITU-T E.212, E.164); IMEI and IMEISV, TS 23.003 clause
6.2; RAT-Type numbers, 3GPP TS 29.274 clause 8.17 and, for NR over Gx and Gi, TS 29.061 clause 16.4.7.2.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from orion_beam.schemas.codes import Code
from orion_beam.schemas.country import CountryProfile

BLANKS = " \t\r\n"
"""Characters that are trimmed around payloads and fields."""

MAX_COUNT = 2**63 - 1
FUTURE_TOLERANCE = timedelta(hours=1)
FIRST_EPOCH, END_OF_EPOCHS = datetime(2000, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC)
"""Plausible range of an epoch, written as digits or as a Kafka timestamp; the end is exclusive. A number outside it has
another unit, is another spelling of a date, or comes from a clock that was reset."""
FIRST_TIME = datetime(1, 1, 2, tzinfo=UTC)
LAST_TIME = datetime(9999, 12, 30, tzinfo=UTC)
"""Range of event times, both inclusive. It gives every local date a year of four digits in any time zone."""

EVENT_TYPES = ("voice", "sms", "data")
SUBSCRIBER_TYPES = ("prepaid", "postpaid", "corporate")

RAT_GENERATIONS: dict[str, str] = {
    "2g": "2G", "gsm": "2G", "gprs": "2G", "edge": "2G", "geran": "2G", "2": "2G",
    "3g": "3G", "umts": "3G", "wcdma": "3G", "hspa": "3G", "utran": "3G", "1": "3G", "5": "3G",
    "4g": "4G", "lte": "4G", "lte-m": "4G", "nb-iot": "4G", "e-utran": "4G", "eutran": "4G", "6": "4G", "8": "4G",
    "9": "4G",
    "5g": "5G", "nr": "5G", "ng-ran": "5G", "10": "5G", "51": "5G",
}  # fmt: skip
"""Generation by lower-case RAT name or by RAT-Type number without leading zeros. WLAN (3), GAN (4) and virtual (7) are
unknown because they are not cellular accesses."""

_IMSI = re.compile(r"[0-9]{14,15}")
_NUMBER = re.compile(r"(\+|00)?([0-9]{10,15})")
_IMEI = re.compile(r"[0-9]{14,16}")
_COUNT = re.compile(r"[0-9]+")
_ISO_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_BASIC_TIME = re.compile(r"([0-9]{8})T([0-9]{6})Z")
_COMPACT_TIME = re.compile(r"[0-9]{14}")
_TWELVE_DIGITS = re.compile(r"[0-9]{12}")
_EPOCH_SECONDS = re.compile(r"[0-9]{9,10}")
_EPOCH_MILLIS = re.compile(r"[0-9]{12,13}")
_EPOCH_MICROS = re.compile(r"[0-9]{16}")
_OFFSET = re.compile(r"([+-])(?=(?:0[0-9]|1[0-3]):?[0-5]|14:?00)([0-9]{2}):?([0-9]{2})")


def reject(code: Code) -> PydanticCustomError:
    """Return the error to raise for a value that breaks the rule of `code`. The error does not quote the value."""
    return PydanticCustomError(code.value, "{meaning}", {"meaning": code.meaning})


def text_of(value: Any) -> str | None:
    """Return a raw value as trimmed text. An absent, null or blank value is None; a JSON number is its digits.

    Raises:
        PydanticCustomError: malformed_payload: the value is an object or array instead of a single value.
    """
    if value is None:
        return None
    if isinstance(value, (dict, list)):
        raise reject(Code.MALFORMED_PAYLOAD)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).strip(BLANKS) or None


def _required(parse: Callable[[str, ValidationInfo], Any]) -> BeforeValidator:
    def validate(value: Any, info: ValidationInfo) -> Any:
        text = text_of(value)
        if text is None:
            raise reject(Code.MISSING_FIELD)
        return parse(text, info)

    return BeforeValidator(validate)


def _optional(parse: Callable[[str, ValidationInfo], Any]) -> BeforeValidator:
    def validate(value: Any, info: ValidationInfo) -> Any:
        text = text_of(value)
        return None if text is None else parse(text, info)

    return BeforeValidator(validate)


def _matching(pattern: re.Pattern[str], code: Code) -> Callable[[str, ValidationInfo], str]:
    def parse(text: str, _: ValidationInfo) -> str:
        if not pattern.fullmatch(text):
            raise reject(code)
        return text

    return parse


def _parse_msisdn(text: str, info: ValidationInfo) -> str:
    """Check an MSISDN against the `profile` (CountryProfile) in the validation context; return it unchanged."""
    if number_digits(text, (info.context or {})["profile"]) is None:
        raise reject(Code.INVALID_MSISDN)
    return text


def _parse_count(text: str, _: ValidationInfo) -> int:
    if not _COUNT.fullmatch(text) or len(digits := text.lstrip("0")) > 19 or int(digits or "0") > MAX_COUNT:
        raise reject(Code.INVALID_NUMBER)
    return int(digits or "0")


def _parse_event_type(value: Any) -> str:
    # An absent event type is unknown, not missing: only row models of formats with an event type have this field.
    text = (text_of(value) or "").lower()
    if text not in EVENT_TYPES:
        raise reject(Code.UNKNOWN_EVENT_TYPE)
    return text


def _parse_rat(text: str, _: ValidationInfo) -> str:
    name = (text.lstrip("0") if _COUNT.fullmatch(text) else text).lower()
    if name not in RAT_GENERATIONS:
        raise reject(Code.UNKNOWN_RAT)
    return text


def _keep_text(text: str, _: ValidationInfo) -> str:
    return text


def local_instant(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the UTC instant of a local wall time. A time that comes twice gives the first instant.

    Raises:
        ValueError: The clock skips this local time.
    """
    instant = moment.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != moment:
        raise ValueError("the local time does not exist")
    return instant


def number_digits(text: str, profile: CountryProfile) -> str | None:
    """Return the digits of a subscriber number without its `+` or `00`; None if the text is not a number.

    A number has 10 to 15 digits (ITU-T E.164) after an optional `+` or `00`. No calling code begins with 0, so digits
    that begin with 0 must be a national number of the country's length. Its 0 is the trunk prefix or its own digit.
    """
    found = _NUMBER.fullmatch(text)
    # "00" before fewer than 10 digits is no number: its digits would be read as a number of another country.
    if found is None or (found[1] is None and text.startswith("00")):
        return None
    digits = found[2]
    trunk_prefix = profile.trunk_prefix or ""
    if digits.startswith("0"):
        is_national = found[1] is None and trunk_prefix in ("", "0")
        return digits if is_national and len(digits) == profile.national_digits + len(trunk_prefix) else None
    return digits


def comes_twice(moment: datetime, zone: ZoneInfo) -> bool:
    """Return whether a local wall time occurs twice because the clock goes back."""
    try:
        first, second = (moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    except OverflowError:
        return False
    return first < second and first.astimezone(zone).replace(tzinfo=None) == moment


def is_plausible_epoch(moment: datetime) -> bool:
    """Return whether an instant is plausible as an epoch or a Kafka timestamp."""
    return FIRST_EPOCH <= moment < END_OF_EPOCHS


def parse_event_time(text: str, zone: ZoneInfo, twelve_digits: str | None = None) -> datetime:
    """Parse an event time and return its instant in UTC, to the millisecond.

    Args:
        text: ISO 8601, basic ISO, `YYYYMMDDHHMMSS`, epoch seconds (9 or 10 digits), milliseconds (12 or
            13) or microseconds (16).
        zone: Time zone of the country, for a text without an offset.
        twelve_digits: Format of twelve digits: `YYMMDDhhmmss`, `YYYYMMDDhhmm`, or None for milliseconds.

    Raises:
        ValueError: The text has no known spelling, its instant does not exist, or its epoch is not plausible.
    """
    moment = _read_event_time(text, zone, twelve_digits)
    if not FIRST_TIME <= moment <= LAST_TIME:
        raise ValueError("out of range")
    return moment


def _epoch(number: int, per_second: int) -> datetime:
    moment = datetime.fromtimestamp(number // per_second, UTC)
    if not is_plausible_epoch(moment):
        raise ValueError("no plausible epoch")
    return moment + timedelta(milliseconds=number % per_second * 1000 // per_second)


def _read_event_time(text: str, zone: ZoneInfo, twelve_digits: str | None) -> datetime:
    if twelve_digits and _TWELVE_DIGITS.fullmatch(text):
        full = f"20{text}" if twelve_digits == "YYMMDDhhmmss" else f"{text}00"
        if not FIRST_EPOCH.year <= int(full[:4]) < END_OF_EPOCHS.year:
            raise ValueError("no plausible year")
        return local_instant(datetime.strptime(full, "%Y%m%d%H%M%S"), zone)
    if _EPOCH_SECONDS.fullmatch(text):
        return _epoch(int(text), 1)
    if _EPOCH_MILLIS.fullmatch(text):
        return _epoch(int(text), 1000)
    if _EPOCH_MICROS.fullmatch(text):
        return _epoch(int(text), 10**6)
    if _COMPACT_TIME.fullmatch(text):
        return local_instant(datetime.strptime(text, "%Y%m%d%H%M%S"), zone)
    if _BASIC_TIME.fullmatch(text):
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if (iso := _ISO_TIME.fullmatch(text)) is None:
        raise ValueError("no known spelling")
    date, time, fraction, offset = iso.groups()
    if time.endswith("60"):
        raise ValueError("leap seconds have no instant of their own")
    moment = datetime.strptime(f"{date} {time}", "%Y-%m-%d %H:%M:%S")
    moment += timedelta(milliseconds=int((fraction or "0")[:3].ljust(3, "0")))
    if offset is None:
        return local_instant(moment, zone)
    if offset == "Z":
        return moment.replace(tzinfo=UTC)
    if (parts := _OFFSET.fullmatch(offset)) is None:
        raise ValueError("the offset is out of range")
    sign, hours, minutes = parts.groups()
    shift = timedelta(hours=int(hours), minutes=int(minutes))
    return (moment - shift if sign == "+" else moment + shift).replace(tzinfo=UTC)


def _parse_time(text: str, info: ValidationInfo) -> datetime:
    """Parse an event time with the validation context's `profile` and `source_timestamp` (aware datetime or None)."""
    context = info.context or {}
    profile = context["profile"]
    try:
        moment = parse_event_time(text, profile.zone, profile.twelve_digit_times)
    except (ValueError, OverflowError):
        raise reject(Code.INVALID_TIMESTAMP) from None
    arrived = context.get("source_timestamp")
    if arrived is not None and is_plausible_epoch(arrived) and moment > arrived + FUTURE_TOLERANCE:
        raise reject(Code.FUTURE_TIMESTAMP)
    return moment


Imsi = Annotated[str, _required(_matching(_IMSI, Code.INVALID_IMSI))]
Msisdn = Annotated[str, _required(_parse_msisdn)]
Imei = Annotated[str | None, _optional(_matching(_IMEI, Code.INVALID_IMEI))]
Count = Annotated[int | None, _optional(_parse_count)]
EventType = Annotated[str, BeforeValidator(_parse_event_type)]
StatedEventType = Annotated[str | None, _optional(lambda text, _: _parse_event_type(text))]
"""Event type in a format whose records may omit it."""
Rat = Annotated[str | None, _optional(_parse_rat)]
EventTime = Annotated[datetime, _required(_parse_time)]
FreeText = Annotated[str | None, _optional(_keep_text)]

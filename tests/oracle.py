"""Oracle of the chain: the verdict on one raw message, in plain Python, by the design and the row models.

`tests/raw_formats` reads the raw formats for it. The oracle is slow and obvious, and shares no code with the decoders
and rules of `transforms/`.
"""

import csv
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import phonenumbers
from pydantic import ValidationError

from orion_beam.schemas.cdr import ValidatedFields
from orion_beam.schemas.codes import Code
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import BLANKS, END_OF_EPOCHS, FIRST_EPOCH, text_of
from orion_beam.transforms.rules import networks as plmns
from tests.reading import RawRow

MAX_PAYLOAD_BYTES = 65_536
EVERY_COUNTRY = ("flat_json", "pipe_text")
UNIFIED_NAMES = {
    "cell": "cell_id",
    "up": "bytes_up",
    "down": "bytes_down",
    "timestamp": "event_time",
    "ts": "event_time",
    "bytes_uploaded": "bytes_up",
    "bytes_downloaded": "bytes_down",
    "duration": "duration_s",
    "event": "event_type",
}


class Verdict(NamedTuple):
    """Outcome of a record: the typed fields if it is accepted, or the pairs of code and field if it is rejected."""

    fields: dict[str, Any] | None
    broken: frozenset[tuple[str, str]]


def judge(payload: bytes | None, arrived: datetime | None, profile: CountryProfile) -> Verdict:
    """Return the verdict that DecodeCdrs and ValidateCdrs must reach on a message."""
    if payload is not None and len(payload) > MAX_PAYLOAD_BYTES:
        return _rejected((Code.OVERSIZED_PAYLOAD, "value"))
    try:
        text = (payload or b"").decode().removeprefix("\ufeff").rstrip(BLANKS)
    except UnicodeDecodeError:
        return _rejected((Code.INVALID_ENCODING, "value"))
    if not text:
        return _rejected((Code.EMPTY_PAYLOAD, "value"))
    try:
        raw_format, record = split(text, profile, len((payload or b"").decode("utf-8-sig")))
    except (ValueError, RecursionError):
        return _rejected((Code.MALFORMED_PAYLOAD, "value"))
    return validate(raw_format, record, arrived, profile)


def split(text: str, profile: CountryProfile, size: int) -> tuple[str, dict[str, Any]]:
    """Return the format and the record of a payload of `size` characters.

    Raises:
        ValueError: The payload is of no format.
    """
    for name in (*profile.formats, *EVERY_COUNTRY):
        record = import_module(f"tests.raw_formats.{name}").read(text, size)
        if record is not None:
            return name, record
    raise ValueError("no format")


def row_model(raw_format: str) -> type[RawRow]:
    """Return the pydantic model of a format's records."""
    model: type[RawRow] = import_module(f"tests.raw_formats.{raw_format}").ROW_MODEL
    return model


def validate(raw_format: str, record: dict[str, Any], arrived: datetime | None, profile: CountryProfile) -> Verdict:
    """Return the verdict of the format's row model on a record, with the warnings if it is accepted."""
    broken = set()
    sent, arrived = arrived, arrived if arrived and FIRST_EPOCH <= arrived < END_OF_EPOCHS else None
    if raw_format == "pipe_text" and arrived is None:
        broken.add((Code.MISSING_FIELD, "event_time"))
    try:
        context = {"profile": profile, "source_timestamp": sent}
        parsed = row_model(raw_format).model_validate(record, context=context)
    except ValidationError as error:
        broken |= {(Code(found["type"]), _unified(found["loc"])) for found in error.errors()}
    if any(code is Code.MALFORMED_PAYLOAD for code, _ in broken):
        return _rejected((Code.MALFORMED_PAYLOAD, "value"))
    if broken:
        return _rejected(*broken)
    fields: dict[str, Any] = dict.fromkeys(ValidatedFields.model_fields) | {"raw_format": raw_format}
    for name, value in parsed.model_dump().items():
        for member, text in value.items() if isinstance(value, dict) else [(name, value)]:
            fields[_unified((member,))] = text
    fields["event_type_inferred"] = fields["event_type"] is None
    fields["event_type"] = fields["event_type"] or "data"
    fields["peer_msisdn"] = text_of(fields.pop("called_number", None)) or fields.pop("destination_number", None)
    fields.pop("destination_number", None)
    if raw_format == "pipe_text":
        fields["event_time"] = arrived
    text = next((text_of(record.get(name)) for name in ("event_time", "timestamp", "TS") if record.get(name)), None)
    is_ambiguous = is_in_an_hour_that_comes_twice(text, profile)
    fields["warnings"] = list(warnings_of(fields, is_ambiguous, sent, arrived, profile))
    return Verdict(fields, frozenset())


def is_in_an_hour_that_comes_twice(text: str | None, profile: CountryProfile) -> bool:
    """Return whether an event time without an offset occurs twice, since clocks are set back in its hour."""
    digits = re.sub("[-T :]", "", (text or "").partition(".")[0])
    if len(digits) == 12 and profile.twelve_digit_times:
        digits = f"20{digits}" if profile.twelve_digit_times == "YYMMDDhhmmss" else f"{digits}00"
    if not re.fullmatch("[0-9]{14}", digits) or re.search(r"[+Z]|-[0-9]{2}:?[0-9]{2}$", (text or "")[11:]):
        return False
    local = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=profile.zone)
    return local.replace(fold=1).utcoffset() < local.utcoffset()  # type: ignore[operator]


def warnings_of(
    fields: dict[str, Any], is_ambiguous: bool, sent: datetime | None, arrived: datetime | None, profile: CountryProfile
) -> Iterator[str]:
    """Yield the warnings of an accepted record, from libphonenumber, the text of the standards and plain arithmetic."""
    imsi, imei, peer_text = fields["imsi"], fields["imei"], fields["peer_msisdn"]
    if imei and len(imei) == 15 and not imei.endswith("0") and not has_luhn_digit(imei):
        yield "luhn_failed"
    is_test = imsi[:3] in ("001", "999")
    if imsi[:3] not in MCCS and not is_test:
        yield "unknown_mcc"
    if is_test:
        yield "test_imsi"
    msisdn, peer = international(fields["msisdn"], profile), international(peer_text, profile)
    if not is_assigned(msisdn):
        yield "msisdn_not_plausible"
    if (peer and not is_assigned(peer)) or (not peer and re.fullmatch(r"(\+|00)?[0-9]{10,15}", peer_text or "")):
        yield "peer_not_plausible"
    if peer_text and re.fullmatch("[0-9]{2,6}", peer_text):
        yield "peer_short_code"
    if peer and TEST_NUMBER.fullmatch(peer):
        yield "peer_test_number"
    if peer and peer == msisdn:
        yield "same_party"
    if fields["duration_s"] == 0:
        yield "zero_duration"
    has_own_time = fields["raw_format"] != "pipe_text"
    if arrived and has_own_time and fields["duration_s"] is not None:
        seconds_left = (arrived + timedelta(hours=1) - fields["event_time"]).total_seconds()
        if fields["duration_s"] > seconds_left >= 0:
            yield "ends_after_arrival"
    for name in ("bytes_up", "bytes_down"):
        if (fields[name] or 0) >= 2**32:
            yield f"counter_beyond_32_bits.{name}"
    if is_ambiguous:
        yield "ambiguous_local_time"
    if sent and not arrived:
        yield "kafka_timestamp_not_plausible"
    if arrived and (arrived - fields["event_time"]).total_seconds() > profile.late_after_s:
        yield "late"


TEST_NUMBER = re.compile(
    r"\+(?:33(?:19900|26191|35301|46571|53649|63998)\d{4}|447700900\d{3}|1[2-9]\d{2}55501\d{2})", re.ASCII
)
DATA = Path(plmns.__file__).parent / "data"
MCCS = {
    row["mcc"]
    for name in ("mcc.csv", "plmn.csv")
    for row in csv.DictReader((DATA / name).read_text(encoding="utf-8").splitlines())
}


def has_luhn_digit(imei: str) -> bool:
    digits = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(imei)]
    return sum(digit // 10 + digit % 10 for digit in digits) % 10 == 0


def international(text: str | None, profile: CountryProfile) -> str | None:
    """Convert a text to E.164: by libphonenumber for an assigned number, else by the profile's prefixes."""
    found = re.fullmatch(r"(\+|00)?([0-9]{10,15})", text or "")
    if not text or not found or (not found[1] and text.startswith("00")):
        return None
    trunk, prefix, digits = profile.trunk_prefix or "", *found.groups()
    is_national = not prefix and len(digits) == len(trunk) + profile.national_digits and digits.startswith(trunk)
    is_national &= not digits.startswith(profile.calling_code)
    if digits.startswith("0") and not is_national:
        return None
    own = by_region(text, profile.code)
    national = digits.removeprefix(trunk) if is_national else digits.removeprefix(profile.calling_code)
    if own:
        return own
    if is_national and not digits.startswith("0") and by_region(f"+{digits}", None):
        return by_region(f"+{digits}", None)
    if not is_national and not digits.startswith(profile.calling_code):
        return by_region(f"+{digits}", None) or f"+{digits}"
    if trunk and len(national) > profile.national_digits:
        national = national.removeprefix(trunk)
    for code in profile.overseas_calling_codes:
        if by_region(f"+{code}{national}", None) == f"+{code}{national}":
            return f"+{code}{national}"
    return f"+{profile.calling_code}{national}"


@lru_cache(1 << 17)
def by_region(text: str, region: str | None) -> str | None:
    """Return a number as E.164 if a numbering plan assigns it, else None."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    is_valid = phonenumbers.is_valid_number(number)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if is_valid else None


@lru_cache(1 << 17)
def is_assigned(number: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return False


def _unified(loc: tuple[int | str, ...]) -> str:
    name = str(loc[-1]).lower()
    return UNIFIED_NAMES.get(name, name)


def _rejected(*broken: tuple[Code, str]) -> Verdict:
    return Verdict(None, frozenset((code.value, field) for code, field in broken))

"""The stages that can reject a record, the severities of rules, and the reject codes with a one-line meaning each."""

import re
from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "CUSTOM_CODE",
    "CUSTOM_NAME",
    "Code",
    "CustomCode",
    "Severity",
    "Stage",
    "internal_error_of",
    "known_code",
    "known_stage",
    "meaning_of",
]

CUSTOM_NAME = r"[a-z][a-z0-9_]{0,39}"
"""Regular expression of the name of a stage of the user's own, of its codes and of its fields."""

CUSTOM_CODE = rf"{CUSTOM_NAME}\.{CUSTOM_NAME}"
"""Regular expression of a code of such a stage: the stage's name, a dot, and the code's own name."""


class Stage(StrEnum):
    """A stage of the chain. A dead letter names the stage that rejected the record."""

    DECODE = "decode"
    VALIDATE = "validate"
    NORMALIZE = "normalize"
    ENRICH = "enrich"
    ENCODE = "encode"


class Severity(StrEnum):
    """Effect of a broken rule on a record."""

    ERROR = "error"
    """The record becomes a dead letter."""
    WARN = "warn"
    """The record is accepted, and its `warnings` name the rule."""
    OFF = "off"
    """The rule is not checked."""


class Code(StrEnum):
    """Reason why a record was rejected. A dead letter lists all codes that apply, and the first one on its own."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Code":
        """Make a member with the code as its value and a one-line `meaning` for people."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # decode
    MALFORMED_PAYLOAD = "malformed_payload", "the payload fits none of the country's formats"
    INVALID_ENCODING = "invalid_encoding", "the payload is not UTF-8"
    OVERSIZED_PAYLOAD = "oversized_payload", "the payload is larger than the largest CDR allowed"
    EMPTY_PAYLOAD = "empty_payload", "the message has no value, or only blanks"
    UNMAPPED_VALUE = "unmapped_value", "the declared format has a map for the value, and the map does not list it"
    # validate
    MISSING_FIELD = "missing_field", "a required field (imsi, msisdn, event_time) is absent or empty"
    INVALID_IMSI = "invalid_imsi", "an IMSI is 14 or 15 ASCII digits"
    INVALID_MSISDN = (
        "invalid_msisdn",
        "an MSISDN is 10 to 15 ASCII digits after an optional + or 00, without zeros before the country code",
    )
    INVALID_IMEI = "invalid_imei", "an IMEI or IMEISV is 14 to 16 ASCII digits"
    INVALID_TIMESTAMP = (
        "invalid_timestamp",
        "the event time has no known spelling, names no existing instant, or is an epoch outside 2000 to 2100",
    )
    FUTURE_TIMESTAMP = "future_timestamp", "the event time is more than 1 h after the record's Kafka timestamp"
    INVALID_NUMBER = "invalid_number", "a count is not a whole number from 0 to 2^63 - 1"
    UNKNOWN_EVENT_TYPE = "unknown_event_type", "the event type is none of voice, sms, data"
    UNKNOWN_RAT = "unknown_rat", "the RAT is neither a known name nor a 3GPP RAT-Type number of a cellular access"
    # validate: warnings, unless a country's profile says otherwise
    LUHN_FAILED = (
        "luhn_failed",
        "the last digit of a 15-digit IMEI is neither its Luhn check digit nor the spare digit 0",
    )
    UNKNOWN_MCC = "unknown_mcc", "the IMSI's first three digits are no MCC of a country or an international network"
    TEST_IMSI = "test_imsi", "the IMSI is of a test or private network (MCC 001 or 999)"
    MSISDN_NOT_PLAUSIBLE = "msisdn_not_plausible", "no number of this form is assigned in its country code's plan"
    PEER_NOT_PLAUSIBLE = "peer_not_plausible", "the peer has the form of a subscriber number that no plan assigns"
    PEER_SHORT_CODE = "peer_short_code", "the peer is a short code: a service, not a subscriber"
    PEER_TEST_NUMBER = "peer_test_number", "the peer is a number that a regulator keeps for tests or fiction"
    SAME_PARTY = "same_party", "subscriber and peer are one number"
    ZERO_DURATION = "zero_duration", "a call of 0 s"
    ENDS_AFTER_ARRIVAL = "ends_after_arrival", "event time and duration end more than 1 h after the Kafka timestamp"
    COUNTER_BEYOND_32_BITS = "counter_beyond_32_bits", "more bytes than a 32-bit counter holds"
    AMBIGUOUS_LOCAL_TIME = "ambiguous_local_time", "the hour comes twice as the clock goes back: taken for the first"
    KAFKA_TIMESTAMP_NOT_PLAUSIBLE = (
        "kafka_timestamp_not_plausible", "the Kafka timestamp is outside 2000 to 2100: not used, as if there were none"
    )  # fmt: skip
    LATE = "late", "the event is older, when it arrives, than the country's late_after_s"
    # FlagDuplicates: warning
    DUPLICATE = "duplicate", "a record of the same natural key came before, `duplicate_of` says where"
    # normalize, enrich, encode (and, as a last resort, decode and validate)
    INTERNAL_ERROR = "internal_error", "a bug of ORION Beam: the record is kept, the job goes on, an alert fires"


@dataclass(frozen=True)
class CustomCode:
    """Code of a stage of the user's own.

    Attributes:
        value: The code as dead letters have it, `STAGE.NAME`, see CUSTOM_CODE.
        meaning: One line for people.
    """

    value: str
    meaning: str


def internal_error_of(stage: str) -> Code | CustomCode:
    """Return the code of a row for which a stage raises an exception. A stage of the user's own has its own code."""
    if stage in _STAGES:
        return Code.INTERNAL_ERROR
    return CustomCode(f"{stage}.internal_error", f"a bug of the stage {stage}: the record is kept, the job goes on")


def meaning_of(code: str) -> str:
    """Return the meaning of a code that a dead letter has."""
    if code in _MEANINGS:
        return _MEANINGS[code]
    stage, _, name = code.partition(".")
    return internal_error_of(stage).meaning if name == "internal_error" else f"a code of the stage {stage}"


def known_stage(name: str) -> str:
    """Return the name of a stage, of ORION Beam or of the user's own.

    Raises:
        ValueError: The text is no such name.
    """
    if name not in _STAGES and not re.fullmatch(CUSTOM_NAME, name):
        raise ValueError("no name of a stage")
    return name


def known_code(code: str) -> str:
    """Return a code, of ORION Beam or of a stage of the user's own.

    Raises:
        ValueError: The text is no such code.
    """
    if code not in _MEANINGS and not re.fullmatch(CUSTOM_CODE, code):
        raise ValueError("no code")
    return code


_STAGES = frozenset(stage.value for stage in Stage)
_MEANINGS = {code.value: code.meaning for code in Code}

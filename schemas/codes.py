"""The stages that can reject a record and the codes that say why: one enum each, one line of meaning a member."""

from enum import StrEnum


class Stage(StrEnum):
    """Where in the chain a record was rejected."""

    DECODE = "decode"
    VALIDATE = "validate"
    NORMALIZE = "normalize"
    ENRICH = "enrich"
    ENCODE = "encode"


class Code(StrEnum):
    """Why a record was rejected. A dead letter lists every code that applies, the first one also on its own."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Code":
        """Make a member whose value is the code and whose `meaning` is one line for people."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # decode
    MALFORMED_PAYLOAD = "malformed_payload", "the payload fits none of the country's formats"
    INVALID_ENCODING = "invalid_encoding", "the payload is not UTF-8"
    OVERSIZED_PAYLOAD = "oversized_payload", "the payload is larger than the largest CDR allowed"
    EMPTY_PAYLOAD = "empty_payload", "the message has no value, or only blanks"
    # validate
    MISSING_FIELD = "missing_field", "a required field (imsi, msisdn, event_time) is absent or empty"
    INVALID_IMSI = "invalid_imsi", "an IMSI is 14 or 15 ASCII digits"
    INVALID_MSISDN = "invalid_msisdn", "an MSISDN is 10 to 15 ASCII digits after an optional + or 00"
    INVALID_IMEI = "invalid_imei", "an IMEI or IMEISV is 14 to 16 ASCII digits"
    INVALID_TIMESTAMP = "invalid_timestamp", "the event time has no known spelling, or names no existing instant"
    FUTURE_TIMESTAMP = "future_timestamp", "the event time is more than 1 h after the record's Kafka timestamp"
    INVALID_NUMBER = "invalid_number", "a count is not a whole number from 0 to 2^63 - 1"
    UNKNOWN_EVENT_TYPE = "unknown_event_type", "the event type is none of voice, sms, data"
    UNKNOWN_RAT = "unknown_rat", "the RAT is neither a known name nor a 3GPP RAT-Type number of a cellular access"
    # normalize, enrich, encode (and, as a last resort, decode and validate)
    INTERNAL_ERROR = "internal_error", "a bug of ORION Beam: the record is kept, the job goes on, an alert fires"

"""Pseudonymised records: what is a subscriber's number is another, every other byte is as it was."""

from orion_beam.capture.pseudonyms import Pseudonyms
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import parse_event_time
from orion_beam.telemetry.masking import NUMBER_FIELDS
from orion_beam.transforms.decoders.registry import all_formats

_TIMES_OF_RECORDS = range(2000, 2100)


class RecordPseudonymiser:
    """Changes records of one country."""

    def __init__(self, key: bytes, profile: CountryProfile) -> None:
        """Take the key of the pseudonyms, and the country."""
        self._pseudonyms = Pseudonyms(key, profile)
        self._profile = profile

    def payload(self, payload: bytes | None, raw_format: str | None) -> bytes | None:
        """Return a payload with other numbers.

        Args:
            payload: as it was sent.
            raw_format: that reads it; None for one that none does: all digits of it that may be a number are changed.
        """
        if payload is None:
            return None
        layout = None if raw_format is None else all_formats()[raw_format].layout
        if layout is not None:
            return layout.edit(payload.decode(), self._text_of_field).encode()
        return self._bytes(payload)

    def bytes_around(self, value: bytes | None) -> bytes | None:
        """Return a key, or the value of a header, with other numbers."""
        return None if value is None else self._bytes(value)

    def _bytes(self, value: bytes) -> bytes:
        try:
            return self._pseudonyms.broken(value.decode()).encode()
        except UnicodeDecodeError:
            # A character a byte, so that what is no text stays as it is.
            return self._pseudonyms.broken(value.decode("latin-1")).encode("latin-1")

    def _text_of_field(self, field: str | None, text: str) -> str:
        if field in NUMBER_FIELDS:
            return self._pseudonyms.field(field or "", text)
        return text if field == "event_time" and self._is_time(text) else self._pseudonyms.text(text)

    def _is_time(self, text: str) -> bool:
        """Say whether digits are a time: one of our days, or it may be a number in the wrong field."""
        try:
            return (
                parse_event_time(text, self._profile.zone, self._profile.twelve_digit_times).year in _TIMES_OF_RECORDS
            )
        except (ValueError, OverflowError):
            return False

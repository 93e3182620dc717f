"""Pseudonymised records: subscribers' numbers are replaced, every other byte stays."""

from orion_beam.capture.pseudonyms import Pseudonyms
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import parse_event_time
from orion_beam.telemetry.masking import NUMBER_FIELDS
from orion_beam.transforms.decoders.registry import formats_known_to

_TIMES_OF_RECORDS = range(2000, 2100)


class RecordPseudonymiser:
    """Pseudonymises records of one country."""

    def __init__(self, key: bytes, profile: CountryProfile) -> None:
        """Keep the key of the pseudonyms and the country's profile."""
        self._pseudonyms = Pseudonyms(key, profile)
        self._profile = profile

    def payload(self, payload: bytes | None, raw_format: str | None) -> bytes | None:
        """Return a payload with pseudonyms in place of numbers.

        Args:
            payload: The raw CDR as it was sent.
            raw_format: The format that reads it. None: no format does, so all digits that may be a number are changed.
        """
        if payload is None:
            return None
        layout = None if raw_format is None else formats_known_to(self._profile)[raw_format].layout
        if layout is not None:
            return layout.edit(payload.decode(), self._text_of_field).encode()
        return self._bytes(payload)

    def bytes_around(self, value: bytes | None) -> bytes | None:
        """Return a message key or a header's value with pseudonyms in place of numbers."""
        return None if value is None else self._bytes(value)

    def _bytes(self, value: bytes) -> bytes:
        try:
            return self._pseudonyms.broken(value.decode()).encode()
        except UnicodeDecodeError:
            # Latin-1 maps each byte to one character, so bytes that are no text stay as they are.
            return self._pseudonyms.broken(value.decode("latin-1")).encode("latin-1")

    def _text_of_field(self, field: str | None, text: str) -> str:
        if field in NUMBER_FIELDS:
            return self._pseudonyms.field(field or "", text)
        return text if field == "event_time" and self._is_time(text) else self._pseudonyms.text(text)

    def _is_time(self, text: str) -> bool:
        """Return whether a text is a time in the years 2000 to 2099; other digits may be a misplaced number."""
        try:
            return (
                parse_event_time(text, self._profile.zone, self._profile.twelve_digit_times).year in _TIMES_OF_RECORDS
            )
        except (ValueError, OverflowError):
            return False

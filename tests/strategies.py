"""Strategies for raw messages: records of every format and country, good, odd, broken and mutated."""

from datetime import UTC, datetime, timedelta
from importlib import import_module

from hypothesis import strategies as st

from orion_beam.countries import all_profiles
from orion_beam.schemas.country import CountryProfile
from tests.oracle import EVERY_COUNTRY

ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
PROFILES = all_profiles()


def good_fields(profile: CountryProfile) -> dict[str, str]:
    """Return one good value for each field."""
    return {
        "imsi": f"{profile.operators[0].plmns[0]}1234567890"[:15],
        "msisdn": f"+{profile.calling_code}612345678",
        "imei": "352099001761481",
        "cell_id": "FR-PAR-001",
        "rat": "4G",
        "bytes_up": "1",
        "bytes_down": "2",
        "duration_s": "3",
        "message_length": "4",
        "event_type": "data",
        "event_time": "2026-06-01T10:00:00Z",
    }


def records(raw_format: str) -> st.SearchStrategy[bytes]:
    """Return a strategy of payloads in a format; some of them are broken."""
    strategy: st.SearchStrategy[bytes] = import_module(f"tests.raw_formats.{raw_format}").records()
    return strategy


def payloads(profile: CountryProfile) -> st.SearchStrategy[bytes]:
    """Return a strategy of payloads in all formats of a country."""
    return st.one_of([records(raw_format) for raw_format in (*profile.formats, *EVERY_COUNTRY)])


SPLICES = (b"\xff", b"\xc3", b"\x00", b"\n", b"\r\n", b'"', b"'", b"\\", b"\xef\xbb\xbf", b";", b"|", b"=", b"{", b"}",
            b" ", b",", b"\xe2\x80\xa8", "é".encode(), "٣".encode(), b"9" * 400)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """Draw a payload in which some bytes are deleted, replaced or inserted."""
    payload = draw(originals)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(payload)))
        end = min(len(payload), start + draw(st.integers(0, 3)))
        payload = payload[:start] + draw(st.sampled_from((b"", *SPLICES))) + payload[end:]
    return payload


_framed = st.tuples(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b" "]), st.sampled_from([b"", b"", b"\r", b" \r\n"]))


@st.composite
def anything(draw: st.DrawFn, profile: CountryProfile) -> bytes | None:
    """Draw a payload: None, empty, random bytes, or a record of this or any country, which may be mutated."""
    own = payloads(profile)
    kind = draw(st.integers(0, 11))
    if kind == 0:
        return draw(st.sampled_from([None, b"", b" \r\n", b"\xef\xbb\xbf", b"\x00", b"{", b"{}", b"9" * 70_000]))
    if kind == 1:
        return draw(st.binary(max_size=150))
    if kind == 2:
        return draw(payloads(draw(st.sampled_from(list(PROFILES.values())))))
    if kind in (3, 4, 5):
        return draw(mutated(own))
    if kind == 6:
        before, after = draw(_framed)
        return before + draw(own) + after
    return draw(own)


def batches_of(profile: CountryProfile, most: int = 25) -> st.SearchStrategy[list[bytes | None]]:
    return st.lists(anything(profile), min_size=1, max_size=most)


def timestamps(count: int) -> st.SearchStrategy[list[datetime | None]]:
    moments = st.sampled_from(
        [ARRIVED, ARRIVED, ARRIVED, None, ARRIVED - timedelta(days=900), datetime(1969, 1, 1, tzinfo=UTC)]
    )
    return st.lists(moments, min_size=count, max_size=count)

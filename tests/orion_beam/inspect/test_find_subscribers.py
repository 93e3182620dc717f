"""Search of records for subscribers' numbers."""

import pyarrow as pa
import pytest

from orion_beam.countries import all_profiles
from orion_beam.inspect.find_subscribers import NumberSearch, SubscriberNumber, msisdn_of
from orion_beam.schemas.raw import RAW_MESSAGE_SCHEMA
from orion_beam.testing import raw_batch

IMSI = SubscriberNumber("imsi", 1, "208011234567890")


def batch(payloads: list[bytes | None], keys: list[bytes | None] | None = None, **more: object) -> pa.RecordBatch:
    return raw_batch("FR", payloads, keys=keys, **more).select(RAW_MESSAGE_SCHEMA.names)  # type: ignore[arg-type]


def rows(numbers: list[SubscriberNumber], among: pa.RecordBatch) -> dict[int, list[int]]:
    return {number.line: mask.nonzero()[0].tolist() for number, mask in NumberSearch(numbers).rows_with(among)}


def test_a_number_is_found_in_key_value_and_headers_whatever_the_record_is() -> None:
    among = batch(
        [b"208011234567890;x", b"", b"no record \xff 208011234567890", None, b'{"imsi":208011234567891}', b"x"],
        [None, b"208011234567890", None, None, None, b"208011234567892"],
        headers=[{}, {}, {}, {"trace": b"208011234567890", "none": None}, {}, {}],
    )
    other = SubscriberNumber("imsi", 2, "208011234567892")
    absent = SubscriberNumber("imsi", 3, "208011234567893")
    assert rows([IMSI, other, absent], among) == {1: [0, 1, 2, 3], 2: [5]}


@pytest.mark.parametrize(
    ("payload", "is_there"),
    [
        (b"208010000000001;+33612345678;", True),
        (b"208010000000001;0033612345678;", True),
        (b"208010000000001;0612345678;", True),
        (b"208010000000001;612345678", True),
        (b"2080100000000010612345678   352099001761481", True),
        (b"208010000000001;1612345678;", False),
        (b"208010000000001;06123456789;", False),
    ],
)
def test_an_msisdn_is_found_in_international_and_national_form(payload: bytes, is_there: bool) -> None:
    number = msisdn_of(1, "33612345678", all_profiles().values())
    assert rows([number], batch([payload])) == ({1: [0]} if is_there else {})


def test_a_number_of_no_known_country_is_searched_as_it_is() -> None:
    number = msisdn_of(1, "4915112345678", all_profiles().values())
    assert rows([number], batch([b"x;+4915112345678", b"x;015112345678"])) == {1: [0]}


def test_many_numbers_are_searched_in_parts() -> None:
    numbers = [SubscriberNumber("imsi", line, f"{line:015}") for line in range(1, 1_001)]
    assert rows(numbers, batch([b"%015d;" % line for line in (1_000, 1_001, 201)])) == {201: [2], 1_000: [0]}

"""Pseudonyms: they look and behave like the numbers that they stand for, and are others."""

import json
import re

import pyarrow as pa
import pytest
from ffx import FF1
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.capture.pseudonyms import Pseudonyms
from orion_beam.capture.records import RecordPseudonymiser
from orion_beam.countries import all_profiles
from orion_beam.generator import generate_batches
from orion_beam.schemas.cdr import DecodedFields
from orion_beam.testing import raw_batch
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.rules.numbering import has_luhn_digit
from orion_beam.transforms.rules.plausibility import is_plausible
from tests.strategies import batches_of

PROFILES = all_profiles()
KEY = bytes(range(32))
FR = Pseudonyms(KEY, PROFILES["FR"])
SN = Pseudonyms(KEY, PROFILES["SN"])


@given(st.from_regex(r"\A208[0-9]{12}\Z"))
@settings(max_examples=20)
def test_an_imsi_keeps_its_network(imsi):
    changed = FR.imsi(imsi)
    assert changed != imsi
    assert changed[:5] == imsi[:5]
    assert re.fullmatch("[0-9]{15}", changed)


@given(st.from_regex(r"\A[0-9]{14,16}\Z"))
@settings(max_examples=20)
def test_an_imei_keeps_its_type_and_whether_its_check_digit_is_right(imei):
    changed = FR.imei(imei)
    assert len(changed) == len(imei)
    assert changed[:8] == imei[:8]
    assert changed != imei
    if len(imei) == 15:
        assert has_luhn_digit(pa.array([changed]))[0] == has_luhn_digit(pa.array([imei]))[0]


@given(st.from_regex(r"\A\+(33|221|216|1|44)[0-9]{9}\Z"))
@settings(max_examples=20)
def test_a_number_keeps_calling_code_and_plausibility(number):
    changed = FR.msisdn(number)
    assert len(changed) == len(number)
    assert changed != number
    for code in ("+33", "+221", "+216", "+1", "+44"):
        assert changed.startswith(code) == number.startswith(code)
    assert is_plausible(changed) == is_plausible(number)


AES_256 = bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94")
NUMERIC, LETTERS = bytes.fromhex("39383736353433323130"), bytes.fromhex("3737373770717273373737")


@pytest.mark.parametrize(
    ("key_bytes", "tweak", "plain", "encrypted"),
    [
        (16, b"", "0123456789", "2433477484"),
        (16, NUMERIC, "0123456789", "6124200773"),
        (16, LETTERS, "0123456789abcdefghi", "a9tv40mll9kdu509eum"),
        (24, b"", "0123456789", "2830668132"),
        (24, NUMERIC, "0123456789", "2496655549"),
        (24, LETTERS, "0123456789abcdefghi", "xbj3kv35jrawxv32ysr"),
        (32, b"", "0123456789", "6657667009"),
        (32, NUMERIC, "0123456789", "1001623463"),
        (32, LETTERS, "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"),
    ],
)
def test_the_cipher_gives_the_samples_that_nist_publishes_for_ff1(key_bytes, tweak, plain, encrypted):
    assert FF1(AES_256[:key_bytes], radix=36 if tweak == LETTERS else 10).encrypt(plain, tweak=tweak) == encrypted


def test_the_digits_behind_a_network_are_what_another_implementation_of_ff1_makes_of_them():
    # Computed with fastfpe 0.2.1 (Rust), of the HKDF-SHA-256 of KEY for "orion-beam pseudonyms".
    assert FR.imsi("208011234567890") == "208012169894423"


@pytest.mark.parametrize("length", range(7, 130))
def test_digits_of_no_known_form_keep_their_length_and_change_all_along(length):
    digits = "987654321" * 15
    changed = FR.number(digits[:length])
    assert len(changed) == length
    pieces = [slice(start, start + 6) for start in range(min(3, length - 6), length - 5)]
    assert [piece for piece in pieces if changed[piece] == digits[:length][piece]] == []


def test_all_forms_of_a_number_become_forms_of_one():
    national = FR.msisdn("0612345678")
    assert FR.msisdn("+33612345678") == "+33" + national[1:]
    assert FR.msisdn("0033612345678") == "0033" + national[1:]
    assert FR.msisdn("33612345678") == "33" + national[1:]
    assert FR.text("call 33612345678 now") == f"call 33{national[1:]} now"
    assert FR.field("msisdn", "33 6 12 34 56 78").replace(" ", "") == "33" + national[1:]
    assert FR.broken("x33612345678") == f"x33{national[1:]}"


def test_two_numbers_never_become_one():
    imsis = [f"2080100000{number:05}" for number in range(1000)]
    assert len({FR.imsi(imsi) for imsi in imsis}) == len(imsis)
    numbers = [f"+22177{number:07}" for number in range(300)]
    assert len({SN.msisdn(number) for number in numbers}) == len(numbers)


def test_another_key_makes_other_pseudonyms():
    other = Pseudonyms(b"another key of some length", PROFILES["FR"])
    assert other.imsi("208011234567890") != FR.imsi("208011234567890")
    assert FR.imsi("208011234567890") == Pseudonyms(KEY, PROFILES["FR"]).imsi("208011234567890")


def test_digits_of_other_scripts_stay_of_their_script():
    arabic = FR.field("imsi", "٢٠٨٠١١٢٣٤٥٦٧٨٩٠")
    assert re.fullmatch("[٠-٩]{15}", arabic)
    assert arabic != "٢٠٨٠١١٢٣٤٥٦٧٨٩٠"


@pytest.mark.parametrize("text", ["3639", "2026-06-01T10:00:00Z", "1000", "000000001000", "FR-PAR-001", "", "x"])
def test_what_is_no_number_stays(text):
    assert FR.text(text) == FR.field("peer_msisdn" if len(text) < 7 else "", text) == text or len(text) > 7
    assert FR.text(text) == text


def formats_of(country: str, payloads: list[bytes | None]) -> list[str | None]:
    read = decode_batch(raw_batch(country, payloads), PROFILES[country]).accepted
    formats: list[str | None] = [None] * len(payloads)
    for offset, name in zip(*(read.column(each).to_pylist() for each in ("source_offset", "raw_format")), strict=True):
        formats[offset] = name
    return formats


def texts_of(country: str, payloads: list[bytes | None]) -> list[dict]:
    accepted = decode_batch(raw_batch(country, payloads), PROFILES[country]).accepted
    return accepted.select(["source_offset", *DecodedFields.model_fields]).to_pylist()


NUMBERS = ("imsi", "msisdn", "imei", "peer_msisdn")


@pytest.mark.parametrize("country", PROFILES)
@given(data=st.data())
@settings(max_examples=6)
def test_nothing_of_a_number_stays_in_any_record_and_all_else_does(country, data):
    payloads = data.draw(batches_of(PROFILES[country], 8))
    change = RecordPseudonymiser(KEY, PROFILES[country])
    formats = formats_of(country, payloads)
    changed = [change.payload(payload, name) for payload, name in zip(payloads, formats, strict=True)]
    assert formats_of(country, changed) == formats
    for before, after in zip(texts_of(country, payloads), texts_of(country, changed), strict=True):
        payload = changed[before["source_offset"]] or b""
        for field in NUMBERS:
            digits = re.sub(r"\D", "", before[field] or "")
            if len(digits.lstrip("0")) >= 10:
                assert digits.encode() not in payload
        for field in set(before) - {*NUMBERS, "event_time", "bytes_up", "bytes_down", "duration_s", "message_length"}:
            if not re.search(r"\d{10}", before[field] if isinstance(before[field], str) else ""):
                assert after[field] == before[field]


@pytest.mark.parametrize("country", PROFILES)
def test_nothing_of_ten_digits_is_found_again_in_generated_records_but_times(country):
    (batch,) = generate_batches(PROFILES[country], 100, seed=5, fault_rate=0.3)
    payloads = batch.value.to_list()
    change = RecordPseudonymiser(KEY, PROFILES[country])
    changed = [
        change.payload(payload, name) for payload, name in zip(payloads, formats_of(country, payloads), strict=True)
    ]
    numbers = {
        digits
        for row in texts_of(country, payloads)
        for field in NUMBERS
        if len(digits := re.sub(r"\D", "", row[field] or "").lstrip("0")) >= 10
    }
    assert len(numbers) > 100
    everything = b"\n".join(value or b"" for value in changed).decode(errors="replace")
    assert [number for number in numbers if number in everything] == []


def test_a_number_that_was_cut_or_grouped_in_a_broken_record_goes_too():
    change = RecordPseudonymiser(KEY, PROFILES["FR"])
    for payload in (b"208011234567890;+3361234567", b"{\xff 208 01 1234567890", "208011234567890".encode("utf-16")):
        changed = change.payload(payload, None)
        assert changed is not None
        assert len(changed) == len(payload)
        assert b"1234567" not in re.sub(rb"[^0-9]", b"", changed)


def test_escapes_of_json_hide_no_number():
    escaped = "".join(f"\\u{ord(each):04x}" for each in "208011234567890")
    payload = f'{{"imsi":"{escaped}","msisdn":"+33612345678","apn":"{escaped}"}}'.encode()
    changed = RecordPseudonymiser(KEY, PROFILES["FR"]).payload(payload, "flat_json") or b""
    read = json.loads(changed)
    assert read["imsi"] == read["apn"] == FR.imsi("208011234567890")

"""Pseudonyms look like the numbers that they replace, are the same everywhere, and depend on the key."""

import re

import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.custom_stages.code import load_stage, runnable
from orion_beam.custom_stages.shipped.pseudonymise import Pseudonymise, PseudonymOptions
from orion_beam.errors import UserError
from orion_beam.job_file.stage_declaration import StageDeclaration
from orion_beam.schemas.cdr import ENRICHED_SCHEMA
from orion_beam.transforms.rules.networks import home_networks
from orion_beam.transforms.rules.numbering import has_luhn_digit

FIELDS = ("imsi", "msisdn", "imei", "peer_msisdn")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "key"
    return key_in(path, "0123456789abcdef0123456789abcdef\n")


def key_in(path, text, mode=0o640):
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture(scope="module")
def pseudonymise(key):
    return Pseudonymise(PseudonymOptions(key_file=str(key)))


def batch(**columns: list[str | None]) -> pa.RecordBatch:
    rows = len(next(iter(columns.values())))
    filled = {name: [None] * rows for name in FIELDS} | columns
    return pa.record_batch({name: pa.array(values, pa.string()) for name, values in filled.items()})


def changed(stage: Pseudonymise, field: str, values: list[str | None]) -> list[str | None]:
    return stage(batch(**{field: values})).accepted.column(field).to_pylist()


@given(st.lists(st.none() | st.from_regex(r"[0-9]{14,15}", fullmatch=True), min_size=1, max_size=9))
def test_an_imsi_stays_in_its_network(pseudonymise, imsis):
    found = changed(pseudonymise, "imsi", imsis)
    for imsi, pseudonym in zip(imsis, found, strict=True):
        assert (imsi is None) == (pseudonym is None)
        if imsi is not None and pseudonym is not None:
            assert len(pseudonym) == len(imsi)
            assert re.fullmatch("[0-9]+", pseudonym)
            assert home_networks(pa.array([pseudonym])) == home_networks(pa.array([imsi]))


@given(st.lists(st.none() | st.from_regex(r"[0-9]{14,16}", fullmatch=True), min_size=1, max_size=9))
def test_an_imei_keeps_its_type_and_has_a_right_check_digit(pseudonymise, imeis):
    found = changed(pseudonymise, "imei", imeis)
    for imei, pseudonym in zip(imeis, found, strict=True):
        assert (imei is None) == (pseudonym is None)
        if imei is not None and pseudonym is not None:
            assert (len(pseudonym), pseudonym[:8]) == (len(imei), imei[:8])
            assert len(imei) != 16 or pseudonym[14:] == imei[14:]
    full = [each for each in found if each is not None and len(each) == 15]
    assert has_luhn_digit(pa.array(full, pa.string())).all()


@pytest.mark.parametrize("number", ["+33612345678", "+212612345678", "+221771234567", "+12025550123", "+39061234567"])
def test_a_number_keeps_its_country_and_its_length(pseudonymise, number):
    (found,) = changed(pseudonymise, "msisdn", [number])
    before, after = phonenumbers.parse(number), phonenumbers.parse(found)
    assert found != number
    assert (after.country_code, len(found)) == (before.country_code, len(number))
    assert not found.removeprefix(f"+{before.country_code}").startswith("0")


@pytest.mark.parametrize("peer", ["1010", "ORANGE", "36105", "", "*100#"])
def test_services_stay_as_they_are(pseudonymise, peer):
    assert changed(pseudonymise, "peer_msisdn", [peer, None]) == [peer, None]


@pytest.mark.parametrize("peer", ["0612345678", "+99912345678", "6123456 ext", "1" * 40])
def test_no_digit_of_another_spelling_of_a_number_stays_for_sure(pseudonymise, peer):
    (found,) = changed(pseudonymise, "peer_msisdn", [peer])
    assert found != peer
    assert re.sub("[0-9]", "0", found) == re.sub("[0-9]", "0", peer)


def test_a_number_has_one_pseudonym_as_subscriber_and_as_peer_and_in_any_slice(pseudonymise):
    numbers = [f"+3361234{number:04d}" for number in range(300)]
    whole = pseudonymise(batch(msisdn=numbers, peer_msisdn=numbers[::-1])).accepted
    found = whole.column("msisdn").to_pylist()
    assert whole.column("peer_msisdn").to_pylist() == found[::-1]
    assert len(set(found)) == 300
    part = pseudonymise(batch(msisdn=numbers).slice(17, 100)).accepted
    assert part.column("msisdn").to_pylist() == found[17:117]


def test_another_key_gives_other_pseudonyms(pseudonymise, tmp_path):
    other = key_in(tmp_path / "key", "another key, of 16 bytes or more")
    numbers = [f"+3361234{number:04d}" for number in range(100)]
    found = changed(Pseudonymise(PseudonymOptions(key_file=str(other))), "msisdn", numbers)
    assert not set(found) & set(changed(pseudonymise, "msisdn", numbers))


def test_fields_that_are_not_chosen_stay(key):
    rows = batch(imsi=["208011234567890"], msisdn=["+33612345678"])
    found = Pseudonymise(PseudonymOptions(key_file=str(key), fields=("msisdn",)))(rows).accepted
    assert found.column("imsi").to_pylist() == ["208011234567890"]
    assert found.column("msisdn").to_pylist() != ["+33612345678"]


def declared(**options: object) -> StageDeclaration:
    return StageDeclaration(name="mask", run="pseudonymise", after="enrich", options=options)


def test_it_is_found_by_its_name_and_its_key_in_the_workspace(key):
    stage = load_stage(declared(key_file="key"), key.parent / "stages")
    rows = pa.RecordBatch.from_pylist([{"imsi": "208011234567890"}], schema=ENRICHED_SCHEMA)
    assert runnable(stage)(rows).accepted.column("imsi").to_pylist() != ["208011234567890"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"options\.key_file: Field required"),
        ({"key_file": "nosuch"}, r"options\.key_file: .*/nosuch: No such file"),
        ({"key_file": "short"}, r"options\.key_file: .*/short has 7 bytes, and a key has 16 or more"),
        ({"key_file": "zeros"}, r"options\.key_file: .*/zeros has the same byte 64 times, which anybody can guess"),
        (
            {"key_file": "public"},
            r"options\.key_file: every user of this machine may read .*/public: `chmod o-r`",
        ),
        ({"key_file": "key", "fields": ["iban"]}, r"options\.fields\.0: Input should be 'imsi'"),
        ({"key_file": "key", "field": ["imsi"]}, r"options\.field is no option; there are fields, key_file"),
    ],
)
def test_wrong_options_are_refused(key, options, message):
    (key.parent / "short").write_text(" short-7\n")
    key_in(key.parent / "zeros", "0" * 64)
    key_in(key.parent / "public", key.read_text(), 0o644)
    with pytest.raises(UserError, match=f"stage mask: {message}"):
        load_stage(declared(**options), key.parent / "stages")


def test_it_does_not_run_where_numbers_have_many_forms(key):
    with pytest.raises(UserError, match="stage mask: after: validate: it runs after normalize or enrich only"):
        load_stage(declared(key_file=str(key)).model_copy(update={"after": "validate"}))

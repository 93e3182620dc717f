"""What today's rules make of dead letters."""

import pyarrow as pa

from orion_beam.chain import load_reference
from orion_beam.countries import all_profiles
from orion_beam.defaults import PROFILES_DIRECTORY
from orion_beam.dlq.judge import Judge
from orion_beam.redrive.retest import Retested, RetestReport, RetestVerdict
from tests.orion_beam.dlq.desk import letters, read, semicolon

TOPIC = "cdr.dlq"


def with_column(batch: pa.RecordBatch, name: str, values: list) -> pa.RecordBatch:
    place = batch.schema.get_field_index(name)
    return batch.set_column(place, batch.schema.field(place), pa.array(values, batch.schema.field(place).type))


def retested(batch: pa.RecordBatch, foreign: int = 0) -> RetestReport:
    report = RetestReport()
    report.add(read(batch, foreign), Judge(TOPIC, load_reference()))
    return report


def test_letters_pass_fail_alike_or_differently():
    batch = letters("FR", [semicolon(rat="6G"), semicolon(rat="6G"), semicolon(rat="6G"), semicolon(imsi="x"), b"?"])
    # As if older code had refused the first for its IMSI, and the second altogether.
    values = [semicolon(), semicolon(rat="6G", imsi="x"), *batch.column("value").to_pylist()[2:]]
    report = retested(with_column(batch, "value", values), foreign=2)
    assert report.counts == {
        Retested("FR", "unknown_rat", RetestVerdict.PASSES): 1,
        Retested("FR", "unknown_rat", RetestVerdict.FAILS_DIFFERENTLY, "invalid_imsi,unknown_rat"): 1,
        Retested("FR", "unknown_rat", RetestVerdict.FAILS_ALIKE): 1,
        Retested("FR", "invalid_imsi", RetestVerdict.FAILS_ALIKE): 1,
        Retested("FR", "malformed_payload", RetestVerdict.FAILS_ALIKE): 1,
    }
    found = report.as_json()
    assert (found["letters"], found["foreign"]) == (5, 2)
    assert [found[verdict.value] for verdict in RetestVerdict] == [1, 3, 1, 0, 0]


def test_profiles_of_ones_own_say_what_would_become_of_letters_by_them(tmp_path):
    own = tmp_path / "FR.toml"
    own.write_text((PROFILES_DIRECTORY / "FR.toml").read_text() + '[rules]\nunknown_rat = "warn"\n')
    batch = letters("FR", [semicolon(rat="6G"), semicolon(imsi="x")])
    for profiles, passes in ((all_profiles(), 0), (all_profiles(own), 1)):
        report = RetestReport()
        report.add(read(batch), Judge(TOPIC, load_reference(profiles=own), profiles))
        assert report.total(RetestVerdict.PASSES) == passes


def test_of_a_country_without_a_profile_nothing_is_said():
    batch = letters("FR", [b"?", b"?"])
    report = retested(with_column(batch, "country", ["ZZ", "FR"]))
    assert report.total(RetestVerdict.UNKNOWN_COUNTRY) == report.total(RetestVerdict.FAILS_ALIKE) == 1


def test_letters_of_several_countries_keep_their_places():
    both = pa.Table.from_batches([letters("FR", [semicolon(rat="6G")]), letters("TN", [b"{", b"{}"])])
    (batch,) = both.combine_chunks().to_batches()
    batch = with_column(batch, "letter_offset", [7, 8, 9])
    judgement = Judge(TOPIC, load_reference()).judge(batch)
    assert judgement.passes.tolist() == [False, False, False]
    assert [judgement.refusals[row].codes[0] for row in range(2)] == ["unknown_rat", "malformed_payload"]
    assert judgement.refusals[2].stage == "validate"


def test_of_a_record_that_is_gone_nothing_is_said():
    batch = with_column(letters("FR", [b"?", b"?"]), "reference", ["gone", None])
    report = retested(batch)
    assert report.total(RetestVerdict.GONE) == report.total(RetestVerdict.FAILS_ALIKE) == 1

"""What today's chain makes of one record, and that no number of a subscriber shows in it."""

import pytest

from orion_beam.chain import chain_of, load_reference
from orion_beam.countries import all_profiles
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.inspect.trace import judge, masked
from orion_beam.testing import raw_batch

IMSI, MSISDN = "208011234567890", "+33612345678"
GOOD = f"{IMSI};{MSISDN};;FR-1;4G;1;2;2025-06-01T12:00:00Z".encode()
NUMBERS = (IMSI, MSISDN.removeprefix("+"))


@pytest.fixture(scope="module")
def chain():
    return chain_of(all_profiles()["FR"], load_reference())


def test_an_accepted_record_has_the_verdict_of_every_stage(chain) -> None:
    judged = judge(chain, raw_batch("FR", [GOOD]))
    assert [verdict.stage for verdict in judged.verdicts] == ["decode", "validate", "normalize", "enrich"]
    assert judged.is_accepted
    assert (judged.fields["imsi"], judged.fields["rat"]) == (IMSI, "4G")


def test_a_refused_record_names_every_rule_and_stays_as_the_last_stage_left_it(chain) -> None:
    judged = judge(chain, raw_batch("FR", [f"{IMSI};{MSISDN};;FR-1;6G;1;two;2025-06-01T12:00:00Z".encode()]))
    refusal = judged.verdicts[-1]
    assert (refusal.stage, refusal.accepted, refusal.codes) == (
        "validate", False, ("unknown_rat", "invalid_number")
    )  # fmt: skip
    assert refusal.rules[1].startswith("bytes_down: invalid_number: ")
    assert not judged.is_accepted
    assert judged.fields["rat"] == "6G"


def test_what_no_format_reads_has_no_fields(chain) -> None:
    judged = judge(chain, raw_batch("FR", [f"{IMSI} is no CDR".encode()]))
    assert [verdict.codes for verdict in judged.verdicts] == [("malformed_payload",)]
    assert judged.fields == {}


@pytest.mark.parametrize(
    "payload",
    [
        f"{IMSI};{MSISDN};;FR-1;4G;1;2;2025-06-01T12:00:00Z",
        # The fields have moved: numbers stand where others belong.
        f";;;{IMSI};{MSISDN};1;2;2025-06-01T12:00:00Z",
    ],
)
def test_no_number_shows_in_masked_fields_wherever_it_stands(chain, payload: str) -> None:
    shown = masked(judge(chain, raw_batch("FR", [payload.encode()])).fields)
    assert not [text for text in map(str, shown.values()) for number in NUMBERS if number in text]
    assert "•" in str(shown)


def test_a_stage_of_ones_own_is_a_stage_with_its_own_meanings():
    source = (
        "from orion_beam.custom_stages import Reject, custom_stage, split\n"
        "@custom_stage(codes={'odd': 'it is odd; very', 'even': 'it is even'})\n"
        "def tag(batch):\n"
        "    return split(batch, Reject('odd', 'imsi', [True]), Reject('even', 'value', [True]))\n"
    )
    stage = JobStage(
        name="tag", run="tag", source=source, path="tag.py", after="normalize",
        codes={"odd": "it is odd; very", "even": "it is even"},
    )  # fmt: skip
    found = judge(chain_of(all_profiles()["FR"], load_reference(), [stage]), raw_batch("FR", [GOOD]))
    assert [verdict.stage for verdict in found.verdicts] == ["decode", "validate", "normalize", "tag"]
    assert found.verdicts[-1].rules == ("imsi: tag.odd: it is odd; very", "value: tag.even: it is even")


def test_numbers_in_fields_of_ones_own_stages_are_masked_too() -> None:
    shown = masked({"tag.twin": IMSI, "tag": {"twin": IMSI, "score": 0.5}, "late": None})
    assert shown["tag"]["score"] == 0.5
    assert IMSI not in str(shown)

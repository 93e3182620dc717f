"""The tally, on a real Kafka: duplicates, gaps, contradictions and others' records are found, and a report says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orion_beam.errors import PrerequisiteError
from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.proof.audit import conservation
from orion_beam.proof.tally import Tally
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.topics.apply import create_topics
from tests.outputs import Outputs


@pytest.fixture
def outputs(tmp_path: Path) -> Iterator[Outputs]:
    with LocalKafka(tmp_path / "kafka") as broker:
        create_topics(broker.bootstrap_servers, ["FR", "TN"])
        yield Outputs(broker.bootstrap_servers)


@pytest.mark.integration
def test_what_came_out_is_held_against_what_went_in(outputs: Outputs) -> None:
    servers = outputs.bootstrap_servers
    with pytest.raises(PrerequisiteError, match=r"no topic cdr\.raw\.XX"):
        offset_ranges(servers, ["cdr.raw.XX"])
    assert conservation(servers, ["cdr.raw.FR"]).is_exactly_once  # nothing went in

    outputs.raw("cdr.raw.FR", 3, 100)
    outputs.raw("cdr.raw.TN", 0, 2)
    ranges = offset_ranges(servers, ["cdr.raw.FR", "cdr.raw.TN"])
    assert len(ranges) == 24
    assert {source: held for source, held in ranges.items() if held.high} == {
        ("cdr.raw.FR", 3): (0, 100),
        ("cdr.raw.TN", 0): (0, 2),
    }

    with Tally(servers, keep_latencies=True) as tally:
        outputs.final("cdr.raw.FR", 3, list(range(90)))
        outputs.dead_letters("cdr.raw.FR", 3, [95, 96], "invalid_imsi")
        outputs.dead_letters("cdr.raw.FR", 3, [97], "unknown_rat")
        tally.drain()
        assert tally.account.counts.final == {"FR": 90}
        assert tally.account.counts.dead_letters == {("FR", "invalid_imsi"): 2, ("FR", "unknown_rat"): 1}
        assert tally.account.accounted(["cdr.raw.FR", "cdr.raw.TN"]) == {"cdr.raw.FR": 93, "cdr.raw.TN": 0}
        assert tally.samples["FR"]["msisdn"] == "+33612345678"
        assert tally.latencies_ms().tolist() == [250] * 89
        assert tally.poll(0) == 0

        report = tally.account.report(ranges)
        assert report.problems == [
            "cdr.raw.FR[3]: 7 of 100 missing, offsets 90-94, 98-99",
            "cdr.raw.TN[0]: 2 of 2 missing, offsets 0-1",
        ]
        assert (report.records, report.final, report.dead_lettered, report.missing) == (102, 90, 3, 9)

        outputs.final("cdr.raw.TN", 0, [0, 1], country="TN")
        outputs.final("cdr.raw.FR", 3, [*range(88, 95), 98, 99])
        tally.drain()
        report = tally.account.report(ranges)
        assert report == conservation(servers, ["cdr.raw.FR", "cdr.raw.TN"])
        assert report.holds
        assert not report.is_exactly_once
        assert report.duplicates == 2

    assert conservation(servers, ["cdr.raw.TN"]).is_exactly_once
    outputs.final("cdr.raw.FR", 3, [97])
    report = conservation(servers, ["cdr.raw.FR"])
    assert report.in_both == 1
    assert report.problems == ["cdr.raw.FR[3]: 1 both written and dead-lettered"]


@pytest.mark.integration
def test_records_of_others_are_counted_apart_and_their_values_are_not_shown(outputs: Outputs) -> None:
    servers = outputs.bootstrap_servers
    outputs.raw("cdr.raw.FR", 0, 2)
    outputs.anything("cdr.dlq", b"208010000000001")
    outputs.anything("cdr.final", b'{"imsi": "208010000000001"}')
    outputs.final("cdr.raw.FR", 0, [0])
    outputs.anything("cdr.final", b"\xff" * 100)
    with Tally(servers) as tally:
        tally.drain()
        assert tally.account.counts.final == {"FR": 1}
        assert tally.account.counts.foreign == {"cdr.final": 2, "cdr.dlq": 1}
        assert set(tally.account.counts.first_foreign) == {"cdr.final", "cdr.dlq"}
        assert "208010000000001" not in repr(tally.account.counts)
    assert conservation(servers, ["cdr.raw.FR"]).problems == ["cdr.raw.FR[0]: 1 of 2 missing, offsets 1"]

"""Duplicates, sequence gaps and partials in a stream: two Python workers, and a job that reads everything again."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.schemas.cdr import UnifiedCdr
from tests.integration.harness import (
    QUICK_TO_MISS,
    START_TIMEOUT_S,
    Feed,
    Job,
    Record,
    Source,
    avro_reader,
    await_all_out,
    jobs_in,
    kafka_in,
    read_topic,
    records_on,
    source_of_record,
)
from tests.topics import FINAL, raw_topic

pytestmark = pytest.mark.integration

TOPIC = raw_topic("FR").name
SUBSCRIBERS, EVENTS = 60, 20
MISSING = range(200, 205)
NO_COMMITS = "--checkpointing_interval=3600000"
"""What was read is not committed, so that the next job reads it again."""


def cdr(number: int) -> tuple[bytes, bytes]:
    """Return key and payload of one CDR, the number of which its node counts on."""
    imsi = f"20801{number % SUBSCRIBERS:010d}"
    record = {
        "event_type": "data", "imsi": imsi, "msisdn": "+33612345678", "timestamp": "2026-06-01T10:00:00Z",
        "bytes_uploaded": number, "node_id": "pgw-1", "local_sequence_number": number,
        "record_sequence_number": 2, "cause_for_record_closing": 16 if number % 2 else 0,
    }  # fmt: skip
    return imsi.encode(), json.dumps(record).encode()


@dataclass(frozen=True, repr=False)
class Outcome:
    """The raw topic, and what two jobs have made of it, each of all of it.

    Attributes:
        raw: all records that were sent.
        finals: what each job has written, by source.
        log: of the first job.
        replayed: what a replay has made of the records that were sent last.
    """

    raw: list[Record]
    finals: list[dict[Source, dict[str, object]]]
    log: str
    replayed: dict[Source, dict[str, object]]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    directory = tmp_path_factory.mktemp("checks")
    with kafka_in(directory / "kafka") as kafka, jobs_in(directory / "jobs") as start_job:
        servers = kafka.bootstrap_servers
        checks = ("--flag-duplicates", "--tag-partials", "--detect-gaps", "--gap-tolerance", "1s", *QUICK_TO_MISS)

        def start() -> Job:
            return start_job(servers, "--countries", "FR", "--group-id", "checks", *checks, beam=[NO_COMMITS])

        def send(*numbers: int) -> None:
            for number in numbers:
                feed.send(TOPIC, *cdr(number), code=None)
            feed.flush()

        def await_log(line: str) -> None:
            job.await_until(lambda: line in job.log, START_TIMEOUT_S, f"the log says: {line}")

        feed, job = Feed(servers), start()
        numbers = [number for number in range(1, SUBSCRIBERS * EVENTS) if number not in MISSING]
        # Within a bundle: right behind each other. Across bundles: when the first ones have come out.
        send(*(number for number in numbers for _ in range(1 if number % 7 else 2)))
        await_all_out(job, servers, feed)
        before = {part.partition: held.high for part, held in offset_ranges(servers, [TOPIC]).items()}
        send(*numbers[::3])
        await_all_out(job, servers, feed)
        await_log(f"FR node pgw-1: missing {MISSING[0]} to {MISSING[-1]}, {len(MISSING)} records")
        send(MISSING[1])
        await_log(f"FR node pgw-1: filled {MISSING[1]} to {MISSING[1]}, 1 records")
        await_all_out(job, servers, feed)
        job.send(signal.SIGKILL)
        job.exit_code()
        of_first = read_topic(servers, FINAL.name)
        again = start()
        again.await_until(
            lambda: records_on(servers, FINAL.name) >= 2 * len(of_first), START_TIMEOUT_S, "all is read again"
        )
        again.send(signal.SIGTERM)
        again.exit_code()
        both, read = read_topic(servers, FINAL.name), avro_reader(UnifiedCdr)
        sources = {message.source for message in of_first}
        of_second = [message for message in both if message.source not in sources]
        finals = [
            {source_of_record(record): record for record in (read(message.payload) for message in messages)}
            for messages in (of_first, of_second)
        ]
        raw = read_topic(servers, TOPIC)
        replayed = replay(servers, directory, {record.source for record in raw}, before)
        yield Outcome(raw, finals, job.log, replayed)


def replay(servers: str, home: Path, sources: set[Source], before: dict[int, int]) -> dict[Source, dict[str, object]]:
    """Replay what lies behind some offsets of each partition, with the checks that the job file gives the stream."""
    ends = {part: 1 + max(source.offset for source in sources if source.partition == part) for part in before}
    offsets = ",".join(f"FR:{part}={low}-{ends[part]}" for part, low in before.items() if low < ends[part])
    checks = "record_checks: {flag_duplicates: true, tag_partials: true}"
    (home / "orion.yaml").write_text(f"version: 1\nbrokers: {servers}\n{checks}\n")
    options = ["--offsets", offsets, "--output", str(home / "out"), "--json"]
    subprocess.run(
        [sys.executable, "-m", "orion_beam.cli.main", "--workspace", str(home), "replay", *options],
        env=os.environ | {"ORION_HOME": str(home)},
        capture_output=True,
        check=True,
        timeout=START_TIMEOUT_S,
    )
    table = ds.dataset(home / "out" / "cdr.final", format="parquet", partitioning="hive").to_table()
    return {source_of_record(record): record for record in table.to_pylist()}


def test_exactly_the_records_that_came_before_are_flagged_whatever_bundle_and_worker_they_are_in(outcome: Outcome):
    first_of: dict[bytes | None, Source] = {}
    expected: dict[Source, str | None] = {}
    for record in outcome.raw:
        first = first_of.setdefault(record.value, record.source)
        is_first = first == record.source
        expected[record.source] = None if is_first else f"{first.topic}[{first.partition}]@{first.offset}"
    assert len({source.partition for source in expected}) > 6
    assert sum(origin is not None for origin in expected.values()) > 500
    (found, _) = ({source: cdr["duplicate_of"] for source, cdr in final.items()} for final in outcome.finals)
    assert found == expected


def test_a_job_that_reads_everything_again_flags_the_same_and_none_of_its_own_first_pass(outcome: Outcome):
    first, second = outcome.finals
    assert {source: cdr["duplicate_of"] for source, cdr in second.items()} == {
        source: cdr["duplicate_of"] for source, cdr in first.items()
    }


def test_a_flagged_record_is_warned_of_and_not_dropped(outcome: Outcome):
    final = outcome.finals[0]
    assert final.keys() == {record.source for record in outcome.raw}
    assert all(("duplicate" in cdr["warnings"]) == (cdr["duplicate_of"] is not None) for cdr in final.values())


def test_partials_are_tagged(outcome: Outcome):
    kinds = {(cdr["cause_for_record_closing"], cdr["partial"]) for cdr in outcome.finals[0].values()}
    assert kinds == {(16, "intermediate"), (0, "last")}


def test_a_replay_finds_the_duplicates_of_records_that_lie_before_its_range_and_tags_partials(outcome: Outcome):
    def checked(record: dict[str, object]) -> tuple[object, ...]:
        return record["duplicate_of"], record["partial"], record["cdr_id"]

    # One of them, which was missing before, is no duplicate.
    assert sum(record["duplicate_of"] is not None for record in outcome.replayed.values()) > 300
    first = outcome.finals[0]
    assert {source: checked(record) for source, record in outcome.replayed.items()} == {
        source: checked(first[source]) for source in outcome.replayed
    }


def test_only_the_numbers_that_no_partition_has_are_missing(outcome: Outcome):
    told = [line.partition("sequence gap: ")[2] for line in outcome.log.splitlines() if "sequence gap: " in line]
    context = " [job=checks event=sequence_gap country=FR]"
    assert told == [
        f"FR node pgw-1: missing 200 to 204, 5 records{context}",
        f"FR node pgw-1: filled 201 to 201, 1 records{context}",
    ]

"""Stages of one's own in a stream: workers run them, and trace, retest, audit and a replay see the same stages."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.dataset as ds
import pytest

from orion_beam.checks.job import stages_in
from orion_beam.custom_stages.declaration import final_model_of
from orion_beam.workspace import Workspace
from tests.integration.harness import (
    START_TIMEOUT_S,
    Feed,
    Record,
    Source,
    avro_reader,
    jobs_in,
    kafka_in,
    read_topic,
    records_on,
    source_of_letter,
    source_of_record,
)
from tests.topics import DEAD_LETTERS, FINAL, raw_topic

pytestmark = pytest.mark.integration

TOPIC = raw_topic("FR").name
RECORDS = 60

JOB = """
version: 1
brokers: {servers}
countries: [FR]
group: own-stages
stages:
  - {{name: length, after: validate}}
  - name: no_tests
    run: drop_rows
    after: normalize
    options: {{where: [{{field: warnings, values: [test_imsi]}}]}}
  - {{name: mask, run: pseudonymise, after: enrich, options: {{key_file: key, fields: [imsi, msisdn]}}}}
"""

LENGTH = """
import pyarrow.compute as pc
from orion_beam.custom_stages import custom_stage, split

@custom_stage(fields={"digits": int})
def length(batch):
    if "3361234500" in batch.column("msisdn").to_pylist():
        raise ValueError("this number again")
    return split(batch.append_column("digits", pc.utf8_length(batch.column("msisdn"))))
"""


def cdr(number: int) -> tuple[bytes, bytes]:
    """Return key and payload of a record: every tenth is of a test SIM, and one breaks a stage."""
    imsi = f"{'00101' if number % 10 == 0 else '20801'}{number:010d}"
    msisdn = "3361234500" if number == 7 else f"+3361234{number:04d}"
    record = {"event_type": "sms", "imsi": imsi, "msisdn": msisdn, "timestamp": "2026-06-01T10:00:00Z"}
    return imsi.encode(), json.dumps(record).encode()


@dataclass(frozen=True, repr=False)
class Outcome:
    """What the job has made of the records, and what commands say of it.

    Attributes:
        raw: Records by source.
        final: CDRs by source.
        letters: Dead letters by source.
        log: Log of the job.
        told: JSON that each command has printed.
        replayed: CDRs of a replay, by source.
    """

    raw: dict[Source, Record]
    final: dict[Source, dict[str, Any]]
    letters: dict[Source, Record]
    log: str
    told: dict[str, Any]
    replayed: dict[Source, dict[str, Any]]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    directory = tmp_path_factory.mktemp("own")
    workspace = Workspace(directory / "workspace")
    workspace.stages.mkdir(parents=True)
    (workspace.stages / "length.py").write_text(LENGTH)
    (workspace.root / "key").write_text("0123456789abcdef0123456789abcdef")
    (workspace.root / "key").chmod(0o600)
    with pytest.MonkeyPatch.context() as environment, kafka_in(directory / "kafka") as kafka:
        servers = kafka.bootstrap_servers
        workspace.job_file.write_text(JOB.format(servers=servers))
        environment.setenv("ORION_WORKSPACE", str(workspace.root))

        def command(*arguments: str, code: int = 0) -> Any:
            program = [sys.executable, "-m", "orion_beam.cli.main", *arguments, "--json"]
            done = subprocess.run(program, capture_output=True, text=True, timeout=START_TIMEOUT_S)
            assert done.returncode == code, done.stderr
            return json.loads(done.stdout)

        with jobs_in(directory / "jobs") as start_job:
            job = start_job(servers)
            feed = Feed(servers)
            for number in range(RECORDS):
                feed.send(TOPIC, *cdr(number), code=None)
            feed.flush()
            job.await_until(
                lambda: records_on(servers, FINAL.name, DEAD_LETTERS.name) >= RECORDS, START_TIMEOUT_S, "all came out"
            )
            job.send(signal.SIGTERM)
            job.exit_code()
            log = job.log
        read = avro_reader(final_model_of(stages_in(workspace)))
        final = [read(message.payload) for message in read_topic(servers, FINAL.name)]
        letters = {source_of_letter(message): message for message in read_topic(servers, DEAD_LETTERS.name)}
        by_source = {source_of_record(record): record for record in final}
        kept, dropped = next(iter(by_source)), next(iter(letters))
        places = {
            name: ("--topic", TOPIC, "--partition", str(place.partition), "--offset", str(place.offset))
            for name, place in (("kept", kept), ("dropped", dropped))
        }
        told = {name: command("trace", *place) for name, place in places.items()}
        told |= {"retest": command("dlq", "retest"), "audit": command("audit")}
        # A replay keeps its plan and progress there.
        environment.setenv("ORION_HOME", str(directory / "home"))
        command("replay", "--output", str(directory / "replayed"), "--last", "1d", "--yes")
        table = ds.dataset(directory / "replayed" / "cdr.final", format="parquet", partitioning="hive").to_table()
        replayed = {source_of_record(record): record for record in table.to_pylist()}
        other = shutil.copytree(workspace.root, directory / "other")
        (other / "orion.yaml").write_text(workspace.job_file.read_text().replace("[test_imsi]", "[same_party]"))
        told["diff"] = command("replay", "diff", "--last", "1d", "--new-workspace", str(other), code=1)
        raw = {record.source: record for record in read_topic(servers, TOPIC)}
        yield Outcome(raw, by_source, letters, log, told, replayed)


def test_every_record_came_out_once_and_those_of_test_sims_as_dead_letters(outcome: Outcome):
    assert len(outcome.raw) == RECORDS
    assert outcome.final.keys() | outcome.letters.keys() == outcome.raw.keys()
    assert not outcome.final.keys() & outcome.letters.keys()
    codes = {outcome.raw[source].value: letter.header("orion.error.code") for source, letter in outcome.letters.items()}
    assert codes == {
        cdr(number)[1]: "length.internal_error" if number == 7 else "no_tests.dropped"
        for number in (7, *range(0, 60, 10))
    }
    assert {letter.value for letter in outcome.letters.values()} == set(codes)


def test_a_bug_is_logged_with_its_line_and_without_the_number(outcome: Outcome):
    assert "internal_error in stage length, ValueError at length.py:8;" in outcome.log
    assert "3361234500" not in outcome.log


def test_final_records_have_the_stages_fields_and_masked_numbers(outcome: Outcome):
    assert {record["length"]["digits"] for record in outcome.final.values()} == {12}
    for source, record in outcome.final.items():
        sent = json.loads(outcome.raw[source].payload)
        assert record["imsi"][:5] == sent["imsi"][:5]
        assert record["imsi"] != sent["imsi"]
        assert (record["msisdn"][:3], len(record["msisdn"])) == ("+33", len(sent["msisdn"]))
        assert record["msisdn"] != sent["msisdn"]


def test_trace_runs_the_stages_and_finds_the_record_under_its_pseudonym(outcome: Outcome):
    kept, dropped = outcome.told["kept"], outcome.told["dropped"]
    names = ["decode", "validate", "length", "normalize", "no_tests", "enrich", "mask"]
    assert [stage["stage"] for stage in kept["stages"]] == names
    assert [found["outcome"] for found in kept["found"]] == ["final"]
    assert kept["fields"]["length.digits"] == 12
    assert [stage["accepted"] for stage in dropped["stages"]][-1] is False
    assert [found["outcome"] for found in dropped["found"]] == ["dead letter"]


def test_retest_and_audit_know_the_stages(outcome: Outcome):
    assert outcome.told["audit"]["missing"] == 0
    assert (outcome.told["retest"]["letters"], outcome.told["retest"]["fails_alike"]) == (7, 7)


def test_a_replay_has_the_same_stages(outcome: Outcome):
    compared = ("imsi", "msisdn", "length", "cdr_id")
    expected = {source: {name: record[name] for name in compared} for source, record in outcome.final.items()}
    assert {
        source: {name: record[name] for name in compared} for source, record in outcome.replayed.items()
    } == expected


def test_two_versions_of_a_workspace_are_compared_by_their_stages(outcome: Outcome):
    told = {(each["kind"], each["what"]): each["records"] for each in outcome.told["diff"]["differences"]}
    assert outcome.told["diff"]["records"] == RECORDS
    assert told == {("fixed_reject", "no_tests.dropped"): 6}

"""The round trip: rejected by a job, redriven after its rules have changed, and out on cdr.final once."""

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

import orion_beam
from orion_beam.capture.pseudonyms import Pseudonyms
from orion_beam.countries import all_profiles
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.testing import captured
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    START_TIMEOUT_S,
    Feed,
    StartJob,
    avro_reader,
    await_all_out,
    committed_offsets,
    read_topic,
    records_on,
    source_of_record,
)
from tests.topics import DEAD_LETTERS, FINAL, raw_topic

pytestmark = pytest.mark.integration

RAW = raw_topic("FR").name
WRONG_CHECK_DIGIT = b"20801%010d;+33612345678;352099001761482;FR-PAR-001;4G;1;2;2026-06-01T10:00:00Z"
HOPELESS = b"20801%010d;no number;352099001761481;FR-PAR-001;4G;1;2;2026-06-01T10:00:00Z"


def desk(*arguments: str) -> dict[str, Any]:
    """Run a command of the desk as users do, and return its JSON."""
    command = [sys.executable, "-m", "orion_beam.cli.main", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def stricter_code(directory: Path) -> Path:
    """Return where a copy of the application lies in whose France an IMEI's wrong check digit is an error."""
    package = Path(orion_beam.__file__).parent
    shutil.copytree(package, directory / "orion_beam", ignore=shutil.ignore_patterns("__pycache__"))
    profile = directory / "orion_beam" / "profiles" / "FR.toml"
    text = profile.read_text(encoding="utf-8")
    assert "[rules]" not in text
    first_table = text.index("[[operators]]")
    profile.write_text(text[:first_table] + '[rules]\nluhn_failed = "error"\n\n' + text[first_table:], encoding="utf-8")
    for other in ("schemas", "transforms", "runners"):
        (directory / other).symlink_to(package.parent / other)
    return directory


@pytest.mark.deep
def test_what_a_stricter_rule_refused_comes_out_once_after_a_redrive(
    kafka: LocalKafka, start_job: StartJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = kafka.bootstrap_servers
    at = ("--bootstrap-servers", servers)
    feed = Feed(servers)
    for number in range(50):
        feed.send(RAW, b"key", WRONG_CHECK_DIGIT % number, code="luhn_failed", headers=[("trace", b"7")])
    feed.send(RAW, b"key", HOPELESS % 0, code="invalid_msisdn")
    feed.flush()
    with monkeypatch.context() as stricter:
        stricter.setenv("PYTHONPATH", str(stricter_code(tmp_path / "stricter")))
        stricter.setenv("PYTHONSAFEPATH", "1")  # or the working directory, which holds today's code, comes first
        first = start_job(servers, "--countries", "FR", beam=[FREQUENT_CHECKPOINTS])
        await_all_out(first, servers, feed)
        # Else the second job would read these again, and by today's rules accept them.
        first.await_until(
            lambda: sum(committed_offsets(servers, "orion-beam", RAW).values()) == len(feed.expected),
            START_TIMEOUT_S,
            "all offsets are committed",
        )
        first.send(signal.SIGTERM)
        assert first.exit_code() == 143
    assert Counter(letter.header("orion.error.code") for letter in read_topic(servers, DEAD_LETTERS.name)) == {
        "luhn_failed": 50,
        "invalid_msisdn": 1,
    }

    # Records of a transaction that never came about: a job must not read what a killed redrive has left.
    gone = Producer({"bootstrap.servers": servers, "transactional.id": "killed", "log_level": 0})
    gone.init_transactions(30)
    gone.begin_transaction()
    gone.produce(RAW, WRONG_CHECK_DIGIT % 999, b"key", 0)
    gone.flush(600)
    gone.abort_transaction(30)

    retested = desk("dlq", "retest", *at)
    assert (retested["passes"], retested["fails_alike"]) == (50, 1)
    assert desk("dlq", "redrive", *at)["fates"] == {"sent": 50, "still_fails": 1}
    redriven = desk("dlq", "redrive", *at, "--execute")
    assert (redriven["fates"], redriven["balanced"]) == ({"sent": 50, "still_fails": 1}, True)
    assert desk("dlq", "redrive", *at, "--execute", "--no-validate")["fates"] == {"sent": 1, "already_redriven": 50}

    second = start_job(servers, "--countries", "FR", beam=[FREQUENT_CHECKPOINTS])
    second.await_until(
        lambda: records_on(servers, FINAL.name) >= 50 and records_on(servers, DEAD_LETTERS.name) >= 52,
        START_TIMEOUT_S,
        "what was redriven has come out",
    )
    second.send(signal.SIGTERM)
    assert second.exit_code() == 143
    final = [avro_reader(UnifiedCdr)(message.payload) for message in read_topic(servers, FINAL.name)]
    assert Counter(cdr["imsi"] for cdr in final) == {f"20801{number:010}": 1 for number in range(50)}
    assert all("luhn_failed" in cdr["warnings"] for cdr in final)
    assert not {source_of_record(cdr) for cdr in final} & set(feed.expected)
    # What is hopeless came back, with its attempts counted and its own headers kept.
    letters = read_topic(servers, DEAD_LETTERS.name)
    assert len(letters) == 52
    (again,) = [letter for letter in letters if letter.header("orion.attempt") == "2"]
    assert again.value == HOPELESS % 0
    exhausted = desk("dlq", "redrive", *at, "--execute", "--no-validate", "--max-attempts", "2")
    assert exhausted["fates"] == {"already_redriven": 51, "attempts_exhausted": 1}


def test_a_capture_holds_the_newest_records_and_no_number_of_theirs(kafka: LocalKafka, tmp_path: Path) -> None:
    servers = kafka.bootstrap_servers
    feed = Feed(servers)
    feed.send_generated("TN", 300, fault_rate=0.1)
    topic = raw_topic("TN").name
    feed.send(topic, b"605010123456789", b'{"subscriber":\n{"imsi":"605010123456789"}}', code=None)
    feed.send(topic, None, None, code=None)
    feed.flush()
    key = tmp_path / "key"
    key.write_bytes(b"a key of sixteen bytes or more")
    counts = desk(
        *("capture", "--bootstrap-servers", servers, "--countries", "TN", "--count", "250"),
        *("--output", str(tmp_path / "cases"), "--key-file", str(key)),
    )
    folder = tmp_path / "cases" / "tn"
    records = captured(folder)
    assert counts["countries"]["TN"] == {"records": 250, "lines": 248, "changed": 0}
    newest = sorted(read_topic(servers, topic), key=lambda record: record.timestamp_ms)[-250:]
    assert sorted(records.column("source_timestamp").cast("int64").to_pylist()) == [r.timestamp_ms for r in newest]
    assert len((folder / "input.txt").read_bytes().splitlines()) == 248
    written = b"".join((folder / name).read_bytes() for name in ("input.txt", "cases.txt", "messages.avro"))
    keys = {record.key for record in newest if record.key and len(record.key) >= 14}
    assert len(keys) > 10
    assert [number for number in keys if number in written] == []
    pseudonym = Pseudonyms(key.read_bytes(), all_profiles()["TN"]).imsi("605010123456789")
    assert f'{{"subscriber":\n{{"imsi":"{pseudonym}"}}}}'.encode() in records.column("raw_value").to_pylist()

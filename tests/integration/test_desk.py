"""The desk for dead letters on a real broker: reading, judging, and the way back to the raw topics."""

import base64
import json
import signal
import subprocess
import sys
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer

from orion_beam.chain import load_reference
from orion_beam.dlq.filters import LetterFilter, Selection
from orion_beam.dlq.judge import Judge
from orion_beam.dlq.statistics import LetterStatistics
from orion_beam.errors import UserError
from orion_beam.job_file.environment import transactional_id
from orion_beam.kafka.admin import topic_names
from orion_beam.kafka.offset_ranges import OffsetRange
from orion_beam.redrive.fates import Fate
from orion_beam.redrive.journal import journal_topic, read_journal, write_journal
from orion_beam.redrive.patches import setting
from orion_beam.redrive.sending import RedriveRun, plan_redrive
from orion_beam.redrive.sorter import RedriveOptions
from orion_beam.redrive.targets import Targets
from orion_beam.redrive.transactions import TransactionalWriter
from orion_beam.schemas.codes import Code
from tests.integration.harness import Record, await_until, kafka_in, read_topic, records_on
from tests.integration.letters import BROKEN_IMSI, BROKEN_RAT, REST, letter_topic, letters_from, send_letters
from tests.letters import Message
from tests.topics import raw_topic

pytestmark = pytest.mark.integration

MENDED = RedriveOptions(setting({"rat": "4G"}), "set rat")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with kafka_in(tmp_path_factory.mktemp("desk") / "kafka") as kafka:
        yield kafka.bootstrap_servers


@pytest.fixture
def topic(servers: str) -> str:
    """A dead-letter topic of the test's own."""
    return letter_topic(servers, f"dlq.{uuid.uuid4()}")


def redrive_of(servers: str, topic: str, options: RedriveOptions = MENDED, **wanted: Any) -> RedriveRun:
    selection = Selection.of(servers, topic, LetterFilter(**wanted))
    return RedriveRun(selection, options, Judge(topic, load_reference()), Targets.of(servers, topic))


def sent_by(servers: str, redrive_id: str, country: str = "FR") -> list[Record]:
    found = read_topic(servers, raw_topic(country).name)
    return [record for record in found if ("orion.redrive.id", redrive_id.encode()) in record.headers]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "orion_beam.cli.main", "dlq", *arguments]


def test_a_redrive_sends_to_the_original_partition_with_key_value_headers_and_one_attempt_more(servers, topic):
    stamp = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=5)
    letters = letters_from("FR", [BROKEN_RAT % 1, BROKEN_RAT % 2], timestamp=stamp)
    (first_offset,) = (int(text or b"") for name, text in letters[0].headers if name == "orion.source.offset")
    send_letters(servers, topic, letters)
    redrive = redrive_of(servers, topic)
    report = redrive.run()
    assert report.as_json()["fates"] == {Fate.SENT: 2}
    assert report.is_balanced
    sent = sorted(sent_by(servers, redrive.id), key=lambda record: record.key or b"")
    assert [record.partition for record in sent] == [3, 3]
    assert [record.key for record in sent] == [b"key-0", b"key-1"]
    assert [record.value for record in sent] == [(BROKEN_RAT % n).replace(b"6G", b"4G") for n in (1, 2)]
    assert sent[0].headers == [
        ("trace", b"0"), ("orion.attempt", b"2"), ("orion.redrive.id", redrive.id.encode()),
        ("orion.redrive.source", b"cdr.raw.FR[3]@%d" % first_offset),
    ]  # fmt: skip
    assert {record.timestamp_ms for record in sent} == {round(stamp.timestamp() * 1000)}


def test_a_dry_run_says_the_same_and_sends_nothing(servers, topic):
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % 1, BROKEN_IMSI % 2]))
    before = len(read_topic(servers, raw_topic("FR").name))
    redrive = redrive_of(servers, topic)
    planned = plan_redrive(redrive.selection, MENDED, redrive.judge, redrive.targets, {})
    assert len(read_topic(servers, raw_topic("FR").name)) == before
    assert planned.as_json() == redrive.run().as_json()
    assert planned.fates == {Fate.SENT: 1, Fate.STILL_FAILS: 1}


def test_a_letter_is_sent_once_however_often_it_is_redriven(servers, topic):
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % n for n in range(10)]))
    first, second, third = (redrive_of(servers, topic), redrive_of(servers, topic), redrive_of(servers, topic))
    assert first.run().fates == {Fate.SENT: 10}
    assert second.run().fates == {Fate.ALREADY_REDRIVEN: 10}
    assert sent_by(servers, second.id) == []
    again = RedriveRun(third.selection, RedriveOptions(MENDED.patch, "set rat", again=True), third.judge, third.targets)
    assert again.run().fates == {Fate.SENT: 10}


def test_two_redrives_of_disjoint_selections_send_one_copy_of_a_record(servers, topic):
    """A job that restarted has written each letter twice, to another place."""
    letters = letters_from("FR", [BROKEN_RAT % n for n in range(4)])
    send_letters(servers, topic, letters)
    send_letters(servers, topic, letters)
    halves = [
        redrive_of(servers, topic, offsets=dict.fromkeys((0, 1), OffsetRange(*half))) for half in ((0, 2), (2, 4))
    ]
    assert halves[0].run().fates == {Fate.SENT: 4}
    planned = plan_redrive(
        halves[1].selection, MENDED, halves[1].judge, halves[1].targets, read_journal(servers, "redriven/")
    )
    assert planned.fates == halves[1].run().fates == {Fate.ALREADY_REDRIVEN: 4}
    assert sent_by(servers, halves[1].id) == []
    # Nor does one of a topic that holds another copy, such as a replay's.
    other = letter_topic(servers, f"dlq.{uuid.uuid4()}")
    send_letters(servers, other, letters)
    assert redrive_of(servers, other).run().fates == {Fate.ALREADY_REDRIVEN: 4}


def test_what_older_releases_have_noted_by_the_letter_s_place_holds_for_its_record(servers, topic):
    letters = letters_from("FR", [BROKEN_RAT % n for n in range(4)])
    send_letters(servers, topic, letters)
    send_letters(servers, topic, letters)
    places = np.zeros(1 << 16, np.bool_)
    places[0] = True
    bits = base64.b64encode(zlib.compress(np.packbits(places).tobytes())).decode()
    letter_topic_id = Targets.of(servers, topic).letter_topic_id
    write_journal(servers, f"redriven/{letter_topic_id}/1/0", {"kind": "redriven", "bits": bits})
    redrive = redrive_of(servers, topic)
    # The letter at 1@0 was sent: its copy at 1@2 is of the same record.
    assert redrive.run().fates == {Fate.ALREADY_REDRIVEN: 2, Fate.SENT: 3, Fate.COPY: 3}
    assert len(sent_by(servers, redrive.id)) == 3


def test_a_new_timestamp_goes_with_its_reason_and_dropped_headers_stay_behind(servers, topic):
    stamp = datetime.now(UTC) - timedelta(days=400)
    future = b'{"imsi":"208010000000001","rat":"4G",' + REST.replace(b"2026-06-01", b"2026-07-01")
    letters = letters_from("FR", [future], timestamp=stamp)
    letters = [each._replace(headers=[*each.headers, ("orion.custom", b"1"), ("b3-x", b"2")]) for each in letters]
    send_letters(servers, topic, letters)
    assert redrive_of(servers, topic).run().fates == {Fate.STILL_FAILS: 1}
    redrive = redrive_of(
        servers, topic, RedriveOptions(restamp_reason="clock of node 7", drop_headers=("b3*", "tr?ce"))
    )
    assert redrive.run().fates == {Fate.SENT: 1}
    (sent,) = sent_by(servers, redrive.id)
    assert abs(sent.timestamp_ms - time.time() * 1000) < 60_000
    assert [name for name, _ in sent.headers] == [
        "orion.custom", "orion.attempt", "orion.redrive.id", "orion.redrive.source", "orion.redrive.reason"
    ]  # fmt: skip
    assert sent.header("orion.redrive.reason") == "clock of node 7"
    entry = read_journal(servers, "redrive/")[f"redrive/{redrive.id}"]
    assert (entry["restamp_reason"], entry["drop_headers"]) == ("clock of node 7", ["b3*", "tr?ce"])


def test_what_fails_again_lies_behind_the_end_and_is_left_alone_after_max_attempts(servers, topic):
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % 1]))
    redrive = redrive_of(servers, topic, RedriveOptions(validate=False))
    # As a job that is quicker than the redrive: the same record, refused again.
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % 1], attempt=2))
    assert redrive.run().fates == {Fate.SENT: 1}
    second = redrive_of(servers, topic, RedriveOptions(validate=False, max_attempts=2))
    assert second.run().fates == {Fate.ALREADY_REDRIVEN: 1, Fate.ATTEMPTS_EXHAUSTED: 1}
    third = redrive_of(servers, topic, RedriveOptions(validate=False, max_attempts=3))
    assert third.run().fates == {Fate.ALREADY_REDRIVEN: 1, Fate.SENT: 1}
    assert [record.header("orion.attempt") for record in sent_by(servers, third.id)] == ["3"]


def test_what_has_no_way_back_stays_and_is_said(servers, topic):
    def patch(record):
        if b"boom" in record.value:
            raise ValueError(record.value)
        return None if b"leave" in record.value else record.value

    letters = [
        Message(b"key", b"not ours", [("orion.error.code", b"invalid_imsi")]),
        *letters_from("FR", [BROKEN_IMSI % 1], topic="cdr.raw.TN"),
        *letters_from("FR", [BROKEN_IMSI % 2], topic="__consumer_offsets"),
        *letters_from("FR", [BROKEN_IMSI % 3], partition=12),
        *letters_from("FR", [b"boom", b"leave", BROKEN_IMSI % 4]),
    ]
    send_letters(servers, topic, letters)
    report = redrive_of(servers, topic, RedriveOptions(patch, "test")).run()
    assert report.fates == {
        Fate.FOREIGN: 1, Fate.NO_TARGET: 3, Fate.PATCH_FAILED: 1, Fate.LEFT_OUT: 1, Fate.STILL_FAILS: 1
    }  # fmt: skip
    assert report.is_balanced
    ((failure, _),) = report.patch_failures.items()
    assert failure.startswith("ValueError in line ")


def test_a_record_that_the_topic_would_delete_at_once_gets_a_new_timestamp_unless_it_is_its_event_time(servers, topic):
    old = datetime.now(UTC) - timedelta(days=20)
    pipe = b"208010000000001|+33612345678|data|x||"
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % 1, pipe], timestamp=old))

    def patch(record):
        return record.with_fields(
            **({"duration_s": "1"} if record.texts["raw_format"] == "pipe_text" else {"rat": "4G"})
        )

    redrive = redrive_of(servers, topic, RedriveOptions(patch, "test"))
    assert redrive.run().fates == {Fate.SENT: 1, Fate.TOO_OLD: 1}
    (sent,) = sent_by(servers, redrive.id)
    assert abs(sent.timestamp_ms - time.time() * 1000) < 60_000


def test_a_rate_is_kept(servers, topic):
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % n for n in range(90)]))
    waits: list[float] = []
    options = RedriveOptions(MENDED.patch, "set rat", records_per_s=20)
    # By this clock nothing takes time but the waits.
    report = redrive_of(servers, topic, options).run(wait=waits.append, clock=lambda: sum(waits))
    assert report.fates == {Fate.SENT: 90}
    assert sum(waits) == pytest.approx(90 / 20)
    assert max(waits) <= 1.001, "a transaction holds the records of a second at most"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_redrive_that_ends_halfway_goes_on_without_sending_twice(servers, topic, end, tmp_path):
    raw = raw_topic("FR").name
    payloads = [BROKEN_RAT % (1000 * end + n) for n in range(400)]
    send_letters(servers, topic, letters_from("FR", payloads))
    arguments = ["redrive", "--bootstrap-servers", servers, "--dlq-topic", topic, "--set", "rat=4G", "--execute"]
    before = records_on(servers, raw)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command(*arguments, "--rate", "30"), stdout=output, stderr=output)
        try:
            await_until(
                lambda: len(read_topic(servers, raw_topic("FR").name)) > before + 40, 300, "some have been sent"
            )
        finally:
            process.send_signal(end)
            code = process.wait(600)
    assert code == (130 if end is signal.SIGINT else -signal.SIGKILL), log.read_text()
    fates = redrive_of(servers, topic).run().fates
    assert fates[Fate.SENT] + fates[Fate.ALREADY_REDRIVEN] == len(payloads)
    assert fates[Fate.ALREADY_REDRIVEN] >= 40
    wanted = {payload.replace(b"6G", b"4G") for payload in payloads}
    assert Counter(r.payload for r in read_topic(servers, raw) if r.payload in wanted) == dict.fromkeys(wanted, 1)
    if end is signal.SIGINT:
        assert "what was sent is not sent again" in " ".join(log.read_text().split())


def test_an_aborted_transaction_leaves_neither_record_nor_note(servers, topic):
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % n for n in range(5)]))
    redrive = redrive_of(servers, topic)
    open_one = Producer({"bootstrap.servers": servers, "transactional.id": transactional_id(), "log_level": 0})
    open_one.init_transactions(30)
    open_one.begin_transaction()
    open_one.produce(raw_topic("FR").name, b"half sent", b"key", 3, headers=[("orion.redrive.id", redrive.id.encode())])
    open_one.flush(600)
    # As after a kill: the next redrive ends the open transaction and sends what it had not committed.
    assert redrive.run().fates == {Fate.SENT: 5}
    assert b"half sent" not in [record.value for record in sent_by(servers, redrive.id)]


def test_a_newer_redrive_of_a_topic_shuts_out_the_older(servers, topic):
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % n for n in range(40)]))
    older, newer = redrive_of(servers, topic, RedriveOptions(MENDED.patch, "set rat", records_per_s=10)), []

    def begin_newer(_: float) -> None:
        if not newer:
            newer.append(redrive_of(servers, topic).run())

    with pytest.raises(UserError, match="another redrive of these letters has started"):
        older.run(wait=begin_newer)
    assert newer[0].fates[Fate.SENT] + older.report.fates[Fate.SENT] == 40
    entries = read_journal(servers, "redrive/")
    assert entries[f"redrive/{older.id}"]["state"] == "failed"


def test_the_journal_says_who_did_what_and_no_value(servers, topic):
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % 7]))
    redrive = redrive_of(servers, topic, codes=frozenset({Code.UNKNOWN_RAT}))
    redrive.run()
    entry = read_journal(servers, "redrive/")[f"redrive/{redrive.id}"]
    assert (entry["state"], entry["read"], entry["fates"]) == ("finished", 1, {"sent": 1})
    assert (entry["topic"], entry["filter"], entry["patch"]) == (topic, {"codes": ["unknown_rat"]}, "set rat")
    own = [
        record.value or b""
        for record in read_topic(servers, journal_topic())
        if redrive.id.encode() in (record.key or b"")
    ]
    assert len(own) == 2
    assert b"4G" not in b"".join(own)
    assert journal_topic() in topic_names(servers)


def test_a_filter_reads_what_it_says(servers, topic):
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % 1, BROKEN_IMSI % 2, BROKEN_RAT % 3, BROKEN_IMSI % 4]))
    middle = datetime.now(UTC)
    send_letters(servers, topic, letters_from("TN", [b"{", b"{"]))

    def found(**wanted: Any) -> dict[str, int]:
        statistics = LetterStatistics()
        for read in Selection.of(servers, topic, LetterFilter(**wanted)).read():
            statistics.add(read)
        return dict(statistics.by("code"))

    assert found() == {"unknown_rat": 2, "invalid_imsi": 2, "malformed_payload": 2}
    assert found(countries=frozenset({"TN"})) == {"malformed_payload": 2}
    assert found(codes=frozenset({Code.UNKNOWN_RAT})) == {"unknown_rat": 2}
    assert found(since=middle) == {"malformed_payload": 2}
    assert found(until=middle) == {"unknown_rat": 2, "invalid_imsi": 2}
    assert found(offsets={1: OffsetRange(1, 3)}) == {"invalid_imsi": 1, "malformed_payload": 1}
    assert found(offsets={0: OffsetRange(50, 60)}) == {}


def test_show_reveals_only_what_is_noted_and_export_is_readable_to_its_owner_alone(
    servers, topic, tmp_path: Path, orion_beam
):
    send_letters(servers, topic, letters_from("FR", [BROKEN_RAT % 1]))
    at = ("--bootstrap-servers", servers, "--dlq-topic", topic)
    before = len(read_journal(servers, "reveal/")) if journal_topic() in topic_names(servers) else 0
    masked = orion_beam("dlq", "show", "0@0", *at)
    assert "208010000000001" not in masked.out
    assert "✗" in masked.out
    assert "208010000000001" in orion_beam("dlq", "show", "0@0", *at, "--reveal").out
    assert len(read_journal(servers, "reveal/")) == before + 1
    exported = tmp_path / "letters.avro"
    assert orion_beam("dlq", "export", *at, "--format", "avro", "--reveal", "--output", exported).code == 0
    assert exported.stat().st_mode & 0o077 == 0
    assert len(read_journal(servers, "reveal/")) == before + 2


def test_foreign_messages_are_listed_and_not_shown(servers, topic, orion_beam):
    at = ("--bootstrap-servers", servers, "--dlq-topic", topic)
    send_letters(servers, topic, [Message(b"k", b"v", []), *letters_from("FR", [BROKEN_RAT % 1])])
    listed = [json.loads(line) for line in orion_beam("dlq", "ls", *at, "--json").out.splitlines()]
    assert {each["place"]: each["foreign"] for each in listed} == {"0@0": True, "1@0": False}
    foreign, nothing = (orion_beam("dlq", "show", place, *at) for place in ("0@0", "1@5"))
    assert (foreign.code, nothing.code) == (2, 2)
    assert "is foreign" in foreign.err
    assert "holds nothing" in nothing.err


def test_a_list_begins_with_the_newest_and_tells_redriven_letters_from_open_ones(servers, topic, orion_beam):
    at = ("--bootstrap-servers", servers, "--dlq-topic", topic)
    old, new = letters_from("FR", [BROKEN_RAT % n for n in range(4)]), letters_from("FR", [BROKEN_RAT % 9])
    send_letters(servers, topic, old)
    assert redrive_of(servers, topic, offsets={0: OffsetRange(0, 1)}).run().fates == {Fate.SENT: 1}
    send_letters(servers, topic, new)
    listed = orion_beam("dlq", "ls", *at, "--limit", "2", "--json")
    first, second = (json.loads(line) for line in listed.out.splitlines())
    assert (first["place"], first["redriven"]) == ("0@2", False)
    assert first["failed_at"] > second["failed_at"]
    assert "3 more, older ones" in listed.err
    all_of_them = [json.loads(line) for line in orion_beam("dlq", "ls", *at, "--json").out.splitlines()]
    assert {each["place"] for each in all_of_them if each["redriven"]} == {"0@0"}
    counted = json.loads(orion_beam("dlq", "stats", *at, "--json").out)
    assert (counted["letters"], counted["open"], counted["redriven"]) == (5, 4, 1)
    assert "5 dead letters (4 open, 1 redriven)" in orion_beam("dlq", "stats", *at).out
    assert len(orion_beam("dlq", "ls", *at, "--last", "1h", "--json").out.splitlines()) == 5
    # `failed_at` of the letters is now.
    assert json.loads(orion_beam("dlq", "stats", *at, "--last", "1h", "--json").out)["letters"] == 5


def test_the_transactional_writer_needs_no_topic_of_its_own(servers):
    with TransactionalWriter(servers, "another") as writer:
        writer.commit([], {"test/1": {"kind": "test"}})
    assert read_journal(servers, "test/") == {"test/1": {"kind": "test"}}

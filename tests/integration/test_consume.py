"""The consumer of docs/guides/consume.md, run as it stands: from a topic with duplicates, each record once."""

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.proof.audit import conservation
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from tests.integration.harness import (
    START_TIMEOUT_S,
    Feed,
    Source,
    StartJob,
    avro_reader,
    await_all_out,
    await_until,
    read_topic,
    source_of_record,
)
from tests.integration.pages import ROOT, blocks
from tests.topics import FINAL, raw_topic

pytestmark = [pytest.mark.integration, pytest.mark.deep]

RECORDS = 3_000
TWICE = b"208011234567890;+33612345678;;FR-1;4G;1;2;2025-06-01T12:00:00Z"
"""A record that its source sends twice."""
NO_CHECKPOINT = "--checkpointing_interval=3600000"
KEYS = {"by-id.db": "cdr_id", "by-source.db": "source_topic,source_partition,source_offset"}


def rows(database: Path, table: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table; none while it does not exist."""
    if not database.exists():
        return []
    with sqlite3.connect(database, timeout=START_TIMEOUT_S) as db:
        has_it = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall()
        return db.execute(f"SELECT * FROM {table}").fetchall() if has_it else []


def test_a_consumer_that_follows_the_page_has_each_record_once(
    kafka: LocalKafka, start_job: StartJob, tmp_path: Path
) -> None:
    servers, topic = kafka.bootstrap_servers, raw_topic("FR").name
    program, commands = blocks(ROOT / "docs" / "guides" / "consume.md")
    directory = tmp_path / "consumer"
    directory.mkdir()
    (directory / program.title).write_text(program.text)
    schema, *starts = [line.removeprefix("$ ") for line in commands.text.splitlines()]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-ec", schema], cwd=directory, env=environment, check=True)

    def consume(stack: ExitStack) -> list["subprocess.Popen[bytes]"]:
        """Start the consumers of the page; they end with the stack, as a crash would end them."""
        started = []
        for command in starts:
            words = command.replace("localhost:9092", servers).split()
            started.append(subprocess.Popen(words, cwd=directory, env=environment))
            stack.callback(started[-1].wait)
            stack.callback(started[-1].kill)
        return started

    def ends() -> dict[int, int]:
        return {part.partition: held.high for part, held in offset_ranges(servers, [FINAL.name]).items() if held.high}

    feed = Feed(servers)
    feed.send_generated("FR", RECORDS, fault_rate=0.02)
    for _ in range(2):
        feed.send(topic, b"208011234567890", TWICE, code=None)
    feed.flush()
    good = {source for source, code in feed.expected.items() if code is None}
    job = start_job(servers, "--countries", "FR", beam=[NO_CHECKPOINT])
    with ExitStack() as halfway:
        consume(halfway)
        await_all_out(job, servers, feed)
        await_until(
            lambda: all(rows(directory / name, "cdr") for name in KEYS), START_TIMEOUT_S, "the consumers have begun"
        )
    assert sum(ends().values()) == len(good)
    # Nothing is committed yet, so all comes out again: Flink notices at the next record that its workers are gone.
    for worker in job.workers:
        worker.kill()
    feed.send_generated("FR", RECORDS, seed=1)
    feed.flush()
    late = {source for source, code in feed.expected.items() if code is None} - good
    job.await_until(
        lambda: sum(ends().values()) >= 2 * len(good) + len(late), START_TIMEOUT_S, "each record has come out again"
    )
    good |= late
    with ExitStack() as again:
        running = consume(again)
        for name in KEYS:
            await_until(
                lambda name=name: dict(rows(directory / name, "position")) == ends(), START_TIMEOUT_S, "all is consumed"
            )
        assert [one.poll() for one in running] == [None, None]

    read = avro_reader(UnifiedCdr)
    written = [read(record.payload) for record in read_topic(servers, FINAL.name)]
    times = Counter(map(source_of_record, written))
    assert set(times) == good
    assert min(times[source] for source in good - late) >= 2
    kept = {name: rows(directory / name, "cdr") for name in KEYS}
    assert sorted(Source(*row[1:4]) for row in kept["by-source.db"]) == sorted(good)
    assert len(kept["by-id.db"]) == len({row[0] for row in kept["by-id.db"]}) == len({cdr["cdr_id"] for cdr in written})
    assert len(kept["by-id.db"]) < len(good)
    by_source = {source_of_record(cdr): cdr for cdr in written}
    columns = ("cdr_id", "country", "bytes_up", "bytes_down")
    for row in (*kept["by-id.db"], *kept["by-source.db"]):
        cdr = by_source[Source(*row[1:4])]
        assert (row[0], *row[4:]) == tuple(cdr[column] for column in columns)
    assert conservation(servers, [topic]).problems == []
    assert json.loads((directory / "cdr.avsc").read_text()) == json.loads(avro_schema(UnifiedCdr))

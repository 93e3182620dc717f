"""No subscriber's number leaves the records: planted numbers, every command at level debug, a search of all it leaves.

The numbers lie on topics and in the output files of a replay, where they belong. Everything else that the processes
write is searched: what they print and log, metrics, Flink's and our pages, headers of dead letters, reports, exports,
run directories and temporary files.
"""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest

from orion_beam.countries import profiles_of
from orion_beam.monitoring.monitor import Monitor, MonitorConfig
from orion_beam.monitoring.server import monitor_pages, serving
from orion_beam.runners.jars.build import orion_home
from orion_beam.schemas.dead_letter import LETTER_HEADERS
from orion_beam.telemetry.logs import FORMAT_VARIABLE, LEVEL_VARIABLE
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    Feed,
    Job,
    await_all_out,
    await_until,
    jobs_in,
    kafka_in,
    read_topic,
)
from tests.topics import DEAD_LETTERS, raw_topic

pytestmark = pytest.mark.integration

NUMBERS = ("208017391846205", "698274613", "356938035643809")
"""Planted: an IMSI, a national MSISDN, which every form of the number ends with, and an IMEI."""
IMSI, MSISDN, IMEI = NUMBERS[0], f"+33{NUMBERS[1]}", NUMBERS[2]
PLANTED = re.compile("|".join(NUMBERS).encode())

GOOD = f"{IMSI};{MSISDN};{IMEI};FR-1;4G;1;2;2025-06-01T12:00:00Z"
RECORDS: Mapping[str, str | None] = {
    GOOD: None,
    GOOD.replace("4G", IMEI): "unknown_rat",
    GOOD.replace("2025-06-01", IMSI): "invalid_timestamp",
    f"{IMSI}{IMSI};{MSISDN};{IMEI};{MSISDN};4G;{IMEI};2;2025-06-01T12:00:00Z": "invalid_imsi",
    f"no record of {IMSI}, {MSISDN}, {IMEI}": "malformed_payload",
    f'{{"imsi":"{IMSI}","msisdn":"0{NUMBERS[1]}","imei":{IMEI},"broken': "malformed_payload",
}
"""Records with the numbers in the wrong places, too, and the code of each."""

DEBUG_OF_JVM = "-Dorg.slf4j.simpleLogger.defaultLogLevel=debug -Dorg.slf4j.simpleLogger.log.org.apache.kafka=debug"


class Traces:
    """What processes have left: output by name, and folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "printed"
        self.output.mkdir()
        self.planted = 0

    def note(self, name: str, content: bytes) -> None:
        (self.output / name).write_bytes(content)

    def command(self, servers: str | None, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        given = () if servers is None else ("--bootstrap-servers", servers)
        command = [sys.executable, "-m", "orion_beam.cli.main", *arguments, *given]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, timeout=1_200)
        self.note(f"{len(list(self.output.iterdir())):02}-{arguments[0]}", done.stdout + done.stderr)
        assert done.returncode in codes, done.stderr.decode()
        return done.stdout.decode()

    def files(self) -> Iterator[Path]:
        """Yield all files but the broker's data and a replay's CDRs."""
        for path in sorted(self.folder.rglob("*")):
            inside = path.relative_to(self.folder).parts
            if path.is_file() and inside[0] != "kafka" and not (inside[0] == "replayed" and path.suffix == ".parquet"):
                yield path


@pytest.fixture(scope="module", params=["json"])
def traces(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Traces]:
    folder = tmp_path_factory.mktemp("privacy")
    (folder / "tmp").mkdir()
    (folder / "home").mkdir()
    (folder / "home" / "jars").symlink_to(orion_home() / "jars")
    found = Traces(folder)
    with pytest.MonkeyPatch.context() as patch, kafka_in(folder / "kafka") as kafka:
        for name, value in {
            "TMPDIR": folder / "tmp",
            "ORION_HOME": folder / "home",
            LEVEL_VARIABLE: "debug",
            FORMAT_VARIABLE: request.param,
            "JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={folder / 'tmp'} {DEBUG_OF_JVM}",
        }.items():
            patch.setenv(name, str(value))
        servers = kafka.bootstrap_servers
        feed = Feed(servers)
        for value, code in RECORDS.items():
            feed.send(raw_topic("FR").name, IMSI.encode(), value.encode(), code=code)
        feed.flush()
        with jobs_in(folder / "jobs") as start:
            job = start(servers, "--countries", "FR", beam=(FREQUENT_CHECKPOINTS,))
            await_all_out(job, servers, feed)
            _note_pages(found, job)
            job.send(2)
            job.exit_code()
        raw = b"".join(record.payload for record in read_topic(servers, raw_topic("FR").name))
        found.planted = sum(
            set(PLANTED.findall(value.encode())) <= set(PLANTED.findall(raw)) and 3 for value in RECORDS
        )
        _note_monitor(found, servers)
        _run_commands(found, servers, feed)
        for record in read_topic(servers, DEAD_LETTERS.name):
            own = [text or b"" for name, text in record.headers if name in LETTER_HEADERS.values()]
            found.note(f"letter-{record.partition}-{record.source.offset}", b"\n".join(own))
        yield found


def _note_pages(found: Traces, job: Job) -> None:
    """Fetch what the JVMs and workers of a job serve, as far as they do."""
    processes = [psutil.Process(job._process.pid), *psutil.Process(job._process.pid).children(recursive=True)]
    ports = {
        each.laddr.port
        for process in processes
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    for port in sorted(ports):
        for page in ("jobs/overview", "config", "jobmanager/metrics", "taskmanagers", "metrics"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=60) as answer:
                    found.note(f"page-{port}-{page.replace('/', '-')}", answer.read())
            except (OSError, HTTPException):
                continue  # it speaks gRPC, or has no such page


def _note_monitor(found: Traces, servers: str) -> None:
    config = MonitorConfig(servers, "orion-beam", profiles_of(["FR"]), interval_s=0.2)
    with Monitor(config) as monitor, serving("127.0.0.1:0", monitor_pages(monitor)) as url:
        pages: dict[str, bytes] = {}

        def is_up() -> bool:
            for page in ("metrics", "", "api/status"):
                with urllib.request.urlopen(f"{url}/{page}", timeout=600) as answer:
                    pages[page] = answer.read()
            return b"orion_kafka_up 1.0" in pages["metrics"]

        await_until(is_up, 600, "the monitor has asked the broker")
        for page, content in pages.items():
            found.note(f"monitor-{page.replace('/', '-')}", content)


def _run_commands(found: Traces, servers: str, feed: Feed) -> None:
    for source in feed.expected:
        place = ("--topic", source.topic, "--partition", str(source.partition), "--offset", str(source.offset))
        found.command(servers, "trace", *place)
        break
    found.command(servers, "audit", "--json")
    for letter in read_topic(servers, DEAD_LETTERS.name)[:1]:
        found.command(servers, "dlq", "show", f"{letter.partition}@{letter.source.offset}")
    found.command(servers, "dlq", "ls")
    found.command(servers, "dlq", "stats", "--html", str(found.folder / "report.html"))
    found.command(servers, "dlq", "retest", "--json", codes=(0, 1))
    found.command(servers, "dlq", "export", "--format", "jsonl", "--output", str(found.folder / "letters.jsonl"))
    found.command(servers, "replay", "--countries", "FR", "--last", "1d", "--output", str(found.folder / "replayed"),
                  "--yes", "--json")  # fmt: skip
    (found.folder / "kafka" / "imsi.txt").write_text(IMSI)
    found.command(servers, "forget", "--imsi-file", str(found.folder / "kafka" / "imsi.txt"), codes=(1,))
    found.command(None, "no-such-command", IMSI, codes=(2,))


def test_no_planted_number_is_in_anything_that_the_processes_left(traces: Traces) -> None:
    held = {}
    for path in traces.files():
        name = str(path.relative_to(traces.folder))
        if found := PLANTED.search(path.read_bytes()) or PLANTED.search(os.fsencode(name)):
            held[name] = found.start()
    assert held == {}


def test_the_search_would_find_them(traces: Traces) -> None:
    """The topics hold the numbers, the logs have lines of level debug, and every command has written something."""
    assert traces.planted == 3 * len(RECORDS)
    logs = b"".join(path.read_bytes() for path in (traces.folder / "jobs").glob("*.log"))
    assert b'"level": "DEBUG"' in logs or b" DEBUG " in logs
    assert "•" in (traces.folder / "letters.jsonl").read_text(encoding="utf-8")
    names = {path.relative_to(traces.folder).parts[0] for path in traces.files()}
    assert {"printed", "jobs", "report.html", "letters.jsonl", "replayed", "home"} <= names

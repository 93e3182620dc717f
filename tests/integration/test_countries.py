"""Bad data of one country do not touch another's; and values in Confluent's wire format, with a registry."""

import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from tests.integration.harness import (
    START_TIMEOUT_S,
    Feed,
    Record,
    Source,
    jobs_in,
    kafka_in,
    read_topic,
    records_on,
    source_of_letter,
    source_of_record,
)
from tests.topics import DEAD_LETTERS, FINAL, raw_topic

pytestmark = pytest.mark.integration

GOOD, BAD = "FR", "TN"
RECORDS = 5_000
SCHEMA_ID = 0x01020304


class Registry:
    """As much of a schema registry as a producer and a consumer need: it gives each schema of a subject the same id."""

    def __init__(self) -> None:
        self.schemas: dict[tuple[str, int], str] = {}
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                _, subjects, subject, versions = self.path.partition("?")[0].split("/")
                assert (subjects, versions) == ("subjects", "versions")
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                registry.schemas[subject, SCHEMA_ID] = body["schema"]
                self._answer({"id": SCHEMA_ID})

            def do_GET(self) -> None:
                if self.path.partition("?")[0] == f"/schemas/ids/{SCHEMA_ID}":
                    (schema,) = registry.schemas.values()
                    self._answer({"schema": schema})
                else:
                    self._answer({"error_code": 40401, "message": "there is no such thing here"}, status=404)

            def _answer(self, body: dict[str, Any], status: int = 200) -> None:
                answer = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, name="registry")
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def garbage(count: int) -> Iterator[bytes | None]:
    """Return what no decoder can make anything of, and what might trouble one."""
    troublesome = [
        None,
        b"",
        b"\x00",
        b"\xff\xfe" * 1_000,
        b"[" * 50_000,
        b'{"subscriber":' * 4_000,
        b'{"subscriber":{"imsi":' + b"9" * 10_000 + b"}}",
        b'{"usage":{"up":1e999999999}}',
        b'{"timestamp":-1e308,"subscriber":[],"network":0,"usage":null}',
        b'{"subscriber":{"imsi":"\\ud800"}}',
        b'{"subscriber":{"imsi":"\xed\xa0\x80"}}',
        b"null",
        b"{}",
        b"\n" * 1_000,
        b";" * 60_000,
        b"A=" * 30_000,
        b"0" * 102,
        b"x" * (200 * 1024),
    ]
    yield from troublesome
    draw = random.Random(7)
    for _ in range(count - len(troublesome)):
        yield draw.randbytes(draw.randrange(400))


def read_by_confluent(registry: Registry, messages: Sequence[Record]) -> list[dict[str, Any]]:
    """Read values with Confluent's own deserializer, which asks the registry for the schema that they name."""
    with SchemaRegistryClient({"url": registry.url}) as client:
        deserialize = AvroDeserializer(client)
        context = SerializationContext(FINAL.name, MessageField.VALUE)
        return [deserialize(message.payload, context) for message in messages]


@dataclass(frozen=True, repr=False)
class Run:
    """What a job with a registry, over a good country and one of garbage, has left behind."""

    registry: Registry
    expected: dict[Source, str | None]
    final: list[Record]
    records: list[dict[str, Any]]
    letters: list[Record]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    directory = tmp_path_factory.mktemp("countries")
    registry = Registry()
    with kafka_in(directory / "kafka") as kafka, registry.serving(), jobs_in(directory / "jobs") as start_job:
        servers = kafka.bootstrap_servers
        feed = Feed(servers)
        for value in garbage(RECORDS):
            feed.send(raw_topic(BAD).name, b"key", value, code="any")
        feed.send_generated(GOOD, RECORDS)
        feed.flush()
        # Each worker reads both: the harder case.
        options = ("--spread-countries", "--schema-registry", registry.url)
        job = start_job(servers, "--countries", f"{GOOD},{BAD}", *options)
        job.await_until(
            lambda: records_on(servers, FINAL.name, DEAD_LETTERS.name) >= 2 * RECORDS,
            START_TIMEOUT_S,
            "every record has come out",
        )
        job.send(signal.SIGTERM)
        assert job.exit_code() == 143
        final = read_topic(servers, FINAL.name)
        yield Run(
            registry, feed.expected, final, read_by_confluent(registry, final), read_topic(servers, DEAD_LETTERS.name)
        )


def test_garbage_of_one_country_is_dead_lettered(run: Run) -> None:
    out = Counter(source_of_letter(letter) for letter in run.letters)
    assert out == {source: 1 for source, code in run.expected.items() if code}
    codes = Counter(dict(letter.headers)["orion.error.code"] for letter in run.letters)
    assert b"internal_error" not in codes


def test_garbage_of_one_country_keeps_no_record_of_another_back(run: Run) -> None:
    out = Counter(source_of_record(record) for record in run.records)
    assert out == {source: 1 for source, code in run.expected.items() if code is None}


def test_the_schema_is_registered_for_the_topic_s_values(run: Run) -> None:
    ((subject, _), schema) = next(iter(run.registry.schemas.items()))
    assert len(run.registry.schemas) == 1
    assert subject == "cdr.final-value"
    assert json.loads(schema) == json.loads(avro_schema(UnifiedCdr))


def test_confluent_s_readers_find_the_schema_s_id_before_each_value(run: Run) -> None:
    assert {message.payload[:5] for message in run.final} == {b"\x00\x01\x02\x03\x04"}

"""Output of a job, written without a job: CDRs and dead letters of given sources."""

import io
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import fastavro
import pyarrow as pa
from confluent_kafka import Producer

from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UNIFIED_SCHEMA, UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.transforms.encode import encode_avro
from tests.letters import headers_of

SENT = datetime.now(UTC).replace(microsecond=0)  # retention may delete older records before a test reads them
LATENCY = timedelta(milliseconds=250)


def cdr(topic: str, partition: int, offset: int, **changes: Any) -> dict[str, Any]:
    """Return a row of `UnifiedCdr`."""
    return {
        "imsi": "208010000000001", "msisdn": "+33612345678", "mcc": "208", "mnc": "01", "event_type": "data",
        "event_time": SENT, "event_date": SENT.date(), "event_hour": 13, "timezone": "Europe/Paris",
        "country": "FR", "roaming": "home", "is_roaming": False, "fraud_score": 0.0, "fraud_reasons": [],
        "model_version": "1", "cdr_id": f"{topic}-{partition}-{offset}", "raw_format": "fr_semicolon",
        "source_topic": topic, "source_partition": partition, "source_offset": offset,
        # Records of files may have no timestamp; here, offset 0 has none.
        "source_timestamp": SENT if offset else None, "schema_version": 2,
        "event_type_inferred": True, "warnings": [],
    } | changes  # fmt: skip


def bodies_of(rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Return the Avro bodies of rows of `UnifiedCdr`."""
    rows = list(rows)
    columns = {field.name: [row.get(field.name) for row in rows] for field in UNIFIED_SCHEMA}
    bodies: list[bytes] = encode_avro(
        pa.RecordBatch.from_pydict(columns, schema=UNIFIED_SCHEMA), UnifiedCdr
    ).to_pylist()
    return bodies


def with_schema(schema: str, row: Mapping[str, Any]) -> bytes:
    """Return a row as the Avro single object of a version of its schema, without the fields that the version lacks."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(json.loads(schema)), row)
    return single_object_header(schema) + body.getvalue()


class Outputs:
    """Writer to the topics of a job that does not run."""

    def __init__(self, bootstrap_servers: str, final_topic: str = "cdr.final") -> None:
        self.bootstrap_servers = bootstrap_servers
        self._final_topic = final_topic
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "log_level": 0})

    def flush(self) -> None:
        assert self._producer.flush(600) == 0

    def raw(self, topic: str, partition: int, count: int) -> None:
        for _ in range(count):
            self._producer.produce(topic, b"raw", partition=partition)
        self.flush()

    def final(self, topic: str, partition: int, offsets: list[int], country: str = "FR") -> None:
        header = single_object_header(avro_schema(UnifiedCdr))
        bodies = bodies_of([cdr(topic, partition, offset, country=country) for offset in offsets])
        written = round((SENT + LATENCY).timestamp() * 1000)
        for body in bodies:
            self._producer.produce(self._final_topic, header + body, b"key", timestamp=written)
        self.flush()

    def dead_letters(self, topic: str, partition: int, offsets: list[int], code: str) -> None:
        for offset in offsets:
            letter = {
                "headers": [{"key": "trace", "value": b"\xff"}, {"key": "null", "value": None}],
                "stage": "validate", "code": code, "codes": [code], "fields": ["imsi"], "message": "an IMSI is digits",
                "country": "FR", "source_topic": topic, "source_partition": partition, "source_offset": offset,
                "source_timestamp": SENT, "attempt": 1, "version": "0.1.0", "failed_at": SENT,
            }  # fmt: skip
            self._producer.produce("cdr.dlq", b"raw", b"key", headers=[*headers_of(letter)])
        self.flush()

    def anything(self, topic: str, value: bytes) -> None:
        self._producer.produce(topic, value)
        self.flush()

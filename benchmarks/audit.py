"""Rate and memory of `orion-beam audit` while it reads cdr.final: `python -m benchmarks.audit [RECORDS]`."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from confluent_kafka import Producer

from benchmarks.core import raw_batches
from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import default_profiles
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.topics.apply import create_topics
from orion_beam.topics.names import own_topics
from orion_beam.transforms.encode import Wire, encode_batch
from orion_beam.transforms.stage.batches import MAX_ROWS, batch_of, columns_of

RECORDS = 3_000_000
FINAL = own_topics().final


def enriched() -> list[pa.RecordBatch]:
    """Return one batch of enriched CDRs for each country."""
    reference = load_reference()
    return [
        run_chain(chain_of(profile, reference), raw_batches(profile, MAX_ROWS, MAX_ROWS)[0]).accepted
        for profile in default_profiles().values()
    ]


def values(records: int) -> Iterator[tuple[str, list[bytes]]]:
    """Yield raw topics with encoded CDRs from them. Partitions take turns; each CDR has an offset of its own."""
    wire = Wire(single_object_header(avro_schema(UnifiedCdr)))
    batches = enriched()
    written = [0] * len(batches)
    while sum(written) < records:
        for number, batch in enumerate(batches):
            rows = np.arange(written[number], written[number] + batch.num_rows)
            columns = columns_of(batch) | {
                "source_partition": pa.array(rows % FINAL.partitions, pa.int32()),
                "source_offset": pa.array(rows // FINAL.partitions, pa.int64()),
            }
            encoded = encode_batch(batch_of(columns, batch.schema), UnifiedCdr, wire).accepted
            written[number] += batch.num_rows
            yield batch.column("source_topic")[0].as_py(), encoded.column("value").to_pylist()


def fill(servers: str, records: int) -> int:
    """Write raw records, and the CDRs that a job would make of them, to Kafka; return the number of CDRs."""
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "compression.type": "snappy",
            "linger.ms": 50,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    written: dict[str, int] = {}
    for topic, cdrs in values(records):
        for row, cdr in enumerate(cdrs, start=written.get(topic, 0)):
            producer.produce(topic, b"raw", partition=row % FINAL.partitions)
            producer.produce(FINAL.name, cdr, partition=row % FINAL.partitions)
        written[topic] = written.get(topic, 0) + len(cdrs)
        while len(producer) > 500_000:
            producer.poll(0.1)
    producer.flush()
    return sum(written.values())


def main() -> None:
    """Measure and print the figures."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    with tempfile.TemporaryDirectory() as directory, LocalKafka(Path(directory, "kafka")) as kafka:
        servers = kafka.bootstrap_servers
        create_topics(servers, list(default_profiles()))
        records = fill(servers, wanted)
        command = [sys.executable, "-m", "orion_beam.cli.main", "audit", "--bootstrap-servers", servers, "--json"]
        output = Path(directory, "answer.json")
        began = time.monotonic()
        with output.open("wb") as file:
            process = subprocess.Popen(command, stdout=file)
            _, _, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        answer = json.loads(output.read_text())
        assert answer["complete"]
        assert answer["records"] == records
        cpu_us = (usage.ru_utime + usage.ru_stime) / records * 1e6
        print(f"{records:,} records in {seconds:.1f} s, start included: {records / seconds:,.0f} records/s")
        print(f"{cpu_us:.2f} µs of CPU a record; at most {usage.ru_maxrss >> 10} MiB of memory")


if __name__ == "__main__":
    main()

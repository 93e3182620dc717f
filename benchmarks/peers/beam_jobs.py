"""Beam jobs beside ORION's, run like it on embedded Flink.

    python -m benchmarks.peers.beam_jobs rows BOOTSTRAP GROUP REFERENCE
    python -m benchmarks.peers.beam_jobs nothing BOOTSTRAP GROUP

`rows`: a peer, Beam record by record: Kafka IO, the work on one record in a DoFn, Kafka IO.
`nothing`: a ceiling, ORION's own read and write with no stage between them.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka
from apache_beam.transforms.external import JavaJarExpansionService

from benchmarks.peers.records import TOPIC
from benchmarks.peers.work import handler
from orion_beam.config import JobConfig, KafkaSink, KafkaSource
from orion_beam.io.read import ReadRawCdrs
from orion_beam.io.write import WriteCdrs
from orion_beam.runners.flink import TerminatedError, flink_arguments, run_flink
from orion_beam.runners.jars.build import ensure_jars
from orion_beam.transforms.encode import ENCODED_SCHEMA

_Message = tuple[bytes, bytes]
_REJECTED = "rejected"


class _HandleRows(beam.DoFn):  # type: ignore[misc]
    def __init__(self, reference: Path) -> None:
        super().__init__()
        self._reference = reference

    def setup(self) -> None:
        self._handle = handler(self._reference)

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Kafka IO says that both may be null
    def process(self, message: _Message) -> Iterator[_Message | beam.pvalue.TaggedOutput]:
        key, value = message
        try:
            yield key, self._handle(value)
        except ValueError:
            yield beam.pvalue.TaggedOutput(_REJECTED, message)


def build_rows(pipeline: beam.Pipeline, config: JobConfig, reference: Path) -> None:
    """Build the graph that handles record by record."""
    source = config.source
    assert isinstance(source, KafkaSource)
    assert source.expansion_service is not None
    # The same older source as ORION's: the splittable one of Kafka IO stalls at the first checkpoint.
    options = ["{{PORT}}", "--defaultEnvironmentType=EMBEDDED"]
    options += ["--experiments=use_deprecated_read", f"--filesToStage={source.expansion_service}"]
    service = JavaJarExpansionService(source.expansion_service, extra_args=options)
    servers = {"bootstrap.servers": source.bootstrap_servers}
    consumer = {"group.id": source.group_id, "auto.offset.reset": "earliest", "max.poll.records": "5000"}
    producer = {"acks": "all", "compression.type": "snappy", "linger.ms": "10", "batch.size": "131072"}
    message = beam.typehints.Tuple[bytes, bytes]
    read = ReadFromKafka(servers | consumer, [TOPIC], commit_offset_in_finalize=True, expansion_service=service)
    handle = beam.ParDo(_HandleRows(reference)).with_output_types(message).with_outputs(_REJECTED, main="finals")
    handled = pipeline | "Read" >> read | "Handle" >> handle
    # Beam gives the type to the main output only; Kafka IO needs it for both.
    rejected = handled[_REJECTED] | beam.Map(lambda each: each).with_output_types(message)
    for messages, topic in ((handled.finals, "cdr.final"), (rejected, "cdr.dlq")):
        messages | topic >> WriteToKafka(servers | producer, topic, expansion_service=service)


def build_nothing(pipeline: beam.Pipeline, config: JobConfig) -> None:
    """Build the graph that writes what it reads."""
    as_final = beam.Map(_as_final).with_output_types(pa.RecordBatch)
    pipeline | ReadRawCdrs(config) | as_final | WriteCdrs(config)


def _as_final(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [batch.column(name) for name in ("raw_key", "raw_value", "country")]
    return pa.RecordBatch.from_arrays(columns, schema=ENCODED_SCHEMA)


def main() -> None:
    """Run a job until SIGTERM."""
    name, bootstrap_servers, group, *reference = sys.argv[1:]
    jars = ensure_jars(print)
    config = JobConfig(
        countries=("FR",),
        source=KafkaSource(
            bootstrap_servers=bootstrap_servers, group_id=group, expansion_service=str(jars.expansion_service)
        ),
        sink=KafkaSink(bootstrap_servers=bootstrap_servers),
        wire_prefix=b"",
    )
    builders: dict[str, Callable[[beam.Pipeline, JobConfig], None]] = {
        "rows": partial(build_rows, reference=Path(*reference)),
        "nothing": build_nothing,
    }
    # A bundle of single records: as many as a frame of ORION's has.
    bundles = ["--max_bundle_size=20000", "--max_bundle_time_mills=100"] if name == "rows" else []
    try:
        run_flink(config, flink_arguments(jars, bundles), build=builders[name])
    except TerminatedError:
        raise SystemExit(143) from None


if __name__ == "__main__":
    main()

"""Reader of the sources of CDRs in any wire format: Avro single objects, Confluent's format, or JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyruhvro

from orion_beam.errors import UserError
from orion_beam.proof.avro_tail import AvroTail
from orion_beam.proof.sources import Sources, concat_sources, sources_of
from orion_beam.schema_tools.registry import CONFLUENT_HEADER_BYTES, MAGIC_BYTE, fetch_schema
from orion_beam.schemas.avro_format import SINGLE_OBJECT_HEADER_BYTES, SINGLE_OBJECT_MARKER, single_object_header
from orion_beam.schemas.cdr import UNIFIED_SCHEMA, UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.older import readable_schemas

SampleReader = Callable[[dict[str, Any]], None]

_SCHEMA = avro_schema(UnifiedCdr)
_HEADER = single_object_header(_SCHEMA)
_JSON_START = b"{"
_SAMPLE_NAMES = ("country", "source_topic", "source_partition", "source_offset")
_SOURCE_SCHEMA = pa.schema(
    [UNIFIED_SCHEMA.field(f"source_{name}") for name in ("topic", "partition", "offset", "timestamp")]
)


class CdrReader:
    """Reader of the sources of CDRs.

    Args:
        registry: URL of the schema registry, for values in Confluent's wire format.
        schemas: Avro schemas of other versions, for single objects of those versions.

    Attributes:
        samples: First CDR of each raw topic, by the topic's name; it has at least its country, and
            its source without the time.

    Raises:
        ValueError: A schema is not one of CDRs.
    """

    def __init__(self, registry: str | None = None, schemas: Iterable[str] = ()) -> None:
        """Take the registry and further schemas; those of this version and of older ones are always known."""
        self.samples: dict[str, dict[str, Any]] = {}
        self._registry = registry
        self._avro = {
            header: _AvroReader(schema, SINGLE_OBJECT_HEADER_BYTES, self._sample)
            for header, schema in (
                *readable_schemas(UnifiedCdr).items(),
                *((single_object_header(schema), schema) for schema in schemas),
            )
        }

    def read(self, values: Sequence[bytes]) -> Sources:
        """Return the sources of the values that are CDRs.

        Raises:
            UserError: A value has an unknown schema; says how to give it.
        """
        starts = [value[:SINGLE_OBJECT_HEADER_BYTES] for value in values]
        if set(starts) == {_HEADER}:
            return self._avro[_HEADER].read(values, np.arange(len(values)))
        rows: dict[bytes, list[int]] = {}
        for row, start in enumerate(starts):
            rows.setdefault(_header_of(start), []).append(row)
        return concat_sources(
            self._read_all(header, [values[row] for row in its_rows], np.array(its_rows))
            for header, its_rows in rows.items()
        )

    def _read_all(self, header: bytes, values: Sequence[bytes], rows: npt.NDArray[np.int64]) -> Sources:
        """Read values with the same header."""
        if header == _JSON_START:
            return self._read_json(values, rows)
        if header not in self._avro and len(header) == CONFLUENT_HEADER_BYTES:
            self._avro[header] = self._of_registry(int.from_bytes(header[1:]))
        if header in self._avro:
            return self._avro[header].read(values, rows)
        if header.startswith(SINGLE_OBJECT_MARKER) and len(header) == SINGLE_OBJECT_HEADER_BYTES:
            fingerprint = header.removeprefix(SINGLE_OBJECT_MARKER)[::-1].hex(":")
            raise UserError(
                f"there are CDRs of another schema, with fingerprint {fingerprint}: give it with --schema, or keep it"
                " in the workspace's schemas/"
            )
        return concat_sources([])

    def _read_json(self, values: Sequence[bytes], rows: npt.NDArray[np.int64]) -> Sources:
        records, read = [], []
        for value, row in zip(values, rows, strict=True):
            try:
                records.append(_decode_json(value))
                read.append(row)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                # Not JSON, not UTF-8, too deep, or no CDR: anybody can write to a topic.
                continue
        for record in records:
            if record.source_topic not in self.samples:
                self._sample(msgspec.structs.asdict(record))
        columns = [[getattr(record, name) for record in records] for name in _SOURCE_SCHEMA.names]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _SOURCE_SCHEMA, strict=True)]
        return sources_of(pa.RecordBatch.from_arrays(arrays, schema=_SOURCE_SCHEMA), np.array(read, np.int64))

    def _of_registry(self, schema_id: int) -> "_AvroReader":
        if self._registry is None:
            raise UserError(
                f"there are CDRs in Confluent's wire format, of schema {schema_id}: give --schema-registry URL"
            )
        try:
            return _AvroReader(fetch_schema(self._registry, schema_id), CONFLUENT_HEADER_BYTES, self._sample)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"schema {schema_id} of {self._registry} is no CDR's: {error}") from None

    def _sample(self, record: dict[str, Any]) -> None:
        self.samples.setdefault(record["source_topic"], record)


def _header_of(start: bytes) -> bytes:
    """Return the part of a value's first bytes that tells its wire format and schema."""
    if start.startswith(_JSON_START):
        return _JSON_START
    return start[:CONFLUENT_HEADER_BYTES] if start.startswith(MAGIC_BYTE) else start


_LAST_INT32, _LAST_INT64 = (1 << 31) - 1, (1 << 63) - 1


class _JsonCdr(msgspec.Struct):
    """Fields of a CDR in JSON that are read here."""

    country: str
    source_topic: str
    source_partition: Annotated[int, msgspec.Meta(ge=0, le=_LAST_INT32)]
    source_offset: Annotated[int, msgspec.Meta(ge=0, le=_LAST_INT64)]
    source_timestamp: datetime | None = None


_decode_json = msgspec.json.Decoder(_JsonCdr).decode


class _AvroReader:
    """Reader of records of one schema: from their ends if possible, else with a decoder."""

    def __init__(self, schema: str, header_bytes: int, sample: SampleReader) -> None:
        self._schema = schema
        self._tail = AvroTail(schema)
        self._header_bytes = header_bytes
        self._sample = sample

    def read(self, values: Sequence[bytes], rows: npt.NDArray[np.int64]) -> Sources:
        found = self._tail.read(values)
        is_read = slice(None) if found.is_read.all() else found.is_read
        ends = Sources(
            topics=tuple(self._tail.topics),
            topic=found.topic[is_read],
            partition=found.partition[is_read],
            offset=found.offset[is_read],
            timestamp_ms=found.timestamp_ms[is_read],
            rows=rows[is_read],
        )
        if isinstance(is_read, slice):
            return ends
        # The first records of each topic and run are decoded, and the tail reader learns their texts.
        left = np.flatnonzero(~found.is_read).tolist()
        decoded = self._decode([(row, values[row][self._header_bytes :]) for row in left])
        for batch in decoded.values():
            self._learn(batch)
        return concat_sources([ends, *(sources_of(batch, rows[list(places)]) for places, batch in decoded.items())])

    def _decode(self, bodies: Sequence[tuple[int, bytes]]) -> Mapping[tuple[int, ...], pa.RecordBatch]:
        """Return decoded records in batches, by their places; records that cannot be decoded are left out."""
        places = tuple(place for place, _ in bodies)
        try:
            decoded = pyruhvro.deserialize_array([body for _, body in bodies], self._schema)
            # pyruhvro takes any bytes for a text.
            decoded.validate(full=True)
            return {places: decoded}
        except ValueError:
            if len(bodies) == 1:
                return {}
        # At least one body is not a CDR. Most are, so halving is faster than decoding one by one.
        half = len(bodies) // 2
        return {**self._decode(bodies[:half]), **self._decode(bodies[half:])}

    def _learn(self, decoded: pa.RecordBatch) -> None:
        known = set(self._tail.topics)
        self._tail.learn(decoded)
        for topic in self._tail.topics:
            if topic not in known:
                row = decoded.column("source_topic").index(topic).as_py()
                self._sample(_sample_of(decoded.slice(row, 1)))


def _sample_of(row: pa.RecordBatch) -> dict[str, Any]:
    try:
        sample: dict[str, Any] = row.to_pylist()[0]
    except (OverflowError, ValueError):
        # Anybody can write to a topic, and Avro has dates that Python has not.
        sample = row.select([*_SAMPLE_NAMES]).to_pylist()[0]
    return sample

"""What another version of ORION Beam has left on a stage's topic: it is no garbage, and this version cannot read it."""

from functools import cache

import pyarrow as pa

from orion_beam.schemas.avro_format import SINGLE_OBJECT_HEADER_BYTES, SINGLE_OBJECT_MARKER, fingerprint
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.write import WRITTEN_MODELS
from orion_beam.transforms.arrow.texts import to_list


class OtherVersionError(Exception):
    """A record has a schema that no record of this version has: an older or a newer one wrote it.

    Attributes:
        topic, partition, offset: where it is.
    """

    def __init__(self, topic: str, partition: int, offset: int, schema: str) -> None:
        """Name the place, the fingerprint of the record's schema, and what to do."""
        super().__init__(
            f"{topic}[{partition}] offset {offset}: the record's schema has the fingerprint {schema}, which this"
            " version does not read; let the version that wrote it read the topic to its end first, or replay the raw"
            " records and have the group go on behind it (kafka-consumer-groups --reset-offsets)"
        )
        self.topic, self.partition, self.offset = topic, partition, offset


@cache
def _known_schemas() -> frozenset[bytes]:
    return frozenset(fingerprint(avro_schema(model)) for model in WRITTEN_MODELS)


def refuse_other_versions(messages: pa.RecordBatch) -> None:
    """Refuse messages that are Avro single objects of a schema that none of our records has.

    Args:
        messages: rows of `raw.RAW_MESSAGE_SCHEMA`.

    Raises:
        OtherVersionError: there is one; names the first.
    """
    for row, value in enumerate(to_list(messages.column("raw_value"))):
        if value is None or not value.startswith(SINGLE_OBJECT_MARKER) or len(value) < SINGLE_OBJECT_HEADER_BYTES:
            continue
        schema = value[len(SINGLE_OBJECT_MARKER) : SINGLE_OBJECT_HEADER_BYTES]
        if schema not in _known_schemas():
            names = ("source_topic", "source_partition", "source_offset")
            topic, partition, offset = (messages.column(name)[row].as_py() for name in names)
            # In pairs of digits: a log line masks what may be a subscriber's number.
            raise OtherVersionError(topic, partition, offset, schema[::-1].hex(":"))

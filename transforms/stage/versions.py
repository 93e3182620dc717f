"""Detection of records that another version of ORION Beam wrote to a stage's topic. This version cannot read them."""

from functools import cache

import pyarrow as pa

from orion_beam.schemas.avro_format import SINGLE_OBJECT_HEADER_BYTES, SINGLE_OBJECT_MARKER, fingerprint
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.write import WRITTEN_MODELS
from orion_beam.transforms.arrow.texts import to_list


class OtherVersionError(Exception):
    """A record has a schema that this version does not know. An older or newer version wrote it.

    Attributes:
        topic: Topic of the record.
        partition: Partition of the record.
        offset: Offset of the record.
    """

    def __init__(self, topic: str, partition: int, offset: int, schema: str) -> None:
        """Make a message with the record's place, the fingerprint of its schema, and the fix."""
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
    """Refuse Avro single objects whose schema this version does not write.

    Args:
        messages: Rows of `raw.RAW_MESSAGE_SCHEMA`.

    Raises:
        OtherVersionError: There is one. The message names the first.
    """
    for row, value in enumerate(to_list(messages.column("raw_value"))):
        if value is None or not value.startswith(SINGLE_OBJECT_MARKER) or len(value) < SINGLE_OBJECT_HEADER_BYTES:
            continue
        schema = value[len(SINGLE_OBJECT_MARKER) : SINGLE_OBJECT_HEADER_BYTES]
        if schema not in _known_schemas():
            names = ("source_topic", "source_partition", "source_offset")
            topic, partition, offset = (messages.column(name)[row].as_py() for name in names)
            # The digits are written in pairs because log lines mask long numbers as possible subscriber numbers.
            raise OtherVersionError(topic, partition, offset, schema[::-1].hex(":"))

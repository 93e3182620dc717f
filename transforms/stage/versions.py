"""Detection of records whose schema this version does not know: a newer version of ORION Beam wrote them."""

from functools import cache

import numpy as np
import pyarrow as pa

from orion_beam.schemas.avro_format import SINGLE_OBJECT_HEADER_BYTES, SINGLE_OBJECT_MARKER
from orion_beam.schemas.older import readable_schemas
from orion_beam.schemas.write import WRITTEN_MODELS
from orion_beam.transforms.arrow.texts import to_list
from orion_beam.transforms.stage.batches import filter_rows


class OtherVersionError(Exception):
    """A record has a schema that this version does not know. A newer version wrote it.

    Attributes:
        topic: Topic of the record.
        partition: Partition of the record.
        offset: Offset of the record.
    """

    def __init__(self, topic: str, partition: int, offset: int, schema: str) -> None:
        """Make a message with the record's place, the fingerprint of its schema, and the fix."""
        super().__init__(
            f"{topic}[{partition}] offset {offset}: the record's schema has the fingerprint {schema}, which this"
            " version does not know: a newer one wrote it; upgrade this job, or keep that schema in the workspace's"
            " schemas/, or replay the raw records and have the group go on behind it"
            " (kafka-consumer-groups --reset-offsets)"
        )
        self.topic, self.partition, self.offset = topic, partition, offset


@cache
def _known_headers(kept: tuple[str, ...]) -> frozenset[bytes]:
    return frozenset(header for model in WRITTEN_MODELS for header in readable_schemas(model, kept))


def refuse_other_versions(messages: pa.RecordBatch, kept: tuple[str, ...] = ()) -> None:
    """Refuse Avro single objects of a schema that this version does not know.

    Args:
        messages: Rows of `raw.RAW_MESSAGE_SCHEMA`.
        kept: Schemas that are known besides those of this version and of older ones, as JSON text.

    Raises:
        OtherVersionError: There is one. The message names the first.
    """
    unknown = [
        value is not None
        and value.startswith(SINGLE_OBJECT_MARKER)
        and len(value) >= SINGLE_OBJECT_HEADER_BYTES
        and value[:SINGLE_OBJECT_HEADER_BYTES] not in _known_headers(kept)
        for value in to_list(messages.column("raw_value"))
    ]
    for first in filter_rows(messages, np.array(unknown, np.bool_)).slice(0, 1).to_pylist():
        digits = first["raw_value"][len(SINGLE_OBJECT_MARKER) : SINGLE_OBJECT_HEADER_BYTES][::-1]
        # The digits are written in pairs because log lines mask long numbers as possible subscriber numbers.
        raise OtherVersionError(
            first["source_topic"], first["source_partition"], first["source_offset"], digits.hex(":")
        )

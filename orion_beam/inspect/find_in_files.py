"""Search for the output of one record in the files of a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.inspect.find_in_kafka import Found
from orion_beam.io.files import DEAD_LETTER_DIRECTORY, DEAD_LETTER_FILE, FINAL_DIRECTORY, FINAL_FILE
from orion_beam.io.output_files import RecordFiles, records_in
from orion_beam.kafka.offset_ranges import Advance, SourcePartition
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA, DeadLetter
from orion_beam.schemas.derive import arrow_schema
from orion_beam.transforms.arrow.texts import mask_of
from orion_beam.transforms.stage.batches import filter_rows


def output_of(path: Path, model: type[UnifiedCdr] = UnifiedCdr) -> tuple[RecordFiles, RecordFiles]:
    """Find the CDRs and the dead letters that a run has written to a directory.

    Args:
        path: The directory.
        model: Model of the CDRs. Fields of a stage that the run did not have are null.

    Raises:
        UserError: The directory lacks them; names the directory and what was expected there.
    """
    final = records_in(path, FINAL_FILE, FINAL_DIRECTORY, model, arrow_schema(model))
    return final, records_in(path, DEAD_LETTER_FILE, DEAD_LETTER_DIRECTORY, DeadLetter, DEAD_LETTER_SCHEMA)


def find_source(records: RecordFiles, source: SourcePartition, offset: int, advance: Advance) -> Iterator[Found]:
    """Yield the output records of a raw record. For a record of a file, the topic is the path given to the run."""
    path = Path(source.topic).absolute()

    def is_wanted(batch: pa.RecordBatch) -> pa.BooleanArray:
        is_there = pc.and_(
            pc.equal(batch.column("source_offset"), offset),
            pc.equal(batch.column("source_partition"), source.partition),
        )
        topics = pc.unique(batch.column("source_topic").filter(is_there)).to_pylist()
        meant = [topic for topic in topics if topic == source.topic or Path(topic).absolute() == path]
        return pc.and_(is_there, pc.is_in(batch.column("source_topic"), pa.array(meant, pa.string())))

    return _found(records, is_wanted, advance)


def find_id(records: RecordFiles, cdr_id: str, advance: Advance) -> Iterator[Found]:
    """Yield the CDRs with an id."""
    return _found(records, lambda batch: pc.equal(batch.column("cdr_id"), cdr_id), advance)


def _found(records: RecordFiles, is_wanted: Any, advance: Advance) -> Iterator[Found]:
    first = 0
    for batch in records.read():
        wanted = mask_of(is_wanted(batch))
        for place, record in zip(wanted.nonzero()[0].tolist(), filter_rows(batch, wanted).to_pylist(), strict=True):
            yield Found(SourcePartition(str(records.path), 0), first + place, None, record)
        first += batch.num_rows
        advance(batch.num_rows)

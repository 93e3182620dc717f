"""Dead letters in files: what `orion-beam run --output` and a replay write, read as if they lay on a topic."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from orion_beam.dlq.filters import LetterFilter
from orion_beam.io.files import DEAD_LETTER_DIRECTORY, DEAD_LETTER_FILE
from orion_beam.io.letter_headers import LETTER_SCHEMA, ReadLetters, without_own_headers
from orion_beam.io.output_files import RecordFiles, records_in
from orion_beam.kafka.offset_ranges import Advance
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA, DeadLetter
from orion_beam.schemas.raw import RAW_MESSAGE_SCHEMA
from orion_beam.transforms.stage.batches import batch_of, columns_of, empty_batch, filter_rows

_NO_MESSAGES = empty_batch(RAW_MESSAGE_SCHEMA)


@dataclass(frozen=True)
class FileSelection:
    """The letters of a run's output that are meant: `orion_beam.dlq.filters.Selection`, of files.

    They lie in partition 0, at the number of their row, from 0.

    Attributes:
        records: the files.
        filter: which letters.
    """

    records: RecordFiles
    filter: LetterFilter

    @classmethod
    def of(cls, path: Path, wanted: LetterFilter) -> "FileSelection":
        """Find the files of a path: one of them, their directory, or the directory that the output was written to.

        Raises:
            UserError: there are none; names the path and what it may be.
        """
        return cls(records_in(path, DEAD_LETTER_FILE, DEAD_LETTER_DIRECTORY, DeadLetter, DEAD_LETTER_SCHEMA), wanted)

    @property
    def topic(self) -> str:
        """What stands for the topic: the path."""
        return str(self.records.path)

    @property
    def offsets(self) -> int:
        """How many letters are to be read."""
        return self.records.count

    def read(self, advance: Advance | None = None, *, follow: bool = False) -> Iterator[ReadLetters]:  # noqa: ARG002
        """Yield the letters that are meant, in order. None is by reference, so there is none to `follow`.

        Raises:
            UserError: a file is cut off, or holds something else.
        """
        first = 0
        for batch in self.records.read():
            offsets = np.arange(first, first + batch.num_rows)
            letters = batch_of(
                columns_of(batch)
                | {
                    "headers": without_own_headers(batch.column("headers")),
                    "letter_partition": pa.repeat(pa.scalar(0, pa.int32()), batch.num_rows),
                    "letter_offset": pa.array(offsets, pa.int64()),
                    "reference": pa.nulls(batch.num_rows, pa.string()),
                },
                LETTER_SCHEMA,
            )
            is_meant = self.filter.matches(letters)
            if self.filter.offsets:
                low, high = self.filter.offsets.get(0, (0, 0))
                is_meant &= (offsets >= low) & (offsets < high)
            yield ReadLetters(filter_rows(letters, is_meant), _NO_MESSAGES)
            first += batch.num_rows
            if advance is not None:
                advance(batch.num_rows)

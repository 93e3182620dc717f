"""Reader of dead letters in the files of `orion-beam run --output` and of replays, as if they were on a topic."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.dlq.filters import LetterFilter
from orion_beam.errors import UserError
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
    """Selection of the dead letters in files; the counterpart of `orion_beam.dlq.filters.Selection`.

    The partition of a letter is 0, and its offset is its row number, from 0.

    Attributes:
        records: Files with the letters.
        filter: Filter that letters must match.
    """

    records: RecordFiles
    filter: LetterFilter

    @classmethod
    def of(cls, path: Path, wanted: LetterFilter) -> "FileSelection":
        """Find the files at a path: a file, the directory of the files, or the output directory of a run.

        Raises:
            UserError: There are no such files; names the path and what was expected there.
        """
        return cls(records_in(path, DEAD_LETTER_FILE, DEAD_LETTER_DIRECTORY, DeadLetter, DEAD_LETTER_SCHEMA), wanted)

    @property
    def topic(self) -> str:
        """Path of the files, which replaces the topic."""
        return str(self.records.path)

    @property
    def offsets(self) -> int:
        """Number of letters to read."""
        return self.records.count

    def read(self, advance: Advance | None = None, *, follow: bool = False) -> Iterator[ReadLetters]:  # noqa: ARG002
        """Yield the letters that match, in order. Files have no letters by reference, so `follow` has no effect.

        Raises:
            UserError: A file is cut off, or holds something else.
        """
        first = 0
        for batch in self.records.read():
            if not pc.list_value_length(batch.column("codes")).equals(pc.list_value_length(batch.column("fields"))):
                raise UserError(f"{self.records.path} holds no dead letters: one has not as many fields as codes")
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

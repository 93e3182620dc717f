"""Which dead letters have been sent back: a bit an offset, kept on the journal beside what was sent."""

import base64
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orion_beam.kafka.journal import Entry
from transforms.texts import Mask

CHUNK_OFFSETS = 1 << 16
"""Offsets of one entry: 8 KiB at most, and mostly some hundred bytes."""

_KIND = "redriven"


class Chunk(NamedTuple):
    """A part of a partition of the dead-letter topic."""

    partition: int
    number: int


class Redriven:
    """The letters of one topic that have been sent back, whoever did it.

    Entries of the journal are called after the topic's id, not its name: a topic that is deleted and made again begins
    anew at offset 0.
    """

    def __init__(self, topic_id: str, entries: Mapping[str, Entry]) -> None:
        """Take the topic's id and the journal's entries."""
        self._prefix = f"{_KIND}/{topic_id}/"
        self._marks: dict[Chunk, npt.NDArray[np.bool_]] = {}
        for key, entry in entries.items():
            if key.startswith(self._prefix):
                partition, number = map(int, key.removeprefix(self._prefix).split("/"))
                self._marks[Chunk(partition, number)] = _unpacked(entry["bits"])

    def holds(self, letters: pa.RecordBatch) -> Mask:
        """Say which rows of `orion_beam.dead_letters.LETTER_SCHEMA` have been sent back."""
        mask = np.zeros(letters.num_rows, np.bool_)
        for chunk, rows, places in _chunks_of(letters):
            if chunk in self._marks:
                mask[rows] = self._marks[chunk][places]
        return mask

    def with_letters(self, letters: pa.RecordBatch) -> tuple[dict[Chunk, npt.NDArray[np.bool_]], dict[str, Entry]]:
        """Return the chunks that change when letters are sent, and their entries; nothing is noted before `note`."""
        changed = {}
        for chunk, _, places in _chunks_of(letters):
            marks = self._marks.get(chunk, np.zeros(CHUNK_OFFSETS, np.bool_)).copy()
            marks[places] = True
            changed[chunk] = marks
        entries: dict[str, Entry] = {
            f"{self._prefix}{chunk.partition}/{chunk.number}": {"kind": _KIND, "bits": _packed(marks)}
            for chunk, marks in changed.items()
        }
        return changed, entries

    def note(self, changed: Mapping[Chunk, npt.NDArray[np.bool_]]) -> None:
        """Take in what has been committed."""
        self._marks.update(changed)


def _chunks_of(letters: pa.RecordBatch) -> list[tuple[Chunk, npt.NDArray[np.intp], npt.NDArray[np.int64]]]:
    """Return each chunk that letters lie in, their rows, and their places in it."""
    partitions = letters.column("letter_partition").to_numpy()
    offsets = letters.column("letter_offset").to_numpy()
    numbers, places = np.divmod(offsets, CHUNK_OFFSETS)
    found = []
    for partition, number in sorted(set(zip(partitions.tolist(), numbers.tolist(), strict=True))):
        rows = np.flatnonzero((partitions == partition) & (numbers == number))
        found.append((Chunk(partition, number), rows, places[rows]))
    return found


def _packed(marks: npt.NDArray[np.bool_]) -> str:
    return base64.b64encode(zlib.compress(np.packbits(marks).tobytes())).decode()


def _unpacked(bits: str) -> npt.NDArray[np.bool_]:
    packed = np.frombuffer(zlib.decompress(base64.b64decode(bits)), np.uint8)
    return np.unpackbits(packed, count=CHUNK_OFFSETS).astype(np.bool_)

"""ReportSequenceGaps: logs and counts the findings of DetectSequenceGaps, and writes those of a file run to a file."""

import json
import logging

import apache_beam as beam

from orion_beam.config import FileSink, FileSource, JobConfig
from orion_beam.transforms.record_checks.gaps import DetectSequenceGaps, SequenceGap
from orion_beam.transforms.stage.counters import count

GAP_FILE = "sequence_gaps.jsonl"
SEQUENCE_GAP = "sequence_gap"
"""Name of the counter of findings, by country and kind. A finding about several records adds their number."""

_logger = logging.getLogger(__name__)


class _ReportFn(beam.DoFn):  # type: ignore[misc]
    def process(self, gap: SequenceGap) -> list[str]:
        where = {"event": SEQUENCE_GAP, "country": gap.country}
        _logger.warning("sequence gap: %s node %s: %s %d to %d, %d records", *gap, extra=where)
        count(SEQUENCE_GAP, gap.country, gap.kind, gap.records or 1)
        return [json.dumps(gap._asdict())]


class ReportSequenceGaps(beam.PTransform):  # type: ignore[misc]
    """Reports sequence gaps: it logs and counts each, and writes it to `GAP_FILE` if the job writes files.

    In: `pa.RecordBatch` of `cdr.NORMALIZED_SCHEMA`, left unchanged. A gap is reported at least once.
    """

    def __init__(self, config: JobConfig) -> None:
        """Keep the job's sink and tolerance. A run over files has no tolerance: it waits until its end."""
        super().__init__()
        self.tolerance_s = None if isinstance(config.source, FileSource) else config.gap_tolerance_s
        self.sink = config.sink

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Detect and report the gaps."""
        gaps = batches | "DetectSequenceGaps" >> DetectSequenceGaps(self.tolerance_s)
        lines = gaps | "Report" >> beam.ParDo(_ReportFn()).with_output_types(str)
        if not isinstance(self.sink, FileSink):
            return lines
        path = str(self.sink.directory / GAP_FILE)
        return lines | "WriteGaps" >> beam.io.WriteToText(path, shard_name_template="")

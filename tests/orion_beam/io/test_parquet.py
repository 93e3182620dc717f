"""Parquet files by partition: every row once, its partition in the path."""

from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.dataset as ds
from apache_beam.testing import test_pipeline as beam_testing

from orion_beam.io.parquet import WriteParquet, _WriteFn


def test_rows_are_written_by_country_and_day(tmp_path: Path) -> None:
    batches = [
        pa.record_batch({"n": [1, 2, 3], "country": ["FR"] * 3, "day": ["1", "2", "1"]}),
        pa.record_batch({"n": [4], "country": ["TN"], "day": ["1"]}),
        pa.record_batch({"n": [5], "country": ["FR"], "day": ["1"]}),
    ]
    with beam_testing.TestPipeline() as pipeline:
        created = pipeline | beam.Create(batches, reshuffle=False).with_output_types(pa.RecordBatch)
        created | WriteParquet(tmp_path, ("country", "day"))

    paths = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")}
    assert paths == {"country=FR/day=1", "country=FR/day=2", "country=TN/day=1"}
    read = ds.dataset(tmp_path, format="parquet", partitioning="hive").to_table().to_pylist()
    assert sorted((row["n"], row["country"], row["day"]) for row in read) == [
        (1, "FR", 1), (2, "FR", 2), (3, "FR", 1), (4, "TN", 1), (5, "FR", 1),
    ]  # fmt: skip


def test_a_bundle_that_fails_leaves_no_file_open_or_behind(tmp_path: Path) -> None:
    write = _WriteFn(tmp_path, ("country",))
    write.start_bundle()
    write.process(pa.RecordBatch.from_pylist([{"country": "FR", "n": 1}, {"country": "TN", "n": 2}]))
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    write.teardown()
    assert not list(tmp_path.rglob("*.parquet"))

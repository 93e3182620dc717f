"""A whole job with stages of the user's own, on the DirectRunner: from files to files."""

import json
from datetime import UTC, datetime
from pathlib import Path

import fastavro
import pyarrow.parquet as pq
import pytest

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.config import FileSink, FileSource, JobConfig
from orion_beam.countries import all_profiles
from orion_beam.custom_stages.code import load_stages
from orion_beam.defaults import FileFormat
from orion_beam.inspect.find_in_files import output_of
from orion_beam.job_file.stage_declaration import StageDeclaration
from orion_beam.runners.direct import run_direct
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.testing import raw_batch, rows

EARLY = """
from datetime import UTC, datetime
import pyarrow as pa
import pyarrow.compute as pc
from orion_beam.custom_stages import Reject, custom_stage, split

@custom_stage(codes={"no_cell": "the cell is not known"}, fields={"digits": int, "seen": datetime})
def early(batch):
    lengths = pc.utf8_length(batch.column("msisdn"))
    seen = pa.repeat(pa.scalar(datetime(2026, 1, 1, tzinfo=UTC), pa.timestamp("ms", "UTC")), batch.num_rows)
    out = batch.append_column("digits", lengths).append_column("seen", seen)
    return split(out, Reject("no_cell", "cell_id", pc.is_null(batch.column("cell_id"))))
"""

LATE = """
import pyarrow.compute as pc
from orion_beam.custom_stages import custom_stage, split

@custom_stage(fields={"score": float})
def late(batch, options: dict):
    score = pc.multiply(batch.column("early.digits"), options["factor"])
    return split(batch.append_column("score", score))
"""

LINES = b"".join(
    b"20801123456789%d;33612345678;;%s;;1;2;1780308000\n" % (n % 10, b"" if n % 4 == 0 else b"cell-%d" % n)
    for n in range(20)
)


@pytest.fixture
def job(tmp_path):
    directory = tmp_path / "stages"
    directory.mkdir()
    (directory / "early.py").write_text(EARLY)
    (directory / "late.py").write_text(LATE)
    (tmp_path / "fr.csv").write_bytes(LINES)

    def config(file_format=FileFormat.AVRO, **changes) -> JobConfig:
        declared = [
            StageDeclaration(name="early", after="validate"),
            StageDeclaration(name="late", after="enrich", options={"factor": 0.5}),
        ]
        return JobConfig(
            countries=("FR",),
            source=FileSource(inputs=(("FR", tmp_path / "fr.csv"),)),
            sink=FileSink(directory=tmp_path, file_format=file_format),
            **{"wire_prefix": b"", "stages": load_stages(declared, directory)} | changes,
        )

    return config


def records(path: Path) -> list[dict]:
    with path.open("rb") as file:
        return list(fastavro.reader(file))


def test_rows_go_through_rejects_are_dead_letters_and_none_is_lost(job, tmp_path):
    run_direct(job())
    final, letters = records(tmp_path / "cdr.final.avro"), records(tmp_path / "cdr.dlq.avro")
    assert [letter["source_offset"] for letter in letters] == [0, 4, 8, 12, 16]
    assert {(letter["stage"], letter["code"]) for letter in letters} == {("early", "early.no_cell")}
    assert sorted(row["source_offset"] for row in final) == [n for n in range(20) if n % 4]
    assert {(row["early"]["digits"], row["late"]["score"]) for row in final} == {(11, 5.5)}
    assert {row["early"]["seen"].isoformat() for row in final} == {"2026-01-01T00:00:00+00:00"}
    assert json.loads(job().model_dump_json())["stages"][0]["source"] == EARLY


def test_parquet_has_the_blocks_as_well(job, tmp_path):
    run_direct(job(FileFormat.PARQUET))
    final = pq.read_table(tmp_path / "cdr.final").to_pylist()
    assert len(final) == 15
    assert {(row["early"]["digits"], row["late"]["score"]) for row in final} == {(11, 5.5)}


def test_a_header_of_another_schema_is_refused(job):
    with pytest.raises(ValueError, match="fingerprint of another schema"):
        job(wire_prefix=single_object_header(avro_schema(UnifiedCdr)))


def test_the_output_is_found_with_its_fields_and_without(job, tmp_path):
    run_direct(job())
    for model in (job().final_model, UnifiedCdr):
        final, letters = output_of(tmp_path, model)
        found = [row for batch in final.read() for row in batch.to_pylist()]
        assert len(found) == 15
        assert [letter["code"] for batch in letters.read() for letter in batch.to_pylist()] == ["early.no_cell"] * 5
        assert ("late" in found[0]) == (model is not UnifiedCdr)


def test_the_chain_of_commands_does_what_the_job_does(job, tmp_path):
    run_direct(job())
    profile, stages = all_profiles()["FR"], job().stages
    chain = chain_of(profile, load_reference(), stages)
    assert list(chain) == ["decode", "validate", "early", "normalize", "enrich", "late"]
    raw = raw_batch("FR", LINES.splitlines(), timestamps=datetime.now(UTC))
    outcome = run_chain(chain, raw)
    final = {row["source_offset"]: row["late"]["score"] for row in records(tmp_path / "cdr.final.avro")}
    places = outcome.accepted.column("source_offset").to_pylist()
    assert dict(zip(places, outcome.accepted.column("late.score").to_pylist(), strict=True)) == final
    letters = [letter["code"] for letter in rows(outcome.rejected)]
    assert letters == [letter["code"] for letter in records(tmp_path / "cdr.dlq.avro")]

"""A job's jar says what it holds, and its hash depends on what the job does only."""

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orion_beam.config import JobConfig, KafkaSink, KafkaSource
from orion_beam.errors import UserError
from orion_beam.runners.cluster.job_jar import (
    MANIFEST_PATH,
    JobManifest,
    configuration_hash,
    graph_of,
    job_name,
    orion_of,
    with_parallelism,
)

OPTIONS = ["--flink_master=http://a:8081", "--environment_type=EXTERNAL", "--environment_config=localhost:50000"]


def job(**changes: Any) -> JobConfig:
    source = KafkaSource(bootstrap_servers="b:9092", group_id="g", expansion_service=changes.pop("service", None))
    return JobConfig(
        **{"countries": ("FR",), "source": source, "sink": KafkaSink(bootstrap_servers="b:9092"), "wire_prefix": None}
        | changes
    )


def test_a_job_is_named_by_group_and_countries() -> None:
    assert job_name("orion-beam", ["FR", "TN"]) == "orion-orion-beam-FR-TN"


def test_where_and_when_a_job_is_submitted_does_not_change_its_hash() -> None:
    elsewhere = ["--flink_master=http://b:8081", *OPTIONS[1:], "--savepoint_path=file:/s", "--parallelism=2"]
    assert configuration_hash(job(), OPTIONS) == configuration_hash(job(service="host:1"), elsewhere)


@pytest.mark.parametrize("changes", [{"countries": ("TN",)}, {"tag_partials": True}, {"wire_prefix": b"x"}])
def test_what_a_job_does_changes_its_hash(changes: dict[str, Any]) -> None:
    assert configuration_hash(job(), OPTIONS) != configuration_hash(job(**changes), OPTIONS)


def test_beams_options_change_the_hash() -> None:
    assert configuration_hash(job(), OPTIONS) != configuration_hash(job(), [*OPTIONS, "--parallelism=3"])


def test_a_running_job_shows_what_it_is() -> None:
    shown = {"orionVersion": "1.2.3", "orionSchemaVersion": "2", "orionCountries": "FR,TN", "parallelism": "2"}
    assert orion_of(shown) == {"version": "1.2.3", "schema_version": "2", "countries": "FR,TN"}


def test_a_file_that_is_no_job_is_refused(tmp_path: Path) -> None:
    text, other = tmp_path / "text", tmp_path / "other.jar"
    text.write_text("no jar")
    zipfile.ZipFile(other, "w").close()
    for path in (text, other):
        with pytest.raises(UserError, match=f"^{path} is no jar that `orion-beam submit --to-jar` has written$"):
            JobManifest.of(path)
    with pytest.raises(UserError, match="No such file"):
        JobManifest.of(tmp_path / "missing.jar")


def test_a_jar_at_another_parallelism_differs_in_nothing_else(tmp_path: Path) -> None:
    jar, wider = tmp_path / "job.jar", tmp_path / "wider.jar"
    options_path, pipeline_path = (f"BEAM-PIPELINE/pipeline/{name}.json" for name in ("pipeline-options", "pipeline"))
    manifest = JobManifest(
        version="1", schema_version=1, flink_version="1.19", name="orion-g-FR", group="g", countries=("FR",),
        configuration="c", workers=None, parallelism=1, written_at=datetime.now(UTC),
    )  # fmt: skip
    with zipfile.ZipFile(jar, "w") as file:
        file.writestr("org/Some.class", b"\xca\xfe")
        file.writestr(pipeline_path, "{}")
        file.writestr(options_path, json.dumps({"beam:option:parallelism:v1": "1", "beam:option:streaming:v1": True}))
        file.writestr(MANIFEST_PATH, manifest.model_dump_json())
    assert with_parallelism(jar, 4, wider).parallelism == 4
    with zipfile.ZipFile(wider) as file:
        assert file.testzip() is None
        assert sorted(file.namelist()) == sorted(["org/Some.class", pipeline_path, options_path, MANIFEST_PATH])
        assert json.loads(file.read(options_path)) == {
            "beam:option:parallelism:v1": 4,
            "beam:option:streaming:v1": True,
        }
        assert file.read("org/Some.class") == b"\xca\xfe"
    assert JobManifest.of(wider) == manifest.model_copy(update={"parallelism": 4})
    assert JobManifest.of(jar) == manifest
    assert graph_of(jar) == {}

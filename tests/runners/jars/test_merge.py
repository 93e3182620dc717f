"""Jars are merged into one: services are joined, signatures are left out, and the first of two equal names is kept."""

import zipfile
from pathlib import Path

from orion_beam.runners.jars.merge import MANIFEST, merge_jars, needed_on_cluster

SERVICE = "META-INF/services/a.B"


def jar(path: Path, **entries: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, text in entries.items():
            file.writestr(name, text)
    return path


def test_what_a_merged_jar_holds(tmp_path: Path) -> None:
    one = jar(tmp_path / "1.jar", **{MANIFEST: "one", "a/B.class": "first", SERVICE: "a.C\na.D", "META-INF/X.SF": "s"})
    two = jar(tmp_path / "2.jar", **{"a/B.class": "second", SERVICE: "a.D\n\na.E\n", "module-info.class": "m", "z": ""})
    merge_jars([one, two], tmp_path / "merged.jar", "ours")
    with zipfile.ZipFile(tmp_path / "merged.jar") as merged:
        assert {name: merged.read(name).decode() for name in merged.namelist()} == {
            MANIFEST: "ours",
            "a/B.class": "first",
            "z": "",
            SERVICE: "a.C\na.D\na.E\n",
        }
        assert merged.namelist()[0] == MANIFEST


def test_a_job_brings_beams_runner_along_and_nothing_of_flink_and_no_logger() -> None:
    jars = ["beam-runners-flink-1.19-2.70.0.jar", "flink-core-1.19.0.jar", "kafka-clients-3.9.1.jar", "slf4j-api-2.jar"]
    assert [path.name for path in needed_on_cluster(map(Path, jars))] == [jars[0], jars[2]]

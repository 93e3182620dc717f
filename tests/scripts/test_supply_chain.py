"""Lock, bill of materials, licences and advisories of what the product runs with."""

import json
import zipfile
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from scripts.advisories import affected, main, maven_order, read_advisories
from scripts.components import (
    LOCKS,
    MAVEN,
    PYPI,
    RUNTIME_LOCK,
    Component,
    java_components,
    python_components,
    runtime_components,
)
from scripts.licences import pom_licences, problems_of
from scripts.lock import SETUP, pins_of
from scripts.sbom import bom_of

DEV_LOCK = LOCKS / "dev.lock"
FASTAVRO = Component(PYPI, "fastavro", "1.13.1", ("0" * 64,), ("MIT",))
NETTY = Component(MAVEN, "io.netty:netty-handler", "4.1.100.Final", ("1" * 64,), ("Apache License, Version 2.0",))


def advisory(ecosystem: str, name: str, **entry: object) -> dict[str, object]:
    package = {"ecosystem": ecosystem, "name": name}
    return {"id": "GHSA-1", "summary": "reads too far", "affected": [{"package": package, **entry}]}


def of_range(*events: tuple[str, str]) -> list[dict[str, object]]:
    return [{"type": "ECOSYSTEM", "events": [{kind: at} for kind, at in events]}]


def test_the_locks_hold_every_pin_and_a_digest_of_each_package() -> None:
    pins = pins_of(SETUP.read_text(encoding="utf-8"))
    locked = {each.name: each for each in python_components(DEV_LOCK)}
    assert {name: locked[name].version for name in pins} == pins
    assert [each.name for each in locked.values() if not each.sha256] == []
    runtime = {each.name: each.version for each in python_components(RUNTIME_LOCK)}
    assert runtime == {name: locked[name].version for name in runtime}
    assert "pytest" in locked
    assert "pytest" not in runtime


def test_the_locks_name_no_index() -> None:
    for lock in (RUNTIME_LOCK, DEV_LOCK):
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text
        assert [line for line in text.splitlines() if line.startswith("-")] == []


def test_what_is_installed_is_what_is_locked() -> None:
    runtime = {each.name: each.version for each in python_components(RUNTIME_LOCK)}
    assert {name: version(name) for name in runtime} == runtime


def test_no_component_is_under_copyleft() -> None:
    components = runtime_components()
    assert {each.kind for each in components} == {PYPI, MAVEN}
    assert list(problems_of(components)) == []


@pytest.mark.parametrize(
    ("licences", "is_fine"),
    [
        (("MIT",), True),
        (("Apache-2.0 OR BSD-3-Clause",), True),
        (("BSD License", "Apache Software License"), True),
        (("GPL-3.0-only",), False),
        (("MIT", "GNU Lesser General Public License v3 (LGPLv3)"), False),
        (("Mozilla Public License 2.0 (MPL 2.0)",), False),
        (("AGPL-3.0",), False),
        (("Business Source License 1.1",), False),
        (("Own words",), False),
        ((), False),
    ],
)
def test_copyleft_and_what_is_unknown_is_told(licences: tuple[str, ...], is_fine: bool) -> None:
    component = Component(PYPI, "new", "1.0", (), licences)
    assert bool(list(problems_of([component]))) is not is_fine


def test_a_pom_without_a_licence_has_that_of_its_parent(tmp_path: Path) -> None:
    def pom(name: str, text: str) -> None:
        path = tmp_path / "org" / "x" / name / "1" / f"{name}-1.pom"
        path.parent.mkdir(parents=True)
        path.write_text(f'<project xmlns="http://maven.apache.org/POM/4.0.0">{text}</project>')

    place = "<groupId>org.x</groupId><artifactId>above</artifactId><version>1</version>"
    pom("below", f"<parent>{place}</parent>")
    pom("above", "<licenses><license><name>EPL 2.0</name></license><license><url>http://mit</url></license></licenses>")
    assert pom_licences(tmp_path, "org.x:below:1") == ["EPL 2.0", "http://mit"]
    with pytest.raises(SystemExit, match=r"other-1\.pom is not in Maven's local repository"):
        pom_licences(tmp_path, "org.x:other:1")


def test_the_bill_of_materials_names_every_component_and_is_the_same_each_time() -> None:
    components = runtime_components()
    text = bom_of(components)
    assert text == bom_of(components)
    bom = json.loads(text)
    assert (bom["bomFormat"], bom["specVersion"], bom["metadata"]["component"]["name"]) == (
        "CycloneDX",
        "1.6",
        "orion-beam",
    )
    purls = {each["purl"] for each in bom["components"]}
    assert len(purls) == len(components)
    assert {"pkg:pypi/apache-beam@2.70.0", "pkg:maven/org.slf4j/slf4j-api@2.0.16"} <= purls
    assert all(
        each["hashes"] and each["licenses"] for each in bom["components"] if each["purl"].startswith("pkg:maven")
    )


@pytest.mark.parametrize(
    ("entry", "is_hit"),
    [
        (advisory("PyPI", "FastAvro", versions=["1.13.1"]), True),
        (advisory("PyPI", "fastavro", ranges=of_range(("introduced", "0"), ("fixed", "1.13.2"))), True),
        (advisory("PyPI", "fastavro", ranges=of_range(("introduced", "0"), ("fixed", "1.13.1"))), False),
        (advisory("PyPI", "fastavro", ranges=of_range(("introduced", "0"), ("last_affected", "1.13.1"))), True),
        (advisory("PyPI", "fastavro", ranges=of_range(("introduced", "1.14"))), False),
        (
            advisory("Maven", "io.netty:netty-handler", ranges=of_range(("introduced", "4.1.0"), ("fixed", "4.1.118"))),
            True,
        ),
        (
            advisory("Maven", "io.netty:netty-handler", ranges=of_range(("introduced", "4.2"), ("fixed", "4.2.1"))),
            False,
        ),
        (
            advisory("Maven", "io.netty:netty-handler", ranges=of_range(("introduced", "0"), ("fixed", "4.1.100"))),
            False,
        ),
        (advisory("npm", "fastavro", versions=["1.13.1"]), False),
        (advisory("PyPI", "fastavro", versions=["1.13.1"]) | {"withdrawn": "2026-01-01T00:00:00Z"}, False),
    ],
)
def test_an_advisory_concerns_the_versions_that_it_names(entry: dict[str, object], is_hit: bool) -> None:
    assert bool(affected([FASTAVRO, NETTY], [entry])) is is_hit


def test_maven_versions_are_in_mavens_order() -> None:
    ordered = ["1-alpha-1", "1-beta", "1.0-rc1", "1.0-rc2", "1.0", "1.0-jre", "1.0.1", "1.2.0.Final", "1.10"]
    assert all(maven_order(before) < maven_order(after) for before, after in pairwise(ordered))
    assert maven_order("1") == maven_order("1.0.0") == maven_order("1.0.Final")


def test_the_check_reads_a_database_of_osv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beam = next(each for each in python_components(RUNTIME_LOCK) if each.name == "apache-beam")
    of_java = advisory("Maven", "org.nowhere:nothing", versions=["1"])
    database = tmp_path / "all.zip"
    with zipfile.ZipFile(database, "w") as archive:
        archive.writestr("GHSA-1.json", json.dumps(advisory("PyPI", beam.name, versions=[beam.version])))
        archive.writestr("GHSA-2.json", json.dumps(of_java))
    assert len(list(read_advisories(database))) == 2
    assert main([str(database)]) == 1
    assert capsys.readouterr().out == f"apache-beam {beam.version}: GHSA-1: reads too far\n"
    one = tmp_path / "one.json"
    one.write_text(json.dumps([of_java]))
    assert main([str(one)]) == 2
    assert "the files have no advisory of PyPI" in capsys.readouterr().err
    assert main([]) == 2
    assert main([str(tmp_path / "nowhere.zip")]) == 2


def test_every_jar_has_a_licence() -> None:
    assert [str(each) for each in java_components() if not each.licences] == []
    assert canonicalize_name("PyYAML") in {each.name for each in python_components(RUNTIME_LOCK)}

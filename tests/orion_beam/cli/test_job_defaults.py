"""Commands take from the job file what the command line does not give."""

import json
from pathlib import Path

import fastavro
import pytest

from orion_beam.job_file.options import WITHOUT_JOB

RECORD = "208011234567890;+33612345678;;FR-PAR-001;LTE;10;20;2026-01-02T03:04:05Z\n"
JOB = """\
version: 1
brokers: broker.invalid:9092
countries: [FR]
group: nightly
publish: [validated]
record_checks: {tag_partials: true, flag_duplicates: true, gap_tolerance: 5m}
stages:
  - {name: keep, after: validate}
flink: {parallelism: 3}
"""
STAGE = """\
from orion_beam.custom_stages import split


def keep(batch):
    return split(batch)
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    def of(job=JOB):
        (tmp_path / "stages").mkdir()
        (tmp_path / "stages" / "keep.py").write_text(STAGE)
        (tmp_path / "orion.yaml").write_text(job)
        (tmp_path / "fr.csv").write_text(RECORD * 2)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return of


def graph(answer):
    assert answer.code == 0, answer.err
    return answer.out


def test_a_stream_is_that_of_the_file(orion_beam, workspace):
    workspace()
    shown = graph(orion_beam("run", "--dry-run", "--json"))
    assert all(word in shown for word in ("TagPartials", "FlagDuplicates", "cdr.validated", "cdr.raw.FR", "keep"))
    assert not any(word in shown for word in ("cdr.raw.TN", "ReportSequenceGaps"))


def test_the_command_line_overrides_the_file(orion_beam, workspace):
    workspace()
    shown = graph(orion_beam("run", "--dry-run", "--json", "--no-tag-partials", "--countries", "TN"))
    assert "FlagDuplicates" in shown
    assert "cdr.raw.TN" in shown
    assert not any(word in shown for word in ("TagPartials", "cdr.raw.FR"))


def test_files_go_through_the_jobs_checks_and_stages_and_no_broker_is_asked(orion_beam, workspace):
    workspace()
    answer = orion_beam("run", "--input", "FR=fr.csv", "--output", "out", "--json")
    assert answer.code == 0, answer.err
    with Path("out/cdr.final.avro").open("rb") as file:
        first, second = fastavro.reader(file)
    assert (first["duplicate_of"], second["duplicate_of"]) == (None, "fr.csv[0]@0")


@pytest.mark.parametrize("command", [("audit",), ("run", "--dry-run"), ("topics", "plan"), ("replay", "--last", "6h")])
def test_an_error_names_the_line_that_gives_the_value(orion_beam, workspace, command):
    workspace("version: 1\nbrokers: broker.invalid:9092\ncountries: [FR, XX]\n")
    code, _, err = orion_beam(*command)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("orion-beam: error: orion.yaml:3: countries: unknown country 'XX': known are ")


def test_an_option_of_flink_that_does_not_exist_is_named_with_its_line(orion_beam, workspace):
    workspace("version: 1\nbrokers: broker.invalid:9092\nflink:\n  options: {max_bundl_size: 3}\n")
    code, _, err = orion_beam("doctor")
    assert (code, err.count("\n")) == (2, 1)
    assert "orion.yaml:3: flink: Beam has no option --max_bundl_size: did you mean --max_bundle_size?" in err


def test_a_broken_file_stops_a_command_before_anything_but_no_help(orion_beam, workspace):
    workspace("version: 1\ngrup: x\n")
    assert orion_beam("run", "--help").code == 0
    assert orion_beam("dlq", "retest", "-h").code == 0
    code, _, err = orion_beam("dlq", "stats")
    assert (code, err) == (2, "orion-beam: error: orion.yaml:2: grup: there is no such key; did you mean group?\n")


def test_generated_records_do_not_go_to_the_jobs_brokers_unasked(orion_beam, workspace):
    made = workspace() / "made"
    assert orion_beam("generate", "--count", "3", "--output", made).code == 0
    assert [path.stem[:2].upper() for path in made.iterdir()] == ["FR"]


def test_the_rules_of_a_country_are_the_jobs(orion_beam, workspace):
    workspace("version: 1\nrules:\n  FR: {luhn_failed: error}\n")
    listed = {rule["id"]: rule for rule in json.loads(orion_beam("rules", "--country", "FR", "--json").out)}
    assert listed["luhn_failed"]["severity"] == "error"


def test_a_command_for_this_machines_own_kafka_takes_nothing_from_the_file(orion_beam, workspace, monkeypatch):
    workspace()
    for name, value in WITHOUT_JOB.items():
        monkeypatch.setenv(name, value)
    code, _, err = orion_beam("run", "--dry-run")
    assert code == 2
    assert "nothing to read: give --input" in err
    shown = graph(orion_beam("run", "--bootstrap-servers", "localhost:1", "--dry-run", "--json"))
    assert not any(word in shown for word in ("TagPartials", "cdr.validated", "keep"))


def test_doctor_looks_at_the_jobs_stages(orion_beam, workspace):
    workspace("version: 1\nstages:\n  - {name: keep, after: validate}\n  - {name: lost, after: validate}\n")
    checks = {check["name"]: check for check in json.loads(orion_beam("doctor", "--json").out)["checks"]}
    assert checks["stages"]["status"] == "failed"
    assert "lost" in checks["stages"]["found"]


@pytest.mark.parametrize(
    ("command", "works"),
    [
        (("run", "--input", "FR=fr.csv", "--output", "out"), True),
        (("run", "--dry-run"), True),
        (("rules", "--country", "FR"), True),
        (("config", "show", "audit"), True),
        (("audit",), False),
        (("dlq", "stats"), False),
    ],
)
def test_a_secret_is_needed_only_where_kafka_is_asked(orion_beam, workspace, command, works):
    workspace("version: 1\nbrokers: broker.invalid:9092\nlogin:\n  sasl.password: ${NO_SUCH_VARIABLE}\n")
    code, _, err = orion_beam(*command)
    assert code == (0 if works else 2), err
    says = "orion.yaml:4: login: sasl.password is not known, since the environment has no variable NO_SUCH_VARIABLE"
    assert (says in err) is not works


def test_the_address_of_the_monitor_is_not_that_of_the_worker_pool(orion_beam, workspace):
    workspace('version: 1\nbrokers: b:1\nmetrics: {listen: "0.0.0.0:9310", port: 9311}\n')
    assert "0.0.0.0:9310" in graph(orion_beam("config", "show", "monitor"))
    shown = graph(orion_beam("config", "show", "workers"))
    assert not any(port in shown for port in ("9310", "9311"))

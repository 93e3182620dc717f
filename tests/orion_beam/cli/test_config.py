"""`config show` and `schema job`."""

import json

import pytest

from orion_beam.job_file.model import JobFile
from orion_beam.kafka import CONFIG_VARIABLE


def test_each_value_is_shown_with_where_it_comes_from(orion_beam, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orion.yaml").write_text("version: 1\nflink:\n  parallelism: 3\nlogin: a.properties\n")
    code, out, _ = orion_beam("config", "show", "--json")
    shown = {each["key"]: each for each in json.loads(out)}
    assert code == 0
    assert shown["workspace"]["value"] == str(tmp_path)
    assert shown["flink.parallelism"] == {"key": "flink.parallelism", "value": 3, "source": "orion.yaml:3"}
    assert shown["login"]["source"] == "orion.yaml:4"
    assert shown["group"] == {"key": "group", "value": "orion-beam", "source": "default"}
    monkeypatch.setenv(CONFIG_VARIABLE, "b.properties")
    lines = orion_beam("config", "show").out.splitlines()
    assert [line.split() for line in lines if line.startswith("login")] == [
        ["login", f"{tmp_path}/b.properties", "environment", CONFIG_VARIABLE]
    ]


def test_names_are_shown_as_commands_use_them(orion_beam, tmp_path, monkeypatch):
    # Restored after the test: the options set both.
    monkeypatch.setenv("ORION_WORKSPACE", "")
    monkeypatch.setenv("ORION_TOPIC_PREFIX", "")
    (tmp_path / "orion.yaml").write_text("version: 1\ntopics: {prefix: staging., final: unified}\n")
    arguments = ("--workspace", tmp_path, "--topic-prefix", "prod.", "config", "show", "--json")
    shown = {each["key"]: (each["value"], each["source"]) for each in json.loads(orion_beam(*arguments).out)}
    assert shown["topics.prefix"] == ("prod.", "option --topic-prefix")
    assert shown["topics.final"] == ("prod.unified", f"{tmp_path / 'orion.yaml'}:2")
    assert shown["topics.dead_letters"] == ("prod.cdr.dlq", "default")
    (tmp_path / "topics.yaml").write_text("topics:\n  dead_letters:\n    name: rejects\n")
    for command in ((), ("audit", "--bootstrap-servers", "localhost:1")):
        answer = orion_beam(*arguments[:-1], "--json", *command)
        key = "--dead-letter-topic" if command else "topics.dead_letters"
        (found,) = [each for each in json.loads(answer.out) if each["key"] == key]
        assert (found["value"], found["source"]) == ("prod.rejects", f"{tmp_path / 'topics.yaml'}:3")
    assert shown["group"] == ("prod.orion-beam", "default")


def test_options_are_told_from_the_environment(orion_beam, tmp_path, monkeypatch):
    (tmp_path / "orion.yaml").write_text("version: 1\n")
    # Restored after the test: the options set both.
    monkeypatch.setenv("ORION_WORKSPACE", "")
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    options = ("--workspace", tmp_path, "--kafka-config", tmp_path / "c.properties")
    shown = {each["key"]: each for each in json.loads(orion_beam(*options, "config", "show", "--json").out)}
    assert shown["workspace"] == {"key": "workspace", "value": str(tmp_path), "source": "option --workspace"}
    assert shown["login"] == {"key": "login", "value": f"{tmp_path}/c.properties", "source": "option --kafka-config"}


def test_without_a_workspace_all_values_are_defaults(orion_beam, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = orion_beam("config", "show", "--json")
    assert code == 0
    assert {each["source"] for each in json.loads(out)[1:]} == {"default"}


def test_a_broken_job_file_is_one_line_and_exit_code_2(orion_beam, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orion.yaml").write_text("version: 1\ngrup: x\n")
    code, out, err = orion_beam("config", "show")
    assert (code, out) == (2, "")
    assert err == "orion-beam: error: orion.yaml:2: grup: there is no such key; did you mean group?\n"


def test_the_schema_is_that_of_the_model(orion_beam):
    code, out, _ = orion_beam("schema", "job")
    assert code == 0
    assert json.loads(out) == JobFile.model_json_schema()


JOB = """\
version: 1
brokers: one:9092
countries: [FR]
group: nightly
topics: {prefix: staging.}
reference: {cells: reference/cells.csv}
stages:
  - {name: mine, after: validate, options: {share: 0.5}}
flink:
  parallelism: 3
  options: {max_bundle_size: 32}
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    (tmp_path / "orion.yaml").write_text(JOB)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_paths_and_stages_are_as_they_are_used(orion_beam, workspace):
    shown = {each["key"]: each for each in json.loads(orion_beam("config", "show", "--json").out)}
    assert shown["reference.cells"]["value"] == str(workspace / "reference" / "cells.csv")
    assert shown["stages.0.options.share"] == {"key": "stages.0.options.share", "value": 0.5, "source": "orion.yaml:8"}


@pytest.mark.usefixtures("workspace")
def test_a_commands_options_are_shown_with_where_each_comes_from(orion_beam):
    answer = orion_beam("config", "show", "--json", "run", "--countries", "TN", "--", "--max_bundle_size=8")
    assert answer.code == 0, answer.err
    shown = {each["key"]: (each["value"], each["source"]) for each in json.loads(answer.out)}
    assert shown["--bootstrap-servers"] == ("one:9092", "orion.yaml:2")
    assert shown["--countries"] == ("TN", "option")
    assert shown["--group-id"] == ("staging.nightly", "orion.yaml:4")
    assert shown["--reference-refresh"] == ("300s", "default")
    assert shown["-- --parallelism"] == ("3", "orion.yaml:10")
    assert shown["-- --max_bundle_size"] == ("8", "option")


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("command", [("topics", "plan"), ("dlq", "stats"), ("replay", "diff"), ("audit",), ("top",)])
def test_so_are_those_of_commands_within_commands(orion_beam, command):
    answer = orion_beam("config", "show", "--json", *command)
    assert answer.code == 0, answer.err
    shown = {each["key"]: (each["value"], each["source"]) for each in json.loads(answer.out)}
    assert shown["--bootstrap-servers"] == ("one:9092", "orion.yaml:2")


@pytest.mark.usefixtures("workspace")
def test_a_command_that_does_not_exist_is_named(orion_beam):
    code, _, err = orion_beam("config", "show", "frob")
    assert (code, err.count("\n")) == (2, 1)
    assert "there is no command frob" in err

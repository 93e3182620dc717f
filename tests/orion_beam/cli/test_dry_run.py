"""`orion-beam run --dry-run`: the graph of a job, without a broker, jars or output."""

import json
import re
from functools import partial

import pytest

from orion_beam.cli import run as run_module
from orion_beam.cli.shared import stream as stream_module
from orion_beam.kafka import admin

BROKERS = ("--bootstrap-servers", "localhost:1")


@pytest.fixture
def dry_run(orion_beam, monkeypatch):
    """Call the command, and fail if it asks a broker or a registry, or builds jars."""

    def is_not_called(*_: object, **__: object) -> None:
        raise AssertionError("a dry run starts nothing")

    for name in ("ensure_jars", "submit_and_stay", "run_flink", "run_direct"):
        monkeypatch.setattr(run_module, name, is_not_called)
    for name in ("start_checks", "loss_checks", "await_free"):
        monkeypatch.setattr(stream_module, name, is_not_called)
    monkeypatch.setattr(admin, "AdminClient", is_not_called)
    monkeypatch.setattr("orion_beam.cli.shared.options.register_schema", is_not_called)
    return partial(orion_beam, "run", "--dry-run")


def graph_of(answer) -> dict:
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def edges_of(graph: dict, *, rejects: bool) -> list[tuple[str, str]]:
    return [(edge["source"], edge["target"]) for edge in graph["edges"] if edge["rejects"] is rejects]


def test_a_stream_shows_steps_topics_and_schemas(dry_run):
    options = ("--countries", "FR,SN", "--publish", "validated", "--flag-duplicates", "--detect-gaps")
    graph = graph_of(dry_run(*BROKERS, *options, "--json"))
    assert [(step["name"], step["stage"]) for step in graph["steps"]] == [
        ("ReadRawCdrs", None),
        ("DecodeCdrs", "decode"),
        ("JoinCountries", None),
        ("ValidateCdrs", "validate"),
        ("Publish cdr.validated", "encode"),
        ("NormalizeCdrs", "normalize"),
        ("ReportSequenceGaps", None),
        ("FlagDuplicates", "enrich"),
        ("EnrichCdrs", "enrich"),
        ("EncodeCdrs", "encode"),
        ("WriteCdrs", None),
        ("FlattenDeadLetters", None),
        ("WriteDeadLetters", None),
    ]
    assert [(place["name"], place["use"], place["schema"]) for place in graph["endpoints"]] == [
        ("cdr.raw.FR", "read", "raw CDRs of FR"),
        ("cdr.raw.SN", "read", "raw CDRs of SN"),
        ("cdr.validated", "written", "orion.cdr.ValidatedCdr"),
        ("cdr.final", "written", "orion.cdr.UnifiedCdr"),
        ("cdr.dlq", "written", "orion.cdr.DeadLetter"),
    ]
    assert "sn_key_value" in graph["endpoints"][1]["values"]
    rejecting = {step["name"] for step in graph["steps"] if step["stage"]}
    assert {source for source, target in edges_of(graph, rejects=True) if target == "FlattenDeadLetters"} == rejecting
    assert ("FlattenDeadLetters", "WriteDeadLetters") in edges_of(graph, rejects=True)
    assert ("NormalizeCdrs", "FlagDuplicates") in edges_of(graph, rejects=False)


def test_stages_of_the_workspace_stand_in_their_places(dry_run, tmp_path, monkeypatch):
    (tmp_path / "orion.yaml").write_text(
        "version: 1\nbrokers: localhost:1\ncountries: [FR]\nstages:\n  - {name: vip, after: normalize}\n"
    )
    (tmp_path / "stages").mkdir()
    code = (
        "from orion_beam.custom_stages import custom_stage, split\n\n\n@custom_stage(fields={'is_vip': bool})\n"
        "def vip(batch):\n    return split(batch)\n"
    )
    (tmp_path / "stages" / "vip.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    graph = graph_of(dry_run("--json"))
    assert {"name": "vip", "stage": "vip", "reads": [], "writes": []} in graph["steps"]
    assert {each["name"]: each["schema"] for each in graph["endpoints"]} == {
        "cdr.raw.FR": "raw CDRs of FR",
        "cdr.final": "orion.cdr.UnifiedCdr with fields of vip",
        "cdr.dlq": "orion.cdr.DeadLetter",
    }
    assert {("NormalizeCdrs", "vip"), ("vip", "EnrichCdrs")} <= set(edges_of(graph, rejects=False))


def test_a_job_behind_a_stage_reads_the_topic_of_the_stage(dry_run):
    graph = graph_of(dry_run(*BROKERS, "--countries", "FR", "--start-from", "normalized", "--json"))
    assert [step["name"] for step in graph["steps"]][:2] == ["ReadStage", "EnrichCdrs"]
    (read,) = (place for place in graph["endpoints"] if place["use"] == "read")
    assert (read["name"], read["schema"]) == ("cdr.normalized", "orion.cdr.NormalizedCdr")


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ((), "Avro single-object encoding"),
        (("--value-format", "json"), "JSON"),
        (("--schema-registry", "http://localhost:2"), "Avro in Confluent's wire format"),
    ],
)
def test_the_values_of_the_topic_are_named_without_asking_a_registry(dry_run, options, values):
    graph = graph_of(dry_run(*BROKERS, *options, "--json"))
    assert [place["values"] for place in graph["endpoints"] if place["name"] == "cdr.final"] == [values]


def test_files_are_named_and_none_is_written(dry_run, tmp_path):
    source = tmp_path / "fr.csv"
    source.write_text("x\n")
    output = tmp_path / "out"
    graph = graph_of(dry_run("--input", f"FR={source}", "--output", output, "--detect-gaps", "--json"))
    assert [(place["kind"], place["name"], place["use"]) for place in graph["endpoints"]] == [
        ("file", str(source), "read"),
        ("file", str(output / "sequence_gaps.jsonl"), "written"),
        ("file", str(output / "cdr.final.avro"), "written"),
        ("file", str(output / "cdr.dlq.avro"), "written"),
    ]
    assert not output.exists()


def test_tables_are_for_people(dry_run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    answer = dry_run(*BROKERS, "--countries", "FR")
    assert answer.code == 0
    for word in (
        "ValidateCdrs",
        "cdr.raw.FR",
        "orion.cdr.UnifiedCdr",
        "dead letters of 5 steps",
        "Nothing was started",
    ):
        assert word in answer.out


def test_graphviz_gets_every_step_topic_and_edge(dry_run, tmp_path):
    source = tmp_path / 'fr "1".csv'
    source.write_text("x\n")
    files = ("--input", f"FR={source}", "--output", tmp_path / "out")
    graph = graph_of(dry_run(*files, "--json"))
    answer = dry_run(*files, "--dot")
    assert answer.code == 0
    string = r'"((?:[^"\\]|\\.)*)"'
    nodes, edges = set(), []
    for line in answer.out.splitlines()[3:-1]:
        if edge := re.fullmatch(rf"  {string} -> {string}( \[style=dashed\])?;", line):
            edges.append((edge[1], edge[2]))
        else:
            node = re.fullmatch(rf"  {string}(?: \[shape=\w+, label={string}\])?;", line)
            assert node is not None, line
            nodes.add(node[1])
    assert len(nodes) == len(graph["steps"]) + len(graph["endpoints"])
    assert {end for edge in edges for end in edge} == nodes
    assert len(edges) == len(graph["edges"]) + len(graph["endpoints"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--dot",), "--dot goes with --dry-run"),
        (("--dry-run", "--dot", "--json"), "--dot and --json are two ways"),
        (("--dry-run", "--countries", "XX"), "unknown country 'XX'"),
        (("--dry-run", "--value-format", "confluent"), "needs --schema-registry"),
    ],
)
def test_options_are_checked_all_the_same(orion_beam, options, says):
    answer = orion_beam("run", *BROKERS, *options)
    assert answer.code == 2
    assert says in answer.err

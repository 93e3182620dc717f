"""The names of an environment: all have the prefix, and a job keeps those with which it was made."""

import pickle
from pathlib import Path

import pytest

from orion_beam.config import FileSink, JobConfig, KafkaRanges, KafkaSink
from orion_beam.countries import all_profiles, default_profiles, profiles_of
from orion_beam.errors import UserError
from orion_beam.job_file.environment import (
    PREFIX_VARIABLE,
    default_group,
    environment_name,
    topic_prefix,
    transactional_id,
)
from orion_beam.monitoring.monitor import MonitorConfig
from orion_beam.redrive.journal import journal_topic
from orion_beam.topics.catalogue import load_catalogue
from orion_beam.topics.names import own_topics, stage_topics
from orion_beam.workspace import JOB_FILE, WORKSPACE_VARIABLE


@pytest.fixture
def staging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX_VARIABLE, "staging.")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / JOB_FILE).write_text("version: 1\n")
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(tmp_path))
    return tmp_path


def job() -> JobConfig:
    return JobConfig(
        countries=("FR",),
        source=KafkaRanges(bootstrap_servers="kafka:9092", lanes=()),
        sink=KafkaSink(bootstrap_servers="kafka:9092"),
        wire_prefix=b"",
    )


def names_of(config: JobConfig) -> set[str]:
    assert isinstance(config.sink, KafkaSink)
    raw = {profile.topic for profile in config.profiles.values()}
    return {config.sink.final_topic, config.sink.dead_letter_topic, *config.stage_topics.values(), *raw}


def test_without_a_prefix_the_names_are_the_shipped_ones() -> None:
    assert (topic_prefix(), environment_name(), default_group()) == ("", "", "orion-beam")
    assert profiles_of(["FR"])["FR"].topic == "cdr.raw.FR"
    assert (own_topics().final.name, journal_topic(), transactional_id()) == (
        "cdr.final",
        "orion.audit",
        "orion-redrive",
    )


@pytest.mark.usefixtures("staging")
def test_every_name_has_the_prefix() -> None:
    topics = load_catalogue().topics_of(["FR", "SN"], "production")
    assert [topic.name for topic in topics] == [
        f"staging.{name}"
        for name in (
            "cdr.raw.FR",
            "cdr.raw.SN",
            "cdr.validated",
            "cdr.normalized",
            "cdr.enriched",
            "cdr.final",
            "cdr.dlq",
            "orion.audit",
            "orion.jobs",
        )
    ]
    monitor = MonitorConfig(bootstrap_servers="kafka:9092", group_id=default_group(), profiles=default_profiles())
    others = [profile.topic for profile in (*all_profiles().values(), *monitor.profiles.values())]
    others += [monitor.final_topic, monitor.dead_letter_topic, monitor.group_id, *stage_topics().values()]
    others += [journal_topic(), transactional_id()]
    assert all(name.startswith("staging.") for name in others), others
    assert environment_name() == "staging"


def test_a_job_keeps_the_names_with_which_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX_VARIABLE, "staging.")
    made = job()
    assert len(names_of(made)) == 6
    assert all(name.startswith("staging.cdr.") for name in names_of(made))
    # A worker on another machine, and a replay that is resumed elsewhere, have another environment.
    monkeypatch.setenv(PREFIX_VARIABLE, "prod.")
    assert names_of(pickle.loads(pickle.dumps(made))) == names_of(made)
    assert names_of(JobConfig.model_validate_json(made.model_dump_json())) == names_of(made)
    assert all(name.startswith("prod.cdr.") for name in names_of(job()))


def test_the_job_file_gives_the_prefix_and_the_variable_comes_first(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert topic_prefix() == ""
    topics = "topics: {prefix: staging., final: unified, dead_letters: cdr.rejects}"
    (workspace / JOB_FILE).write_text(f"version: 1\ngroup: nightly\n{topics}\n")
    assert (topic_prefix(), default_group()) == ("staging.", "staging.nightly")
    assert names_of(job()) >= {"staging.unified", "staging.cdr.rejects", "staging.cdr.raw.FR"}
    monkeypatch.setenv(PREFIX_VARIABLE, "prod.")
    assert topic_prefix() == "prod."
    monkeypatch.setenv(PREFIX_VARIABLE, "")
    assert topic_prefix() == ""


@pytest.mark.parametrize("prefix", ["staging ", "a/b.", "é.", "x" * 101])
def test_a_prefix_that_no_topic_may_have_is_refused(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv(PREFIX_VARIABLE, prefix)
    with pytest.raises(UserError, match=f"{PREFIX_VARIABLE}: .* is no prefix of topics"):
        topic_prefix()


def test_a_prefix_of_the_job_file_is_refused_with_its_place(workspace: Path) -> None:
    (workspace / JOB_FILE).write_text("version: 1\ntopics: {prefix: 'a b'}")
    with pytest.raises(UserError, match=rf"{JOB_FILE}:2: topics\.prefix: "):
        topic_prefix()


def test_a_workspace_changes_what_its_topics_mention(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "topics.yaml").write_text(
        "topics:\n"
        "  raw: {retention: 2d}\n"
        "  final: {name: unified, settings: {max.message.bytes: null, segment.bytes: 1048576}}\n"
        "others: [{name: cdr.repaired, partitions: 3, retention: forever, key: IMSI}]\n"
    )
    monkeypatch.setenv(PREFIX_VARIABLE, "staging.")
    raw, *named = load_catalogue().topics_of(["FR"], "production")
    assert (raw.name, raw.partitions, raw.settings["retention.ms"]) == ("staging.cdr.raw.FR", 12, "172800000")
    topics = {topic.name: topic for topic in named}
    assert topics.keys() >= {"staging.unified", "staging.cdr.repaired", "staging.cdr.dlq"}
    final = topics["staging.unified"]
    assert final.settings["segment.bytes"] == "1048576"
    assert "max.message.bytes" not in final.settings
    assert final.partitions == 12
    assert names_of(job()) >= {"staging.unified", "staging.cdr.dlq"}


def test_a_catalogue_that_gives_a_raw_topic_away_is_refused(workspace: Path) -> None:
    (workspace / "topics.yaml").write_text("topics: {final: {name: cdr.raw.FR}}")
    with pytest.raises(UserError, match=r"cdr\.raw\.FR is a country's raw topic"):
        load_catalogue().topics_of(["FR"], "production")


def test_names_of_the_job_file_are_refused_with_their_place(workspace: Path) -> None:
    (workspace / JOB_FILE).write_text("version: 1\ntopics:\n  final: cdr.dlq\n")
    with pytest.raises(UserError, match=rf"{JOB_FILE}:2: topics: topic cdr\.dlq is there twice"):
        own_topics()


def test_a_broken_catalogue_is_named_before_a_job_starts(workspace: Path) -> None:
    (workspace / "topics.yaml").write_text("topics: {finel: {}}")
    with pytest.raises(UserError, match=r"topics\.yaml:1: topics\.finel: there is no such key; did you mean final"):
        own_topics()
    with pytest.raises(UserError, match=r"topics\.yaml"):
        JobConfig(
            countries=("FR",),
            source=KafkaRanges(bootstrap_servers="kafka:9092", lanes=()),
            sink=FileSink(directory=workspace),
            wire_prefix=b"",
        )

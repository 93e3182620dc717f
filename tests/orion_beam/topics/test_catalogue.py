"""The topic catalogue: what the shipped one says, and that errors in a file are named."""

from pathlib import Path

import pytest

from orion_beam.defaults import PRODUCTION, SHIPPED_CATALOGUE
from orion_beam.errors import UserError
from orion_beam.topics.catalogue import load_catalogue
from tests.topics import CATALOGUE, raw_topic

DAY_MS = 86_400_000


def test_there_is_a_raw_topic_for_each_country_named_by_its_profile() -> None:
    topics = CATALOGUE.topics_of(["FR", "SN"], PRODUCTION)
    assert [topic.name for topic in topics] == [
        "cdr.raw.FR",
        "cdr.raw.SN",
        "cdr.validated",
        "cdr.normalized",
        "cdr.enriched",
        "cdr.final",
        "cdr.dlq",
        "orion.audit",
        "orion.jobs",
    ]


def test_topics_are_kept_for_as_long_as_they_are_needed() -> None:
    topics = {topic.name: topic for topic in CATALOGUE.topics_of(["FR"], PRODUCTION)}
    audit, jobs = topics.pop("orion.audit"), topics.pop("orion.jobs")
    assert {name: int(topic.settings["retention.ms"]) / DAY_MS for name, topic in topics.items()} == {
        "cdr.raw.FR": 7,
        "cdr.validated": 3,
        "cdr.normalized": 3,
        "cdr.enriched": 1,
        "cdr.final": 1,
        "cdr.dlq": 30,
    }
    assert {topic.partitions for topic in topics.values()} == {12}
    assert audit.settings["cleanup.policy"] == "compact"
    assert audit.settings["retention.ms"] == jobs.settings["retention.ms"] == "-1"
    assert "cleanup.policy" not in jobs.settings


@pytest.mark.parametrize(("profile", "replication", "in_sync"), [("development", 1, "1"), ("production", 3, "2")])
def test_production_survives_the_loss_of_a_broker(profile: str, replication: int, in_sync: str) -> None:
    topic = CATALOGUE.topics_of(["FR"], profile)[0]
    assert topic.replication == replication
    assert topic.settings == {
        "retention.ms": "604800000",
        "compression.type": "snappy",
        "min.insync.replicas": in_sync,
        "unclean.leader.election.enable": "false",
        "max.message.bytes": "1048588",
    }


def test_production_brokers_are_set_as_designed() -> None:
    assert CATALOGUE.profile(PRODUCTION).broker_settings == {
        "num.network.threads": "8",
        "num.io.threads": "16",
        "socket.send.buffer.bytes": "1048576",
        "socket.receive.buffer.bytes": "1048576",
        "log.retention.hours": "168",
        "log.segment.bytes": "1073741824",
        "log.retention.check.interval.ms": "300000",
    }


def test_an_unknown_country_has_no_raw_topic() -> None:
    with pytest.raises(UserError, match="unknown country 'XX'"):
        raw_topic("XX")


SHIPPED = SHIPPED_CATALOGUE.read_text()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("partitions: 1\n", "partitions: 0\n", "topics.audit.partitions: expected greater than"),
        ("partitions: 1\n", f"partitions: {1 << 40}\n", "topics.audit.partitions: expected less than"),
        ("partitions: 1\n", "partitions: many\n", "topics.audit.partitions: expected an integer"),
        ("retention: 30d", "retention: 30 days", "topics.dead_letters.retention: .*'30 days' is no duration"),
        ("retention: 30d", "retention: 30", "topics.dead_letters.retention: .*such as 12h or 7d, or forever"),
        ("cleanup.policy: compact", "retention.ms: 1", "topics.audit.settings: .*is written as `retention`"),
        ("name: cdr.final", "name: cdr final", "topics.final.name: String should match pattern"),
        ("name: cdr.final", "name: cdr.dlq", "topic cdr.dlq is there twice"),
        ("  final:", "  finel:", "topics.finel: there is no such key; did you mean final"),
        ("others: []", "others: []\nextra: 1", "extra: there is no such key; known are topics, others, profiles"),
        ("    name: cdr.final", "    name: cdr.final\n    name: cdr.other", "name is there twice"),
        (
            "min.insync.replicas: 2",
            "min.insync.replicas: 4",
            "profiles.production: .*min.insync.replicas is 4: with replication 3 nothing could be written",
        ),
        ("min.insync.replicas: 2", "min.insync.replicas: two", "profiles.production: .*min.insync.replicas is two"),
        ("topics:", "topics: !!python/object/apply:os.getpid []\nx:", "tag.*os.getpid: only plain values are read"),
        ("topics:", "topics: [", "expected .*, but got"),
        (SHIPPED, "- a list", "expected keys and values"),
    ],
)  # fmt: skip
def test_errors_name_the_file_and_the_field(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert SHIPPED.count(old) >= 1
    path = tmp_path / "mine.yaml"
    path.write_text(SHIPPED.replace(old, new, 1))
    with pytest.raises(UserError, match=f"^{path}:[0-9]+: {problem}"):
        load_catalogue(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mine.yaml.*No such file"):
        load_catalogue(tmp_path / "mine.yaml")


def test_a_catalogue_may_have_more_topics_and_profiles(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    kept = "partitions: 3, retention: forever, key: IMSI, settings: {min.insync.replicas: 1}"
    other = f"others:\n- {{name: cdr.final.replay, {kept}}}"
    staging = "\n  staging:\n    replication: 2\n    topic_settings: {min.insync.replicas: 2}\n"
    path.write_text(SHIPPED.replace("others: []", other) + staging)
    topics = {topic.name: topic for topic in load_catalogue(path).topics_of([], "staging")}
    assert topics["cdr.final.replay"].settings == {"retention.ms": "-1", "min.insync.replicas": "1"}
    assert topics["cdr.final"].replication == 2

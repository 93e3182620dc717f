"""How a cluster differs from the catalogue: what is harmless, what deletes data, and what Kafka cannot do."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orion_beam.defaults import PRODUCTION
from orion_beam.errors import UserError
from orion_beam.kafka.clients import PRODUCER_DEFAULTS
from orion_beam.topics.catalogue import Topic
from orion_beam.topics.cluster_state import ClusterState, FoundTopic
from orion_beam.topics.plan import ChangeKind, Plan, TopicChange, Unmanaged, compare
from orion_beam.topics.verify import problems_of
from tests.topics import CATALOGUE

DAY_MS = 86_400_000

WANTED = Topic(
    "cdr.final",
    partitions=12,
    replication=3,
    settings={"retention.ms": str(DAY_MS), "cleanup.policy": "delete", "min.insync.replicas": "2"},
)
FOUND = FoundTopic(
    "cdr.final",
    partitions=12,
    replication=3,
    settings={
        "retention.ms": str(DAY_MS),
        "retention.bytes": "-1",
        "cleanup.policy": "delete",
        "min.insync.replicas": "2",
        "unclean.leader.election.enable": "false",
        "max.message.bytes": "1048588",
    },
    own=frozenset({"retention.ms"}),
)


@dataclass(frozen=True)
class Holding:
    """Topics that hold records of these ages."""

    ages_ms: tuple[int, ...] = ()
    asked: list[str] = field(default_factory=list)

    def records(self, topic: str) -> int:
        self.asked.append(topic)
        return len(self.ages_ms)

    def records_older_than(self, topic: str, age_ms: int) -> int:
        self.asked.append(topic)
        return sum(age > age_ms for age in self.ages_ms)


def found_with(settings: Mapping[str, str] | None = None, **changes: Any) -> FoundTopic:
    return replace(FOUND, settings={**FOUND.settings, **(settings or {})}, **changes)


def plan(*found: FoundTopic, wanted: Topic = WANTED, holding: Holding | None = None, brokers: int = 3) -> Plan:
    cluster = ClusterState(
        {topic.name: topic for topic in found}, ("mine",), {n + 1: {"num.io.threads": "16"} for n in range(brokers)}
    )
    return compare([wanted], {"num.io.threads": "16"}, cluster, holding or Holding())


def test_a_cluster_that_agrees_needs_nothing_and_others_topics_are_left_alone() -> None:
    holding = Holding((1,))
    found = plan(FOUND, holding=holding)
    assert found.is_empty
    assert found.other_topics == ("mine",)
    assert holding.asked == []


def test_a_missing_topic_is_created() -> None:
    assert plan().creates == (WANTED,)
    assert not plan().is_empty


def test_a_topic_of_more_replicas_than_there_are_brokers_is_not_tried() -> None:
    found = plan(brokers=1)
    assert found.creates == ()
    (change,) = found.changes
    assert (change.kind, change.setting, change.before, change.after) == (
        ChangeKind.BY_HAND,
        "replication",
        "1 broker(s)",
        "3",
    )


def test_a_setting_that_drifted_is_changed_back() -> None:
    (change,) = plan(found_with({"retention.ms": "1000"})).changes
    assert change == TopicChange(ChangeKind.CHANGE, "cdr.final", "retention.ms", "1000", str(DAY_MS))


@pytest.mark.parametrize("before", ["-1", str(7 * DAY_MS)])
@pytest.mark.parametrize(
    ("ages_ms", "kind"),
    [((), ChangeKind.CHANGE), ((1000,), ChangeKind.CHANGE), ((1000, 2 * DAY_MS), ChangeKind.DANGEROUS)],
)
def test_a_lower_retention_is_dangerous_when_older_records_are_there(
    before: str, ages_ms: tuple[int, ...], kind: ChangeKind
) -> None:
    (change,) = plan(found_with({"retention.ms": before}), holding=Holding(ages_ms)).changes
    assert change.kind is kind
    assert change.reason == ("deletes 1 records that are older than 1d" if kind is ChangeKind.DANGEROUS else "")


def test_a_compacted_topic_loses_nothing_by_a_lower_retention() -> None:
    compacted = {"retention.ms": "-1", "cleanup.policy": "compact"}
    wanted = replace(WANTED, settings={"retention.ms": "1000", "cleanup.policy": "compact"})
    (change,) = plan(found_with(compacted), wanted=wanted, holding=Holding((DAY_MS,))).changes
    assert change.kind is ChangeKind.CHANGE


@pytest.mark.parametrize(
    ("setting", "before", "after", "reason"),
    [
        ("retention.bytes", "-1", "1000", "deletes the oldest records beyond this size"),
        ("retention.bytes", "1000", "-1", ""),
        ("cleanup.policy", "delete", "compact", "deletes all but the newest record of each key"),
        ("cleanup.policy", "compact", "delete", "deletes records beyond the retention"),
        ("min.insync.replicas", "2", "1", "acknowledged records are on fewer brokers, and are lost with them"),
        ("min.insync.replicas", "1", "2", ""),
        ("unclean.leader.election.enable", "false", "true", "a broker that lags behind may become leader"),
        ("unclean.leader.election.enable", "true", "false", ""),
        ("max.message.bytes", "2097152", "1048588", "larger records are refused"),
        ("max.message.bytes", "1048588", "2097152", ""),
    ],
)
def test_what_may_lose_records_is_dangerous(setting: str, before: str, after: str, reason: str) -> None:
    wanted = replace(WANTED, settings={setting: after})
    (change,) = plan(found_with({setting: before}), wanted=wanted, holding=Holding((1,))).changes
    assert change.kind is (ChangeKind.DANGEROUS if reason else ChangeKind.CHANGE)
    assert change.reason.startswith(reason)


def test_more_partitions_break_the_order_and_fewer_are_impossible() -> None:
    (more,) = plan(found_with(partitions=6)).changes
    assert (more.kind, more.before, more.after) == (ChangeKind.DANGEROUS, "6", "12")
    assert "order of each IMSI's records breaks" in more.reason
    assert "a job that reads this topic reads the new ones within a minute, from their beginning" in more.reason
    (fewer,) = plan(found_with(partitions=24)).changes
    assert fewer.kind is ChangeKind.BY_HAND
    assert "takes no partitions away" in fewer.reason


def test_replicas_and_brokers_are_changed_by_hand() -> None:
    (replicas,) = plan(found_with(replication=1)).changes
    assert (replicas.kind, replicas.before, replicas.after) == (ChangeKind.BY_HAND, "1", "3")
    cluster = ClusterState({"cdr.final": FOUND}, (), {1: {"num.io.threads": "8"}, 2: {"num.io.threads": "16"}})
    (broker,) = compare([WANTED], {"num.io.threads": "16"}, cluster, Holding()).changes
    assert (broker.kind, broker.where, broker.before, broker.after) == (ChangeKind.BY_HAND, "broker 1", "8", "16")


def test_a_topic_s_own_setting_of_which_the_catalogue_says_nothing_is_shown() -> None:
    found = plan(found_with({"retention.bytes": "1000"}, own=frozenset({"retention.ms", "retention.bytes"})))
    assert found.is_empty
    assert found.unmanaged == (Unmanaged("cdr.final", "retention.bytes", "1000"),)


def test_a_setting_that_kafka_does_not_have_is_named() -> None:
    with pytest.raises(UserError, match="cdr.final: Kafka has no setting retention.hours"):
        plan(FOUND, wanted=replace(WANTED, settings={"retention.hours": "1"}))


def problems(
    final: FoundTopic, raw: FoundTopic | None = None, letters: FoundTopic | None = None, window_ms: int = 7 * DAY_MS
) -> list[str]:
    raw = replace(raw or found_with({"retention.ms": str(7 * DAY_MS)}), name="cdr.raw.FR")
    letters = replace(letters or found_with({"max.message.bytes": "2097152"}), name="cdr.dlq")
    cluster = ClusterState({topic.name: topic for topic in (raw, final, letters)}, (), {})
    found = problems_of(cluster, ["cdr.raw.FR", "cdr.raw.TN"], "cdr.final", "cdr.dlq", window_ms)
    return [f"{problem.topic}: {problem.what}" for problem in found]


def test_topics_that_fit_together_have_no_problem() -> None:
    assert problems(FOUND) == []


def test_a_replay_must_reach_back_to_its_window() -> None:
    assert problems(FOUND, FOUND) == ["cdr.raw.FR: keeps 1d, and a replay must reach back 7d"]
    assert problems(FOUND, FOUND, window_ms=DAY_MS) == []
    assert problems(FOUND, FOUND, window_ms=-1) == ["cdr.raw.FR: keeps 1d, and a replay must reach back forever"]
    assert problems(FOUND, found_with({"retention.ms": "-1"})) == []
    limited = found_with({"retention.ms": str(7 * DAY_MS), "retention.bytes": "1000"})
    assert problems(FOUND, limited) == ["cdr.raw.FR: retention.bytes is 1000: records may be gone before 7d are over"]


def test_raw_and_final_have_equally_many_partitions() -> None:
    assert problems(found_with(partitions=6)) == ["cdr.raw.FR: has 12 partitions, and cdr.final has 6"]


def test_writing_must_be_possible_with_a_broker_down() -> None:
    assert problems(found_with({"min.insync.replicas": "3"})) == [
        "cdr.final: min.insync.replicas and replication are both 3: one broker down, and writing stops"
    ]
    assert problems(found_with({"min.insync.replicas": "4"})) == [
        "cdr.final: min.insync.replicas is 4 with replication 3: nothing can be written"
    ]
    single = found_with({"min.insync.replicas": "1"}, replication=1)
    assert problems(single) == []


@pytest.mark.parametrize(
    ("found", "wanted", "says"),
    [
        ([found_with({"min.insync.replicas": "1"}, replication=1)], WANTED, "is 2 with replication 1: nothing can be"),
        ([], replace(WANTED, replication=1), "is 2 with replication 1: nothing can be written"),
        ([], replace(WANTED, replication=2), "and replication are both 2: one broker down, and writing stops"),
    ],
)
def test_a_topic_that_could_not_be_written_to_is_warned_of_beforehand(
    found: list[FoundTopic], wanted: Topic, says: str
) -> None:
    (problem,) = plan(*found, wanted=wanted).warnings
    assert problem.topic == "cdr.final"
    assert problem.what.startswith("min.insync.replicas")
    assert says in problem.what


def test_what_each_broker_asks_of_a_new_topic_counts_where_the_catalogue_says_nothing() -> None:
    wanted = replace(WANTED, replication=1, settings={})
    (problem,) = compare([wanted], {}, ClusterState({}, (), {1: {"min.insync.replicas": "2"}}), Holding()).warnings
    assert "is 2 with replication 1" in problem.what
    assert plan(FOUND).warnings == ()


def test_the_largest_record_must_fit_into_a_dead_letter() -> None:
    assert problems(FOUND, letters=FOUND) == [
        "cdr.dlq: max.message.bytes is 1048588, and cdr.raw.FR takes 1048588: dead letters of its largest records go by"
        " reference, unless it is 1114124"
    ]
    assert problems(FOUND, letters=found_with({"max.message.bytes": "1114124"})) == []


def test_a_topic_of_cdrs_must_take_a_producer_s_batches() -> None:
    (problem,) = problems(found_with({"max.message.bytes": "500000"}))
    assert problem.startswith("cdr.final: max.message.bytes is 500000: it must be 1048576 at least")


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_compaction_would_lose_records(policy: str) -> None:
    compacted = found_with({"cleanup.policy": policy, "retention.ms": str(7 * DAY_MS), "max.message.bytes": "2097152"})
    found = problems(compacted, letters=compacted)
    assert [problem.partition(":")[0] for problem in found] == ["cdr.final", "cdr.dlq"]
    assert all("of a key's records only the newest would stay" in problem for problem in found)


def test_the_shipped_catalogue_has_no_such_problem() -> None:
    topics = {topic.name: topic for topic in CATALOGUE.topics_of(["FR"], PRODUCTION)}
    limits = {
        name: int(topic.settings["max.message.bytes"]) for name, topic in topics.items() if name.startswith("cdr.")
    }
    assert limits.pop("cdr.dlq") == PRODUCER_DEFAULTS["message.max.bytes"]
    assert set(limits.values()) == {1_048_588}

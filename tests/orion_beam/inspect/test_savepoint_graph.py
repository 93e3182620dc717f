"""What a savepoint holds of a job: the checked-in fingerprint, and which changes of the graph break savepoints.

tests/integration/test_jobs.py shows that a real Flink has operators of these ids.
"""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.coders import PickleCoder, VarIntCoder
from apache_beam.transforms.environments import ExternalEnvironment
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from orion_beam.config import JobConfig, KafkaSink, KafkaSource
from orion_beam.inspect.savepoint_graph import changes_between, drawn_graph, savepoint_graph
from orion_beam.schemas.codes import Stage
from orion_beam.transforms.record_checks.sequences import NodeSequence

FINGERPRINT = Path(__file__).parents[2] / "testdata" / "savepoint_graph" / "fingerprint.json"
NODE_SEQUENCE = FINGERPRINT.with_name("node_sequence.pickle")
"""A node whose numbers 1 to 3 and 7 have been seen, as the first version that has jobs with savepoints pickled it."""


def config(*countries: str, **options: object) -> JobConfig:
    """Return a job that is only drawn."""
    return JobConfig.model_validate(
        {
            "countries": countries,
            "source": KafkaSource(bootstrap_servers="kafka:9092", group_id="orion-beam", expansion_service=None),
            "sink": KafkaSink(bootstrap_servers="kafka:9092"),
            "wire_prefix": b"",
            **options,
        }
    )


JOBS = {
    "one country": config("FR"),
    "four countries": config("FR", "MA", "SN", "TN"),
    "all checks, all topics": config(
        "FR",
        "SN",
        detect_gaps=True,
        flag_duplicates=True,
        tag_partials=True,
        publish=(Stage.VALIDATE, Stage.NORMALIZE, Stage.ENRICH),
    ),
    "from the normalized topic": config("FR", start_from=Stage.NORMALIZE),
}


def test_golden_fingerprint_of_the_job_graph(update_golden: bool) -> None:
    """Savepoints of the last release fit this graph, or the release notes say that they do not."""
    found = {name: drawn_graph(job) for name, job in JOBS.items()}
    if update_golden:
        FINGERPRINT.write_text(json.dumps(found, indent=2) + "\n")
    kept = json.loads(FINGERPRINT.read_text())
    differences = [f"{name}: {each}" for name in found for each in changes_between(kept.get(name, {}), found[name])]
    assert not differences, "\n".join(
        [
            "the job graph has changed; if this is meant, say in the changelog what becomes of savepoints, and run"
            " `make golden`:",
            *differences,
        ]
    )
    assert kept.keys() == found.keys()


def test_what_a_running_job_remembers_of_a_node_is_still_read() -> None:
    sequence: NodeSequence = pickle.loads(NODE_SEQUENCE.read_bytes())
    assert not list(sequence.settle())
    assert [(found.kind, found.first, found.last) for found in sequence.settle()] == [("missing", 4, 6)]
    later = sequence.add(np.array([[5, 6]], np.int64), {"cdr.raw.FR[0]": 5})
    assert [(found.kind, found.first, found.last) for found in later] == [("filled", 5, 6)]


class _CountFn(beam.DoFn):  # type: ignore[misc]
    SEEN = ReadModifyWriteStateSpec("seen", VarIntCoder())

    def process(self, _: tuple[Any, int], seen: Any = beam.DoFn.StateParam(SEEN)) -> None:  # noqa: B008
        seen.write(1)


class _PickleFn(beam.DoFn):  # type: ignore[misc]
    SEEN = ReadModifyWriteStateSpec("seen", PickleCoder())

    def process(self, _: tuple[Any, int], seen: Any = beam.DoFn.StateParam(SEEN)) -> None:  # noqa: B008
        seen.write(1)


class _RenamedFn(beam.DoFn):  # type: ignore[misc]
    SEEN = ReadModifyWriteStateSpec("met", VarIntCoder())

    def process(self, _: tuple[Any, int], met: Any = beam.DoFn.StateParam(SEEN)) -> None:  # noqa: B008
        met.write(1)


def graph(
    *, key_by: str = "ToKeys", count: str = "Count", fn: beam.DoFn | None = None, key: type = str, ahead: bool = False
) -> dict[str, str]:
    """Return the graph of a small job with state."""
    pipeline = beam.Pipeline()
    words = pipeline | "Read" >> beam.Impulse()
    if ahead:
        words |= "Clean" >> beam.Map(lambda word: word)
    pairs = words | key_by >> beam.Map(lambda word: (word, 1)).with_output_types(tuple[key, int])
    pairs | count >> beam.ParDo(fn or _CountFn())
    return savepoint_graph(pipeline.to_runner_api(default_environment=ExternalEnvironment("none")))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"count": "CountWords"}, None),
        ({"ahead": True}, None),
        ({"key_by": "ByWord"}, "ToKeys.None.*is gone, or has another name.*breaks savepoints"),
        ({"fn": _PickleFn()}, "keeps other state.*pickled.*it was.*varint.*breaks savepoints"),
        ({"fn": _RenamedFn()}, "keeps other state.*state met.*it was.*state seen.*breaks savepoints"),
        ({"key": int}, "keeps other state: by key varint.*breaks savepoints"),
    ],
    ids=["the stateful step", "a step in between", "the step before", "the coder", "the state", "the key"],
)
def test_a_change_that_breaks_savepoints_is_named(changed: dict[str, Any], says: str | None) -> None:
    changes = changes_between(graph(), graph(**changed))
    if says is None:
        assert not changes
    else:
        assert changes[0].breaks
        assert re.search(says, str(changes[0]))


def test_state_that_is_new_breaks_nothing() -> None:
    without = drawn_graph(config("FR"))
    changes = changes_between(without, drawn_graph(config("FR", detect_gaps=True)))
    assert [each.breaks for each in changes] == [False]
    assert "is new and begins without state" in str(changes[0])
    assert [each.breaks for each in changes_between(drawn_graph(config("FR", detect_gaps=True)), without)] == [True]


def test_a_country_more_or_less_breaks_savepoints() -> None:
    changes = changes_between(drawn_graph(config("FR", "SN")), drawn_graph(config("FR", "SN", "TN")))
    assert [each.operator for each in changes if not each.breaks] == [
        "ReadRawCdrs/ReadKafka/Read cdr.raw.TN/ExternalTransform(orion:kafka_batches:v1)/ReadFrames"
    ]
    fewer = changes_between(drawn_graph(config("FR", "SN", "TN")), drawn_graph(config("FR", "SN")))
    assert [each.breaks for each in fewer] == [True]


def test_coders_are_described_by_their_parts() -> None:
    (state,) = [state for state in graph().values() if state.startswith("by key")]
    assert state == "by key string_utf8:v1; state seen: read_modify_write of varint:v1"

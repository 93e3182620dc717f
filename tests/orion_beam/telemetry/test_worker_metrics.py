"""What workers count, one process and several."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from orion_beam.config import KafkaSink
from orion_beam.countries import profiles_of
from orion_beam.io.write import PublishStage
from orion_beam.runners.local.broker import free_ports
from orion_beam.runners.worker_pool.exposition import DIRECTORY_VARIABLE, worker_exposition
from orion_beam.schemas.codes import Stage
from orion_beam.telemetry.worker_metrics import WorkerMetrics
from orion_beam.testing import raw_batch, run_stage
from orion_beam.transforms.decode import DecodeCdrs, decode_batch
from orion_beam.transforms.record_checks.duplicates import FlagDuplicates
from orion_beam.transforms.record_checks.partials import TagPartials
from orion_beam.transforms.stage.observing import observe
from orion_beam.transforms.validate import ValidateCdrs
from tests.integration.harness import await_until
from tests.topics import FINAL
from tests.transforms.chain import normalized

GOOD = b"208011234567890;+33612345678;;FR-PAR-001;LTE;10;20;2026-01-02T03:04:05Z"
BAD_IMSI = GOOD.replace(b"208011234567890", b"2080112345x7890")
MALFORMED = b"208011234567890;+33612345678"
TEST_IMSI = GOOD.replace(b"208011234567890", b"001011234567890")

REPOSITORY = Path(__file__).parents[2]
WORKER = """
import sys
from orion_beam.telemetry.worker_metrics import install, worker_metrics
install()
worker_metrics().produced("cdr.final", int(sys.argv[1]))
worker_metrics().flushed("cdr.final", 0.5)
for _ in range(int(sys.argv[1])):
    worker_metrics().produce_failed("cdr.final")
"""


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    made = CollectorRegistry()
    observe(WorkerMetrics(made))
    yield made
    observe(None)


def test_stages_are_counted_by_batch(registry: CollectorRegistry) -> None:
    batch = raw_batch("FR", [GOOD, GOOD, BAD_IMSI, MALFORMED, TEST_IMSI])
    profiles = profiles_of(["FR"])
    run_stage(DecodeCdrs(profiles), [batch])
    run_stage(ValidateCdrs(profiles), [decode_batch(batch, profiles["FR"]).accepted])

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("orion_records_in_total", stage="decode", country="FR") == 5
    assert value("orion_records_accepted_total", stage="decode", country="FR") == 4
    assert value("orion_records_rejected_total", stage="decode", country="FR", code="malformed_payload") == 1
    assert value("orion_records_in_total", stage="validate", country="FR") == 4
    assert value("orion_records_rejected_total", stage="validate", country="FR", code="invalid_imsi") == 1
    assert value("orion_warnings_total", country="FR", rule="test_imsi") == 1
    assert value("orion_batch_rows_sum", country="FR") == 5
    assert value("orion_stage_seconds_count", stage="decode") == 1


def test_what_stands_beside_a_stage_counts_under_its_own_name(registry: CollectorRegistry) -> None:
    profiles = profiles_of(["FR"])
    batch = normalized("FR", [GOOD, GOOD])
    run_stage(FlagDuplicates(profiles, window=10), [batch])
    run_stage(TagPartials(), [batch])
    published = PublishStage(KafkaSink(bootstrap_servers="127.0.0.1:1"), Stage.NORMALIZE, "cdr.normalized").encoded
    run_stage(published, [batch])
    samples = [sample for family in registry.collect() for sample in family.samples]
    counted = {s.labels["stage"]: s.value for s in samples if s.name == "orion_records_in_total"}
    assert counted == {"flag_duplicates": 2, "tag_partials": 2, "publish_normalize": 2}
    # Of a CDR that is published on its way, the delay is not counted a second time.
    assert not [sample for sample in samples if sample.name.startswith("orion_event_delay_seconds")]


def test_labels_are_never_of_a_record(registry: CollectorRegistry) -> None:
    run_stage(DecodeCdrs(profiles_of(["FR"])), [raw_batch("FR", [GOOD, MALFORMED])])
    labels = {value for each in registry.collect() for sample in each.samples for value in sample.labels.values()}
    assert labels
    assert not any(sum(character.isdigit() for character in label) > 8 for label in labels)


def test_without_an_observer_nothing_is_counted() -> None:
    observe(None)
    accepted, _ = run_stage(DecodeCdrs(profiles_of(["FR"])), [raw_batch("FR", [GOOD])])
    assert len(accepted) == 1


def test_one_port_serves_the_sum_over_processes_also_of_those_that_have_ended() -> None:
    (port,) = free_ports(1)
    with worker_exposition(f"127.0.0.1:{port}") as environment:
        assert _scrape(port) == {"kafka_producer_record_error_rate": 0}
        started = [_worker(environment, records) for records in (3, 4)]
        assert [process.wait() for process in started] == [0, 0]
        scraped = _scrape(port)
    assert scraped["orion_produced_records_total"] == 7
    assert scraped["orion_produce_errors_total"] == 7
    assert scraped["kafka_producer_record_error_rate"] > 0


def test_processes_that_have_ended_leave_one_file_a_kind_and_stay_counted() -> None:
    (port,) = free_ports(1)
    with worker_exposition(f"127.0.0.1:{port}") as environment:
        directory = Path(environment[DIRECTORY_VARIABLE])
        for _ in range(3):
            for started in [_worker(environment, records) for records in (3, 4)]:
                assert started.wait() == 0
            scraped = _scrape(port)
            assert sorted(path.name for path in directory.glob("*.db")) == ["counter_ended.db", "histogram_ended.db"]
        assert scraped["orion_produced_records_total"] == 3 * 7
        assert scraped["orion_produce_seconds_sum"] == 3 * 2 * 0.5
        # One that is not reaped has ended, too, and one that was killed as it began has left an empty file.
        (directory / "counter_99999999.db").touch()
        zombie = _worker(environment, 5)
        await_until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE, 600, "a worker has ended")
        assert _scrape(port)["orion_produced_records_total"] == 3 * 7 + 5
        assert sorted(path.name for path in directory.glob("*.db")) == ["counter_ended.db", "histogram_ended.db"]
        zombie.wait()


def _worker(environment: dict[str, str], records: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WORKER, str(records)]
    return subprocess.Popen(command, env=environment | {"PYTHONPATH": str(REPOSITORY)})


def _scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=600) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    labels = [sample.labels for family in families for sample in family.samples]
    assert all({name: each[name] for name in each if name != "le"} in ({}, {"topic": FINAL.name}) for each in labels)
    return {sample.name: sample.value for family in families for sample in family.samples}

"""The monitor's metrics: names, labels, numbers."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from orion_beam.monitoring.export import MonitorCollector
from orion_beam.monitoring.monitor import Monitor, Snapshot
from orion_beam.schemas.codes import Code
from tests.orion_beam.monitoring.snapshots import AT_S, FLINK, monitor, snapshot

DESIGNED = {"kafka_consumer_lag", "orion_kafka_ingestion_rate", "orion_kafka_lag_seconds", "orion_kafka_errors_total"}
"""The names of the design that the monitor itself has; workers and brokers have the others."""


def registry(watched: Monitor) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(MonitorCollector(watched))
    return made


def names(made: CollectorRegistry) -> Iterator[str]:
    return (sample.name for metric in made.collect() for sample in metric.samples)


def test_the_names_of_the_design_are_there() -> None:
    assert set(names(registry(monitor(snapshot())))) >= DESIGNED


def test_numbers_are_those_of_the_last_look() -> None:
    made = registry(monitor(snapshot(AT_S - 5), snapshot()))
    fr = {"country": "FR"}
    lag = {"group": "orion-beam", "topic": "cdr.raw.FR", "partition": "0", "country": "FR"}
    letter = {"country": "FR", "stage": "decode", "code": "malformed_payload"}
    job = {"jobmanager": FLINK, "flink_job": "cdr", "flink_job_id": "0a"}
    assert made.get_sample_value("kafka_consumer_lag", lag) == 6
    assert made.get_sample_value("orion_kafka_lag_seconds", fr) == 60
    assert made.get_sample_value("orion_kafka_data_loss_seconds", fr) == 3540
    assert made.get_sample_value("orion_kafka_errors_total", letter) == 7
    assert made.get_sample_value("orion_kafka_foreign_letters_total") == 1
    assert made.get_sample_value("orion_kafka_written_records_total", {"topic": "cdr.final"}) == 5
    assert made.get_sample_value("orion_kafka_jobs", fr) == 1
    assert made.get_sample_value("orion_kafka_unread_partitions", fr) == 0
    assert made.get_sample_value("orion_kafka_brokers") == 3
    assert made.get_sample_value("orion_flink_checkpoints_failed_total", job) == 1
    assert made.get_sample_value("orion_flink_up", {"jobmanager": "http://127.0.0.1:1"}) == 0
    assert made.get_sample_value("orion_flink_read_held_ratio", job | {"topic": "cdr.raw.FR"}) == 0.9
    assert made.get_sample_value("orion_flink_busy_ratio", job) == 1
    assert made.get_sample_value("orion_worker_sink_ratio") == 0.75
    pressed = {
        place: made.get_sample_value("orion_pressed", fr | {"place": place})
        for place in ("source", "python", "sink", "workers")
    }
    assert pressed == {"source": 0, "python": 0, "sink": 1, "workers": 0}
    assert made.get_sample_value("orion_disk_used_ratio", {"path": "/data"}) == 0.75


def test_every_kind_of_dead_letter_begins_at_zero() -> None:
    made = registry(monitor(snapshot()))
    codes = {sample.labels["code"] for metric in made.collect() for sample in metric.samples if "code" in sample.labels}
    assert codes == {code.value for code in Code}


def test_while_kafka_is_down_nothing_is_made_up() -> None:
    made = registry(monitor(snapshot(), Snapshot(at_s=AT_S + 5)))
    assert made.get_sample_value("orion_kafka_up") == 0
    assert not {name for name in names(made) if "lag" in name or "rate" in name}


def test_before_the_first_look_there_are_no_metrics() -> None:
    assert not list(names(registry(monitor())))

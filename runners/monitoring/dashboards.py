"""Grafana dashboards, as code.

    python -m orion_beam.runners.monitoring.dashboards

writes `runners/monitoring/dashboards/*.json`. Import these files into Grafana; each asks for its data source.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

DASHBOARDS_DIRECTORY = Path(__file__).parent / "dashboards"

_COLUMNS, _WIDTH, _HEIGHT = 24, 12, 8
_SOURCE = {"type": "prometheus", "uid": "${source}"}


class Panel(NamedTuple):
    """A chart over time.

    Attributes:
        title: Title of the chart.
        queries: PromQL queries by legend; a legend is a Grafana template over labels.
        unit: Grafana's name of the unit.
        width: Width in columns; a dashboard has 24.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    width: int = _WIDTH


_OF_AN_ENVIRONMENT = re.compile(r"\b(orion_\w+|kafka_consumer_lag|kafka_producer_\w+)(\{)?")
"""Metrics of jobs and monitors, to which Prometheus gives a label where environments share it; brokers are shared."""
_OF_COUNTRY = '{country=~"$country"}'

DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "overview": (
        "ORION Beam: overview",
        [
            Panel("Records arriving", {"{{country}}": "orion_kafka_ingestion_rate"}, "reqps"),
            Panel("Records processed", {"{{country}}": "orion_kafka_processing_rate"}, "reqps"),
            Panel("Lag: age of the oldest unprocessed record", {"{{country}}": "orion_kafka_lag_seconds"}, "s"),
            Panel(
                "Rejected share",
                {
                    "{{country}}": "sum by (environment, country) (rate(orion_kafka_errors_total[5m]))"
                    " / on (environment, country) (rate(orion_kafka_processed_records_total[5m]) > 0)"
                },
                "percentunit",
            ),
            Panel("Standstill", {"{{country}}": "orion_kafka_standstill_seconds"}, "s"),
            Panel("Time to data loss", {"{{country}}": "orion_kafka_data_loss_seconds"}, "s"),
        ],
    ),
    "country": (
        "ORION Beam: one country",
        [
            Panel(
                "Arriving and processed",
                {
                    "arriving": f"orion_kafka_ingestion_rate{_OF_COUNTRY}",
                    "processed": f"orion_kafka_processing_rate{_OF_COUNTRY}",
                },
                "reqps",
            ),
            Panel("Lag", {"{{country}}": f"orion_kafka_lag_seconds{_OF_COUNTRY}"}, "s"),
            Panel("Lag by partition", {"{{partition}}": f"kafka_consumer_lag{_OF_COUNTRY}"}),
            Panel("Age of the last commit", {"{{country}}": f"orion_kafka_commit_age_seconds{_OF_COUNTRY}"}, "s"),
            Panel(
                "Accepted, by stage",
                {"{{stage}}": f"sum by (stage) (rate(orion_records_accepted_total{_OF_COUNTRY}[1m]))"},
                "reqps",
            ),
            Panel(
                "Warnings, by rule",
                {"{{rule}}": f"sum by (rule) (rate(orion_warnings_total{_OF_COUNTRY}[5m]))"},
                "reqps",
            ),
            Panel(
                "Members that look like usage and are not read",
                {
                    "{{format}}.{{member}}": "sum by (format, member)"
                    f" (rate(orion_unread_members_total{_OF_COUNTRY}[5m]))"
                },
                "reqps",
            ),
            Panel(
                "Records of a batch, mean",
                {
                    "{{country}}": f"sum by (country) (rate(orion_batch_rows_sum{_OF_COUNTRY}[5m]))"
                    f" / sum by (country) (rate(orion_batch_rows_count{_OF_COUNTRY}[5m]))"
                },
            ),
            Panel(
                "Age of the newest event, median over batches",
                {
                    "{{country}}": "histogram_quantile(0.5, sum by (country, le)"
                    f" (rate(orion_event_delay_seconds_bucket{_OF_COUNTRY}[5m])))"
                },
                "s",
            ),
        ],
    ),
    "dead-letters": (
        "ORION Beam: dead letters",
        [
            Panel(
                "By code",
                {"{{code}}": f"sum by (code) (rate(orion_kafka_errors_total{_OF_COUNTRY}[5m])) > 0"},
                "reqps",
                _COLUMNS,
            ),
            Panel(
                "By country",
                {"{{country}}": f"sum by (country) (rate(orion_kafka_errors_total{_OF_COUNTRY}[5m]))"},
                "reqps",
            ),
            Panel(
                "By stage",
                {"{{stage}}": f"sum by (stage) (rate(orion_kafka_errors_total{_OF_COUNTRY}[5m]))"},
                "reqps",
            ),
            Panel(
                "Bugs of stages",
                {
                    "{{country}} {{stage}}": "increase(orion_kafka_errors_total"
                    '{country=~"$country", code=~"(.+[.])?internal_error"}[1h])'
                },
            ),
            Panel(
                "Messages that ORION Beam did not write",
                {"in an hour": "increase(orion_kafka_foreign_letters_total[1h])"},
            ),
        ],
    ),
    "health": (
        "ORION Beam: Flink, Kafka, workers",
        [
            Panel("Kafka answers, brokers", {"answers": "orion_kafka_up", "brokers": "orion_kafka_brokers"}),
            Panel(
                "Partitions in trouble",
                {
                    "lack a replica": "orion_kafka_under_replicated_partitions",
                    "without leader": "orion_kafka_leaderless_partitions",
                },
            ),
            Panel("Messages into brokers", {"{{instance}}": "kafka_broker_messages_in_per_sec"}, "reqps"),
            Panel("Bytes into brokers", {"{{instance}}": "kafka_broker_bytes_in_per_sec"}, "Bps"),
            Panel("Size of logs", {"{{topic}}": "sum by (topic) (kafka_broker_log_size_bytes)"}, "bytes"),
            Panel("Disks", {"{{path}}": "orion_disk_used_ratio"}, "percentunit"),
            Panel(
                "Checkpoints",
                {
                    "completed": "sum(increase(orion_flink_checkpoints_completed_total[5m]))",
                    "failed": "sum(increase(orion_flink_checkpoints_failed_total[5m]))",
                    "restarts": "sum(increase(orion_flink_restarts_total[5m]))",
                },
            ),
            Panel(
                "Held up, by place",
                {"{{country}}: {{place}}": "avg_over_time(orion_pressed[1m])"},
                "percentunit",
            ),
            Panel(
                "Reads held back, workers busy",
                {
                    "read of {{topic}}": "orion_flink_read_held_ratio",
                    "workers of {{flink_job}}": "orion_flink_busy_ratio",
                },
                "percentunit",
            ),
            Panel(
                "Threads of workers in stages, and waiting for brokers",
                {
                    "in {{stage}}": "sum by (stage) (rate(orion_stage_seconds_sum[1m]))",
                    "for {{topic}}": "sum by (topic) (rate(orion_produce_wait_seconds_total[1m]))",
                },
            ),
            Panel(
                "Waiting for brokers, part of the workers' time", {"waiting": "orion_worker_sink_ratio"}, "percentunit"
            ),
            Panel("Checkpoint duration", {"{{flink_job}}": "orion_flink_checkpoint_duration_seconds"}, "s"),
            Panel(
                "Time of a stage for a batch, p95",
                {"{{stage}}": "histogram_quantile(0.95, sum by (stage, le) (rate(orion_stage_seconds_bucket[5m])))"},
                "s",
            ),
            Panel(
                "Until the broker has acknowledged a bundle, p95",
                {"{{topic}}": "histogram_quantile(0.95, sum by (topic, le) (rate(orion_produce_seconds_bucket[5m])))"},
                "s",
            ),
            Panel("Records refused by brokers", {"a second": "kafka_producer_record_error_rate"}, "reqps"),
            Panel(
                "Records produced",
                {"{{topic}}": "sum by (topic) (rate(orion_produced_records_total[1m]))"},
                "reqps",
            ),
        ],
    ),
}


def dashboard(name: str) -> str:
    """Return a dashboard as Grafana's JSON."""
    title, panels = DASHBOARDS[name]
    variables: list[dict[str, Any]] = [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        # The pattern for all also matches where there is no such label.
        _label_variable("environment", "label_values(orion_kafka_up, environment)") | {"allValue": ".*"},
    ]
    if any("$country" in query for panel in panels for query in panel.queries.values()):
        variables.append(_label_variable("country", "label_values(orion_kafka_ingestion_rate, country)"))
    made = {
        "uid": f"orion-beam-{name}",
        "title": title,
        "tags": ["orion-beam"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "panels": _laid_out(panels),
    }
    return json.dumps(made, indent=2) + "\n"


def _label_variable(name: str, query: str) -> dict[str, Any]:
    return {
        **{"name": name, "label": name.capitalize(), "type": "query", "datasource": _SOURCE, "query": query},
        **{"refresh": 2, "includeAll": True, "multi": True, "current": {"text": "All", "value": "$__all"}},
    }


def _of_environment(query: str) -> str:
    """Return a query with the chosen environments as a condition of each metric that has one."""
    return _OF_AN_ENVIRONMENT.sub(
        lambda found: f'{found[1]}{{environment=~"$environment"{", " if found[2] else "}"}', query
    )


def _laid_out(panels: list[Panel]) -> list[dict[str, Any]]:
    made, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > _COLUMNS:
            x, y = 0, y + _HEIGHT
        made.append(
            {
                "id": number,
                "type": "timeseries",
                "title": panel.title,
                "datasource": _SOURCE,
                "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHT},
                "fieldConfig": {
                    "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 8}},
                    "overrides": [],
                },
                "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
                "targets": [
                    {
                        "refId": chr(65 + place),
                        "expr": _of_environment(query),
                        "legendFormat": legend,
                        "datasource": _SOURCE,
                    }
                    for place, (legend, query) in enumerate(panel.queries.items())
                ],
            }
        )
        x += panel.width
    return made


if __name__ == "__main__":
    DASHBOARDS_DIRECTORY.mkdir(exist_ok=True)
    for each in DASHBOARDS:
        (DASHBOARDS_DIRECTORY / f"{each}.json").write_text(dashboard(each), encoding="utf-8")

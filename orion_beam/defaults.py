"""Default values and choices of command options. `--help` shows them, so this module imports nothing slow."""

from enum import StrEnum
from pathlib import Path

_PACKAGE = Path(__file__).parent

PROFILES_DIRECTORY = _PACKAGE / "profiles"
SKELETON_DIRECTORY = _PACKAGE / "skeleton"
SHIPPED_CATALOGUE = _PACKAGE / "topics" / "catalogue.yaml"
REFERENCE_DIRECTORY = _PACKAGE / "reference"
CELLS = str(REFERENCE_DIRECTORY / "cells.csv")
SUBSCRIBERS = str(REFERENCE_DIRECTORY / "subscribers.parquet")

DEVELOPMENT = "development"
PRODUCTION = "production"
"""Profiles of the shipped catalogue."""

GROUP = "orion-beam"
"""Consumer group of a job, without the topic prefix."""

BROKER_PORT = 9092
WORKERS_PORT = 9311
"""Ports of a local Kafka's first broker and of the metrics of a local job's workers."""

METRICS_TOKEN_VARIABLE = "ORION_METRICS_TOKEN_FILE"
"""Environment variable with the path of the token of metrics and status pages."""

MAX_PARALLELISM = 32_768
"""Flink's upper bound of parallelism."""

DUPLICATE_WINDOW = 1_000_000
MAX_DUPLICATE_WINDOW = 100_000_000
"""Rows among which FlagDuplicates looks. A row takes 84 bytes, so the maximum takes 8.4 GB of a worker's memory."""


class ValueFormat(StrEnum):
    """Encoding of the values on cdr.final."""

    SINGLE_OBJECT = "single-object"
    CONFLUENT = "confluent"
    JSON = "json"


class FileFormat(StrEnum):
    """Format of output files."""

    AVRO = "avro"
    PARQUET = "parquet"


class ExportFormat(StrEnum):
    """Format of a file of exported dead letters."""

    AVRO = "avro"
    """Records of `orion.cdr.DeadLetter`. They hold the original bytes, so the export needs --reveal."""
    JSONL = "jsonl"
    """One JSON object a line: decoded and masked, or the original bytes with --reveal."""


class Role(StrEnum):
    """Role of a user on a Kafka cluster; `orion_beam.access.roles` says what each may do."""

    STREAM = "stream"
    JOBS = "jobs"
    REPLAY = "replay"
    DESK = "desk"
    MONITOR = "monitor"
    AUDIT = "audit"
    PRIVACY = "privacy"
    TOPICS = "topics"

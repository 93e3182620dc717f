"""What options are where they are not given, and what some may be: what `--help` shows, so it imports nothing heavy."""

from enum import StrEnum
from pathlib import Path

_PACKAGE = Path(__file__).parent

PROFILES_DIRECTORY = _PACKAGE / "profiles"
SHIPPED_CATALOGUE = _PACKAGE / "topics" / "catalogue.yaml"
REFERENCE_DIRECTORY = _PACKAGE / "reference"
CELLS = str(REFERENCE_DIRECTORY / "cells.csv")
SUBSCRIBERS = str(REFERENCE_DIRECTORY / "subscribers.parquet")

FINAL_TOPIC = "cdr.final"
DEAD_LETTER_TOPIC = "cdr.dlq"
"""As the shipped catalogue has them: a test compares."""

DEVELOPMENT = "development"
PRODUCTION = "production"
"""Profiles of the shipped catalogue."""

BROKER_PORT = 9092
WORKERS_PORT = 9311
"""Of a local Kafka's first broker, and of the metrics of a local job's workers."""

DUPLICATE_WINDOW = 1_000_000
MAX_DUPLICATE_WINDOW = 100_000_000
"""Rows in which duplicates are found; at 84 bytes a row, the largest takes 8.4 GB of a worker's memory."""


class ValueFormat(StrEnum):
    """How values on cdr.final are written."""

    SINGLE_OBJECT = "single-object"
    CONFLUENT = "confluent"
    JSON = "json"


class FileFormat(StrEnum):
    """How files are written."""

    AVRO = "avro"
    PARQUET = "parquet"


class ExportFormat(StrEnum):
    """What a file of dead letters is made of."""

    AVRO = "avro"
    """Records of `orion.cdr.DeadLetter`: original bytes, so it needs --reveal."""
    JSONL = "jsonl"
    """An object a line: masked and decoded or, with --reveal, the original bytes."""

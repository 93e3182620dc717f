"""The model of `orion.yaml`. A field that is left out has the default of the command's option."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from orion_beam.defaults import (
    CELLS,
    DEVELOPMENT,
    DUPLICATE_WINDOW,
    GROUP,
    MAX_DUPLICATE_WINDOW,
    MAX_PARALLELISM,
    PRODUCTION,
    SUBSCRIBERS,
    Role,
    ValueFormat,
)
from orion_beam.durations import parse_duration_s
from orion_beam.job_file.environment import PREFIX_PATTERN
from orion_beam.job_file.principals import check_principal
from orion_beam.job_file.secrets import check_secrets, refuse_secrets
from orion_beam.job_file.stage_declaration import StageDeclaration
from orion_beam.schemas.codes import Severity
from orion_beam.schemas.country import TOPIC_PATTERN
from orion_beam.sizes import parse_size_bytes
from orion_beam.telemetry.logs import LogFormat

__all__ = ["JobFile"]


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _one_or_more(value: object) -> object:
    # A principal of a certificate has commas: User:CN=orion,O=Telco.
    return [value] if isinstance(value, str) else value


def _duration(text: str) -> str:
    parse_duration_s(text)
    return text


def _size(text: str) -> str:
    parse_size_bytes(text)
    return text


def _text(value: object) -> object:
    """Convert a YAML value of a setting to the text that Kafka or Beam takes."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _address(text: str, first_port: int = 1) -> str:
    """Check an address, `host:port`; an IPv6 address stands in brackets."""
    if "@" in text:
        # The message leaves out the text, which may hold a password.
        raise ValueError("an address holds no user: write it as host:port; how to log in to Kafka stands under `login`")
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not first_port <= int(port) <= _LAST_PORT:
        raise ValueError(
            f"{text!r} is no address: write it as host:port, with a port from {first_port} to {_LAST_PORT}"
        )
    return text


def _master(text: str) -> str:
    """Check the addresses of a cluster's JobManagers. Their port may be left out."""
    for address in text.split(","):
        try:
            _ = urlsplit(address if "//" in address else f"//{address}").port if not address.startswith("[") else None
        except ValueError as error:
            raise ValueError(f"{address!r} is no address of a JobManager: {error}") from None
    return text


def _country_code(code: str) -> str:
    if not (len(code) == 2 and code.isascii() and code.isupper()):
        raise ValueError("a country is two capital letters, such as FR")
    return code


_LAST_PORT = 65535
_Address = Annotated[str, AfterValidator(_address)]
_Addresses = Annotated[tuple[_Address, ...], BeforeValidator(_split, json_schema_input_type=str | tuple[str, ...])]
_Principal = Annotated[str, AfterValidator(check_principal)]
_Principals = Annotated[
    tuple[_Principal, ...], BeforeValidator(_one_or_more, json_schema_input_type=str | tuple[str, ...])
]
_Duration = Annotated[str, BeforeValidator(_text), AfterValidator(_duration), Field(pattern=r"^[0-9]{1,9}[smhd]$")]
_Size = Annotated[str, AfterValidator(_size)]
_CountryCode = Annotated[str, AfterValidator(_country_code)]
_Listen = Annotated[str, AfterValidator(partial(_address, first_port=0))]
_SettingName = Annotated[str, Field(min_length=1)]
_StageTopic = Literal["validated", "normalized", "enriched"]
_MOST_RESTARTS = 2**31 - 1
_Setting = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int | float | bool)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TopicSettings(_Section):
    """Topics of the job."""

    prefix: str = Field(
        default="",
        pattern=PREFIX_PATTERN,
        description="put before the name of each topic and group, so that environments can share a cluster",
    )
    final: str | None = Field(
        default=None,
        pattern=TOPIC_PATTERN,
        description="topic of CDRs, without the prefix; that of the topic catalogue if none",
    )
    dead_letters: str | None = Field(default=None, pattern=TOPIC_PATTERN, description="topic of dead letters, likewise")
    profile: str = Field(
        default=PRODUCTION, description=f"profile of the topic catalogue: {DEVELOPMENT}, {PRODUCTION} or one of yours"
    )


class KafkaSettings(_Section):
    """Settings of Kafka's clients. Those that log in belong to `login`."""

    consumer: Annotated[Mapping[_SettingName, _Setting], AfterValidator(refuse_secrets)] = Field(
        default={}, description="settings of the Java consumer, by Kafka's names"
    )
    producer: Annotated[Mapping[_SettingName, _Setting], AfterValidator(refuse_secrets)] = Field(
        default={}, description="settings of librdkafka's producer, by its names"
    )


class ReferenceSettings(_Section):
    """Reference data of enrichment."""

    cells: str = Field(default=CELLS, description="cells, CSV or Parquet")
    subscribers: str = Field(default=SUBSCRIBERS, description="subscribers, CSV or Parquet")
    refresh: _Duration | Literal["off"] = Field(
        default="300s", description="how often a stream looks whether these two have changed: 300s, 5m, or off"
    )


class RecordCheckSettings(_Section):
    """Checks that look at more than one record."""

    tag_partials: bool = Field(default=False, description="say of each CDR which of its session's records it is")
    flag_duplicates: bool = Field(default=False, description="mark CDRs that came before, by a natural key")
    duplicate_window: int = Field(
        default=DUPLICATE_WINDOW,
        gt=0,
        le=MAX_DUPLICATE_WINDOW,
        description="rows of a country, in each worker, among which duplicates are found",
    )
    detect_gaps: bool = Field(default=False, description="report records that are missing by their node's numbers")
    gap_tolerance: _Duration = Field(default="60s", description="how long a stream waits for them at least")


class RestartSettings(_Section):
    """Restart of a failed stream by Flink. Without it, Flink's settings apply."""

    attempts: int = Field(ge=0, le=_MOST_RESTARTS, description="restarts before the job ends")
    delay: _Duration = Field(default="10s", description="time before each restart")


class FlinkSettings(_Section):
    """Place and settings of a job on Flink."""

    master: Annotated[str, AfterValidator(_master)] | None = Field(
        default=None, description="address of the JobManager, or of several, with commas; without it Flink is embedded"
    )
    parallelism: int = Field(default=2, ge=1, le=MAX_PARALLELISM, description="parallel subtasks of each step")
    checkpointing_interval: _Duration = Field(default="10s", description="time between checkpoints of a stream")
    restart: RestartSettings | None = Field(default=None, description="restart of a failed stream")
    savepoint_directory: str | None = Field(
        default=None, description="where the cluster keeps savepoints of the job; `doctor` compares it with the cluster"
    )
    workers: _Address | None = Field(
        default=None, description="host:port of `orion-beam workers`, as task managers see it; needed with `master`"
    )
    spread_countries: bool = Field(default=False, description="let every worker read every country")
    options: Mapping[str, _Setting | tuple[str, ...]] = Field(
        default={}, description="other options of Beam and Flink, by name, without the dashes"
    )


class WorkersSettings(_Section):
    """Pool of Python workers beside a task manager: the options of `orion-beam workers`."""

    listen: _Listen = Field(default="127.0.0.1:50000", description="address at which task managers ask for workers")
    metrics_listen: _Listen | None = Field(
        default=None, description="address of the workers' metrics, /live and /ready"
    )
    spares: int = Field(default=2, ge=0, le=256, description="workers that are kept loaded")
    memory: _Size | None = Field(
        default=None, description="memory of a worker, above which it is replaced: 512MiB, 2GiB"
    )
    drain_limit: _Duration = Field(default="30s", description="how long workers may finish their bundles at the end")
    token_file: str | None = Field(
        default=None, description="file with a token that whoever asks for a worker must know"
    )


class MetricsSettings(_Section):
    """Metrics of the job and of `orion-beam monitor`."""

    port: int | None = Field(default=None, ge=1, le=65535, description="port for the metrics of embedded workers")
    listen: _Listen = Field(default="127.0.0.1:9310", description="address on which `orion-beam monitor` serves")
    token_file: str | None = Field(
        default=None,
        description="file with the token that metrics and status pages ask for; needed to serve other hosts",
    )
    disks: tuple[str, ...] = Field(default=(), description="directories whose file system must not run full")


class LogSettings(_Section):
    """Log lines of the job and its workers."""

    format: LogFormat = Field(default=LogFormat.TEXT, description="how log lines are written")
    quiet: bool = Field(default=False, description="leave out the line a minute on what a stream reads and writes")


class JobFile(_Section):
    """A job, and what every command of its workspace needs to know of it."""

    version: Literal[1] = Field(description="version of this file's format")
    brokers: _Addresses = Field(default=(), description="Kafka brokers, host:port: a list, or one text with commas")
    login: str | Annotated[Mapping[str, _Setting], AfterValidator(check_secrets)] | None = Field(
        default=None,
        description="login to Kafka: a properties file, or its settings, with secrets as ${NAME} or ${file:PATH}",
    )
    countries: tuple[_CountryCode, ...] = Field(default=(), description="countries to read; the default ones if none")
    group: str = Field(default=GROUP, min_length=1, description="consumer group of the job, without the prefix")
    topics: TopicSettings = TopicSettings()
    acls: Mapping[Role, _Principals] = Field(
        default={}, description="users of each role, for `orion-beam acls`: stream: User:orion-stream, or a list"
    )
    publish: tuple[_StageTopic, ...] = Field(default=(), description="stages whose output is written to topics as well")
    start_from: _StageTopic | None = Field(default=None, description="topic to read instead of the raw ones")
    value_format: ValueFormat = Field(
        default=ValueFormat.SINGLE_OBJECT, description="how values on the topic of CDRs are written"
    )
    schema_registry: str | None = Field(
        default=None, description="URL of a schema registry; values then have Confluent's wire format"
    )
    kafka: KafkaSettings = KafkaSettings()
    reference: ReferenceSettings = ReferenceSettings()
    record_checks: RecordCheckSettings = RecordCheckSettings()
    stages: tuple[StageDeclaration, ...] = Field(default=(), description="stages of your own, in their order")
    rules: Mapping[_CountryCode, Mapping[str, Severity]] = Field(
        default={}, description="severity of rules by country, over those of its profile; see `orion-beam rules`"
    )
    flink: FlinkSettings = FlinkSettings()
    workers: WorkersSettings = WorkersSettings()
    metrics: MetricsSettings = MetricsSettings()
    logging: LogSettings = LogSettings()

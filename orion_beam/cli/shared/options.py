"""Options that several commands have, and the parsing of their values."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from orion_beam.cli.shared.given import local_path, refuse_unused
from orion_beam.cli.shared.late import late_imports
from orion_beam.defaults import METRICS_TOKEN_VARIABLE, ValueFormat
from orion_beam.durations import parse_duration_s
from orion_beam.errors import UserError, first_problem
from orion_beam.job_file.environment import default_group
from orion_beam.schemas.codes import Stage
from orion_beam.telemetry.logs import LogFormat

with late_imports():
    from pydantic import ValidationError

    from orion_beam.config import JobConfig, KafkaSink
    from orion_beam.countries import default_profiles, profiles_of
    from orion_beam.doctor.kafka_checks import KafkaNeeds
    from orion_beam.schema_tools.registry import register_schema
    from orion_beam.schemas.avro_format import single_object_header
    from orion_beam.schemas.cdr import UnifiedCdr
    from orion_beam.schemas.derive import avro_schema
    from orion_beam.topics.names import PUBLISHED_STAGES, stage_topics

OWN = ""
"""Default of an option with a topic or a group: the name that this environment has for it."""


def _own_group(given: str) -> str:
    return given or default_group()


def _own_final_topic(given: str) -> str:
    from orion_beam.topics.names import own_topics  # here, because help should be quick

    return given or own_topics().final.name


def _own_dead_letter_topic(given: str) -> str:
    from orion_beam.topics.names import own_topics

    return given or own_topics().dead_letters.name


BootstrapServers = Annotated[str, typer.Option(help="Kafka brokers, host:port,…")]
MetricsToken = Annotated[
    Path | None,
    typer.Option(
        "--metrics-token-file",
        callback=local_path,
        envvar=METRICS_TOKEN_VARIABLE,
        help="File with the token that metrics and status pages ask for; needed to serve other hosts.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CountriesOption = Annotated[str | None, typer.Option(help="Countries to read.", show_default="FR,MA,SN,TN")]
GroupId = Annotated[
    str,
    typer.Option(
        help="Consumer group; its committed offsets are where the job goes on.",
        show_default="orion-beam, after --topic-prefix",
        callback=_own_group,
    ),
]
WatchedGroup = Annotated[
    str,
    typer.Option(
        help="Consumer group of the job.", show_default="orion-beam, after --topic-prefix", callback=_own_group
    ),
]
Publish = Annotated[str, typer.Option(help="Also write these topics: validated,normalized,enriched")]
StartFrom = Annotated[
    str | None, typer.Option(help="Read this topic instead of the raw ones: validated, normalized or enriched")
]
ConsumerSettings = Annotated[
    list[str] | None, typer.Option("--consumer-config", help="NAME=VALUE for the Kafka consumer; repeatable.")
]
FinalTopic = Annotated[
    str,
    typer.Option(
        "--final-topic",
        "--to-topic",
        help="Topic of CDRs.",
        show_default="cdr.final, after --topic-prefix",
        callback=_own_final_topic,
    ),
]
DeadLetterTopic = Annotated[
    str,
    typer.Option(
        "--dead-letter-topic",
        "--dlq-topic",
        help="Topic of dead letters.",
        show_default="cdr.dlq, after --topic-prefix",
        callback=_own_dead_letter_topic,
    ),
]
ProducerSettings = Annotated[
    list[str] | None, typer.Option("--producer-config", help="NAME=VALUE for the Kafka producer; repeatable.")
]
Profiles = Annotated[
    Path | None,
    typer.Option(
        help="Country profiles: a directory of CODE.toml, or one such file.",
        show_default="those shipped, and over them the workspace's",
    ),
]
Cells = Annotated[str, typer.Option(help="File of cells, CSV or Parquet, or s3://BUCKET/KEY.")]
Subscribers = Annotated[str, typer.Option(help="File of subscribers, CSV or Parquet.")]
TagPartialsOption = Annotated[
    bool, typer.Option(help="Mark partial records of a session with their role: docs/guides/record-checks.md.")
]
FlagDuplicatesOption = Annotated[
    bool, typer.Option(help="Mark CDRs that repeat an earlier one: docs/guides/record-checks.md.")
]
DuplicateWindow = Annotated[
    int, typer.Option(help="CDRs of a country that each worker remembers to find duplicates; 84 bytes each.")
]

ValueFormatOption = Annotated[ValueFormat, typer.Option(help="How values on cdr.final are written.")]
SchemaRegistry = Annotated[
    str | None, typer.Option(help="URL of a schema registry; values then have Confluent's wire format.")
]
ReferenceRefresh = Annotated[
    str, typer.Option(help="How often a stream checks --cells and --subscribers for changes: 300s, 5m, 1h, or off.")
]
DetectGaps = Annotated[bool, typer.Option(help="Report gaps in the sequence numbers of a node's records.")]
GapTolerance = Annotated[str, typer.Option(help="Least time that a stream waits before it reports a gap: 60s, 5m, 1h.")]
AllowSecondJob = Annotated[
    bool,
    typer.Option(
        "--allow-second-job", help="Start although a job of this group is alive: every record then comes out twice."
    ),
]
SpreadCountries = Annotated[
    bool, typer.Option(help="Let every worker read every country, for countries of very different traffic.")
]
LogFormatOption = Annotated[LogFormat, typer.Option(help="How log lines are written, workers' too.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Leave out the line a minute on what a stream reads and writes.")]


def refuse_unused_format(context: typer.Context, value_format: ValueFormat, registry: str | None) -> None:
    """Refuse a format of values that a registry overrides; see `refuse_unused`."""
    if registry is not None and value_format is not ValueFormat.CONFLUENT:
        refuse_unused(context, ["value_format"], "with --schema-registry: values then have Confluent's wire format")


def refuse_unused_checks(context: typer.Context, flag_duplicates: bool) -> None:
    """Refuse options of a record check that is off; see `refuse_unused`."""
    if not flag_duplicates:
        refuse_unused(context, ["duplicate_window"], "without --flag-duplicates")


def check_balance(flag_duplicates: bool, beam_arguments: Iterable[str]) -> None:
    """Refuse to look for duplicates when workers share a partition.

    Raises:
        UserError: Beam's options let workers share one.
    """
    if flag_duplicates and any(argument.startswith("--load_balance_bundles") for argument in beam_arguments):
        raise UserError(
            "--flag-duplicates does not go with --load_balance_bundles, which lets workers share a partition"
        )


def parse_list(text: str | None) -> tuple[str, ...]:
    """Return the parts of a comma-separated text."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def parse_countries(text: str | None, profiles: Path | None = None) -> tuple[str, ...]:
    """Return country codes in capital letters; those of the default countries if none are named.

    Raises:
        UserError: a country has no profile.
    """
    codes = tuple(dict.fromkeys(code.upper() for code in parse_list(text))) or tuple(default_profiles(profiles))
    try:
        profiles_of(codes, profiles)
    except UserError as error:
        raise UserError(f"--countries: {error}") from None
    return codes


def duration_of(text: str, option: str) -> int:
    """Return the seconds of a duration such as `90s`, `15m`, `12h` or `7d`.

    Raises:
        UserError: the text is no duration.
    """
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise UserError(f"{option} {error}") from None


def parse_stage(name: str, option: str) -> Stage:
    """Return the stage whose output has this name.

    Raises:
        UserError: there is no such stage. The message names the possible ones.
    """
    if name not in PUBLISHED_STAGES:
        raise UserError(f"{option} {name}: expected one of {', '.join(PUBLISHED_STAGES)}")
    return PUBLISHED_STAGES[name]


def parse_pairs(settings: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return NAME=VALUE settings as a dict.

    Raises:
        UserError: one is not NAME=VALUE.
    """
    pairs = {}
    for text in settings or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            # The message leaves out the text, which may be a password.
            raise UserError(f"{option}: expected NAME=VALUE")
        pairs[name] = value
    return pairs


def kafka_needs(
    sink: KafkaSink, group_id: str, countries: Sequence[str], published: Sequence[Stage], start: Stage | None
) -> KafkaNeeds:
    """Return what a stream needs of Kafka, for the checks of `orion-beam doctor`."""
    raw = (profile.topic for profile in profiles_of(countries).values())
    of_stage = stage_topics()
    return KafkaNeeds(
        bootstrap_servers=sink.bootstrap_servers,
        group_id=group_id,
        sources=tuple(raw) if start is None else (of_stage[start],),
        sinks=(sink.final_topic, sink.dead_letter_topic, *(of_stage[stage] for stage in published)),
        final=sink.final_topic,
        dead_letters=sink.dead_letter_topic,
    )


def checked_config(**fields: object) -> JobConfig:
    """Return a job's configuration.

    Raises:
        UserError: an option's value is invalid.
    """
    try:
        return JobConfig.model_validate(fields)
    except ValidationError as error:
        raise UserError(f"options: {first_problem(error)}") from None


def wire_prefix_of(
    value_format: ValueFormat, registry: str | None, topic: str, model: type[UnifiedCdr], *, registers: bool = True
) -> bytes | None:
    """Return the header of each value on a topic, after registering the schema if there is a registry; None for JSON.

    Args:
        value_format: How values are written.
        registry: URL of a schema registry.
        topic: The topic.
        model: Model of the values.
        registers: If false, the registry is not asked, and the header is empty.

    Raises:
        UserError: Confluent's format needs a registry, or the registry fails.
    """
    if registry is not None or value_format is ValueFormat.CONFLUENT:
        if registry is None:
            raise UserError("--value-format confluent needs --schema-registry URL")
        return register_schema(registry, f"{topic}-value", avro_schema(model)) if registers else b""
    return None if value_format is ValueFormat.JSON else single_object_header(avro_schema(model))


def absolute(path: str) -> str:
    """Return a path as an absolute one; an address such as `gs://…` stays as it is."""
    return path if "://" in path else str(Path(path).absolute())

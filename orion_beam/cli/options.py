"""Options that several commands have, and how their values are read."""

from collections.abc import Sequence
from typing import Annotated

import typer

from orion_beam.config import KafkaSink
from orion_beam.countries import default_profiles, profiles_of
from orion_beam.errors import UserError
from orion_beam.kafka.checks import KafkaNeeds
from orion_beam.kafka.topics import STAGE_TOPICS
from schemas.codes import Stage

_STAGES = {topic.removeprefix("cdr."): stage for stage, topic in STAGE_TOPICS.items()}

Countries = Annotated[str | None, typer.Option(help="Countries to read.  [default: FR,MA,SN,TN]")]
GroupId = Annotated[str, typer.Option(help="Consumer group whose offsets say where to go on.")]
Publish = Annotated[str, typer.Option(help="Also write these topics: validated,normalized,enriched")]
StartFrom = Annotated[
    str | None, typer.Option(help="Read this topic instead of the raw ones: validated, normalized or enriched")
]
ConsumerSettings = Annotated[
    list[str] | None, typer.Option("--consumer-config", help="NAME=VALUE for the Kafka consumer; repeatable.")
]
ProducerSettings = Annotated[
    list[str] | None, typer.Option("--producer-config", help="NAME=VALUE for the Kafka producer; repeatable.")
]
Cells = Annotated[str, typer.Option(help="Cells, CSV or Parquet.")]
Subscribers = Annotated[str, typer.Option(help="Subscribers, CSV or Parquet.")]


def parse_list(text: str | None) -> tuple[str, ...]:
    """Return the parts of a text with commas between them."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def parse_countries(text: str | None) -> tuple[str, ...]:
    """Return country codes, those that are meant where none are named.

    Raises:
        UserError: there is no such country.
    """
    codes = parse_list(text) or tuple(default_profiles())
    profiles_of(codes)
    return codes


def parse_stage(name: str, option: str) -> Stage:
    """Return the stage whose topic is called so.

    Raises:
        UserError: there is none; names those there are.
    """
    if name not in _STAGES:
        raise UserError(f"{option} {name}: expected one of {', '.join(_STAGES)}")
    return _STAGES[name]


def parse_pairs(settings: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return settings by name.

    Raises:
        UserError: one is not NAME=VALUE.
    """
    pairs = {}
    for text in settings or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"{option} {text}: expected NAME=VALUE")
        pairs[name] = value
    return pairs


def kafka_needs(
    sink: KafkaSink, group_id: str, countries: Sequence[str], published: Sequence[Stage], start: Stage | None
) -> KafkaNeeds:
    """Return what a stream needs of Kafka."""
    raw = (profile.topic for profile in profiles_of(countries).values())
    return KafkaNeeds(
        bootstrap_servers=sink.bootstrap_servers,
        group_id=group_id,
        sources=tuple(raw) if start is None else (STAGE_TOPICS[start],),
        sinks=(sink.final_topic, sink.dead_letter_topic, *(STAGE_TOPICS[stage] for stage in published)),
        final=sink.final_topic,
    )

"""The stream that the options of `run` and `submit` describe: checked, and turned into the configuration of a job."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import typer

from orion_beam.cli.shared.given import refuse_unused
from orion_beam.cli.shared.job_defaults import stages_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import (
    check_balance,
    checked_config,
    duration_of,
    kafka_needs,
    parse_countries,
    parse_list,
    parse_pairs,
    parse_stage,
    refuse_unused_checks,
    refuse_unused_format,
    wire_prefix_of,
)
from orion_beam.defaults import ValueFormat
from orion_beam.doctor.findings import Status, require
from orion_beam.schemas.codes import Stage
from orion_beam.telemetry.logs import say

with late_imports():
    from orion_beam.config import JobConfig, KafkaSink, KafkaSource
    from orion_beam.custom_stages.declaration import final_model_of
    from orion_beam.doctor.kafka_checks import KafkaNeeds, loss_checks, start_checks
    from orion_beam.kafka.clients import consumer_config, producer_config
    from orion_beam.kafka.lease import await_free
    from orion_beam.schema_tools.kept_schemas import kept_schemas


def record_options(
    context: typer.Context,
    beam_options: Collection[str],
    *,
    cells: str,
    subscribers: str,
    tag_partials: bool,
    flag_duplicates: bool,
    duplicate_window: int,
    detect_gaps: bool,
    gap_tolerance: str,
) -> dict[str, Any]:
    """Return the fields of a JobConfig that say what becomes of a record, wherever it is read from.

    Raises:
        UserError: A value is invalid, or an option has no effect.
    """
    check_balance(flag_duplicates, beam_options)
    refuse_unused_checks(context, flag_duplicates)
    if not detect_gaps:
        refuse_unused(context, ["gap_tolerance"], "without --detect-gaps")
    return {
        "cells": cells,
        "subscribers": subscribers,
        "tag_partials": tag_partials,
        "flag_duplicates": flag_duplicates,
        "duplicate_window": duplicate_window,
        "detect_gaps": detect_gaps,
        "gap_tolerance_s": duration_of(gap_tolerance, "--gap-tolerance"),
        "stages": stages_of(context),
    }


@dataclass(frozen=True)
class Stream:
    """A stream from Kafka to Kafka, as a command's options give it.

    Attributes:
        countries: Codes of the countries that it reads.
        group_id: Its consumer group.
        sink: Topics to write to.
        published: Stages whose output is also written to topics.
        start: Stage whose topic is read instead of the raw ones.
        consumer: Consumer settings that the user gives.
        value_format: How values on the topic of CDRs are written.
        schema_registry: URL of a schema registry, if there is one.
        reference_refresh_s: Seconds between checks of the reference data; None for no checks.
        spread: See KafkaSource.
        options: Fields of the JobConfig by `record_options`.
    """

    countries: tuple[str, ...]
    group_id: str
    sink: KafkaSink
    published: tuple[Stage, ...]
    start: Stage | None
    consumer: Mapping[str, str]
    value_format: ValueFormat
    schema_registry: str | None
    reference_refresh_s: float | None
    spread: bool
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        context: typer.Context,
        *,
        bootstrap_servers: str,
        group_id: str,
        countries: str | None,
        publish: str,
        start_from: str | None,
        consumer_settings: list[str] | None,
        producer_settings: list[str] | None,
        value_format: ValueFormat,
        schema_registry: str | None,
        reference_refresh: str,
        spread_countries: bool,
        options: Mapping[str, Any],
    ) -> "Stream":
        """Take the values of a command's options. No broker is asked.

        Raises:
            UserError: A value is invalid, or an option has no effect.
        """
        refuse_unused_format(context, value_format, schema_registry)
        producer = parse_pairs(producer_settings, "--producer-config")
        stream = cls(
            countries=parse_countries(countries),
            group_id=group_id,
            sink=KafkaSink(bootstrap_servers=bootstrap_servers, producer_config=producer),
            published=tuple(parse_stage(name, "--publish") for name in parse_list(publish)),
            start=None if start_from is None else parse_stage(start_from, "--start-from"),
            consumer=parse_pairs(consumer_settings, "--consumer-config"),
            value_format=value_format,
            schema_registry=schema_registry,
            reference_refresh_s=None
            if reference_refresh == "off"
            else duration_of(reference_refresh, "--reference-refresh"),
            spread=spread_countries,
            options=options,
        )
        # These refuse settings that lose records.
        _ = stream._reading
        producer_config(bootstrap_servers, producer)
        return stream

    @property
    def bootstrap_servers(self) -> str:
        """The brokers."""
        return self.sink.bootstrap_servers

    @property
    def topics(self) -> tuple[str, str]:
        """Topic of CDRs and topic of dead letters."""
        return self.sink.final_topic, self.sink.dead_letter_topic

    @property
    def needs(self) -> KafkaNeeds:
        """What the stream needs of Kafka."""
        return kafka_needs(self.sink, self.group_id, self.countries, self.published, self.start)

    def by_country(self) -> list["Stream"]:
        """Return a stream for each country."""
        return [replace(self, countries=(country,)) for country in self.countries]

    def check(self) -> None:
        """Make the quick checks of `orion-beam doctor`: refuse what cannot work, warn of records that may be lost.

        Raises:
            PrerequisiteError: A check failed. The message names what is wrong and the fix.
        """
        require(start_checks(self.needs))
        for check in loss_checks(self.needs):
            if check.status in (Status.WARNING, Status.FAILED):
                say(f"warning: {check.name}: {check.found}; {check.fix}", logging.WARNING)

    def await_free(self) -> None:
        """Ensure that no other job of the group reads these topics; see `kafka.lease.await_free`.

        Raises:
            UserError: Another job does.
        """
        await_free(self.bootstrap_servers, self.group_id, self.needs.sources, self._reading, say)

    def config(self, expansion_service: str | None, *, second_job: bool = False) -> JobConfig:
        """Return the job's configuration.

        Args:
            expansion_service: See KafkaSource. None for a job that is only drawn: no registry is asked, either.
            second_job: See KafkaSource.

        Raises:
            UserError: Two options contradict each other, or the registry fails.
        """
        return checked_config(
            countries=self.countries,
            source=KafkaSource(
                bootstrap_servers=self.bootstrap_servers,
                group_id=self.group_id,
                expansion_service=expansion_service,
                consumer_config=self.consumer,
                spread=self.spread,
                second_job=second_job,
            ),
            sink=self.sink,
            publish=self.published,
            start_from=self.start,
            kept_schemas=() if self.start is None else kept_schemas(),
            wire_prefix=wire_prefix_of(
                self.value_format,
                self.schema_registry,
                self.sink.final_topic,
                final_model_of(self.options["stages"]),
                registers=expansion_service is not None,
            ),
            reference_refresh_s=self.reference_refresh_s,
            **self.options,
        )

    @property
    def _reading(self) -> Mapping[str, str]:
        return consumer_config(self.bootstrap_servers, self.group_id, self.consumer)

"""Alert rules, made from their template and limits."""

from pathlib import Path
from string import Template
from textwrap import indent
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orion_beam.durations import parse_duration_s

ALERTS_DIRECTORY = Path(__file__).parent
ALERT_RULES = ALERTS_DIRECTORY / "alerts.yml"


def _duration(text: str) -> str:
    parse_duration_s(text)
    return text


Duration = Annotated[str, AfterValidator(_duration)]
"""A duration in Prometheus' notation, such as `90s`."""
DurationOrNone = Annotated[str, AfterValidator(lambda text: text if text == "0s" else _duration(text))]
Ratio = Annotated[float, Field(ge=0, le=1)]


class AlertLimits(BaseModel):
    """Limits beyond which alerts fire.

    Attributes:
        interval: Time between two evaluations of the rules.
        hold: Time that a condition must last before its alert fires.
        outage: Same as `hold`, for the alert of a broker that is down.
        window: Time over which rates are taken.
        memory: Time that counts as the past, for alerts that compare the present with it.
        silence: Longest time without records from a country.
        lag_s: Greatest age of the oldest unprocessed record.
        standstill_s: Longest time without progress although records wait; a job commits every ten seconds.
        data_loss_s: Least time until retention deletes an unprocessed record.
        checkpoint_age_s: Longest time since the last completed checkpoint.
        failed_checkpoints: Greatest number of failed checkpoints within the window.
        error_ratio: Greatest ratio of dead letters to processed records.
        disk_ratio: Greatest ratio of used disk space.
        written_ratio: Greatest ratio of records written to records read, within the window.
        written_again: Records that may be written beyond that ratio, since a restart writes some again.
        restarts: Greatest number of a job's restarts within the window.
        workers_ended: Greatest number of workers of a pool that end by themselves within the window, by reason.
        runbooks: Path or URL of the runbooks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    interval: Duration = "15s"
    hold: DurationOrNone = "1m"
    outage: DurationOrNone = "30s"
    window: Duration = "5m"
    memory: Duration = "1d"
    silence: Duration = "15m"
    lag_s: float = Field(default=60, gt=0)
    standstill_s: float = Field(default=120, gt=0)
    data_loss_s: float = Field(default=86_400, gt=0)
    checkpoint_age_s: float = Field(default=300, gt=0)
    failed_checkpoints: int = Field(default=2, ge=1)
    error_ratio: Ratio = 0.01
    disk_ratio: Ratio = 0.8
    written_ratio: float = Field(default=1.5, ge=1)
    written_again: int = Field(default=10_000, ge=0)
    restarts: int = Field(default=3, ge=1)
    workers_ended: int = Field(default=0, ge=0)
    runbooks: str = Field(default="docs/runbooks", pattern=r"^[\w./:@~-]+$")


class _RulesTemplate(Template):
    # Prometheus' own templates use the dollar sign.
    delimiter = "@"


def alert_rules(limits: AlertLimits) -> str:
    """Return the alert rules as YAML for Prometheus' `rule_files`."""
    template = (ALERTS_DIRECTORY / "alerts.template.yml").read_text(encoding="utf-8")
    return _RulesTemplate(template).substitute(limits.model_dump())


def prometheus_rule(rules: str) -> str:
    """Return alert rules as a PrometheusRule, which the Prometheus operator for Kubernetes reads."""
    head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: orion-beam}\nspec:\n"
    return head + indent(rules, "  ")

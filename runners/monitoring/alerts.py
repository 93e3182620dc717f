"""The alert rules, from their template and limits."""

from pathlib import Path
from string import Template
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orion_beam.durations import parse_duration_s

ALERTS_DIRECTORY = Path(__file__).parent
ALERT_RULES = ALERTS_DIRECTORY / "alerts.yml"


def _duration(text: str) -> str:
    parse_duration_s(text)
    return text


Duration = Annotated[str, AfterValidator(_duration)]
"""Such as `90s`, which Prometheus writes the same way."""
DurationOrNone = Annotated[str, AfterValidator(lambda text: text if text == "0s" else _duration(text))]
Ratio = Annotated[float, Field(ge=0, le=1)]


class AlertLimits(BaseModel):
    """From when on something is worth an alert.

    Attributes:
        interval: how often rules are evaluated.
        hold: how long a condition must last before its alert fires,
        outage: and that of a broker.
        window: over which rates are taken.
        memory: how far back "before" and "usually" reach.
        silence: without records, until a country should have sent some.
        lag_s: age of the oldest unprocessed record.
        standstill_s: without progress although records wait; a job commits every ten seconds.
        data_loss_s: left until retention deletes an unprocessed record.
        checkpoint_age_s: since the last checkpoint that has completed.
        failed_checkpoints: within the window.
        error_ratio: of dead letters to processed records.
        disk_ratio: used.
        written_ratio: of records written to records read, within the window,
        written_again: and so many more, for what a restart does again.
        restarts: of a job, within the window.
        runbooks: where the runbooks are, as a path or URL.
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
    runbooks: str = Field(default="docs/runbooks", pattern=r"^[\w./:@~-]+$")


class _RulesTemplate(Template):
    # Prometheus' own templates have the dollar.
    delimiter = "@"


def alert_rules(limits: AlertLimits) -> str:
    """Return the rules, as YAML for Prometheus' `rule_files`."""
    template = (ALERTS_DIRECTORY / "alerts.template.yml").read_text(encoding="utf-8")
    return _RulesTemplate(template).substitute(limits.model_dump())

"""The alert rules, from their template and limits.

    python -m runners.monitoring.alerts > runners/monitoring/alerts.yml

prints those that are shipped.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

DIRECTORY = Path(__file__).parent
RULES = DIRECTORY / "alerts.yml"


@dataclass(frozen=True)
class AlertLimits:
    """From when on something is worth an alert. Durations without a unit in their name are as Prometheus writes them.

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
        runbooks: where the runbooks are.
    """

    interval: str = "15s"
    hold: str = "1m"
    outage: str = "30s"
    window: str = "5m"
    memory: str = "1d"
    silence: str = "15m"
    lag_s: float = 60
    standstill_s: float = 120
    data_loss_s: float = 86_400
    checkpoint_age_s: float = 300
    failed_checkpoints: int = 2
    error_ratio: float = 0.01
    disk_ratio: float = 0.8
    runbooks: str = "docs/runbooks"


class _RulesTemplate(Template):
    # Prometheus' own templates have the dollar.
    delimiter = "@"


def alert_rules(limits: AlertLimits) -> str:
    """Return the rules, as YAML for Prometheus' `rule_files`."""
    template = (DIRECTORY / "alerts.template.yml").read_text(encoding="utf-8")
    return _RulesTemplate(template).substitute(asdict(limits))


if __name__ == "__main__":
    print(alert_rules(AlertLimits()), end="")

"""`orion-beam alerts`: the alert rules for Prometheus, with the user's own limits."""

from collections.abc import Sequence
from typing import Annotated

import typer

from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import parse_pairs
from orion_beam.errors import UserError, first_problem
from orion_beam.runners.monitoring.alerts import AlertLimits, alert_rules, prometheus_rule

with late_imports():
    from pydantic import ValidationError

_NAMES = ", ".join(AlertLimits.model_fields)

Limits = Annotated[
    list[str] | None, typer.Option("--limit", help=f"Limit of an alert, NAME=VALUE; repeatable. Names: {_NAMES}")
]


def alerts(
    limit: Limits = None,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Print a PrometheusRule, for the Prometheus operator.")
    ] = False,
) -> None:
    """Print the alert rules for Prometheus.

    Example: orion-beam alerts --limit lag_s=300 --limit silence=2h > alerts.yml
    """
    rules = alert_rules(limits_of(limit))
    typer.echo(prometheus_rule(rules) if kubernetes else rules, nl=False)


def limits_of(pairs: Sequence[str] | None, **defaults: str) -> AlertLimits:
    """Return the limits that NAME=VALUE pairs give.

    Raises:
        UserError: a limit does not exist, or its value is invalid. The message names it.
    """
    try:
        return AlertLimits.model_validate(defaults | parse_pairs(pairs, "--limit"))
    except ValidationError as error:
        raise UserError(f"--limit {first_problem(error)}; limits: {_NAMES}") from None

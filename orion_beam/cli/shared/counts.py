"""Counts of a bounded run's records by outcome, for people and for scripts."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from orion_beam.sequence_gaps import SEQUENCE_GAP
from orion_beam.telemetry.run_counters import DEAD_LETTER, FINAL_ROW, LINES, SKIPPED, RowOutcome
from orion_beam.transforms.record_checks.duplicates import DUPLICATE
from orion_beam.transforms.stage.split import UNREAD_MEMBER


def counts_summary(outcomes: Mapping[RowOutcome, int]) -> dict[str, Any]:
    """Return counts by country (final, dead letters by code, lines that are no records) and their sums.

    For files there is also the number of all lines, which is the sum of final, dead letters and lines that are no
    records.
    """
    by_country: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"final": 0, "dead_letters": 0, "codes": {}} | dict.fromkeys(SKIPPED, 0)
    )
    for outcome, rows in sorted(outcomes.items()):
        counts = by_country[outcome.country]
        if outcome.kind == FINAL_ROW:
            counts["final"] = rows
        elif outcome.kind in (LINES, *SKIPPED):
            counts[outcome.kind] = rows
        elif outcome.kind == DUPLICATE:
            counts["duplicates"] = rows
        elif outcome.kind == SEQUENCE_GAP:
            counts["sequence_gaps"] = counts.get("sequence_gaps", {}) | {outcome.code: rows}
        elif outcome.kind == UNREAD_MEMBER:
            counts["unread_members"] = counts.get("unread_members", {}) | {outcome.code: rows}
        elif outcome.kind == DEAD_LETTER:
            counts["codes"][outcome.code] = rows
            counts["dead_letters"] = sum(counts["codes"].values())
    totals = {
        kind: sum(rows for outcome, rows in outcomes.items() if outcome.kind == name)
        for kind, name in (("final", FINAL_ROW), ("dead_letters", DEAD_LETTER), *((kind, kind) for kind in SKIPPED))
    }
    lines = {LINES: sum(counts.get(LINES, 0) for counts in by_country.values())}
    return {
        "countries": dict(by_country),
        **totals,
        "records": totals["final"] + totals["dead_letters"],
        **{kind: rows for kind, rows in lines.items() if rows},
    }


def counts_table(outcomes: Mapping[RowOutcome, int]) -> Table:
    """Return the same counts as a table."""
    table = Table("country", "outcome", "code", title="Records")
    table.add_column("rows", justify="right")
    shown = ((outcome, rows) for outcome, rows in outcomes.items() if outcome.kind != LINES)
    for outcome, rows in sorted(shown, key=lambda item: (item[0].country, item[0].kind, -item[1], item[0].code)):
        table.add_row(outcome.country, outcome.kind.replace("_", " "), outcome.code, f"{rows:,}")
    table.add_section()
    records = sum(rows for outcome, rows in outcomes.items() if outcome.kind in (FINAL_ROW, DEAD_LETTER))
    table.add_row("all", "records", "", f"{records:,}")
    if lines := sum(rows for outcome, rows in outcomes.items() if outcome.kind == LINES):
        table.add_row("all", "lines", "", f"{lines:,}")
    return table

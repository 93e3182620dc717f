"""The statistics of dead letters, and the page that shows them."""

import re
from datetime import UTC, datetime, timedelta

import numpy as np

from orion_beam.dlq.charts import stacked_hours
from orion_beam.dlq.report import html_report
from orion_beam.dlq.statistics import BrokenRule, LetterStatistics
from tests.orion_beam.dlq.desk import IMSI, MSISDN, letters, read, semicolon

MADE_AT = datetime(2026, 6, 2, tzinfo=UTC)


def some_statistics() -> LetterStatistics:
    statistics = LetterStatistics()
    statistics.add(read(letters("FR", [semicolon(rat="6G", imsi="x"), semicolon(rat="6G"), b"<&>"]), foreign=2))
    statistics.add(read(letters("TN", [b"{"])))
    return statistics


def test_letters_are_counted_by_each_of_what_they_say():
    found = some_statistics()
    assert (found.letters, found.foreign) == (4, 2)
    assert found.by("country") == {"FR": 3, "TN": 1}
    assert found.by("stage") == {"validate": 2, "decode": 2}
    assert found.by("code") == {"invalid_imsi": 1, "unknown_rat": 1, "malformed_payload": 2}
    assert found.rules[BrokenRule("FR", "unknown_rat", "rat")] == 2
    assert found.attempts == {1: 4}
    assert sum(found.as_json()["hours"].values()) == 4


def test_letters_whose_record_was_sent_back_are_told_from_open_ones():
    statistics = LetterStatistics()
    statistics.add(
        read(letters("FR", [semicolon(rat="6G"), semicolon(rat="6G"), b"?"])), np.array([True, False, False])
    )
    assert statistics.redriven == 1
    assert statistics.open_by("code") == {"unknown_rat": 1, "malformed_payload": 1}
    found = statistics.as_json()
    assert (found["letters"], found["open"], found["redriven"]) == (3, 2, 1)
    assert (found["codes"]["unknown_rat"], found["open_codes"]["unknown_rat"]) == (2, 1)
    assert "dead letters, 2 open" in html_report(statistics, "cdr.dlq", MADE_AT, "")


def test_hours_without_letters_are_there_too():
    statistics = some_statistics()
    (kind, *_) = statistics.kinds
    statistics.kinds[kind._replace(hour=kind.hour + timedelta(hours=3))] = 1
    assert len(statistics.hours) in {4, 5}  # a batch that was made over the full hour


def test_the_page_needs_nothing_but_itself_and_holds_no_number():
    page = html_report(some_statistics(), "cdr.dlq", MADE_AT, 'codes ["<x>"]')
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|<script|http""", page)
    assert "prefers-color-scheme: dark" in page
    assert "&lt;x&gt;" in page
    assert "<x>" not in page
    assert IMSI not in page
    assert MSISDN not in page
    assert "none of the country" in page or "fits none" in page


def test_the_page_of_nothing_says_so():
    assert "No dead letter matches." in html_report(LetterStatistics(), "cdr.dlq", MADE_AT, "")


def test_a_long_time_is_drawn_in_as_many_columns_as_fit():
    hours = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(24 * 30)]
    chart = stacked_hours({(hour, "FR"): 1 for hour in hours}, hours, ["FR"])
    assert 45 <= chart.count("<g class=column>") <= 96
    assert ": 8\n" in chart

"""How a lease names its job. Who is refused, and when, is in tests/integration/test_restart.py."""

from datetime import UTC, datetime, timedelta

import pytest

from orion_beam.kafka.lease import Holder, new_lease, refusal_in


def test_a_client_id_says_which_job_reads_the_topic_since_when_and_from_where_it_was_started() -> None:
    lease = new_lease()
    holder = Holder.of(f"{lease}/cdr.raw.FR", "10.0.0.7")
    assert holder is not None
    assert (holder.topic, holder.reader) == ("cdr.raw.FR", "10.0.0.7")
    assert timedelta(0) <= datetime.now(UTC) - holder.since < timedelta(minutes=5)
    assert lease != new_lease()
    assert str(holder).startswith(f"a job that was started on {holder.host} at {holder.since:%Y-%m-%dT%H:%M:%SZ} reads")


@pytest.mark.parametrize("client_id", ["rdkafka", "orion/a/b", "orion/a/yesterday/host/cdr.raw.FR", "other/a/b/c/d"])
def test_what_is_none_of_ours_holds_nothing(client_id: str) -> None:
    assert Holder.of(client_id, "10.0.0.7") is None


def test_the_line_of_a_job_that_has_lost_its_lease_is_found_among_those_of_its_runner() -> None:
    line = "group g: a job that was started on vm at 2026-01-01T00:00:00Z holds the lease of cdr.raw.FR; this one stops"
    assert refusal_in(f"Pipeline failed in state FAILED: java.lang.IllegalStateException: {line}\n\tat Flink") == line
    assert refusal_in("Pipeline failed in state FAILED: java.io.IOException: no lease") is None

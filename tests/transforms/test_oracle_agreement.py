"""The columnar chain against the row-by-row oracle: the same verdicts for whatever bytes arrive."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.testing import raw_batch
from tests.agreement import assert_agreement, verdicts_of
from tests.oracle import EVERY_COUNTRY
from tests.strategies import ARRIVED, PROFILES, anything, batches_of, records, timestamps

every_country = pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
every_format = pytest.mark.parametrize(
    ("profile", "raw_format"),
    [
        pytest.param(profile, raw_format, id=f"{profile.code}-{raw_format}")
        for profile in PROFILES.values()
        for raw_format in (*profile.formats, *EVERY_COUNTRY)
    ],
)


@every_format
@given(data=st.data())
@settings(max_examples=12)
def test_records_of_a_format_get_the_verdict_of_its_row_model(data: Any, profile: Any, raw_format: Any) -> None:
    payloads = data.draw(st.lists(records(raw_format), min_size=1, max_size=10))
    assert_agreement(payloads, data.draw(timestamps(len(payloads))), profile)


@every_country
@given(data=st.data())
@settings(max_examples=24)
def test_mixed_and_mutated_payloads_get_the_verdict_of_the_oracle(data: Any, profile: Any) -> None:
    payloads = data.draw(batches_of(profile))
    assert_agreement(payloads, data.draw(timestamps(len(payloads))), profile)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@every_country
@given(data=st.data())
@settings(max_examples=300)
def test_many_payloads_get_the_verdict_of_the_oracle(data: Any, profile: Any) -> None:
    payloads = data.draw(batches_of(profile, 40))
    assert_agreement(payloads, data.draw(timestamps(len(payloads))), profile)


@every_country
@given(data=st.data())
@settings(max_examples=8)
def test_a_verdict_depends_on_neither_neighbours_nor_order_nor_batch_size(data: Any, profile: Any) -> None:
    payloads = data.draw(st.lists(anything(profile), min_size=2, max_size=9))
    together = verdicts_of(raw_batch(profile.code, payloads, timestamps=ARRIVED), profile)
    alone = [verdicts_of(raw_batch(profile.code, [payload], timestamps=ARRIVED), profile)[0] for payload in payloads]
    assert together == alone
    order = data.draw(st.permutations(range(len(payloads))))
    shuffled = raw_batch(profile.code, [payloads[index] for index in order], timestamps=ARRIVED)
    assert verdicts_of(shuffled, profile) == [together[index] for index in order]
    cut = data.draw(st.integers(1, len(payloads) - 1))
    whole = raw_batch(profile.code, payloads + payloads, timestamps=ARRIVED)
    # A slice of a batch is a batch, wherever it starts; its offsets do not begin at 0.
    sliced = whole.slice(cut, len(payloads))
    renumbered = sliced.set_column(
        sliced.schema.get_field_index("source_offset"), "source_offset", pa.array(range(len(payloads)), pa.int64())
    )
    assert verdicts_of(renumbered, profile) == together[cut:] + together[:cut]

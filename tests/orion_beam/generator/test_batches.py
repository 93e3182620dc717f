"""Generated CDRs: deterministic, in the right formats, and bad exactly where they say so."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from orion_beam.countries import all_profiles
from orion_beam.generator import GeneratedBatch, generate_batches
from orion_beam.schemas.codes import Code, Severity
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import BLANKS
from orion_beam.transforms.rules.rules import RULES
from tests.oracle import EVERY_COUNTRY, row_model, split

START = datetime(2026, 11, 22, 18, 30, tzinfo=UTC)
PROFILES = list(all_profiles().values())
FRANCE = all_profiles()["FR"]
every_country = pytest.mark.parametrize("profile", PROFILES, ids=[profile.code for profile in PROFILES])


def whole(profile: CountryProfile, count: int, seed: int = 1, fault_rate: float = 0.0, **options: Any) -> pl.DataFrame:
    batches = list(generate_batches(profile, count, seed, fault_rate, **({"start": START} | options)))
    return pl.concat([frame_of(batch) for batch in batches])


def frame_of(batch: GeneratedBatch) -> pl.DataFrame:
    return pl.DataFrame({name: getattr(batch, name) for name in ("key", "value", "timestamp", "expected_code")})


def parse(payload: bytes, profile: CountryProfile) -> tuple[str, dict[str, Any]]:
    """Read a payload the slow and obvious way; ValueError says that it is of no format."""
    text = payload.decode().removeprefix("\ufeff")
    return split(text.rstrip(BLANKS), profile, len(text))


def verdict(payload: bytes | None, arrived: datetime, profile: CountryProfile) -> list[str]:
    """Return the codes that the row models find, in order."""
    if payload is not None and len(payload) > 65_536:
        return [Code.OVERSIZED_PAYLOAD]
    if payload is None or not payload.strip(BLANKS.encode()):
        return [Code.EMPTY_PAYLOAD]
    try:
        raw_format, record = parse(payload, profile)
    except UnicodeDecodeError:
        return [Code.INVALID_ENCODING]
    except ValueError:
        return [Code.MALFORMED_PAYLOAD]
    try:
        context = {"profile": profile, "source_timestamp": arrived}
        row_model(raw_format).model_validate(record, context=context)
    except ValidationError as error:
        return [found["type"] for found in error.errors()]
    return []


@every_country
@pytest.mark.parametrize("fits_lines", [False, True])
def test_row_models_agree_with_every_expected_code(profile: CountryProfile, fits_lines: bool) -> None:
    rows = whole(profile, 3_000, fault_rate=0.5, fits_lines=fits_lines)
    wrong = []
    for _, value, timestamp, expected in rows.iter_rows():
        if (found := verdict(value, timestamp, profile)) != ([expected] if expected else []):
            wrong.append((expected, found, value))
    assert wrong == []


@every_country
def test_every_code_occurs(profile: CountryProfile) -> None:
    codes = set(whole(profile, 60_000, fault_rate=0.5)["expected_code"].drop_nulls())
    warnings = {rule.violation.code for rule in RULES if rule.severity is Severity.WARN}
    # No shipped format has a map of anything but the event type.
    others = {Code.DUPLICATE, Code.INTERNAL_ERROR, Code.UNMAPPED_VALUE}
    assert codes == {code.value for code in set(Code) - warnings - others}


@every_country
def test_batch_size_makes_no_difference(profile: CountryProfile) -> None:
    large = whole(profile, 3_000, fault_rate=0.2)
    assert large.equals(whole(profile, 3_000, fault_rate=0.2, batch_rows=997))
    assert not large["value"].equals(whole(profile, 3_000, seed=2, fault_rate=0.2)["value"])


def test_good_records_do_not_depend_on_the_fault_rate() -> None:
    few, many = (whole(FRANCE, 2_000, fault_rate=rate) for rate in (0.01, 0.3))
    good = many["expected_code"].is_null()
    odd = few["value"] != many["value"]
    assert not (odd & good).any()


@pytest.mark.parametrize("rate", [0.0, 0.02, 1.0])
def test_fault_share(rate: float) -> None:
    batches = list(generate_batches(FRANCE, 20_000, seed=3, fault_rate=rate, start=START))
    assert sum(batch.faulty_count for batch in batches) / 20_000 == pytest.approx(rate, abs=0.005)


@every_country
def test_formats_are_those_of_the_profile(profile: CountryProfile) -> None:
    rows = whole(profile, 5_000)
    shares = Counter(parse(value, profile)[0] for value in rows["value"])
    assert set(shares) == {*profile.formats, *EVERY_COUNTRY}
    assert shares["flat_json"] / 5_000 == pytest.approx(0.20, abs=0.03)
    assert shares["pipe_text"] / 5_000 == pytest.approx(0.02, abs=0.01)


@every_country
def test_records_for_lines_hold_no_newline_and_are_not_empty(profile: CountryProfile) -> None:
    values = whole(profile, 10_000, fault_rate=0.5, fits_lines=True)["value"]
    assert values.null_count() == 0
    assert not any(b"\n" in value or not value for value in values)


def test_traffic_has_visitors_extremes_and_heavy_users() -> None:
    rows = whole(FRANCE, 60_000)
    imsis = rows["key"].cast(pl.String)
    assert 0.03 < 1 - imsis.str.starts_with("208").mean() < 0.10  # type: ignore[operator]
    assert imsis.value_counts()["count"].max() > 100  # type: ignore[operator]
    flat = [json.loads(value.strip(b"\xef\xbb\xbf \t\r\n")) for value in rows["value"] if b'"event_type"' in value]
    assert any(int(record.get("duration", 0)) > 7_200 for record in flat)
    assert any(int(record.get("bytes_downloaded") or 0) > 10 * 10**9 for record in flat)
    called = [record["called_number"] for record in flat if "called_number" in record]
    assert 0 < sum(number.startswith("+") and not number.startswith("+33") for number in called) < len(called) / 4


def test_rows_arrive_at_the_rate_from_the_start_on() -> None:
    timestamps = whole(FRANCE, 100, rows_per_second=10)["timestamp"]
    assert timestamps[0] == START
    assert (timestamps[-1] - timestamps[0]).total_seconds() == pytest.approx(9.9)
    before = whole(FRANCE, 100)["timestamp"]
    assert before.max() < START  # type: ignore[operator]
    assert before[0] == START - timedelta(minutes=10)


def test_a_new_country_needs_only_a_profile() -> None:
    profile = CountryProfile.model_validate(
        {
            "code": "XK", "name": "Kosovo", "topic": "cdr.raw.XK", "mccs": ["221"], "calling_code": "383",
            "national_digits": 8, "time_zone": "Europe/Belgrade", "formats": ["fr_semicolon", "sn_key_value"],
            "operators": [], "usual_roaming_countries": [],
        }
    )  # fmt: skip
    rows = whole(profile, 500)
    assert rows["key"].cast(pl.String).str.starts_with("22101").any()
    assert rows["value"].null_count() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"count": -1},
        {"count": None},
        {"count": 1, "fault_rate": 1.5},
        {"count": 1, "batch_rows": 0},
        {"count": 1, "rows_per_second": 0.0},
        {"count": 1, "start": datetime(2026, 1, 1)},
    ],
)
def test_arguments_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        list(generate_batches(FRANCE, **options))

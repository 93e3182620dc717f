"""`orion-beam rules`: the table, for people, scripts and the documentation."""

import json
from pathlib import Path

from orion_beam.countries import PROFILES_DIRECTORY
from orion_beam.transforms.rules.rules import RULES


def test_every_rule_is_listed_with_id_severity_and_source(orion_beam):
    listed = json.loads(orion_beam("rules", "--json").out)
    assert [entry["id"] for entry in listed] == [*(rule.id for rule in RULES), "duplicate"]
    assert {entry["severity"] for entry in listed} == {"error", "warn"}
    assert all(entry["source"] and entry["meaning"] and entry["field"] for entry in listed)


def test_the_table_is_for_people_and_a_country_has_its_own(orion_beam):
    assert "luhn_failed" in orion_beam("rules").out
    assert json.loads(orion_beam("rules", "--json", "--country", "fr").out)


def test_a_profile_of_ones_own_has_its_severities(orion_beam, tmp_path):
    own = tmp_path / "FR.toml"
    own.write_text((PROFILES_DIRECTORY / "FR.toml").read_text() + '[rules]\nluhn_failed = "error"\n')
    for profiles in (own, tmp_path):
        listed = json.loads(orion_beam("rules", "--json", "--country", "FR", "--profiles", profiles).out)
        assert {rule["id"]: rule["severity"] for rule in listed}["luhn_failed"] == "error"
    listed = json.loads(orion_beam("rules", "--json", "--country", "FR").out)
    assert {rule["id"]: rule["severity"] for rule in listed}["luhn_failed"] == "warn"


def test_an_unknown_country_is_one_line(orion_beam):
    code, out, err = orion_beam("rules", "--country", "XX")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "unknown country 'XX'" in err


def test_the_page_of_the_rules_is_up_to_date(orion_beam):
    page = Path(__file__).parents[3] / "docs" / "reference" / "rules.md"
    assert page.read_text(encoding="utf-8") == orion_beam("rules", "--markdown").out, "run `make docs`"

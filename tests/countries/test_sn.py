"""Senegal: its golden cases, and what the conformance kit makes of them."""


def test_golden_cases(golden_cases):
    golden_cases("SN")


def test_no_mutation_of_a_case_loses_or_changes_a_row(conformance_kit):
    conformance_kit("SN")

"""Conformance of the countries of a workspace, as results of checks."""

from collections.abc import Sequence
from pathlib import Path

from orion_beam.capture.cases import INPUT_FILE
from orion_beam.checks.results import CheckResult, CheckState
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.inspect.conformance import check_country
from orion_beam.io.lines import records_among
from orion_beam.schemas.country import CountryProfile
from orion_beam.text_files.text_file import shown_path

__all__ = ["check_conformance"]


def check_conformance(profile: CountryProfile, folder: Path, stages: Sequence[JobStage]) -> list[CheckResult]:
    """Mutate a country's golden cases in every known way; return a result for each mutation."""
    path = folder / INPUT_FILE
    lines = path.read_bytes().split(b"\n")
    return [
        CheckResult(
            "conformance",
            f"{profile.code}: {finding.check}",
            CheckState.FAILED if finding.failures else CheckState.PASSED,
            tuple(finding.failures),
            shown_path(path),
        )
        for finding in check_country(profile, records_among(lines, profile), stages)
    ]

"""Lint of the declared formats of a workspace."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa

from orion_beam.capture.cases import INPUT_FILE
from orion_beam.checks.lint_countries import Profile
from orion_beam.checks.lint_finding import LintFinding, LintRule, finding_of_error
from orion_beam.countries import ProfileSource, all_profiles
from orion_beam.io.lines import records_among
from orion_beam.telemetry.masking import mask_numbers
from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.decoders import RawFormat
from orion_beam.transforms.decoders.payloads import Payloads, are_utf8
from orion_beam.transforms.decoders.registry import formats_of, load_format
from orion_beam.workspace import Workspace
from orion_beam.yaml_file import shown_path

__all__ = ["lint_formats"]


def lint_formats(
    workspace: Workspace, profiles: Sequence[Profile], folders: Mapping[str, Path]
) -> Iterator[LintFinding]:
    """Yield the findings in the formats of a workspace.

    Args:
        workspace: The workspace.
        profiles: Its valid profiles.
        folders: Folders of golden cases by country. Their records show whether two formats read the same record.
    """
    named = {name for each in profiles for name in each.profile.formats}
    named |= {name for profile in all_profiles(ProfileSource()).values() for name in profile.formats}
    for path in sorted(workspace.formats.glob("*.toml")):
        try:
            load_format(path)
        except (OSError, ValueError) as error:
            yield finding_of_error(path, LintRule.FORMAT_FILE, error, "the guide `Add a format` explains every key")
            continue
        if path.stem not in named:
            fix = f'name it in formats of a country: formats = ["{path.stem}"]'
            yield LintFinding(path, 1, LintRule.FORMAT_UNUSED, "no country sends it", fix)
    for each in profiles:
        if each.profile.declared_formats and (folder := folders.get(each.profile.code)) is not None:
            yield from _overlaps(workspace, each, folder / INPUT_FILE)


def _overlaps(workspace: Workspace, each: Profile, path: Path) -> Iterator[LintFinding]:
    """Find golden cases that two formats of a country read."""
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    records = [record for record in records_among(lines, each.profile) if record]
    column = pa.array(records, pa.binary())
    column = column.filter(pa.array(are_utf8(column)))
    own = {declared.name for declared in each.profile.declared_formats}
    # A format that the first byte tells comes before the others, so there is no doubt between the two kinds.
    formats = [(raw, _reads(raw, column)) for raw in formats_of(each.profile)]
    for (first, by_first), (second, by_second) in combinations(formats, 2):
        doubtful = np.flatnonzero(by_first & by_second)
        if not len(doubtful) or own.isdisjoint((first.name, second.name)):
            continue
        if first.is_told_by_first_byte is second.is_told_by_first_byte:
            record = column[int(doubtful[0])].as_py()
            message = (
                f"{first.name} and {second.name} both read a record of {each.profile.code}, and {first.name} gets it:"
                f" {mask_numbers(record.decode())} ({shown_path(path)}:{lines.index(record) + 1})"
            )
            name = first.name if first.name in own else second.name
            fix = "narrow one of them: begins_with, separators or first_field in [recognised_by]"
            yield LintFinding(workspace.formats / f"{name}.toml", 1, LintRule.FORMATS_OVERLAP, message, fix)


def _reads(raw: RawFormat, column: pa.BinaryArray) -> Mask:
    """Return which records a format claims and reads without a fault."""
    payloads = Payloads.of(column)
    reads = raw.claims(payloads)
    rows = np.flatnonzero(reads)
    if len(rows):
        decoded = raw.decode(payloads.of_rows(rows))
        faults = [decoded.is_malformed, *decoded.unmapped.values()]
        if decoded.is_for_others is not None:
            faults.append(decoded.is_for_others)
        reads[rows] = ~np.logical_or.reduce(faults)
    return reads

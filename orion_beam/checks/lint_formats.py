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
from orion_beam.generator import generate_batches
from orion_beam.io.lines import records_among
from orion_beam.telemetry.masking import mask_numbers
from orion_beam.text_files.text_file import shown_path
from orion_beam.text_files.toml_file import toml_files
from orion_beam.transforms.arrow.texts import Mask, is_null
from orion_beam.transforms.decoders import Decoded, RawFormat
from orion_beam.transforms.decoders.payloads import Payloads, are_utf8
from orion_beam.transforms.decoders.registry import formats_of, load_format
from orion_beam.workspace import Workspace

__all__ = ["lint_formats"]


def lint_formats(
    workspace: Workspace, profiles: Sequence[Profile], folders: Mapping[str, Path]
) -> Iterator[LintFinding]:
    """Yield the findings in the formats of a workspace.

    Args:
        workspace: The workspace.
        profiles: Its valid profiles.
        folders: Folders of golden cases by country. Their records, and generated ones, show whether two formats claim
            the same record.
    """
    named = {name for each in profiles for name in each.profile.formats}
    named |= {name for profile in all_profiles(ProfileSource()).values() for name in profile.formats}
    for path in toml_files(workspace.formats):
        try:
            load_format(path)
        except (OSError, ValueError) as error:
            yield finding_of_error(path, LintRule.FORMAT_FILE, error, "the guide `Add a format` explains every key")
            continue
        if path.stem not in named:
            fix = f'name it in formats of a country: formats = ["{path.stem}"]'
            yield LintFinding(path, 1, LintRule.FORMAT_UNUSED, "no country sends it", fix)
    for each in profiles:
        if each.profile.declared_formats:
            folder = folders.get(each.profile.code)
            yield from _overlaps(workspace, each, None if folder is None else folder / INPUT_FILE)


def _overlaps(workspace: Workspace, each: Profile, path: Path | None) -> Iterator[LintFinding]:
    """Find golden cases, and generated records, that two formats of a country claim."""
    lines = path.read_bytes().split(b"\n") if path is not None and path.is_file() else []
    (batch,) = generate_batches(each.profile, _GENERATED, fits_lines=True, population_size=_GENERATED)
    records = [record for record in records_among(lines, each.profile) if record]
    column = pa.array([*records, *batch.value.to_list()], pa.binary())
    column = column.filter(pa.array(are_utf8(column)))
    own = {declared.name for declared in each.profile.declared_formats}
    # A format that the first byte tells comes before the others, so there is no doubt between the two kinds.
    formats = [(raw, *_verdicts(raw, column)) for raw in formats_of(each.profile)]
    for (first, claims, reads), (second, _, reads_too) in combinations(formats, 2):
        doubtful = np.flatnonzero(claims & reads_too)
        if not len(doubtful) or own.isdisjoint((first.name, second.name)):
            continue
        if first.is_told_by_first_byte is second.is_told_by_first_byte:
            place = int(doubtful[0])
            record = column[place].as_py()
            where = (
                f"{shown_path(path)}:{lines.index(record) + 1}" if path and record in lines else "a generated record"
            )
            does = "both read" if reads[place] else "both claim"
            message = (
                f"{first.name} and {second.name} {does} a record of {each.profile.code}, and {first.name} gets it:"
                f" {mask_numbers(record.decode())} ({where})"
            )
            name = first.name if first.name in own else second.name
            fix = "narrow one of them in [recognised_by]: begins_with, separators, first_field, or members of JSON"
            yield LintFinding(workspace.formats / f"{name}.toml", 1, LintRule.FORMATS_OVERLAP, message, fix)


_GENERATED = 500


def _verdicts(raw: RawFormat, column: pa.BinaryArray) -> tuple[Mask, Mask]:
    """Return which records a format claims, and which of them it reads without a fault; they hold an IMSI."""
    payloads = Payloads.of(column)
    claims = raw.claims(payloads)
    reads = claims.copy()
    rows = np.flatnonzero(claims)
    if len(rows):
        decoded = raw.decode(payloads.of_rows(rows))
        faults = [decoded.is_malformed, *decoded.unmapped.values(), _lacks_imsi(decoded, len(rows))]
        if decoded.is_for_others is not None:
            claims[rows] = ~decoded.is_for_others
            faults.append(decoded.is_for_others)
        reads[rows] = ~np.logical_or.reduce(faults)
    return claims, reads


def _lacks_imsi(decoded: Decoded, rows: int) -> Mask:
    return is_null(decoded.texts["imsi"]) if "imsi" in decoded.texts else np.ones(rows, np.bool_)

"""The raw formats by name: each `shipped/NAME.toml`, and those that a country's profile carries. There is no list."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.raw_formats.declaration import FormatDeclaration, format_of
from orion_beam.text_files.toml_file import parse_toml
from orion_beam.transforms.decoders import RawFormat
from orion_beam.transforms.decoders.declared import compiled_format

SHIPPED = Path(__file__).parent / "shipped"

SENT_BY_ALL = ("flat_json", "pipe_text")
"""Formats that every country may send."""


def load_format(path: Path) -> FormatDeclaration:
    """Read and check the declaration of a format, `NAME.toml`.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not TOML, or a field breaks its rule. The message names line and field.
    """
    text, table = parse_toml(path)
    try:
        declaration = format_of(path.stem, table)
    except ValidationError as error:
        raise ValueError(_problem(error, table, text)) from None
    compiled_format(declaration)
    return declaration


def _problem(error: ValidationError, table: Mapping[str, Any], text: str) -> str:
    """Return the first problem with its field, and the line of the field if the text shows it."""
    first = error.errors()[0]
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        where, message = ["kind"], "is one of separated, pairs, fixed_width, json"
    else:
        # The first part is the kind of the format, which pydantic puts before the field.
        where, message = [str(part) for part in first["loc"][1:]], first["msg"].removeprefix("Value error, ")
    if where[:1] == ["fields"] and len(where) > 1 and isinstance(table["fields"], dict):
        where[1] = list(table["fields"])[int(where[1])]
    if where[:1] == ["columns"] and len(where) > 1 and isinstance(table["columns"], dict):
        where[1:] = [list(table["columns"])[int(where[1])]]
    if where[:1] == ["maps"] and where[2:3] == ["values"] and len(where) > 3:
        given = list(table["maps"][int(where[1])]["values"].items())[int(where[3])]
        # A value and its table are a pair; so are a field of the table and its text.
        where[3:] = [given[0], *(list(given[1])[int(part)] for part in where[5:6] if isinstance(given[1], dict))]
    message = message.replace("Input should be a valid tuple", "expected a table or a list")
    # The rule of a whole table begins with the name that it is about.
    about = re.findall(r"\w+(?=[:.]|$)", message.partition(":")[0]) if ":" in message else []
    for name in [*reversed(about), *(part for part in reversed(where) if not part.isdecimal())]:
        pattern = rf"""(?<![\w"'.-])["']?{re.escape(name)}["']?\s*=|["']{re.escape(name)}["']|\[{re.escape(name)}\]"""
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(pattern, line):
                return f"line {number}: {': '.join(filter(None, ['.'.join(where), message]))}"
    return ": ".join(filter(None, [".".join(where), message]))


@cache
def all_formats() -> Mapping[str, RawFormat]:
    """Return all raw formats that ship, by name."""
    return {path.stem: compiled_format(load_format(path)) for path in sorted(SHIPPED.glob("*.toml"))}


@cache
def formats_known_to(profile: CountryProfile) -> Mapping[str, RawFormat]:
    """Return all formats that a profile may name: those that ship, and those that it carries, which win."""
    return {**all_formats(), **{each.name: compiled_format(each) for each in profile.declared_formats}}


def check_formats(profile: CountryProfile) -> None:
    """Check that all raw formats that a profile names exist.

    Raises:
        ValueError: A format does not exist. The message names it and the existing ones.
    """
    for name in profile.formats:
        if name not in (known := formats_known_to(profile)):
            raise ValueError(f"formats: there is no raw format {name!r}, only {', '.join(known)}")


@cache
def formats_of(profile: CountryProfile) -> tuple[RawFormat, ...]:
    """Return the formats that a country sends, in the order in which they may claim a payload.

    Formats that the first byte identifies come first, because the separators of the others may occur in their texts.
    After that, the country's own formats, in the order of its profile, come before those that every country may send.
    """
    formats = formats_known_to(profile)
    own = [formats[name] for name in profile.formats]
    others = [formats[name] for name in SENT_BY_ALL if name not in profile.formats]
    return tuple(sorted([*own, *others], key=lambda each: (not each.is_told_by_first_byte, each in others)))

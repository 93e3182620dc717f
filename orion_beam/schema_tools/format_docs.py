"""The page `docs/raw-formats.md`, made of the formats' own layouts.

python -m orion_beam.schema_tools.format_docs > docs/raw-formats.md
"""

import inspect
from collections.abc import Iterator
from typing import NamedTuple

from orion_beam.countries import all_profiles
from orion_beam.schemas.cdr import DecodedFields
from orion_beam.transforms.decoders import RawFormat
from orion_beam.transforms.decoders.layouts import FixedWidth, JsonObject, Layout, Pairs, Separated
from orion_beam.transforms.decoders.registry import all_formats
from orion_beam.transforms.rules.rules import COUNTS

_REQUIRED = ("imsi", "msisdn", "event_time")

_HEAD = """\
# The raw formats

Written by `make docs` from the modules of `transforms/decoders/`. One record is one message, UTF-8; formats are told
apart record by record, and a country may mix its own with those that every country may send. Blanks around
a record or a field, a byte order mark and a carriage return at the end are trimmed; an empty optional field is null.

A *required* field is one of imsi, msisdn and event time, and the event type where a format always has one: without it,
a record is rejected ([rules.md](rules.md)). A *count* is a whole number; a *time* has one of the spellings of
[data-model.md](data-model.md). Members and keys that a format does not know are ignored. One that looks like usage,
such as `bytes_up` beside `bytes_uploaded`, may be a feed that has changed its names: it is warned of once, counted in
`orion_unread_members_total` and in the report of a run over files ([monitoring.md](monitoring.md)).
"""


class _Place(NamedTuple):
    """Where a field stands, and what the format calls it."""

    where: str
    name: str
    field: str


def _places(layout: Layout) -> tuple[str, list[_Place]]:
    """Return the heading of the first column, and the fields."""
    match layout:
        case Separated():
            return "column", [_Place(str(place + 1), name, name) for place, name in enumerate(layout.fields)]
        case Pairs():
            return "key", [_Place(f"`{key}=`", key, field) for field, key in layout.names.items()]
        case FixedWidth():
            start, places = 1, []
            for field, width in layout.widths.items():
                places.append(_Place(f"{start} to {start + width - 1} ({width})", field, field))
                start += width
            return "characters (width)", places
        case JsonObject():
            return "member", [
                _Place(", else ".join(f"`{path}`" for path in paths.split(",")), paths, field)
                for field, paths in layout.paths.items()
            ]
    raise TypeError(f"{type(layout).__name__} has no table")


def _kind(raw_format: RawFormat, field: str) -> str:
    kind = "count" if field in COUNTS else "time" if field == "event_time" else "text"
    is_required = field in _REQUIRED or (field == "event_type" and raw_format.has_event_type)
    return f"{kind}, required" if is_required else kind


def _section(raw_format: RawFormat) -> Iterator[str]:
    countries = [code for code, profile in all_profiles().items() if raw_format.name in profile.formats]
    yield f"\n## {raw_format.name}\n"
    yield f"Sent by {'every country' if raw_format.is_sent_by_all else ', '.join(countries)}.\n"
    yield (inspect.getdoc(raw_format.row_model) or "") + "\n"
    if raw_format.layout is None:
        return
    heading, places = _places(raw_format.layout)
    yield f"| {heading} | unified field | read as |"
    yield "|---|---|---|"
    for place in places:
        field = place.field if place.field in DecodedFields.model_fields else f"{place.field}: see above"
        yield f"| {place.where} | {field} | {_kind(raw_format, place.field)} |"


def raw_formats_page() -> str:
    """Return the page in Markdown."""
    lines = [_HEAD.rstrip("\n")]
    for raw_format in all_formats().values():
        lines += _section(raw_format)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(raw_formats_page(), end="")

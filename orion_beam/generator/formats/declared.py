"""Renderings of declared formats: a declaration read backwards."""

from collections.abc import Mapping, Sequence
from functools import cache
from zoneinfo import ZoneInfo

import polars as pl

from orion_beam.generator.formats import Rendering, Spoil
from orion_beam.generator.times import Spelling
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import EVENT_TYPES
from orion_beam.schemas.raw_formats.declaration import (
    FixedWidthFormat,
    FormatDeclaration,
    JsonFormat,
    PairsFormat,
    SeparatedFormat,
)
from orion_beam.schemas.raw_formats.sources import COUNT_FIELDS, TIME_PART, UNITS, FieldSource, ValueMap
from orion_beam.transforms.decoders.json import path_of
from orion_beam.transforms.decoders.plain_json import Path
from orion_beam.transforms.decoders.registry import formats_of

_USUAL: Mapping[str, tuple[Spelling, ...]] = {
    "ci_semicolon": (Spelling.COMPACT_LOCAL, Spelling.ISO, Spelling.EPOCH_MILLIS),
    "flat_json": (
        Spelling.ISO, Spelling.ISO_MILLIS, Spelling.ISO_OFFSET, Spelling.EPOCH_SECONDS, Spelling.EPOCH_MILLIS,
    ),
    "fr_semicolon": (Spelling.ISO, Spelling.ISO_OFFSET, Spelling.SPACE_LOCAL, Spelling.BASIC),
    "ma_semicolon": (Spelling.ISO, Spelling.COMPACT_LOCAL, Spelling.EPOCH_SECONDS),
    "sn_fixed_width": (Spelling.ISO, Spelling.BASIC, Spelling.COMPACT_LOCAL, Spelling.EPOCH_SECONDS),
    "sn_key_value": (Spelling.ISO, Spelling.BASIC, Spelling.EPOCH_SECONDS, Spelling.COMPACT_LOCAL),
    "tn_json": (
        Spelling.ISO_MILLIS, Spelling.ISO, Spelling.ISO_SHORT_OFFSET, Spelling.EPOCH_SECONDS, Spelling.EPOCH_MILLIS,
    ),
}  # fmt: skip
"""Spellings of event times in the formats that ship, the usual one first."""

_SPELLINGS = (Spelling.ISO, Spelling.BASIC, Spelling.EPOCH_SECONDS)
"""Spellings in all other formats. None depends on a zone, which a format may have of its own."""
_LONGEST_SPELLING = {Spelling.ISO: 20, Spelling.BASIC: 16, Spelling.EPOCH_SECONDS: 10}

_STRFTIME = {
    "YYYY": "%Y", "YY": "%y", "MM": "%m", "DD": "%d", "hh": "%H", "mm": "%M", "ss": "%S", "SSS": "%3f", "+hhmm": "%z",
    "+hh:mm": "%:z",
}  # fmt: skip

_TERMINATING = ("mt", "incoming", "in", "t", "terminating")
"""Call and SMS types of an event that the subscriber received, in lower case."""

_UNDRAWN = {"node_id": "NODE-1", "cause_for_record_closing": "0"}
"""Texts of fields that no event has. Records have no sequence number: those of a node would have gaps."""


@cache
def renderings_of(profile: CountryProfile) -> Mapping[str, Rendering]:
    """Return how each raw format of a country is written, by its name."""
    return {each.name: _rendering_of(each.declaration, profile.zone) for each in formats_of(profile)}


def _rendering_of(declaration: FormatDeclaration, zone: ZoneInfo) -> Rendering:
    texts = _Texts(declaration, zone)
    widths: dict[str, int] = {}
    breakages: dict[str, Spoil] = {}
    if isinstance(declaration, SeparatedFormat):
        separator = declaration.separator
        payload = pl.concat_str([texts.of(name).fill_null("") for name in declaration.columns], separator=separator)
        if declaration.trailing_columns == "optional":
            # Empty columns at the end are not written.
            payload = payload.str.strip_chars_end(separator)
        else:
            breakages["columns missing"] = _without_last(separator, 2)
        breakages["columns too many"] = lambda whole: whole + pl.lit(f"{separator}0{separator}0")
    elif isinstance(declaration, PairsFormat):
        pairs = [pl.concat_str(pl.lit(f"{name}{declaration.sign}"), texts.of(name)) for name in texts.names]
        # Two versions of the mediation software write the pairs in two orders.
        first, other = (
            pl.concat_str(order, separator=declaration.separator, ignore_nulls=True) for order in (pairs, pairs[::-1])
        )
        payload = pl.when(pl.col("key").str.ends_with("7")).then(other).otherwise(first)
    elif isinstance(declaration, FixedWidthFormat):
        widths = {texts.field_of.get(name, name): width for name, width in declaration.columns}
        payload = pl.concat_str([_padded(texts, name, width) for name, width in declaration.columns])
        breakages["cut off"] = lambda whole: whole.str.head(sum(widths.values()) // 2)
    else:
        payload = _json(declaration, texts)
    return Rendering(
        fields=texts.fields,
        payload=payload,
        spellings=_spellings(declaration, widths),
        is_json=isinstance(declaration, JsonFormat),
        event_type=next((each.constant for each in declaration.sources if each.field == "event_type"), None),
        widths=widths,
        decimal_mark=declaration.decimal_mark,
        breakages=breakages,
    )


def _spellings(declaration: FormatDeclaration, widths: Mapping[str, int]) -> tuple[Spelling, ...]:
    """Return 64 spellings of event times: each of the others once, the usual one in the remaining places."""
    source = next((each for each in declaration.sources if each.field == "event_time"), None)
    if source is None or source.constant is not None:
        return ()
    usual, *others = _USUAL.get(declaration.name, _SPELLINGS)
    if declaration.name not in _USUAL:
        if source.pattern is not None:
            usual, others = Spelling.ISO_MILLIS, []
        elif widths:
            room = widths["event_time"]
            usual, *others = [each for each in _SPELLINGS if _LONGEST_SPELLING[each] <= room] or [usual]
    return (usual,) * (64 - len(others)) + tuple(others)


def _without_last(separator: str, columns: int) -> Spoil:
    part = rf"\x{ord(separator):02x}[^\x{ord(separator):02x}]*"
    return lambda whole: whole.str.replace(f"(?:{part}){{{columns}}}$", "")


def _padded(texts: "_Texts", name: str, width: int) -> pl.Expr:
    text = texts.of(name)
    if texts.field_of.get(name) in COUNT_FIELDS:
        # An absent count is blank; a present one is padded with zeros.
        text = text.str.zfill(width)
    elif texts.field_of.get(name) in ("msisdn", "peer_msisdn"):
        text = pl.when(text.str.len_chars() > width).then(text.str.replace(r"^(\+|00)", "")).otherwise(text)
    return text.fill_null("").str.head(width).str.pad_end(width)


class _Texts:
    """The text of each column, key or member of a format, from columns of unified names.

    Attributes:
        names: Names of all that is read, each once.
        field_of: Unified field by name, for what gives a field by itself.
        fields: Unified fields that the format holds.
    """

    def __init__(self, declaration: FormatDeclaration, zone: ZoneInfo) -> None:
        """Prepare the texts of a format in a country of the time zone `zone`."""
        self._zone, self._decimal_mark = zone, declaration.decimal_mark
        sources = [each for each in declaration.sources if each.constant is None]
        self._sources = {name: each for each in sources for name in each.sources}
        self._maps = {each.source: each for each in declaration.maps}
        self.names = tuple(dict.fromkeys([*self._sources, *self._maps]))
        self.field_of = {name: each.field for name, each in self._sources.items()}
        # Generated records leave out an event type that may be absent.
        is_absent = {each.field for each in sources if each.is_optional}
        of_maps = [field for each in declaration.maps for field in each.fields]
        self.fields = tuple(
            dict.fromkeys(
                [field for field in [*self.field_of.values(), *of_maps] if field not in (*is_absent, *_UNDRAWN)]
            )
        )

    def of(self, name: str) -> pl.Expr:
        """Return the text of a column, key or member; null where it is absent."""
        if name in self._maps:
            return _mapped(self._maps[name])
        source = self._sources.get(name)
        if source is None:
            return pl.lit(None, pl.String)
        if source.field not in self.fields:
            return pl.lit(_UNDRAWN.get(source.field), pl.String)
        text = self._written(source)
        if len(source.sources) == 1:
            return text
        # Where a field has several spellings, each record has one of them.
        which = pl.col("key").str.slice(-1).str.to_integer(strict=False).fill_null(0) % len(source.sources)
        return pl.when(which == source.sources.index(name)).then(text)

    def _written(self, source: FieldSource) -> pl.Expr:
        text = pl.col(source.field)
        if source.pattern is not None:
            pattern = TIME_PART.sub(lambda part: _STRFTIME[part[0]], source.pattern.replace("%", "%%"))
            zone = "UTC" if "+" in source.pattern else source.zone or self._zone.key
            moment = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ms", strict=False)
            local = moment.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
            # polars would move a leap second to the next minute; the text of a broken time stays as it is.
            return pl.when(~text.str.contains(":60")).then(local.dt.strftime(pattern)).otherwise(None).fill_null(text)
        if source.unit is not None:
            factor, divisor = UNITS[source.unit]
            is_count = text.str.contains(r"^[0-9]{1,15}$")
            number = pl.when(is_count).then(text).cast(pl.Int64) * divisor // factor
            return pl.coalesce(number.cast(pl.String), text)
        if source.filler is not None:
            # A filler makes the number of digits even, 3GPP TS 29.002 (TBCD-STRING).
            return pl.when(text.str.len_chars() % 2 == 1).then(text + pl.lit(source.filler)).otherwise(text)
        return text


def _mapped(value_map: ValueMap) -> pl.Expr:
    """Return a value that gives the fields of a map: one of the event type, if possible of the direction, too."""
    values = [(value, dict(given)) for value, given in value_map.values]
    if "event_type" not in value_map.fields:
        field = value_map.fields[0]
        text = pl.col(field).str.to_lowercase()
        sent = next((value for value, given in values if not _is_terminating(given)), values[0][0])
        taken = next((value for value, given in values if _is_terminating(given)), sent)
        chosen = pl.when(text.is_in(_TERMINATING)).then(pl.lit(taken)).otherwise(pl.lit(sent))
        return pl.when(text.is_not_null()).then(chosen)
    event_type = pl.col("event_type").str.to_lowercase()
    directions = [field for field in ("call_type", "sms_type") if field in value_map.fields]
    received = pl.any_horizontal(
        [
            pl.lit(False),
            *(pl.col(field).str.to_lowercase().is_in(_TERMINATING).fill_null(False) for field in directions),
        ]
    )
    # A type that the map does not give is written as one that it does; any other text stays as it is.
    text = pl.when(event_type.is_in(EVENT_TYPES)).then(pl.lit(values[0][0])).otherwise(pl.col("event_type"))
    for kind in dict.fromkeys(given["event_type"] for _, given in values if "event_type" in given):
        of_kind = [(value, given) for value, given in values if given.get("event_type") == kind]
        sent = next((value for value, given in of_kind if not _is_terminating(given)), of_kind[0][0])
        taken = next((value for value, given in of_kind if _is_terminating(given)), sent)
        of_type = pl.when(received).then(pl.lit(taken)).otherwise(pl.lit(sent))
        text = pl.when(event_type == kind).then(of_type).otherwise(text)
    return text


def _is_terminating(given: Mapping[str, str]) -> bool:
    return any(given.get(field, "").lower() in _TERMINATING for field in ("call_type", "sms_type"))


def _json(declaration: JsonFormat, texts: _Texts) -> pl.Expr:
    paths = {path_of(name): name for name in texts.names}
    whole = _container(paths, (), texts)
    for marker in declaration.recognised_by.members:
        if not any(path[0] == marker for path in paths):
            whole = pl.concat_str(pl.lit(f'{{"{marker}":1,'), whole.str.slice(1))
    return whole


def _container(paths: Mapping[Path, str], within: Path, texts: _Texts) -> pl.Expr:
    """Return the JSON of an object or array: its members that are not null."""
    depth = len(within)
    inner = [path for path in paths if path[:depth] == within]
    parts: Sequence[str | int] = list(dict.fromkeys(path[depth] for path in inner))
    members = {
        part: _member(paths, (*within, part), texts)
        if (*within, part) in paths
        else _container(paths, (*within, part), texts)
        for part in parts
    }
    indices = [part for part in parts if isinstance(part, int)]
    if indices:
        null = pl.lit("null")
        elements = [members[index].fill_null(null) if index in members else null for index in range(max(indices) + 1)]
        return pl.concat_str(pl.lit("["), pl.concat_str(elements, separator=","), pl.lit("]"))
    named = [pl.concat_str(pl.lit(f'"{part}":'), member) for part, member in members.items()]
    return pl.concat_str(pl.lit("{"), pl.concat_str(named, separator=",", ignore_nulls=True), pl.lit("}"))


def _member(paths: Mapping[Path, str], path: Path, texts: _Texts) -> pl.Expr:
    field = texts.field_of.get(paths[path])
    quote = pl.col("count_quote") if field in COUNT_FIELDS else pl.lit('"')
    if field == "event_time":
        quote = pl.col("time_quote")
    text = texts.of(paths[path])
    return pl.concat_str(quote, text, quote)

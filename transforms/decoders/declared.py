"""Compilation of a declared format to a `RawFormat`, which decodes in columns."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.fields import EVENT_TYPES
from orion_beam.schemas.raw_formats.declaration import (
    FixedWidthFormat,
    FormatDeclaration,
    JsonFormat,
    PairsFormat,
    SeparatedFormat,
)
from orion_beam.schemas.raw_formats.sources import COUNT_FIELDS, UNIFIED_FIELDS, FieldSource, ValueMap
from orion_beam.transforms.arrow.compiled import texts_of
from orion_beam.transforms.arrow.texts import Mask, if_else, index_among, is_null, mask_of, take_texts
from orion_beam.transforms.decoders import Decoded, RawFormat
from orion_beam.transforms.decoders.conversions import Conversion, conversion_of
from orion_beam.transforms.decoders.json import JsonReader, is_object
from orion_beam.transforms.decoders.layouts import FixedWidth, JsonObject, Layout, Pairs, Separated
from orion_beam.transforms.decoders.pairs import values_of_pairs
from orion_beam.transforms.decoders.payloads import Payloads
from orion_beam.transforms.decoders.unread_members import names_of

Claims = Callable[[Payloads], Mask]
_Columns = Mapping[str, pa.StringArray]

_OTHERS_SEPARATORS = b"|;={"
"""Characters that a record of fixed width must not hold, unless its declaration says how it is recognized."""

_UNMAPPED = "unmapped"


@cache
def compiled_format(declaration: FormatDeclaration) -> RawFormat:
    """Return the format that a declaration describes.

    Raises:
        ValueError: The regular expression of `recognised_by` is not one that RE2 knows. The message names it.
    """
    fields = _Fields.of(declaration)
    if isinstance(declaration, SeparatedFormat):
        own, decode, layout, header = _separated(declaration, fields)
    elif isinstance(declaration, PairsFormat):
        own, decode, layout, header = _pairs(declaration, fields)
    elif isinstance(declaration, FixedWidthFormat):
        own, decode, layout, header = _fixed_width(declaration, fields)
    else:
        own, decode, layout, header = _json(declaration, fields)
    return RawFormat(declaration, _recognition(declaration, own), decode, layout, header)


class _Parts(NamedTuple):
    """What the kinds of formats differ in: default recognition, decoder, layout, header line."""

    claims: Claims
    decode: Callable[[Payloads], Decoded]
    layout: Layout
    header: str | None = None


class _Fields(NamedTuple):
    """The unified fields of a format, as functions of its columns.

    Attributes:
        sources: The declared sources.
        maps: The declared maps.
        conversions: Conversion by unified name, for fields that have one.
        names: Names of all columns, keys or members that are read, each once.
    """

    sources: tuple[FieldSource, ...]
    maps: tuple["_Map", ...]
    conversions: Mapping[str, Conversion]
    names: tuple[str, ...]

    @classmethod
    def of(cls, declaration: FormatDeclaration) -> "_Fields":
        sources = declaration.sources
        found = {
            each.field: conversion_of(each, declaration.decimal_mark, is_count=each.field in COUNT_FIELDS)
            for each in sources
        }
        conversions = {field: conversion for field, conversion in found.items() if conversion is not None}
        names = [name for each in sources for name in each.sources] + [each.source for each in declaration.maps]
        maps = tuple(map(_Map.of, declaration.maps))
        return cls(sources, maps, MappingProxyType(conversions), tuple(dict.fromkeys(names)))

    def unified_name(self, name: str) -> str:
        """Return the unified name of the field that a column gives as it is; otherwise the column's own name."""
        unified = next((each.field for each in self.sources if name in each.sources), None)
        return unified or (f"column {name}" if name in UNIFIED_FIELDS else name)

    def decoded(
        self, columns: _Columns, is_malformed: Mask, unknown: Mapping[str, int] = MappingProxyType({})
    ) -> Decoded:
        """Return the unified fields of columns; a column that is absent is null in all rows."""
        texts: dict[str, pa.StringArray] = {}
        for each in self.sources:
            if each.constant is not None:
                texts[each.field] = pa.repeat(pa.scalar(each.constant, pa.string()), len(is_malformed))
                continue
            found = [columns[name] for name in each.sources if name in columns]
            if found:
                text = pc.coalesce(*found) if len(found) > 1 else found[0]
                conversion = self.conversions.get(each.field)
                texts[each.field] = text if conversion is None else conversion.read(text)
        unmapped = {}
        for value_map in self.maps:
            sent = columns.get(value_map.source)
            if sent is not None:
                given, is_unmapped = value_map.read(sent)
                texts |= given
                if is_unmapped is not None and is_unmapped.any():
                    unmapped[value_map.first_field] = is_unmapped
        return Decoded(texts, is_malformed, unknown=unknown, unmapped=unmapped)


class _Map(NamedTuple):
    """A map of values, ready for columns.

    Attributes:
        source: Name of the column.
        values: Values in lower case.
        options: Texts by value, in order, for each unified field.
    """

    source: str
    values: tuple[str, ...]
    options: Mapping[str, pa.StringArray]

    @classmethod
    def of(cls, value_map: ValueMap) -> "_Map":
        options = {
            field: pa.array([dict(given).get(field) for _, given in value_map.values], pa.string())
            for field in value_map.fields
        }
        return cls(value_map.source, tuple(_lowered(value) for value, _ in value_map.values), options)

    @property
    def first_field(self) -> str:
        return next(iter(self.options))

    def read(self, sent: pa.StringArray) -> tuple[_Columns, Mask | None]:
        """Return the fields that a column gives, and which rows have a value that is not mapped.

        An unmapped event type is left to the rule for event types, and the mask is None.
        """
        places = index_among(sent, self.values)
        texts = {field: take_texts(options, places) for field, options in self.options.items()}
        is_unmapped = (places < 0) & ~is_null(sent)
        if "event_type" not in texts:
            return texts, is_unmapped
        if is_unmapped.any():
            # A value that is not listed stays as it was sent, unless it would pass for an event type.
            kept = if_else(index_among(sent, EVENT_TYPES) >= 0, _UNMAPPED, sent)
            texts["event_type"] = if_else(is_unmapped, kept, texts["event_type"])
        return texts, None


def _lowered(text: str) -> str:
    return "".join(each.lower() if each.isascii() else each for each in text)


def _separated(declaration: SeparatedFormat, fields: _Fields) -> _Parts:
    separator, names = declaration.separator.encode(), declaration.columns
    quoting, is_open = declaration.quoting, declaration.trailing_columns == "optional"

    def decode(payloads: Payloads) -> Decoded:
        parts, separators = payloads.split(separator, len(names), may_be_quoted=quoting)
        surplus = separators - (len(names) - 1)
        return fields.decoded(dict(zip(names, parts, strict=True)), surplus > 0 if is_open else surplus != 0)

    layout = Separated(
        declaration.separator,
        tuple(map(fields.unified_name, names)),
        may_be_quoted=quoting,
        conversions=fields.conversions,
    )
    header = declaration.header or declaration.separator.join(names)
    return _Parts(lambda payloads: payloads.hold(separator), decode, layout, header)


def _pairs(declaration: PairsFormat, fields: _Fields) -> _Parts:
    names, keys = fields.names, pa.array(fields.names)
    separator, sign = declaration.separator.encode(), declaration.sign.encode()

    def decode(payloads: Payloads) -> Decoded:
        starts, ends, *noted = values_of_pairs(
            payloads.data, payloads.starts, payloads.ends, texts_of(keys), separator[0], sign[0]
        )
        columns = dict(zip(names, payloads.fields(starts, ends), strict=True))
        return fields.decoded(columns, np.zeros(len(payloads), np.bool_), names_of(payloads.data, *noted))

    def claims(payloads: Payloads) -> Mask:
        is_pair_first: Mask = payloads.first(sign) < payloads.first(separator)
        return is_pair_first

    by_field = {each.field: each.sources for each in fields.sources if each.sources}
    by_field |= {fields.unified_name(each.source): (each.source,) for each in fields.maps}
    return _Parts(
        claims, decode, Pairs(declaration.separator, by_field, declaration.sign, conversions=fields.conversions)
    )


def _fixed_width(declaration: FixedWidthFormat, fields: _Fields) -> _Parts:
    names, widths = zip(*declaration.columns, strict=True)
    bounds = (0, *accumulate(widths))
    width, last_column_at = bounds[-1], bounds[-2]
    known = declaration.recognised_by
    is_told = known.begins_with is not None or known.first_field is not None

    def decode(payloads: Payloads) -> Decoded:
        columns = dict(zip(names, payloads.cut_at(bounds), strict=True))
        return fields.decoded(columns, np.zeros(len(payloads), np.bool_))

    def claims(payloads: Payloads) -> Mask:
        # A record may be shorter, because the blanks that pad its last column may have been trimmed on the way. A
        # record with a blank last column must have had its full length.
        length = payloads.characters(payloads.ends)
        is_long_enough = (length > last_column_at) | (payloads.characters(payloads.untrimmed_ends) >= width)
        is_mine: Mask = is_long_enough & (length <= width)
        return is_mine if is_told else is_mine & ~payloads.hold(_OTHERS_SEPARATORS)

    columns = tuple((fields.unified_name(name), each) for name, each in declaration.columns)
    return _Parts(claims, decode, FixedWidth(columns, conversions=fields.conversions))


def _json(declaration: JsonFormat, fields: _Fields) -> _Parts:
    reader = JsonReader(fields.names, declaration.recognised_by.members)

    def decode(payloads: Payloads) -> Decoded:
        read = reader.decode(payloads)
        return fields.decoded(read.texts, read.is_malformed, read.unknown)._replace(is_for_others=read.is_for_others)

    paths = {each.field: each.sources for each in fields.sources if each.sources}
    paths |= {fields.unified_name(each.source): (each.source,) for each in fields.maps}
    return _Parts(is_object, decode, JsonObject(paths, conversions=fields.conversions))


def _recognition(declaration: FormatDeclaration, own: Claims) -> Claims:
    """Return the test for the format's payloads: that of its kind, and all that `recognised_by` names."""
    known = declaration.recognised_by
    tests: list[Claims] = [own]
    if known.begins_with is not None:
        prefix = known.begins_with.encode()
        tests.append(lambda payloads: payloads.begin_with(prefix))
    if known.separators is not None:
        tests.append(_separator_count(declaration, known.separators))
    if known.first_field is not None:
        tests.append(_first_field(declaration, known.first_field))
    return own if len(tests) == 1 else lambda payloads: _all_hold(tests, payloads)


def _all_hold(tests: Sequence[Claims], payloads: Payloads) -> Mask:
    mask = tests[0](payloads)
    for test in tests[1:]:
        mask &= test(payloads)
    return mask


def _separator_count(declaration: FormatDeclaration, count: int) -> Claims:
    if not isinstance(declaration, (SeparatedFormat, PairsFormat)):
        raise ValueError(f"recognised_by.separators: a {declaration.kind} format has no separators")
    separator = declaration.separator.encode()
    may_be_quoted = isinstance(declaration, SeparatedFormat) and declaration.quoting
    return lambda payloads: payloads.split(separator, 0, may_be_quoted=may_be_quoted)[1] == count


def _first_field(declaration: FormatDeclaration, pattern: str) -> Claims:
    whole = rf"\A(?:{pattern})\z"
    try:
        pc.match_substring_regex(pa.array([""]), whole)
    except pa.ArrowInvalid as error:
        raise ValueError(f"recognised_by.first_field: is no regular expression of RE2: {error}") from None

    if isinstance(declaration, JsonFormat):
        raise ValueError("recognised_by.first_field: a JSON object has no first field")

    def first(payloads: Payloads) -> pa.StringArray:
        if isinstance(declaration, (SeparatedFormat, PairsFormat)):
            return payloads.split(declaration.separator.encode(), 1)[0][0]
        assert isinstance(declaration, FixedWidthFormat)
        return payloads.cut_at((0, declaration.columns[0][1]))[0]

    return lambda payloads: mask_of(pc.match_substring_regex(first(payloads).fill_null(""), whole))

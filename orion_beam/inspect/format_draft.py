"""Draft of a format's declaration from a sample: separators, widths and paths by form, fields by name and content.

A draft holds names and short codes of the sample, never a number of it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from orion_beam.errors import UserError
from orion_beam.schemas.fields import BLANKS, EVENT_TYPES, RAT_GENERATIONS
from orion_beam.schemas.raw_formats.sources import UNIFIED_FIELDS, FieldSource
from orion_beam.telemetry.masking import mask_numbers
from orion_beam.transforms.arrow.times import NONE, parse_event_times
from orion_beam.transforms.decoders.conversions import conversion_of
from orion_beam.transforms.rules.networks import are_assigned, mobile_country_codes
from orion_beam.transforms.rules.numbering import has_luhn_digit

_MOST_OF = 0.8
"""Share of the records, or of a column's values, that must agree."""
_SEPARATORS = ";,|\t~^&#"
_IMSI = re.compile(r"[0-9]{14,15}[Ff]?")
_IMEI = re.compile(r"[0-9]{14,16}[Ff]?")
_NUMBER = re.compile(r"(\+|00)?[0-9]{10,15}")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_CODE = re.compile(r"[A-Za-z_-]{1,12}[0-9]{0,3}|[0-9]{1,3}")
"""Values that may be shown: too short to be a subscriber's number."""
_MOST_CODES = 12
_LONGEST = 4096
"""Most characters of a record that is not JSON."""
_MOST_CHARACTERS = 100_000
"""About how many characters of a sample the search for columns of fixed width looks at."""

_PATTERNS = (
    "DD/MM/YYYY hh:mm:ss", "DD-MM-YYYY hh:mm:ss", "DD.MM.YYYY hh:mm:ss", "YYYY/MM/DD hh:mm:ss", "DD/MM/YYYY hh:mm",
    "DD/MM/YY hh:mm:ss", "YYYYMMDD hhmmss", "YYMMDDhhmmss+hhmm", "YYMMDDhhmmss", "DDMMYYYYhhmmss", "YYYY-MM-DD hh:mm",
    "MM/DD/YYYY hh:mm:ss",
)  # fmt: skip

_HINTS = {
    "imsi": r"imsi",
    "msisdn": r"msisdn|calling|caller|a_?number|a_?party|subscriber_?number|from",
    "peer_msisdn": r"called|callee|b_?number|b_?party|dest|other_?party|peer|to",
    "imei": r"imei|imeisv|equipment|device",
    "cell_id": r"cell|cgi|ecgi|ci|site",
    "rat": r"rat|tech|radio|access",
    "event_time": r"time|date|start|timestamp|ts|when",
    "duration_s": r"dur|duration|seconds|secs",
    "bytes_up": r"up|ul|uplink|upload|uploaded|sent",
    "bytes_down": r"down|dl|downlink|download|downloaded|received",
    "apn": r"apn|access_?point",
    "charging_id": r"charging|charging_?id",
}
"""Parts of columns' names that hint at a field, in lower case."""
_HINTED_ONLY = ("cell_id", "duration_s", "bytes_up", "bytes_down", "apn", "charging_id")
"""Fields that content does not tell."""


class _Sample(NamedTuple):
    """The records of a sample, taken apart.

    Attributes:
        head: Lines of the declaration that describe the form.
        columns: Values by name of the column, key or path; an absent value is empty.
        needs_entry: Whether a column that is named like a field needs an entry in `[fields]`.
    """

    head: list[str]
    columns: Mapping[str, list[str]]
    needs_entry: bool = True


class _Found(NamedTuple):
    """A source of a field: the entry in `[fields]` after the `=`, and a remark."""

    entry: str
    remark: str = ""


def draft(lines: Sequence[bytes]) -> str:
    """Return the draft of a declaration, in TOML, of the format of some lines; at least one.

    Raises:
        UserError: A record is so long that the search for its columns would take minutes.
    """
    texts = [line.decode("utf-8", errors="replace").strip(BLANKS) for line in lines]
    texts = [text for text in texts if text]
    sample = _json(texts)
    if sample is None and (longest := max(map(len, texts))) > _LONGEST:
        raise UserError(
            f"a record has {longest:,} characters, and a draft is made of up to {_LONGEST:,}: give one record a line"
        )
    sample = sample or _pairs(texts) or _separated(texts) or _fixed_width(texts)
    found = dict(_fields_of(sample.columns))
    body = ["# A draft: check each field, and delete these remarks.", *sample.head, "", "[fields]"]
    before = len(body)
    for field in sorted(found, key=UNIFIED_FIELDS.index):
        entry, remark = found[field]
        name = json.loads(entry) if entry.startswith('"') else None
        if sample.needs_entry or name != field:
            body.append(f"{field} = {entry}" + (f"  # {remark}" if remark else ""))
    if len(body) == before:
        del body[-2:]
    for field in ("imsi", "msisdn"):
        if field not in found:
            body.append(f'# {field} = "…"  # required: no column looks like one')
    if "event_time" not in found:
        body.append("# Without event_time, the Kafka timestamp is the event time.")
    used = {name for entry, _ in found.values() for name in re.findall(r'"([^"]*)"', entry)}
    maps = [line for name, values in sample.columns.items() if name not in used for line in _map(name, values)]
    if maps and "event_type" not in found:
        body += ["", "# These columns hold few codes. If one is the record type, say what each code means:", *maps]
    # A member's name, or a line taken for a header, may hold a number.
    return mask_numbers("\n".join(body)) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json(texts: Sequence[str]) -> _Sample | None:
    records = [record for record in map(_object, texts) if record is not None]
    if len(records) < _MOST_OF * len(texts):
        return None
    flat = [dict(_leaves(record, "")) for record in records]
    paths = list(dict.fromkeys(path for record in flat for path in record))
    columns = {path: [record.get(path, "") for record in flat] for path in paths}
    return _Sample(['kind = "json"'], columns)


def _object(text: str) -> dict[str, Any] | None:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if not re.search(r"[.\[\]]", name) and name:
                yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value[:3]):
            yield from _leaves(inner, f"{path}[{place}]")
    elif value is not None:
        yield path, str(value)


def _pairs(texts: Sequence[str]) -> _Sample | None:
    for separator in _SEPARATORS:
        for sign in "=:":
            records = [
                dict(pair.split(sign, 1) for pair in text.split(separator) if sign in pair)
                for text in texts
                if separator in text and all(sign in pair for pair in text.split(separator) if pair.strip())
            ]
            if len(records) >= _MOST_OF * len(texts):
                keys = list(dict.fromkeys(key.strip(BLANKS) for record in records for key in record))
                trimmed = [{key.strip(BLANKS): value.strip(BLANKS) for key, value in each.items()} for each in records]
                columns = {key: [record.get(key, "") for record in trimmed] for key in keys}
                head = ['kind = "pairs"', f"separator = {_quoted(separator)}"]
                return _Sample(head + ([] if sign == "=" else [f"sign = {_quoted(sign)}"]), columns)
    return None


def _separated(texts: Sequence[str]) -> _Sample | None:
    best = None
    for separator in _SEPARATORS:
        rows = [_parts(text, separator) for text in texts]
        counts = Counter(map(len, rows))
        parts, agreeing = max(counts.items(), key=lambda item: (item[1], item[0]))
        is_open = agreeing < _MOST_OF * len(texts)
        if is_open:
            # Trailing columns may be missing: the longest records then have all of them.
            parts = max(counts)
            agreeing = sum(count for each, count in counts.items() if each >= parts // 2)
        if parts > 2 and agreeing >= _MOST_OF * len(texts) and (best is None or parts > best[1]):
            best = separator, parts, is_open
    if best is None:
        return None
    separator, count, is_open = best
    rows = [_parts(text, separator) for text in texts]
    rows = [[part.strip(BLANKS) for part in row] for row in rows if len(row) <= count]
    names = [f"column{place + 1}" for place in range(count)]
    first = rows[0]
    if (
        len(first) == count == len(set(first))
        and not any(len(re.findall(r"\d", name)) > 3 for name in first)
        and all(first)
    ):
        names, rows = first, rows[1:] or rows
    columns = {name: [row[place] if place < len(row) else "" for row in rows] for place, name in enumerate(names)}
    listed = [*names]
    for field, (entry, _) in dict(_fields_of(columns)).items():
        # A column without a name gets that of its field.
        if entry.startswith('"column') and (place := names.index(json.loads(entry))) >= 0 and field not in names:
            listed[place] = field
    columns = dict(zip(listed, columns.values(), strict=True))
    head = [
        'kind = "separated"',
        f"separator = {_quoted(separator)}",
        f"columns = [{', '.join(map(_quoted, listed))}]",
        *(['trailing_columns = "optional"'] if is_open else []),
    ]
    return _Sample(head, columns, needs_entry=False)


def _parts(text: str, separator: str) -> list[str]:
    mark = re.escape(separator)
    return [found[1].strip('"') for found in re.finditer(rf'(?:^|{mark})(\s*"(?:[^"]|"")*"\s*|[^{mark}]*)', text)]


def _fixed_width(texts: Sequence[str]) -> _Sample:
    width = max(map(len, texts))
    padded = [text.ljust(width) for text in texts]
    known = [span for test, lengths in _ANCHORS if (span := _anchor(padded, test, lengths)) is not None]
    starts = {0, *(start for start, _ in known), *(end for _, end in known if end < width)}
    kinds = [_kind([text[place] for text in padded]) for place in range(width)]
    for place in range(1, width):
        before, here = kinds[place - 1], kinds[place]
        # A column begins where the padding of the one before it ends.
        if (before == "b" and here != "b") or (before == "p" and here in "dx"):
            starts.add(place)
    ordered = sorted(each for each in starts if not any(start < each < end for start, end in known))
    bounds = list(zip(ordered, [*ordered[1:], width], strict=True))
    values = {
        f"column{number}": [text[start:end].strip() for text in padded] for number, (start, end) in enumerate(bounds, 1)
    }
    fields = {json.loads(entry): field for field, (entry, _) in _fields_of(values) if entry.startswith('"')}
    names = [fields.get(name, name) for name in values]
    widths = ", ".join(f"{name} = {end - start}" for name, (start, end) in zip(names, bounds, strict=True))
    head = ['kind = "fixed_width"', f"columns = {{ {widths} }}  # digits that touch may be several columns"]
    return _Sample(head, dict(zip(names, values.values(), strict=True)), needs_entry=False)


def _kind(characters: Sequence[str]) -> str:
    """Return the kind of a place in all records: b blank, d digit or sign, p digit or padding, x anything."""
    kinds = {"b" if each == " " else "d" if each.isdecimal() or each == "+" else "x" for each in characters}
    return kinds.pop() if len(kinds) == 1 else "p" if "b" in kinds else "x"


def _anchor(
    texts: Sequence[str], test: Callable[[Sequence[str]], bool], lengths: Sequence[int]
) -> tuple[int, int] | None:
    """Return start and end of the first place, of the longest possible length, that passes a test in most records."""
    some = texts[: max(1, min(200, _MOST_CHARACTERS // len(texts[0])))]
    for length in lengths:
        for start in range(len(some[0]) - length + 1):
            if test([text[start : start + length].strip() for text in some]):
                return start, start + length
    return None


def _fields_of(columns: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, _Found]]:
    """Yield fields and their sources, each field and column once."""
    free = {name: [value for value in values if value] for name, values in columns.items()}
    free = {name: values for name, values in free.items() if values}
    for field in ("imsi", "event_time", "imei", "msisdn", "peer_msisdn", "event_type", "rat", *_HINTED_ONLY):
        fitting = [(name, found) for name, values in free.items() if (found := _fits(field, name, values)) is not None]
        if fitting:
            name, found = min(fitting, key=lambda item: not _is_hinted(field, item[0]))
            del free[name]
            yield field, found
    for name in list(free):
        if name in UNIFIED_FIELDS and name not in _CHECKED:
            yield name, _Found(_quoted(name))


_CHECKED = ("imsi", "event_time", "imei", "msisdn", "peer_msisdn", "event_type", "rat", *_HINTED_ONLY)


def _is_hinted(field: str, name: str) -> bool:
    last = name.rpartition(".")[2]
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", last).lower()
    return words == field or re.search(rf"(?:^|[^a-z])(?:{_HINTS.get(field, field)})(?:$|[^a-z])", words) is not None


def _fits(field: str, name: str, values: Sequence[str]) -> _Found | None:
    """Return the source of a field if a column looks like it."""
    if field in _HINTED_ONLY:
        return _hinted(field, name, values)
    test = _TESTS[field]
    if field == "event_time":
        return _time(name, values)
    if not test(values):
        return None
    filler = f'{{ from = {_quoted(name)}, filler = "F" }}'
    return _Found(filler if field in ("imsi", "imei") and values[0][-1] in "Ff" else _quoted(name))


def _hinted(field: str, name: str, values: Sequence[str]) -> _Found | None:
    is_count = field in _BASE_UNITS
    if not _is_hinted(field, name) or (is_count and not _share(values, lambda value: value.isdecimal())):
        return None
    unit = _unit_of(name) if is_count else None
    if unit is None:
        return _Found(_quoted(name), "by its name" + (f", in {_BASE_UNITS[field]}" if is_count else ""))
    return _Found(f'{{ from = {_quoted(name)}, unit = "{unit}" }}', "by its name")


def _unit_of(name: str) -> str | None:
    units = {
        "milliseconds": r"ms|msec|millis",
        "minutes": r"min|minutes",
        "kilobytes": r"kb|kbytes",
        "kibibytes": r"kib",
    }
    return next((unit for unit, word in units.items() if re.search(rf"(?:^|_)(?:{word})(?:$|_)", name.lower())), None)


_BASE_UNITS = {"duration_s": "seconds", "bytes_up": "bytes", "bytes_down": "bytes"}
_UNIT_NAMES = {
    "milliseconds": r"ms|msec|millis", "minutes": r"min|minutes", "kilobytes": r"kb|kbytes", "kibibytes": r"kib",
}  # fmt: skip


def _share(values: Sequence[str], test: Callable[[str], object]) -> bool:
    return sum(bool(test(value)) for value in values) >= _MOST_OF * len(values)


def _are_imsis(values: Sequence[str]) -> bool:
    if not _share(values, _IMSI.fullmatch):
        return False
    digits = pa.array([value.rstrip("Ff") for value in values], pa.string())
    mccs = mobile_country_codes(digits)
    return bool(are_assigned(mccs).mean() >= _MOST_OF) and len(set(values)) > 0


def _are_imeis(values: Sequence[str]) -> bool:
    digits = pa.array([value.rstrip("Ff") for value in values], pa.string())
    return _share(values, _IMEI.fullmatch) and bool(has_luhn_digit(digits).mean() >= _MOST_OF / 2)


_TESTS: Mapping[str, Callable[[Sequence[str]], bool]] = {
    "imsi": _are_imsis,
    "imei": _are_imeis,
    "msisdn": lambda values: _share(values, _NUMBER.fullmatch),
    "peer_msisdn": lambda values: _share(values, _NUMBER.fullmatch),
    "event_type": lambda values: _share(values, lambda value: value.lower() in EVENT_TYPES),
    "rat": lambda values: _share(values, lambda value: value.lower() in RAT_GENERATIONS and not value.isdecimal()),
    "event_time": bool,
}


def _time(name: str, values: Sequence[str]) -> _Found | None:
    if _are_times(values):
        return _Found(_quoted(name))
    for pattern in _PATTERNS:
        source = FieldSource.model_validate({"field": "event_time", "from": name, "pattern": pattern})
        conversion = conversion_of(source, None, is_count=False)
        assert conversion is not None
        if _are_times(conversion.read(pa.array(values, pa.string())).to_pylist()):
            remark = "local time of the country; `zone` names another"
            return _Found(f"{{ from = {_quoted(name)}, pattern = {_quoted(pattern)} }}", remark)
    return None


def _are_times(values: Sequence[str]) -> bool:
    instants = parse_event_times(pa.array(values, pa.string()), "UTC").instants
    return bool((instants != NONE).mean() >= _MOST_OF)


def _map(name: str, values: Sequence[str]) -> Iterator[str]:
    """Yield the draft of a map, as remarks, for a column of a few short codes."""
    codes = sorted({value for value in values if value})
    if 1 < len(codes) <= _MOST_CODES and all(_CODE.fullmatch(code) for code in codes):
        yield "# [[maps]]"
        yield f"# from = {_quoted(name)}"
        yield "# [maps.values]"
        for code in codes:
            yield f'# {code if _PLAIN_NAME.fullmatch(code) else _quoted(code)} = {{ event_type = "…" }}'


_ANCHORS: Sequence[tuple[Callable[[Sequence[str]], bool], Sequence[int]]] = (
    (_are_imsis, (15,)),
    (_are_times, (25, 24, 23, 20, 19, 16, 14)),
)
"""Tests of content that find a column of fixed width, and the lengths to try."""

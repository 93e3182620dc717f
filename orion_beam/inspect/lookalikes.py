"""Description of data whose records were all rejected: the country it fits, or its shape; never a value of it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import BLANKS
from orion_beam.testing import raw_batch
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.validate import validate_batch

_SEPARATORS = {";": "`;`", "|": "`|`", ",": "commas", "\t": "tabs"}
_MEMBER = re.compile(r'"([A-Za-z_]+)"\s*:')
_MOST_MEMBERS = 8


def described(
    payloads: Sequence[bytes], country: str, profiles: Mapping[str, CountryProfile], arrived: datetime
) -> str:
    """Describe rejected records for people.

    Args:
        payloads: Some of the rejected payloads, at least one.
        country: Code of the country as which they were read.
        profiles: Profiles of all countries, by code.
        arrived: Time at which the records arrived.
    """
    accepted = {code: _accepted(payloads, profile, arrived) for code, profile in profiles.items() if code != country}
    code, (count, _) = max(accepted.items(), key=lambda item: item[1], default=(country, (0, 0)))
    if 2 * count > len(payloads):
        return f"they read as records of {code}: --input {code}=…"
    shape, rows = Counter(map(shape_of, payloads)).most_common(1)[0]
    return f"{'they look like' if rows == len(payloads) else 'most look like'} {shape}"


def _accepted(payloads: Sequence[bytes], profile: CountryProfile, arrived: datetime) -> tuple[int, int]:
    """Return how many records a country would accept, and how many of these have an IMSI of the country."""
    batch = decode_batch(raw_batch(profile.code, payloads, timestamps=arrived), profile).accepted
    rows = validate_batch(batch, {profile.code: profile}).accepted
    return rows.num_rows, sum(imsi.startswith(profile.mccs) for imsi in rows.column("imsi").to_pylist())


def shape_of(payload: bytes) -> str:
    """Describe the shape of a payload for people."""
    text = payload.decode("utf-8-sig", errors="replace").strip(BLANKS)
    if sum(not character.isprintable() and character not in BLANKS for character in text) > len(text) / 10:
        return "binary data"
    if text.startswith("{"):
        members = list(dict.fromkeys(_MEMBER.findall(text)))
        more = ", …" if len(members) > _MOST_MEMBERS else ""
        return f"JSON with the members {', '.join(members[:_MOST_MEMBERS])}{more}"
    if text.startswith(("[", "<")):
        return "a JSON array" if text.startswith("[") else "XML"
    separator = max(_SEPARATORS, key=text.count)
    if separator in text:
        return f"{text.count(separator) + 1} fields between {_SEPARATORS[separator]}"
    return f"{len(text)} characters without a separator"

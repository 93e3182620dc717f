"""FR's records: eight fields, separated by `;`."""

from orion_beam.generator.formats import Rendering, join_fields, mostly
from orion_beam.generator.times import Spelling

_FIELDS = ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")

RENDERING = Rendering(
    fields=_FIELDS,
    payload=join_fields(";", _FIELDS),
    spellings=mostly(Spelling.ISO, Spelling.ISO_OFFSET, Spelling.SPACE_LOCAL, Spelling.BASIC),
    breakages={
        "columns missing": lambda payload: payload.str.replace(r";[^;]*;[^;]*$", ""),
        "columns too many": lambda payload: payload + ";0;0",
    },
)

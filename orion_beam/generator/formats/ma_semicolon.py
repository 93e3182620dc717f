"""MA's records: seven fields, separated by `;`."""

from orion_beam.generator.formats import Rendering, join_fields, mostly
from orion_beam.generator.times import Spelling

_FIELDS = ("imsi", "msisdn", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")

RENDERING = Rendering(
    fields=_FIELDS,
    # Empty columns at the end are not written.
    payload=join_fields(";", _FIELDS).str.strip_chars_end(";"),
    spellings=mostly(Spelling.ISO, Spelling.COMPACT_LOCAL, Spelling.EPOCH_SECONDS),
    breakages={"columns too many": lambda payload: payload + ";0;0"},
)

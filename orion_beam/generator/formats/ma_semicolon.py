"""MA's records: seven fields, separated by `;`."""

from orion_beam.generator.formats import Rendering, join_fields, mostly
from orion_beam.generator.times import Spelling
from orion_beam.transforms.decoders.ma_semicolon import LAYOUT

RENDERING = Rendering(
    fields=LAYOUT.fields,
    # Empty columns at the end are not written.
    payload=join_fields(LAYOUT.separator, LAYOUT.fields).str.strip_chars_end(";"),
    spellings=mostly(Spelling.ISO, Spelling.COMPACT_LOCAL, Spelling.EPOCH_SECONDS),
    breakages={"columns too many": lambda payload: payload + ";0;0"},
)

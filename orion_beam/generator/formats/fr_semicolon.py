"""FR's records: eight fields, separated by `;`."""

from orion_beam.generator.formats import Rendering, join_fields, mostly
from orion_beam.generator.times import Spelling
from orion_beam.transforms.decoders.fr_semicolon import LAYOUT

RENDERING = Rendering(
    fields=LAYOUT.fields,
    payload=join_fields(LAYOUT.separator, LAYOUT.fields),
    spellings=mostly(Spelling.ISO, Spelling.ISO_OFFSET, Spelling.SPACE_LOCAL, Spelling.BASIC),
    breakages={
        "columns missing": lambda payload: payload.str.replace(r";[^;]*;[^;]*$", ""),
        "columns too many": lambda payload: payload + ";0;0",
    },
)

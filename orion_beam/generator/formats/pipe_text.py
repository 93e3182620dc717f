"""Short pipe text: six fields, separated by `|`, which every country sends."""

from orion_beam.generator.formats import Rendering, join_fields
from orion_beam.transforms.decoders.pipe_text import LAYOUT

RENDERING = Rendering(
    fields=LAYOUT.fields,
    payload=join_fields(LAYOUT.separator, LAYOUT.fields),
    spellings=(),
    breakages={"columns missing": lambda payload: payload.str.replace(r"\|[^|]*\|[^|]*$", "")},
)

"""Short pipe text: six fields, separated by `|`, which every country sends."""

from orion_beam.generator.formats import Rendering, join_fields

_FIELDS = ("imsi", "msisdn", "event_type", "duration_s", "bytes_up", "bytes_down")

RENDERING = Rendering(
    fields=_FIELDS,
    payload=join_fields("|", _FIELDS),
    spellings=(),
    breakages={"columns missing": lambda payload: payload.str.replace(r"\|[^|]*\|[^|]*$", "")},
)

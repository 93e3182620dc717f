"""The models whose Avro schemas are checked in. `python -m orion_beam.schemas.write` writes their files again."""

from pydantic import BaseModel

from orion_beam.schemas.cdr import EnrichedCdr, NormalizedCdr, UnifiedCdr, ValidatedCdr
from orion_beam.schemas.dead_letter import DeadLetter
from orion_beam.schemas.derive import avro_schema, avsc_path

WRITTEN_MODELS: tuple[type[BaseModel], ...] = (UnifiedCdr, ValidatedCdr, NormalizedCdr, EnrichedCdr, DeadLetter)
"""Models of the records that are written to a topic or a file as Avro."""


def write_schemas() -> None:
    """Write the `.avsc` file of each model in `WRITTEN_MODELS`."""
    for model in WRITTEN_MODELS:
        path = avsc_path(model)
        path.parent.mkdir(exist_ok=True)
        path.write_text(avro_schema(model), encoding="utf-8")


if __name__ == "__main__":
    write_schemas()

"""The models whose Avro schemas are checked in. `python -m orion_beam.schemas.write` writes their files again.

The schema of a former version is kept in `avro/older`, because its records are still on topics; see
`orion_beam.schemas.older`. `avro/fingerprints.csv` lists the versions of each record, the one in use last.
"""

from pathlib import Path

from pydantic import BaseModel

from orion_beam.schemas.avro_format import fingerprint_digits
from orion_beam.schemas.cdr import EnrichedCdr, NormalizedCdr, UnifiedCdr, ValidatedCdr
from orion_beam.schemas.dead_letter import DeadLetter
from orion_beam.schemas.derive import AVRO_DIRECTORY, avro_schema, avsc_path

WRITTEN_MODELS: tuple[type[BaseModel], ...] = (UnifiedCdr, ValidatedCdr, NormalizedCdr, EnrichedCdr, DeadLetter)
"""Models of the records that are written to a topic or a file as Avro."""


OLDER = "older"
FINGERPRINTS = "fingerprints.csv"


def older_path(name: str, digits: str, directory: Path = AVRO_DIRECTORY) -> Path:
    """Return the path of the schema of a record's older version."""
    return directory / OLDER / f"{name}-{digits}.avsc"


def listed_fingerprints(directory: Path = AVRO_DIRECTORY) -> list[tuple[str, str]]:
    """Return the name and the fingerprint of each version of each record, the ones in use last."""
    path = directory / FINGERPRINTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(name, digits) for name, digits in (line.split(",") for line in lines)]


def write_schemas(directory: Path = AVRO_DIRECTORY) -> None:
    """Write the `.avsc` file of each model in `WRITTEN_MODELS`; keep the former one if its fingerprint was another."""
    (directory / OLDER).mkdir(parents=True, exist_ok=True)
    listed = listed_fingerprints(directory)
    for model in WRITTEN_MODELS:
        name, path = model.__name__, directory / avsc_path(model).name
        version = name, fingerprint_digits(avro_schema(model))
        if path.exists():
            former = path.read_text(encoding="utf-8")
            older_path(name, fingerprint_digits(former), directory).write_text(former, encoding="utf-8")
        older_path(*version, directory).unlink(missing_ok=True)
        path.write_text(avro_schema(model), encoding="utf-8")
        listed = [*(each for each in listed if each != version), version]
    lines = "".join(f"{name},{digits}\n" for name, digits in listed)
    (directory / FINGERPRINTS).write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    write_schemas()

"""Declaration of a stage of the user's own in a job: its name, its code, its place and its options."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from orion_beam.durations import parse_duration_s
from orion_beam.schemas.cdr import DecodedFields, EnrichedCdr, UnifiedCdr, ValidatedCdr
from orion_beam.schemas.codes import CUSTOM_NAME, Stage

__all__ = ["StageDeclaration", "TAKEN_NAMES"]

TAKEN_NAMES = (
    {stage.value for stage in Stage}
    | {"tag_partials", "flag_duplicates", "detect_gaps", "publish_validate", "publish_normalize", "publish_enrich"}
    | {name for model in (DecodedFields, ValidatedCdr, EnrichedCdr, UnifiedCdr) for name in model.model_fields}
)
"""Names that stages, steps of the pipeline and fields of a CDR have already."""


def _is_free(name: str) -> str:
    if not re.fullmatch(CUSTOM_NAME, name):
        raise ValueError("a stage's name has at most 40 lower-case letters, digits and _, and begins with a letter")
    if name in TAKEN_NAMES:
        raise ValueError(f"{name} is the name of a stage or a field of ORION Beam: choose another")
    return name


def _is_duration(text: str) -> str:
    parse_duration_s(text)
    return text


class StageDeclaration(BaseModel):
    """A stage of the user's own, as a job file declares it.

    Attributes:
        name: Name of the stage: the first part of its codes, and the name of the block with its fields.
        run: Its code: the name of a file `stages/NAME.py` of the workspace, or of an entry point of the group
            `orion_beam.stages`; otherwise `module:name` of an installed package. By default the stage's name.
        after: Stage of the chain after which it runs. Stages with the same place run in the order of the job file.
        options: Options of the stage. If the code takes them as a pydantic model, they are checked before the start.
        time_limit: Longest time that it may take for a batch, such as `5m`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_is_free)] = Field(
        description="first part of the stage's codes, and the block of its fields"
    )
    run: str | None = Field(
        default=None,
        min_length=1,
        description="its code: a file stages/NAME.py, an entry point, or module:name; if none, its name",
    )
    after: Literal[Stage.VALIDATE, Stage.NORMALIZE, Stage.ENRICH] = Field(description="stage behind which it runs")
    options: Mapping[str, JsonValue] = Field(default={}, description="options of its code")
    time_limit: Annotated[str, AfterValidator(_is_duration)] = Field(
        default="5m", pattern=r"^[0-9]{1,9}[smhd]$", description="longest time that it may take for a batch"
    )

"""A declared stage of the user's own as a job takes it to its workers."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from orion_beam.job_file.stage_declaration import TAKEN_NAMES, StageDeclaration
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.codes import CUSTOM_NAME, Stage
from orion_beam.schemas.extra_fields import ExtraBlock, ExtraField, extended

__all__ = ["JobStage", "extra_blocks_of", "final_model_of"]


class JobStage(StageDeclaration):
    """A declared stage with all that a job takes to its workers, so that they need no workspace.

    Attributes:
        run: `module:name` of the code, or the name that `source` defines.
        root: Directory of the workspace, where relative paths in options begin; None without a workspace.
        path: Path of the workspace file where the source was read, for tracebacks.
        source: Source text of the workspace file; None for an installed package.
        codes: Meaning of each code, without the stage's name.
        fields: Fields that the stage adds.
    """

    run: str = Field(min_length=1)
    root: str | None = None
    path: str | None = None
    source: str | None = None
    codes: Mapping[Annotated[str, Field(pattern=f"^{CUSTOM_NAME}$")], str] = {}
    fields: tuple[ExtraField, ...] = ()

    @model_validator(mode="after")
    def _fields_are_new(self) -> Self:
        names = [field.name for field in self.fields]
        for name in names:
            if name in TAKEN_NAMES or names.count(name) > 1:
                raise ValueError(f"the field {name} is there already: choose another name")
        return self

    @property
    def block(self) -> ExtraBlock | None:
        """The block of its fields; None if it adds none."""
        return ExtraBlock(stage=self.name, fields=self.fields) if self.fields else None


def extra_blocks_of(stages: Iterable[JobStage]) -> tuple[ExtraBlock, ...]:
    """Return the blocks of the stages that add fields, in the order in which they run."""
    in_order = sorted(stages, key=lambda stage: list(Stage).index(stage.after))
    return tuple(stage.block for stage in in_order if stage.block)


def final_model_of(stages: Iterable[JobStage]) -> type[UnifiedCdr]:
    """Return the model of a value on cdr.final: UnifiedCdr with the blocks of stages."""
    return extended(UnifiedCdr, extra_blocks_of(stages))

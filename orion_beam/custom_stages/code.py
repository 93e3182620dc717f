"""The code of a stage: it is found, imported, given its options, and made ready to run.

Code of a workspace goes to the workers as text and is executed there, so they need no workspace. Code of an installed
package is imported there.
"""

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import apache_beam as beam
from pydantic import BaseModel, ValidationError

from orion_beam.custom_stages.contract import AFTER_ATTRIBUTE, CODES_ATTRIBUTE, FIELDS_ATTRIBUTE
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.custom_stages.shipped import SHIPPED_STAGES
from orion_beam.errors import UserError, first_problem
from orion_beam.job_file.stage_declaration import StageDeclaration
from orion_beam.schemas.extra_fields import ExtraType
from orion_beam.transforms.stage.split import Split, StageTransform

__all__ = ["ENTRY_POINTS", "load_stage", "load_stages", "runnable"]

ENTRY_POINTS = "orion_beam.stages"
"""Group of entry points with which an installed package offers stages."""

_OPTIONS, _AFTER = "options", "after"
"""Arguments that the code of a stage may take: its options, and the stage that it follows."""


def load_stages(declared: Iterable[StageDeclaration], directory: Path | None = None) -> tuple[JobStage, ...]:
    """Find and check the code of declared stages, in order, see `load_stage`.

    Raises:
        UserError: A stage cannot run.
    """
    return tuple(load_stage(each, directory) for each in declared)


def load_stage(declared: StageDeclaration, directory: Path | None = None) -> JobStage:
    """Find the code of a stage, import it, and check its options, codes and fields.

    Args:
        declared: The stage as the job declares it.
        directory: Directory `stages/` of the workspace; None without one.

    Raises:
        UserError: The code is not found or cannot be imported, or it refuses its options. The message names the stage,
            and the file and line of the fault.
    """
    name = declared.run or declared.name
    where: dict[str, Any] = {"run": name}
    file = None if directory is None or ":" in name else directory / f"{name}.py"
    if file is not None and file.is_file():
        where |= {"path": str(file), "source": _text_of(declared, file)}
    elif ":" not in name:
        where |= {"run": _entry_point(declared, name, file)}
    if directory is not None:
        where |= {"root": str(directory.parent)}
    stage = JobStage(**dict(declared) | where)
    return with_description_of(stage, _imported(stage))


def with_description_of(stage: JobStage, code: Any) -> JobStage:
    """Return a stage with the codes and fields of its code, after a check that the code can run.

    Raises:
        UserError: Codes, fields, options or the place are not as they must be.
    """
    fields = [{"name": name, "type": _type_name(kind)} for name, kind in getattr(code, FIELDS_ATTRIBUTE, {}).items()]
    try:
        made = JobStage(**dict(stage) | {"codes": getattr(code, CODES_ATTRIBUTE, {}), "fields": fields})
    except ValidationError as error:
        raise UserError(f"stage {stage.name}: {first_problem(error)}") from None
    places = getattr(code, AFTER_ATTRIBUTE, (made.after,))
    if made.after not in places:
        raise UserError(f"stage {made.name}: after: {made.after}: it runs after {' or '.join(places)} only")
    made_ready(made, code)
    return made


def runnable(stage: JobStage) -> Split:
    """Return the function over a batch. It may load files, so a worker calls this once for each DoFn.

    Raises:
        UserError: The code cannot be imported, or it refuses its options.
    """
    return made_ready(stage, _imported(stage))


def _text_of(declared: StageDeclaration, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"stage {declared.name}: {file} cannot be read: {error}") from None


def _entry_point(declared: StageDeclaration, name: str, file: Path | None) -> str:
    offered = {each.name: each.value for each in entry_points(group=ENTRY_POINTS)} | SHIPPED_STAGES
    if name in offered:
        return offered[name]
    no_file = "" if file is None else f"there is no {file}, and "
    raise UserError(
        f"stage {declared.name}: {no_file}no installed package offers a stage {name}; there are"
        f" {', '.join(sorted(offered))}; `run: module:name` names any other code"
    )


def _imported(stage: JobStage) -> Any:
    """Return the function or class of a stage.

    Raises:
        UserError: It cannot be imported. The message has the last line of the traceback, and the file.
    """
    if stage.source is not None:
        module, name = _module_of(stage.source, str(stage.path), stage.name), stage.run
    else:
        module_name, _, name = stage.run.partition(":")
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            raise UserError(f"stage {stage.name}: {_last_line(error, module_name)}") from None
    code: Any = module
    for part in name.split("."):
        if not hasattr(code, part):
            raise UserError(f"stage {stage.name}: {module.__file__} has no {name}: the stage's function or class")
        code = getattr(code, part)
    if not callable(code):
        raise UserError(f"stage {stage.name}: {name} in {module.__file__} is no function and no class")
    return code


def _module_of(source: str, path: str, stage: str) -> ModuleType:
    """Execute the source of a workspace file as a module; each text once a process."""
    name = f"orion_stage_{Path(path).stem}_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = path
    # Standard output is for a command's results, such as --json; lines on standard error are masked.
    module.__dict__["print"] = _print
    # pydantic and dataclasses look up the module of a class.
    sys.modules[name] = module
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"stage {stage}: {_last_line(error, path)}") from None
    return module


def _print(*values: object, file: Any = None, **options: Any) -> None:
    print(*values, file=sys.stderr if file is None else file, **options)


def _last_line(error: BaseException, file: str) -> str:
    """Return the file and line where an import fails, and the last line of the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
    elif own:
        place = f"{file}:{own[-1].lineno}"
    elif len(frames) > 1 and "importlib" not in frames[-1].filename:
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
    else:
        place = file
    return f"{place}: {traceback.format_exception_only(error)[-1].strip()}"


_TYPES = {kind.python: kind for kind in ExtraType}


def _type_name(kind: object) -> str:
    return _TYPES[kind].value if isinstance(kind, type) and kind in _TYPES else repr(kind)


def made_ready(stage: JobStage, code: Any) -> Split:
    """Return the function over a batch of a stage's code, with its options.

    Raises:
        UserError: The code refuses its options.
    """
    is_stage_transform = isinstance(code, type) and issubclass(code, StageTransform)
    if isinstance(code, type) and issubclass(code, beam.PTransform) and not is_stage_transform:
        raise UserError(f"stage {stage.name}: {code.__name__} is a PTransform: derive it from StageTransform")
    arguments = _arguments_of(stage, code)
    made: Split
    try:
        if is_stage_transform:
            made = code(**arguments).prepare()
            return made
        if isinstance(code, type):
            made = code(**arguments)
            if not callable(made) or not _takes_batch(made):
                raise UserError(f"stage {stage.name}: objects of {code.__name__} cannot be called with a batch")
            return made
    except UserError as error:
        raise UserError(str(error) if str(error).startswith("stage ") else f"stage {stage.name}: {error}") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"stage {stage.name}: {_last_line(error, stage.path or stage.run)}") from None
    made = partial(code, **arguments) if arguments else code
    if not _takes_batch(made):
        raise UserError(
            f"stage {stage.name}: {stage.run} cannot be called with a batch: write `def {stage.run}(batch)`"
        )
    return made


def _takes_batch(code: Callable[..., Any]) -> bool:
    """Return whether code can be called with one argument; True if its arguments are not known."""
    try:
        inspect.signature(code).bind(None)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _arguments_of(stage: JobStage, code: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments `options` and `after` of the code, those of the two that it takes."""
    try:
        parameters = inspect.signature(code).parameters
        hints = get_type_hints(inspect.getattr_static(code, "__init__") if isinstance(code, type) else code)
    except (TypeError, ValueError, NameError) as error:
        raise UserError(f"stage {stage.name}: the arguments of {stage.run} cannot be read: {error}") from None
    place = {_AFTER: stage.after} if _AFTER in parameters else {}
    if _OPTIONS not in parameters:
        if stage.options:
            raise UserError(f"stage {stage.name}: options: {stage.run} takes none, it has no argument `options`")
        return place
    model = hints.get(_OPTIONS)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return place | {_OPTIONS: dict(stage.options)}
    known = {field.alias or name for name, field in model.model_fields.items()}
    if "extra" not in model.model_config and (unknown := stage.options.keys() - known):
        raise UserError(
            f"stage {stage.name}: options.{min(unknown)} is no option; there are {', '.join(sorted(known))}"
        )
    try:
        return place | {_OPTIONS: model.model_validate(stage.options, context={"root": stage.root})}
    except ValidationError as error:
        raise UserError(f"stage {stage.name}: options.{first_problem(error)}") from None

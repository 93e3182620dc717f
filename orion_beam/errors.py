"""The errors that end a command with a message. A UserError gives exit code 2, any other error exit code 1."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Importing pydantic at run time would slow down `--help`.
    from pydantic import ValidationError

__all__ = [
    "InputFileError",
    "JobFailedError",
    "PrerequisiteError",
    "ServiceFailedError",
    "UserError",
    "first_problem",
]


class UserError(Exception):
    """The user's input or machine has a fault that the user can mend. The message names the fault and the fix."""


class PrerequisiteError(UserError):
    """Required software is not installed or not running."""


class InputFileError(UserError):
    """An input file cannot be read as a whole. The message names the file. Workers raise this error, too."""


class JobFailedError(Exception):
    """A streaming job ended by itself, which it must not. Commands end with exit code 1."""


class ServiceFailedError(RuntimeError):
    """Kafka, Flink, the monitoring or a build failed to start or to end. The message names its log."""


def first_problem(error: "ValidationError") -> str:
    """Return the first error as `field.inner: message`. The text never holds the field's value."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]

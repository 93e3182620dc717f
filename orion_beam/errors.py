"""The errors that end a command with a message: exit code 2 for what the user can mend, 1 for what failed by itself."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Not when it runs: `--help` should not wait for it.
    from pydantic import ValidationError


class UserError(Exception):
    """Something the user gave or has on the machine is wrong; the message names it and the fix."""


class PrerequisiteError(UserError):
    """Something that must be installed or running is not."""


class InputFileError(UserError):
    """A file that is to be read cannot be, as a whole; the message names it. Workers raise it, too."""


class JobFailedError(Exception):
    """The job ended by itself, which a stream must not. Commands end with exit code 1."""


class ServiceFailedError(RuntimeError):
    """Kafka, Flink, the monitoring or a build does not start or end as it should; the message names its log."""


def first_problem(error: "ValidationError") -> str:
    """Return the first field that breaks its rule and how, as `field.inner: what is wrong`; never the value."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]

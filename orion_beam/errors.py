"""The errors that end a command with one line: exit code 2 for what the user can mend, 1 for a job that failed."""


class UserError(Exception):
    """Something the user gave or has on the machine is wrong; the message names it and the fix."""


class PrerequisiteError(UserError):
    """Something that must be installed or running is not."""


class JobFailedError(Exception):
    """The job ended by itself, which a stream must not. Commands end with exit code 1."""

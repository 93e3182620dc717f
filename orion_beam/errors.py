"""The errors that a user can mend: one line that names the thing and the fix. Commands end with exit code 2."""


class UserError(Exception):
    """Something the user gave or has on the machine is wrong; the message names it and the fix."""


class PrerequisiteError(UserError):
    """Something that must be installed or running is not."""

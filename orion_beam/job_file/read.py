"""Reading of the job file, and the login that it gives to this process and those that it starts."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from orion_beam.errors import UserError
from orion_beam.job_file.model import JobFile
from orion_beam.job_file.secrets import is_secret, resolve_secret
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.text_files.text_file import KeyPath, TextFile, shown_path
from orion_beam.text_files.yaml_file import read_yaml
from orion_beam.workspace import Workspace, find_workspace

__all__ = ["Job", "find_job", "read_job"]

_LOGIN_FILES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")


@dataclass(frozen=True)
class Job:
    """The job file of a workspace.

    Attributes:
        workspace: The workspace.
        settings: Content of the file.
        source: The file as it is written.
    """

    workspace: Workspace
    settings: JobFile
    source: TextFile

    def is_given(self, key: str) -> bool:
        """Return whether the file has a key, such as `flink.parallelism`."""
        return tuple(key.split(".")) in self.source.lines

    def value(self, key: str) -> Any:
        """Return the value of a key, or its default."""
        found: Any = self.settings
        for name in key.split("."):
            found = getattr(found, name)
        return found

    def path(self, text: str) -> str:
        """Return a path of the file as an absolute one; it is relative to the workspace. An address stays as it is."""
        return text if "://" in text else str(self.workspace.root / text)

    def use_login(self) -> None:
        """Give the login to this process and those that it starts, unless the environment names one.

        Raises:
            UserError: The file or a secret cannot be read. The message names the key, and where the secret should be.
        """
        login = self.settings.login
        if login is None or os.environ.get(CONFIG_VARIABLE):
            return
        if isinstance(login, str) and not os.access(self.path(login), os.R_OK):
            raise self.source.error(("login",), f"{self.path(login)} cannot be read")
        os.environ[CONFIG_VARIABLE] = self.path(login) if isinstance(login, str) else _in_memory(self._login_lines())

    def _login_lines(self) -> str:
        lines = []
        assert not isinstance(self.settings.login, str | None)
        for name, text in self.settings.login.items():
            value = text
            if is_secret(name):
                try:
                    value = resolve_secret(text, self.workspace.root)
                except ValueError as error:
                    # Not `NAME: …`: what follows the name of a secret and a colon is masked as its value.
                    where = self.source.place(("login", name))
                    raise UserError(f"{where}: login: {name} is not known, since {error}") from None
            elif name.removeprefix("schema.registry.") in _LOGIN_FILES:
                value = self.path(text)
            if len(value.splitlines()) > 1:
                where = self.source.place(("login", name))
                raise UserError(f"{where}: login: {name} has more than one line, and a setting has one")
            lines.append(f"{name}={value}\n")
        return "".join(lines)


def find_job() -> Job | None:
    """Return the job of the workspace that is in use; None without a workspace.

    Raises:
        UserError: As `find_workspace` and `read_job`.
    """
    workspace = find_workspace()
    return None if workspace is None else read_job(workspace)


def read_job(workspace: Workspace) -> Job:
    """Read and check the job file of a workspace.

    Raises:
        UserError: The file cannot be read, a key is unknown, or a value breaks its rule. The message is one line with
            file, line, field and fix.
    """
    try:
        state = workspace.job_file.stat()
    except OSError as error:
        raise UserError(f"{shown_path(workspace.job_file)}: {error.strerror}") from None
    return _read(workspace, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read(workspace: Workspace, *_state_of_file: int) -> Job:
    source = read_yaml(workspace.job_file)
    if source.data is None:
        raise source.error((), "the file is empty: it needs at least `version: 1`")
    for where in _references(source.data):
        if where[:1] != ("login",) or not is_secret(str(where[-1])):
            raise source.error(where, "write the value itself: ${…} is for secrets only, under `login`")
    settings = source.checked(JobFile)
    return Job(workspace, settings, source)


def _references(value: Any, where: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the places of texts that hold a reference to the environment or a file."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _references(each, (*where, key))
    elif isinstance(value, str) and "${" in value:
        yield where


def _in_memory(text: str) -> str:
    """Return the path of a file that this process and those that it starts can read, and that is on no disk."""
    try:
        descriptor = os.memfd_create("orion-beam-login", os.MFD_CLOEXEC)
    except OSError as error:
        raise UserError(f"login: {error.strerror}; name a properties file instead") from None
    os.fchmod(descriptor, 0o600)
    os.write(descriptor, text.encode())
    return str(Path("/proc", str(os.getpid()), "fd", str(descriptor)))

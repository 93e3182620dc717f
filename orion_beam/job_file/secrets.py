"""Secrets in the job file: written as `${NAME}` (environment) or `${file:PATH}`, never as they are."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from orion_beam.kafka import CONSUMER_PREFIX, LOGIN_PREFIXES, REGISTRY_PREFIX, SECRETS
from orion_beam.text_files.private import warn_if_open
from orion_beam.text_files.text_file import text_in, why_unreadable

__all__ = ["is_secret", "resolve_secret", "refuse_secrets", "check_secrets", "is_reference"]

REFERENCE = re.compile(r"\$\{(?:file:(?P<path>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*))\}")


def is_secret(setting: str) -> bool:
    """Return whether a setting of a Kafka client holds a secret, by its name."""
    return setting.lower().endswith(SECRETS)


def check_secrets(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Check that settings are about logging in, and secrets among them references.

    Raises:
        ValueError: A setting is about something else, or a secret is written as it is; names the setting.
    """
    for name, value in settings.items():
        if is_secret(name) and not is_reference(value):
            raise ValueError(f"{name} is a secret, so write it as ${{NAME}} for the environment, or ${{file:PATH}}")
        if not name.startswith((*LOGIN_PREFIXES, CONSUMER_PREFIX, REGISTRY_PREFIX)):
            raise ValueError(f"{name} is not about logging in; other settings of clients belong under `kafka`")
    return settings


def is_reference(value: object) -> bool:
    """Return whether a value is a reference to a secret, which may be shown."""
    return isinstance(value, str) and REFERENCE.fullmatch(value) is not None


def refuse_secrets(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Check that there is no secret among settings.

    Raises:
        ValueError: There is one; names the setting.
    """
    for name in filter(is_secret, settings):
        raise ValueError(f"{name} is a secret, so write it under `login`")
    return settings


def resolve_secret(text: str, root: Path) -> str:
    """Return the secret that a reference names.

    Args:
        text: `${NAME}` or `${file:PATH}`.
        root: Directory that a relative path starts from.

    Raises:
        ValueError: The variable is not set, or the file cannot be read; names it, and never a value.
    """
    found = REFERENCE.fullmatch(text)
    assert found is not None
    if found["name"] is not None:
        if (value := os.environ.get(found["name"])) is None:
            raise ValueError(f"the environment has no variable {found['name']}: set it to the secret")
        return value
    try:
        file = root / found["path"]
        text = text_in(file).removesuffix("\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"{found['path']} cannot be read: {why_unreadable(error)}") from None
    warn_if_open(file)
    return text

"""Kafka's names of users (principals), as ACLs have them: the type, a colon and the name."""

import re

__all__ = ["check_principal"]

_PRINCIPAL = re.compile(r"[A-Za-z]+:\S.*")


def check_principal(text: str) -> str:
    """Return a principal.

    Raises:
        ValueError: The text is no principal, or means everybody.
    """
    if _PRINCIPAL.fullmatch(text) is None:
        raise ValueError("a user is TYPE:NAME as Kafka knows it, such as User:orion-stream or User:CN=orion,O=Telco")
    if text.endswith(":*"):
        raise ValueError("* is everybody: name the user that has the role")
    return text

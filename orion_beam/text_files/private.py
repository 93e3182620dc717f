"""Files that hold secrets: tokens, and a warning of files that others can read."""

import logging
import stat
from contextlib import suppress
from pathlib import Path

from orion_beam.errors import UserError

_logger = logging.getLogger(__name__)

_LEAST_CHARACTERS = 16


def read_token(path: str | Path) -> str:
    """Read a token from a file; white space around it does not count.

    Raises:
        UserError: There is no such file, its content is too short for a token, or everybody may read it.
    """
    path = Path(path)
    try:
        token = path.read_text(encoding="utf-8").strip()
        is_public = path.stat().st_mode & stat.S_IROTH
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise UserError(f"the token file {path} cannot be read ({reason}): `openssl rand -hex 32` makes one") from None
    if len(token) < _LEAST_CHARACTERS or not token.isascii() or not token.isprintable():
        raise UserError(
            f"the token file {path} holds no token: it needs at least {_LEAST_CHARACTERS} printable ASCII characters;"
            " `openssl rand -hex 32` makes one"
        )
    if is_public:
        raise UserError(
            f"every user of this machine may read the token file {path}: `chmod o= {path}` mends it, or"
            " `defaultMode: 0440` for a secret of Kubernetes"
        )
    return token


def warn_if_open(path: Path) -> None:
    """Warn of a file with secrets that every user of this machine can read."""
    with suppress(OSError):  # whoever reads the file reports it
        if path.stat().st_mode & stat.S_IROTH:
            _logger.warning(
                "%s holds secrets, and every user of this machine can read it: chmod o= %s", path, path,
                extra={"event": "open_secret_file"},
            )  # fmt: skip

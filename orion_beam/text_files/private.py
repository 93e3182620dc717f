"""Files that hold secrets: a warning of those that others can read."""

import logging
import stat
from contextlib import suppress
from pathlib import Path

_logger = logging.getLogger(__name__)


def warn_if_open(path: Path) -> None:
    """Warn of a file with secrets that every user of this machine can read."""
    with suppress(OSError):  # whoever reads the file reports it
        if path.stat().st_mode & stat.S_IROTH:
            _logger.warning(
                "%s holds secrets, and every user of this machine can read it: chmod o= %s", path, path,
                extra={"event": "open_secret_file"},
            )  # fmt: skip

"""Files on S3 and S3-compatible stores, read with Arrow.

Beam's own reader needs a further package, and asks for minutes whether a missing file has come. Region and login are
where AWS's tools have them: in environment variables or in the files under `~/.aws`. The address of another store than
AWS's own is in `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`.
"""

import io
import os
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

PREFIX = "s3://"

_READ_AHEAD_BYTES = 8 << 20
"""Bytes of a file that are read at once, since each read is a request."""
_CONNECT_TIMEOUT_S = 10
_REQUEST_TIMEOUT_S = 30


def open_s3(path: str) -> IO[bytes]:
    """Open a file.

    Args:
        path: `s3://BUCKET/KEY`.

    Raises:
        OSError: The file is not there, or the store does not give it.
    """
    file = _store().open_input_file(path.removeprefix(PREFIX))
    # Arrow's file has the methods of a raw file, but not its type.
    return io.BufferedReader(cast(io.RawIOBase, file), _READ_AHEAD_BYTES)


def stamp_of_s3(path: str) -> tuple[int, float] | None:
    """Return the size and the time of last change of a file; None if the store shows no such file."""
    try:
        found = _store().get_file_info(path.removeprefix(PREFIX))
    except OSError:
        return None
    return (found.size, found.mtime.timestamp()) if found.is_file else None


def _store() -> "S3FileSystem":
    # It is made anew for each use, so that a login that is replaced in its file is used.
    from pyarrow.fs import S3FileSystem

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return S3FileSystem(
        endpoint_override=endpoint, connect_timeout=_CONNECT_TIMEOUT_S, request_timeout=_REQUEST_TIMEOUT_S
    )

"""Search for planted secrets, also where they are packed: in archives, compressed, or in base64."""

import base64
import binascii
import bz2
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_DEPTH = 4
_LARGEST = 8 << 20
"""Bytes of a file up to which it is unpacked; what is larger holds classes."""


def is_in(data: bytes, secret: str, depth: int = _DEPTH) -> bool:
    """Return whether a secret is in bytes, as it is or packed."""
    if any(form in data for form in (secret.encode(), secret.encode("utf-16-le"), secret.encode("utf-16-be"))):
        return True
    return depth > 0 and any(is_in(inner, secret, depth - 1) for inner in _unpacked(data))


def files_with(secret: str, places: Iterable[Path]) -> list[str]:
    """Return the files below directories that hold a secret, in their content or their name."""
    found = []
    for place in places:
        for file in place.rglob("*"):
            with suppress(OSError):  # it has gone meanwhile
                if file.is_file() and (secret in file.name or is_in(file.read_bytes(), secret)):
                    found.append(str(file))
    return found


def command_lines_with(secret: str) -> list[list[str]]:
    """Return the command lines of this machine's processes that hold a secret."""
    lines = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            lines.append(process.cmdline())
    assert lines
    return [line for line in lines if secret in " ".join(line)]


def _unpacked(data: bytes) -> Iterator[bytes]:
    if data.startswith(b"PK\x03\x04"):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                if not name.endswith(".class"):
                    yield archive.read(name)
        return
    if len(data) > _LARGEST:
        return
    unpack: Callable[[bytes], bytes]
    for unpack in (zlib.decompress, bz2.decompress, lambda packed: zlib.decompress(packed, 31)):
        with suppress(zlib.error, OSError, ValueError, EOFError):
            yield unpack(data)
    for run in _BASE64.findall(data):
        with suppress(binascii.Error, ValueError):
            plain = run.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
            yield base64.b64decode(plain[: len(plain) - (len(plain) % 4 == 1)] + b"=" * (-len(plain) % 4))

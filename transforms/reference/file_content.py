"""Reading of files: decompressed, converted to UTF-8, and refused if they are not complete.

Beam's own reader of compressed files silently ends where the data is cut off.
"""

import bz2
import codecs
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import zstandard
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from orion_beam.transforms.reference.s3_files import PREFIX as S3
from orion_beam.transforms.reference.s3_files import open_s3

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE_BYTES = 4096
"""Bytes of a compressed file read at once. They bound the decompressed size: zeros shrink to a thousandth (gzip) or a
thirty-thousandth (zstd). bzip2 and xz, which shrink them more, give a block at a time."""
_BLOCK_BYTES = 1 << 16


class DamagedFileError(OSError):
    """A file cannot be read as a whole. The message says what is wrong, but does not name the file."""


class _Compression(NamedTuple):
    """A compression format of files.

    Attributes:
        name: Common name.
        endings: Endings of file names. A file with such a name must have this compression.
        magic: First bytes of such a file; empty if only the ending identifies the format.
        decompressor: Function that makes a decompressor for one member. A file may consist of several members.
    """

    name: str
    endings: tuple[str, ...]
    magic: bytes
    decompressor: Callable[[], Any]


_LARGEST_WINDOW = 1 << 31
"""Window that files of `zstd --ultra --long=31` need."""
_COMPRESSIONS = (
    _Compression("gzip", (".gz",), b"\x1f\x8b\x08", lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)),
    _Compression("bzip2", (".bz2",), b"BZh", bz2.BZ2Decompressor),
    _Compression("xz", (".xz",), b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    _Compression(
        "zstd",
        (".zst", ".zstd"),
        b"\x28\xb5\x2f\xfd",
        lambda: zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).decompressobj(),
    ),
    _Compression("lzma", (".lzma",), b"", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE)),
    _Compression("deflate", (".deflate",), b"", zlib.decompressobj),
)
_MAGIC_BYTES = 6
_BROKEN = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError)


def open_whole(path: str) -> IO[bytes]:
    """Open a file on S3 or on any file system that Beam supports. The file is opened only once, so it may be a pipe.

    Args:
        path: Path of the file. Its ending or its content shows its compression, if any.

    Returns:
        The decompressed content. Reading raises a DamagedFileError if the content is cut off, damaged, followed by
        other data than padding zeros, or not compressed as the file's ending says.

    Raises:
        OSError: The file cannot be opened.
    """
    return whole(_opened(path), path)


def _opened(path: str) -> IO[bytes]:
    if path.startswith(S3):
        return open_s3(path)
    try:
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)  # type: ignore[no-any-return]
    except ValueError:
        scheme = FileSystems.get_scheme(path)
        raise OSError(
            f"{scheme}:// cannot be read here: give a file, or s3://BUCKET/KEY, or install Beam's package for {scheme}://"
        ) from None


def whole(file: IO[bytes], name: str) -> IO[bytes]:
    """Return the decompressed content of an open file, see `open_whole`."""
    head = file.read(_MAGIC_BYTES)
    compression = _compression_of(head, name)
    if compression is None:
        if file.seekable():
            file.seek(0)
            return file
        # read1 returns the data that a pipe has now, without waiting for a full block.
        read = getattr(file, "read1", file.read)
        return _file_of(chain([head], iter(lambda: read(_BLOCK_BYTES), b"")), file)
    pieces = chain([head], iter(lambda: file.read(_PIECE_BYTES), b""))
    return _file_of(_decompressed(pieces, compression), file)


def _compression_of(head: bytes, name: str) -> _Compression | None:
    for each in _COMPRESSIONS:
        if name.lower().endswith(each.endings):
            return each
    return next((each for each in _COMPRESSIONS if each.magic and head.startswith(each.magic)), None)


def _decompressed(pieces: Iterator[bytes], compression: _Compression) -> Iterator[bytes]:
    member = compression.decompressor()
    is_begun, is_first = True, True
    for place, piece in enumerate(pieces):
        rest = piece
        if place == 0 and rest.startswith(b"\0"):
            # The lzma decompressor would read zeros as an empty file.
            raise DamagedFileError(f"it is no sound {compression.name} file (it begins with zeros)")
        while rest:
            if not is_begun:
                # Archives from tapes, and xz by its specification, may be padded with zeros.
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                member, is_begun = compression.decompressor(), True
            try:
                yield from _pieces_of(member, rest)
            except _BROKEN as error:
                raise DamagedFileError(_reason(compression, error, is_first)) from None
            rest = b""
            if member.eof:
                rest, is_begun, is_first = member.unused_data, False, False
    if is_begun:
        raise DamagedFileError(f"its {compression.name} data is cut off: the file is not complete")


def _pieces_of(member: Any, data: bytes) -> Iterator[bytes]:
    """Yield decompressed data, by blocks if it can be: bzip2 packs a gigabyte of zeros into a kilobyte."""
    if not isinstance(member, bz2.BZ2Decompressor | lzma.LZMADecompressor):
        yield member.decompress(data)
        return
    yield member.decompress(data, _BLOCK_BYTES)
    while not member.eof and not member.needs_input:
        yield member.decompress(b"", _BLOCK_BYTES)


def _reason(compression: _Compression, error: Exception, is_first: bool) -> str:
    where = "" if is_first else ", behind what could be read"
    return f"it is no sound {compression.name} file ({error}){where}"


def encoding_of(head: bytes) -> str | None:
    """Return the 16- or 32-bit encoding that the first bytes of a text show; None for any other encoding."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    # ASCII text in a 16-bit encoding has a NUL in every second byte. UTF-8 has hardly any NUL.
    even, odd = head[::2], head[1::2]
    for name, high, low in (("utf-16-be", even, odd), ("utf-16-le", odd, even)):
        if len(high) >= _FEWEST_HALVES and high.count(0) > 0.7 * len(high) and low.count(0) < 0.1 * len(low):
            return name
    return None


_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_FEWEST_HALVES = 8


def as_utf8(file: IO[bytes], encoding: str) -> IO[bytes]:
    """Convert a text file to UTF-8.

    Args:
        file: The file's bytes.
        encoding: Python's name for the file's encoding. Bytes that it cannot decode become a byte that is not UTF-8, so
            that only the record that holds them is rejected.

    Returns:
        The text. Reading raises a DamagedFileError if the file cannot have this encoding at all.
    """
    decode = codecs.getincrementaldecoder(encoding)(_UNKNOWN).decode

    def pieces() -> Iterator[bytes]:
        try:
            while block := file.read(_BLOCK_BYTES):
                yield decode(block).encode(errors="surrogateescape")
            yield decode(b"", final=True).encode(errors="surrogateescape")
        except UnicodeError as error:
            raise DamagedFileError(f"its text is not {encoding} ({error})") from None

    return _file_of(pieces(), file)


_UNKNOWN = "orion.unknown"


def _no_utf8(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\udc80", error.end


codecs.register_error(_UNKNOWN, _no_utf8)


def _file_of(pieces: Iterator[bytes], source: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(_Pieces(pieces, source), _BLOCK_BYTES)


class _Pieces(io.RawIOBase):
    """A raw file over an iterator of bytes. Closing it closes the source file."""

    def __init__(self, pieces: Iterator[bytes], source: IO[bytes]) -> None:
        self._pieces, self._source, self._rest = pieces, source, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        while not self._rest:
            if (piece := next(self._pieces, None)) is None:
                return 0
            self._rest = memoryview(piece)
        view = memoryview(buffer)
        read = min(len(view), len(self._rest))
        view[:read], self._rest = self._rest[:read], self._rest[read:]
        return read

    def close(self) -> None:
        self._source.close()
        super().close()

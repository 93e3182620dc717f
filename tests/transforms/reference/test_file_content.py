"""Files are read whole or refused; a text of another encoding becomes UTF-8."""

import bz2
import gzip
import io
import lzma
import os
import threading
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.transforms.reference.file_content import DamagedFileError, as_utf8, encoding_of, open_whole, whole

CONTENT = b"".join(b"%d;some text\n" % number for number in range(3_000))
PACKED = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    ".zst": lambda content: zstandard.ZstdCompressor(write_checksum=True).compress(content),
    ".zstd": lambda content: zstandard.ZstdCompressor(write_content_size=False).compress(content),
    ".deflate": zlib.compress,
}
every_ending = pytest.mark.parametrize("ending", PACKED)


def content_of(path, data: bytes) -> bytes:
    path.write_bytes(data)
    with open_whole(str(path)) as file:
        return file.read()


@every_ending
@pytest.mark.parametrize("content", [CONTENT, b"", b"x"], ids=["long", "empty", "short"])
def test_a_whole_file_is_read(tmp_path, ending, content):
    assert content_of(tmp_path / f"x{ending}", PACKED[ending](content)) == content


@every_ending
def test_members_one_behind_the_other_are_all_read(tmp_path, ending):
    parts = [b"a\n", b"", CONTENT, b"b"]
    data = b"".join(map(PACKED[ending], parts))
    assert content_of(tmp_path / f"X{ending.upper()}", data) == b"".join(parts)


@every_ending
@pytest.mark.parametrize("zeros", [1, 3, 512, 10_000])
def test_zeros_that_pad_a_whole_file_hold_nothing(tmp_path, ending, zeros):
    data = PACKED[ending](CONTENT)
    assert content_of(tmp_path / f"x{ending}", data + bytes(zeros)) == CONTENT
    assert content_of(tmp_path / f"x{ending}", data + bytes(zeros) + data) == CONTENT * 2


@every_ending
@pytest.mark.parametrize("kept", [0, 1, 10, 0.3, 0.9, -8, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path, ending, kept):
    data = PACKED[ending](CONTENT)
    cut = data[: int(kept * len(data)) if isinstance(kept, float) else kept]
    with pytest.raises(DamagedFileError):
        content_of(tmp_path / f"x{ending}", cut)
    if cut:
        with pytest.raises(DamagedFileError):
            content_of(tmp_path / f"x{ending}", data + cut)


@pytest.mark.parametrize("ending", sorted({*PACKED} - {".lzma"}))
@pytest.mark.parametrize("kept", [0, 1, 10, 0.3, 0.9, -8])
def test_zeros_do_not_stand_for_what_is_cut_off(tmp_path, ending, kept):
    data = PACKED[ending](CONTENT)
    cut = data[: int(kept * len(data)) if isinstance(kept, float) else kept]
    with pytest.raises(DamagedFileError):
        content_of(tmp_path / f"x{ending}", cut + bytes(len(data) - len(cut)))


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst", ".deflate"])
def test_a_file_of_other_bytes_than_were_written_is_refused(tmp_path, ending):
    data = bytearray(PACKED[ending](CONTENT))
    data[-6 if ending == ".gz" else len(data) // 2] ^= 0x40
    with pytest.raises(DamagedFileError, match=r"it is no sound|cut off"):
        content_of(tmp_path / f"x{ending}", bytes(data))


@every_ending
def test_something_else_behind_a_whole_file_is_refused(tmp_path, ending):
    with pytest.raises(DamagedFileError, match=r"behind what could be read|cut off"):
        content_of(tmp_path / f"x{ending}", PACKED[ending](CONTENT) + b"something else altogether")


@every_ending
def test_a_text_that_is_called_a_compressed_file_is_refused(tmp_path, ending):
    with pytest.raises(DamagedFileError, match=r"it is no sound \w+ file|cut off"):
        content_of(tmp_path / f"x{ending}", CONTENT)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_the_content_says_how_it_is_compressed_where_the_ending_does_not(tmp_path, ending):
    assert content_of(tmp_path / "x.csv", PACKED[ending](CONTENT)) == CONTENT


@pytest.mark.parametrize("content", [b"", b"a", b"a\nb", CONTENT], ids=len)
def test_a_file_that_is_not_compressed_is_read_as_it_is(tmp_path, content):
    assert content_of(tmp_path / "x.csv", content) == content


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pipe_is_read_as_it_comes(tmp_path, packed):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read_first = threading.Event()
    data = packed(CONTENT) if packed is bytes else packed(CONTENT) + packed(CONTENT)

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(data[:-1])
            # The rest comes when what came before has been read, which a reader of the whole would never have.
            assert read_first.wait(600)
            pipe.write(data[-1:])

    writer = threading.Thread(target=write)
    writer.start()
    with open_whole(str(path)) as file:
        begin = file.read(1000)
        read_first.set()
        rest = file.read()
    writer.join()
    assert begin + rest == (CONTENT if packed is bytes else CONTENT * 2)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst"])
def test_a_small_file_that_becomes_a_large_one_is_read_piece_by_piece(ending):
    packed = io.BytesIO(b"".join([PACKED[ending](bytes(1 << 22))] * 8))
    file, size, largest = whole(packed, f"x{ending}"), 0, 0
    while block := file.read1(1 << 30):
        size, largest = size + len(block), max(largest, len(block))
    assert (size, largest <= 1 << 22) == (8 << 22, True)


TEXT = "208011234567890;Zürich;7\n" * 5


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_texts_of_16_and_32_bits_are_known_by_their_first_bytes(encoding):
    assert encoding_of(TEXT.encode(encoding)) == encoding


@pytest.mark.parametrize("data", [TEXT.encode(), TEXT.encode("latin-1"), b"", b"\0", b"\0\0\0\0" * 50, b"a\0" * 3])
def test_other_texts_show_no_encoding(data):
    assert encoding_of(data) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7", "shift_jis"])
def test_a_text_of_another_encoding_becomes_utf_8(encoding):
    text = "imsi;é;7\r\n" * 9_000 if encoding != "shift_jis" else "imsi;ア;7\n" * 9_000
    assert as_utf8(io.BytesIO(text.encode(encoding)), encoding).read() == text.encode()


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"a\0\x00\xd8\n\0b\0\n\0", "utf-16-le"),
        (b"a\0\n\0b\0\n\0x", "utf-16-le"),
        (b"a\x81\x8d\nb\n", "cp1252"),
        (b"\xff\nb\n", "ascii"),
    ],
)
def test_what_an_encoding_does_not_know_is_no_utf_8_where_it_stands(data, encoding):
    lines = as_utf8(io.BytesIO(data), encoding).read().split(b"\n")
    readable = [line for line in lines if not is_broken(line)]
    assert b"b" in readable
    assert len(lines) - len(readable) == 1


def is_broken(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


@given(st.binary(max_size=100), st.sampled_from(["utf-16-le", "utf-32-be", "cp1252", "gb18030", "utf-8"]))
def test_no_bytes_stop_a_text_from_being_read(data, encoding):
    as_utf8(io.BytesIO(data), encoding).read()


def test_a_text_that_must_begin_with_a_mark_and_does_not_is_refused():
    with pytest.raises(DamagedFileError, match="its text is not utf-16 "):
        as_utf8(io.BytesIO(b"abcd"), "utf-16").read()

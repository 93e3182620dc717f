"""Variants of an input: what libFuzzer's one mutation at a time would need thousands of calls for, in one batch."""

import random
import zlib

import numpy as np

BATCH_BYTES = 131_072
"""Bytes of all variants of an input: a call of a columnar parser costs as much for one record as for a hundred."""
_MOST_COPIES = 256

_BYTES = np.frombuffer(
    b"0123456789" * 3 + b";|=,:{}[]\"'\\ \t\r\n\0\x01\x02\x7f\x80\xbf\xc3\xe2\xed\xef\xf4\xff+-.eEZT_NaIif" + b"\0" * 4,
    np.uint8,
)
_TEXTS = ("", "null", "true", "1", "-1", "1e400", "9" * 400, "''", '""', "[]", "{}", "[[[]]]", "{a: {b: c}}",
          "\\x00", "é", "'", '"', "${HOME}", "!!python/name:os.system", "&a [*a]", "inf", "nan", "0x1F", "2026-06-01",
          "../..", "a b", "- ", "#", "|", ">", "~", "[1, 2", "\ud7ff", "[a-z]+(", "(a+)+$", "*", "%s", ";", "=",
          "18446744073709551616")  # fmt: skip


def bytes_changed(data: bytes, cut: bytes) -> bytes:
    """Return copies of an input, with `cut` between them, in each of which about one byte of forty is another."""
    copies = max(1, min(_MOST_COPIES, BATCH_BYTES // max(1, len(data))))
    draw = np.random.default_rng(zlib.crc32(data))
    many = np.frombuffer((data + cut) * copies, np.uint8).copy()
    places = draw.integers(0, max(1, len(many)), len(many) // 40)
    many[places] = draw.choice(_BYTES, len(places))
    return many.tobytes()


def lines_changed(data: bytes, copies: int = 8) -> list[bytes]:
    """Return copies of a text file, in each of which some lines are gone, moved, indented, or have another value."""
    draw = random.Random(zlib.crc32(data))
    found = []
    for _ in range(copies):
        lines = data.decode(errors="replace").split("\n")
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(lines))
            line = lines[place]
            match draw.randrange(6):
                case 0:
                    del lines[place : place + draw.randint(0, 2)]
                case 1:
                    lines.insert(draw.randrange(len(lines)), line)
                case 2:
                    lines[place] = draw.choice(("  ", " ", "\t", "- ")) + line
                case 3:
                    mark = draw.choice((": ", " = ", "="))
                    lines[place] = line.partition(mark)[0] + mark + draw.choice(_TEXTS)
                case 4:
                    at = draw.randint(0, len(line))
                    lines[place] = line[:at] + draw.choice(_TEXTS) + line[at + draw.randint(0, 5) :]
                case 5:
                    words = line.split(" ")
                    words[draw.randrange(len(words))] = draw.choice(_TEXTS)
                    lines[place] = " ".join(words)
            lines = lines or [""]
        found.append("\n".join(lines).encode(errors="replace"))
    return found

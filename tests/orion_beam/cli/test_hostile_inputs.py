"""What others write may be hostile: it ends in a dead letter or one clear line, and controls nothing that shows it."""

import bz2
import gzip
import json
import logging
import lzma
import re
import tracemalloc
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path

import fastavro
import pytest
import zstandard
from rich.table import Table

import orion_beam.cli
from orion_beam.cli.shared.console import console_of
from orion_beam.countries import all_profiles
from orion_beam.errors import UserError
from orion_beam.inspect.final_values import FinalReader
from orion_beam.io.lines import LONGEST_LINE_BYTES, chunks_of
from orion_beam.kafka.entries import _entries
from orion_beam.replay.runs import Run
from orion_beam.schemas.dead_letter import DeadLetter
from orion_beam.schemas.derive import avro_schema
from orion_beam.telemetry.logs import _TextFormatter, say
from orion_beam.testing import raw_batch, run_stage
from orion_beam.text_files.yaml_file import read_yaml
from orion_beam.transforms.decode import DecodeCdrs
from orion_beam.transforms.reference.file_content import DamagedFileError, open_whole
from tests.command import Command
from tests.letters import LETTER

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[bold]x[/] [/none] <script>alert(1)</script>"
"""Escape sequences for a terminal, a turn of the direction of text, rich's markup with one end too many, and HTML."""

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
DEEP = 100_000
DIGITS = "9" * 10_000


@pytest.fixture
def forged(tmp_path: Path) -> Path:
    """A file of one dead letter, in which every free text is EVIL."""
    letter = LETTER | {
        "key": EVIL.encode(),
        "value": f"208011234567890;{EVIL};;;;;;".encode(),
        "headers": [{"key": EVIL, "value": EVIL.encode()}],
        "codes": ["invalid_imsi"],
        "fields": [EVIL],
        "message": EVIL,
        "version": EVIL,
        "source_topic": "cdr.raw.FR",
    }
    path = tmp_path / "cdr.dlq.avro"
    with path.open("wb") as file:
        fastavro.writer(file, json.loads(avro_schema(DeadLetter)), [letter])
    return path


@pytest.mark.parametrize("command", [("ls",), ("show", "0@0"), ("stats",), ("retest",)])
def test_a_forged_letter_controls_no_terminal(orion_beam: Command, forged: Path, command: tuple[str, ...]) -> None:
    answer = orion_beam("dlq", *command, "--input", forged)
    assert answer.code == 0, answer.err
    assert CONTROLS.findall(answer.out + answer.err) == []


def test_a_forged_letter_brings_no_script_into_the_report(orion_beam: Command, forged: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert orion_beam("dlq", "stats", "--input", forged, "--html", page).code == 0
    assert "alert(1)" in page.read_text()
    assert "<script>alert" not in page.read_text()


def test_tables_show_markup_as_it_is_and_styles_still_work() -> None:
    out = StringIO()
    table = Table("a")
    table.add_row(EVIL)
    console = console_of(file=out, force_terminal=True, color_system="standard", width=200)
    console.print(table, "red", style="red")
    shown = out.getvalue()
    assert "[bold]x[/] [/none] <script>" in shown
    assert "\x1b[31m" in shown
    assert CONTROLS.findall(re.sub("\x1b\\[[0-9;]*m", "", shown)) == []


def test_every_command_takes_the_console_that_is_safe() -> None:
    sources = Path(orion_beam.cli.__file__).parent.rglob("*.py")
    found = [path.name for path in sources if re.search(r"(?<![A-Za-z_])Console\(", path.read_text(encoding="utf-8"))]
    assert found == []


def test_a_log_line_controls_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("orion_beam", logging.WARNING, "", 0, "%s", (EVIL,), None)
    assert CONTROLS.findall(_TextFormatter().format(record)) == []
    say(f"orion-beam: error: {EVIL}")
    assert CONTROLS.findall(capsys.readouterr().err) == []


PAYLOADS = {
    "objects": b'{"imsi":' * DEEP,
    "closed objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "arrays": b'{"imsi":"208011234567890","a":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "digits": b'{"imsi":"208011234567890","msisdn":"+33612345678","timestamp":' + DIGITS.encode() + b"}",
    "digits as text": b'{"imsi":"' + DIGITS.encode() + b'","msisdn":"+33612345678"}',
    "exponent": b'{"imsi":1e400,"msisdn":-1e-400,"timestamp":1e999999999}',
    "separators": b";" * 1_000_000,
    "pairs": b"IMSI=" * 100_000,
    "ten mebibytes": b'{"imsi":"208011234567890","a":"' + b"x" * (10 << 20) + b'"}',
}


@pytest.mark.parametrize("country", ["FR", "TN", "MA", "SN"])
def test_a_payload_without_bounds_is_one_row(country: str) -> None:
    payloads = list(PAYLOADS.values())
    outcome = run_stage(DecodeCdrs(all_profiles()), [raw_batch(country, payloads)])
    offsets = [row["source_offset"] for row in (*outcome.accepted, *outcome.dead_letters)]
    assert sorted(offsets) == list(range(len(payloads)))
    assert [row["code"] for row in outcome.dead_letters if row["code"] == "internal_error"] == []


def test_ten_thousand_headers_are_kept_or_the_letter_goes_by_reference() -> None:
    headers = {f"h{number}": b"x" * 10 for number in range(10_000)}
    outcome = run_stage(DecodeCdrs(all_profiles()), [raw_batch("FR", [b"no record"], headers=[headers])])
    (letter,) = outcome.dead_letters
    assert len(letter["headers"]) == 10_000


def test_entries_and_values_that_others_write_are_skipped_not_fatal() -> None:
    deep = b"[" * DEEP
    entries = [(b"a", deep), (b"b", DIGITS.encode()), (b"c", b'{"x":1}')]
    assert list(_entries(iter(entries))) == [("c", {"x": 1})]
    assert FinalReader().read(b'{"a":' + deep) is None
    assert FinalReader().read(b'{"a":' + DIGITS.encode() + b"}") is None


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['exit 1']\n",
        "a: !!python/name:os.system\n",
        "!!python/object:object {}\n",
        "a: " + "[" * DEEP + "\n",
        "a: &a [x, x]\n"
        + "".join(f"a{n}: &a{n} [*a{n - 1 if n else ''}, *a{n - 1 if n else ''}]\n" for n in range(40)),
    ],
    ids=["call", "name", "object", "deep", "aliases"],
)
def test_yaml_makes_no_object_and_no_flood(tmp_path: Path, text: str) -> None:
    path = tmp_path / "orion.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"orion\.yaml"):
        read_yaml(path)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "a\0b", "-" * 200, "é", "a\n"])
def test_a_run_id_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is no name of a replay"):
        Run.load(tmp_path, name)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_decompression_bomb_is_told_in_bounded_memory(tmp_path: Path, ending: str) -> None:
    """A long line of zeros: many megabytes in a few kilobytes."""
    compress: Callable[[bytes], bytes] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": zstandard.ZstdCompressor().compress,
    }[ending]
    bomb = tmp_path / f"fr.csv{ending}"
    bomb.write_bytes(compress(bytes(4 * LONGEST_LINE_BYTES)))
    tracemalloc.start()
    try:
        with open_whole(str(bomb)) as file, pytest.raises(DamagedFileError, match="a line has more than 64 MiB"):
            list(chunks_of(file, 32_768))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3.5 * LONGEST_LINE_BYTES


def test_many_long_lines_come_in_small_lists() -> None:
    line = bytes(1 << 20) + b"\n"
    chunks = [len(chunk) for chunk in chunks_of(BytesIO(line * 200), 32_768)]
    assert (sum(chunks), max(chunks) <= 66) == (200, True)
    assert [len(chunk) for chunk in chunks_of(BytesIO(b"x\n" * 10), 4)] == [4, 4, 2]

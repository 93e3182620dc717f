"""What README and docs say can be done is done: snippets run, commands and options exist, made pages are as made."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest

from orion_beam.cli.main import SUBCOMMANDS
from orion_beam.format_docs import raw_formats_page
from orion_beam.testing import raw_batch
from schemas.derive import avro_schema
from schemas.raw import RawCdr

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def snippets_of(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if snippets_of(page)], ids=lambda page: page.name)
def test_every_python_snippet_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    payload = b'{"subscriber":{"imsi":"605011234567890","msisdn":"+21620123456"},"timestamp":"2026-01-02T03:04:05Z"}'
    Path("cases/tn").mkdir(parents=True)
    with Path("cases/tn/messages.avro").open("wb") as file:
        fastavro.writer(
            file, fastavro.parse_schema(json.loads(avro_schema(RawCdr))), raw_batch("TN", [payload]).to_pylist()
        )
    for snippet in snippets_of(page):
        names: dict[str, Any] = {}
        exec(compile(snippet, str(page), "exec"), names)
        tests = [found for name, found in names.items() if name.startswith("test_")]
        for test in tests:
            test()
        assert tests or names["outcome"].accepted.num_rows == 1


def commands_of(page: Path) -> Iterator[str]:
    """Yield what is written as a command, in a line of its own or within a sentence."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ").replace("\\|", "|")
    yield from re.findall(r"^ *(?:\$ )?(orion-beam [^\n]+)$", text, re.MULTILINE)
    yield from re.findall(r"`(orion-beam [^`\n]+)`", text)


def command_of(words: list[str]) -> Any:
    """Return the command that words begin with."""
    name, *rest = words
    assert name in SUBCOMMANDS, f"there is no command {name}"
    entry = SUBCOMMANDS[name]
    if rest and rest[0] in entry.subcommands:
        entry = entry.subcommands[rest[0]]
    command = entry.load(name)
    while hasattr(command, "commands") and rest:
        assert rest[0] in command.commands, f"{name} has no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command


@every_page
def test_every_command_and_option_that_is_written_down_exists(page):
    for line in commands_of(page):
        # What follows is a comment, another program's, or Beam's.
        own = re.split(r" +# | -- | [|>&] |;", line)[0]
        words = [word.strip("[]…") for word in shlex.split(own)[1:]]
        if not words or not re.fullmatch("[a-z]+", words[0]):
            continue
        command = command_of([word for word in words if word])
        options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= options, f"{line}: there is no {named - options}"


def test_every_row_of_the_table_of_commands_names_commands_that_exist():
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Commands")[2].partition("\n\nThey are")[0]
    rows = re.findall(r"^\| (`orion-beam .*?) \| ", table, re.MULTILINE)
    seen = set()
    for row in rows:
        first, *others = (re.findall("[a-z]+", cell) for cell in re.findall("`(?:orion-beam )?([^`]+)`", row))
        seen.add(first[0])
        entry = SUBCOMMANDS[first[0]]
        for name, *_ in others:
            group = entry.load(first[0])
            assert name in entry.subcommands or name in group.commands, f"{first[0]} has no command {name}"
    assert seen == set(SUBCOMMANDS)


def test_the_page_of_raw_formats_is_as_made():
    page = (ROOT / "docs" / "raw-formats.md").read_text(encoding="utf-8")
    assert page == raw_formats_page(), "run `make docs`"
    # The widths of SN's columns add up to its 102 characters, and flat JSON has each of its members.
    widths = re.findall(r"\| \d+ to \d+ \((\d+)\) \|", page)
    assert sum(map(int, widths)) == 102
    assert all(f"`{name}`" in page for name in ("bytes_uploaded", "destination_number", "cause_for_record_closing"))


DECISIONS = ROOT / "docs" / "decisions"
RECORDS = sorted(DECISIONS.glob("[0-9]*.md"))
HEADINGS = ["Context and problem", "Options considered", "Decision", "Consequences"]
MOST_LINES, MOST_ROWS, LINE_WIDTH = 50, 6, 120


def test_decisions_are_numbered_without_gaps():
    assert RECORDS
    assert [record.name[:5] for record in RECORDS] == [f"{number:04d}-" for number in range(1, len(RECORDS) + 1)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_decision_is_a_short_record_with_every_section(record):
    text = record.read_text(encoding="utf-8")
    assert re.match(
        r"---\nstatus: (proposed|accepted|rejected|superseded by \d{4})\ndate: (\d{4}-\d\d-\d\d)\n"
        r"(revised: \d{4}-\d\d-\d\d\n)?---\n\n# " + record.name[:4] + r"\. \S",
        text,
    ), "the record begins with its status, its date and its number with a title"
    assert re.findall("^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert all(section.strip() for section in re.split("^## .+$", text, flags=re.MULTILINE))
    assert len(text.splitlines()) <= MOST_LINES, "figures of many runs belong in benchmarks/history.md"
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) <= 1
    assert all(len(table.splitlines()) - 2 <= MOST_ROWS for table in tables)


def test_the_index_lists_every_decision_once_by_its_title():
    listed = re.findall(
        r"^- \[(\d{4}\. [^\]]+)\]\((\S+\.md)\):\n  \S",
        (DECISIONS / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    titles = [
        (re.findall("^# (.+)$", record.read_text(encoding="utf-8"), re.MULTILINE)[0], record.name) for record in RECORDS
    ]
    assert sorted(listed) == sorted(titles)


@pytest.mark.parametrize(
    "page",
    [*DECISIONS.glob("*.md"), ROOT / "benchmarks" / "history.md", ROOT / "CHANGELOG.md"],
    ids=lambda page: page.stem,
)
def test_lines_of_these_pages_are_wrapped(page):
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    assert [number for number, line in lines if len(line) >= LINE_WIDTH] == []


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall("^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_to_decisions_and_measurements_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve()
        if DECISIONS in (page.parent, path.parent) or path.name == "history.md":
            assert path.is_file(), f"{target} is not there"
            assert not anchor or anchor in anchors_of(path), f"{target} has no heading {anchor}"

"""What README and docs say can be done is done: snippets run, commands and options exist, made pages are as made."""

import json
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fastavro
import pytest
import yaml
from mkdocs.exceptions import PluginError

from orion_beam.cli.main import SUBCOMMANDS
from orion_beam.redrive.fates import Fate
from orion_beam.redrive.patches import Record
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.raw import RawCdr
from orion_beam.testing import raw_batch
from orion_beam.transforms.decoders.registry import all_formats
from scripts.pages import PAGES as MADE_PAGES
from scripts.site_hooks import on_config, on_post_page
from tests.command import Command, orion_beam
from tests.runners.monitoring.names import exported

__all__ = ["orion_beam"]

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
FOLDERS = (".github", "benchmarks", "docs", "orion_beam", "runners", "schemas", "scripts", "tests", "transforms")
FILES = [
    *(path for path in ROOT.iterdir() if path.is_file()),
    *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*") if "target" not in path.parts),
]
PAGES = sorted(path for path in FILES if path.suffix == ".md" and path.name != "CHANGELOG.md")
every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def snippets_of(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, also those within a list."""
    blocks = re.findall(rf"^ *```{language}\b[^\n]*\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.DOTALL | re.M)
    return [textwrap.dedent(block) for block in blocks]


@every_page
def test_a_test_that_a_page_links_to_exists(page):
    for name, path in re.findall(r"\[`([^`\]]+)`\]\(([^)]*tests/[^)]+\.py)\)", page.read_text(encoding="utf-8")):
        file = page.parent / path
        assert file.is_file(), path
        assert name == file.name or f"def {name}(" in file.read_text(encoding="utf-8"), name


# Tests of their own run these: the snippets of one need the workspace that it makes, that of the other a broker.
RUN_ELSEWHERE = {"tutorial.md", "consume.md"}
WITH_PYTHON = [page for page in PAGES if snippets_of(page, "python") and page.name not in RUN_ELSEWHERE]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_every_python_snippet_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    payload = b'{"subscriber":{"imsi":"605011234567890","msisdn":"+21620123456"},"timestamp":"2026-01-02T03:04:05Z"}'
    Path("cases/tn").mkdir(parents=True)
    with Path("cases/tn/messages.avro").open("wb") as file:
        fastavro.writer(
            file, fastavro.parse_schema(json.loads(avro_schema(RawCdr))), raw_batch("TN", [payload]).to_pylist()
        )
    for snippet in snippets_of(page, "python"):
        names: dict[str, Any] = {}
        exec(compile(snippet, str(page), "exec"), names)
        tests = [found for name, found in names.items() if name.startswith("test_")]
        for test in tests:
            test()
        if "patch" in names:
            assert patched(names["patch"], "6G") == b"208011234567890;+33612345678;;;5G;;;2026-01-02T03:04:05Z"
            assert patched(names["patch"], "LTE") is None
        else:
            assert tests or names["outcome"].accepted.num_rows == 1


def patched(patch: Any, rat: str) -> bytes | None:
    """Return what a patch for `dlq redrive` makes of a French record."""
    value = f"208011234567890;+33612345678;;;{rat};;;2026-01-02T03:04:05Z"
    texts = dict(zip(all_formats()["fr_semicolon"].layout.fields, value.split(";"), strict=True))
    return patch(
        Record(None, value.encode(), (), "FR", "validate", ("unknown_rat",), ("rat",),
               texts | {"raw_format": "fr_semicolon"})
    )  # fmt: skip


@pytest.mark.parametrize("page", [page for page in PAGES if snippets_of(page, "yaml")], ids=lambda page: page.name)
def test_every_yaml_snippet_is_yaml(page):
    assert all(isinstance(yaml.safe_load(snippet), dict) for snippet in snippets_of(page, "yaml"))


def test_the_first_own_file_comes_out_as_its_page_says(orion_beam: Command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "start" / "first-own-file.md"
    (records,) = snippets_of(page, "csv")
    Path("fr.csv").write_text(records)
    (commands,) = snippets_of(page, "console")
    outputs = []
    for line in commands.splitlines():
        code, out, _ = orion_beam(*shlex.split(line.removeprefix("$ orion-beam ")))
        assert code == 0, line
        outputs.append(out)
    assert sorted(path.name for path in Path("out").iterdir()) == ["cdr.dlq.avro", "cdr.final.avro", "run-report.json"]
    run, _, show, trace = outputs
    assert "invalid_imsi" in run
    assert "an IMSI is 14 or 15 ASCII digits" in show
    assert "home_operator" in trace


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


@pytest.mark.parametrize("name", MADE_PAGES)
def test_the_pages_that_are_made_are_as_made(name):
    assert (REFERENCE / name).read_text(encoding="utf-8") == MADE_PAGES[name](), "run `make docs`"


def test_the_page_of_raw_formats_has_every_field():
    page = (REFERENCE / "raw-formats.md").read_text(encoding="utf-8")
    # The widths of SN's columns add up to its 102 characters, and flat JSON has each of its members.
    widths = re.findall(r"\| \d+ to \d+ \((\d+)\) \|", page)
    assert sum(map(int, widths)) == 102
    assert all(f"`{name}`" in page for name in ("bytes_uploaded", "destination_number", "cause_for_record_closing"))


def test_the_page_of_commands_has_no_path_of_this_machine():
    assert str(ROOT) not in (REFERENCE / "commands.md").read_text(encoding="utf-8")


def test_every_command_has_an_example():
    _, *sections = re.split("^## ", (REFERENCE / "commands.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(sections) >= len(SUBCOMMANDS)
    for section in sections:
        assert f"```console\n{section.partition(chr(10))[0]}" in section


def first_cells_of(page: Path) -> list[str]:
    """Return the names in code type that the rows of a page's tables begin with."""
    return re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_of_metrics_has_each_metric_that_is_exported_and_no_other():
    explained = first_cells_of(REFERENCE / "metrics.md")
    names = exported() - {"up"}
    assert [name for name in explained if name not in names] == []
    # Of each metric there are names with suffixes, of which the page has the one that is scraped.
    stems = {re.sub("_(total|bucket|sum|count)$", "", name) for name in names}
    assert stems == {name.removesuffix("_total") for name in explained}


def test_every_fate_of_a_dead_letter_is_explained():
    assert first_cells_of(ROOT / "docs" / "guides" / "mend-and-redrive.md") == [fate.value for fate in Fate]


OF_TESTS = {"ORION_REQUIRE_ALL"}
BETWEEN_PROCESSES = {"ORION_PROGRESS_FD", "ORION_WITHOUT_JOB"}


def test_every_variable_of_the_environment_is_explained():
    product = [path for folder in ("orion_beam", "runners") for path in (ROOT / folder).rglob("*.py")]
    read = {name for path in product for name in re.findall(r"\bORION_[A-Z_]+\b", path.read_text(encoding="utf-8"))}
    explained = {name for name in first_cells_of(REFERENCE / "configuration.md") if name.startswith("ORION_")}
    assert explained == read - OF_TESTS - BETWEEN_PROCESSES


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_short_where_they_can_be(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [
        number
        for number, line in enumerate(lines, 1)
        # A row of a table cannot be wrapped, nor can an address.
        if len(line) >= 120 and not line.lstrip().startswith("|") and not re.search(r"https?://\S{60}", line)
    ]
    assert long == []


PATHS = re.compile(r"\b(?:docs|orion_beam|transforms|schemas|runners|tests|benchmarks|scripts)/[\w./-]*\w\.\w+")


@every_page
def test_files_that_a_page_names_exist(page):
    named = PATHS.findall(page.read_text(encoding="utf-8"))
    # Of a file that the reader is to write, the page says NAME, NNNN, or XX for a country.
    assert [name for name in named if not re.search("NAME|NNNN|xx", name, re.I) and not (ROOT / name).exists()] == []


def test_pages_that_code_names_exist():
    for path in FILES:
        if path.suffix in (".py", ".yml", ".yaml", ".toml", ".java"):
            named = re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8"))
            assert [name for name in named if not (ROOT / name).exists()] == [], path


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        if re.match("https?:", target):
            continue
        assert linked.exists(), target
        # The anchors of the API are made of docstrings; `make site` checks them.
        assert not anchor or anchor in anchors_of(linked) or linked.name == "api.md", target


def test_the_readme_fits_one_screen():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^    (make \w+)", text, re.MULTILINE) == ["make demo", "make test"]
    assert len(text.splitlines()) <= 45
    assert len(re.findall(r"^- \[", text, re.MULTILINE)) == 5
    assert len(re.findall(r"^\| ", text, re.MULTILINE)) - 1 <= 6
    assert "cdr.raw.FR ─┐" in text


DECISIONS = ROOT / "docs" / "decisions"
RECORDS = sorted(DECISIONS.glob("[0-9]*.md"))
HEADINGS = ["Context and problem", "Options considered", "Decision", "Consequences"]
MOST_LINES, MOST_ROWS = 50, 6


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
    ("text", "is_whole"),
    [
        ("[within](#head) and [outside](https://beam.apache.org)", True),
        ("[no such page](other.md)", False),
        ("[no such heading](#other)", False),
        ("![no such image](other.png)", False),
    ],
)
def test_make_site_fails_for_a_link_that_leads_nowhere(text, is_whole, tmp_path):
    (command,) = re.findall(r"^site:.*\n\t(.*mkdocs.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Head\n\n{text}\n")
    settings = {"INHERIT": str(ROOT / "mkdocs.yml"), "hooks": [], "nav": ["index.md"], "plugins": []}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    built = subprocess.run(
        command.replace("$(BIN)/python", sys.executable), shell=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert (built.returncode == 0) == is_whole, built.stderr


def test_the_site_loads_nothing_from_elsewhere():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    inside = ['<script src="assets/a.js">', '<a href="https://beam.apache.org">', '<link rel="icon" href="a.png">']
    outside = ['<script src="https://cdn/a.js">', "<link rel=stylesheet href='//fonts/a.css'>", "<img src=http://a>"]
    for tag in inside:
        on_post_page(tag, page)
    for tag in outside:
        with pytest.raises(PluginError, match="index.md"):
            on_post_page(tag, page)


def test_a_folder_in_the_sites_navigation_is_all_of_its_pages(tmp_path):
    (tmp_path / "runbooks").mkdir()
    for name in ("lag.md", "README.md", "disk.md"):
        (tmp_path / "runbooks" / name).touch()
    config = SimpleNamespace(
        docs_dir=str(tmp_path), nav=[{"Home": "index.md"}, {"Operate": [{"Runbooks": "runbooks/"}]}]
    )
    on_config(config)
    pages = ["runbooks/README.md", "runbooks/disk.md", "runbooks/lag.md"]
    assert config.nav == [{"Home": "index.md"}, {"Operate": [{"Runbooks": pages}]}]


def test_every_runbook_is_in_their_index_with_its_title_and_alerts():
    folder = ROOT / "docs" / "runbooks"
    rows = [
        f"| [{title}]({path.name}) | {alerts} |"
        for path in sorted(folder.glob("*.md"))
        if path.name != "README.md"
        for title, alerts in re.findall(r"\A# (.+)\n\nAlerts: (.+)\.\n", path.read_text(encoding="utf-8"))
    ]
    index = re.findall(r"^\| \[.*$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert index == rows

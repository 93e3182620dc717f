"""What stands in the place of a file may be none: each command says so in one line, and breaks nothing."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import fastavro
import pytest
from typer.testing import CliRunner

from orion_beam.cli.main import app
from orion_beam.io.files import DEAD_LETTER_FILE
from orion_beam.schemas.dead_letter import DeadLetter
from orion_beam.schemas.derive import avro_schema
from orion_beam.workspace import WORKSPACE_VARIABLE
from tests.command import Command
from tests.letters import LETTER

LONG = "a" * 300

LETTERS = {**LETTER, "headers": [], "codes": ["invalid_imsi"], "fields": ["imsi"]}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "own"
    assert CliRunner().invoke(app, ["init", str(root)]).exit_code == 0
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(root))
    return root


@pytest.fixture
def letters(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a file of one dead letter, with other values of some fields."""

    def write(**changes: object) -> Path:
        path = tmp_path / DEAD_LETTER_FILE
        with path.open("wb") as file:
            fastavro.writer(file, json.loads(avro_schema(DeadLetter)), [LETTERS | changes])
        return path

    return write


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--input", f"FR={LONG}", "--output", "out"),
        ("dlq", "ls", "--input", LONG),
        ("trace", "--input", LONG, "--topic", "FR.csv", "--offset", "0"),
        ("rules", "--country", "FR", "--profiles", LONG),
        ("--workspace", LONG, "lint"),
        ("topics", "plan", "--bootstrap-servers", "localhost:1", "--catalogue", LONG),
        ("country", "new", "XX", "--profiles", LONG, "--cases", "c", "--name", "X", "--mcc", "999",
         "--calling-code", "999", "--national-digits", "9", "--time-zone", "UTC"),
    ],
    ids=lambda command: command[0] if command[0] != "--workspace" else "lint",
)  # fmt: skip
def test_a_path_that_no_file_can_have_is_one_line(orion_beam: Command, command: tuple[str, ...]) -> None:
    answer = orion_beam(*command)
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("orion-beam: error: ")
    assert "File name too long" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("link", ["/nowhere/XX.toml", "XX.toml"], ids=["broken", "to itself"])
def test_a_broken_profile_breaks_its_country_only(orion_beam: Command, workspace: Path, link: str) -> None:
    (workspace / "countries" / "XX.toml").symlink_to(link)
    assert orion_beam("rules", "--country", "FR").code == 0
    answer = orion_beam("rules", "--country", "XX")
    assert (answer.code, "XX.toml: " in answer.err) == (2, True)
    assert "XX.toml" in orion_beam("lint").out


def test_the_lock_of_an_editor_is_no_profile(orion_beam: Command, workspace: Path) -> None:
    (workspace / "countries" / ".#XX.toml").symlink_to("user@host.1234")
    assert orion_beam("rules", "--country", "FR").code == 0
    assert ".#XX" not in orion_beam("lint").out


def test_an_export_replaces_no_device_and_no_directory(
    orion_beam: Command, letters: Callable[..., Path], tmp_path: Path
) -> None:
    for directory in (tmp_path, "."):
        answer = orion_beam("dlq", "export", "--input", letters(), "--output", directory)
        assert (answer.code, "Is a directory" in answer.err) == (2, True)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert orion_beam("dlq", "export", "--input", letters(), "--output", pipe).code == 0
    assert json.loads(os.read(reader, 1 << 16))["country"] == LETTERS["country"]
    os.close(reader)
    assert pipe.is_fifo()
    (tmp_path / "link").symlink_to("behind")
    assert orion_beam("dlq", "export", "--input", letters(), "--output", tmp_path / "link").code == 0
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "behind").read_text())["country"] == LETTERS["country"]
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("name", ["cdr.final.avro", "cdr.dlq.avro", "run-report.json"])
def test_a_directory_in_the_place_of_a_result_is_told_before_the_work(
    orion_beam: Command, tmp_path: Path, name: str
) -> None:
    (tmp_path / "fr.csv").write_text("208011234567890;+33612345678;;FR-1;4G;1;2;2025-06-01T12:00:00Z\n")
    (tmp_path / "out" / name).mkdir(parents=True)
    answer = orion_beam("run", "--input", f"FR={tmp_path / 'fr.csv'}", "--output", tmp_path / "out")
    assert (answer.code, f"{name} is a directory there" in answer.err) == (2, True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


@pytest.mark.parametrize("command", [("ls",), ("stats",), ("show", "0@0")])
def test_letters_of_others_that_make_no_sense_are_refused(
    orion_beam: Command, letters: Callable[..., Path], command: tuple[str, ...]
) -> None:
    answer = orion_beam("dlq", *command, "--input", letters(codes=["invalid_imsi", "invalid_msisdn"]))
    assert (answer.code, "one has not as many fields as codes" in answer.err) == (2, True)


def test_a_letter_of_the_last_day_of_the_calendar_is_shown(
    orion_beam: Command, letters: Callable[..., Path], tmp_path: Path
) -> None:
    path = letters(failed_at=253_402_300_799_000)
    assert orion_beam("dlq", "stats", "--input", path, "--html", tmp_path / "letters.html").code == 0
    assert "31 Dec 23:00 to 00:00 UTC" in (tmp_path / "letters.html").read_text()


@pytest.mark.parametrize("option", ["--from", "--to", "--last", "--offsets", "--code", "--stage", "--countries"])
def test_an_empty_filter_does_not_mean_everything(
    orion_beam: Command, letters: Callable[..., Path], option: str
) -> None:
    answer = orion_beam("dlq", "ls", "--input", letters(), option, "")
    assert (answer.code, f"{option} is empty: leave it out, or give it a value" in answer.err) == (2, True)


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--input", "FR=fr.csv", "--output", ""),
        ("dlq", "export", "--input", "x", "--output="),
        ("audit", "--bootstrap-servers", "localhost:1", "--countries", ""),
        ("doctor", "--bootstrap-servers", "localhost:1", "--group-id", ""),
        ("dlq", "redrive", "--bootstrap-servers", "localhost:1", "--set", ""),
        ("rules", "--profiles", ""),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_an_option_of_any_kind_with_an_empty_text_is_refused(orion_beam: Command, command: tuple[str, ...]) -> None:
    answer = orion_beam(*command)
    assert (answer.code, "is empty: leave it out, or give it a value" in answer.err) == (2, True)


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        ('{"line": 1e999}', "expected_final.jsonl:1: is no JSON object with a line"),
        ('{"line": 1, "x": ' + "[" * 100_000, "expected_final.jsonl:1: is no JSON object with a line"),
        ('{"line": 2, "codes": 5}', "expected_final.jsonl:1: is no JSON object with a line"),
        ('{"line": 2, "codes": "abc"}', "expected_final.jsonl:1: is no JSON object with a line"),
        ('{"line": 2, "codes": [[1]]}', "expected_final.jsonl:1: is no JSON object with a line"),
        ('{"line": 1, "imsi": "\\ud800"}', "imsi: expected"),
    ],
    ids=["infinite", "deep", "number", "text", "list", "half a character"],
)
def test_expected_outputs_that_are_none_fail_the_test(
    orion_beam: Command, workspace: Path, expected: str, says: str
) -> None:
    cases = workspace / "cases" / "fr"
    cases.mkdir(parents=True)
    (cases / "input.txt").write_text("208011234567890;+33612345678;;FR-1;4G;1;2;2025-06-01T12:00:00Z\n")
    (cases / "cases.txt").write_text("208011234567890 in a \x1b[2Jdescription\n")
    (cases / "expected_final.jsonl").write_text(expected + "\n")
    answer = orion_beam("test")
    assert (answer.code, says in answer.out) == (1, True)
    assert "208011234567890" not in answer.out + answer.err
    assert "\x1b" not in answer.out


def test_input_that_is_a_directory_is_named(orion_beam: Command, workspace: Path) -> None:
    cases = workspace / "cases" / "fr"
    (cases / "input.txt").mkdir(parents=True)
    assert "input.txt" in orion_beam("lint").out
    answer = orion_beam("test")
    assert (answer.code, "input.txt: Is a directory" in answer.out) == (1, True)


def test_two_folders_of_one_country_are_told(orion_beam: Command, workspace: Path) -> None:
    for name in ("fr", "Fr"):
        (workspace / "cases" / name).mkdir(parents=True)
    assert "is a folder of the same country" in " ".join(orion_beam("lint").out.split())


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ("login: {foo: x}", "orion.yaml:2: login: foo is not about logging in"),
        ('login: {sasl.password: "${SECRET}"}', "orion.yaml:2: login: sasl.password has more than one line"),
        ('login: {sasl.password: "${file:/dev/zero}"}', "/dev/zero cannot be read: is larger than 16 MiB"),
        ("brokers: user:passw0rd@h:1", "orion.yaml:2: brokers: an address holds no user"),
        ("metrics: {listen: ''}", "orion.yaml:2: metrics.listen: '' is no address"),
        ("workers: {listen: a}", "orion.yaml:2: workers.listen: 'a' is no address"),
        ('kafka: {consumer: {"": ""}}', "orion.yaml:2: kafka.consumer"),
        ("topics: {final: a, dead_letters: a}", "orion.yaml:2: topics: topic a is there twice"),
        ('kafka: {consumer: {"\\ud800": x}}', "orion.yaml:2: a character that no text can hold"),
    ],
)
def test_the_job_file_is_named_where_it_is_wrong(
    orion_beam: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch, job: str, says: str
) -> None:
    monkeypatch.setenv("SECRET", "passw0rd\nsasl.username=x")
    brokers = "" if job.startswith("brokers") else "brokers: localhost:1\n"
    (workspace / "orion.yaml").write_text(f"version: 1\n{job}\n{brokers}")
    answer = orion_beam("topics", "plan")
    assert (answer.code, says in answer.err) == (2, True), answer.err
    assert "passw0rd" not in answer.err


def test_keys_and_tokens_of_a_stage_are_masked(orion_beam: Command, workspace: Path) -> None:
    options = "{hmac_key: passw0rd, token: passw0rd, secret: passw0rd, key_file: keys/own}"
    (workspace / "orion.yaml").write_text(f"version: 1\nstages: [{{name: p, after: normalize, options: {options}}}]\n")
    answer = orion_beam("config", "show")
    assert "passw0rd" not in answer.out
    assert "keys/own" in answer.out


@pytest.mark.parametrize(
    ("topics", "says"),
    [
        ("topics: null", "topics: is required"),
        ("topics: {final: null}", "topics.final: is required"),
        ("topics: /dev/zero", None),
        ("a0: &a0 [[],[],[],[],[],[],[],[],[],[]]\n" + "".join(
            f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)), "use fewer aliases"),
    ],
    ids=["null", "null topic", "endless", "aliases"],
)  # fmt: skip
def test_a_catalogue_that_is_none_is_named(orion_beam: Command, tmp_path: Path, topics: str, says: str | None) -> None:
    path = Path("/dev/zero") if says is None else tmp_path / "own.yaml"
    if says is not None:
        path.write_text(topics)
    answer = orion_beam("topics", "plan", "--bootstrap-servers", "localhost:1", "--catalogue", path)
    assert answer.code == 2
    assert (says or "is larger than 16 MiB") in answer.err
    assert "topics.topics" not in answer.err

"""The desk and `trace` over what `run --output` has written, without a broker."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from orion_beam.cli.main import app
from orion_beam.defaults import PROFILES_DIRECTORY
from orion_beam.dlq.files import FileSelection
from orion_beam.dlq.filters import LetterFilter
from orion_beam.errors import UserError
from orion_beam.kafka.offset_ranges import OffsetRange
from tests.command import Answer, Command
from tests.orion_beam.dlq.desk import IMSI, MSISDN, semicolon

RECORDS = [semicolon(), semicolon(rat="6G"), b"no record", semicolon(imsi="x"), semicolon(rat="7G")]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run over RECORDS, which lie beside it in fr.csv."""
    directory = tmp_path_factory.mktemp("files")
    (directory / "fr.csv").write_bytes(b"\n".join(RECORDS))
    arguments = ["run", "--input", f"FR={directory / 'fr.csv'}", "--output", str(directory / "out")]
    answer = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert answer.exit_code == 0
    return directory / "out"


def desk(orion_beam: Command, output: Path, *arguments: str) -> Answer:
    return orion_beam("dlq", *arguments, "--input", output)


def test_letters_of_a_file_are_counted_listed_and_shown(orion_beam: Command, output: Path) -> None:
    counted = json.loads(desk(orion_beam, output, "stats", "--json").out)
    assert (counted["letters"], counted["open"], counted["redriven"]) == (4, 4, 0)
    assert counted["codes"] == {"unknown_rat": 2, "malformed_payload": 1, "invalid_imsi": 1}
    listed = [json.loads(line) for line in desk(orion_beam, output, "ls", "--json").out.splitlines()]
    assert {each["source_offset"] for each in listed} == {1, 2, 3, 4}
    assert sorted(each["place"] for each in listed) == ["0@0", "0@1", "0@2", "0@3"]
    (place,) = [each["place"] for each in listed if each["codes"] == ["invalid_imsi"]]
    shown = desk(orion_beam, output, "show", place)
    assert "+3361••••678" in shown.out
    assert MSISDN in desk(orion_beam, output, "show", place, "--reveal").out
    nothing = desk(orion_beam, output, "show", "0@4")
    assert (nothing.code, "holds nothing" in nothing.err) == (2, True)


@pytest.mark.parametrize("file", [".", "cdr.dlq.avro"])
def test_the_file_itself_will_do_and_filters_hold(output: Path, file: str) -> None:
    def sources(**wanted: object) -> list[int]:
        read = FileSelection.of(output / file, LetterFilter(**wanted)).read()
        return [offset for each in read for offset in each.letters.column("source_offset").to_pylist()]

    assert sorted(sources()) == [1, 2, 3, 4]
    assert sorted(sources(offsets={0: OffsetRange(1, 3)})) == sorted(sources()[1:3])
    assert sources(offsets={1: OffsetRange(0, 3)}) == []
    assert sources(countries=frozenset({"TN"})) == []


def test_a_list_says_how_many_more_there_are(orion_beam: Command, output: Path) -> None:
    listed = desk(orion_beam, output, "ls", "--json", "--limit", "1")
    assert len(listed.out.splitlines()) == 1
    assert "3 more, older ones" in listed.err
    assert "more" not in desk(orion_beam, output, "ls", "--limit", "4").err


def test_letters_of_a_file_are_tested_again_and_exported(orion_beam: Command, output: Path, tmp_path: Path) -> None:
    assert json.loads(desk(orion_beam, output, "retest", "--json").out)["fails_alike"] == 4
    file = tmp_path / "letters.jsonl"
    assert desk(orion_beam, output, "export", "--output", str(file)).code == 0
    assert len(file.read_bytes().splitlines()) == 4


def test_letters_of_a_file_are_tested_by_profiles_of_ones_own(
    orion_beam: Command, output: Path, tmp_path: Path
) -> None:
    own = tmp_path / "FR.toml"
    own.write_text((PROFILES_DIRECTORY / "FR.toml").read_text() + '[rules]\nunknown_rat = "warn"\n')
    counted = json.loads(desk(orion_beam, output, "retest", "--profiles", str(own), "--json").out)
    assert (counted["passes"], counted["fails_alike"]) == (2, 2)


@pytest.mark.parametrize("where", [("--bootstrap-servers", "localhost:1"), ("--input", "{output}")])
def test_a_cdr_id_in_another_notation_is_refused(orion_beam: Command, output: Path, where: tuple[str, str]) -> None:
    answer = orion_beam("trace", where[0], where[1].format(output=output), "--cdr-id", "0x8af0")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith("--cdr-id '0x8af0' is no cdr_id: expected up to 39 decimal digits\n")


def test_letters_of_a_file_have_no_topic_to_go_back_to(orion_beam: Command, output: Path) -> None:
    answer = desk(orion_beam, output, "redrive", "--execute")
    assert answer.code == 2
    assert "letters of files have no topic to go back to" in answer.err


def test_letters_in_parquet_are_read_as_well(output: Path, tmp_path: Path) -> None:
    """As a replay writes them."""
    read = [each.letters for each in FileSelection.of(output, LetterFilter()).read()]
    letters = pa.Table.from_batches(read).drop_columns(["letter_partition", "letter_offset", "reference", "run_id"])
    (tmp_path / "cdr.dlq").mkdir()
    pq.write_table(letters.slice(0, 3), tmp_path / "cdr.dlq" / "1.parquet")
    pq.write_table(letters.slice(3), tmp_path / "cdr.dlq" / "2.parquet")
    again = FileSelection.of(tmp_path, LetterFilter())
    assert again.offsets == 4
    assert pa.Table.from_batches(each.letters for each in again.read()).to_pylist() == (
        pa.Table.from_batches(read).to_pylist()
    )


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("cdr.dlq.avro", b"no avro", "it is cut off, or holds something else"),
        ("cdr.dlq.avro", None, "it is cut off, or holds something else"),
        ("x.parquet", b"no parquet", "cannot be read"),
        ("other", b"", "expected cdr.dlq.avro, a directory cdr.dlq of Parquet files"),
    ],
)
def test_a_file_that_is_none_is_named(
    orion_beam: Command, output: Path, tmp_path: Path, name, content, problem
) -> None:
    whole = (output / "cdr.dlq.avro").read_bytes()
    (tmp_path / name).write_bytes(whole[:-20] if content is None else content)
    answer = desk(orion_beam, tmp_path, "stats")
    assert answer.code == 2
    assert problem in answer.err


def test_cdrs_are_no_dead_letters(orion_beam: Command, output: Path) -> None:
    answer = desk(orion_beam, output / "cdr.final.avro", "stats")
    assert answer.code == 2
    assert "cannot be read as records of DeadLetter" in answer.err


@pytest.mark.parametrize("options", [(), ("--bootstrap-servers", "127.0.0.1:1", "--input", ".")])
@pytest.mark.parametrize("command", [("dlq", "ls"), ("dlq", "stats"), ("dlq", "show", "0@0"), ("trace",)])
def test_where_to_look_is_said_once(orion_beam: Command, command, options) -> None:
    answer = orion_beam(*command, *options)
    assert answer.code == 2
    assert "where to look? give --bootstrap-servers HOST:PORT, or --input" in answer.err


def test_files_have_no_topic(orion_beam: Command, output: Path) -> None:
    answer = desk(orion_beam, output, "ls", "--dead-letter-topic", "other.dlq")
    assert (answer.code, "--dead-letter-topic does not go with --input" in answer.err) == (2, True)


def traced(orion_beam: Command, output: Path, *arguments: object) -> tuple[int, dict]:
    answer = orion_beam("trace", "--input", output, *arguments, "--json")
    return answer.code, json.loads(answer.out) if answer.out else {}


def test_a_record_of_a_file_is_followed_to_its_cdr_and_back(orion_beam: Command, output: Path) -> None:
    source = output.parent / "fr.csv"
    code, found = traced(orion_beam, output, "--topic", source, "--offset", 0)
    assert code == 0
    assert [each["outcome"] for each in found["found"]] == ["final"]
    assert found["fields"]["imsi"] == "2080••••••••890"
    code, again = traced(orion_beam, output, "--cdr-id", found["found"][0]["cdr_id"])
    assert (code, again) == (0, found)


def test_a_refused_line_is_followed_to_its_dead_letter(orion_beam: Command, output: Path) -> None:
    code, found = traced(orion_beam, output, "--topic", output.parent / "fr.csv", "--offset", 1)
    assert code == 0
    assert [(each["outcome"], each["codes"]) for each in found["found"]] == [("dead letter", ["unknown_rat"])]
    assert [(each["stage"], each["accepted"]) for each in found["stages"]] == [("decode", True), ("validate", False)]
    assert IMSI not in json.dumps(found)


def test_a_line_that_nothing_was_made_of_ends_with_code_1(orion_beam: Command, output: Path) -> None:
    code, found = traced(orion_beam, output, "--topic", output.parent / "fr.csv", "--offset", 99)
    assert (code, found["found"]) == (1, [])


def test_files_of_a_run_that_are_not_there_are_named() -> None:
    with pytest.raises(UserError, match="--input nowhere: expected cdr.dlq.avro"):
        FileSelection.of(Path("nowhere"), LetterFilter())

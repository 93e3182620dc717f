"""`orion-beam run` as a user calls it: counts when it goes well, one line and exit code 2 when the user errs."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import fastavro
import pytest

from orion_beam.kafka import admin
from orion_beam.transforms import normalize
from orion_beam.transforms.stage.batches import MAX_ROWS
from tests.command import Answer

PIPE = b"208011234567890|33612345678|sms|||\n"
FR_HEADER = b"imsi;msisdn;imei;cell_id;rat;bytes_up;bytes_down;event_time\n"


@pytest.fixture
def run(orion_beam):
    return partial(orion_beam, "run")


@pytest.fixture
def files(tmp_path):
    (tmp_path / "fr.csv").write_bytes(FR_HEADER + PIPE * 3 + b"x\n\xff\n\xfe\n\n\n\n")
    (tmp_path / "sn.txt").write_bytes(PIPE)
    return tmp_path


def told(err: str) -> list[str]:
    """Return what is said; not that something is compiled, which depends on what ran before."""
    return [line for line in err.splitlines() if "compiling the hot path" not in line]


def test_files_become_containers_and_counts(run, files):
    answer = run("--input", f"FR={files}/fr.csv", "--input", f"SN={files}/sn.txt", "--output", files / "out", "--json")
    assert answer.code == 0
    assert told(answer.err) == [
        f"warning: {files}/fr.csv: 2 of 10 lines are not UTF-8, first line 6: they are dead letters (invalid_encoding);"
        " if the file is Latin-1, --encoding latin-1 reads them"
    ]
    assert json.loads(answer.out) == {
        "countries": {
            "FR": {
                "final": 3,
                "dead_letters": 3,
                "codes": {"invalid_encoding": 2, "malformed_payload": 1},
                "blank_lines": 3,
                "header_lines": 1,
                "trailer_lines": 0,
                "lines": 10,
            },
            "SN": {
                "final": 1,
                "dead_letters": 0,
                "codes": {},
                "blank_lines": 0,
                "header_lines": 0,
                "trailer_lines": 0,
                "lines": 1,
            },
        },
        "final": 4,
        "dead_letters": 3,
        "blank_lines": 3,
        "header_lines": 1,
        "trailer_lines": 0,
        "records": 7,
        "lines": 11,
        "output": str(files / "out"),
    }
    for name, count in {"cdr.final.avro": 4, "cdr.dlq.avro": 3}.items():
        with (files / "out" / name).open("rb") as file:
            assert len(list(fastavro.reader(file))) == count


def test_a_run_over_files_leaves_a_report_beside_its_output(run, files):
    answer = run("--input", f"FR={files}/fr.csv", "--output", files / "out", "--json")
    report = json.loads((files / "out" / "run-report.json").read_text())
    assert (report["eventType"], report["job"]["namespace"], report["job"]["name"]) == ("COMPLETE", "orion-beam", "run")
    (read,) = report["inputs"]
    content = (files / "fr.csv").read_bytes()
    assert read["name"] == str(files / "fr.csv")
    assert read["facets"]["version"]["datasetVersion"] == hashlib.sha256(content).hexdigest()
    assert read["facets"]["orion_file"]["size"] == len(content)
    final, letters = report["outputs"]
    assert final["outputFacets"]["outputStatistics"]["rowCount"] == 3
    assert (
        final["facets"]["version"]["datasetVersion"]
        == hashlib.sha256((files / "out" / "cdr.final.avro").read_bytes()).hexdigest()
    )
    assert "imsi" in [field["name"] for field in final["facets"]["schema"]["fields"]]
    assert letters["outputFacets"]["outputStatistics"]["rowCount"] == 3
    counts = report["run"]["facets"]["orion_counts"]
    assert counts["countries"] == json.loads(answer.out)["countries"]
    run_facet = report["run"]["facets"]["orion_run"]
    assert run_facet["startedAt"] < run_facet["endedAt"] == report["eventTime"]
    assert "208011234567890" not in json.dumps(report)


def test_counts_are_a_table_for_people(run, files):
    answer = run("--input", f"FR={files}/fr.csv", "--output", files / "out")
    assert answer.code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in answer.out.splitlines() if line[:1] == "│"]
    assert rows == [
        ["FR", "blank lines", "", "3"],
        ["FR", "dead letter", "invalid_encoding", "2"],
        ["FR", "dead letter", "malformed_payload", "1"],
        ["FR", "final", "", "3"],
        ["FR", "header lines", "", "1"],
        ["all", "records", "", "6"],
        ["all", "lines", "", "10"],
    ]
    assert answer.out.replace("\n", "").endswith(f"written to {files / 'out'}")


def test_pipes_and_standard_input_are_read_and_not_hashed(files):
    (files / "fr.csv.gz").write_bytes(gzip.compress(PIPE * 40_000) + gzip.compress(PIPE * 2))
    command = (
        f"cat {files}/fr.csv.gz | {sys.executable} -m orion_beam.cli.main run --input FR=- "
        f"--input SN=<(cat {files}/sn.txt) --output {files}/out --json"
    )
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=600, check=False)
    assert (ended.returncode, told(ended.stderr)) == (0, [])
    counts = json.loads(ended.stdout)
    assert [counts["countries"][country]["final"] for country in ("FR", "SN")] == [40_002, 1]
    inputs = json.loads((files / "out" / "run-report.json").read_text())["inputs"]
    assert [each["name"] for each in inputs] == ["/dev/stdin", inputs[1]["name"]]
    assert [each["facets"] for each in inputs] == [{}, {}]


def test_dead_letters_are_on_disk_while_records_are_still_read(tmp_path):
    command = [sys.executable, "-m", "orion_beam.cli.main", "run", "--input", "FR=-", "--output", str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=False) as process:
        assert process.stdin is not None
        process.stdin.write(b"no record\n" * 4 * MAX_ROWS)
        process.stdin.flush()
        give_up = time.monotonic() + 300
        while not any(part.stat().st_size > MAX_ROWS for part in (tmp_path / "out").glob(".cdr.dlq.avro.*")):
            assert process.poll() is None
            assert time.monotonic() < give_up, "the run holds the dead letters of what it has read"
            time.sleep(0.1)
    assert process.returncode == 0
    with (tmp_path / "out" / "cdr.dlq.avro").open("rb") as file:
        assert sum(1 for _ in fastavro.reader(file)) == 4 * MAX_ROWS


def test_names_may_be_of_any_bytes(run, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    path.write_bytes(PIPE)
    answer = run("--input", f"FR={path}", "--output", tmp_path / os.fsdecode(b"out\xe9"), "--json")
    assert (answer.code, told(answer.err)) == (0, [])
    assert json.loads(answer.out)["output"] == f"{tmp_path}/out\\xe9"
    report = json.loads((tmp_path / os.fsdecode(b"out\xe9") / "run-report.json").read_text())
    assert report["inputs"][0]["name"] == f"{tmp_path}/caf\\xe9.csv"


def test_a_text_of_another_encoding_is_read_when_it_is_told(run, tmp_path):
    (tmp_path / "fr.csv").write_bytes((FR_HEADER + b"\n" + PIPE * 3).decode().encode("utf-16"))
    answer = run("--input", f"FR={tmp_path}/fr.csv", "--output", tmp_path / "out")
    assert_refused(answer, f"{tmp_path}/fr.csv: its text is UTF-16, not UTF-8: give --encoding utf-16")
    assert not list((tmp_path / "out").iterdir())
    answer = run("--input", f"FR={tmp_path}/fr.csv", "--output", tmp_path / "out", "--encoding", "utf-16", "--json")
    assert (answer.code, json.loads(answer.out)["final"]) == (0, 3)


def test_a_run_of_which_every_record_is_rejected_says_what_they_look_like(run, tmp_path):
    fr = b"208011234567890;+33612345678;;FR-PAR-001;4G;10;20;2026-06-01T10:00:00Z\n"
    (tmp_path / "fr.csv").write_bytes(fr * 3)
    (tmp_path / "sn.txt").write_bytes(PIPE + b"x\n")
    answer = run("--input", f"TN={tmp_path}/fr.csv", "--input", f"SN={tmp_path}/sn.txt", "--output", tmp_path, "--json")
    assert answer.code == 0
    assert told(answer.err) == [
        "warning: all records of TN were rejected (3 malformed_payload): they read as records of FR: --input FR=…"
    ]


def test_a_file_that_is_cut_off_is_refused_in_one_line(run, tmp_path):
    (tmp_path / "fr.csv.gz").write_bytes(gzip.compress(PIPE * 1000)[:-9])
    answer = run("--input", f"FR={tmp_path}/fr.csv.gz", "--output", tmp_path / "out")
    assert_refused(answer, f"{tmp_path}/fr.csv.gz: its gzip data is cut off")


@pytest.mark.parametrize(
    ("option", "arrived"),
    [
        ([], None),
        (["--received-at", "2026-01-02T03:04Z"], datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
        (["--received-at", "modified"], datetime(2025, 1, 1, tzinfo=UTC)),
    ],
)
def test_records_arrive_when_the_run_starts_unless_told_otherwise(run, tmp_path, option, arrived):
    path = tmp_path / "fr.txt"
    path.write_bytes(PIPE)
    # Copied from somewhere that keeps no times: by a file of 1970, every event would lie in the future.
    os.utime(path, (1_735_689_600, 1_735_689_600) if option else (0, 0))
    before = datetime.now(UTC)
    assert run("--input", f"FR={path}", "--output", tmp_path, *option).code == 0
    with (tmp_path / "cdr.final.avro").open("rb") as file:
        (record,) = fastavro.reader(file)
    found = record["source_timestamp"]
    assert found == arrived if arrived else before - timedelta(milliseconds=1) <= found <= datetime.now(UTC)


def flat(number: int, **changes: object) -> bytes:
    record = {
        "event_type": "data", "imsi": "208011234567890", "msisdn": "+33612345678", "timestamp": "2026-06-01T10:00:00Z",
        "bytes_uploaded": number, "node_id": "pgw-1", "local_sequence_number": number, "record_sequence_number": number,
        "cause_for_record_closing": 16,
    }  # fmt: skip
    return json.dumps(record | changes).encode() + b"\n"


def test_a_bug_that_hits_every_row_ends_the_run_with_one_clear_line(run, tmp_path, monkeypatch):
    def raise_a_bug(batch, **_):
        raise KeyError(batch.column("imsi")[0].as_py())

    monkeypatch.setattr(normalize, "normalize_batch", raise_a_bug)
    (tmp_path / "fr.csv").write_bytes(PIPE * 100)
    answer = run("--input", f"FR={tmp_path}/fr.csv", "--output", tmp_path)
    assert answer.code == 1
    logged, last = answer.err.splitlines()
    assert last.startswith("orion-beam: error: stage normalize fails for row after row with KeyError at test_run.py:")
    assert "event=stage_failed" in logged
    assert not (tmp_path / "cdr.final.avro").exists()


def test_partials_duplicates_and_gaps_are_found_when_asked_for(run, tmp_path):
    (tmp_path / "1.jsonl").write_bytes(flat(1) + flat(2) + flat(2))
    (tmp_path / "2.jsonl").write_bytes(flat(1) + flat(5, cause_for_record_closing=0))
    inputs = ("--input", f"FR={tmp_path}/1.jsonl", "--input", f"FR={tmp_path}/2.jsonl", "--output", tmp_path)
    answer = run(*inputs, "--tag-partials", "--flag-duplicates", "--detect-gaps", "--json")
    assert answer.code == 0
    counts = json.loads(answer.out)
    assert counts["records"] == counts["final"] == 5
    assert counts["countries"]["FR"]["duplicates"] == 2
    assert counts["countries"]["FR"]["sequence_gaps"] == {"missing": 2}
    with (tmp_path / "cdr.final.avro").open("rb") as file:
        records = list(fastavro.reader(file))
    assert Counter(record["partial"] for record in records) == {"first": 2, "intermediate": 2, "last": 1}
    flagged = [record for record in records if record["duplicate_of"]]
    assert len(flagged) == 2
    assert all(record["warnings"][-1] == "duplicate" for record in flagged)
    gaps = [json.loads(line) for line in (tmp_path / "sequence_gaps.jsonl").read_text().splitlines()]
    assert gaps == [{"country": "FR", "node_id": "pgw-1", "kind": "missing", "first": 3, "last": 4, "records": 2}]


def test_without_being_asked_for_nothing_is_looked_for(run, tmp_path):
    (tmp_path / "1.jsonl").write_bytes(flat(1) + flat(1) + flat(5))
    assert run("--input", f"FR={tmp_path}/1.jsonl", "--output", tmp_path).code == 0
    with (tmp_path / "cdr.final.avro").open("rb") as file:
        assert {(record["partial"], record["duplicate_of"]) for record in fastavro.reader(file)} == {(None, None)}
    assert not (tmp_path / "sequence_gaps.jsonl").exists()


def test_two_files_of_one_country_are_both_read(run, files):
    answer = run(
        "--input", f"FR={files}/fr.csv", "--input", f"FR={files}/sn.txt", "--output", files / "new" / "out", "--json"
    )
    assert json.loads(answer.out)["countries"]["FR"]["final"] == 4


def test_an_empty_file_is_no_mistake(run, tmp_path):
    (tmp_path / "empty").touch()
    answer = run("--input", f"FR={tmp_path}/empty", "--output", tmp_path, "--json")
    assert (answer.code, json.loads(answer.out)["records"]) == (0, 0)


def assert_refused(answer: Answer, *named: str) -> None:
    """A user's mistake is one line that names the thing, and exit code 2."""
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("orion-beam: error: ")
    assert answer.err.count("\n") == 1
    assert answer.err.endswith("\n")
    for name in named:
        assert name in answer.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ["nothing to read", "--input COUNTRY=PATH", "--bootstrap-servers"]),
        (["--input", "FR={files}/fr.csv"], ["--input needs --output"]),
        (["--input", "FR={files}/fr.csv", "--output", "{files}", "--bootstrap-servers", "localhost:1"], ["--input"]),
        (["--input", "FR={files}/nowhere.csv", "--output", "{files}"], ["nowhere.csv", "No such file"]),
        (["--input", "FR={files}", "--output", "{files}"], ["FR={files}", "Is a directory"]),
        (["--input", "FR={files}/*.csv", "--output", "{files}"], ["*.csv", "No such file"]),
        (["--input", "XX={files}/fr.csv", "--output", "{files}"], ["unknown country 'XX'", "FR, MA, SN, TN"]),
        (["--input", "fr={files}/fr.csv", "--output", "{files}"], ["unknown country 'fr'"]),
        (["--input", "{files}/fr.csv", "--output", "{files}"], ["expected COUNTRY=PATH"]),
        (["--input", "FR=", "--output", "{files}"], ["expected COUNTRY=PATH"]),
        (["--input", "FR={files}/fr.csv", "--output", "{files}/sn.txt"], ["--output", "sn.txt"]),
        (["--input", "FR={files}/fr.csv", "--output", "{files}/sn.txt/out"], ["--output", "sn.txt/out"]),
        (
            ["--input", "FR=-", "--input", "TN=-", "--output", "{files}"],
            ["--input TN=-", "a pipe can be read only once"],
        ),
        (
            ["--input", "FR={files}/fr.csv", "--output", "{files}", "--encoding", "utf16le-x"],
            ["--encoding utf16le-x", "latin-1"],
        ),
        (["--input", "FR={files}/fr.csv", "--output", "{files}", "--encoding", "hex"], ["--encoding hex"]),
        (
            ["--input", "FR={files}/fr.csv", "--output", "{files}", "--received-at", "noon"],
            ["--received-at noon", "2026-01-01T00:00Z"],
        ),
        (["--bootstrap-servers", "localhost:1", "--encoding", "utf-16"], ["--encoding goes with --input"]),
        (["--bootstrap-servers", "localhost:1", "--received-at", "modified"], ["--received-at goes with --input"]),
        (["--output", "{files}", "--bootstrap-servers", "localhost:1"], ["--output goes with --input"]),
        (["--bootstrap-servers", "localhost:1", "--countries", "FR,XX"], ["unknown country 'XX'"]),
        (["--bootstrap-servers", "localhost:1", "--publish", "decoded"], ["--publish decoded", "validated"]),
        (
            ["--input", "FR={files}/fr.csv", "--output", "{files}", "--flag-duplicates", "--duplicate-window", "0"],
            ["duplicate_window"],
        ),
        (
            [
                "--input",
                "FR={files}/fr.csv",
                "--output",
                "{files}",
                "--flag-duplicates",
                "--duplicate-window",
                "100000001",
            ],
            ["duplicate_window"],
        ),
        (
            ["--bootstrap-servers", "localhost:1", "--detect-gaps", "--gap-tolerance", "x"],
            ["--gap-tolerance 'x'"],
        ),
        (
            ["--bootstrap-servers", "localhost:1", "--flag-duplicates", "--", "--load_balance_bundles"],
            ["--flag-duplicates", "--load_balance_bundles"],
        ),
        (["--bootstrap-servers", "localhost:1", "--start-from", "final"], ["--start-from final", "validated"]),
        (["--bootstrap-servers", "localhost:1", "--consumer-config", "x"], ["--consumer-config: expected NAME=VALUE"]),
        (["--input", "FR={files}/fr.csv", "--output", "{files}", "--", "--runer=x"], ["--runer", "mean --runner?"]),
        (["--bootstrap-servers", "localhost:1", "--", "--paralelism=4"], ["--paralelism", "mean --parallelism?"]),
        (["--bootstrap-servers", "localhost:1", "--producer-config", "=1"], ["--producer-config: expected NAME=VALUE"]),
    ],
)
def test_a_mistake_is_one_line_that_names_it(run, files, arguments, named):
    arguments, named = ([text.format(files=files) for text in texts] for texts in (arguments, named))
    assert_refused(run(*arguments), *named)


@pytest.mark.parametrize(
    ("option", "setting"),
    [
        ("consumer", "enable.auto.commit=true"),
        ("consumer", "enable.auto.commit= TRUE "),
        ("consumer", "auto.offset.reset=latest"),
        ("producer", "acks=0"),
        ("producer", "acks=1"),
        ("producer", "request.required.acks=1"),
        ("producer", "enable.idempotence=false"),
        ("producer", "enable.idempotence=F"),
        ("producer", "enable.idempotence=0"),
        ("producer", "delivery.report.only.error=0"),
    ],
)
def test_a_kafka_setting_that_loses_records_is_refused_with_the_reason(run, option, setting):
    answer = run("--bootstrap-servers", "localhost:1", f"--{option}-config", setting)
    assert_refused(answer, f"{option} setting {setting.split('=')[0]}", "is refused: ", "leave it out")


def test_a_broker_that_cannot_be_reached_is_named_when_the_time_is_up(run, monkeypatch):
    assert admin.TIMEOUT_S <= 10
    monkeypatch.setattr(admin, "TIMEOUT_S", 1)
    answer = run("--bootstrap-servers", "localhost:1", "--countries", "FR")
    assert_refused(answer, "localhost:1", "does not answer (", "; asked ")


@pytest.mark.parametrize(
    ("option", "content", "named"),
    [
        (
            "--cells",
            "cell_id,country,plmn,place,lat,lon\nA,FR,20801,x,1,2\nA,FR,20801,x,1,2\n",
            ["cell_id", "lines 2, 3"],
        ),
        ("--cells", "cell_id,country,plmn,place,lat,lon\nA,FR,20801,x,north,2\n", ["reference.csv"]),
        ("--cells", "a,b\n1,2\n", ["reference.csv", "cell_id"]),
        ("--cells", "", ["reference.csv"]),
        ("--subscribers", "imsi,segment,plan,subscriber_type\n,a,b,prepaid\n", ["imsi", "lines 2"]),
        ("--subscribers", "imsi,segment,plan,subscriber_type\n1,a,b,gold\n", ["reference.csv", "lines 2"]),
        ("--subscribers", None, ["reference.csv", "No such file"]),
    ],
)
def test_a_bad_reference_file_is_refused_before_anything_runs(run, files, option, content, named):
    path = files / "reference.csv"
    if content is not None:
        path.write_text(content)
    answer = run("--input", f"FR={files}/fr.csv", "--output", files / "out", option, path)
    assert_refused(answer, str(path), *named)
    assert not (files / "out").exists()


@pytest.mark.parametrize("arguments", [["--bogus"], ["--value-format", "xml"], ["extra"], ["--input"]])
def test_an_option_that_there_is_not_ends_with_code_2(run, arguments):
    answer = run(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "─ Error ─" in answer.err


def test_help_says_what_it_does(run):
    answer = run("--help")
    assert answer.code == 0
    assert "Turn raw CDRs into unified ones" in answer.out

"""Log lines: in both formats, few of a kind, and no subscriber's number, whoever logged it."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from orion_beam.io.kafka_sink import DeliveryError
from orion_beam.telemetry import logs
from orion_beam.telemetry.logs import LogFollower, LogFormat, say, set_up_logging
from tests.command import orion_beam

__all__ = ["orion_beam"]

IMSI = "208011234567890"


@pytest.fixture
def lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[LogFormat], Callable[[], list[str]]]]:
    """Sets up logging in a format; hands out what reads the lines so far."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    written: list[str] = []

    def start(wanted: LogFormat) -> Callable[[], list[str]]:
        monkeypatch.setenv(logs.FORMAT_VARIABLE, wanted)
        monkeypatch.setenv(logs.JOB_VARIABLE, "billing")
        set_up_logging()
        return read

    def read() -> list[str]:
        written.extend(capsys.readouterr().err.splitlines())
        return written

    yield start
    root.handlers[:], root.level = before


BUG = {
    "event": "internal_error",
    "stage": "enrich",
    "country": "FR",
    "topic": "cdr.raw.FR",
    "partition": 0,
    "offset": 7,
}


def test_a_json_line_says_what_and_where(lines) -> None:
    read = lines(LogFormat.JSON)
    logging.getLogger("orion_beam.transforms.stage.split").error("a bug at %s:%d", "x.py", 12, extra=BUG)
    (line,) = read()
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "ERROR",
        "logger": "orion_beam.transforms.stage.split",
        "message": "a bug at x.py:12",
        "job": "billing",
        **BUG,
    }


def test_a_text_line_says_the_same_in_brackets(lines) -> None:
    read = lines(LogFormat.TEXT)
    logging.getLogger("orion_beam.transforms.stage.split").error("a bug", extra=BUG)
    (line,) = read()
    assert line.endswith(
        " ERROR orion_beam.transforms.stage.split: a bug"
        " [job=billing event=internal_error stage=enrich country=FR topic=cdr.raw.FR partition=0 offset=7]"
    )


@pytest.mark.parametrize("wanted", LogFormat)
def test_a_number_shows_neither_in_a_message_nor_in_a_traceback(lines, wanted: LogFormat) -> None:
    read = lines(wanted)
    try:
        raise ValueError(f"cannot parse {IMSI}")
    except ValueError:
        logging.getLogger("apache_beam").exception("while processing +33612345678;%s", IMSI)
    text = "\n".join(read())
    assert "ValueError: cannot parse 2080" in text
    assert IMSI not in text
    assert "33612345678" not in text


@pytest.mark.parametrize("wanted", LogFormat)
def test_a_command_says_no_number_and_no_password(lines, wanted: LogFormat) -> None:
    read = lines(wanted)
    say(f"cannot read {IMSI} from https://me:hunter2@registry:8081 (sasl.password=hunter2)")
    (line,) = read()
    assert "cannot read 2080" in line
    assert "@registry:8081" in line
    assert IMSI not in line
    assert "hunter2" not in line


WAYS = {
    "a print": "print('about', IMSI, file=sys.stderr)",
    "an uncaught exception": "raise ValueError(IMSI)",
    "an exception in a thread": "t = threading.Thread(target=lambda: int('x' + IMSI)); t.start(); t.join()",
    "an exception nobody can catch": "class Odd:\n  def __del__(self): raise ValueError(IMSI)\nx = Odd(); del x",
    "a warning": "warnings.warn('about ' + IMSI)",
    "a log line": "logging.getLogger('x').warning('about %s', IMSI)",
    "typer": "typer.echo('about ' + IMSI, err=True)",
    "rich": "rich.console.Console(stderr=True).print('about ' + IMSI)",
    "a line of several writes": "sys.stderr.writelines(['about ', IMSI]); sys.stderr.flush()",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wanted", LogFormat)
def test_no_number_reaches_standard_error_whichever_way_it_takes(way: str, wanted: LogFormat) -> None:
    program = (
        "import logging, sys, threading, warnings; import rich.console, typer\n"
        f"from orion_beam.telemetry.logs import set_up_logging; set_up_logging()\nIMSI = '{IMSI}'\n{WAYS[way]}"
    )
    environment = os.environ | {logs.FORMAT_VARIABLE: wanted}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=600)
    assert "2080••••••••890" in done.stderr
    assert IMSI not in done.stderr + done.stdout


def test_a_complaint_about_options_shows_no_number(orion_beam) -> None:
    for arguments in ((IMSI,), ("rules", IMSI)):
        answer = orion_beam(*arguments)
        assert answer.code == 2
        assert IMSI not in answer.err
        assert "2080" in answer.err


def test_addresses_and_offsets_stay_as_they_are(lines) -> None:
    read = lines(LogFormat.JSON)
    logging.getLogger("x").warning("10.132.10.131:9092 is gone", extra={"event": "e", "offset": 12_345_678_901})
    (line,) = read()
    assert json.loads(line)["message"] == "10.132.10.131:9092 is gone"
    assert json.loads(line)["offset"] == 12_345_678_901


def test_few_lines_of_a_kind_are_written_and_the_rest_is_counted(lines, monkeypatch) -> None:
    now = 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    read = lines(LogFormat.JSON)
    logger = logging.getLogger("orion_beam.transforms.stage.split")
    for offset in range(25):
        logger.error("bug %d", offset, extra=BUG | {"offset": offset})
        logger.warning("another kind %d", offset) if offset < 3 else None
    assert len(read()) == logs.MAX_OF_A_KIND + 3
    now += logs.WINDOW_S
    logger.error("bug again", extra=BUG)
    last = json.loads(read()[-1])
    assert (last["message"], last["suppressed"]) == ("bug again", 15)


def test_beam_does_not_tell_at_length_what_has_been_said_in_a_line(lines) -> None:
    read = lines(LogFormat.TEXT)
    beam = logging.getLogger("apache_beam.runners.worker.sdk_worker")
    beam.error(
        "Error processing instruction %s. Original traceback is\n%s", "7", "…\ntransforms.stage.StageFailedError: x"
    )
    try:
        raise DeliveryError("delivery failed")
    except DeliveryError as error:
        logging.getLogger("apache_beam.runners.common").error("%s", error, exc_info=True)
    assert read() == []
    beam.error("Error processing instruction %s. Original traceback is\n%s", "8", "…\nKeyError: x")
    logging.getLogger("orion_beam.transforms.stage.split").error("StageFailedError is ours to say")
    assert len([line for line in read() if " ERROR " in line]) == 2


def test_what_a_command_says_is_a_bare_line_or_json_among_the_others(lines) -> None:
    read = lines(LogFormat.TEXT)
    say("reading cdr.raw.FR")
    assert read() == ["reading cdr.raw.FR"]
    read = lines(LogFormat.JSON)
    for _ in range(20):
        say("the same line, not limited")
    logging.disable()
    try:
        say("the last word", logging.ERROR)
    finally:
        logging.disable(logging.NOTSET)
    told = [json.loads(line) for line in read()[1:]]
    assert [line["message"] for line in told] == ["the same line, not limited"] * 20 + ["the last word"]
    assert [told[0]["level"], told[-1]["level"]] == ["INFO", "ERROR"]


def test_information_of_others_is_not_written(lines) -> None:
    read = lines(LogFormat.TEXT)
    logging.getLogger("apache_beam.runners").info("chatter")
    assert read() == []


def test_a_follower_reads_our_events_once_and_waits_for_the_rest_of_a_line(lines, tmp_path) -> None:
    read = lines(LogFormat.TEXT)
    logging.getLogger("orion_beam.transforms.stage.split").error("a bug", extra=BUG)
    logging.getLogger("apache_beam").warning("not ours")
    bug, other = read()
    log = tmp_path / "run.log"
    log.write_text(f"reading cdr.raw.FR\n{other}\n{bug}\n{bug[:40]}")
    follower = LogFollower(log)
    assert follower.read() == [bug]
    assert follower.read() == []
    with log.open("a") as more:
        more.write(f"{bug[40:]}\n")
    assert follower.read() == [bug]


@pytest.mark.parametrize("module", ["runners.worker_pool.pool", "proof.tally_processes"])
def test_a_process_that_imports_beam_says_nothing_about_packages_that_nobody_needs(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import orion_beam.{module}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("wanted", LogFormat)
def test_a_level_of_the_environment_shows_more_and_is_masked_as_well(lines, monkeypatch, wanted: LogFormat) -> None:
    monkeypatch.setenv(logs.LEVEL_VARIABLE, "debug")
    read = lines(wanted)
    logging.getLogger("apache_beam").debug("looking at %s", IMSI)
    (line,) = read()
    assert "looking at 2080••••••••890" in line
    monkeypatch.setenv(logs.LEVEL_VARIABLE, "loud")
    read = lines(wanted)
    logging.getLogger("apache_beam").info("looking at %s", IMSI)
    assert len(read()) == 1


@pytest.mark.parametrize("wanted", LogFormat)
def test_a_value_that_cannot_be_shown_fails_nothing_that_logs_it(lines, wanted: LogFormat) -> None:
    class Coder:
        def __str__(self) -> str:
            raise ValueError(IMSI)

    read = lines(wanted)
    logging.getLogger("apache_beam.runners.worker").warning("start %s", Coder())
    (line,) = read()
    assert "start %s (ValueError)" in line
    assert IMSI not in line

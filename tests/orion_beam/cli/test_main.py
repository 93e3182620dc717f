"""How a command ends, whatever it ends with."""

import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from orion_beam.cli import main


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_signal_ends_a_command_also_where_c_code_makes_an_error_of_it(
    raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        raise SystemError("<class 'set'> returned a result with an exception set") from raised

    monkeypatch.setattr(main, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == code


def test_an_error_of_c_code_is_not_taken_for_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise SystemError("bad argument to internal function")

    monkeypatch.setattr(main, "app", broken)
    with pytest.raises(SystemError, match="bad argument"):
        main.main()


def entries(subcommands: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, entry in subcommands.items():
        yield before + name, entry
        yield from entries(entry.subcommands, f"{before}{name} ")


@pytest.mark.parametrize(("name", "entry"), list(entries(main.SUBCOMMANDS)))
def test_the_list_of_commands_says_what_the_command_itself_says_first(name: str, entry: Any) -> None:
    assert entry.help == " ".join(entry.load(name).help.split("\n\n")[0].split())


KAFKA = ("--bootstrap-servers", "127.0.0.1:1")
FILES = ("run", "--input", "FR={dir}/fr.csv", "--output", "{dir}/out")
ONE = ("generate", "--count", "1")
NEW = (
    *("country", "new", "QQ", "--name", "x", "--mcc", "612", "--calling-code", "225"),
    *("--national-digits", "10", "--time-zone", "Africa/Abidjan"),
)
MISTAKES = (
    ((*FILES, "--", "--runner=Foo"), "--runner=Foo: expected DirectRunner"),
    ((*FILES, "--", "--runner=FlinkRunner"), "--runner=FlinkRunner: expected DirectRunner"),
    ((*FILES, "--", "--direct_num_workers=-3"), "--direct_num_workers=-3: expected 1 or more"),
    (("run", "--input", "FR={dir}/fr.csv", "--output", "{dir}/fr.csv"), "--output {dir}/fr.csv: "),
    (("run", *KAFKA, "--", "--flink_job_server_jar=/nowhere.jar"), "/nowhere.jar: there is no such file"),
    (("run", *KAFKA, "--", "--runner=DirectRunner"), "--runner=DirectRunner: expected FlinkRunner"),
    (("run", *KAFKA, "--", "--parallelism=0"), "--parallelism=0: expected 1 or more"),
    (("run", *KAFKA, "--", "--flink_master=http://127.0.0.1:1"), "--environment_type=EXTERNAL --environment_config="),
    (("replay", *KAFKA, "--last", "1h", "--", "--runner=Foo"), "--runner=Foo: expected DirectRunner or FlinkRunner"),
    (("replay", *KAFKA, "--from", "0001-01-01T00:00+14:00"), "--from 0001-01-01T00:00+14:00 is no time"),
    ((*ONE, "--start", "9999-12-31T23:59Z", "--output", "{dir}/g"), "'9999-12-31T23:59Z' is too"),
    ((*ONE, "--start", "0001-01-01T00:00Z", "--output", "{dir}/g"), "'0001-01-01T00:00Z' is too"),
    (("generate", "--count", "1", "--output", "{dir}/fr.csv"), "{dir}/fr.csv"),
    ((*NEW, "--profiles", "/nowhere", "--cases", "{dir}/cases"), "--profiles /nowhere: there is no such directory"),
    (("workers", "--listen", "nonsense"), "'nonsense' is no address to listen on"),
    (("workers", "--listen", "127.0.0.1:99999"), "'127.0.0.1:99999' is no address to listen on"),
    (("workers", "--listen", "127.0.0.1:{taken}"), "cannot listen on 127.0.0.1:{taken}"),
    (("monitor", *KAFKA, "--listen", "127.0.0.1:99999"), "'127.0.0.1:99999' is no address to listen on"),
    (("monitor", *KAFKA, "--listen", "127.0.0.1:{taken}"), "cannot listen on 127.0.0.1:{taken}"),
    (("monitor", *KAFKA, "--listen", "0.0.0.0:0"), "listen on 127.0.0.1, or give --metrics-token-file"),
    (("monitor", *KAFKA, "--metrics-token-file", "/no/such/file"), "the token file /no/such/file cannot be read"),
    (("top", *KAFKA, "--metrics-token-file", "{dir}/fr.csv"), "every user of this machine may read the token file"),
)  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_a_value_that_cannot_work_is_one_line_and_exit_code_2(orion_beam, tmp_path, arguments, says):
    (tmp_path / "fr.csv").write_text("208011234567890;+33612345678;;FR-PAR-001;LTE;10;20;2026-01-02T03:04:05Z\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {"dir": tmp_path, "taken": taken.getsockname()[1]}
        answer = orion_beam(*(argument.format(**values) for argument in arguments))
    assert answer.code == 2
    # Above it may stand that the hot path is compiled.
    *others, last = answer.err.splitlines()
    assert last.startswith("orion-beam: error: ")
    assert says.format(**values) in last
    assert all("orion_beam.transforms.arrow.compiled" in line for line in others)

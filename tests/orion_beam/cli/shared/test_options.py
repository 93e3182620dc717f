"""Options of all commands: none without effect is taken, and one thing has one name."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orion_beam.cli.main import SUBCOMMANDS
from tests.command import Answer

KAFKA = ("--bootstrap-servers", "127.0.0.1:1")
FILES = ("run", "--input", "FR=fr.csv", "--output", "out")
STREAM = ("run", *KAFKA)
REPLAY = ("replay", *KAFKA, "--last", "1h", "--yes")
REPLAY_TO_FILES = (*REPLAY, "--output", "out")
RESUME = ("replay", "--resume", "a")
REDRIVE = ("dlq", "redrive", *KAFKA)
POOL = ("--", "--flink_master=127.0.0.1:1", "--environment_type=EXTERNAL", "--environment_config=127.0.0.1:2")

WITHOUT_EFFECT = [
    ((*FILES, "--countries", "FR"), "--countries", "with --input"),
    ((*FILES, "--group-id", "a"), "--group-id", "with --input"),
    ((*FILES, "--publish", "validated"), "--publish", "with --input"),
    ((*FILES, "--start-from", "validated"), "--start-from", "with --input"),
    ((*FILES, "--value-format", "json"), "--value-format", "with --input"),
    ((*FILES, "--schema-registry", "http://127.0.0.1:1"), "--schema-registry", "with --input"),
    ((*FILES, "--reference-refresh", "5m"), "--reference-refresh", "with --input"),
    ((*FILES, "--detect-gaps", "--gap-tolerance", "5m"), "--gap-tolerance", "with --input"),
    ((*FILES, "--consumer-config", "fetch.min.bytes=1"), "--consumer-config", "with --input"),
    ((*FILES, "--producer-config", "linger.ms=1"), "--producer-config", "with --input"),
    ((*FILES, "--spread-countries"), "--spread-countries", "with --input"),
    ((*FILES, "--allow-second-job"), "--allow-second-job", "with --input"),
    ((*FILES, "--quiet"), "--quiet", "with --input"),
    ((*FILES, "--metrics-port", "9000"), "--metrics-port", "with --input"),
    ((*FILES, "--duplicate-window", "9"), "--duplicate-window", "without --flag-duplicates"),
    ((*STREAM, "--duplicate-window", "9"), "--duplicate-window", "without --flag-duplicates"),
    ((*STREAM, "--gap-tolerance", "5m"), "--gap-tolerance", "without --detect-gaps"),
    ((*STREAM, "--json"), "--json", "without --input"),
    (
        (*STREAM, "--value-format", "json", "--schema-registry", "http://127.0.0.1:1"),
        "--value-format",
        "with --schema-registry",
    ),
    ((*STREAM, "--metrics-port", "9000", *POOL), "--metrics-port", "orion-beam workers --metrics-listen"),
    ((*REPLAY, "--format", "parquet"), "--format", "without --output DIR: topics would be written"),
    (
        (*REPLAY, "--value-format", "json", "--schema-registry", "http://127.0.0.1:1"),
        "--value-format",
        "with --schema-registry",
    ),
    ((*REPLAY, "--replace"), "--replace", "without --output DIR"),
    ((*REPLAY, "--duplicate-window", "9"), "--duplicate-window", "without --flag-duplicates"),
    ((*REPLAY, "--workers", "4", "--", "--runner=FlinkRunner"), "--workers", "--parallelism"),
    ((*REPLAY_TO_FILES, "--final-topic", "a"), "--final-topic", "with --output DIR"),
    ((*REPLAY_TO_FILES, "--to-topic", "a"), "--final-topic", "with --output DIR"),
    ((*REPLAY_TO_FILES, "--dead-letter-topic", "a"), "--dead-letter-topic", "with --output DIR"),
    ((*REPLAY_TO_FILES, "--value-format", "json"), "--value-format", "with --output DIR"),
    ((*REPLAY_TO_FILES, "--schema-registry", "http://127.0.0.1:1"), "--schema-registry", "with --output DIR"),
    ((*REPLAY_TO_FILES, "--producer-config", "linger.ms=1"), "--producer-config", "with --output DIR"),
    ((*RESUME, "--output", "out"), "--output", "with --resume"),
    ((*RESUME, "--dry-run"), "--dry-run", "with --resume"),
    ((*RESUME, "--", "--runner=FlinkRunner"), "--runner=FlinkRunner", "with --resume"),
    (
        ("replay", "diff", *KAFKA, "--last", "1h", "--new-profiles", "p", "--duplicate-window", "9"),
        "--duplicate-window",
        "without --flag-duplicates",
    ),
    (("doctor", "--countries", "FR"), "--countries", "without --bootstrap-servers"),
    (("doctor", "--replay-window", "2d"), "--replay-window", "without --bootstrap-servers"),
    (("topics", "apply", *KAFKA, "--confirm", "cdr.dlq"), "--confirm", "without --allow-destructive"),
    (("local", "up", "--limit", "lag_s=300"), "--limit", "without --monitoring"),
    (("local", "up", "--workers-port", "9000"), "--workers-port", "without --monitoring"),
    ((*REDRIVE, "--no-validate", "--cells", "cells.csv"), "--cells", "with --no-validate"),
    (("schema", "show", "--arrow"), "--arrow", "without the name of a record"),
    (("rules", "--markdown", "--country", "FR"), "--country", "with --markdown"),
    (("rules", "--markdown", "--json"), "--json", "with --markdown"),
]


@pytest.mark.parametrize(
    ("arguments", "option", "why"), WITHOUT_EFFECT, ids=[" ".join(case[0]) for case in WITHOUT_EFFECT]
)
def test_an_option_that_would_change_nothing_is_refused(
    orion_beam: Callable[..., Answer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    option: str,
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORION_HOME", str(tmp_path / "home"))
    Path("fr.csv").touch()
    answer = orion_beam(*arguments)
    assert answer.code == 2, answer
    (line,) = answer.err.splitlines()
    assert f"{option}: no effect" in line
    assert why in line
    assert [path.name for path in tmp_path.iterdir()] == ["fr.csv"], "something was begun"


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command, with its name."""

    def within(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for inner, each in command.commands.items():
                yield from within(f"{name} {inner}", each)
        else:
            yield name, command

    for name, entry in SUBCOMMANDS.items():
        yield from within(name, entry.load(name))
        for inner, each in entry.subcommands.items():
            yield f"{name} {inner}", each.load(inner)


def options() -> Iterator[tuple[str, Any]]:
    for name, command in commands():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                yield name, parameter


OLD_NAMES = {
    "--country": "--countries",
    "--dlq-topic": "--dead-letter-topic",
    "--to-topic": "--final-topic",
    "--processes": "--workers",
}
ONE_COUNTRY = {"rules"}
"""Commands whose --country is one country, not a list."""


def test_one_thing_has_one_name_in_all_commands_and_old_names_still_work() -> None:
    for command, option in options():
        if command in ONE_COUNTRY:
            continue
        assert option.opts[0] not in OLD_NAMES, f"{command} {option.opts[0]}"
        for old, new in OLD_NAMES.items():
            if old in option.opts:
                assert option.opts[0] == new, command
    with_old_names = {old: [name for name, option in options() if old in option.opts] for old in OLD_NAMES}
    assert with_old_names["--country"] == [*(f"dlq {name}" for name in DESK), "rules"]
    assert with_old_names["--processes"] == ["audit"]
    assert {"replay", "audit"} <= set(with_old_names["--to-topic"])


DESK = ["retest", "redrive", "stats", "ls", "export"]

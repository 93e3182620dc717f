"""Help and usage errors are quick, because what a command works with is imported when it runs, and not before."""

import json
import subprocess
import sys
import threading

import pytest
import typer
from typer.core import TyperGroup

from orion_beam import defaults
from orion_beam.cli.main import SUBCOMMANDS, app
from orion_beam.cli.shared.late import deferring, late_imports
from orion_beam.countries import default_profiles
from tests.topics import CATALOGUE, DEAD_LETTERS, FINAL

HEAVY = {
    "apache_beam",
    "confluent_kafka",
    "fastavro",
    "numba",
    "numpy",
    "phonenumbers",
    "polars",
    "psutil",
    "pyarrow",
    "requests",
}
MOST_MODULES = 600
"""Python, Typer with pydantic and Rich, and the commands themselves are 450; with Beam they are over 1,800."""

# Calls the command line once for each list of arguments; says how each ended, and what was imported by then.
CALLS = """
import contextlib, io, json, sys
from orion_beam.cli.main import main

def call(arguments):
    sys.argv = ["orion-beam", *arguments]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main()
        except SystemExit as ended:
            return {"code": ended.code, "out": out.getvalue(), "modules": list(sys.modules)}

json.dump([call(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
"""


def every_command():
    """Yield the arguments that name each command, and the command itself."""

    def walk(path, command):
        yield path, command
        if isinstance(command, TyperGroup):
            for name, each in command.commands.items():
                yield from walk((*path, name), each)

    yield (), typer.main.get_command(app)
    for name, entry in SUBCOMMANDS.items():
        yield from walk((name,), entry.load(name))
        for more, subentry in entry.subcommands.items():
            yield from walk((name, more), subentry.load(f"{name} {more}"))


COMMANDS = dict(every_command())


def calls(arguments):
    """Return what came of each call, all of them in one process that has imported nothing yet."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        input=json.dumps(arguments),
        env={"COLUMNS": "400", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return dict(zip(map(tuple, arguments), json.loads(done.stdout), strict=True))


@pytest.fixture(scope="module")
def answers():
    return calls([[*path, last] for last in ("--help", "--no-such-option") for path in COMMANDS])


def test_neither_help_nor_a_usage_error_imports_what_only_work_needs(answers):
    for arguments, answer in answers.items():
        assert not HEAVY & set(answer["modules"]), arguments
        assert len(answer["modules"]) < MOST_MODULES, arguments


def test_each_command_helps_with_all_its_options(answers):
    for path, command in COMMANDS.items():
        answer = answers[*path, "--help"]
        assert answer["code"] == 0, path
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.opts[0] in answer["out"], (path, parameter.opts)


def test_each_command_refuses_an_option_that_it_does_not_have(answers):
    for path in COMMANDS:
        answer = answers[*path, "--no-such-option"]
        assert answer["code"] == 2, path
        assert "No such option: --no-such-option" in answer["out"], path


def test_a_block_imports_at_once_where_nothing_is_deferred():
    with late_imports():
        from fractions import Fraction
    assert Fraction(1, 2) == 0.5


def test_a_deferred_name_may_stand_in_annotations_and_imports_nothing():
    with deferring(), late_imports():
        import no_such_module as missing
        from no_such_module import Something

    def takes(_: Something | None, __: list[missing.Other]) -> None | Something: ...

    assert "no_such_module" not in sys.modules


def test_another_thread_imports_as_ever_while_a_block_is_deferred():
    found = []

    def work():
        from json import dumps

        found.append(dumps([]))

    with deferring(), late_imports():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == ["[]"]


def test_defaults_are_those_of_the_catalogue_and_the_profiles(answers):
    for option, name in (("--final-topic", FINAL.name), ("--dead-letter-topic", DEAD_LETTERS.name)):
        assert f"[default: ({name}, after --topic-prefix)]" in answers["audit", "--help"]["out"], option
    assert CATALOGUE.profile(defaults.DEVELOPMENT)
    assert CATALOGUE.profile(defaults.PRODUCTION)
    assert f"[default: ({','.join(default_profiles())})]" in answers["run", "--help"]["out"]

"""The `orion-beam` command: the table of its subcommands.

A subcommand's module is imported when it is called, and the modules that it works with when it runs, because Beam takes
seconds to import and `--help` should not.
"""

import errno
import logging
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from orion_beam import __version__
from orion_beam.cli.shared import interrupts
from orion_beam.cli.shared.job_defaults import JobDefaults, use_job_login, with_origin
from orion_beam.cli.shared.late import deferring, load_late_imports
from orion_beam.errors import JobFailedError, ServiceFailedError, UserError
from orion_beam.job_file.environment import PREFIX_VARIABLE
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.telemetry.logs import leave_out_notices, say, set_up_logging
from orion_beam.telemetry.masking import shown
from orion_beam.workspace import WORKSPACE_VARIABLE


class _PassThroughCommand(TyperCommand):
    """Command that keeps all arguments after `--` untouched in the context's args, and parses those before it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        super().parse_args(ctx, args[:cut])
        ctx.args = args[cut + 1 :]
        return args[cut + 1 :]


@dataclass(frozen=True)
class _Entry:
    """A subcommand: its location as `module:attribute`, and the first line of its own help."""

    target: str
    help: str
    cls: type[TyperCommand] | None = None
    from_job: Collection[str] | None = None
    """Parameters that take the job file's value if the command line gives none; None: all that the file knows."""
    subcommands: Mapping[str, "_Entry"] = field(default_factory=dict)
    """Subcommands of a command that also does something by itself."""

    def load(self, name: str) -> Any:
        module, _, attribute = self.target.partition(":")
        with deferring():
            found: typer.Typer | Callable[..., Any] = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            return _loading_late_imports(typer.main.get_group(found))
        command = typer.Typer(add_completion=False)
        command.command(name, cls=self.cls)(found)
        return _loading_late_imports(typer.main.get_command(command))


def _loading_late_imports(command: Any) -> Any:
    """Make a command, or each command of a group, import what its module deferred before it does anything else."""
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            _loading_late_imports(each)
    else:
        run, parse = command.invoke, command.parse_args

        @wraps(parse)
        def check_and_parse(context: Any, arguments: list[str]) -> Any:
            _refuse_empty(command, arguments)
            return parse(context, arguments)

        @wraps(run)
        def load_and_run(context: Any) -> Any:
            load_late_imports()
            interrupts.raise_from_now_on()
            try:
                use_job_login(context)
                return run(context)
            except UserError as error:
                raise with_origin(error, context) from error.__cause__

        command.parse_args, command.invoke = check_and_parse, load_and_run
    return command


def _refuse_empty(command: TyperCommand, arguments: Sequence[str]) -> None:
    """Refuse an option with an empty text, such as that of a variable that is not set: it would mean everything."""
    own = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    options = {option: parameter.name for parameter in command.params for option in parameter.opts}
    for argument, following in zip_longest(own, own[1:]):
        option, equals, value = argument.partition("=")
        is_empty = not value if equals else following == ""
        if is_empty and option in options and options[option] not in _MAY_BE_EMPTY:
            raise UserError(f"{option} is empty: leave it out, or give it a value")


_MAY_BE_EMPTY = {"publish"}
"""Parameters that an empty text takes away from those that the job file gives."""

SUBCOMMANDS = {
    "init": _Entry(
        "orion_beam.cli.init:init",
        "Make a workspace: the job file, and places for countries, formats, stages, topics, reference data and cases.",
    ),
    "config": _Entry("orion_beam.cli.config:app", "Show the effective configuration of the workspace."),
    "deploy": _Entry(
        "orion_beam.cli.deploy:deploy",
        "Write the files of a deployment: images and compose, Kubernetes, systemd units. They are yours to change.",
    ),
    "demo": _Entry(
        "orion_beam.cli.demo:demo",
        "Run the whole pipeline on this machine with generated CDRs, and check that none is lost.",
        from_job=(),
    ),
    "run": _Entry(
        "orion_beam.cli.run:run",
        "Turn raw CDRs into unified ones: from files to files, or from Kafka to Kafka until it is stopped.",
        cls=_PassThroughCommand,
    ),
    "submit": _Entry(
        "orion_beam.cli.submit:submit",
        "Submit a stream from Kafka to Kafka to a Flink cluster, and end when the job has completed its first"
        " checkpoint.",
        cls=_PassThroughCommand,
    ),
    "replay": _Entry(
        "orion_beam.cli.replay:replay",
        "Run the retained raw records of a time range, or of offsets, through the pipeline again.",
        cls=_PassThroughCommand,
        subcommands={
            "diff": _Entry(
                "orion_beam.cli.replay_diff:diff",
                "Run the same retained records through two versions, and show how the results differ. Sends nothing.",
            )
        },
    ),
    "jobs": _Entry("orion_beam.cli.jobs:app", "List, show, stop, upgrade and roll back the jobs on a Flink cluster."),
    "doctor": _Entry(
        "orion_beam.cli.doctor:doctor",
        "Check what a job needs before it is submitted, and say how to fix what is wrong. Changes nothing.",
        cls=_PassThroughCommand,
    ),
    "generate": _Entry(
        "orion_beam.cli.generate:generate",
        "Generate raw CDRs, each country in its own formats, to Kafka or to files.",
        from_job=("countries",),
    ),
    "local": _Entry(
        "orion_beam.cli.local:app", "Start and stop a Kafka on this machine, for development.", from_job=("countries",)
    ),
    "trace": _Entry(
        "orion_beam.cli.trace:trace",
        "Show what became of one record: its fields, each stage's verdict, and where its CDR or dead letter lies.",
    ),
    "topics": _Entry(
        "orion_beam.cli.topics:app", "Plan, apply and verify topics and their settings, from a catalogue."
    ),
    "acls": _Entry("orion_beam.cli.acls:app", "Plan, apply and verify the ACLs of each role's users."),
    "capture": _Entry(
        "orion_beam.cli.capture:capture",
        "Write the newest raw records to golden-case files, with pseudonyms in place of subscribers' numbers.",
    ),
    "audit": _Entry(
        "orion_beam.cli.audit:audit",
        "Prove that every raw record came out on cdr.final or cdr.dlq, or name those that did not.",
    ),
    "forget": _Entry(
        "orion_beam.cli.forget:forget",
        "List where subscribers still lie, by topic and partition, and when retention removes their last record there.",
    ),
    "workers": _Entry(
        "orion_beam.cli.workers:workers",
        "Start Python workers when Flink asks for them. Run it beside each TaskManager, and leave it running.",
    ),
    "monitor": _Entry(
        "orion_beam.cli.monitor:monitor",
        "Serve metrics of Kafka and the jobs at /metrics, for Prometheus, and a status page at /.",
    ),
    "alerts": _Entry("orion_beam.cli.alerts:alerts", "Print the alert rules for Prometheus."),
    "top": _Entry(
        "orion_beam.cli.top:top", "Show rates, lag, rejects by code and checkpoints of each country, until Ctrl-C."
    ),
    "test": _Entry(
        "orion_beam.cli.test:run_tests",
        "Test the workspace: lint, golden cases, conformance of its countries, and its stages' tests.",
        from_job=(),
    ),
    "lint": _Entry(
        "orion_beam.cli.lint:lint",
        "Check the files of the workspace: job, topics, countries, formats, stages, reference data and cases.",
        from_job=(),
    ),
    "format": _Entry(
        "orion_beam.cli.format:app", "Try a file under each known raw format; draft a format from a sample."
    ),
    "country": _Entry("orion_beam.cli.country:app", "Begin a new country; check one against the conformance kit."),
    "dlq": _Entry("orion_beam.cli.dlq:app", "Look at dead letters, try them again, and send them back."),
    "rules": _Entry(
        "orion_beam.cli.rules:rules",
        "List the rules of validation: id, field, severity, meaning, source; then the codes of your own stages.",
    ),
    "schema": _Entry("orion_beam.cli.schema:app", "Show the records' schemas; check that a changed one is compatible."),
}


class _LazyCommand(TyperCommand):
    """Placeholder for a subcommand in the help, which loads the subcommand when it is called."""

    def __init__(self, name: str, entry: _Entry) -> None:
        super().__init__(name, help=entry.help)
        self._entry = entry

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        entry = self._entry
        if args and args[0] in entry.subcommands:
            entry, info_name, args = entry.subcommands[args[0]], f"{info_name} {args[0]}", args[1:]
        command = entry.load(info_name or "")
        defaults: Any = JobDefaults(args, entry.from_job)
        if isinstance(command, TyperGroup):
            defaults = dict.fromkeys(command.commands, defaults)
        return command.make_context(info_name, args, parent, default_map=defaults, **extra)


def command_context(words: Sequence[str], parent: Any) -> Any:
    """Return the context of a command line, with the values of its options, without running it.

    Raises:
        UserError: There is no such command.
    """
    name, *rest = words
    if name not in SUBCOMMANDS:
        raise UserError(f"there is no command {name}: `orion-beam --help` lists them")
    context = _LazyCommand(name, SUBCOMMANDS[name]).make_context(name, rest, parent)
    if isinstance(context.command, TyperGroup):
        inner, command, rest = context.command.resolve_command(context, rest)
        assert command is not None, "an unknown name is an error"
        context = command.make_context(inner, rest, context)
    return context


class _LazyGroup(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in SUBCOMMANDS.items():
            self.add_command(_LazyCommand(name, entry))


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    # A traceback with the values of local variables would show subscribers' numbers.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orion-beam {__version__}")
        raise typer.Exit


@app.callback()
def _orion_beam(
    version: Annotated[  # noqa: ARG001 - the callback acts on it
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    kafka_config: Annotated[
        Path | None,
        typer.Option(
            help="Properties with which clients log in: security.protocol, sasl.…, ssl.…", envvar=CONFIG_VARIABLE
        ),
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(
            help="Directory with orion.yaml; by default the nearest one, from the current directory upwards.",
            envvar=WORKSPACE_VARIABLE,
        ),
    ] = None,
    topic_prefix: Annotated[
        str | None,
        typer.Option(
            help="Before the name of each topic and group, so that environments share a cluster: staging.",
            envvar=PREFIX_VARIABLE,
            show_default="topics.prefix of orion.yaml",
        ),
    ] = None,
) -> None:
    """Unify call detail records of several countries on Kafka, with one Beam graph."""
    if kafka_config is not None:
        # This process and all processes that it starts find it in the environment.
        os.environ[CONFIG_VARIABLE] = str(kafka_config.absolute())
    if workspace is not None:
        os.environ[WORKSPACE_VARIABLE] = str(workspace.absolute())
    if topic_prefix is not None:
        os.environ[PREFIX_VARIABLE] = topic_prefix


def main() -> None:
    """Run the command line. A user's mistake gives one line and exit code 2, an interrupt exit code 130."""
    if "ORION_PARENT_PID" in os.environ:
        # Imported only when it is needed, because `--help` should be quick.
        import_module("orion_beam.runners.flink_parts.parent_guard").end_with_parent()
    set_up_logging()
    leave_out_notices()
    with interrupts.handled():
        try:
            app(prog_name="orion-beam")
        except BaseException as error:
            # An interrupt may have become any exception; only an exit code that the command chose is kept.
            if interrupts.is_hit() and not isinstance(error, SystemExit):
                sys.exit(interrupts.INTERRUPTED)
            _end_by(error)


_OF_PATHS = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG}


def _end_by(error: BaseException) -> NoReturn:
    if isinstance(error, UserError | JobFailedError):
        say(f"orion-beam: error: {' '.join(str(error).split())}", logging.ERROR)
        sys.exit(2 if isinstance(error, UserError) else 1)
    if isinstance(error, ServiceFailedError):
        say(f"orion-beam: error: {error}", logging.ERROR)
        sys.exit(1)
    if isinstance(error, OSError) and error.errno in _OF_PATHS and isinstance(error.filename, str | bytes):
        # A file that is there in name only: a path too long, a directory that may not be searched, a broken link.
        say(f"orion-beam: error: {shown(os.fsdecode(error.filename))}: {error.strerror}", logging.ERROR)
        logging.getLogger(__name__).debug("where it happened", exc_info=error)
        sys.exit(2)
    # A signal may come while confluent-kafka makes objects in C, which then fails with a SystemError.
    cause = error.__cause__ if isinstance(error, SystemError) else error
    if isinstance(cause, KeyboardInterrupt):
        sys.exit(interrupts.INTERRUPTED)
    if isinstance(cause, SystemExit):
        sys.exit(cause.code)
    raise error


if __name__ == "__main__":
    main()

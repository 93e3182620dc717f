"""`orion-beam demo`: the whole pipeline on this machine, from generated raw CDRs to a proof that none was lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Any, Self

import typer
from rich.markup import escape

from orion_beam.cli.shared.interrupts import await_signal
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import parse_countries
from orion_beam.errors import UserError
from orion_beam.job_file.options import WITHOUT_JOB
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.telemetry.logs import LogFollower

with late_imports():
    from confluent_kafka import KafkaException

    from orion_beam.cli.shared.demo_view import CountryProgress, View, further_steps, open_view, print_summary
    from orion_beam.countries import profiles_of
    from orion_beam.kafka.offset_ranges import offset_ranges
    from orion_beam.proof.tally import Tally
    from orion_beam.runners.jars.build import ensure_jars, find_java, guard_environment
    from orion_beam.runners.local.kafka import LocalKafka
    from orion_beam.schemas.country import CountryProfile
    from orion_beam.topics.apply import create_topics

_START_TIMEOUT_S = 600.0
"""Time in which the job must read its first record; it starts JVMs, and the machine may be busy."""
_STALL_TIMEOUT_S = 300.0
"""Longest time without progress after that."""
_STOP_TIMEOUT_S = 60.0
_REFRESH_S = 0.5
_LOG_TAIL_LINES = 12

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _DemoError(RuntimeError):
    """Failure of the demo that is no mistake of the user."""


class _Interrupts:
    """Turns signals into exceptions, but delays them where they would leave a process behind; see `held`.

    SIGINT becomes a KeyboardInterrupt. SIGTERM and SIGHUP end the process with the exit code that shells expect.
    """

    def __init__(self) -> None:
        self._held = 0
        self._pending: int | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delay signals until the block ends, even when it ends with an exception."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if self._pending is not None and not self._held:
                number, self._pending = self._pending, None
                self._raise(number)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._held:
            self._pending = number
        else:
            self._raise(number)

    @staticmethod
    def _raise(number: int) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)


class _Command:
    """An `orion-beam` command as a child process, with its output in files.

    It has its own session, so that a terminal's Ctrl-C reaches only the demo, which then stops its children in order.
    """

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.name = arguments[0]
        self.log = directory / f"{self.name}.log"
        self.events = LogFollower(self.log)
        self.output = directory / f"{self.name}.out"
        with self.log.open("wb") as log, self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orion_beam.cli.main", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
                env=os.environ | guard_environment() | WITHOUT_JOB,
            )

    @property
    def is_done(self) -> bool:
        """Whether the command has ended successfully.

        Raises:
            _DemoError: the command has failed. The message shows the end of its log.
        """
        code = self._process.poll()
        if code:
            raise self.failure(f"ended with exit code {code}")
        return code == 0

    def failure(self, reason: str) -> _DemoError:
        """Return an error that shows the end of the log."""
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
        return _DemoError(f"`orion-beam {self.name}` {reason}. Its log, {self.log}, ends:\n{tail}")

    def stop(self) -> None:
        """Stop the command and the processes that it has started, unless it has ended already."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@dataclass(frozen=True)
class _Plan:
    """What to generate."""

    profiles: Mapping[str, CountryProfile]
    count: int
    fault_rate: float
    seed: int

    @property
    def countries(self) -> str:
        """The countries as an option's value."""
        return ",".join(self.profiles)

    @property
    def topics(self) -> dict[str, str]:
        """The raw topic of each country."""
        return {code: profile.topic for code, profile in self.profiles.items()}


class _Demo:
    """One run as a context manager: on leaving, all that it has started is stopped and its files are deleted."""

    def __init__(self, plan: _Plan, view: View, interrupts: _Interrupts) -> None:
        self.samples: Mapping[str, Mapping[str, Any]] = {}
        self._plan, self._view, self._interrupts = plan, view, interrupts
        self._directory = Path(tempfile.mkdtemp(prefix="orion-beam-demo-"))
        self._kafka = LocalKafka(self._directory / "kafka")
        self._started = ExitStack()
        self._began = time.monotonic()

    @property
    def bootstrap_servers(self) -> str:
        """The address of the demo's Kafka."""
        return self._kafka.bootstrap_servers

    def run(self) -> dict[str, Any]:
        """Start everything, wait until all records have come out, stop the job, and return the summary.

        Raises:
            _DemoError: a command failed, or there is no progress any more.
        """
        self._view.update("starting Kafka", dict.fromkeys(self._plan.profiles, CountryProgress()))
        with self._interrupts.held():
            # Its data is deleted anyway, so it need not be shut down in order.
            self._started.callback(self._kafka.kill)
            self._kafka.start()
        servers, plan = self.bootstrap_servers, self._plan
        create_topics(servers, list(plan.profiles))
        self._view.say(f"Kafka is up at {servers}; generating {plan.count:,} CDRs while the job starts")
        job = self._start("run", "--bootstrap-servers", servers, "--countries", plan.countries)
        generator = self._start(
            "generate",
            *("--bootstrap-servers", servers, "--countries", plan.countries, "--json"),
            *("--count", str(plan.count), "--fault-rate", str(plan.fault_rate), "--seed", str(plan.seed)),
        )
        with Tally(servers) as tally:
            reading_s = self._wait(tally, job, generator)
            # The job may still write while it ends; these records must be counted, too.
            self._view.say("everything has come out; stopping the job and checking")
            with self._interrupts.held():
                job.stop()
            tally.drain()
            self.samples = tally.samples
            generated = json.loads(generator.output.read_text())
            return self._summary(tally, generated["countries"], reading_s)

    def __enter__(self) -> Self:
        """Return the demo; `run` starts it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything that `run` has started; after a failure the logs stay, because its message names them."""
        with self._interrupts.held():
            if error is not None:
                self._view.say("stopping what was started")
            self._started.close()
            is_failure = isinstance(error, Exception) and not isinstance(error, UserError)
            shutil.rmtree(self._directory / "kafka" / "data" if is_failure else self._directory, ignore_errors=True)

    def _start(self, *arguments: str) -> _Command:
        with self._interrupts.held():
            command = _Command(self._directory, *arguments)
            self._started.callback(command.stop)
        return command

    def _wait(self, tally: Tally, job: _Command, generator: _Command) -> float:
        """Wait until all sent records have come out; return the seconds since the first ones did."""
        topics = self._plan.topics
        before_first = changed = time.monotonic()
        progress: dict[str, CountryProgress] = {}
        while True:
            is_all_sent = generator.is_done
            if job.is_done:
                raise job.failure("ended by itself, although it is a stream")
            refresh = time.monotonic() + _REFRESH_S
            while (left := refresh - time.monotonic()) > 0:
                tally.poll(left)
            for line in job.events.read():
                self._view.say(escape(line))
            latest = self._progress(tally, topics)
            now = time.monotonic()
            total = sum(latest.values(), CountryProgress())
            if latest != progress:
                progress, changed = latest, now
            if not total.read:
                before_first = now
            step = "reading" if total.read else "starting the job"
            self._view.update(step, progress)
            if is_all_sent and not total.lag:
                return now - before_first
            if now - changed > (_STALL_TIMEOUT_S if total.read else _START_TIMEOUT_S):
                raise job.failure(f"has not come any further for {now - changed:.0f} s, with {total.lag:,} to go")

    def _progress(self, tally: Tally, topics: Mapping[str, str]) -> dict[str, CountryProgress]:
        # The ends of the raw topics are read last, so that the lag is never understated.
        accounted, counts = tally.account.accounted(topics.values()), tally.account.counts
        dead_lettered = dict.fromkeys(topics, 0)
        for (country, _), letters in counts.dead_letters.items():
            dead_lettered[country] += letters
        sent = dict.fromkeys(topics.values(), 0)
        for source, held in offset_ranges(self.bootstrap_servers, topics.values()).items():
            sent[source.topic] += held.offsets
        return {
            code: CountryProgress(sent[topic], accounted[topic], counts.final[code], dead_lettered[code])
            for code, topic in topics.items()
        }

    def _summary(self, tally: Tally, generated: Mapping[str, Any], reading_s: float) -> dict[str, Any]:
        topics = self._plan.topics
        report = tally.account.report(offset_ranges(self.bootstrap_servers, topics.values()))
        countries = {}
        for code, at in self._progress(tally, topics).items():
            countries[code] = {
                "records": at.sent,
                "final": at.written,
                "dead_letters": at.dead_lettered,
                "faulty": generated[code]["faulty"],
                "codes": {why: n for (of, why), n in sorted(tally.account.counts.dead_letters.items()) if of == code},
            }
        return {
            "balanced": report.holds,
            "guarantee": "exactly once" if report.is_exactly_once else "at least once",
            **report.counts(),
            "problems": report.problems,
            "records_per_second": round(report.records / max(reading_s, _REFRESH_S)),
            "seconds": round(time.monotonic() - self._began, 1),
            "countries": countries,
        }


def demo(
    count: Annotated[int, typer.Option(help="Number of CDRs, of all countries together.")] = 400_000,
    countries: Annotated[
        str | None, typer.Option(help="Country codes, such as FR,TN.", show_default="FR,MA,SN,TN")
    ] = None,
    fault_rate: Annotated[float, typer.Option(help="Share of faulty CDRs, 0 to 1.")] = 0.02,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers: the same seed gives the same CDRs.")] = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep Kafka running at the end, until Ctrl-C, so that you can look at it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Run the whole pipeline on this machine with generated CDRs, and check that none is lost.

    It starts a Kafka on a free port, the job on an embedded Flink, and the generator. When every CDR has come out, it
    stops and deletes all that it started. Exit code 1 means that a CDR was lost or something failed.

    Example: orion-beam demo --countries FR,SN --count 100000
    """
    os.environ.pop(CONFIG_VARIABLE, None)  # the login is for another Kafka; the demo's own needs none
    plan = _checked_plan(count, countries, fault_rate, seed)
    is_live = not as_json and sys.stdout.isatty() and sys.stderr.isatty()
    with _Interrupts() as interrupts:
        try:
            balanced = _run(plan, interrupts, is_live=is_live, keep=keep, as_json=as_json)
        except (RuntimeError, KafkaException) as error:
            typer.echo(f"orion-beam: error: {error}", err=True)
            raise typer.Exit(1) from None
    if not balanced:
        raise typer.Exit(1)


def _checked_plan(count: int, countries: str | None, fault_rate: float, seed: int) -> _Plan:
    if count < 1:
        raise UserError(f"--count must be at least 1, not {count}")
    if not 0 <= fault_rate <= 1:
        raise UserError(f"--fault-rate must be from 0 to 1, not {fault_rate}")
    return _Plan(profiles_of(parse_countries(countries)), count, fault_rate, seed)


def _run(plan: _Plan, interrupts: _Interrupts, *, is_live: bool, keep: bool, as_json: bool) -> bool:
    """Run the demo and print its results; return whether no record was lost."""
    # Checked first, so that nothing is half started when something is missing.
    find_java()
    ensure_jars(lambda line: typer.echo(line, err=True))
    with open_view(is_live=is_live) as view, _Demo(plan, view, interrupts) as run:
        summary = run.run()
        view.close()
        if as_json:
            typer.echo(json.dumps(summary, indent=2))
        else:
            print_summary(summary, run.samples)
        if not as_json or keep:
            for line in further_steps(run.bootstrap_servers if keep else None):
                typer.echo(line, err=as_json)
        if keep:
            with suppress(KeyboardInterrupt):
                await_signal()
    return bool(summary["balanced"])

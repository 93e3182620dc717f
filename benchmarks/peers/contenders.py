"""The contenders of `benchmarks.side_by_side`: what each is, and how it is started."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.peers.build import ensure_classes, ensure_pyflink
from benchmarks.peers.outputs import Output
from benchmarks.quick import running
from orion_beam.runners.jars.build import ADD_EXPORTS, ADD_OPENS, build_uber_jar, ensure_flink, ensure_jars, find_java
from orion_beam.runners.local.broker import HOST, free_ports, is_taken
from orion_beam.runners.local.flink import LocalFlink

report = Console(stderr=True).print

_PARALLELISM = "2"
_JVM = ("-Xms2g", "-Xmx2g", "-XX:+UseParallelGC")
_LISTEN_TIMEOUT_S = 600.0
_PYFLINK_JOB = Path(__file__).with_name("pyflink_job.py")


@dataclass(frozen=True)
class Setting:
    """What a contender is started with.

    Attributes:
        servers: The broker.
        group: Consumer group, new for each run.
        reference: Directory of the peers' reference data.
        directory: Empty directory for logs, checkpoints and temporary files.
    """

    servers: str
    group: str
    reference: Path
    directory: Path

    def running(self, command: Sequence[str], name: str = "contender") -> AbstractContextManager[psutil.Process]:
        """Run a command while the block runs, with its output in `NAME.log`."""
        return running(command, self.directory / f"{name}.log")


Start = Callable[[Setting], AbstractContextManager[psutil.Process]]


@dataclass(frozen=True)
class Contender:
    """A way to do the work.

    Attributes:
        title: Name for people.
        what: What it is, in a line.
        start: Runs it while a block runs, and yields its main process. All its processes descend from this one.
        output: What it writes to cdr.final.
        prepare: Builds or fetches what it needs.
        divisor: It gets the wanted number of records divided by this, because it is slow.
        is_bounded: Whether it ends by itself with the last record, so that it has no latency.
    """

    title: str
    what: str
    start: Start
    output: Output = Output.PLAIN
    prepare: Callable[[], object] = lambda: None
    divisor: int = 1
    is_bounded: bool = False


def _orion(command: str, setting: Setting, *options: str, beam: Sequence[str] = ()) -> list[str]:
    of_kafka = ["--bootstrap-servers", setting.servers, "--countries", "FR"]
    return [sys.executable, "-m", "orion_beam.cli.main", command, *of_kafka, *options, "--", *beam]


@contextmanager
def _stream(setting: Setting) -> Iterator[psutil.Process]:
    with setting.running(_orion("run", setting, "--group-id", setting.group)) as process:
        yield process


@contextmanager
def _replay(setting: Setting) -> Iterator[psutil.Process]:
    command = _orion("replay", setting, "--last", "12h", "--yes", beam=["--runner=FlinkRunner"])
    with setting.running(command) as process:
        yield process


@contextmanager
def _on_cluster(setting: Setting) -> Iterator[psutil.Process]:
    (port,) = free_ports(1)
    # A pool replaces the spares that a job takes five seconds after its start: CPU of a start, not of a CDR.
    pool = [sys.executable, "-m", "orion_beam.cli.main", "workers", "--listen", f"{HOST}:{port}", "--spares", "0"]
    with ExitStack() as stack:
        cluster = stack.enter_context(LocalFlink(setting.directory / "flink", int(_PARALLELISM)))
        stack.enter_context(setting.running(pool, "pool"))
        give_up = time.monotonic() + _LISTEN_TIMEOUT_S
        while not is_taken(port):
            if time.monotonic() > give_up:
                raise TimeoutError("the worker pool does not listen")
            time.sleep(0.1)
        where = [f"--flink_master={cluster.address}", "--environment_type=EXTERNAL"]
        where += [f"--environment_config={HOST}:{port}", f"--parallelism={_PARALLELISM}"]
        yield stack.enter_context(setting.running(_orion("run", setting, "--group-id", setting.group, beam=where)))


@contextmanager
def _java(main_class: str, handler: str, setting: Setting) -> Iterator[psutil.Process]:
    classes = ensure_classes(report)
    access = [f"--add-exports={name}=ALL-UNNAMED" for name in ADD_EXPORTS]
    access += [f"--add-opens={name}=ALL-UNNAMED" for name in ADD_OPENS]
    arguments = [setting.servers, _PARALLELISM, setting.group, setting.reference, setting.directory / "checkpoints"]
    java = [find_java(), *access, *_JVM, f"-Djava.io.tmpdir={setting.directory}"]
    class_path = ["-cp", f"{classes}:{classes / 'jars' / '*'}", f"peers.{main_class}"]
    with setting.running([*java, *class_path, *map(str, arguments), handler]) as process:
        yield process


@contextmanager
def _pyflink(setting: Setting) -> Iterator[psutil.Process]:
    arguments = [setting.servers, _PARALLELISM, setting.group, setting.reference]
    directories = [setting.directory / "checkpoints", ensure_classes(report) / "jars"]
    with setting.running(
        [str(ensure_pyflink(report)), str(_PYFLINK_JOB), *map(str, [*arguments, *directories])]
    ) as process:
        yield process


@contextmanager
def _plain_loop(setting: Setting) -> Iterator[psutil.Process]:
    arguments = [setting.servers, _PARALLELISM, setting.group, str(setting.reference)]
    with setting.running([sys.executable, "-m", "benchmarks.peers.plain_loop", *arguments]) as process:
        yield process


@contextmanager
def _raw_copy(setting: Setting) -> Iterator[psutil.Process]:
    with setting.running([sys.executable, "-m", "benchmarks.peers.raw_copy", setting.servers, _PARALLELISM]) as process:
        yield process


@contextmanager
def _beam(job: str, setting: Setting) -> Iterator[psutil.Process]:
    arguments = [job, setting.servers, setting.group, *([str(setting.reference)] if job == "rows" else [])]
    with setting.running([sys.executable, "-m", "benchmarks.peers.beam_jobs", *arguments]) as process:
        yield process


def _for_cluster() -> None:
    ensure_flink(report)
    build_uber_jar(report)


def _jars() -> None:
    ensure_jars(report)


def _classes() -> None:
    ensure_classes(report)


def _for_pyflink() -> None:
    _classes()
    ensure_pyflink(report)


CONTENDERS = {
    "orion": Contender("ORION, embedded Flink", "`orion-beam run`", _stream, Output.CDR, _jars),
    "orion-cluster": Contender(
        "ORION, session cluster", "`orion-beam run` on a Flink session cluster", _on_cluster, Output.CDR, _for_cluster
    ),
    "orion-replay": Contender(
        "ORION, replay", "`orion-beam replay` on embedded Flink", _replay, Output.CDR, _jars, is_bounded=True
    ),
    "java-tuned": Contender(
        "Flink DataStream, tuned by hand",
        "Java on the bytes of a message, Avro field by field",
        partial(_java, "DataStreamJob", "tuned"),
        prepare=_classes,
    ),
    "java-everyday": Contender(
        "Flink DataStream, everyday",
        "Java with String, java.time and Avro's GenericRecord",
        partial(_java, "DataStreamJob", "everyday"),
        prepare=_classes,
    ),
    "flink-sql": Contender(
        "Flink SQL", "SQL, with the look-ups as functions in Java", partial(_java, "SqlJob", ""), prepare=_classes
    ),
    "pyflink": Contender(
        "PyFlink, Arrow functions", "Flink SQL around one function on columns", _pyflink, prepare=_for_pyflink
    ),
    "plain-loop": Contender(
        "Plain Python loop", "confluent-kafka, pydantic, fastavro; two processes", _plain_loop, divisor=5
    ),
    "beam-rows": Contender(
        "Beam record by record", "Kafka IO and a DoFn on the same", partial(_beam, "rows"), prepare=_jars, divisor=5
    ),
    "raw-copy": Contender("Ceiling: raw copy", "librdkafka's batch calls; two processes", _raw_copy, Output.COPY),
    "no-work": Contender(
        "Ceiling: our graph without work", "ORION's read and write alone", partial(_beam, "nothing"), Output.COPY, _jars
    ),
}
"""The contenders by their names on the command line, in the order of the report."""

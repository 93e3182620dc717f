"""The system that is harmed: brokers, JobManagers, TaskManagers, worker pools, a job, its feed, its monitor."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from pyroaring import BitMap64

from orion_beam.defaults import PRODUCTION
from orion_beam.kafka.offset_ranges import SourcePartition
from orion_beam.runners.jars.build import guard_environment, orion_home
from orion_beam.runners.local.broker import HOST, free_ports
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.runners.local.processes import is_alive
from orion_beam.runners.local.zookeeper import LocalZooKeeper
from orion_beam.topics.apply import create_topics
from tests.chaos.disks import Disk
from tests.chaos.feed import COUNTRIES, SteadyFeed
from tests.chaos.proof import Proof
from tests.chaos.proxy import Proxy
from tests.integration.harness import await_until, committed_offsets
from tests.integration.pools import Pool, workers_of
from tests.topics import raw_topic

GROUP = "orion-beam"
CHECKPOINT_INTERVAL_S = 5
BROKERS = (1, 2, 3)
JOB_MANAGERS = (1, 2)
TASK_MANAGERS = (1, 2)
PATIENCE_S = 600.0
LEADERLESS_S = 60.0
"""Time without a leader after which the JobManagers are restarted: several times what an election takes."""
RUN_VARIABLE = "ORION_CHAOS_RUN"
"""Environment variable of every process of a run, by which those that are left behind are found."""
_CRASHES = (*(f"killed by {name}" for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")), "Traceback (most")

_HOSTS_OF_POOLS = ("127.0.0.1", "127.0.0.2")
_WORKER_MEMORY = "1GiB"
_LIVE_STATES = ("RUNNING", "CREATED", "RESTARTING", "INITIALIZING", "FAILING", "CANCELLING")
# A busy machine may stop a JVM for seconds; a leader whose session ends leads no more.
_SESSION_MS = 8_000
_LOOK_FOR_LEADER_EVERY_S = 5.0


class System:
    """Everything that runs, on this machine.

    The two TaskManagers are hosts of their own in so far as each has its own worker pool: both ask `localhost`, which
    means another loopback address to the second one. Clients reach brokers by proxies.

    Attributes:
        kafka: Three brokers.
        proxies: Proxies in front of the brokers, in their order.
        zookeeper: What JobManagers agree on the leader by.
        flink: Two JobManagers, two TaskManagers.
        pools: Worker pools, in the TaskManagers' order.
        feed: Stream of CDRs.
        proof: Reader of what comes out.
        checkpoint_disk: Where checkpoints go.
        broker_disk: Where the last broker's data are.
        deleted: Offset below which a harm has deleted the records of a source partition.
    """

    kafka: LocalKafka
    proxies: tuple[Proxy, ...]
    zookeeper: LocalZooKeeper
    flink: LocalFlink
    pools: tuple[Pool, ...]
    feed: SteadyFeed
    proof: Proof
    checkpoint_disk: Disk
    broker_disk: Disk

    def __init__(self, directory: Path, seed: int, rate: int) -> None:
        """Store the settings; `__enter__` starts everything.

        Args:
            directory: Empty directory for everything.
            seed: Seed of the feed.
            rate: Records per second of each country.
        """
        self.directory = directory
        self._seed = seed
        self._rate = rate
        self.deleted: dict[SourcePartition, int] = {}
        self._stack = ExitStack()
        self._monitor: psutil.Popen | None = None
        self._monitor_port = 0
        self._looked_for_leader = 0.0
        self._leaderless_since: float | None = None

    def __enter__(self) -> Self:
        """Start everything, and wait until records come out."""
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything that has not been stopped."""
        self._stack.__exit__(kind, error, traceback)

    @property
    def servers(self) -> str:
        """Brokers, as clients reach them."""
        return self.kafka.bootstrap_servers

    @property
    def processes(self) -> list[psutil.Process]:
        """Processes of this run that live, without this one."""
        return [process for process in processes_of_run() if process.pid != os.getpid()]

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def _start(self, stack: ExitStack) -> None:
        home = self.directory / "home"
        home.mkdir(parents=True)
        (home / "jars").symlink_to(orion_home() / "jars")
        temporary = self.directory / "tmp"
        temporary.mkdir()
        stack.enter_context(_environment(ORION_HOME=str(home), TMPDIR=str(temporary)))
        self.checkpoint_disk = stack.enter_context(Disk(self.directory / "checkpoints", mebibytes=64))
        self.broker_disk = stack.enter_context(Disk(self.directory / "kafka" / f"broker-{BROKERS[-1]}", mebibytes=2048))
        for number in BROKERS:
            # One of these directories is there already, as a disk; Kafka's number of brokers is that of directories.
            (self.directory / "kafka" / f"broker-{number}").mkdir(exist_ok=True)
        self.proxies = tuple(stack.enter_context(Proxy(self._port_of(number))) for number in BROKERS)
        advertised = [proxy.port for proxy in self.proxies]
        # The proxies ask it for its ports while it starts.
        self.kafka = LocalKafka(self.directory / "kafka", brokers=len(BROKERS), advertised=advertised)
        stack.enter_context(self.kafka)
        create_topics(self.servers, list(COUNTRIES), PRODUCTION)
        self.say("brokers are up")
        self.zookeeper = stack.enter_context(LocalZooKeeper(self.directory / "zookeeper"))
        self.flink = stack.enter_context(self._cluster())
        self._rest = self.flink.rest
        self.say("the cluster is up")
        (self._pool_port,) = free_ports(1)
        self.pools = tuple(self._pool(stack, number) for number in TASK_MANAGERS)
        for pool in self.pools:
            pool.await_ready()
        self.say("worker pools are ready")
        self.start_monitor()
        stack.callback(self.stop_monitor)
        self.proof = Proof(self.servers)
        stack.callback(self.proof.close)
        self.feed = SteadyFeed(self.servers, self._seed, self._rate)
        self.feed.start()
        self.submit()
        stack.callback(self.cancel_jobs)
        await_until(lambda: self.proof.counts(), PATIENCE_S, "the first record is out")
        self.say("records come out")

    def _port_of(self, broker: int) -> Callable[[], int]:
        return lambda: self.kafka.ports[broker - 1].broker

    def _cluster(self) -> LocalFlink:
        settings = {
            "high-availability.type": "zookeeper",
            "high-availability.zookeeper.quorum": self.zookeeper.address,
            "high-availability.zookeeper.client.session-timeout": _SESSION_MS,
            "high-availability.zookeeper.client.connection-timeout": _SESSION_MS,
            "high-availability.zookeeper.client.tolerate-suspended-connections": "true",
            "high-availability.cluster-id": "/orion",
            "high-availability.storageDir": (self.directory / "high-availability").as_uri(),
            "state.checkpoints.dir": (self.checkpoint_disk.path / "checkpoints").as_uri(),
            "state.savepoints.dir": (self.directory / "savepoints").as_uri(),
            # Otherwise the whole job may run on one TaskManager, and harms to the other one do nothing.
            "cluster.evenly-spread-out-slots": "true",
            # Harms come minutes apart at most, and each is to be met as the first one.
            "restart-strategy.exponential-delay.reset-backoff-threshold": "10 s",
        }
        # To the second TaskManager, localhost is the second loopback address. Beam's own servers listen at 127.0.0.1
        # whatever it means.
        hosts = self.directory / "hosts-of-task-manager-2"
        hosts.write_text(f"{_HOSTS_OF_POOLS[1]} localhost\n127.0.0.1 {os.uname().nodename}\n")
        jvm = {2: [f"-Djdk.net.hosts.file={hosts}"]}
        return LocalFlink(
            self.directory / "flink",
            slots=2,
            task_managers=len(TASK_MANAGERS),
            job_managers=len(JOB_MANAGERS),
            settings=settings,
            task_manager_jvm=jvm,
        )

    def _pool(self, stack: ExitStack, number: int, *options: str, **environment: str) -> Pool:
        address = f"{_HOSTS_OF_POOLS[number - 1]}:{self._pool_port}"
        options = options or ("--worker-memory", _WORKER_MEMORY)
        pool = Pool(self.directory / f"pool-{number}", *options, "--spares", "1", address=address, **environment)
        stack.callback(lambda: self._stop_pool(number))
        return pool

    def _stop_pool(self, number: int) -> None:
        process = self.pools[number - 1].process
        if is_alive(process):
            process.terminate()
        process.wait(PATIENCE_S)

    def replace_pool(self, number: int, *options: str, **environment: str) -> Pool:
        """End a pool as an operator does, and return a ready one in its place, with other options or variables."""
        self._stop_pool(number)
        with ExitStack() as unused:
            pool = self._pool(unused, number, *options, **environment)
            unused.pop_all()
        self.pools = tuple(pool if at == number else old for at, old in zip(TASK_MANAGERS, self.pools, strict=True))
        pool.await_ready()
        return pool

    def kill_pool(self, number: int) -> None:
        """Kill a pool and its workers at once, as the loss of its container would."""
        process = self.pools[number - 1].process
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()

    def workers(self) -> list[psutil.Process]:
        """Return the Python workers of both pools, spares too."""
        return [worker for pool in self.pools for worker in workers_of(pool.process)]

    def busiest_worker(self) -> psutil.Process:
        """Return the worker that has used most CPU: one that serves Flink, and no spare."""
        return max(self.workers(), key=lambda worker: sum(worker.cpu_times()[:2]))

    def start_monitor(self) -> None:
        """Start `orion-beam monitor`, always at the same port."""
        if not self._monitor_port:
            (self._monitor_port,) = free_ports(1)
        options = ["--listen", f"{HOST}:{self._monitor_port}", "--flink", self.flink.address, "--interval", "1"]
        command = [*_command("monitor", self.servers), "--countries", ",".join(COUNTRIES), *options]
        with (self.directory / "monitor.log").open("ab") as log:
            self._monitor = psutil.Popen(command, env=os.environ | guard_environment(), stdout=log, stderr=log)

    @property
    def monitor(self) -> psutil.Process:
        """The monitor's process."""
        assert self._monitor is not None
        return self._monitor

    def stop_monitor(self) -> None:
        """Stop the monitor."""
        if self._monitor is not None:
            if is_alive(self._monitor):
                self._monitor.terminate()
            self._monitor.wait(PATIENCE_S)

    def monitor_answers(self) -> bool:
        """Return whether the monitor serves its metrics."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._monitor_port}/metrics", timeout=5) as answer:
                return bool(answer.read())
        except OSError:
            return False

    def submit_command(self, *options: str) -> list[str]:
        """Return a call of `orion-beam submit` for this system's job."""
        beam = [
            f"--flink_master={self.flink.address}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{self._pool_port}",
            "--parallelism=2",
            f"--checkpointing_interval={CHECKPOINT_INTERVAL_S * 1000}",
        ]
        options = ("--countries", ",".join(COUNTRIES), "--consumer-config", "session.timeout.ms=6000", *options)
        return [*_command("submit", self.servers), *options, "--", *beam]

    def submit(self, *options: str) -> None:
        """Submit the job, again and again until the command succeeds."""
        self._run_until_done(self.submit_command(*options), lambda: bool(self.running()))

    def change_job(self, word: str, *options: str) -> str:
        """Call a subcommand of `orion-beam jobs` for the job that runs, and return its output.

        Raises:
            AssertionError: No job runs, or the command fails.
        """
        running = self.running()
        assert len(running) == 1, f"{len(running)} jobs run"
        command = [sys.executable, "-m", "orion_beam.cli.main", "jobs", word, running[0], *options]
        done = self._run([*command, "--flink", self.flink.address, "--bootstrap-servers", self.servers])
        assert done.returncode == 0, f"jobs {word}: {done.stderr[-1_000:]}"
        return done.stdout

    def supervise(self) -> list[str]:
        """Start again what has ended by itself, as the supervisor of its host would; return what that was."""
        ended = self._restart_leaderless() + self.flink.restart_ended()
        gone = [number for number in BROKERS if self.kafka.brokers[number - 1].exit_code is not None]
        if gone:
            self.kafka.rejoin(self.kafka.ports, gone)
        ended += [f"broker-{number}" for number in gone]
        for number, pool in zip(TASK_MANAGERS, self.pools, strict=True):
            if not is_alive(pool.process):
                pool.process.wait()
                pool.start()
                ended.append(f"pool-{number}")
        if not is_alive(self.monitor):
            self.start_monitor()
            ended.append("monitor")
        return ended

    def _restart_leaderless(self) -> list[str]:
        """Restart the JobManagers when none has led for a minute, as docs/runbooks/checkpoints.md tells operators."""
        now = time.monotonic()
        if now < self._looked_for_leader + _LOOK_FOR_LEADER_EVERY_S:
            return []
        self._looked_for_leader = now
        try:
            self._rest.get("overview")
        except (OSError, ValueError):
            self._leaderless_since = self._leaderless_since or now
        else:
            self._leaderless_since = None
        if self._leaderless_since is None or now < self._leaderless_since + LEADERLESS_S:
            return []
        self._leaderless_since = None
        self.say(f"  no JobManager has led for {LEADERLESS_S:.0f} s: all are restarted")
        for number in JOB_MANAGERS:
            self.flink.kill_job_manager(number)
        for number in JOB_MANAGERS:
            self.flink.start_job_manager(number)
        return ["JobManagers without a leader"]

    def running(self) -> list[str]:
        """Return the ids of the jobs that have not ended; ask again while no JobManager leads."""
        found: list[dict[str, Any]] = []

        def asked() -> bool:
            with suppress(OSError, ValueError):
                found[:] = self._rest.get("jobs/overview")["jobs"]
                return True
            return False

        await_until(asked, PATIENCE_S, "a JobManager answers")
        return [job["jid"] for job in found if job["state"] in _LIVE_STATES]

    def is_whole(self) -> bool:
        """Return whether one job runs with all its tasks."""
        try:
            jobs = self._rest.get("jobs/overview")["jobs"]
        except (OSError, ValueError):
            return False
        live = [job for job in jobs if job["state"] in _LIVE_STATES]
        return (
            len(live) == 1
            and live[0]["state"] == "RUNNING"
            and live[0]["tasks"]["running"] == live[0]["tasks"]["total"]
        )

    def missing(self) -> dict[SourcePartition, BitMap64]:
        """Return the offsets that were sent and have not come out, by source partition; none that were deleted."""
        sent = self.feed.sent()
        with self.proof.lock:
            missing = {part: offsets - self.proof.findings.came_out(part) for part, offsets in sent.items()}
        for part, low in self.deleted.items():
            missing[part].remove_range(0, low)
        return missing

    def lag_s(self) -> float:
        """Return the age of the oldest record that has not come out, in seconds."""
        waiting = [(part, offsets.min()) for part, offsets in self.missing().items() if offsets]
        return max((self.feed.age_s(part, offset) for part, offset in waiting), default=0.0)

    def what_waits(self) -> str:
        """Return how many records have not come out, of which source partitions, and how old they are."""
        waiting = {part: offsets for part, offsets in self.missing().items() if offsets}
        most = sorted(waiting, key=lambda part: -len(waiting[part]))[:4]
        named = ", ".join(f"{part.topic}[{part.partition}] {len(waiting[part])}" for part in most)
        count, lag_s, feed_s = sum(map(len, waiting.values())), self.lag_s(), self.feed.backlog_s()
        return (
            f"{count} records wait, for {lag_s:.0f} s, of {len(waiting)} partitions: {named}; the feed, {feed_s:.1f} s"
        )

    def why_ended(self) -> str:
        """Return the states of the jobs, with the last failure of each."""
        told = []
        with suppress(OSError, ValueError, KeyError):
            for job in self._rest.get("jobs/overview")["jobs"]:
                failures = self._rest.get(f"jobs/{job['jid']}/exceptions").get("root-exception") or ""
                told.append(f"{job['jid']} {job['state']}: {failures[:2_000]}")
        return "\n".join(told)

    def cancel_jobs(self) -> None:
        """Cancel what runs, so that everything ends in good order; nothing if no JobManager answers."""
        with suppress(OSError, ValueError):
            for job in self._rest.get("jobs/overview")["jobs"]:
                if job["state"] in _LIVE_STATES:
                    self._rest.cancel(job["jid"])

    def audit(self) -> dict[str, int]:
        """Return the counts of `orion-beam audit`. It is a process of its own, so all that it starts ends with it."""
        done = self._run([*_command("audit", self.servers), "--countries", ",".join(COUNTRIES), "--json"])
        assert done.stdout, f"audit: {done.stderr[-1_000:]}"
        return {name: count for name, count in json.loads(done.stdout).items() if isinstance(count, int)}

    def crashes(self) -> list[str]:
        """Return the lines of the pools about workers that crashed, and about exceptions. No harm causes either."""
        lines = (line for pool in self.pools for line in pool.log.splitlines())
        return [line for line in lines if any(sign in line for sign in _CRASHES)]

    def ensure_job(self) -> None:
        """Submit the job if none runs."""
        if not self.running():
            self.submit()

    def committed(self) -> dict[SourcePartition, int]:
        """Return the offsets that the job has committed."""
        return {
            SourcePartition(topic, partition): offset
            for topic in self.topics
            for partition, offset in committed_offsets(self.servers, GROUP, topic).items()
        }

    @property
    def topics(self) -> list[str]:
        """Names of the raw topics."""
        return [raw_topic(country).name for country in COUNTRIES]

    def _run(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        log = self.directory / "commands.log"
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)
        with log.open("a") as output:
            print(time.strftime("%H:%M:%S"), " ".join(command[3:5]), "ended with", done.returncode, file=output)
            print(done.stdout, done.stderr, file=output)
        return done

    def _run_until_done(self, command: Sequence[str], is_done: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while (done := self._run(command)).returncode and not is_done():
            assert time.monotonic() < give_up, done.stderr
            self.say(f"{command[3]} failed, again: {(done.stderr.strip().splitlines() or [''])[-1]}")


def _command(name: str, servers: str) -> list[str]:
    return [sys.executable, "-m", "orion_beam.cli.main", name, "--bootstrap-servers", servers]


def processes_of_run() -> list[psutil.Process]:
    """Return the processes that have this process's RUN_VARIABLE in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_VARIABLE) == os.environ.get(RUN_VARIABLE) and is_alive(process):
                found.append(process)
        except psutil.Error:
            continue
    return found


def described(process: psutil.Process) -> str:
    """Return what a process is: its command and its age."""
    try:
        return f"{' '.join(process.cmdline())} (process {process.pid}, for {time.time() - process.create_time():.0f} s)"
    except psutil.Error:
        return str(process)


@contextmanager
def _environment(**variables: str) -> Any:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

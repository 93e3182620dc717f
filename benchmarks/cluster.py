"""What benchmarks of a job on a session cluster share: a worker pool, `orion-beam submit`, and an even feed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka import Producer

from orion_beam.countries import default_profiles
from orion_beam.generator import generate_batches
from orion_beam.runners.jars.build import ensure_jars, find_java, guard_environment
from orion_beam.runners.local.broker import HOST, free_ports, is_taken
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.workspace import WORKSPACE_VARIABLE

START = datetime(2026, 6, 1, 10, tzinfo=UTC)


@contextmanager
def workers(directory: Path) -> Iterator[str]:
    """Run a worker pool while the block runs, and return its address. Its log is in the directory."""
    (port,) = free_ports(1)
    address = f"{HOST}:{port}"
    command = [sys.executable, "-m", "orion_beam.cli.main", "workers", "--listen", address]
    with (directory / "workers.log").open("wb") as log:
        pool = subprocess.Popen(command, env=os.environ | guard_environment(), stdout=log, stderr=log)
    try:
        while not is_taken(port):
            if pool.poll() is not None:
                raise RuntimeError((directory / "workers.log").read_text())
            time.sleep(0.1)
        yield address
    finally:
        pool.terminate()
        pool.wait(120)


def submit(servers: str, flink: LocalFlink, pool: str, *options: str, workspace: Path | None = None) -> None:
    """Submit a job of parallelism 1, with a checkpoint every 2 s.

    Raises:
        RuntimeError: The command fails. The message is what it says.
    """
    command = [sys.executable, "-m", "orion_beam.cli.main", "submit", "--bootstrap-servers", servers, *options]
    beam = [f"--flink_master={flink.address}", "--environment_type=EXTERNAL", f"--environment_config={pool}"]
    beam += ["--parallelism=1", "--checkpointing_interval=2000"]
    environment = os.environ | ({} if workspace is None else {WORKSPACE_VARIABLE: str(workspace)})
    done = subprocess.run([*command, "--", *beam], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)


def quota_command(servers: str, *change: str) -> list[str]:
    """Return a command that changes a quota of clients."""
    command = [find_java(), "-cp", ensure_jars().kafka_classpath, "kafka.admin.ConfigCommand"]
    return [*command, "--bootstrap-server", servers, "--entity-type", "clients", "--alter", *change]


def producer_of(servers: str, client: str = "feed") -> Producer:
    """Return a producer for feeds with a client id."""
    return Producer(
        {
            "bootstrap.servers": servers,
            "client.id": client,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "message.max.bytes": 2 << 20,
            "queue.buffering.max.messages": 200_000,
            "log_level": 0,
        }
    )


class Sending:
    """Sends prepared records of a country at an even rate, and begins anew behind the last one.

    Attributes:
        sent: Number of records that have been sent.
    """

    def __init__(self, producer: Producer, country: str, records: int, seed: int) -> None:
        """Prepare records with 2 % faults; the same seed gives the same records."""
        profile = default_profiles()[country]
        self._producer, self._topic = producer, profile.topic
        batches = generate_batches(profile, records, seed, 0.02, start=START)
        self._records = [row for batch in batches for row in zip(batch.key, batch.value, strict=True)]
        self.sent = 0

    def send(self, upto: int) -> None:
        """Send until so many records have been sent."""
        while self.sent < upto:
            key, value = self._records[self.sent % len(self._records)]
            self._producer.produce(self._topic, value, key)
            self.sent += 1

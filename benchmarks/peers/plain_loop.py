"""Peer: processes of one consumer group, each a loop over messages with confluent-kafka, pydantic and fastavro.

    python -m benchmarks.peers.plain_loop BOOTSTRAP PROCESSES GROUP REFERENCE

At least once: every 10 s a process flushes its producer, and then commits.
"""

import multiprocessing
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from benchmarks.peers.records import TOPIC
from benchmarks.peers.work import handler, reason

_COMMIT_S = 10.0
_MESSAGES = 1_000


class _Loop:
    def __init__(self, bootstrap_servers: str, group: str, reference: Path) -> None:
        self._handle = handler(reference)
        self._failures: list[KafkaError] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "compression.type": "snappy",
                "linger.ms": 10,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 1_000_000,
                "delivery.report.only.error": True,
            }
        )
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._is_stopped = False

    def run(self) -> None:
        self._consumer.subscribe([TOPIC], on_revoke=lambda _, __: self._commit())
        committed = time.monotonic()
        while not self._is_stopped:
            for message in self._consumer.consume(_MESSAGES, 1.0):
                if (error := message.error()) is not None:
                    raise KafkaException(error)
                self._pass_on(message.key(), message.value())
            self._producer.poll(0)
            if time.monotonic() - committed > _COMMIT_S:
                self._commit()
                committed = time.monotonic()
        self._commit()
        self._consumer.close()

    def stop(self, _: int, __: FrameType | None) -> None:
        self._is_stopped = True

    def _pass_on(self, key: bytes | None, value: bytes | None) -> None:
        try:
            out = self._handle(value or b"")
        except ValueError as error:
            self._send("cdr.dlq", key=key, value=value, headers=[("orion.error.code", reason(error))])
        else:
            self._send("cdr.final", key=key, value=out)

    def _send(self, topic: str, **message: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, on_delivery=self._delivered, **message)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._failures.append(error)

    def _commit(self) -> None:
        self._producer.flush()
        if self._failures:
            raise KafkaException(self._failures[0])
        try:
            self._consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:
                raise


def _run(bootstrap_servers: str, group: str, reference: str) -> None:
    loop = _Loop(bootstrap_servers, group, Path(reference))
    signal.signal(signal.SIGTERM, loop.stop)
    loop.run()


def main() -> None:
    """Start the processes; on SIGTERM, end them."""
    bootstrap_servers, count, group, reference = sys.argv[1:]
    context = multiprocessing.get_context("spawn")
    loops = [context.Process(target=_run, args=(bootstrap_servers, group, reference)) for _ in range(int(count))]
    for loop in loops:
        loop.start()

    def stop(_: int, __: FrameType | None) -> None:
        for loop in loops:
            loop.terminate()

    signal.signal(signal.SIGTERM, stop)
    for loop in loops:
        loop.join()


if __name__ == "__main__":
    main()

"""Tally with several processes: each reads a share of the output topics' partitions, and the accounts are added."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from confluent_kafka import KafkaException

from orion_beam.errors import JobFailedError, UserError
from orion_beam.kafka.offset_ranges import Advance, OffsetRange, SourcePartition
from orion_beam.proof.cdr_reader import CdrReader
from orion_beam.proof.tally import Account, Tally

MakeReader = Callable[[], CdrReader]
"""Function that creates a reader of CDRs in the process that uses it; it must be picklable."""

_Share = tuple[int, int]
"""Index of a share, and number of shares."""

_ReadShare = Callable[[_Share, Advance | None], Account]


def account_of(
    bootstrap_servers: str,
    final_topic: str,
    dead_letter_topic: str,
    wanted: Mapping[SourcePartition, OffsetRange],
    make_reader: MakeReader = CdrReader,
    advance: Advance | None = None,
    processes: int = 1,
) -> Account:
    """Read both output topics to their end, and return the account of their records.

    Python creates an object for each message, which keeps one core busy. So a long read uses several processes.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        final_topic: Topic that CDRs were written to.
        dead_letter_topic: Topic that rejects were written to.
        wanted: Source offsets to keep in the ledgers.
        make_reader: Factory of the reader of CDRs.
        advance: Called during the read with the number of records that were read.
        processes: Number of processes; 1 reads in this process.

    Raises:
        PrerequisiteError: The broker cannot be reached, or lacks a topic.
        UserError: CDRs have an unknown schema, or the broker reports an error.
        JobFailedError: A process was killed.
    """
    read = partial(_account_of_share, bootstrap_servers, final_topic, dead_letter_topic, wanted, make_reader)
    if processes == 1:
        return read((0, 1), advance)
    account = Account()
    with _shares(processes, read) as reading:
        while reading:
            ready = wait(reading)
            for connection in [one for one in reading if one in ready]:
                told = _received(connection)
                if isinstance(told, Exception):
                    raise told
                if isinstance(told, Account):
                    account.add(told)
                    reading.remove(connection)
                elif advance is not None:
                    advance(told)
    return account


@contextmanager
def _shares(count: int, read: _ReadShare) -> Iterator[list[Connection]]:
    """Start processes, and give the connections on which they report.

    No process is left behind: the end of the block kills them. If this process is killed, their next report fails,
    which ends them.
    """
    context = get_context("spawn")
    started = []
    reading = []
    try:
        for number in range(count):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_tell_share, args=(there, (number, count), read), daemon=True)
            with _interrupts_blocked():
                process.start()
            there.close()
            started.append(process)
            reading.append(here)
        yield reading
    finally:
        for process in started:
            process.kill()
            process.join()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block SIGINT. Processes started in the block inherit that: Ctrl-C reaches this process only, which ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _received(connection: Connection) -> int | Account | Exception:
    try:
        told: int | Account | Exception = connection.recv()
        return told
    except EOFError:
        return JobFailedError("a process that read for this one has ended unexpectedly; try again")


def _tell_share(connection: Connection, share: _Share, read: _ReadShare) -> None:
    try:
        connection.send(read(share, connection.send))
    except UserError as error:
        connection.send(error)


def _account_of_share(
    bootstrap_servers: str,
    final_topic: str,
    dead_letter_topic: str,
    wanted: Mapping[SourcePartition, OffsetRange],
    make_reader: MakeReader,
    share: _Share,
    advance: Advance | None,
) -> Account:
    reader = make_reader()
    try:
        with Tally(
            bootstrap_servers, final_topic, dead_letter_topic, wanted=wanted, reader=reader, share=share
        ) as tally:
            tally.drain(advance)
            return tally.account
    except KafkaException as error:
        raise UserError(f"Kafka at {bootstrap_servers}: {error.args[0].str()}") from None

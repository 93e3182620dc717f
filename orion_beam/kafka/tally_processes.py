"""A tally by several processes: each reads a share of the output topics' partitions, and the accounts are added up."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from confluent_kafka import KafkaException

from orion_beam.errors import JobFailedError, UserError
from orion_beam.kafka.cdr_reader import CdrReader
from orion_beam.kafka.ranges import Advance, OffsetRange, SourcePartition
from orion_beam.kafka.tally import Account, Tally

MakeReader = Callable[[], CdrReader]
"""Makes a reader of CDRs in the process that reads them, so it can be pickled."""


def account_of(
    bootstrap_servers: str,
    final_topic: str,
    dead_letter_topic: str,
    wanted: Mapping[SourcePartition, OffsetRange],
    make_reader: MakeReader = CdrReader,
    advance: Advance | None = None,
    processes: int = 1,
) -> Account:
    """Read both output topics to their end and return what has come out.

    Python makes an object of each message, which keeps one core busy; so a long read takes several processes.

    Args:
        bootstrap_servers: the brokers.
        final_topic: where CDRs were written to.
        dead_letter_topic: where rejects were written to.
        wanted: source offsets to keep account of.
        make_reader: of the CDRs.
        advance: told how many records have been read, as they are.
        processes: how many read; one is this one.

    Raises:
        PrerequisiteError: the broker cannot be reached, or lacks a topic.
        UserError: CDRs have a schema that is not known, or the broker reports an error.
        JobFailedError: a process was killed.
    """
    if processes == 1:
        with Tally(bootstrap_servers, final_topic, dead_letter_topic, wanted=wanted, reader=make_reader()) as tally:
            tally.drain(advance)
            return tally.account
    account = Account()
    arguments = (bootstrap_servers, final_topic, dead_letter_topic, wanted, make_reader)
    with _shares(processes, arguments) as reading:
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
def _shares(count: int, arguments: tuple[object, ...]) -> Iterator[list[Connection]]:
    """Start processes, give what they tell. At the end there are none; killed, this process leaves none either."""
    context = get_context("spawn")
    started = []
    reading = []
    try:
        for number in range(count):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_read_share, args=(there, (number, count), *arguments), daemon=True)
            process.start()
            there.close()
            started.append(process)
            reading.append(here)
        yield reading
    finally:
        for process in started:
            process.kill()
            process.join()


def _received(connection: Connection) -> int | Account | Exception:
    try:
        told: int | Account | Exception = connection.recv()
        return told
    except EOFError:
        return JobFailedError("a process that read for this one has ended unexpectedly; try again")


def _read_share(
    connection: Connection,
    share: tuple[int, int],
    bootstrap_servers: str,
    final_topic: str,
    dead_letter_topic: str,
    wanted: Mapping[SourcePartition, OffsetRange],
    make_reader: MakeReader,
) -> None:
    # Ctrl-C is for the one who started this process, and who then ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        reader = make_reader()
        with Tally(
            bootstrap_servers, final_topic, dead_letter_topic, wanted=wanted, reader=reader, share=share
        ) as tally:
            tally.drain(connection.send)
            connection.send(tally.account)
    except UserError as error:
        connection.send(error)
    except KafkaException as error:
        connection.send(UserError(f"Kafka at {bootstrap_servers}: {error.args[0].str()}"))

"""Progress line of a running stream, once a minute: what it read and wrote since the last line, and its lag."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from orion_beam.errors import UserError
from orion_beam.monitoring.reading import KafkaReader, Reading

EVERY_S = 60.0
_LAST_WORDS_S = 1.0
"""Longest wait for a reading that is under way when the stream ends."""


@contextmanager
def telling(
    bootstrap_servers: str,
    group_id: str,
    sources: Sequence[str],
    sinks: tuple[str, str],
    tell: Callable[[str], None],
    every_s: float = EVERY_S,
) -> Iterator[None]:
    """Report a stream's progress again and again while the block runs.

    Args:
        bootstrap_servers: The brokers.
        group_id: Consumer group whose commits show the stream's progress.
        sources: Topics that the stream reads.
        sinks: Topics of CDRs and of dead letters; the numbers include records of other writers.
        tell: Function that is given each line.
        every_s: Seconds between two lines.
    """
    stop = threading.Event()

    def look() -> None:
        reader = KafkaReader(bootstrap_servers, group_id, sources, sinks, retention=False)
        before: Reading | None = None
        while not stop.is_set():
            line = ""
            try:
                now = reader.read()
                line = "" if before is None else line_of(before, now, sources, sinks)
                before = now
            except UserError as error:
                line = str(error)
            if line and not stop.is_set():
                tell(line)
            stop.wait(every_s)
        reader.close()

    thread = threading.Thread(target=look, name="orion-minute", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_LAST_WORDS_S)


def line_of(before: Reading, now: Reading, sources: Sequence[str], sinks: tuple[str, str]) -> str:
    """Return a line about a stream's progress between two readings.

    Args:
        before: The reading before.
        now: The reading now.
        sources: Topics that the stream reads.
        sinks: Topics of CDRs and of dead letters.
    """
    seconds = max(now.at_s - before.at_s, 1e-3)
    read = sum(
        max(0, part.position - before.partitions[source].position)
        for source, part in now.partitions.items()
        if source in before.partitions
    )
    written, rejected = (now.written.get(topic, 0) - before.written.get(topic, 0) for topic in sinks)
    lag = sum(part.lag for part in now.partitions.values())
    line = (
        f"last {seconds:.0f} s: {read:,} read ({read / seconds:,.0f}/s), {written:,} written to {sinks[0]},"
        f" {rejected:,} rejected to {sinks[1]}; lag {lag:,}"
    )
    # A topic that could not be seen before is not new.
    seen_before = {source.topic for source in before.partitions}
    added = sum(source.topic in seen_before for source in now.partitions.keys() - before.partitions.keys())
    if added:
        line += f"; {added} partitions were added, and are read within a minute"
    being_read = {source.topic for source, part in now.partitions.items() if part.committed is not None}
    unread = [
        source
        for source, part in now.partitions.items()
        if part.committed is None and source.topic in being_read and source in before.partitions
    ]
    if unread:
        line += f"; {len(unread)} partitions are not read"
    seen = {source.topic for source in now.partitions}
    if unseen := [topic for topic in sources if topic not in seen]:
        line += f"; {', '.join(unseen)} cannot be seen: the topic is gone, or this user has no right to read it"
    doubled = [f"{jobs} jobs of this group read {topic}" for topic, jobs in (now.jobs or {}).items() if jobs > 1]
    return "; ".join([line, *doubled])

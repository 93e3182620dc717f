"""How far a read of Kafka has come, for people who wait for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from orion_beam.cli.shared.late import late_imports

with late_imports():
    from orion_beam.kafka.offset_ranges import Advance


@contextmanager
def progress_of(what: str, offsets: int) -> Iterator[Advance]:
    """Show how far a read has come, where somebody looks; hand out what to tell about it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=offsets)
        yield lambda count: progress.advance(task, count)

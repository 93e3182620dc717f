"""Progress bar for reads of Kafka."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.late import late_imports

with late_imports():
    from orion_beam.kafka.offset_ranges import Advance


@contextmanager
def progress_of(what: str, offsets: int) -> Iterator[Advance]:
    """Show the progress of a read on a terminal; yield the function that is told of each step."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console_of(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=offsets)
        yield lambda count: progress.advance(task, count)

"""Console of all commands, and its progress bar: texts of others are shown as they are, and control no terminal."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from orion_beam.cli.shared.late import late_imports
from orion_beam.telemetry.masking import printable

with late_imports():
    from orion_beam.kafka.offset_ranges import Advance


class _PrintableConsole(Console):
    """Replaces characters that would control the terminal; rich's own styles and controls are no text, and stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def console_of(*, markup: bool = False, **options: Any) -> Console:
    """Return a console, to print and to show progress on.

    Args:
        markup: Whether texts hold rich's markup (`[bold]`). Then the caller escapes each text that it did not write.
        **options: More of rich's options.
    """
    return _PrintableConsole(markup=markup, **options)


@contextmanager
def progress_of(what: str, offsets: int) -> Iterator[Advance]:
    """Show the progress of a read on a terminal; yield the function that is told of each step."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console_of(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=offsets)
        yield lambda count: progress.advance(task, count)

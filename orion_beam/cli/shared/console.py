"""Console of all commands. Texts of records, files and other writers are shown as they are, and control no terminal."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from orion_beam.telemetry.masking import printable


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

"""`orion-beam format`: try a file of unknown records under each known format, and draft a format from a sample."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.telemetry.logs import say
from orion_beam.workspace import find_workspace

with late_imports():
    from orion_beam.inspect.format_draft import draft as draft_of
    from orion_beam.inspect.format_trial import known_formats, lines_of_file, trials
    from orion_beam.inspect.lookalikes import shape_of
    from orion_beam.telemetry.masking import mask_field, shown

app = typer.Typer(help="Try a file under each known raw format; draft a format from a sample.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Try a file under each known raw format; draft a format from a sample."""


@app.command("try", epilog="Example: orion-beam format try sample.txt --draft > formats/xx_calls.toml")
def try_file(
    file: Annotated[Path, typer.Argument(help="File of one record a line; it may be compressed.")],
    draft: Annotated[
        bool, typer.Option("--draft", help="Print the draft of a format's declaration instead (TOML).")
    ] = False,
    rows: Annotated[int, typer.Option(min=1, help="Records to show of each format.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the first records of a file under each known format, those of the workspace included.

    Subscribers' numbers are masked. Exit code 1: no known format reads a record.

    --draft looks at the records' form and content instead: separators, widths, paths, and which columns look like an
    IMSI, a number or a time. Save it as formats/NAME.toml, check each field, and name it in a country's profile.
    """
    lines, encoding = lines_of_file(file)
    if encoding is not None:
        say(f"{shown(file)}: its text is {encoding.upper()}, not UTF-8: give run --input --encoding {encoding}")
    if draft:
        typer.echo(draft_of(lines), nl=False)
        return
    found = trials(lines, known_formats(find_workspace()), rows)
    if as_json:
        masked = [
            {"format": each.format, "read": each.read, "lines": len(lines), "rows": [_masked(row) for row in each.rows]}
            for each in found
        ]
        typer.echo(json.dumps(masked, indent=2, ensure_ascii=False))
    elif not found:
        shape = shape_of(lines[-1])
        typer.echo(f"no known format reads a record of {file}: the last line is {shape}; --draft drafts a format")
    for each in [] if as_json else found:
        table = Table("field", *(f"record {place + 1}" for place in range(len(each.rows))))
        table.title = f"{each.format} reads {each.read:,} of {len(lines):,} lines"
        for field in dict.fromkeys(field for row in each.rows for field in row):
            table.add_row(field, *(_masked(row).get(field, "") for row in each.rows))
        console_of().print(table)
    if not found:
        raise typer.Exit(1)


def _masked(row: dict[str, str]) -> dict[str, str]:
    return {field: mask_field(field, text) for field, text in row.items()}

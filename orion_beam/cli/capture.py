"""`orion-beam capture`: pseudonymised live records as golden cases."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from orion_beam.cli.shared.console import progress_of
from orion_beam.cli.shared.given import local_path
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import Cells, CountriesOption, Subscribers, parse_countries
from orion_beam.defaults import CELLS, SUBSCRIBERS
from orion_beam.errors import UserError

with late_imports():
    from orion_beam.capture.cases import write_cases
    from orion_beam.capture.slice import Capture
    from orion_beam.chain import load_reference
    from orion_beam.countries import profiles_of

_SHORTEST_KEY_BYTES = 16


def capture(
    bootstrap_servers: Annotated[str, typer.Option(help="Kafka brokers, host:port,…")],
    output: Annotated[
        Path, typer.Option(callback=local_path, help="Directory to write to: one folder for each country.")
    ],
    countries: CountriesOption = None,
    count: Annotated[
        int, typer.Option(help="Largest number of records to take of each country.", min=1, max=100_000)
    ] = 1000,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key of the pseudonyms, 16 bytes or more. By default a new key that is not kept."
        ),
    ] = None,
    cells: Cells = CELLS,
    subscribers: Subscribers = SUBSCRIBERS,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts as JSON.")] = False,
) -> None:
    """Write the newest raw records to golden-case files, with pseudonyms in place of subscribers' numbers.

    Example: orion-beam capture --bootstrap-servers localhost:9092 --countries TN --count 1000 --output cases
    """
    profiles = profiles_of(parse_countries(countries))
    taker = Capture(bootstrap_servers, count, _key(key_file), load_reference(cells, subscribers))
    found = {}
    for code, profile in profiles.items():
        with progress_of(f"capturing {code}", sum(each.offsets for each in taker.ranges(profile).values())) as advance:
            captured = taker.take(profile, advance)
        left_out = write_cases(captured, profile, output)
        found[code] = {
            "records": captured.records.num_rows,
            "lines": captured.records.num_rows - left_out,
            "changed": captured.changed,
        }
    if as_json:
        typer.echo(json.dumps({"countries": found, "output": str(output), "key_kept": key_file is not None}))
        return
    for code, counts in found.items():
        folder = output / code.lower()
        typer.echo(f"{folder}: {counts['records']:,} records, {counts['lines']:,} of them lines of input.txt")
        if counts["changed"]:
            typer.echo(f"  {counts['changed']:,} records get another result than their originals: see cases.txt")
    if key_file is None:
        typer.echo("the key of the pseudonyms is not stored: the next capture makes others, unless --key-file is given")


def _key(path: Path | None) -> bytes:
    if path is None:
        return os.urandom(32)
    try:
        key = path.read_bytes()
    except OSError as error:
        raise UserError(f"--key-file {path}: {error.strerror}") from None
    if len(key) < _SHORTEST_KEY_BYTES:
        raise UserError(f"--key-file {path} has {len(key)} bytes: a key has {_SHORTEST_KEY_BYTES} or more")
    return key

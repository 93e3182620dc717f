"""Beam's options behind `--`: those that there are, and a refusal of those that there are not.

Beam itself warns of an option that it does not know, or passes it on, and runs the job without: a misspelt
`--checkpointing_interval` would go unseen. It knows its Python options; those of Flink it asks the job server for, when
the job is about to start. They are kept in `flink_options.csv` instead, and a test holds that against the job server.
"""

import csv
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from apache_beam.options.pipeline_options import PipelineOptions

from orion_beam.errors import UserError

_FLINK_OPTIONS = Path(__file__).with_name("flink_options.csv")


def check_beam_options(arguments: Sequence[str]) -> None:
    """Check options before anything starts.

    Raises:
        UserError: an option does not exist, or its value is of the wrong kind; names it and the closest that exists.
    """
    parser = _parser()
    _, unknown = parser.parse_known_args(list(arguments))
    if not unknown:
        return
    name = unknown[0].partition("=")[0]
    if not name.startswith("-"):
        raise UserError(f"{name!r} behind `--` belongs to no option of Beam: write --name=value")
    known = [text for action in parser._actions for text in action.option_strings]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "`orion-beam run -- --help` lists them"
    raise UserError(f"Beam has no option {name}: {hint}")


def flink_options() -> dict[str, str]:
    """Return the options that Flink's job server knows: name to type (boolean, integer, number, string, array)."""
    with _FLINK_OPTIONS.open(newline="") as file:
        return {row["name"]: row["type"] for row in csv.DictReader(file)}


def _parser() -> Any:
    """Return Beam's own parser, with Flink's options added as Beam adds them (JobServiceHandle)."""
    built: list[Any] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=built.append)
    (parser,) = built
    parser.error = _refuse
    taken = {text for action in parser._actions for text in action.option_strings}
    for name, kind in flink_options().items():
        if f"--{name}" not in taken:
            parser.add_argument(f"--{name}", **({"action": "store_true"} if kind == "boolean" else {}))
    return parser


def _refuse(message: str) -> NoReturn:
    raise UserError(f"Beam's options behind `--`: {message}")

"""Check of Beam's options behind `--`, before anything starts.

Beam only warns of an option that it does not know, or passes it on, and runs the job without it: a misspelt
`--checkpointing_interval` would go unseen. Beam knows its Python options. It learns Flink's options from the job
server, just before the job starts. This product keeps them in `flink_options.csv`; a test compares that file with the
job server.
"""

import csv
import difflib
import re
from argparse import Namespace
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from apache_beam.options.pipeline_options import PipelineOptions

from orion_beam.defaults import MAX_PARALLELISM
from orion_beam.errors import UserError
from orion_beam.telemetry.masking import without_secrets

_FLINK_OPTIONS = Path(__file__).with_name("flink_options.csv")
_DEFAULT_PARALLELISM = -1
_OF_AWS = "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment, ~/.aws or a role give it"
_SECRETS = {
    "s3_secret_access_key": _OF_AWS,
    "s3_session_token": _OF_AWS,
    "azure_connection_string": "--blob_service_endpoint with AZURE_CLIENT_SECRET in the environment, or a role, does",
}
"""Beam's options that hold a secret, and other places for the secret. The arguments of a process can be seen by all."""
_WHOLE = re.compile("-?[0-9]{1,18}")
_EMBEDDED = ("[auto]", "[local]", "[collection]")


def check_beam_options(arguments: Sequence[str], runners: Collection[str] = ("DirectRunner", "FlinkRunner")) -> None:
    """Check options before anything starts.

    Args:
        arguments: The options behind `--`.
        runners: The runners that the job can use.

    Raises:
        UserError: An option does not exist, or its value has the wrong type or cannot work. The message names the
            option, and the closest existing option or the fix.
    """
    parser = _parser()
    given, unknown = parser.parse_known_args(list(arguments))
    if not unknown:
        _check_values(given, runners)
        return
    name = unknown[0].partition("=")[0]
    if not name.startswith("-"):
        raise UserError(f"{name!r} behind `--` belongs to no option of Beam: write --name=value")
    known = [text for action in parser._actions for text in action.option_strings]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "`orion-beam run -- --help` lists them"
    raise UserError(f"Beam has no option {name}: {hint}")


def _check_values(given: Namespace, runners: Collection[str]) -> None:
    """Check values that Beam or Flink would refuse much later, with a long error, and refuse secrets."""
    for name, way_out in _SECRETS.items():
        if getattr(given, name, None) is not None:
            raise UserError(f"--{name} shows a secret to whoever lists processes: leave it out; {way_out}")
    if any(without_secrets(address) != address for address in given.flink_master.split(",")):
        raise UserError(
            "--flink_master has a user or password, which whoever lists processes would see: have a proxy on this"
            " machine log in, and name the proxy"
        )
    if given.runner is not None and given.runner not in runners:
        raise UserError(f"--runner={given.runner}: expected {' or '.join(runners)}")
    jar = given.flink_job_server_jar
    if jar is not None and "://" not in jar and not Path(jar).is_file():
        raise UserError(f"--flink_job_server_jar={jar}: there is no such file; `make uber-jar` says where one is")
    if given.parallelism < 1 and given.parallelism != _DEFAULT_PARALLELISM:
        raise UserError(f"--parallelism={given.parallelism}: expected 1 or more")
    if given.parallelism > MAX_PARALLELISM:
        raise UserError(f"--parallelism={given.parallelism}: Flink's maximum is {MAX_PARALLELISM}")
    for name, kind in flink_options().items():
        # Beam takes any text for some of these numbers, and Flink refuses it when the job is submitted.
        if kind == "integer" and not _WHOLE.fullmatch(str(value := getattr(given, name) or 0)):
            raise UserError(f"--{name}={value}: expected a whole number of at most 18 digits")
    if given.direct_num_workers < 0:
        raise UserError(f"--direct_num_workers={given.direct_num_workers}: expected 1 or more, or 0 for one a core")


def check_environment(arguments: Sequence[str]) -> None:
    """Check that the options of a job on a cluster name the source of its Python workers, and those elsewhere fit.

    Raises:
        UserError: They do not. Flink would start containers of Beam's image, which lacks this package. Or embedded
            Flink should restore a savepoint, which it does not.
    """
    given, _ = _parser().parse_known_args(list(arguments))
    if given.flink_master in _EMBEDDED and given.savepoint_path is not None:
        raise UserError("--savepoint_path: embedded Flink restores none; give --flink_master, or leave it out")
    if given.flink_master not in _EMBEDDED and given.environment_type is None and given.environment_config is None:
        raise UserError(
            "--flink_master without --environment_type has Flink start the Python workers by `docker run`, from an"
            " image without this package: start `orion-beam workers` beside each task manager and give"
            " --environment_type=EXTERNAL --environment_config=localhost:50000, or name an image of yours by"
            " --environment_type=DOCKER --environment_config=IMAGE"
        )


def flink_options() -> dict[str, str]:
    """Return the types (boolean, integer, number, string, array) of the job server's options, by name."""
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

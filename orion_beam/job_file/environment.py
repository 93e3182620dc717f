"""Environment, such as staging or production: the prefix of its topics, consumer groups and transactional ids.

Environments with different prefixes, such as `staging.` and `prod.`, share a Kafka cluster without touching each other.
The processes that a command starts get the prefix from ORION_TOPIC_PREFIX or the same workspace. The workers of a job
never look for it: the job's configuration has the full names.
"""

import os
import re
from typing import TYPE_CHECKING

from orion_beam.defaults import GROUP
from orion_beam.errors import UserError

if TYPE_CHECKING:
    from orion_beam.job_file.read import Job

__all__ = [
    "PREFIX_PATTERN",
    "PREFIX_VARIABLE",
    "default_group",
    "environment_name",
    "topic_prefix",
    "transactional_id",
]

PREFIX_VARIABLE = "ORION_TOPIC_PREFIX"
"""Environment variable with the prefix; `orion-beam --topic-prefix` sets it."""

PREFIX_PATTERN = r"^[a-zA-Z0-9._-]{0,100}$"
"""A topic's name has 249 characters at most."""


def topic_prefix() -> str:
    """Return the prefix of ORION_TOPIC_PREFIX, otherwise `topics.prefix` of the workspace's job file; empty for none.

    Raises:
        UserError: The prefix has characters that a topic's name may not have, or the job file is invalid.
    """
    prefix = os.environ.get(PREFIX_VARIABLE)
    if prefix is None:
        return "" if (job := _job()) is None else job.settings.topics.prefix
    if re.fullmatch(PREFIX_PATTERN, prefix) is None:
        raise UserError(
            f"{PREFIX_VARIABLE}: {prefix!r} is no prefix of topics: letters, digits, ., _ and -, at most 100"
        )
    return prefix


def default_group() -> str:
    """Return the consumer group of a job for which the user names none; its leases are in a group of this name, too.

    Raises:
        UserError: As `topic_prefix`.
    """
    return f"{topic_prefix()}{GROUP if (job := _job()) is None else job.settings.group}"


def transactional_id() -> str:
    """Return the id of all redrives of this environment, whatever their letters' topic: they share a journal."""
    return f"{topic_prefix()}orion-redrive"


def environment_name() -> str:
    """Return the prefix without its last separator, such as `staging`; empty for none."""
    return topic_prefix().rstrip("._-")


def _job() -> "Job | None":
    # Here, because the command line imports this module, and its help should be quick.
    from orion_beam.job_file.read import find_job

    return find_job()

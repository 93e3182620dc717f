"""The place where Beam's options let a job run: a Flink cluster with a pool of workers, or embedded Flink."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions, PortableOptions

from orion_beam.runners.flink import EMBEDDED_MASTER, embedded_heap_mb, flink_arguments
from orion_beam.runners.jars.build import Jars
from orion_beam.runners.worker_pool.versions import pool_address


@dataclass(frozen=True)
class JobTarget:
    """A Flink cluster and the job's place on it.

    Attributes:
        master: URL of Flink's REST API, of several JobManagers separated by commas; None when Flink is embedded.
        parallelism: Parallelism of the job.
        pool: Address (host:port) of the worker pool, as task managers see it; None when there is no pool.
        savepoint: Savepoint to restore (`--savepoint_path`); None for none.
        allow_non_restored: Whether the job starts although no step takes some state of the savepoint.
    """

    master: str | None
    parallelism: int
    pool: str | None
    savepoint: str | None = None
    allow_non_restored: bool = False

    @classmethod
    def of(cls, beam_arguments: Sequence[str]) -> Self:
        """Read the target from Beam's options, with the defaults of `flink_arguments`.

        Raises:
            UserError: Flink is embedded, and the environment gives it a heap that cannot work.
        """
        options = PipelineOptions(flink_arguments(Jars.within(Path()), beam_arguments))
        flink, portable = options.view_as(FlinkRunnerOptions), options.view_as(PortableOptions)
        master = None if flink.flink_master in (EMBEDDED_MASTER, "[auto]") else flink.flink_master
        if master is not None:
            master = ",".join(each if "://" in each else f"http://{each}" for each in master.split(","))
        else:
            embedded_heap_mb()
        has_pool = portable.environment_type == "EXTERNAL" and portable.environment_config
        pool = pool_address(portable.environment_config) if has_pool else None
        given = options.get_all_options(retain_unknown_options=True)
        return cls(master, flink.parallelism, pool, given.get("savepoint_path"), "allow_non_restored_state" in given)

"""Options behind `--`: a real one passes, in every spelling that Beam takes; a misspelt one is refused by name."""

import pytest

from orion_beam.errors import UserError
from orion_beam.runners.flink import flink_arguments
from orion_beam.runners.flink_parts import beam_options
from orion_beam.runners.flink_parts.beam_options import check_beam_options, check_environment, flink_options
from orion_beam.runners.jars.build import Jars
from orion_beam.runners.job_target import JobTarget


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--parallelism=4"],
        ["--parallelism", "4"],
        ["--checkpointing_interval=1000", "--faster_copy", "--environment_type=EXTERNAL"],
        ["--checkpointing_interval", "1000", "--state_backend", "rocksdb"],
        ["--flink_submit_uber_jar", "--flink_master=http://jobmanager:8081"],
        ["--experiments=use_deprecated_read", "--experiments=another"],
    ],
)
def test_options_of_beam_and_flink_pass(arguments: list[str]) -> None:
    check_beam_options(arguments)


def test_our_own_defaults_pass(tmp_path) -> None:
    jars = Jars.within(tmp_path)
    jars.flink_job_server.touch()
    check_beam_options(flink_arguments(jars, []))
    check_environment(flink_arguments(jars, []))


def test_each_option_of_the_job_server_passes() -> None:
    values = {"boolean": [], "integer": ["7"], "number": ["0.5"], "array": ["text"], "string": ['{"key": "value"}']}
    kinds = {name: kind for name, kind in flink_options().items() if name != "runner"}
    kinds = {name: kind for name, kind in kinds.items() if name not in beam_options._SECRETS}
    every = [text for name, kind in kinds.items() for text in (f"--{name}", *values[kind])]
    assert len(every) > 100
    check_beam_options(every)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--paralelism=4"], ["--paralelism:", "did you mean --parallelism?"]),
        (["--parallelism=4", "--checkpoint_interval", "5"], ["--checkpoint_interval:", "--checkpointing_interval?"]),
        (["--flink-master=host:1"], ["--flink-master:", "--flink_master?"]),
        (["--xyzzy"], ["--xyzzy:", "--help"]),
        (["-p", "4"], ["option -p:"]),
        (["four"], ["'four'", "--name=value"]),
        (["--faster_copy", "true"], ["'true'", "--name=value"]),
        (["--parallelism=four"], ["--parallelism", "'four'"]),
        (["--parallelism"], ["--parallelism", "expected one argument"]),
        (["--parallelism=0"], ["--parallelism=0: expected 1 or more"]),
        (["--s3_secret_access_key", "hunter2"], ["--s3_secret_access_key shows a secret", "AWS_SECRET_ACCESS_KEY"]),
        (["--azure_connection_string=AccountKey=hunter2"], ["--azure_connection_string shows", "AZURE_CLIENT_SECRET"]),
        (["--flink_master=https://me:hunter2@flink:8081"], ["--flink_master has a user or password", "a proxy"]),
        (["--parallelism=" + "9" * 30], ["9: Flink's maximum is 32768"]),
        (["--sdk_worker_parallelism=two"], ["--sdk_worker_parallelism=two: expected a whole number"]),
        (["--number_of_execution_retries", "9" * 30], ["--number_of_execution_retries=999", "at most 18 digits"]),
        (["--direct_num_workers=-3"], ["--direct_num_workers=-3: expected 1 or more"]),
        (["--runner=Foo"], ["--runner=Foo: expected DirectRunner or FlinkRunner"]),
        (["--runner", "SparkRunner"], ["--runner=SparkRunner: expected"]),
        (["--flink_job_server_jar=/nowhere/a.jar"], ["/nowhere/a.jar: there is no such file; `make uber-jar`"]),
    ],
)
def test_any_other_option_is_refused_by_name_with_the_closest(arguments: list[str], named: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        check_beam_options(arguments)
    for text in named:
        assert text in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_runner_that_the_job_cannot_have_is_refused() -> None:
    check_beam_options(["--runner=FlinkRunner"], ["FlinkRunner"])
    with pytest.raises(UserError, match="--runner=DirectRunner: expected FlinkRunner"):
        check_beam_options(["--runner=DirectRunner"], ["FlinkRunner"])


@pytest.mark.parametrize(
    "arguments", [[], ["--environment_type=EXTERNAL"], ["--environment_type=DOCKER"], ["--environment_config=image:1"]]
)
def test_a_cluster_must_be_told_where_python_workers_come_from(arguments: list[str]) -> None:
    check_environment(arguments)
    on_cluster = ["--flink_master=http://jobmanager:8081", *arguments]
    if arguments:
        check_environment(on_cluster)
        return
    with pytest.raises(UserError, match="--environment_type=EXTERNAL --environment_config=localhost:50000"):
        check_environment(on_cluster)


def test_embedded_flink_refuses_a_savepoint_since_it_would_restore_nothing() -> None:
    with pytest.raises(UserError, match="--savepoint_path: embedded Flink restores none"):
        check_environment(["--savepoint_path=file:/savepoint"])
    on_cluster = ["--flink_master=http://jobmanager:8081", "--environment_type=EXTERNAL", "--savepoint_path=file:/s"]
    check_environment(on_cluster)
    assert JobTarget.of(on_cluster).savepoint == "file:/s"

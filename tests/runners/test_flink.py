"""The JVM of embedded Flink has the heap that the environment gives it."""

from pathlib import Path

import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions

from orion_beam.errors import UserError
from orion_beam.runners.flink import _STREAM_CONF_DIR, HEAP_VARIABLE, _jvm_of, flink_arguments
from orion_beam.runners.jars.build import Jars
from orion_beam.runners.job_target import JobTarget


@pytest.mark.parametrize(("streaming", "young"), [([], "-Xmn300m"), (["--streaming"], "-Xmn716m")])
def test_the_heap_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, streaming: list[str], young: str) -> None:
    monkeypatch.setenv(HEAP_VARIABLE, "1024")
    assert {"-Xmx1024m", young} <= set(_jvm_of(PipelineOptions(streaming)))


@pytest.mark.parametrize("text", ["2g", "511", "-1", "9" * 9, "9" * 30])
def test_a_heap_that_cannot_work_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(HEAP_VARIABLE, text)
    with pytest.raises(
        UserError, match=rf"^{HEAP_VARIABLE} is '{text}': give 512 to \d+, this machine's memory in MiB"
    ):
        JobTarget.of([])
    assert JobTarget.of(["--flink_master=jobmanager:8081"]).master == "http://jobmanager:8081"


def test_a_stream_keeps_its_last_checkpoint_and_a_bounded_job_has_none(tmp_path: Path) -> None:
    kept = "--retain_externalized_checkpoints_on_cancellation"
    assert kept in flink_arguments(Jars.within(tmp_path), [])
    assert kept not in flink_arguments(Jars.within(tmp_path), [], bounded=True)


@pytest.mark.parametrize("bounded", [False, True])
def test_how_a_job_restarts_is_left_to_its_cluster(bounded: bool) -> None:
    # A job's own strategy, `number_of_execution_retries`, would override that of the cluster.
    arguments = flink_arguments(Jars.within(Path()), ["--flink_master=jobmanager:8081"], bounded=bounded)
    assert not [argument for argument in arguments if "retries" in argument or "restart" in argument]


def test_embedded_flink_answers_this_machine_only() -> None:
    settings = yaml.safe_load((_STREAM_CONF_DIR / "flink-conf.yaml").read_text(encoding="utf-8"))
    assert settings["rest.bind-address"] == settings["rest.address"] == "127.0.0.1"
    first, _, last = settings["rest.bind-port"].partition("-")
    assert int(first) + 50 < int(last)

"""The JVM of embedded Flink has the heap that the environment gives it."""

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from orion_beam.errors import UserError
from orion_beam.runners.flink import HEAP_VARIABLE, _jvm_of


@pytest.mark.parametrize(("streaming", "young"), [([], "-Xmn300m"), (["--streaming"], "-Xmn716m")])
def test_the_heap_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, streaming: list[str], young: str) -> None:
    monkeypatch.setenv(HEAP_VARIABLE, "1024")
    assert {"-Xmx1024m", young} <= set(_jvm_of(PipelineOptions(streaming)))


@pytest.mark.parametrize("text", ["2g", "511", "-1"])
def test_a_heap_that_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(HEAP_VARIABLE, text)
    with pytest.raises(UserError, match=f"^{HEAP_VARIABLE} is '{text}': give at least 512, in MiB$"):
        _jvm_of(PipelineOptions(["--streaming"]))

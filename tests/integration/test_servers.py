"""Flink's job server: started from the archive of classes that the one before it left behind, or not at all."""

import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer

from orion_beam.runners.flink_parts.servers import _running, servers
from orion_beam.runners.jars.build import ensure_jars, find_java
from orion_beam.runners.local.broker import HOST, free_ports, is_taken
from orion_beam.runners.local.kafka import LocalKafka
from tests.integration.harness import START_TIMEOUT_S, StartJob, await_until
from tests.integration.remote_peers import answers_of, assert_refused, open_ports, own_address

pytestmark = pytest.mark.integration


def test_a_job_server_leaves_an_archive_of_its_classes_and_the_next_one_starts_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = ensure_jars().flink_job_server
    jar = tmp_path / "jars" / "0" / built.name
    jar.parent.mkdir(parents=True)
    shutil.copy(built, jar)
    jar.with_name("job").symlink_to(built.with_name("job"))
    monkeypatch.setenv("ORION_HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    with pytest.raises(ValueError, match="the job"):
        _fail(jar)
    assert not list(jar.parent.glob("*.jsa*")), "what a job needed that failed is not what others will"
    assert not _archives_mapped(jar)
    (archive,) = jar.parent.glob("*.jsa*")
    assert archive.suffix == ".jsa"
    assert _archives_mapped(jar) == {str(archive)}
    assert list(jar.parent.glob("*.jsa*")) == [archive]


def test_a_jvm_that_does_not_start_ends_the_job_with_one_line_and_how_to_see_why(
    kafka: LocalKafka, start_job: StartJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-Xmx1k")
    job = start_job(kafka.bootstrap_servers, "--countries", "FR")
    assert job.exit_code() == 1
    last = job.log.splitlines()[-1]
    assert last.startswith("orion-beam: error: a JVM of the job does not start")
    assert last.endswith("`java -version` may show why")
    assert "Traceback" not in job.log


def test_beams_services_answer_processes_of_this_host_only(kafka: LocalKafka, start_job: StartJob) -> None:
    address = own_address()
    job = start_job(kafka.bootstrap_servers, "--countries", "FR")
    seen: dict[int, dict[str, grpc.StatusCode]] = {}

    def workers_are_served() -> bool:
        ports = {port for jvm in job.jvms for port in open_ports(jvm)}
        seen.update({port: answers_of(address, port) for port in ports - seen.keys()})
        return any("fn_execution.v1.BeamFnData/Data" in answers for answers in seen.values())

    job.await_until(workers_are_served, START_TIMEOUT_S, "the services for workers listen")
    assert any("job_management.v1.JobService/GetJobs" in answers for answers in seen.values())
    for port, answers in seen.items():
        # The expansion service may have ended in the middle of the questions.
        if is_taken(port):
            assert_refused(answers, port)


def test_the_expansion_service_answers_processes_of_this_host_only() -> None:
    address, (port,) = own_address(), free_ports(1)
    with subprocess.Popen([find_java(), "-jar", ensure_jars().expansion_service, str(port)]) as service:
        try:
            await_until(lambda: is_taken(port), START_TIMEOUT_S, "it listens")
            assert_refused(answers_of(address, port), port)
            assert grpc.StatusCode.PERMISSION_DENIED not in answers_of(HOST, port).values()
        finally:
            service.terminate()


def _fail(jar: Path) -> None:
    with servers():
        _server(jar).start()
        raise ValueError("the job")


def _server(jar: Path) -> FlinkJarJobServer:
    return FlinkJarJobServer(PipelineOptions([f"--flink_job_server_jar={jar}", "--artifact_port=0"]))


def _archives_mapped(jar: Path) -> set[str]:
    """Start and stop a job server; return which archives it had mapped into its memory."""
    server = _server(jar)
    with servers():
        server.start()
        ((process, _),) = _running
        maps = Path("/proc", str(process.pid), "maps").read_text()
        server.stop()
    assert process.poll() is not None
    return {line.split()[-1] for line in maps.splitlines() if ".jsa" in line and str(jar.parent) in line}

"""A worker pool and its workers, with a task manager that is no Flink: starts, ends, limits, probes, the token.

`test_cluster` has the same within a job.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from orion_beam.errors import UserError
from orion_beam.runners.local.broker import free_ports
from orion_beam.runners.local.processes import is_alive
from orion_beam.runners.worker_pool.pool import PoolLimits, worker_pool
from orion_beam.runners.worker_pool.token import TOKEN_VARIABLE, with_token
from tests.integration.harness import await_until
from tests.integration.pools import Pool, metrics_at, probe, workers_of
from tests.integration.task_manager import START_TIMEOUT_S, TaskManager

pytestmark = pytest.mark.integration


@pytest.fixture
def task_manager() -> Iterator[TaskManager]:
    with TaskManager.running() as made:
        yield made


def own_workers() -> list[psutil.Process]:
    return workers_of(psutil.Process())


def test_a_worker_serves_a_task_manager_and_ends_when_it_is_let_go(task_manager: TaskManager) -> None:
    with worker_pool() as address:
        assert task_manager.ask(address, "1-1") == ""
        assert task_manager.await_worker() == "1-1"
        assert len(own_workers()) == 1
        task_manager.let_go("1-1")
        await_until(lambda: own_workers() == [], START_TIMEOUT_S, "the worker has ended")


def test_a_worker_that_is_let_go_within_a_bundle_does_not_stay(task_manager: TaskManager) -> None:
    with worker_pool() as address:
        task_manager.ask(address, "1-1")
        task_manager.begin_bundle(task_manager.await_worker(), "stuck")
        assert task_manager.await_bundle() == "stuck"
        task_manager.let_go("1-1")
        await_until(lambda: own_workers() == [], START_TIMEOUT_S, "the worker has ended")


def test_a_job_that_stops_its_worker_leaves_the_worker_of_another_job_with_the_same_id(task_manager: TaskManager):
    with worker_pool() as address, TaskManager.running() as other:
        for asking in (task_manager, other):
            asking.ask(address, "1-1")
            asking.await_worker()
        task_manager.let_go("1-1")
        with grpc.insecure_channel(address) as channel:
            pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
            await_until(lambda: len(own_workers()) == 1, START_TIMEOUT_S, "the first job's worker has ended")
            pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"), timeout=600)
        other.begin_bundle("1-1", "still here")
        assert other.await_bundle() == "still here"


@pytest.fixture
def start_pool(tmp_path: Path) -> Iterator[object]:
    """A function that starts `orion-beam workers`; takes options, and variables of the environment."""
    started: list[Pool] = []

    def start(*options: str, **environment: str) -> Pool:
        started.append(Pool(tmp_path / "pool", *options, **environment))
        return started[-1]

    yield start
    for pool in started:
        pool.clean_up()


def test_probes_say_when_a_pool_is_ready_and_sigterm_lets_workers_finish(start_pool, task_manager: TaskManager):
    pool = start_pool("--spares", "1", "--drain-limit", "5m")
    pool.await_ready()
    assert probe(pool.probes, "/live")[0] == 200
    assert '"orion-beam": "' in probe(pool.probes, "/ready")[1]
    assert metrics_at(pool.probes)["orion_worker_spares"] == 1.0

    # The spare is there at once.
    (spare,) = workers_of(pool.process)
    task_manager.ask(pool.address, "1-1")
    task_manager.begin_bundle(task_manager.await_worker(), "first")
    assert task_manager.await_bundle() == "first"
    assert metrics_at(pool.probes)["orion_workers"] == 1.0

    pool.process.terminate()
    pool.await_draining()
    assert "this worker pool is ending" in task_manager.ask(pool.address, "1-2")
    # The first bundle is under way. A second one comes too late, and Flink is told why.
    task_manager.begin_bundle("1-1", "second")
    refused = task_manager.answers.get(timeout=600)
    assert (refused.instruction_id, "the worker pool ends" in refused.error) == ("second", True)
    assert is_alive(spare)
    assert is_alive(pool.process)

    task_manager.may_end.set()
    assert task_manager.answers.get(timeout=600).instruction_id == "first"
    assert pool.process.wait(START_TIMEOUT_S) == 128 + signal.SIGTERM
    assert not is_alive(spare)


def test_a_worker_that_ends_before_its_first_bundle_does_that_one(start_pool, task_manager: TaskManager) -> None:
    """Flink waits three minutes for the output of a first bundle, also when it is refused."""
    pool = start_pool("--spares", "1", "--drain-limit", "5m")
    pool.await_ready()
    task_manager.ask(pool.address, "1-1")
    task_manager.await_worker()
    pool.process.terminate()
    pool.await_draining()
    task_manager.begin_bundle("1-1", "first")
    assert task_manager.await_bundle() == "first"
    task_manager.begin_bundle("1-1", "second")
    refused = task_manager.answers.get(timeout=600)
    assert (refused.instruction_id, "the worker pool ends" in refused.error) == ("second", True)
    task_manager.may_end.set()
    assert pool.process.wait(START_TIMEOUT_S) == 128 + signal.SIGTERM


def test_a_worker_that_does_not_finish_in_time_is_killed(start_pool, task_manager: TaskManager) -> None:
    pool = start_pool("--spares", "0", "--drain-limit", "1s")
    pool.await_ready()
    task_manager.ask(pool.address, "1-1")
    task_manager.begin_bundle(task_manager.await_worker(), "endless")
    assert task_manager.await_bundle() == "endless"
    pool.process.terminate()
    assert pool.process.wait(START_TIMEOUT_S) == 128 + signal.SIGTERM
    assert "worker 1-1 (process" in pool.log
    assert "has not finished its bundles in time" in pool.log


def test_a_pool_that_is_killed_leaves_no_workers(start_pool, task_manager: TaskManager) -> None:
    pool = start_pool("--spares", "2")
    pool.await_ready()
    task_manager.ask(pool.address, "1-1")
    task_manager.begin_bundle(task_manager.await_worker(), "first")
    family = workers_of(pool.process)
    assert len(family) == 2
    task_manager.may_end.set()
    pool.process.kill()
    await_until(lambda: not any(map(is_alive, family)), START_TIMEOUT_S, "the workers have ended")


def test_a_worker_above_its_memory_limit_ends_and_is_counted(task_manager: TaskManager, caplog) -> None:
    (port,) = free_ports(1)
    probes = f"127.0.0.1:{port}"
    with worker_pool(metrics_listen=probes, limits=PoolLimits(spares=1)):
        await_until(lambda: metrics_at(probes)["orion_worker_spares"] == 1.0, START_TIMEOUT_S, "a worker is loaded")
        used = metrics_at(probes)["orion_worker_memory_bytes"]
    with worker_pool(metrics_listen=probes, limits=PoolLimits(memory_bytes=int(used * 0.9))) as address:
        task_manager.ask(address, "1-1")
        assert task_manager.await_worker() == "1-1"
        ended = 'orion_workers_ended_total{reason="memory"}'
        await_until(lambda: metrics_at(probes)[ended] == 1.0, START_TIMEOUT_S, "it is counted")
        assert "of memory, and its limit is" in caplog.text
        # Flink asks for another.
        assert task_manager.ask(address, "1-2") == ""
        assert task_manager.await_worker() == "1-2"


def test_a_worker_far_above_its_memory_limit_is_killed(task_manager: TaskManager) -> None:
    (port,) = free_ports(1)
    probes = f"127.0.0.1:{port}"
    with worker_pool(metrics_listen=probes, limits=PoolLimits(memory_bytes=1 << 20)) as address:
        task_manager.ask(address, "1-1")
        task_manager.await_worker()
        ended = 'orion_workers_ended_total{reason="memory_killed"}'
        await_until(lambda: metrics_at(probes)[ended] == 1.0, START_TIMEOUT_S, "it is killed and counted")


def test_a_worker_that_dies_before_its_task_manager_has_it_is_replaced(task_manager: TaskManager, caplog) -> None:
    with worker_pool() as address, ThreadPoolExecutor() as threads:
        answer = threads.submit(task_manager.ask, address, "1-1")
        killed = set()
        while len(killed) < 4:
            await_until(
                lambda: {worker.pid for worker in own_workers()} - killed, START_TIMEOUT_S, "another is started"
            )
            for worker in own_workers():
                killed.add(worker.pid)
                worker.kill()
        assert task_manager.await_worker() == "1-1"
        assert {worker.pid for worker in own_workers()}.isdisjoint(killed)
        assert answer.result() == ""
    assert "has ended by itself (killed by SIGKILL)" in caplog.text


@pytest.fixture
def nowhere() -> TaskManager:
    """A task manager that no worker reaches."""
    made = TaskManager()
    made.address = f"127.0.0.1:{free_ports(1)[0]}"
    return made


@contextmanager
def waiting_request(pool: Pool, nowhere: TaskManager) -> Iterator[Future[str]]:
    """Ask a pool for a worker that cannot connect; yield the answer when a worker has the request."""
    pool.await_ready()
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(nowhere.ask, pool.address, "1-1")
        await_until(
            lambda: metrics_at(pool.probes)["orion_workers"] == 1.0, START_TIMEOUT_S, "a worker has the request"
        )
        assert not answer.done()
        yield answer


def test_a_request_is_not_answered_before_its_worker_has_connected(start_pool, nowhere: TaskManager) -> None:
    """After an answer, Flink waits for ever. A pool that is killed meanwhile must not leave it waiting."""
    pool = start_pool("--spares", "1")
    with waiting_request(pool, nowhere) as answer:
        pool.process.kill()
        with pytest.raises(grpc.RpcError):
            answer.result()


def test_a_request_that_nobody_waits_for_any_more_keeps_no_worker(nowhere: TaskManager) -> None:
    request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1")
    request.control_endpoint.url = nowhere.address
    with worker_pool() as address:
        with grpc.insecure_channel(address) as channel:
            call = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel).StartWorker.future(request)
            await_until(own_workers, START_TIMEOUT_S, "a worker is started")
            call.cancel()
        await_until(lambda: own_workers() == [], START_TIMEOUT_S, "it is ended")


def test_a_pool_that_ends_answers_a_request_that_waits(start_pool, nowhere: TaskManager) -> None:
    pool = start_pool("--spares", "0", "--drain-limit", "1s")
    with waiting_request(pool, nowhere) as answer:
        pool.process.terminate()
        assert answer.result() == "this worker pool is ending: it starts no workers"


READS_FOR_EVER = """
import io, sys, threading, time
if any(each.endswith("worker_pool.worker") for each in sys.orig_argv):
    import pyarrow.csv
    class Endless(io.RawIOBase):
        def readable(self):
            return True
        def read(self, _=-1):
            time.sleep(0.001)
            return b"1,2\\n" * 1_000
    for _ in range(3):
        reader = pyarrow.csv.open_csv(pyarrow.PythonFile(Endless(), "r"))
        threading.Thread(target=lambda: [None for _ in reader], daemon=True).start()
"""
"""Threads within C++ that call Python again and again. At Python's own end, the first one aborts the process."""


def test_a_worker_ends_in_order_while_threads_are_within_c(
    task_manager: TaskManager, tmp_path: Path, monkeypatch, caplog
) -> None:
    (tmp_path / "sitecustomize.py").write_text(READS_FOR_EVER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with worker_pool() as address:
        task_manager.ask(address, "1-1")
        task_manager.await_worker()
        task_manager.let_go("1-1")
        await_until(lambda: own_workers() == [], START_TIMEOUT_S, "the worker has ended")
    assert "has ended by itself" not in caplog.text


def test_the_metric_files_of_a_worker_that_has_ended_are_removed(task_manager: TaskManager, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (port,) = free_ports(1)
    with worker_pool(metrics_listen=f"127.0.0.1:{port}") as address:
        task_manager.ask(address, "1-1")
        task_manager.await_worker()
        (worker,) = own_workers()
        (directory,) = tmp_path.glob("orion-beam-metrics-*")
        # The client makes it when the worker counts its first batch.
        file = directory / f"counter_{worker.pid}.db"
        file.touch()
        task_manager.let_go("1-1")
        await_until(lambda: not file.exists(), START_TIMEOUT_S, "its file is gone")
        assert list(tmp_path.glob("orion-beam-metrics-*/counter_ended.db"))
    assert list(tmp_path.glob("orion-beam-metrics-*")) == []


def test_the_metric_files_of_a_pool_that_was_killed_are_removed_by_the_next_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "orion-beam-metrics-left"
    left.mkdir()
    (left / "counter_1.db").touch()
    (left / "lock").touch()
    os.utime(left / "lock", (0, 0))
    first, second = (f"127.0.0.1:{port}" for port in free_ports(2))
    with worker_pool(metrics_listen=first):
        assert not left.exists()
        (alive,) = tmp_path.glob("orion-beam-metrics-*")
        os.utime(alive / "lock", (0, 0))
        with worker_pool(metrics_listen=second):
            assert alive.exists()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "10.0.0.1:0"])
def test_a_pool_listens_on_this_machine_only_unless_it_has_a_token(address: str) -> None:
    with pytest.raises(UserError, match="lets whoever reaches it start processes here"), worker_pool(address):
        pass


def test_a_token_is_asked_of_whoever_wants_a_worker(task_manager: TaskManager, tmp_path: Path, monkeypatch) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef-a-secret\n")
    token.chmod(0o600)
    with worker_pool("0.0.0.0:0", token_file=token) as listening:
        address = f"127.0.0.1:{listening.rpartition(':')[2]}"
        with pytest.raises(grpc.RpcError) as refused:
            task_manager.ask(address, "1-1")
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "refuses this job: it asks for a token; set ORION_WORKERS_TOKEN_FILE" in refused.value.details()
        assert "a-secret" not in refused.value.details()
        assert own_workers() == []

        monkeypatch.setenv(TOKEN_VARIABLE, str(token))
        with grpc.insecure_channel(address) as channel:
            pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(with_token(channel))
            pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"), timeout=600)
        token.write_text("0123456789abcdef-another")
        with grpc.insecure_channel(address) as channel:
            stale = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(with_token(channel))
            stale.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"), timeout=600)


@pytest.mark.parametrize("text", ["", "short", "0123456789äbcdefghij"])
def test_a_token_file_without_a_token_is_a_mistake_of_the_user(tmp_path: Path, text: str) -> None:
    token = tmp_path / "token"
    token.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="openssl rand -hex 32"), worker_pool(token_file=token):
        pass
    with pytest.raises(UserError, match="cannot be read"), worker_pool(token_file=tmp_path / "none"):
        pass


def test_warm_compiles_the_hot_path_for_later_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orion_beam.cli.main", "workers", "--warm"]
    warming = subprocess.Popen(command, env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}, stdout=subprocess.PIPE)
    # All of it takes half a minute of CPU.
    await_until(lambda: list(tmp_path.rglob("*.nbc")), START_TIMEOUT_S, "machine code is kept")
    warming.kill()
    warming.communicate()

    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith("the hot path is compiled, in ")

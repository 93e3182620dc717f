"""The local Kafka, a real one: its life as a context manager, and by `orion-beam local up|down|status`."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.kafka.admin import admin_client, require_topics
from orion_beam.runners.jars import build as jars
from orion_beam.runners.local import development as local
from orion_beam.runners.local import kafka as local_kafka
from orion_beam.runners.local.broker import HOST, Ports, is_taken
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.runners.local.processes import is_alive
from orion_beam.topics.apply import create_topics
from tests.command import Command, orion_beam
from tests.integration.harness import await_until

__all__ = ["orion_beam"]

pytestmark = pytest.mark.integration


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An ORION_HOME of its own, with the jars of the real one."""
    built = jars.ensure_jars()
    monkeypatch.setattr(local_kafka, "ensure_jars", lambda _: built)
    monkeypatch.setenv("ORION_HOME", str(tmp_path))
    yield tmp_path
    local.down(purge=True)


def kill(broker: local.BrokerProcess) -> None:
    os.kill(broker.pid, signal.SIGKILL)
    await_until(lambda: not broker.running and not is_taken(broker.ports.broker), 600, "the broker is gone")


def produce(broker: LocalKafka, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": "all"})
    producer.produce("cdr.raw.FR", value, b"key", partition=0)
    assert producer.flush(600) == 0


def consume(broker: LocalKafka, count: int) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["cdr.raw.FR"])
    try:
        messages = consumer.consume(count, 600)
    finally:
        consumer.close()
    return [value for message in messages if (value := message.value()) is not None]


def test_records_survive_a_stop_and_a_kill(tmp_path: Path) -> None:
    with LocalKafka(tmp_path / "kafka") as broker:
        assert "cdr.raw.FR" in create_topics(broker.bootstrap_servers, ["FR"], "development")
        assert create_topics(broker.bootstrap_servers, ["FR", "TN"], "development") == ["cdr.raw.TN"]
        require_topics(broker.bootstrap_servers, ["cdr.raw.FR", "cdr.dlq"])
        with pytest.raises(PrerequisiteError, match=r"no topic cdr\.raw\.XX, nothing: create it"):
            require_topics(broker.bootstrap_servers, ["cdr.raw.FR", "nothing", "cdr.raw.XX"])
        with pytest.raises(UserError, match=r"topic cdr\.raw\.SN cannot be created"):
            create_topics(broker.bootstrap_servers, ["SN"], "production")
        produce(broker, b"one")
    with LocalKafka(tmp_path / "kafka") as broker:
        produce(broker, b"two")
        broker.kill()
        broker.start()
        assert consume(broker, 2) == [b"one", b"two"]


def test_a_broker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from orion_beam.runners.local.kafka import LocalKafka\n"
        "with LocalKafka(Path(sys.argv[1])) as broker:\n"
        "    print(broker.brokers[0].pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await_until(lambda: not is_alive(pid), 600, "the broker has ended")


def test_a_broker_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    broker = LocalKafka(tmp_path, heap="1k")
    with pytest.raises(RuntimeError, match="heap") as caught:
        broker.start()
    assert str(tmp_path / "broker.log") in str(caught.value)


def test_a_port_in_use_is_named_with_the_fix(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PrerequisiteError, match=f"port {port} is in use: .* --port"):
            LocalKafka(tmp_path, port).start()


def test_up_outlives_its_command_and_down_ends_it(home: Path, orion_beam: Command) -> None:
    up = orion_beam("local", "up", "--port", "0", "--countries", "FR,SN", "--json")
    assert up.code == 0, up.err
    state = json.loads(up.out)
    assert "cdr.raw.SN" in state["topics_created"]
    (broker,) = state["brokers"]
    assert os.getsid(broker["pid"]) == broker["pid"]  # not of this terminal's session

    again = orion_beam("local", "up", "--port", "0", "--countries", "FR,SN")
    assert f"was up already at {state['bootstrap_servers']}" in again.out
    shown = json.loads(orion_beam("local", "status", "--json").out)
    assert shown["running"]
    assert shown["brokers"] == state["brokers"]

    assert orion_beam("local", "down").out == "Kafka is stopped\n"
    assert not is_alive(broker["pid"])
    assert (home / "local" / "kafka").exists()
    assert orion_beam("local", "down", "--purge").out == "Kafka was not running\nIts data is deleted\n"
    assert not (home / "local" / "kafka").exists()
    assert json.loads(orion_beam("local", "status", "--json").out) == {"running": False}


@pytest.mark.usefixtures("home")
def test_a_killed_broker_comes_back_where_it_was_with_its_topics_or_elsewhere_if_it_must() -> None:
    first, started = local.up(port=None, metrics=True)
    assert started
    create_topics(first.bootstrap_servers, ["FR"])
    kill(first.brokers[0])
    assert local.status() is None

    second, started = local.up(port=None)
    assert started
    assert second.brokers[0].pid != first.brokers[0].pid
    assert second.brokers[0].ports == first.brokers[0].ports
    assert second.metrics_ports
    assert "cdr.raw.FR" in admin_client(second.bootstrap_servers).list_topics(timeout=600).topics

    kill(second.brokers[0])
    with socket.create_server((HOST, second.brokers[0].ports.broker)):
        third, started = local.up(port=None)
    assert started
    assert third.bootstrap_servers != second.bootstrap_servers
    assert "cdr.raw.FR" in admin_client(third.bootstrap_servers).list_topics(timeout=600).topics


def test_a_state_file_of_a_reused_process_id_is_stale(home: Path) -> None:
    (home / "local").mkdir()
    reused = local.BrokerProcess(number=1, pid=os.getpid(), created_s=0.0, ports=Ports(1, 2))
    local._write_state(local.LocalState(brokers=(reused,), bootstrap_servers="127.0.0.1:1", data_dir=str(home)))
    assert local.status() is None
    assert local.down() is False  # and this test is not killed


@pytest.mark.usefixtures("home")
def test_three_brokers_outlive_one_of_them_which_is_started_again(orion_beam: Command) -> None:
    up = orion_beam("local", "up", "--port", "0", "--brokers", "3", "--countries", "FR", "--json")
    assert up.code == 0, up.err
    state = json.loads(up.out)
    assert len(set(state["bootstrap_servers"].split(","))) == 3
    admin = admin_client(state["bootstrap_servers"])

    def replicas() -> set[tuple[int, ...]]:
        partitions = admin.list_topics("cdr.raw.FR", timeout=600).topics["cdr.raw.FR"].partitions.values()
        return {tuple(sorted(partition.replicas)) for partition in partitions}

    # A broker that has not heard of a new topic yet says that it has no partitions.
    await_until(replicas, 600, "the broker that is asked knows the topic")
    assert replicas() == {(1, 2, 3)}

    fewer = orion_beam("local", "up", "--brokers", "1")
    assert fewer.code == 2
    assert "has 3 broker(s), not 1: delete it with `orion-beam local down --purge`" in fewer.err

    first = local.status()
    assert first is not None
    kill(first.brokers[1])
    assert ", 2 of 3 brokers (process" in orion_beam("local", "status").out

    again = orion_beam("local", "up", "--port", "0", "--countries", "FR", "--json")
    assert again.code == 0, again.err
    assert "2 of 3 broker(s) are running: starting the others" in again.err
    assert json.loads(again.out)["topics_created"] == []
    second = local.status()
    assert second is not None
    assert len(second.running) == 3
    assert second.brokers[::2] == first.brokers[::2]
    assert second.bootstrap_servers == first.bootstrap_servers


def test_data_of_another_number_of_brokers_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"holds the data of 1 broker\(s\), not 3"):
        LocalKafka(tmp_path, brokers=3).start()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--countries=XX", "unknown country 'XX'"),
        ("--limit=lag_s=-1", "--limit lag_s: Input should be greater than 0"),
        ("--limit=lag_s=300", "--limit: no effect without --monitoring"),
    ],
)
def test_user_errors_end_with_code_2(orion_beam: Command, option: str, problem: str) -> None:
    result = orion_beam("local", "up", option)
    assert result.code == 2
    assert problem in result.err


def test_a_broker_that_does_not_start_is_told_with_the_end_of_its_log(home: Path, orion_beam: Command) -> None:
    data = home / "local" / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\nnode.id=77\ncluster.id=other\n")
    result = orion_beam("local", "up", "--port", "0")
    assert result.code == 1
    assert "the local Kafka does not start: it ended with exit code 1. Its log," in result.err
    assert "node id" in result.err
    assert "Traceback" not in result.err

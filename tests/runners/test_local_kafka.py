"""The local Kafka, a real one: its life as a context manager, and by `orion-beam local up|down|status`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from typer.testing import CliRunner

from orion_beam.cli.local import app
from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.kafka.topics import admin_client, create_topics, require_topics
from runners import jars, local, local_kafka
from runners.broker import Ports
from runners.local_kafka import LocalKafka
from tests.integration.harness import await_until

pytestmark = pytest.mark.integration


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An ORION_HOME of its own, with the jars of the real one."""
    built = jars.ensure_jars()
    monkeypatch.setattr(local_kafka, "ensure_jars", lambda _: built)
    monkeypatch.setenv("ORION_HOME", str(tmp_path))
    yield tmp_path
    local.down(purge=True)


def produce(broker: LocalKafka, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": "all"})
    producer.produce("cdr.raw.FR", value, b"key", partition=0)
    assert producer.flush(10) == 0


def consume(broker: LocalKafka, count: int) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["cdr.raw.FR"])
    try:
        messages = consumer.consume(count, 20)
    finally:
        consumer.close()
    return [value for message in messages if (value := message.value()) is not None]


def test_records_survive_a_stop_and_a_kill(tmp_path: Path) -> None:
    with LocalKafka(tmp_path / "kafka") as broker:
        assert len(create_topics(broker.bootstrap_servers, ["FR"], "development")) == 7
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
        "from runners.local_kafka import LocalKafka\n"
        "with LocalKafka(Path(sys.argv[1])) as broker:\n"
        "    print(broker.brokers[0].pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert local._start_time(pid) is not None
    parent.kill()
    parent.wait()
    parent.stdout.close()
    give_up = time.monotonic() + 10
    while local._start_time(pid) is not None and time.monotonic() < give_up:
        time.sleep(0.1)
    assert local._start_time(pid) is None


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


def test_up_outlives_its_command_and_down_ends_it(home: Path) -> None:
    command = CliRunner()
    up = command.invoke(app, ["up", "--port", "0", "--countries", "FR,SN", "--json"])
    assert up.exit_code == 0, up.output
    state = json.loads(up.stdout)
    assert "cdr.raw.SN" in state["topics_created"]
    (broker,) = state["brokers"]
    assert os.getsid(broker["pid"]) == broker["pid"]  # not of this terminal's session

    again = command.invoke(app, ["up", "--port", "0", "--countries", "FR,SN"])
    assert f"was up already at {state['bootstrap_servers']}" in again.stdout
    shown = json.loads(command.invoke(app, ["status", "--json"]).stdout)
    assert shown["running"]
    assert shown["brokers"] == state["brokers"]

    assert command.invoke(app, ["down"]).stdout == "Kafka is stopped\n"
    assert local._start_time(broker["pid"]) is None
    assert (home / "local" / "kafka").exists()
    assert command.invoke(app, ["down", "--purge"]).stdout == "Kafka was not running\nIts data are deleted\n"
    assert not (home / "local" / "kafka").exists()
    assert json.loads(command.invoke(app, ["status", "--json"]).stdout) == {"running": False}


@pytest.mark.usefixtures("home")
def test_a_killed_broker_is_started_again_with_its_topics() -> None:
    first, started = local.up(port=None)
    assert started
    create_topics(first.bootstrap_servers, ["FR"])
    os.kill(first.brokers[0].pid, signal.SIGKILL)
    while first.running:
        time.sleep(0.05)
    assert local.status() is None

    second, started = local.up(port=None)
    assert started
    assert second.brokers[0].pid != first.brokers[0].pid
    assert "cdr.raw.FR" in admin_client(second.bootstrap_servers).list_topics(timeout=10).topics


def test_a_state_file_of_a_reused_process_id_is_stale(home: Path) -> None:
    (home / "local").mkdir()
    reused = local.BrokerProcess(number=1, pid=os.getpid(), started="another time", ports=Ports(1, 2))
    local._write_state(local.LocalState(brokers=(reused,), bootstrap_servers="127.0.0.1:1", data_dir=str(home)))
    assert local.status() is None
    assert local.down() is False  # and this test is not killed


@pytest.mark.usefixtures("home")
def test_three_brokers_outlive_one_of_them_which_is_started_again() -> None:
    command = CliRunner()
    up = command.invoke(app, ["up", "--port", "0", "--brokers", "3", "--countries", "FR", "--json"])
    assert up.exit_code == 0, up.output
    state = json.loads(up.stdout)
    assert len(set(state["bootstrap_servers"].split(","))) == 3
    admin = admin_client(state["bootstrap_servers"])

    def replicas() -> set[tuple[int, ...]]:
        partitions = admin.list_topics("cdr.raw.FR", timeout=10).topics["cdr.raw.FR"].partitions.values()
        return {tuple(sorted(partition.replicas)) for partition in partitions}

    # A broker that has not heard of a new topic yet says that it has no partitions.
    await_until(replicas, 10, "the broker that is asked knows the topic")
    assert replicas() == {(1, 2, 3)}

    fewer = command.invoke(app, ["up", "--brokers", "1"])
    assert fewer.exit_code == 2
    assert "is one of 3 broker(s), not 1: delete it with `orion-beam local down --purge`" in fewer.stderr

    first = local.status()
    assert first is not None
    os.kill(first.brokers[1].pid, signal.SIGKILL)
    while first.brokers[1].running:
        time.sleep(0.05)
    assert ", 2 of 3 brokers (process" in command.invoke(app, ["status"]).stdout

    again = command.invoke(app, ["up", "--port", "0", "--countries", "FR", "--json"])
    assert again.exit_code == 0, again.output
    assert "only 2 of 3 brokers are running: starting the others" in again.stderr
    assert json.loads(again.stdout)["topics_created"] == []
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
def test_user_errors_end_with_code_2() -> None:
    result = CliRunner().invoke(app, ["up", "--countries", "XX"])
    assert result.exit_code == 2
    assert "unknown country 'XX'" in result.stderr

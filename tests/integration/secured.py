"""Kafka broker that demands TLS and a password, and lets users do only what ACLs allow."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from orion_beam.defaults import DEVELOPMENT, Role
from orion_beam.kafka.admin import admin_client
from orion_beam.runners.jars.build import ensure_jars
from orion_beam.runners.local.broker import HOST, Broker, Ports, free_ports
from orion_beam.runners.local.kafka import KAFKA_START_TIMEOUT_S
from tests.integration.harness import await_until
from tests.topics import CATALOGUE

USER, PASSWORD, PLAIN_PASSWORD = "orion", 'pass"word\\=1', "another-secret"
_STORE_PASSWORD = "changeit"


class Secured(NamedTuple):
    """Addresses of a secured broker, and the file of the CA that signed its certificate."""

    servers: str
    ca: Path

    def login(self, user: str) -> str:
        """Return the properties with which a user logs in by SCRAM."""
        return (
            f"ssl.ca.location={self.ca}\nsecurity.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-256\n"
            f"sasl.username={user}\nsasl.password={PASSWORD}\n"
        )


@contextmanager
def secured_kafka(directory: Path) -> Iterator[Secured]:
    """Run a broker with a listener for SASL over TLS.

    USER may do everything, and can log in by SCRAM-SHA-256 and by PLAIN. A user of each role, of the role's name, can
    log in by SCRAM, and may do nothing yet.
    """
    directory.mkdir()
    store, ca = _certificate(directory)
    port, controller, internal = free_ports(3)
    settings = {
        "listeners": f"SECURE://{HOST}:{port},PLAINTEXT://{HOST}:{internal},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"SECURE://{HOST}:{port},PLAINTEXT://{HOST}:{internal}",
        "listener.security.protocol.map": "SECURE:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN",
        "listener.name.secure.scram-sha-256.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.secure.plain.sasl.jaas.config": (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PLAIN_PASSWORD}";'
        ),
        "ssl.keystore.location": store.as_posix(),
        "ssl.keystore.password": _STORE_PASSWORD,
        "ssl.keystore.type": "PKCS12",
        **CATALOGUE.profile(DEVELOPMENT).broker_settings,
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER}",  # without a login: the controller, and this module
    }
    jars = ensure_jars()
    broker = Broker(1, directory, ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"], detached=False)
    broker.configure(Ports(port, controller), settings)
    broker.format(jars.kafka_classpath, "c2VjdXJlZC1rYWZrYS0xMg")
    assert broker.wait() == 0, broker.log
    broker.launch(jars.kafka_classpath)
    try:
        admin = admin_client(f"{HOST}:{internal}")
        await_until(lambda: _answers(admin, broker), KAFKA_START_TIMEOUT_S, "the broker is there")
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        users = [UserScramCredentialUpsertion(user, scram, PASSWORD.encode()) for user in (USER, *Role)]
        for done in admin.alter_user_scram_credentials(users).values():
            done.result(600)
        yield Secured(f"{HOST}:{port}", ca)
    finally:
        broker.terminate()
        broker.await_end()


def _answers(admin: AdminClient, broker: Broker) -> bool:
    assert broker.is_running, broker.log
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except Exception:
        return False


def _certificate(directory: Path) -> tuple[Path, Path]:
    store, ca = directory / "broker.p12", directory / "ca.pem"
    of_store = ["-keystore", str(store), "-storepass", _STORE_PASSWORD, "-alias", "broker"]
    for arguments in (
        ["-genkeypair", "-keyalg", "EC", "-dname", "CN=broker", "-ext", f"san=ip:{HOST}", "-storetype", "PKCS12"],
        ["-exportcert", "-rfc", "-file", str(ca)],
    ):
        subprocess.run(["keytool", *arguments, *of_store], check=True, capture_output=True)
    return store, ca

"""Kafka broker that demands TLS and a login, and lets users do only what ACLs allow."""

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
from tests.integration.certificates import Authority, keystore
from tests.integration.harness import await_until
from tests.integration.token_server import TokenServer, token_server
from tests.topics import CATALOGUE

USER, PASSWORD, PLAIN_PASSWORD = "orion", 'pass"word\\=1', "another-secret"
CLIENT_SECRET = "secret-of-a-client"
_ALLOWED = "org.apache.kafka.sasl.oauthbearer.allowed.urls"
_OAUTH = "org.apache.kafka.common.security.oauthbearer"


class Secured(NamedTuple):
    """A secured broker.

    Attributes:
        servers: Address of the listener for SASL over TLS.
        mutual: Address of the listener that wants a certificate of the client.
        ca: File of the authority that signed the certificates.
        tokens: Address of the token server, for OAUTHBEARER.
    """

    servers: str
    mutual: str
    ca: Path
    tokens: str

    def login(self, user: str) -> str:
        """Return the properties with which a user logs in by SCRAM."""
        return (
            f"ssl.ca.location={self.ca}\nsecurity.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-256\n"
            f"sasl.username={user}\nsasl.password={PASSWORD}\n"
        )

    def token_login(self, secret: str = CLIENT_SECRET) -> str:
        """Return the properties with which USER logs in by OAUTHBEARER."""
        return (
            f"ssl.ca.location={self.ca}\nsecurity.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n"
            f"sasl.oauthbearer.method=oidc\nsasl.oauthbearer.token.endpoint.url={self.tokens}\n"
            f"sasl.oauthbearer.client.id={USER}\nsasl.oauthbearer.client.secret={secret}\n"
            "sasl.oauthbearer.scope=kafka\n"
        )

    def certificate_login(self) -> str:
        """Return the properties with which USER logs in by a certificate."""
        return (
            f"ssl.ca.location={self.ca}\nsecurity.protocol=SSL\n"
            f"ssl.certificate.location={self.ca.with_name('client.pem')}\n"
            f"ssl.key.location={self.ca.with_name('client.key')}\n"
        )


@contextmanager
def secured_kafka(directory: Path) -> Iterator[Secured]:
    """Run a broker with listeners for SASL over TLS, and for certificates of clients.

    USER may do everything, and can log in by SCRAM-SHA-256, PLAIN, OAUTHBEARER, and by a certificate. A user of each
    role, of the role's name, can log in by SCRAM, and may do nothing yet.
    """
    directory.mkdir()
    with token_server(USER, CLIENT_SECRET) as tokens:
        yield from _broker(directory, tokens)


def _broker(directory: Path, tokens: TokenServer) -> Iterator[Secured]:
    authority = Authority("test")
    ca = directory / "ca.pem"
    ca.write_bytes(authority.pem)
    key, certificate = authority.signed(USER, HOST)
    (directory / "client.key").write_bytes(key)
    (directory / "client.key").chmod(0o600)
    (directory / "client.pem").write_bytes(certificate)
    certificates = {
        "SECURE": authority.signed("broker", HOST),
        "MUTUAL": authority.signed("broker", HOST),
    }
    free = iter(free_ports(len(certificates) + 2))
    controller, internal = next(free), next(free)
    ports = dict(zip(certificates, free, strict=True))
    port = ports["SECURE"]
    listeners = {**ports, "PLAINTEXT": internal}
    protocols = dict.fromkeys(certificates, "SSL")
    protocols |= {"SECURE": "SASL_SSL", "PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    named = {name: f"listener.name.{name.lower()}" for name in certificates}
    settings = {
        "listeners": ",".join(f"{name}://{HOST}:{at}" for name, at in {**listeners, "CONTROLLER": controller}.items()),
        "advertised.listeners": ",".join(f"{name}://{HOST}:{at}" for name, at in listeners.items()),
        "listener.security.protocol.map": ",".join(map(":".join, protocols.items())),
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN,OAUTHBEARER",
        "listener.name.secure.scram-sha-256.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.secure.plain.sasl.jaas.config": (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PLAIN_PASSWORD}";'
        ),
        "listener.name.secure.oauthbearer.sasl.jaas.config": f"{_OAUTH}.OAuthBearerLoginModule required;",
        "listener.name.secure.oauthbearer.sasl.server.callback.handler.class": (
            f"{_OAUTH}.OAuthBearerValidatorCallbackHandler"
        ),
        "sasl.oauthbearer.jwks.endpoint.url": tokens.keys,
        **{
            f"{prefix}.ssl.keystore.location": keystore(directory / f"{name}.pem", certificates[name]).as_posix()
            for name, prefix in named.items()
        },
        **{f"{prefix}.ssl.keystore.type": "PEM" for prefix in named.values()},
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.truststore.type": "PEM",
        "listener.name.mutual.ssl.truststore.location": ca.as_posix(),
        **CATALOGUE.profile(DEVELOPMENT).broker_settings,
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Without a login: the controller, and this module.
        "super.users": f"User:ANONYMOUS;User:{USER};User:CN={USER}",
    }
    jars = ensure_jars()
    jvm = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-D{_ALLOWED}={tokens.keys}"]
    broker = Broker(1, directory, jvm, detached=False)
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
        at = {name: f"{HOST}:{port}" for name, port in ports.items()}
        yield Secured(at["SECURE"], at["MUTUAL"], ca, tokens.tokens)
    finally:
        broker.terminate()
        broker.await_end()


def _answers(admin: AdminClient, broker: Broker) -> bool:
    assert broker.is_running, broker.log
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except Exception:
        return False

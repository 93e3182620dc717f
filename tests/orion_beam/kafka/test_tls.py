"""Brokers that cannot show who they are: no client gets as far as to log in, and one line says why."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from orion_beam.errors import PrerequisiteError
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.kafka.admin import topic_names
from tests.integration.certificates import Authority

HOST, OTHER_HOST = "127.0.0.1", "127.0.0.2"
PASSWORD = "hunter2"


@contextmanager
def listening(directory: Path, signed: tuple[bytes, bytes]) -> Iterator[str]:
    """Listen with a key and a certificate, and read what a client sends; yield the address."""
    key, certificate = directory / "broker.key", directory / "broker.pem"
    for file, content in zip((key, certificate), signed, strict=True):
        file.write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            with suppress(OSError):  # the server is closed
                while True:
                    plain, _ = server.accept()
                    with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as client:
                        received.append(client.recv(1))

        received: list[bytes] = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"{HOST}:{server.getsockname()[1]}"
        assert not any(received), "a client has sent something to a broker that it cannot trust"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("host", "IP address mismatch"),
        ("time", "certificate has expired"),
        ("authority", "unable to get local issuer certificate"),
    ],
)
def test_a_broker_whose_certificate_is_not_right_gets_no_client_and_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, reason: str
) -> None:
    authority = Authority("known")
    signed = {
        "host": lambda: authority.signed("broker", OTHER_HOST),
        "time": lambda: authority.signed("broker", HOST, days=-1),
        "authority": lambda: Authority("unknown").signed("broker", HOST),
    }[wrong]()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    file = tmp_path / "client.properties"
    file.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=me\n"
        f"sasl.password={PASSWORD}\nssl.ca.location=ca.pem\n"
    )
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    with listening(tmp_path, signed) as address, pytest.raises(PrerequisiteError) as refused:
        topic_names(address)
    line = str(refused.value)
    assert line.startswith(f"Kafka at {address} does not show who it is (certificate verify failed for {address}: ")
    assert reason in line
    assert "ssl.ca.location in the file of --kafka-config" in line
    assert "\n" not in line
    assert PASSWORD not in line

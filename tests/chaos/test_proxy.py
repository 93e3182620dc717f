"""A proxy passes bytes on, falls silent, refuses, slows down, and recovers."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orion_beam.runners.local.broker import HOST
from tests.chaos.proxy import Proxy

PATIENCE_S = 600


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy in front of a server that sends back what it gets."""
    with socket.create_server((HOST, 0)) as server, Proxy(lambda: server.getsockname()[1]) as made:
        threading.Thread(target=serve, args=[server], daemon=True).start()
        yield made
        server.shutdown(socket.SHUT_RDWR)


def serve(server: socket.socket) -> None:
    try:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=echo, args=[connection], daemon=True).start()
    except OSError:
        return


def echo(connection: socket.socket) -> None:
    with connection:
        try:
            while piece := connection.recv(1 << 16):
                connection.sendall(piece)
        except OSError:
            return


@contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, proxy.port), PATIENCE_S) as connection:
        yield connection


def test_bytes_that_wait_while_it_is_silent_arrive_later(proxy: Proxy) -> None:
    with connected(proxy) as old:
        old.sendall(b"one")
        assert old.recv(3) == b"one"
        proxy.fall_silent()
        old.sendall(b"two")
        with connected(proxy) as new:
            new.sendall(b"three")
            old.settimeout(0.3)
            with pytest.raises(TimeoutError):
                old.recv(3)
            old.settimeout(PATIENCE_S)
            proxy.recover()
            assert old.recv(3) == b"two"
            assert new.recv(5) == b"three"


def test_connections_are_reset_while_it_refuses(proxy: Proxy) -> None:
    with connected(proxy) as old:
        old.sendall(b"one")
        assert old.recv(3) == b"one"
        proxy.refuse()
        assert ends(old)
        with connected(proxy) as new:
            assert ends(new)
    proxy.recover()
    with connected(proxy) as again:
        again.sendall(b"two")
        assert again.recv(3) == b"two"


def ends(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_pieces_take_a_while_when_it_is_slow(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        proxy.slow_down(0.2, 1 << 20)
        began = time.monotonic()
        connection.sendall(b"one")
        assert connection.recv(3) == b"one"
        assert time.monotonic() - began >= 0.4

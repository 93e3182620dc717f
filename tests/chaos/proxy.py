"""A TCP proxy in front of a broker, which can fall silent, refuse, or be slow."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from orion_beam.runners.local.broker import HOST

_PIECE_BYTES = 64 << 10


class Proxy:
    """A port that leads to another one. It runs in a thread of its own.

    Args:
        target: Function that returns the port to which a new connection leads.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        """Listen at a free port."""
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._refuses = False
        self._delay_s = 0.0
        self._bytes_per_s = float("inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, HOST, 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def fall_silent(self) -> None:
        """Pass no byte on, as a network that drops all packets. Connections stay, and new ones get no answer."""
        self._call(self._change(silent=True))

    def refuse(self) -> None:
        """Reset all connections, and new ones at once."""
        self._call(self._change(refuses=True))

    def slow_down(self, delay_s: float, bytes_per_s: float) -> None:
        """Pass each piece on after a delay, and no more bytes a second than this, on each connection and way."""
        self._call(self._change(delay_s=delay_s, bytes_per_s=bytes_per_s))

    def recover(self) -> None:
        """Pass everything on at once."""
        self._call(self._change())

    def close(self) -> None:
        """Cut all connections, and stop listening."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        """Return the proxy, which listens."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening."""
        self.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _change(
        self,
        *,
        silent: bool = False,
        refuses: bool = False,
        delay_s: float = 0.0,
        bytes_per_s: float = float("inf"),
    ) -> None:
        self._refuses, self._delay_s, self._bytes_per_s = refuses, delay_s, bytes_per_s
        if silent:
            self._open.clear()
        else:
            self._open.set()
        if refuses:
            self._cut()

    async def _end(self) -> None:
        self._server.close()
        self._cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [client_out]
        try:
            if self._refuses:
                return
            await self._open.wait()
            broker_in, broker_out = await asyncio.open_connection(HOST, self._target())
            writers.append(broker_out)
            ways = [
                asyncio.ensure_future(self._pass(*way)) for way in ((client_in, broker_out), (broker_in, client_out))
            ]
            try:
                # A way that has ended ends the other one, too: Kafka does not half-close connections.
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for writer in writers:
                with suppress(OSError, RuntimeError):
                    writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            await self._open.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s + len(piece) / self._bytes_per_s)
            writer.write(piece)
            await writer.drain()

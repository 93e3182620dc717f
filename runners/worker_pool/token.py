"""The token of a worker pool: who asks for a worker must know it, once a pool listens beyond this machine.

A pool starts processes that run what the asker sends them. Within Flink, `WorkerPoolToken` of the Java part adds the
token to the request; it reads the file that ORION_WORKERS_TOKEN_FILE names on the task manager. So the token is in no
job graph, option or process list.
"""

import hmac
import os
from collections.abc import Callable
from pathlib import Path

import grpc

from orion_beam.errors import UserError
from orion_beam.runners.worker_pool.versions import REFUSAL
from orion_beam.text_files.private import read_token

TOKEN_VARIABLE = "ORION_WORKERS_TOKEN_FILE"
"""Environment variable with the path of the token, for all who ask a pool for workers, and for the pool."""

_HEADER = "orion-worker-token"
_GUARDED = "/org.apache.beam.model.fn_execution.v1.BeamFnExternalWorkerPool/"
_NEEDED = (
    f"{REFUSAL}: it asks for a token; set {TOKEN_VARIABLE}, for Flink's task managers, to a file with the pool's token"
)


class TokenGuard(grpc.ServerInterceptor):  # type: ignore[misc]
    """Refuses requests for workers without the token. The versions of the pool need none."""

    def __init__(self, path: str | Path) -> None:
        """Take the path of a file with the token. It is read at each request, so that the token can be replaced.

        Raises:
            UserError: There is no such file, it holds no token, or everybody may read it.
        """
        read_token(path)
        self._path = path

    def intercept_service(
        self, continuation: Callable[..., grpc.RpcMethodHandler], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Return the handler of a call, or one that refuses it."""
        if details.method.startswith(_GUARDED) and not self._is_right(dict(details.invocation_metadata).get(_HEADER)):
            return grpc.unary_unary_rpc_method_handler(
                lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, _NEEDED)
            )
        return continuation(details)

    def _is_right(self, given: object) -> bool:
        try:
            return isinstance(given, str) and hmac.compare_digest(given, read_token(self._path))
        except UserError:
            return False


class _TokenBearer(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_unary_unary(
        self, continuation: Callable[..., object], details: grpc.ClientCallDetails, request: object
    ) -> object:
        """Send a call with the token."""
        if details.method.startswith(_GUARDED):
            details = details._replace(metadata=[*(details.metadata or ()), (_HEADER, self._token)])
        return continuation(details, request)


def with_token(channel: grpc.Channel) -> grpc.Channel:
    """Return a channel that presents the token of the environment; the channel itself if the environment names none.

    Raises:
        UserError: The environment names a file that holds no token.
    """
    path = os.environ.get(TOKEN_VARIABLE)
    return grpc.intercept_channel(channel, _TokenBearer(read_token(path))) if path else channel

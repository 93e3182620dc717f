"""A task manager as a worker pool and its workers see it: Beam's control service, without Flink."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc, endpoints_pb2
from apache_beam.utils import thread_pool_executor

START_TIMEOUT_S = 600.0
"""A worker loads its code, and compiles it when no other one has, on a busy machine."""


class TaskManager(beam_fn_api_pb2_grpc.BeamFnControlServicer):
    """Control service for the workers that a test asks for.

    A worker that is sent a bundle asks for the bundle's descriptor, which it gets, as an error, when the test lets it.
    So a bundle is under way for as long as a test wants.
    """

    def __init__(self) -> None:
        self.connected: queue.Queue[str] = queue.Queue()
        self.bundles_begun: queue.Queue[str] = queue.Queue()
        self.answers: queue.Queue[beam_fn_api_pb2.InstructionResponse] = queue.Queue()
        self.may_end = threading.Event()
        self._bundles: dict[str, queue.Queue[str | None]] = {}
        self.address = ""

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        made = cls()
        server = grpc.server(thread_pool_executor.shared_unbounded_instance())
        beam_fn_api_pb2_grpc.add_BeamFnControlServicer_to_server(made, server)
        made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield made
        finally:
            made.may_end.set()
            for bundles in made._bundles.values():
                bundles.put(None)
            server.stop(1).wait()

    def Control(self, answers: Iterator[beam_fn_api_pb2.InstructionResponse], context: grpc.ServicerContext) -> object:  # noqa: N802
        worker_id = dict(context.invocation_metadata())["worker_id"]
        bundles = self._bundles.setdefault(worker_id, queue.Queue())

        def take() -> None:
            # A worker that is killed breaks the stream.
            try:
                for answer in answers:
                    self.answers.put(answer)
            except grpc.RpcError:
                pass
            bundles.put(None)

        threading.Thread(target=take, daemon=True).start()
        self.connected.put(worker_id)
        while (bundle := bundles.get()) is not None:
            request = beam_fn_api_pb2.ProcessBundleRequest(process_bundle_descriptor_id=bundle)
            yield beam_fn_api_pb2.InstructionRequest(instruction_id=bundle, process_bundle=request)

    def GetProcessBundleDescriptor(  # noqa: N802
        self, request: beam_fn_api_pb2.GetProcessBundleDescriptorRequest, context: grpc.ServicerContext
    ) -> object:
        self.bundles_begun.put(request.process_bundle_descriptor_id)
        self.may_end.wait()
        context.abort(grpc.StatusCode.NOT_FOUND, "no such bundle")

    def ask(self, pool: str, worker_id: str, **params: str) -> str:
        """Ask a pool for a worker; return the pool's error, or the empty text when the worker has connected."""
        request = beam_fn_api_pb2.StartWorkerRequest(
            worker_id=worker_id,
            control_endpoint=endpoints_pb2.ApiServiceDescriptor(url=self.address),
            params=params,
        )
        with grpc.insecure_channel(pool) as channel:
            answer = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel).StartWorker(request, timeout=600)
        return str(answer.error)

    def await_worker(self) -> str:
        """Return the id of the next worker that connects."""
        return self.connected.get(timeout=START_TIMEOUT_S)

    def begin_bundle(self, worker_id: str, bundle: str) -> None:
        """Send a bundle to a worker."""
        self._bundles[worker_id].put(bundle)

    def await_bundle(self) -> str:
        """Return the next bundle that a worker has begun."""
        return self.bundles_begun.get(timeout=600)

    def let_go(self, worker_id: str) -> None:
        """Close the connection to a worker, as Flink does at a job's end."""
        self._bundles[worker_id].put(None)

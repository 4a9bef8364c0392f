"""A worker that keeps few rules of docs/worker-protocol.md: what a pool with `runtime: exec` gets under chaos.

Serves the actions `work` and `parts` of mixed_app.py. While the file $CHAOS_FAULTY exists, it also delays, repeats,
truncates and corrupts frames, answers calls that it was not given, sends chunks without credit, leaves calls and pings
unanswered, ends its link, and fails to start. Each fault is a line in the file $CHAOS_FAULTS.
"""

from __future__ import annotations

import json
import os
import pathlib
import queue
import random
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import messages
import payload

CALL, WORKER = messages.load("call"), messages.load("worker")
# How often for each hundred calls.
FAULTS = {
    "none": 60, "delay": 15, "repeat": 6, "truncate": 1, "corrupt": 2, "answer_another": 6, "chunk_without_credit": 3,
    "no_answer": 2, "no_pong": 1, "end_link": 1, "exit": 1,
}  # fmt: skip
# What no caller may ever see: the second answer of a call, the answer to a call that was not given.
FORBIDDEN = json.dumps({"forbidden": True})

# How long a stream waits for credit: its caller may have left.
CREDIT_TIME = 10.0


class Link:
    """The one stream. Reads on the server's thread; calls run on others."""

    def __init__(self, frames: Iterator[Any]) -> None:
        self._incoming = frames
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._source = random.Random(f"{os.environ['CHAOS_SEED']}-{os.environ['DIRTY_WORKER_ID']}")
        self._executed = os.open(os.environ["CHAOS_EXECUTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._faults = os.open(os.environ["CHAOS_FAULTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._credits: dict[int, threading.Semaphore] = {}
        self._silent = self._draining = False
        self._running = 0
        self._idle = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def frames(self) -> Iterator[bytes]:
        """What goes to the arbiter, as bytes: they may be no message."""
        while (data := self._outgoing.get()) is not None:
            yield data

    def _send(self, **frame: Any) -> None:
        self._outgoing.put(WORKER.WorkerFrame(**frame).SerializeToString())

    def _is_faulty(self) -> bool:
        return pathlib.Path(os.environ["CHAOS_FAULTY"]).exists()

    def _note(self, fault: str) -> None:
        os.write(self._faults, f"{fault}\n".encode())

    def _read(self) -> None:
        try:
            for frame in self._incoming:
                self._on_frame(frame)
        except grpc.RpcError:
            pass
        os._exit(0 if self._draining else 1)  # the arbiter is gone, or has cut us off

    def _drain(self) -> None:
        self._draining = True
        with self._idle:
            self._idle.wait_for(lambda: self._running == 0)
        self._outgoing.put(None)

    def _on_frame(self, frame: Any) -> None:
        what = frame.WhichOneof("frame")
        if what == "hello":
            self._boot(frame.hello)
        elif what == "ping" and not self._silent:
            self._send(pong=WORKER.Pong(sequence=frame.ping.sequence))
        elif what == "start":
            with self._idle:
                self._running += 1
            threading.Thread(target=self._count, args=(frame.start,), daemon=True).start()
        elif what == "credit" and frame.credit.call in self._credits:
            for _ in range(frame.credit.chunks):
                self._credits[frame.credit.call].release()
        elif what == "drain":
            threading.Thread(target=self._drain, daemon=True).start()

    def _boot(self, config: Any) -> None:
        broken = self._source.random() < 0.1 and self._is_faulty()
        version = 7 if broken and self._source.random() < 0.3 else 1
        self._send(hello=WORKER.WorkerHello(protocol_version=version, runtime="faulty/1"))
        for app in config.apps:
            self._send(app_starting=WORKER.AppStarting(app=app.name))
            if broken:
                self._note("boot")
                error = CALL.Error(reason=CALL.REASON_APP_ERROR, exception_type="Faulty", message="does not start")
                self._send(app_failed=WORKER.AppFailed(app=app.name, error=error))
            else:
                self._send(app_ready=WORKER.AppReady(app=app.name))
        self._send(ready=WORKER.WorkerReady())

    def _count(self, start: Any) -> None:
        try:
            self._run(start)
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _run(self, start: Any) -> None:
        fault = "none"
        if self._is_faulty():
            fault = self._source.choices(list(FAULTS), list(FAULTS.values()))[0]
            self._note(fault)
        who, text, _, checksum, *count = json.loads(start.request.args)
        os.write(self._executed, f"{who}\n".encode())
        if fault == "delay":
            threading.Event().wait(self._source.random() * 0.5)
        elif fault == "answer_another":
            for call in (0, start.call + 1000):  # not of its neighbours: about those a worker may lie
                self._send(done=WORKER.CallDone(call=call, response=CALL.ExecuteResponse(result=FORBIDDEN)))
        elif fault == "chunk_without_credit" and not start.stream:
            for _ in range(300):
                self._send(chunk=WORKER.CallChunk(call=start.call, chunk=CALL.Chunk(value=FORBIDDEN)))
        elif fault == "no_answer":
            return
        elif fault == "no_pong":
            self._silent = True
        elif fault == "end_link":
            self._outgoing.put(None)
        elif fault == "exit":
            os._exit(3)
        self._answer(start, who, text, start.request.attachments[0], checksum, count, fault)

    def _answer(self, start: Any, who: str, text: str, blob: bytes, checksum: int, count: Any, fault: str) -> None:
        done = WORKER.CallDone(call=start.call)
        if payload.checksum(text, blob) != checksum:
            done.error.reason, done.error.exception_type = CALL.REASON_APP_ERROR, "WrongPayload"
        elif start.request.action == "parts":
            self._parts(start, who, text, blob, count[0], patient=fault != "chunk_without_credit")
            done.response.SetInParent()
        else:
            text, blob = payload.transformed(text, blob)
            answer = {"who": who, "text": text, "blob": {"$attachment": 0}, "checksum": payload.checksum(text, blob)}
            done.response.result = json.dumps(answer, ensure_ascii=False)
            done.response.attachments.append(blob)
        data = WORKER.WorkerFrame(done=done).SerializeToString()
        if fault == "truncate":
            data = data[: self._source.randrange(1, max(2, len(data) - 1))]
        elif fault == "corrupt":
            flipped = bytearray(data)
            for _ in range(3):
                flipped[self._source.randrange(len(flipped))] ^= 1 << self._source.randrange(8)
            data = bytes(flipped)
        self._outgoing.put(data)
        if fault == "repeat":
            self._send(done=WORKER.CallDone(call=start.call, response=CALL.ExecuteResponse(result=FORBIDDEN)))

    def _parts(self, start: Any, who: str, text: str, blob: bytes, count: int, patient: bool) -> None:
        credit = self._credits[start.call] = threading.Semaphore(start.credits)
        for index in range(count):
            if patient and not credit.acquire(timeout=CREDIT_TIME):
                return
            piece = payload.part(blob, index, count)
            value = {"who": who, "index": index, "part": {"$attachment": 0}, "checksum": payload.checksum(text, piece)}
            chunk = CALL.Chunk(value=json.dumps(value, ensure_ascii=False), attachments=[piece])
            self._send(chunk=WORKER.CallChunk(call=start.call, chunk=chunk))


def main() -> None:
    """Serves until the link ends."""
    server = grpc.server(
        futures.ThreadPoolExecutor(2),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    attach = grpc.stream_stream_rpc_method_handler(
        lambda frames, _: Link(frames).frames(), request_deserializer=WORKER.ArbiterFrame.FromString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("dirty.v1.Worker", {"Attach": attach}),))
    if server.add_insecure_port(f"unix:{os.environ['DIRTY_WORKER_SOCKET']}") == 0:
        sys.exit("cannot listen")
    server.start()
    os.write(int(os.environ["DIRTY_READY_FD"]), b"\n")
    os.close(int(os.environ["DIRTY_READY_FD"]))
    server.wait_for_termination()


if __name__ == "__main__":
    main()

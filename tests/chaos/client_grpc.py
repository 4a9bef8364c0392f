"""A client process that knows gRPC and the contract only: RPCs of their own, and a session read frame by frame.

Here a second outcome of a call would be seen: every `done` of the session is written down.
"""

from __future__ import annotations

import json
import queue
import random
import threading
from collections.abc import Iterator
from typing import Any, Optional

import calling
import grpc
import messages
import payload
from ledger import Writer

CALL, ARBITER = messages.load("call"), messages.load("arbiter")
# Beyond a call's own time: the arbiter's answer to an overrun says more than the transport's.
ANSWER_TIME = 1.0
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1 << 16),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


def request(flags: calling.Flags, planned: calling.Planned, who: str) -> Any:
    """The call as a message."""
    args, kwargs = planned.arguments(who)
    args[2] = {"$attachment": 0}
    made = CALL.ExecuteRequest(app=planned.app, action=planned.action, request_id=who, attachments=[planned.blob])
    made.args, made.kwargs = json.dumps(args, ensure_ascii=False), json.dumps(kwargs)
    made.timeout.FromNanoseconds(int(flags.timeout * 1e9))
    return made


def value(text: str, attachments: Any) -> Any:
    """A JSON text with its attachments put in; None if it is none."""

    def place(members: dict[str, Any]) -> Any:
        return attachments[members["$attachment"]] if list(members) == ["$attachment"] else members

    try:
        return json.loads(text, object_hook=place)
    except (ValueError, IndexError, TypeError):
        return None


def end_with_error(ledger: Writer, number: int, error: Any, verdict: str) -> None:
    """Writes down what a dirty.v1.Error says."""
    reason = CALL.Reason.Name(error.reason).removeprefix("REASON_")
    verdict = "wrong" if verdict == "wrong" else calling.verdict_of_failure(reason, error.exception_type)
    ledger.ended(number, calling.outcome(reason, error.call_id or "told"), verdict, error.call_id)


def error_in(failure: grpc.RpcError) -> Optional[Any]:
    """The dirty.v1.Error of a failed RPC, if it has one."""
    for key, data in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            error = CALL.Error()
            if CALL.RpcStatus.FromString(data).details[0].Unpack(error):
                return error
    return None


def unary(channel: grpc.Channel, flags: calling.Flags, ledger: Writer, planned: calling.Planned) -> None:
    """A call that is an RPC of its own."""
    number = ledger.sent(planned.app, planned.action, flags.bound)
    who = ledger.who(number)
    verdict, call_id = "right", ""
    try:
        if planned.action == "parts":
            chunks = channel.unary_stream(
                "/dirty.v1.Arbiter/ExecuteStream", CALL.ExecuteRequest.SerializeToString, CALL.Chunk.FromString
            )(request(flags, planned, who), timeout=flags.timeout + ANSWER_TIME, wait_for_ready=True)
            index = 0
            for chunk in chunks:
                got = value(chunk.value, chunk.attachments)
                if not payload.is_part(got, who, planned.text, planned.blob, index, planned.parts):
                    verdict = "wrong"
                index += 1
            verdict = verdict if index == planned.parts else "wrong"
        else:
            response = channel.unary_unary(
                "/dirty.v1.Arbiter/Execute", CALL.ExecuteRequest.SerializeToString, CALL.ExecuteResponse.FromString
            )(request(flags, planned, who), timeout=flags.timeout + ANSWER_TIME, wait_for_ready=True)
            verdict, call_id = planned.verdict(who, value(response.result, response.attachments)), response.call_id
    except grpc.RpcError as failure:
        error = error_in(failure)
        if error is not None:
            end_with_error(ledger, number, error, verdict)
        else:
            own = failure.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            ledger.ended(number, "local_timeout" if own else "outcome_unknown", verdict)
    else:
        ledger.ended(number, "ok", verdict, call_id)


class Session:
    """A session, and the calls on it. Thread-safe."""

    def __init__(self, channel: grpc.Channel, flags: calling.Flags, ledger: Writer) -> None:
        self._flags, self._ledger = flags, ledger
        self._frames: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Condition()  # and: a call has ended
        self._open: dict[int, tuple[calling.Planned, str, list[bool]]] = {}  # with the verdicts of parts
        self._broken = False
        self._frames.put(ARBITER.SessionRequest(hello=ARBITER.SessionHello(protocol_version=1)))
        self._responses = channel.stream_stream(
            "/dirty.v1.Arbiter/Session", ARBITER.SessionRequest.SerializeToString, ARBITER.SessionResponse.FromString
        )(iter(self._frames.get, None), wait_for_ready=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def start(self, planned: calling.Planned) -> bool:
        """Starts a call. False: the session is no more."""
        with self._lock:
            if self._broken:
                return False
            number = self._ledger.sent(planned.app, planned.action, self._flags.bound)
            who = self._ledger.who(number)
            self._open[number] = (planned, who, [])
        execute = ARBITER.SessionExecute(id=number, stream=planned.parts > 0, credits=4)
        execute.request.CopyFrom(request(self._flags, planned, who))
        self._frames.put(ARBITER.SessionRequest(execute=execute))
        return True

    def calls(self) -> int:
        """How many are open."""
        with self._lock:
            return len(self._open)

    def close(self) -> None:
        """Waits until the arbiter has answered all, and half-closes. Not before: streams need credit."""
        with self._lock:
            self._lock.wait_for(lambda: not self._open)
        self._frames.put(None)
        self._reader.join()

    def _read(self) -> None:
        try:
            for frame in self._responses:
                if frame.HasField("chunk"):
                    self._chunk(frame.chunk)
                elif frame.HasField("done"):
                    self._done(frame.done)
        except grpc.RpcError:
            pass
        with self._lock:
            self._broken = True
            for number in self._open:
                self._ledger.ended(number, "outcome_unknown")
            self._open.clear()
            self._lock.notify_all()
        self._frames.put(None)

    def _chunk(self, chunk: Any) -> None:
        with self._lock:
            planned, who, verdicts = self._open[chunk.id]
        got = value(chunk.chunk.value, chunk.chunk.attachments)
        verdicts.append(payload.is_part(got, who, planned.text, planned.blob, len(verdicts), planned.parts))
        self._frames.put(ARBITER.SessionRequest(credit=ARBITER.SessionCredit(id=chunk.id, chunks=1)))

    def _done(self, done: Any) -> None:
        with self._lock:
            planned, who, verdicts = self._open.pop(done.id, (None, "", []))
            self._lock.notify_all()
        verdict = "right" if all(verdicts) else "wrong"
        if planned is None:
            self._ledger.ended(done.id, "again")
        elif done.HasField("error"):
            end_with_error(self._ledger, done.id, done.error, verdict)
        elif planned.action == "parts":
            complete = verdict == "right" and len(verdicts) == planned.parts
            self._ledger.ended(done.id, "ok", "right" if complete else "wrong", done.response.call_id)
        else:
            response = done.response
            verdict = planned.verdict(who, value(response.result, response.attachments))
            self._ledger.ended(done.id, "ok", verdict, response.call_id)


def planned_calls(flags: calling.Flags, stop: threading.Event, seed: int) -> Iterator[calling.Planned]:
    """The calls of one thread, each when its time has come."""
    source = random.Random(seed)
    while not stop.wait(source.expovariate(flags.per_second / 4)):
        yield calling.plan(source, flags.apps, streams=0.3)


def call_by_rpc(channel: grpc.Channel, flags: calling.Flags, ledger: Writer, stop: threading.Event, seed: int) -> None:
    """Makes calls one after the other."""
    for planned in planned_calls(flags, stop, seed):
        unary(channel, flags, ledger, planned)


def call_on_sessions(channel: grpc.Channel, flags: calling.Flags, ledger: Writer, stop: threading.Event) -> None:
    """Makes calls on a session, and a new session when it broke."""
    session = Session(channel, flags, ledger)
    for planned in planned_calls(flags, stop, flags.seed * 1000):
        if session.calls() < flags.at_once and not session.start(planned):
            session.close()
            session = Session(channel, flags, ledger)
    session.close()


def main() -> None:
    """Runs it."""
    flags, ledger, stop = calling.flags("grpc")
    with grpc.insecure_channel(f"unix:{flags.socket}", options=OPTIONS) as channel:
        threads = [threading.Thread(target=call_on_sessions, args=(channel, flags, ledger, stop))]
        for number in range(3):
            seed = flags.seed * 1000 + number + 1
            threads.append(threading.Thread(target=call_by_rpc, args=(channel, flags, ledger, stop, seed)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ledger.closed()


if __name__ == "__main__":
    main()

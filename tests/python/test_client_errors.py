"""Every row of the contract's table, as its class, with its attributes, by every way to call."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import os
import pickle
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from client_support import WAYS, Run, dirty, needs_runtime
from conftest import BUILD, Dirtyd, pb

pytestmark = needs_runtime

APP = "calls:Calls"
CONFIG = {
    "apps": [
        APP,
        {"app": "shapes:Base", "name": "narrow", "queue_size": 1},
        {"app": "nothing:There", "name": "broken"},
    ],
    "restart": {"initial_backoff": "10ms", "give_up_after": 1, "max_backoff": "100s"},
    "max_message_size": "4MiB",
    "kill_after": "1s",
}


@pytest.fixture
def client(shared: Dirtyd) -> dirty.DirtyClient:
    return dirty.get_dirty_client(shared.socket)


@pytest.fixture(autouse=True)
def idle(request: pytest.FixtureRequest) -> None:
    """What the test before left is over."""
    if "shared" in request.fixturenames or "client" in request.fixturenames:
        shared: Dirtyd = request.getfixturevalue("shared")
        shared.wait_for_status(lambda status: not any(worker["running"] for worker in status["workers"]))


@pytest.fixture
def busy(shared: Dirtyd) -> Iterator[Any]:
    """Nothing has a free slot meanwhile; the call that sees to it."""
    seen = sum("waiting" in line for line in shared.lines)
    call = shared.begin(APP, "wait", 1000)
    shared.wait_for_line("waiting", seen + 1)
    yield call
    call.cancel()
    shared.wait_for_status(lambda status: not any(worker["running"] for worker in status["workers"]))


def failure(run: Run, client: dirty.DirtyClient, kind: type[Any], *args: Any, **kwargs: Any) -> Any:
    with pytest.raises(dirty.DirtyError) as raised:
        run(client, *args, **kwargs)
    error = raised.value
    assert type(error) is kind, repr(error)
    assert (error.app_path, error.action) == args[:2]
    assert str(error).endswith(error.message) and error.message != ""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind and vars(copy) == vars(error)
    return error


@pytest.mark.parametrize("run", WAYS)
def test_app_not_found(client: dirty.DirtyClient, run: Run) -> None:
    error = failure(run, client, dirty.DirtyAppNotFoundError, "calls:Cals", "same")
    assert error.reason == "APP_NOT_FOUND" and APP in error.message


@pytest.mark.parametrize("run", WAYS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"when": [datetime.date.today()]}, "args[0].when[0]: date is nothing that JSON can hold"),
        ({"$attachment": 0}, "args[0]: a dict whose only key is $attachment"),
        ({(1,): 2}, "args[0]: a key of type tuple"),
    ],
)
def test_invalid_request_of_ours(client: dirty.DirtyClient, run: Run, value: Any, message: str) -> None:
    error = failure(run, client, dirty.DirtyProtocolError, APP, "same", value)
    assert error.reason == "INVALID_REQUEST" and error.message.startswith(message)


@pytest.mark.parametrize("run", WAYS)
def test_invalid_request_of_the_arbiter(client: dirty.DirtyClient, run: Run) -> None:
    deep: Any = 0
    for _ in range(200):
        deep = [deep]
    error = failure(run, client, dirty.DirtyProtocolError, APP, "same", deep)
    assert error.reason == "INVALID_REQUEST" and "128" in error.message
    assert failure(run, client, dirty.DirtyProtocolError, APP, "same", timeout=0).reason == "INVALID_REQUEST"


@pytest.mark.parametrize("run", WAYS)
def test_too_large(client: dirty.DirtyClient, run: Run) -> None:
    assert failure(run, client, dirty.DirtyProtocolError, APP, "same", bytes(4 << 20)).reason == "TOO_LARGE"
    assert failure(run, client, dirty.DirtyProtocolError, APP, "same", bytes(65 << 20)).reason == "TOO_LARGE"


@pytest.mark.parametrize("run", WAYS)
def test_app_error(client: dirty.DirtyClient, run: Run) -> None:
    error = failure(run, client, dirty.DirtyAppError, APP, "fail", "no such model")
    assert (error.reason, error.exception_type, error.message) == ("APP_ERROR", "ValueError", "no such model")
    assert str(error) == "ValueError: no such model"
    assert error.traceback.endswith("ValueError: no such model\n") and "raise ValueError(text)" in error.traceback
    assert error.call_id and error.worker_id >= 1


@pytest.mark.parametrize("run", WAYS)
def test_no_workers(client: dirty.DirtyClient, run: Run, shared: Dirtyd) -> None:
    shared.wait_for_status(lambda status: [app for app in status["apps"] if app["state"] == "FAILED"])
    error = failure(run, client, dirty.DirtyNoWorkersAvailableError, "broken", "same")
    assert error.reason == "NO_WORKERS" and "nothing" in error.message


@pytest.mark.parametrize("run", WAYS)
def test_timeout(client: dirty.DirtyClient, run: Run) -> None:
    error = failure(run, client, dirty.DirtyTimeoutError, APP, "wait", 1000, timeout=0.25)
    assert (error.reason, error.worker_id is not None) == ("TIMEOUT", True)
    assert 0 < error.timeout <= 0.25


@pytest.mark.parametrize("run", WAYS)
def test_queue_timeout(client: dirty.DirtyClient, run: Run, busy: Any) -> None:
    error = failure(run, client, dirty.DirtyTimeoutError, APP, "same", 1, timeout=0.25)
    assert error.reason == "QUEUE_TIMEOUT" and 0 < error.timeout <= 0.25


@pytest.mark.parametrize("run", WAYS)
def test_queue_full(client: dirty.DirtyClient, run: Run, busy: Any, shared: Dirtyd) -> None:
    waiting = shared.begin("narrow", "greet", "you")
    shared.wait_for_status(lambda status: [app for app in status["apps"] if app["name"] == "narrow" and app["queued"]])
    error = failure(run, client, dirty.DirtyQueueFullError, "narrow", "greet", "you")
    assert error.reason == "QUEUE_FULL" and error.retry_delay > 0
    waiting.cancel()


@pytest.mark.parametrize("run", WAYS)
def test_cancelled_by_an_operator(client: dirty.DirtyClient, run: Run, shared: Dirtyd) -> None:
    def cancel() -> None:
        call = shared.wait_for_status(lambda s: [c["call_id"] for w in s["workers"] for c in w["running"]])[0]
        command = [BUILD / "bin" / "dirtyctl", "--admin_socket", shared.folder / "run" / "admin.sock", "cancel", call]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        cancelling = pool.submit(cancel)
        error = failure(run, client, dirty.DirtyCancelledError, APP, "wait", 1000)
        cancelling.result()
    assert error.reason == "CANCELLED"


@pytest.mark.parametrize("run", WAYS)
def test_worker_lost(client: dirty.DirtyClient, run: Run, shared: Dirtyd) -> None:
    def kill() -> None:
        worker = shared.wait_for_status(lambda s: [w["pid"] for w in s["workers"] if w["running"]])[0]
        os.kill(worker, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    error = failure(run, client, dirty.DirtyWorkerError, APP, "wait", 1000)
    thread.join()
    assert (error.reason, error.signal, error.exit_code) == ("WORKER_LOST", "SIGKILL", None)
    assert error.worker_id >= 1 and isinstance(error.stderr_tail, list)


@pytest.mark.parametrize("run", WAYS)
def test_shutting_down_and_outcome_unknown_and_nobody_there(dirtyd: Dirtyd, run: Run) -> None:
    dirtyd.ready({"apps": [APP], "graceful_timeout": 100})
    client = dirty.get_dirty_client(dirtyd.socket)
    assert run(client, APP, "same", 1) == 1
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(failure, run, client, dirty.DirtyConnectionError, APP, "wait", 1000)
        dirtyd.wait_for_line("waiting")
        assert dirtyd.process is not None
        dirtyd.process.terminate()
        dirtyd.wait_for_line("shutting down")
        assert failure(run, client, dirty.DirtyConnectionError, APP, "same", 1).reason == "SHUTTING_DOWN"
        dirtyd.process.kill()
        error = running.result()
    assert error.reason == "OUTCOME_UNKNOWN" and "outcome unknown" in error.message
    error = failure(run, client, dirty.DirtyConnectionError, APP, "same", 1, timeout=0.2)
    assert error.reason == "CONNECTION" and str(dirtyd.socket) in error.message
    dirtyd.process.wait()
    dirtyd.process = None


class Refuses(grpc.GenericRpcHandler):
    """An arbiter that lets nobody in: dirtyd does that with operators' RPCs only."""

    def service(self, details: Any) -> Any:
        def refuse(request: bytes, context: Any) -> Any:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not here")

        if details.method.endswith("Stream"):
            return grpc.unary_stream_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.mark.parametrize("run", WAYS)
def test_permission_denied(tmp_path: Any, run: Run) -> None:
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), [Refuses()])
    server.add_insecure_port(f"unix:{tmp_path}/fake.sock")
    server.start()
    try:
        client = dirty.get_dirty_client(tmp_path / "fake.sock")
        error = failure(run, client, dirty.DirtyConnectionError, APP, "same", 1)
        assert (error.reason, error.message) == ("PERMISSION_DENIED", "not here")
    finally:
        server.stop(None).wait()


def test_all_reasons_have_a_class() -> None:
    from dirty import _failures

    names = {name.removeprefix("REASON_") for name in pb().Reason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert names <= set(_failures._CLASSES)


def test_nothing_there_for_a_coroutine(tmp_path: Any) -> None:
    async def call() -> Any:
        client = await dirty.get_dirty_client_async(tmp_path / "absent.sock")
        await asyncio.wait_for(client.execute_async(APP, "same", timeout=0.1), 60)

    with pytest.raises(dirty.DirtyConnectionError, match=r"absent\.sock: absent"):
        asyncio.run(call())

"""The client where it will live: web servers, greenlets, workers, and beside other users of gRPC."""

from __future__ import annotations

import concurrent.futures
import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from client_support import needs_runtime, python
from conftest import APPS, BUILD, ORIGINAL, Dirtyd, sanitizer

pytestmark = needs_runtime

CONFIG = {
    "apps": ["myapp.ml:MLApp", "myapp.images:ImageApp", "caller:Caller", "calls:Calls"],
    "threads": 8,
    "chdir": str(ORIGINAL),
    "pythonpath": [str(APPS), str(APPS / "fakes")],
}


def serve(daemon: Dirtyd, *command: str, **env: str) -> Iterator[str]:
    """Runs a web server that listens on descriptor 3, which queues what comes before it is up."""
    listener = socket.create_server(("127.0.0.1", 0))
    path = f"{BUILD / 'python'}:{ORIGINAL}:{APPS}"
    environment = {**os.environ, "PYTHONPATH": path, "DIRTY_SOCKET": str(daemon.socket), **sanitizer(), **env}
    server = subprocess.Popen(
        [sys.executable, "-c", "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execvp(sys.argv[2], sys.argv[2:])",
         str(listener.fileno()), sys.executable, "-m", *command],
        env=environment, pass_fds=[listener.fileno()],
    )  # fmt: skip
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.terminate()
        assert server.wait(60) in (0, -15)
        listener.close()


def post(address: str, path: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("POST", path, b"hi")
    response = connection.getresponse()
    body = response.read().decode()
    assert response.status == 200, body
    return body


def many(address: str, path: str) -> set[str]:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return set(pool.map(lambda _: post(address, path), range(40)))


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
@pytest.mark.parametrize("preload", [False, True])
def test_the_original_views_under_gunicorn(shared: Dirtyd, kind: str, preload: bool) -> None:
    command = ["gunicorn", "--bind", "fd://3", "--workers", "2", "--threads", "4", "--worker-class", kind]
    env = {}
    if preload:
        command.append("--preload")
        env["CALL_AT_IMPORT"] = "yes"
    for address in serve(shared, *command, "web:wsgi", **env):
        assert many(address, "/") == {"gpt-4 read 2 bytes: hi"}
        assert many(address, "/image") == {"hi thumbnail of 256x256 as JPEG"}


def test_the_original_views_under_uvicorn(shared: Dirtyd) -> None:
    for address in serve(shared, "uvicorn", "--fd", "3", "--log-level", "warning", "--lifespan", "off", "asgi:app"):
        assert many(address, "/") == {"gpt-4 read 2 bytes: hi"}


@pytest.mark.parametrize("action", ["call", "call_async"])
def test_an_app_calls_another_from_inside_its_worker(shared: Dirtyd, action: str) -> None:
    data = {"nested": [b"bytes"]}
    attached = {"nested": [{"$attachment": 0}]}
    assert shared.call("caller:Caller", action, "calls:Calls", "same", attached, attachments=(b"bytes",)) == data
    error = shared.fails("caller:Caller", action, "calls:Calls", "fail", "inside")
    assert error.exception_type == "dirty.errors.DirtyAppError" and "ValueError: inside" in error.message


def test_greenlets_go_on_while_one_waits(shared: Dirtyd) -> None:
    script = """
from gevent import monkey; monkey.patch_all()
import gevent, os, sys, time
import dirty
client = dirty.get_dirty_client(sys.argv[1])
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)
ticker = gevent.spawn(tick)
start = time.monotonic()
calls = [gevent.spawn(client.execute, "calls:Calls", "sleep", 0.5) for _ in range(8)]
gevent.joinall(calls)
assert [call.value for call in calls] == ["slept"] * 8
assert time.monotonic() - start < 2 and len(ticks) > 20, len(ticks)
assert list(client.stream("calls:Calls", "count", 200)) == list(range(200))
try:
    client.execute("calls:Calls", "fail", "no")
    raise SystemExit("it did not fail")
except dirty.DirtyAppError as error:
    assert error.message == "no"
with gevent.Timeout(0.2, False):
    client.execute("calls:Calls", "wait", 1000)
    raise SystemExit("the timeout did not come")
pid = os.fork()
assert client.execute("calls:Calls", "same", 1) == 1
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    python(script, shared.socket)
    shared.wait_for_status(lambda status: not any(worker["running"] for worker in status["workers"]))


IMPORTS = ["dirty", "dirty_worker", "grpc", "google.protobuf.descriptor_pb2", "dirty.v1.call_pb2",
           "dirty.v1.arbiter_pb2_grpc", "dirty.v1.admin_pb2_grpc"]  # fmt: skip


@pytest.mark.parametrize("order", [IMPORTS, IMPORTS[::-1]], ids=["ours first", "theirs first"])
def test_everything_in_one_process(shared: Dirtyd, order: Any) -> None:
    script = (
        "".join(f"import {module}\n" for module in order)
        + """
import sys
from dirty.v1 import arbiter_pb2_grpc, call_pb2
def ours():
    assert dirty.get_dirty_client(sys.argv[1]).execute("calls:Calls", "same", 1) == 1
def theirs():
    with grpc.insecure_channel("unix:" + sys.argv[1]) as channel:
        stub = arbiter_pb2_grpc.ArbiterStub(channel)
        request = call_pb2.ExecuteRequest(app="calls:Calls", action="same", args="[1]")
        assert stub.Execute(request, timeout=60).result == "1"
        try:
            stub.Execute(call_pb2.ExecuteRequest(app="nothing"), timeout=60)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
ours(); theirs(); ours()
"""
    )
    python(script, shared.socket)

"""Runs a real dirtyd with Python workers, and calls it.

$DIRTY_BUILD is the build directory. $DIRTY_PRELOAD is put into the workers' LD_PRELOAD: a sanitizer's runtime.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable, Optional

import grpc
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("DIRTY_BUILD", ROOT / "build" / "release")).resolve()
APPS = pathlib.Path(__file__).resolve().parent / "apps"
ORIGINAL = APPS.parent / "original"
PRELOAD = os.environ.get("DIRTY_PRELOAD", "")
SANITIZED = bool(PRELOAD)
# Whether the extension can be imported here.
RUNTIME_IS_HERE = PRELOAD.partition(":")[0] in os.environ.get("LD_PRELOAD", "")
if SANITIZED:
    # Not for every program that is started here: for those that get `sanitizer()`. Leaks: everywhere but here.
    os.environ.pop("LD_PRELOAD", None)
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=1"

# How long anything may take that is waited for.
PATIENCE = 120.0


def pytest_configure(config: pytest.Config) -> None:
    """Generates the messages of dirty.v1 for the stub below."""
    out = BUILD / "tests" / "python"
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", "dirty/v1/call.proto"], check=True)
    # Not as part of a package `dirty`: that is the client's.
    sys.path.insert(0, str(out / "dirty" / "v1"))


def sanitizer(leaks: bool = False, log: Optional[pathlib.Path] = None) -> dict[str, str]:
    """What a sanitized worker needs in its environment; empty without a sanitizer.

    Args:
        leaks: Look for leaks at its end. Not everywhere: the search itself fails now and then where a thread of the
            interpreter ends at that moment.
        log: Where its reports go, if they are not to fail the whole run.
    """
    if not PRELOAD:
        return {}
    options = os.environ.get("ASAN_OPTIONS", "") + f":detect_leaks={int(leaks)}"
    if log is not None:
        options += f":log_path={log}"
    return {"LD_PRELOAD": PRELOAD, "PYTHONMALLOC": "malloc", "ASAN_OPTIONS": options}


# A program: every kind of call of calls:Calls, by the client of its interpreter, on the socket that is its argument.
USES_OF_A_CLIENT = """
import asyncio, sys
import dirty
client = dirty.get_dirty_client(sys.argv[1])
value = {"deep": [b"bytes", bytearray(b""), {"x": [2**80, 1.5, None]}]}
assert client.execute("calls:Calls", "same", value) == value
assert list(client.stream("calls:Calls", "count", 100)) == list(range(100))
try:
    client.execute("calls:Calls", "fail", "no")
    sys.exit("it did not fail")
except dirty.DirtyAppError as error:
    assert error.exception_type == "ValueError" and "in fail" in error.traceback
async def main():
    client = await dirty.get_dirty_client_async(sys.argv[1])
    assert await asyncio.gather(*(client.execute_async("calls:Calls", "same", i) for i in range(50))) == list(range(50))
    assert [i async for i in client.stream_async("calls:Calls", "count_async", 100)] == list(range(100))
    task = asyncio.ensure_future(client.execute_async("calls:Calls", "wait", 1000))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
        sys.exit("it was not cancelled")
    except asyncio.CancelledError:
        pass
asyncio.run(main())
"""


class CallError(Exception):
    """A call failed; `error` is the dirty.v1.Error."""

    def __init__(self, error: Any) -> None:
        super().__init__(f"{error.exception_type}: {error.message}")
        self.error = error


class Dirtyd:
    """A dirtyd of the test's own, in its own folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.program = BUILD / "bin" / "dirtyd"
        self.socket = folder / "run" / "dirty.sock"
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self.process: Optional[subprocess.Popen[str]] = None
        self._channel: Optional[grpc.Channel] = None

    def start(self, config: dict[str, Any], env: Optional[dict[str, str]] = None) -> None:
        """Starts it; returns at once."""
        config = {"runtime_dir": str(self.folder / "run"), "chdir": str(APPS), "python": sys.executable, **config}
        if PRELOAD:
            config["env"] = {**sanitizer(), **config.get("env", {})}
        (self.folder / "config.yaml").write_text(json.dumps(config))
        self.start_with(self.folder / "config.yaml", env, config["python"])

    def start_with(self, config: pathlib.Path, env: Optional[dict[str, str]] = None,
                   python: str = sys.executable) -> None:  # fmt: skip
        """Starts it with a configuration file as it is, but for `python`; returns at once."""
        self.process = subprocess.Popen(
            [self.program, "--config", config, "--runtime_dir", self.folder / "run", "--python", python],
            stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
        )  # fmt: skip
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._grown:
                self.lines.append(line.rstrip("\n"))
                self._grown.notify_all()
        with self._grown:
            self.lines.append("<the end>")
            self._grown.notify_all()

    def wait_for_line(self, pattern: str, count: int = 1) -> str:
        """The `count`-th line of the log that `pattern` matches, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE
        with self._grown:
            while True:
                found = [line for line in self.lines if re.search(pattern, line)]
                if len(found) >= count:
                    return found[count - 1]
                ended = self.lines[-1:] == ["<the end>"]
                if ended or not self._grown.wait(max(0, deadline - time.monotonic())):
                    raise AssertionError(f"no line matches {pattern!r}:\n" + "\n".join(self.lines))

    def ready(self, config: dict[str, Any], env: Optional[dict[str, str]] = None) -> Dirtyd:
        """Starts it and waits until every app is ready or has failed."""
        self.start(config, env)
        self.wait_for_line(r" ready: \d+/\d+ workers")
        return self

    def log(self) -> str:
        """All that it said so far."""
        with self._grown:
            return "\n".join(self.lines)

    def channel(self) -> grpc.Channel:
        """To its client socket."""
        if self._channel is None:
            options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            self._channel = grpc.insecure_channel(
                f"unix:{self.socket}", options=[*options, ("grpc.max_metadata_size", 1 << 16)]
            )
        return self._channel

    def begin(self, app: str, action: str, *args: Any, attachments: tuple[bytes, ...] = (), kwargs: Any = None,
              raw_args: Optional[str] = None, timeout: Optional[float] = None) -> Any:  # fmt: skip
        """Starts a call; a grpc future, to give to `end` or to cancel."""
        execute = self.channel().unary_unary(
            "/dirty.v1.Arbiter/Execute",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=pb().ExecuteResponse.FromString,
        )
        return execute.future(self._request(app, action, args, attachments, kwargs, raw_args, timeout))

    @staticmethod
    def _request(app: str, action: str, args: Any, attachments: Any, kwargs: Any, raw_args: Any, timeout: Any) -> Any:
        request = pb().ExecuteRequest(app=app, action=action, attachments=attachments)
        request.args = json.dumps(args) if raw_args is None else raw_args
        request.kwargs = json.dumps(kwargs or {})
        if timeout is not None:
            request.timeout.FromNanoseconds(int(timeout * 1e9))
        return request

    @staticmethod
    def end(call: Any) -> Any:
        """The response of a call that was begun; raises CallError."""
        try:
            return call.result(timeout=PATIENCE)
        except grpc.RpcError as error:
            raise CallError(error_of(error)) from None

    def call(self, app: str, action: str, *args: Any, **options: Any) -> Any:
        """The result of a call, its attachments put in as bytes; raises CallError."""
        response = self.end(self.begin(app, action, *args, **options))
        return value_of(response.result, response.attachments)

    def stream(self, app: str, action: str, *args: Any, timeout: Optional[float] = None) -> Any:
        """A streaming call: iterate over `values`, or cancel."""
        execute = self.channel().unary_stream(
            "/dirty.v1.Arbiter/ExecuteStream",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=pb().Chunk.FromString,
        )
        return execute(self._request(app, action, args, (), None, None, timeout))

    def fails(self, app: str, action: str, *args: Any, **options: Any) -> Any:
        """The dirty.v1.Error of a call that must fail."""
        with pytest.raises(CallError) as failure:
            self.call(app, action, *args, **options)
        return failure.value.error

    def status(self) -> Any:
        """What dirtyctl status --json says."""
        command = [BUILD / "bin" / "dirtyctl", "--admin_socket", self.folder / "run" / "admin.sock", "status", "--json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def wait_for_status(self, holds: Callable[[Any], Any]) -> Any:
        """What `holds` gives of a status, once that is true."""
        deadline = time.monotonic() + PATIENCE
        while not (found := holds(self.status())):
            assert time.monotonic() < deadline, self.log()
        return found

    def worker_pid(self) -> int:
        """The process id of the first worker."""
        return int(self.status()["workers"][0]["pid"])

    def stop(self) -> int:
        """Ends it gracefully; its exit code."""
        code = self.end_process()
        assert "exited with 99" not in self.log(), "a sanitizer found something in a worker"
        return code

    def end_process(self) -> int:
        """The same, whatever became of its workers."""
        assert self.process is not None
        if self._channel is not None:
            self._channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.wait_for_line("<the end>")
        return code


def pb() -> Any:
    """The messages of call.proto."""
    import call_pb2

    return call_pb2


def error_of(failure: Any) -> Any:
    """The dirty.v1.Error in the details of a failed RPC."""
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = pb().RpcStatus.FromString(value)
            error = pb().Error()
            assert status.details[0].Unpack(error)
            return error
    if failure.code() == grpc.StatusCode.CANCELLED:
        return pb().Error(reason=pb().REASON_CANCELLED)
    raise AssertionError(f"no details: {failure}")


def value_of(text: str, attachments: Any) -> Any:
    """A JSON value with its attachments put in."""

    def place(members: dict[str, Any]) -> Any:
        return attachments[members["$attachment"]] if list(members) == ["$attachment"] else members

    return json.loads(text, object_hook=place)


def values_of(stream: Any) -> Iterator[Any]:
    """The values of a streaming call as they come; raises CallError."""
    try:
        for chunk in stream:
            yield value_of(chunk.value, chunk.attachments)
    except grpc.RpcError as error:
        raise CallError(error_of(error)) from None


@pytest.fixture
def dirtyd(tmp_path: pathlib.Path) -> Iterator[Dirtyd]:
    """One for a test alone, not started yet."""
    daemon = Dirtyd(tmp_path)
    yield daemon
    if daemon.process is not None:
        assert daemon.stop() == 0, daemon.log()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Dirtyd]:
    """One for a module, with its CONFIG."""
    daemon = Dirtyd(tmp_path_factory.mktemp("dirtyd")).ready(request.module.CONFIG)
    yield daemon
    assert daemon.stop() == 0, daemon.log()

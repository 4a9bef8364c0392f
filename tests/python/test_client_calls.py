"""Calls from Python: values, streams, threads, loops, and what ends a call early."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import resource
import signal
import threading
import time
from typing import Any

import pytest
from client_support import WAYS, Run, dirty, needs_runtime, run_sync
from conftest import SANITIZED, Dirtyd

pytestmark = needs_runtime

APP = "calls:Calls"
CONFIG = {"apps": [APP], "workers": 2, "threads": 4}


@pytest.fixture
def client(shared: Dirtyd) -> dirty.DirtyClient:
    return dirty.get_dirty_client(shared.socket)


@pytest.mark.parametrize("run", WAYS)
def test_values_go_there_and_back(client: dirty.DirtyClient, run: Run) -> None:
    args = [None, True, -5, 1.5, "é😀", [1, {"a": b"\x00\xff"}], b"", bytearray(b"x")]
    assert run(client, APP, "echo", *args, key={"deep": [b"1", b"2"]}) == [
        [None, True, -5, 1.5, "é😀", [1, {"a": b"\x00\xff"}], b"", b"x"],
        {"key": {"deep": [b"1", b"2"]}},
    ]


@pytest.mark.parametrize("run", WAYS)
@pytest.mark.parametrize("size", [0, 1 << 20, 20_000_000])
def test_bytes_come_back_identical(client: dirty.DirtyClient, run: Run, size: int) -> None:
    data = os.urandom(size)
    assert run(client, APP, "same", {"nested": [{"data": data}]}) == {"nested": [{"data": data}]}


def test_names_of_parameters_are_free_for_actions(client: dirty.DirtyClient) -> None:
    kwargs = {"app": 1, "args": 2, "kwargs": 3, "key": 4}
    assert client.execute(APP, "echo", **kwargs) == [[], kwargs]


def test_one_client_a_thread_and_a_loop(shared: Dirtyd) -> None:
    async def of_loop() -> dirty.DirtyClient:
        first = await dirty.get_dirty_client_async(shared.socket)
        assert await dirty.get_dirty_client_async(shared.socket) is first
        return first

    assert dirty.get_dirty_client(shared.socket) is dirty.get_dirty_client(str(shared.socket))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        other = pool.submit(dirty.get_dirty_client, shared.socket).result()
    assert other is not dirty.get_dirty_client(shared.socket)
    assert asyncio.run(of_loop()) is not asyncio.run(of_loop())


def test_the_environment_says_where(shared: Dirtyd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIRTY_SOCKET", str(shared.socket))
    assert dirty.get_dirty_client().execute(APP, "same", 1) == 1


def test_threads_wait_side_by_side(client: dirty.DirtyClient) -> None:
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: client.execute(APP, "sleep", 0.5), range(8))) == ["slept"] * 8
    assert time.monotonic() - start < 2


def test_a_thousand_calls_of_one_loop(shared: Dirtyd, client: dirty.DirtyClient) -> None:
    assert shared.process is not None
    pids = [os.getpid(), shared.process.pid, *(worker["pid"] for worker in shared.status()["workers"])]
    assert len(pids) == 4

    async def burst() -> None:
        got = await asyncio.gather(*(client.execute_async(APP, "same", [i, b"%d" % i]) for i in range(1000)))
        assert got == [[i, b"%d" % i] for i in range(1000)]

    async def bursts() -> tuple[list[int], list[int]]:
        for _ in range(3):
            await burst()
        before = [rss(pid) for pid in pids]
        for _ in range(10):
            await burst()
        return before, [rss(pid) for pid in pids]

    before, after = asyncio.run(bursts())
    assert SANITIZED or max(grown - was for was, grown in zip(before, after)) < 4 << 20, (before, after)
    calls = [worker["calls"] for worker in shared.status()["workers"]]
    assert all(int(count) > 1000 for count in calls), calls


def rss(pid: int) -> int:
    """What a process has in memory, in bytes."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def test_loops_leave_nothing_behind(client: dirty.DirtyClient) -> None:
    asyncio.run(client.execute_async(APP, "same", 1))
    gc.collect()  # loops are cycles
    descriptors, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for _ in range(20):
        asyncio.run(client.execute_async(APP, "same", 1))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert len(os.listdir("/proc/self/task")) <= threads


def test_a_cancelled_task_cancels_the_call(shared: Dirtyd, client: dirty.DirtyClient) -> None:
    async def cancel() -> None:
        task = asyncio.ensure_future(client.execute_async(APP, "wait", 1000))
        await asyncio.get_running_loop().run_in_executor(None, shared.wait_for_line, "waiting", seen + 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    seen = sum("waiting" in line for line in shared.lines)
    client.execute(APP, "what_was_seen")
    asyncio.run(cancel())
    shared.wait_for_status(lambda status: not any(worker["running"] for worker in status["workers"]))


def test_wait_for_works(shared: Dirtyd, client: dirty.DirtyClient) -> None:
    async def wait() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.execute_async(APP, "wait", 1000), 0.1)
        assert await asyncio.wait_for(client.execute_async(APP, "same", 2), 60) == 2

    asyncio.run(wait())
    shared.wait_for_status(lambda status: not any(worker["running"] for worker in status["workers"]))


class Interruption(Exception):
    pass


@pytest.mark.parametrize("way", ["execute", "stream"])
def test_a_signal_handler_that_raises_cancels_the_call(shared: Dirtyd, client: dirty.DirtyClient, way: str) -> None:
    def raise_it(*_: Any) -> None:
        raise Interruption

    def interrupt() -> None:
        shared.wait_for_line("waiting", seen + 1)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGUSR2)

    seen = sum("waiting" in line for line in shared.lines)
    sent: list[float] = []
    before = signal.signal(signal.SIGUSR2, raise_it)
    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(Interruption):
            client.execute(APP, "wait", 1000) if way == "execute" else list(client.stream(APP, "wait", 1000))
        assert time.monotonic() - sent[0] < 1
        thread.join()
    finally:
        signal.signal(signal.SIGUSR2, before)
    shared.wait_for_status(lambda status: not any(worker["running"] for worker in status["workers"]))


def test_signal_handlers_run_while_a_call_waits(client: dirty.DirtyClient) -> None:
    ran = threading.Event()
    before = signal.signal(signal.SIGUSR2, lambda *_: ran.set())
    try:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR2))
        timer.start()
        assert client.execute(APP, "sleep", 0.5) == "slept"
        assert ran.is_set()
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_streams(client: dirty.DirtyClient) -> None:
    async def collect() -> list[Any]:
        return [value async for value in client.stream_async(APP, "count_async", 1000)]

    assert list(client.stream(APP, "count", 1000)) == list(range(1000))
    assert asyncio.run(collect()) == list(range(1000))
    assert [value["data"] for value in client.stream(APP, "blobs", 3, 2 << 20)] == [
        bytes([i]) * (2 << 20) for i in range(3)
    ]


def test_an_error_comes_after_the_values_before_it(client: dirty.DirtyClient) -> None:
    async def collect() -> None:
        values = client.stream_async(APP, "count_and_raise", 5)
        assert [await values.__anext__() for _ in range(5)] == list(range(5))
        with pytest.raises(dirty.DirtyAppError, match="counted enough"):
            await values.__anext__()
        assert [value async for value in values] == []

    values = client.stream(APP, "count_and_raise", 5)
    assert [next(values) for _ in range(5)] == list(range(5))
    with pytest.raises(dirty.DirtyAppError, match="counted enough"):
        next(values)
    assert list(values) == []
    asyncio.run(collect())


@pytest.mark.parametrize("end", ["close", "with", "let go", "aclose", "cancel"])
def test_a_stream_that_is_left_ends_its_generator(shared: Dirtyd, client: dirty.DirtyClient, end: str) -> None:
    async def leave() -> None:
        values = client.stream_async(APP, "count", 10**9)
        assert await values.__anext__() == 0
        if end == "aclose":
            await values.aclose()
        else:
            waiting = client.stream_async(APP, "wait", 1000)
            task = asyncio.ensure_future(waiting.__anext__())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del values

    ended = sum("count ended" in line for line in shared.lines)
    if end in ("aclose", "cancel"):
        asyncio.run(leave())
    else:
        values = client.stream(APP, "count", 10**9)
        assert next(values) == 0
        if end == "close":
            values.close()
        elif end == "with":
            with values:
                pass
        del values
    shared.wait_for_line("count ended", ended + 1)
    shared.wait_for_status(lambda status: not any(worker["running"] for worker in status["workers"]))


def test_a_slow_reader_holds_its_generator_back(client: dirty.DirtyClient) -> None:
    before = rss(os.getpid())
    values = client.stream(APP, "blobs", 200, 1 << 20)
    next(values)
    time.sleep(0.5)  # nothing to wait for: nothing is to happen
    assert SANITIZED or rss(os.getpid()) - before < 40 << 20
    assert len(list(values)) == 199


def test_the_first_call_after_a_restart_succeeds(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"apps": [APP]})
    client = dirty.get_dirty_client(dirtyd.socket)
    assert client.execute(APP, "same", 1) == 1
    assert dirtyd.stop() == 0
    dirtyd.lines.clear()
    dirtyd.start({"apps": [APP]})
    assert run_sync(client, APP, "same", 2) == 2

"""One event loop for all coroutines of a worker, on a thread of its own, for threads that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any, Callable, Optional


class EventLoop:
    """Starts with the first thing that it is asked to run. Thread-safe but for `stop`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._thread: Optional[threading.Thread] = None

    def start(self, awaitable: Awaitable[Any]) -> Task:
        """Runs `awaitable` as a task."""
        return Task(self._running(), _await(awaitable))

    def iterate(self, values: AsyncIterator[Any]) -> Stream:
        """Runs `values` in one task, a step each time that a value is asked for."""
        return Stream(self._running(), values)

    def stop(self) -> None:
        """Cancels what still runs, lets asynchronous generators finish, and ends the thread."""
        if self._loop is None or self._thread is None:
            return
        Task(self._loop, _cancel_others()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="dirty-loop", daemon=True)
                self._thread.start()
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()


class Task:
    """A coroutine on the loop. `result` and `cancel` belong to other threads."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any],
        on_done: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._task: Optional[asyncio.Task[Any]] = None
        self._done = threading.Lock()
        self._done.acquire()
        self._on_done = on_done
        loop.call_soon_threadsafe(self._begin, coroutine)

    def result(self) -> Any:
        """Waits for its end, also if it is cancelled meanwhile; what it returned or raised. Once."""
        self._done.acquire()
        assert self._task is not None
        try:
            return self._task.result()
        finally:
            self._task = None  # it has an exception, which has this frame

    def cancel(self) -> None:
        """Raises CancelledError in it, where it waits."""
        # Runs after _begin: the loop keeps the order.
        self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._task = self._loop.create_task(coroutine)
        self._task.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self._done.release()
        self._on_done()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Stream:
    """The values of an asynchronous generator, for one thread that iterates. `cancel` belongs to any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, values: AsyncIterator[Any]) -> None:
        self._loop = loop
        self._given: queue.SimpleQueue[Optional[tuple[Any]]] = queue.SimpleQueue()  # None: the end
        self._ended = False
        # On the loop: whether a value is asked for, and what waits for that.
        self._wanted = False
        self._waiter: Optional[asyncio.Future[None]] = None
        self._task = Task(loop, self._run(values), on_done=lambda: self._given.put(None))

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        if not self._ended:
            self._loop.call_soon_threadsafe(self._want)
            value = self._given.get()
            if value is not None:
                return value[0]
            self._ended = True
            self._task.result()
        raise StopIteration

    def cancel(self) -> None:
        """Raises CancelledError in the generator, where it waits."""
        self._task.cancel()

    def close(self) -> None:
        """Ends it before its end, and waits for that. What it raises meanwhile is nobody's."""
        if self._ended:
            return
        self._ended = True
        self._task.cancel()
        with contextlib.suppress(BaseException):
            self._task.result()

    def _want(self) -> None:
        self._wanted = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _until_wanted(self) -> None:
        while not self._wanted:
            self._waiter = self._loop.create_future()
            await self._waiter
        self._wanted = False

    async def _run(self, values: AsyncIterator[Any]) -> None:
        try:
            await self._until_wanted()
            async for value in values:
                self._given.put((value,))
                await self._until_wanted()
        finally:
            if hasattr(values, "aclose"):
                await values.aclose()


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()

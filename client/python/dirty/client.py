"""The client: calls apps through dirtyd."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

from . import _extension, _gevent, _loops
from .tracing import current_traceparent

if TYPE_CHECKING:
    import _dirty

Socket = Union[str, "os.PathLike[str]", None]
Transport = Literal["auto", "unary"]

# One connection for each socket, whoever asks. The key: the argument, and what else tells where to look.
_natives: dict[tuple[Optional[str], ...], _dirty.Client] = {}

_threads = threading.local()
_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_dirty.Client, DirtyClient]]
_by_loop = weakref.WeakKeyDictionary()


def get_dirty_client(socket: Socket = None, *, transport: Transport = "auto") -> DirtyClient:
    """This thread's client.

    Nothing is connected before the first call, and one connection serves all threads and event loops of the process.

    Args:
        socket: dirtyd's client socket. None: `$DIRTY_SOCKET`, then `/run/dirty/dirty.sock` and
            `$XDG_RUNTIME_DIR/dirty/dirty.sock`; the first that answers.
        transport: How calls travel, which changes their speed and nothing else. `auto`: many on one stream, where
            dirtyd has that; `unary`: each as an RPC of its own.
    """
    native = _native(socket, transport)
    clients: dict[_dirty.Client, DirtyClient] = vars(_threads).setdefault("clients", {})
    return clients.get(native) or clients.setdefault(native, DirtyClient(native))


async def get_dirty_client_async(socket: Socket = None, *, transport: Transport = "auto") -> DirtyClient:
    """The running event loop's client. Waits for nothing; arguments as for `get_dirty_client`."""
    native = _native(socket, transport)
    clients = _by_loop.setdefault(asyncio.get_running_loop(), {})
    return clients.get(native) or clients.setdefault(native, DirtyClient(native))


def _native(socket: Socket, transport: Transport) -> _dirty.Client:
    if transport not in ("auto", "unary"):
        raise ValueError(f"transport is {transport!r}, not 'auto' or 'unary'")
    path = None if socket is None else os.fspath(socket)
    key = (path, transport, os.environ.get("DIRTY_SOCKET"), os.environ.get("XDG_RUNTIME_DIR"))
    native = _natives.get(key)
    if native is None:  # no lock: a fork could take it along
        native = _natives.setdefault(key, _extension.load().Client(path or "", unary=transport == "unary"))
    return native


class DirtyClient:
    """Calls apps. From `get_dirty_client` and `get_dirty_client_async`; any thread and any event loop may use it.

        client = get_dirty_client()
        thumbnail = client.execute("myapp.images:ImageApp", "thumbnail", photo, size=256)

    Arguments and results are what JSON holds, and bytes anywhere in them; docs/python.md has the table. `timeout` is in
    seconds, for connecting, waiting and running together, and only shortens dirtyd's own limits; None: those alone.
    A call that may have started is never sent again.

    Every method raises:
        DirtyConnectionError: dirtyd cannot be reached, shuts down, or was lost during the call (outcome unknown).
        DirtyAppNotFoundError: No such app is configured.
        DirtyNoWorkersAvailableError: The app is configured, and nothing can serve it.
        DirtyQueueFullError: Too many calls wait already: try again after `retry_delay` seconds.
        DirtyTimeoutError: It waited or ran too long.
        DirtyCancelledError: An operator cancelled it.
        DirtyAppError: The app raised.
        DirtyWorkerError: The worker died during the call (outcome unknown).
        DirtyProtocolError: Arguments that cannot be sent.
    """

    def __init__(self, native: _dirty.Client) -> None:
        self._native = native

    def execute(self, app: str, action: str, /, *args: Any, timeout: Optional[float] = None, **kwargs: Any) -> Any:
        """Runs `action` of `app` and waits for its result.

        Other threads go on meanwhile, and other greenlets where gevent has patched the process. An exception that a
        signal handler raises, such as KeyboardInterrupt, ends the wait within 50 ms and cancels the call.
        """
        if _gevent.patched():
            return _gevent.execute(self._native, app, action, args, kwargs, timeout, current_traceparent())
        return self._native.execute(app, action, args, kwargs, timeout, current_traceparent())

    async def execute_async(
        self, app: str, action: str, /, *args: Any, timeout: Optional[float] = None, **kwargs: Any
    ) -> Any:
        """Runs `action` of `app`; a task that is cancelled while it waits cancels the call."""
        inbox = _loops.inbox()
        key, future = inbox.expect()
        try:
            call = self._native.start(inbox.native, key, app, action, args, kwargs, timeout, current_traceparent())
            try:
                return await future
            except asyncio.CancelledError:
                call.cancel()
                raise
        finally:
            inbox.forget(key)

    def stream(
        self, app: str, action: str, /, *args: Any, timeout: Optional[float] = None, **kwargs: Any
    ) -> DirtyStream:
        """Starts an action that streams; its values as they come. One that does not stream gives one value."""
        return DirtyStream(self._native.stream(app, action, args, kwargs, timeout, current_traceparent()))

    def stream_async(
        self, app: str, action: str, /, *args: Any, timeout: Optional[float] = None, **kwargs: Any
    ) -> DirtyAsyncStream:
        """The same for `async for`. Waits for nothing."""
        return DirtyAsyncStream(self._native.stream(app, action, args, kwargs, timeout, current_traceparent()))


class DirtyStream(Iterator[Any]):
    """The values of a streaming call, for one thread. An error comes after the values before it.

    It is cancelled, and the action's generator closed, by `close`, at the end of a `with` block, or when it is let go.
    """

    def __init__(self, native: _dirty.Stream) -> None:
        self._native: Optional[_dirty.Stream] = native

    def __next__(self) -> Any:
        """Waits for the next value."""
        if self._native is None:
            raise StopIteration
        try:
            if _gevent.patched():
                _gevent.wait(self._native)
            return self._native.next()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cancels the call if it has not ended."""
        if self._native is not None:
            self._native.cancel()
            self._native = None

    def __enter__(self) -> DirtyStream:
        """Itself."""
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Closes."""
        self.close()


class DirtyAsyncStream(AsyncIterator[Any]):
    """The values of a streaming call, for one task. An error comes after the values before it.

    It is cancelled, and the action's generator closed, by `aclose`, at the end of an `async with` block, when the task
    is cancelled while it waits for a value, or when it is let go.
    """

    def __init__(self, native: _dirty.Stream) -> None:
        self._native: Optional[_dirty.Stream] = native

    async def __anext__(self) -> Any:
        """Waits for the next value."""
        native = self._native
        if native is None:
            raise StopAsyncIteration
        try:
            inbox = _loops.inbox()
            key, future = inbox.expect()
            try:
                if not native.ready(inbox.native, key):
                    await future
            finally:
                inbox.forget(key)
            return native.next()
        except StopIteration:
            self._native = None
            raise StopAsyncIteration from None
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Cancels the call if it has not ended."""
        if self._native is not None:
            self._native.cancel()
            self._native = None

    async def __aenter__(self) -> DirtyAsyncStream:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Closes."""
        await self.aclose()

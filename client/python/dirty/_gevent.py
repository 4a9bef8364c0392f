"""How a greenlet waits for a call while others run. gevent is only used where it has patched the process already."""

from __future__ import annotations

import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Optional

from . import _extension

if TYPE_CHECKING:
    import _dirty


def patched() -> bool:
    """Whether gevent has replaced blocking functions in this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("socket")


class _HubInbox:
    """The outcomes that the greenlets of one hub wait for. Used on that hub's thread only."""

    def __init__(self, hub: Any) -> None:
        self.native: _dirty.Inbox = _extension.load().Inbox()
        self._waiting: dict[int, Any] = {}
        self._last = 0
        self._watcher = hub.loop.io(self.native.fileno(), 1)

    def expect(self) -> tuple[int, Any]:
        """A key for the extension, and what gets the outcome of that key."""
        from gevent.event import AsyncResult  # type: ignore[import-untyped]

        self._last += 1
        if not self._waiting:
            self._watcher.start(self._deliver)
        result = self._waiting[self._last] = AsyncResult()
        return self._last, result

    def forget(self, key: int) -> None:
        """Nobody waits for `key` any more. The watcher would keep the hub's loop alive."""
        self._waiting.pop(key, None)
        if not self._waiting:
            self._watcher.stop()

    def _deliver(self) -> None:
        for key, succeeded, outcome in self.native.take():
            result = self._waiting.get(key)
            if result is None:
                continue
            if succeeded:
                result.set(outcome)
            else:
                result.set_exception(outcome)


_inboxes: weakref.WeakKeyDictionary[Any, _HubInbox] = weakref.WeakKeyDictionary()

# The parent's descriptors are no good in a child: it would take the parent's wake-ups.
os.register_at_fork(after_in_child=_inboxes.clear)


def _inbox() -> _HubInbox:
    from gevent import get_hub  # type: ignore[import-untyped]

    hub = get_hub()
    return _inboxes.get(hub) or _inboxes.setdefault(hub, _HubInbox(hub))


def execute(
    native: _dirty.Client,
    app: str,
    action: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    timeout: Optional[float],
    traceparent: Optional[str],
) -> Any:
    """Runs a call; the hub goes on. A greenlet that is killed, or times out, while it waits cancels the call."""
    inbox = _inbox()
    key, result = inbox.expect()
    try:
        call = native.start(inbox.native, key, app, action, args, kwargs, timeout, traceparent)
        try:
            return result.get()
        except BaseException:
            call.cancel()  # ignored if it has ended
            raise
    finally:
        inbox.forget(key)


def wait(stream: _dirty.Stream) -> None:
    """Returns when `stream.next()` would not block."""
    inbox = _inbox()
    key, result = inbox.expect()
    try:
        if not stream.ready(inbox.native, key):
            result.get()
    finally:
        inbox.forget(key)

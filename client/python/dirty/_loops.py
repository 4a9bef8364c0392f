"""How outcomes get into asyncio's event loops: one readable descriptor for each loop, however many calls."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import TYPE_CHECKING, Any

from . import _extension

if TYPE_CHECKING:
    import _dirty


class LoopInbox:
    """The outcomes that one event loop waits for. Used on that loop only.

    It does not refer to its loop, which refers to it.
    """

    def __init__(self) -> None:
        self.native: _dirty.Inbox = _extension.load().Inbox()
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self._last = 0
        asyncio.get_running_loop().add_reader(self.native.fileno(), self._deliver)

    def expect(self) -> tuple[int, asyncio.Future[Any]]:
        """A key for the extension, and what gets the outcome of that key."""
        self._last += 1
        future = self._futures[self._last] = asyncio.get_running_loop().create_future()
        return self._last, future

    def forget(self, key: int) -> None:
        """Nobody waits for `key` any more."""
        self._futures.pop(key, None)

    def _deliver(self) -> None:
        for key, succeeded, outcome in self.native.take():
            future = self._futures.pop(key, None)
            if future is None or future.done():
                continue
            if succeeded:
                future.set_result(outcome)
            else:
                future.set_exception(outcome)


_inboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopInbox] = weakref.WeakKeyDictionary()

# The parent's descriptors are no good in a child: it would take the parent's wake-ups.
os.register_at_fork(after_in_child=_inboxes.clear)


def inbox() -> LoopInbox:
    """That of the running loop."""
    loop = asyncio.get_running_loop()
    return _inboxes.get(loop) or _inboxes.setdefault(loop, LoopInbox())

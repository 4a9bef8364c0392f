"""Makes very many calls of every kind: endurance_client.py SOCKET COUNT. A process of its own, for a sanitizer's sake.

Prints, as JSON, what it found: how many calls ended in which way, and its memory before and after the last COUNT.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
import gc
import json
import resource
import sys
from typing import Any

import dirty

APP = "calls:Calls"
AT_ONCE = 50
outcomes: collections.Counter[str] = collections.Counter()


async def one(client: dirty.DirtyClient, number: int) -> None:
    """A call whose kind depends on its number."""
    kind = number % 8
    data = bytes([number % 256]) * (200_000 if number % 50 == 1 else 1000)
    if kind == 0:
        await client.execute_async(APP, "fail", f"number {number}")
    elif kind == 1:
        assert await client.execute_async(APP, "same", {"a": [data]}) == {"a": [data]}
    elif kind == 2:
        # Before it is sent, while it runs, or just when it ends.
        task = asyncio.ensure_future(client.execute_async(APP, "spin", 0.001, False))
        await asyncio.sleep(0.0005 * (number % 5))
        task.cancel()
        await task
    elif kind == 3:
        expected = [[{"k": [number, 1.5, None, "text"]}], {"x": number}]
        assert await client.execute_async(APP, "echo", {"k": [number, 1.5, None, "text"]}, x=number) == expected
    elif kind == 4:
        await client.execute_async(APP, "same", [datetime.date.today()])
    elif kind == 5:
        assert [value async for value in client.stream_async(APP, "count", 5)] == [0, 1, 2, 3, 4]
    elif kind == 6:
        values = client.stream_async(APP, "blobs", 1000, 1000)
        assert (await values.__anext__())["data"] == bytes(1000)
        await values.aclose()
    else:
        await client.execute_async(APP, "wait", 10, timeout=0.001 * (number % 4 + 1))


async def counted(client: dirty.DirtyClient, number: int) -> None:
    """The same, and its outcome is noted."""
    try:
        await one(client, number)
        outcomes["ok"] += 1
    except asyncio.CancelledError:
        outcomes["cancelled"] += 1
    except dirty.DirtyError as error:
        outcomes[error.reason] += 1


def sync(client: dirty.DirtyClient, number: int) -> None:
    """A few from this thread."""
    data = bytes(10_000)
    assert client.execute(APP, "same", [{"a": data}]) == [{"a": data}]
    try:
        client.execute(APP, "fail", "sync")
    except dirty.DirtyAppError as error:
        outcomes[error.reason] += 1
    with client.stream(APP, "blobs", 1000, 1000) as values:
        next(values)
    outcomes["ok"] += 2


def calls(client: dirty.DirtyClient, count: int) -> None:
    """That many, some at once, from an event loop that is new each time."""

    async def at_once(first: int) -> None:
        await asyncio.gather(*(counted(client, number) for number in range(first, first + AT_ONCE - 3)))

    for first in range(0, count, AT_ONCE):
        asyncio.run(at_once(first))
        sync(client, first)


def memory() -> list[int]:
    """Blocks of the interpreter's allocator in use, and RSS in KiB."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        return [sys.getallocatedblocks(), int(statm.read().split()[1]) * resource.getpagesize() // 1024]


def there(client: dirty.DirtyClient) -> Any:
    """The same of the worker, without what its app noted."""
    client.execute(APP, "what_was_seen")
    return client.execute(APP, "memory")


def main(socket: str, count: str) -> dict[str, Any]:
    """Warms up, calls, and tells."""
    client = dirty.get_dirty_client(socket)
    calls(client, 2000)
    outcomes.clear()
    before, before_there = memory(), there(client)
    calls(client, int(count))
    after, after_there = memory(), there(client)
    return {"outcomes": outcomes, "client": [before, after], "worker": [before_there, after_there]}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))

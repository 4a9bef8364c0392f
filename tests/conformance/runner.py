"""The Python client's runner: VECTORS SOCKET PREFIX TRANSPORT. README.md says what it does.

TRANSPORT: `sync` or `async`, a hyphen, and `unary` or `session`.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import json
import sys
from collections.abc import Awaitable
from typing import Any, Callable

import dirty


def make(spec: Any) -> Any:
    """What a value of the vectors stands for."""
    if isinstance(spec, list):
        return [make(value) for value in spec]
    if not isinstance(spec, dict):
        return spec
    if len(spec) == 1:
        ((key, value),) = spec.items()
        if key in SPECIAL:
            return SPECIAL[key](value)
    return {key: make(value) for key, value in spec.items()}


def levels(value: Any) -> Any:
    made = make(value[1])
    for _ in range(value[0]):
        made = [made]
    return made


SPECIAL: dict[str, Callable[[Any], Any]] = {
    "$bytes": base64.b64decode,
    "$bytes_of": lambda value: bytes([value[0]]) * value[1],
    "$text_of": lambda value: value[0] * value[1],
    "$int": int,
    "$utf16": lambda units: b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le", "surrogatepass"),
    "$levels": levels,
}


def shown(value: Any) -> Any:
    """A value that came out."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [shown(element) for element in value]
    if isinstance(value, dict):
        return {key: shown(member) for key, member in value.items()}
    return value


def failure(error: BaseException) -> dict[str, Any]:
    """What a call that failed raised."""
    if isinstance(error, asyncio.CancelledError):
        return {"reason": "CANCELLED"}
    if not isinstance(error, dirty.DirtyError):
        raise error
    fields = {key: value for key, value in vars(error).items() if value not in (None, [])}
    if "app_path" in fields:
        fields["app"] = fields.pop("app_path")
    return fields


def call_of(step: dict[str, Any], prefix: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the client's methods."""
    positional = (f"{prefix}-{step['app']}", step["action"], *make(step.get("args", [])))
    named = make(step.get("kwargs", {}))
    if not isinstance(named, dict):
        raise TypeError("kwargs")
    return positional, {"timeout": step.get("timeout"), **named}


class Sync:
    """With threads."""

    def __init__(self, client: dirty.DirtyClient) -> None:
        self._client = client
        self._threads = concurrent.futures.ThreadPoolExecutor(8)

    async def start(self, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return self._threads.submit(self._client.execute, *positional, **named)

    async def finish(self, call: Any) -> Any:
        return call.result()

    def stream(self, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return self._client.stream(*positional, **named)

    async def next(self, stream: Any) -> Any:
        for chunk in stream:
            return chunk
        raise StopAsyncIteration

    async def close(self, stream: Any) -> None:
        stream.close()


class Async:
    """With tasks."""

    def __init__(self, client: dirty.DirtyClient) -> None:
        self._client = client

    async def start(self, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return asyncio.ensure_future(self._client.execute_async(*positional, **named))

    async def finish(self, call: Any) -> Any:
        return await call

    def stream(self, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return self._client.stream_async(*positional, **named)

    async def next(self, stream: Any) -> Any:
        async for chunk in stream:
            return chunk
        raise StopAsyncIteration

    async def close(self, stream: Any) -> None:
        await stream.aclose()


class Reading:
    """A stream that was opened, with what was read of it."""

    def __init__(self, way: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._way = way
        self._chunks: list[Any] = []
        self._error: dict[str, Any] | None = None
        try:
            self._stream = way.stream(positional, named)
        except dirty.DirtyError as error:
            self._error = failure(error)

    async def read(self) -> bool:
        if self._error:
            return False
        try:
            self._chunks.append(shown(await self._way.next(self._stream)))
        except StopAsyncIteration:
            return False
        except dirty.DirtyError as error:
            self._error = failure(error)
            return False
        return True

    async def cancel(self) -> None:
        await self._way.close(self._stream)
        self._error = {"reason": "CANCELLED"}

    async def finish(self) -> dict[str, Any]:
        while await self.read():
            pass
        return {"chunks": self._chunks, **({"error": self._error} if self._error else {})}


async def outcome(result: Awaitable[Any]) -> dict[str, Any]:
    try:
        return {"result": shown(await result)}
    except (dirty.DirtyError, asyncio.CancelledError) as error:
        return {"error": failure(error)}


async def run(way: Any, steps: list[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """The outcomes of a vector."""
    started: dict[str, Any] = {}
    outcomes: list[dict[str, Any]] = []
    for step in steps:
        do, call = step["do"], started.get(step.get("id", ""))
        if do in ("call", "start"):
            positional, named = call_of(step, prefix)
            if step.get("stream"):
                call = Reading(way, positional, named)
                for _ in range(step.get("read", 0)):
                    await call.read()
            else:
                call = await way.start(positional, named)
        if do == "start":
            started[step["id"]] = call
        elif do == "cancel":
            closed = call.cancel()
            if isinstance(call, Reading):
                await closed
        elif isinstance(call, Reading):
            outcomes.append(await call.finish())
        else:
            outcomes.append(await outcome(way.finish(call)))
    return outcomes


async def main(vectors: str, socket: str, prefix: str, transport: str) -> None:
    kind, _, travel = transport.partition("-")
    client = dirty.get_dirty_client(socket, transport="unary" if travel == "unary" else "auto")
    way = Sync(client) if kind == "sync" else Async(client)
    with open(vectors) as file:
        parsed = json.load(file)
    for vector in parsed:
        line: dict[str, Any] = {"vector": vector["name"]}
        try:
            line["outcomes"] = await run(way, vector["steps"], prefix)
        except Exception as error:
            line["broken"] = f"{type(error).__name__}: {error}"
        print(json.dumps(line), flush=True)


asyncio.run(main(*sys.argv[1:]))

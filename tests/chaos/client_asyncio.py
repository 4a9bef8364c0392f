"""A client process in Python's asyncio: mostly streams; some calls are cancelled, some streams left before their end."""

from __future__ import annotations

import asyncio
import random
import threading

import calling
import dirty
import payload
from ledger import Writer


async def read(client: dirty.DirtyClient, flags: calling.Flags, planned: calling.Planned, who: str, leave: bool) -> str:
    """A stream to its end; its verdict, or `left`."""
    args, _ = planned.arguments(who)
    index = 0
    verdict = "right"
    async with client.stream_async(planned.app, "parts", *args, timeout=flags.timeout) as stream:
        async for value in stream:
            if not payload.is_part(value, who, planned.text, planned.blob, index, planned.parts):
                verdict = "wrong"
            index += 1
            if leave:
                return "left" if verdict == "right" else "wrong"
    return verdict if index == planned.parts else "wrong"


async def one(client: dirty.DirtyClient, flags: calling.Flags, ledger: Writer, source: random.Random) -> None:
    """A call from its record to its outcome's."""
    planned = calling.plan(source, flags.apps, streams=0.7)
    number = ledger.sent(planned.app, planned.action, flags.bound)
    who = ledger.who(number)
    leave = source.random() < 0.05
    try:
        if planned.action == "parts":
            verdict = await read(client, flags, planned, who, leave)
        else:
            args, kwargs = planned.arguments(who)
            call = client.execute_async(planned.app, "work", *args, timeout=flags.timeout, **kwargs)
            if leave:
                verdict = planned.verdict(who, await asyncio.wait_for(call, source.random() * 0.02))
            else:
                verdict = planned.verdict(who, await call)
    except dirty.DirtyError as error:
        verdict = calling.verdict_of_failure(error.reason, getattr(error, "exception_type", None))
        ledger.ended(number, calling.outcome(error.reason, error.call_id), verdict, error.call_id)
    except asyncio.TimeoutError:
        ledger.ended(number, "left")
    else:
        ledger.ended(number, "left" if verdict == "left" else "ok", "right" if verdict == "left" else verdict)


async def calls(flags: calling.Flags, ledger: Writer, stop: threading.Event) -> None:
    """Makes calls until it is to stop, then waits for the last."""
    client = await dirty.get_dirty_client_async(flags.socket)
    source = random.Random(flags.seed)
    open_calls: set[asyncio.Task[None]] = set()
    while not stop.is_set():
        await asyncio.sleep(min(source.expovariate(flags.per_second), 0.2))
        if len(open_calls) < flags.at_once:
            task = asyncio.create_task(one(client, flags, ledger, random.Random(source.getrandbits(64))))
            open_calls.add(task)
            task.add_done_callback(open_calls.discard)
    await asyncio.gather(*open_calls)


if __name__ == "__main__":
    given, written, stopped = calling.flags("asyncio")
    asyncio.run(calls(given, written, stopped))
    written.closed()

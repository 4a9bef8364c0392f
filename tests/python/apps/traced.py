"""An app that tells to which trace its calls belong, by every way in which user code runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Optional

import dirty


class Traced(dirty.DirtyApp):
    def trace(self) -> Optional[str]:
        return dirty.current_traceparent()

    async def trace_async(self) -> list[Optional[str]]:
        async def task() -> Optional[str]:
            return dirty.current_traceparent()

        await asyncio.sleep(0)
        return [dirty.current_traceparent(), await asyncio.create_task(task()), await asyncio.to_thread(self.trace)]

    def stream(self) -> Iterator[Any]:
        yield dirty.current_traceparent()
        yield dirty.current_traceparent()

    async def stream_async(self) -> AsyncIterator[Any]:
        yield dirty.current_traceparent()
        await asyncio.sleep(0)
        yield dirty.current_traceparent()

    def call_other(self) -> Any:
        return dirty.get_dirty_client().execute("traced:Traced", "trace")

    async def call_other_async(self) -> Any:
        client = await dirty.get_dirty_client_async()
        values = [value async for value in client.stream_async("traced:Traced", "stream_async")]
        return [await client.execute_async("traced:Traced", "trace"), *values]

    def fail(self) -> None:
        raise ValueError("no")

    def span(self) -> list[str]:
        """The ids of a span that the app opens with opentelemetry, and what another app gets meanwhile."""
        from opentelemetry import trace

        with trace.get_tracer("traced").start_as_current_span("work") as span:
            context = span.get_span_context()
            return [f"{context.trace_id:032x}", f"{context.span_id:016x}", self.call_other()]


class WithOpenTelemetry(Traced):
    """The same in a process that uses opentelemetry."""

    def init(self) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        trace.set_tracer_provider(TracerProvider())

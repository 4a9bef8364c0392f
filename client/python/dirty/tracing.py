"""The W3C trace (`traceparent`) that calls belong to."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar, Token
from typing import Any, Optional

_current: ContextVar[Optional[str]] = ContextVar("dirty_traceparent", default=None)


def current_traceparent() -> Optional[str]:
    """The trace that calls made here belong to: what the client sends with each of them. None: no trace.

    That is opentelemetry's current span, if the process uses opentelemetry and there is one. Else what
    `use_traceparent` says; else, in an app, the trace of the call that runs: in its thread, its coroutines and the
    tasks that these start, but not in threads that the app starts itself.
    """
    # Half made while another thread imports it.
    current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current_span is not None:
        span = current_span().get_span_context()
        if span.is_valid:
            return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    return _current.get()


@contextlib.contextmanager
def use_traceparent(traceparent: Optional[str]) -> Iterator[None]:
    """Calls in this block belong to this trace, such as the `traceparent` header of a web request.

    What is no `traceparent`, or None, is dropped. opentelemetry's current span, if there is one, goes before.
    """
    token = _current.set(traceparent if traceparent and traceparent.isascii() else None)  # dirtyd looks at the rest
    try:
        yield
    finally:
        _current.reset(token)


def begin(traceparent: str) -> tuple[Token[Optional[str]], Any]:
    """A call of this trace runs in this thread from now on. Of dirty_worker."""
    attached = None
    if "opentelemetry.trace" in sys.modules:
        # What the app itself traces is below the caller's span then.
        from opentelemetry import context  # type: ignore[import-not-found,unused-ignore]
        from opentelemetry.trace.propagation import tracecontext  # type: ignore[import-not-found,unused-ignore]

        extracted = tracecontext.TraceContextTextMapPropagator().extract({"traceparent": traceparent})
        attached = context.attach(extracted)
    return _current.set(traceparent), attached


def end(begun: tuple[Token[Optional[str]], Any]) -> None:
    """It has ended. `begun`: what `begin` returned in this thread."""
    token, attached = begun
    _current.reset(token)
    if attached is not None:
        from opentelemetry import context  # type: ignore[import-not-found,unused-ignore]

        context.detach(attached)

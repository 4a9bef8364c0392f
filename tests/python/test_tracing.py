"""The W3C trace of a call: from the caller to the app, into the calls that the app makes, and into the log."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any, Optional

import packages
import pytest
from client_support import dirty, needs_runtime, python
from conftest import BUILD, PATIENCE, SANITIZED, Dirtyd, pb

pytestmark = needs_runtime

APP = "traced:Traced"
CONFIG = {"apps": [APP], "workers": 2, "threads": 2}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.fixture(params=["auto", "unary"])
def client(shared: Dirtyd, request: pytest.FixtureRequest) -> dirty.DirtyClient:
    return dirty.get_dirty_client(shared.socket, transport=request.param)


def test_a_call_has_no_trace_by_itself(client: dirty.DirtyClient) -> None:
    assert dirty.current_traceparent() is None
    assert client.execute(APP, "trace") is None
    assert client.execute(APP, "call_other") is None


def test_the_trace_reaches_every_kind_of_action(client: dirty.DirtyClient) -> None:
    with dirty.use_traceparent(TRACE):
        assert client.execute(APP, "trace") == TRACE
        assert client.execute(APP, "trace_async") == [TRACE] * 3
        assert list(client.stream(APP, "stream")) == [TRACE] * 2
        assert list(client.stream(APP, "stream_async")) == [TRACE] * 2
    # Nothing of it stays on the threads of the workers.
    assert [client.execute(APP, "trace") for _ in range(8)] == [None] * 8


def test_the_trace_goes_on_into_calls_that_the_app_makes(client: dirty.DirtyClient) -> None:
    with dirty.use_traceparent(TRACE):
        assert client.execute(APP, "call_other") == TRACE
        assert client.execute(APP, "call_other_async") == [TRACE] * 3


def test_tasks_have_their_own_traces(shared: Dirtyd) -> None:
    async def one(client: dirty.DirtyClient, number: int) -> Optional[str]:
        with dirty.use_traceparent(f"00-{number:032x}-{number:016x}-00"):
            await asyncio.sleep(0)
            result: Optional[str] = await client.execute_async(APP, "trace")
            return result

    async def main() -> list[Any]:
        client = await dirty.get_dirty_client_async(shared.socket)
        return await asyncio.gather(*(one(client, number) for number in range(1, 51)))

    assert asyncio.run(main()) == [f"00-{number:032x}-{number:016x}-00" for number in range(1, 51)]


@pytest.mark.parametrize(
    "trace", ["", "-", "nonsense", "\udcff", "é", "\n", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "0" * 100_000]
)
def test_what_is_no_traceparent_is_dropped_and_harms_nothing(client: dirty.DirtyClient, trace: str) -> None:
    with dirty.use_traceparent(trace):
        assert client.execute(APP, "trace") is None
    assert client.execute(APP, "trace") is None


def test_the_header_of_a_plain_grpc_call_is_one(shared: Dirtyd) -> None:
    execute = shared.channel().unary_unary(
        "/dirty.v1.Arbiter/Execute",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=pb().ExecuteResponse.FromString,
    )
    request = pb().ExecuteRequest(app=APP, action="trace")
    assert execute(request, metadata=[("traceparent", TRACE)], timeout=PATIENCE).result == f'"{TRACE}"'
    assert execute(request, metadata=[("traceparent", TRACE.upper())], timeout=PATIENCE).result == "null"


def test_the_log_names_the_trace(shared: Dirtyd, client: dirty.DirtyClient) -> None:
    with dirty.use_traceparent(TRACE), pytest.raises(dirty.DirtyAppError) as failure:
        client.execute(APP, "fail")
    assert shared.wait_for_line(f"call={failure.value.call_id} ").endswith(f" trace={TRACE_ID}")
    with pytest.raises(dirty.DirtyAppError) as failure:
        client.execute(APP, "fail")
    assert "trace" not in shared.wait_for_line(f"call={failure.value.call_id} ").replace("traced:Traced", "")


# Of a web application that uses opentelemetry.
CALLS_IN_A_SPAN = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
import dirty
trace.set_tracer_provider(TracerProvider())
client = dirty.get_dirty_client(sys.argv[1])
assert client.execute("traced:WithOpenTelemetry", "trace") is None
with trace.get_tracer("web").start_as_current_span("request") as span:
    context = span.get_span_context()
    own = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    with dirty.use_traceparent("00-11111111111111111111111111111111-2222222222222222-01"):
        assert client.execute("traced:WithOpenTelemetry", "trace") == own, "the span goes before"
    trace_id, span_id, below = client.execute("traced:WithOpenTelemetry", "span")
    assert trace_id == f"{context.trace_id:032x}", "the app's span belongs to the caller's trace"
    assert below == f"00-{trace_id}-{span_id}-01", "and what it calls, to the app's span"
assert client.execute("traced:WithOpenTelemetry", "trace") is None
"""


@pytest.mark.skipif(SANITIZED, reason="once is enough: nothing compiled is in it")
def test_spans_of_opentelemetry_are_used_by_themselves(dirtyd: Dirtyd, tmp_path: pathlib.Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("opentelemetry-sdk==1.27.0\n")
    folder = packages.environment(BUILD / "tests" / "opentelemetry", requirements)
    interpreter = str(folder / "bin" / "python")
    dirtyd.ready({"apps": ["traced:WithOpenTelemetry", APP], "threads": 2, "workers": 2, "python": interpreter})
    assert python(CALLS_IN_A_SPAN, dirtyd.socket, interpreter=interpreter) == ""

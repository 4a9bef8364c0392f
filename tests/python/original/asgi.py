"""The async view, for any ASGI server."""

from __future__ import annotations

import dataclasses
from typing import Any

import async_views


@dataclasses.dataclass
class Request:
    data: bytes


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    result = await async_views.my_view(Request(body))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": result.encode()})

"""The original text's sync views (tests/python/original) behind plain WSGI: servers are tested here, no framework."""

from __future__ import annotations

import io
import os
import types
from typing import Any

import sync_views
import upload_views

# What the original leaves to its reader.
upload_views.save_thumbnail = bytes.decode


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    data = environ["wsgi.input"].read()
    request = types.SimpleNamespace(data=data, files={"image": io.BytesIO(data)})
    view = upload_views.upload_image if environ["PATH_INFO"] == "/image" else sync_views.my_view
    body = view(request).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


# What --preload is about: the client is used before the fork.
if os.environ.get("CALL_AT_IMPORT"):
    sync_views.my_view(types.SimpleNamespace(data=b"preloaded"))

"""The sync views in Flask."""

from __future__ import annotations

import sync_views
import upload_views
from flask import Flask, Response, request

app = Flask(__name__)


def save_thumbnail(thumbnail: bytes) -> Response:
    """What the original leaves to its reader."""
    return Response(thumbnail, mimetype="image/jpeg")


upload_views.save_thumbnail = save_thumbnail


@app.post("/inference")
def inference() -> str:
    return sync_views.my_view(request)


@app.post("/upload")
def upload() -> Response:
    return upload_views.upload_image(request)

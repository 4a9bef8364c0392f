"""The web application. Its workers wait for thumbnails, but never make them."""

from __future__ import annotations

from dirty import (
    DirtyAppError,
    DirtyConnectionError,
    DirtyError,
    DirtyNoWorkersAvailableError,
    DirtyQueueFullError,
    DirtyTimeoutError,
    get_dirty_client,
)
from flask import Flask, Response, request

app = Flask(__name__)

# Whose fault it was: an exception of the app by its name, all others by their class.
REFUSED = {"ValueError": 400, "thumbnails_app.BadPictureError": 422, "thumbnails_app.PictureTooLargeError": 413}
UNAVAILABLE = {
    DirtyTimeoutError: 504,
    DirtyConnectionError: 503,
    DirtyNoWorkersAvailableError: 503,
    DirtyQueueFullError: 503,
}


@app.post("/thumbnail")
def thumbnail() -> Response:
    """A picture in the body, a small one back."""
    size = request.args.get("size", 128, int)
    client = get_dirty_client()
    small = client.execute("thumbnails_app:Thumbnails", "thumbnail", request.get_data(), size=size, timeout=10)
    return Response(small["picture"], mimetype=small["type"])


@app.errorhandler(DirtyAppError)
def app_failed(error: DirtyAppError) -> tuple[str, int]:
    """The app raised: because of the picture, or because it is broken."""
    status = REFUSED.get(error.exception_type or "", 500)
    if status == 500:
        app.logger.error("%s\n%s", error, error.traceback)
        return "cannot make a thumbnail\n", status
    return f"{error.message}\n", status


@app.errorhandler(DirtyError)
def not_served(error: DirtyError) -> tuple[str, int, dict[str, str]]:
    """Nobody ran it, or not to its end."""
    app.logger.error("%s", error)
    headers = {"Retry-After": str(round(error.retry_delay or 1))}
    return f"{error.message}\n", UNAVAILABLE.get(type(error), 500), headers

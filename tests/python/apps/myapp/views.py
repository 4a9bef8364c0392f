"""The original text's views, with nothing but the import changed, behind WSGI and ASGI."""

import io
import types

# fmt: off
from dirty import get_dirty_client
from dirty import get_dirty_client_async


def my_view(request):
    client = get_dirty_client()

    # Load a model
    client.execute("myapp.ml:MLApp", "load_model", "gpt-4")

    # Run inference
    result = client.execute(
        "myapp.ml:MLApp",
        "inference",
        "gpt-4",
        input_text=request.data
    )
    return result


sync_view = my_view


async def my_view(request):
    client = await get_dirty_client_async()

    # Non-blocking execution
    await client.execute_async("myapp.ml:MLApp", "load_model", "gpt-4")

    result = await client.execute_async(
        "myapp.ml:MLApp",
        "inference",
        "gpt-4",
        input_text=request.data
    )
    return result


def upload_image(request):
    client = get_dirty_client()

    # Create thumbnail in dirty worker
    thumbnail = client.execute(
        "myapp.images:ImageApp",
        "thumbnail",
        request.files['image'].read(),
        size=256
    )

    return save_thumbnail(thumbnail)
# fmt: on


def save_thumbnail(thumbnail):
    return thumbnail.decode()


def wsgi(environ, start_response):
    request = types.SimpleNamespace(data="hi", files={"image": io.BytesIO(b"picture")})
    view = upload_image if environ["PATH_INFO"] == "/image" else sync_view
    body = view(request).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    body = (await my_view(types.SimpleNamespace(data="hi"))).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


# What --preload is about: the client is used before the fork.
import os  # noqa: E402

if os.environ.get("CALL_AT_IMPORT"):
    sync_view(types.SimpleNamespace(data="preloaded"))

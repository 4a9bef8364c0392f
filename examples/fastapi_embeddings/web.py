"""The web application. Its event loop serves other requests while the model works."""

from __future__ import annotations

from dirty import (
    DirtyAppError,
    DirtyConnectionError,
    DirtyError,
    DirtyNoWorkersAvailableError,
    DirtyQueueFullError,
    DirtyTimeoutError,
    get_dirty_client_async,
)
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI(title="Embeddings")

APP = "embeddings_app:Embeddings"
UNAVAILABLE = {
    DirtyTimeoutError: 504,
    DirtyConnectionError: 503,
    DirtyNoWorkersAvailableError: 503,
    DirtyQueueFullError: 503,
}


@app.get("/similarity")
async def similarity(a: str, b: str) -> dict[str, float]:
    """How much alike two sentences are."""
    client = await get_dirty_client_async()
    return {"similarity": round(await client.execute_async(APP, "similarity", a, b, timeout=10), 3)}


@app.post("/embeddings")
async def embeddings(sentences: list[str]) -> list[list[float]]:
    """A vector for each sentence."""
    client = await get_dirty_client_async()
    return await client.execute_async(APP, "embed", sentences, timeout=30)


@app.exception_handler(DirtyError)
async def failed(request: Request, error: DirtyError) -> JSONResponse:
    """What a call ends with that does not succeed."""
    refused = isinstance(error, DirtyAppError) and error.exception_type == "ValueError"
    status = 400 if refused else UNAVAILABLE.get(type(error), 500)
    headers = {"Retry-After": str(round(error.retry_delay or 1))} if status == 503 else None
    return JSONResponse({"error": error.message}, status, headers)

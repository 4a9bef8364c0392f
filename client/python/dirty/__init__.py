"""Apps for dirtyd, and its client."""

from .app import DirtyApp
from .client import DirtyAsyncStream, DirtyClient, DirtyStream, get_dirty_client, get_dirty_client_async
from .errors import (
    DirtyAppError,
    DirtyAppNotFoundError,
    DirtyCancelledError,
    DirtyConnectionError,
    DirtyError,
    DirtyNoWorkersAvailableError,
    DirtyProtocolError,
    DirtyQueueFullError,
    DirtyTimeoutError,
    DirtyWorkerError,
)
from .tracing import current_traceparent, use_traceparent

__version__ = "0.1.0"

__all__ = [
    "DirtyApp",
    "DirtyAppError",
    "DirtyAppNotFoundError",
    "DirtyAsyncStream",
    "DirtyCancelledError",
    "DirtyClient",
    "DirtyConnectionError",
    "DirtyError",
    "DirtyNoWorkersAvailableError",
    "DirtyProtocolError",
    "DirtyQueueFullError",
    "DirtyStream",
    "DirtyTimeoutError",
    "DirtyWorkerError",
    "current_traceparent",
    "get_dirty_client",
    "get_dirty_client_async",
    "use_traceparent",
]

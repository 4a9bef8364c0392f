"""From the reasons of the contract to the exceptions of this package. The extension calls this."""

from __future__ import annotations

from typing import Any

from . import errors

_CLASSES: dict[str, type[errors.DirtyError]] = {
    "INVALID_REQUEST": errors.DirtyProtocolError,
    "APP_NOT_FOUND": errors.DirtyAppNotFoundError,
    "NO_WORKERS": errors.DirtyNoWorkersAvailableError,
    "QUEUE_FULL": errors.DirtyQueueFullError,
    "QUEUE_TIMEOUT": errors.DirtyTimeoutError,
    "TIMEOUT": errors.DirtyTimeoutError,
    "CANCELLED": errors.DirtyCancelledError,
    "APP_ERROR": errors.DirtyAppError,
    "WORKER_LOST": errors.DirtyWorkerError,
    "TOO_LARGE": errors.DirtyProtocolError,
    "SHUTTING_DOWN": errors.DirtyConnectionError,
    "PERMISSION_DENIED": errors.DirtyConnectionError,
    "CONNECTION": errors.DirtyConnectionError,
    "OUTCOME_UNKNOWN": errors.DirtyConnectionError,
}


def make(reason: str, message: str, attributes: dict[str, Any]) -> errors.DirtyError:
    """The exception for `reason`, not raised; `attributes` are those that apply."""
    error = _CLASSES.get(reason, errors.DirtyError)(message, reason=reason)
    vars(error).update(attributes)
    return error

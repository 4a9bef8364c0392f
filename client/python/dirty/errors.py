"""The exceptions of this package. The table in docs/python.md says when each is raised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional


class DirtyError(Exception):
    """Anything that went wrong with a call.

    Attributes that do not apply are None.

    Attributes:
        message: What happened, where, and what to do, for people.
        reason: Why, for programs: `APP_ERROR`, `TIMEOUT` and so on.
        app_path: The app that was called.
        action: The action that was called.
        call_id: dirtyd's id of the call, as in its logs.
        traceback: The app's own traceback, as text.
        worker_id: The worker that ran the call.
        retry_delay: Seconds after which another attempt is likely to find a place.
        timeout: The limit that was overrun, in seconds.
    """

    def __init__(
        self,
        message: str = "",
        *,
        reason: Optional[str] = None,
        app_path: Optional[str] = None,
        action: Optional[str] = None,
        call_id: Optional[str] = None,
        traceback: Optional[str] = None,
        worker_id: Optional[int] = None,
        retry_delay: Optional[float] = None,
        timeout: Optional[float] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.app_path = app_path
        self.action = action
        self.call_id = call_id
        self.traceback = traceback
        self.worker_id = worker_id
        self.retry_delay = retry_delay
        self.timeout = timeout

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles with all attributes: exceptions travel between processes."""
        return (_rebuild, (type(self), self.message, {k: v for k, v in vars(self).items() if k != "message"}))


def _rebuild(cls: type[DirtyError], message: str, attributes: dict[str, object]) -> DirtyError:
    error = cls(message)
    vars(error).update(attributes)
    return error


class DirtyConnectionError(DirtyError):
    """dirtyd cannot be reached, is shutting down, or the connection broke while the call was on its way."""


class DirtyTimeoutError(DirtyError):
    """The call waited or ran too long (`reason` tells which; `timeout` is the limit)."""


class DirtyCancelledError(DirtyError):
    """The call was cancelled. Also raised inside an app, where it runs, when its call is cancelled or too late."""


class DirtyAppError(DirtyError):
    """The app raised.

    Attributes:
        exception_type: The name of the exception's class, such as `ValueError`.
    """

    def __init__(self, message: str = "", *, exception_type: Optional[str] = None, **attributes: object) -> None:
        super().__init__(message, **attributes)  # type: ignore[arg-type]
        self.exception_type = exception_type

    def __str__(self) -> str:
        """As the last line of a traceback has it: `ValueError: no such model`."""
        if not self.exception_type:
            return self.message
        return f"{self.exception_type}: {self.message}" if self.message else self.exception_type


class DirtyAppNotFoundError(DirtyError):
    """No such app is configured."""


class DirtyNoWorkersAvailableError(DirtyError):
    """The app is configured, but nothing can serve it."""


class DirtyQueueFullError(DirtyError):
    """Too many calls of this app wait already: try again after `retry_delay` seconds."""


class DirtyWorkerError(DirtyError):
    """The worker died, or was shut down, while it ran the call: the outcome is unknown.

    Attributes:
        exit_code: Of the worker's process, if it exited by itself.
        signal: What killed it, such as `SIGKILL`.
        stderr_tail: The last lines of its standard error, the oldest first.
    """

    def __init__(
        self,
        message: str = "",
        *,
        exit_code: Optional[int] = None,
        signal: Optional[str] = None,
        stderr_tail: Sequence[str] = (),
        **attributes: object,
    ) -> None:
        super().__init__(message, **attributes)  # type: ignore[arg-type]
        self.exit_code = exit_code
        self.signal = signal
        self.stderr_tail = list(stderr_tail)


class DirtyProtocolError(DirtyError):
    """The request cannot be sent as it is: not JSON, too deep, too large."""

"""The compiled part of the packages dirty and dirty_worker. Not for direct use."""

from typing import Any, Optional

__version__: str

def run_worker(apps: object, cancelled: type[BaseException]) -> int:
    """Serves dirtyd until it ends this worker; returns the exit code.

    Args:
        apps: A `dirty_worker._apps.Apps`.
        cancelled: What to raise in calls that are cancelled.

    Raises:
        RuntimeError: dirtyd's environment is missing.
    """

class Inbox:
    """Outcomes on their way to an event loop. `fileno` becomes readable when there is something to take."""

    def fileno(self) -> int: ...
    def take(self) -> list[tuple[int, bool, Any]]:
        """For each outcome: the key, whether the call succeeded, and its result or exception.

        For a stream that is ready: the key, True, None.
        """

class Call:
    """A call that was started. Letting go of it does not cancel it."""

    def cancel(self) -> None:
        """Asks it to end; ignored if it has ended."""

class Stream:
    """The values of a streaming call, for one reader. Letting go of it cancels it."""

    def next(self) -> Any:
        """Waits for the next value.

        Raises:
            StopIteration: There is none.
            dirty.DirtyError: The call failed.
        """
    def ready(self, inbox: Inbox, key: int) -> bool:
        """Whether `next` would not wait. If it would, `key` is put into `inbox`, once, when that changes."""
    def cancel(self) -> None:
        """Asks the call to end; ignored if it has ended."""

class Client:
    """The connection to one socket (empty: where the C++ client looks), for all threads. Survives forks.

    `args` and `kwargs` are those of the action; `timeout` is in seconds. `unary`: each call is an RPC of its own.
    """

    def __init__(self, socket: str = "", connect_timeout: float = 5.0, unary: bool = False) -> None: ...
    def execute(
        self,
        app: str,
        action: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: Optional[float],
        traceparent: Optional[str] = None,
    ) -> Any:
        """Runs a call and waits for its result; raises a dirty.DirtyError."""
    def start(
        self,
        inbox: Inbox,
        key: int,
        app: str,
        action: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: Optional[float],
        traceparent: Optional[str] = None,
    ) -> Call:
        """Starts a call, whose outcome is put into `inbox` as that of `key`."""
    def stream(
        self,
        app: str,
        action: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: Optional[float],
        traceparent: Optional[str] = None,
    ) -> Stream:
        """Starts a streaming call."""

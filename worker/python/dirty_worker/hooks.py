"""Runs the operator's Python hooks: `python -m dirty_worker.hooks`, which dirtyd starts.

One request a line on standard input, which is a socket, and one answer a line back on it. A hook's globals persist
from one hook to the next, for they all run here, in order.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import socket
import sys
from typing import Any, Callable, Optional

from . import _errors
from ._apps import LoadError, find_function, surroundings
from ._run import search_path


class Arbiter:
    """dirtyd, as a hook sees it.

    Attributes:
        pid: Its process id.
        age: For how long it has been running, in seconds.
        apps: The names of all configured apps.
        version: Its version.
        log: A logger, whose lines go to dirtyd's log.
    """

    log = logging.getLogger("dirty")

    def __init__(self, event: dict[str, Any], age: float) -> None:
        self.pid: int = event["arbiter_pid"]
        self.age = age
        self.apps: list[str] = event.get("apps", [])
        self.version: str = event["version"]

    def __repr__(self) -> str:
        return f"<arbiter, pid {self.pid}>"


class Worker:
    """A worker, as a hook sees it that runs beside it.

    Attributes:
        pid: Its process id.
        id: Its id, as in the log and in `dirtyctl status`; never used twice.
        age: The same number, by gunicorn's name.
        index: Its place in the pool, from 0.
        pool: The pool's name.
        apps: The names of its apps.
        exit: How it ended, as in `dirtyctl status --json`; None while it lives.
        log: A logger, whose lines go to dirtyd's log.
    """

    log = logging.getLogger("dirty")

    def __init__(self, event: dict[str, Any]) -> None:
        worker = event["worker"]
        self.pid: int = worker["pid"]
        self.id: int = worker["id"]
        self.age = self.id
        self.index: int = worker["index"]
        self.pool: str = worker["pool"]
        self.apps: list[str] = worker["apps"]
        self.exit: Optional[dict[str, Any]] = event.get("exit")

    def __repr__(self) -> str:
        return f"<worker {self.id} of pool {self.pool}, pid {self.pid}>"


def call(request: dict[str, Any]) -> None:
    """Calls the function of one request with what its hook gets."""
    event = request["event"]
    function: Callable[..., Any] = find_function(request["function"])
    arguments: list[Any] = [Arbiter(event, request["arbiter_age"])]
    if event.get("worker"):
        arguments.append(Worker(event))
    if event["hook"] == "dirty_worker_init":
        del arguments[0]
    result = function(*arguments)
    if inspect.iscoroutine(result):
        import asyncio

        asyncio.run(result)


def answer(line: str) -> dict[str, str]:
    """What became of the request in `line`: empty, or an error."""
    request = json.loads(line)
    try:
        call(request)
        return {}
    except LoadError as error:
        return {"error": f"{error}; {surroundings()}"}
    except BaseException as error:
        print(_errors.traceback_of(error) or _errors.last_line(error), file=sys.stderr)
        return {"error": f"{request['function']} raised {_errors.last_line(error)}"}


def main() -> int:
    """Serves until dirtyd closes the socket; returns the exit code."""
    try:
        channel = socket.socket(fileno=os.dup(0))
    except OSError:
        print("dirty_worker.hooks is started by dirtyd, not by hand", file=sys.stderr)
        return 2
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(message)s")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = search_path(sys.path, os.getcwd(), own)
    with channel, channel.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            reply = answer(line)
            sys.stdout.flush()
            sys.stderr.flush()
            channel.sendall((json.dumps(reply) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Apps of every shape that is allowed, and some that are not."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from dirty import DirtyApp, DirtyError


class Base(DirtyApp):
    workers = 1

    def greet(self, name: str = "you") -> str:
        return f"hello {name}"

    def _private(self) -> None: ...

    attribute = 3


class Duck:
    """Only actions."""

    def greet(self, name: str) -> str:
        return f"quack {name}"

    def init_count(self) -> int:
        return 0


class GunicornLike:
    """What gunicorn's own base class gives to its apps."""

    def init(self) -> None: ...

    def __call__(self, action: str, *args: Any, **kwargs: Any) -> Any:
        method = getattr(self, action, None)
        if method is None or action.startswith("_"):
            raise ValueError(f"Unknown action: {action}")
        return method(*args, **kwargs)

    def close(self) -> None: ...

    def greet(self) -> str:
        return "hello from gunicorn"


class Lifecycle(DirtyApp):
    """Writes down what happens to it."""

    def init(self) -> None:
        self._note("init")

    def close(self) -> None:
        self._note("close")

    def act(self) -> str:
        self._note("act")
        return "done"

    def _note(self, what: str) -> None:
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{type(self).__name__} {what}\n")


class AsyncLifecycle(Lifecycle):
    """All of it asynchronous."""

    async def init(self) -> None:  # type: ignore[override]
        self._note("init")

    async def close(self) -> None:  # type: ignore[override]
        self._note("close")

    async def __call__(self, action: str, *args: Any, **kwargs: Any) -> Any:
        self._note(f"called {action}")
        return [action, list(args)]


class ClosesBadly(Lifecycle):
    def close(self) -> None:
        super().close()
        raise RuntimeError("cannot close")


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


class Errors(DirtyApp):
    def nasty(self) -> None:
        raise Nasty

    def chained(self) -> None:
        try:
            {}["key"]
        except KeyError as error:
            raise DirtyError("outer") from error

    def library(self) -> Any:
        import json

        return json.loads("{")

    def exits(self) -> None:
        sys.exit(3)

    def deep(self, n: int) -> Any:
        return self.deep(n + 1)

    def wrong_arguments(self, one: int) -> int:
        return one


class Talker(DirtyApp):
    def init(self) -> None:
        logging.basicConfig(level=logging.INFO)

    def talk(self) -> None:
        print("printed, not flushed: é \udc80")
        print("to stderr", file=sys.stderr)
        logging.info("logged")


class Where(DirtyApp):
    def path(self) -> list[str]:
        return sys.path

    def info(self) -> dict[str, Any]:
        import helper

        return {"executable": sys.executable, "cwd": os.getcwd(), "helper": helper.__file__, "pid": os.getpid()}


class InitFails(DirtyApp):
    def init(self) -> None:
        raise FileNotFoundError("models/base.pt is missing")


class NeedsArguments(DirtyApp):
    def __init__(self, what: str) -> None: ...


def function(action: str) -> None: ...


instance = Duck()


def worker_init(worker: Any) -> None:
    print(
        f"hook: {worker.pid == os.getpid()} {worker.id} {worker.age} {worker.index} {worker.pool} {sorted(worker.apps)}"
    )


def worker_init_fails(worker: Any) -> None:
    raise RuntimeError("the license server is down")

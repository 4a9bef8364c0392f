"""The apps of a worker: how they are found, made and closed. The extension calls this; docs/python.md explains it."""

from __future__ import annotations

import asyncio
import difflib
import functools
import importlib
import inspect
import logging
import os
import platform
import sys
import types
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Callable, Optional, Union

from dirty import tracing
from dirty.app import find_action

from . import _errors
from ._loop import EventLoop, Stream, Task

# What to call (action, then its arguments; None: skipped), and how many workers the app wants (0: it does not say). Or
# why there is nothing to call: type, message, traceback.
Loaded = Union["tuple[Optional[Callable[..., Any]], int]", "tuple[str, str, str]"]

_MOST_WORKERS = 2**32 - 1


class LoadError(Exception):
    """An app cannot be had, and nothing of the user's raised."""


class Worker:
    """What a `dirty_worker_init` hook gets.

    Attributes:
        pid: Of this process.
        id: The worker's id, as in the log and in `dirtyctl status`; never used twice.
        age: The same number, by gunicorn's name.
        index: Its place in the pool, from 0.
        pool: The pool's name.
        apps: The instances by name.
        log: A logger; what it does with lines is the app's to configure.
    """

    log = logging.getLogger("dirty")

    def __init__(self, worker_id: int, index: int, pool: str, apps: dict[str, Any]) -> None:
        self.pid = os.getpid()
        self.id = self.age = worker_id
        self.index = index
        self.pool = pool
        self.apps = apps

    def __repr__(self) -> str:
        return f"<worker {self.id} of pool {self.pool}, pid {self.pid}>"


class Apps:
    """The apps of this worker, and the event loop that they share. Main thread, but for `start` and `iterate`."""

    task_cancelled = asyncio.CancelledError
    # Around calls that have a trace, on their threads.
    begin_trace = staticmethod(tracing.begin)
    end_trace = staticmethod(tracing.end)

    def __init__(self) -> None:
        self._instances: dict[str, Any] = {}
        self._loop = EventLoop()
        self._worker: Optional[Worker] = None
        self._hook = ""

    def configure(self, worker_id: int, index: int, pool: str, init_hook: str) -> None:
        """Takes what dirtyd says of this worker. `init_hook`: `module:function`, or empty."""
        self._worker = Worker(worker_id, index, pool, self._instances)
        self._hook = init_hook

    def load(self, name: str, path: str, may_skip: bool) -> Loaded:
        """Imports, makes and initialises the app at `path` (`module:Class`); `name` is what calls use.

        Args:
            may_skip: The class attribute `workers` counts: it is skipped if this worker is not one of the first so many.
        """
        assert self._worker is not None, "configure comes first"
        try:
            app_class = find_class(path)
            workers = wanted_workers(app_class) if may_skip else 0
            if 0 < workers <= self._worker.index:
                return None, workers
            app = app_class()
            self._finish(getattr(app, "init", None))
        except LoadError as error:
            return "LoadError", f"{error}; {surroundings()}", ""
        except BaseException as error:
            kind, message, trace = _errors.describe(error)
            return kind, f"{message or 'no message'}; {surroundings()}", trace
        self._instances[name] = app
        return app if callable(app) else functools.partial(_call_action, app), workers

    def finish_loading(self) -> None:
        """Runs the hook `dirty_worker_init`. What it raises is raised as RuntimeError: this start has failed."""
        if not self._hook:
            return
        try:
            self._finish(functools.partial(find_function(self._hook), self._worker))
        except LoadError as error:
            raise RuntimeError(f"dirty_worker_init: {error}; {surroundings()}") from None
        except BaseException as error:
            print(_errors.traceback_of(error), file=sys.stderr)
            raise RuntimeError(f"dirty_worker_init: {self._hook} raised {_errors.last_line(error)}") from None

    def describe(self, error: BaseException) -> tuple[str, str, str]:
        """Type, message and traceback of what an app raised."""
        return _errors.describe(error)

    def start(self, awaitable: Awaitable[Any]) -> Task:
        """Runs it on the event loop. Executor threads."""
        return self._loop.start(awaitable)

    def iterate(self, values: AsyncIterator[Any]) -> Stream:
        """Runs it on the event loop, as an iterator. Executor threads."""
        return self._loop.iterate(values)

    def close_all(self) -> None:
        """Closes every app once, the last loaded first; what that raises is told on standard error."""
        for name, app in reversed(list(self._instances.items())):
            try:
                self._finish(getattr(app, "close", None))
            except BaseException as error:
                trace = _errors.traceback_of(error)
                print(f"dirty_worker: close() of {name} raised {_errors.last_line(error)}\n{trace}", file=sys.stderr)
        self._instances.clear()
        self._loop.stop()

    def _finish(self, function: Optional[Callable[[], Any]]) -> None:
        """Calls it, if there is one, and awaits what it returns."""
        result = function() if callable(function) else None
        if inspect.isawaitable(result):
            self._loop.start(result).result()


def _call_action(app: object, action: str, *args: Any, **kwargs: Any) -> Any:
    return find_action(app, action)(*args, **kwargs)


def find_class(path: str) -> type[Any]:
    """The class at `module:Class`.

    Raises:
        LoadError: There is none, or it is no class.
        Exception: What the module raised.
    """
    module, name, found = _find(path, "Class")
    if inspect.isclass(found):
        return found
    if found is not None:
        what = "a function" if inspect.isroutine(found) else f"an instance of {type(found).__name__}"
        raise LoadError(
            f"{path} is {what}, and an app is a class: one instance in each worker, with a method for each action"
        )
    classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
    raise LoadError(f"module {module.__name__} ({_file(module)}) has no class {name!r}{_nearest(name, classes)}")


def wanted_workers(app_class: type[Any]) -> int:
    """How many workers the class asks for by its attribute `workers`; 0: it does not say.

    Raises:
        LoadError: It is no such number.
    """
    workers: object = getattr(app_class, "workers", None)
    if workers is None or callable(workers) or hasattr(workers, "__get__"):  # an action or a property of that name
        return 0
    if isinstance(workers, bool) or not isinstance(workers, int) or not 0 < workers <= _MOST_WORKERS:
        raise LoadError(
            f"the class attribute workers of {app_class.__qualname__} is {workers!r}, and should be a whole number of at"
            " least 1, or None"
        )
    return workers


def find_function(path: str) -> Callable[..., Any]:
    """What can be called at `module:function`.

    Raises:
        LoadError: There is nothing that can be called.
        Exception: What the module raised.
    """
    module, name, found = _find(path, "function")
    if callable(found):
        return found  # type: ignore[no-any-return]
    functions = [key for key, value in vars(module).items() if callable(value)]
    raise LoadError(f"module {module.__name__} ({_file(module)}) has no function {name!r}{_nearest(name, functions)}")


def _find(path: str, kind: str) -> tuple[Any, str, Any]:
    """Module, name in it, and what is there (None: nothing) of `module:name`."""
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise LoadError(f"{path!r} is not of the form module:{kind}")
    try:
        module = _from_file(module_name) if module_name.endswith(".py") else importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Of a module that the user's module imports, it is the user's module that raised.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise LoadError(
            f"ModuleNotFoundError: {error}: check its name in {path!r}, or add the folder that holds it to pythonpath"
        ) from None
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return module, name, found


_files: dict[str, types.ModuleType] = {}


def _from_file(path: str) -> types.ModuleType:
    """A gunicorn.conf.py, run once in this process, as gunicorn runs it."""
    if path not in _files:
        _files[path] = module = types.ModuleType("__config__")
        module.__file__ = path
        with open(path, "rb") as file:
            exec(compile(file.read(), path, "exec"), module.__dict__)
    return _files[path]


def _file(module: Any) -> str:
    return getattr(module, "__file__", None) or "built in"


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def surroundings() -> str:
    """Which interpreter this is, and where it looks for modules."""
    path = ", ".join(folder for folder in sys.path if not folder.endswith(".zip"))
    return f"interpreter {sys.executable} ({platform.python_version()}), search path: {path}"

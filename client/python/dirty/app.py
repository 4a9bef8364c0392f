"""The base class of apps."""

from __future__ import annotations

from typing import Any, ClassVar, Optional

# What dirtyd itself calls: no actions.
_LIFECYCLE = frozenset({"init", "close"})


class DirtyApp:
    """An app: one instance in each worker that loads it, which keeps what it loads in memory.

    A class needs not derive from it; it is enough to have the methods that it wants to have.

        class Greeter(DirtyApp):
            def init(self):
                self.greeting = "hello"

            def greet(self, name):
                return f"{self.greeting} {name}"

    `__init__` takes no arguments and need not call `super().__init__()`. With `threads` above 1 actions run at the same
    time. An action may be `async def`, or a generator, whose values are streamed.
    """

    #: In how many workers of its pool this app is loaded: the first so many. None: in all. What the configuration says
    #: of this app wins.
    workers: ClassVar[Optional[int]] = None

    def init(self) -> None:
        """Loads what the app needs. Called once, before any action; what it raises fails this app's start."""

    def __call__(self, action: str, /, *args: Any, **kwargs: Any) -> Any:
        """Runs the method named `action`; raises ValueError if that is no action."""
        return find_action(self, action)(*args, **kwargs)

    def close(self) -> None:
        """Lets go of everything. Called once, after the last action, unless the worker is killed."""


def find_action(app: object, action: str) -> Any:
    """The method of `app` that `action` names: neither private nor a lifecycle method.

    Raises:
        ValueError: There is none. The message names what there is.
    """
    method = None if action.startswith("_") or action in _LIFECYCLE else getattr(app, action, None)
    if not callable(method):
        raise ValueError(f"Unknown action: {action!r} (there are: {', '.join(actions_of(app)) or 'none'})")
    return method


def actions_of(app: object) -> list[str]:
    """The names of the actions of `app`, sorted."""
    names = (name for name in dir(type(app)) if not name.startswith("_") and name not in _LIFECYCLE)
    return sorted(name for name in names if callable(getattr(type(app), name, None)))

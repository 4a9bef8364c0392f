"""What is told of an exception."""

from __future__ import annotations

import importlib
import os
import traceback
from types import TracebackType
from typing import Optional

import dirty

# Where frames are that are not the user's.
_OURS = tuple(os.path.dirname(os.path.abspath(module)) + os.sep for module in (__file__, dirty.__file__))

# Deeper stacks are cut, and longer texts lose their beginning.
_FRAMES = 100
_LENGTH = 64 * 1024


def describe(error: BaseException) -> tuple[str, str, str]:
    """Type, message and traceback of an exception, whatever its own methods do.

    The traceback has the user's frames only; if there are none it is empty, or a syntax error's place.
    """
    return type_name(error), message_of(error), traceback_of(error)


def type_name(error: BaseException) -> str:
    """As a traceback's last line has it: `ValueError`, `myapp.ml.ModelError`."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"


def message_of(error: BaseException) -> str:
    """What str() gives, if it gives something."""
    try:
        return str(error)
    except BaseException as failure:
        return f"<str() of this {type(error).__name__} raised {type(failure).__name__}>"


def last_line(error: BaseException) -> str:
    """`ValueError: no such model`."""
    message = message_of(error)
    return f"{type_name(error)}: {message}" if message else type_name(error)


def traceback_of(error: BaseException) -> str:
    """The formatted traceback with its causes, without our own frames and those of the import system."""
    try:
        told = traceback.TracebackException(type(error), error, _user_part(error.__traceback__), limit=-_FRAMES)
        if _keep_user_frames(told, set()):
            return "".join(told.format())[-_LENGTH:]
        # The import system raises a syntax error, whose place is in its text.
        return "".join(told.format_exception_only())[-_LENGTH:] if isinstance(error, SyntaxError) else ""
    except BaseException:
        return ""


def _user_part(frames: Optional[TracebackType]) -> Optional[TracebackType]:
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS) or filename.startswith("<frozen importlib") or filename == importlib.__file__


def _keep_user_frames(told: traceback.TracebackException, seen: set[int]) -> bool:
    """Filters a traceback and all that hang on it; whether anything is left."""
    if id(told) in seen:
        return False
    seen.add(id(told))
    told.stack[:] = [frame for frame in told.stack if not _is_ours(frame.filename)]
    others = [told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or [])]
    left = [_keep_user_frames(other, seen) for other in others if other is not None]
    return bool(told.stack) or any(left)

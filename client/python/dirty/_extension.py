"""Finds the compiled extension, or says how to get one."""

from __future__ import annotations

import platform
import sys
from types import ModuleType


def load() -> ModuleType:
    """The module `_dirty`.

    Raises:
        ImportError: None was built for this interpreter. The message says how to build it.
    """
    try:
        import _dirty
    except ModuleNotFoundError as error:
        if error.name != "_dirty":
            raise
        raise ImportError(
            f"no extension was built for {platform.python_implementation()} {platform.python_version()}"
            f" ({sys.executable}). Where dirtyd was built, with that interpreter's headers installed, run: cmake"
            f" --preset release -DDIRTY_PYTHONS='{sys.executable}' && cmake --build --preset release --target"
            " dirty_python"
        ) from None
    return _dirty

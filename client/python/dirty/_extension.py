"""Finds the compiled extension, or says how to get one."""

from __future__ import annotations

import os
import platform
import sys
from types import ModuleType


def load() -> ModuleType:
    """The module `_dirty`.

    Raises:
        ImportError: None was built for this interpreter, or the one that is found first belongs to another version of
            the packages. The message says what to do.
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
    version = sys.modules["dirty"].__version__
    if _dirty.__version__ != version:
        raise ImportError(
            f"the extension in {_dirty.__file__} is of version {_dirty.__version__}, but the package dirty in"
            f" {os.path.dirname(__file__)} of {version}: install one version of both, or take one of the folders off"
            " the search path"
        )
    return _dirty

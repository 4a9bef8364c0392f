"""From the command line to the extension."""

from __future__ import annotations

import io
import os
import sys

import dirty
from dirty import _extension, errors

from . import __version__
from ._apps import Apps


def run(own_folder: str) -> int:
    """Serves dirtyd until it ends this worker; returns the exit code.

    Args:
        own_folder: Where dirtyd keeps this package. First on the search path when called, last from here on.
    """
    try:
        extension = _extension.load()
        check_versions()
    except ImportError as error:
        print(f"dirty_worker: {error}", file=sys.stderr)
        return 1
    sys.path[:] = search_path(sys.path, os.getcwd(), own_folder)
    for stream in (sys.stdout, sys.stderr):
        # A line is whole when dirtyd reads it, and no character is a reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        code: int = extension.run_worker(Apps(), errors.DirtyCancelledError)
    except RuntimeError as error:
        print(f"dirty_worker is started by dirtyd (try: dirtyd myapp.ml:MLApp), not by hand: {error}", file=sys.stderr)
        return 2
    return code


def check_versions() -> None:
    """Raises ImportError where this package and `dirty` come from different places and versions."""
    if dirty.__version__ != __version__:
        raise ImportError(
            f"the package dirty in {os.path.dirname(dirty.__file__)} is of version {dirty.__version__}, but the package"
            f" dirty_worker in {os.path.dirname(__file__)} of {__version__}: install one version of both"
        )


def search_path(path: list[str], working_directory: str, own_folder: str) -> list[str]:
    """The working directory first, dirtyd's own folder last, the rest in between as it was."""
    ours = {"", working_directory, own_folder}
    return [working_directory, *(folder for folder in path if folder not in ours), own_folder]

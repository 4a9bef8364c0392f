"""Runs Python apps for dirtyd, which starts it as `python -m dirty_worker`."""

__version__ = "0.1.0"

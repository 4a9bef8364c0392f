"""Runs Python apps for dirtyd, which starts it as `python -m dirty_worker`."""

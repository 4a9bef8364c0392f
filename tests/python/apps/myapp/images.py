"""The original text's ImageApp."""

from original import ImageApp

__all__ = ["ImageApp"]

"""An app that returns what a test asks for."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import uuid
from typing import Any, ClassVar, NamedTuple


class Color(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Plain(enum.Enum):
    ONE = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Item:
    kind: ClassVar[str] = "item"
    name: str
    data: bytes = b""
    parts: list[Item] = dataclasses.field(default_factory=list)


class BadItem(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError("no items today")


class Values:
    """No DirtyApp: the methods are enough."""

    def make(self, expression: str) -> Any:
        return eval(expression)

    def received(self, *args: Any, **kwargs: Any) -> str:
        return repr((args, dict(sorted(kwargs.items()))))

    def digits(self, value: int) -> int:
        return value.bit_length()

    def cycle(self) -> Any:
        value: list[Any] = []
        value.append({"self": value})
        return value


__all__ = ["array", "collections", "datetime", "decimal", "math", "pathlib", "uuid"]

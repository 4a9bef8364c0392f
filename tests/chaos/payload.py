"""Checksummed payloads: what clients send, what apps make of it. payload.h is the same in C++."""

from __future__ import annotations

import random
import zlib

LETTERS = ["a", "Z", " ", '"', "\\", "\n", "\t", "\u00e9", "\u6f22", "\U0001f600", "\x01"]


def checksum(text: str, blob: bytes) -> int:
    """Of both together."""
    return zlib.crc32(blob, zlib.crc32(text.encode()))


def make(source: random.Random) -> tuple[str, bytes]:
    """A text and bytes, up to 1 MiB of them; small ones are as likely as large ones."""
    text = "".join(source.choices(LETTERS, k=source.randrange(200)))
    return text, source.randbytes(int(2 ** source.uniform(0, 20)) - 1)


def transformed(text: str, blob: bytes) -> tuple[str, bytes]:
    """What an app answers."""
    return f"\u00ab{text}\u00bb", blob[::-1]


def part(blob: bytes, index: int, count: int) -> bytes:
    """Part `index` of `count` of a payload that is streamed."""
    return blob[len(blob) * index // count : len(blob) * (index + 1) // count]


def answers(answer: object, who: str, text: str, blob: bytes) -> bool:
    """Whether `answer` is what an app makes of this payload for this caller."""
    text, blob = transformed(text, blob)
    return answer == {"who": who, "text": text, "blob": blob, "checksum": checksum(text, blob)}


def is_part(value: object, who: str, text: str, blob: bytes, index: int, count: int) -> bool:
    """Whether `value` is that part of this payload for this caller."""
    piece = part(blob, min(index, count - 1), count)
    return value == {"who": who, "index": index, "part": piece, "checksum": checksum(text, piece)}

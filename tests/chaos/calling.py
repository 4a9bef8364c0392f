"""What the client processes in Python have in common: their flags, what they call, how an outcome is named."""

from __future__ import annotations

import argparse
import dataclasses
import random
import signal
import threading
from typing import Any, Optional

import payload
from ledger import Writer

# What an app does badly on request, and how often for each time of `crash`.
MISCHIEF = {"crash": 1, "hang": 1, "leak": 2, "spawn": 1, "shout": 2}


@dataclasses.dataclass
class Flags:
    """As load.py gives them."""

    socket: str
    ledger: str
    name: str
    seed: int
    per_second: float
    at_once: int
    timeout: float
    bound: float
    apps: list[str]


def flags(kind: str) -> tuple[Flags, Writer, threading.Event]:
    """The process's flags, its ledger, and what SIGTERM sets."""
    parser = argparse.ArgumentParser()
    for name, convert in [("socket", str), ("ledger", str), ("name", str), ("seed", int), ("per_second", float),
                          ("at_once", int), ("timeout", float), ("bound", float)]:  # fmt: skip
        parser.add_argument(name, type=convert)
    parser.add_argument("apps", nargs="+")
    given = Flags(**vars(parser.parse_args()))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return given, Writer(given.ledger, kind, given.name), stop


@dataclasses.dataclass
class Planned:
    """A call to make."""

    app: str
    action: str
    text: str = ""
    blob: bytes = b""
    parts: int = 0
    seconds: float = 0.0

    def arguments(self, who: str) -> tuple[list[Any], dict[str, Any]]:
        """Positional and named ones."""
        if self.action == "leak":
            return [who, 4 << 20], {}
        if self.action == "shout":
            return [who, 2000], {}
        if self.action in MISCHIEF:
            return [who], {}
        checked = [who, self.text, self.blob, payload.checksum(self.text, self.blob)]
        return ([*checked, self.parts], {}) if self.action == "parts" else (checked, {"seconds": self.seconds})

    def verdict(self, who: str, result: Any) -> str:
        """Of the result of a call that is no stream."""
        if self.action in MISCHIEF:
            return "right" if result is None else "wrong"
        return "right" if payload.answers(result, who, self.text, self.blob) else "wrong"


def plan(source: random.Random, apps: list[str], streams: float) -> Planned:
    """The next call; `streams` is the share of those that stream."""
    text, blob = payload.make(source)
    if source.random() < streams:
        return Planned(source.choice(apps), "parts", text, blob, parts=source.randint(1, 40))
    return Planned(source.choice(apps), "work", text, blob, seconds=source.random() * 0.02)


def mischief(source: random.Random, apps: list[str]) -> Planned:
    """The next call of a client that wants harm."""
    action = source.choices(list(MISCHIEF), list(MISCHIEF.values()))[0]
    return Planned(source.choice(apps), action)


def outcome(reason: Optional[str], call_id: Optional[str]) -> str:
    """A failure as counters have it, such as `app_error`.

    What the client decided by itself has a name of its own: the arbiter may have counted something else.
    """
    if reason is None or reason == "UNKNOWN":
        return "unreadable"  # an answer came, and was none
    own = reason in ("TIMEOUT", "CANCELLED") and not call_id
    return f"local_{reason.lower()}" if own else reason.lower()


def verdict_of_failure(reason: Optional[str], exception_type: Optional[str]) -> str:
    """Whether a client found that it had got something wrong, or an app."""
    found = reason in (None, "UNKNOWN") or exception_type in ("WrongPayload", "mixed_app.WrongPayload")
    return "wrong" if found else "-"

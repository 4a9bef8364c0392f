"""The ledger of one client: what it sent, and what became of it. A file of lines, each written by one write().

    C KIND PID TIME                               the client began
    S NUMBER TIME APP ACTION BOUND                a call is about to be sent; it must end within BOUND seconds
    E NUMBER TIME OUTCOME VERDICT CALL_ID         its outcome: `ok`, or the reason in small letters
    F TIME                                        the client ended: nothing is open

Times are CLOCK_MONOTONIC's seconds, one clock for all processes. VERDICT is `right` or `wrong` where there was something
to verify, else `-`. CALL_ID is the arbiter's, `-` if the client was not told.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import sys
import time
from typing import NamedTuple, Optional

# Outcomes that clients decide by themselves: the arbiter may have counted the call otherwise, or not at all.
LOCAL = frozenset({"outcome_unknown", "local_timeout", "local_cancelled", "left", "unreadable"})
# Not even sent.
UNSENT = "connection"


class Writer:
    """Writes one. Thread-safe."""

    def __init__(self, path: str, kind: str, name: str) -> None:
        self.name = name
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._numbers = itertools.count(1)
        self._write(f"C {kind} {os.getpid()} {time.monotonic():.6f}")

    def sent(self, app: str, action: str, bound: float) -> int:
        """A call is about to be sent; its number."""
        number = next(self._numbers)
        self._write(f"S {number} {time.monotonic():.6f} {app} {action} {bound:g}")
        return number

    def ended(self, number: int, outcome: str, verdict: str = "-", call_id: Optional[str] = None) -> None:
        """It has an outcome."""
        self._write(f"E {number} {time.monotonic():.6f} {outcome} {verdict} {call_id or '-'}")

    def closed(self) -> None:
        """No call is open, and none will be made."""
        self._write(f"F {time.monotonic():.6f}")

    def who(self, number: int) -> str:
        """What names a call among those of all clients."""
        return f"{self.name}-{number}"

    def _write(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())


class End(NamedTuple):
    """An outcome of a call."""

    time: float
    outcome: str
    verdict: str
    call_id: str


class Call(NamedTuple):
    """A call as its client saw it. A soak has millions of them."""

    who: str
    sent: float
    app: str
    action: str
    bound: float
    ends: list[End]


@dataclasses.dataclass
class Account:
    """A ledger that was read."""

    name: str
    kind: str = ""
    pid: int = 0
    calls: dict[int, Call] = dataclasses.field(default_factory=dict)
    strays: int = 0  # outcomes of calls that were never sent
    closed: bool = False


def read(path: pathlib.Path) -> Account:
    """The ledger in a file. The last line of a client that was killed may be half of one: it is left out."""
    account = Account(path.stem)
    for line in path.read_text().split("\n")[:-1]:
        what, *words = line.split(" ")
        if what == "C":
            account.kind, account.pid = words[0], int(words[1])
        elif what == "S":
            number, sent, app, action, bound = words
            who, app, action = f"{account.name}-{number}", sys.intern(app), sys.intern(action)
            account.calls[int(number)] = Call(who, float(sent), app, action, float(bound), [])
        elif what == "E":
            number, ended, outcome, verdict, call_id = words
            if int(number) in account.calls:
                end = End(float(ended), sys.intern(outcome), sys.intern(verdict), call_id)
                account.calls[int(number)].ends.append(end)
            else:
                account.strays += 1
        elif what == "F":
            account.closed = True
        else:
            raise ValueError(f"{path}: {line!r} is no record")
    return account

"""What processes hold, by /proc: memory, descriptors, threads, children; and what an arbiter leaves behind."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import pathlib
import re

PROC = pathlib.Path("/proc")


@dataclasses.dataclass(frozen=True)
class Gauges:
    """Of one process, now. All 0: it is gone."""

    rss: int = 0
    pss: int = 0  # 0: it cannot be read here
    descriptors: int = 0
    threads: int = 0


def of(pid: int) -> Gauges:
    """Those of a process; sizes in bytes."""
    try:
        status = (PROC / str(pid) / "status").read_text()
        descriptors = len(os.listdir(PROC / str(pid) / "fd"))
    except OSError:
        return Gauges()
    pss = ""
    with contextlib.suppress(OSError):
        pss = (PROC / str(pid) / "smaps_rollup").read_text()
    return Gauges(_kilobytes(status, "VmRSS"), _kilobytes(pss, "Pss"), descriptors, _number(status, "Threads"))


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; 0: it is gone."""
    try:
        words = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def descriptors_of(pid: int) -> dict[str, int]:
    """How many descriptors a process has of each kind: `socket`, `pipe`, or the file's path."""
    kinds: collections.Counter[str] = collections.Counter()
    folder = PROC / str(pid) / "fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                kinds[os.readlink(folder / name).partition(":[")[0]] += 1
    return dict(sorted(kinds.items()))


def _number(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+)", text, re.M)
    return int(found[1]) if found else 0


def _kilobytes(text: str, name: str) -> int:
    return _number(text, name) << 10


def processes_of(folder: pathlib.Path) -> dict[int, str]:
    """Every process whose working directory is `folder`: an arbiter that was started there, and all that came of it.

    A grandchild that was left behind is found, too, whoever its parent is now.
    """
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "cwd") == str(folder):
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
    return found


def by_name(processes: dict[int, str]) -> dict[str, int]:
    """How many of each name."""
    return dict(sorted(collections.Counter(processes.values()).items()))


def files_of(folder: pathlib.Path) -> list[str]:
    """What is in a runtime directory, and how many workers' sockets."""
    if not folder.exists():
        return []
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()]
    return sorted(re.sub(r"worker-\d+", "worker-N", name) for name in names)

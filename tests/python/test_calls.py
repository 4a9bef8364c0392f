"""Calls of Python apps: concurrency, cancellation, streams, and what is left behind."""

from __future__ import annotations

import random
import subprocess
import time

import pytest
from conftest import CallError, Dirtyd, pb, values_of

APP = "calls:Calls"
CONFIG = {"apps": [APP], "workers": 1, "threads": 4, "kill_after": "60s", "timeout": "120s"}


def test_slots_run_at_the_same_time(shared: Dirtyd) -> None:
    start = time.monotonic()
    calls = [shared.begin(APP, "sleep", 0.5) for _ in range(8)]
    assert [shared.end(call).result for call in calls] == ['"slept"'] * 8
    assert 1.0 <= time.monotonic() - start < 2.0


def test_the_only_slot_is_one_thread(dirtyd: Dirtyd) -> None:
    """Short calls and long ones: what an app keeps of its thread is there at the next call."""
    dirtyd.ready({"apps": [APP]})
    threads = {dirtyd.call(APP, "thread_after", pause) for pause in (0, 0, 0.02, 0, 0.02, 0.02, 0, 0)}
    assert len(threads) == 1


def test_coroutines_run_at_the_same_time_on_one_loop(shared: Dirtyd) -> None:
    start = time.monotonic()
    calls = [shared.begin(APP, "wait", 0.5) for _ in range(8)]
    assert [shared.end(call).result for call in calls] == ['"waited"'] * 8
    assert 1.0 <= time.monotonic() - start < 2.0
    assert len({shared.call(APP, "same_loop") for _ in range(8)}) == 1


@pytest.mark.parametrize("size", [0, 1, 1_000_000, 20_000_000])
def test_bytes_come_back_identical(shared: Dirtyd, size: int) -> None:
    data = random.Random(size).randbytes(size)
    value = shared.call(APP, "same", {"deep": [{"er": {"$attachment": 0}}], "empty": {"$attachment": 1}},
                        attachments=(data, b""))  # fmt: skip
    assert value == {"deep": [{"er": data}], "empty": b""}


@pytest.mark.parametrize(
    ("action", "says", "seen"), [("spin", "spinning", "DirtyCancelledError"), ("wait", "waiting", "CancelledError")]
)
def test_a_cancelled_call_is_interrupted_where_it_runs(shared: Dirtyd, action: str, says: str, seen: str) -> None:
    shared.call(APP, "what_was_seen")
    before = shared.log().count(says)
    call = shared.begin(APP, action, 1000)
    shared.wait_for_line(says, before + 1)
    call.cancel()
    shared.wait_for_status(lambda status: not status["workers"][0]["running"])
    assert shared.call(APP, "what_was_seen") == [seen]


def test_a_call_that_is_too_late_is_interrupted(shared: Dirtyd) -> None:
    shared.call(APP, "what_was_seen")
    assert shared.fails(APP, "spin", 100, timeout=1).reason == pb().REASON_TIMEOUT
    shared.wait_for_status(lambda status: not status["workers"][0]["running"])
    assert shared.call(APP, "what_was_seen") == ["DirtyCancelledError"]


def test_a_cancellation_never_hits_the_next_call(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"apps": [APP], "timeout": "120s"})
    chance = random.Random(4)
    for round_ in range(300):
        # It ends by itself at about the time that the cancellation comes.
        call = dirtyd.begin(APP, "spin", 0.004, False)
        following = [dirtyd.begin(APP, "echo", round_) for _ in range(2)]
        time.sleep(chance.uniform(0, 0.008))
        call.cancel()
        assert [dirtyd.end(other).result for other in following] == [f"[[{round_}],{{}}]"] * 2
    assert set(dirtyd.call(APP, "what_was_seen")) <= {"DirtyCancelledError"}
    assert len(dirtyd.status()["exits"]) == 0


def test_what_could_not_be_interrupted_in_time_leaves_nothing_to_the_next_call(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"apps": [APP, "calls:Derive"], "timeout": "120s"})
    for round_ in range(3):
        call = dirtyd.begin("calls:Derive", "sha256", {"$attachment": 0}, {"$attachment": 0}, 2_000_000,
                            attachments=(b"salt",))  # fmt: skip
        dirtyd.wait_for_status(lambda status: status["workers"][0]["running"])
        call.cancel()
        assert dirtyd.call(APP, "echo", round_) == [[round_], {}]
        assert dirtyd.fails(APP, "fail", "x").exception_type == "ValueError"


def test_what_cannot_be_interrupted_is_killed_with_its_stack_in_the_log(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"apps": [APP], "timeout": "1s", "kill_after": "500ms"})
    assert dirtyd.fails(APP, "hold_gil", 60).reason == pb().REASON_TIMEOUT
    dirtyd.wait_for_line(r"killed by SIGKILL .*reason=timeout")
    assert 'calls.py", line' in dirtyd.wait_for_line(r"in hold_gil\b")
    assert dirtyd.call(APP, "echo", 1) == [[1], {}]


def test_one_that_ignores_its_cancellation_is_killed(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"apps": [APP], "timeout": "500ms", "kill_after": "500ms"})
    assert dirtyd.fails(APP, "stubborn", 60).reason == pb().REASON_TIMEOUT
    dirtyd.wait_for_line("not me")
    dirtyd.wait_for_line(r"killed by SIGKILL .*reason=timeout")
    assert dirtyd.call(APP, "echo", 1) == [[1], {}]


def test_a_held_gil_holds_nothing_else_up(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"apps": [APP], "workers": 2, "heartbeat_interval": "100ms", "heartbeat_timeout": "2s"})
    holding = dirtyd.begin(APP, "hold_gil", 5)
    dirtyd.wait_for_line("holding")
    running = dirtyd.wait_for_status(
        lambda status: [
            call for worker in status["workers"] for call in worker["running"] if call["action"] == "hold_gil"
        ]
    )
    assert running[0]["elapsed"] not in ("", "0s")
    for _ in range(20):
        start = time.monotonic()
        assert dirtyd.call(APP, "echo", 1) == [[1], {}]
        assert time.monotonic() - start < 1
    assert not holding.done(), "nothing was held meanwhile"
    # Nobody missed a ping, of which there were dozens, and more than the timeout's worth.
    assert dirtyd.end(holding).result == '"held"'
    assert dirtyd.status()["exits"] == []


def test_generators_are_streams(shared: Dirtyd) -> None:
    assert list(values_of(shared.stream(APP, "count", 1000))) == list(range(1000))
    assert list(values_of(shared.stream(APP, "count_async", 1000))) == list(range(1000))
    assert list(values_of(shared.stream(APP, "blobs", 3, 100_000))) == [
        {"i": i, "data": bytes([i]) * 100_000} for i in range(3)
    ]
    assert list(values_of(shared.stream(APP, "echo", 1))) == [[[1], {}]]


@pytest.mark.parametrize("action", ["count", "count_async"])
def test_a_stream_needs_a_reader(shared: Dirtyd, action: str) -> None:
    error = shared.fails(APP, action, 3)
    assert error.reason == pb().REASON_APP_ERROR
    assert "the action returned a stream" in error.message and "client.stream" in error.message


def test_a_generator_that_raises_ends_its_stream(shared: Dirtyd) -> None:
    values = values_of(shared.stream(APP, "count_and_raise", 2))
    assert [next(values), next(values)] == [0, 1]
    with pytest.raises(CallError) as failure:
        next(values)
    assert failure.value.error.exception_type == "ValueError"
    assert "counted enough" in failure.value.error.message


@pytest.mark.parametrize("action", ["count", "count_async"])
def test_a_reader_that_leaves_ends_the_generator(shared: Dirtyd, action: str) -> None:
    before = shared.log().count(f"{action} ended")
    stream = shared.stream(APP, action, 10**9)
    next(values_of(stream))
    stream.cancel()
    shared.wait_for_line(f"{action} ended", before + 1)
    shared.wait_for_status(lambda status: not status["workers"][0]["running"])


def test_a_waiting_generator_is_cancelled(shared: Dirtyd) -> None:
    stream = shared.stream(APP, "count_then_wait", 2)
    values = values_of(stream)
    assert [next(values), next(values)] == [0, 1]
    shared.wait_for_line("counted, waiting")
    stream.cancel()
    shared.wait_for_status(lambda status: not status["workers"][0]["running"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_an_app_end_without_the_worker(shared: Dirtyd, method: str) -> None:
    pid = shared.worker_pid()
    assert shared.call(APP, "fork", method) == [0, -15]
    assert shared.call(APP, "echo", 1) == [[1], {}]
    assert shared.worker_pid() == pid


def test_process_title_and_terminal_signals(shared: Dirtyd) -> None:
    pid = shared.worker_pid()
    title = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], check=True, capture_output=True, text=True).stdout
    assert title.strip() == f"dirty-worker 1 default [{APP}]"
    subprocess.run(["kill", "-INT", str(pid)], check=True)
    assert shared.call(APP, "echo", 1) == [[1], {}]
    assert shared.worker_pid() == pid

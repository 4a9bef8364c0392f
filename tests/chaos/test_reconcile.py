"""Reconciliation finds what it is there to find."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

import ledger
import pytest
from reconcile import Report, reconcile


@dataclasses.dataclass
class World:
    """Two clients that made three calls each, all as it should be; tests then break something."""

    folder: pathlib.Path
    killed: frozenset[str] = frozenset()
    pauses: Iterable[tuple[str, float, float]] = ()
    corrupted: int = 0

    def __post_init__(self) -> None:
        self.lines = {
            "one": ["C threads 1 1.0", "S 1 1.0 python work 5", "E 1 2.0 ok right a-1", "S 2 2.0 native parts 5",
                    "E 2 2.5 queue_full - -", "S 3 3.0 python work 5", "E 3 3.5 worker_lost - a-3", "F 9.0"],
            "two": ["C cpp 2 1.0", "S 1 1.0 native work 5", "S 2 1.1 faulty work 5", "E 2 1.2 ok right a-5",
                    "E 1 2.0 ok right a-4", "S 3 3.0 native crash 5", "E 3 4.0 left - -", "F 9.0"],
        }  # fmt: skip
        self.executed = ["one-1", "one-3", "two-1", "two-2", "two-3"]
        self.counters = {
            "python": {"received": 2, "ok": 1, "worker_lost": 1, "queue_full": 0},
            "native": {"received": 3, "ok": 1, "worker_lost": 1, "queue_full": 1},
            "faulty": {"received": 1, "ok": 1, "worker_lost": 0, "queue_full": 0},
        }

    def change(self, client: str, line: str, *instead: str) -> None:
        """Puts lines in the place of one."""
        at = self.lines[client].index(line)
        self.lines[client][at : at + 1] = instead

    def report(self) -> Report:
        """Of the ledgers as they would be read."""
        accounts = []
        for client, lines in self.lines.items():
            path = self.folder / client
            path.write_text("".join(f"{line}\n" for line in lines))
            accounts.append(ledger.read(path))
        return reconcile(
            accounts, self.killed, self.pauses, self.executed, harmful=frozenset({"crash"}),
            faulty_apps=frozenset({"faulty"}), corrupted=self.corrupted, counters=self.counters
        )  # fmt: skip


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path)


def check(report: Report, problem: str, **figures: Any) -> None:
    """The report has this problem and these figures."""
    assert any(problem in each for each in report.problems), report.problems
    assert {name: getattr(report, name) for name in figures} == figures


def test_nothing_is_wrong_where_all_agrees(world: World) -> None:
    report = world.report()
    assert report.problems == []
    assert report.calls == sum(report.outcomes.values()) == 6
    assert report.outcomes == {"ok": 3, "queue_full": 1, "worker_lost": 1, "left": 1}


def test_finds_a_lost_call(world: World) -> None:
    world.change("one", "E 1 2.0 ok right a-1")
    check(world.report(), "lost: one-1 python work", lost=1, caller_gone=0)


def test_an_open_call_of_a_killed_client_is_not_lost(world: World) -> None:
    world.change("one", "E 1 2.0 ok right a-1")
    world.change("one", "F 9.0")
    world.killed = frozenset({"one"})
    report = world.report()
    assert report.problems == []
    assert (report.lost, report.caller_gone) == (0, 1)


def test_finds_a_client_that_did_not_end_in_order(world: World) -> None:
    world.change("two", "F 9.0")
    check(world.report(), "two did not end in order")


def test_finds_a_second_outcome(world: World) -> None:
    world.change("two", "E 1 2.0 ok right a-4", "E 1 2.0 ok right a-4", "E 1 2.1 worker_lost - a-4")
    check(world.report(), "two outcomes: two-1", doubled=1)


def test_finds_an_outcome_of_a_call_that_was_not_made(world: World) -> None:
    world.change("one", "F 9.0", "E 77 8.0 again - -", "F 9.0")
    check(world.report(), "1 outcomes of calls that it did not make", doubled=1)


def test_finds_two_calls_with_one_id(world: World) -> None:
    world.change("two", "E 1 2.0 ok right a-4", "E 1 2.0 ok right a-1")
    check(world.report(), "two calls with one id: a-1", doubled=1)


def test_finds_a_wrong_answer(world: World) -> None:
    world.change("one", "E 1 2.0 ok right a-1", "E 1 2.0 ok wrong a-1")
    check(world.report(), "wrong: one-1", wrong=1)


def test_excuses_no_more_wrong_answers_of_the_faulty_worker_than_it_corrupted(world: World) -> None:
    world.change("two", "E 2 1.2 ok right a-5", "E 2 1.2 ok wrong a-5")
    check(world.report(), "corrupted 0 frames only", wrong=1, mangled=1)
    world.corrupted = 1
    assert world.report().problems == []


def test_finds_a_late_outcome_but_not_of_a_client_that_stood_still(world: World) -> None:
    world.change("one", "E 1 2.0 ok right a-1", "E 1 8.0 ok right a-1")
    check(world.report(), "late: one-1", late=1)
    world.pauses = [("two", 1.5, 7.9)]
    check(world.report(), "late: one-1", late=1)
    world.pauses = [("one", 1.5, 4.5)]
    assert world.report().problems == []


def test_finds_an_outcome_that_no_fault_explains(world: World) -> None:
    world.change("one", "E 1 2.0 ok right a-1", "E 1 2.0 invalid_request - a-1")
    check(world.report(), "unexpected outcome: one-1")


def test_finds_a_call_that_ran_twice(world: World) -> None:
    world.executed.append("one-3")
    check(world.report(), "executed twice: one-3", executed_wrongly=1)


def test_finds_a_call_that_ran_although_its_caller_was_told_that_it_never_started(world: World) -> None:
    world.executed.append("one-2")
    check(world.report(), "but ran: one-2", executed_wrongly=1)


def test_finds_a_success_that_never_ran(world: World) -> None:
    world.executed.remove("one-1")
    check(world.report(), "succeeded without having run: one-1", executed_wrongly=1)


def test_finds_a_call_that_nobody_made(world: World) -> None:
    world.executed.append("three-1")
    check(world.report(), "nobody called: three-1", executed_wrongly=1)


@pytest.mark.parametrize(
    ("reason", "number", "problem"),
    [
        ("received", 4, "received 4"),
        ("ok", 0, "0 ok are counted, but the ledgers have 1"),
        ("queue_full", 0, "0 queue_full are counted, but the ledgers have 1"),
        ("worker_lost", 0, "received 3, but 2 outcomes are counted"),
        ("timeout", 2, "2 timeout are counted, but the ledgers have 0, and 1 that nobody knows"),
    ],
)
def test_finds_a_counter_that_does_not_agree(world: World, reason: str, number: int, problem: str) -> None:
    world.counters["native"][reason] = number
    check(world.report(), problem)


def test_half_a_line_of_a_killed_client_is_left_out(world: World, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "half"
    path.write_text("C threads 1 1.0\nS 1 1.0 python work 5\nE 1 2.0 o")
    account = ledger.read(path)
    assert account.calls[1].ends == []
    assert not account.closed

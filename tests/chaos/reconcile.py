"""Reconciliation: do the ledgers of clients, the apps' ledger of executed calls and the arbiter's counters agree?

Pure: no process is asked here. What does not agree is a problem, in words; no problem means that all agrees.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from ledger import LOCAL, UNSENT, Account, Call

# A call with one of these was never started: no app may have seen it.
NEVER_STARTED = frozenset({UNSENT, "queue_full", "queue_timeout", "no_workers", "shutting_down"})
# What may become of a good call while everything around it fails.
EXPECTED = (LOCAL | NEVER_STARTED | {"ok", "worker_lost", "timeout", "cancelled"}) - {"unreadable"}
# Problems of one kind that are told one by one.
TOLD = 5


@dataclasses.dataclass
class Report:
    """Figures and problems."""

    calls: int = 0
    outcomes: dict[str, int] = dataclasses.field(default_factory=dict)
    caller_gone: int = 0  # open calls of clients that were killed
    lost: int = 0  # calls without an outcome whose client lived
    doubled: int = 0
    late: int = 0
    wrong: int = 0
    mangled: int = 0  # wrong answers of the worker that corrupts its frames
    executed_wrongly: int = 0  # more than once, or although it never started, or never although it succeeded
    problems: list[str] = dataclasses.field(default_factory=list)

    def add(self, kind: str, calls: Sequence[str]) -> int:
        """Calls of which something is wrong; their number."""
        self.problems += [f"{kind}: {call}" for call in calls[:TOLD]]
        if len(calls) > TOLD:
            self.problems.append(f"{kind}: {len(calls) - TOLD} more")
        return len(calls)


def describe(call: Call) -> str:
    """For people."""
    ends = ", ".join(
        f"{end.outcome} {end.verdict} after {end.time - call.sent:.2f} s {end.call_id}" for end in call.ends
    )
    return f"{call.who} {call.app} {call.action} sent {call.sent:.3f}: {ends or 'no outcome'}"


def reconcile(
    accounts: Sequence[Account],
    killed: frozenset[str],
    pauses: Iterable[tuple[str, float, float]] = (),
    executed: Iterable[str] = (),
    harmful: frozenset[str] = frozenset(),
    faulty_apps: frozenset[str] = frozenset(),
    corrupted: int = 0,
    counters: Optional[Mapping[str, Mapping[str, int]]] = None,
) -> Report:
    """The report on everything.

    Args:
        accounts: The ledgers of all clients that there ever were.
        killed: The names of those that were killed: what they had open has no outcome, and need not.
        pauses: When a client stood still: it cannot take an outcome meanwhile.
        executed: What the apps noted when they began a call: its name, once for each time.
        harmful: Actions that make an app misbehave: they may fail as they like.
        faulty_apps: Apps whose worker is faulty by itself.
        corrupted: How many frames that worker corrupted: it may have harmed as many answers.
        counters: The arbiter's by app, if it lived all the time and nothing runs any more.
    """
    report = Report()
    found: dict[str, list[str]] = collections.defaultdict(list)
    calls_by_client = [(account, call) for account in accounts for call in account.calls.values()]
    standing: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    for name, since, until in pauses:
        standing[name].append((since, until))
    ids: collections.Counter[str] = collections.Counter()
    for account, call in calls_by_client:
        report.calls += 1
        if not call.ends:
            if account.name in killed:
                report.caller_gone += 1
            else:
                found["lost"].append(describe(call))
            continue
        if len(call.ends) > 1:
            found["doubled"].append(describe(call))
        end = call.ends[0]
        report.outcomes[end.outcome] = report.outcomes.get(end.outcome, 0) + 1
        if end.call_id != "-":
            ids[end.call_id] += 1
        allowed = call.bound + sum(
            max(0.0, min(until, end.time) - max(since, call.sent)) for since, until in standing[account.name]
        )
        if end.time - call.sent > allowed:
            found["late"].append(describe(call))
        if any(each.verdict == "wrong" for each in call.ends):
            found["mangled" if call.app in faulty_apps else "wrong"].append(describe(call))
        if end.outcome not in EXPECTED and call.action not in harmful and call.app not in faulty_apps:
            found["unexpected"].append(describe(call))
    report.lost = report.add("lost", found["lost"])
    report.doubled = report.add("two outcomes", found["doubled"])
    report.doubled += report.add("two calls with one id", [each for each, times in ids.items() if times > 1])
    report.doubled += sum(account.strays for account in accounts)
    report.late = report.add("late", found["late"])
    report.wrong = report.add("wrong", found["wrong"])
    report.mangled = len(found["mangled"])
    if report.mangled > corrupted:
        report.add(f"wrong answers of the faulty worker, which corrupted {corrupted} frames only", found["mangled"])
        report.wrong += report.mangled - corrupted
    report.add("unexpected outcome", found["unexpected"])
    for account in accounts:
        if account.strays:
            report.problems.append(f"{account.name}: {account.strays} outcomes of calls that it did not make")
        if not account.closed and account.name not in killed:
            report.problems.append(f"{account.name} did not end in order")
    check_executed(report, [call for _, call in calls_by_client], collections.Counter(executed), faulty_apps)
    if counters is not None:
        check_counters(report, calls_by_client, counters)
    return report


def check_executed(
    report: Report, calls: Sequence[Call], executed: Mapping[str, int], faulty_apps: frozenset[str]
) -> None:
    """No call ran twice; what succeeded ran; what never started did not."""
    by_who = {call.who: call for call in calls}
    strangers = sorted(set(executed) - set(by_who))
    twice = [describe(by_who[who]) for who, times in executed.items() if times > 1 and who in by_who]
    never = [
        describe(call)
        for call in calls
        if call.ends and call.ends[0].outcome == "ok" and call.app not in faulty_apps and not executed.get(call.who)
    ]
    ran = [
        describe(call)
        for call in calls
        if call.ends and call.ends[0].outcome in NEVER_STARTED and executed.get(call.who)
    ]
    report.executed_wrongly += report.add("executed, but nobody called", strangers)
    report.executed_wrongly += report.add("executed twice", twice)
    report.executed_wrongly += report.add("succeeded without having run", never)
    report.executed_wrongly += report.add("never started, as its caller was told, but ran", ran)


def check_counters(
    report: Report, calls: Sequence[tuple[Account, Call]], counters: Mapping[str, Mapping[str, int]]
) -> None:
    """Each counter is what the ledgers say; where a client does not know how a call ended, within that."""
    for app, counted in counters.items():
        told: collections.Counter[str] = collections.Counter()
        unknown = 0
        for _, call in calls:
            if call.app != app:
                continue
            if not call.ends or call.ends[0].outcome in LOCAL:
                unknown += 1
            elif call.ends[0].outcome != UNSENT:
                told[call.ends[0].outcome] += 1
        outcomes = {reason: number for reason, number in counted.items() if reason != "received"}
        received = counted["received"]
        if received != sum(outcomes.values()):
            report.problems.append(f"{app}: received {received}, but {sum(outcomes.values())} outcomes are counted")
        answered = sum(told.values())
        if not answered <= received <= answered + unknown:
            report.problems.append(
                f"{app}: received {received}, but the ledgers have {answered} and {unknown} that nobody knows"
            )
        for reason in sorted(set(outcomes) | set(told)):
            if not told[reason] <= outcomes.get(reason, 0) <= told[reason] + unknown:
                report.problems.append(
                    f"{app}: {outcomes.get(reason, 0)} {reason} are counted, but the ledgers have {told[reason]},"
                    f" and {unknown} that nobody knows"
                )

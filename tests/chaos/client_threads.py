"""A client process in Python: threads that wait for each call. With the name `mischief-...` it asks apps to misbehave."""

from __future__ import annotations

import random
import threading

import calling
import dirty
import payload
from ledger import Writer


def one(client: dirty.DirtyClient, flags: calling.Flags, ledger: Writer, planned: calling.Planned) -> None:
    """A call from its record to its outcome's."""
    number = ledger.sent(planned.app, planned.action, flags.bound)
    who = ledger.who(number)
    args, kwargs = planned.arguments(who)
    verdict = "right"
    try:
        if planned.action == "parts":
            index = 0
            for value in client.stream(planned.app, "parts", *args, timeout=flags.timeout):
                if not payload.is_part(value, who, planned.text, planned.blob, index, planned.parts):
                    verdict = "wrong"
                index += 1
            if index != planned.parts:
                verdict = "wrong"
        else:
            result = client.execute(planned.app, planned.action, *args, timeout=flags.timeout, **kwargs)
            verdict = planned.verdict(who, result)
    except dirty.DirtyError as error:
        if verdict == "right":
            verdict = calling.verdict_of_failure(error.reason, getattr(error, "exception_type", None))
        ledger.ended(number, calling.outcome(error.reason, error.call_id), verdict, error.call_id)
    else:
        ledger.ended(number, "ok", verdict)


def caller(flags: calling.Flags, ledger: Writer, stop: threading.Event, seed: int) -> None:
    """Makes calls until it is to stop."""
    source = random.Random(seed)
    client = dirty.get_dirty_client(flags.socket)
    while not stop.wait(source.expovariate(flags.per_second / flags.at_once)):
        if flags.name.startswith("mischief"):
            one(client, flags, ledger, calling.mischief(source, flags.apps))
        else:
            one(client, flags, ledger, calling.plan(source, flags.apps, streams=0.1))


def main() -> None:
    """Runs it."""
    flags, ledger, stop = calling.flags("threads")
    threads = [
        threading.Thread(target=caller, args=(flags, ledger, stop, flags.seed * 1000 + number))
        for number in range(flags.at_once)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.closed()


if __name__ == "__main__":
    main()

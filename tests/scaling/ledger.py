"""An app that keeps a ledger: each call that starts writes its number, before it does anything else."""

import os
import time

import dirty


class Ledger(dirty.DirtyApp):
    """Appends to the file that $LEDGER names, one line for each call that starts."""

    def init(self) -> None:
        """Opens the file."""
        self.file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def work(self, number: int, seconds: float) -> int:
        """Takes some time, and says which process did it."""
        os.write(self.file, b"%d\n" % number)  # one write: lines of several processes do not mix
        time.sleep(seconds)
        return os.getpid()

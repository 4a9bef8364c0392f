"""The Python app that dirty-bench and compare call: it answers with what it got. The same as bench_app.cc.

The peer's workers load it too: whichever package gives DirtyApp, the class is the same.
"""

import time

try:
    from dirty import DirtyApp
except ImportError:
    from gunicorn.dirty import DirtyApp


class Echo(DirtyApp):
    """Returns its argument, streams numbers, sleeps."""

    def echo(self, value):
        """The argument, whatever it is."""
        return value

    def count(self, end):
        """Streams the numbers below `end`."""
        yield from range(end)

    def sleep(self, seconds):
        """A long call that needs no processor."""
        time.sleep(seconds)
        return seconds

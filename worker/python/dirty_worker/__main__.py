"""The program that dirtyd starts for a Python pool.

This file and the package's `__init__` are plain enough for any Python: an interpreter that is too old is to be told so.
"""

import os
import sys

OLDEST = (3, 9)


def main():
    # type: () -> int
    """Runs the worker; returns the exit code."""
    if sys.version_info < OLDEST:
        sys.stderr.write(
            "dirty_worker: %s is Python %s; 3.9 or newer is needed: set `python` in dirtyd's configuration\n"
            % (sys.executable, sys.version.split()[0])
        )
        return 1
    # Ours first, for as long as it takes to import them; then last, so that they hide nothing of the user's.
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path.insert(0, own)
    from dirty_worker import _run

    return _run.run(own)


if __name__ == "__main__":
    sys.exit(main())

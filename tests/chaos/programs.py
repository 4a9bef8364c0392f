"""What chaos and soak start, built where it is not."""

from __future__ import annotations

import subprocess
import sys

from arbiter import ROOT, missing

RELEASE = ROOT / "build" / "release"


def built(usage: str) -> list[str]:
    """The command line's words, once build/release has all that is needed; prints `usage` and ends if that is asked."""
    words = sys.argv[1:]
    if "--help" in words or "-h" in words:
        print(usage.strip())
        sys.exit(0)
    if not any(word.startswith("--build") for word in words) and missing(RELEASE):
        print("building build/release", file=sys.stderr, flush=True)
        commands = [["cmake", "--preset", "release"], ["cmake", "--build", str(RELEASE), "--target", "chaos_programs"]]
        for command in commands:
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            if done.returncode != 0:
                sys.stderr.buffer.write(done.stdout)
                sys.exit(1)
    return words

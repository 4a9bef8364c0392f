"""Finds the CPythons that the extension can be built for.

find_pythons.py [INTERPRETER...]: prints `version|extension suffix|include folder|interpreter`, one line for each ABI.
Without arguments it looks for `python3` and `python3.N` on PATH, in pyenv and in the usual folders, and leaves out
what does not fit: no CPython, older than 3.9, without headers. An interpreter that is named must fit: else exit code 1,
and the reason on standard error.
"""

import glob
import os
import re
import subprocess
import sys

PROBE = """
import os, platform, sys, sysconfig
include = sysconfig.get_paths()["include"]
fault = ""
if platform.python_implementation() != "CPython" or sys.version_info < (3, 9):
    fault = "is %s %s: CPython 3.9 or newer is needed" % (platform.python_implementation(), platform.python_version())
elif sysconfig.get_config_var("Py_GIL_DISABLED"):
    fault = "is a build without the GIL, which is not supported"
elif not os.path.exists(os.path.join(include, "Python.h")):
    fault = "has no headers (%s has no Python.h): install python3-dev or its like" % include
print("|".join([fault, platform.python_version(), sysconfig.get_config_var("EXT_SUFFIX"), include, sys.executable]))
"""


def candidates() -> "list[str]":
    """Interpreters that may be there, the system's first."""
    folders = ["/usr/bin", "/usr/local/bin", *os.environ.get("PATH", "").split(os.pathsep)]
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    folders += sorted(glob.glob(os.path.join(pyenv, "versions", "*", "bin")))
    found = []
    for folder in folders:
        names = os.listdir(folder) if os.path.isdir(folder) else []
        found += [os.path.join(folder, name) for name in sorted(names) if re.fullmatch(r"python3(\.\d+)?", name)]
    return list(dict.fromkeys(found))


def probe(interpreter: str) -> "tuple[str, list[str]]":
    """Why `interpreter` does not fit (empty: it does), and what it says of itself."""
    try:
        ran = subprocess.run([interpreter, "-I", "-c", PROBE], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error), []
    if ran.returncode != 0:
        return "does not run: " + ran.stderr.strip(), []
    fault, *facts = ran.stdout.strip().split("|")
    return fault, facts


def main(named: "list[str]") -> int:
    """Prints what was found; the exit code."""
    suffixes = set()
    for interpreter in named or candidates():
        fault, facts = probe(interpreter)
        if fault and named:
            print(f"{interpreter} {fault}", file=sys.stderr)
            return 1
        if not fault and facts[1] not in suffixes:
            suffixes.add(facts[1])
            print("|".join(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

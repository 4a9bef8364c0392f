"""Man pages and shell completions: of a form that their readers take, and complete."""

from __future__ import annotations

import gzip
import pathlib
import re
import subprocess
import sys
from concurrent.futures import Future

import pytest
import support
from support import BUILD, DEPLOY, program, run

sys.path.insert(0, str(DEPLOY / "man"))
import program_help

PAGES = {"dirtyd": 8, "dirtyctl": 1, "dirty-worker": 1, "dirty-bench": 1}


@pytest.fixture(scope="module", autouse=True)
def _made(fetched: dict[str, Future]) -> None:
    fetched["packages"].result()  # they build in the same folder
    run("cmake", "--build", BUILD, "--target", "dirty_pages", patience=support.LONG)


def rendered(name: str) -> str:
    """A page as people see it."""
    page = gzip.decompress((BUILD / f"package/{name}.{PAGES[name]}.gz").read_bytes())
    command = [program("groff"), "-ww", "-man", "-Tascii", "-P-cbou", "-rLL=400n"]
    ran = subprocess.run(command, input=page, capture_output=True, timeout=30, check=True)
    assert ran.stderr == b""
    return ran.stdout.decode()


@pytest.mark.parametrize("name", PAGES)
def test_pages_have_every_flag_and_no_other(name: str) -> None:
    text = rendered(name)
    helps = [program_help.help_of(BUILD / "bin" / name)]
    if name == "dirtyctl":
        helps += [program_help.help_of(BUILD / "bin" / name, word.name) for word in helps[0].words]
    # From the plain text, not from what our parser made of it.
    said = "".join(program_help.said(BUILD / "bin" / name, *words, "--help")
                   for words in [[], *([[word.name] for word in helps[0].words] if name == "dirtyctl" else [])])  # fmt: skip
    flags = set(re.findall(r"--[a-z][\w-]*", said))
    assert flags
    assert set(re.findall(r"--[a-z][\w-]*", text)) - flags <= {"--workers", "--check", "--self", "--callers"}
    missing = {flag for flag in flags if not re.search(re.escape(flag) + r"(?![\w-])", text)}
    assert missing == set()
    # Each has a line of its own, with what it is for.
    for own in helps:
        for item in own.flags:
            assert re.search(rf"^ +{item.name}( {item.value})?" + (r"\n? +\S" if item.text else ""), text, re.M), item


@pytest.mark.parametrize("name", PAGES)
def test_pages_can_be_found_by_what_they_are_about(name: str, tmp_path: pathlib.Path) -> None:
    page = tmp_path / f"{name}.{PAGES[name]}"
    page.write_bytes(gzip.decompress((BUILD / f"package/{name}.{PAGES[name]}.gz").read_bytes()))
    assert f'"{name} - ' in run(program("lexgrog", "man-db"), page).stdout
    text = rendered(name)
    for part in ("NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"):
        assert re.search(rf"^{part}$", text, re.M), part


def test_the_commands_and_exit_codes_are_in_the_page() -> None:
    text = rendered("dirtyctl")
    for word in program_help.help_of(BUILD / "bin/dirtyctl").words:
        assert re.search(rf"^ +dirtyctl {word.name}\b", text, re.M), word.name
    for code, meaning in (("0", "done"), ("2", "wrong usage"), ("3", "dirtyd cannot be reached")):
        assert re.search(rf"^ +{code} +{meaning}$", text, re.M), meaning


BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_$1
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(*words: str) -> set[str]:
    """What bash offers for the last word."""
    return set(run("bash", "-c", BASH, "bash", BUILD / "package/bash" / words[0], *words).stdout.split())


def test_bash_completes_commands_flags_and_values(tmp_path: pathlib.Path) -> None:
    assert completed("dirtyctl", "re") == {"reload", "restart", "reopen-logs"}
    assert completed("dirtyctl", "call", "--att") == {"--attach"}
    assert completed("dirtyctl", "--json", "reload", "--p") == {"--pool"}
    assert completed("dirtyctl", "log-level", "w") == {"warning"}
    assert completed("dirtyd", "--restart_i") == {"--restart_initial_backoff"}
    assert completed("dirtyd", "--log_level", "=", "d") == {"debug"}
    (tmp_path / "file.yaml").touch()
    assert completed("dirtyd", "--config", f"{tmp_path}/f") == {f"{tmp_path}/file.yaml"}


def test_zsh_takes_the_completion() -> None:
    for name in ("dirtyd", "dirtyctl"):
        file = BUILD / f"package/zsh/_{name}"
        run(program("zsh"), "-n", file)
        assert file.read_text().startswith(f"#compdef {name}\n")


def test_fish_completes_commands_flags_and_values() -> None:
    fish = program("fish")

    def offered(line: str) -> set[str]:
        files = " ".join(str(BUILD / f"package/fish/{name}.fish") for name in ("dirtyd", "dirtyctl"))
        script = f"for file in {files}; source $file; end; complete --do-complete '{line}'"
        return {each.split("\t")[0] for each in run(fish, "--no-config", "-c", script).stdout.splitlines()}

    assert offered("dirtyctl re") == {"reload", "restart", "reopen-logs"}
    assert offered("dirtyctl call --att") == {"--attach"}
    assert offered("dirtyctl log-level w") >= {"warning"}
    assert offered("dirtyd --restart_i") == {"--restart_initial_backoff"}
    assert offered("dirtyd --log_level=d") == {"--log_level=debug"}

#!/usr/bin/env python3
"""Runs what README.md and docs/*.md tell the reader to type, and compares what comes out.

docs_commands.py --source CHECKOUT --build BUILD [--only FILE] [--skip FILE]: exit code 1, with what differs, if one is wrong.

Each document is read from top to bottom in one shell, in a folder that looks like a clone that was built. What its
fenced blocks mean:

    ```console          lines after `$ ` are typed; the lines between are what they print (`...`: any text; a line
                        `...`: any lines). A command must exit with 0, unless the next one is `echo $?`.
    ```sh               every line is typed; what it prints does not matter.
    ```yaml NAME        a file NAME for the commands after it. Likewise other languages. C++ must also compile.

dirtyd without --check, --help or --version stays up: its lines are awaited, in their order, and it must have ended well
when the document ends. What takes minutes or the network (HEAVY) must exist, but is not run. Besides, every path that
a document names or links to must exist, and docs/architecture.md must have a row for every folder with sources.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

COMMAND_LIMIT = 60.0  # seconds for one command; sanitizers are slow
LIMIT = 60.0  # likewise for dirtyd to say what the document shows; half of it to end

# Not run. A path must be an executable of the clone; of the others nothing is known without the network.
HEAVY = ("./tools/", "git", "apt", "apt-get", "sudo", "cmake", "systemctl")
# Run where it is installed.
OPTIONAL = ("grpcurl",)

FENCE = re.compile(r"^```([\w+]*)[ \t]*(\S*)[ \t]*$")
# Paths of the project in running text: `server/loop/loop.h`, `worker/runtime/`, `tests/*.cc`, `server/x.{h,cc}`.
NAMED = re.compile(r"`((?:\./)?(?:client|cmake|docs|examples|proto|server|tests|tools|worker)/[\w./{},*-]*)`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@dataclasses.dataclass
class Command:
    """A command, with what the document says that it prints; None: it does not say."""

    line: int
    text: str
    expected: list[str] | None


@dataclasses.dataclass
class File:
    """A file that the document has its reader write."""

    line: int
    name: str
    text: str


def parse(markdown: str) -> list[Command | File]:
    """The commands and files of a document, in their order."""
    found: list[Command | File] = []
    language = name = None
    start = 0
    block: list[str] = []
    for number, line in enumerate(markdown.splitlines(), 1):
        fence = FENCE.match(line)
        if language is None and fence:
            language, name, start, block = fence[1], fence[2], number, []
        elif language is not None and line.rstrip() == "```":
            found += block_of(language, name, start, block)
            language = None
        elif language is not None:
            block.append(line)
    if language is not None:
        raise ValueError(f"line {start}: the block does not end")
    return found


def block_of(language: str, name: str, start: int, block: list[str]) -> list[Command | File]:
    """What one fenced block holds; `start` is its fence's line."""
    if language == "sh":
        return [Command(line, text, None) for line, text in joined(block, start + 1)
                if text.strip() and not text.startswith("#")]
    if language == "console":
        commands: list[Command] = []
        for line, text in joined(block, start + 1):
            if text.startswith("$ "):
                commands.append(Command(line, text[2:], []))
            elif not commands:
                raise ValueError(f"line {line}: output before any command")
            else:
                commands[-1].expected.append(text)
        return commands
    return [File(start, name, "\n".join(block) + "\n")] if name else []


def joined(block: list[str], first: int) -> list[tuple[int, str]]:
    """Line numbers and lines, those that end in a backslash with the next."""
    lines: list[tuple[int, str]] = []
    continued = False
    for number, line in enumerate(block, first):
        if continued:
            lines[-1] = (lines[-1][0], lines[-1][1] + "\n" + line)
        else:
            lines.append((number, line))
        continued = line.endswith("\\")
    return lines


def matches(expected: list[str], actual: list[str]) -> bool:
    """Whether the output is what the document shows. Runs of blanks are equal: columns depend on their content."""
    return bool(re.fullmatch("".join(map(pattern, expected)), "".join(squeezed(line) + "\n" for line in actual)))


def pattern(expected: str) -> str:
    """A regular expression for one line of a document."""
    if expected.strip() == "...":
        return r"(?:.*\n)*?"
    return r"[^\n]*?".join(re.escape(part) for part in squeezed(expected).split("...")) + r"\n"


def squeezed(line: str) -> str:
    return re.sub(r"\s+", " ", line).strip()


def expand(path: str) -> list[str]:
    """`a.{h,cc}` as its two paths."""
    choice = re.search(r"\{([^}]*)\}", path)
    if not choice:
        return [path]
    before, after = path[: choice.start()], path[choice.end() :]
    return [name for one in choice[1].split(",") for name in expand(before + one + after)]


def missing_paths(markdown: str, source: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """Paths that the text names and links that it has which do not exist."""
    text = re.sub(r"^```.*?^```", "", markdown, flags=re.S | re.M)
    wrong = [f"`{path}` does not exist" for named in NAMED.findall(text) for path in expand(named)
             if not any(source.glob(path.removeprefix("./").rstrip("/")))]
    return wrong + [f"the link to {link} leads nowhere" for link in LINK.findall(text) if not (folder / link).exists()]


def missing_rows(markdown: str, source: pathlib.Path) -> list[str]:
    """Folders with sources that docs/architecture.md does not mention."""
    folders = {path.parent.relative_to(source).as_posix()
               for top in ("server", "worker", "client", "tools", "examples", "proto")
               for path in (source / top).rglob("*") if path.suffix in (".cc", ".h", ".proto", ".py", ".sh")}
    return [f"no row for {folder}/" for folder in sorted(folders) if f"`{folder}/" not in markdown]


class Failure(Exception):
    """What is wrong, for people."""


class Shell:
    """One bash, in a folder that looks like a clone that was built; with the dirtyd that it runs in the background."""

    END = "--- end of the command"

    def __init__(self, folder: pathlib.Path, environment: dict[str, str]):
        self.folder = folder
        self.log = folder / ".dirtyd.log"
        self.daemon: str | None = None  # its pid
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=folder, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        os.set_blocking(self.process.stdout.fileno(), False)

    def run(self, command: str) -> tuple[int, list[str]]:
        """Exit code and lines of a command. The next command finds its exit code in `$?`."""
        self.process.stdin.write(
            f"{command}\n_code=$?; printf '\\n{self.END} %s\\n' $_code; (exit $_code)\n".encode())
        self.process.stdin.flush()
        text = ""
        deadline = time.monotonic() + COMMAND_LIMIT
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not (end := re.search(rf"\n{self.END} (\d+)\n", text)):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise Failure(f"has not ended after {COMMAND_LIMIT:.0f} s; so far it printed:\n{text}")
                chunk = self.process.stdout.read()
                if not chunk:
                    raise Failure(f"ended the shell:\n{text}")
                text += chunk.decode(errors="replace")
        return int(end[1]), text[: end.start()].splitlines()

    def start(self, command: str, expected: list[str]) -> None:
        """Starts dirtyd and waits until it has said what is expected."""
        self.end()
        self.run(f"{command} > {shlex.quote(str(self.log))} 2>&1 < /dev/null & _daemon=$!")
        self.daemon = self.run("echo $_daemon")[1][-1]
        deadline = time.monotonic() + LIMIT
        while not matches([*expected, "..."], self.said()):
            ended = self.run(f"! kill -0 {self.daemon} 2> /dev/null")[0] == 0
            if (ended and not matches([*expected, "..."], self.said())) or time.monotonic() > deadline:
                raise Failure("did not say what the document shows, but:\n" + "\n".join(self.said()))
            time.sleep(0.02)

    def said(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []

    def end(self) -> None:
        """At the end of the document, and before the next dirtyd: this one must have ended, with exit code 0."""
        if self.daemon:
            code = self.run(f"timeout {LIMIT / 2} tail --pid={self.daemon} -f /dev/null && wait {self.daemon}")[0]
            self.daemon = None
            if code != 0:
                state = "is still running" if code == 124 else f"ended with {code}"
                raise Failure(f"the dirtyd before it {state}; it said:\n" + "\n".join(self.said()))

    def close(self) -> None:
        """Kills what is left; dirtyd is in the shell's session, and its workers end with it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def program(command: str) -> str:
    """The first word of a command, without assignments and redirections before it."""
    words = shlex.split(command, comments=True)
    while words and re.match(r"\w+=", words[0]):
        words.pop(0)
    return words[0] if words else ""


def stays(command: str) -> bool:
    """Whether a command starts a dirtyd that stays up."""
    words = shlex.split(command, comments=True)
    return pathlib.PurePath(program(command)).name == "dirtyd" and not {"--check", "--help", "--version"} & set(words)


def run(shell: Shell, command: Command, may_fail: bool, source: pathlib.Path) -> None:
    """Runs one command; raises Failure."""
    name = program(command.text)
    if name.startswith(HEAVY[0]):
        if not os.access(source / name, os.X_OK):
            raise Failure(f"there is no program {name}")
    elif name in HEAVY or (name in OPTIONAL and not shutil.which(name)):
        return
    elif stays(command.text):
        shell.start(command.text, command.expected or [])
    else:
        code, lines = shell.run(command.text)
        if code != 0 and not may_fail:
            raise Failure(f"ended with {code}:\n" + "\n".join(lines))
        if command.expected is not None and not matches(command.expected, lines):
            raise Failure("printed other lines than the document shows:\n" + "\n".join(lines))


def compile_cpp(file: pathlib.Path, source: pathlib.Path) -> None:
    """Checks the C++ of a document; raises Failure."""
    done = subprocess.run(
        ["c++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{source}/worker/native/include",
         f"-I{source}/client/cpp/include", file], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure("does not compile:\n" + done.stderr)


def check(document: pathlib.Path, source: pathlib.Path, build: pathlib.Path) -> list[str]:
    """What is wrong with a document: messages with its name and line."""
    text = document.read_text()
    name = document.relative_to(source).as_posix()
    wrong = [f"{name}: {problem}" for problem in missing_paths(text, source, document.parent)]
    if name == "docs/architecture.md":
        wrong += [f"{name}: {problem}" for problem in missing_rows(text, source)]
    steps = parse(text)
    if not steps:
        return wrong
    with tempfile.TemporaryDirectory(prefix="dirty-docs-", dir="/tmp") as place:  # a short path: it holds sockets
        folder = pathlib.Path(place)
        for entry in source.iterdir():
            if entry.name not in ("build", ".git"):
                (folder / entry.name).symlink_to(entry)
        (folder / "build").mkdir()
        (folder / "build" / "release").symlink_to(build)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DIRTY_")}
        environment["PATH"] = f"{build}/bin:{environment['PATH']}"
        shell = Shell(folder, environment)
        try:
            for step, following in zip(steps, [*steps[1:], None]):
                line, what = step.line, step.text if isinstance(step, Command) else step.name
                if isinstance(step, Command):
                    run(shell, step, isinstance(following, Command) and following.text == "echo $?", source)
                else:
                    (folder / step.name).write_text(step.text)
                    if step.name.endswith(".cc"):
                        compile_cpp(folder / step.name, source)
            what = "the end of the document"
            shell.end()
        except Failure as failure:
            # What follows depends on it.
            wrong.append(f"{name}:{line}: {what}\n{failure}\n")
        finally:
            shell.close()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--only", type=pathlib.Path)
    parser.add_argument("--skip", type=pathlib.Path, action="append", default=[])
    arguments = parser.parse_args()
    source, build = arguments.source.resolve(), arguments.build.resolve()
    documents = [source / "README.md", *sorted(source.glob("docs/*.md"))]
    if arguments.only:
        documents = [arguments.only.resolve()]
    skipped = [file.resolve() for file in arguments.skip]
    documents = [document for document in documents if document not in skipped]
    wrong = [message for document in documents for message in check(document, source, build)]
    print("\n".join(wrong) if wrong else f"{len(documents)} documents are right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

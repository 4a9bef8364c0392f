"""What a program of ours says of itself (--help), in parts: man pages and shell completions are made of it."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess

# `  --socket PATH   client socket`; several names: `  --help, --version`; a word: `  status   Shows workers`.
FLAG = re.compile(r"^  (--[\w-]+(?:, --[\w-]+)*)(?: ([A-Z]+)\b)?(?: +(\S.*))?$")
WORD = re.compile(r"^  ([A-Za-z][\w-]+) {2,}(\S.*)$")


@dataclasses.dataclass
class Item:
    """A flag, a command or a variable of the environment."""

    name: str
    value: str  # what a flag takes, such as PATH; empty: nothing
    text: str

    @property
    def is_flag(self) -> bool:
        """Whether it begins with dashes."""
        return self.name.startswith("--")


@dataclasses.dataclass
class Block:
    """A paragraph (`items` is empty), or a list with what stands before it."""

    text: str
    items: list[Item]


@dataclasses.dataclass
class Help:
    """All of it, in its order."""

    program: str
    version: str
    usage: list[str]
    blocks: list[Block]

    @property
    def flags(self) -> list[Item]:
        """Every flag, once each."""
        found = {item.name: item for block in self.blocks for item in block.items if item.is_flag}
        return list(found.values())

    @property
    def words(self) -> list[Item]:
        """What is listed and is no flag: the commands."""
        return [item for block in self.blocks for item in block.items if not item.is_flag]


def said(*command: str | pathlib.Path) -> str:
    """What a command prints; it must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def parse(text: str) -> tuple[list[str], list[Block]]:
    """Usage lines and blocks of a help text."""
    usage: list[str] = []
    blocks: list[Block] = []
    fresh = True  # the last line was empty
    for line in text.splitlines():
        flag, word = FLAG.match(line), WORD.match(line)
        if not blocks and not usage:
            usage = [re.sub("^usage: ", "", line, flags=re.IGNORECASE)] if "sage: " in line or "--" in line else []
            if not usage:
                blocks.append(Block(line, []))
            continue
        if not line.strip():
            fresh = True
            continue
        if flag or word:
            items = (
                [Item(name, flag[2] or "", flag[3] or "") for name in flag[1].split(", ")]
                if flag
                else [Item(word[1], "", word[2])]
            )
            if fresh and not (blocks and blocks[-1].text.endswith(":") and not blocks[-1].items):
                blocks.append(Block("", []))
            blocks[-1].items += items
        elif blocks and blocks[-1].items and not fresh:
            blocks[-1].items[-1].text += " " + line.strip()  # of an item that needs two lines
        elif re.match(r"(usage: )?dirty[\w-]* ", line, re.IGNORECASE) and not blocks:
            usage.append(re.sub("^usage: ", "", line, flags=re.IGNORECASE))
        elif fresh or not blocks:
            blocks.append(Block(line.strip(), []))
        else:
            blocks[-1].text += " " + line.strip()
        fresh = False
    # dirtyd says what it is for before its usage.
    for block in list(blocks):
        if block.text.startswith("Usage: "):
            usage = [block.text.removeprefix("Usage: ")]
            blocks.remove(block)
    return usage, blocks


def help_of(program: pathlib.Path, *command: str) -> Help:
    """The help of a program, or of one of its commands."""
    usage, blocks = parse(said(program, *command, "--help"))
    return Help(program.name, said(program, "--version").split()[1], usage, blocks)

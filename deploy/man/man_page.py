#!/usr/bin/env python3
"""Writes the man page of a program: man_page.py PROGRAM SECTION WHAT EXTRA > PAGE. Made from its --help and those of its commands.

WHAT: the half line after its name. EXTRA: a file with sections that --help does not have, in man(7); it stands before
the last one, the exit status.
"""

from __future__ import annotations

import pathlib
import re
import sys

import program_help


def plain(text: str) -> str:
    """Text as man(7) takes it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(['.])", r"\\&\1", text)


def items(block: program_help.Block) -> list[str]:
    """A list."""
    lines = []
    for item in block.items:
        value = f" \\fI{plain(item.value)}\\fR" if item.value else ""
        lines += [".TP", f"\\fB{plain(item.name)}\\fR{value}", plain(item.text) or "\\&"]
    return lines


def exit_status(block: program_help.Block) -> list[str]:
    """`Exit codes: 0 done, 1 failed` as a list."""
    codes = re.findall(r"(\d) ([^,]*?)(?:, (?=\d)|\.$)", block.text)
    return [line for code, text in codes for line in (".TP", f"\\fB{code}\\fR", plain(text))]


def command(program: pathlib.Path, name: str) -> list[str]:
    """The part of one command: its own help, without the flags that all commands have."""
    own = program_help.help_of(program, name)
    lines = [".SS " + plain(own.usage[0])]
    for block in own.blocks:
        if block.text in ("Global flags:",) or block.text.startswith("Exit codes:"):
            continue
        lines += [".PP", plain(block.text)] if block.text else []
        lines += items(block)
    return lines


def page(program: pathlib.Path, section: str, what: str, extra: str) -> str:
    """The whole page."""
    own = program_help.help_of(program)
    title = f'.TH {own.program.upper()} {section} "" "dirty {own.version}" "dirty workers"'
    lines = [title, ".SH NAME", f"{plain(own.program)} \\- {plain(what)}", ".SH SYNOPSIS"]
    for usage in own.usage:
        name, _, arguments = usage.partition(" ")
        lines += [".PP", f"\\fB{plain(name)}\\fR {plain(arguments)}"]
    lines.append(".SH DESCRIPTION")
    status: list[str] = []
    for block in own.blocks:
        if block.text.startswith("Exit codes:"):
            status = [".SH EXIT STATUS", *exit_status(block)]
        elif block.text == "Commands:":
            lines.append(".SH COMMANDS")
            for item in block.items:
                lines += command(program, item.name)
            lines.append(".SH FLAGS")
        else:
            lines += [".PP", plain(block.text)] if block.text else []
            lines += items(block)
    return "\n".join([*lines, extra.rstrip("\n"), *status]) + "\n"


if __name__ == "__main__":
    PROGRAM, SECTION, WHAT, EXTRA = sys.argv[1:]
    sys.stdout.write(page(pathlib.Path(PROGRAM), SECTION, WHAT, pathlib.Path(EXTRA).read_text()))

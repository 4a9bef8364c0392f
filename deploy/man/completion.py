#!/usr/bin/env python3
"""Writes the completion of dirtyd or dirtyctl for a shell: completion.py bash|zsh|fish PROGRAM > FILE. Made from their --help."""

from __future__ import annotations

import pathlib
import sys
from typing import NamedTuple

import program_help

# What can be completed, by what a flag takes; all else is typed.
FILES = ("FILE", "PATH", "PROGRAM")
WORDS = {"LEVEL": "debug info warning error", "FORMAT": "text json"}
BASH = {"DIR": "-d", "USER": "-u", "GROUP": "-g", **dict.fromkeys(FILES, "-f")}
ZSH = {"DIR": "_files -/", "USER": "_users", "GROUP": "_groups", **dict.fromkeys(FILES, "_files")}
FISH = {"DIR": "(__fish_complete_directories)", "USER": "(__fish_complete_users)", "GROUP": "(__fish_complete_groups)"}
LEVELS = "log-level"  # the command whose argument is one of the levels


class Command(NamedTuple):
    """A command of dirtyctl; with an empty name, dirtyd itself."""

    name: str
    summary: str
    flags: list[program_help.Item]


def commands(program: pathlib.Path) -> list[Command]:
    """All of them."""
    own = program_help.help_of(program)
    words = [item for item in own.words if any(b.text == "Commands:" and item in b.items for b in own.blocks)]
    if not words:
        return [Command("", "", own.flags)]
    return [
        Command(w.name, w.text.split(":")[0].split(".")[0], program_help.help_of(program, w.name).flags) for w in words
    ]


def described(item: program_help.Item) -> str:
    """What a flag is for, in one line, without what shells would take for their own."""
    return item.text.split(";")[0].translate(str.maketrans("", "", "'[]`$:\\\""))


def bash(name: str, known: list[Command]) -> str:
    """Completion for bash, without the package bash-completion's functions."""
    values: dict[str, str] = {}
    for command in known:
        for flag in command.flags:
            if flag.value in BASH:
                values[flag.name] = f"compgen {BASH[flag.value]} --"
            elif flag.value in WORDS:
                values[flag.name] = f"compgen -W '{WORDS[flag.value]}' --"
    function = "_" + name
    lines = [
        f"# Completion of {name} for bash.",
        f"{function}() {{",
        "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command= i flags",
        "  # --flag=value comes as three words.",
        "  [[ $word == = ]] && word=",
        "  [[ $before == = ]] && before=${COMP_WORDS[COMP_CWORD - 2]}",
        "  case $before in",
    ]
    for value in sorted(set(values.values())):
        names = " | ".join(sorted(flag for flag in values if values[flag] == value))
        lines += [f"    {names})", f'      mapfile -t COMPREPLY < <({value} "$word")', "      return", "      ;;"]
    lines += ["  esac"]
    if known[0].name:
        lines += [
            "  for ((i = 1; i < COMP_CWORD; i++)); do",
            "    case ${COMP_WORDS[i]} in",
            f"      {' | '.join(c.name for c in known)})",
            "        command=${COMP_WORDS[i]}",
            "        break",
            "        ;;",
            "    esac",
            "  done",
        ]
    lines.append("  case $command in")
    for command in known:
        flags = " ".join(flag.name for flag in command.flags)
        words = f" {WORDS['LEVEL']}" if command.name == LEVELS else ""
        label = command.name or "*"
        lines += [f"    {label}) flags='{flags}{words}' ;;"]
    if known[0].name:
        common = [f.name for f in known[0].flags]
        lines.append(f"    *) flags='{' '.join([*(c.name for c in known), *common])}' ;;")
    lines += [
        "  esac",
        '  mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$word")',
        "}",
        f"complete -o default -F {function} {name}",
    ]
    return "\n".join(lines) + "\n"


def zsh_flags(flags: list[program_help.Item]) -> list[str]:
    """Flags as _arguments takes them."""
    specs = []
    for flag in flags:
        what = ZSH.get(flag.value, f"({WORDS[flag.value]})" if flag.value in WORDS else " ")
        value = f":{flag.value}:{what}" if flag.value else ""
        specs.append(f"'*{flag.name}{'=' if flag.value else ''}[{described(flag)}]{value}'")
    return specs


def zsh(name: str, known: list[Command]) -> str:
    """Completion for zsh."""
    lines = [f"#compdef {name}", f"# Completion of {name} for zsh.", ""]
    if not known[0].name:
        lines.append("_arguments \\")
        lines += [f"  {spec} \\" for spec in zsh_flags(known[0].flags)]
        return "\n".join([*lines, "  '*:app:_files'"]) + "\n"
    lines += ["local -a commands=("]
    lines += [f"  '{c.name}:{c.summary.translate(str.maketrans('', '', chr(39)))}'" for c in known]
    lines += [
        ")",
        "local command=${words[2,CURRENT-1][(r)(" + "|".join(c.name for c in known) + ")]}",
        "case $command in",
    ]
    for command in known:
        rest = f"'*:level:({WORDS['LEVEL']})'" if command.name == LEVELS else "'*:argument:_files'"
        lines += [f"  {command.name})", "    _arguments \\"]
        lines += [f"      {spec} \\" for spec in zsh_flags(command.flags)]
        lines += [f"      {rest}", "    ;;"]
    lines += ["  *) _describe command commands ;;", "esac"]
    return "\n".join(lines) + "\n"


def fish(name: str, known: list[Command]) -> str:
    """Completion for fish."""
    lines = [f"# Completion of {name} for fish."]
    every = " ".join(c.name for c in known)
    for command in known:
        when = f" -n '__fish_seen_subcommand_from {command.name}'" if command.name else ""
        if command.name:
            summary = command.summary.replace("'", "\\'")
            lines.append(
                f"complete -c {name} -f -n 'not __fish_seen_subcommand_from {every}' -a {command.name} -d '{summary}'"
            )
        if command.name == LEVELS:
            lines.append(f"complete -c {name} -f{when} -a '{WORDS['LEVEL']}'")
        for flag in command.flags:
            takes = ""
            if flag.value in FILES:
                takes = " -r -F"
            elif flag.value in FISH or flag.value in WORDS:
                takes = f" -x -a '{FISH.get(flag.value) or WORDS[flag.value]}'"
            elif flag.value:
                takes = " -x"
            lines.append(f"complete -c {name}{when} -l {flag.name[2:]}{takes} -d '{described(flag)}'")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    SHELL, PROGRAM = sys.argv[1], pathlib.Path(sys.argv[2])
    sys.stdout.write({"bash": bash, "zsh": zsh, "fish": fish}[SHELL](PROGRAM.name, commands(PROGRAM)))

"""Every client against one dirtyd with the same app in C++ and in Python; README.md explains it.

Each case is one vector, by one client, over one transport, to one of the apps. The table comes at the end. What a
language needs and is not there skips its cases loudly, and fails them with CI=true. $CONFORMANCE_LANGUAGES, if set,
names the languages to run, separated by commas.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from languages import LANGUAGES, Language

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("DIRTY_BUILD", ROOT / "build" / "release")).resolve()
VECTORS: list[dict[str, Any]] = json.loads((HERE / "vectors.json").read_text())
PREFIXES = ("native", "python")

BUILD_LIMIT = 600  # seconds for building a runner, and for one run of one
RUN_LIMIT = 240

CHOSEN = os.environ.get("CONFORMANCE_LANGUAGES")
CHOSEN_LANGUAGES = [each for each in LANGUAGES if not CHOSEN or each.name in CHOSEN.split(",")]


# dirtyd


def config_of(folder: pathlib.Path) -> dict[str, Any]:
    """One dirtyd with both apps. A pool for each of their roles: `fragile` must harm no other."""
    classes = {"native": str(BUILD / "tests/apps/libconformance.so:"), "python": "conformance_app:"}
    slots = {"main": 8, "narrow": 1, "fragile": 1}
    pools = [
        {
            "name": f"{prefix}-{role}",
            "threads": slots[role],
            "apps": [
                {"app": classes[prefix] + "Conformance", "name": f"{prefix}-{role}"},
                *([{"app": classes[prefix] + "Broken", "name": f"{prefix}-broken"}] if role == "main" else []),
            ],
            **({"queue_size": 1} if role == "narrow" else {}),
        }
        for prefix in PREFIXES
        for role in slots
    ]
    status = [str(BUILD / "bin/dirtyctl"), "--admin_socket", str(folder / "run/admin.sock"), "status", "--json"]
    return {
        "runtime_dir": str(folder / "run"),
        "python": sys.executable,
        "pythonpath": [str(HERE)],
        "chdir": str(folder),
        "env": {"CONFORMANCE_FOLDER": str(folder), "CONFORMANCE_STATUS": json.dumps(status)},
        "restart": {"initial_backoff": "10ms", "max_backoff": "1s", "give_up_after": 1},
        "max_message_size": "4MiB",
        "max_json_depth": 128,
        "pools": pools,
    }


@pytest.fixture(scope="session")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Its client socket, once every app is ready or has failed."""
    folder = tmp_path_factory.mktemp("dirtyd")
    (folder / "config.yaml").write_text(json.dumps(config_of(folder)))
    daemon = subprocess.Popen(
        [BUILD / "bin/dirtyd", "--config", folder / "config.yaml"], stderr=subprocess.PIPE, text=True
    )
    assert daemon.stderr is not None
    lines: list[str] = []
    for line in daemon.stderr:
        lines.append(line)
        if " ready: " in line:
            break
    else:
        pytest.fail("dirtyd did not start:\n" + "".join(lines))
    threading.Thread(target=lambda: lines.extend(daemon.stderr), daemon=True).start()
    yield folder / "run" / "dirty.sock"
    daemon.terminate()
    code = daemon.wait(timeout=60)
    assert code == 0, "".join(lines)


# Runners


def vectors_for(language: Language, transport: str) -> list[dict[str, Any]]:
    """Those whose needs it meets."""
    lacking = {feature for where, feature in language.lacks if where == transport}
    return [vector for vector in VECTORS if set(vector.get("needs", [])) <= language.features - lacking]


def places(language: Language) -> dict[str, str]:
    """What its commands may name."""
    out = BUILD / "tests" / "conformance" / language.name
    out.mkdir(parents=True, exist_ok=True)
    return {"here": str(HERE), "root": str(ROOT), "build": str(BUILD), "out": str(out), "python": sys.executable}


def environment(language: Language) -> dict[str, str]:
    """In which its commands run."""
    return {**os.environ, **{key: value.format(**places(language)) for key, value in language.env}}


@functools.cache
def obstacle(language: Language) -> tuple[str, str]:
    """Builds its runner; why it cannot be run: a tool that is missing, or what the build said."""
    missing = [tool for tool in language.tools if not shutil.which(tool)]
    if missing:
        return f"{language.name}: no {' and no '.join(missing)} on PATH", ""
    for command in language.build:
        words = [word.format(**places(language)) for word in command]
        done = subprocess.run(words, cwd=HERE / language.name, env=environment(language), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=BUILD_LIMIT)  # fmt: skip
        if done.returncode != 0:
            return "", f"{' '.join(words)}\n{done.stdout[-10000:]}"
    return "", ""


@functools.cache
def outcomes(language: Language, transport: str, prefix: str, socket: pathlib.Path) -> dict[str, Any]:
    """What its runner printed for each vector, by name; a text under "" if it did not end well."""
    vectors = [
        {
            **vector,
            "steps": [{key: value for key, value in step.items() if key != "expect"} for step in vector["steps"]],
        }
        for vector in vectors_for(language, transport)
    ]
    for vector in vectors:
        vector.pop("needs", None)
    file = pathlib.Path(places(language)["out"]) / "vectors.json"
    file.write_text(json.dumps(vectors))
    command = [word.format(**places(language)) for word in language.run]
    try:
        done = subprocess.run([*command, file, socket, prefix, transport], env=environment(language),
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=RUN_LIMIT)  # fmt: skip
        out, errors, code = done.stdout, done.stderr, str(done.returncode)
    except OSError as error:
        return {"": f"the runner cannot be started: {error}"}
    except subprocess.TimeoutExpired as late:
        out, errors, code = late.stdout or b"", late.stderr or b"", f"nothing after {RUN_LIMIT} s"
    printed = {}
    for line in out.splitlines():
        try:
            parsed = json.loads(line)
            printed[parsed["vector"]] = parsed
        except (ValueError, KeyError, TypeError):
            errors += b"\nnot a line of a runner: " + line[:500]
    if code != "0" or errors:
        printed[""] = f"the runner ended with {code}; it said:\n{errors.decode(errors='replace')[-5000:]}"
    return printed


# Judging


def expand(value: Any) -> Any:
    """What an expected value stands for, as runners show it."""
    if isinstance(value, list):
        return [expand(element) for element in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, what),) = value.items()
        if key == "$int":
            return int(what)
        if key == "$text_of":
            return what[0] * what[1]
        if key == "$bytes_of":
            return {"$bytes": base64.b64encode(bytes([what[0]]) * what[1]).decode()}
        if key == "$range":
            return list(range(what))
        if key == "$levels":
            made = expand(what[1])
            for _ in range(what[0]):
                made = [made]
            return made
    return {key: expand(member) for key, member in value.items()}


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same(expected: Any, actual: Any) -> bool:
    """Whether both are the same value. 1 and 1.0 are; integers of 64 bits are compared by every digit."""
    if is_number(expected) and is_number(actual):
        if isinstance(expected, int) and -(2**63) <= expected < 2**64:
            return expected == actual
        return float(expected) == float(actual)
    if type(expected) is not type(actual):
        return False
    if isinstance(expected, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, dict):
        return expected.keys() == actual.keys() and all(same(expected[key], actual[key]) for key in expected)
    return bool(expected == actual)


def short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 1000 else f"{text[:600]} ... {text[-300:]} ({len(text)} characters)"


def error_faults(expected: dict[str, Any], actual: Any, call: dict[str, Any], prefix: str) -> Iterator[str]:
    """What is wrong with an error."""
    if actual is None:
        yield f"no error, not {expected['reason']}"
        return
    other = "python" if prefix == "native" else "native"
    expected = {**expected, **expected.get(prefix, {})}
    for key in {prefix, other}:
        expected.pop(key, None)
    if expected["reason"] != "CANCELLED":
        expected = {"app": f"{prefix}-{call['app']}", "action": call["action"], **expected}
        expected["has"] = ["message", *expected.get("has", [])]
        if call.get("args") == [""]:
            expected["has"].remove("message")
    for key, value in expected.items():
        if key == "has":
            yield from (f"error.{name} is missing" for name in value if not actual.get(name))
        elif key.endswith("_has"):
            field = actual.get(key[:-4]) or ""
            wanted = value.format(prefix=prefix) if "{prefix}" in value else value
            if wanted not in (field if isinstance(field, str) else "\n".join(field)):
                yield f"error.{key[:-4]} has no {short(wanted)}"
        elif key == "timeout" and is_number(actual.get(key)):
            # What is left of it when the call is sent.
            if not value - 0.05 <= actual[key] <= value:
                yield f"error.timeout is {actual[key]}, not {value} or little less"
        elif not same(value, actual.get(key)):
            yield f"error.{key} is {short(actual.get(key))}, not {short(value)}"


def faults(expected: dict[str, Any], actual: dict[str, Any], call: dict[str, Any], prefix: str) -> Iterator[str]:
    """What is wrong with an outcome of `call`."""
    if "error" in expected:
        yield from error_faults(expected["error"], actual.get("error"), call, prefix)
    elif "error" in actual:
        yield "it failed"
    for key in ("result", "chunks"):
        if key in expected and not (key in actual and same(expand(expected[key]), actual[key])):
            yield f"{key} is not {short(expected[key])}"
    if "first_chunks" in expected:
        first = expand(expected["first_chunks"])
        if not same(first, actual.get("chunks", [])[: len(first)]):
            yield f"the chunks do not begin with {short(first)}"


def judge(vector: dict[str, Any], line: dict[str, Any], prefix: str) -> list[str]:
    """What is wrong with what a runner printed for a vector."""
    if "broken" in line:
        return [f"the runner could not run it: {line['broken']}"]
    calls = {step["id"]: step for step in vector["steps"] if step["do"] == "start"}
    steps = [step for step in vector["steps"] if step["do"] in ("call", "finish")]
    if len(steps) != len(line["outcomes"]):
        return [f"{len(line['outcomes'])} outcomes, not {len(steps)}"]
    wrong = []
    for step, actual in zip(steps, line["outcomes"]):
        call = calls[step["id"]] if step["do"] == "finish" else step
        found = list(faults(step["expect"], actual, call, prefix))
        if found:
            wrong.append(f"{step['do']} {call['app']}.{call['action']}: {'; '.join(found)}\n  it was {short(actual)}")
    return wrong


# The cases


def cases() -> Iterator[Any]:
    """In the order in which runners run."""
    for language in CHOSEN_LANGUAGES:
        for transport in language.transports:
            for prefix in PREFIXES:
                for vector in vectors_for(language, transport):
                    name = f"{language.name}-{transport}-{prefix}-{vector['name']}"
                    yield pytest.param(language, transport, prefix, vector, id=name)


@pytest.mark.parametrize(("language", "transport", "prefix", "vector"), list(cases()))
def test_vector(language: Language, transport: str, prefix: str, vector: dict[str, Any], socket: pathlib.Path) -> None:
    missing, unbuilt = obstacle(language)
    if missing and os.environ.get("CI") != "true":
        pytest.skip(missing)
    assert not missing, missing
    assert not unbuilt, f"the runner does not build: {unbuilt}"
    printed = outcomes(language, transport, prefix, socket)
    assert vector["name"] in printed, f"no outcome; {printed.get('', 'the runner ended well')}"
    wrong = judge(vector, printed[vector["name"]], prefix)
    if wrong:
        pytest.fail("\n".join([*wrong, printed.get("", "")]), pytrace=False)


@pytest.mark.parametrize(
    ("language", "transport", "prefix"),
    [
        pytest.param(language, transport, prefix, id=f"{language.name}-{transport}-{prefix}")
        for language in CHOSEN_LANGUAGES
        for transport in language.transports
        for prefix in PREFIXES
    ],
)
def test_runner_ends_well(language: Language, transport: str, prefix: str, socket: pathlib.Path) -> None:
    missing, unbuilt = obstacle(language)
    if (missing and os.environ.get("CI") != "true") or unbuilt:
        pytest.skip(missing or "the runner does not build")
    printed = outcomes(language, transport, prefix, socket)
    assert "" not in printed, printed[""]


def test_names_are_unique() -> None:
    names = [vector["name"] for vector in VECTORS]
    assert len(set(names)) == len(names)


# What the judge itself must see.
@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (9007199254740993, 9007199254740992),
        (9007199254740993, 9007199254740992.0),
        (1, True),
        (1, "1"),
        (0.1, 0.2),
        ([1], [1, 2]),
        ({"a": 1}, {"a": 1, "b": 1}),
        (None, False),
        ("\u00e9", "e\u0301"),
    ],
)
def test_tells_values_apart(expected: Any, actual: Any) -> None:
    assert same(expected, expected)
    assert not same(expected, actual)


@pytest.mark.parametrize(("expected", "actual"), [(1, 1.0), (1.0, 1), (0.0, -0.0), (2**64, 1.8446744073709552e19)])
def test_takes_the_same_number(expected: Any, actual: Any) -> None:
    assert same(expected, actual)

"""Apps: what may be one, how they start and end, what is told when they do not, and what they raise."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import APPS, BUILD, ORIGINAL, PRELOAD, Dirtyd, pb

FAST = {"initial_backoff": "100s", "max_backoff": "100s"}
ERRORS = "shapes:Errors"
CONFIG = {"apps": ["shapes:Base", "shapes:Duck", "shapes:GunicornLike", ERRORS, "shapes:Talker"], "restart": FAST}


def test_a_dirty_app_answers_by_method_name(shared: Dirtyd) -> None:
    assert shared.call("shapes:Base", "greet", "you") == "hello you"
    assert shared.call("shapes:Base", "greet", kwargs={"name": "me"}) == "hello me"


@pytest.mark.parametrize("action", ["_private", "__init__", "init", "close", "attribute", "nothing", "__class__"])
def test_what_is_no_action(shared: Dirtyd, action: str) -> None:
    for app in ("shapes:Base", "shapes:Duck"):
        error = shared.fails(app, action)
        assert (error.reason, error.exception_type) == (pb().REASON_APP_ERROR, "ValueError")
        assert error.message.startswith(f"Unknown action: '{action}' (there are: greet")


def test_classes_that_merely_have_the_methods(shared: Dirtyd) -> None:
    assert shared.call("shapes:Duck", "greet", "you") == "quack you"
    assert shared.call("shapes:GunicornLike", "greet") == "hello from gunicorn"


def test_the_original_text_runs_as_printed(dirtyd: Dirtyd) -> None:
    apps = ["myapp.ml:MLApp", "myapp.images:ImageApp"]
    dirtyd.ready({"apps": apps, "chdir": str(ORIGINAL), "pythonpath": [str(APPS / "fakes")]})
    assert dirtyd.call(apps[0], "load_model", "gpt-4") == {"loaded": True, "name": "gpt-4"}
    text = dirtyd.call(apps[0], "inference", "gpt-4", kwargs={"input_text": {"$attachment": 0}}, attachments=(b"hi",))
    assert text == "gpt-4 read 2 bytes: hi"
    assert dirtyd.fails(apps[0], "inference", "no", "x").message == "Model not loaded: no"
    image = {"$attachment": 0}
    assert dirtyd.call(apps[1], "thumbnail", image, kwargs={"size": 256}, attachments=(b"picture",)) == (
        b"picture thumbnail of 256x256 as JPEG"
    )
    assert dirtyd.call(apps[1], "resize", image, 3, 4, attachments=(b"p",)) == b"p resized to 3x4 as PNG"


def test_an_app_may_say_how_many_workers_it_wants(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"workers": 3, "apps": ["few:Model", "few:Light", "few:Office"]})
    loaded = {worker["index"]: worker["apps"] for worker in dirtyd.status()["workers"]}
    assert loaded == {
        0: ["few:Model", "few:Light", "few:Office"],
        1: ["few:Light", "few:Office"],
        2: ["few:Light", "few:Office"],
    }
    assert dirtyd.log().count("Model loaded in") == 1
    assert dirtyd.log().count("few:Model wants 1 worker, and this is another") == 2
    assert dirtyd.call("few:Office", "workers") == ["Ann", "Bob"]
    first = dirtyd.call("few:Model", "pid")
    os.kill(first, signal.SIGKILL)
    dirtyd.wait_for_line("killed by SIGKILL")
    assert dirtyd.call("few:Model", "pid") != first  # it waits for the one that takes its place
    loaded = {worker["index"]: len(worker["apps"]) for worker in dirtyd.status()["workers"]}
    assert loaded == {0: 3, 1: 2, 2: 2}


def test_the_configuration_wins_over_the_class(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"workers": 3, "apps": ["few:Model:2", "few:Light"]})
    (model,) = [app for app in dirtyd.status()["apps"] if app["name"] == "few:Model"]
    assert model["ready_workers"] == 2


@pytest.mark.parametrize(("app", "value"), [("few:Nobody", "0"), ("few:Half", "'1'")])
def test_a_class_attribute_that_is_no_number_of_workers(dirtyd: Dirtyd, app: str, value: str) -> None:
    dirtyd.start({"apps": [app], "restart": FAST})
    line = dirtyd.wait_for_line("failed to start")
    name = app.partition(":")[2]
    assert f"the class attribute workers of {name} is {value}, and should be a whole number of at least 1" in line


def test_init_and_close_run_once_also_asynchronous_ones(dirtyd: Dirtyd) -> None:
    notes = dirtyd.folder / "notes"
    apps = ["shapes:Lifecycle", "shapes:AsyncLifecycle", "shapes:ClosesBadly"]
    dirtyd.ready({"apps": apps, "env": {"NOTES": str(notes)}})
    assert dirtyd.call(apps[0], "act") == "done"
    assert dirtyd.call(apps[1], "anything", 1) == ["anything", [1]]
    assert dirtyd.stop() == 0
    assert notes.read_text().splitlines() == [
        "Lifecycle init", "AsyncLifecycle init", "ClosesBadly init", "Lifecycle act", "AsyncLifecycle called anything",
        "ClosesBadly close", "AsyncLifecycle close", "Lifecycle close",
    ]  # fmt: skip
    assert "close() of shapes:ClosesBadly raised RuntimeError: cannot close" in dirtyd.log()
    assert dirtyd.log().count("exited with 0") == 1


@pytest.mark.parametrize(
    ("app", "told"),
    [
        (
            "shapez:Base",
            ["ModuleNotFoundError: No module named 'shapez'", "add the folder that holds it to pythonpath"],
        ),
        ("shapes.sub:Base", ["No module named 'shapes.sub'"]),
        ("shapes:Bass", ["has no class 'Bass'; did you mean 'Base'?", "shapes.py"]),
        ("shapes:function", ["shapes:function is a function, and an app is a class"]),
        ("shapes:instance", ["shapes:instance is an instance of Duck, and an app is a class"]),
        ("shapes:InitFails", ["FileNotFoundError", "models/base.pt is missing"]),
        ("shapes:NeedsArguments", ["TypeError", "missing 1 required positional argument: 'what'"]),
        ("broken:App", ["ModuleNotFoundError", "No module named 'surely_not_there'"]),
        ("syntax:App", ["SyntaxError", "syntax.py, line 1"]),
    ],
)
def test_an_app_that_cannot_start_says_why_and_others_serve(dirtyd: Dirtyd, app: str, told: list[str]) -> None:
    folder = dirtyd.folder / "more"
    folder.mkdir()
    (folder / "broken.py").write_text("import surely_not_there\n")
    (folder / "syntax.py").write_text("class App\n")
    dirtyd.start({"apps": [app, "shapes:Base"], "pythonpath": [str(folder)], "restart": FAST})
    line = dirtyd.wait_for_line(rf"{app}.*interpreter")
    for part in [*told, f"interpreter {sys.executable}", "search path: ", str(APPS), str(folder)]:
        assert part in line
    if app == "syntax:App":
        assert re.search(r'syntax:App:   File "/.*/syntax.py", line 1\n.*syntax:App:     class App\n', dirtyd.log())
    dirtyd.wait_for_line(r"shapes:Base is ready")
    assert dirtyd.call("shapes:Base", "greet") == "hello you"


def test_the_traceback_has_the_users_frames_only(shared: Dirtyd) -> None:
    error = shared.fails(ERRORS, "chained")
    assert error.exception_type == "dirty.errors.DirtyError"
    assert error.message == "outer"
    lines = [line.strip() for line in error.traceback.splitlines()]
    files = [line for line in lines if line.startswith("File ")]
    assert len(files) == 2 and all("shapes.py" in line for line in files)
    assert lines[-1] == "dirty.errors.DirtyError: outer" and "KeyError: 'key'" in lines
    assert "json/decoder.py" in shared.fails(ERRORS, "library").traceback


def test_exceptions_that_cannot_even_be_shown(shared: Dirtyd) -> None:
    error = shared.fails(ERRORS, "nasty")
    assert error.exception_type == "shapes.Nasty"
    assert error.message == "<str() of this Nasty raised RuntimeError>"
    assert "in nasty" in error.traceback


def test_other_ways_to_fail(shared: Dirtyd) -> None:
    assert shared.fails(ERRORS, "exits").exception_type == "SystemExit"
    assert shared.fails(ERRORS, "deep", 0).exception_type == "RecursionError"
    error = shared.fails(ERRORS, "wrong_arguments")
    assert error.exception_type == "TypeError" and "missing 1 required positional argument" in error.message
    assert (error.app, error.action, error.worker_id) == (ERRORS, "wrong_arguments", 1)
    assert shared.call(ERRORS, "wrong_arguments", 1) == 1


def test_what_apps_print_is_logged_line_by_line(shared: Dirtyd) -> None:
    shared.call("shapes:Talker", "talk")
    assert "stream=stdout" in shared.wait_for_line(r"printed, not flushed: é .*udc80")
    assert "stream=stderr" in shared.wait_for_line("to stderr")
    assert "stream=stderr" in shared.wait_for_line("INFO:root:logged")


def test_the_search_path(dirtyd: Dirtyd) -> None:
    first, second, third = (dirtyd.folder / name for name in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
        (folder / "helper.py").write_text("")
    (first / "main.py").write_text((APPS / "shapes.py").read_text())
    # Nothing of dirtyd's own hides this one.
    (third / "dirty_helper.py").write_text("")
    dirtyd.ready({"apps": ["main:Where"], "chdir": str(first), "pythonpath": [str(second)]}, {"PYTHONPATH": str(third)})
    path = dirtyd.call("main:Where", "path")
    assert path[:3] == [str(first), str(second), str(third)]
    assert pathlib.Path(path[-1]).samefile(BUILD / "python")
    info = dirtyd.call("main:Where", "info")
    assert info["cwd"] == str(first) and info["helper"] == str(first / "helper.py")


def test_two_interpreters_in_two_pools(dirtyd: Dirtyd) -> None:
    environment = dirtyd.folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python3*/site-packages")
    (site / "helper.py").write_text("")
    (dirtyd.folder / "other").mkdir()
    (dirtyd.folder / "other" / "helper.py").write_text("")
    (dirtyd.folder / "other" / "system.py").write_text("from shapes import Where\n")
    dirtyd.ready({
        "apps": [],
        "pools": [
            {"name": "venv", "workers": 1, "python": str(environment / "bin" / "python"), "apps": ["shapes:Where"]},
            {"name": "system", "workers": 1, "python": sys.executable, "apps": ["system:Where"],
             "pythonpath": [str(dirtyd.folder / "other")]},
        ],
    })  # fmt: skip
    venv, system = dirtyd.call("shapes:Where", "info"), dirtyd.call("system:Where", "info")
    assert venv["executable"] == str(environment / "bin" / "python")
    assert venv["helper"] == str(site / "helper.py")
    assert system["executable"] == sys.executable
    assert venv["pid"] != system["pid"]


def test_the_init_hook_runs_after_every_init(dirtyd: Dirtyd) -> None:
    hooks = {"dirty_worker_init": {"python": "shapes:worker_init"}}
    dirtyd.ready({"apps": ["shapes:Base", "shapes:Duck"], "hooks": hooks})
    assert "True 1 1 0 default ['shapes:Base', 'shapes:Duck']" in dirtyd.wait_for_line("hook: ")
    assert dirtyd.call("shapes:Base", "greet") == "hello you"


def test_an_init_hook_that_raises_fails_the_start(dirtyd: Dirtyd) -> None:
    hooks = {"dirty_worker_init": {"python": "shapes:worker_init_fails"}}
    dirtyd.start({"apps": ["shapes:Base"], "hooks": hooks, "restart": FAST})
    dirtyd.wait_for_line("dirty_worker_init: shapes:worker_init_fails raised RuntimeError: the license server is down")
    dirtyd.wait_for_line(r"worker 1 \(pid \d+\): exited with 1")


def test_an_interpreter_without_an_extension_is_told_what_to_do(tmp_path: pathlib.Path) -> None:
    # What dirtyd starts, from a folder in which nothing was built.
    for package in ("dirty", "dirty_worker"):
        shutil.copytree(BUILD / "python" / package, tmp_path / package)
    ran = subprocess.run([sys.executable, "-m", "dirty_worker"], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path)  # fmt: skip
    assert ran.returncode == 1
    version = ".".join(map(str, sys.version_info[:3]))
    assert f"no extension was built for CPython {version} ({sys.executable})" in ran.stderr
    assert f"-DDIRTY_PYTHONS='{sys.executable}'" in ran.stderr


def test_started_by_hand_it_says_who_should(tmp_path: pathlib.Path) -> None:
    # What the interpreter itself does not free is not ours.
    sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    environment = {"PYTHONPATH": str(BUILD / "python"), "LD_PRELOAD": PRELOAD, "ASAN_OPTIONS": sanitizer}
    ran = subprocess.run(
        [sys.executable, "-m", "dirty_worker"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **environment},
    )
    assert ran.returncode == 2
    assert "is started by dirtyd" in ran.stderr and "DIRTY_WORKER_SOCKET is not set" in ran.stderr

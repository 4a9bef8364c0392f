"""Hooks that are Python functions, and gunicorn.conf.py as configuration."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

from conftest import BUILD, Dirtyd, sanitizer

HOOKS = """
import os, sys, time
seen = []

def starting(arbiter):
    seen.append("starting")
    print("starting", arbiter.pid, arbiter.age >= 0, arbiter.apps)
    arbiter.log.info("as in gunicorn")

def post_fork(arbiter, worker):
    seen.append("post_fork")
    print("post_fork", arbiter.pid, worker.pid, worker.age, worker.apps, seen)

def worker_init(worker):
    print("worker_init", worker.pid, worker.age, sorted(worker.apps))

async def worker_exit(arbiter, worker):
    print("worker_exit", worker.id, worker.exit["signal"], seen)

def raises(*args):
    raise KeyError("no such thing")

def sleeps(*args):
    time.sleep(100)

def dies(*args):
    print("last words", file=sys.stderr)
    os._exit(3)
"""

APP = "simple_app:App"


def write(folder: pathlib.Path, hooks: dict[str, str]) -> dict[str, Any]:
    """A configuration with an app, and hooks by the names of their functions."""
    (folder / "my_hooks.py").write_text(HOOKS)
    (folder / "simple_app.py").write_text("class App:\n    def ping(self):\n        return 'pong'\n")
    return {
        "apps": [APP],
        "chdir": str(folder),
        "hooks": {name: {"python": f"my_hooks:{function}"} for name, function in hooks.items()},
    }


def test_the_hooks_run_in_order_in_one_process_and_its_globals_persist(dirtyd: Dirtyd, tmp_path: pathlib.Path) -> None:
    hooks = {"on_dirty_starting": "starting", "dirty_post_fork": "post_fork", "dirty_worker_init": "worker_init",
             "dirty_worker_exit": "worker_exit"}  # fmt: skip
    dirtyd.ready(write(tmp_path, hooks))
    assert dirtyd.process is not None
    pid = dirtyd.process.pid
    dirtyd.wait_for_line(rf"starting {pid} True \['{APP}'\] hook=python stream=stdout")
    dirtyd.wait_for_line(r"INFO as in gunicorn hook=python")
    first = dirtyd.worker_pid()
    dirtyd.wait_for_line(rf"post_fork {pid} {first} 1 \['{APP}'\] \['starting', 'post_fork'\]")
    dirtyd.wait_for_line(rf"worker_init {first} 1 \['{APP}'\] worker=1 stream=stdout")
    os.kill(first, 9)
    dirtyd.wait_for_line(r"worker_exit 1 SIGKILL \['starting', 'post_fork'")
    dirtyd.wait_for_line(r"post_fork .* 2 .* \['starting', 'post_fork', 'post_fork'\]")
    # At the end its last hooks are waited for.
    assert dirtyd.stop() == 0
    dirtyd.wait_for_line(r"worker_exit 2 ")


def test_after_a_reload_hooks_are_the_code_as_it_is_by_then(dirtyd: Dirtyd, tmp_path: pathlib.Path) -> None:
    dirtyd.ready(write(tmp_path, {"dirty_post_fork": "post_fork"}))
    dirtyd.wait_for_line(r"post_fork .* \['post_fork'\]")
    (tmp_path / "my_hooks.py").write_text(HOOKS.replace('print("post_fork"', 'print("post_fork as edited"'))
    assert dirtyd.process is not None
    dirtyd.process.send_signal(1)
    dirtyd.wait_for_line(r"post_fork as edited .* \['post_fork'\]")
    dirtyd.wait_for_line(r"reloaded, generation 2")
    dirtyd.stop()


def test_a_failed_starting_hook_fails_the_start(dirtyd: Dirtyd, tmp_path: pathlib.Path) -> None:
    dirtyd.start(write(tmp_path, {"on_dirty_starting": "raises"}))
    dirtyd.wait_for_line(r"hook on_dirty_starting failed: my_hooks:raises raised KeyError: 'no such thing'")
    assert dirtyd.stop() == 1
    dirtyd.process = None
    assert 'raise KeyError("no such thing")' in dirtyd.log()


def test_a_function_that_is_missing_is_told_with_its_nearest(dirtyd: Dirtyd, tmp_path: pathlib.Path) -> None:
    dirtyd.ready(write(tmp_path, {"dirty_post_fork": "post_forks"}))
    dirtyd.wait_for_line(r"hook dirty_post_fork failed: .*has no function 'post_forks'.*did you mean 'post_fork'")
    assert dirtyd.call(APP, "ping") == "pong"
    dirtyd.stop()


def test_a_hook_that_hangs_is_killed_and_the_next_one_runs(dirtyd: Dirtyd, tmp_path: pathlib.Path) -> None:
    config = write(tmp_path, {"dirty_post_fork": "sleeps", "dirty_worker_exit": "worker_exit"})
    dirtyd.ready({**config, "hook_timeout": "3s"})
    dirtyd.wait_for_line(r"hook dirty_post_fork failed: killed after its timeout of 3s")
    os.kill(dirtyd.worker_pid(), 9)
    # In a new helper, whose globals are new too.
    dirtyd.wait_for_line(r"worker_exit 1 SIGKILL \[\]")
    dirtyd.stop()


def test_a_helper_that_dies_fails_its_hook_only(dirtyd: Dirtyd, tmp_path: pathlib.Path) -> None:
    dirtyd.ready(write(tmp_path, {"dirty_post_fork": "dies", "dirty_worker_exit": "worker_exit"}))
    dirtyd.wait_for_line(r"hook dirty_post_fork failed: the helper exited with 3: last words")
    assert dirtyd.call(APP, "ping") == "pong"
    os.kill(dirtyd.worker_pid(), 9)
    dirtyd.wait_for_line(r"worker_exit 1 SIGKILL")
    dirtyd.stop()


# --- gunicorn.conf.py ---

CONF = """
import os
bind = "127.0.0.1:8000"
workers = 4
dirty_apps = ["simple_app:App"]
dirty_workers = 2
raw_env = ["PRICE=${5}", *@RAW_ENV@]
marks = []

def on_dirty_starting(arbiter):
    marks.append("starting")

def dirty_post_fork(arbiter, worker):
    print("marks", marks)

def dirty_worker_init(worker):
    print("initialised", worker.pid, os.environ["PRICE"])
"""


CONF = CONF.replace("@RAW_ENV@", repr([f"{key}={value}" for key, value in sanitizer().items()]))


def run(folder: pathlib.Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """dirtyd with a gunicorn.conf.py of this text."""
    (folder / "gunicorn.conf.py").write_text(text)
    command = [BUILD / "bin" / "dirtyd", "--config", "gunicorn.conf.py", "--runtime_dir", "run", "--python",
               sys.executable, *arguments]  # fmt: skip
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_gunicorns_configuration_is_taken_over_and_what_is_not_used_is_told(tmp_path: pathlib.Path) -> None:
    ran = run(tmp_path, CONF, "--check")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("does not use: bind, workers\n") == 1
    assert "workers: 2" in ran.stdout and "timeout: 300s" in ran.stdout
    assert "simple_app:App" in ran.stdout and f"{tmp_path}/gunicorn.conf.py:dirty_worker_init" in ran.stdout


def test_gunicorns_default_of_no_dirty_workers_is_kept(tmp_path: pathlib.Path) -> None:
    ran = run(tmp_path, "dirty_apps = ['a:B']\n", "--check")
    assert ran.returncode == 0, ran.stderr
    assert "\nworkers: 0" in ran.stdout


def test_what_is_wrong_with_it_is_told(tmp_path: pathlib.Path) -> None:
    for text, message in {
        "\nimport nowhere\n": "line 2: ModuleNotFoundError: No module named 'nowhere'",
        "oops(\n": "line 1: SyntaxError: '(' was never closed",
        "dirty_apps = 'a:B'\n": "dirty_apps is a list of 'module:Class' strings, not 'a:B'",
        "dirty_apps = ['a:B']\ndirty_workers = '2'\n": "dirty_workers is a number, not '2'",
        "bind = ':80'\n": "dirty_apps is empty",
    }.items():
        ran = run(tmp_path, text, "--check")
        assert ran.returncode == 2
        assert message in ran.stderr, ran.stderr


def test_it_runs_with_its_hooks_and_reloads(dirtyd: Dirtyd, tmp_path: pathlib.Path) -> None:
    write(tmp_path, {})
    (tmp_path / "gunicorn.conf.py").write_text(CONF)
    dirtyd.start_with(tmp_path / "gunicorn.conf.py")
    dirtyd.wait_for_line(r" ready: 2/2 workers")
    dirtyd.wait_for_line(r"marks \['starting'\] hook=python", count=2)
    dirtyd.wait_for_line(r"initialised \d+ \$\{5\} worker=", count=2)
    assert dirtyd.call(APP, "ping") == "pong"
    (tmp_path / "gunicorn.conf.py").write_text(CONF.replace("dirty_workers = 2", "dirty_workers = 1"))
    assert dirtyd.process is not None
    dirtyd.process.send_signal(1)
    dirtyd.wait_for_line(r"reloaded, generation 2: .*workers 2 -> 1")
    dirtyd.stop()

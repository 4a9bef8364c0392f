"""Reads a gunicorn.conf.py for dirtyd: `python -m dirty_worker.gunicorn_config FILE` prints it as dirtyd's YAML.

Runs in the user's interpreter, in a process of its own, once for each start and reload. What gunicorn's dirty arbiters
use is taken over, with gunicorn's defaults; what they do not use is told once, on standard error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

# gunicorn's name, dirtyd's, gunicorn's default.
SETTINGS = (
    ("dirty_workers", "workers", 0),
    ("dirty_threads", "threads", 1),
    ("dirty_timeout", "timeout", 300),
    ("dirty_graceful_timeout", "graceful_timeout", 30),
)
HOOKS = ("on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit")
# Of gunicorn as a whole, and of the dirty workers too.
ENVIRONMENT = ("chdir", "pythonpath", "raw_env")
# The last line: all of it has arrived.
END = "# end of gunicorn's configuration"


class ConfigError(Exception):
    """What is wrong, for the operator."""


def read(path: str) -> dict[str, Any]:
    """Runs the file, as gunicorn does; returns its globals."""
    namespace: dict[str, Any] = {"__file__": path, "__name__": "__config__", "__builtins__": __builtins__}
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec"), namespace)
    return namespace


def to_config(namespace: dict[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    """dirtyd's configuration, and the names of the settings that it does not use.

    Raises:
        ConfigError: A setting has a value that cannot be taken over.
    """
    config: dict[str, Any] = {}
    apps = namespace.get("dirty_apps", [])
    if not isinstance(apps, (list, tuple)) or not all(isinstance(app, str) for app in apps):
        raise ConfigError(f"dirty_apps is a list of 'module:Class' strings, not {apps!r}")
    if not apps:
        raise ConfigError("dirty_apps is empty: nothing to run")
    config["apps"] = list(apps)
    for name, key, default in SETTINGS:
        value = namespace.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{name} is a number, not {value!r}")
        config[key] = value
    config["chdir"] = namespace.get("chdir") or os.path.dirname(os.path.abspath(path))
    if namespace.get("pythonpath"):
        config["pythonpath"] = [folder for folder in namespace["pythonpath"].split(",") if folder]
    if namespace.get("raw_env"):
        raw_env = namespace["raw_env"]
        pairs = [raw_env] if isinstance(raw_env, str) else list(raw_env)
        if not all(isinstance(pair, str) and "=" in pair for pair in pairs):
            raise ConfigError(f"raw_env is a list of 'NAME=value' strings, not {raw_env!r}")
        config["env"] = dict(pair.split("=", 1) for pair in pairs)
    hooks = {}
    for name in HOOKS:
        hook = namespace.get(name)
        if hook is None:
            continue
        if not callable(hook):
            raise ConfigError(f"{name} is a function, not {hook!r}")
        hooks[name] = {"python": f"{os.path.abspath(path)}:{name}"}
    if hooks:
        config["hooks"] = hooks
    used = {"dirty_apps", *(name for name, _, _ in SETTINGS), *HOOKS, *ENVIRONMENT}
    return config, sorted(name for name in namespace if name in gunicorn_settings() and name not in used)


def gunicorn_settings() -> set[str]:
    """The names of gunicorn's settings: its own list where it is installed, else those that are most used."""
    try:
        from gunicorn.config import KNOWN_SETTINGS  # type: ignore[import-not-found]

        return {setting.name for setting in KNOWN_SETTINGS}
    except ImportError:
        return {
            "accesslog", "backlog", "bind", "capture_output", "certfile", "daemon", "errorlog", "forwarded_allow_ips",
            "graceful_timeout", "group", "keepalive", "keyfile", "limit_request_line", "loglevel", "max_requests",
            "max_requests_jitter", "on_exit", "on_reload", "on_starting", "pidfile", "post_fork", "post_worker_init",
            "pre_fork", "preload_app", "proc_name", "reload", "reuse_port", "threads", "timeout", "tmp_upload_dir",
            "umask", "user", "when_ready", "worker_abort", "worker_class", "worker_connections", "worker_exit",
            "worker_int", "worker_tmp_dir", "workers", "wsgi_app",
        }  # fmt: skip


def literal(value: Any) -> Any:
    """The value without anything that dirtyd's YAML would expand."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    return [literal(item) for item in value] if isinstance(value, list) else value


def main(arguments: list[str]) -> int:
    """Prints the file's configuration; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m dirty_worker.gunicorn_config FILE", file=sys.stderr)
        return 2
    path = arguments[0]
    # Whatever the file prints is not configuration.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        config, unused = to_config(read(path), path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except BaseException as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        if isinstance(error, SyntaxError) and error.filename == path:
            lines.append(error.lineno)
        what = traceback.format_exception_only(type(error), error)[-1].strip()
        print(f"line {lines[-1]}: {what}" if lines else what, file=sys.stderr)
        return 1
    with out:
        for key, value in literal(config).items():
            print(f"{key}: {json.dumps(value)}", file=out)
        if unused:
            print(f"# unused: {', '.join(unused)}", file=out)
        print(END, file=out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

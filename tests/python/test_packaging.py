"""The wheels: built, installed into a clean environment, and used there as their users will.

`pip install ./client/python ./worker/python` would fetch what builds them; here that is pinned and installed once
(tests/python/packaging/), and the build folder stays, so that a second run compiles what has changed.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import APPS, BUILD, ROOT, USES_OF_A_CLIENT, Dirtyd
from packages import environment

HERE = BUILD / "tests" / "packaging"
REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "packaging"
APP = "calls:Calls"


def run(*command: str | pathlib.Path, folder: pathlib.Path = HERE, **env: str) -> str:
    """What a command prints, without anything of this process' Python and with nothing of the tree; it must succeed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DIRTY_", "VIRTUAL_ENV"))}
    ran = subprocess.run(command, cwd=folder, env={**clean, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, timeout=600, check=False)  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


@pytest.fixture(scope="session")
def tools() -> pathlib.Path:
    """The environment that wheels are built in."""
    return environment(HERE / "tools", REQUIREMENTS / "tools.txt")


@pytest.fixture(scope="session")
def wheels(tools: pathlib.Path) -> list[pathlib.Path]:
    """Both wheels, client first."""
    folder = HERE / "wheels"
    shutil.rmtree(folder, ignore_errors=True)
    for package in ("client", "worker"):
        # Only the client has something to compile; its folder's path does not vary, so that ccache knows it.
        settings = [f"--config-settings=build-dir={HERE}/build"] if package == "client" else []
        run(tools / "bin/pip", "wheel", "-v", "--no-deps", "--no-build-isolation", *settings, "-w", folder,
            ROOT / package / "python", PATH=f"{tools}/bin:{os.environ['PATH']}")  # fmt: skip
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def user(wheels: list[pathlib.Path]) -> pathlib.Path:
    """An environment with the wheels and grpcio; the folder of its interpreter."""
    folder = environment(HERE / "user", REQUIREMENTS / "user.txt")
    run(folder / "bin/pip", "install", "-q", "--no-index", "--force-reinstall", *wheels)
    return folder / "bin"


def where(user: pathlib.Path) -> pathlib.Path:
    """Where that environment keeps its packages."""
    (site,) = user.parent.glob("lib/python3*/site-packages")
    return site


def test_what_the_wheels_hold(wheels: list[pathlib.Path]) -> None:
    names = [set(zipfile.ZipFile(wheel).namelist()) for wheel in wheels]
    sources = [ROOT / "client/python/dirty", ROOT / "worker/python/dirty_worker"]
    for held, source in zip(names, sources):
        wanted = {
            str(file.relative_to(source.parent)) for file in source.rglob("*") if file.suffix in (".py", ".typed")
        }
        assert wanted <= held
        packages = {name.split("/")[0] for name in held if not name.split("/")[0].endswith(".dist-info")}
        assert {name for name in packages if not name.startswith("_dirty.")} == {source.name}
    assert {"_dirty.pyi", "dirty/py.typed", "dirty/v1/arbiter_pb2_grpc.py", "dirty/v1/call_pb2.pyi"} <= names[0]
    assert len([name for name in names[0] if name.endswith(".so")]) == 1
    assert wheels[0].stat().st_size < 3 << 20


VERSIONS = """
import importlib.metadata, json
import _dirty, dirty, dirty_worker
print(json.dumps([
    importlib.metadata.version("dirty-client"), importlib.metadata.version("dirty-worker"),
    _dirty.__version__, dirty.__version__, dirty_worker.__version__,
]))
"""


def test_one_version_everywhere(user: pathlib.Path) -> None:
    told = subprocess.run([BUILD / "bin/dirtyd", "--version"], check=True, capture_output=True, text=True).stdout
    assert {f"dirtyd {version}" for version in json.loads(run(user / "python", "-c", VERSIONS))} == {
        " ".join(told.split()[:2])
    }


SYNC_AND_ASYNC = f"""
import dirty_worker, grpc, google.protobuf
from dirty.v1 import arbiter_pb2_grpc, call_pb2
{USES_OF_A_CLIENT}
assert all("site-packages" in module.__file__ for module in (dirty, dirty_worker, call_pb2)), dirty.__file__
blob = {{"deep": [bytes(range(256)) * 4096]}}
assert client.execute("calls:Calls", "same", blob) == blob
with grpc.insecure_channel("unix:" + sys.argv[1]) as channel:
    request = call_pb2.ExecuteRequest(app="calls:Calls", action="same", args="[1]")
    assert arbiter_pb2_grpc.ArbiterStub(channel).Execute(request, timeout=60).result == "1"
assert client.execute("calls:Calls", "same", 1) == 1
"""


def test_apps_and_calls_from_a_clean_environment(dirtyd: Dirtyd, user: pathlib.Path) -> None:
    dirtyd.ready({"apps": [APP, "files:Files"], "python": str(user / "python"), "threads": 2,
                  "pythonpath": [str(shared_folder(dirtyd.folder))]})  # fmt: skip
    assert dirtyd.call("files:Files", "files")[0] == str(user / "python")
    run(user / "python", "-c", SYNC_AND_ASYNC, dirtyd.socket)


USER = """
import asyncio
from typing import Any
import dirty
from dirty.v1 import call_pb2

class App(dirty.DirtyApp):
    workers = 2

    def double(self, number: int) -> int:
        return number * 2

async def view() -> Any:
    client = await dirty.get_dirty_client_async()
    async for chunk in client.stream_async("a:B", "c", timeout=1.5):
        print(chunk)
    return await client.execute_async("a:B", "c", 1, key=b"x", timeout=None)

def describe(error: dirty.DirtyError) -> str:
    return f"{error.reason} {error.app_path} {error.retry_delay}"

client: dirty.DirtyClient = dirty.get_dirty_client("/run/dirty/dirty.sock")
with client.stream("a:B", "c") as values:
    first: Any = next(values)
request = call_pb2.ExecuteRequest(app="a:B", action="c")
"""


def mypy(tools: pathlib.Path, user: pathlib.Path, folder: pathlib.Path, code: str) -> subprocess.CompletedProcess[str]:
    """What a checker says of a user's code."""
    (folder / "code.py").write_text(code)
    command = [tools / "bin/mypy", "--strict", "--python-executable", user / "python", "code.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_users_types_hold(tools: pathlib.Path, user: pathlib.Path, tmp_path: pathlib.Path) -> None:
    checked = mypy(tools, user, tmp_path, USER)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    wrong = mypy(
        tools,
        user,
        tmp_path,
        "import dirty\ndirty.get_dirty_client().execute(1)\nclient: int = dirty.get_dirty_client()\n",
    )
    assert wrong.returncode == 1 and wrong.stdout.count("error: ") == 3, wrong.stdout


FILES = """
import _dirty, dirty, dirty_worker, sys
class Files(dirty.DirtyApp):
    def files(self):
        from dirty import _gevent, v1
        from dirty_worker import hooks
        modules = (_dirty, dirty, dirty_worker, _gevent, v1, hooks)
        return [sys.executable, *(module.__file__ for module in modules)]
"""


def shared_folder(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "files.py").write_text(FILES)
    return folder


def test_older_packages_in_the_environment_are_not_mixed_in(dirtyd: Dirtyd) -> None:
    """dirtyd's own come first, all of them: what the environment has for its web workers is not touched."""
    folder = dirtyd.folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for name in ("dirty", "dirty_worker"):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("raise ImportError('the old one')\n")
    (site / "_dirty.py").write_text("raise ImportError('the old one')\n")
    dirtyd.ready({"apps": ["files:Files"], "python": str(folder / "bin/python"),
                  "chdir": str(shared_folder(dirtyd.folder))})  # fmt: skip
    interpreter, *files = dirtyd.call("files:Files", "files")
    assert interpreter == str(folder / "bin/python")
    assert all(pathlib.Path(file).is_relative_to(BUILD) for file in files), files


class Elsewhere(Dirtyd):
    """A dirtyd whose Python folder has no extension for this interpreter."""

    def __init__(self, folder: pathlib.Path, prefix: pathlib.Path) -> None:
        super().__init__(folder)
        shutil.rmtree(prefix, ignore_errors=True)
        (prefix / "bin").mkdir(parents=True)
        os.link(BUILD / "bin/dirtyd", prefix / "bin/dirtyd")
        shutil.copytree(BUILD / "lib/dirty", prefix / "lib/dirty",
                        ignore=shutil.ignore_patterns("_dirty*", "apps", "*.so", "__pycache__"))  # fmt: skip
        self.program = prefix / "bin/dirtyd"


def test_the_wheels_serve_a_dirtyd_that_has_no_extension_for_their_interpreter(
    tmp_path: pathlib.Path, user: pathlib.Path
) -> None:
    daemon = Elsewhere(tmp_path, HERE / "prefix")
    daemon.ready({"apps": ["files:Files"], "python": str(user / "python"), "chdir": str(shared_folder(tmp_path))})
    interpreter, extension, *packages = daemon.call("files:Files", "files")
    assert interpreter == str(user / "python")
    assert pathlib.Path(extension).parent == where(user)
    assert all(pathlib.Path(file).is_relative_to(HERE / "prefix") for file in packages), packages
    assert daemon.stop() == 0


def test_an_extension_of_another_version_is_refused(tmp_path: pathlib.Path) -> None:
    daemon = Elsewhere(tmp_path, HERE / "prefix")
    old = tmp_path / "old"
    old.mkdir()
    (old / "_dirty.py").write_text("__version__ = '0.0.1'\n")
    daemon.start({"apps": [APP]}, {"PYTHONPATH": str(old)})
    told = daemon.wait_for_line(r"the extension in .*_dirty.py is of version 0\.0\.1")
    assert "but the package dirty in" in told and str(HERE / "prefix") in told
    daemon.wait_for_line(r"exited with 1")
    assert daemon.stop() == 0


def test_packages_of_two_versions_are_refused(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "python"
    shutil.copytree(BUILD / "python", folder, ignore=shutil.ignore_patterns("__pycache__"))
    init = folder / "dirty" / "__init__.py"
    text = init.read_text()
    init.unlink()
    init.write_text(text.replace('__version__ = "', '__version__ = "0.0.'))
    ran = subprocess.run([sys.executable, "-m", "dirty_worker"], capture_output=True, text=True, cwd=APPS, check=False,
                         env={**os.environ, "PYTHONPATH": str(folder)})  # fmt: skip
    assert ran.returncode == 1
    assert "one version of both" in ran.stderr and str(folder) in ran.stderr

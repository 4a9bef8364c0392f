"""The examples as their READMEs tell, and the original text's code, under real web servers with real HTTP requests.

What they need from PyPI is installed into environments below the build directory, once. Where that cannot be done, the
tests are skipped, but with CI=true they fail.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, Optional

import pytest
from conftest import BUILD, ORIGINAL, PATIENCE, ROOT
from packages import NO_PACKAGES, install

sys.path.insert(0, str(ROOT / "tests" / "docs"))
import docs_commands as docs

PICTURES = ROOT / "examples" / "thumbnail" / "pictures"

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason=f"{NO_PACKAGES}: the pinned versions need CPython 3.11, this is {sys.version}"
)


class Program:
    """A server in the background, in a process group of its own."""

    def __init__(self, command: str, folder: pathlib.Path, env: dict[str, str]) -> None:
        self.command = command
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._grown:
                self.lines.append(line.rstrip("\n"))
                self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    def wait_for(self, expected: list[str]) -> None:
        """Returns once it has said what a document shows."""
        deadline = time.monotonic() + PATIENCE
        with self._grown:
            while not docs.matches([*expected, "..."], self.lines):
                if self._ended or not self._grown.wait(max(0, deadline - time.monotonic())):
                    raise AssertionError(f"{self.command}\ndid not say {expected}, but:\n{self.said()}")

    def said(self) -> str:
        """All its output so far."""
        with self._grown:
            return "\n".join(self.lines)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"{self.command}\ndid not end, and said:\n{self.said()}") from None
        with self._grown:
            assert self._grown.wait_for(lambda: self._ended, PATIENCE)
        return code


class Place:
    """A folder that looks like a clone that was built. It stays, so that environments in it need not be made again."""

    def __init__(self, runtime: pathlib.Path) -> None:
        self.folder = BUILD / "tests" / "examples" / (sys.implementation.cache_tag or "python")
        (self.folder / "build").mkdir(parents=True, exist_ok=True)
        for name, target in (("examples", ROOT / "examples"), ("build/release", BUILD)):
            link = self.folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        self.runtime = runtime
        self.port = free_port()
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("DIRTY_")}
        # The interpreter of these tests, for which an extension was built.
        self.env["PATH"] = f"{pathlib.Path(sys.executable).parent}:{self.env['PATH']}"
        self.programs: list[Program] = []

    def start(self, command: str, expected: list[str], folder: Optional[pathlib.Path] = None, **env: str) -> Program:
        """Starts a program and waits until it has said what is expected."""
        # gunicorn keeps a control socket in its user's home.
        program = Program(command, folder or self.folder, {**self.env, "HOME": str(self.runtime.parent), **env})
        self.programs.append(program)
        program.wait_for(expected)
        return program

    def follow(self, readme: pathlib.Path) -> None:
        """Types what a README says, except for its port and its folder in /tmp, which may be somebody else's."""
        for step in docs.parse(readme.read_text()):
            assert isinstance(step, docs.Command), f"{readme}:{step.line}: nothing writes files here"
            typed, *expected = [self._here(text) for text in (step.text, *(step.expected or []))]
            name = pathlib.PurePath(docs.program(typed)).name
            if name in ("dirtyd", "gunicorn", "uvicorn"):
                self.start(typed, expected)
            elif name in ("python3", "pip"):
                install(typed, self.folder, self.env)
            else:
                ran = subprocess.run(["bash", "-c", typed], cwd=self.folder, env=self.env, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)  # fmt: skip
                shown = f"{readme}:{step.line}: {typed}\n{ran.stdout}\n{self.said()}"
                assert ran.returncode == 0 and docs.matches(expected, ran.stdout.splitlines()), shown

    def _here(self, text: str) -> str:
        return re.sub(r"/tmp/\w+", str(self.runtime), re.sub(r"\b8000\b", str(self.port), text))

    def environment(self, requirements: pathlib.Path) -> pathlib.Path:
        """The folder of an environment with what a file asks for, made when the file is new."""
        text = b"".join(file.read_bytes() for file in (requirements, *(ROOT / "examples").glob("*/requirements.txt")))
        folder = self.folder / "build" / hashlib.sha256(text).hexdigest()[:12]
        done = folder / "complete"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(f"python3 -m venv {folder}", self.folder, self.env)
            install(f"{folder}/bin/pip install -r {requirements}", self.folder, self.env)
            done.touch()
        return folder

    def request(self, path: str, body: Optional[bytes] = None, kind: str = "application/octet-stream") -> Any:
        """The response of the web application; raises urllib.error.HTTPError."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": kind})
        return urllib.request.urlopen(request, timeout=PATIENCE)

    def refused(
        self, path: str, body: Optional[bytes] = None, kind: str = "application/octet-stream"
    ) -> tuple[int, str]:
        """Status and text of a response that tells of an error."""
        with pytest.raises(urllib.error.HTTPError) as failure:
            self.request(path, body, kind)
        with failure.value as response:
            return response.code, response.read().decode()

    def call(self, app: str, action: str, *arguments: str) -> Any:
        """A call by dirtyctl."""
        command = [BUILD / "bin" / "dirtyctl", "--socket", self.runtime / "dirty.sock", "call", app, action, *arguments]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout)

    def said(self) -> str:
        """All that its programs printed."""
        return "\n".join(f"--- {program.command}\n{program.said()}" for program in self.programs)

    def end(self) -> None:
        """Ends everything, web servers first."""
        dirtyds = [program for program in self.programs if "/dirtyd " in program.command]
        for program in self.programs:
            if program not in dirtyds:
                program.stop()
        codes = [program.stop() for program in dirtyds]
        assert not any(codes), self.said()
        assert not self.runtime.exists() or not list(self.runtime.glob("*.sock")), "sockets are left"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def place() -> Iterator[Place]:
    """With a short path for sockets."""
    with tempfile.TemporaryDirectory(prefix="dirty-", dir="/tmp") as runtime:
        one = Place(pathlib.Path(runtime) / "run")
        try:
            yield one
        finally:
            one.end()


def all_at_once(function: Any, arguments: list[Any]) -> list[Any]:
    """What `function` gives for each, called on a thread each."""
    with concurrent.futures.ThreadPoolExecutor(len(arguments)) as threads:
        return list(threads.map(function, arguments))


def test_flask_thumbnails(place: Place) -> None:
    place.follow(ROOT / "examples" / "flask_thumbnails" / "README.md")
    small = (place.folder / "small.jpg").read_bytes()
    assert small.startswith(b"\xff\xd8\xff") and len(small) < (PICTURES / "mountains.jpg").stat().st_size

    leaf = (PICTURES / "leaf.png").read_bytes()

    def size_of(size: int) -> tuple[int, int]:
        with place.request(f"/thumbnail?size={size}", leaf) as response:
            assert response.headers["Content-Type"] == "image/png"
            header = response.read()[:24]
        assert header.startswith(b"\x89PNG")
        return struct.unpack(">II", header[16:])

    sizes = [*range(16, 256, 15)]
    assert all_at_once(size_of, sizes) == [(size, size) for size in sizes]
    assert place.refused("/thumbnail", b"not a picture") == (422, "no format that Pillow knows\n")
    assert place.refused("/thumbnail", leaf[:5000])[0] == 422
    assert place.refused("/thumbnail?size=0", leaf) == (400, "size is 1 to 4096 pixels, not 0\n")

    assert place.programs[0].stop() == 0
    made = re.findall(r"(\d+) thumbnails made", place.programs[0].said())
    assert sum(map(int, made)) == len(sizes) + 1, place.said()
    status, message = place.refused("/thumbnail", leaf)
    assert status == 503 and "dirty.sock" in message


def test_fastapi_embeddings(place: Place) -> None:
    place.follow(ROOT / "examples" / "fastapi_embeddings" / "README.md")

    def similarity(other: str) -> float:
        query = urllib.parse.urlencode({"a": "The weather is lovely today.", "b": other})
        with place.request(f"/similarity?{query}") as response:
            return json.load(response)["similarity"]

    # As the model's authors publish them.
    known = {"It's so sunny outside!": 0.666, "He drove to the stadium.": 0.105, "The weather is lovely today.": 1.0}
    assert all_at_once(similarity, [*known] * 6) == [*known.values()] * 6

    with place.request("/embeddings", b'["one", "a longer sentence"]', "application/json") as response:
        vectors = json.load(response)
    assert [len(vector) for vector in vectors] == [384, 384]
    assert [round(sum(x * x for x in vector), 3) for vector in vectors] == [1, 1]
    status, message = place.refused("/embeddings", b"[]", "application/json")
    assert status == 400 and "sentences is a list" in message

    assert place.programs[0].stop() == 0
    assert place.refused("/similarity?a=x&b=y")[0] == 503


def original(place: Place, folder: pathlib.Path = ORIGINAL) -> pathlib.Path:
    """Starts dirtyd with the original text's apps, hooks and settings; the environment's programs."""
    bin = place.environment(ORIGINAL / "requirements.txt") / "bin"
    # One worker: what the views load stays in the worker that loaded it.
    place.start(f"{BUILD}/bin/dirtyd --config {folder}/gunicorn.conf.py --python {bin}/python --workers 1"
                f" --runtime_dir {place.runtime}", ["...", "... ready: 1/1 workers, 2 apps, ..."])  # fmt: skip
    return bin


def serve(place: Place, bin: pathlib.Path, options: str) -> None:
    """Starts gunicorn with the same settings, as docs/migration-from-gunicorn.md has it."""
    place.start(f"{bin}/gunicorn --config gunicorn.conf.py --dirty-workers 0 --bind 127.0.0.1:{place.port} {options}",
                ["...", f"... Listening at: http://127.0.0.1:{place.port} ..."], ORIGINAL,
                DIRTY_SOCKET=f"{place.runtime}/dirty.sock", PYTHONPATH=f"{BUILD}/python")  # fmt: skip


def infer(place: Place, text: str) -> str:
    """What the original text's view returns for a body."""
    with place.request("/inference", text.encode()) as response:
        return response.read().decode()


def upload(place: Place, picture: bytes) -> bytes:
    """What the original text's view makes of a picture in a form."""
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + picture + b"\r\n--x--\r\n"
    with place.request("/upload", form, "multipart/form-data; boundary=x") as response:
        return response.read()


SERVERS = {
    "sync": "--worker-class sync --workers 2 wsgi:app",
    "preload": "--worker-class sync --workers 2 --preload wsgi:app",
    "gthread": "--worker-class gthread --workers 2 --threads 8 wsgi:app",
    "uvicorn": "--worker-class uvicorn_worker.UvicornWorker --workers 2 asgi:app",
}


@pytest.mark.parametrize("server", SERVERS)
def test_code_of_the_original_text_runs_with_only_its_import_changed(place: Place, server: str) -> None:
    serve(place, original(place), SERVERS[server])
    texts = [f"text {i}" for i in range(24)]
    assert all_at_once(lambda text: infer(place, text), texts) == [f"gpt-4 read {len(t)} bytes: {t}" for t in texts]
    if server != "uvicorn":
        small = upload(place, (PICTURES / "mountains.jpg").read_bytes())
        assert small.startswith(b"\xff\xd8\xff") and 0 < len(small) < 20_000
    dirtyd, gunicorn = place.programs
    gunicorn.stop()
    assert dirtyd.stop() == 0
    for said in ("Dirty arbiter starting...", r"Dirty worker \d+ forked", r"Dirty worker \d+ initialized",
                 r"Dirty worker \d+ exiting"):  # fmt: skip
        assert re.search(said, dirtyd.said()), place.said()
    assert not re.search(r"(?i)dirty (arbiter|worker)", gunicorn.said()), "gunicorn started its own dirty workers"


def test_apps_written_for_gunicorn_run_unchanged_where_it_is_installed(place: Place, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "app"
    shutil.copytree(ORIGINAL, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (folder / "myapp").glob("*.py"):
        file.write_text(file.read_text().replace("from dirty import", "from gunicorn.dirty import"))
    original(place, folder)
    assert place.call("myapp.ml:MLApp", "load_model", '"gpt-4"') == {"loaded": True, "name": "gpt-4"}
    picture = str(PICTURES / "tower.jpg")
    made = str(tmp_path / "small.png")
    place.call(
        "myapp.images:ImageApp", "resize", '{"$attachment":0}', "32", "16", "--attach", picture, "--output", made
    )
    assert struct.unpack(">II", pathlib.Path(made).read_bytes()[16:24]) == (32, 16)

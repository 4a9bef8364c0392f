"""The pod of deploy/kubernetes with podman: a web container that calls dirtyd's through the shared socket, under load."""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Iterator

import pytest
from containers import Podman
from support import PATIENCE, until
from test_manifests import PLAIN, kustomized, named, pod_of, yaml

POD = "thumbnails-pod-0"
DIRTYD, WEB = f"{POD}-dirtyd", f"{POD}-web"

# Calls from four threads until standard input ends, or dirtyd is gone. Prints `loaded` once many have an answer, and
# at the end how many calls ended how.
LOAD = """
import collections, io, json, sys, threading
from PIL import Image
from dirty import DirtyError, get_dirty_client
out = io.BytesIO()
Image.effect_noise((700, 700), 50).save(out, "JPEG")
ends, lock, over = collections.Counter(), threading.Lock(), threading.Event()
client = get_dirty_client()
def load():
    while not over.is_set():
        try:
            client.execute("thumbnails_app:Thumbnails", "thumbnail", out.getvalue(), size=200, timeout=30)
            end = "ok"
        except DirtyError as error:
            end = str(error.reason)
        with lock:
            ends[end] += 1
            if sum(ends.values()) == 40:
                print("loaded", flush=True)
        if end != "ok":
            return
threads = [threading.Thread(target=load) for _ in range(4)]
for thread in threads: thread.start()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
for thread in threads: thread.join()
print(json.dumps(ends), flush=True)
import os; os._exit(0)
"""


class Load:
    """The program above, in the web container."""

    def __init__(self, podman: Podman):
        command = [*podman.command, "exec", "--interactive", WEB, "/srv/venv/bin/python", "-c", LOAD]
        self.process = subprocess.Popen(command, env=podman.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)  # fmt: skip
        line = self.process.stdout.readline()
        if line != "loaded\n":
            self.process.kill()
            pytest.fail(line + self.process.stdout.read())

    def end(self) -> dict[str, int]:
        """How many calls ended how."""
        out, _ = self.process.communicate("", timeout=PATIENCE)
        return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def pod(
    podman: Podman, example_image: str, node: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Podman]:
    """The pod, once it serves. Without a network there are no ports; lifecycle and probes are the kubelet's."""
    found = [each for each in kustomized(node, PLAIN) if each["kind"] != "Service"]
    spec = pod_of(found)
    web = named(spec["containers"], "web")
    del web["ports"], web["readinessProbe"]
    for each in found:
        if each["kind"] == "Deployment":
            each["spec"]["replicas"] = 1
    file = tmp_path_factory.mktemp("pod") / "pod.yaml"
    file.write_text(yaml.safe_dump_all(found))
    podman("play", "kube", "--network", "none", file, patience=PATIENCE)
    # The startup probe's command, as the kubelet would run it.
    probe = named(spec["containers"], "dirtyd")["startupProbe"]["exec"]["command"]
    until("the startup probe succeeds", lambda: podman.run("exec", DIRTYD, *probe, check=False).returncode == 0)
    yield podman
    podman("pod", "rm", "--force", "--time", "0", POD)


def test_the_web_container_calls_through_the_shared_socket(pod: Podman) -> None:
    ask = """
import io, urllib.request
from PIL import Image
out = io.BytesIO(); Image.new("RGB", (300, 200)).save(out, "PNG")
with urllib.request.urlopen("http://127.0.0.1:8000/thumbnail?size=30", out.getvalue(), timeout=30) as answer:
    print(answer.status, Image.open(io.BytesIO(answer.read())).size)
"""
    until("gunicorn listens", lambda: "Listening at" in pod("logs", WEB))
    assert pod("exec", WEB, "/srv/venv/bin/python", "-c", ask).splitlines()[-1] == "200 (30, 20)"
    assert pod("exec", WEB, "id", "-u") == "10002"
    assert pod("exec", DIRTYD, "id", "-u") == "10001"
    # It may call, not steer.
    assert pod.run("exec", WEB, "dirtyctl", "status", "--connect-timeout", "200ms", check=False).returncode == 3


def test_a_reload_inside_the_pod_loses_no_call(pod: Podman) -> None:
    load = Load(pod)
    said = pod("exec", DIRTYD, "dirtyctl", "reload")
    assert "reloaded, generation 2" in said
    ends = load.end()
    assert ends.pop("ok") >= 40
    assert ends == {}


def test_the_liveness_probe_succeeds(pod: Podman) -> None:
    assert pod("exec", DIRTYD, "dirtyctl", "health", "--live") == "SERVING"
    pod("healthcheck", "run", DIRTYD)


def test_the_drain_loses_no_call(pod: Podman) -> None:
    load = Load(pod)
    pod("stop", "--time", "40", DIRTYD)
    ends = load.end()
    # What was waiting or running has its result; what came later was refused before it started.
    assert ends.pop("ok") >= 40
    assert set(ends) <= {"SHUTTING_DOWN", "CONNECTION"}, ends
    assert pod.state(DIRTYD)["ExitCode"] == 0
    assert pod("exec", WEB, "find", "/run/dirty", "-mindepth", "1") == ""

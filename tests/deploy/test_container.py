"""The container images: small, not root, nothing written but in /run; the compose file brings both up."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess

from containers import Podman
from support import DEPLOY, ROOT, run, until

PICTURE = ROOT / "examples/thumbnail/pictures/mountains.jpg"
# Nothing that a container can go without.
LOCKED = ["--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
CALL = ["dirtyctl", "call", "thumbnails_app:Thumbnails", "thumbnail", '{"$attachment":0}', "--attach", "/picture.jpg",
        "--output", "/dev/null"]  # fmt: skip


def serve(podman: Podman, image: str, volume: str, where: str = "/run/dirty") -> str:
    """Starts dirtyd in a container without a network; returns its name once it serves."""
    podman("run", "--detach", "--name", "dirtyd", "--network", "none", *LOCKED, "--volume", f"{volume}:{where}", image)
    until("dirtyd serves", lambda: podman.run("exec", "dirtyd", "dirtyctl", "health", check=False).returncode == 0)
    return "dirtyd"


def call(podman: Podman, image: str, volume: str, user: str) -> subprocess.CompletedProcess[str]:
    """A call from another container."""
    return podman.run("run", "--rm", "--network", "none", "--user", user, *LOCKED, "--volume", f"{volume}:/run/dirty",
                      "--volume", f"{PICTURE}:/picture.jpg:ro", image, *CALL, "--connect-timeout", "1s",
                      check=False)  # fmt: skip


def test_the_image_is_small_and_says_how_it_runs(podman: Podman, dirtyd_image: str) -> None:
    image = json.loads(podman("inspect", dirtyd_image))[0]
    assert image["Config"]["User"] == "10001:10001"
    assert image["Healthcheck"]["Test"] == ["CMD", "dirtyctl", "health"]
    assert image["Size"] < 220 * 1024**2
    names = podman(
        "run", "--rm", "--network", "none", dirtyd_image, "sh", "-c", "ls /packages /src /var/lib/apt/lists 2>&1 || :"
    )
    assert ".deb" not in names and "Packages" not in names


def test_the_stages_of_the_dockerfile_build_what_is_packed() -> None:
    # The stage `build` compiles for a quarter of an hour; here, what it relies on.
    text = (DEPLOY / "Dockerfile").read_text()
    packages = (ROOT / "tools/packages.txt").read_text()
    sets = re.search(r"\^\((\w+)\|(\w+)\)", text)
    assert sets and all(re.search(rf"^{name} ", packages, re.M) for name in sets.groups())
    assert "--target deb" in text and "COPY --from=build /out/deb/ /" in text
    assert "add_custom_target(deb " in (ROOT / "cmake/DirtyPackage.cmake").read_text()


def test_dirtyd_needs_no_root_no_network_and_writes_to_its_volume_only(podman: Podman, example_image: str) -> None:
    name = serve(podman, example_image, "sockets")
    assert podman("exec", name, "id", "-u") == "10001"
    assert podman.run("exec", name, "touch", "/srv/app/x", check=False).returncode != 0
    podman("healthcheck", "run", name)
    # Group 10001 may call, whoever it is; others are told what to do.
    called = call(podman, example_image, "sockets", "10002:10001")
    assert called.returncode == 0, called.stdout
    assert '"width":128' in called.stdout.replace(" ", "")
    refused = call(podman, example_image, "sockets", "10002:10002")
    assert refused.returncode == 3
    assert "permission denied" in refused.stdout
    podman("stop", "--time", "20", name)
    assert podman.state(name)["ExitCode"] == 0
    left = podman(
        "run", "--rm", "--network", "none", "--volume", "sockets:/run/dirty", example_image, "ls", "-A", "/run/dirty"
    )
    assert left == ""
    podman("rm", name)


def test_dirtyd_serves_in_a_folder_as_kubernetes_makes_it(
    podman: Podman, example_image: str, tmp_path: pathlib.Path
) -> None:
    # An emptyDir is root's, empty, and everybody may write to it; podman's own are copies of what the image has.
    folder = tmp_path / "run"
    folder.mkdir()
    os.chmod(folder, 0o777)
    name = serve(podman, example_image, str(folder), "/run")
    assert (folder / "dirty/dirty.sock").is_socket()
    assert (folder / "dirty").stat().st_mode & 0o777 == 0o755
    podman("stop", "--time", "20", name)
    assert not (folder / "dirty").exists()
    podman("rm", name)


def test_compose_brings_up_both(podman: Podman, example_image: str, venv: pathlib.Path, tmp_path: pathlib.Path) -> None:
    # No bridge here: the web application is on this machine's network, at a port of its own.
    port = "18731"
    override = tmp_path / "override.yaml"
    text = (DEPLOY / "compose.yaml").read_text()
    command = re.search(r"command: (\[.*\])", text)
    assert command
    override.write_text("services:\n  dirtyd: {network_mode: none}\n  web: {network_mode: host, ports: [], command: "
                        + command[1].replace("0.0.0.0:8000", f"127.0.0.1:{port}") + "}\n")  # fmt: skip
    compose = [venv / "bin/podman-compose", "--podman-path", podman.wrapper, "-p", "dirtytest", "-f",
               DEPLOY / "compose.yaml", "-f", override]  # fmt: skip
    run(*compose, "up", "-d", env=podman.environment)
    try:
        url = f"http://127.0.0.1:{port}/thumbnail?size=64"
        until(
            "the web server listens",
            lambda: run("curl", "-s", f"http://127.0.0.1:{port}/", check=False).returncode == 0,
        )
        said = run(
            "curl", "-sS", "--data-binary", f"@{PICTURE}", "-o", tmp_path / "small.jpg", "-w", "%{http_code}", url
        )
        assert said.stdout == "200", podman("logs", "dirtytest_web_1")
        assert (tmp_path / "small.jpg").read_bytes()[:2] == b"\xff\xd8"
    finally:
        run(*compose, "down", "-v", env=podman.environment)

"""What is fetched and built for the tests here, once: side by side, where one does not need the other."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import containers
import support


@pytest.fixture(scope="session")
def fetched() -> Iterator[dict[str, Future]]:
    """What comes from the network or from the build, on its way."""
    makers = (containers.packages, support.node_tools, support.python_tools, support.wheels)
    with ThreadPoolExecutor() as pool:
        futures = {maker.__name__: pool.submit(maker) for maker in makers}
        futures["lint"] = pool.submit(lambda: containers.lint(futures["packages"].result()))
        yield futures


@pytest.fixture(scope="session")
def debs(fetched: dict[str, Future]) -> pathlib.Path:
    """The folder with our Debian packages."""
    return fetched["packages"].result()


@pytest.fixture(scope="session")
def lint(fetched: dict[str, Future]) -> tuple[int, str]:
    """What lintian says."""
    return fetched["lint"].result()


@pytest.fixture(scope="session")
def node(fetched: dict[str, Future]) -> pathlib.Path:
    """node_modules, and bin/helm and bin/kubectl."""
    return fetched["node_tools"].result()


@pytest.fixture(scope="session")
def venv(fetched: dict[str, Future]) -> pathlib.Path:
    """A virtual environment with podman-compose."""
    return fetched["python_tools"].result()


@pytest.fixture(scope="session")
def podman(fetched: dict[str, Future]) -> Iterator[containers.Podman]:
    """podman, with Debian slim in it."""
    podman = containers.Podman()
    podman.import_base()
    podman.check()
    yield podman
    podman.clean()


@pytest.fixture(scope="session")
def dirtyd_image(podman: containers.Podman, debs: pathlib.Path) -> str:
    """deploy/Dockerfile."""
    return containers.build_dirtyd(podman, debs)


@pytest.fixture(scope="session")
def example_image(podman: containers.Podman, dirtyd_image: str, fetched: dict[str, Future]) -> str:
    """deploy/example/Dockerfile."""
    fetched["wheels"].result()
    return containers.build_example(podman)


@pytest.fixture(scope="session")
def systemd_image(podman: containers.Podman) -> str:
    """Debian with systemd."""
    return containers.build_systemd(podman)

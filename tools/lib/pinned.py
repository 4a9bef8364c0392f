"""Programs of PyPI that the checks run, pinned by hash, in environments of their own below build/tools."""

import hashlib
import pathlib
import subprocess
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def programs(name: str) -> pathlib.Path:
    """The folder of what tools/lib/NAME-requirements.txt asks for, installed if it is not there or not the wanted."""
    requirements = ROOT / f"tools/lib/{name}-requirements.txt"
    folder = ROOT / "build/tools" / name
    stamp = folder / "installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run(
            [folder / "bin/pip", "--quiet", "--disable-pip-version-check", "install", "--require-hashes", "--no-deps",
             "--only-binary", ":all:", "-r", requirements],
            check=True,
        )  # fmt: skip
        stamp.write_text(wanted)
    return folder / "bin"

"""The clients that the conformance suite runs: how each runner is built and started, and what the client has.

In commands `{here}` is this folder, `{root}` the checkout, `{build}` dirtyd's build directory, and `{out}` a folder below
it for this runner alone, which exists and stays from run to run.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Language:
    """A client and its runner. README.md says how a runner is called."""

    # As the table shows it.
    name: str
    # What `run` is followed by: VECTORS SOCKET PREFIX TRANSPORT.
    run: tuple[str, ...]
    # Commands that build the runner, in the folder `{here}/name`; each ends quickly if nothing has changed.
    build: tuple[tuple[str, ...], ...] = ()
    # Programs that must be on PATH. If one is missing: skipped loudly, or a failure with CI=true.
    tools: tuple[str, ...] = ()
    # TRANSPORT, one run each.
    transports: tuple[str, ...] = ("unary",)
    # Of `needs` in vectors.json.
    features: frozenset[str] = frozenset()
    # Features that one transport lacks: a pair of both.
    lacks: frozenset[tuple[str, str]] = frozenset()
    # Added to the environment of builds and runs.
    env: tuple[tuple[str, str], ...] = ()


LANGUAGES = (
    Language(
        name="cpp",
        run=("{build}/tests/conformance_runner",),
        transports=("unary", "session"),
        features=frozenset({"raw", "cancel", "surrogates", "nan", "eager"}),
    ),
    Language(
        name="python",
        run=("{python}", "{here}/runner.py"),
        transports=("sync-unary", "sync-session", "async-unary", "async-session"),
        features=frozenset({"cancel", "surrogates", "big_integers", "eager"}),
        lacks=frozenset({("sync-unary", "cancel"), ("sync-session", "cancel")}),
        env=(("PYTHONPATH", "{build}/python"),),
    ),
    Language(
        name="go",
        run=("{out}/runner",),
        build=(("go", "build", "-o", "{out}/runner", "."),),
        tools=("go",),
        features=frozenset({"raw", "cancel", "surrogates", "big_integers", "nan"}),
    ),
    Language(
        name="node",
        run=("node", "{build}/node/tests/conformance/node/runner.mjs"),
        build=(("{python}", "{root}/tests/node/package.py", "{build}"),),
        tools=("node", "npm", "protoc"),
        features=frozenset({"cancel", "surrogates", "big_integers", "nan", "eager"}),
    ),
    Language(
        name="java",
        run=("java", "-cp", "{build}/java/classes:{build}/java/dependency/*", "{here}/java/Runner.java"),
        build=(("{python}", "{root}/tests/java/package.py", "{build}"),),
        tools=("java", "javac", "mvn"),
        features=frozenset({"raw", "cancel", "surrogates", "big_integers", "nan", "eager"}),
    ),
    Language(
        name="rust",
        run=("{build}/rust/debug/examples/conformance",),
        build=(
            ("cargo", "build", "--locked", "--manifest-path={root}/client/rust/Cargo.toml", "--example=conformance"),
        ),
        tools=("cargo", "protoc"),
        features=frozenset({"raw", "cancel", "eager"}),
        env=(("CARGO_TARGET_DIR", "{build}/rust"),),
    ),
)

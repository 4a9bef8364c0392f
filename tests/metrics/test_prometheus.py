"""The dashboard and the alerts against a real Prometheus that scrapes a real dirtyd under load."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from test_metrics import APP, Dirtyd, dirty, dirtyctl, free_port, tool

DEPLOY = pathlib.Path(__file__).resolve().parent.parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yaml"
PATIENCE = 60.0


def test_promtool_accepts_the_rules_and_each_fires_when_it_should() -> None:
    promtool = tool("promtool")
    for arguments in (["check", "config", "prometheus.yaml"], ["check", "rules", "alerts.yaml"],
                      ["test", "rules", "alerts_test.yaml"]):  # fmt: skip
        ran = subprocess.run([promtool, *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_has_a_test() -> None:
    alerts = [line.split("alert: ")[1] for line in RULES.read_text().splitlines() if "alert: " in line]
    tested = (RULES.parent / "alerts_test.yaml").read_text()
    assert len(alerts) > 10
    assert [alert for alert in alerts if alert not in tested] == []


class Prometheus:
    """One that scrapes an address every half second."""

    def __init__(self, folder: pathlib.Path, target: str) -> None:
        self.folder = folder
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "dirtyd", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yaml").write_text(json.dumps(config))
        command = [tool("prometheus"), f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
                   f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]  # fmt: skip
        with (folder / "prometheus.log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of its answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            answer = json.load(response)
        assert answer["status"] == "success"
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """The samples of an expression now."""
        result: list[Any] = self.ask("query", query=expression)["result"]
        return result

    def wait_for(self, expression: str) -> list[Any]:
        """The same, once there are some."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if found := self.query(expression):
                    return found
            except OSError:  # it starts
                assert self.process.poll() is None, (self.folder / "prometheus.log").read_text()
            assert time.monotonic() < deadline, f"{expression} has no sample"
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has seen calls of every outcome that a dashboard shows, a worker's death and a reload."""
    tool("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    target = f"127.0.0.1:{free_port()}"
    dirtyd = Dirtyd(folder).ready({"apps": [APP, "caller:Caller"], "workers": 2, "queue_size": 1, "metrics": target})
    server = Prometheus(folder, target)
    client = dirty.get_dirty_client(dirtyd.socket)
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                client.execute(APP, "sleep", 0.01)
                list(client.stream(APP, "count", 3))
                client.execute(APP, "fail", "x")
            except dirty.DirtyError:
                stop.wait(0.01)

    threads = [threading.Thread(target=load) for _ in range(6)]  # more than two workers and a place in the queue
    try:
        server.wait_for('up{job="dirtyd"} == 1')
        for thread in threads:
            thread.start()
        server.wait_for('rate(dirty_calls_total{outcome="queue_full"}[1m]) > 0')
        os.kill(dirtyd.worker_pid(), signal.SIGKILL)
        dirtyctl(dirtyd, "reload")
        server.wait_for('increase(dirty_worker_exits_total{reason="killed"}[1m]) > 0')
        server.wait_for("dirty_last_reload_successful == 1")
        yield server
    finally:
        stop.set()
        for thread in threads:
            if thread.is_alive():
                thread.join()
        server.stop()
        assert dirtyd.stop() == 0


def dashboard() -> list[tuple[str, str]]:
    """Each panel's title with one of its expressions, variables filled in as Grafana would."""
    found = []
    for panel in json.loads((DEPLOY / "grafana" / "dirtyd.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "1m")
            for variable in ("instance", "job", "pool", "app"):
                expression = expression.replace(f'"${variable}"', '".*"')
            assert "$" not in expression, expression
            found.append((panel["title"], expression))
    return found


# Of what has to be wrong before there is something to show.
MAY_BE_EMPTY = {"Apps that are not ready"}


@pytest.mark.parametrize(("title", "expression"), dashboard())
def test_every_panel_has_data(prometheus: Prometheus, title: str, expression: str) -> None:
    if title in MAY_BE_EMPTY:
        prometheus.query(expression)
    else:
        assert prometheus.wait_for(expression)


def test_the_variables_of_the_dashboard_have_values(prometheus: Prometheus) -> None:
    for variable in json.loads((DEPLOY / "grafana" / "dirtyd.json").read_text())["templating"]["list"]:
        if variable["type"] != "query":
            continue
        selector, label = variable["definition"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        for name in ("instance", "job"):
            selector = selector.replace(f'"${name}"', '".*"')
        assert {sample["metric"][label] for sample in prometheus.wait_for(selector)}, variable["name"]


def test_every_alert_is_evaluated_and_the_full_queue_fires(prometheus: Prometheus) -> None:
    prometheus.wait_for('ALERTS{alertname="DirtyQueueFull", alertstate="firing"}')
    (group,) = prometheus.ask("rules")["groups"]
    assert len(group["rules"]) > 10
    for rule in group["rules"]:
        assert rule["health"] == "ok", rule
        assert rule.get("lastError") is None


def test_metrics_that_are_used_exist(prometheus: Prometheus) -> None:
    names = set(prometheus.ask("label/__name__/values"))
    text = RULES.read_text() + (DEPLOY / "grafana" / "dirtyd.json").read_text()
    used = set(re.findall(r"\b(?:dirty|process)_[a-z_]+[a-z]\b", text))
    assert len(used) > 20
    assert used - names == set()

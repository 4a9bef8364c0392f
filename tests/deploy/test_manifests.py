"""Kubernetes manifests, the Helm chart and the compose file: valid, and they say what they should."""

from __future__ import annotations

import copy
import json
import pathlib
from typing import Any

import pytest
import support
from support import DEPLOY, ROOT, missing, program, run

yaml = pytest.importorskip("yaml", reason="python3-yaml is missing; apt-get install python3-yaml")

BASE, PLAIN, AUTOSCALING = (DEPLOY / "kubernetes" / name
                            for name in ("base", "overlays/plain-container", "overlays/autoscaling"))  # fmt: skip
CHART = DEPLOY / "helm/dirty"


def objects(text: str) -> list[dict[str, Any]]:
    """What a stream of YAML holds."""
    return [found for found in yaml.safe_load_all(text) if found]


def kustomized(node: pathlib.Path, folder: pathlib.Path) -> list[dict[str, Any]]:
    """What kubectl makes of a folder."""
    return objects(run(node / "bin/kubectl", "kustomize", folder, stderr=None).stdout)


def templated(node: pathlib.Path, *flags: str) -> list[dict[str, Any]]:
    """What helm makes of the chart."""
    return objects(run(node / "bin/helm", "template", "web", CHART, *flags, stderr=None).stdout)


def findings(node: pathlib.Path, found: list[dict[str, Any]]) -> str:
    """What Kubernetes would not take."""
    validate = pathlib.Path(__file__).parent / "schemas/validate.mjs"
    return run(program("node", "nodejs"), validate, node, check=False, input=json.dumps(found)).stdout


def pod_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The pod that the deployment makes."""
    [deployment] = [each for each in found if each["kind"] == "Deployment"]
    return deployment["spec"]["template"]["spec"]


def config_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """dirtyd's configuration."""
    [config] = [each for each in found if each["kind"] == "ConfigMap"]
    return yaml.safe_load(config["data"]["dirty.yaml"])


def named(containers: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """One container."""
    [found] = [each for each in containers if each["name"] == name]
    return found


@pytest.fixture(scope="module")
def everything(node: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """All that the folders and the chart make."""
    return {
        "base": kustomized(node, BASE),
        "plain": kustomized(node, PLAIN),
        "autoscaling": kustomized(node, AUTOSCALING),
        "chart": templated(node),
        "chart, all on": templated(
            node, "--set", "nativeSidecar=false,autoscaling.enabled=true,dirtyd.metricsPort=9464"
        ),
    }


def test_manifests_are_what_kubernetes_takes(node: pathlib.Path, everything: dict[str, Any]) -> None:
    found = [each for all_of in everything.values() for each in all_of]
    assert len(found) > 15
    assert findings(node, found) == ""


def test_the_validation_finds_unknown_fields_and_bad_values(node: pathlib.Path, everything: dict[str, Any]) -> None:
    wrong = copy.deepcopy(everything["base"])
    pod = pod_of(wrong)
    pod["initContainers"][0]["restart"] = "Always"
    pod["containers"][0]["resources"]["limits"]["memory"] = "1Gx"
    said = findings(node, wrong)
    assert "'\"restart\"' does not exist" in said
    assert "quantity" in said


def test_sidecars_are_native_or_plain_containers(everything: dict[str, Any]) -> None:
    for name in ("base", "autoscaling", "chart"):
        pod = pod_of(everything[name])
        dirtyd = named(pod["initContainers"], "dirtyd")
        assert dirtyd["restartPolicy"] == "Always"
        assert [each["name"] for each in pod["containers"]] == ["web"]
    for name in ("plain", "chart, all on"):
        pod = pod_of(everything[name])
        assert "initContainers" not in pod
        dirtyd = named(pod["containers"], "dirtyd")
        assert "restartPolicy" not in dirtyd
        # dirtyd is told to end no earlier than web has ended.
        web = named(pod["containers"], "web")
        assert int(dirtyd["lifecycle"]["preStop"]["exec"]["command"][1]) >= 30 + int(
            web["lifecycle"]["preStop"]["exec"]["command"][1])  # fmt: skip


def test_pods_have_time_to_drain(everything: dict[str, Any]) -> None:
    for name, found in everything.items():
        pod = pod_of(found)
        web = named(pod["containers"], "web")
        pause = int(web["lifecycle"]["preStop"]["exec"]["command"][1])
        grace = int(config_of(found)["graceful_timeout"].removesuffix("s"))
        assert pod["terminationGracePeriodSeconds"] >= pause + 30 + grace, name


def test_containers_are_restricted_and_share_the_socket_only(everything: dict[str, Any]) -> None:
    for found in everything.values():
        pod = pod_of(found)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["supplementalGroups"] == [10001]
        assert pod["automountServiceAccountToken"] is False
        containers = pod["containers"] + pod.get("initContainers", [])
        assert len(containers) == 2
        mounts = []
        for container in containers:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            mounts.append({each["name"] for each in container["volumeMounts"]})
        assert set.intersection(*mounts) == {"run"}


def test_probes_ask_dirtyctl(everything: dict[str, Any]) -> None:
    for found in everything.values():
        pod = pod_of(found)
        dirtyd = named(pod["containers"] + pod.get("initContainers", []), "dirtyd")
        assert dirtyd["startupProbe"]["exec"]["command"] == ["dirtyctl", "health"]
        assert dirtyd["readinessProbe"]["exec"]["command"] == ["dirtyctl", "health"]
        assert dirtyd["livenessProbe"]["exec"]["command"] == ["dirtyctl", "health", "--live"]
        startup = dirtyd["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 300  # boot_timeout


def test_dirtyd_takes_the_configurations(everything: dict[str, Any], tmp_path: pathlib.Path) -> None:
    for found in everything.values():
        file = tmp_path / "dirty.yaml"
        file.write_text(yaml.safe_dump(config_of(found)))
        run(support.BUILD / "bin/dirtyd", "--check", "--config", file)
    for file in (DEPLOY / "example/dirty.yaml",):
        run(support.BUILD / "bin/dirtyd", "--check", "--config", file)


def test_the_autoscaler_reads_a_metric_that_dirtyd_has(everything: dict[str, Any]) -> None:
    for name in ("autoscaling", "chart, all on"):
        [autoscaler] = [each for each in everything[name] if each["kind"] == "HorizontalPodAutoscaler"]
        [metric] = autoscaler["spec"]["metrics"]
        wanted = metric["pods"]["metric"]["name"]
        sources = [path.read_text() for path in (ROOT / "server/observe").glob("metrics*.cc")]
        assert any(f'"{wanted}"' in source for source in sources), wanted
    [deployment] = [each for each in everything["autoscaling"] if each["kind"] == "Deployment"]
    assert "replicas" not in deployment["spec"]
    port = deployment["spec"]["template"]["spec"]["initContainers"][0]["ports"][0]["containerPort"]
    assert config_of(everything["autoscaling"])["metrics"].endswith(f":{port}")
    rules = yaml.safe_load((AUTOSCALING / "prometheus-adapter.yaml").read_text())
    assert rules["rules"][0]["seriesQuery"].startswith(wanted)


def test_a_changed_configuration_makes_new_pods(node: pathlib.Path, everything: dict[str, Any]) -> None:
    [config] = [each for each in everything["base"] if each["kind"] == "ConfigMap"]
    [other] = [each for each in everything["autoscaling"] if each["kind"] == "ConfigMap"]
    assert config["metadata"]["name"] != other["metadata"]["name"]
    before, after = templated(node), templated(node, "--set", "config.workers=3")
    checksums = [each["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
                 for found in (before, after) for each in found if each["kind"] == "Deployment"]  # fmt: skip
    assert len(set(checksums)) == 2


def test_helm_lint_and_schema(node: pathlib.Path) -> None:
    run(node / "bin/helm", "lint", "--strict", CHART)
    refused = run(node / "bin/helm", "template", "web", CHART, "--set", "replica=3", check=False)
    assert refused.returncode != 0
    assert "replica" in refused.stdout
    refused = run(node / "bin/helm", "template", "web", CHART, "--set", "config.graceful_timeout=1m", check=False)
    assert "give seconds" in refused.stdout


def test_the_compose_file_is_valid(venv: pathlib.Path) -> None:
    try:
        import jsonschema
    except ImportError:
        missing("python3-jsonschema", "apt-get install python3-jsonschema")
    [schema] = venv.glob("lib/*/site-packages/compose/config/compose_spec.json")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    jsonschema.validate(compose, json.loads(schema.read_text()))
    # Both are where the other looks.
    dirtyd, web = compose["services"]["dirtyd"], compose["services"]["web"]
    assert dirtyd["volumes"] == web["volumes"] == ["run:/run/dirty"]

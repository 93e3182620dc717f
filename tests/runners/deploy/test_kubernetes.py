"""The overlays for Kubernetes: they fit the published schemas, this product's command line, Flink, and each other."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orion_beam import __version__
from orion_beam.defaults import METRICS_TOKEN_VARIABLE
from orion_beam.job_file.read import read_job
from orion_beam.monitoring.server import host_and_port, is_loopback
from orion_beam.runners.deploy import DEPLOYMENT
from orion_beam.runners.flink_parts.beam_options import check_beam_options
from orion_beam.runners.jars.build import PIPELINE_RUNNER
from orion_beam.runners.monitoring.alerts import ALERT_RULES
from orion_beam.workspace import Workspace
from scripts.manifests import KUBERNETES, OVERLAYS, header, kustomize, render, rendered_file
from tests.runners.deploy.commands import parsed
from tests.runners.deploy.flink import flink_settings
from tests.runners.deploy.schemas import problems_of

ROOT = Path(__file__).parents[3]
LOGIN, STORAGE, METRICS = "orion-kafka-login", "orion-s3", "orion-metrics-token"
MADE_BY_HAND = {LOGIN: "client.properties", STORAGE: "credentials", METRICS: "token"}
"""Secrets that no overlay makes, and the key of each."""

OF_OPERATOR = {
    "kubernetes.operator.pod-template.merge-arrays-by-name",
    "kubernetes.operator.deployment.rollback.enabled",
    "kubernetes.operator.deployment.readiness.timeout",
    "kubernetes.operator.periodic.savepoint.interval",
    "kubernetes.operator.savepoint.history.max.age",
}
"""Settings of the operator, as its documentation lists them."""

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def resources(overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(rendered_file(overlay).read_text(encoding="utf-8")))


def of_kind(overlay: str, kind: str) -> list[dict[str, Any]]:
    return [each for each in resources(overlay) if each["kind"] == kind]


def workspace(overlay: str) -> Path:
    return KUBERNETES / "overlays" / overlay


def pods(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pods that a resource has made; of a FlinkDeployment, as the operator merges its templates."""
    if resource["kind"] == "FlinkDeployment":
        common = resource["spec"]["podTemplate"]
        for name in ("jobManager", "taskManager"):
            yield merged(common, resource["spec"][name]["podTemplate"])
    elif "template" in resource.get("spec", {}):
        yield resource["spec"]["template"]


def merged(one: Any, other: Any) -> Any:
    """Return two templates merged: mappings by key, lists of named items by name."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: merged(one.get(key), other.get(key)) for key in one | other}
    if isinstance(one, list) and isinstance(other, list):
        named = {each["name"]: each for each in copy.deepcopy(one)}
        for each in other:
            named[each["name"]] = merged(named.get(each["name"]), each)
        return list(named.values())
    return one if other is None else other


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def all_containers(overlay: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(pod, container) for each in resources(overlay) for pod in pods(each) for container in containers(pod)]


def ours(overlay: str) -> list[dict[str, Any]]:
    """Return the containers that run this product's command."""
    return [each for _, each in all_containers(overlay) if re.search(r"(^|/)orion-beam:", each.get("image", ""))]


@every_overlay
def test_what_the_tests_read_is_what_kustomize_makes_of_the_files(overlay):
    text = rendered_file(overlay).read_text(encoding="utf-8")
    assert text.startswith(header()), "run `make manifests`"
    if (command := kustomize()) is not None:
        assert text == render(overlay, command), "run `make manifests`"


@every_overlay
def test_every_resource_fits_its_published_schema(overlay):
    found = resources(overlay)
    assert len(found) > 10
    assert [problem for each in found for problem in problems_of(each)] == []


def test_alert_rules_for_the_operator_are_those_for_prometheus():
    rule = yaml.safe_load((KUBERNETES / "base" / "alerts.yaml").read_text(encoding="utf-8"))
    assert problems_of(rule) == []
    assert rule["spec"] == yaml.safe_load(ALERT_RULES.read_text(encoding="utf-8")), "run `make docs`"


def test_a_field_that_no_schema_names_is_found():
    (deployment,) = of_kind("dev", "FlinkDeployment")
    deployment["spec"]["taskManager"]["podTemplate"]["spec"]["containers"][0]["livenesProbe"] = {}
    deployment["spec"]["job"]["paralelism"] = 2
    assert len(problems_of(deployment)) == 2


@every_overlay
def test_every_command_line_is_one_of_this_product(overlay):
    found = ours(overlay)
    assert {each["name"] for each in found} == {"topics", "monitor", "job", "workers"}
    for container in found:
        assert "command" not in container, "the image's entry point is orion-beam"
        words = [word.replace("$(COUNTRY)", "FR") for word in container["args"]]
        assert parsed(words, workspace(overlay)).command.name in ("apply", "monitor", "submit", "workers")


@every_overlay
def test_images_have_this_version_and_none_is_the_latest(overlay):
    images = {each["image"] for _, each in all_containers(overlay) if "image" in each}
    images |= {each["spec"]["image"] for each in of_kind(overlay, "FlinkDeployment")}
    assert {image.rpartition("/")[2] for image in images} == {f"orion-beam:{__version__}", f"orion-flink:{__version__}"}


@every_overlay
def test_every_setting_is_one_of_flink_or_its_operator(overlay):
    known = flink_settings() | OF_OPERATOR
    for deployment in of_kind(overlay, "FlinkDeployment"):
        settings = deployment["spec"]["flinkConfiguration"]
        assert settings.keys() <= known
        assert all(isinstance(value, str) for value in settings.values())


@every_overlay
def test_each_country_has_one_cluster_with_the_runner_of_its_jar(overlay):
    countries = read_job(Workspace(workspace(overlay))).settings.countries
    clusters = {
        each["metadata"]["name"]: each["spec"]["podTemplate"]["metadata"]["labels"]["orion-beam/country"]
        for each in of_kind(overlay, "FlinkDeployment")
    }
    assert clusters == {f"orion-{country.lower()}": country for country in countries}
    for deployment in of_kind(overlay, "FlinkDeployment"):
        job = deployment["spec"]["job"]
        assert job["entryClass"] == PIPELINE_RUNNER
        (manager, _) = pods(deployment)
        (writer,) = manager["spec"]["initContainers"]
        path = job["jarURI"].removeprefix("local://")
        assert parsed([*writer["args"]], None).params["to_jar"] == Path(path)
        for container in containers(manager):
            assert any(Path(path).is_relative_to(each["mountPath"]) for each in container["volumeMounts"])


@every_overlay
def test_workers_listen_where_the_job_asks_for_them_and_nobody_else_can(overlay):
    settings = read_job(Workspace(workspace(overlay))).settings.flink
    for deployment in of_kind(overlay, "FlinkDeployment"):
        (_, manager) = pods(deployment)
        (pool,) = [each for each in manager["spec"]["containers"] if each["name"] == "workers"]
        listen = parsed(pool["args"], None).params["pool_listen"]
        assert listen.replace("127.0.0.1", "localhost") == settings.workers
        assert deployment["spec"]["job"]["parallelism"] == settings.parallelism


@every_overlay
def test_the_monitor_watches_each_cluster(overlay):
    (monitor,) = of_kind(overlay, "Deployment")
    (container,) = monitor["spec"]["template"]["spec"]["containers"]
    expected = [f"http://{each['metadata']['name']}-rest:8081" for each in of_kind(overlay, "FlinkDeployment")]
    assert parsed(container["args"], workspace(overlay)).params["flink"] == expected


@every_overlay
def test_what_is_scraped_exists_and_may_be_reached(overlay):
    ports = {
        (pod_label(pod), port["name"]): port["containerPort"]
        for pod, container in all_containers(overlay)
        for port in container.get("ports", ())
    }
    open_ports = {
        port["port"] for policy in of_kind(overlay, "NetworkPolicy") for rule in policy["spec"].get("ingress", ())
        for port in rule.get("ports", ())
    }  # fmt: skip
    for monitor in of_kind(overlay, "PodMonitor") + of_kind(overlay, "ServiceMonitor"):
        (label,) = monitor["spec"]["selector"]["matchLabels"].values()
        for endpoint in monitor["spec"].get("podMetricsEndpoints", []) + monitor["spec"].get("endpoints", []):
            assert ports[label, endpoint["port"]] in open_ports
    jobs = set(re.findall(r'job="([\w-]+)"', ALERT_RULES.read_text(encoding="utf-8")))
    assert jobs == {each["metadata"]["name"] for each in of_kind(overlay, "Service")}


def pod_label(pod: dict[str, Any]) -> str:
    labels = pod["metadata"]["labels"]
    return labels.get("app.kubernetes.io/name") or labels["app.kubernetes.io/component"]


@every_overlay
def test_probes_ask_ports_that_the_container_serves(overlay):
    served = {"flink-main-container": {8081, 6122}, "monitor": {"metrics"}, "workers": {"metrics"}}
    for _, container in all_containers(overlay):
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind, {})
            asked = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
            assert asked is None or asked in served[container["name"]]
    for name in ("monitor", "workers", "flink-main-container"):
        assert any("livenessProbe" in each for _, each in all_containers(overlay) if each["name"] == name)


@every_overlay
def test_secrets_are_files_that_exist(overlay):
    known = MADE_BY_HAND | {
        each["metadata"]["name"]: next(iter(each["stringData" if "stringData" in each else "data"]))
        for each in resources(overlay)
        if each["kind"] in ("Secret", "ConfigMap")
    }
    for pod, container in all_containers(overlay):
        mounts = {each["name"]: each["mountPath"] for each in container.get("volumeMounts", ())}
        volumes = {each["name"]: each for each in pod["spec"].get("volumes", ())}
        assert mounts.keys() <= volumes.keys()
        files = {
            f"{path}/{known[source]}"
            for name, path in mounts.items()
            if (
                source := volumes[name].get("secret", {}).get("secretName")
                or volumes[name].get("configMap", {}).get("name")
            )
        }
        named = {
            each["value"] for each in container.get("env", ())
            if each["name"] in ("ORION_KAFKA_CONFIG", "AWS_CREDENTIAL_PROFILES_FILE", METRICS_TOKEN_VARIABLE)
        }  # fmt: skip
        assert named <= files
        assert not any("secretKeyRef" in str(each) for each in container.get("env", ()))


@every_overlay
def test_what_other_pods_reach_asks_for_the_token_that_prometheus_bears(overlay):
    listening = {"monitor": "listen", "workers": "pool_metrics"}
    served = [each for each in ours(overlay) if each["name"] in listening]
    assert {each["name"] for each in served} == listening.keys()
    for container in served:
        address = parsed(container["args"], workspace(overlay)).params[listening[container["name"]]]
        assert not is_loopback(host_and_port(address)[0])
        assert METRICS_TOKEN_VARIABLE in {each["name"] for each in container["env"]}
        probes = [container[kind].get("httpGet") for kind in ("startupProbe", "readinessProbe", "livenessProbe")]
        assert {each["path"] for each in probes if each} == {"/live", "/ready"}
    for monitor in of_kind(overlay, "PodMonitor") + of_kind(overlay, "ServiceMonitor"):
        (endpoint,) = monitor["spec"].get("podMetricsEndpoints", []) + monitor["spec"].get("endpoints", [])
        # Without a type, it is sent as `Bearer`.
        assert endpoint["authorization"] == {"credentials": {"name": METRICS, "key": MADE_BY_HAND[METRICS]}}


@every_overlay
def test_pods_have_few_rights_and_known_memory(overlay):
    for pod, container in all_containers(overlay):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["runAsUser"] == 9999
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        if container["name"] != "flink-main-container":
            assert own["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]


def test_a_drain_in_production_leaves_a_pod_of_each_kind_and_country():
    budgets = [each["spec"]["selector"]["matchLabels"] for each in of_kind("production", "PodDisruptionBudget")]
    assert sorted((each["component"], each["orion-beam/country"]) for each in budgets) == [
        (kind, country) for kind in ("jobmanager", "taskmanager") for country in ("FR", "MA", "SN", "TN")
    ]
    for deployment in of_kind("production", "FlinkDeployment"):
        settings = deployment["spec"]["flinkConfiguration"]
        assert deployment["spec"]["jobManager"]["replicas"] == 2
        assert deployment["spec"]["job"]["parallelism"] > int(settings["taskmanager.numberOfTaskSlots"])
        for place in ("high-availability.storageDir", "state.checkpoints.dir", "state.savepoints.dir"):
            assert settings[place].startswith("s3://")


@every_overlay
def test_the_job_file_is_one_and_its_options_are_beams(overlay):
    job = read_job(Workspace(workspace(overlay)))
    assert job.settings.flink.workers
    check_beam_options([f"--{name}={value}" for name, value in job.settings.flink.options.items()])


def test_the_images_that_the_overlays_name_are_built_by_the_dockerfile():
    targets = set(re.findall(r"^FROM .* AS (\S+)", (DEPLOYMENT / "docker" / "Dockerfile").read_text(), re.MULTILINE))
    assert {"orion-beam", "orion-flink"} <= targets

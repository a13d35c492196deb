"""The manifests, as Kubernetes would get them, agree with the image and with the server."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.deploy import (
    DEPLOY,
    END_SECONDS,
    ETC,
    check_command,
    check_variables,
    config_of,
    image_stages,
    image_user,
    image_volumes,
)

from hotshoe.serve.config import ServeConfig, parse_address
from hotshoe.serve.identity import TenantsFile
from hotshoe.serve.server import SERVICES

OVERLAYS = sorted(path.name for path in (DEPLOY / "kubernetes/overlays").iterdir())
Resource = dict[str, Any]

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="needs kubectl, which renders overlays"
)


def rendered(folder: Path) -> list[Resource]:
    """What `kubectl apply -k` would send."""
    made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(made.stdout))


class Rendered:
    """An overlay, rendered. settings: its serve.toml, written out."""

    def __init__(self, overlay: str, folder: Path) -> None:
        self.resources = rendered(DEPLOY / "kubernetes/overlays" / overlay)
        self.pod: Resource = self.one("Deployment")["spec"]["template"]["spec"]
        (self.server,) = self.pod["containers"]
        for source in self.volume("config")["projected"]["sources"]:
            for name, text in self.one("ConfigMap", source["configMap"]["name"])["data"].items():
                (folder / name).write_text(text)
        self.settings: ServeConfig = config_of(folder / "serve.toml")

    def one(self, kind: str, name: str | None = None) -> Resource:
        found = [
            each
            for each in self.resources
            if each["kind"] == kind and (name is None or each["metadata"]["name"] == name)
        ]
        assert len(found) == 1
        return found[0]

    def volume(self, name: str) -> Resource:
        (found,) = [volume for volume in self.pod["volumes"] if volume["name"] == name]
        return dict(found)

    def mount(self, path: str) -> Resource:
        (found,) = [each for each in self.server["volumeMounts"] if each["mountPath"] == path]
        return dict(found)

    def variables(self) -> dict[str, str]:
        return {each["name"]: each.get("value", "") for each in self.server["env"]}


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return Rendered(request.param, tmp_path_factory.mktemp("config"))


def test_the_server_takes_what_it_is_told(overlay: Rendered) -> None:
    check_command(overlay.server["args"])
    check_variables({name for name in overlay.variables() if name.startswith("HOTSHOE_")})
    assert f"{ETC}/serve.toml" in overlay.server["args"]
    assert overlay.server["image"].removeprefix("hotshoe:") in image_stages()


def test_the_tenants_are_read_and_change_under_a_running_pod(overlay: Rendered) -> None:
    assert overlay.settings.tenants is not None
    assert TenantsFile(overlay.settings.tenants).current.by_name
    names = [each["configMap"]["name"] for each in overlay.volume("config")["projected"]["sources"]]
    # The settings change with the pods, so their name changes; the tenants change under them.
    assert [name == "hotshoe-tenants" for name in names] == [False, True]
    assert names[0] != "hotshoe-config"
    assert "subPath" not in overlay.mount(ETC)


def test_the_probes_ask_the_port_for_services_that_the_server_registers(overlay: Rendered) -> None:
    _, port = parse_address(overlay.settings.listen)
    ports = {each["name"]: each["containerPort"] for each in overlay.server["ports"]}
    assert ports["grpc"] == port
    for name in ("startupProbe", "readinessProbe"):
        probe = overlay.server[name]
        if overlay.settings.tls is None:
            assert probe["grpc"]["port"] == port
            assert probe["grpc"]["service"] in SERVICES
        else:
            # The kubelet speaks no TLS, and our own probe finds it in the environment.
            assert "grpc" not in probe
            assert probe["exec"]["command"][-1] == f"127.0.0.1:{port}"
            assert "HOTSHOE_TLS_CA" in overlay.variables()


def test_a_pod_that_drains_or_replaces_its_engine_is_not_killed_for_it(overlay: Rendered) -> None:
    assert "--alive" in overlay.server["livenessProbe"]["exec"]["command"]
    grace = overlay.pod["terminationGracePeriodSeconds"]
    before = overlay.server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert grace >= before + overlay.settings.drain_seconds + END_SECONDS


def test_metrics_are_scraped_where_they_are_and_reached_by_who_watches_alone(overlay: Rendered) -> None:
    assert overlay.settings.metrics is not None
    _, port = parse_address(overlay.settings.metrics)
    ports = {each["name"]: each["containerPort"] for each in overlay.server["ports"]}
    assert ports["metrics"] == port
    monitor = yaml.safe_load((DEPLOY / "kubernetes/components/monitoring/podmonitor.yaml").read_text())
    assert [each["port"] for each in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]
    rules = overlay.one("NetworkPolicy")["spec"]["ingress"]
    opened = {item["port"]: rule["from"] for rule in rules for item in rule["ports"]}
    assert set(opened) == {"grpc", "metrics"}
    assert opened["grpc"] != opened["metrics"]


def test_every_selector_means_the_pods_of_the_deployment(overlay: Rendered) -> None:
    labels = overlay.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    monitor = yaml.safe_load((DEPLOY / "kubernetes/components/monitoring/podmonitor.yaml").read_text())
    chosen = [
        overlay.one("Deployment")["spec"]["selector"]["matchLabels"],
        overlay.one("Service")["spec"]["selector"],
        overlay.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        overlay.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in overlay.pod["topologySpreadConstraints"]),
        monitor["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels.items() for selector in chosen)


def test_the_monitoring_component_joins_an_overlay(tmp_path: Path) -> None:
    kubernetes = Path(os.path.relpath(DEPLOY, tmp_path)) / "kubernetes"
    joined = {
        "resources": [str(kubernetes / "overlays/cpu")],
        "components": [str(kubernetes / "components/monitoring")],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(joined))
    kinds = {each["kind"]: each for each in rendered(tmp_path)}
    assert kinds["PodMonitor"]["metadata"]["name"] == kinds["Deployment"]["metadata"]["name"]
    alerts = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    assert kinds["PrometheusRule"]["spec"] == alerts


def test_clients_see_every_pod(overlay: Rendered) -> None:
    service = overlay.one("Service")["spec"]
    assert service["clusterIP"] == "None"
    assert [each["targetPort"] for each in service["ports"]] == ["grpc"]


def test_the_pods_are_restricted_and_write_only_to_volumes(overlay: Rendered) -> None:
    security = overlay.pod["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == security["fsGroup"] == image_user()
    assert security["seccompProfile"]["type"] == "RuntimeDefault"
    assert overlay.server["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not overlay.pod["automountServiceAccountToken"]
    for path in ("/cache", "/tmp"):
        assert overlay.mount(path)
    if not (overlay.settings.registry or "").startswith("hub://"):
        where = overlay.variables()["HOTSHOE_REGISTRY"]
        assert "persistentVolumeClaim" in overlay.volume(overlay.mount(where)["name"])


def test_the_cache_stays_within_its_volume(overlay: Rendered) -> None:
    assert overlay.mount("/cache")["name"] == "cache"
    assert "/cache" in image_volumes()
    size = overlay.volume("cache")["emptyDir"]["sizeLimit"]
    assert int(overlay.variables()["HOTSHOE_CACHE_BYTES"]) < int(size.removesuffix("Gi")) << 30


def test_secrets_are_named_and_never_held(overlay: Rendered) -> None:
    assert not [each for each in overlay.resources if each["kind"] == "Secret"]
    if "HF_TOKEN" in overlay.variables():
        assert overlay.variables()["HF_TOKEN"] == ""

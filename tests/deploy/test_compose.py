"""The compose files agree with the image and with the server."""

from __future__ import annotations

import re
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
    image_volumes,
)

from hotshoe.serve.config import parse_address
from hotshoe.serve.identity import TenantsFile


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


@pytest.fixture(scope="module")
def server(services: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return services["hotshoe"]


def test_the_server_takes_what_it_is_told(server: dict[str, Any]) -> None:
    check_command(server["command"])
    check_variables({name for name in server["environment"] if name.startswith("HOTSHOE_")})
    assert f"{ETC}/serve.toml" in server["command"]
    assert f"./config:{ETC}:ro" in server["volumes"]
    config_of(DEPLOY / "config/serve.toml")


def test_the_example_tenants_may_call_it() -> None:
    named = config_of(DEPLOY / "config/serve.toml").tenants
    assert named == DEPLOY / "config/tenants.toml"
    assert TenantsFile(named).current.by_name["ops"].admin


def test_docker_waits_until_a_drain_has_ended(server: dict[str, Any]) -> None:
    drain_seconds = config_of(DEPLOY / "config/serve.toml").drain_seconds
    assert int(server["stop_grace_period"].removesuffix("s")) >= drain_seconds + END_SECONDS


def test_every_port_is_the_servers_and_on_loopback(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert all(re.match(r"127\.0\.0\.1:\d+:\d+$", port) for port in service["ports"])
    config = config_of(DEPLOY / "config/serve.toml")
    _, port = parse_address(config.listen)
    assert services["hotshoe"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_prometheus_asks_where_the_server_answers() -> None:
    config = config_of(DEPLOY / "config/serve.toml")
    assert config.metrics is not None
    _, port = parse_address(config.metrics)
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"hotshoe:{port}"]}]
    assert [(DEPLOY / "prometheus" / name).exists() for name in prometheus["rule_files"]] == [True]


def test_what_is_written_has_a_volume_beside_the_read_only_image(server: dict[str, Any]) -> None:
    assert server["read_only"]
    mounted = {volume.split(":")[1] for volume in server["volumes"]}
    assert image_volumes() <= mounted
    assert str(Path(server["environment"]["HOTSHOE_LEDGER"]).parent) in image_volumes()


def test_every_file_that_is_mounted_is_there(services: dict[str, dict[str, Any]]) -> None:
    mounts = [volume.split(":")[0] for service in services.values() for volume in service["volumes"]]
    files = [DEPLOY / mount for mount in mounts if mount.startswith("./")]
    assert files
    assert all(path.exists() for path in files)


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_the_image_has_the_stage_that_is_built(file: str) -> None:
    server = yaml.safe_load((DEPLOY / file).read_text())["services"]["hotshoe"]
    assert server["build"]["target"] in image_stages()
    assert server["image"] == f"hotshoe:{server['build']['target']}"

"""helm 4, unmodified: a chart with hooks and a custom kind is installed, upgraded, rolled back and removed."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kubarium.testing.apiserver import ApiServer
from kubarium.testing.kubectl import helm_path

CHART = Path(__file__).with_name("chart")


class Helm:
    """helm with one namespace, and folders of its own for what it keeps."""

    def __init__(self, server: ApiServer, namespace: str, home: Path) -> None:
        self.server, self.namespace = server, namespace
        folders = {f"HELM_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        self._env = {**os.environ, **folders, "KUBECONFIG": str(server.kubeconfig)}

    def run(self, *words: str, fails: bool = False) -> str:
        command = [str(helm_path()), "--namespace", self.namespace, *words]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    def get(self, plural: str, name: str, group: str = "/api/v1") -> Any:
        return self.server.get(f"{group}/namespaces/{self.namespace}/{plural}/{name}")

    def history(self) -> list[tuple[int, str, str]]:
        found = json.loads(self.run("history", "web", "-o", "json"))
        return [(entry["revision"], entry["status"], entry["description"]) for entry in found]


@pytest.fixture
def helm(shared_apiserver: ApiServer, tmp_path: Path) -> Helm:
    return Helm(shared_apiserver, f"helm-{secrets.token_hex(4)}", tmp_path)


def test_a_release_is_installed_upgraded_rolled_back_and_removed(helm: Helm) -> None:
    helm.run("install", "web", str(CHART), "--create-namespace", "--set", "greeting=one")
    assert helm.get("configmaps", "web-page").body["data"] == {"greeting": "one"}
    assert helm.get("configmaps", "web-pre-install").status == 200
    assert helm.get("deployments", "web", "/apis/apps/v1").body["spec"]["replicas"] == 2
    assert helm.get("gateways", "web", "/apis/chart.example.com/v1").body["spec"]["port"] == 80

    helm.run("upgrade", "web", str(CHART), "--set", "greeting=two,replicas=3")
    assert helm.get("configmaps", "web-page").body["data"] == {"greeting": "two"}
    assert helm.get("configmaps", "web-post-upgrade").status == 200
    assert helm.get("deployments", "web", "/apis/apps/v1").body["spec"]["replicas"] == 3

    helm.run("rollback", "web", "1")
    assert helm.get("configmaps", "web-page").body["data"] == {"greeting": "one"}
    assert helm.get("deployments", "web", "/apis/apps/v1").body["spec"]["replicas"] == 2
    assert [(number, status) for number, status, _ in helm.history()] == [
        (1, "superseded"),
        (2, "superseded"),
        (3, "deployed"),
    ]

    helm.run("uninstall", "web")
    assert helm.get("configmaps", "web-page").status == 404
    assert helm.get("deployments", "web", "/apis/apps/v1").status == 404


def test_a_release_that_the_api_refuses_is_told_and_marked_failed(helm: Helm) -> None:
    text = helm.run("install", "web", str(CHART), "--create-namespace", "--set", "port=70000", fails=True)
    assert "must be between 1 and 65535" in text
    assert [status for _, status, _ in helm.history()] == ["failed"]


def test_a_change_by_hand_is_healed_by_the_next_upgrade(helm: Helm) -> None:
    helm.run("install", "web", str(CHART), "--create-namespace")
    path = f"/apis/apps/v1/namespaces/{helm.namespace}/deployments/web"
    helm.server.patch(path, {"metadata": {"labels": {"mine": "yes"}}})
    helm.run("upgrade", "web", str(CHART), "--set", "replicas=4")
    found = helm.get("deployments", "web", "/apis/apps/v1").body
    assert found["spec"]["replicas"] == 4
    assert found["metadata"]["labels"]["mine"] == "yes"

"""What apply sends, by meaning: manifest then, manifest now, object in the server."""

from __future__ import annotations

from typing import Any

import pytest

from kubarium.cli.threeway import json_merge, strategic


def deployment(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": list(containers)}}, **spec}}


def web(**more: Any) -> dict[str, Any]:
    return {"name": "web", "image": "nginx", **more}


DEFAULTS = {"imagePullPolicy": "Always", "resources": {}}


@pytest.mark.parametrize(
    ("original", "modified", "current", "patch"),
    [
        pytest.param(
            deployment(web(), replicas=3),
            deployment(web(), replicas=3),
            deployment(web(**DEFAULTS), replicas=3, strategy={"type": "RollingUpdate"}),
            {},
            id="defaults of the server are no difference",
        ),
        pytest.param(
            deployment(web(), replicas=3),
            deployment(web()),
            deployment(web(), replicas=3),
            {"spec": {"replicas": None}},
            id="a field taken from the manifest is removed",
        ),
        pytest.param(
            deployment(web()),
            deployment(web()),
            deployment(web(), replicas=5),
            {},
            id="a field that others set stays",
        ),
        pytest.param(
            deployment(web()),
            deployment(web(image="nginx:2")),
            deployment(web(**DEFAULTS), {"name": "injected"}),
            deployment({"name": "web", "image": "nginx:2"}),
            id="containers are merged by name",
        ),
        pytest.param(
            deployment(web(), {"name": "old"}),
            deployment(web(image="2")),
            deployment(web(), {"name": "old"}),
            deployment({"$patch": "delete", "name": "old"}, {"name": "web", "image": "2"}),
            id="a container taken out is deleted, another changed",
        ),
        pytest.param(
            deployment(web(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "1"}])),
            deployment(web(env=[{"name": "A", "value": "2"}])),
            deployment(web(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "1"}])),
            deployment({"name": "web", "env": [{"$patch": "delete", "name": "B"}, {"name": "A", "value": "2"}]}),
            id="nested lists of one container meet in one entry",
        ),
        pytest.param(
            deployment(web(args=["a", "b"])),
            deployment(web(args=["a"])),
            deployment(web(args=["a", "b"])),
            deployment({"name": "web", "args": ["a"]}),
            id="lists without a key are replaced",
        ),
        pytest.param(
            {"spec": {"ports": [{"port": 80}]}},
            {"spec": {"ports": [{"port": 80}, {"port": 443}]}},
            {"spec": {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}},
            {"spec": {"ports": [{"port": 443}]}},
            id="a Service's ports are merged by port",
        ),
        pytest.param(
            {"ports": [{"port": 80}]},
            {"ports": [{"port": 80}, {"port": 443}]},
            {"ports": [{"port": 80}]},
            {"ports": [{"port": 80}, {"port": 443}]},
            id="an EndpointSlice's ports are replaced",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"finalizers": ["b", "c"]}},
            {"metadata": {"finalizers": ["a", "b", "other"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}},
            id="finalizers are a set that others add to",
        ),
        pytest.param(
            None,
            {"metadata": {"labels": {"a": "1"}, "annotations": {}}},
            {"metadata": {"labels": {"b": "2"}}},
            {"metadata": {"labels": {"a": "1"}}},
            id="nothing was applied before",
        ),
        pytest.param(
            {"data": {"a": "1"}}, {"data": None}, {"data": {"a": "1"}}, {"data": None}, id="null in a manifest removes"
        ),
    ],
)
def test_strategic_patch(original: Any, modified: Any, current: Any, patch: Any) -> None:
    assert strategic(original, modified, current) == patch


def test_json_merge_replaces_every_list() -> None:
    changed = deployment(web(image="2"))
    assert json_merge(deployment(web()), changed, deployment(web(**DEFAULTS))) == changed

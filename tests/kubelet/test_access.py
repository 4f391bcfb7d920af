"""Who may ask a kubelet: decided by the API server, remembered for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kubarium.machinery.client import Api, connect
from kubarium.testing.apiserver import ApiServer
from kubelet.server.access import Access, Caller, plan_parts


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/pods", ("pods", "proxy")),
        ("/runningpods/", ("pods", "proxy")),
        ("/healthz", ("healthz", "proxy")),
        ("/metrics/cadvisor", ("metrics",)),
        ("/stats/summary", ("stats",)),
        ("/logs/x", ("log",)),
        ("/containerLogs/a/b/c", ("proxy",)),
        ("/exec/a/b/c", ("proxy",)),
    ],
)
def test_what_opens_a_path(path: str, parts: tuple[str, ...]) -> None:
    assert plan_parts(path) == parts


@pytest.fixture
async def api(shared_apiserver: ApiServer) -> AsyncIterator[Api]:
    async with connect(shared_apiserver.kubeconfig) as api:
        yield api


def give(server: ApiServer, user: str, *resources: str) -> None:
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": list(resources)}]
    name = f"kubelet-{user}"
    base = "/apis/rbac.authorization.k8s.io/v1"
    assert server.post(f"{base}/clusterroles", {"metadata": {"name": name}, "rules": rules}).status == 201
    subjects = [{"kind": "User", "name": user}]
    body = {"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": name}, "subjects": subjects}
    assert server.post(f"{base}/clusterrolebindings", body).status == 201


async def test_the_api_server_decides(shared_apiserver: ApiServer, api: Api) -> None:
    access = Access(api, "n1")
    give(shared_apiserver, "reader", "nodes/pods", "nodes/metrics")
    reader = Caller("reader", ("system:authenticated",))
    assert await access.refusal("GET", "/pods", reader, "") is None
    assert await access.refusal("GET", "/metrics", reader, "") is None
    refused = await access.refusal("POST", "/exec/a/b/c", reader, "")
    assert refused is not None
    assert (refused.code, refused.text) == (
        403,
        "Forbidden (user=reader, verb=create, resource=nodes, subresource(s)=[proxy])\n",
    )


async def test_a_token_is_reviewed_and_nobody_is_sent_away(shared_apiserver: ApiServer, api: Api) -> None:
    access = Access(api, "n1")
    assert await access.refusal("GET", "/pods", None, shared_apiserver.token) is None
    for token in ("", "unknown"):
        refused = await access.refusal("GET", "/pods", None, token)
        assert refused is not None
        assert refused.code == 401


async def test_an_answer_holds_for_a_while(shared_apiserver: ApiServer, api: Api) -> None:
    now = 0.0
    access = Access(api, "n1", lambda: now)
    late = Caller("late", ("system:authenticated",))
    assert await access.refusal("GET", "/stats/summary", late, "") is not None
    give(shared_apiserver, "late", "nodes/stats")
    assert await access.refusal("GET", "/stats/summary", late, "") is not None
    now = 31.0
    assert await access.refusal("GET", "/stats/summary", late, "") is None


async def test_the_group_of_masters_is_let_in_without_asking(api: Api) -> None:
    await api.close()
    assert await Access(api, "n1").refusal("POST", "/exec/a/b/c", Caller("x", ("system:masters",)), "") is None

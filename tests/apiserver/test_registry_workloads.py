"""Parts of the workload kinds that decide by themselves: schedules, indexes, conversions, budgets, proxied paths."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.eviction import counted_down, needs_no_budget
from apiserver.registry import cron, jobs_indexes
from apiserver.registry.autoscaling_v1 import from_v2, to_v2
from apiserver.rest.proxy import (
    offered,
    pod_location,
    rewritten,
    rewritten_html,
    service_location,
    split_name,
    split_path,
)
from apiserver.schemas import internal
from kubarium.machinery.errors import BadRequest, ServiceUnavailable

NOW = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("schedule", ["* * * * *", "*/5 1-3,7 ? jan-mar MON", "@daily", "@every 1h30m", "0 0 1 1 0"])
def test_schedules(schedule: str) -> None:
    assert cron.schedule_fault(schedule) == ""


@pytest.mark.parametrize(
    "schedule", ["", "* * * *", "60 * * * *", "* * 0 * *", "@often", "@every x", "5-1 * * * *", "*/0 * * * *"]
)
def test_no_schedules(schedule: str) -> None:
    assert cron.schedule_fault(schedule)


@pytest.mark.parametrize(("text", "count"), [("", 0), ("1", 1), ("0-2,5", 4), ("3,5,7-9", 5)])
def test_indexes_of_a_job_are_counted(text: str, count: int) -> None:
    assert jobs_indexes.count(text, 10) == count


@pytest.mark.parametrize("text", ["10", "2,1", "a", "3-", "1-1", ",", "4-2"])
def test_no_indexes_of_a_job(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        jobs_indexes.parse(text, 10)


def test_an_index_either_completed_or_failed() -> None:
    assert jobs_indexes.overlap("1,3-5", "0,2", 10) is None
    assert jobs_indexes.overlap("1,3-5", "0,4", 10) == 4


def test_autoscalers_survive_the_way_through_v1() -> None:
    pods = {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "5"}}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [{"type": "Pods", "pods": pods}, {"type": "Resource", "resource": cpu}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
    }
    stored = {"metadata": {"name": "h"}, "spec": spec, "status": {"desiredReplicas": 0, "currentMetrics": None}}
    shown = from_v2(stored)
    assert shown["spec"]["targetCPUUtilizationPercentage"] == 60
    assert to_v2(shown)["spec"] == spec


def budget(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "b", "generation": 1},
        "spec": {"minAvailable": 1, "selector": {}},
        "status": {"observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 1, "currentHealthy": 1} | status,
    }


def unready(phase: str = "Running") -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "False"}]}}


def test_a_disruption_is_counted_down() -> None:
    found = counted_down(budget(), "p", NOW)["status"]
    assert found["disruptionsAllowed"] == 0
    assert found["disruptedPods"] == {"p": NOW}


@pytest.mark.parametrize(
    ("status", "policy", "expected"),
    [
        pytest.param({"currentHealthy": 1}, None, True, id="the others are enough"),
        pytest.param({"currentHealthy": 0}, None, False, id="too few of them"),
        pytest.param({"currentHealthy": 0}, "AlwaysAllow", True, id="whatever they are"),
    ],
)
def test_what_is_not_ready_needs_no_budget(status: dict[str, Any], policy: str | None, expected: bool) -> None:
    found = budget(**status)
    if policy:
        found["spec"]["unhealthyPodEvictionPolicy"] = policy
    assert needs_no_budget(unready(), found) is expected


# --- proxied paths


@pytest.mark.parametrize(
    ("name", "expected"),
    [("p", ("", "p", "")), ("p:80", ("", "p", "80")), ("https:p:web", ("https", "p", "web")), (":p:", ("", "p", ""))],
)
def test_names_of_what_is_proxied(name: str, expected: tuple[str, str, str]) -> None:
    assert split_name(name, "pod") == expected


@pytest.mark.parametrize("name", ["ftp:p:80", "a:b:c:d", "", "http::80"])
def test_no_names_of_what_is_proxied(name: str) -> None:
    with pytest.raises(BadRequest, match="invalid pod request"):
        split_name(name, "pod")


def test_a_pod_is_asked_at_its_first_port() -> None:
    pod = {"spec": {"containers": [{"name": "a"}, {"ports": [{"containerPort": 81}]}]}, "status": {"podIP": "10.0.0.1"}}
    assert pod_location(pod, "", "").base == "http://10.0.0.1:81"
    assert pod_location(pod | {"status": {"podIPs": [{"ip": "fd00::1"}]}}, "https", "5").base == "https://[fd00::1]:5"
    with pytest.raises(BadRequest, match="address not allowed"):
        pod_location(pod | {"status": {"podIP": "127.0.0.1"}}, "", "")


@pytest.mark.parametrize("port", ["80@127.0.0.1", "80#", "1 2", "web", "²"])
def test_what_is_no_port_leads_nowhere(port: str) -> None:
    pod = {"spec": {"containers": [{"name": "a"}]}, "status": {"podIP": "10.0.0.1"}}
    with pytest.raises(ServiceUnavailable, match="unknown port"):
        pod_location(pod, "http", port)


def test_the_token_among_the_protocols_is_not_passed_on() -> None:
    token = "base64url.bearer.authorization.k8s.io.c2VjcmV0"
    assert offered(f"{token}, v4.channel.k8s.io,a") == ["v4.channel.k8s.io", "a"]


def test_a_service_is_asked_at_an_endpoint_that_has_the_port() -> None:
    ports = [{"name": "w", "port": 8080}]
    endpoints = {"metadata": {"name": "s"}, "subsets": [{"addresses": [{"ip": "10.0.0.2"}], "ports": ports}]}
    assert service_location(endpoints, "", "w").base == "http://10.0.0.2:8080"
    with pytest.raises(ServiceUnavailable, match='no endpoints available for service "s"'):
        service_location(endpoints, "", "")


def test_paths_are_split_at_the_subresource() -> None:
    assert split_path("/api/v1/nodes/n/proxy", False) == ("/api/v1/nodes/n/proxy", "")
    assert split_path("/api/v1/namespaces/x/pods/p/proxy/a%2Fb/", True) == (
        "/api/v1/namespaces/x/pods/p/proxy",
        "/a%2Fb/",
    )


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("/a?b=c", "/p/a?b=c"),
        ("/p/a", "/p/a"),
        ("a/b", "a/b"),
        ("http://elsewhere/a", "http://elsewhere/a"),
        ("http://10.0.0.1:80/a", "/p/a"),
    ],
)
def test_links_lead_through_the_proxy(link: str, expected: str) -> None:
    assert rewritten(link, "/p", "10.0.0.1:80", "api") == expected


def test_links_of_a_page() -> None:
    page = b'<a class="x" href="/a">/b</a><img SRC=\'/c\'>'
    assert rewritten_html(page, lambda link: f"/p{link}") == b'<a class="x" href="/p/a">/b</a><img SRC=\'/p/c\'>'


# --- what upstream prints of its own types


def test_unversioned_types_have_fields_of_their_own() -> None:
    shown = internal.shown("core.v1.PodSpec", {"hostNetwork": True, "securityContext": {"runAsUser": 5}})
    assert shown["SecurityContext"]["HostNetwork"] is True
    assert shown["SecurityContext"]["RunAsUser"] == 5
    assert internal.difference("core.v1.PodSpec", {}, {"hostname": "h"}).count('+ "Hostname": "h"') == 1

"""What a create leaves of the smallest objects. The expectations are kube-apiserver's own answers."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.registry import REGISTRY
from tests.apiserver.objects import TEMPLATE, created, deployment, pod, service, stored, updated

Json = dict[str, Any]

CONTAINER = {
    "name": "c",
    "image": "nginx",
    "imagePullPolicy": "Always",
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
POD_SPEC = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}
TEMPLATE_SPEC = {
    "metadata": {"labels": {"a": "b"}},
    "spec": POD_SPEC | {"containers": [CONTAINER | {"image": "nginx:1.25", "imagePullPolicy": "IfNotPresent"}]},
}
SERVICE_SPEC = {
    "internalTrafficPolicy": "Cluster",
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
    "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    "sessionAffinity": "None",
    "type": "ClusterIP",
}
EVENT = {
    "metadata": {"name": "x", "namespace": "default"},
    "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
    "reason": "R",
}
NO_NODE_INFO = dict.fromkeys(
    (
        "architecture",
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "operatingSystem",
        "osImage",
        "systemUUID",
    ),
    "",
)


@pytest.mark.parametrize(
    ("path", "obj", "expected"),
    [
        pytest.param(
            "v1/pods",
            pod(),
            {
                "spec": POD_SPEC | {"containers": [CONTAINER], "enableServiceLinks": True},
                "status": {"phase": "Pending", "qosClass": "BestEffort"},
            },
            id="pod",
        ),
        pytest.param(
            "apps/v1/deployments",
            deployment(),
            {
                "spec": {
                    "progressDeadlineSeconds": 600,
                    "replicas": 1,
                    "revisionHistoryLimit": 10,
                    "selector": {"matchLabels": {"a": "b"}},
                    "strategy": {
                        "type": "RollingUpdate",
                        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
                    },
                    "template": TEMPLATE_SPEC,
                },
                "status": {},
            },
            id="deployment",
        ),
        pytest.param(
            "apps/v1/replicasets",
            deployment({"replicas": 0}),
            {
                "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE_SPEC},
                "status": {"replicas": 0},
            },
            id="replicaset of none",
        ),
        pytest.param("v1/services", service(), {"spec": SERVICE_SPEC, "status": {"loadBalancer": {}}}, id="service"),
        pytest.param(
            "v1/services",
            service({"sessionAffinity": "ClientIP"}),
            {
                "spec": SERVICE_SPEC
                | {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
                "status": {"loadBalancer": {}},
            },
            id="service with affinity",
        ),
        pytest.param(
            "v1/services",
            service({"type": "LoadBalancer"}),
            {
                "spec": SERVICE_SPEC
                | {
                    "type": "LoadBalancer",
                    "externalTrafficPolicy": "Cluster",
                    "allocateLoadBalancerNodePorts": True,
                },
                "status": {"loadBalancer": {}},
            },
            id="service of type LoadBalancer",
        ),
        pytest.param(
            "v1/services",
            service({"clusterIP": "None"}),
            {
                "spec": SERVICE_SPEC
                | {
                    "clusterIP": "None",
                    "clusterIPs": ["None"],
                    "ipFamilies": ["IPv4", "IPv6"],
                    "ipFamilyPolicy": "RequireDualStack",
                },
                "status": {"loadBalancer": {}},
            },
            id="headless service without selector",
        ),
        pytest.param(
            "v1/secrets",
            {"metadata": {"name": "x"}, "stringData": {"k": "v"}},
            {"data": {"k": "dg=="}, "type": "Opaque"},
            id="secret",
        ),
        pytest.param(
            "v1/namespaces",
            {"metadata": {"name": "x"}},
            {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
            id="namespace",
        ),
        pytest.param(
            "v1/nodes",
            {"metadata": {"name": "x"}, "spec": {"podCIDR": "10.244.1.0/24"}},
            {
                "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
                "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": NO_NODE_INFO},
            },
            id="node",
        ),
        pytest.param(
            "v1/events",
            EVENT,
            {
                "eventTime": None,
                "firstTimestamp": None,
                "involvedObject": EVENT["involvedObject"],
                "lastTimestamp": None,
                "reason": "R",
                "reportingComponent": "",
                "reportingInstance": "",
                "source": {},
            },
            id="event",
        ),
        pytest.param(
            "v1/endpoints",
            {"metadata": {"name": "x"}, "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]},
            {"subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80, "protocol": "TCP"}]}]},
            id="endpoints",
        ),
        pytest.param(
            "discovery.k8s.io/v1/endpointslices",
            {
                "metadata": {"name": "x"},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.1.2.3"]}],
                "ports": [{"port": 80}],
            },
            {
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {}}],
                "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
            },
            id="endpointslice",
        ),
        pytest.param(
            "discovery.k8s.io/v1/endpointslices",
            {"metadata": {"name": "x"}, "addressType": "IPv4", "endpoints": []},
            {"addressType": "IPv4", "endpoints": None, "ports": None},
            id="empty endpointslice",
        ),
        pytest.param(
            "scheduling.k8s.io/v1/priorityclasses",
            {"metadata": {"name": "x"}},
            {"preemptionPolicy": "PreemptLowerPriority", "value": 0},
            id="priorityclass",
        ),
    ],
)
def test_defaults(path: str, obj: Json, expected: Json) -> None:
    found = created(path, obj)
    assert {k: v for k, v in found.items() if k not in ("apiVersion", "kind", "metadata")} == expected


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("registry.local:5000/nginx", "Always"),
        ("registry.local:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    found = created("v1/pods", pod({"containers": [{"name": "c", "image": image}]}))
    assert found["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_probes_volumes_and_ports_of_a_pod() -> None:
    found = created(
        "v1/pods",
        pod(
            {
                "hostNetwork": True,
                "containers": [
                    {
                        "name": "c",
                        "image": "x",
                        "ports": [{"containerPort": 80}],
                        "livenessProbe": {"httpGet": {"port": 80}},
                        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                        "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": "0.5"}},
                    }
                ],
                "volumes": [{"name": "a"}, {"name": "b", "configMap": {"name": "m"}}],
            }
        ),
    )
    container = found["spec"]["containers"][0]
    assert container["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    assert container["livenessProbe"] == {
        "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
        "failureThreshold": 3,
        "periodSeconds": 10,
        "successThreshold": 1,
        "timeoutSeconds": 1,
    }
    assert container["env"][0]["valueFrom"]["fieldRef"] == {"apiVersion": "v1", "fieldPath": "status.podIP"}
    assert container["resources"] == {
        "limits": {"cpu": "1", "memory": "1Gi"},
        "requests": {"cpu": "500m", "memory": "1Gi"},
    }
    assert found["spec"]["volumes"] == [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "configMap": {"name": "m", "defaultMode": 420}},
    ]
    assert found["status"]["qosClass"] == "Burstable"


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        pytest.param({}, "BestEffort", id="nothing"),
        pytest.param({"requests": {"cpu": "1"}}, "Burstable", id="a request"),
        pytest.param({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed", id="limits are requests"),
        pytest.param({"limits": {"cpu": "1"}}, "Burstable", id="one limit of two"),
        pytest.param({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1m"}}, "Burstable", id="less"),
    ],
)
def test_quality_of_service(resources: Json, qos: str) -> None:
    from apiserver.registry.pods import qos_class

    found = created("v1/pods", pod({"containers": [{"name": "c", "image": "x", "resources": resources}]}))
    assert qos_class(found["spec"]) == qos


def test_generations_are_counted_where_kubernetes_counts_them() -> None:
    counted = {r.plural for r in REGISTRY if "generation" in created(_path(r), _smallest(r.plural))["metadata"]}
    assert counted == {
        "cronjobs",
        "customresourcedefinitions",
        "daemonsets",
        "deployments",
        "deviceclasses",
        "endpointslices",
        "flowschemas",
        "ingressclasses",
        "ingresses",
        "jobs",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "networkpolicies",
        "poddisruptionbudgets",
        "pods",
        "podtemplates",
        "priorityclasses",
        "prioritylevelconfigurations",
        "replicasets",
        "replicationcontrollers",
        "resourceslices",
        "statefulsets",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    }


def _path(resource: Any) -> str:
    return f"{resource.api_version}/{resource.plural}"


def _smallest(plural: str) -> Json:
    return {"metadata": {"name": "x"}} | ({"spec": {"template": TEMPLATE}} if plural.endswith("sets") else {})


def test_spec_bumps_the_generation_and_status_does_not() -> None:
    old = stored("apps/v1/deployments", deployment())
    new, _ = updated("apps/v1/deployments", old, {"spec": {"replicas": 2}})
    assert new["metadata"]["generation"] == 2
    new, _ = updated("apps/v1/deployments", old, {"metadata": {"annotations": {"x": "y"}}})
    assert new["metadata"]["generation"] == 2
    new, _ = updated("apps/v1/deployments", old, {"metadata": {"labels": {"x": "y"}}, "status": {"replicas": 9}})
    assert (new["metadata"]["generation"], new["status"]) == (1, {})
    new, _ = updated("apps/v1/deployments", old, {"spec": {"replicas": 9}, "status": {"replicas": 1}}, status=True)
    assert (new["metadata"]["generation"], new["status"], new["spec"]["replicas"]) == (1, {"replicas": 1}, 1)


@pytest.mark.parametrize("path", [f"{r.api_version}/{r.plural}" for r in REGISTRY])
def test_an_update_without_change_changes_nothing(path: str) -> None:
    """The written form is a fixed point: else every update would look like a change."""
    plural = path.rpartition("/")[2]
    samples = {"pods": pod(), "services": service(), "deployments": deployment(), "replicasets": deployment()}
    old = stored(path, samples.get(plural, {"metadata": {"name": "x"}}))
    new, _ = updated(path, old, {})
    assert new == old


@pytest.mark.parametrize(
    ("nominal", "asked", "node", "phase", "expected"),
    [
        pytest.param(30, None, "n", "Running", 30, id="the pod's own"),
        pytest.param(30, 5, "n", "Running", 5, id="as asked"),
        pytest.param(30, -1, "n", "Running", 1, id="negative means one"),
        pytest.param(30, None, "", "Pending", 0, id="never bound"),
        pytest.param(30, 5, "n", "Succeeded", 0, id="over"),
    ],
)
def test_grace_period(nominal: int, asked: int | None, node: str, phase: str, expected: int) -> None:
    from apiserver.registry.pods import grace_period_s

    spec = {"nodeName": node, "terminationGracePeriodSeconds": nominal}
    assert grace_period_s({"spec": spec, "status": {"phase": phase}}, asked) == expected


class TestServiceUpdates:
    OLD = stored("v1/services", service({"type": "NodePort", "clusterIP": "10.96.0.7"}))

    def test_node_ports_and_addresses_stay_where_the_client_leaves_them_out(self) -> None:
        old = self.OLD | {"spec": self.OLD["spec"] | {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}}
        new, faults = updated("v1/services", old, {"spec": {"ports": [{"port": 80}], "clusterIP": None}})
        assert new["spec"]["ports"][0]["nodePort"] == 30080
        assert (new["spec"]["clusterIP"], new["spec"]["clusterIPs"]) == ("10.96.0.7", ["10.96.0.7"])
        assert not faults

    def test_external_name_lets_go_of_what_was_allocated(self) -> None:
        new, faults = updated(
            "v1/services", self.OLD, {"spec": {"type": "ExternalName", "externalName": "x.example.com"}}
        )
        assert new["spec"] == {
            "type": "ExternalName",
            "externalName": "x.example.com",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "None",
        }
        assert not faults


def test_events_of_both_groups_are_one_kind() -> None:
    from apiserver.registry.events import from_core, to_core

    core = created("v1/events", EVENT)
    new = from_core(core)
    assert (new["apiVersion"], new["regarding"], "involvedObject" in new) == (
        "events.k8s.io/v1",
        EVENT["involvedObject"],
        False,
    )
    assert to_core(new) == core
    both = [REGISTRY.get(group, "v1", "events") for group in ("", "events.k8s.io")]
    assert {r.key("default", "x") for r in both if r} == {"/registry/core/events/default/x"}


def test_selectors_of_either_event_api_read_what_is_stored() -> None:
    from apiserver.assembly import selectors_of

    selectors = selectors_of(REGISTRY, REGISTRY)("/registry/core/events/")
    core = created("v1/events", EVENT)
    assert selectors["regarding.name"](core) == selectors["involvedObject.name"](core) == "p"

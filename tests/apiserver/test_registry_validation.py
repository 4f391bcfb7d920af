"""Refusals: paths and texts are kube-apiserver's own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.objects import TEMPLATE, deployment, faults, pod, service, stored, texts, updated

Json = dict[str, Any]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{_LABEL}(\\.{_LABEL})*')"
)
PORT_RANGE = "must be between 1 and 65535, inclusive"


def container(**fields: Any) -> Json:
    return {"containers": [{"name": "c", "image": "x"} | fields]}


def ingress(path: Json | None = None, host: str = "a.example.com") -> Json:
    entry = {
        "path": "/",
        "pathType": "Prefix",
        "backend": {"service": {"name": "web", "port": {"number": 80}}},
    }
    rule = {"host": host, "http": {"paths": [entry | (path or {})]}}
    return {"metadata": {"name": "i"}, "spec": {"rules": [rule]}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"containers": []}, ["spec.containers: Required value"], id="no containers"),
        pytest.param(
            {"containers": [{"name": "c", "image": "a"}, {"name": "c", "image": "b"}]},
            ['spec.containers[1].name: Duplicate value: "c"'],
            id="two of one name",
        ),
        pytest.param(
            container(volumeMounts=[{"name": "none", "mountPath": "/x"}]),
            ['spec.containers[0].volumeMounts[0].name: Not found: "none"'],
            id="mount of no volume",
        ),
        pytest.param(
            container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            [
                'spec.containers[0].resources.requests: Invalid value: "2": '
                "must be less than or equal to cpu limit of 1",
            ],
            id="request over limit",
        ),
        pytest.param(
            {"hostNetwork": True} | container(ports=[{"containerPort": 80, "hostPort": 81}]),
            [
                "spec.containers[0].ports[0].hostPort: Invalid value: 81: "
                "must match `containerPort` when `hostNetwork` is true",
            ],
            id="host port on the host's network",
        ),
        pytest.param(
            container(ports=[{"containerPort": 70000, "protocol": "ICMP", "name": "Web"}]),
            [
                'spec.containers[0].ports[0].name: Invalid value: "Web": must contain only alpha-numeric characters '
                "(a-z, 0-9), and hyphens (-)",
                f"spec.containers[0].ports[0].containerPort: Invalid value: 70000: {PORT_RANGE}",
                'spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: '
                '"SCTP", "TCP", "UDP"',
            ],
            id="port",
        ),
        pytest.param(
            {"restartPolicy": "Sometimes"},
            [
                'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
            ],
            id="restart policy",
        ),
        pytest.param(
            container(livenessProbe={"successThreshold": 2, "exec": {}}),
            [
                "spec.containers[0].livenessProbe.exec.command: Required value",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
            id="probe",
        ),
        pytest.param(
            {"volumes": [{"name": "v", "configMap": {}}]},
            ["spec.volumes[0].configMap.name: Required value"],
            id="volume without name",
        ),
        pytest.param(
            {"volumes": [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "../k"}]}}]},
            ["spec.volumes[0].secret.items[0].path: Invalid value: \"../k\": must not contain '..'"],
            id="path out of the volume",
        ),
        pytest.param(
            {"tolerations": [{"operator": "Exists", "value": "x", "effect": "NoSchedule"}]},
            [
                "spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
            ],
            id="toleration",
        ),
        pytest.param(
            container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.magic"}}}]),
            [
                'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.magic": '
                "error converting fieldPath: field label not supported: spec.magic",
            ],
            id="downward API",
        ),
        pytest.param(
            {"dnsPolicy": "None"},
            ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
            id="no DNS at all",
        ),
        pytest.param(
            container(resources={"limits": {"gpu": "1"}}),
            [
                'spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": '
                "must be a standard resource type or fully qualified",
                'spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": '
                "must be a standard resource for containers",
                'spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": '
                "must be a standard resource type or fully qualified",
                'spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": '
                "must be a standard resource for containers",
            ],
            id="a resource that is none",
        ),
    ],
)
def test_pod(spec: Json, expected: list[str]) -> None:
    assert texts(faults("v1/pods", pod(spec))) == expected


def test_metadata() -> None:
    key = (
        "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
        "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
        "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' "
        "(e.g. 'example.com/MyName')"
    )
    found = texts(faults("v1/pods", pod(name="Bad_Name", labels={"a/b/c": "x" * 64})))
    assert found == [
        f'metadata.name: Invalid value: "Bad_Name": {SUBDOMAIN}',
        f'metadata.labels: Invalid value: "a/b/c": {key}',
        f'metadata.labels: Invalid value: "{"x" * 64}": must be no more than 63 bytes',
    ]


def test_a_name_is_needed() -> None:
    obj = pod()
    del obj["metadata"]["name"]
    assert texts(faults("v1/pods", obj)) == ["metadata.name: Required value: name or generateName is required"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"ports": None, "selector": {"a": "b"}}, ["spec.ports: Required value"], id="no ports"),
        pytest.param(
            {"ports": [{"port": 0}]},
            [
                f"spec.ports[0].port: Invalid value: 0: {PORT_RANGE}",
                f"spec.ports[0].targetPort: Invalid value: 0: {PORT_RANGE}",
            ],
            id="port 0",
        ),
        pytest.param(
            {"ports": [{"port": 80}, {"port": 81}]},
            ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
            id="two unnamed",
        ),
        pytest.param(
            {"ports": [{"port": 80, "targetPort": "not_a_port!"}]},
            [
                'spec.ports[0].targetPort: Invalid value: "not_a_port!": must contain only alpha-numeric characters '
                "(a-z, 0-9), and hyphens (-)",
            ],
            id="target port",
        ),
        pytest.param(
            {"type": "Magic"},
            [
                'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", '
                '"NodePort"',
            ],
            id="type",
        ),
        pytest.param(
            {"clusterIP": "hello"},
            [
                'spec.clusterIPs[0]: Invalid value: "hello": must be a valid IP address, '
                "(e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
            id="no address",
        ),
        pytest.param(
            {"externalTrafficPolicy": "Local"},
            [
                'spec.externalTrafficPolicy: Invalid value: "Local": '
                "may only be set for externally-accessible services",
            ],
            id="external policy inside",
        ),
        pytest.param(
            {"type": "ExternalName", "ports": None},
            ["spec.externalName: Required value"],
            id="external name without one",
        ),
        pytest.param(
            {"ports": [{"port": 80, "nodePort": 30000}]},
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            id="node port of a cluster service",
        ),
        pytest.param(
            {"type": "NodePort", "clusterIP": "None"},
            ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
            id="headless node port",
        ),
    ],
)
def test_service(spec: Json, expected: list[str]) -> None:
    assert texts(faults("v1/services", service(spec))) == expected


@pytest.mark.parametrize(
    ("path", "obj", "expected"),
    [
        pytest.param(
            "apps/v1/deployments",
            deployment({"selector": {"matchLabels": {"x": "y"}}}),
            [
                'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`',
            ],
            id="selector",
        ),
        pytest.param(
            "apps/v1/deployments",
            {"metadata": {"name": "d"}, "spec": {"template": TEMPLATE}},
            [
                "spec.selector: Required value",
                'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`',
            ],
            id="no selector",
        ),
        pytest.param(
            "apps/v1/deployments",
            deployment({"replicas": -1, "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}}),
            [
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            ],
            id="numbers",
        ),
        pytest.param(
            "v1/configmaps",
            {"metadata": {"name": "c"}, "data": {"a b": "x"}},
            [
                "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', "
                "'_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
                "'[-._a-zA-Z0-9]+')",
            ],
            id="config key",
        ),
        pytest.param(
            "v1/secrets",
            {"metadata": {"name": "c"}, "type": "kubernetes.io/tls", "data": {"a": "YQ=="}},
            ["data[tls.crt]: Required value", "data[tls.key]: Required value"],
            id="TLS secret",
        ),
        pytest.param(
            "v1/endpoints",
            {"metadata": {"name": "x"}, "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 80}]}]},
            [
                'subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": '
                "may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ],
            id="loopback endpoint",
        ),
        pytest.param(
            "networking.k8s.io/v1/ingresses",
            ingress({"pathType": None}),
            ["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
            id="path type",
        ),
        pytest.param(
            "networking.k8s.io/v1/ingresses",
            ingress(host="1.2.3.4"),
            ['spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address'],
            id="ingress host",
        ),
        pytest.param(
            "networking.k8s.io/v1/ingresses",
            ingress({"backend": {"service": {"name": "w", "port": {"name": "http", "number": 80}}}}),
            [
                'spec.rules[0].http.paths[0].backend: Invalid value: "": cannot set both port name & port number',
            ],
            id="ingress backend",
        ),
        pytest.param(
            "networking.k8s.io/v1/ingresses",
            {"metadata": {"name": "i"}},
            ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
            id="empty ingress",
        ),
        pytest.param(
            "coordination.k8s.io/v1/leases",
            {"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 0}},
            ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
            id="lease",
        ),
        pytest.param(
            "discovery.k8s.io/v1/endpointslices",
            {"metadata": {"name": "x"}, "addressType": "IPv6", "endpoints": [{"addresses": ["10.1.2.3"]}]},
            ['endpoints[0].addresses: Invalid value: "10.1.2.3": must be an IPv6 address'],
            id="address of the other family",
        ),
    ],
)
def test_other_kinds(path: str, obj: Json, expected: list[str]) -> None:
    assert texts(faults(path, obj)) == expected


@pytest.mark.parametrize(
    ("path", "obj", "change", "expected"),
    [
        pytest.param(
            "v1/secrets",
            {"metadata": {"name": "p"}},
            {"type": "kubernetes.io/tls"},
            [
                'type: Invalid value: "kubernetes.io/tls": field is immutable',
                "data[tls.crt]: Required value",
                "data[tls.key]: Required value",
            ],
            id="secret type",
        ),
        pytest.param(
            "v1/configmaps",
            {"metadata": {"name": "p"}, "immutable": True, "data": {"a": "1"}},
            {"data": {"a": "2"}},
            ["data: Forbidden: field is immutable when `immutable` is set"],
            id="immutable config map",
        ),
        pytest.param(
            "discovery.k8s.io/v1/endpointslices",
            {"metadata": {"name": "p"}, "addressType": "IPv4"},
            {"addressType": "IPv6"},
            ['addressType: Invalid value: "IPv6": field is immutable'],
            id="slice type",
        ),
        pytest.param(
            "v1/services",
            service({"clusterIP": "10.96.0.7"}),
            {"spec": {"clusterIP": "10.96.0.77"}},
            ['spec.clusterIPs[0]: Invalid value: ["10.96.0.77"]: may not change once set'],
            id="cluster IP",
        ),
        pytest.param(
            "apps/v1/deployments",
            deployment(),
            {
                "spec": {
                    "selector": {"matchLabels": {"a": "c"}},
                    "template": {"metadata": {"labels": {"a": "c"}}},
                }
            },
            ['spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable'],
            id="selector",
        ),
        pytest.param(
            "node.k8s.io/v1/runtimeclasses",
            {"metadata": {"name": "r"}, "handler": "a"},
            {"handler": "b"},
            ['handler: Invalid value: "b": field is immutable'],
            id="runtime handler",
        ),
        pytest.param("v1/pods", pod(), {"spec": {"activeDeadlineSeconds": 5}}, [], id="a deadline may be set"),
        pytest.param(
            "v1/pods",
            pod(),
            {"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}},
            [],
            id="a toleration may be added",
        ),
    ],
)
def test_updates(path: str, obj: Json, change: Json, expected: list[str]) -> None:
    _, found = updated(path, stored(path, obj), change)
    assert texts(found) == expected


def test_a_pod_stays_what_it_is() -> None:
    _, found = updated("v1/pods", stored("v1/pods", pod()), {"spec": {"hostname": "other"}})
    (text,) = texts(found)
    assert text.startswith("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,")
    assert '+ "Hostname": "other"' in text


def test_no_finalizer_is_added_to_what_is_being_deleted() -> None:
    """Twice: once as every object's metadata, once as the kind's own. Upstream does the same."""
    old = stored("v1/configmaps", {"metadata": {"name": "a", "finalizers": ["example.com/f"]}})
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    _, found = updated("v1/configmaps", old, {"metadata": {"finalizers": ["example.com/g", "example.com/f"]}})
    text = (
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"example.com/g"}'
    )
    assert texts(found) == [text, text]


def test_warnings_of_a_service() -> None:
    from tests.apiserver.objects import resource

    warnings = resource("v1/services").strategy.warnings
    assert warnings({"spec": {"type": "ClusterIP", "externalName": "x"}}, None) == [
        'spec.externalName is ignored when spec.type is not "ExternalName"'
    ]

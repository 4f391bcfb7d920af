"""Defaults of pod specs, in Pods and in templates.

Source: Kubernetes API reference, Pod v1 (each field's default); k8s.io/kubernetes/pkg/apis/core/v1/defaults.go (order).
"""

from __future__ import annotations

import re

from apiserver.registry import resourcenames
from apiserver.registry.base import Object
from apiserver.registry.persistentvolumeclaims import default_spec as default_claim
from kubarium.machinery.resourcelists import HUGEPAGES, POD_LEVEL, container_sum, wire_list

_ABSENT_PROJECTIONS = ("clusterTrustBundle", "podCertificate")  # behind features that are off
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_MODE = 0o644
# A reference as the distribution project has it: what stands before the first slash is a host where it has a dot, a
# colon or an upper-case letter, or is localhost.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG, _DIGEST = r"[\w][\w.-]{0,127}", r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?(?P<name>{_PART}(?:/{_PART})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?", re.ASCII
).fullmatch
_IDENTIFIER = re.compile("[a-f0-9]{64}").fullmatch
_VOLUMES_WITH_MODE = ("secret", "configMap", "downwardAPI", "projected")
_VOLUME_FIELDS: dict[str, Object] = {
    "hostPath": {"type": ""},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
}


def all_containers(spec: Object) -> list[Object]:
    """Init, ordinary and ephemeral containers, in this order."""
    return [
        *(spec.get("initContainers") or ()),
        *(spec.get("containers") or ()),
        *(spec.get("ephemeralContainers") or ()),
    ]


def default_pod_spec(spec: Object) -> None:
    """What a pod spec gets wherever it stands, and loses since it belongs to features that are off."""
    spec.pop("schedulingGroup", None)
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    for field, value in (
        ("dnsPolicy", "ClusterFirst"),
        ("restartPolicy", "Always"),
        ("schedulerName", "default-scheduler"),
    ):
        spec[field] = spec.get(field) or value
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account  # the old name mirrors the new one
    if (resources := spec.get("resources")) is not None:
        resourcenames.round_up(resources, "limits", "requests")
    resourcenames.round_up(spec, "overhead")
    for container in all_containers(spec):
        _default_container(container)
    for volume in spec.get("volumes") or ():
        _default_volume(volume)


def default_pod(spec: Object) -> None:
    """What only the spec of a Pod gets, not that of a template."""
    default_pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    if spec["terminationGracePeriodSeconds"] < 0:
        spec["terminationGracePeriodSeconds"] = 1
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    for container in containers:
        resources = container.get("resources") or {}
        if limits := resources.get("limits"):
            resources["requests"] = limits | (resources.get("requests") or {})
    if spec.get("resources"):
        _default_pod_resources(spec, spec["resources"])
    for container in containers if spec.get("hostNetwork") else ():
        for port in container.get("ports") or ():
            if not port.get("hostPort"):
                port["hostPort"] = port.get("containerPort", 0)


def _default_pod_resources(spec: Object, resources: Object) -> None:
    """What the pod as a whole asks for, where it says a part of it: as much as its containers, or its limits."""
    limits, requests = dict(resources.get("limits") or {}), dict(resources.get("requests") or {})
    if limits or requests:
        for name, amount in wire_list(container_sum(spec, "limits")).items():
            if name.startswith(HUGEPAGES) and name not in requests:
                limits.setdefault(name, amount)
    if not limits:
        return
    resources["limits"] = limits
    for name, amount in wire_list(container_sum(spec, "requests")).items():
        if name in POD_LEVEL:
            requests.setdefault(name, amount)
    for name, amount in limits.items():
        if name in POD_LEVEL or name.startswith(HUGEPAGES):
            requests.setdefault(name, amount)
    if requests:
        resources["requests"] = requests


def _pull_policy(image: str) -> str:
    """Always for `:latest`, said or implied; a digest alone never changes, and what is no image has no tag."""
    found = _IMAGE(image)
    if found is None or len(found["name"]) > 255 or _IDENTIFIER(image):
        return "IfNotPresent"
    tag = found["tag"] or ("" if found["digest"] else "latest")
    return "Always" if tag == "latest" else "IfNotPresent"


def _default_container(container: Object) -> None:
    for field, value in (
        ("imagePullPolicy", _pull_policy(container.get("image", ""))),
        ("terminationMessagePath", "/dev/termination-log"),
        ("terminationMessagePolicy", "File"),
    ):
        container[field] = container.get(field) or value
    resourcenames.round_up(container.setdefault("resources", {}), "limits", "requests")
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if ref := source.get("fieldRef"):
            ref.setdefault("apiVersion", "v1")
        if (ref := source.get("fileKeyRef")) is not None:
            ref.setdefault("optional", False)
    for name in _PROBES:
        if (probe := container.get(name)) is not None:
            _default_probe(probe)
    (container.get("lifecycle") or {}).pop("stopSignal", None)
    for hook in (container.get("lifecycle") or {}).values():
        _default_http(hook)


def _default_http(handler: Object) -> None:
    if isinstance(handler, dict) and (http := handler.get("httpGet")) is not None:
        http["path"] = http.get("path") or "/"
        http["scheme"] = http.get("scheme") or "HTTP"


def _default_probe(probe: Object) -> None:
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        probe[field] = probe.get(field) or value  # zero stands for unset
    _default_http(probe)
    if (grpc := probe.get("grpc")) is not None:
        grpc["service"] = grpc.get("service") or ""


def _default_items(items: list[Object]) -> None:
    for item in items:
        if ref := item.get("fieldRef"):
            ref.setdefault("apiVersion", "v1")


def _default_volume(volume: Object) -> None:
    sources = [key for key in volume if key != "name"]
    if not sources:
        volume["emptyDir"] = {}
    for kind in sources:
        source = volume[kind]
        if not isinstance(source, dict):
            continue
        if kind in _VOLUMES_WITH_MODE:
            source.setdefault("defaultMode", _MODE)
        for field, value in _VOLUME_FIELDS.get(kind, {}).items():
            source.setdefault(field, value)
        if kind == "downwardAPI":
            _default_items(source.get("items") or [])
        elif kind == "projected":
            _default_projections(source.get("sources") or [])
        elif kind == "ephemeral" and (template := source.get("volumeClaimTemplate")):
            default_claim(template.setdefault("spec", {}))
        elif kind == "image":
            source.setdefault("pullPolicy", _pull_policy(source.get("reference", "")))


def _default_projections(sources: list[Object]) -> None:
    for source in sources:
        for kind in _ABSENT_PROJECTIONS:
            source.pop(kind, None)
        if token := source.get("serviceAccountToken"):
            token.setdefault("expirationSeconds", 3600)
        _default_items((source.get("downwardAPI") or {}).get("items") or [])

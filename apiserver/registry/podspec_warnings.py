"""What the API server warns of in pods and pod templates: legal, but hardly what was meant.

Source: k8s.io/kubernetes/pkg/api/pod/warnings.go, /pkg/api/node (texts and order).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from apiserver.registry import names, quantity
from apiserver.registry.base import Object
from apiserver.registry.cells import at
from apiserver.registry.faults import quoted
from apiserver.registry.nodeselector import DEPRECATED_LABELS
from apiserver.registry.podspec_overlaps import overlapping_paths

_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_SHOWN_AS = {"storageos": "storageOS"}
SECCOMP_POD, SECCOMP_CONTAINER = (
    "seccomp.security.alpha.kubernetes.io/pod",
    "container.seccomp.security.alpha.kubernetes.io/",
)
APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_USE_SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_USE_APP_ARMOR = 'deprecated since v1.30; use the "appArmorProfile" field instead'
_NULL_SELECTOR = "a null labelSelector results in matching no pod"


def pod_warnings(pod: Object) -> list[str]:
    """About a Pod that is created."""
    found = names.dns1123_label(pod["metadata"].get("name", ""))
    text = (
        "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
        f"a DNS label is recommended: [{' '.join(found)}]"
    )
    return ([text] if found else []) + list(_all(pod, "", in_template=False))


def template_warnings(template: Object, path: str) -> list[str]:
    return list(_all(template, f"{path}.", in_template=True))


def containers_of(spec: Object) -> Iterator[tuple[Object, str]]:
    """Every container with its path below the pod."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(kind) or ()):
            yield container, f"spec.{kind}[{i}]"


def _all(pod: Object, path: str, *, in_template: bool) -> Iterator[str]:
    """`path` is "" or ends in a dot."""
    spec, annotations = pod.get("spec") or {}, at(pod, "metadata.annotations", {})
    yield from _node_labels(spec, f"{path}spec")
    for key, text in _ANNOTATIONS.items():
        if key in annotations:
            yield f"{path}metadata.annotations[{key}]: {text}"
    yield from _volumes(spec, f"{path}spec.volumes")
    yield from _duplicates(spec, f"{path}spec")
    yield from _fractions(spec.get("overhead"), f"{path}spec.overhead")
    if SECCOMP_POD in annotations and not at(spec, "securityContext.seccompProfile", None):
        yield f"{path}metadata.annotations[{SECCOMP_POD}]: {_USE_SECCOMP}"
    for container, where in containers_of(spec):
        yield from _container(container, f"{path}{where}", spec, annotations, path, in_template=in_template)
    yield from _ports(spec, path)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        text = "must be >= 0; negative values are invalid and will be treated as 1"
        yield f"{path}spec.terminationGracePeriodSeconds: {text}"
    yield from _pod_affinity(spec, f"{path}spec.affinity")
    for i, server in enumerate(at(spec, "dnsConfig.nameservers", [])):
        yield from ip_warnings(server, f"{path}spec.dnsConfig.nameservers[{i}]")
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        yield from ip_warnings(alias.get("ip", ""), f"{path}spec.hostAliases[{i}].ip")


# --- scheduling


def _node_labels(spec: Object, path: str) -> Iterator[str]:
    for key in sorted(spec.get("nodeSelector") or ()):
        if text := DEPRECATED_LABELS.get(key):
            yield f"{path}.nodeSelector[{key}]: {text}"
    affinity, where = at(spec, "affinity.nodeAffinity", {}), f"{path}.affinity.nodeAffinity"
    required, preferred = (f"{when}DuringSchedulingIgnoredDuringExecution" for when in ("required", "preferred"))
    for i, term in enumerate(at(affinity, f"{required}.nodeSelectorTerms", [])):
        yield from _node_term(term, f"{where}.{required}.nodeSelectorTerms[{i}]", values=False)
    for i, term in enumerate(affinity.get(preferred) or ()):
        yield from _node_term(term.get("preference") or {}, f"{where}.{preferred}[{i}].preference", values=True)
    for i, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        key, one = constraint.get("topologyKey", ""), f"{path}.topologySpreadConstraints[{i}]"
        if text := DEPRECATED_LABELS.get(key):
            yield f"{one}.topologyKey: {key} is {text}"
        if constraint.get("labelSelector") is None:
            yield f"{one}.labelSelector: {_NULL_SELECTOR}"


def _node_term(term: Object, path: str, *, values: bool) -> Iterator[str]:
    for i, need in enumerate(term.get("matchExpressions") or ()):
        key = need.get("key", "")
        if text := DEPRECATED_LABELS.get(key):
            yield f"{path}.matchExpressions[{i}].key: {key} is {text}"
        for j, value in enumerate((need.get("values") or ()) if values else ()):
            for fault in names.label_value(value):
                yield f"{path}.matchExpressions[{i}].values[{j}]: {value} is invalid, {fault}"


def _pod_affinity(spec: Object, path: str) -> Iterator[str]:
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity, where = at(spec, f"affinity.{kind}", {}), f"{path}.{kind}"
        required, preferred = (f"{when}DuringSchedulingIgnoredDuringExecution" for when in ("required", "preferred"))
        for i, term in enumerate(affinity.get(required) or ()):
            if term.get("labelSelector") is None:
                yield f"{where}.{required}[{i}].labelSelector: {_NULL_SELECTOR}"
        for i, term in enumerate(affinity.get(preferred) or ()):
            if at(term, "podAffinityTerm.labelSelector", None) is None:
                yield f"{where}.{preferred}[{i}].podAffinityTerm.labelSelector: {_NULL_SELECTOR}"


# --- volumes, secrets, aliases


def _volumes(spec: Object, path: str) -> Iterator[str]:
    volumes = spec.get("volumes") or []
    for i, volume in enumerate(volumes):
        for kind, text in _VOLUMES.items():
            if volume.get(kind) is not None:
                yield f"{path}[{i}].{_SHOWN_AS.get(kind, kind)}: {text}"
        if claim := at(volume, "ephemeral.volumeClaimTemplate.spec", None):
            yield from claim_warnings(claim, f"{path}[{i}].ephemeral.volumeClaimTemplate.spec")
    yield from overlapping_paths(volumes)


def claim_warnings(claim: Object, path: str) -> Iterator[str]:
    """About the spec of a PersistentVolumeClaim."""
    for kind in ("requests", "limits"):
        yield from _fractions(at(claim, f"resources.{kind}", {}), f"{path}.resources.{kind}", names=("storage",))


def _duplicates(spec: Object, path: str) -> Iterator[str]:
    for kind, key, word in (("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")):
        seen: set[str] = set()
        for i, item in enumerate(spec.get(kind) or ()):
            value = item.get(key, "")
            if value in seen:
                yield f"{path}.{kind}[{i}].{key}: duplicate {word} {quoted(value)}"
            seen.add(value)
    for i, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            yield f'{path}.imagePullSecrets[{i}].name: invalid empty name ""'


# --- containers


def _fractions(
    amounts: Object | None, path: str, names: tuple[str, ...] = ("memory", "ephemeral-storage")
) -> Iterator[str]:
    for name in names:
        if (amount := (amounts or {}).get(name)) is not None and quantity.parse(amount) % 1:
            yield f"{path}[{name}]: fractional byte value {quoted(amount)} is invalid, must be an integer"


def _container(
    container: Object, path: str, spec: Object, annotations: Object, root: str, *, in_template: bool
) -> Iterator[str]:
    name = container.get("name", "")
    if f"{SECCOMP_CONTAINER}{name}" in annotations and not at(container, "securityContext.seccompProfile", None):
        yield f"{root}metadata.annotations[{SECCOMP_CONTAINER}{name}]: {_USE_SECCOMP}"
    key = f"{APP_ARMOR}{name}"
    if in_template and key in annotations and not at(container, "securityContext.appArmorProfile", None):
        profile = at(spec, "securityContext.appArmorProfile", None)
        if profile is None or profile != app_armor_profile(annotations[key]):
            yield f"{root}metadata.annotations[{key}]: {_USE_APP_ARMOR}"
    resources = container.get("resources") or {}
    for resource in ("memory", "ephemeral-storage"):
        for kind in ("limits", "requests"):
            yield from _fractions(resources.get(kind), f"{path}.resources.{kind}", (resource,))
    yield from _hidden_env(container, path)


def app_armor_profile(annotation: str) -> Object | None:
    """What the annotation that came before the field says, in the form of the field."""
    if annotation == "runtime/default":
        return {"type": "RuntimeDefault"}
    if annotation == "unconfined":
        return {"type": "Unconfined"}
    if annotation.startswith("localhost/") and (name := annotation.removeprefix("localhost/").strip()):
        return {"type": "Localhost", "localhostProfile": name}
    return None


def _hidden_env(container: Object, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for i, variable in enumerate(container.get("env") or ()):
        name, value = variable.get("name", ""), variable.get("value", "")
        if name in seen:
            reference = f"$({name})"
            if variable.get("valueFrom") is not None or value == reference or reference not in value:
                text = f"hides previous definition of {quoted(name)}, which may be dropped when using apply"
                yield f"{path}.env[{i}]: {text}"
        seen.add(name)


def _all_ports(spec: Object, path: str) -> Iterator[tuple[Object, str]]:
    for container, where in containers_of(spec):
        for i, port in enumerate(container.get("ports") or ()):
            yield port, f"{path}{where}.ports[{i}]"


def _ports(spec: Object, path: str) -> Iterator[str]:
    taken: dict[tuple[int, str], list[tuple[Object, str]]] = {}
    for port, where in _all_ports(spec, path):
        if port.get("hostIP") and not port.get("hostPort"):
            yield f"{where}: hostIP set without hostPort: {_go_port(port)}"
        others = taken.setdefault((port.get("containerPort", 0), port.get("protocol", "")), [])
        for other, other_where in others:
            if text := _clash(port, other):
                yield f"{where}: {text} port definition with {other_where}"
        others.append((port, where))
    named: dict[str, str] = {}
    for port, where in _all_ports(spec, path):
        if name := port.get("name"):
            if first := named.get(name):
                text = f"services and probes that select ports by name will use {first}"
                yield f"{where}: duplicate port name {quoted(name)} with {first}, {text}"
            else:
                named[name] = where


def _clash(port: Object, other: Object) -> str:
    a, b = (port.get("hostIP", ""), port.get("hostPort", 0)), (other.get("hostIP", ""), other.get("hostPort", 0))
    if a == b:
        return "duplicate"
    if not a[1] or not b[1]:
        return "overlapping"
    return "dangerously ambiguous" if a[1] == b[1] and bool(a[0]) != bool(b[0]) else ""


def _go_port(port: Object) -> str:
    """A port as Go's %+v prints it."""
    zeros = {"name": "", "hostPort": 0, "containerPort": 0, "protocol": "", "hostIP": ""}
    return "{" + " ".join(f"{key[:1].upper()}{key[1:]}:{port.get(key, zero)}" for key, zero in zeros.items()) + "}"


# --- addresses


def ip_warnings(value: str, path: str) -> Iterator[str]:
    """An address that is not written in the one usual way."""
    plain = _without_zeros(value)
    try:
        ip = ipaddress.ip_address(plain)
    except ValueError:
        return
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    if mapped or plain != value:
        yield f"{path}: non-standard IP address {quoted(value)} is invalid: use {quoted(str(mapped or ip))}"
    elif ip.version == 6 and str(ip) != value:
        yield f"{path}: IPv6 address {quoted(value)} should be in RFC 5952 canonical format ({quoted(str(ip))})"


def _without_zeros(value: str) -> str:
    """`010.001.2.3` is `10.1.2.3`: old releases took it."""
    parts = value.split(".")
    if len(parts) == 4 and all(part.isdigit() for part in parts):
        return ".".join(str(int(part)) for part in parts)
    return value

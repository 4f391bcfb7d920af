"""A container's environment: Services, ConfigMaps, Secrets, downward API, $(NAME) references. Pure.

Source: https://kubernetes.io/docs/tasks/inject-data-application/, .../docs/concepts/services-networking/service/
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from kubarium.machinery import objects
from kubarium.machinery.errors import ContainerError
from kubarium.machinery.quantity import parse_quantity

_REFERENCE = re.compile(r"\$(?:\$|\(([^()$]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")
MASTER_SERVICE = ("default", "kubernetes")


class ContainerConfigError(ContainerError):
    """The container cannot be made from what its spec refers to (upstream's CreateContainerConfigError)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What the downward API tells of the node and of what the kubelet gave the pod."""

    name: str
    ip: str
    allocatable: Mapping[str, str] = field(default_factory=dict)
    pod_ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where references lead: lookups in the pod's own namespace (None: no such object), and the visible Services."""

    config_map: Callable[[str], objects.ConfigMap | None]
    secret: Callable[[str], objects.Secret | None]
    services: tuple[objects.Service, ...] = ()


def make_env(pod: objects.Pod, container: objects.Container, sources: Sources, node: NodeFacts) -> dict[str, str]:
    """The environment, later entries over earlier ones; Service variables only where nothing else set them.

    Raises ContainerConfigError, in upstream's words, for a reference that leads nowhere and is not optional.
    """
    services = service_env(pod, sources.services)
    result: dict[str, str] = {}
    for source in container.env_from:
        result |= {source.prefix + key: value for key, value in _env_from(pod, source, sources).items()}
    for var in container.env:
        if var.value_from is None:
            result[var.name] = expand(var.value, services | result)
        elif (value := _value_from(pod, container, var.value_from, sources, node)) is not None:
            result[var.name] = value
    return services | result


def needs_pod_ip(container: objects.Container) -> bool:
    """Whether the environment can only be made once the pod has an address."""
    fields = [var.value_from.field_ref for var in container.env if var.value_from and var.value_from.field_ref]
    return any(ref.field_path in ("status.podIP", "status.podIPs") for ref in fields)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value, or stays where there is none; `$$` is a plain dollar."""

    def one(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else variables.get(name, match[0])

    return _REFERENCE.sub(one, text)


def service_env(pod: objects.Pod, services: Iterable[objects.Service]) -> dict[str, str]:
    """Variables of the API server's Service, and of those of the pod's namespace unless enableServiceLinks is false."""
    links = pod.spec.enable_service_links is not False
    result: dict[str, str] = {}
    for service in sorted(services, key=lambda s: s.key):
        own = service.metadata.namespace == pod.metadata.namespace and links
        if service.spec.cluster_ip in ("", "None") or not (own or service.key == MASTER_SERVICE):
            continue
        if service.key == MASTER_SERVICE or f"{_variable(service)}_SERVICE_HOST" not in result:
            result |= _variables_of(service)
    return result


def _variable(service: objects.Service) -> str:
    return service.metadata.name.upper().replace("-", "_")


def _variables_of(service: objects.Service) -> dict[str, str]:
    if not service.spec.ports:
        return {}
    prefix, ip = _variable(service), service.spec.cluster_ip
    host = f"[{ip}]" if ":" in ip else ip
    first = service.spec.ports[0]
    result = {f"{prefix}_SERVICE_HOST": ip, f"{prefix}_SERVICE_PORT": str(first.port)}
    for port in service.spec.ports:
        if port.name:
            result[f"{prefix}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
    result[f"{prefix}_PORT"] = f"{(first.protocol or 'TCP').lower()}://{host}:{first.port}"
    for port in service.spec.ports:
        protocol = port.protocol or "TCP"
        key = f"{prefix}_PORT_{port.port}_{protocol}"
        result |= {
            key: f"{protocol.lower()}://{host}:{port.port}",
            f"{key}_PROTO": protocol.lower(),
            f"{key}_PORT": str(port.port),
            f"{key}_ADDR": ip,
        }
    return result


def _env_from(pod: objects.Pod, source: objects.EnvFromSource, sources: Sources) -> dict[str, str]:
    namespace = pod.metadata.namespace
    if ref := source.config_map_ref:
        found = sources.config_map(ref.name)
        if found is None and not ref.optional:
            raise ContainerConfigError(f'configmap "{ref.name}" not found')
        return dict(found.data) if found else {}
    if secret_ref := source.secret_ref:
        secret = sources.secret(secret_ref.name)
        if secret is None and not secret_ref.optional:
            raise ContainerConfigError(f'secret "{secret_ref.name}" not found')
        data = secret.data if secret else {}
        return {key: _text(value, f"{namespace}/{secret_ref.name}") for key, value in data.items()}
    return {}


def _value_from(
    pod: objects.Pod, container: objects.Container, source: objects.EnvVarSource, sources: Sources, node: NodeFacts
) -> str | None:
    namespace = pod.metadata.namespace
    if source.field_ref is not None:
        return field_value(pod, source.field_ref.field_path, node)
    if source.resource_field_ref is not None:
        return resource_value(pod, source.resource_field_ref, node, container=container)
    if ref := source.config_map_key_ref:
        found = sources.config_map(ref.name)
        if found is None and not ref.optional:
            raise ContainerConfigError(f'configmap "{ref.name}" not found')
        if found is None or ref.key not in found.data:
            if ref.optional:
                return None
            raise ContainerConfigError(f"couldn't find key {ref.key} in ConfigMap {namespace}/{ref.name}")
        return found.data[ref.key]
    if secret_ref := source.secret_key_ref:
        secret = sources.secret(secret_ref.name)
        if secret is None and not secret_ref.optional:
            raise ContainerConfigError(f'secret "{secret_ref.name}" not found')
        if secret is None or secret_ref.key not in secret.data:
            if secret_ref.optional:
                return None
            raise ContainerConfigError(f"couldn't find key {secret_ref.key} in Secret {namespace}/{secret_ref.name}")
        return _text(secret.data[secret_ref.key], f"{namespace}/{secret_ref.name}")
    return None


def field_value(pod: objects.Pod, path: str, node: NodeFacts) -> str:
    """A field of the pod as text. Source: the downward API's list of fields."""
    meta = pod.metadata
    if match := _SUBSCRIPT.fullmatch(path):
        return (meta.labels if match[1] == "labels" else meta.annotations).get(match[2], "")
    values: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: meta.name,
        "metadata.namespace": lambda: meta.namespace,
        "metadata.uid": lambda: meta.uid,
        "metadata.labels": lambda: _lines(meta.labels),
        "metadata.annotations": lambda: _lines(meta.annotations),
        "spec.nodeName": lambda: node.name,
        "spec.serviceAccountName": lambda: pod.spec.service_account_name,
        "status.hostIP": lambda: node.ip,
        "status.hostIPs": lambda: node.ip,
        "status.podIP": lambda: node.pod_ips[0] if node.pod_ips else "",
        "status.podIPs": lambda: ",".join(node.pod_ips),
    }
    if path not in values:
        raise ContainerConfigError(f"unsupported fieldPath: {path}")
    return values[path]()


def _lines(mapping: Mapping[str, str]) -> str:
    """`key="value"` lines, sorted, quoted as Go does."""
    escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
    return "\n".join(f'{key}="{value.translate(escapes)}"' for key, value in sorted(mapping.items()))


def resource_value(
    pod: objects.Pod,
    ref: objects.ResourceFieldSelector,
    node: NodeFacts,
    *,
    container: objects.Container | None = None,
) -> str:
    """A request or limit in units of the divisor, rounded up; a limit that is not set is the node's allocatable."""
    if ref.container_name:
        everyone = (*pod.spec.containers, *pod.spec.init_containers)
        container = next((c for c in everyone if c.name == ref.container_name), None)
    if container is None:
        raise ContainerConfigError(f'container "{ref.container_name}" not found')
    kind, _, resource = ref.resource.partition(".")
    resources = container.resources.limits if kind == "limits" else container.resources.requests
    text = resources.get(resource) or (node.allocatable.get(resource) if kind == "limits" else None) or "0"
    divisor = parse_quantity(ref.divisor or "1") or parse_quantity("1")
    whole, rest = divmod(parse_quantity(text), divisor)
    return str(int(whole) + (1 if rest else 0))


def _text(value: str, what: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except ValueError as err:
        raise ContainerConfigError(f"Secret {what} holds a value that is no text") from err

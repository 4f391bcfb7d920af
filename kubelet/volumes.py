"""What a pod's volumes hold: ConfigMaps, Secrets, projections and the downward API -> files. Pure.

Source: https://kubernetes.io/docs/concepts/storage/volumes/, .../projected-volumes/
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kubarium.machinery import objects
from kubarium.machinery.errors import ContainerError
from kubelet.env import NodeFacts, Sources, field_value, resource_value

DEFAULT_MODE = 0o644


class VolumeError(ContainerError):
    """A volume cannot be set up (yet); the text is what the FailedMount event says after the volume's name."""


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    mode: int = DEFAULT_MODE


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A ServiceAccount token that a projected volume wants."""

    audience: str
    expiration_s: int


Payload = Mapping[str, File]


def token_requests(pod: objects.Pod) -> frozenset[TokenRequest]:
    """The tokens that the pod's volumes need."""
    return frozenset(
        TokenRequest(source.service_account_token.audience, source.service_account_token.expiration_seconds)
        for volume in pod.spec.volumes
        if volume.projected
        for source in volume.projected.sources
        if source.service_account_token
    )


def references(pod: objects.Pod) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the ConfigMaps and of the Secrets (in the pod's namespace) that volumes and environments refer to."""
    config_maps, secrets = set[str](), set[str]()
    for volume in pod.spec.volumes:
        sources: Iterable[objects.VolumeProjection] = volume.projected.sources if volume.projected else ()
        config_maps |= {volume.config_map.name} if volume.config_map else set()
        config_maps |= {s.config_map.name for s in sources if s.config_map}
        secrets |= {volume.secret.secret_name} if volume.secret else set()
        secrets |= {s.secret.name for s in sources if s.secret}
    for container in (*pod.spec.init_containers, *pod.spec.containers, *pod.spec.ephemeral_containers):
        for source in container.env_from:
            config_maps |= {source.config_map_ref.name} if source.config_map_ref else set()
            secrets |= {source.secret_ref.name} if source.secret_ref else set()
        for value in (var.value_from for var in container.env if var.value_from):
            config_maps |= {value.config_map_key_ref.name} if value.config_map_key_ref else set()
            secrets |= {value.secret_key_ref.name} if value.secret_key_ref else set()
    return frozenset(config_maps), frozenset(secrets)


def has_files(volume: objects.Volume) -> bool:
    """Whether the API gives the volume's files (as against a folder of the node)."""
    return bool(volume.config_map or volume.secret or volume.projected or volume.downward_api)


def plan_files(
    pod: objects.Pod,
    volume: objects.Volume,
    sources: Sources,
    node: NodeFacts,
    tokens: Mapping[TokenRequest, str],
) -> Payload:
    """The files of a volume by path. Raises VolumeError for a source that is missing and not optional."""
    namespace = pod.metadata.namespace
    if config_map := volume.config_map:
        return _config_map(sources, namespace, config_map, config_map.default_mode)
    if secret := volume.secret:
        return _secret(sources, namespace, secret.secret_name, secret.items, secret.optional, secret.default_mode)
    if downward := volume.downward_api:
        return dict(_downward(pod, downward.items, node, downward.default_mode))
    files: dict[str, File] = {}
    if projected := volume.projected:
        for source in projected.sources:
            files |= _projected(pod, source, projected.default_mode, sources, node, tokens)
    return files


def _projected(
    pod: objects.Pod,
    source: objects.VolumeProjection,
    mode: int | None,
    sources: Sources,
    node: NodeFacts,
    tokens: Mapping[TokenRequest, str],
) -> Payload:
    namespace = pod.metadata.namespace
    if source.config_map:
        return _config_map(sources, namespace, source.config_map, mode)
    if secret := source.secret:
        return _secret(sources, namespace, secret.name, secret.items, secret.optional, mode)
    if source.downward_api:
        return dict(_downward(pod, source.downward_api.items, node, mode))
    if token := source.service_account_token:
        text = tokens.get(TokenRequest(token.audience, token.expiration_seconds))
        if text is None:
            raise VolumeError("failed to fetch token: none yet")
        return {token.path: File(text.encode(), 0o644 if mode is None else mode)}
    return {}


def _config_map(
    sources: Sources,
    namespace: str,
    wanted: objects.ConfigMapVolumeSource | objects.ConfigMapProjection,
    mode: int | None,
) -> Payload:
    found = sources.config_map(wanted.name)
    if found is None:
        if wanted.optional:
            return {}
        raise VolumeError(f'configmap "{wanted.name}" not found')
    data = {key: value.encode() for key, value in found.data.items()}
    data |= {key: base64.b64decode(value) for key, value in found.binary_data.items()}
    return _pick(data, wanted.items, mode, wanted.optional, f'configmap "{namespace}/{wanted.name}"')


def _secret(
    sources: Sources,
    namespace: str,
    name: str,
    items: tuple[objects.KeyToPath, ...],
    optional: bool,
    mode: int | None,
) -> Payload:
    found = sources.secret(name)
    if found is None:
        if optional:
            return {}
        raise VolumeError(f'secret "{name}" not found')
    data = {key: base64.b64decode(value) for key, value in found.data.items()}
    return _pick(data, items, mode, optional, f'secret "{namespace}/{name}"')


def _pick(
    data: Mapping[str, bytes], items: tuple[objects.KeyToPath, ...], mode: int | None, optional: bool, what: str
) -> Payload:
    default = DEFAULT_MODE if mode is None else mode
    if not items:
        return {key: File(value, default) for key, value in data.items()}
    missing = [item.key for item in items if item.key not in data]
    if missing and not optional:
        raise VolumeError(f"{what} references non-existent config key: {missing[0]}")
    return {
        item.path: File(data[item.key], default if item.mode is None else item.mode)
        for item in items
        if item.key in data
    }


def _downward(
    pod: objects.Pod, items: Iterable[objects.DownwardAPIVolumeFile], node: NodeFacts, mode: int | None
) -> Iterator[tuple[str, File]]:
    for item in items:
        if item.field_ref is not None:
            text = field_value(pod, item.field_ref.field_path, node)
        elif item.resource_field_ref is not None:
            text = resource_value(pod, item.resource_field_ref, node)
        else:
            continue
        default = DEFAULT_MODE if mode is None else mode
        yield item.path, File(text.encode(), default if item.mode is None else item.mode)

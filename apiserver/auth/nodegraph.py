"""What the pods of a node refer to: only that may its kubelet read. Followed through the watch cache, taken when asked.

Source: Kubernetes documentation, "Using Node Authorization"; kubernetes/plugin/pkg/auth/authorizer/node.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import orjson

from apiserver.auth.changes import Changes
from apiserver.auth.podrefs import MIRROR, pod_references
from apiserver.registry.base import Object
from apiserver.watchcache import WatchCache

Vertex = tuple[str, str, str]
"""(plural, namespace, name); namespace "" for what has none."""

PODS, VOLUMES = "/registry/core/pods/", "/registry/core/persistentvolumes/"
ATTACHMENTS, SLICES = "/registry/storage.k8s.io/volumeattachments/", "/registry/resource.k8s.io/resourceslices/"
NODE = "nodes"
_SHARED_SOURCES = ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos")
_CSI_REFERENCES = ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef")


class NodeGraph:
    """Edges from what is referred to, to what refers to it, up to nodes."""

    def __init__(self, cache: WatchCache) -> None:
        self._followed = [
            (prefix, Changes(cache, prefix), edges)
            for prefix, edges in (
                (PODS, pod_edges),
                (VOLUMES, volume_edges),
                (ATTACHMENTS, attachment_edges),
                (SLICES, slice_edges),
            )
        ]
        self._up: dict[Vertex, dict[Vertex, int]] = {}  # how many objects say so
        self._said: dict[str, tuple[tuple[Vertex, Vertex], ...]] = {}  # by the key of the object that says so

    def leads(self, start: Vertex, node: str) -> bool:
        """Whether a node has to do with an object."""
        self._refresh()
        goal, seen, todo = (NODE, "", node), {start}, [start]
        while todo:
            for upper in self._up.get(todo.pop(), ()):
                if upper == goal:
                    return True
                if upper not in seen and upper[0] != NODE:
                    seen.add(upper)
                    todo.append(upper)
        return False

    def _refresh(self) -> None:
        for prefix, changes, edges in self._followed:
            if changes.dirty:
                for key, entry in changes.take(partial(self._reset, prefix)):
                    self._put(key, tuple(edges(orjson.loads(entry.data))) if entry else ())

    def _reset(self, prefix: str) -> None:
        for key in [key for key in self._said if key.startswith(prefix)]:
            self._put(key, ())

    def _put(self, key: str, edges: tuple[tuple[Vertex, Vertex], ...]) -> None:
        before = self._said.pop(key, ())
        if edges:
            self._said[key] = edges
        if before == edges:
            return
        for lower, upper in edges:
            uppers = self._up.setdefault(lower, {})
            uppers[upper] = uppers.get(upper, 0) + 1
        for lower, upper in before:
            uppers = self._up[lower]
            uppers[upper] -= 1
            if not uppers[upper]:
                del uppers[upper]
                if not uppers:
                    del self._up[lower]


def pod_edges(pod: Object) -> Iterator[tuple[Vertex, Vertex]]:
    """A mirror pod is the kubelet's own: it opens nothing."""
    metadata, node = pod["metadata"], (pod.get("spec") or {}).get("nodeName")
    if not node:
        return
    namespace = metadata["namespace"]
    vertex = ("pods", namespace, metadata["name"])
    yield vertex, (NODE, "", node)
    if MIRROR not in (metadata.get("annotations") or {}):
        for plural, name in pod_references(pod):
            yield (plural, namespace, name), vertex


def volume_edges(volume: Object) -> Iterator[tuple[Vertex, Vertex]]:
    """From a volume to its claim, and from the secrets that it is mounted with to the volume."""
    spec, name = volume.get("spec") or {}, volume["metadata"]["name"]
    if not (claim := spec.get("claimRef")):
        return
    namespace = claim.get("namespace", "")
    vertex = ("persistentvolumes", "", name)
    yield vertex, ("persistentvolumeclaims", namespace, claim.get("name", ""))
    for place, secret in volume_secrets(spec, namespace):
        yield ("secrets", place, secret), vertex


def volume_secrets(spec: Object, claim_namespace: str) -> Iterator[tuple[str, str]]:
    """(namespace, name) of those that kubelets see; a source that names no namespace means the claim's."""
    csi = spec.get("csi") or {}
    shared = [(spec.get(source) or {}).get("secretRef") for source in _SHARED_SOURCES]
    found = [(ref.get("namespace") or claim_namespace, ref.get("name", "")) for ref in shared if ref]
    found += [(ref.get("namespace", ""), ref.get("name", "")) for ref in map(csi.get, _CSI_REFERENCES) if ref]
    if file := spec.get("azureFile"):
        found.append((file.get("secretNamespace") or claim_namespace, file.get("secretName", "")))
    return (one for one in found if one[1])


def attachment_edges(attachment: Object) -> Iterator[tuple[Vertex, Vertex]]:
    if node := (attachment.get("spec") or {}).get("nodeName"):
        yield ("volumeattachments", "", attachment["metadata"]["name"]), (NODE, "", node)


def slice_edges(resource_slice: Object) -> Iterator[tuple[Vertex, Vertex]]:
    if node := (resource_slice.get("spec") or {}).get("nodeName"):
        yield ("resourceslices", "", resource_slice["metadata"]["name"]), (NODE, "", node)

"""Paths inside a volume that cover one another: two sources for one file, or a file where a folder must be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from apiserver.registry.base import Object
from apiserver.registry.faults import quoted


class _Path(NamedTuple):
    path: str
    source: str

    def __str__(self) -> str:
        return f"{quoted(self.path)} ({self.source})" if self.source else quoted(self.path)


def overlapping_paths(volumes: list[Object]) -> Iterator[str]:
    """Warnings. Source: k8s.io/kubernetes/pkg/api/pod/warnings.go, warningsForOverlappingVirtualPaths."""
    for volume in volumes:
        name = quoted(volume.get("name", ""))
        for kind, key in (("configMap", "name"), ("secret", "secretName"), ("downwardAPI", "")):
            source = volume.get(kind) or {}
            word = kind[0].upper() + kind[1:]
            shown = f"{word} {quoted(source.get(key, ''))}" if key else word
            for clash in _clashes(_items(source, "")):
                yield f"volume {name} ({shown}): overlapping paths: {clash}"
        if (projected := volume.get("projected")) is not None:
            yield from _projected(projected, name)


def _projected(projected: Object, name: str) -> Iterator[str]:
    paths: list[_Path] = []
    for source in projected.get("sources") or ():
        if not source:
            yield f"volume {name} (Projected) has no sources provided"
        else:
            paths += _projection(source)
    for clash in _clashes(paths):
        yield f"volume {name} (Projected): overlapping paths: {clash}"


def _items(source: Object, shown: str) -> list[_Path]:
    return [_Path(item.get("path", ""), shown) for item in source.get("items") or ()]


def _projection(source: Object) -> list[_Path]:
    for kind, word in (("configMap", "ConfigMap"), ("secret", "Secret")):
        if (found := source.get(kind)) is not None and found.get("items"):
            return _items(found, f"{word} {quoted(found.get('name', ''))}")
    if (found := source.get("downwardAPI")) is not None and found.get("items"):
        return _items(found, "DownwardAPI")
    if (found := source.get("serviceAccountToken")) is not None:
        return [_Path(found.get("path", ""), "ServiceAccountToken")]
    if (found := source.get("clusterTrustBundle")) is not None:
        name = found["name"] if found.get("name") is not None else found.get("signerName", "")
        return [_Path(found.get("path", ""), f"ClusterTrustBundle {quoted(name)}")]
    found = source.get("podCertificate") or {}
    kinds = (
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    )
    return [_Path(found[key], word) for key, word in kinds if found.get(key)]


def _clashes(paths: list[_Path]) -> Iterator[str]:
    seen: list[_Path] = []
    for found in paths:
        one = _Path(found.path.rstrip("/"), found.source)
        for other in seen:
            if one.path and other.path and _covers(one.path, other.path):
                yield f"{one} with {other}"
        seen.append(one)


def _covers(a: str, b: str) -> bool:
    return f"{a}/".startswith(f"{b}/") or f"{b}/".startswith(f"{a}/")

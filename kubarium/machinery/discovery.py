"""Which kinds an API server serves, by aggregated discovery.

Source: API concepts, "Discovery API"; apidiscovery.k8s.io/v2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from kubarium.machinery.client import Api
from kubarium.machinery.errors import InternalError

ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
ROOTS = ("/api", "/apis")


@dataclass(frozen=True, slots=True)
class ServedKind:
    """One kind in one version. `preferred`: in the version to use where there are several."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    verbs: frozenset[str]
    preferred: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class Discovered:
    """`stale` are the groups (`GROUP/VERSION`) whose server does not answer: what they serve may be out of date."""

    kinds: tuple[ServedKind, ...]
    stale: tuple[str, ...] = ()

    def preferred(self, *verbs: str) -> Iterator[ServedKind]:
        """Each kind once, those that can all that is asked for."""
        return (kind for kind in self.kinds if kind.preferred and kind.verbs.issuperset(verbs))


async def discover(api: Api) -> Discovered:
    """Raises an ApiError where the server does not answer, or knows no aggregated discovery (before 1.27)."""
    kinds: list[ServedKind] = []
    stale: list[str] = []
    for root in ROOTS:
        document = orjson.loads(await api.document(root, ACCEPT))
        if document.get("kind") != "APIGroupDiscoveryList":
            raise InternalError(f"{root}: expected an APIGroupDiscoveryList, got {document.get('kind')}")
        for item in document.get("items") or ():
            kinds += _kinds_of(item, stale)
    return Discovered(tuple(kinds), tuple(stale))


def _kinds_of(item: dict[str, Any], stale: list[str]) -> Iterator[ServedKind]:
    group = (item.get("metadata") or {}).get("name") or ""
    seen: set[str] = set()
    for version in item.get("versions") or ():
        name = version["version"]
        if version.get("freshness") == "Stale":
            stale.append(f"{group}/{name}" if group else name)
        for entry in version.get("resources") or ():
            plural = entry["resource"]
            kind = (entry.get("responseKind") or {}).get("kind", "")
            namespaced, verbs = entry.get("scope") == "Namespaced", frozenset(entry.get("verbs") or ())
            yield ServedKind(group, name, plural, kind, namespaced, verbs, plural not in seen)
            seen.add(plural)

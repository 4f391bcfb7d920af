"""Selectable fields of kinds that come and go: looked up when somebody asks, not when the object is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from apiserver.registry.base import Object, Registry

Read = Callable[[Object], str]


class LiveSelectors(Mapping[str, Read]):
    """The field selectors of whatever kind is kept under a prefix at the moment."""

    def __init__(self, registry: Registry, prefix: str) -> None:
        self._registry = registry
        self._prefix = prefix

    def _now(self) -> dict[str, Read]:
        found: dict[str, Read] = {}
        for resource in self._registry:
            if resource.custom is not None and resource.key() == self._prefix:
                found |= resource.field_selectors
        return found

    def __getitem__(self, path: str) -> Read:
        return self._now()[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __bool__(self) -> bool:
        return True  # there may be some by the time that somebody asks

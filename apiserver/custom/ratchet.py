"""Ratcheting: what an update leaves as it was need not be valid by today's schema.

A correlated value is a value of the new object with the one that it was before, as far as the two can be told to be
the same thing: fields by name, items of a list-map by their keys, items of other lists never.
Source: KEP-4008, "CRD Validation Ratcheting".
"""

from __future__ import annotations

from typing import Any

from apiserver.custom.lists import by_keys, key_of
from apiserver.custom.structural import Node
from apiserver.equality import same


class Correlated:
    """One value, new and old, and its schema."""

    __slots__ = ("_children", "_equal", "_old_items", "new", "node", "old")

    def __init__(self, new: Any, old: Any, node: Node) -> None:
        self.new = new
        self.old = old
        self.node = node
        self._children: dict[str | int, Correlated] = {}
        self._old_items: dict[bytes, Any] | None = None
        self._equal: bool | None = None

    def key(self, name: str) -> Correlated | None:
        if name in self._children:
            return self._children[name]
        if not isinstance(self.old, dict) or not isinstance(self.new, dict):
            return None
        inner = self.node.child(name)
        if name not in self.old or name not in self.new or inner is None:
            return None
        found = self._children[name] = Correlated(self.new[name], self.old[name], inner)
        return found

    def index(self, i: int) -> Correlated | None:
        if i in self._children:
            return self._children[i]
        node = self.node
        if not isinstance(self.old, list) or node.list_type != "map" or node.items is None or not self.old:
            return None
        if self._old_items is None:
            self._old_items = by_keys(self.old, node.list_keys)
        label = key_of(self.new[i], node.list_keys)
        if label is None or label not in self._old_items:
            return None
        found = self._children[i] = Correlated(self.new[i], self._old_items[label], node.items)
        return found

    @property
    def unchanged(self) -> bool:
        """Whether the value is what it was; the order of a list-map's items makes no difference."""
        if self._equal is None:
            self._equal = self._compare()
        return self._equal

    def _compare(self) -> bool:
        new, old = self.new, self.old
        if isinstance(new, dict) and isinstance(old, dict):
            if len(new) != len(old):
                return False
            return all((child := self.key(name)) is not None and child.unchanged for name in new)
        if isinstance(new, list) and isinstance(old, list):
            if len(new) != len(old):
                return False
            if self.node.list_type != "map":
                return same(new, old)
            return all((child := self.index(i)) is not None and child.unchanged for i in range(len(new)))
        return same(new, old)

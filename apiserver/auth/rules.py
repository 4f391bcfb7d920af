"""PolicyRules: what they allow, whether some cover others, and how they are told. Pure.

Source: Kubernetes documentation, "Using RBAC Authorization"; the texts are those of
kubernetes/pkg/apis/rbac/v1/evaluation_helpers.go and component-helpers/auth/rbac/validation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apiserver.registry.faults import quoted

ALL = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """One PolicyRule; `resources` are such as `pods`, `pods/log`, `*/scale`."""

    verbs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def allows(self, verb: str, group: str, resource: str, subresource: str) -> bool:
        """Whether it speaks of such a call at all; which objects of the resource it means, `names` says."""
        if verb not in self.verbs and ALL not in self.verbs:
            return False
        if group not in self.groups and ALL not in self.groups:
            return False
        whole = f"{resource}/{subresource}" if subresource else resource
        if whole in self.resources or ALL in self.resources:
            return True
        return bool(subresource) and f"*/{subresource}" in self.resources

    def allows_path(self, verb: str, path: str) -> bool:
        """Of a path that names no resource."""
        if verb not in self.verbs and ALL not in self.verbs:
            return False
        return any(path_covers(own, path) for own in self.paths)

    def covers(self, other: Rule) -> bool:
        """Whether it alone allows all that `other` allows, which has one verb, one resource and one name at most."""
        return (
            (ALL in self.verbs or set(other.verbs) <= set(self.verbs))
            and (ALL in self.groups or set(other.groups) <= set(self.groups))
            and (ALL in self.resources or all(map(self._covers_resource, other.resources)))
            and (not self.names or (bool(other.names) and set(other.names) <= set(self.names)))
            and all(any(path_covers(own, path) for own in self.paths) for path in other.paths)
        )

    def _covers_resource(self, resource: str) -> bool:
        if resource in self.resources:
            return True
        _, slash, subresource = resource.partition("/")
        return bool(slash) and f"*/{subresource}" in self.resources

    def parts(self) -> Iterator[Rule]:
        """Rules of one verb, one resource and one name each that allow the same together."""
        for group in self.groups:
            for resource in self.resources:
                for verb in self.verbs:
                    for names in zip(self.names, strict=True) if self.names else ((),):
                        yield Rule((verb,), (group,), (resource,), names)
        for path in self.paths:
            for verb in self.verbs:
                yield Rule((verb,), paths=(path,))

    def told(self) -> str:
        """`{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`."""
        parts = (
            ("APIGroups", self.groups),
            ("Resources", self.resources),
            ("NonResourceURLs", self.paths),
            ("ResourceNames", self.names),
            ("Verbs", self.verbs),
        )
        return "{" + ", ".join(f"{name}:{go_list(values)}" for name, values in parts if values) + "}"


EVERYTHING = (Rule((ALL,), (ALL,), (ALL,)), Rule((ALL,), paths=(ALL,)))


def parse_rules(rules: Iterable[Mapping[str, Any]] | None) -> tuple[Rule, ...]:
    """Out of the JSON form of a role's rules."""
    return tuple(
        Rule(
            tuple(rule.get("verbs") or ()),
            tuple(rule.get("apiGroups") or ()),
            tuple(rule.get("resources") or ()),
            tuple(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
        )
        for rule in rules or ()
    )


def path_covers(own: str, path: str) -> bool:
    """`/healthz`, `/healthz/*`, `*`."""
    return own == path or (own.endswith(ALL) and path.startswith(own.rstrip(ALL)))


def missing(own: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """What of `wanted` no rule of `own` allows, in small rules."""
    return [part for rule in wanted for part in rule.parts() if not any(mine.covers(part) for mine in own)]


def compact(rules: Iterable[Rule]) -> list[Rule]:
    """Rules of one group and resource without names are told as one with all their verbs."""
    found: dict[object, Rule] = {}
    for number, rule in enumerate(rules):
        simple = len(rule.groups) == len(rule.resources) == 1 and len(rule.names) <= 1 and not rule.paths
        key: object = (rule.groups, rule.resources, rule.names) if simple else number
        if (known := found.get(key)) is None:
            found[key] = rule
        else:
            found[key] = Rule((*known.verbs, *rule.verbs), rule.groups, rule.resources, rule.names)
    return list(found.values())


def go_list(values: Iterable[str]) -> str:
    """A list of strings as Go prints it quoted: `["a" "b"]`."""
    return "[" + " ".join(map(quoted, values)) + "]"

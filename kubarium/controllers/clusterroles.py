"""ClusterRoles that aggregate others have their rules: admin, edit, view, and those of users.

Source: Kubernetes documentation, "Aggregated ClusterRoles"; kubernetes/pkg/controller/clusterroleaggregation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kubarium.controllers.controller import Context, Controller
from kubarium.machinery import selectors
from kubarium.machinery.errors import NotFound
from kubarium.machinery.objects import LabelSelector, ObjectKey, ObjectMeta, wire_name
from kubarium.machinery.resources import Resource


class _View(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, rename=wire_name):
    """As the views of kubarium.machinery.objects."""


class AggregationRule(_View, frozen=True, kw_only=True):
    cluster_role_selectors: tuple[LabelSelector, ...] = ()


class ClusterRole(_View, frozen=True, kw_only=True):
    """`rules` stay as they are on the wire: they are copied on."""

    metadata: ObjectMeta = ObjectMeta()
    rules: tuple[dict[str, Any], ...] | None = None
    aggregation_rule: AggregationRule | None = None

    @property
    def key(self) -> ObjectKey:
        return ObjectKey("", self.metadata.name)


CLUSTERROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", ClusterRole, namespaced=False)


def plan_rules(role: ClusterRole, roles: Iterable[ClusterRole]) -> list[dict[str, Any]]:
    """The rules of all roles that it selects, by name, each rule once."""
    found: list[dict[str, Any]] = []
    ordered = sorted(roles, key=lambda one: one.metadata.name)
    for selector in role.aggregation_rule.cluster_role_selectors if role.aggregation_rule else ():
        for other in ordered:
            if other.metadata.name != role.metadata.name and selectors.matches(selector, other.metadata.labels):
                found += [rule for rule in other.rules or () if rule not in found]
    return found


class ClusterRoleAggregation(Controller[str]):
    """Keys are names of aggregating roles: each is looked at when any role changes."""

    name = "clusterrole-aggregation-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.roles = context.informers.of(CLUSTERROLES)
        self.roles.on_change(self._changed)

    def _changed(self, old: ClusterRole | None, new: ClusterRole | None) -> None:
        for role in self.roles.all():
            if role.aggregation_rule is not None:
                self.queue.add(role.metadata.name)

    async def sync(self, name: str) -> None:
        role = self.roles.get(ObjectKey("", name))
        if role is None or role.aggregation_rule is None:
            return
        rules = plan_rules(role, self.roles.all())
        if rules == list(role.rules or ()):
            return
        patch = {"metadata": {"resourceVersion": role.metadata.resource_version}, "rules": rules}
        try:
            await self.api.patch(CLUSTERROLES, name, patch)
        except NotFound:
            return

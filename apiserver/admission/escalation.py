"""Nobody gives more than he has: writes of roles and bindings by users who may not `escalate` or `bind`.

Source: Kubernetes documentation, "Privilege escalation prevention and bootstrapping"; kubernetes/pkg/registry/rbac.
"""

from __future__ import annotations

from apiserver import replies
from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin
from apiserver.auth.authorizer import RoleAuthorizer
from apiserver.auth.decision import Asked
from apiserver.auth.rules import EVERYTHING, Rule, compact, go_list, missing, parse_rules
from apiserver.registry.base import Object, ResourceDef
from apiserver.registry.faults import quoted
from apiserver.registry.rbac import CLUSTER_ROLE, CLUSTERROLES, GROUP, ROLE, ROLES
from apiserver.request import MASTERS_GROUP
from apiserver.state import State
from kubarium.machinery.errors import Forbidden, NotFound

_ROLES = (ROLES.plural, CLUSTERROLES.plural)
_COLLECTED = ("ownerReferences", "finalizers", "managedFields")  # what the garbage collector changes


class Escalation(Plugin):
    """Stands where the object is as it will be stored, and before it is validated."""

    def __init__(self, state: State, authorizer: RoleAuthorizer) -> None:
        self._state = state
        self._authorizer = authorizer

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return resource.group == GROUP and operation in (CREATE, UPDATE)

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        if MASTERS_GROUP in attributes.request.user.groups:
            return
        if attributes.old is not None and is_collecting(attributes.obj, attributes.old):
            return
        try:
            self._judge(attributes, attributes.obj)
        except (Forbidden, NotFound):
            await self._state.caught_up()  # the role may have come just now
            self._judge(attributes, attributes.obj)

    def _judge(self, attributes: Attributes, obj: Object) -> None:
        if attributes.resource.plural in _ROLES:
            self._judge_role(attributes, obj)
        else:
            self._judge_binding(attributes, obj)

    def _judge_role(self, attributes: Attributes, role: Object) -> None:
        request, plural = attributes.request, attributes.resource.plural
        if self._may(attributes, Asked("escalate", GROUP, plural, "", request.namespace, request.name)):
            return
        self._judge_rules(attributes, parse_rules(role.get("rules")))
        if aggregates(role) or aggregates(attributes.old or {}):
            try:
                self._judge_rules(attributes, EVERYTHING)
            except Forbidden as err:
                text = "must have cluster-admin privileges to use the aggregationRule"
                raise replies.forbidden(attributes.resource, attributes.name, text) from err

    def _judge_binding(self, attributes: Attributes, binding: Object) -> None:
        ref, namespace = binding.get("roleRef") or {}, attributes.namespace
        kind, name = ref.get("kind", ""), ref.get("name", "")
        if kind not in (ROLE, CLUSTER_ROLE):
            raise replies.unnamed_error(f"unsupported role reference kind: {quoted(kind)}")
        resource = ROLES if kind == ROLE else CLUSTERROLES
        asked = Asked("bind", ref.get("apiGroup", ""), resource.plural, "", namespace, name)
        if self._may(attributes, asked):
            return
        rules = self._authorizer.rbac.rules_of_role(kind, namespace, name)
        if rules is None:
            raise replies.not_found(attributes.resource, name)  # upstream names the binding, not the role
        self._judge_rules(attributes, rules)

    def _may(self, attributes: Attributes, asked: Asked) -> bool:
        return self._authorizer.decide(attributes.request.user, asked).allowed

    def _judge_rules(self, attributes: Attributes, wanted: tuple[Rule, ...]) -> None:
        user = attributes.request.user
        own, unknown = self._authorizer.rbac.rules_of(user, attributes.namespace)
        if not (lacking := missing(own, wanted)):
            return
        told = "\n".join(sorted({rule.told() for rule in compact(lacking)}))
        text = (
            f"user {quoted(user.name)} (groups={go_list(user.groups)}) is attempting to grant RBAC permissions not "
            f"currently held:\n{told}"
        )
        if unknown:
            texts = list(dict.fromkeys(unknown))
            found = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
            text += f"; resolution errors: [{found}]"
        raise replies.forbidden(attributes.resource, attributes.name, text)


def aggregates(role: Object) -> bool:
    return bool((role.get("aggregationRule") or {}).get("clusterRoleSelectors"))


def is_collecting(new: Object, old: Object) -> bool:
    """Whether nothing changes but what the garbage collector needs to."""
    return _without(new) == _without(old)


def _without(obj: Object) -> Object:
    return obj | {"metadata": {key: value for key, value in obj["metadata"].items() if key not in _COLLECTED}}

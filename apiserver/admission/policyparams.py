"""Who writes an admission policy, or a binding of one, must be allowed to read the parameters that it names.

Source: k8s.io/kubernetes/pkg/registry/admissionregistration (authz.go; the texts).
"""

from __future__ import annotations

from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin
from apiserver.auth.authorizer import Authorizer, call
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.request import MASTERS_GROUP, User
from apiserver.state import State, decoded
from kubarium.machinery.errors import Invalid, StatusCause

GROUP = "admissionregistration.k8s.io"
POLICIES = ("validatingadmissionpolicies", "mutatingadmissionpolicies")
BINDINGS = {
    "validatingadmissionpolicybindings": "validatingadmissionpolicies",
    "mutatingadmissionpolicybindings": "mutatingadmissionpolicies",
}


class PolicyParams(Plugin):
    """Looks at what is otherwise right: it stands behind validation."""

    def __init__(self, state: State, registry: Registry, authorizer: Authorizer) -> None:
        self._state = state
        self._registry = registry
        self._authorizer = authorizer

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        known = resource.group == GROUP and (resource.plural in POLICIES or resource.plural in BINDINGS)
        return known and not subresource and operation in (CREATE, UPDATE)

    async def validate(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        if MASTERS_GROUP in attributes.request.user.groups:
            return
        try:
            self._judge(attributes, attributes.obj["spec"])
        except Invalid:
            await self._state.caught_up()  # a role may have come just now
            self._judge(attributes, attributes.obj["spec"])

    def _judge(self, attributes: Attributes, spec: Object) -> None:
        was = (attributes.old or {}).get("spec") or {}
        if attributes.resource.plural in POLICIES:
            self._judge_policy(attributes, spec, was)
        else:
            self._judge_binding(attributes, spec, was)

    def _judge_policy(self, attributes: Attributes, spec: Object, was: Object) -> None:
        kind = spec.get("paramKind")
        if kind is None or kind == was.get("paramKind"):
            return
        user = attributes.request.user
        if not self._may(user, "get", *self._resource(kind)[:3], name="*", namespace="*"):
            about = f"(kind={kind.get('kind', '')}, apiVersion={kind.get('apiVersion', '')})"
            text = f'must have "get" permission on all objects of the referenced paramKind {about}'
            refuse(attributes, "spec.paramKind", f"user {shown(user)} {text}")

    def _judge_binding(self, attributes: Attributes, spec: Object, was: Object) -> None:
        ref, policy_name = spec.get("paramRef"), spec.get("policyName", "")
        if ref is None or (ref == was.get("paramRef") and policy_name == was.get("policyName")):
            return
        user, verb = attributes.request.user, "get" if ref.get("name") else "list"
        policy = self._policy(BINDINGS[attributes.resource.plural], policy_name)
        kind = (policy or {}).get("spec", {}).get("paramKind")
        group, version, plural, resolved = self._resource(kind) if kind else ("*", "*", "*", True)
        if self._may(user, verb, group, version, plural, name=ref.get("name", ""), namespace=ref.get("namespace", "")):
            return
        need = f'user {shown(user)} does not have "{verb}" permission'
        minimum = f"to determine minimum required permissions and {need} for all groups, versions and resources"
        if policy is None:
            text = f"unable to get policy {policy_name} {minimum}"
        elif not resolved:
            known = f"&{{{kind.get('apiVersion', '')} {kind.get('kind', '')}}}"
            text = f"unable to resolve paramKind {known} {minimum}"
        else:
            text = f"{need} on the object referenced by paramRef"
        refuse(attributes, "spec.paramRef", text)

    def _policy(self, plural: str, name: str) -> Object | None:
        resource = self._registry.get(GROUP, "v1", plural)
        entry = self._state.peek(resource, "", name) if resource is not None else None
        return None if entry is None else decoded(entry)

    def _resource(self, kind: Object) -> tuple[str, str, str, bool]:
        """Group, version and plural of a paramKind, and whether it is known; `*` stands for the plural if it is not."""
        group, _, version = kind.get("apiVersion", "").rpartition("/")
        found = self._registry.by_kind(group, version, kind.get("kind", ""))
        return (group, version, "*", False) if found is None else (group, version, found.plural, True)

    def _may(self, user: User, verb: str, group: str, version: str, plural: str, **where: str) -> bool:
        return self._authorizer.authorize(call(user, verb, group, plural, version=version, **where)).allowed


def refuse(attributes: Attributes, path: str, text: str) -> None:
    cause = StatusCause("FieldValueForbidden", f"Forbidden: {text}", path)
    raise Invalid.of(attributes.resource.group, attributes.resource.kind, attributes.name, [cause])


def shown(user: User) -> str:
    """A user as Go prints one."""
    extra = " ".join(f"{key}:[{' '.join(values)}]" for key, values in sorted(user.extra.items()))
    return f"&{{{user.name} {user.uid} [{' '.join(user.groups)}] map[{extra}]}}"

"""Who may allocate devices, and use them without sharing: what a ResourceClaim says that needs leave.

Administrative access to devices needs a label on the namespace; writing the allocation or the state of devices needs
permissions of their own, on parts of the claim that exist for this alone.
Source: KEP-5018 (admin access); k8s.io/kubernetes/pkg/registry/resource (AuthorizedForAdmin, AuthorizedForBinding,
AuthorizedForDeviceStatus).
"""

from __future__ import annotations

from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin
from apiserver.auth.authorizer import Authorizer, refusal
from apiserver.auth.decision import Asked
from apiserver.registry.base import Object, ResourceDef
from apiserver.registry.cells import at
from apiserver.registry.devices import GROUP
from apiserver.registry.faults import Faults
from apiserver.registry.resourceclaim_status import device_key
from apiserver.request import Request, User
from apiserver.state import State, decoded
from kubarium.machinery.errors import Invalid

ADMIN_LABEL = "resource.kubernetes.io/admin-access"
_ADMIN_TEXT = f"admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
_NODE_NAME = "authentication.kubernetes.io/node-name"
_CLAIMS, _TEMPLATES = "resourceclaims", "resourceclaimtemplates"


class DeviceAccess(Plugin):
    def __init__(self, state: State, namespaces: ResourceDef, authorizer: Authorizer) -> None:
        self._state = state
        self._namespaces = namespaces
        self._authorizer = authorizer

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        if resource.group != GROUP or resource.plural not in (_CLAIMS, _TEMPLATES):
            return False
        return (subresource, operation) in (("", CREATE), ("status", UPDATE))

    async def validate(self, attributes: Attributes) -> None:
        if faults := await self.causes(attributes):
            raise Invalid.of(GROUP, attributes.resource.kind, attributes.name, faults)

    async def causes(self, attributes: Attributes) -> Faults:
        assert attributes.obj is not None
        faults, obj = Faults(), attributes.obj
        if attributes.old is None:
            spec = at(obj, "spec.spec" if attributes.resource.plural == _TEMPLATES else "spec", {})
            await self._check_admin(attributes, _admin_request(spec), faults)
        else:
            if not _admin_result(attributes.old):
                await self._check_admin(attributes, _admin_result(obj), faults)
            self._check_binding(attributes, obj, attributes.old, faults)
            self._check_devices(attributes, obj, attributes.old, faults)
        return faults

    async def _check_admin(self, attributes: Attributes, path: str, faults: Faults) -> None:
        if not path:
            return
        entry = await self._state.found(self._namespaces, "", attributes.namespace)
        labels = at(decoded(entry), "metadata.labels", {}) if entry else {}
        if labels.get(ADMIN_LABEL) != "true":
            faults.forbidden(path, _ADMIN_TEXT)

    def _check_binding(self, attributes: Attributes, obj: Object, old: Object, faults: Faults) -> None:
        same = all(at(obj, f"status.{key}", None) == at(old, f"status.{key}", None) for key in _BOUND)
        if same:
            return
        verb = attributes.request.verb
        if fault := self._refused(attributes, verb, "binding"):
            text = "changing status.allocation or status.reservedFor requires resource="
            faults.forbidden("status.allocation", f'{text}"resourceclaims/binding", verb="{verb}" permission: {fault}')

    def _check_devices(self, attributes: Attributes, obj: Object, old: Object, faults: Faults) -> None:
        """Each driver's entries need leave; on the claim's own node a lesser one is enough."""
        allocation = at(obj, "status.allocation", None)
        if allocation is None:
            return
        verb, kinds = attributes.request.verb, ["arbitrary-node:"]
        if _is_on_node(attributes.request.user, _node_of(allocation)):
            kinds.insert(0, "associated-node:")
        verbs = [kind + verb for kind in kinds]
        for driver in sorted(_changed_drivers(obj, old)):
            found = [self._refused(attributes, v, "driver", attributes.namespace, driver) for v in verbs]
            if all(found):
                shown = f"[{' '.join(verbs)}]"
                text = f'changing status.devices requires resource="resourceclaims/driver", verb="{shown}" permission: '
                faults.forbidden("status.devices", text + found[0])

    def _refused(self, attributes: Attributes, verb: str, part: str, namespace: str = "", name: str = "") -> str:
        """Why the user may not; "" where he may."""
        user, resource = attributes.request.user, attributes.resource
        decision = self._authorizer.decide(user, Asked(verb, GROUP, resource.plural, part, namespace, name))
        if decision.allowed:
            return ""
        return refusal(Request(user, verb, resource, namespace, name, part), decision.reason)[0]


_BOUND = ("allocation", "reservedFor")


def _admin_request(spec: Object) -> str:
    """The path of the first request for administrative access; upstream names it the same way in templates."""
    for i, request in enumerate(at(spec, "devices.requests", [])):
        if at(request, "exactly.adminAccess", False):
            return f"spec.devices.requests[{i}].adminAccess"
    return ""


def _admin_result(claim: Object) -> str:
    for i, result in enumerate(at(claim, "status.allocation.devices.results", [])):
        if result.get("adminAccess"):
            return f"status.allocation.devices.results[{i}].adminAccess"
    return ""


def _changed_drivers(new: Object, old: Object) -> set[str]:
    now, was = ({device_key(d): d for d in at(o, "status.devices", [])} for o in (new, old))
    return {key[0] for key in now.keys() | was.keys() if now.get(key) != was.get(key)}


def _node_of(allocation: Object) -> str:
    """The one node that an allocation can be used on, "" where there is not exactly one."""
    terms = at(allocation, "nodeSelector.nodeSelectorTerms", [])
    if len(terms) != 1 or terms[0].get("matchExpressions"):
        return ""
    fields = terms[0].get("matchFields") or []
    if len(fields) != 1 or (fields[0].get("key"), fields[0].get("operator")) != ("metadata.name", "In"):
        return ""
    values = fields[0].get("values") or []
    return str(values[0]) if len(values) == 1 else ""


def _is_on_node(user: User, node: str) -> bool:
    """Whether a ServiceAccount's token is bound to a pod of that node."""
    is_account = user.name.startswith("system:serviceaccount:")
    return bool(node) and is_account and tuple(user.extra.get(_NODE_NAME, ())) == (node,)

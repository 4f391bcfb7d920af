"""NodeRestriction: a kubelet changes its own Node, the pods on it, and little else.

Source: Kubernetes documentation, "Using Node Authorization"; kubernetes/plugin/pkg/admission/noderestriction (rules
and texts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from apiserver.admission.certificates import is_requests, parse_request, signer_of
from apiserver.admission.chain import CREATE, DELETE, UPDATE, Attributes, Plugin
from apiserver.auth.authorizer import Authorizer
from apiserver.auth.decision import Asked
from apiserver.auth.node import LEASES, NODE_PREFIX, node_of
from apiserver.auth.podrefs import MIRROR, refers_to_api
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.registry.faults import quoted
from apiserver.schemas import internal
from apiserver.state import State, decoded
from kubarium.machinery import csr
from kubarium.machinery.errors import NotFound

_OWN_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    }
)
_OWN_SPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_FORBIDDEN_SPACE = "node-restriction.kubernetes.io"
_RESIZED = ("capacity", "conditions", "allocatedResourceStatuses", "allocatedResources")
_PODS, _TOKENS = ("", "pods"), ("", "serviceaccounts")
_NODES, _CLAIMS = ("", "nodes"), ("", "persistentvolumeclaims")
_LEASES, _CSI_NODES = ("coordination.k8s.io", "leases"), ("storage.k8s.io", "csinodes")
_SLICES, _REQUESTS = ("resource.k8s.io", "resourceslices"), ("certificates.k8s.io", "certificatesigningrequests")


class NodeRestriction(Plugin):
    def __init__(self, state: State, registry: Registry, authorizer: Authorizer) -> None:
        self._state = state
        self._registry = registry
        self._authorizer = authorizer
        self._judges: dict[tuple[str, str], Callable[[str, Attributes], None]] = {
            _PODS: self._pod,
            _TOKENS: self._token,
            _NODES: judge_node,
            _CLAIMS: judge_claim,
            _LEASES: judge_lease,
            _CSI_NODES: judge_csi_node,
            _SLICES: judge_slice,
            _REQUESTS: judge_request,
        }

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return (resource.group, resource.plural) in self._judges

    async def admit(self, attributes: Attributes) -> None:
        user = attributes.request.user
        if not user.name.startswith(NODE_PREFIX) or (node := node_of(user)) is None:
            return
        if not node:
            raise attributes.forbidden(f"could not determine node from user {quoted(user.name)}")
        self._judges[attributes.resource.group, attributes.resource.plural](node, attributes)

    def _found(self, plural: str, namespace: str, name: str) -> Object:
        """Raises NotFound, worded as by a cache: `pod "p" not found`."""
        resource = self._registry.get("", "v1", plural)
        assert resource is not None
        entry = self._state.peek(resource, namespace, name)
        if entry is None:
            kind = resource.singular
            raise NotFound(f"{kind} {quoted(name)} not found", details={"name": name, "kind": kind})
        return decoded(entry)

    # -- pods ----------------------------------------------------------------------------------------------------------

    def _pod(self, node: str, attributes: Attributes) -> None:
        subresource, operation = attributes.request.subresource, attributes.operation
        if subresource == "status":
            judge_pod_status(node, attributes)
        elif subresource == "eviction":
            pod = self._found("pods", attributes.namespace, attributes.name)
            if node_name(pod) != node:
                raise attributes.forbidden(f"node {node} can only evict pods with spec.nodeName set to itself")
        elif subresource:
            text = f"unexpected pod subresource {quoted(subresource)}, only 'status' and 'eviction' are allowed"
            raise attributes.forbidden(text)
        elif operation == CREATE:
            self._mirror(node, attributes)
        elif operation == DELETE:
            if node_name(self._found("pods", attributes.namespace, attributes.name)) != node:
                text = f"node {quoted(node)} can only delete pods with spec.nodeName set to itself"
                raise attributes.forbidden(text)
        else:
            text = (
                f"unexpected operation {quoted(operation)}, node {quoted(node)} can only create and delete mirror pods"
            )
            raise attributes.forbidden(text)

    def _mirror(self, node: str, attributes: Attributes) -> None:
        """A kubelet shows pods of files as mirror pods, which are its own and refer to nothing."""
        assert attributes.obj is not None
        pod, shown = attributes.obj, quoted(node)
        if MIRROR not in (pod["metadata"].get("annotations") or {}):
            text = f"pod does not have {quoted(MIRROR)} annotation, node {shown} can only create mirror pods"
            raise attributes.forbidden(text)
        if node_name(pod) != node:
            raise attributes.forbidden(f"node {shown} can only create pods with spec.nodeName set to itself")
        self._owner(node, pod["metadata"].get("ownerReferences") or [], attributes)
        if found := refers_to_api(pod["spec"]):
            raise attributes.forbidden(f"node {shown} can not create pods that reference {found}")

    def _owner(self, node: str, owners: list[Object], attributes: Attributes) -> None:
        shown = f"node {quoted(node)} can only create pods with"
        if len(owners) > 1:
            raise attributes.forbidden(f"{shown} a single owner reference set to itself")
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise attributes.forbidden(f"{shown} an owner reference set to itself")
        if not owner.get("controller"):
            raise attributes.forbidden(f"{shown} a controller owner reference set to itself")
        if owner.get("blockOwnerDeletion"):
            raise attributes.forbidden(f"node {quoted(node)} must not set blockOwnerDeletion on an owner reference")
        uid = self._found("nodes", "", node)["metadata"]["uid"]
        if owner.get("uid") != uid:
            raise attributes.forbidden(f"node {node} UID mismatch: expected {owner.get('uid')} got {uid}")

    # -- tokens --------------------------------------------------------------------------------------------------------

    def _token(self, node: str, attributes: Attributes) -> None:
        """Only for a pod that runs there, and for an audience that its volumes name."""
        if attributes.operation != CREATE or attributes.request.subresource != "token":
            return
        spec = (attributes.obj or {}).get("spec") or {}
        ref = spec.get("boundObjectRef") or {}
        if (ref.get("apiVersion"), ref.get("kind")) != ("v1", "Pod") or not ref.get("name"):
            raise attributes.forbidden("node requested token not bound to a pod")
        if not ref.get("uid"):
            raise attributes.forbidden("node requested token with a pod binding without a uid")
        pod = self._found("pods", attributes.namespace, ref["name"])
        if ref["uid"] != pod["metadata"]["uid"]:
            text = (
                f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise attributes.forbidden(text)
        if node_name(pod) != node:
            raise attributes.forbidden("node requested token bound to a pod scheduled on a different node")
        self._audience(spec.get("audiences") or [], pod, attributes)

    def _audience(self, audiences: list[str], pod: Object, attributes: Attributes) -> None:
        if len(audiences) > 1:
            raise attributes.forbidden("node may only request 0 or 1 audiences")
        audience, user = audiences[0] if audiences else "", attributes.request.user
        if audience in token_audiences(pod, self._driver_audiences):
            return
        verb = "request-serviceaccounts-token-audience"
        asked = Asked(verb, "", audience, namespace=attributes.namespace, name=attributes.name)
        if not self._authorizer.decide(user, asked).allowed:
            text = (
                f"audience {quoted(audience)} not found in pod spec volume, {user.name} is not authorized to request "
            )
            raise attributes.forbidden(f"{text}tokens for this audience")

    def _driver_audiences(self, volume: Object, pod: Object) -> list[str]:
        """Those that the CSI driver behind a volume has tokens made for."""
        driver = (volume.get("csi") or {}).get("driver", "")
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
        if "ephemeral" in volume:
            claim = f"{pod['metadata']['name']}-{volume['name']}"
        if claim:
            driver = self._driver_of(pod["metadata"]["namespace"], claim)
        found = self._maybe("storage.k8s.io", "csidrivers", "", driver) if driver else None
        return [one.get("audience", "") for one in ((found or {}).get("spec") or {}).get("tokenRequests") or ()]

    def _driver_of(self, namespace: str, claim: str) -> str:
        found = self._maybe("", "persistentvolumeclaims", namespace, claim) or {}
        volume = self._maybe("", "persistentvolumes", "", (found.get("spec") or {}).get("volumeName") or "")
        return str((((volume or {}).get("spec") or {}).get("csi") or {}).get("driver") or "")

    def _maybe(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        resource = self._registry.get(group, "v1", plural)
        entry = self._state.peek(resource, namespace, name) if resource and name else None
        return decoded(entry) if entry else None


def token_audiences(pod: Object, of_driver: Callable[[Object, Object], list[str]]) -> Iterator[str]:
    """Audiences of the tokens that the volumes of a pod need."""
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if (token := source.get("serviceAccountToken")) is not None:
                yield token.get("audience") or ""
        yield from of_driver(volume, pod)


def judge_pod_status(node: str, attributes: Attributes) -> None:
    if attributes.operation != UPDATE:
        raise attributes.forbidden(f"unexpected operation {quoted(attributes.operation)}")
    new, old, shown = attributes.obj or {}, attributes.old or {}, quoted(node)
    if node_name(old) != node:
        text = f"node {shown} can only update pod status for pods with spec.nodeName set to itself"
        raise attributes.forbidden(text)
    if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        raise attributes.forbidden(f"node {shown} cannot update labels through pod status")
    status, before = new.get("status") or {}, old.get("status") or {}
    if (status.get("resourceClaimStatuses") or []) != (before.get("resourceClaimStatuses") or []):
        raise attributes.forbidden(f"node {shown} cannot update resource claim statues")
    if status.get("extendedResourceClaimStatus") != before.get("extendedResourceClaimStatus"):
        raise attributes.forbidden(f"node {shown} cannot update extended resource claim status")


def judge_claim(node: str, attributes: Attributes) -> None:
    """A kubelet that has grown a volume says so."""
    if attributes.request.subresource != "status":
        raise attributes.forbidden("may only update PVC status")
    if attributes.operation != UPDATE:
        raise attributes.forbidden(f"unexpected operation {quoted(attributes.operation)}")
    old, new = (_unsized(obj or {}) for obj in (attributes.old, attributes.obj))
    if old != new:
        found = internal.difference("core.v1.PersistentVolumeClaim", old, new)
        text = f"node {quoted(node)} is not allowed to update fields other than status.quantity and status.conditions"
        raise attributes.forbidden(f"{text}: {found}")


def _unsized(claim: Object) -> Object:
    metadata = {k: v for k, v in claim["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    status = {k: v for k, v in (claim.get("status") or {}).items() if k not in _RESIZED}
    return {**claim, "metadata": metadata, "status": status}


def judge_node(node: str, attributes: Attributes) -> None:
    shown = f"node {quoted(node)} is not allowed to"
    if attributes.name != node:
        raise attributes.forbidden(f"{shown} modify node {quoted(attributes.name)}")
    if attributes.operation == CREATE:
        spec = (attributes.obj or {}).get("spec") or {}
        if spec.get("configSource") is not None:
            raise attributes.forbidden(f"{shown} create pods with a non-nil configSource")
        if found := forbidden_labels(labels_of(attributes.obj), {}):
            raise attributes.forbidden(f"{shown} set the following labels: {', '.join(found)}")
    elif attributes.operation == UPDATE:
        new, old = attributes.obj or {}, attributes.old or {}
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        source = spec.get("configSource")
        if source is not None and source != before.get("configSource"):
            raise attributes.forbidden(f"{shown} update configSource to a new non-nil configSource")
        if (spec.get("taints") or []) != (before.get("taints") or []):
            raise attributes.forbidden(f"{shown} modify taints")
        if (new["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
            raise attributes.forbidden(f"{shown} modify ownerReferences")
        if found := forbidden_labels(labels_of(new), labels_of(old)):
            raise attributes.forbidden(f"is not allowed to modify labels: {', '.join(found)}")


def labels_of(obj: Object | None) -> Mapping[str, str]:
    return ((obj or {}).get("metadata") or {}).get("labels") or {}


def forbidden_labels(new: Mapping[str, str], old: Mapping[str, str]) -> list[str]:
    """Changed labels with which a node could draw pods to itself."""
    changed = {key for key in (*new, *old) if new.get(key) != old.get(key)}
    return sorted(key for key in changed if not is_own_label(key))


def is_own_label(key: str) -> bool:
    """Whether a kubelet may set a label."""
    space = key.partition("/")[0] if "/" in key else ""
    if _within(space, _FORBIDDEN_SPACE):
        return False
    if not _within(space, "kubernetes.io") and not _within(space, "k8s.io"):
        return True
    return key in _OWN_LABELS or any(_within(space, own) for own in _OWN_SPACES)


def _within(space: str, suffix: str) -> bool:
    return space == suffix or space.endswith(f".{suffix}")


def judge_lease(node: str, attributes: Attributes) -> None:
    if attributes.namespace != LEASES:
        raise attributes.forbidden(f'can only access leases in the "{LEASES}" system namespace')
    if _name(attributes) != node:
        raise attributes.forbidden("can only access node lease with the same name as the requesting node")


def judge_csi_node(node: str, attributes: Attributes) -> None:
    if _name(attributes) != node:
        raise attributes.forbidden("can only access CSINode with the same name as the requesting node")


def judge_slice(node: str, attributes: Attributes) -> None:
    """Other calls the node authorizer has judged."""
    kinds = {CREATE: ("create", attributes.obj), DELETE: ("delete", attributes.old)}
    if attributes.operation in kinds:
        verb, found = kinds[attributes.operation]
        if ((found or {}).get("spec") or {}).get("nodeName") != node:
            text = f"can only {verb} ResourceSlice with the same NodeName as the requesting node"
            raise attributes.forbidden(text)


def judge_request(node: str, attributes: Attributes) -> None:
    """A kubelet asks for certificates in its own name."""
    if attributes.operation != CREATE or attributes.request.subresource or not is_requests(attributes.resource):
        return
    request = attributes.obj or {}
    if signer_of(request) not in (csr.KUBELET_SERVING, csr.KUBELET_CLIENT):
        return
    try:
        asked = parse_request(request)
    except ValueError as err:
        raise attributes.forbidden(f"unable to parse csr: {err}") from err
    if asked.common_name != f"{NODE_PREFIX}{node}":
        raise attributes.forbidden(f"can only create a node CSR with CN={NODE_PREFIX}{node}")


def _name(attributes: Attributes) -> str:
    if attributes.operation == CREATE:
        return str(((attributes.obj or {}).get("metadata") or {}).get("name") or "")
    return attributes.name


def node_name(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")

"""The node authorizer: what a kubelet may do, which is what its own node and the pods there need.

Source: Kubernetes documentation, "Using Node Authorization"; kubernetes/plugin/pkg/auth/authorizer/node (rules, texts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from apiserver.auth.decision import ALLOWED, NO_OPINION, Asked, Decision
from apiserver.auth.nodegraph import NodeGraph, Vertex
from apiserver.auth.rules import Rule
from apiserver.request import User
from kubarium.machinery.selectors import parse_fields

NODE_PREFIX, NODES_GROUP = "system:node:", "system:nodes"
LEASES = "kube-node-lease"


def required_value(field_selector: str, field: str) -> str | None:
    """The one value that a field selector leaves for a field; None where it leaves more, or is none."""
    try:
        return parse_fields(field_selector).exact(field) if field in field_selector else None
    except ValueError:
        return None


def node_of(user: User) -> str | None:
    """The name of the node whose kubelet this is, None for everybody else; "" where it says none."""
    if not user.name.startswith(NODE_PREFIX) or NODES_GROUP not in user.groups:
        return None
    return user.name[len(NODE_PREFIX) :]


def unknown_node(user: User) -> Decision:
    return Decision(False, f'unknown node for user "{user.name}"')


class NodeAuthorizer:
    """`rules` are what all nodes may do (those of the ClusterRole system:node)."""

    def __init__(self, graph: NodeGraph, rules: Iterable[Rule]) -> None:
        self._graph = graph
        self._rules = tuple(rules)
        read, get = self._read, self._get
        self._special: dict[tuple[str, str], Callable[[str, Asked], Decision]] = {
            ("", "secrets"): read,
            ("", "configmaps"): read,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): get,
            ("resource.k8s.io", "resourceclaims"): get,
            ("storage.k8s.io", "volumeattachments"): get,
            ("", "serviceaccounts"): self._account,
            ("coordination.k8s.io", "leases"): lease,
            ("storage.k8s.io", "csinodes"): csi_node,
            ("resource.k8s.io", "resourceslices"): self._slice,
            ("", "nodes"): own_node,
            ("", "pods"): self._pod,
            ("certificates.k8s.io", "podcertificaterequests"): lambda _node, _asked: NO_OPINION,
        }

    def authorize(self, user: User, asked: Asked) -> Decision:
        """NO_OPINION on everybody but nodes."""
        node = node_of(user)
        if node is None:
            return NO_OPINION
        if not node:
            return unknown_node(user)
        special = self._special.get((asked.group, asked.resource))
        if special is not None:
            return special(node, asked)
        named = (rule for rule in self._rules if not rule.names or asked.name in rule.names)
        known = any(rule.allows(asked.verb, asked.group, asked.resource, asked.subresource) for rule in named)
        return ALLOWED if known else NO_OPINION

    def _related(self, node: str, asked: Asked) -> Decision:
        if not asked.name:
            return Decision(False, "No Object name found")
        return self._path(node, (asked.resource, asked.namespace, asked.name))

    def _path(self, node: str, vertex: Vertex) -> Decision:
        if self._graph.leads(vertex, node):
            return ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")

    def _read(self, node: str, asked: Asked) -> Decision:
        if asked.verb not in ("get", "list", "watch"):
            return Decision(False, "can only read resources of this type")
        if asked.subresource:
            return Decision(False, "cannot read subresource")
        if not asked.namespace:
            return Decision(False, "can only read namespaced object of this type")
        return self._related(node, asked)

    def _get(self, node: str, asked: Asked) -> Decision:
        if asked.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        if asked.subresource:
            return Decision(False, "cannot get subresource")
        return self._related(node, asked)

    def _claim(self, node: str, asked: Asked) -> Decision:
        if asked.subresource != "status":
            return self._get(node, asked)
        if asked.verb not in ("update", "patch"):
            return Decision(False, "can only get/update/patch this type")
        return self._related(node, asked)

    def _account(self, node: str, asked: Asked) -> Decision:
        if asked.verb == "get" and not asked.subresource:
            return self._read(node, asked)
        if asked.verb != "create" or not asked.name:
            return Decision(False, "can only create tokens for individual service accounts")
        if asked.subresource != "token":
            return Decision(False, "can only create token subresource of serviceaccount")
        return self._path(node, (asked.resource, asked.namespace, asked.name))

    def _slice(self, node: str, asked: Asked) -> Decision:
        if asked.subresource:
            return Decision(False, "cannot authorize ResourceSlice subresources")
        match asked.verb:
            case "create":  # NodeRestriction sees whose it is
                return ALLOWED
            case "get" | "update" | "patch" | "delete":
                return self._related(node, asked)
            case "watch" | "list" | "deletecollection":
                if required_value(asked.field_selector, "spec.nodeName") == node:
                    return ALLOWED
                text = "can only list/watch/deletecollection resourceslices with nodeName field selector"
                return Decision(False, text)
        verbs = "get, watch, list, create, update, patch, delete, deletecollection"
        return Decision(False, f"only the following verbs are allowed for a ResourceSlice: {verbs}")

    def _pod(self, node: str, asked: Asked) -> Decision:
        """NodeRestriction sees to it that writes are about the node's own pods."""
        match asked.subresource, asked.verb:
            case "", "get":
                return self._related(node, asked)
            case "", "list" | "watch":
                if required_value(asked.field_selector, "spec.nodeName") == node:
                    return ALLOWED
                if asked.name:
                    return self._related(node, asked)
                return Decision(False, "can only list/watch pods with spec.nodeName field selector")
            case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
                return ALLOWED
        return NO_OPINION


def lease(node: str, asked: Asked) -> Decision:
    """The heartbeat."""
    if asked.verb not in ("get", "create", "update", "patch", "delete"):
        return Decision(False, "can only get, create, update, patch, or delete a node lease")
    if asked.namespace != LEASES:
        return Decision(False, f'can only access leases in the "{LEASES}" system namespace')
    if asked.verb != "create" and asked.name != node:
        return Decision(False, "can only access node lease with the same name as the requesting node")
    return ALLOWED


def csi_node(node: str, asked: Asked) -> Decision:
    if asked.verb not in ("get", "create", "update", "patch", "delete"):
        return Decision(False, "can only get, create, update, patch, or delete a CSINode")
    if asked.subresource:
        return Decision(False, "cannot authorize CSINode subresources")
    if asked.verb != "create" and asked.name != node:
        return Decision(False, "can only access CSINode with the same name as the requesting node")
    return ALLOWED


def own_node(node: str, asked: Asked) -> Decision:
    """Which Node is written, NodeRestriction sees."""
    match asked.subresource, asked.verb:
        case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
            return ALLOWED
        case "", "get" | "list" | "watch":
            if asked.name == node:
                return ALLOWED
            if not asked.name:
                return Decision(False, f"node '{node}' cannot read all nodes, only its own Node object")
            return Decision(False, f"node '{node}' cannot read '{asked.name}', only its own Node object")
    return NO_OPINION

"""What our components may do besides what upstream's default roles give them: roles of ours, `kubarium:...`.

Users and groups are those of `identities`; each gets what it needs and no more.
Source: Kubernetes documentation, "Default roles and role bindings".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

GROUP = "rbac.authorization.k8s.io"
API = f"{GROUP}/v1"
CONTROLLERS, CNI, DNS = "kubarium:controllers", "kubarium:cni", "kubarium:cluster-dns"
KUBELET_CLIENT = "kubarium:apiserver-kubelet-client"
READ = ("get", "list", "watch")

Object = dict[str, Any]


def cluster_role(name: str, rules: Sequence[Mapping[str, Any]]) -> Object:
    return {"apiVersion": API, "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)}


def binding(name: str, role: str, kind: str, subject: str, namespace: str = "") -> Object:
    """Of a ClusterRole to one User, Group or ServiceAccount."""
    who = {"kind": kind, "name": subject}
    who |= {"namespace": namespace} if namespace else {"apiGroup": GROUP}
    return {
        "apiVersion": API,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [who],
    }


def rule(group: str, *resources: str, verbs: Sequence[str] = READ) -> Object:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def plan_roles(known: Iterable[Mapping[str, Any]]) -> list[Object]:
    """Roles before their bindings. `known` are the ClusterRoles of the cluster.

    Our controllers are one process and one user, where upstream's have an account each: they get what all of
    upstream's have together.
    """
    return [
        cluster_role(CNI, [rule("", "nodes"), rule("", "namespaces"), rule("networking.k8s.io", "networkpolicies")]),
        binding(CNI, CNI, "Group", "system:nodes"),
        cluster_role(CONTROLLERS, controller_rules(known)),
        binding(CONTROLLERS, CONTROLLERS, "User", "system:kube-controller-manager"),
        cluster_role(DNS, [rule("", "services", "namespaces"), rule("discovery.k8s.io", "endpointslices")]),
        binding(DNS, DNS, "ServiceAccount", "kube-dns", "kube-system"),
        binding(KUBELET_CLIENT, "system:kubelet-api-admin", "User", "kube-apiserver-kubelet-client"),
    ]


def controller_rules(known: Iterable[Mapping[str, Any]]) -> list[Object]:
    """The rules of all of upstream's controllers, each once."""
    found: list[Object] = []
    for role in sorted(known, key=lambda role: role["metadata"]["name"]):
        if role["metadata"]["name"].startswith("system:controller:"):
            found += [dict(one) for one in role.get("rules") or () if one not in found]
    return found

"""What a cluster is given through the API before anything else: roles of our components, the cluster's DNS."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kubarium.cluster.components import ROLE_LABEL
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.restapi import RestApi
from kubarium.cluster.spec import CONTROL_PLANE, ClusterSpec
from kubarium.machinery.errors import AlreadyExists, NotFound


def apply_bootstrap(spec: ClusterSpec, paths: ClusterPaths, *, server: str = "", on_control_plane: bool = True) -> int:
    """Create what is missing; what is there, stays as its user left it. Returns how many were created.

    `server`: where the API server is, by default the port of this host. Without a node on the control plane, kube-dns
    runs on any. Raises ApiError while the API server is not ready; a repeat does no harm.
    """
    from kubarium.clusterdns.manifests import manifests

    api = RestApi.of(spec, paths)
    if server:
        api = replace(api, server=server)
    ensure_roles(api)
    wanted = manifests(cluster_ip=str(spec.dns_ip))
    if not on_control_plane:
        for manifest in wanted:
            manifest.get("spec", {}).get("template", {}).get("spec", {}).pop("nodeSelector", None)
    else:
        ensure_control_plane(api, tainted=bool(spec.workers))
    return sum(_create(api, manifest) for manifest in wanted)


def ensure_roles(api: RestApi) -> None:
    """Put as this version wants them, also where they are: they are not the user's."""
    from kubarium.cluster.roles import plan_roles

    known = api.call("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles?resourceVersion=0")["items"]
    for manifest in plan_roles(known):
        api.call("PUT", f"{collection(manifest)}/{manifest['metadata']['name']}", manifest)


def ensure_control_plane(api: RestApi, *, tainted: bool) -> None:
    """The control plane's Node, by its role: its kubelet may not say that of itself. It may come first or second."""
    metadata = {"name": CONTROL_PLANE, "labels": {ROLE_LABEL: ""}}
    path = f"/api/v1/nodes/{CONTROL_PLANE}"
    for _ in range(2):
        with suppress(NotFound):
            patch = {"metadata": {"labels": metadata["labels"]}}
            api.call("PATCH", path, patch, content_type="application/merge-patch+json")
            return
        taints = [{"key": ROLE_LABEL, "effect": "NoSchedule"}] if tainted else []
        with suppress(AlreadyExists):
            node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": taints}}
            api.call("POST", "/api/v1/nodes", node)
            return


def _create(api: RestApi, manifest: Mapping[str, Any]) -> bool:
    """Looked for first: a Service that is there holds its address, and a second one is refused for that."""
    path = collection(manifest)
    try:
        api.call("GET", f"{path}/{manifest['metadata']['name']}")
    except NotFound:
        with suppress(AlreadyExists):
            api.call("POST", path, manifest)
            return True
    return False


def collection(manifest: Mapping[str, Any]) -> str:
    """The path that a manifest is posted to; kinds of the bootstrap have regular plurals."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind = manifest["kind"].lower()
    plural = f"{kind}es" if kind.endswith("s") else f"{kind}s"
    namespace = manifest["metadata"].get("namespace")
    parts = ["/apis", group, version] if group else ["/api", version]
    return "/".join([*parts, *(["namespaces", namespace] if namespace else []), plural])

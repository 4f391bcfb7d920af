"""What a pod refers to by name in its namespace. Pure. Source: kubernetes/pkg/api/v1/pod (VisitPodSecretNames etc.)."""

from __future__ import annotations

from collections.abc import Iterator

from apiserver.registry.base import Object

MIRROR = "kubernetes.io/config.mirror"
SECRETS, CONFIG_MAPS, CLAIMS = "secrets", "configmaps", "persistentvolumeclaims"

Reference = tuple[str, str]
"""(plural, name)"""

_TELLING_VOLUMES = {
    "configMap": "configmaps (via configmap volumes)",
    "secret": "secrets (via secret volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azureFile": "secrets (via azureFile volumes)",
}
_TELLING_SOURCES = {
    "configMap": "configmaps (via projected volumes)",
    "secret": "secrets (via projected volumes)",
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}


def pod_references(pod: Object) -> Iterator[Reference]:
    """Everything that its kubelet must read for it."""
    spec, status = pod["spec"], pod.get("status") or {}
    if account := spec.get("serviceAccountName"):
        yield "serviceaccounts", account
    yield from data_references(spec)
    for volume in spec.get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            yield CLAIMS, claim.get("claimName", "")
        elif "ephemeral" in volume:
            yield CLAIMS, f"{pod['metadata']['name']}-{volume['name']}"
    yield from (("resourceclaims", name) for name in claim_names(spec, status))


def data_references(spec: Object) -> Iterator[Reference]:
    """Secrets and ConfigMaps."""
    found: list[Reference] = [(SECRETS, ref.get("name", "")) for ref in spec.get("imagePullSecrets") or ()]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            found += _container_references(container)
    for volume in spec.get("volumes") or ():
        found += _volume_references(volume)
    yield from (ref for ref in found if ref[1])


def _container_references(container: Object) -> Iterator[Reference]:
    for source in container.get("envFrom") or ():
        yield SECRETS, (source.get("secretRef") or {}).get("name", "")
        yield CONFIG_MAPS, (source.get("configMapRef") or {}).get("name", "")
    for variable in container.get("env") or ():
        value = variable.get("valueFrom") or {}
        yield SECRETS, (value.get("secretKeyRef") or {}).get("name", "")
        yield CONFIG_MAPS, (value.get("configMapKeyRef") or {}).get("name", "")


def _volume_references(volume: Object) -> Iterator[Reference]:
    yield SECRETS, (volume.get("secret") or {}).get("secretName", "")
    yield SECRETS, (volume.get("azureFile") or {}).get("secretName", "")
    yield CONFIG_MAPS, (volume.get("configMap") or {}).get("name", "")
    yield SECRETS, ((volume.get("csi") or {}).get("nodePublishSecretRef") or {}).get("name", "")
    for kind in ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"):
        yield SECRETS, ((volume.get(kind) or {}).get("secretRef") or {}).get("name", "")
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield SECRETS, (source.get("secret") or {}).get("name", "")
        yield CONFIG_MAPS, (source.get("configMap") or {}).get("name", "")


def claim_names(spec: Object, status: Object) -> Iterator[str]:
    """ResourceClaims: named in the spec, or made for the pod and named in its status."""
    made = {one["name"]: one.get("resourceClaimName") for one in status.get("resourceClaimStatuses") or ()}
    for claim in spec.get("resourceClaims") or ():
        if name := claim.get("resourceClaimName") or made.get(claim["name"]):
            yield name
    if name := (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName"):
        yield name


def refers_to_api(spec: Object) -> str:
    """What of the API a pod makes use of, "" for one that stands alone, as the mirror pods of kubelets must."""
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    kinds = {kind for kind, _ in data_references(spec)}
    for kind in (SECRETS, CONFIG_MAPS):
        if kind in kinds:
            return kind
    if spec.get("resourceClaims"):
        return "resourceclaims"
    for volume in spec.get("volumes") or ():
        if found := _volume_refers(volume):
            return found
    return ""


def _volume_refers(volume: Object) -> str:
    for kind in volume:
        if kind in _TELLING_VOLUMES:
            return _TELLING_VOLUMES[kind]
    for source in (volume.get("projected") or {}).get("sources") or ():
        for kind in source:
            if kind in _TELLING_SOURCES:
                return _TELLING_SOURCES[kind]
    return ""

"""ServiceAccount admission: every pod runs as an account, and finds its token, the CA and its namespace in a volume.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from apiserver import replies
from apiserver.admission.chain import CREATE, Attributes, Plugin, is_pods
from apiserver.registry.base import Object, ResourceDef
from apiserver.state import State, decoded

DEFAULT_ACCOUNT = "default"
MIRROR = "kubernetes.io/config.mirror"
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_LIFETIME_S = 3607  # an hour and a bit: the kubelet asks for a new one at 80 %
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
READABLE = 0o644


def random_suffix(length: int = 5) -> str:
    """As generateName appends: no vowels, so no words."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


class ServiceAccount(Plugin):
    def __init__(self, state: State, accounts: ResourceDef, suffix: Callable[[], str] = random_suffix) -> None:
        self._state = state
        self._accounts = accounts
        self._suffix = suffix

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_pods(resource) and not subresource and operation == CREATE

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        pod = attributes.obj
        if MIRROR in (pod["metadata"].get("annotations") or {}):
            return
        spec = pod["spec"]
        name = spec.get("serviceAccountName") or DEFAULT_ACCOUNT
        entry = await self._state.found(self._accounts, attributes.namespace, name)
        if entry is None:
            text = f'error looking up service account {attributes.namespace}/{name}: serviceaccount "{name}" not found'
            raise replies.forbidden(attributes.resource, attributes.name, text)
        account = decoded(entry)
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        if account.get("imagePullSecrets") and not spec.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        if wants_token(spec, account):
            mount_token(spec, VOLUME_PREFIX + self._suffix())


def wants_token(spec: Object, account: Object) -> bool:
    """The pod decides, then the account; yes where both are silent."""
    for holder in (spec, account):
        if holder.get("automountServiceAccountToken") is not None:
            return bool(holder["automountServiceAccountToken"])
    return True


def mount_token(spec: Object, volume: str) -> None:
    """Mount the token volume in every container that has nothing at that path; add it if one needs it."""
    existing = next((v["name"] for v in spec.get("volumes") or () if v["name"].startswith(VOLUME_PREFIX)), "")
    mounted = False
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        mounts: Sequence[Object] = container.get("volumeMounts") or ()
        if all(mount.get("mountPath") != TOKEN_FOLDER for mount in mounts):
            mount = {"name": existing or volume, "readOnly": True, "mountPath": TOKEN_FOLDER}
            container["volumeMounts"] = [*mounts, mount]
            mounted = True
    if mounted and not existing:
        spec["volumes"] = [*(spec.get("volumes") or ()), token_volume(volume)]


def token_volume(name: str) -> Object:
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFETIME_S, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
            ],
            "defaultMode": READABLE,
        },
    }

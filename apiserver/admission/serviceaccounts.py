"""ServiceAccount admission: every pod runs as an account, and finds its token, the CA and its namespace in a volume.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence

from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin, is_pods
from apiserver.registry.base import Object, ResourceDef
from apiserver.state import State, decoded

DEFAULT_ACCOUNT = "default"
MIRROR = "kubernetes.io/config.mirror"
MOUNTABLE_ONLY = "kubernetes.io/enforce-mountable-secrets"
TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_LIFETIME_S = 3607  # an hour and a bit: the kubelet asks for a new one at 80 %
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
READABLE = 0o644
TRIES, TRY_S = 10, 0.15
"""For the account `default` of a namespace that was made just now."""


def random_suffix(length: int = 5) -> str:
    """As generateName appends: no vowels, so no words."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


class ServiceAccount(Plugin):
    def __init__(self, state: State, accounts: ResourceDef, suffix: Callable[[], str] = random_suffix) -> None:
        self._state = state
        self._accounts = accounts
        self._suffix = suffix

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_pods(resource) and (subresource, operation) in (("", CREATE), ("ephemeralcontainers", UPDATE))

    async def admit(self, attributes: Attributes) -> None:
        pod = attributes.obj
        assert pod is not None
        if attributes.operation != CREATE or is_mirror(pod):
            return
        spec = pod["spec"]
        name = spec.get("serviceAccountName") or DEFAULT_ACCOUNT
        account = await self._account(attributes, name)
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        if wants_token(spec, account):
            mount_token(spec, VOLUME_PREFIX + self._suffix())
        if account.get("imagePullSecrets") and not spec.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        assert pod is not None
        spec = pod["spec"]
        if attributes.operation == CREATE and is_mirror(pod):
            if text := mirror_fault(spec):
                raise attributes.forbidden(text)
            return
        name = spec.get("serviceAccountName")
        if not name:
            where = f"{attributes.namespace}/{pod['metadata'].get('name', '')}"
            raise attributes.forbidden(f"no service account specified for pod {where}")
        account = await self._account(attributes, name)
        if (account["metadata"].get("annotations") or {}).get(MOUNTABLE_ONLY) in TRUE:
            ephemeral = attributes.operation == UPDATE
            text = next(ephemeral_faults(spec, account) if ephemeral else secret_faults(spec, account), "")
            if text:
                raise attributes.forbidden(text)

    async def _account(self, attributes: Attributes, name: str) -> Object:
        for number in range(TRIES if name == DEFAULT_ACCOUNT else 1):
            if number:
                await asyncio.sleep(TRY_S)
            entry = await self._state.found(self._accounts, attributes.namespace, name)
            if entry is not None:
                return decoded(entry)
        where = f"{attributes.namespace}/{name}"
        raise attributes.forbidden(f'error looking up service account {where}: serviceaccount "{name}" not found')


def is_mirror(pod: Object) -> bool:
    """Whether the pod only shows a static pod of a kubelet."""
    return MIRROR in (pod["metadata"].get("annotations") or {})


def mirror_fault(spec: Object) -> str:
    """What a mirror pod may not ask for; "" where it asks for none of it."""
    if spec.get("serviceAccountName"):
        return "a mirror pod may not reference service accounts"
    if spec.get("imagePullSecrets") or any(True for _ in _secrets(spec)):
        return "a mirror pod may not reference secrets"
    for volume in spec.get("volumes") or ():
        sources = (volume.get("projected") or {}).get("sources") or ()
        if any(source.get("serviceAccountToken") is not None for source in sources):
            return "a mirror pod may not use ServiceAccountToken volume projections"
    return ""


_SECRET_FIELDS = {
    "secret": ("secretName",),
    "azureFile": ("secretName",),
    "cephfs": ("secretRef", "name"),
    "cinder": ("secretRef", "name"),
    "flexVolume": ("secretRef", "name"),
    "rbd": ("secretRef", "name"),
    "scaleIO": ("secretRef", "name"),
    "iscsi": ("secretRef", "name"),
    "storageos": ("secretRef", "name"),
    "csi": ("nodePublishSecretRef", "name"),
}


def _secrets(spec: Object) -> Iterator[str]:
    """The names of all secrets that containers and volumes refer to."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for _, secret in _container_secrets(spec, kind):
            yield secret
    for volume in spec.get("volumes") or ():
        for kind, path in _SECRET_FIELDS.items():
            found = volume.get(kind)
            for field in path:
                found = (found or {}).get(field)
            if found:
                yield str(found)
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("secret") is not None:
                yield str(source["secret"].get("name", ""))


def _container_secrets(spec: Object, kind: str) -> Iterator[tuple[str, str]]:
    """Where containers of a kind refer to secrets, in words, and the names of these."""
    for container in spec.get(kind) or ():
        name = container.get("name", "")
        for env in container.get("env") or ():
            ref = (env.get("valueFrom") or {}).get("secretKeyRef")
            if ref is not None:
                yield f"{name} with envVar {env.get('name', '')}", ref.get("name", "")
        for source in container.get("envFrom") or ():
            if source.get("secretRef") is not None:
                yield f"{name} with envFrom", source["secretRef"].get("name", "")


def secret_faults(spec: Object, account: Object) -> Iterator[str]:
    """The secrets that a pod uses though its account does not list them."""
    mountable = {ref.get("name") for ref in account.get("secrets") or ()}
    text = f"is not allowed because service account {account['metadata']['name']} does not reference that"
    for volume in spec.get("volumes") or ():
        secret = volume.get("secret")
        if secret is not None and secret.get("secretName", "") not in mountable:
            yield f'volume with secret.secretName="{secret.get("secretName", "")}" {text} secret'
    for kind, word in (("initContainers", "init container"), ("containers", "container")):
        yield from _unlisted(spec, kind, word, mountable, text)
    pullable = {ref.get("name") for ref in account.get("imagePullSecrets") or ()}
    for number, ref in enumerate(spec.get("imagePullSecrets") or ()):
        if ref.get("name", "") not in pullable:
            yield f'imagePullSecrets[{number}].name="{ref.get("name", "")}" {text} imagePullSecret'


def ephemeral_faults(spec: Object, account: Object) -> Iterator[str]:
    mountable = {ref.get("name") for ref in account.get("secrets") or ()}
    text = f"is not allowed because service account {account['metadata']['name']} does not reference that"
    return _unlisted(spec, "ephemeralContainers", "ephemeral container", mountable, text)


def _unlisted(spec: Object, kind: str, word: str, mountable: set[str | None], text: str) -> Iterator[str]:
    for where, secret in _container_secrets(spec, kind):
        if secret not in mountable:
            yield f'{word} {where} referencing secret.secretName="{secret}" {text} secret'


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

"""Secrets of the type kubernetes.io/service-account-token hold a token of their account, and go with it.

Source: Kubernetes documentation, "Managing Service Accounts" (token controller);
kubernetes/pkg/controller/serviceaccount/tokens_controller.go.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from kubarium.controllers.controller import Context, Controller
from kubarium.machinery.accounttokens import SECRET_TYPE, Key, legacy_claims, load_signer, sign
from kubarium.machinery.errors import Conflict, NotFound
from kubarium.machinery.objects import ObjectKey, Secret, ServiceAccount
from kubarium.machinery.resources import SECRETS, SERVICEACCOUNTS

NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
CA, NAMESPACE, TOKEN = "ca.crt", "namespace", "token"


def belongs_to(secret: Secret, account: ServiceAccount | None) -> bool:
    """Whether the account that a Secret names is there, and the one that it was filled for."""
    if account is None:
        return False
    wanted = secret.metadata.annotations.get(UID, "")
    return not wanted or wanted == account.metadata.uid


def plan_data(secret: Secret, account: ServiceAccount, ca: bytes, key: Key) -> dict[str, str]:
    """What the Secret lacks, encoded; a token that is there stays."""
    data: dict[str, str] = {}
    if ca and secret.data.get(CA) != (encoded := _encoded(ca)):
        data[CA] = encoded
    if not secret.data.get(NAMESPACE):
        data[NAMESPACE] = _encoded(secret.metadata.namespace.encode())
    if not secret.data.get(TOKEN):
        meta = account.metadata
        token = sign(legacy_claims(meta.namespace, meta.name, meta.uid, secret.metadata.name), key)
        data[TOKEN] = _encoded(token.encode())
    return data


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


class AccountTokens(Controller[ObjectKey]):
    """Keys are those of Secrets."""

    name = "serviceaccount-token-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._key = load_signer(self.config.service_account_private_key_file)
        self._ca = Path(self.config.root_ca_file).read_bytes() if self.config.root_ca_file else b""
        self.secrets = context.informers.of(SECRETS, field_selector=f"type={SECRET_TYPE}")
        self.accounts = context.informers.of(SERVICEACCOUNTS)
        self.secrets.on_change(self._secret_changed)
        self.accounts.on_change(self._account_changed)

    def _secret_changed(self, old: Secret | None, new: Secret | None) -> None:
        if new is not None:
            self.queue.add(new.key)

    def _account_changed(self, old: ServiceAccount | None, new: ServiceAccount | None) -> None:
        """One that goes takes its tokens along; one that comes may be waited for."""
        changed = new or old
        if changed is None or (old is not None and new is not None and old.metadata.uid == new.metadata.uid):
            return
        for secret in self.secrets.all():
            meta = secret.metadata
            if meta.namespace == changed.metadata.namespace and meta.annotations.get(NAME) == changed.metadata.name:
                self.queue.add(secret.key)

    async def sync(self, key: ObjectKey) -> None:
        secret = self.secrets.get(key)
        if secret is None:
            return
        name = secret.metadata.annotations.get(NAME, "")
        account = self.accounts.get(ObjectKey(key.namespace, name)) or await self._account(key.namespace, name)
        if account is None or not belongs_to(secret, account):
            await self._delete(secret)
            return
        data = plan_data(secret, account, self._ca, self._key)
        if data:
            await self._fill(secret, account, data)

    async def _account(self, namespace: str, name: str) -> ServiceAccount | None:
        """As the server has it: the cache may not have it yet, and a token must not go for that."""
        if not name:
            return None
        try:
            return await self.api.get(SERVICEACCOUNTS, name, namespace)
        except NotFound:
            return None

    async def _fill(self, secret: Secret, account: ServiceAccount, data: dict[str, str]) -> None:
        annotations = {NAME: account.metadata.name, UID: account.metadata.uid}
        metadata: dict[str, Any] = {
            "uid": secret.metadata.uid,
            "resourceVersion": secret.metadata.resource_version,
            "annotations": annotations,
        }
        try:
            await self.api.patch(
                SECRETS, secret.metadata.name, {"metadata": metadata, "data": data}, secret.metadata.namespace
            )
        except (Conflict, NotFound):
            return  # it has changed or is gone, and the cache will show that

    async def _delete(self, secret: Secret) -> None:
        meta = secret.metadata
        try:
            await self.api.delete(SECRETS, meta.name, meta.namespace, uid=meta.uid)
        except (Conflict, NotFound):
            return

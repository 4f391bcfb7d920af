"""Bootstrap tokens whose time is over are deleted.

Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens" (TokenCleaner controller).
"""

from __future__ import annotations

import base64
import binascii

from kubarium.controllers.controller import Context, Controller
from kubarium.machinery.errors import Conflict, NotFound
from kubarium.machinery.objects import ObjectKey, Secret
from kubarium.machinery.resources import SECRETS
from kubarium.machinery.times import parse_timestamp

TYPE, NAMESPACE = "bootstrap.kubernetes.io/token", "kube-system"


def seconds_left(secret: Secret, now: float) -> float | None:
    """Until its token is over; None where it has no end. A time that cannot be read is over."""
    encoded = secret.data.get("expiration", "")
    if not encoded:
        return None
    try:
        ends = parse_timestamp(base64.b64decode(encoded).decode())
    except (binascii.Error, ValueError):
        return 0.0
    return 0.0 if ends is None else ends - now


class TokenCleaner(Controller[ObjectKey]):
    """Keys are those of Secrets."""

    name = "token-cleaner-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.secrets = context.informers.of(SECRETS, namespace=NAMESPACE, field_selector=f"type={TYPE}")
        self.secrets.on_change(self._changed)

    def _changed(self, old: Secret | None, new: Secret | None) -> None:
        if new is not None:
            self.queue.add(new.key)

    async def sync(self, key: ObjectKey) -> None:
        secret = self.secrets.get(key)
        left_s = seconds_left(secret, self.clock()) if secret is not None else None
        if secret is None or left_s is None:
            return
        if left_s > 0:
            self.queue.add_after(key, left_s)
            return
        try:
            await self.api.delete(SECRETS, key.name, key.namespace, uid=secret.metadata.uid)
        except (Conflict, NotFound):
            return

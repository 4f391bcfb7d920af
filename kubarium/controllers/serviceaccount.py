"""Every namespace has a ServiceAccount `default`.

Source: https://kubernetes.io/docs/concepts/security/service-accounts/#default-service-accounts
"""

from __future__ import annotations

from kubarium.controllers.controller import Context, Controller, namespace_is_going
from kubarium.machinery.errors import AlreadyExists, Forbidden
from kubarium.machinery.objects import Namespace, ObjectKey, ServiceAccount
from kubarium.machinery.resources import NAMESPACES, SERVICEACCOUNTS

DEFAULT = "default"


def is_wanted_in(namespace: Namespace | None) -> bool:
    """A namespace on its way out gets nothing new."""
    if namespace is None or namespace.metadata.deletion_timestamp:
        return False
    return namespace.status.phase != "Terminating"


class ServiceAccountController(Controller[str]):
    """Keys are names of namespaces."""

    name = "serviceaccount-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = context.informers.of(NAMESPACES)
        self.accounts = context.informers.of(SERVICEACCOUNTS)
        self.namespaces.on_change(self._namespace_changed)
        self.accounts.on_change(self._account_changed)

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None:
            self.queue.add(new.metadata.name)

    def _account_changed(self, old: ServiceAccount | None, new: ServiceAccount | None) -> None:
        if new is None and old is not None and old.metadata.name == DEFAULT:
            self.queue.add(old.metadata.namespace)

    async def sync(self, name: str) -> None:
        if not is_wanted_in(self.namespaces.get(ObjectKey("", name))):
            return
        if self.accounts.get(ObjectKey(name, DEFAULT)) is None:
            try:
                await self.api.create(SERVICEACCOUNTS, {"metadata": {"name": DEFAULT}}, name)
            except AlreadyExists:
                return
            except Forbidden as err:
                if not namespace_is_going(err):
                    raise

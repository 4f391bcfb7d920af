"""Every namespace has the cluster's CA in a ConfigMap `kube-root-ca.crt`, for pods to verify the API server by.

Source: https://kubernetes.io/docs/concepts/storage/projected-volumes/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubarium.controllers.controller import Context, Controller, namespace_is_going
from kubarium.controllers.serviceaccount import is_wanted_in
from kubarium.machinery.errors import AlreadyExists, ConfigError, Forbidden
from kubarium.machinery.objects import ConfigMap, Namespace, ObjectKey
from kubarium.machinery.resources import CONFIGMAPS, NAMESPACES

NAME = "kube-root-ca.crt"
KEY = "ca.crt"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def config_map(ca: str) -> dict[str, Any]:
    """The ConfigMap, as it is sent."""
    metadata = {"name": NAME, "annotations": {"kubernetes.io/description": DESCRIPTION}}
    return {"metadata": metadata, "data": {KEY: ca}}


def read_ca(path: str) -> str:
    """The PEM text of --root-ca-file. Raises ConfigError where it cannot be read."""
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"--root-ca-file {path}: {err}; expected the cluster's CA certificates as PEM") from err


class RootCaPublisher(Controller[str]):
    """Keys are names of namespaces."""

    name = "root-ca-certificate-publisher-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.ca = read_ca(self.config.root_ca_file)
        self.namespaces = context.informers.of(NAMESPACES)
        self.configmaps = context.informers.of(CONFIGMAPS, field_selector=f"metadata.name={NAME}")
        self.namespaces.on_change(self._namespace_changed)
        self.configmaps.on_change(self._configmap_changed)

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None:
            self.queue.add(new.metadata.name)

    def _configmap_changed(self, old: ConfigMap | None, new: ConfigMap | None) -> None:
        if (changed := new or old) is not None:
            self.queue.add(changed.metadata.namespace)

    async def sync(self, name: str) -> None:
        if not is_wanted_in(self.namespaces.get(ObjectKey("", name))):
            return
        current = self.configmaps.get(ObjectKey(name, NAME))
        if current is None:
            await self._create(name)
        elif current.data != {KEY: self.ca}:
            await self._restore(current)

    async def _create(self, namespace: str) -> None:
        try:
            await self.api.create(CONFIGMAPS, config_map(self.ca), namespace)
        except AlreadyExists:
            return  # the cache will show whether it is right
        except Forbidden as err:
            if not namespace_is_going(err):
                raise

    async def _restore(self, current: ConfigMap) -> None:
        extra = {key: None for key in current.data if key != KEY}
        meta = {"resourceVersion": current.metadata.resource_version}
        patch = {"metadata": meta, "data": {**extra, KEY: self.ca}}
        await self.api.patch(CONFIGMAPS, NAME, patch, current.metadata.namespace)

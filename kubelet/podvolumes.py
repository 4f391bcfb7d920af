"""A pod's volumes, kept as the API says for as long as the pod lives: set up first, then renewed on every change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from kubarium.machinery import objects
from kubarium.machinery.errors import ApiError, ContainerError
from kubarium.machinery.resources import SERVICEACCOUNTS
from kubarium.machinery.times import parse_timestamp
from kubelet.context import NodeContext
from kubelet.dns import format_resolver, plan_resolver
from kubelet.files import set_up_folder, write_files
from kubelet.volumes import TokenRequest, VolumeError, has_files, plan_files, references, token_requests

log = logging.getLogger(__name__)

RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
TOKEN_LIFE_USED = 0.8
EARLIEST_RENEWAL_S = 5.0

Event = Callable[..., None]


class PodVolumes:
    """`run` is the pod's volume task; `ready` waits until every volume has been set up once."""

    def __init__(self, context: NodeContext, pod: objects.Pod, owner: object, event: Event) -> None:
        self._context, self._pod, self._owner, self._event = context, pod, owner, event
        self._folder = context.folder(pod.metadata.uid)
        self._ready = asyncio.Event()
        self._due = asyncio.Event()
        self._tokens: dict[TokenRequest, tuple[str, float]] = {}
        self._known: tuple[frozenset[str], frozenset[str]] | None = None
        self.changed: Callable[[], None] = lambda: None

    async def ready(self) -> None:
        await self._ready.wait()

    def pod_changed(self, pod: objects.Pod) -> None:
        """Labels and annotations may be shown by the downward API."""
        old, self._pod = self._pod, pod
        before, after = old.metadata, pod.metadata
        if (before.labels, before.annotations) != (after.labels, after.annotations):
            self._due.set()

    def path(self, name: str) -> str:
        """Where the volume of that name lies on the node."""
        volume = next(v for v in self._pod.spec.volumes if v.name == name)
        return volume.host_path.path if volume.host_path else str(self._folder.volume(volume))

    def read_only(self, name: str) -> bool:
        """Files that the API gives are not for containers to write."""
        return any(v.name == name and has_files(v) for v in self._pod.spec.volumes)

    async def run(self) -> None:
        failures = 0
        while True:
            self._due.clear()
            try:
                renew_s = await self._set_up()
                failures = 0
                self._ready.set()
            except (ContainerError, ApiError, OSError) as err:
                renew_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
                failures += 1
                if isinstance(err, VolumeError):
                    self._event("Warning", "FailedMount", str(err))
                else:
                    log.warning("kubelet: pod %s: volumes: %s", self._pod.key, err)
            with suppress(TimeoutError):
                async with asyncio.timeout(renew_s):
                    await self._due.wait()

    async def _set_up(self) -> float | None:
        """Make all volumes what they should be; gives the seconds after which a token must be renewed."""
        pod = self._pod
        await self.know_references()
        await asyncio.gather(*(self._token(request) for request in token_requests(pod)))
        await asyncio.to_thread(self._write, pod)
        renewals = [renew for _, renew in self._tokens.values()]
        return max(EARLIEST_RENEWAL_S, min(renewals) - time.time()) if renewals else None

    async def know_references(self) -> None:
        """Have every ConfigMap and Secret that the pod names in the cache."""
        wanted = references(self._pod)
        if wanted != self._known:
            namespace = self._pod.metadata.namespace
            await self._context.references.acquire(self._owner, namespace, *wanted, self._changed)
            self._known = wanted

    def _changed(self) -> None:
        self._due.set()
        self.changed()

    def _write(self, pod: objects.Pod) -> None:
        """Blocking: folders, then the files that the API gives."""
        self._folder.make()
        if not self._folder.etc("hosts").exists():
            self._folder.write_etc("hosts", "")
        resolver = plan_resolver(pod, self._context.dns, self._context.resolver)
        self._folder.write_etc("resolv.conf", format_resolver(resolver))
        fs_group = pod.spec.security_context.fs_group if pod.spec.security_context else None
        node, sources = self._context.facts(()), self._context.sources(pod.metadata.namespace)
        tokens = {request: token for request, (token, _) in self._tokens.items()}
        for volume in pod.spec.volumes:
            try:
                path = set_up_folder(self._folder, volume, fs_group)
                if has_files(volume):
                    write_files(path, plan_files(pod, volume, sources, node, tokens), gid=fs_group)
            except ContainerError as err:
                text = f'MountVolume.SetUp failed for volume "{volume.name}" : {err}'
                raise VolumeError(text) from err

    async def _token(self, request: TokenRequest) -> None:
        """A token bound to this pod, renewed when most of its life is over."""
        now = time.time()
        if request in self._tokens and self._tokens[request][1] > now:
            return
        pod = self._pod
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}
        spec = {"expirationSeconds": request.expiration_s, "boundObjectRef": bound}
        spec |= {"audiences": [request.audience]} if request.audience else {}
        account = pod.spec.service_account_name or "default"
        answer = await self._context.api.create_raw(
            SERVICEACCOUNTS,
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
            pod.metadata.namespace,
            name=account,
            subresource="token",
        )
        status = answer["status"]
        expires = parse_timestamp(status.get("expirationTimestamp", "")) or now + request.expiration_s
        self._tokens[request] = (status["token"], now + (expires - now) * TOKEN_LIFE_USED)

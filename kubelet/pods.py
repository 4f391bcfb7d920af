"""All pods of this node: one worker for each that the API binds here, and for each that only the runtime knows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from kubarium.machinery import cniclient, objects
from kubarium.machinery.errors import ContainerError, NetworkError
from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import ObjectKey
from kubelet.context import NodeContext
from kubelet.network import PodNetwork
from kubelet.runtimes.base import PodRecord, PodUid, Runtime
from kubelet.worker import PodWorker

log = logging.getLogger(__name__)

DEFAULT_RUNTIME = "docker"
EXIT_LIMIT_S = 20.0
GC_RETRY_S = 2.0


class RuntimeClasses:
    """Which runtime a pod's RuntimeClass means. The handler is the runtime's name; none, or runc, is the default."""

    def __init__(self, runtimes: Sequence[Runtime], classes: Informer[objects.RuntimeClass]) -> None:
        self._by_name = {runtime.name: runtime for runtime in runtimes}
        self._classes = classes

    def of(self, pod: objects.Pod) -> Runtime | str:
        """The runtime, or why there is none."""
        name = pod.spec.runtime_class_name
        if not name:
            return self._by_name[DEFAULT_RUNTIME]
        found = self._classes.get(ObjectKey("", name))
        if found is None:
            return f'RuntimeClass "{name}" not found'
        handler = DEFAULT_RUNTIME if found.handler in ("", "runc") else found.handler
        return self._by_name.get(handler) or f'RuntimeClass "{name}": no runtime for handler "{found.handler}"'

    def holding(self, uid: PodUid) -> Runtime | None:
        """The runtime that holds something of the pod."""
        return next((runtime for runtime in self._by_name.values() if runtime.pod(uid)), None)


class Pods:
    """Keeps the workers; it begins once all pods of API and runtimes are known: nothing healthy is killed."""

    def __init__(
        self,
        context: NodeContext,
        runtimes: Sequence[Runtime],
        informer: Informer[objects.Pod],
        classes: Informer[objects.RuntimeClass],
    ) -> None:
        self._context, self._runtimes, self._informer = context, runtimes, informer
        self._classes_informer = classes
        self._classes = RuntimeClasses(runtimes, classes)
        self._workers: dict[PodUid, PodWorker] = {}
        self._done: set[PodUid] = set()
        self._refused: dict[PodUid, str] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        await asyncio.gather(
            self._informer.synced(),
            self._classes_informer.synced(),
            *(runtime.synced() for runtime in self._runtimes),
        )
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._collect_garbage()
                group.create_task(self._free_addresses(), name="cni/gc")
                self._informer.on_change(self._pod_changed)
                self._classes_informer.on_change(lambda _old, _new: self._retry_refused())
                for runtime in self._runtimes:
                    runtime.on_change(self._runtime_changed)
                    for uid in tuple(runtime.pods()):
                        self._runtime_changed(uid)
                await asyncio.Event().wait()
        finally:
            self._group = None

    async def _collect_garbage(self) -> None:
        """Delete folders of pods that are nowhere any more."""
        records = {uid: record for runtime in self._runtimes for uid, record in runtime.pods().items()}
        known = {PodUid(pod.metadata.uid) for pod in self._informer.all()} | records.keys()
        folders = await asyncio.to_thread(self._pod_folders)
        for uid in folders - known:
            network = PodNetwork(self._context, uid, self._runtimes[0])
            try:
                await network.forget()
            except NetworkError as err:
                log.warning("kubelet: pod %s has gone, its addresses are not freed yet: %s", uid, err)
                continue
            await asyncio.to_thread(self._context.folder(uid).remove)

    async def _free_addresses(self) -> None:
        """Have the CNI agent free what belongs to no sandbox: one may have gone while no kubelet looked.

        A sandbox is in its runtime's record before it is wired, so nothing that is being made is freed.
        """
        while True:
            sandboxes = [s.id for r in self._runtimes for record in r.pods().values() for s in record.sandboxes]
            try:
                await cniclient.gc(self._context.cni_socket, sandboxes)
                return
            except NetworkError as err:
                log.info("kubelet: addresses of lost sandboxes are not freed yet: %s", err)
                await asyncio.sleep(GC_RETRY_S)

    def _pod_folders(self) -> set[PodUid]:
        folder = self._context.root_dir / "pods"
        return {PodUid(path.name) for path in folder.iterdir()} if folder.is_dir() else set()

    # -- changes --------------------------------------------------------------------------------------------------

    def _pod_changed(self, old: objects.Pod | None, new: objects.Pod | None) -> None:
        pod = new or old
        assert pod is not None
        uid = PodUid(pod.metadata.uid)
        worker = self._workers.get(uid)
        if new is None:
            self._done.discard(uid)
            self._refused.pop(uid, None)
            if worker is not None:
                worker.update(None)
            elif self._classes.holding(uid):
                self._begin(uid, None)
        elif worker is not None:
            worker.update(new)
        elif uid not in self._done:
            self._begin(uid, new)

    def _runtime_changed(self, uid: PodUid) -> None:
        """Wake the worker; what runs without the API knowing of it gets one that removes it."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.wake()
        elif self._classes.holding(uid) and self._pod(uid) is None:
            log.info("kubelet: pod %s is not known to the API any more: removed", uid)
            self._begin(uid, None)

    def _begin(self, uid: PodUid, pod: objects.Pod | None) -> None:
        runtime = self._classes.holding(uid)
        if runtime is None and pod is not None:
            chosen = self._classes.of(pod)
            if isinstance(chosen, str):
                if pod.metadata.deletion_timestamp:
                    runtime = self._runtimes[0]
                else:
                    self._refuse(uid, pod, chosen)
                    return
            else:
                runtime = chosen
        if runtime is None or self._group is None:
            return
        worker = self._workers[uid] = PodWorker(self._context, uid, pod, runtime)
        self._group.create_task(self._work(uid, worker), name=f"pod/{pod.key if pod else uid}")

    async def _work(self, uid: PodUid, worker: PodWorker) -> None:
        """A worker that fails takes nobody with it: another one begins from what the runtime tells."""
        try:
            await worker.run()
        except Exception:
            log.exception("kubelet: worker of pod %s failed, begins again", uid)
            await asyncio.sleep(1.0)
            del self._workers[uid]
            pod = self._pod(uid)
            if pod is not None or self._classes.holding(uid):
                self._begin(uid, pod)
            return
        del self._workers[uid]
        if self._pod(uid) is not None:
            self._done.add(uid)  # it waits for somebody's finalizer, or for the watch to tell of its end

    def _refuse(self, uid: PodUid, pod: objects.Pod, reason: str) -> None:
        if self._refused.get(uid) != reason:
            self._refused[uid] = reason
            text = f"Failed to create pod sandbox: {reason}"
            self._context.events.event(pod, "Warning", "FailedCreatePodSandBox", text)

    def _retry_refused(self) -> None:
        for uid in tuple(self._refused):
            pod = self._pod(uid)
            del self._refused[uid]
            if pod is not None and uid not in self._workers:
                self._begin(uid, pod)

    def _pod(self, uid: PodUid) -> objects.Pod | None:
        return next((pod for pod in self._informer.all() if pod.metadata.uid == uid), None)

    # -- for the kubelet's servers --------------------------------------------------------------------------------

    def all(self) -> tuple[objects.Pod, ...]:
        return self._informer.all()

    def find(self, namespace: str, name: str) -> tuple[objects.Pod, Runtime, PodRecord | None] | None:
        """A pod of this node with its runtime and what that holds of it."""
        pod = self._informer.get(ObjectKey(namespace, name))
        if pod is None:
            return None
        uid = PodUid(pod.metadata.uid)
        chosen = self._classes.of(pod)
        runtime = self._classes.holding(uid) or (self._runtimes[0] if isinstance(chosen, str) else chosen)
        return pod, runtime, runtime.pod(uid)

    @property
    def runtimes(self) -> Sequence[Runtime]:
        return self._runtimes

    async def remove_all(self) -> None:
        """Take every pod of this node out of its runtime, for a node that goes for good."""

        async def remove(runtime: Runtime, uid: PodUid) -> None:
            record = runtime.pod(uid)
            for sandbox in record.sandboxes if record else ():
                try:
                    await PodNetwork(self._context, uid, runtime).unwire(sandbox.id)
                except (ContainerError, NetworkError) as err:
                    log.warning("kubelet: pod %s: %s", uid, err)
            await runtime.remove_pod(uid)
            await asyncio.to_thread(self._context.folder(uid).remove)

        async with asyncio.timeout(EXIT_LIMIT_S):
            for runtime in self._runtimes:
                await runtime.refresh()
            await asyncio.gather(*(remove(r, uid) for r in self._runtimes for uid in tuple(r.pods())))

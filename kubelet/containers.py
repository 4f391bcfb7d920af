"""Starting one container of a pod: image, volumes, environment, creation, start, postStart hook; and its last words.

What stands in the way is told as a `Held`: until when to leave the container alone, and what its status says meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubarium.machinery import objects
from kubarium.machinery.errors import ContainerError
from kubelet import make, probes
from kubelet.context import NodeContext
from kubelet.env import ContainerConfigError, expand, make_env, needs_pod_ip
from kubelet.files import mount_sub_path
from kubelet.images import pull_policy
from kubelet.network import PodNetwork, SandboxLost
from kubelet.plan import Start, Waiting, go_duration, latest
from kubelet.podvolumes import PodVolumes
from kubelet.runtimes.base import (
    Container,
    ContainerId,
    Image,
    LogOptions,
    Mount,
    PodUid,
    Runtime,
    RuntimeUnavailable,
    State,
)
from kubelet.volumes import VolumeError

CONFIG_RETRY_S = 5.0
CREATE_RETRY_S = 2.0
MESSAGE_BYTES, LOG_BYTES, LOG_LINES = 4096, 2048, 80
ERR_IMAGE_SHOWN_S = 1.0

Event = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Held:
    """Leave it alone until then (seconds since the epoch); `waiting` is what the container's status says."""

    until: float
    waiting: Waiting | None = None


class ImageProblem(ContainerError):
    """The image cannot be had now."""

    def __init__(self, held: Held) -> None:
        super().__init__(held.waiting.message if held.waiting else "")
        self.held = held


class ContainerOps:
    """Of one pod. `starting` holds containers that run but whose postStart hook has not ended."""

    def __init__(
        self, context: NodeContext, runtime: Runtime, network: PodNetwork, volumes: PodVolumes, event: Event
    ) -> None:
        self._context, self._runtime, self._network = context, runtime, network
        self._volumes, self._event = volumes, event
        self._pulls: dict[str, tuple[int, float, str]] = {}
        self.starting: set[ContainerId] = set()

    async def start(self, pod: objects.Pod, container: objects.Container, start: Start) -> Held | None:
        """From nothing to running. None where it runs, or where the next plan will see what to do."""
        try:
            image, info = await self._image(container)
            made = await self._create(pod, container, start, image, info)
            await self._post_start(pod, container, made)
        except ImageProblem as err:
            return err.held
        except (SandboxLost, RuntimeUnavailable):
            return Held(time.time() + CREATE_RETRY_S) if self._runtime.problem else None
        except ContainerConfigError as err:
            self._event("Warning", "Failed", f"Error: {err}", container.name)
            return Held(time.time() + CONFIG_RETRY_S, Waiting("CreateContainerConfigError", str(err)))
        except CreateError as err:
            self._event("Warning", "Failed", f"Error: {err}", container.name)
            return Held(time.time() + CREATE_RETRY_S, Waiting("CreateContainerError", str(err)))
        except ContainerError as err:
            text = f'failed to start container "{container.name}": Error response from daemon: {err}'
            self._event("Warning", "Failed", f"Error: {text}", container.name)
        return None

    async def _create(
        self, pod: objects.Pod, container: objects.Container, start: Start, image: str, info: Image
    ) -> ContainerId:
        """Create while the sandbox starts; start once it is wired."""
        await self._volumes.ready()
        sandbox = await self._network.sandbox()
        if needs_pod_ip(container):
            await self._network.ready()
        await self._context.services.synced()
        await self._volumes.know_references()
        node = self._context.facts(self._network.ips)
        env = make_env(pod, container, self._context.sources(pod.metadata.namespace), node)
        mounts = tuple(await asyncio.to_thread(self._mounts, pod, container, start, env))
        target = self._target(container, PodUid(pod.metadata.uid))
        spec = make.container_spec(
            pod, container, start, image=image, info=info, env=env, mounts=mounts, node=node, target=target
        )
        try:
            made = await self._runtime.create_container(sandbox, spec)
        except RuntimeUnavailable:
            raise
        except ContainerError as err:
            raise CreateError(str(err)) from err
        self._event("Normal", "Created", f"Created container: {container.name}", container.name)
        await self._network.ready()
        if container.lifecycle is not None and container.lifecycle.post_start is not None:
            self.starting.add(made)
        try:
            await self._runtime.start_container(made)
        except BaseException:
            self.starting.discard(made)
            raise
        self._event("Normal", "Started", f"Started container {container.name}", container.name)
        return made

    def _target(self, container: objects.Container, uid: PodUid) -> ContainerId | None:
        """The container whose processes an ephemeral one is to see. Raises ContainerConfigError."""
        name = container.target_container_name if isinstance(container, objects.EphemeralContainer) else ""
        if not name:
            return None
        found = latest(self._runtime.pod(uid), name)
        if found is None or found.state is State.CREATED:
            raise ContainerConfigError(f"unable to find target container {name}")
        return found.id

    def _mounts(self, pod: objects.Pod, container: objects.Container, start: Start, env: dict[str, str]) -> list[Mount]:
        """Blocking. Raises CreateError for a subPath that leads out of its volume."""
        folder = self._context.folder(pod.metadata.uid)
        mounts = make.etc_mounts(
            container,
            hosts=str(folder.etc("hosts")),
            resolv_conf=str(folder.etc("resolv.conf")),
            termination_log=str(folder.make_termination_message(container.name, start.restart_count)),
        )
        for index, mount in enumerate(container.volume_mounts):
            source = Path(self._volumes.path(mount.name))
            sub_path = expand(mount.sub_path_expr, env) if mount.sub_path_expr else mount.sub_path
            if sub_path:
                target = folder.sub_path(container.name, index)
                try:
                    mount_sub_path(source, sub_path, target)
                except VolumeError as err:
                    raise CreateError(str(err)) from err
                source = target
            mounts.append(make.volume_mount(mount, str(source), read_only=self._volumes.read_only(mount.name)))
        return mounts

    async def _post_start(self, pod: objects.Pod, container: objects.Container, made: ContainerId) -> None:
        if made not in self.starting or container.lifecycle is None or container.lifecycle.post_start is None:
            return
        try:
            target = probes.Target(
                runtime=self._runtime,
                container=made,
                ports={port.name: port.container_port for port in container.ports if port.name},
                pod_ip=next(iter(self._network.ips), self._context.node_ip),
                started_at=time.time(),
            )
            outcome = await probes.run_hook(container.lifecycle.post_start, target)
            if not outcome.good:
                text = f"PostStartHook failed: {outcome.message}"
                self._event("Warning", "FailedPostStartHook", text, container.name)
                self._event("Normal", "Killing", "FailedPostStartHook", container.name)
                await self._runtime.stop_container(made, make.grace_s(pod))
        finally:
            self.starting.discard(made)

    # -- images ---------------------------------------------------------------------------------------------------

    async def _image(self, container: objects.Container) -> tuple[str, Image]:
        """The image as the runtime knows it. Raises ImageProblem."""
        wanted = container.image
        if self._runtime.name == "host":
            return wanted, Image("")
        if not make.is_image_name(wanted):
            reason = f'couldn\'t parse image name "{wanted}": invalid reference format'
            text = f'Failed to apply default image tag "{wanted}": {reason}'
            self._event("Warning", "InspectFailed", text, container.name)
            self._event("Warning", "Failed", "Error: InvalidImageName", container.name)
            raise ImageProblem(Held(time.time() + CONFIG_RETRY_S, Waiting("InvalidImageName", text)))
        policy = pull_policy(container.image_pull_policy, wanted)
        stand_in = self._context.aliases.resolve(wanted)
        if stand_in is not None or policy != "Always":
            found = await self._runtime.find_image(stand_in or wanted)
            if found is not None:
                text = f'Container image "{wanted}" already present on machine'
                self._event("Normal", "Pulled", text, container.name)
                return stand_in or wanted, self._known(found)
        if policy == "Never":
            text = f'Container image "{wanted}" is not present with pull policy of Never'
            self._event("Warning", "ErrImageNeverPull", text, container.name)
            self._event("Warning", "Failed", "Error: ErrImageNeverPull", container.name)
            raise ImageProblem(Held(time.time() + CONFIG_RETRY_S, Waiting("ErrImageNeverPull", text)))
        return stand_in or wanted, self._known(await self._pull(container, wanted))

    async def _pull(self, container: objects.Container, wanted: str) -> Image:
        failures, not_before, reason = self._pulls.get(wanted, (0, 0.0, ""))
        if time.time() < not_before:
            text = f'Back-off pulling image "{wanted}"'
            self._event("Normal", "BackOff", text, container.name)
            self._event("Warning", "Failed", "Error: ImagePullBackOff", container.name)
            raise ImageProblem(Held(not_before, Waiting("ImagePullBackOff", f"{text}: {reason}")))
        self._event("Normal", "Pulling", f'Pulling image "{wanted}"', container.name)
        began = time.monotonic()
        try:
            image = await self._runtime.pull_image(wanted)
        except ContainerError as err:
            failures += 1
            delay_s = self._context.image_backoff.delay_s(failures)
            reason = f'ErrImagePull: failed to pull image "{wanted}": {err}'
            self._pulls[wanted] = (failures, time.time() + delay_s, reason)
            self._event("Warning", "Failed", f'Failed to pull image "{wanted}": {err}', container.name)
            self._event("Warning", "Failed", "Error: ErrImagePull", container.name)
            shown = min(ERR_IMAGE_SHOWN_S, delay_s / 2)
            raise ImageProblem(Held(time.time() + shown, Waiting("ErrImagePull", str(err)))) from err
        self._pulls.pop(wanted, None)
        took = go_duration(round(time.monotonic() - began, 3))
        text = f'Successfully pulled image "{wanted}" in {took} ({took} including waiting). '
        self._event("Normal", "Pulled", f"{text}Image size: {image.size_bytes} bytes.", container.name)
        return image

    def _known(self, image: Image) -> Image:
        if image.id:
            full = f"docker-pullable://{image.digests[0]}" if image.digests else f"docker://{image.id}"
            self._context.image_ids[image.id] = full
        return image

    # -- afterwards -----------------------------------------------------------------------------------------------

    async def last_words(self, spec: objects.Container, container: Container) -> str:
        """The termination message: the file's text, or the end of the log where that is asked for and it failed."""
        record = next((r for r in self._runtime.pods().values() if container in r.containers), None)
        text = ""
        if record is not None:
            folder = self._context.folder(PodUid(record.pod.uid))
            path = folder.termination_message(container.name, container.restart_count)
            text = await asyncio.to_thread(_read, path)
        if text or spec.termination_message_policy != "FallbackToLogsOnError" or container.exit_code == 0:
            return text
        data = bytearray()
        try:
            async for piece in self._runtime.logs(container.id, LogOptions(tail_lines=LOG_LINES)):
                data += piece
        except ContainerError:
            return ""
        return data[-LOG_BYTES:].decode(errors="replace")


class CreateError(ContainerError):
    """The runtime refused to create the container."""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MESSAGE_BYTES).decode(errors="replace")
    except OSError:
        return ""

"""A container of a pod as the runtime wants it: command, user, limits, mounts. Pure, but for paths that are handed in.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/security-context/, .../concepts/configuration/
manage-resources-containers/
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kubarium.machinery import objects
from kubarium.machinery.quantity import milli, whole
from kubarium.machinery.times import parse_timestamp
from kubelet.dns import pod_hostname
from kubelet.env import ContainerConfigError, NodeFacts, expand
from kubelet.plan import Start, spec_hash
from kubelet.runtimes.base import ContainerId, ContainerSpec, Image, Mount, PodIdentity, PodUid, SandboxSpec

DEFAULT_GRACE_S = 30
TERMINATION_LOG = "/dev/termination-log"
PROPAGATION = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}
OOM_GUARANTEED, OOM_BEST_EFFORT = -997, 1000


def identity(pod: objects.Pod) -> PodIdentity:
    return PodIdentity(pod.metadata.namespace, pod.metadata.name, PodUid(pod.metadata.uid))


def start_time(pod: objects.Pod) -> float | None:
    """When a kubelet first took the pod up, as the API has it."""
    return parse_timestamp(pod.status.start_time)


def grace_s(pod: objects.Pod) -> int:
    """The grace period of the pod's spec."""
    value = pod.spec.termination_grace_period_seconds
    return DEFAULT_GRACE_S if value is None else value


def sandbox_spec(pod: objects.Pod, attempt: int) -> SandboxSpec:
    context = pod.spec.security_context
    return SandboxSpec(
        pod=identity(pod),
        attempt=attempt,
        hostname=pod_hostname(pod),
        host_network=pod.spec.host_network,
        host_pid=pod.spec.host_pid,
        host_ipc=pod.spec.host_ipc,
        sysctls={s.name: s.value for s in context.sysctls} if context else {},
        grace_s=grace_s(pod),
    )


def container_spec(
    pod: objects.Pod,
    container: objects.Container,
    start: Start,
    *,
    image: str,
    info: Image,
    env: Mapping[str, str],
    mounts: tuple[Mount, ...],
    node: NodeFacts,
    target: ContainerId | None = None,
) -> ContainerSpec:
    """`target` is the container whose processes this one sees.

    Raises ContainerConfigError where the security context forbids what the image asks for.
    """
    context = container.security_context or objects.SecurityContext()
    pod_context = pod.spec.security_context or objects.PodSecurityContext()
    limits, requests = container.resources.limits, container.resources.requests
    capabilities = context.capabilities or objects.Capabilities()
    cpu_limit = milli(limits["cpu"]) if "cpu" in limits else 0
    groups = pod_context.supplemental_groups
    groups += (pod_context.fs_group,) if pod_context.fs_group is not None else ()
    no_new = context.allow_privilege_escalation is False and not context.privileged
    return ContainerSpec(
        pod=identity(pod),
        name=container.name,
        image=image,
        image_name=container.image,
        restart_count=start.restart_count,
        streak=start.streak,
        spec_hash=spec_hash(container),
        command=tuple(expand(word, env) for word in container.command),
        args=tuple(expand(word, env) for word in container.args),
        env=env,
        working_dir=container.working_dir,
        mounts=mounts,
        user=_user(container, context, pod_context, info),
        groups=groups,
        privileged=context.privileged,
        cap_add=capabilities.add,
        cap_drop=capabilities.drop,
        read_only_root=context.read_only_root_filesystem,
        no_new_privileges=no_new,
        seccomp=_seccomp(context.seccomp_profile or pod_context.seccomp_profile),
        tty=container.tty,
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        cpu_milli=cpu_limit,
        cpu_request_milli=milli(requests["cpu"]) if "cpu" in requests else cpu_limit,
        memory_bytes=whole(limits["memory"]) if "memory" in limits else 0,
        oom_score_adj=_oom_score(pod, container, node),
        host_network=pod.spec.host_network,
        host_pid=pod.spec.host_pid,
        host_ipc=pod.spec.host_ipc,
        share_pid=pod.spec.share_process_namespace,
        target=target,
    )


def _user(
    container: objects.Container,
    context: objects.SecurityContext,
    pod_context: objects.PodSecurityContext,
    info: Image,
) -> str:
    """`uid[:gid]`, "" for the image's own."""
    uid = pod_context.run_as_user if context.run_as_user is None else context.run_as_user
    gid = pod_context.run_as_group if context.run_as_group is None else context.run_as_group
    non_root = pod_context.run_as_non_root if context.run_as_non_root is None else context.run_as_non_root
    if non_root:
        own = info.user.partition(":")[0]
        if uid == 0:
            raise ContainerConfigError("container's runAsUser breaks non-root policy")
        if uid is None and own in ("", "0", "root"):
            raise ContainerConfigError(
                f"container has runAsNonRoot and image will run as root (container: {container.name})"
            )
        if uid is None and not own.isdigit():
            raise ContainerConfigError(
                f"container has runAsNonRoot and image has non-numeric user ({own}), cannot verify user is non-root"
            )
    if uid is None and gid is None:
        return ""
    name = str(uid) if uid is not None else info.user.partition(":")[0] or "0"
    return f"{name}:{gid}" if gid is not None else name


def _seccomp(profile: objects.SeccompProfile | None) -> str:
    if profile is None or profile.type in ("", "Unconfined"):
        return "unconfined"
    if profile.type == "RuntimeDefault":
        return "runtime/default"
    raise ContainerConfigError(f"seccomp profile {profile.type} is not supported; use RuntimeDefault or Unconfined")


def _oom_score(pod: objects.Pod, container: objects.Container, node: NodeFacts) -> int:
    """The less of its request a container may be short of, the later it is killed. Source: node-pressure-eviction."""
    if pod.status.qos_class == "Guaranteed":
        return OOM_GUARANTEED
    request, capacity = container.resources.requests.get("memory"), node.allocatable.get("memory")
    if pod.status.qos_class == "BestEffort" or not request or not capacity:
        return OOM_BEST_EFFORT
    score = 1000 - 1000 * whole(request) // whole(capacity)
    return min(999, max(3, score))


def etc_mounts(container: objects.Container, *, hosts: str, resolv_conf: str, termination_log: str) -> list[Mount]:
    """The files that every container finds, unless it mounts something else there."""
    taken = {mount.mount_path.rstrip("/") for mount in container.volume_mounts}
    path = container.termination_message_path or TERMINATION_LOG
    files = ((hosts, "/etc/hosts"), (resolv_conf, "/etc/resolv.conf"), (termination_log, path))
    return [Mount(source=source, target=target) for source, target in files if target not in taken and source]


def volume_mount(mount: objects.VolumeMount, source: str, *, read_only: bool) -> Mount:
    propagation = PROPAGATION.get(mount.mount_propagation, "")
    return Mount(
        source=source,
        target=mount.mount_path,
        read_only=mount.read_only or read_only,
        propagation="" if propagation == "rprivate" else propagation,
    )


def port_mappings(pod: objects.Pod) -> list[dict[str, object]]:
    """CNI's portMappings for the host ports of a pod with a network of its own."""
    if pod.spec.host_network:
        return []
    return [
        {
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": (port.protocol or "TCP").lower(),
            "hostIP": port.host_ip,
        }
        for container in pod.spec.containers
        for port in container.ports
        if port.host_port
    ]


_IMAGE_NAME = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"
    r"(?::\w[\w.-]{0,127})?(?:@[a-z0-9]+:[0-9a-fA-F]{32,})?"
)


def is_image_name(image: str) -> bool:
    """Source: https://github.com/distribution/reference, grammar of references."""
    return _IMAGE_NAME.fullmatch(image) is not None

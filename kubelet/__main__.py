"""`python -m kubelet`: flags in, then everything runs in one TaskGroup until SIGTERM. Pods stay as they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kubarium.machinery.errors import ConfigError
from kubarium.machinery.process import run_component
from kubelet.config import Config, parse_config

if TYPE_CHECKING:
    from kubarium.machinery import objects
    from kubarium.machinery.client import Api
    from kubarium.machinery.events import EventRecorder
    from kubarium.machinery.informer import Informer
    from kubelet.context import NodeContext

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    try:
        config = parse_config(argv)
    except ConfigError as err:
        print(f"kubelet: {err}", file=sys.stderr)
        return 2
    return run_component("kubelet", lambda: run(config), log_level=config.log_level)


async def run(config: Config) -> None:
    from kubarium.machinery.client import connect
    from kubarium.machinery.events import EventRecorder
    from kubarium.machinery.informer import Informer
    from kubarium.machinery.process import serve_health
    from kubarium.machinery.resources import NODES, PODS, RUNTIMECLASSES, SERVICES
    from kubelet.node import NodeAgent
    from kubelet.pods import Pods
    from kubelet.runtimes.base import Scope
    from kubelet.runtimes.docker import DockerRuntime
    from kubelet.runtimes.host import HostRuntime
    from kubelet.server import rest
    from kubelet.server.access import Access

    config.root_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    scope = Scope(config.cluster_name, config.node_name)
    docker = DockerRuntime(scope, socket=config.docker_socket, pause_image=config.pause_image, anchor=config.anchor)
    host = HostRuntime(scope, root=config.root_dir / "host")
    pods: Pods | None = None
    try:
        async with (
            connect(config.kubeconfig or None, transport=config.transport, user_agent="kubelet") as api,
            asyncio.TaskGroup() as group,
        ):
            own = f"metadata.name={config.node_name}"
            bound = Informer(api, PODS, field_selector=f"spec.nodeName={config.node_name}")
            node = Informer(api, NODES, field_selector=own)
            services, classes = Informer(api, SERVICES), Informer(api, RUNTIMECLASSES)
            informers: tuple[Informer[Any], ...] = (bound, node, services, classes)
            context = _context(config, api, EventRecorder(api, "kubelet", config.node_name), group, services)
            pods = Pods(context, (docker, host), bound, classes)
            agent = NodeAgent(api, config, node, lambda: docker.problem, lambda: docker.version)
            for name, informer in zip(("pods", "node", "services", "runtimeclasses"), informers, strict=True):
                group.create_task(informer.run(), name=f"informer/{name}")
            group.create_task(docker.run(), name="runtime/docker")
            group.create_task(host.run(), name="runtime/host")
            group.create_task(agent.run_status(), name="node/status")
            group.create_task(agent.run_lease(), name="node/lease")
            access = Access(api, config.node_name)
            group.create_task(rest.serve(config, pods, access), name="server/rest")
            if config.grpc_port:
                from kubelet.server import grpc as grpc_server

                group.create_task(grpc_server.serve(config, pods, access), name="server/grpc")
            if config.healthz_port:
                checks = {
                    "informers": lambda: all(informer.has_synced for informer in informers),
                    "runtime": lambda: not docker.problem,
                }
                health = serve_health(config.healthz_address, config.healthz_port, ready=checks, name="kubelet")
                group.create_task(health, name="server/healthz")
            group.create_task(pods.run(), name="pods")
    finally:
        if config.remove_pods_on_exit and pods is not None:
            log.info("kubelet: removing the pods of %s", config.node_name)
            with contextlib.suppress(TimeoutError):
                await pods.remove_all()
        await docker.close()
        await host.close()


def _context(
    config: Config, api: Api, events: EventRecorder, group: asyncio.TaskGroup, services: Informer[objects.Service]
) -> NodeContext:
    from kubelet.context import NodeContext
    from kubelet.dns import ClusterDns, Resolver, parse_resolv_conf
    from kubelet.env import NodeFacts
    from kubelet.images import Aliases
    from kubelet.node import capacity, read_machine
    from kubelet.plan import Backoff
    from kubelet.references import References

    resolver = Resolver()
    if config.resolv_conf is not None:
        try:
            resolver = parse_resolv_conf(config.resolv_conf.read_text())
        except OSError as err:
            raise ConfigError(f"--resolv-conf {config.resolv_conf}: {err.strerror}") from err
    allocatable = capacity(read_machine(config.root_dir), config.max_pods)
    return NodeContext(
        api=api,
        events=events,
        references=References(api, group),
        services=services,
        node=NodeFacts(name=config.node_name, ip=config.node_ip, allocatable=allocatable),
        root_dir=config.root_dir,
        cni_socket=config.cni_socket,
        dns=ClusterDns(config.cluster_dns, config.cluster_domain),
        resolver=resolver,
        aliases=Aliases(config.image_aliases),
        backoff=Backoff(config.crash_backoff_s, config.crash_backoff_most_s),
        image_backoff=Backoff(config.image_backoff_s, config.image_backoff_most_s),
    )


if __name__ == "__main__":
    sys.exit(main())

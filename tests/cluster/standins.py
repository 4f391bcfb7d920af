"""Stand-in components: they listen where they are told, and nothing else. And a supervisor of them.

python -m tests.cluster.standins NAME --listen-fd N --begun T
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial

from kubarium.cluster import cgroups
from kubarium.cluster.components import Component
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import CONTROL_PLANE, ClusterSpec
from kubarium.cluster.supervisor import Supervisor, wait_for_port


def main(argv: Sequence[str]) -> int:
    """Accept on a port of the node (and on inherited sockets) until SIGTERM; `--code` ends at once with that code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--code", type=int)
    parser.add_argument("--listen-fd", type=int, action="append", default=[])
    args = parser.parse_args(argv)
    if args.code is not None:
        return int(args.code)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    servers = [socket.socket(fileno=fd) for fd in args.listen_fd]
    if args.port:
        servers.append(socket.create_server(("0.0.0.0", args.port)))
    while True:
        for server in select.select(servers, [], [])[0]:
            server.accept()[0].close()


def components(spec: ClusterSpec) -> tuple[Component, ...]:
    module = "tests.cluster.standins"
    nodes = [Component(node, "kubelet", module, ("--port=10250",)) for node in spec.node_names]
    api = Component(CONTROL_PLANE, "apiserver", module, (), after="", listens=True)
    return (api, *nodes, Component("node-1", "broken", module, ("--code=3",)))


def supervise() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--listen-fd", type=int)
    parser.add_argument("--begun", type=float)
    args = parser.parse_args()
    cgroups.join(f"{args.name}/supervisor")
    paths = ClusterPaths.of(args.name)
    spec = ClusterSpec.load(paths.spec)
    listener = socket.socket(fileno=args.listen_fd)
    probe = partial(wait_for_port, spec.api_port)
    supervisor = Supervisor(spec, paths, components(spec), (listener,), args.begun, api_probe=probe)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(supervise())

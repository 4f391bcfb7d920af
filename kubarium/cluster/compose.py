"""What the Compose file's services run beside the components themselves.

    python -m kubarium.cluster.compose init      certificates and kubeconfigs, once
    python -m kubarium.cluster.compose addons    kube-dns through the API, once
    python -m kubarium.cluster.compose node NODE the processes of a node: cni, kubeproxy, kubelet

Settings come from the environment: KUBARIUM_CLUSTER (name), KUBARIUM_LAN (subnet of the Compose network), KUBARIUM_HOME
(one path on the host and in the nodes), KUBARIUM_WORKERS, KUBARIUM_API_PORT (of the host's 127.0.0.1).
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from typing import NoReturn

from kubarium.cluster.bootstrap import apply_bootstrap
from kubarium.cluster.components import API_PORT, Component, plan_node
from kubarium.cluster.identities import ensure_identities
from kubarium.cluster.namespaces import make_writable, set_process_name
from kubarium.cluster.network import NODE_OCTET, LanPlan, plan_lan
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import CONTROL_PLANE, ClusterSpec, check_spec
from kubarium.machinery.errors import ApiError, ClusterError, ConfigError

ENGINE_SOCKET = "/var/run/docker.sock"
ADDONS_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 25.0
RESTART_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Composition:
    """A Compose cluster: the same settings and plans as a local one, on a network that Compose has made."""

    spec: ClusterSpec
    paths: ClusterPaths
    lan: LanPlan

    @staticmethod
    def of(env: Mapping[str, str]) -> Composition:
        """Read the environment. Raises ConfigError naming the variable."""
        name = env.get("KUBARIUM_CLUSTER") or "compose"
        try:
            network = IPv4Network(env.get("KUBARIUM_LAN") or "172.31.77.0/24")
            workers = int(env.get("KUBARIUM_WORKERS") or "2")
            port = int(env.get("KUBARIUM_API_PORT") or API_PORT)
        except ValueError as err:
            raise ConfigError(f"KUBARIUM_LAN, KUBARIUM_WORKERS or KUBARIUM_API_PORT: {err}") from err
        spec = ClusterSpec(
            name=name, workers=workers, store="etcd", docker_socket=ENGINE_SOCKET, lan_index=0, api_port=port
        )
        check_spec(spec)
        return Composition(spec, ClusterPaths.of(name), plan_compose_lan(spec, network))


def plan_compose_lan(spec: ClusterSpec, network: IPv4Network) -> LanPlan:
    """The nodes' fixed addresses, as the Compose file gives them: control plane .10, node-K .10+K."""
    plan = plan_lan(spec)
    links = [replace(link, address=network[NODE_OCTET + k]) for k, link in enumerate(plan.links)]
    return replace(plan, network=network, host_interface="", host_address=network[1], links=tuple(links))


def init(composition: Composition) -> None:
    """Everything that the services read from the state folder."""
    spec, paths = composition.spec, composition.paths
    spec.save(paths.spec)
    (paths.store / "etcd").mkdir(mode=0o700, parents=True, exist_ok=True)
    issued = ensure_identities(spec, paths, composition.lan)
    print(f"{issued} certificates issued", flush=True)


def addons(composition: Composition) -> None:
    """Apply kube-dns as soon as the API server answers. Raises ApiError after ADDONS_TIMEOUT_S."""
    spec, paths = composition.spec, composition.paths
    server = f"https://{composition.lan.link(CONTROL_PLANE).address}:{API_PORT}"
    deadline = time.monotonic() + ADDONS_TIMEOUT_S
    while True:
        try:
            created = apply_bootstrap(spec, paths, server=server, on_control_plane=False)
        except ApiError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            print(f"{created} objects created", flush=True)
            return


def node_components(composition: Composition, node: str) -> list[Component]:
    """The processes of one node. The node's own container, named as anchors are, is what hostNetwork pods join."""
    planned = plan_node(composition.spec, composition.paths, composition.lan, node)
    return [replace(c, argv=(*c.argv, "--remove-pods-on-exit")) if c.name == "kubelet" else c for c in planned]


class NodeRunner:
    """A node's parent process: forks its components and starts again what dies.

    On SIGTERM the kubelet ends first: it removes its pods, for which it needs the CNI agent.
    """

    SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
    LAST_WORDS = ("kubelet", "kubeproxy", "cni")

    def __init__(self, components: Sequence[Component]) -> None:
        self.components = {component.name: component for component in components}
        self.pids: dict[str, int] = {}

    def run(self) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, self.SIGNALS)  # taken from sigtimedwait, never in between
        for component in self.components.values():
            for module in (*component.warm, component.module):
                importlib.import_module(module)
        while not self._told_to_stop(RESTART_PAUSE_S):
            self._reap()
            for name in self.components.keys() - self.pids.keys():
                self._start(name)
        for name in self.LAST_WORDS:
            self._end(name)
        return 0

    def _told_to_stop(self, timeout_s: float) -> bool:
        """Wait for a signal; whether it was the wish to stop. A child's end starts no other one at once."""
        found = signal.sigtimedwait(self.SIGNALS, timeout_s if self.pids else 0)
        return found is not None and found.si_signo != signal.SIGCHLD

    def _start(self, name: str) -> None:
        pid = os.fork()
        if not pid:
            self._become(self.components[name])
        self.pids[name] = pid
        print(f"{name} started (pid {pid})", flush=True)

    def _become(self, component: Component) -> NoReturn:
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)
            set_process_name(component.name)
            code = int(importlib.import_module(component.module).main(list(component.argv)) or 0)
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)

    def _reap(self) -> None:
        while self.pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            for name in [name for name, known in self.pids.items() if known == pid]:
                del self.pids[name]
                print(f"{name} ended ({os.waitstatus_to_exitcode(status)})", flush=True)

    def _end(self, name: str) -> None:
        """SIGTERM and time to heed it, then SIGKILL."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        if name in self.pids:
            os.kill(self.pids[name], signal.SIGTERM)
        while name in self.pids and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            self._reap()
        if name in self.pids:
            os.kill(self.pids[name], signal.SIGKILL)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubarium.cluster.compose")
    parser.add_argument("role", choices=["init", "addons", "node"])
    parser.add_argument("node", nargs="?", default="")
    args = parser.parse_args(argv)
    try:
        composition = Composition.of(os.environ)
        if args.role == "init":
            init(composition)
        elif args.role == "addons":
            addons(composition)
        else:
            if args.node not in composition.spec.node_names[1:]:
                raise ConfigError(f"node {args.node!r}: expected one of {', '.join(composition.spec.node_names[1:])}")
            composition.paths.node_run(args.node).mkdir(parents=True, exist_ok=True)
            make_writable("/proc/sys")  # a node routes
            return NodeRunner(node_components(composition, args.node)).run()
    except ClusterError as err:
        print(f"compose {args.role}: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

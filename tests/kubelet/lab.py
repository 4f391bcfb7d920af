"""One node for tests: a network namespace with an API server, a CNI agent and a kubelet process in it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from kubarium.machinery import netns, pki
from kubarium.testing.apiserver import Answer, ApiServer, api_server
from kubelet.runtimes.base import Scope
from kubelet.runtimes.host import _loopback_up
from tests.kubelet.conftest import BUSYBOX, DOCKER_SOCKET, PAUSE

NODE, NODE_IP = "node-1", "198.18.255.11"
DEADLINE_S = 30.0
STAY = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


class Node:
    """The node under test. Calls block; they run inside the namespace."""

    def __init__(self, scope: Scope, folder: Path) -> None:
        self.scope, self.folder = scope, folder
        self.netns = f"kubarium-{scope.cluster}-{NODE}"
        self.root = folder / "kubelet"
        self.log = folder / "kubelet.log"
        self.aliases = folder / "aliases.json"
        self.kubelet: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self.server: ApiServer | None = None
        self._context: AbstractContextManager[ApiServer] | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        netns.create(self.netns)
        self.inside(_loopback_up)
        self.inside(_make_lan)
        authority = pki.make_ca(self.folder / "pki")
        pki.issue(
            authority, "system:node:node-1", ["system:nodes"], ["node-1"], ["127.0.0.1", NODE_IP], ["server"]
        ).write(self.folder / "pki", "kubelet")
        for name, groups in (("admin", ["system:masters"]), ("nobody", ["others"])):
            pki.issue(authority, name, groups).write(self.folder / "pki", name)
        self.aliases.write_text(json.dumps({"busybox": BUSYBOX, "busybox:*": BUSYBOX}))
        flags = {
            "--kubelet-client-certificate": "admin.crt",
            "--kubelet-client-key": "admin.key",
            "--kubelet-certificate-authority": "ca.crt",
        }
        argv = [f"{flag}={self.folder / 'pki' / name}" for flag, name in flags.items()]
        signing, _ = pki.service_account_key(self.folder / "pki")
        argv += [f"--service-account-signing-key-file={signing}", "--service-account-issuer=https://test"]
        self._context = api_server(self.folder / "api", *argv)
        self.server = self.inside(self._context.__enter__)
        self.start_agent()
        self.make_namespace("default")
        self.start_kubelet()
        self.eventually(self.is_ready, what="node not Ready")

    def start_agent(self) -> None:
        script = Path(__file__).parents[1] / "cni" / "agent_process.py"
        argv = [sys.executable, str(script), str(self.folder / "cni"), "10.244.1.0/24"]
        (self.folder / "cni").mkdir(exist_ok=True)
        self.agent = self.inside(self._popen, argv, self.folder / "cni.log")

    def start_kubelet(self, *more: str) -> None:
        pki_folder = self.folder / "pki"
        assert self.server is not None
        argv = [
            sys.executable, "-m", "kubelet", f"--kubeconfig={self.server.kubeconfig}", f"--hostname-override={NODE}",
            f"--node-ip={NODE_IP}", f"--root-dir={self.root}", f"--cluster-name={self.scope.cluster}",
            f"--docker-socket={DOCKER_SOCKET}", f"--pause-image={PAUSE}",
            f"--cni-socket={self.folder / 'cni' / 'cni.sock'}", f"--tls-cert-file={pki_folder / 'kubelet.crt'}",
            f"--tls-private-key-file={pki_folder / 'kubelet.key'}", f"--client-ca-file={pki_folder / 'ca.crt'}",
            f"--image-aliases={self.aliases}", "--crash-loop-backoff=0.5s", "--image-pull-backoff=1s",
            "--node-status-update-frequency=1s", "--log-level=debug", *more,
        ]  # fmt: skip
        self.kubelet = self.inside(self._popen, argv, self.log)

    def _popen(self, argv: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(argv, stdout=output, stderr=output)

    def kill_kubelet(self, number: int = signal.SIGKILL) -> None:
        assert self.kubelet is not None
        self.kubelet.send_signal(number)
        self.kubelet.wait(30)

    def down(self) -> None:
        for process in (self.kubelet, self.agent):
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if self._context is not None and self.server is not None:
            self._context.__exit__(None, None, None)
        for name in netns.names(self.netns):
            netns.delete(name)
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if (point := line.split()[4]).startswith(str(self.folder)):
                subprocess.run(["umount", "-l", point], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- the API --------------------------------------------------------------------------------------------------

    def inside(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return netns.run_in_netns(netns.FOLDER / self.netns, fn, *args, **kwargs)

    def call(self, method: str, path: str, body: Any = None, **kwargs: Any) -> Answer:
        assert self.server is not None
        answer: Answer = self.inside(self.server.call, method, path, body, **kwargs)
        return answer

    def ok(self, method: str, path: str, body: Any = None, **kwargs: Any) -> Any:
        answer = self.call(method, path, body, **kwargs)
        assert answer.status < 400, answer.body
        return answer.body

    def make_namespace(self, name: str) -> None:
        """What controllers would add to a namespace."""
        if name != "default":
            self.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        base = f"/api/v1/namespaces/{name}"
        self.call("POST", f"{base}/serviceaccounts", {"metadata": {"name": "default"}})
        self.call("POST", f"{base}/configmaps", {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "CA"}})

    def is_ready(self) -> bool:
        answer = self.call("GET", f"/api/v1/nodes/{NODE}")
        if answer.status != 200:
            return False
        return any(c["type"] == "Ready" and c["status"] == "True" for c in answer.body["status"]["conditions"])

    def create(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        namespace = pod["metadata"].get("namespace", "default")
        made: dict[str, Any] = self.ok("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
        return made

    def pod(self, name: str, namespace: str = "default") -> dict[str, Any] | None:
        answer = self.call("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
        return answer.body if answer.status == 200 else None

    def delete(self, name: str, **options: Any) -> None:
        self.ok("DELETE", f"/api/v1/namespaces/default/pods/{name}", options or None)

    def wait(self, name: str, check: Callable[[dict[str, Any]], object], *, what: str = "") -> dict[str, Any]:
        """The pod once `check` holds for it."""
        found: dict[str, Any] = {}

        def holds() -> bool:
            nonlocal found
            found = self.pod(name) or {}
            return bool(found and check(found))

        self.eventually(
            holds, what=lambda: f"{what or 'condition'} of {name}; status {json.dumps(found.get('status'))}"
        )
        return found

    def wait_phase(self, name: str, phase: str) -> dict[str, Any]:
        return self.wait(name, lambda pod: pod["status"].get("phase") == phase, what=f"phase {phase}")

    def wait_ready(self, name: str, ready: bool = True) -> dict[str, Any]:
        return self.wait(name, lambda pod: condition(pod, "Ready") == ("True" if ready else "False"), what="Ready")

    def wait_gone(self, name: str) -> None:
        self.eventually(lambda: self.pod(name) is None, what=lambda: f"{name} not gone: {self.pod(name)}")

    def logs(self, name: str, **query: str) -> str:
        text = "&".join(f"{key}={value}" for key, value in query.items())
        return str(self.ok("GET", f"/api/v1/namespaces/default/pods/{name}/log?{text}"))

    def events(self, name: str) -> list[tuple[str, str]]:
        items = self.ok("GET", "/api/v1/namespaces/default/events")["items"]
        return [(e["reason"], e["message"]) for e in items if e["involvedObject"]["name"] == name]

    def eventually(
        self, check: Callable[[], object], *, what: str | Callable[[], str] = "", limit_s: float = DEADLINE_S
    ) -> None:
        end = time.monotonic() + limit_s
        while not check():
            if time.monotonic() > end:
                text = what() if callable(what) else what
                tail = "\n".join(self.log.read_text().splitlines()[-40:]) if self.log.exists() else ""
                raise AssertionError(f"{text or 'not true in time'}\n--- kubelet:\n{tail}")
            time.sleep(0.02)

    def kubectl(self, kubectl: Path, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        assert self.server is not None
        command = [str(kubectl), f"--kubeconfig={self.server.kubeconfig}", *argv]
        done: subprocess.CompletedProcess[bytes] = self.inside(
            subprocess.run, command, input=stdin, capture_output=True, timeout=60, check=False
        )
        return done


def _make_lan() -> None:
    """A LAN interface with the node's address, as every node has; nothing is at its other end."""
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        netlink.link("add", ifname="eth0", kind="veth", peer="lan0")
        index = netlink.link_lookup(ifname="eth0")[0]
        netlink.addr("add", index=index, address=NODE_IP, prefixlen=24)
        for name in ("eth0", "lan0"):
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")


@contextmanager
def node(scope: Scope, folder: Path) -> Iterator[Node]:
    made = Node(scope, folder)
    try:
        made.up()
        yield made
    finally:
        made.down()


def condition(pod: Mapping[str, Any], type_: str) -> str:
    return next((str(c["status"]) for c in pod["status"].get("conditions", ()) if c["type"] == type_), "")


def status(pod: Mapping[str, Any], container: str = "app") -> dict[str, Any]:
    both = pod["status"].get("containerStatuses", []) + pod["status"].get("initContainerStatuses", [])
    return next((c for c in both if c["name"] == container), {})


def make_pod(
    name: str, script: str = "", /, *, spec: Mapping[str, Any] | None = None, **container: Any
) -> dict[str, Any]:
    """A pod on the node with one container `app` that runs a shell script and stops at once when told to."""
    script = script or STAY
    app = {"name": "app", "image": "busybox", "command": ["/bin/sh", "-c", script]} | container
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": NODE, "containers": [app], "terminationGracePeriodSeconds": 5} | dict(spec or {}),
    }

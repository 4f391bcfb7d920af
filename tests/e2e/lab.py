"""A running cluster as the end-to-end tests see it: only through kubectl, the kubarium command, and packets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

KUBARIUM = str(Path(sys.executable).with_name("kubarium"))
WEB_APP = str(Path(__file__).parents[2] / "examples" / "web-app")
DEADLINE_S = 60.0

CLIENT = """
apiVersion: v1
kind: Pod
metadata:
  name: client-{node}
  labels: {{app: client}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
    - name: sh
      image: busybox
      imagePullPolicy: IfNotPresent
      command: [sleep, infinity]
"""

ADDRESS_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.client_address[0].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.HTTPServer(("0.0.0.0", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


class CommandFailed(AssertionError):
    """A command of a test ended with an error; the text holds all that it printed."""


def run(
    argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60, env: dict[str, str] | None = None
) -> str:
    """What a command prints on stdout; CommandFailed with both outputs when it ends with another code than 0."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, env=env)
    if done.returncode:
        raise CommandFailed(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def eventually(check: Callable[[], T], what: str, *, deadline_s: float = DEADLINE_S, every_s: float = 0.1) -> T:
    """The first result of `check` that is true; AssertionError with the last result or error when none comes."""
    end = time.monotonic() + deadline_s
    last: object = None
    while time.monotonic() < end:
        try:
            result = check()
        except (CommandFailed, subprocess.TimeoutExpired) as err:
            last = err
        else:
            if result:
                return result
            last = result
        time.sleep(every_s)
    raise AssertionError(f"not within {deadline_s:g} s: {what}; last seen: {last}")


@dataclass(frozen=True)
class Lab:
    """`kubectl` is the path of the binary, `node_prefix` the argv that enters a node's network namespace.

    `host_prefix` runs one where the cluster's host is: nothing for a local cluster, an engine's namespace for Compose.
    """

    name: str
    kubectl_path: str
    kubeconfig: str
    workers: tuple[str, ...]
    node_prefix: Callable[[str], Sequence[str]]
    host_prefix: Sequence[str] = ()

    def kubectl(self, *args: str, stdin: str | None = None, timeout_s: float = 60) -> str:
        env = {"KUBECONFIG": self.kubeconfig, "HOME": str(Path(self.kubeconfig).parent), "PATH": os.environ["PATH"]}
        return run([*self.host_prefix, self.kubectl_path, *args], stdin=stdin, timeout_s=timeout_s, env=env)

    def get(self, *args: str) -> Any:
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """The pods that are not on their way out."""
        return [p for p in self.get("pods", "-l", selector)["items"] if "deletionTimestamp" not in p["metadata"]]

    def ready_pods(self, selector: str) -> list[dict[str, Any]]:
        return [p for p in self.pods(selector) if condition(p, "Ready") == "True"]

    def endpoints(self, service: str) -> set[str]:
        """Ready addresses of a Service."""
        slices = self.get("endpointslices", "-l", f"kubernetes.io/service-name={service}")["items"]
        return {
            address
            for piece in slices
            for endpoint in piece.get("endpoints") or ()
            if endpoint["conditions"]["ready"]
            for address in endpoint["addresses"]
        }

    def node_ip(self, node: str) -> str:
        addresses = self.get("node", node)["status"]["addresses"]
        return next(a["address"] for a in addresses if a["type"] == "InternalIP")

    def in_pod(self, pod: str, *argv: str, container: str = "") -> str:
        flags = ["-c", container] if container else []
        return self.kubectl("exec", pod, *flags, "--", *argv)

    def on_node(self, node: str, *argv: str) -> str:
        return run([*self.node_prefix(node), *argv])

    def on_host(self, *argv: str) -> str:
        return run([*self.host_prefix, *argv])


def condition(obj: dict[str, Any], kind: str) -> str:
    """`True`, `False`, `Unknown`, or nothing where the object has no such condition."""
    found = [c["status"] for c in obj.get("status", {}).get("conditions", ()) if c["type"] == kind]
    return found[0] if found else ""

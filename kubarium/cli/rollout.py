"""`kubarium rollout status|restart`: how a Deployment's rollout goes; begin a new one."""

from __future__ import annotations

import time
from typing import Any

from kubarium.cli import observe, target
from kubarium.cli.flags import Parser
from kubarium.cli.get import selection
from kubarium.cli.http import Server
from kubarium.cli.kinds import Kind
from kubarium.cli.run import UsageError
from kubarium.machinery.errors import ClusterError, NotFound

RESTARTED = "kubectl.kubernetes.io/restartedAt"
STRATEGIC = "application/strategic-merge-patch+json"


def main(command: str, argv: list[str]) -> None:
    parser = Parser("rollout", "status|restart TYPE NAME | TYPE/NAME [flags]", "Rollouts of Deployments.")
    parser.add_argument("action", choices=("status", "restart"))
    parser.add_argument("words", nargs="*", metavar="TYPE/NAME")
    parser.add_argument("-w", "--watch", nargs="?", const="true", default="true", help="false: only how it stands now")
    parser.add_argument("--timeout", default="0s", help="give up after this long, 0s: never")
    args = parser.parse(argv)
    server = Server(target.find(args))
    namespace = args.namespace or server.namespace
    for kind, names in selection(server, args.words):
        if not names:
            raise UsageError("required resource not specified")
        if kind.plural != "deployments":
            raise UsageError(f"no status viewer has been implemented for {kind.qualified_plural}")
        for name in names:
            if args.action == "restart":
                _restart(server, kind, namespace, name)
            else:
                _status(server, args, kind, namespace, name)


def _restart(server: Server, kind: Kind, namespace: str, name: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    patch = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: stamp}}}}}
    server.call("PATCH", kind.path(namespace, name), {"fieldManager": "kubectl-rollout"}, patch, content_type=STRATEGIC)
    print(f"{kind.qualified}/{name} restarted", flush=True)


def _status(server: Server, args: Any, kind: Kind, namespace: str, name: str) -> None:
    limit = observe.seconds(args.timeout)
    deadline = time.monotonic() + limit if limit > 0 else None
    said = ""
    first = True
    try:
        for state in observe.states(server, kind, namespace, name, deadline=deadline):
            if state is None:
                if first:
                    raise NotFound(f'{kind.qualified_plural} "{name}" not found')
                raise ClusterError("object has been deleted")
            first = False
            text, done = progress(state)
            if text != said:
                print(text, flush=True)
                said = text
            if done or args.watch == "false":
                return
    except TimeoutError:
        raise ClusterError("timed out waiting for the condition") from None


def progress(deployment: dict[str, Any]) -> tuple[str, bool]:
    """kubectl's sentence on a Deployment, and whether its rollout is over. Raises ClusterError where it has failed."""
    meta, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    name = f'deployment "{meta["name"]}"'
    if meta.get("generation", 0) > status.get("observedGeneration", 0):
        return "Waiting for deployment spec update to be observed...", False
    for condition in status.get("conditions") or ():
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            raise ClusterError(f"{name} exceeded its progress deadline")
    wanted = spec.get("replicas", 1)
    total, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    available = status.get("availableReplicas", 0)
    waiting = f"Waiting for {name} rollout to finish: "
    if updated < wanted:
        return f"{waiting}{updated} out of {wanted} new replicas have been updated...", False
    if total > updated:
        return f"{waiting}{total - updated} old replicas are pending termination...", False
    if available < updated:
        return f"{waiting}{available} of {updated} updated replicas are available...", False
    return f"{name} successfully rolled out", True

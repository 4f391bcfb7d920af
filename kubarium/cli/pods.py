"""Which pod, and which of its containers, `logs` and `exec` mean."""

from __future__ import annotations

import sys
from typing import Any

from kubarium.cli import kinds
from kubarium.cli.http import Server
from kubarium.cli.run import UsageError
from kubarium.machinery.errors import ClusterError, NotFound

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
POD = kinds.KNOWN[0]


def find(server: Server, namespace: str, word: str, *, announce: bool = True) -> dict[str, Any]:
    """The pod called `word`; for TYPE/NAME one of the pods that the object selects, ready ones first."""
    type_, slash, name = word.rpartition("/")
    kind = kinds.find(server, type_) if slash else POD
    obj: dict[str, Any] = server.get(kind.path(namespace, name))
    if kind.plural == "pods":
        return obj
    pods = selected(server, namespace, selector_of(kind, obj))
    if not pods:
        raise ClusterError(f"no pods found for {kind.qualified}/{name}")
    pods.sort(key=lambda pod: (not _is_ready(pod), pod["metadata"]["name"]))
    if len(pods) > 1 and announce:
        print(f"Found {len(pods)} pods, using pod/{pods[0]['metadata']['name']}", file=sys.stderr)
    return pods[0]


def selected(server: Server, namespace: str, selector: str) -> list[dict[str, Any]]:
    """The pods that a label selector finds."""
    return list(server.get(POD.path(namespace), {"labelSelector": selector}).get("items") or ())


def selector_of(kind: kinds.Kind, obj: dict[str, Any]) -> str:
    """The text form of an object's pod selector. Raises UsageError for objects without one."""
    selector = (obj.get("spec") or {}).get("selector") or {}
    labels = selector if kind.plural == "services" else selector.get("matchLabels") or {}
    terms = [f"{key}={value}" for key, value in labels.items()]
    if kind.plural != "services":
        terms += [_term(expression) for expression in selector.get("matchExpressions") or ()]
    if not terms:
        raise UsageError(f"cannot find pods of {kind.qualified}/{obj['metadata']['name']}: it selects none")
    return ",".join(terms)


def _term(expression: dict[str, Any]) -> str:
    key, values = expression["key"], ",".join(expression.get("values") or ())
    forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
    return str(forms.get(expression["operator"], f"!{key}"))


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def containers(pod: dict[str, Any]) -> list[str]:
    """All container names, init containers last."""
    spec = pod["spec"]
    return [entry["name"] for field in ("containers", "initContainers") for entry in spec.get(field) or ()]


def container(pod: dict[str, Any], wanted: str, *, quiet: bool = False) -> str:
    """The container asked for, or the default one, said so if there are several."""
    name = pod["metadata"]["name"]
    known = containers(pod)
    if wanted:
        if wanted not in known:
            raise UsageError(f"container {wanted} is not valid for pod {name}, valid ones are: {', '.join(known)}")
        return wanted
    annotated = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER, "")
    if annotated in known:
        return str(annotated)
    if not known:
        raise NotFound(f"pod {name} has no containers")
    if len(known) > 1 and not quiet:
        init = {entry["name"] for entry in pod["spec"].get("initContainers") or ()}
        shown = ", ".join(f"{one} (init)" if one in init else one for one in known)
        print(f'Defaulted container "{known[0]}" out of: {shown}', file=sys.stderr)
    return known[0]
